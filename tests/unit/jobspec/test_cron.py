"""When is a schedule's next run: fields, nicknames, spans, years, and the two nights on which clocks change?"""

import itertools
import random
from datetime import UTC, datetime

import pytest
from cronsim import CronSim

from jobspec.cron import CronFault, next_launch, parse, time_zone


def moments(spec: str, zone: str, after: str, count: int) -> list[str]:
    """The next runs as wall-clock times with their offset; `after` too."""
    moment_s: int | None = int(datetime.fromisoformat(after).timestamp())
    found: list[str] = []
    for _ in range(count):
        moment_s = next_launch((spec,), zone, moment_s) if moment_s is not None else None
        if moment_s is None:
            break
        found.append(datetime.fromtimestamp(moment_s, time_zone(zone)).isoformat()[5:])
    return found


READ = {
    "five fields": ("15 7 * * 1,3,5", ["01-01T07:15:00+00:00", "01-04T07:15:00+00:00"]),
    "six fields: the year last, as Nomad reads them": ("15 7 * * 1,3,5 *", ["01-01T07:15:00+00:00", "01-04T07:15:00+00:00"]),
    "every 15 minutes, not seconds": ("*/15 * * * * *", ["01-01T00:15:00+00:00", "01-01T00:30:00+00:00"]),
    "a year": ("0 0 1 6 * 2028-2030/2", ["06-01T00:00:00+00:00", "06-01T00:00:00+00:00"]),
    "a year that is over": ("0 0 1 6 * 2020", []),
    "seven fields: with the second": ("30 0 12 * * * *", ["01-01T12:00:30+00:00", "01-02T12:00:30+00:00"]),
    "several seconds": ("*/30 0 12 * * * *", ["01-01T12:00:00+00:00", "01-01T12:00:30+00:00"]),
    "names": ("0 9 * jan,march mon-WED", ["01-04T09:00:00+00:00", "01-05T09:00:00+00:00"]),
    "names written out, and ?": ("0 9 ? * monday", ["01-04T09:00:00+00:00", "01-11T09:00:00+00:00"]),
    "steps of a range": ("10-40/15 3 * * *", ["01-01T03:10:00+00:00", "01-01T03:25:00+00:00"]),
    "day of month or of week": ("0 0 13 * 5", ["01-08T00:00:00+00:00", "01-13T00:00:00+00:00"]),
    "the last day of the month": ("0 0 L * *", ["01-31T00:00:00+00:00", "02-28T00:00:00+00:00"]),
    "the second friday": ("0 0 * * 5#2", ["01-08T00:00:00+00:00", "02-12T00:00:00+00:00"]),
    "Sunday is 0 and 7": ("0 0 * * 7", ["01-03T00:00:00+00:00", "01-10T00:00:00+00:00"]),
    "@daily": ("@daily", ["01-02T00:00:00+00:00", "01-03T00:00:00+00:00"]),
    "@weekly": ("@weekly", ["01-03T00:00:00+00:00", "01-10T00:00:00+00:00"]),
    "@every": ("@every 90s", ["01-01T00:01:30+00:00", "01-01T00:03:00+00:00"]),
    "@every hours": ("@every 1h30m", ["01-01T01:30:00+00:00", "01-01T03:00:00+00:00"]),
}


@pytest.mark.parametrize(("spec", "expected"), READ.values(), ids=READ.keys())
def test_a_schedule_is_read_as_nomad_reads_it(spec: str, expected: list[str]) -> None:
    assert moments(spec, "UTC", "2027-01-01T00:00:00+00:00", 2) == expected


# Clocks go forward: what is due within the skipped hour runs once, as it ends. Then back: once, the first time.
# What is due each hour, or each so many minutes, keeps its pace in both nights.
NIGHTS = {
    "Berlin, 02:30 in the spring": (
        "30 2 * * *", "Europe/Berlin", "2027-03-27T12:00:00+01:00",
        ["03-28T03:00:00+02:00", "03-29T02:30:00+02:00"],
    ),
    "Berlin, 02:30 in the autumn": (
        "30 2 * * *", "Europe/Berlin", "2027-10-30T12:00:00+02:00",
        ["10-31T02:30:00+02:00", "11-01T02:30:00+01:00"],
    ),
    "Berlin, asked in the hour that came twice": (
        "30 2 * * *", "Europe/Berlin", "2027-10-31T02:10:00+01:00", ["11-01T02:30:00+01:00"],
    ),
    "Berlin, each half hour in the spring": (
        "*/30 * * * *", "Europe/Berlin", "2027-03-28T01:20:00+01:00",
        ["03-28T01:30:00+01:00", "03-28T03:00:00+02:00", "03-28T03:30:00+02:00"],
    ),
    "Berlin, each hour in the autumn": (
        "30 * * * *", "Europe/Berlin", "2027-10-31T01:40:00+02:00",
        ["10-31T02:30:00+02:00", "10-31T02:30:00+01:00", "10-31T03:30:00+01:00"],
    ),
    "New York, 02:15 in the spring": (
        "15 2 * * *", "America/New_York", "2027-03-13T12:00:00-05:00",
        ["03-14T03:00:00-04:00", "03-15T02:15:00-04:00"],
    ),
    "New York, 01:15 in the autumn": (
        "15 1 * * *", "America/New_York", "2027-11-06T12:00:00-04:00",
        ["11-07T01:15:00-04:00", "11-08T01:15:00-05:00"],
    ),
    "Lord Howe, half an hour forward": (
        "15 2 * * *", "Australia/Lord_Howe", "2027-10-02T12:00:00+10:30",
        ["10-03T02:30:00+11:00", "10-04T02:15:00+11:00"],
    ),
    "Lord Howe, half an hour back": (
        "45 1 * * *", "Australia/Lord_Howe", "2027-04-03T12:00:00+11:00",
        ["04-04T01:45:00+11:00", "04-05T01:45:00+10:30"],
    ),
    "with a second: as without": (
        "20 30 2 * * * *", "Europe/Berlin", "2027-10-30T12:00:00+02:00",
        ["10-31T02:30:20+02:00", "11-01T02:30:20+01:00"],
    ),
}


@pytest.mark.parametrize(("spec", "zone", "after", "expected"), NIGHTS.values(), ids=NIGHTS.keys())
def test_on_both_nights_when_clocks_change(spec: str, zone: str, after: str, expected: list[str]) -> None:
    assert moments(spec, zone, after, len(expected)) == expected


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_a_year_of_daily_runs_has_one_a_day(zone: str) -> None:
    found = moments("30 2 * * *", zone, "2027-01-01T00:00:00+00:00", 365)
    assert len({moment[:5] for moment in found}) == 365


def test_the_29th_of_february_comes_every_fourth_year() -> None:
    found, moment_s = [], int(datetime.fromisoformat("2027-01-01T00:00:00+00:00").timestamp())
    for _ in range(3):
        moment_s = next_launch(("0 2 29 2 *",), "UTC", moment_s) or 0
        found.append(datetime.fromtimestamp(moment_s, time_zone("UTC")).isoformat())
    assert found == ["2028-02-29T02:00:00+00:00", "2032-02-29T02:00:00+00:00", "2036-02-29T02:00:00+00:00"]


def test_of_several_schedules_the_first_counts() -> None:
    start_s = int(datetime.fromisoformat("2027-01-01T00:00:00+00:00").timestamp())
    assert next_launch(("0 5 * * *", "0 3 * * *", "0 3 * * *"), "UTC", start_s) == start_s + 3 * 3600
    assert next_launch((), "UTC", start_s) is None


UNREADABLE = {
    "x": "expected 5 fields",
    "* * * *": "expected 5 fields",
    "60 * * * *": "bad minute",
    "* 24 * * *": "bad hour",
    "* * 0 * *": "bad day-of-month",
    "* * 15W * *": "bad day-of-month",
    "* * * 13 *": "bad month",
    "* * * * 8": "bad day-of-week",
    "60 * * * * * *": "bad second",
    "*/0 * * * *": "bad minute",
    "5-1 * * * *": "bad minute",
    "* * 31 2 *": "bad day-of-month",
    "* * * * * 1900": "bad year",
    "* * * * * 2030-2020": "bad year",
    "@reboot": "is not known",
    "@every": "is not known",
    "@every 1ms": "whole seconds",
    "@every 0s": "whole seconds",
    "@every 5": "missing unit",
    "* " * 200: "longer than",
}


@pytest.mark.parametrize(("text", "words"), UNREADABLE.items(), ids=range(len(UNREADABLE)))
def test_what_is_no_schedule_is_refused(text: str, words: str) -> None:
    with pytest.raises(CronFault, match=words):
        parse(text)


@pytest.mark.parametrize("name", ["Mars/Olympus", "Local", "../etc/passwd", "Europe/"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(CronFault):
        time_zone(name)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])
def test_moments_are_those_that_cronsim_names(zone: str) -> None:
    rng = random.Random(7)
    tz = time_zone(zone)
    for _ in range(60):
        minute, hour = rng.choice(("*/7", str(rng.randrange(60)), "0,30")), rng.choice(("*", "*/5", str(rng.randrange(24)), "1-3", "2,23"))
        spec = f"{minute} {hour} {rng.choice(('*', '1', '*/9', 'L'))} * {rng.choice(('*', '0', '1-5'))}"
        start_s = 1_800_000_000 + rng.randrange(366 * 86400)
        named = itertools.islice(CronSim(spec, datetime.fromtimestamp(start_s, UTC).astimezone(tz)), 80)
        moments = [round(moment.timestamp()) for moment in named]
        # In an hour that comes twice it names what is over once more.
        wanted = [moment for number, moment in enumerate(moments) if moment > max([start_s, *moments[:number]])]
        found, after_s = [], start_s
        while len(found) < len(wanted) and (after := next_launch((spec,), zone, after_s)) is not None:
            found.append(after_s := after)
        assert (spec, found) == (spec, wanted)
