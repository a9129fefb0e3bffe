"""Why is not all of a job placed, and what would help?

Asked afresh of the view: the trial places what finds room, and what is left is asked of every node.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from leader import lines
from leader.decide.explain import FilterCount, NodeAnswer, Question, answers, asks_of, counts
from leader.decide.feasible import FeasibleCache
from leader.decide.place import held_by, leaving, place
from leader.decide.preempt import PRIORITY_DELTA
from leader.decide.remedies import remedies
from leader.decide.table import HostPort
from leader.planning import Cluster, Trial, attempt
from leader.view import View
from model.alloc import Alloc, AllocId, EvalId, index_of
from model.job import Job, JobId, Namespace, TaskGroup
from model.node import NodeId
from model.plan import PlaceRequest
from model.snapshot import NodeView
from model.wire import Document


class PreemptedBy(Document):
    """An alloc that was pushed away and finds no other place. by_job: empty when the one that did it is forgotten."""

    alloc_id: AllocId
    by_alloc: AllocId
    by_job: JobId


class GroupWhy(Document):
    """wanted: allocs, of a system job the nodes it belongs on. missing: those that find no place. withheld: those that
    would find one, but wait for the missing ones of an all_at_once job. updating: those of both whose older version runs
    on meanwhile. failed: those that ended badly and are not, or not yet, tried again.
    nodes_asked: all, of a system job those without one. filters, remedies: empty where none is missing."""

    name: str
    wanted: int
    missing: int
    withheld: int
    updating: int
    failed: int
    preempted: tuple[PreemptedBy, ...]
    asks: Mapping[str, int]
    nodes_asked: int
    filters: tuple[FilterCount, ...]
    remedies: tuple[str, ...]
    nodes: tuple[NodeAnswer, ...]


class JobWhy(Document):
    """retry_at: when the next failed alloc is tried again (ns since the epoch), None if none is. waits: for what nothing of
    it is placed yet, whatever room there is; "" for nothing."""

    job_id: JobId
    namespace: Namespace
    type: str
    priority: int
    stop: bool
    all_at_once: bool
    groups: tuple[GroupWhy, ...]
    retry_at: int | None
    waits: str = ""


def why(leading: Cluster, job: Job) -> JobWhy:
    """What every node says to each group, once all is placed that finds room."""
    trial = attempt(leading, job, is_partial=True)
    job = trial.job
    waits = lines.told(leading.view, (job.namespace, job.id), job)
    groups = () if job.stop or waits else tuple(_group_why(leading, trial, group) for group in job.task_groups)
    return JobWhy(
        job_id=job.id,
        namespace=job.namespace,
        type=job.type.value,
        priority=job.priority,
        stop=job.stop,
        all_at_once=job.all_at_once,
        groups=groups,
        retry_at=trial.needed.wake_at_ns,
        waits=waits,
    )


def _group_why(leading: Cluster, trial: Trial, group: TaskGroup) -> GroupWhy:
    view, table = leading.view, trial.table.copy()
    placed = {(alloc.task_group, alloc.name, alloc.node_id if trial.job.is_system else "") for alloc in trial.placed.allocs}
    asked = [request for request in trial.needed.place if request.group.name == group.name]
    missing = [request for request in asked if (group.name, request.name, request.node_id) not in placed]
    waiting = asked if trial.job.all_at_once and trial.placed.failed else missing
    live = {alloc.id: alloc for alloc in trial.after} | {one.id: Alloc(desired=one) for one in trial.placed.allocs}
    gone = [*leaving(trial.after), *(one.id for one in (*trial.placed.stopped, *trial.placed.preempted))]
    if missing and missing[0].stops:
        gone.append(missing[0].stops.id)  # its place is free for what replaces it
    for alloc_id in gone:
        table.free(alloc_id)
        live.pop(alloc_id, None)
    held = held_by(live.values())
    question = Question(
        job=trial.job,
        group=group,
        nodes=_asked(view, trial.job, held.get(group.name, {})),
        table=table,
        held=held,
        algorithm=trial.algorithm,
        index=index_of(missing[0].name) if missing else None,
    )
    found = answers(question, random.Random(0))
    is_homeless = trial.job.is_system and not any(alloc.desired.task_group == group.name for alloc in live.values())
    is_told = bool(missing) or (is_homeless and all(one.filter for one in found))
    told = remedies(question, found, len(missing), lambda node, port: _holder(view, node, port)) if is_told else ()
    wanted = len(missing) + sum(held.get(group.name, {}).values()) if trial.job.is_system else group.count
    return GroupWhy(
        name=group.name,
        wanted=wanted,
        missing=len(missing),
        withheld=len(waiting) - len(missing),
        updating=sum(request.stops is not None for request in waiting),
        failed=_failed(trial, group),
        preempted=_preempted(view, trial, waiting),
        asks=asks_of(group),
        nodes_asked=len(found),
        filters=counts(found) if is_told else (),
        remedies=(*told, *_preemption(leading, question, missing[0])) if missing else told,
        nodes=found,
    )


def _preemption(leading: Cluster, question: Question, request: PlaceRequest) -> tuple[str, ...]:
    """What pushing others away would bring to one alloc, where the settings do not let this job. Asked for one only:
    each looks at everything that runs."""
    job = question.job
    if leading.deciding.may_preempt(job) or job.priority <= PRIORITY_DELTA:
        return ()
    placed = place(
        [replace(request, job=msgspec.structs.replace(job, all_at_once=False))],
        table=question.table,
        cache=FeasibleCache(),
        held=question.held,
        rng=random.Random(0),
        eval_id=EvalId(""),
        now_ns=leading.deciding.fenced.now_ns,
        epoch=leading.deciding.fenced.epoch,
        algorithm=question.algorithm,
        victims=leading.deciding.victims,
    )
    jobs = Counter(alloc.job_id for alloc in placed.preempted)
    if not jobs:
        return ()
    told = ", ".join(f'{count} of job "{name}"' for name, count in sorted(jobs.items()))
    return (f"preemption would make room for one (ending {told}), but is off for {job.type} jobs",)


def _preempted(view: View, trial: Trial, waiting: Sequence[PlaceRequest]) -> tuple[PreemptedBy, ...]:
    """Those whose place stays empty since they were pushed away."""

    def place_of(name: str, node_id: str) -> tuple[str, str]:
        return name, node_id if trial.job.is_system else ""

    allocs = sorted(trial.allocs, key=lambda alloc: alloc.create_index)
    newest = {place_of(alloc.desired.name, alloc.desired.node_id): alloc for alloc in allocs}
    found = []
    for request in waiting:
        alloc = newest.get(place_of(request.name, request.node_id))
        if alloc is not None and (by := alloc.desired.preempted_by_allocation):
            winner = view.allocs.get(by)
            by_job = winner.desired.job_id if winner else JobId("")
            found.append(PreemptedBy(alloc_id=alloc.id, by_alloc=by, by_job=by_job))
    return tuple(found)


def _asked(view: View, job: Job, here: Mapping[NodeId, int]) -> dict[NodeId, NodeView]:
    """All nodes; of a system job those that have none yet."""
    return {node: one for node, one in view.nodes.items() if not (job.is_system and here.get(node))}


def _failed(trial: Trial, group: TaskGroup) -> int:
    """Places of a service that stay empty though nothing is missing: what failed there waits, or is given up."""
    if trial.job.is_system or trial.job.is_batch:
        return 0
    live = sum(alloc.is_live and alloc.desired.task_group == group.name for alloc in trial.after)
    empty = sum(one.stops is None and one.group.name == group.name for one in trial.needed.place)
    return max(0, group.count - live - empty)


def _holder(view: View, node: NodeId, port: HostPort) -> str:
    """The job that holds the port on this address of the node, "" if none does."""
    allocs = view.allocs_by_node.get(node, {}).values()
    held = (alloc.desired for alloc in allocs if not alloc.is_terminal)
    return next((desired.job_id for desired in held if any((one.host_ip, one.value) == port for one in desired.ports)), "")
