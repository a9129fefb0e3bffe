"""Which run is due, which were missed, and when is the next? In virtual time."""

from datetime import UTC, datetime

import pytest

from leader.decide.launching import COUNT_MAX, ON_TIME_S, PENDING_MAX, Due, due, following, latest
from model.job import PeriodicConfig
from model.wire import Nanoseconds

MINUTE = 60
START = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())


def config(spec: str = "* * * * *", **more: object) -> PeriodicConfig:
    return PeriodicConfig(spec=spec, **more)  # type: ignore[arg-type]


def ns(span_s: int) -> Nanoseconds:
    return Nanoseconds(span_s * 1_000_000_000)


def test_nothing_is_due_before_its_moment() -> None:
    found = due(config(), since_s=START, now_s=START + 59, is_running=False)
    assert found == Due(dealt_s=START, wake_s=START + 60)


def test_a_run_is_launched_at_its_moment() -> None:
    found = due(config(), since_s=START, now_s=START + 60, is_running=True)
    assert found == Due(dealt_s=START + 60, launch_s=START + 60, wake_s=START + 120)


def test_of_100_missed_runs_once_launches_the_last() -> None:
    now_s = START + 100 * MINUTE + 30
    found = due(config(missed_run="once"), since_s=START, now_s=now_s, is_running=False)
    assert found == Due(dealt_s=START + 6000, launch_s=START + 6000, missed=99, wake_s=START + 6060)


def test_of_100_missed_runs_skip_launches_none() -> None:
    now_s = START + 100 * MINUTE + 30
    found = due(config(missed_run="skip"), since_s=START, now_s=now_s, is_running=False)
    assert found == Due(dealt_s=START + 6000, missed=100, wake_s=START + 6060)


@pytest.mark.parametrize("rule", ["once", "skip"])
def test_however_many_were_missed_the_next_run_comes(rule: str) -> None:
    now_s = START + 400 * 86400 + 30
    found = due(config(missed_run=rule), since_s=START, now_s=now_s, is_running=False)
    assert (found.missed >= 999, found.dealt_s, found.wake_s) == (True, now_s - 30, now_s + 30)
    after = due(config(missed_run=rule), since_s=found.dealt_s, now_s=now_s + 30, is_running=False)
    assert after.launch_s == now_s + 30


def test_a_change_of_leader_is_no_reason_to_skip() -> None:
    on_time = due(config(missed_run="skip"), since_s=START, now_s=START + 60 + ON_TIME_S, is_running=False)
    assert on_time.launch_s == START + 60
    late = due(config(missed_run="skip"), since_s=START, now_s=START + 61 + ON_TIME_S, is_running=False)
    assert (late.launch_s, late.missed) == (None, 1)


def test_a_run_starts_no_later_than_its_starting_deadline() -> None:
    hourly = config("0 * * * *", starting_deadline=ns(300))
    assert due(hourly, since_s=START, now_s=START + 3900, is_running=False).launch_s == START + 3600
    late = due(hourly, since_s=START, now_s=START + 3901, is_running=False)
    assert (late.launch_s, late.missed, late.wake_s) == (None, 1, START + 7200)


def test_without_a_deadline_a_run_that_would_overlap_is_given_up() -> None:
    found = due(config(prohibit_overlap=True), since_s=START, now_s=START + 60, is_running=True)
    assert found == Due(dealt_s=START + 60, missed=1, wake_s=START + 120)


def test_with_a_deadline_a_run_that_would_overlap_waits_until_then() -> None:
    hourly = config("0 * * * *", prohibit_overlap=True, starting_deadline=ns(300))
    waits = due(hourly, since_s=START, now_s=START + 3600, is_running=True)
    assert waits == Due(dealt_s=START + 3599, waits_s=START + 3600, wake_s=START + 3901)
    free = due(hourly, since_s=START, now_s=START + 3700, is_running=False)
    assert free.launch_s == START + 3600
    over = due(hourly, since_s=START, now_s=START + 3901, is_running=True)
    assert over == Due(dealt_s=START + 3600, missed=1, wake_s=START + 7200)


def test_a_schedule_that_is_over_is_never_looked_at_again() -> None:
    found = due(config("0 0 2 1 * 2027"), since_s=START + 90_000, now_s=START + 100_000, is_running=False)
    assert found == Due(dealt_s=START + 90_000)


def test_a_year_of_the_29th_of_february_has_no_run_and_the_leap_year_one() -> None:
    leap = config("0 2 29 2 *")
    a_year_on = int(datetime(2027, 12, 31, tzinfo=UTC).timestamp())
    assert due(leap, since_s=START, now_s=a_year_on, is_running=False).launch_s is None
    there = int(datetime(2028, 2, 29, 2, tzinfo=UTC).timestamp())
    assert due(leap, since_s=START, now_s=there + 5, is_running=False).launch_s == there


def walk(settings: PeriodicConfig, *, step_s: int, until_s: int, gaps: tuple[tuple[int, int], ...] = ()) -> tuple[list[int], int]:
    """Every launch and how many were missed, looked at each `step_s`, except in the gaps."""
    dealt_s, launched, missed = START, [], 0
    for now_s in range(START, START + until_s, step_s):
        if any(START + low <= now_s < START + high for low, high in gaps):
            continue
        found = due(settings, since_s=dealt_s, now_s=now_s, is_running=False)
        dealt_s, missed = found.dealt_s, missed + found.missed
        if found.launch_s is not None:
            launched.append(found.launch_s)
    return launched, missed


@pytest.mark.parametrize("step_s", [1, 7, 30])
def test_each_moment_is_launched_once_or_counted_as_missed(step_s: int) -> None:
    launched, missed = walk(config("*/2 * * * *"), step_s=step_s, until_s=3600, gaps=((500, 1400), (2000, 2070)))
    assert len(set(launched)) == len(launched)
    assert len(launched) + missed == (launched[-1] - START) // 120
    assert all((moment - START) % 120 == 0 for moment in launched)


@pytest.mark.parametrize("spec", ["@every 1s", "* * * * *", "0 * * * *", "@daily", "@yearly"])
def test_the_last_run_is_found_without_going_through_all(spec: str) -> None:
    now_s = START + 3 * 366 * 86400 + 17
    found = latest(config(spec), START, now_s)
    assert found is not None
    after = latest(config(spec), found, now_s)
    assert (found <= now_s, after) == (True, None)


def test_runs_do_not_pile_up_that_find_no_place() -> None:
    now_s = START + 60
    assert due(config(), since_s=START, now_s=now_s, is_running=True, pending=PENDING_MAX - 1).launch_s == now_s
    found = due(config(), since_s=START, now_s=now_s, is_running=True, pending=PENDING_MAX)
    assert found == Due(dealt_s=now_s, missed=1, wake_s=now_s + 60)


MANY = {
    "daily, at 100 times": tuple(f"{number % 60} {number // 60} * * *" for number in range(100)),
    "some often, some seldom": ("*/5 * * * *", "0 3 * * *", "0 0 1 * *", "@every 7m", "30 2 29 2 *"),
    "the same twice": ("0 4 * * *", "0 4 * * *", "0 4 * * 1-5"),
}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("specs", MANY.values(), ids=MANY.keys())
@pytest.mark.parametrize("back_s", [3600, 86400, 8 * 86400, 250 * 86400])
def test_what_was_missed_of_many_schedules_is_counted_as_if_gone_through(specs: tuple[str, ...], zone: str, back_s: int) -> None:
    many = PeriodicConfig(specs=specs, time_zone=zone)
    now_s = START + 4 * 3600 + 1234
    found = due(many, since_s=now_s - back_s, now_s=now_s, is_running=False)
    count, last, moment = 0, None, following(many, now_s - back_s)
    while moment is not None and moment <= now_s:
        count, last, moment = count + 1, moment, following(many, moment)
        if count > COUNT_MAX:
            last = latest(many, now_s - back_s, now_s)
            break
    assert (found.launch_s, found.missed) == (last, max(0, min(count, COUNT_MAX) - 1))
    assert found.wake_s == following(many, now_s)
