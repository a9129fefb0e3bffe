"""Deployments: when they begin, what they replace when, and how they end."""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from leader.decide import rollout
from leader.decide.counted import CANARY_OVER, UPDATED
from leader.decide.reconcile import reconcile
from model.alloc import Alloc, ClientStatus, DeploymentHealth, DesiredStatus
from model.deployment import Deployment, DeploymentId, DeploymentStatus, GroupDeployment
from model.job import Job, JobType, ReschedulePolicy, UpdateStrategy
from model.plan import PlaceRequest, Reconciled
from model.wire import Nanoseconds
from tests.build import SECOND, alloc, group, job, nodes, task, view

NOW = 1_000 * SECOND
NEW_ID = "new-deployment"


def versioned(count: int, version: int, **update: Any) -> Job:
    """Each version has a command of its own; max_parallel 1."""
    strategy = UpdateStrategy(**{"max_parallel": 1, **update})
    of = group(count, update=strategy, tasks=(task(config={"command": f"v{version}"}),))
    return job(groups=(of,), version=version)


def deployment(of: Job, identity: str = "d", **more: Any) -> Deployment:
    update = of.task_groups[0].update
    assert update is not None
    state = {
        "desired_total": of.task_groups[0].count,
        "progress_deadline": update.progress_deadline,
        "require_progress_by": NOW + update.progress_deadline,
        "auto_revert": update.auto_revert,
        "auto_promote": update.auto_promote,
        **more,
    }
    return Deployment(
        id=DeploymentId(identity),
        namespace=of.namespace,
        job_id=of.id,
        job_version=of.version,
        task_groups={"g": GroupDeployment(**state)},
    )


def told(one: Alloc, healthy: bool | None) -> Alloc:
    assert one.observed is not None
    status = DeploymentHealth(healthy=healthy)
    return Alloc(
        desired=one.desired,
        observed=replace(one.observed, deployment_status=status),
        create_index=one.create_index,
        desired_index=one.desired_index,
        observed_index=one.observed_index,
    )


def healthy(index: int, of: Job, **more: Any) -> Alloc:
    return told(alloc(index, of=of, **{"deployment_id": "d", **more}), True)


def decide(
    current: Job,
    allocs: Sequence[Alloc] = (),
    *,
    known: Deployment | None = None,
    old: Sequence[Job] = (),
    stable: frozenset[int] = frozenset(),
    now_ns: int = NOW,
) -> Reconciled:
    return reconcile(
        current,
        allocs,
        versions={j.version: j for j in (*old, current)},
        nodes=nodes(view()),
        now_ns=now_ns,
        gc_after_ns=3600 * SECOND,
        deployment=known,
        stable=stable,
        new_deployment_id=NEW_ID,
    )


def only(needed: Reconciled) -> Deployment:
    assert len(needed.deployments) == 1, needed.deployments
    return needed.deployments[0]


def places(needed: Reconciled) -> list[tuple[str, int, bool, bool]]:
    """name, version, whether another stops for it, whether it is a canary."""
    return [(r.name, r.job.version, r.stops is not None, r.is_canary) for r in needed.place]


class TestBeginning:
    def test_a_new_service_begins_one_and_places_all_at_once(self) -> None:
        needed = decide(versioned(3, 0))
        begun = only(needed)
        assert (begun.id, begun.status, begun.job_version) == (NEW_ID, DeploymentStatus.RUNNING, 0)
        assert begun.task_groups["g"].desired_total == 3
        assert begun.task_groups["g"].require_progress_by == NOW + 600 * SECOND
        assert [r.deployment_id for r in needed.place] == [NEW_ID] * 3

    def test_batch_jobs_and_services_that_do_not_roll_begin_none(self) -> None:
        assert not decide(job(2, type=JobType.BATCH)).deployments
        assert not decide(versioned(2, 0, max_parallel=0)).deployments

    def test_what_is_replaced_after_the_end_belongs_to_none(self) -> None:
        v0 = versioned(2, 0)
        ended = replace(deployment(v0), status=DeploymentStatus.SUCCESSFUL)
        needed = decide(v0, [healthy(0, v0)], known=ended)
        assert not needed.deployments
        assert [(r.name, r.deployment_id) for r in needed.place] == [("j.g[1]", "")]

    def test_a_change_in_place_is_rolled_out_too(self) -> None:
        v0 = versioned(1, 0)
        v1 = replace(v0, version=1, task_groups=(replace(v0.task_groups[0], count=2),))
        needed = decide(v1, [healthy(0, v0)], known=replace(deployment(v0), status=DeploymentStatus.SUCCESSFUL), old=[v0])
        assert only(needed).job_version == 1
        assert [(d.job_version, d.deployment_id) for d in needed.change] == [(1, NEW_ID)]
        assert places(needed) == [("j.g[1]", 1, False, False)]

    def test_a_newer_version_cancels_the_older_ones(self) -> None:
        v0, v1 = versioned(1, 0), versioned(1, 1)
        needed = decide(v1, [healthy(0, v0)], known=deployment(v0), old=[v0])
        before, begun = needed.deployments
        assert (before.status, before.status_description) == (DeploymentStatus.CANCELLED, rollout.NEWER)
        assert (begun.status, begun.job_version) == (DeploymentStatus.RUNNING, 1)

    def test_a_stopped_job_cancels_it(self) -> None:
        v0 = versioned(1, 0)
        needed = decide(replace(v0, stop=True), [healthy(0, v0)], known=deployment(v0))
        assert (only(needed).status, only(needed).status_description) == (DeploymentStatus.CANCELLED, rollout.STOPPED)


class TestRolling:
    def test_no_more_than_max_parallel_are_unsettled(self) -> None:
        v0, v1 = versioned(4, 0, max_parallel=2), versioned(4, 1, max_parallel=2)
        old = [healthy(i, v0, deployment_id="") for i in range(4)]
        first = decide(v1, old, old=[v0])
        assert places(first) == [("j.g[0]", 1, True, False), ("j.g[1]", 1, True, False)]
        assert {r.stops.desired_description for r in first.place if r.stops} == {UPDATED}
        # One of the two is healthy: one more may go.
        halfway = [healthy(0, v1), alloc(1, of=v1, deployment_id="d"), *old[2:]]
        second = decide(v1, halfway, known=deployment(v1), old=[v0])
        assert places(second) == [("j.g[2]", 1, True, False)]

    def test_a_place_that_is_empty_uses_up_the_budget(self) -> None:
        v0, v1 = versioned(3, 0), versioned(3, 1)
        needed = decide(v1, [healthy(i, v0, deployment_id="") for i in range(2)], old=[v0])
        assert places(needed) == [("j.g[2]", 1, False, False)]

    def test_what_serves_nobody_goes_first(self) -> None:
        v0, v1 = versioned(2, 0), versioned(2, 1)
        sick = told(alloc(1, of=v0, status=ClientStatus.PENDING), None)
        assert places(decide(v1, [healthy(0, v0), sick], old=[v0]))[0][0] == "j.g[1]"

    def test_paused_it_replaces_nothing(self) -> None:
        v0, v1 = versioned(2, 0), versioned(2, 1)
        paused = replace(deployment(v1), status=DeploymentStatus.PAUSED)
        assert not decide(v1, [healthy(i, v0) for i in range(2)], known=paused, old=[v0]).place

    def test_new_only_leaves_what_runs(self) -> None:
        v0, v1 = versioned(2, 0), versioned(2, 1, on_change="new_only")
        needed = decide(v1, [healthy(0, v0, deployment_id="")], old=[v0])
        assert places(needed) == [("j.g[1]", 1, False, False)]
        done = decide(v1, [healthy(0, v0, deployment_id=""), healthy(1, v1)], known=deployment(v1), old=[v0])
        assert only(done).status is DeploymentStatus.SUCCESSFUL


class TestEnding:
    def test_it_succeeds_when_every_place_is_healthy_and_the_version_is_stable(self) -> None:
        v0 = versioned(2, 0)
        needed = decide(v0, [healthy(0, v0), healthy(1, v0)], known=deployment(v0))
        assert (only(needed).status, only(needed).status_description) == (DeploymentStatus.SUCCESSFUL, rollout.SUCCESSFUL)
        assert only(needed).task_groups["g"].healthy_allocs == 2
        assert needed.is_stable

    def test_each_healthy_alloc_moves_the_deadline_on(self) -> None:
        v0 = versioned(2, 0)
        needed = decide(v0, [healthy(0, v0), alloc(1, of=v0, deployment_id="d")], known=deployment(v0), now_ns=NOW + SECOND)
        assert only(needed).task_groups["g"].require_progress_by == NOW + 601 * SECOND

    def test_without_progress_in_time_it_fails(self) -> None:
        v0 = versioned(1, 0)
        late = NOW + 600 * SECOND
        waiting = decide(v0, [alloc(0, of=v0, deployment_id="d")], known=deployment(v0))
        assert waiting.wake_at_ns == late
        needed = decide(v0, [alloc(0, of=v0, deployment_id="d")], known=deployment(v0), now_ns=late)
        assert only(needed).status is DeploymentStatus.FAILED
        assert only(needed).status_description.startswith(rollout.NO_PROGRESS)

    def test_an_alloc_that_never_gets_healthy_fails_it_at_once_and_the_limit_is_named(self) -> None:
        v0 = versioned(2, 0)
        sick = told(alloc(0, of=v0, deployment_id="d"), False)
        needed = decide(v0, [sick, healthy(1, v0)], known=deployment(v0))
        assert only(needed).status is DeploymentStatus.FAILED
        assert only(needed).status_description == (
            f"{rollout.UNHEALTHY} (j.g[0] did not become healthy within healthy_deadline)"
        )

    def test_a_failed_alloc_that_is_tried_again_in_time_does_not_fail_it(self) -> None:
        v0 = versioned(1, 0)
        failed = alloc(0, of=v0, deployment_id="d", status=ClientStatus.FAILED, reported_ns=NOW)
        needed = decide(v0, [failed], known=deployment(v0))
        assert only(needed).status is DeploymentStatus.RUNNING
        assert only(needed).task_groups["g"].unhealthy_allocs == 1
        assert needed.wake_at_ns == NOW + 30 * SECOND
        again = decide(v0, [failed], known=deployment(v0), now_ns=NOW + 30 * SECOND)
        assert [(r.deployment_id, r.previous) for r in again.place] == [("d", failed)]

    def test_a_failed_alloc_without_further_attempts_fails_it_at_once(self) -> None:
        never = ReschedulePolicy(attempts=0, unlimited=False)
        v0 = versioned(1, 0)
        v0 = replace(v0, task_groups=(replace(v0.task_groups[0], reschedule_policy=never),))
        failed = alloc(0, of=v0, deployment_id="d", status=ClientStatus.FAILED)
        needed = decide(v0, [failed], known=deployment(v0))
        assert only(needed).status is DeploymentStatus.FAILED
        assert "no further attempt" in only(needed).status_description

    def test_a_next_attempt_after_the_deadline_fails_it_at_once(self) -> None:
        slow = ReschedulePolicy(delay=Nanoseconds(3600 * SECOND), delay_function="constant")
        v0 = versioned(1, 0)
        v0 = replace(v0, task_groups=(replace(v0.task_groups[0], reschedule_policy=slow),))
        failed = alloc(0, of=v0, deployment_id="d", status=ClientStatus.FAILED, reported_ns=NOW)
        assert "after progress_deadline" in only(decide(v0, [failed], known=deployment(v0))).status_description

    def test_an_operators_word_counts_where_health_is_manual(self) -> None:
        v0 = versioned(1, 0, health_check="manual")
        said = alloc(0, of=v0, deployment_id="d", health=True)
        assert only(decide(v0, [said], known=deployment(v0))).status is DeploymentStatus.SUCCESSFUL
        refused = alloc(0, of=v0, deployment_id="d", health=False)
        assert only(decide(v0, [refused], known=deployment(v0))).status is DeploymentStatus.FAILED


class TestReverting:
    def sick(self, *, auto_revert: bool, stable: frozenset[int]) -> Reconciled:
        v0, v1 = versioned(1, 0, auto_revert=auto_revert), versioned(1, 1, auto_revert=auto_revert)
        return decide(
            v1, [told(alloc(0, of=v1, deployment_id="d"), False)], known=deployment(v1), old=[v0], stable=stable
        )

    def test_it_goes_back_to_the_last_stable_version(self) -> None:
        needed = self.sick(auto_revert=True, stable=frozenset({0}))
        assert needed.revert_to == 0
        assert "rolling back to job version 0" in only(needed).status_description

    def test_without_a_stable_version_it_says_so_and_stays(self) -> None:
        needed = self.sick(auto_revert=True, stable=frozenset())
        assert needed.revert_to is None
        assert "no stable job version to auto revert to" in only(needed).status_description

    def test_without_auto_revert_it_stays(self) -> None:
        needed = self.sick(auto_revert=False, stable=frozenset({0}))
        assert (needed.revert_to, only(needed).status) == (None, DeploymentStatus.FAILED)

    def test_the_same_specification_is_not_gone_back_to(self) -> None:
        v0 = versioned(1, 0, auto_revert=True)
        again = replace(v0, version=1)
        needed = decide(
            again, [told(alloc(0, of=again, deployment_id="d"), False)], known=deployment(again), old=[v0], stable=frozenset({0})
        )
        assert needed.revert_to is None
        assert "same specification" in only(needed).status_description

    def test_after_a_failure_empty_places_are_filled_with_the_stable_version(self) -> None:
        v0, v1 = versioned(2, 0), versioned(2, 1)
        failed = replace(deployment(v1), status=DeploymentStatus.FAILED)
        needed = decide(v1, [healthy(1, v0, deployment_id="")], known=failed, old=[v0], stable=frozenset({0}))
        assert places(needed) == [("j.g[0]", 0, False, False)]


class TestCanaries:
    OLD, NEW = versioned(3, 0, canary=1), versioned(3, 1, canary=1)

    def old(self) -> list[Alloc]:
        return [healthy(i, self.OLD, deployment_id="") for i in range(3)]

    def canary(self, healthy: bool | None = True, **more: Any) -> Alloc:
        return told(alloc(0, of=self.NEW, deployment_id="d", canary=True, **more), healthy)

    def waiting(self, **more: Any) -> Deployment:
        return deployment(self.NEW, desired_canaries=1, **more)

    def test_they_come_beside_what_runs(self) -> None:
        needed = decide(self.NEW, self.old(), old=[self.OLD])
        assert places(needed) == [("j.g[0]", 1, False, True)]
        assert only(needed).task_groups["g"].desired_canaries == 1
        assert only(needed).status_description == rollout.NEEDS_PROMOTION

    def test_a_first_version_has_none(self) -> None:
        assert places(decide(self.OLD)) == [(f"j.g[{i}]", 0, False, False) for i in range(3)]

    def test_nothing_else_is_replaced_until_they_are_promoted(self) -> None:
        needed = decide(self.NEW, [*self.old(), self.canary()], known=self.waiting(), old=[self.OLD])
        assert (needed.place, needed.change) == ((), ())
        assert only(needed).task_groups["g"].placed_canaries

    def test_healthy_ones_that_wait_for_an_operator_are_not_late(self) -> None:
        late = NOW + 10_000 * SECOND
        needed = decide(self.NEW, [*self.old(), self.canary()], known=self.waiting(), old=[self.OLD], now_ns=late)
        assert only(needed).status is DeploymentStatus.RUNNING

    def test_what_fails_meanwhile_is_placed_as_it_was(self) -> None:
        have = [*self.old()[:2], self.canary()]
        needed = decide(self.NEW, have, known=self.waiting(), old=[self.OLD])
        assert places(needed) == [("j.g[2]", 0, False, False)]
        assert [r.deployment_id for r in needed.place] == [""]

    def test_promoted_they_take_the_places_and_the_rest_rolls(self) -> None:
        old, canary = self.old(), self.canary()
        needed = decide(self.NEW, [*old, canary], known=self.waiting(promoted=True), old=[self.OLD])
        changes = {d.id: d for d in needed.change}
        assert changes[canary.id].canary is False
        assert changes[old[0].id].desired_status is DesiredStatus.STOP
        assert places(needed) == [("j.g[1]", 1, True, False)]

    def test_auto_promote_does_it_when_all_are_healthy(self) -> None:
        waits = decide(self.NEW, [*self.old(), self.canary(None)], known=self.waiting(auto_promote=True), old=[self.OLD])
        assert not only(waits).task_groups["g"].promoted
        needed = decide(self.NEW, [*self.old(), self.canary()], known=self.waiting(auto_promote=True), old=[self.OLD])
        assert only(needed).task_groups["g"].promoted

    def test_of_a_deployment_that_ended_they_are_stopped(self) -> None:
        canary = self.canary()
        failed = replace(self.waiting(), status=DeploymentStatus.FAILED)
        needed = decide(self.NEW, [*self.old(), canary], known=failed, old=[self.OLD])
        assert [(d.id, d.desired_description) for d in needed.change] == [(canary.id, CANARY_OVER)]
        assert not needed.place

    def test_a_failed_one_is_tried_again_by_the_reschedule_policy(self) -> None:
        failed = told(
            alloc(0, of=self.NEW, deployment_id="d", canary=True, status=ClientStatus.FAILED, reported_ns=NOW), None
        )
        have = [*self.old(), failed]
        assert not decide(self.NEW, have, known=self.waiting(), old=[self.OLD]).place
        needed = decide(self.NEW, have, known=self.waiting(), old=[self.OLD], now_ns=NOW + 30 * SECOND)
        assert places(needed) == [("j.g[0]", 1, False, True)]
        request: PlaceRequest = needed.place[0]
        assert request.previous == failed
