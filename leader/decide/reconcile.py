"""What does one job need, given what it has?

    allocs of the job ──nodes judged──> by group ──sort──> deployment: begin, advance ──fill──> Reconciled
                                                            (rollout.py)                 (counted.py, system.py)

Level-triggered: called again after anything happened, it asks only for what is still missing, and every step alone
is legal. An alloc counts until its own agent says that it ended or its node is lost; "lost" never means stopped.
"""

from collections.abc import Container, Iterable, Mapping, Sequence, Set
from dataclasses import replace

import msgspec

from leader.decide import rollout
from leader.decide.completing import completing_group, records
from leader.decide.counted import MIGRATED, NOT_NEEDED, Places, fill, is_result, replaced, sort
from leader.decide.draft import Draft, Facts
from leader.decide.system import system_group
from model.alloc import Alloc, AllocId, Apart, ClientStatus, Verdict
from model.deployment import Deployment
from model.job import DisconnectStrategy, Job, disconnect_of
from model.node import NodeId
from model.plan import Reconciled
from model.snapshot import Life, NodeView, Reach

# Nomad's words, shown by `alloc status`.
JOB_STOPPED = "alloc not needed as job is stopped"
NODE_AWAY = "alloc is unknown since its node is disconnected"
NODE_LOST = "alloc is lost since its node is down"
# Of what stands apart from its job.
APART = {
    Apart.NONE: "",
    Apart.RELEASED: "alloc was taken out of its job by a user",
    Apart.ORPHANED: "alloc was left running by job stop -orphan",
}
AGENT_DOWN = "alloc is lost since its node's agent is down and never spoke of it"


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
    deployment: Deployment | None = None,
    stable: Set[int] = frozenset(),
    emptied: Set[NodeId] = frozenset(),
    new_deployment_id: str = "",
) -> Reconciled:
    """The changes that bring the job's allocs to what it asks for.

    job: its current version, None when it was purged. allocs: all of it, ended ones included. The others: see Facts;
    deployment None: none is known; new_deployment_id "": none is begun.
    """
    draft = Draft()
    everything = sorted(allocs, key=lambda a: (a.create_index, a.id))
    for alloc in everything:
        _judge_node(alloc, nodes, versions, now_ns, draft)
        _judge_unheard(alloc, nodes, draft)
        _adopt(alloc, job, draft)
    documents = everything = [_with(alloc, draft) for alloc in everything]
    for alloc in documents:
        _end_apart(alloc, nodes, now_ns, draft)
    everything = [alloc for alloc in documents if not alloc.desired.apart]
    if job is not None and job.stop and job.orphans == "leave":
        _leave(everything, draft)
        everything = [_with(alloc, draft) for alloc in everything]
        everything = [alloc for alloc in everything if not alloc.desired.apart]
    kept = records(job, documents, versions) if job is not None else frozenset()
    if job is None or job.stop or job.is_parent:
        for alloc in everything:
            # What failed too: started again, the job has all its attempts anew. What is a record stays as it is.
            has_failed = alloc.client_status is ClientStatus.FAILED and alloc.id not in kept
            ends = not alloc.is_terminal or (job is not None and has_failed)
            if ends and not alloc.desired.is_stopping:
                draft.stop(alloc, JOB_STOPPED)
        if deployment is not None and deployment.is_active:
            draft.deployments.append(rollout.cancelled(deployment, rollout.STOPPED, now_ns))
    else:
        facts = Facts(
            job=job,
            versions=versions,
            nodes=nodes,
            now_ns=now_ns,
            fits=fits or {},
            misplaced=misplaced,
            deployment=deployment,
            stable=stable,
            emptied=emptied,
            followed=replaced(documents),
            new_deployment_id=new_deployment_id,
        )
        _groups(facts, everything, draft)
    _forget(documents, job, deployment, now_ns, gc_after_ns, kept, draft)
    return draft.done()


def _leave(allocs: Sequence[Alloc], draft: Draft) -> None:
    """The job is over, what runs of it is not."""
    for alloc in allocs:
        if not alloc.is_terminal and not alloc.desired.is_stopping:
            draft.change[alloc.id] = msgspec.structs.replace(
                alloc.desired, apart=Apart.ORPHANED, desired_description=APART[Apart.ORPHANED], migrate_to=NodeId("")
            )


def _adopt(alloc: Alloc, job: Job | None, draft: Draft) -> None:
    """What an earlier job of the id left is this one's, if it was asked for."""
    is_asked = job is not None and not job.stop and job.orphans == "adopt"
    if is_asked and alloc.desired.apart is Apart.ORPHANED and not alloc.is_terminal and not alloc.desired.is_stopping:
        current = draft.change.get(alloc.id, alloc.desired)
        draft.change[alloc.id] = msgspec.structs.replace(current, apart=Apart.NONE, desired_description="")


def _end_apart(alloc: Alloc, nodes: Mapping[NodeId, NodeView], now_ns: int, draft: Draft) -> None:
    """What stands apart from its job is ended with the deadline of a drain, and by nothing else here."""
    node = nodes.get(alloc.desired.node_id)
    drain = node.control.drain if node is not None else None
    if not alloc.desired.apart or alloc.is_terminal or alloc.desired.is_stopping or drain is None:
        return
    if drain.is_over(now_ns):
        draft.stop(alloc, MIGRATED)
    elif drain.deadline_at is not None:
        draft.wake(drain.deadline_at)


def _groups(facts: Facts, allocs: Sequence[Alloc], draft: Draft) -> None:
    job = facts.job
    by_group: dict[str, list[Alloc]] = {group.name: [] for group in job.task_groups}
    for alloc in allocs:
        if alloc.desired.task_group in by_group:
            by_group[alloc.desired.task_group].append(alloc)
        elif not alloc.desired.is_stopping and not alloc.is_terminal:
            draft.stop(alloc, NOT_NEEDED)
    for alloc in allocs:
        node = facts.nodes.get(alloc.desired.node_id)
        drain = node.control.drain if node is not None else None
        if alloc.is_live and drain is not None and drain.deadline_at is not None and not drain.is_over(facts.now_ns):
            draft.wake(drain.deadline_at)
    if job.is_system:
        for group in job.task_groups:
            system_group(facts, group, by_group[group.name], draft)
        return
    for group in job.task_groups:
        if group.completion is not None:
            completing_group(facts, group, by_group[group.name], draft)
    lasting = [group for group in job.task_groups if group.completion is None]
    groups = [sort(facts, group, by_group[group.name], draft) for group in lasting]
    deployment = _deployment(facts, groups, draft)
    if deployment != facts.deployment:
        # Canaries that were promoted, or whose deployment ended, are others now.
        facts = replace(facts, deployment=deployment)
        groups = [sort(facts, group, by_group[group.name], draft) for group in lasting]
    for places in groups:
        fill(facts, places, deployment, draft)


def _deployment(facts: Facts, groups: Sequence[Places], draft: Draft) -> Deployment | None:
    """The current version's, as it is now; what changed of it, or ended with an older version, goes into the draft."""
    known = facts.deployment
    if known is not None and known.job_version != facts.job.version:
        if known.is_active:
            draft.deployments.append(rollout.cancelled(known, rollout.NEWER, facts.now_ns))
        known = None
    now = rollout.begin(facts, groups) if known is None else rollout.advance(facts, known, groups, draft)
    if now is not None and now != known:
        draft.deployments.append(now)
    return now


def _with(alloc: Alloc, draft: Draft) -> Alloc:
    changed = draft.change.get(alloc.id)
    return alloc if changed is None else replace(alloc, desired=changed)


def _judge_node(
    alloc: Alloc, nodes: Mapping[NodeId, NodeView], versions: Mapping[int, Job], now_ns: int, draft: Draft
) -> None:
    """Marks what a lost node held, and takes the mark away from what still runs on a node that is back."""
    if alloc.is_terminal:
        return
    node = nodes.get(alloc.desired.node_id)
    life = node.life if node else Life.LOST
    if life is Life.LOST and alloc.desired.verdict is not Verdict.LOST:
        _judge_lost(alloc, _disconnect_of(alloc, versions) if node is not None else None, now_ns, draft)
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
                alloc.desired, verdict=Verdict.NONE, desired_description=APART[alloc.desired.apart]
            )


def _judge_lost(alloc: Alloc, rule: DisconnectStrategy | None, now_ns: int, draft: Draft) -> None:
    """Lost at once, unless its group waits: then unknown first, for `lost_after`, or for as long as it takes."""
    desired = alloc.desired
    waits = rule is not None and (rule.lost_after is not None or not rule.replace)
    if waits and desired.verdict is Verdict.NONE:
        desired = draft.change[alloc.id] = msgspec.structs.replace(
            desired, verdict=Verdict.UNKNOWN, unknown_at=now_ns, desired_description=NODE_AWAY
        )
    if rule is not None and waits:
        if rule.lost_after is None:
            return
        lost_at_ns = desired.unknown_at + rule.lost_after
        if now_ns < lost_at_ns:
            draft.wake(lost_at_ns)
            return
    draft.change[alloc.id] = msgspec.structs.replace(desired, verdict=Verdict.LOST, desired_description=NODE_LOST)


def _disconnect_of(alloc: Alloc, versions: Mapping[int, Job]) -> DisconnectStrategy | None:
    job = versions.get(alloc.desired.job_version)
    group = job.group(alloc.desired.task_group) if job is not None else None
    return disconnect_of(group) if group is not None and job is not None and not job.is_system else None


def _judge_unheard(alloc: Alloc, nodes: Mapping[NodeId, NodeView], draft: Draft) -> None:
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


def _forget(
    allocs: Sequence[Alloc],
    job: Job | None,
    deployment: Deployment | None,
    now_ns: int,
    gc_after_ns: int,
    kept: Set[AllocId],
    draft: Draft,
) -> None:
    """Ended allocs whose documents may go: of a purged job at once, else after gc_after if a successor exists. A
    deployment that goes on counts what failed in it. kept: those that stay as long as the job."""
    followed = replaced(allocs)
    active_id = deployment.id if deployment is not None and deployment.is_active else None
    for alloc in allocs:
        if not alloc.is_terminal or alloc.observed is None or alloc.id in kept:
            continue
        is_old = now_ns - alloc.observed.modify_time >= gc_after_ns and alloc.desired.deployment_id != active_id
        # A place of a batch job is filled by its success: without that document it would run again.
        is_done = job is not None and job.is_batch and is_result(alloc, job)
        is_over = alloc.desired.is_stopping or bool(alloc.desired.apart) or (alloc.id in followed and not is_done)
        if job is None or (is_old and (job.stop or is_over)):
            draft.forget.append(alloc)
