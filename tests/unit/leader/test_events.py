"""What the ring of events remembers, and what it costs who does not listen."""

import pytest

from leader.events import Event, Events, EventTopic, Overrun
from leader.view import View
from model.alloc import ClientStatus, ObservedAlloc
from model.cluster import JobRecord
from tests.build import alloc, job


def ring(*indexes: int, capacity: int = 4, begin: int = 10) -> Events:
    events = Events(capacity=capacity)
    events.begin(begin)
    for index in indexes:
        events.add(index, EventTopic.JOB, "JobRegistered", f"j{index}", (), "default", None)
    return events


def keys(found: "list[tuple[int, Event]]") -> list[str]:
    return [event.key for _, event in found]


def test_before_the_term_has_begun_nothing_is_noted() -> None:
    events = Events()
    events.add(5, EventTopic.JOB, "JobRegistered", "j", (), "default", None)
    assert (events.take(0), events.end_position) == ([], 0)


def test_a_listener_takes_what_came_after_its_position() -> None:
    events = ring(11, 12, 13)
    assert keys(list(events.take(1))) == ["j12", "j13"]
    assert [at for at, _ in events.take(1)] == [1, 2]
    assert events.take(3) == []


def test_an_index_is_never_lower_than_the_one_before() -> None:
    assert [event.index for _, event in ring(11, 15, 12, 16).take(0)] == [11, 15, 15, 16]


@pytest.mark.parametrize(
    ("index", "position"), [(0, 0), (10, None), (5, None), (11, 0), (12, 1), (13, 3), (99, 3)]
)
def test_an_index_has_a_position_unless_something_may_be_missing(index: int, position: int | None) -> None:
    assert ring(11, 12, 12).position(index) == position


def test_what_falls_out_of_a_full_ring_is_known_to_be_missing() -> None:
    events = ring(11, 12, 13, 14, 15, 16)
    assert events.position(12) is None
    assert events.position(13) == 2
    assert events.position(0) == 2
    assert keys(list(events.take(2))) == ["j13", "j14", "j15", "j16"]
    with pytest.raises(Overrun):
        events.take(1)


def test_events_of_one_index_are_taken_together() -> None:
    events = ring(*[11] * 200, *[12] * 100, 13, capacity=1000)
    assert len(events.take(0)) == 300
    assert keys(list(events.take(300))) == ["j13"]


def test_a_document_that_is_read_again_unchanged_is_no_event() -> None:
    view = View()
    view.events.begin(1)
    one = alloc()
    for _ in range(2):
        view.put_version(job(), 10, 10)
        view.put_record(JobRecord(namespace="default", job_id="j", version=0), 10, 10)
        view.put_desired(one.desired, 11, 11)
        view.put_observed(ObservedAlloc(id=one.id, node_id=one.desired.node_id, client_status=ClientStatus.RUNNING), 12)
    assert [(event.topic.value, event.type, event.index) for _, event in view.events.take(0)] == [
        ("Job", "JobRegistered", 10),
        ("Allocation", "PlanResult", 11),
        ("Allocation", "AllocationUpdated", 12),
    ]


def test_what_an_inbox_names_that_the_leader_before_left_is_told_by_the_next() -> None:
    one = alloc()
    seen = ObservedAlloc(id=one.id, node_id=one.desired.node_id, client_status=ClientStatus.RUNNING)
    view = View(floor=20)
    view.put_desired(one.desired, 11, 11)
    view.put_observed(seen, 12)
    view.events.begin(view.floor)
    view.put_observed(seen, 12)
    assert [(event.type, event.index) for _, event in view.events.take(0)] == [("AllocationUpdated", 20)]
