"""What a group's `disconnect` block makes of a node that is out of reach, and of its return."""

from collections.abc import Sequence
from dataclasses import replace as changed
from typing import Any

import pytest
from msgspec.structs import replace

from leader.decide.counted import ORIGINAL_BACK, STAND_IN_KEPT
from leader.decide.reconcile import NODE_AWAY, NODE_LOST, reconcile
from model.alloc import Alloc, ClientStatus, DesiredStatus, TaskState, TaskStatus, Verdict
from model.job import DisconnectStrategy, Job, disconnect_of
from model.plan import Reconciled
from model.snapshot import NodeView
from model.wire import Nanoseconds
from tests.build import SECOND, alloc, group, job, lost, nodes, view

NOW = 1_000 * SECOND
MINUTE = Nanoseconds(60 * SECOND)


def service(**more: Any) -> Job:
    return job(groups=(group(1, **more),))


def waiting(**more: Any) -> Job:
    return service(disconnect=DisconnectStrategy(**{"lost_after": MINUTE, **more}))


def decide(of: Job, allocs: Sequence[Alloc], *views: NodeView, now_ns: int = NOW) -> Reconciled:
    return reconcile(of, allocs, versions={0: of}, nodes=nodes(*views), now_ns=now_ns, gc_after_ns=3600 * SECOND)


def verdicts(needed: Reconciled) -> list[tuple[Verdict, str]]:
    return [(one.verdict, one.desired_description) for one in needed.change]


class TestWhileItIsAway:
    def test_without_the_block_what_it_held_is_lost_at_once(self) -> None:
        of = service()
        needed = decide(of, [alloc(of=of)], lost("n1"), view("n2"))
        assert verdicts(needed) == [(Verdict.LOST, NODE_LOST)]
        assert len(needed.place) == 1

    def test_with_lost_after_it_is_unknown_first_and_has_a_stand_in(self) -> None:
        of = waiting()
        needed = decide(of, [alloc(of=of)], lost("n1"), view("n2"))
        assert verdicts(needed) == [(Verdict.UNKNOWN, NODE_AWAY)]
        assert (len(needed.place), needed.change[0].unknown_at, needed.wake_at_ns) == (1, NOW, NOW + MINUTE)

    def test_with_replace_off_it_has_none(self) -> None:
        of = waiting(replace=False)
        needed = decide(of, [alloc(of=of)], lost("n1"), view("n2"))
        assert (verdicts(needed), needed.place) == ([(Verdict.UNKNOWN, NODE_AWAY)], ())

    def test_after_lost_after_it_is_lost_and_replaced(self) -> None:
        of = waiting(replace=False)
        away = alloc(of=of, verdict=Verdict.UNKNOWN, unknown_at=NOW)
        assert decide(of, [away], lost("n1"), view("n2"), now_ns=NOW + MINUTE - 1).change == ()
        needed = decide(of, [away], lost("n1"), view("n2"), now_ns=NOW + MINUTE)
        assert (verdicts(needed), len(needed.place)) == ([(Verdict.LOST, NODE_LOST)], 1)

    def test_without_lost_after_and_replace_it_is_waited_for_as_long_as_it_takes(self) -> None:
        of = service(disconnect=DisconnectStrategy(replace=False))
        away = alloc(of=of, verdict=Verdict.UNKNOWN, unknown_at=NOW)
        needed = decide(of, [away], lost("n1"), view("n2"), now_ns=NOW + 1_000 * MINUTE)
        assert (needed.change, needed.place, needed.wake_at_ns) == ((), (), None)

    def test_a_node_that_was_forgotten_is_not_waited_for(self) -> None:
        of = waiting()
        assert verdicts(decide(of, [alloc(of=of)], view("n2"))) == [(Verdict.LOST, NODE_LOST)]

    def test_nomads_older_names_say_the_same(self) -> None:
        of = service(max_client_disconnect=MINUTE)
        assert verdicts(decide(of, [alloc(of=of)], lost("n1"), view("n2"))) == [(Verdict.UNKNOWN, NODE_AWAY)]
        of = service(prevent_reschedule_on_lost=True)
        assert decide(of, [alloc(of=of)], lost("n1"), view("n2")).place == ()
        stops = disconnect_of(group(stop_after_client_disconnect=MINUTE))
        assert stops is not None
        assert stops.stop_on_client_after == MINUTE


def running(one: Alloc, since: str) -> Alloc:
    assert one.observed is not None
    states = {"t": TaskState(state=TaskStatus.RUNNING, started_at=since)}
    return changed(one, observed=replace(one.observed, task_states=states))


class TestWhenItIsBack:
    """The original on n1 since 10:00, its stand-in on n2 since 11:00, both running."""

    def both(self, of: Job, **of_stand_in: Any) -> list[Alloc]:
        original = running(alloc(of=of, unknown_at=NOW, scores={"binpack": 0.5}), "2026-01-01T10:00:00Z")
        stand_in = alloc(
            of=of, on="n2", **{"previous_allocation": original.id, "scores": {"binpack": 0.7}, **of_stand_in}
        )
        return [original, running(stand_in, "2026-01-01T11:00:00Z") if stand_in.observed else stand_in]

    def stopped(self, of: Job, **of_stand_in: Any) -> list[tuple[str, str]]:
        allocs = self.both(of, **of_stand_in)
        needed = decide(of, allocs, view("n1"), view("n2"))
        assert needed.place == ()
        names = {allocs[0].id: "original", allocs[1].id: "stand-in"}
        return [
            (names[one.id], one.desired_description) for one in needed.change if one.desired_status is DesiredStatus.STOP
        ]

    @pytest.mark.parametrize("reconcile", ["keep_original", "longest_running"])
    def test_the_original_stays(self, reconcile: str) -> None:
        assert self.stopped(waiting(reconcile=reconcile)) == [("stand-in", ORIGINAL_BACK)]

    @pytest.mark.parametrize("reconcile", ["keep_replacement", "best_score"])
    def test_the_stand_in_stays(self, reconcile: str) -> None:
        assert self.stopped(waiting(reconcile=reconcile)) == [("original", STAND_IN_KEPT)]

    def test_the_better_score_decides_either_way(self) -> None:
        of = waiting(reconcile="best_score")
        assert self.stopped(of, scores={"binpack": 0.3}) == [("stand-in", ORIGINAL_BACK)]

    def test_a_stand_in_that_does_not_run_yet_is_never_kept(self) -> None:
        of = waiting(reconcile="keep_replacement")
        assert self.stopped(of, status=ClientStatus.PENDING) == [("stand-in", ORIGINAL_BACK)]
        assert self.stopped(of, status=None) == [("stand-in", ORIGINAL_BACK)]

    def test_without_the_block_the_original_stays(self) -> None:
        assert self.stopped(service()) == [("stand-in", ORIGINAL_BACK)]
