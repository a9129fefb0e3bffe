"""Durations as Go reads and prints them."""

import pytest

from jobspec.durations import DurationFault, duration_text, parse_duration

S = 1_000_000_000

READ = {
    "0": 0, "30s": 30 * S, "1h30m": 5400 * S, "1.5h": 5400 * S, ".5s": S // 2, "-1s": -S, "+2m": 120 * S,
    "100ms": S // 10, "1us": 1000, "1µs": 1000, "3ns": 3, "1m0.25s": 60 * S + S // 4,
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), READ.items())
def test_a_duration_is_read(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


WRONG = {
    "": "invalid", "s": "invalid", "1": "missing unit", "5x": "unknown unit", "1hr": '"1h"', "1d": '"24h"',
    "5 s": '"5s"', "10sec": '"10s"', "often": "invalid", "1s2": "missing unit", "-": "invalid", "1..2s": "missing unit",
    "9" * 5000 + "s": "invalid", "99999999999h": "292 years", "1٣s": "",
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), WRONG.items(), ids=[key[:12] or "empty" for key in WRONG])
def test_what_is_none_is_refused_with_what_was_meant(text: str, expected: str) -> None:
    with pytest.raises(DurationFault) as caught:
        parse_duration(text)
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 200


PRINTED = {
    0: "0s",
    90 * S: "1m30s",
    3600 * S: "1h0m0s",
    S // 2: "500ms",
    1500: "1.5µs",
    -S: "-1s",
    3 * S + 5 * S // 10: "3.5s",
}


@pytest.mark.parametrize(("ns", "text"), PRINTED.items())
def test_a_duration_is_printed_and_read_back(ns: int, text: str) -> None:
    assert duration_text(ns) == text
    assert parse_duration(text) == ns
