"""Must what runs be replaced to become what a new version asks for, or can it be told where it runs?

In place, as in Nomad: counts, policies, constraints, services and their checks, and how a task ends and logs.
What a process or container was made from needs a new one, and so does what decides where it should be
(affinities, spreads, datacenters).
"""

from collections.abc import Mapping

import msgspec

from model.alloc import Alloc
from model.job import Completion, Job, LogConfig, RestartPolicy, Task, TaskGroup
from model.wire import Nanoseconds

_NONE = Nanoseconds(0)


def needs_replacing(old_job: Job, old: TaskGroup, job: Job, new: TaskGroup) -> bool:
    """Whether running tasks must be replaced to become `new`."""
    return (
        (old_job.datacenters, old_job.meta, old_job.restarted_at) != (job.datacenters, job.meta, job.restarted_at)
        or (old_job.affinities, old_job.spreads) != (job.affinities, job.spreads)
        or _running_part(old) != _running_part(new)
    )


def runs_current(alloc: Alloc, job: Job, group: TaskGroup, versions: Mapping[int, Job]) -> bool:
    """Whether the alloc runs what the job's current version asks for, whatever version it names."""
    if alloc.desired.job_version == job.version:
        return True
    old_job = versions.get(alloc.desired.job_version)
    old = old_job.group(group.name) if old_job else None
    return old is not None and old_job is not None and not needs_replacing(old_job, old, job, group)


def versions_alike(job: Job, group: TaskGroup, versions: Mapping[int, Job]) -> frozenset[int]:
    """Of `versions` and the current one, those whose allocs run what the current one asks for."""
    alike = (
        version
        for version, old_job in versions.items()
        if (old := old_job.group(group.name)) is not None and not needs_replacing(old_job, old, job, group)
    )
    return frozenset((job.version, *alike))


def _running_part(group: TaskGroup) -> TaskGroup:
    return msgspec.structs.replace(
        group,
        count=0,
        update=None,
        migrate=None,
        restart_policy=RestartPolicy(),
        reschedule_policy=None,
        scaling=None,
        disconnect=None,
        max_client_disconnect=None,
        stop_after_client_disconnect=None,
        shutdown_delay=_NONE,
        constraints=(),
        services=(),
        completion=None if group.completion is None else Completion(indexed=group.completion.indexed),
        tasks=tuple(_running_task(task) for task in group.tasks),
    )


def _running_task(task: Task) -> Task:
    return msgspec.structs.replace(
        task,
        constraints=(),
        scaling_policies=(),
        services=(),
        restart_policy=RestartPolicy(),
        leader=False,
        kill_timeout=_NONE,
        kill_signal="",
        shutdown_delay=_NONE,
        log_config=LogConfig(),
    )
