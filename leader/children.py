"""How is a child of a periodic or parameterized job started, and whose turn is it where only so many may run?

A child is started by one transaction: its version, its record (which must not be there yet) and its evaluation, with
whatever else must be true of it at once.
"""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from catalog.kv import Op, delete, delete_at, put, replace
from leader.commands import Registered, indexes
from leader.decide.children import ChildRun, Outcome, run_of
from leader.deciding import new_evaluation
from leader.leading import Leading
from leader.view import View
from model.alloc import EvalId
from model.cluster import ChildLine, JobRecord, Launches
from model.errors import StoreRefused
from model.evaluation import EvalStatus, PlacementMetric
from model.job import History, Job, JobId, JobStatus, Namespace
from model.snapshot import JobKey
from model.wire import encode

# Lines of removed children kept: some 200 bytes each, and rewritten with each removal.
REMOVED_MAX = 50
_REASON_MAX = 200


def run_of_child(view: View, key: JobKey) -> ChildRun:
    allocs = view.allocs_by_job.get(key, {}).values()
    run = run_of(view.jobs[key], allocs, {v: view.versions[key, v] for v in view.version_numbers(key)}, view.clock())
    return run if run.outcome is not Outcome.PENDING else dataclasses.replace(run, reason=_why_not_placed(view, key))


def _why_not_placed(view: View, key: JobKey) -> str:
    """What its blocked evaluation says; "" where it has not been decided about yet."""
    for indexed in view.evals_by_job.get(key, {}).values():
        if indexed.document.status is EvalStatus.BLOCKED:
            return "; ".join(f"group {name}: {_why(metric)}" for name, metric in sorted(indexed.document.failed_tg_allocs.items()))
    return ""


def _why(metric: PlacementMetric) -> str:
    if not metric.nodes_evaluated:
        return "no node is there to run it"
    counts = {**metric.constraint_filtered, **metric.dimension_exhausted}
    return ", ".join(f"{reason} on {_nodes(count)}" for reason, count in sorted(counts.items())) or "no node has room"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def runs(view: View, parent: JobKey) -> list[ChildRun]:
    """Of all children that are still there."""
    return [run_of_child(view, key) for key in view.families.children(parent)]


def has_running(view: View, parent: JobKey) -> bool:
    """Whether a child of it is not done yet, or something runs still of one that was purged."""
    for key in view.families.departed(parent):
        if any(not alloc.is_terminal for alloc in view.allocs_by_job.get(key, {}).values()):
            return True
    done = []
    try:
        for key in view.families.open(parent):
            if not run_of_child(view, key).outcome.is_over:
                return True
            done.append(key)
        return False
    finally:
        for key in done:
            view.families.closed(key)


def pending(view: View, parent: JobKey) -> int:
    """Of how many children nothing has found a place yet."""
    waiting = [key for key in view.families.open(parent) if not view.allocs_by_job.get(key)]
    return sum(run_of_child(view, key).outcome is Outcome.PENDING for key in waiting)


def child_of(parent: Job, child_id: str, now_ns: int, **changes: object) -> Job:
    child: Job = msgspec.structs.replace(
        parent,
        id=JobId(child_id),
        name=child_id,
        parent_id=parent.id,
        stop=False,
        orphans="",
        restarted_at=0,
        stable=False,
        status=JobStatus.PENDING,
        version=0,
        submit_time=now_ns,
        create_index=0,
        modify_index=0,
        job_modify_index=0,
        **changes,
    )
    return child


async def start(leading: Leading, child: Job, triggered_by: str, launches: Launches | None = None) -> Registered:
    """Creates the child, and with it the parent's new `launches`, if any. Raises WriteConflict when it is there already,
    and as every write; then it may have been started: its key is read anew before anything is decided about it."""
    view, keys, fenced = leading.view, leading.keys, leading.fenced
    key: JobKey = (child.namespace, child.id)
    # Of an earlier child of that id allocs may still name versions: never write one again.
    child = msgspec.structs.replace(child, version=max(view.version_numbers(key), default=-1) + 1)
    evaluation = new_evaluation(fenced, child, triggered_by)
    record = JobRecord(
        namespace=child.namespace, job_id=child.id, version=child.version, modify_time=fenced.now_ns, epoch=fenced.epoch
    )
    version_key, record_key, eval_key = keys.version(*key, child.version), keys.job(*key), keys.evaluation(evaluation.id)
    try:
        ops: list[Op] = [put(version_key, encode(child))]
    except StoreRefused as error:
        raise StoreRefused(f"the job is too large: {error}") from error
    ops += [replace(record_key, encode(record), 0), put(eval_key, encode(evaluation))]
    if launches is not None:
        ops.append(launches_op(leading, launches))
    try:
        written = await fenced.commit(ops)
    except BaseException:
        leading.deciding.doubt(evaluation)
        if launches is not None:
            leading.deciding.doubt_launches((child.namespace, JobId(child.parent_id)))
        raise
    view.put_version(child, *indexes(written[version_key]))
    view.put_record(record, *indexes(written[record_key]))
    view.put_eval(evaluation, *indexes(written[eval_key]))
    if launches is not None:
        view.put_launches(launches, *indexes(written[ops[-1].key]))
    leading.deciding.asked(evaluation)
    return Registered(evaluation, written[eval_key].modify_index, written[version_key].modify_index)


def launches_op(leading: Leading, launches: Launches) -> Op:
    """Over what was read of it, and nothing newer."""
    key: JobKey = (Namespace(launches.namespace), JobId(launches.job_id))
    known = leading.view.launches.get(key)
    return replace(leading.keys.launches_of(*key), encode(launches), known.modify_index if known else 0)


def known_launches(leading: Leading, parent: JobKey) -> Launches:
    known = leading.view.launches.get(parent)
    launches: Launches = known.document if known else Launches(namespace=parent[0], job_id=parent[1])
    return msgspec.structs.replace(launches, epoch=leading.fenced.epoch)


def history_of(job: Job) -> History | None:
    """How many of its ended children are kept; None: it has none."""
    if job.is_parameterized and job.parameterized_job is not None:
        return job.parameterized_job.history
    return job.periodic.history if job.periodic is not None else None


async def remove(leading: Leading, parent: JobKey, ended: Sequence[ChildRun]) -> None:
    """Forgets children, no more than fit into a transaction, and remembers a line of each. Their allocs and versions
    follow as those of purged jobs do."""
    view, keys = leading.view, leading.keys
    ended = [run for run in ended if (parent[0], run.job_id) in view.records]
    there: list[JobKey] = [(parent[0], run.job_id) for run in ended]
    evals = [eval_id for key in there for eval_id in view.evals_by_job.get(key, {})]
    launches = _remembering(known_launches(leading, parent), ended)
    ops: list[Op] = [launches_op(leading, launches)]
    ops += [delete_at(keys.job(*key), view.records[key].modify_index) for key in there]
    ops += [delete(keys.evaluation(eval_id)) for eval_id in evals]
    try:
        written = await leading.fenced.commit(ops)
    except BaseException:
        for key in there:
            leading.deciding.doubt(new_evaluation(leading.fenced, view.jobs[key], "job-deregister"))
        leading.deciding.doubt_launches(parent)
        raise
    entry = written[ops[0].key]
    for key in there:
        view.drop_job(key, entry.modify_index)
    for eval_id in evals:
        view.drop_eval(eval_id, entry.modify_index)
    view.put_launches(launches, *indexes(entry))


def given_up(launches: Launches, child_id: str, due_s: int, now_ns: int, reason: str) -> Launches:
    """With a run that never started, and why: as a child that failed, so that check and history tell of it."""
    line = ChildLine(
        id=child_id, due=due_s, outcome=Outcome.FAILED.value, ended=now_ns, reason=f"not started: {reason}"[:_REASON_MAX]
    )
    changed: Launches = msgspec.structs.replace(
        launches, missed=launches.missed + 1, removed=(*launches.removed, line)[-REMOVED_MAX:]
    )
    return changed


def _remembering(launches: Launches, ended: Sequence[ChildRun]) -> Launches:
    lines = tuple(
        ChildLine(
            id=run.job_id,
            due=run.due_s,
            outcome=run.outcome.value,
            started=run.started_ns,
            ended=run.ended_ns,
            reason=run.reason[:_REASON_MAX],
        )
        for run in ended
    )
    good = max((run for run in ended if run.outcome is Outcome.SUCCEEDED), key=lambda run: run.ended_ns, default=None)
    changed: Launches = msgspec.structs.replace(launches, removed=(*launches.removed, *lines)[-REMOVED_MAX:])
    if good is None or good.ended_ns <= launches.last_success:
        return changed
    took = max(0, good.ended_ns - good.started_ns)
    return msgspec.structs.replace(changed, last_success=good.ended_ns, last_duration=took)


def first_eval(view: View, key: JobKey) -> EvalId:
    """The evaluation that the child was started with; "" where it is gone."""
    known = view.evals_by_job.get(key, {}).values()
    return min(known, key=lambda e: e.create_index).document.id if known else EvalId("")


def moment_text(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
