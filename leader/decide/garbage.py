"""What of the state has no further use?

Versions that nothing names and nobody goes back to, jobs that ended long ago, evaluations of jobs that are gone, nodes
that are gone. What allocs, evaluations and deployments of a job are kept is bounded where they are written
(reconcile.py, deciding.py).
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from model.alloc import Alloc, EvalId
from model.evaluation import EvalStatus, Evaluation
from model.job import Job
from model.node import NodeId, NodeStatus
from model.snapshot import JobKey, NodeView

# As many as Nomad keeps of a job's history.
VERSIONS_KEPT = 6


def old_versions(known: Iterable[int], current: int | None, stable: Sequence[int], named: Set[int]) -> list[int]:
    """Of one job: all but the newest six, the current one, the last stable one and what allocs name."""
    everything = sorted(known)
    kept = {*everything[-VERSIONS_KEPT:], *named, *stable[-1:], *(() if current is None else (current,))}
    return [version for version in everything if version not in kept]


def kept_ns(job: Job, after_ns: int) -> int | None:
    """For how long an ended job is kept, None: for ever. after_ns: what holds for all. A job with completion blocks is
    kept for looking at, unless all of them say how long; once it is stopped, and as another's child, it is as any."""
    rules = [group.completion for group in job.task_groups if group.completion is not None]
    if not rules or job.stop:
        return after_ns
    spans = [rule.ttl_after_finished for rule in rules if rule.ttl_after_finished is not None]
    if len(spans) == len(rules):
        return max(spans)
    return after_ns if job.parent_id else None


def is_over(job: Job, allocs: Iterable[Alloc], now_ns: int, after_ns: int) -> bool:
    """Whether nothing of the job runs or will, and nothing has happened to it for so long. What waits to be tried again
    is not over, but cannot be told here."""
    if job.is_parent and not job.stop:
        return False
    last_ns, count = job.submit_time, 0
    for alloc in allocs:
        if not alloc.is_terminal:
            return False
        count += 1
        last_ns = max(last_ns, alloc.observed.modify_time if alloc.observed else 0, alloc.desired.modify_time)
    is_done = job.stop or (job.is_batch and not job.is_system and count > 0)
    return is_done and now_ns - last_ns >= after_ns


def old_evals(evals: Iterable[Evaluation], jobs: Set[JobKey], now_ns: int, after_ns: int) -> list[EvalId]:
    """Decided for so long, and neither a job nor an alloc (`jobs`: of either) is there that they tell of."""
    return [
        one.id
        for one in evals
        if (one.namespace, one.job_id) not in jobs
        and one.status is not EvalStatus.PENDING
        and now_ns - one.modify_time >= after_ns
    ]


def gone_nodes(
    nodes: Mapping[NodeId, NodeView], has_allocs: Set[NodeId], now_ns: int, after_ns: int
) -> list[NodeId]:
    """Down for so long, and nothing of any job is left on them."""
    return [
        node_id
        for node_id, node in sorted(nodes.items())
        if node.control.status is NodeStatus.DOWN
        and node_id not in has_allocs
        and now_ns - node.control.status_updated_at * 1_000_000_000 >= after_ns
    ]
