"""When does a deployment begin, get on, succeed or fail?

    begin ──> running ──every place at the version and healthy──> successful (the version is stable)
                 │ ^
           pause v │ resume        canaries wait for promotion before anything else is replaced
              paused
                 └──unhealthy and not tried again | no progress in time──> failed (──auto_revert──> the last stable version)
    a newer version, a stopped job ──> cancelled

Words and rules are Nomad's, but that it fails as soon as nothing can get on any more, and says which limit it was.
What is replaced when is counted.py's.
"""

from collections.abc import Iterable, Sequence

import msgspec

from leader.decide.counted import Places, failed_at_ns, replaced
from leader.decide.draft import Draft, Facts, health, is_healthy
from leader.decide.reschedule import next_attempt
from model.alloc import Alloc, ClientStatus, DesiredAlloc
from model.deployment import Deployment, DeploymentId, DeploymentStatus, GroupDeployment
from model.job import Job, JobType, TaskGroup, UpdateStrategy, spec_of

NEWER = "Cancelled due to newer version of job"
STOPPED = "Cancelled because job is stopped"
RUNNING = "Deployment is running"
NEEDS_PROMOTION = "Deployment is running but requires manual promotion"
WILL_PROMOTE = "Deployment is running pending automatic promotion"
SUCCESSFUL = "Deployment completed successfully"
UNHEALTHY = "Failed due to unhealthy allocations"
GIVEN_UP = "Deployment marked as failed"
NO_PROGRESS = "Failed due to progress deadline"


def cancelled(deployment: Deployment, why: str, now_ns: int) -> Deployment:
    return msgspec.structs.replace(
        deployment, status=DeploymentStatus.CANCELLED, status_description=why, modify_time=now_ns
    )


def begin(facts: Facts, groups: Sequence[Places]) -> Deployment | None:
    """The deployment of the current version, if there is something to roll out and none began yet."""
    job = facts.job
    is_new = not any(alloc.desired.job_version == job.version for places in groups for alloc in places.allocs)
    states = {
        places.group.name: _state(places, places.group.update, facts.now_ns)
        for places in groups
        if places.group.update is not None and places.group.update.max_parallel > 0
    }
    changes = any(
        places.group.name in states
        and (places.group.count > 0 if is_new else any(a.desired.job_version != job.version for a in places.best.values()))
        for places in groups
    )
    if job.type is not JobType.SERVICE or not changes or not facts.new_deployment_id:
        return None
    deployment = Deployment(
        id=DeploymentId(facts.new_deployment_id),
        namespace=job.namespace,
        job_id=job.id,
        job_version=job.version,
        task_groups=states,
        create_time=facts.now_ns,
        modify_time=facts.now_ns,
    )
    return msgspec.structs.replace(deployment, status_description=running_text(deployment))


def _state(places: Places, update: UpdateStrategy, now_ns: int) -> GroupDeployment:
    has_canaries = bool(places.outdated) and update.canary > 0 and update.on_change != "new_only"
    return GroupDeployment(
        auto_revert=update.auto_revert,
        auto_promote=update.auto_promote,
        progress_deadline=update.progress_deadline,
        require_progress_by=now_ns + update.progress_deadline if update.progress_deadline else 0,
        desired_canaries=update.canary if has_canaries else 0,
        desired_total=places.group.count,
    )


def advance(facts: Facts, deployment: Deployment, groups: Sequence[Places], draft: Draft) -> Deployment:
    """The deployment as the allocs show it now; itself when nothing changed."""
    if not deployment.is_active:
        return deployment
    by_name = {places.group.name: places for places in groups}
    states = {
        name: _counted(facts, state, by_name[name], deployment.id) if name in by_name else state
        for name, state in deployment.task_groups.items()
    }
    now = msgspec.structs.replace(deployment, task_groups=states)
    now = msgspec.structs.replace(now, task_groups=_promoted(facts, now, by_name))
    if deployment.status is DeploymentStatus.RUNNING or deployment.is_given_up:
        now = _judged(facts, now, by_name, draft)
    if now == deployment:
        return deployment
    return msgspec.structs.replace(now, modify_time=facts.now_ns)


def with_placed(deployment: Deployment, placed: Iterable[DesiredAlloc]) -> Deployment:
    """With these allocs counted in, if they are of it."""
    states = dict(deployment.task_groups)
    for alloc in placed:
        state = states.get(alloc.task_group)
        if state is not None and alloc.deployment_id == deployment.id:
            canaries = (*state.placed_canaries, alloc.id) if alloc.canary else state.placed_canaries
            states[alloc.task_group] = msgspec.structs.replace(
                state, placed_allocs=state.placed_allocs + 1, placed_canaries=canaries
            )
    return msgspec.structs.replace(deployment, task_groups=states)


def _counted(facts: Facts, state: GroupDeployment, places: Places, deployment_id: str) -> GroupDeployment:
    of_it = [alloc for alloc in places.allocs if alloc.desired.deployment_id == deployment_id]
    healthy = sum(is_healthy(alloc, facts.job, places.group) for alloc in of_it if alloc.is_live)
    has_progressed = healthy > state.healthy_allocs and state.progress_deadline > 0
    return msgspec.structs.replace(
        state,
        desired_total=places.group.count,
        placed_canaries=tuple(sorted(alloc.id for alloc in places.canaries.values())) or state.placed_canaries,
        placed_allocs=max(state.placed_allocs, len(of_it)),
        healthy_allocs=healthy,
        unhealthy_allocs=sum(_is_unhealthy(alloc, facts, places.group) for alloc in of_it),
        require_progress_by=facts.now_ns + state.progress_deadline if has_progressed else state.require_progress_by,
    )


def _is_unhealthy(alloc: Alloc, facts: Facts, group: TaskGroup) -> bool:
    is_failed = alloc.client_status is ClientStatus.FAILED
    return is_failed or (not alloc.is_terminal and health(alloc, facts.job, group) is False)


def _promoted(facts: Facts, deployment: Deployment, by_name: dict[str, Places]) -> dict[str, GroupDeployment]:
    """With auto_promote, once the canaries of every group are healthy."""
    states = dict(deployment.task_groups)
    waiting = {name: state for name, state in states.items() if state.needs_promotion and name in by_name}
    if not waiting or not all(
        state.auto_promote and are_canaries_healthy(facts, state, by_name[name]) for name, state in waiting.items()
    ):
        return states
    if deployment.status is not DeploymentStatus.RUNNING:
        return states
    return {**states, **{name: promoted(state, facts.now_ns) for name, state in waiting.items()}}


def promoted(state: GroupDeployment, now_ns: int) -> GroupDeployment:
    by = now_ns + state.progress_deadline if state.progress_deadline else 0
    return msgspec.structs.replace(state, promoted=True, require_progress_by=by)


def are_canaries_healthy(facts: Facts, state: GroupDeployment, places: Places) -> bool:
    healthy = sum(is_healthy(alloc, facts.job, places.group) for alloc in places.canaries.values())
    # No more of them can be placed than there are places whose allocs are outdated.
    return healthy >= min(state.desired_canaries, len(places.outdated.keys() | places.canaries))


def can_promote(
    job: Job, group: TaskGroup, state: GroupDeployment, allocs: Iterable[Alloc], deployment_id: DeploymentId
) -> bool:
    """Whether as many canaries are healthy as were wanted and could be placed."""
    canaries = [
        alloc
        for alloc in allocs
        if alloc.is_live
        and alloc.desired.canary
        and alloc.desired.task_group == group.name
        and alloc.desired.deployment_id == deployment_id
    ]
    healthy = sum(is_healthy(alloc, job, group) for alloc in canaries)
    return healthy > 0 and healthy >= min(state.desired_canaries, max(len(canaries), group.count))


def _judged(facts: Facts, deployment: Deployment, by_name: dict[str, Places], draft: Draft) -> Deployment:
    states = {name: state for name, state in deployment.task_groups.items() if name in by_name}
    if deployment.is_given_up:
        states_of = list(deployment.task_groups.values())
        reverts = next((state for state in states_of if state.auto_revert), states_of[0])
        return _failed(facts, deployment, reverts, (GIVEN_UP, ""), draft)
    if all(_is_complete(facts, state, by_name[name]) for name, state in states.items()):
        draft.is_stable = True
        return msgspec.structs.replace(
            deployment, status=DeploymentStatus.SUCCESSFUL, status_description=SUCCESSFUL
        )
    for name, state in states.items():
        places = by_name[name]
        if _is_complete(facts, state, places):
            continue
        failure = _hopeless(facts, state, places, deployment.id) or _late(facts, state, places, draft)
        if failure is not None:
            return _failed(facts, deployment, state, failure, draft)
    return msgspec.structs.replace(deployment, status_description=running_text(deployment))


def _is_complete(facts: Facts, state: GroupDeployment, places: Places) -> bool:
    update = places.group.update
    keeps_old = update is not None and update.on_change == "new_only"
    is_current = keeps_old or not places.outdated
    settled = all(
        places.is_settled(index, facts.job) for index in range(places.group.count) if index not in places.outdated
    )
    return not state.needs_promotion and is_current and settled and not places.standins


def _hopeless(facts: Facts, state: GroupDeployment, places: Places, deployment_id: str) -> tuple[str, str] | None:
    """What failed and will not be tried again in time, as (Nomad's words, the limit)."""
    group, followed = places.group, replaced(places.allocs)
    for alloc in sorted(places.allocs, key=lambda a: (a.create_index, a.id)):
        if alloc.desired.deployment_id != deployment_id or alloc.id in followed or alloc.desired.is_stopping:
            continue
        name = alloc.desired.name
        if alloc.client_status is not ClientStatus.FAILED:
            if _is_unhealthy(alloc, facts, group):
                return UNHEALTHY, f"{name} did not become healthy within healthy_deadline"
            continue
        policy = group.reschedule_policy
        attempt = next_attempt(alloc, policy, failed_at_ns(alloc)) if policy is not None else None
        if attempt is None:
            return UNHEALTHY, f"{name} failed, and reschedule gives it no further attempt"
        if not state.progress_deadline:
            return UNHEALTHY, f"{name} failed, and progress_deadline is 0"
        if state.require_progress_by and attempt[0] >= state.require_progress_by:
            return UNHEALTHY, f"{name} failed, and its next attempt would be after progress_deadline"
    return None


def _late(facts: Facts, state: GroupDeployment, places: Places, draft: Draft) -> tuple[str, str] | None:
    """No progress in time; healthy canaries that wait for an operator are not late."""
    by_ns = state.require_progress_by
    if not by_ns or (state.needs_promotion and are_canaries_healthy(facts, state, places)):
        return None
    if facts.now_ns < by_ns:
        draft.wake(by_ns)
        return None
    return NO_PROGRESS, f"nothing of group {places.group.name} became healthy within progress_deadline"


def _failed(
    facts: Facts, deployment: Deployment, state: GroupDeployment, failure: tuple[str, str], draft: Draft
) -> Deployment:
    words, limit = failure
    if state.auto_revert:
        words += _revert(facts, draft)
    text = f"{words} ({limit})" if limit else words
    return msgspec.structs.replace(deployment, status=DeploymentStatus.FAILED, status_description=text)


def _revert(facts: Facts, draft: Draft) -> str:
    """Nomad's words on where it goes back to."""
    stable = max((v for v in facts.stable if v < facts.job.version and v in facts.versions), default=None)
    if stable is None:
        return " - no stable job version to auto revert to"
    if spec_of(facts.versions[stable]) == spec_of(facts.job):
        return f" - not rolling back to stable job version {stable} as current job has same specification"
    draft.revert_to = stable
    return f" - rolling back to job version {stable}"


def running_text(deployment: Deployment) -> str:
    waiting = [state for state in deployment.task_groups.values() if state.needs_promotion]
    if not waiting:
        return RUNNING
    return WILL_PROMOTE if all(state.auto_promote for state in waiting) else NEEDS_PROMOTION
