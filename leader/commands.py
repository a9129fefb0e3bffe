"""What may a user tell the leader to do?

Each command is one fenced transaction that is in Consul before the answer is sent: the job's version, its
record and the evaluation go together. What follows from it is decided afterwards, level-triggered.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from catalog.kv import TXN_BYTES_MAX, Entry, Op, delete, put, replace
from leader import namespaces, scheduling
from leader.deciding import new_evaluation
from leader.leading import Leading
from model.cluster import JobRecord, SchedulerConfiguration, Submission
from model.errors import DroverError, StoreRefused, StoreUnclear, WriteConflict
from model.evaluation import EvalStatus, Evaluation
from model.job import Job, JobId, JobStatus, JobType, Namespace, spec_of
from model.node import Eligibility, NodeControl, NodeId
from model.snapshot import JobKey, NodeView
from model.wire import encode

# What only drover gives a job, when it starts it as a child; and what others have.
_OF_CHILD: dict[str, Any] = {"parent_id": JobId(""), "dispatched": False, "dispatch_idempotency_token": "", "payload": None}


class EnforceIndexError(DroverError):
    """The job changed since the caller looked (`job run -check-index`). The words are Nomad's: clients match them."""


class UnknownNode(DroverError):
    """No node has that id."""


class StillLeaving(DroverError):
    """What `job stop -orphan` leaves running is not marked yet: forgetting the job now would end it."""


class BadMeta(DroverError):
    """Run-time metadata that no node can have."""


class NothingToEvaluate(DroverError):
    """The job has no allocs of its own. The words are Nomad's."""


# What a child's transaction may hold beside what its parent's version does: record, evaluation, `launches` with 50 lines of
# removed children; or a payload of 16 KiB and 64 KiB of metadata. In bytes of the encoded body.
_CHILD_BYTES = 128 * 1024
# What `${meta.…}` can name.
_META_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
# Of one node, keys and values: 24 control documents have to fit into one transaction (leader/lives.py).
_META_BYTES_MAX = 8 * 1024


@dataclass(frozen=True, slots=True)
class Registered:
    """eval_index and job_modify_index are Consul's; the API adds its base. evaluation None: nothing of the job is to be
    placed, only of its children."""

    evaluation: Evaluation | None
    eval_index: int
    job_modify_index: int

    @property
    def eval_id(self) -> str:
        return self.evaluation.id if self.evaluation is not None else ""


async def register(
    leading: Leading,
    job: Job,
    *,
    enforce_index: int | None = None,
    adopt: bool = False,
    keeps_counts: bool = False,
    submission: Submission | None = None,
) -> Registered:
    """Makes `job` the current version. An unchanged job keeps its version and only gets an evaluation.

    adopt: what `deregister` left running of a job of this id is taken over.
    keeps_counts: groups that the current version has too have its counts, whatever `job` says.
    submission: kept with the version, if both fit into one transaction.
    enforce_index: the JobModifyIndex (of the API) the caller saw, 0 for "must not exist", None for any.
    Raises EnforceIndexError, SessionLost, WriteConflict, StoreRefused (too large), StoreUnavailable.
    """
    key: JobKey = (job.namespace, job.id)
    async with leading.turn(key):
        try:
            return await _register(leading, key, job, enforce_index, adopt=adopt, keeps_counts=keeps_counts, submission=submission)
        except WriteConflict:
            # A deployment that ended just now changed the job's record.
            await leading.deciding.read_doubted()
            return await _register(leading, key, job, enforce_index, adopt=adopt, keeps_counts=keeps_counts, submission=submission)


async def deregister(
    leading: Leading, namespace: Namespace, job_id: JobId, *, purge: bool, orphan: bool = False
) -> Registered:
    """Stops the job, with orphan without what runs of it; with purge forgets it, its allocs as they end. A job that is
    not known gets an evaluation, as with Nomad: perhaps something of it runs. Raises StillLeaving."""
    async with leading.turn((namespace, job_id)):
        return await _deregister(leading, (namespace, job_id), purge=purge, orphan=orphan)


async def evaluate(leading: Leading, namespace: Namespace, job_id: JobId) -> Registered | None:
    """Decides about the job again. None if there is no such job."""
    async with leading.turn((namespace, job_id)):
        current = leading.view.jobs.get((namespace, job_id))
        if current is not None and current.is_parent:
            raise NothingToEvaluate(f"can't evaluate {'parameterized' if current.is_parameterized else 'periodic'} job")
        return await _evaluate(leading, current, "job-eval") if current else None


async def set_eligibility(leading: Leading, node_id: NodeId, eligibility: Eligibility) -> int:
    """Whether the node takes new work. Returns Consul's index. Raises as _set_control."""
    return await _set_control(
        leading, node_id, lambda node: msgspec.structs.replace(node.control, scheduling_eligibility=eligibility)
    )


async def set_meta(leading: Leading, node_id: NodeId, changes: Mapping[str, str | None]) -> int:
    """Sets the node's run-time meta; None: the key is not there, whatever the agent's configuration says. Other keys
    stay as they are. Returns Consul's index. Raises BadMeta, and as _set_control."""
    for key in changes:
        if not _META_KEY.fullmatch(key):
            raise BadMeta(f"metadata key {key!r} is no name (letters, digits, _ and -, parts joined by dots)")

    def changed(node: NodeView) -> NodeControl:
        merged = {**node.control.meta, **changes}
        kept = {key: value for key, value in merged.items() if value is not None or key in node.static_meta}
        if (size := sum(len(key.encode()) + len((value or "").encode()) for key, value in kept.items())) > _META_BYTES_MAX:
            raise BadMeta(f"the node's run-time metadata would have {size} bytes (limit {_META_BYTES_MAX})")
        return msgspec.structs.replace(node.control, meta=dict(sorted(kept.items())))

    return await _set_control(leading, node_id, changed)


async def _set_control(leading: Leading, node_id: NodeId, change: Callable[[NodeView], NodeControl]) -> int:
    """Raises UnknownNode; StoreUnclear when Consul gave no answer, and what is there could not be read or is not what
    was asked for. change: changing twice is as changing once."""
    try:
        return await _put_control(leading, node_id, change)
    except (StoreUnclear, WriteConflict) as error:
        await leading.deciding.read_doubted_nodes()
        known = leading.view.nodes.get(node_id)
        if isinstance(error, StoreUnclear) and known and change(known) != known.control:
            raise
    # It is done; or the node's life was written meanwhile, which is in the same document.
    return await _put_control(leading, node_id, change)


async def _put_control(leading: Leading, node_id: NodeId, change: Callable[[NodeView], NodeControl]) -> int:
    node = leading.view.nodes.get(node_id)
    if node is None:
        raise UnknownNode("node not found")
    changed = change(node)
    if node.control_index and changed == node.control:
        return node.control_index
    control: NodeControl = msgspec.structs.replace(changed, epoch=leading.fenced.epoch)
    key = leading.keys.control(node_id)
    ops = [replace(key, encode(control), node.control_index)]
    if control.meta != node.control.meta:
        # What the node's agent waits for: it reads its control document when this moves.
        ops.append(leading.store.sentinel(leading.keys.desired_of(node_id), leading.fenced.new_id()))
    try:
        written = await leading.fenced.commit(ops)
    except BaseException:
        leading.deciding.doubt_node(node_id)
        raise
    leading.view.put_control(control, written[key].modify_index)
    return written[key].modify_index


async def _register(
    leading: Leading,
    key: JobKey,
    job: Job,
    enforce_index: int | None,
    *,
    adopt: bool,
    keeps_counts: bool,
    submission: Submission | None,
) -> Registered:
    view = leading.view
    scheduling.check_registration(leading)
    namespaces.check(leading, job)
    job = admitted(job, view.scheduler.document)
    current = view.jobs.get(key)
    if enforce_index is not None:
        _enforce(leading, key, current, enforce_index)
    if keeps_counts and current is not None:
        job = with_counts_of(current, job)
    job = as_current(current, job, leading.fenced.now_ns, adopt=adopt)
    if current is not None and spec_of(current) == spec_of(job):
        if job.is_parent:
            return _unevaluated(leading, current)
        return await _evaluate(leading, current, "job-register")
    # Versions of a purged job may still be named by allocs that are stopping: never write one again.
    newest = max(view.version_numbers(key), default=-1)
    job = msgspec.structs.replace(
        job,
        version=newest + 1,
        submit_time=leading.fenced.now_ns,
        status=JobStatus.PENDING,
        stable=False,
        create_index=0,
        modify_index=0,
        job_modify_index=0,
    )
    return await _write_version(leading, key, job, "job-register", submission)


def as_current(current: Job | None, job: Job, now_ns: int, *, adopt: bool = False) -> Job:
    """The submitted job with what is not the submitter's to set."""
    kept = current.orphans if current is not None and not current.stop else ""
    restarted_at = current.restarted_at if current else 0
    if (current is None or current.stop) and any(group.completion for group in job.task_groups):
        restarted_at = now_ns  # what may be left of an earlier one of that name is no result of this one
    job = msgspec.structs.replace(job, restarted_at=restarted_at, orphans="adopt" if adopt else kept, status_description="")
    is_child = current is not None and current.parent_id and job.parent_id == current.parent_id
    return msgspec.structs.replace(job, **{name: getattr(current, name) if is_child else value for name, value in _OF_CHILD.items()})


def with_counts_of(current: Job, job: Job) -> Job:
    """The submitted job with the counts of the groups that the current version has too. A job that runs on every node
    has no counts to keep."""
    if JobType.SYSTEM in (job.type, current.type) or JobType.SYSBATCH in (job.type, current.type):
        return job
    counts = {group.name: group.count for group in current.task_groups}
    groups = (msgspec.structs.replace(group, count=counts.get(group.name, group.count)) for group in job.task_groups)
    return msgspec.structs.replace(job, task_groups=tuple(groups))


def claims_to_be_child(current: Job | None, job: Job) -> bool:
    """Whether the submitted job says of itself what only drover says of the children that it starts."""
    is_child = current is not None and current.parent_id and job.parent_id == current.parent_id
    return not is_child and any(getattr(job, name) != value for name, value in _OF_CHILD.items())


async def _deregister(leading: Leading, key: JobKey, *, purge: bool, orphan: bool) -> Registered:
    view = leading.view
    current = view.jobs.get(key)
    if current is None:
        unknown = Job(id=key[1], name=key[1], namespace=key[0])
        return await _evaluate(leading, unknown, "job-deregister")
    if not purge:
        if current.stop and current.is_parent:
            return _unevaluated(leading, current)
        if current.stop:
            return await _evaluate(leading, current, "job-deregister")
        newest = max(view.version_numbers(key))
        stopped = msgspec.structs.replace(
            current,
            stop=True,
            orphans="leave" if orphan else "",
            version=newest + 1,
            submit_time=leading.fenced.now_ns,
        )
        return await _write_version(leading, key, stopped, "job-deregister")
    if current.stop and current.orphans == "leave" and any(a.is_live for a in view.allocs_by_job.get(key, {}).values()):
        raise StillLeaving(f'job "{current.id}" is being stopped with -orphan: purge it once that is done')
    record = view.records[key]
    # Of what starts children too: allocs of an earlier version may have to end.
    evaluation = new_evaluation(leading.fenced, current, "job-deregister")
    eval_key = leading.keys.evaluation(evaluation.id)
    ops = [delete(leading.keys.job(*key)), put(eval_key, encode(evaluation))]
    if key in view.launches:
        ops.append(delete(leading.keys.launches_of(*key)))
    written = await _commit(leading, evaluation, ops)
    index = written[eval_key].modify_index
    view.drop_job(key, index)
    view.drop_launches(key)
    view.put_eval(evaluation, *indexes(written[eval_key]))
    leading.deciding.asked(evaluation)
    return Registered(evaluation, index, record.modify_index)


def admitted(job: Job, scheduler: SchedulerConfiguration) -> Job:
    """The job as this cluster takes it: without memory_max where memory is not oversubscribed."""
    if scheduler.memory_oversubscription_enabled:
        return job
    replace_in = msgspec.structs.replace
    groups = (
        replace_in(
            group,
            tasks=tuple(replace_in(t, resources=replace_in(t.resources, memory_max_mb=0)) for t in group.tasks),
        )
        for group in job.task_groups
    )
    return replace_in(job, task_groups=tuple(groups))


def _enforce(leading: Leading, key: JobKey, current: Job | None, wanted: int) -> None:
    if current is None:
        if wanted:
            raise EnforceIndexError(f"Enforcing job modify index {wanted}: job does not exist")
        return
    if not wanted:
        raise EnforceIndexError("Enforcing job modify index 0: job already exists")
    actual = leading.view.api_index(leading.view.version_indexes[key, current.version].modify_index)
    if actual != wanted:
        raise EnforceIndexError(
            f"Enforcing job modify index {wanted}: job exists with conflicting job modify index: {actual}"
        )


async def _write_version(
    leading: Leading, key: JobKey, job: Job, triggered_by: str, submission: Submission | None = None
) -> Registered:
    view, keys = leading.view, leading.keys
    evaluation = new_evaluation(leading.fenced, job, triggered_by)
    known = view.records.get(key)
    record = JobRecord(
        namespace=job.namespace,
        job_id=job.id,
        version=job.version,
        stable=known.document.stable if known else (),
        scaling_events=known.document.scaling_events if known else {},
        modify_time=leading.fenced.now_ns,
        epoch=leading.fenced.epoch,
    )
    version_key, record_key = keys.version(*key, job.version), keys.job(*key)
    eval_key = keys.evaluation(evaluation.id)
    try:
        version = put(version_key, encode(job))
    except StoreRefused as error:
        raise StoreRefused(f"the job is too large: {error}") from error
    if job.is_parent and not job.stop and version.size > TXN_BYTES_MAX - _CHILD_BYTES:
        limit = (TXN_BYTES_MAX - _CHILD_BYTES) * 3 // 4
        raise StoreRefused(f"the job is too large to start children: {len(version.value or b'')} bytes (limit about {limit})")
    ops: list[Op] = [version, replace(record_key, encode(record), known.modify_index if known else 0)]
    if not job.is_parent:
        ops.append(put(eval_key, encode(evaluation)))
    if submission is not None:
        kept = put(keys.submission(*key, job.version), encode(submission))
        # Never so much that the job itself would not fit.
        if sum(op.size for op in (*ops, kept)) <= TXN_BYTES_MAX // 2:
            ops.append(kept)
    written = await _commit(leading, evaluation, ops)
    view.put_version(job, *indexes(written[version_key]))
    view.put_record(record, *indexes(written[record_key]))
    if job.is_parent:
        return _unevaluated(leading, job)
    view.put_eval(evaluation, *indexes(written[eval_key]))
    leading.deciding.asked(evaluation)
    return Registered(evaluation, written[eval_key].modify_index, written[version_key].modify_index)


def _unevaluated(leading: Leading, job: Job) -> Registered:
    index = leading.view.version_indexes[(job.namespace, job.id), job.version].modify_index
    return Registered(None, leading.view.records[job.namespace, job.id].modify_index, index)


async def _evaluate(leading: Leading, job: Job, triggered_by: str) -> Registered:
    evaluation = new_evaluation(leading.fenced, job, triggered_by, EvalStatus.PENDING)
    key = leading.keys.evaluation(evaluation.id)
    entry = (await _commit(leading, evaluation, [put(key, encode(evaluation))]))[key]
    leading.view.put_eval(evaluation, *indexes(entry))
    leading.deciding.asked(evaluation)
    version = leading.view.version_indexes.get(((job.namespace, job.id), job.version))
    return Registered(evaluation, entry.modify_index, version.modify_index if version else entry.modify_index)


async def _commit(leading: Leading, evaluation: Evaluation, ops: Sequence[Op]) -> Mapping[str, Entry]:
    """One command's transaction. Without an answer it may have happened, and after a conflict our view is old:
    either way the job is read anew before anything about it is decided."""
    try:
        return await leading.fenced.commit(ops)
    except BaseException:
        leading.deciding.doubt(evaluation)
        raise


def indexes(entry: Entry) -> tuple[int, int]:
    return entry.create_index, entry.modify_index
