"""What has to leave its node: who goes when, and that what must not be missing is not."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from leader.decide.counted import MIGRATED
from leader.decide.reconcile import reconcile
from leader.decide.system import DRAINED
from model.alloc import Alloc, ClientStatus, DeploymentHealth
from model.job import Job, JobType, MigrateStrategy
from model.node import Drain, Eligibility, NodeId
from model.plan import Reconciled
from model.snapshot import NodeView
from tests.build import SECOND, alloc, group, job, nodes, view

NOW = 1_000 * SECOND


def service(count: int, **migrate: Any) -> Job:
    return job(groups=(group(count, migrate=MigrateStrategy(**migrate)),))


def well(index: int, of: Job, on: str, *, healthy: bool | None = True, **more: Any) -> Alloc:
    one = alloc(index, of=of, on=on, **more)
    assert one.observed is not None
    seen = replace(one.observed, deployment_status=DeploymentHealth(healthy=healthy))
    return Alloc(
        desired=one.desired, observed=seen, create_index=one.create_index, desired_index=one.desired_index,
        observed_index=one.observed_index,
    )  # fmt: skip


def draining(name: str, **how: Any) -> NodeView:
    known = view(name)
    drain = Drain(**{"deadline_at": NOW + 3600 * SECOND, **how})
    return NodeView(
        node=known.node, control=replace(known.control, drain=drain), reach=known.reach, reach_since_s=0.0
    )


def decide(of: Job, allocs: Sequence[Alloc], *views: NodeView, now_ns: int = NOW, **more: Any) -> Reconciled:
    return reconcile(
        of, allocs, versions={0: of}, nodes=nodes(*views), now_ns=now_ns, gc_after_ns=3600 * SECOND, **more
    )


def asked(needed: Reconciled) -> list[tuple[str, str, bool]]:
    """name, the node it must not be on, whether the old one stops with it."""
    return [(r.name, r.avoid or "", r.stops is not None) for r in needed.place]


class TestOneAtATime:
    def test_of_a_group_of_one_the_stand_in_comes_first(self) -> None:
        of = service(1)
        needed = decide(of, [old := well(0, of, "n1")], draining("n1"), view("n2"))
        assert asked(needed) == [("j.g[0]", "n1", False)]
        assert (needed.change, needed.moving) == ((), frozenset({old.id}))

    def test_the_old_one_stays_until_the_stand_in_is_healthy(self) -> None:
        of = service(1)
        old, new = well(0, of, "n1"), alloc(0, of=of, on="n2")
        waits = decide(of, [old, new], draining("n1"), view("n2"))
        assert (waits.place, waits.change, waits.moving) == ((), (), frozenset({old.id}))
        done = decide(of, [old, well(0, of, "n2")], draining("n1"), view("n2"))
        assert [(d.id, d.desired_description) for d in done.change] == [(old.id, MIGRATED)]

    def test_of_several_each_stops_as_its_replacement_is_placed(self) -> None:
        of = service(3)
        have = [well(i, of, "n1") for i in range(3)]
        assert asked(decide(of, have, draining("n1"), view("n2"))) == [("j.g[0]", "", True)]

    def test_the_next_waits_until_the_last_is_healthy_wherever_it_is(self) -> None:
        of = service(3)
        have = [alloc(0, of=of, on="n2"), well(1, of, "n1"), well(2, of, "n3")]
        assert asked(decide(of, have, draining("n1"), draining("n3"), view("n2"))) == []

    def test_max_parallel_and_surge_are_the_groups_to_say(self) -> None:
        of = service(3, max_parallel=2, surge=True)
        have = [well(i, of, "n1") for i in range(3)]
        needed = decide(of, have, draining("n1"), view("n2"))
        assert asked(needed) == [("j.g[0]", "n1", False), ("j.g[1]", "n1", False)]
        of = service(1, surge=False)
        assert asked(decide(of, [well(0, of, "n1")], draining("n1"), view("n2"))) == [("j.g[0]", "", True)]

    def test_what_is_not_healthy_need_not_be_waited_for(self) -> None:
        of = service(2)
        have = [well(0, of, "n1"), well(1, of, "n1", healthy=None)]
        assert asked(decide(of, have, draining("n1"), view("n2")))[0][0] == "j.g[1]"

    def test_a_stand_in_that_failed_is_tried_again_by_the_reschedule_policy(self) -> None:
        of = service(1)
        old = well(0, of, "n1")
        failed = alloc(
            0, of=of, on="n2", status=ClientStatus.FAILED, reported_ns=NOW, previous_allocation=old.id
        )
        waits = decide(of, [old, failed], draining("n1"), view("n2"))
        assert (waits.place, waits.wake_at_ns) == ((), NOW + 30 * SECOND)
        again = decide(of, [old, failed], draining("n1"), view("n2"), now_ns=NOW + 30 * SECOND)
        assert [(r.previous, r.avoid) for r in again.place] == [(failed, "n1")]


class TestDeadline:
    def test_after_it_all_stop_at_once(self) -> None:
        of = service(3)
        have = [well(i, of, "n1") for i in range(3)]
        needed = decide(of, have, draining("n1", deadline_at=NOW), view("n2"))
        assert len(needed.change) == len(needed.place) == 3
        assert {d.desired_description for d in needed.change} == {MIGRATED}

    def test_it_is_woken_up_for(self) -> None:
        of = service(3)
        assert decide(of, [well(i, of, "n1") for i in range(3)], draining("n1"), view("n2")).wake_at_ns == NOW + 3600 * SECOND

    def test_a_forced_drain_waits_for_nothing(self) -> None:
        of = service(1)
        assert len(decide(of, [well(0, of, "n1")], draining("n1", is_forced=True), view("n2")).change) == 1

    def test_a_batch_job_may_end_by_itself_until_then(self) -> None:
        of = job(groups=(group(1),), type=JobType.BATCH)
        have = [alloc(0, of=of, on="n1")]
        assert decide(of, have, draining("n1"), view("n2")).place == ()
        late = decide(of, have, draining("n1", deadline_at=NOW), view("n2"))
        assert (len(late.change), len(late.place)) == (1, 1)


class TestSystemJobs:
    OF = job(groups=(group(1),), type=JobType.SYSTEM)
    FITS = {"g": frozenset({NodeId("n1"), NodeId("n2")})}

    def decide(self, *views: NodeView, **more: Any) -> Reconciled:
        have = [alloc(0, of=self.OF, on=name) for name in ("n1", "n2")]
        return decide(self.OF, have, *views, fits=self.FITS, **more)

    def test_they_are_the_last_to_stop(self) -> None:
        assert self.decide(draining("n1"), view("n2")).change == ()
        needed = self.decide(draining("n1"), view("n2"), emptied=frozenset({NodeId("n1")}))
        assert [(d.node_id, d.desired_description) for d in needed.change] == [("n1", DRAINED)]
        assert needed.place == ()

    def test_they_stay_when_the_drain_ignores_them(self) -> None:
        emptied = frozenset({NodeId("n1")})
        assert self.decide(draining("n1", ignores_system=True), view("n2"), emptied=emptied).change == ()

    def test_a_node_that_takes_no_new_work_keeps_what_it_has(self) -> None:
        needed = self.decide(view("n1", eligibility=Eligibility.INELIGIBLE), view("n2"))
        assert needed == Reconciled()


class TestAskedToMove:
    def test_a_marked_alloc_moves_with_a_stand_in_however_many_there_are(self) -> None:
        of = service(3)
        have = [well(0, of, "n1", migrate_to="n2"), well(1, of, "n1", migrate_to="n2"), well(2, of, "n2")]
        needed = decide(of, have, view("n1"), view("n2"))
        assert asked(needed) == [("j.g[0]", "n1", False)]
        assert (needed.place[0].node_id, needed.moving) == ("n2", {have[0].id})

    def test_it_stays_when_the_node_it_should_go_to_takes_no_work(self) -> None:
        of = service(1)
        have = [well(0, of, "n1", migrate_to="n2")]
        assert decide(of, have, view("n1"), draining("n2")) == Reconciled()
        assert decide(of, have, view("n1")) == Reconciled()
