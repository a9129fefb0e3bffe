"""When failing results restart a task: every short history against a naive count, every phase of a poll against time."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.check_restart import SLACK_S, CheckStatus, Rule, Tally, begin, count, is_due, see

P, W, F = CheckStatus.PASSING, CheckStatus.WARNING, CheckStatus.CRITICAL
LETTERS = {"P": P, "W": W, "F": F}
LENGTH_MAX = 7

TIMED_OUT = 'Get "http://127.0.0.1:80/": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
REFUSED = "dial tcp 127.0.0.1:80: connect: connection refused"


def rule(
    limit: int = 3, *, grace_s: float = 0.0, ignore_warnings: bool = False, interval_s: float = 10.0, timeout_s: float = 2.0
) -> Rule:
    return Rule(
        limit=limit,
        grace_s=grace_s,
        ignore_warnings=ignore_warnings,
        interval_s=interval_s,
        timeout_s=timeout_s,
        is_counted=True,
    )


def histories() -> Iterator[str]:
    for length in range(1, LENGTH_MAX + 1):
        yield from map("".join, itertools.product("PWF", repeat=length))


# -- results that drover feeds itself: counted


def restarts(rule: Rule, history: str) -> list[int]:
    """At which results the task is restarted, one result a second; each restart begins anew."""
    tally, found = begin(rule, 0.0), []
    for now, letter in enumerate(history):
        tally = count(rule, tally, LETTERS[letter], float(now))
        if is_due(tally, float(now)):
            found.append(now)
            tally = begin(rule, float(now))
    return found


def naive(limit: int, grace: int, healthy: str, history: str) -> list[int]:
    found, run, armed = [], 0, grace
    for now, letter in enumerate(history):
        run = 0 if letter in healthy or now < armed else run + 1
        if run == limit:
            found.append(now)
            run, armed = 0, now + grace
    return found


@pytest.mark.parametrize("grace", [0, 2])
@pytest.mark.parametrize("ignore_warnings", [False, True], ids=["warnings fail", "warnings pass"])
@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_every_counted_history_restarts_exactly_where_a_naive_count_says(
    limit: int, ignore_warnings: bool, grace: int
) -> None:
    made = rule(limit, grace_s=float(grace), ignore_warnings=ignore_warnings)
    healthy = "PW" if ignore_warnings else "P"
    wrong = [h for h in histories() if restarts(made, h) != naive(limit, grace, healthy, h)]
    assert wrong == []


def test_a_tally_that_is_due_stays_due_until_a_healthy_result() -> None:
    made = rule(2)
    tally = begin(made, 0.0)
    seen = []
    for now, letter in enumerate("FFFPF"):
        tally = count(made, tally, LETTERS[letter], float(now))
        seen.append((tally.failures, is_due(tally, float(now))))
    assert seen == [(1, False), (2, True), (3, True), (0, False), (1, False)]


# -- results that Consul has: polled


def test_a_check_that_never_ran_a_healthy_one_and_one_in_its_grace_are_no_failures() -> None:
    made = rule(1, grace_s=5.0)
    fresh = begin(made, 100.0)
    assert fresh == Tally(armed_s=105.0)
    assert see(made, fresh, F, "", 200.0) == fresh
    assert see(made, fresh, P, "ok", 200.0) == fresh
    assert see(made, fresh, F, REFUSED, 104.9) == fresh
    assert see(made, fresh, F, REFUSED, 105.0) == Tally(armed_s=105.0, failures=1, due_s=105.0)


def test_a_warning_fails_unless_it_is_to_be_ignored() -> None:
    strict, lenient = rule(1), rule(1, ignore_warnings=True)
    assert is_due(see(strict, begin(strict, 0.0), W, "slow", 1.0), 1.0)
    assert see(lenient, begin(lenient, 0.0), W, "slow", 1.0) == begin(lenient, 0.0)


@pytest.mark.parametrize(
    ("limit", "output", "due_s"),
    [
        (1, REFUSED, 7.0),
        (1, TIMED_OUT, 7.0),
        (2, REFUSED, 7.0 + 10.0 + SLACK_S),
        (3, REFUSED, 7.0 + 20.0 + SLACK_S),
        (3, TIMED_OUT, 7.0 + 24.0 + SLACK_S),
        (3, "dial tcp 10.0.0.1:80: i/o timeout", 7.0 + 24.0 + SLACK_S),
        (3, "rpc error: code = DeadlineExceeded desc = context deadline exceeded", 7.0 + 24.0 + SLACK_S),
    ],
)
def test_the_limit_th_result_is_reckoned_from_the_first_that_was_seen(limit: int, output: str, due_s: float) -> None:
    made = rule(limit)
    assert see(made, begin(made, 0.0), F, output, 7.0).due_s == pytest.approx(due_s)


def test_equal_failing_reads_change_nothing_and_a_healthy_one_starts_over() -> None:
    made = rule(3)
    first = see(made, begin(made, 0.0), F, REFUSED, 7.0)
    assert see(made, first, F, REFUSED, 9.0) == first
    assert see(made, first, P, "ok", 9.0) == begin(made, 0.0)
    again = see(made, begin(made, 0.0), F, REFUSED, 30.0)
    assert again.due_s == pytest.approx(50.0 + SLACK_S)


def test_a_failure_that_turns_slow_is_waited_for_longer_and_only_once() -> None:
    made = rule(3)
    quick = see(made, begin(made, 0.0), F, REFUSED, 7.0)
    slow = see(made, quick, F, TIMED_OUT, 19.0)
    assert (quick.due_s, slow.due_s) == (pytest.approx(27.0 + SLACK_S), pytest.approx(31.0 + SLACK_S))
    assert see(made, slow, F, TIMED_OUT, 20.0) == slow
    assert see(made, slow, F, REFUSED, 20.0) == slow


def results(history: str, phase_s: float, interval_s: float, probe_s: float) -> list[tuple[float, str]]:
    """When each result is there: Consul begins a probe `interval` after the one before has ended."""
    found, start_s = [], phase_s
    for letter in history:
        end_s = start_s + (probe_s if letter != "P" else 0.0)
        found.append((end_s, letter))
        start_s = end_s + interval_s
    return found


@settings(max_examples=400, deadline=None)
@given(
    history=st.lists(st.sampled_from("PF"), min_size=1, max_size=12).map("".join),
    limit=st.integers(1, 5),
    interval_s=st.sampled_from((1.0, 2.0, 10.0, 30.0)),
    phase=st.floats(0.0, 1.0),
    poll_phase=st.floats(0.0, 1.0),
    polls_per_interval=st.integers(2, 40),
    grace_s=st.sampled_from((0.0, 1.5, 25.0)),
    is_slow=st.booleans(),
)
def test_no_polled_check_is_due_before_its_limit_th_failing_result_nor_long_after(
    history: str,
    limit: int,
    interval_s: float,
    phase: float,
    poll_phase: float,
    polls_per_interval: int,
    grace_s: float,
    is_slow: bool,
) -> None:
    made = rule(limit, grace_s=grace_s, interval_s=interval_s)
    probe_s = made.timeout_s if is_slow else 0.0
    there = results(history, phase * interval_s, interval_s, probe_s)
    poll_s = interval_s / polls_per_interval
    tally, now = begin(made, 0.0), poll_phase * poll_s
    while now <= there[-1][0] + interval_s:
        past = [letter for at, letter in there if at <= now]
        status, output = (LETTERS[past[-1]], TIMED_OUT if is_slow else REFUSED) if past else (F, "")
        tally = see(made, tally, status, output, now)
        # The failing results up to now, without a healthy one in between; what failed in the grace counts once.
        run = list(itertools.takewhile(lambda one: one[1] == "F", reversed([r for r in there if r[0] <= now])))
        counted = sum(at >= tally.armed_s for at, _ in run) + any(at < tally.armed_s for at, _ in run)
        if is_due(tally, now):
            assert counted >= limit, (now, there)
        elif counted > limit + 1:
            # One more result than the limit has been there for an interval: the restart is overdue.
            pytest.fail(f"not due at {now}, with {counted} failing results: {there}")
        now += poll_s
