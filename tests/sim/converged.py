"""When is a healed cluster as its users want it? Says what is still missing or too much."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from catalog.keys import Keys, is_sentinel
from catalog.kv import unpack
from leader.decide.changes import versions_alike
from model.alloc import Alloc, ClientStatus, DesiredAlloc, ObservedAlloc, Verdict
from model.deployment import DeploymentStatus
from model.evaluation import EvalStatus, Evaluation
from model.job import Job, TaskGroup
from model.node import NodeStatus
from model.wire import decode

if TYPE_CHECKING:
    from tests.sim.world import World


def pending(world: "World") -> list[str]:
    """What keeps the cluster from being as wanted, in words; empty when nothing does."""
    return list(_pending(world))[:8]


def _pending(world: "World") -> Iterator[str]:
    if world.leader is None:
        yield "nobody leads"
    checkers = world.checkers
    for machine in world.machines:
        if machine.process is None:
            yield f"{machine.name} runs no drover"
        elif machine.process.is_dead:
            yield f"{machine.process.name} has not ended"
        control = checkers.controls.get(machine.node_id)
        if control is None or control.status is not NodeStatus.READY:
            yield f"{machine.name} is {control.status if control else 'unknown'}"
    for (namespace, job_id), record in sorted(checkers.records.items()):
        yield from _job(world, checkers.versions[namespace, job_id, record.version])
    yield from _allocs(world)
    yield from _keys(world)
    yield from _services(world)


def _job(world: "World", job: Job) -> Iterator[str]:
    deployment = world.checkers.newest_deployment(job.namespace, job.id)
    if deployment is not None and deployment.is_active:
        yield f"{job.id}'s deployment is {deployment.status}"
    # What did not prove itself in the storm goes no further.
    has_failed = deployment is not None and deployment.status is DeploymentStatus.FAILED and deployment.job_version == job.version
    for group in job.task_groups:
        allocs = [
            Alloc(desired=d, observed=world.checkers.observed.get(d.id))
            for d in world.checkers.desired.values()
            if (d.namespace, d.job_id, d.task_group) == (job.namespace, job.id, group.name)
        ]
        live = [alloc for alloc in allocs if alloc.is_live]
        for alloc in live:
            if alloc.desired.job_version != job.version and not has_failed:
                yield f"{job.id} {alloc.id[:8]} is at v{alloc.desired.job_version}, not v{job.version}"
        if job.is_system:
            yield from _system(world, job, group, allocs)
            continue
        if group.completion is not None:
            yield from _completing(world, job, group, allocs)
            continue
        count_wanted = 0 if job.stop or job.is_parent else group.count
        for index in range(count_wanted):
            here = [alloc for alloc in allocs if alloc.desired.index == index]
            if job.is_batch and any(_is_done(alloc) for alloc in here):
                continue
            count = sum(alloc.is_live for alloc in here)
            if count != 1:
                yield f"{job.id}.{group.name}[{index}] has {count} allocs"
        surplus = [alloc for alloc in live if alloc.desired.index >= count_wanted]
        for alloc in surplus:
            yield f"{job.id} {alloc.id[:8]} is too many"


def _completing(world: "World", job: Job, group: TaskGroup, allocs: list[Alloc]) -> Iterator[str]:
    """Every place has succeeded once, unless it is held up by its own count."""
    live = [alloc for alloc in allocs if alloc.is_live]
    if live:
        yield f"{job.id}.{group.name} has {len(live)} allocs left"
    if job.stop or not group.count:
        return
    versions = {v: one for (n, j, v), one in world.checkers.versions.items() if (n, j) == (job.namespace, job.id)}
    alike = versions_alike(job, group, versions)
    for index in range(group.places):
        done = [a for a in allocs if a.desired.index == index and a.desired.job_version in alike and _is_done(a)]
        if len([a for a in done if a.id not in world.checkers.ever_lost]) > 1 or not done:
            yield f"{job.id}.{group.name}[{index}] has succeeded {len(done)} times"


def _is_done(alloc: Alloc) -> bool:
    return alloc.client_status is ClientStatus.COMPLETE and not alloc.desired.is_stopping


def _system(world: "World", job: Job, group: TaskGroup, allocs: list[Alloc]) -> Iterator[str]:
    for machine in world.machines:
        here = [alloc for alloc in allocs if alloc.desired.node_id == machine.node_id]
        has_failed = any(
            a.client_status is ClientStatus.FAILED and not a.desired.is_stopping and a.desired.job_version == job.version
            for a in here
        )
        count = sum(alloc.is_live for alloc in here)
        if count != (0 if job.stop else 1) and not (count == 0 and has_failed):
            yield f"{job.id}.{group.name} has {count} allocs on {machine.name}"


def _allocs(world: "World") -> Iterator[str]:
    checkers = world.checkers
    for desired in checkers.desired.values():
        observed = checkers.observed.get(desired.id)
        alloc = Alloc(desired=desired, observed=observed)
        names = set(checkers.live.get(desired.id, {}))
        who = f"{desired.name} {desired.id[:8]}"
        if desired.verdict is not Verdict.NONE and not alloc.is_terminal:
            yield f"{who} is held {desired.verdict}"
        if desired.is_stopping and not alloc.is_terminal:
            yield f"{who} is stopping"
        if alloc.is_terminal and names:
            yield f"{who} is {alloc.client_status} and runs {sorted(names)}"
        if alloc.is_live and not _runs(world, desired, observed):
            yield f"{who} runs {sorted(names)} and is {observed.client_status if observed else 'unobserved'}"
        if (desired.namespace, desired.job_id) not in checkers.records:
            yield f"{who} belongs to no job"
    for alloc_id, things in checkers.live.items():
        if alloc_id not in checkers.desired:
            yield f"{alloc_id[:8]} runs {sorted(things)} and nothing desires it"
    for alloc_id in checkers.observed:
        if alloc_id not in checkers.desired:
            yield f"{alloc_id[:8]} is observed and nothing desires it"


def _runs(world: "World", desired: DesiredAlloc, observed: ObservedAlloc | None) -> bool:
    """Its long-running tasks run, and the report says so. A batch alloc is still on its way."""
    job = world.checkers.versions[desired.namespace, desired.job_id, desired.job_version]
    group = job.group(desired.task_group)
    if group is None or observed is None or observed.client_status is not ClientStatus.RUNNING:
        return False
    if job.is_batch:
        return False
    return world.checkers.live.get(desired.id, {}).keys() == {task.name for task in group.tasks}


def _keys(world: "World") -> Iterator[str]:
    keys, kv, checkers = Keys(), world.state.kv, world.checkers
    for pair in kv.under(keys.inboxes):
        if not is_sentinel(pair.key):
            yield f"{pair.key} is not empty"
    for pair in kv.under(keys.evals):
        evaluation = decode(unpack(pair.value or b""), Evaluation)
        if evaluation.status in (EvalStatus.PENDING, EvalStatus.BLOCKED):
            yield f"evaluation {evaluation.id[:8]} of {evaluation.job_id} is {evaluation.status}"
    for namespace, job_id, version in checkers.versions:
        if (namespace, job_id) not in checkers.records:
            yield f"version {version} of the purged {job_id} is still there"


def _services(world: "World") -> Iterator[str]:
    """The services of what runs are registered on its machine, and no others."""
    for machine in world.machines:
        ids = machine.consul.services if machine.consul is not None else {}
        registered = {name.removeprefix("_drover-task-")[:36] for name in ids if name.startswith("_drover-task-")}
        wanted = set()
        for thing in machine.engine.alive:
            alloc_id = thing.start.alloc_id
            desired = world.checkers.desired.get(alloc_id)
            version = (desired.namespace, desired.job_id, desired.job_version) if desired else None
            job = world.checkers.versions.get(version) if version else None
            group = job.group(desired.task_group) if job and desired else None
            if group is not None and group.services:
                wanted.add(alloc_id)
        if registered != wanted:
            yield f"{machine.name} publishes {sorted(i[:8] for i in registered)}, not {sorted(i[:8] for i in wanted)}"
