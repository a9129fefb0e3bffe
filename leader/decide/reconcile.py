"""What does one job need, given what it has?

    allocs of the job ──sorted per group──> keep | lost | restored | surplus | to replace | missing
                                              └──> Reconciled: place, change, forget, wake_at

Level-triggered: called again after anything happened, it asks only for what is still missing. An alloc
counts until its own agent says that it ended or its node is lost; "lost" never means stopped.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from leader.decide.reschedule import next_attempt
from model.alloc import Alloc, AllocId, ClientStatus, DesiredAlloc, DesiredStatus, Verdict, alloc_name
from model.job import Job, Task, TaskGroup
from model.node import NodeId
from model.plan import PlaceRequest, Reconciled
from model.snapshot import Life, NodeView, Reach

# Nomad's words, shown by `alloc status`.
NOT_NEEDED = "alloc not needed due to job update"
JOB_STOPPED = "alloc not needed as job is stopped"
UPDATED = "alloc is being updated due to job update"
NODE_LOST = "alloc is lost since its node is down"
ORIGINAL_BACK = "alloc not needed as the original's node returned"
AGENT_DOWN = "alloc is lost since its node's agent is down and never spoke of it"
NODE_UNFIT = "alloc not needed as its node no longer fits the job"


@dataclass(slots=True)
class _Draft:
    place: list[PlaceRequest] = field(default_factory=list)
    change: dict[AllocId, DesiredAlloc] = field(default_factory=dict)
    forget: list[Alloc] = field(default_factory=list)
    wake_at_ns: int | None = None

    def stop(self, alloc: Alloc, why: str) -> None:
        self.change[alloc.id] = _stopped(alloc, why)

    def wake(self, at_ns: int) -> None:
        self.wake_at_ns = at_ns if self.wake_at_ns is None else min(self.wake_at_ns, at_ns)


def _stopped(alloc: Alloc, why: str) -> DesiredAlloc:
    return msgspec.structs.replace(
        alloc.desired,
        desired_status=DesiredStatus.STOP,
        desired_description=why,
        # A returned node must read a plain stop: under a verdict it would keep what runs.
        verdict=Verdict.NONE,
    )


def reconcile(
    job: Job | None,
    allocs: Iterable[Alloc],
    *,
    versions: Mapping[int, Job],
    nodes: Mapping[NodeId, NodeView],
    now_ns: int,
    gc_after_ns: int,
    fits: Mapping[str, frozenset[NodeId]] | None = None,
    misplaced: Container[AllocId] = (),
) -> Reconciled:
    """The changes that bring the job's allocs to what it asks for.

    job: its current version, None when it was purged. allocs: all of it, ended ones included.
    versions: {version: job} of what the allocs name. fits: for system jobs
    {group: nodes it may run on}. misplaced: allocs whose nodes the current version's constraints rule out.
    """
    draft = _Draft()
    everything = sorted(allocs, key=lambda a: (a.create_index, a.id))
    for alloc in everything:
        _judge_node(alloc, nodes, draft)
        _judge_unheard(alloc, nodes, draft)
    everything = [_with(alloc, draft) for alloc in everything]
    if job is None or job.stop:
        for alloc in everything:
            if not alloc.desired.is_stopping and not alloc.is_terminal:
                draft.stop(alloc, JOB_STOPPED)
        _forget(everything, job, now_ns, gc_after_ns, draft)
        return _done(draft)
    by_group: dict[str, list[Alloc]] = {group.name: [] for group in job.task_groups}
    for alloc in everything:
        if alloc.desired.task_group in by_group:
            by_group[alloc.desired.task_group].append(alloc)
        elif not alloc.desired.is_stopping and not alloc.is_terminal:
            draft.stop(alloc, NOT_NEEDED)
    for group in job.task_groups:
        if job.is_system:
            wanted = (fits or {}).get(group.name, frozenset())
            _system_group(job, group, by_group[group.name], versions, nodes, wanted, draft)
        else:
            _counted_group(job, group, by_group[group.name], versions, misplaced, now_ns, draft)
    _forget(everything, job, now_ns, gc_after_ns, draft)
    return _done(draft)


def _done(draft: _Draft) -> Reconciled:
    return Reconciled(
        place=tuple(draft.place),
        change=tuple(draft.change.values()),
        forget=tuple(draft.forget),
        wake_at_ns=draft.wake_at_ns,
    )


def _with(alloc: Alloc, draft: _Draft) -> Alloc:
    changed = draft.change.get(alloc.id)
    if changed is None:
        return alloc
    return Alloc(
        desired=changed,
        observed=alloc.observed,
        create_index=alloc.create_index,
        desired_index=alloc.desired_index,
        observed_index=alloc.observed_index,
    )


def _judge_node(alloc: Alloc, nodes: Mapping[NodeId, NodeView], draft: _Draft) -> None:
    """Marks what a lost node held, and takes the mark away from what still runs on a node that is back."""
    if alloc.is_terminal:
        return
    node = nodes.get(alloc.desired.node_id)
    life = node.life if node else Life.LOST
    if life is Life.LOST and alloc.desired.verdict is Verdict.NONE:
        draft.change[alloc.id] = msgspec.structs.replace(
            alloc.desired, verdict=Verdict.LOST, desired_description=NODE_LOST
        )
    elif life is Life.READY and node is not None and alloc.desired.verdict is not Verdict.NONE:
        if alloc.desired_index < node.control_index:
            # The node is back. What was reported before may be of an earlier boot, for a machine can be heard again
            # (Consul still shows what was registered) before its drover has said a word. So its agent is asked: a
            # document that changed under a verdict is answered by a report.
            draft.change[alloc.id] = alloc.desired
        elif (
            alloc.observed is not None
            and alloc.observed_index > alloc.desired_index
            and alloc.observed.boot_id == node.node.boot_id
            and alloc.observed.client_status is ClientStatus.RUNNING
        ):
            draft.change[alloc.id] = msgspec.structs.replace(
                alloc.desired, verdict=Verdict.NONE, desired_description=""
            )


def _judge_unheard(alloc: Alloc, nodes: Mapping[NodeId, NodeView], draft: _Draft) -> None:
    """Gives up at once what was placed just as its node's agent went down: an alloc of which that agent never spoke
    has no task that would run on. Should it have started one after all, it stays the original when the agent is back.
    """
    node = nodes.get(alloc.desired.node_id)
    if (
        node is None
        or node.reach is not Reach.AGENT_DOWN
        or node.life is not Life.SUSPECT
        or alloc.observed is not None
        or alloc.desired.is_stopping
        or alloc.desired.verdict is not Verdict.NONE
    ):
        return
    draft.change[alloc.id] = msgspec.structs.replace(
        alloc.desired, verdict=Verdict.LOST, desired_description=AGENT_DOWN
    )


def _counted_group(
    job: Job,
    group: TaskGroup,
    allocs: Sequence[Alloc],
    versions: Mapping[int, Job],
    misplaced: Container[AllocId],
    now_ns: int,
    draft: _Draft,
) -> None:
    """Service and batch: exactly one alloc for each of the places 0 .. count-1."""
    replaced = _replaced(allocs)
    best: dict[int, Alloc] = {}
    for alloc in sorted((a for a in allocs if a.is_live), key=lambda a: _preference(a, job, group, versions, draft)):
        index = alloc.desired.index
        if index >= group.count:
            draft.stop(alloc, NOT_NEEDED)
        elif index in best:
            # Two fill one place: the first is better; the other is usually the stand-in of a lost node.
            draft.stop(alloc, ORIGINAL_BACK if alloc.desired.previous_allocation == best[index].id else NOT_NEEDED)
        else:
            best[index] = alloc
    _update(job, group, best, versions, misplaced, draft, missing=group.count - len(best))
    for index in range(group.count):
        if index in best:
            continue
        name = alloc_name(job.id, group.name, index)
        ended = [a for a in allocs if a.desired.index == index and not a.is_live]
        if job.is_batch and any(_is_result(a, job) for a in ended):
            continue  # done: a batch place is filled once by success
        last = max(
            (a for a in ended if a.id not in replaced and not a.desired.is_stopping),
            key=lambda a: (a.create_index, a.id),
            default=None,
        )
        if (
            last is None
            or last.desired.verdict is not Verdict.NONE
            or last.client_status is not ClientStatus.FAILED
            # What failed was another version: the new one has its own attempts.
            or not _same(last, job, group, versions)
        ):
            tracker = last.desired.reschedule_tracker if last else None
            draft.place.append(PlaceRequest(job=job, group=group, name=name, previous=last, tracker=tracker))
            continue
        _reschedule(job, group, name, last, now_ns, draft)


def _preference(
    alloc: Alloc, job: Job, group: TaskGroup, versions: Mapping[int, Job], draft: _Draft
) -> tuple[bool, bool, int, str]:
    """Sorts the alloc to keep first: current or equal version, running, oldest."""
    return (
        not _same(alloc, job, group, versions),
        alloc.client_status is not ClientStatus.RUNNING,
        alloc.create_index,
        alloc.id,
    )


def _same(alloc: Alloc, job: Job, group: TaskGroup, versions: Mapping[int, Job]) -> bool:
    """Whether the alloc runs what the current version asks for."""
    if alloc.desired.job_version == job.version:
        return True
    old_job = versions.get(alloc.desired.job_version)
    old = old_job.group(group.name) if old_job else None
    return old is not None and old_job is not None and not needs_replacing(old_job, old, job, group)


def _reschedule(job: Job, group: TaskGroup, name: str, failed: Alloc, now_ns: int, draft: _Draft) -> None:
    policy = group.reschedule_policy
    if policy is None:
        return
    failed_at_ns = failed.observed.modify_time if failed.observed else failed.desired.modify_time
    attempt = next_attempt(failed, policy, failed_at_ns)
    if attempt is None:
        return
    due_ns, tracker = attempt
    if due_ns > now_ns:
        draft.wake(due_ns)
    else:
        draft.place.append(PlaceRequest(job=job, group=group, name=name, previous=failed, tracker=tracker))


def _update(
    job: Job,
    group: TaskGroup,
    best: dict[int, Alloc],
    versions: Mapping[int, Job],
    misplaced: Container[AllocId],
    draft: _Draft,
    *,
    missing: int,
) -> None:
    """Moves the kept allocs to the current version: in place where nothing that runs changed, else by
    replacing at most `max_parallel` at a time, counting those not yet running and those missing."""
    old = []
    for alloc in best.values():
        if alloc.desired.job_version == job.version:
            continue
        if _same(alloc, job, group, versions) and alloc.id not in misplaced:
            current = draft.change.get(alloc.id, alloc.desired)
            draft.change[alloc.id] = msgspec.structs.replace(current, job_version=job.version)
        else:
            old.append(alloc)
    if not old:
        return
    budget = len(old)
    if group.update is not None and group.update.max_parallel > 0:
        starting = sum(
            1
            for a in best.values()
            if a.desired.job_version == job.version and a.client_status is not ClientStatus.RUNNING
        )
        budget = max(0, group.update.max_parallel - starting - missing)
    for alloc in sorted(old, key=lambda a: a.desired.index)[:budget]:
        draft.place.append(
            PlaceRequest(
                job=job, group=group, name=alloc.desired.name, previous=alloc, stops=_stopped(alloc, UPDATED)
            )
        )


def needs_replacing(old_job: Job, old: TaskGroup, job: Job, new: TaskGroup) -> bool:
    """Whether running tasks must be replaced to become `new`; how many and how to roll or move is no reason."""
    return old_job.datacenters != job.datacenters or _running_part(old) != _running_part(new)


def _running_part(group: TaskGroup) -> TaskGroup:
    return msgspec.structs.replace(
        group,
        count=0,
        update=None,
        migrate=None,
        reschedule_policy=None,
        scaling=None,
        constraints=(),
        affinities=(),
        spreads=(),
        tasks=tuple(_running_task(task) for task in group.tasks),
    )


def _running_task(task: Task) -> Task:
    return msgspec.structs.replace(task, constraints=(), affinities=(), scaling_policies=())


def _system_group(
    job: Job,
    group: TaskGroup,
    allocs: Sequence[Alloc],
    versions: Mapping[int, Job],
    nodes: Mapping[NodeId, NodeView],
    wanted: frozenset[NodeId],
    draft: _Draft,
) -> None:
    """System and sysbatch: one on every node that fits; it stays put when its node is out of reach."""
    filled: dict[NodeId, Alloc] = {}
    finished: set[NodeId] = set()
    for alloc in allocs:
        node_id = alloc.desired.node_id
        if alloc.is_live or (alloc.desired.verdict is not Verdict.NONE and not alloc.is_terminal):
            if node_id in filled:
                if not alloc.desired.is_stopping:
                    draft.stop(alloc, NOT_NEEDED)
            elif alloc.is_live and node_id not in wanted and nodes[node_id].life is Life.READY:
                draft.stop(alloc, NODE_UNFIT)
            else:
                filled[node_id] = alloc
        elif (
            job.is_batch
            and alloc.client_status is ClientStatus.COMPLETE
            and alloc.desired.job_version == job.version
        ):
            finished.add(node_id)
        elif (
            alloc.client_status is ClientStatus.FAILED
            and not alloc.desired.is_stopping
            and alloc.desired.job_version == job.version
        ):
            # System jobs are never rescheduled: a failed one stays failed until the job changes.
            finished.add(node_id)
    live = {index: alloc for index, alloc in enumerate(filled.values()) if alloc.is_live}
    budget_used = len(draft.place)
    _update(job, group, live, versions, (), draft, missing=0)
    for position in range(budget_used, len(draft.place)):
        request = draft.place[position]
        if request.previous is not None:
            draft.place[position] = replace(request, node_id=request.previous.desired.node_id)
    for node_id in sorted(wanted - filled.keys() - finished):
        draft.place.append(
            PlaceRequest(job=job, group=group, name=alloc_name(job.id, group.name, 0), node_id=node_id)
        )


def _forget(
    allocs: Sequence[Alloc], job: Job | None, now_ns: int, gc_after_ns: int, draft: _Draft
) -> None:
    """Ended allocs whose documents may go: of a purged job at once, else after gc_after if a successor exists."""
    replaced = _replaced(allocs)
    for alloc in allocs:
        if not alloc.is_terminal or alloc.observed is None:
            continue
        is_old = now_ns - alloc.observed.modify_time >= gc_after_ns
        # A place of a batch job is filled by its success: without that document it would run again.
        is_result = job is not None and job.is_batch and _is_result(alloc, job)
        is_over = alloc.desired.is_stopping or (alloc.id in replaced and not is_result)
        if job is None or (is_old and (job.stop or is_over)):
            draft.forget.append(alloc)


def _replaced(allocs: Sequence[Alloc]) -> set[AllocId]:
    """Allocs whose place another has taken for good: a stand-in that had to go again has taken none."""
    return {
        a.desired.previous_allocation for a in allocs if a.desired.previous_allocation and not a.desired.is_stopping
    }


def _is_result(alloc: Alloc, job: Job) -> bool:
    """Whether it did what this version of a batch job asks for: a changed job runs again, as in Nomad."""
    return (
        alloc.client_status is ClientStatus.COMPLETE
        and not alloc.desired.is_stopping
        and alloc.desired.job_version == job.version
    )
