"""On which nodes does a system or sysbatch group run, and what does it lack?

One alloc on every node that fits. It stays put when its node is out of reach or takes no new work; a node that no
longer fits the job loses it. On a draining node it is the last to stop. A changed job rolls over the nodes
`max_parallel` at a time, `stagger` apart.
"""

from collections.abc import Sequence

import msgspec

from leader.decide.changes import runs_current
from leader.decide.counted import NOT_NEEDED, UPDATED
from leader.decide.draft import Draft, Facts, stopped
from model.alloc import Alloc, ClientStatus, Verdict, alloc_name
from model.job import TaskGroup
from model.node import NodeId
from model.plan import PlaceRequest
from model.snapshot import Life

NODE_UNFIT = "alloc not needed as its node no longer fits the job"
DRAINED = "alloc not needed as its node is drained"


def system_group(facts: Facts, group: TaskGroup, allocs: Sequence[Alloc], draft: Draft) -> None:
    """allocs: all of the group, ended ones included."""
    fits = facts.fits.get(group.name, frozenset())
    filled: dict[NodeId, Alloc] = {}
    finished: set[NodeId] = set()
    for alloc in allocs:
        node_id = alloc.desired.node_id
        if alloc.is_live or (alloc.desired.verdict is not Verdict.NONE and not alloc.is_terminal):
            if node_id in filled:
                if not alloc.desired.is_stopping:
                    draft.stop(alloc, NOT_NEEDED)
            elif alloc.is_live and (why := _unwanted(facts, alloc, node_id in fits)):
                draft.stop(alloc, why)
            else:
                filled[node_id] = alloc
        elif _is_finished(facts, alloc):
            finished.add(node_id)
    _roll(facts, group, [alloc for alloc in filled.values() if alloc.is_live], draft)
    for node_id in sorted(fits - filled.keys() - finished):
        node = facts.nodes.get(node_id)
        if node is not None and node.takes_work:
            name = alloc_name(facts.job.id, group.name, 0)
            draft.place.append(PlaceRequest(job=facts.job, group=group, name=name, node_id=node_id))


def _is_finished(facts: Facts, alloc: Alloc) -> bool:
    """System jobs are never rescheduled: a failed one stays failed until the job changes."""
    status = alloc.client_status
    is_done = status is ClientStatus.FAILED or (facts.job.is_batch and status is ClientStatus.COMPLETE)
    return is_done and alloc.desired.job_version == facts.job.version and not alloc.desired.is_stopping


def _unwanted(facts: Facts, alloc: Alloc, fits: bool) -> str:
    """Why it has to go from a node that is heard, "" if it may stay."""
    node = facts.nodes.get(alloc.desired.node_id)
    if node is None or node.life is not Life.READY:
        return ""
    drain = node.control.drain
    if drain is not None and not drain.ignores_system and (node.id in facts.emptied or drain.is_over(facts.now_ns)):
        return DRAINED
    return "" if fits else NODE_UNFIT


def _roll(facts: Facts, group: TaskGroup, live: Sequence[Alloc], draft: Draft) -> None:
    """Moves what runs to the current version: in place where nothing that runs changed, else node by node."""
    outdated = []
    for alloc in live:
        if alloc.desired.job_version == facts.job.version:
            continue
        if runs_current(alloc, facts.job, group, facts.versions):
            current = draft.change.get(alloc.id, alloc.desired)
            draft.change[alloc.id] = msgspec.structs.replace(current, job_version=facts.job.version)
        else:
            outdated.append(alloc)
    budget = len(outdated)
    if group.update is not None and group.update.max_parallel > 0:
        budget = max(0, group.update.max_parallel - _unsettled(facts, group, live, draft))
    for alloc in sorted(outdated, key=lambda a: (a.client_status is ClientStatus.RUNNING, a.desired.node_id))[:budget]:
        draft.place.append(
            PlaceRequest(
                job=facts.job,
                group=group,
                name=alloc.desired.name,
                previous=alloc,
                node_id=alloc.desired.node_id,
                stops=stopped(alloc, UPDATED),
            )
        )


def _unsettled(facts: Facts, group: TaskGroup, live: Sequence[Alloc], draft: Draft) -> int:
    """How many of the current version do not run yet, or began less than `stagger` ago."""
    stagger = group.update.stagger if group.update is not None else 0
    count = 0
    for alloc in live:
        if alloc.desired.job_version != facts.job.version or not alloc.desired.previous_allocation:
            continue
        due_ns = alloc.desired.create_time + stagger
        if alloc.client_status is not ClientStatus.RUNNING:
            count += 1
        elif facts.now_ns < due_ns:
            draft.wake(due_ns)
            count += 1
    return count
