"""What may an operator say about a deployment?

Each is an errand: worked out in the job's turn among the decisions and in Consul before the answer is sent. What
follows from it (the next allocs, the way back) is decided afterwards, level-triggered.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from leader.commands import Registered
from leader.decide.rollout import can_promote, promoted, running_text
from leader.deciding import new_evaluation
from leader.errands import Written
from leader.leading import Leading
from model.alloc import AllocId
from model.deployment import Deployment, DeploymentId, DeploymentStatus, GroupDeployment
from model.errors import DroverError
from model.evaluation import Evaluation

PAUSED = "Deployment is paused"


class UnknownDeployment(DroverError):
    """No deployment has that id."""


class DeploymentRefused(DroverError):
    """It is not in a state for this. The words are Nomad's."""


async def promote(leading: Leading, deployment_id: DeploymentId, groups: Sequence[str] | None) -> Registered:
    """Says yes to the canaries of these groups, None for all. Raises UnknownDeployment, DeploymentRefused when
    canaries are not healthy yet."""

    def change(deployment: Deployment) -> Deployment:
        unknown = sorted(set(groups or ()) - deployment.task_groups.keys())
        if unknown:
            raise DeploymentRefused(f'task group "{unknown[0]}" is not part of the deployment')
        wanted = {
            name: state
            for name, state in deployment.task_groups.items()
            if state.needs_promotion and (groups is None or name in groups)
        }
        if not wanted:
            raise DeploymentRefused("no canaries to promote")
        _check_canaries(leading, deployment, wanted)
        now_ns = leading.fenced.now_ns
        states = {**deployment.task_groups, **{name: promoted(state, now_ns) for name, state in wanted.items()}}
        return _running(msgspec.structs.replace(deployment, task_groups=states))

    return await _say(leading, deployment_id, "promote", change)


async def pause(leading: Leading, deployment_id: DeploymentId, *, is_paused: bool) -> Registered:
    """Holds the rollout, or lets it go on: the time for which it was held is not counted against it."""

    def change(deployment: Deployment) -> Deployment:
        if is_paused:
            return msgspec.structs.replace(
                deployment, status=DeploymentStatus.PAUSED, status_description=PAUSED
            )
        states = {name: _anew(state, leading.fenced.now_ns) for name, state in deployment.task_groups.items()}
        return _running(msgspec.structs.replace(deployment, status=DeploymentStatus.RUNNING, task_groups=states))

    return await _say(leading, deployment_id, "pause" if is_paused else "resume", change)


async def fail(leading: Leading, deployment_id: DeploymentId) -> Registered:
    """Ends it as failed: with auto_revert the job goes back to its last stable version."""
    return await _say(
        leading, deployment_id, "fail", lambda deployment: msgspec.structs.replace(deployment, is_given_up=True)
    )


async def set_health(
    leading: Leading, deployment_id: DeploymentId, healthy: Iterable[AllocId], unhealthy: Iterable[AllocId]
) -> Registered:
    """An operator's word on allocs of the deployment, for `health_check = "manual"`."""
    said = {**dict.fromkeys(healthy, True), **dict.fromkeys(unhealthy, False)}

    def more(deployment: Deployment) -> list[Written]:
        known = leading.view.allocs_by_job.get((deployment.namespace, deployment.job_id), {})
        for alloc_id in said:
            if alloc_id not in known or known[alloc_id].desired.deployment_id != deployment_id:
                raise DeploymentRefused(f"allocation {alloc_id} is not part of the deployment")
        return [
            msgspec.structs.replace(
                known[alloc_id].desired, health=is_healthy, modify_time=leading.fenced.now_ns, epoch=leading.fenced.epoch
            )
            for alloc_id, is_healthy in said.items()
        ]

    return await _say(leading, deployment_id, "set health of allocations for a", lambda one: one, more)


async def _say(
    leading: Leading,
    deployment_id: DeploymentId,
    what: str,
    change: Callable[[Deployment], Deployment],
    more: Callable[[Deployment], Sequence[Written]] = lambda _: (),
) -> Registered:
    """With an evaluation, which clients follow. what: the verb in Nomad's refusal."""
    view = leading.view
    first = _active(leading, deployment_id, what)
    key = (first.namespace, first.job_id)
    evaluation: Evaluation | None = None

    def work() -> list[Written]:
        nonlocal evaluation
        if evaluation is not None and evaluation.id in view.evals:
            return []  # it is done, though the answer was lost
        deployment, job = _active(leading, deployment_id, what), view.jobs.get(key)
        if job is None:
            raise DeploymentRefused(f"can't {what} terminal deployment")
        evaluation = msgspec.structs.replace(
            new_evaluation(leading.fenced, job, "deployment-watcher"), deployment_id=deployment_id
        )
        changed = msgspec.structs.replace(
            change(deployment), modify_time=leading.fenced.now_ns, epoch=leading.fenced.epoch
        )
        return [changed, *more(deployment), evaluation]

    await leading.deciding.errand(key, work)
    if evaluation is None:
        raise DeploymentRefused(f"can't {what} terminal deployment")
    return Registered(evaluation, view.evals[evaluation.id].create_index, view.deployments[deployment_id].modify_index)


def _active(leading: Leading, deployment_id: DeploymentId, what: str) -> Deployment:
    indexed = leading.view.deployments.get(deployment_id)
    if indexed is None:
        raise UnknownDeployment("deployment not found")
    deployment: Deployment = indexed.document
    if not deployment.is_active:
        raise DeploymentRefused(f"can't {what} terminal deployment")
    return deployment


def _check_canaries(leading: Leading, deployment: Deployment, wanted: Mapping[str, GroupDeployment]) -> None:
    key = (deployment.namespace, deployment.job_id)
    job = leading.view.versions.get((key, deployment.job_version))
    for name, state in wanted.items():
        group = job.group(name) if job is not None else None
        allocs = leading.view.allocs_by_job.get(key, {}).values()
        if job is None or group is None or not can_promote(job, group, state, allocs, deployment.id):
            raise DeploymentRefused(
                f'Task group "{name}" has {state.healthy_allocs}/{state.desired_canaries} healthy allocations'
            )


def _anew(state: GroupDeployment, now_ns: int) -> GroupDeployment:
    if not state.progress_deadline:
        return state
    return msgspec.structs.replace(state, require_progress_by=now_ns + state.progress_deadline)


def _running(deployment: Deployment) -> Deployment:
    return msgspec.structs.replace(deployment, status_description=running_text(deployment))
