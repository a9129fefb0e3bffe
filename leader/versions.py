"""What may an operator do with a job's versions: go back, call one stable, change a count?

Each makes at most one new version; all are errands among the decisions (errands.py), so that a deployment which
ends at the same moment is not written over.
"""

from collections.abc import Callable, Mapping

import msgspec

from leader import scheduling
from leader.commands import EnforceIndexError, Registered
from leader.deciding import new_evaluation
from leader.errands import Written
from leader.leading import Leading
from model.cluster import JobRecord, ScalingEvent
from model.errors import DroverError
from model.evaluation import Evaluation
from model.job import COUNT_MAX, Job, JobId, Namespace
from model.snapshot import JobKey
from model.wire import encode

# Versions that are remembered as good: as many as Nomad keeps of a job's history.
STABLE_MAX = 6
# Scaling events of a group: as many as Nomad keeps. And of all groups of a job: its record is written with each.
SCALING_EVENTS_MAX = 20
_SCALING_BYTES_MAX = 64 * 1024


class UnknownJob(DroverError):
    """There is no such job, or none of that version. The words are Nomad's."""


class VersionRefused(DroverError):
    """It cannot be done to this job as it is. The words are Nomad's."""


class ScalingRefused(DroverError):
    """A wrong count, group or moment; Nomad answers these with 400."""


async def revert(
    leading: Leading, namespace: Namespace, job_id: JobId, version: int, *, prior_version: int | None = None
) -> Registered:
    """Submits an older version again, as a new one. prior_version: only if that is the current one."""
    key: JobKey = (namespace, job_id)

    def change(current: Job) -> Job:
        if prior_version is not None and current.version != prior_version:
            raise EnforceIndexError(
                f"Current job has version {current.version}; need {prior_version}: enforcing prior version failed"
            )
        if version == current.version:
            raise VersionRefused("can't revert to current version")
        older = leading.view.versions.get((key, version))
        if older is None:
            raise UnknownJob(f'job "{job_id}" in namespace "{namespace}" at version {version} not found')
        begins = current.stop and any(group.completion for group in older.task_groups)
        restarted_at = leading.fenced.now_ns if begins else older.restarted_at
        return msgspec.structs.replace(older, stop=False, orphans="", restarted_at=restarted_at)

    return await _new_version(leading, key, "job-register", change)


async def scale(
    leading: Leading, namespace: Namespace, job_id: JobId, group_name: str, count: int, said: ScalingEvent
) -> Registered:
    """Changes a group's count, and remembers it with what was `said` about it. Within the group's scaling bounds; not
    while a deployment is under way, as with Nomad."""
    scheduling.check_registration(leading)
    key: JobKey = (namespace, job_id)

    def change(current: Job) -> Job:
        group = current.group(group_name)
        if group is None:
            raise ScalingRefused(f'task group "{group_name}" specified for scaling does not exist in job')
        if current.is_system:
            raise ScalingRefused(f'400: cannot scale jobs of type "{current.type.value}"')
        low, high = (group.scaling or {}).get("Min"), (group.scaling or {}).get("Max")
        if count < 0:
            raise ScalingRefused("scaling action count can't be negative")
        if low is not None and count < low:
            raise ScalingRefused(f"group count was less than scaling policy minimum: {count} < {low}")
        if high is not None and count > high:
            raise ScalingRefused(f"group count was greater than scaling policy maximum: {count} > {high}")
        deployment = leading.view.latest_deployment(key)
        if deployment is not None and deployment.is_active:
            raise ScalingRefused("job scaling blocked due to active deployment")
        if count == group.count:
            return current
        others = sum(max(g.count, g.places) for g in current.task_groups if g is not group)
        if (wanted := others + max(count, group.places if group.completion else 0)) > COUNT_MAX:
            raise ScalingRefused(f"asks for {wanted} instances in all (at most {COUNT_MAX})")
        groups = (msgspec.structs.replace(g, count=count) if g.name == group_name else g for g in current.task_groups)
        return msgspec.structs.replace(current, task_groups=tuple(groups))

    def noted(current: Job, evaluation: Evaluation) -> Mapping[str, object]:
        event = msgspec.structs.replace(said, count=count, eval_id=evaluation.id)
        return _with_event(leading, key, current, group_name, event)

    return await _new_version(leading, key, "job-scaling", change, noted)


async def note_scaling(
    leading: Leading, namespace: Namespace, job_id: JobId, group_name: str, said: ScalingEvent
) -> int:
    """Remembers what an autoscaler said about a group that it left as it is. Returns Consul's index."""
    key: JobKey = (namespace, job_id)

    def work() -> list[Written]:
        current = _current(leading, key)
        if current.group(group_name) is None:
            raise ScalingRefused(f'task group "{group_name}" specified for scaling does not exist in job')
        record: JobRecord = leading.view.records[key].document
        if any(event.time == said.time for event in record.scaling_events.get(group_name, ())):
            return []  # it is done, though the answer was lost
        return [_record(leading, record, **_with_event(leading, key, current, group_name, said))]

    await leading.deciding.errand(key, work)
    return leading.view.records[key].modify_index


def _with_event(
    leading: Leading, key: JobKey, current: Job, group_name: str, event: ScalingEvent
) -> Mapping[str, object]:
    """The record's changes: the group's newest events, and of all groups no more than the record may hold."""
    group = current.group(group_name)
    event = msgspec.structs.replace(event, previous_count=group.count if group else 0)
    known: JobRecord = leading.view.records[key].document
    events = {name: of_group for name, of_group in known.scaling_events.items() if current.group(name) is not None}
    events[group_name] = (event, *events.get(group_name, ()))[:SCALING_EVENTS_MAX]
    while len(encode(events)) > _SCALING_BYTES_MAX:
        oldest = min((name for name in events if events[name]), key=lambda name: events[name][-1].time)
        events[oldest] = events[oldest][:-1]
    return {"scaling_events": events}


async def restart(leading: Leading, namespace: Namespace, job_id: JobId) -> Registered:
    """Replaces every alloc of an unchanged job in the rolling manner: the same again as a new version, which what
    runs does not count as."""
    now_ns = leading.fenced.now_ns

    def change(current: Job) -> Job:
        if current.stop:
            raise VersionRefused(f'job "{job_id}" is stopped')
        return msgspec.structs.replace(current, restarted_at=now_ns)

    return await _new_version(leading, (namespace, job_id), "job-restart", change)


async def set_stable(leading: Leading, namespace: Namespace, job_id: JobId, version: int, *, is_stable: bool) -> int:
    """Whether a version is one to go back to. Returns Consul's index."""
    key: JobKey = (namespace, job_id)

    def work() -> list[Written]:
        _current(leading, key)
        if (key, version) not in leading.view.versions:
            raise UnknownJob(f'job "{job_id}" in namespace "{namespace}" at version {version} not found')
        record: JobRecord = leading.view.records[key].document
        if (version in record.stable) == is_stable:
            return []
        others = tuple(v for v in record.stable if v != version)
        stable = tuple(sorted((*others, version)))[-STABLE_MAX:] if is_stable else others
        return [_record(leading, record, stable=stable)]

    await leading.deciding.errand(key, work)
    return leading.view.records[key].modify_index


async def _new_version(
    leading: Leading,
    key: JobKey,
    triggered_by: str,
    change: Callable[[Job], Job],
    noted: Callable[[Job, Evaluation], Mapping[str, object]] = lambda *_: {},
) -> Registered:
    """An unchanged job only gets an evaluation. noted: what else changes of the job's record."""
    view = leading.view
    evaluation: Evaluation | None = None

    def work() -> list[Written]:
        nonlocal evaluation
        if evaluation is not None and evaluation.id in view.evals:
            return []  # it is done, though the answer was lost
        current = _current(leading, key)
        job = change(current)
        written: list[Written] = []
        if job is not current:
            newest = max(view.version_numbers(key))
            job = msgspec.structs.replace(
                job, version=newest + 1, submit_time=leading.fenced.now_ns, stable=False
            )
            written.append(job)
        evaluation = new_evaluation(leading.fenced, job, triggered_by)
        changes = {**noted(current, evaluation), **({} if job is current else {"version": job.version})}
        if changes:
            written.append(_record(leading, view.records[key].document, **changes))
        return [*written, evaluation]

    await leading.deciding.errand(key, work)
    if evaluation is None:
        raise UnknownJob("job not found")
    current = _current(leading, key)
    indexed = view.version_indexes[key, current.version]
    return Registered(evaluation, view.evals[evaluation.id].create_index, indexed.modify_index)


def _current(leading: Leading, key: JobKey) -> Job:
    job = leading.view.jobs.get(key)
    if job is None:
        raise UnknownJob("job not found")
    return job


def _record(leading: Leading, record: JobRecord, **changes: object) -> JobRecord:
    stamp: Mapping[str, object] = {"modify_time": leading.fenced.now_ns, "epoch": leading.fenced.epoch}
    return msgspec.structs.replace(record, **stamp, **changes)
