"""When a failed alloc is tried again: Nomad's series, their cap, and how often."""

import pytest

from leader.decide.reschedule import delay_ns, next_attempt
from model.alloc import Alloc, AllocId, RescheduleEvent, RescheduleTracker
from model.job import ReschedulePolicy
from model.node import NodeId
from model.wire import Nanoseconds
from tests.build import SECOND, alloc

HOUR_S = 3600


def policy(function: str, *, delay_s: int = 30, max_s: int = HOUR_S, **more: object) -> ReschedulePolicy:
    return ReschedulePolicy(
        delay=Nanoseconds(delay_s * SECOND),
        delay_function=function,
        max_delay=Nanoseconds(max_s * SECOND),
        **{"unlimited": True, **more},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("function", "max_s", "series"),
    [
        ("constant", HOUR_S, [30, 30, 30, 30, 30]),
        ("exponential", HOUR_S, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]),
        ("fibonacci", HOUR_S, [30, 30, 60, 90, 150, 240, 390, 630, 1020, 1650, 2670, 3600, 3600]),
        ("exponential", 100, [30, 60, 100, 100]),
        ("fibonacci", 100, [30, 30, 60, 90, 100, 100]),
        ("constant", 10, [30, 30]),
        ("exponential", 0, [30, 60, 120, 240]),
    ],
)
def test_the_delays_are_nomads_series(function: str, max_s: int, series: list[int]) -> None:
    made = policy(function, max_s=max_s)
    assert [delay_ns(made, attempt) // SECOND for attempt in range(len(series))] == series


@pytest.mark.parametrize("function", ["exponential", "fibonacci"])
def test_no_number_of_attempts_is_too_large(function: str) -> None:
    assert delay_ns(policy(function), 10_000) == HOUR_S * SECOND


def failed(*times_s: int) -> Alloc:
    """An alloc whose place was rescheduled at these moments already."""
    events = tuple(
        RescheduleEvent(reschedule_time=at * SECOND, prev_alloc_id=AllocId("p"), prev_node_id=NodeId("n"), delay=0)
        for at in times_s
    )
    return alloc(identity="a1", on="n1", reschedule_tracker=RescheduleTracker(events=events) if events else None)


def test_the_first_failure_waits_the_first_delay_and_is_written_down() -> None:
    assert next_attempt(failed(), policy("exponential"), 1000 * SECOND) == (
        1030 * SECOND,
        RescheduleTracker(
            events=(
                RescheduleEvent(
                    reschedule_time=1030 * SECOND, prev_alloc_id=AllocId("a1"), prev_node_id=NodeId("n1"), delay=30 * SECOND
                ),
            )
        ),
    )


def test_each_further_failure_waits_longer_and_keeps_the_history() -> None:
    attempt = next_attempt(failed(100, 200), policy("exponential"), 1000 * SECOND)
    assert attempt is not None
    due, tracker = attempt
    assert due == 1120 * SECOND
    assert [event.reschedule_time // SECOND for event in tracker.events] == [100, 200, 1120]


@pytest.mark.parametrize(
    ("before", "is_tried"),
    [((), True), ((950,), True), ((901, 950), False), ((900, 950), True), ((100, 950), True), ((899, 900), True), ((901, 902), False)],
)
def test_only_so_many_are_tried_within_the_interval(before: tuple[int, ...], is_tried: bool) -> None:
    made = policy("constant", unlimited=False, attempts=2, interval=Nanoseconds(100 * SECOND))
    assert (next_attempt(failed(*before), made, 1000 * SECOND) is not None) is is_tried


def test_without_attempts_nothing_is_tried_unless_unlimited() -> None:
    assert next_attempt(failed(), policy("constant", unlimited=False, attempts=0), 0) is None
    assert next_attempt(failed(), policy("constant", attempts=0), 0) is not None


def test_the_history_is_bounded() -> None:
    attempt = next_attempt(failed(*range(500)), policy("constant"), 1000 * SECOND)
    assert attempt is not None
    assert len(attempt[1].events) == 100
