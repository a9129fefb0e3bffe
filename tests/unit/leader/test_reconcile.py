"""What one job needs, given what it has: each case is a small world and the named changes it asks for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from leader.decide.reconcile import reconcile
from model.alloc import (
    Alloc,
    AllocId,
    Apart,
    ClientStatus,
    DesiredStatus,
    RescheduleEvent,
    RescheduleTracker,
    Verdict,
)
from model.job import Job, JobType, ReschedulePolicy
from model.node import NodeId
from model.plan import Reconciled
from model.snapshot import NodeView, Reach
from model.wire import Nanoseconds
from tests.build import SECOND, alloc, batch, group, job, lost, nodes, rolling, task, view

HOUR = 3600 * SECOND


def decide(
    current: Job | None,
    allocs: Sequence[Alloc] = (),
    views: Mapping[NodeId, NodeView] | None = None,
    *,
    now_ns: int = 0,
    versions: Sequence[Job] = (),
    fits: Mapping[str, frozenset[NodeId]] | None = None,
    misplaced: Sequence[AllocId] = (),
) -> Reconciled:
    known = [*versions, *([current] if current else [])]
    return reconcile(
        current,
        allocs,
        versions={j.version: j for j in known},
        nodes=nodes(view()) if views is None else views,
        now_ns=now_ns,
        gc_after_ns=HOUR,
        fits=fits,
        misplaced=misplaced,
    )


def names(needed: Reconciled) -> list[str]:
    return [request.name for request in needed.place]


def stopped(needed: Reconciled) -> set[str]:
    """What stops at once or with the placement of its replacement."""
    with_others = [request.stops for request in needed.place if request.stops]
    return {d.id for d in (*needed.change, *with_others) if d.desired_status is DesiredStatus.STOP}


def test_a_new_job_needs_one_alloc_for_each_of_its_places() -> None:
    assert names(decide(job(3))) == ["j.g[0]", "j.g[1]", "j.g[2]"]


def test_a_satisfied_job_needs_nothing() -> None:
    have = [alloc(i, of=job(3)) for i in range(3)]
    assert decide(job(3), have) == Reconciled()


def test_an_alloc_that_was_not_reported_yet_counts() -> None:
    assert decide(job(1), [alloc(0, status=None)]) == Reconciled()


def test_surplus_is_stopped_from_the_highest_place_down() -> None:
    have = [alloc(i, of=job(3)) for i in range(3)]
    needed = decide(job(1), have)
    assert stopped(needed) == {have[1].id, have[2].id}
    assert not needed.place


def test_of_two_in_one_place_the_running_older_one_stays() -> None:
    pending, running = alloc(0, status=ClientStatus.PENDING), alloc(0)
    assert stopped(decide(job(1), [pending, running])) == {pending.id}


def test_a_stopped_job_stops_what_runs_and_places_nothing() -> None:
    have = [alloc(0), alloc(1, status=None), alloc(2, status=ClientStatus.COMPLETE)]
    needed = decide(job(3, stop=True), have)
    assert stopped(needed) == {have[0].id, have[1].id}
    assert not needed.place


def test_a_job_that_failed_for_good_is_placed_again_when_it_is_started_anew() -> None:
    tried = replace(group(1), reschedule_policy=ReschedulePolicy(attempts=0, unlimited=False))
    failed = alloc(0, status=ClientStatus.FAILED)
    assert not decide(job(1, groups=(tried,)), [failed]).place
    (ended,) = decide(job(1, groups=(tried,), stop=True), [failed]).change
    again = dataclasses.replace(failed, desired=ended)
    assert [request.name for request in decide(job(1, groups=(tried,)), [again]).place] == ["j.g[0]"]


class TestApart:
    def test_a_released_alloc_is_neither_counted_nor_stopped(self) -> None:
        one = alloc(0, apart=Apart.RELEASED)
        needed = decide(job(1), [one])
        assert ([request.name for request in needed.place], needed.change) == (["j.g[0]"], ())
        for over in (job(1, stop=True), None):
            assert decide(over, [one]).change == ()

    def test_a_job_that_leaves_its_allocs_stops_none_and_counts_them_no_more(self) -> None:
        have = [alloc(0), alloc(1, status=None)]
        (first, second) = decide(job(2, stop=True, orphans="leave"), have).change
        assert {(one.apart, one.desired_status) for one in (first, second)} == {(Apart.ORPHANED, DesiredStatus.RUN)}
        left = [dataclasses.replace(one, desired=now) for one, now in zip(have, (first, second), strict=True)]
        assert decide(job(2, stop=True, orphans="leave"), left).change == ()
        assert len(decide(job(2), left).place) == 2

    def test_what_was_left_is_taken_over_only_when_asked_for(self) -> None:
        left = [alloc(0, apart=Apart.ORPHANED), alloc(1, apart=Apart.RELEASED)]
        needed = decide(job(2, orphans="adopt"), left)
        assert [(one.id, one.apart) for one in needed.change] == [(left[0].id, Apart.NONE)]
        assert [request.name for request in needed.place] == ["j.g[1]"]

    def test_what_stands_apart_says_so_again_when_its_node_is_back(self) -> None:
        gone = alloc(0, apart=Apart.ORPHANED, verdict=Verdict.LOST, desired_description="lost")
        back = dataclasses.replace(gone, desired_index=5, observed_index=9)
        (one,) = decide(job(1, stop=True), [back]).change
        assert (one.verdict, one.desired_description) == (Verdict.NONE, "alloc was left running by job stop -orphan")

    def test_what_stands_apart_is_forgotten_only_after_its_end(self) -> None:
        ended = alloc(0, apart=Apart.ORPHANED, status=ClientStatus.COMPLETE)
        runs = alloc(1, apart=Apart.ORPHANED)
        assert [one.id for one in decide(None, [ended, runs]).forget] == [ended.id]


def test_a_purged_job_stops_what_runs_and_forgets_what_ended() -> None:
    have = [alloc(0), alloc(1, status=ClientStatus.FAILED)]
    needed = decide(None, have)
    assert stopped(needed) == {have[0].id}
    assert [a.id for a in needed.forget] == [have[1].id]


def test_an_alloc_of_a_removed_group_is_stopped() -> None:
    have = alloc(0, group="gone")
    assert stopped(decide(job(1), [have])) == {have.id}


class TestLostNodes:
    def test_work_of_a_lost_node_is_marked_and_replaced_but_never_told_to_stop(self) -> None:
        have = alloc(0)
        needed = decide(job(1), [have], nodes(lost(), view("n2")))
        assert [(d.id, d.verdict, d.desired_status) for d in needed.change] == [
            (have.id, Verdict.LOST, DesiredStatus.RUN)
        ]
        assert [(r.name, r.previous.id if r.previous else "") for r in needed.place] == [("j.g[0]", have.id)]

    def test_a_node_without_document_is_lost(self) -> None:
        assert len(decide(job(1), [alloc(0)], {}).place) == 1

    def test_a_suspect_node_keeps_its_work(self) -> None:
        assert decide(job(1), [alloc(0)], nodes(view(reach=Reach.SILENT))) == Reconciled()

    def test_on_return_the_original_is_kept_and_its_stand_in_stopped(self) -> None:
        original = alloc(0, verdict=Verdict.LOST)
        stand_in = alloc(0, on="n2", previous_allocation=original.id)
        needed = decide(job(1), [original, stand_in], nodes(view(), view("n2")))
        assert stopped(needed) == {stand_in.id}
        assert [(d.id, d.verdict) for d in needed.change if d.id == original.id] == [(original.id, Verdict.NONE)]

    def test_a_report_older_than_the_verdict_brings_nothing_back(self) -> None:
        original = alloc(0, verdict=Verdict.LOST, is_stale=True)
        stand_in = alloc(0, on="n2", previous_allocation=original.id)
        assert decide(job(1), [original, stand_in], nodes(view(), view("n2"))) == Reconciled()

    def test_the_agent_of_a_returned_node_is_asked_before_anything_is_taken_back(self) -> None:
        original = alloc(0, verdict=Verdict.LOST)
        stand_in = alloc(0, on="n2", previous_allocation=original.id)
        back = dataclasses.replace(view(), control_index=original.observed_index + 1)
        needed = decide(job(1), [original, stand_in], nodes(back, view("n2")))
        assert needed == Reconciled(change=(original.desired,))

    def test_the_result_of_a_batch_place_stays_when_its_stand_in_had_to_go(self) -> None:
        work = job(1, type=JobType.BATCH)
        done = alloc(0, of=work, status=ClientStatus.COMPLETE)
        stand_in = alloc(
            0, of=work, on="n2", previous_allocation=done.id, desired=DesiredStatus.STOP, status=ClientStatus.COMPLETE
        )
        needed = decide(work, [done, stand_in], nodes(view(), view("n2")), now_ns=2 * HOUR)
        assert ([a.id for a in needed.forget], needed.place) == ([stand_in.id], ())

    def test_after_a_reboot_the_stand_in_stays(self) -> None:
        original = alloc(0, verdict=Verdict.LOST, boot_id="boot-0")
        stand_in = alloc(0, on="n2", previous_allocation=original.id)
        assert decide(job(1), [original, stand_in], nodes(view(), view("n2"))) == Reconciled()

    def test_what_the_returned_agent_reports_as_lost_stays_ended(self) -> None:
        original = alloc(0, verdict=Verdict.LOST, status=ClientStatus.LOST)
        stand_in = alloc(0, on="n2", previous_allocation=original.id)
        assert decide(job(1), [original, stand_in], nodes(view(), view("n2"))) == Reconciled()

    def test_a_stopped_job_takes_the_mark_off_so_that_the_node_stops_it_on_return(self) -> None:
        have = alloc(0, verdict=Verdict.LOST)
        needed = decide(job(1, stop=True), [have], nodes(lost()))
        assert [(d.desired_status, d.verdict) for d in needed.change] == [(DesiredStatus.STOP, Verdict.NONE)]


class TestUnheard:
    """Placed just as the node's agent went down, so that nobody ever spoke of it."""

    def test_it_is_placed_elsewhere_at_once(self) -> None:
        have = alloc(0, status=None)
        needed = decide(job(1), [have], nodes(view(reach=Reach.AGENT_DOWN), view("n2")))
        assert [(d.id, d.verdict, d.desired_status) for d in needed.change] == [
            (have.id, Verdict.LOST, DesiredStatus.RUN)
        ]
        assert names(needed) == ["j.g[0]"]

    @pytest.mark.parametrize("status", [ClientStatus.PENDING, ClientStatus.RUNNING])
    def test_what_the_agent_spoke_of_waits_for_it(self, status: ClientStatus) -> None:
        views = nodes(view(reach=Reach.AGENT_DOWN))
        assert decide(job(1), [alloc(0, status=status)], views) == Reconciled()

    def test_a_silent_machine_is_judged_as_a_whole(self) -> None:
        views = nodes(view(reach=Reach.SILENT))
        assert decide(job(1), [alloc(0, status=None)], views) == Reconciled()

    def test_should_it_run_after_all_it_stays_and_the_stand_in_goes(self) -> None:
        original = alloc(0, verdict=Verdict.LOST)
        stand_in = alloc(0, on="n2", previous_allocation=original.id)
        assert stopped(decide(job(1), [original, stand_in], nodes(view(), view("n2")))) == {stand_in.id}


class TestReschedule:
    def test_a_failed_service_is_replaced_once_its_delay_is_over(self) -> None:
        failed = alloc(0, status=ClientStatus.FAILED, reported_ns=100 * SECOND)
        early = decide(job(1), [failed], now_ns=120 * SECOND)
        assert (early.place, early.wake_at_ns) == ((), 130 * SECOND)
        due = decide(job(1), [failed], now_ns=130 * SECOND)
        assert [r.previous.id for r in due.place if r.previous] == [failed.id]
        assert due.place[0].tracker == RescheduleTracker(
            events=(
                RescheduleEvent(
                    reschedule_time=130 * SECOND,
                    prev_alloc_id=failed.id,
                    prev_node_id=NodeId("n1"),
                    delay=30 * SECOND,
                ),
            )
        )

    def test_a_failed_alloc_is_replaced_only_once(self) -> None:
        failed = alloc(0, status=ClientStatus.FAILED)
        successor = alloc(0, previous_allocation=failed.id)
        assert decide(job(1), [failed, successor], now_ns=HOUR - 1) == Reconciled()

    @pytest.mark.parametrize("gone", [{"apart": Apart.RELEASED}, {"desired": DesiredStatus.STOP}])
    def test_a_rescheduled_alloc_that_a_user_took_away_is_replaced_whatever_failed_before(
        self, gone: dict[str, Any]
    ) -> None:
        once = ReschedulePolicy(attempts=1, interval=Nanoseconds(HOUR), delay=Nanoseconds(0), unlimited=False)
        current = job(groups=(group(1, reschedule_policy=once),))
        failed = alloc(0, of=current, status=ClientStatus.FAILED)
        event = RescheduleEvent(reschedule_time=0, prev_alloc_id=failed.id, prev_node_id=NodeId("n1"))
        tried = RescheduleTracker(events=(event,))
        taken = alloc(0, of=current, previous_allocation=failed.id, reschedule_tracker=tried, **gone)
        again = decide(current, [failed, taken], now_ns=SECOND)
        assert [(request.name, request.previous) for request in again.place] == [("j.g[0]", None)]

    def test_without_attempts_a_failed_alloc_stays_failed(self) -> None:
        never = ReschedulePolicy(attempts=0, unlimited=False)
        current = job(groups=(group(1, reschedule_policy=never),))
        assert decide(current, [alloc(0, of=current, status=ClientStatus.FAILED)], now_ns=SECOND) == Reconciled()

    def test_attempts_are_counted_within_the_interval(self) -> None:
        policy = ReschedulePolicy(attempts=1, interval=Nanoseconds(HOUR), delay=Nanoseconds(0), unlimited=False)
        current = job(groups=(group(1, reschedule_policy=policy),))
        tried = RescheduleTracker(
            events=(
                RescheduleEvent(reschedule_time=0, prev_alloc_id=alloc(0).id, prev_node_id=NodeId("n1")),
            )
        )
        again = alloc(0, of=current, status=ClientStatus.FAILED, reported_ns=SECOND, reschedule_tracker=tried)
        assert not decide(current, [again], now_ns=2 * SECOND).place
        later = alloc(0, of=current, status=ClientStatus.FAILED, reported_ns=2 * HOUR, reschedule_tracker=tried)
        assert decide(current, [later], now_ns=2 * HOUR).place


class TestBatch:
    def test_a_completed_place_is_done(self) -> None:
        have = [alloc(0, of=batch(2), status=ClientStatus.COMPLETE)]
        assert names(decide(batch(2), have)) == ["j.g[1]"]

    def test_a_completed_place_of_a_service_is_filled_again(self) -> None:
        assert names(decide(job(1), [alloc(0, status=ClientStatus.COMPLETE)])) == ["j.g[0]"]

    def test_a_run_that_was_stopped_does_not_count_as_done(self) -> None:
        have = [alloc(0, of=batch(1), status=ClientStatus.COMPLETE, desired=DesiredStatus.STOP)]
        assert names(decide(batch(1), have)) == ["j.g[0]"]

    def test_a_lost_run_is_run_again_at_once(self) -> None:
        have = alloc(0, of=batch(1))
        assert names(decide(batch(1), [have], nodes(lost()))) == ["j.g[0]"]


    def test_a_changed_job_runs_again(self) -> None:
        first, second = batch(2), batch(2, version=1)
        done = [alloc(i, of=first, status=ClientStatus.COMPLETE) for i in range(2)]
        assert decide(first, done) == Reconciled()
        assert names(decide(second, done, versions=[first])) == ["j.g[0]", "j.g[1]"]

    def test_the_result_of_an_older_version_is_forgotten_in_time(self) -> None:
        first, second = batch(1), batch(1, version=1)
        before = alloc(0, of=first, status=ClientStatus.COMPLETE)
        after = alloc(0, of=second, status=ClientStatus.COMPLETE, previous_allocation=before.id)
        needed = decide(second, [before, after], versions=[first], now_ns=2 * HOUR)
        assert (needed.place, [a.id for a in needed.forget]) == ((), [before.id])


class TestUpdates:
    def test_a_changed_command_replaces_at_most_max_parallel_at_a_time(self) -> None:
        old, new = rolling(4, 2), rolling(4, 2, version=1, command="b")
        have = [alloc(i, of=old) for i in range(4)]
        needed = decide(new, have, versions=[old])
        assert stopped(needed) == {have[0].id, have[1].id}
        assert names(needed) == ["j.g[0]", "j.g[1]"]

    def test_the_next_ones_wait_until_the_new_ones_run(self) -> None:
        old, new = rolling(4, 2), rolling(4, 2, version=1, command="b")
        have = [alloc(0, of=new, status=ClientStatus.PENDING), alloc(1, of=new), alloc(2, of=old), alloc(3, of=old)]
        assert stopped(decide(new, have, versions=[old])) == {have[2].id}

    def test_a_changed_count_touches_no_running_alloc(self) -> None:
        old, new = job(2), job(3, version=1)
        have = [alloc(i, of=old) for i in range(2)]
        needed = decide(new, have, versions=[old])
        assert {d.id: d.job_version for d in needed.change} == {a.id: 1 for a in have}
        assert not stopped(needed)
        assert names(needed) == ["j.g[2]"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [("env", {"A": "1"}), ("driver", "docker"), ("user", "nobody"), ("meta", {"a": "b"})],
        ids=str,
    )
    def test_a_change_of_what_runs_replaces(self, field: str, value: object) -> None:
        old = job(1)
        new = job(groups=(group(1, tasks=(replace(task(), **{field: value}),)),), version=1)
        assert len(stopped(decide(new, [alloc(0, of=old)], versions=[old]))) == 1


    def test_the_old_one_stops_only_together_with_the_placement_of_the_new_one(self) -> None:
        old, new = rolling(1, 1), rolling(1, 1, version=1, command="b")
        have = alloc(0, of=old)
        needed = decide(new, [have], versions=[old])
        assert needed.change == ()
        (request,) = needed.place
        assert request.stops is not None
        assert (request.stops.id, request.stops.desired_status) == (have.id, DesiredStatus.STOP)

    def test_what_may_no_longer_run_on_its_node_is_not_kept_in_place(self) -> None:
        old, new = rolling(1, 1), rolling(1, 1, version=1)
        have = alloc(0, of=old)
        assert [d.job_version for d in decide(new, [have], versions=[old]).change] == [1]
        moved = decide(new, [have], versions=[old], misplaced=[have.id])
        assert (moved.change, stopped(moved)) == ((), {have.id})

    def test_a_changed_job_begins_its_attempts_anew(self) -> None:
        never = ReschedulePolicy(attempts=0, unlimited=False)
        old = job(groups=(group(1, reschedule_policy=never),))
        new = job(groups=(group(1, reschedule_policy=never, tasks=(task(env={"A": "1"}),)),), version=1)
        failed = alloc(0, of=old, status=ClientStatus.FAILED)
        assert decide(old, [failed]).place == ()
        assert names(decide(new, [failed], versions=[old])) == ["j.g[0]"]


class TestSystem:
    current = job(1, type=JobType.SYSTEM)
    both = frozenset({NodeId("n1"), NodeId("n2")})

    def needs(self, allocs: Sequence[Alloc], views: Mapping[NodeId, NodeView], fits: frozenset[NodeId]) -> Reconciled:
        return decide(self.current, allocs, views, fits={"g": fits})

    def test_every_fitting_node_gets_one(self) -> None:
        needed = self.needs([], nodes(view(), view("n2")), self.both)
        assert [r.node_id for r in needed.place] == ["n1", "n2"]

    def test_a_new_node_gets_one_and_the_others_are_left_alone(self) -> None:
        needed = self.needs([alloc(0, of=self.current)], nodes(view(), view("n2")), self.both)
        assert ([r.node_id for r in needed.place], needed.change) == (["n2"], ())

    def test_a_lost_node_is_not_replaced_elsewhere(self) -> None:
        needed = self.needs([alloc(0, of=self.current)], nodes(lost(), view("n2")), frozenset({NodeId("n2")}))
        assert [r.node_id for r in needed.place] == ["n2"]
        assert not stopped(needed)

    def test_a_node_that_no_longer_fits_loses_its_alloc(self) -> None:
        have = alloc(0, of=self.current)
        assert stopped(self.needs([have], nodes(view()), frozenset())) == {have.id}


def test_ended_allocs_with_a_successor_are_forgotten_after_a_while() -> None:
    failed = alloc(0, status=ClientStatus.FAILED, reported_ns=0)
    successor = alloc(0, previous_allocation=failed.id)
    assert not decide(job(1), [failed, successor], now_ns=HOUR - 1).forget
    assert [a.id for a in decide(job(1), [failed, successor], now_ns=HOUR).forget] == [failed.id]
