"""A drain's order in a node's control document, and what a node pays for that comes and goes."""

from dataclasses import replace as changed

import pytest
from msgspec.structs import replace

from leader.decide.nodes import drain_called_off, drain_finished, drain_set, judge, unpenalized
from model.node import Drain, Eligibility, LastDrain, NodeControl, NodeEvent, NodeId, NodeStatus
from model.snapshot import BrakeSettings, NodeView, Reach, Settings
from tests.build import SECOND, view

NOW = 10_000 * SECOND
HOUR = 3600 * SECOND
READY = NodeControl(node_id=NodeId("n1"), status=NodeStatus.READY, heartbeat_ttl=77, meta={"a": "b"}, epoch=5)


def event(message: str, stamp: str) -> NodeEvent:
    return NodeEvent(message=message, timestamp=stamp, subsystem="Drain")


class TestBegin:
    def test_the_node_takes_no_new_work_and_all_else_stays(self) -> None:
        assert drain_set(READY, Drain(deadline_at=NOW + HOUR), NOW, "t1") == replace(
            READY,
            drain=Drain(deadline_at=NOW + HOUR, started_at=NOW),
            last_drain=LastDrain(started_at="t1", updated_at="t1", status="draining"),
            scheduling_eligibility=Eligibility.INELIGIBLE,
            events=(event("Node drain strategy set", "t1"),),
        )

    def test_a_node_that_drains_is_no_place_for_work(self) -> None:
        known = view("n1")
        assert known.takes_work
        assert not changed(known, control=drain_set(known.control, Drain(), NOW, "t1")).takes_work

    def test_another_deadline_keeps_when_it_began(self) -> None:
        first = drain_set(READY, Drain(deadline_at=NOW + HOUR), NOW, "t1")
        second = drain_set(first, Drain(deadline_at=NOW + 2 * HOUR, ignores_system=True), NOW + 60 * SECOND, "t2")
        assert second.drain == Drain(deadline_at=NOW + 2 * HOUR, ignores_system=True, started_at=NOW)
        assert second.last_drain == LastDrain(started_at="t1", updated_at="t2", status="draining")

    def test_a_second_drain_after_the_first_ended_begins_anew(self) -> None:
        ended = drain_finished(drain_set(READY, Drain(), NOW, "t1"), "t2")
        again = drain_set(ended, Drain(), NOW + HOUR, "t3")
        assert again.drain == Drain(started_at=NOW + HOUR)
        assert again.last_drain == LastDrain(started_at="t3", updated_at="t3", status="draining")

    def test_what_the_operator_says_stays_with_the_drain_and_goes_with_it(self) -> None:
        first = drain_set(READY, Drain(), NOW, "t1", {"who": "ann", "why": "disk"})
        second = drain_set(first, Drain(ignores_system=True), NOW, "t2", {"why": "fan"})
        off = drain_called_off(second, NOW, "t3", mark_eligible=True, meta={"done": "yes"})
        third = drain_set(off, Drain(), NOW, "t4")
        assert [one.last_drain and one.last_drain.meta for one in (first, second, off, third)] == [
            {"who": "ann", "why": "disk"}, {"who": "ann", "why": "fan"}, {"who": "ann", "why": "fan", "done": "yes"}, None
        ]  # fmt: skip

    def test_a_penalized_node_can_be_drained_too(self) -> None:
        known = replace(READY, flaps=(1, 2, 3, 4), penalized_until=99)
        drained = drain_set(known, Drain(), NOW, "t1")
        assert (drained.flaps, drained.penalized_until) == ((1, 2, 3, 4), 99)


@pytest.mark.parametrize(
    ("drain", "after_ns", "is_over"),
    [
        (Drain(), 10**6 * HOUR, False),
        (Drain(deadline_at=NOW + HOUR), HOUR - 1, False),
        (Drain(deadline_at=NOW + HOUR), HOUR, True),
        (Drain(deadline_at=NOW), 0, True),
        (Drain(is_forced=True), 0, True),
        (Drain(deadline_at=NOW + HOUR, is_forced=True), 0, True),
    ],
    ids=["no deadline", "before", "at", "none left", "forced", "forced, with a deadline"],
)
def test_it_waits_for_replacements_until_its_deadline(drain: Drain, after_ns: int, is_over: bool) -> None:
    assert drain.is_over(NOW + after_ns) is is_over


class TestEnd:
    DRAINING = drain_set(READY, Drain(deadline_at=NOW + HOUR), NOW, "t1")

    def test_called_off_it_may_stay_without_new_work(self) -> None:
        assert drain_called_off(self.DRAINING, NOW, "t2", mark_eligible=False) == replace(
            self.DRAINING,
            drain=None,
            last_drain=LastDrain(started_at="t1", updated_at="t2", status="canceled"),
            events=(*self.DRAINING.events, event("Node drain disabled", "t2")),
        )

    def test_or_take_it_again(self) -> None:
        back = drain_called_off(self.DRAINING, NOW, "t2", mark_eligible=True)
        assert back.scheduling_eligibility is Eligibility.ELIGIBLE
        assert changed(view("n1"), control=back).takes_work

    def test_finished_it_stays_without_new_work(self) -> None:
        done = drain_finished(self.DRAINING, "t2")
        assert done == replace(
            self.DRAINING,
            drain=None,
            last_drain=LastDrain(started_at="t1", updated_at="t2", status="complete"),
            events=(*self.DRAINING.events, event("Node drain complete", "t2")),
        )
        assert not changed(view("n1"), control=done).takes_work

    def test_what_is_not_draining_is_only_made_eligible(self) -> None:
        idle = replace(READY, scheduling_eligibility=Eligibility.INELIGIBLE)
        assert drain_called_off(idle, NOW, "t", mark_eligible=False) == idle
        assert drain_called_off(idle, NOW, "t", mark_eligible=True) == READY
        assert drain_called_off(READY, NOW, "t", mark_eligible=True) == READY

    def test_called_off_after_it_finished_the_result_stands(self) -> None:
        done = drain_finished(self.DRAINING, "t2")
        back = drain_called_off(done, NOW, "t3", mark_eligible=True)
        assert back == replace(done, scheduling_eligibility=Eligibility.ELIGIBLE)

    def test_a_document_without_a_beginning_ends_all_the_same(self) -> None:
        odd = replace(READY, drain=Drain())
        assert drain_finished(odd, "t").last_drain == LastDrain(started_at="t", updated_at="t", status="complete")

    def test_the_last_ten_events_are_kept(self) -> None:
        control = READY
        for number in range(8):
            control = drain_finished(drain_set(control, Drain(), NOW, f"a{number}"), f"b{number}")
        assert [e.timestamp for e in control.events] == [f"{x}{n}" for n in range(3, 8) for x in "ab"]


class TestLife:
    """A drain and the node's life stand in one document: neither undoes the other."""

    def test_a_draining_node_that_falls_silent_and_returns_drains_on(self) -> None:
        control = drain_set(READY, Drain(deadline_at=NOW + HOUR), NOW, "t1")
        fell = judged(control, Reach.SILENT, NOW)
        assert (fell.status, fell.drain) == (NodeStatus.DOWN, control.drain)
        back = judged(fell, Reach.PASSING, NOW + SECOND)
        assert (back.status, back.drain, back.last_drain) == (NodeStatus.READY, control.drain, control.last_drain)
        assert back.scheduling_eligibility is Eligibility.INELIGIBLE


def judged(control: NodeControl, reach: Reach, now_ns: int, flaps_max: int = 3) -> NodeControl:
    """After a silence of a day at most."""
    seen = NodeView(node=view("n1").node, control=control, reach=reach, reach_since_s=0.0)
    settings = Settings(brake=BrakeSettings(flaps_max=flaps_max))
    made = judge(seen, now_s=86_400.0, now_ns=now_ns, stamp="t", settings=settings, is_answering=False)
    assert made is not None
    return made


def flapped(times: int, *, every_s: int = 60, flaps_max: int = 3) -> NodeControl:
    """Held lost and heard again so often; the last return is at (times - 1) x every_s after NOW."""
    control = READY
    for number in range(times):
        now_ns = NOW + number * every_s * SECOND
        control = judged(judged(control, Reach.SILENT, now_ns), Reach.PASSING, now_ns, flaps_max)
    return control


def penalty_s(control: NodeControl, last_return_s: int) -> int:
    return control.penalized_until and control.penalized_until - NOW // SECOND - last_return_s


class TestFlapping:
    @pytest.mark.parametrize(
        ("returns", "penalty"), [(1, 0), (2, 0), (3, 0), (4, 30), (5, 60), (6, 120), (7, 240), (8, 480), (9, 600), (30, 600)]
    )
    def test_beyond_three_returns_the_penalty_doubles_up_to_ten_minutes(self, returns: int, penalty: int) -> None:
        assert penalty_s(flapped(returns, every_s=10), 10 * (returns - 1)) == penalty

    def test_how_often_is_the_operators_to_say(self) -> None:
        assert penalty_s(flapped(1, flaps_max=0), 0) == 30
        assert flapped(9, every_s=10, flaps_max=9).penalized_until == 0

    @pytest.mark.parametrize(("every_s", "counted", "penalty"), [(199, 4, 30), (200, 3, 0), (600, 1, 0), (599, 2, 0)])
    def test_only_the_returns_of_the_last_ten_minutes_count(self, every_s: int, counted: int, penalty: int) -> None:
        control = flapped(4, every_s=every_s)
        assert (len(control.flaps), penalty_s(control, 3 * every_s)) == (counted, penalty)

    def test_the_first_registration_is_no_return(self) -> None:
        assert judged(NodeControl(node_id=NodeId("n1")), Reach.PASSING, NOW).flaps == ()

    def test_falling_silent_changes_no_penalty(self) -> None:
        control = flapped(4)
        fell = judged(control, Reach.SILENT, NOW)
        assert (fell.flaps, fell.penalized_until) == (control.flaps, control.penalized_until)

    def test_a_penalized_node_takes_no_work_and_then_does(self) -> None:
        control = flapped(4)
        until_ns = control.penalized_until * SECOND
        assert not changed(view("n1"), control=control).takes_work
        assert unpenalized(control, until_ns - 1) is None
        free = unpenalized(control, until_ns)
        assert free == replace(control, penalized_until=0)
        assert changed(view("n1"), control=free).takes_work
        assert unpenalized(free, until_ns + HOUR) is None

    def test_a_penalty_outlives_the_leader_that_gave_it(self) -> None:
        """It is a moment in the document, not a span in a process: another clock origin changes nothing."""
        control = replace(flapped(4), epoch=99)
        assert unpenalized(control, control.penalized_until * SECOND - 1) is None

    def test_it_ends_a_penalty_and_makes_no_drained_node_eligible(self) -> None:
        control = drain_set(flapped(4), Drain(), NOW, "t")
        free = unpenalized(control, control.penalized_until * SECOND)
        assert free is not None
        assert (free.drain, free.scheduling_eligibility) == (control.drain, Eligibility.INELIGIBLE)
