"""What is kept of how a job's allocs were placed, and where?

    per alloc                 the parts of its own node's score          DesiredAlloc.scores     some 30 bytes
    per evaluation and group  counts, reasons, the five best nodes       Evaluation.placements   some 1 KB

docs/design/010-placement-metrics.md says why not all of it with each alloc, as Nomad does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from leader.view import View
from model.alloc import Alloc
from model.evaluation import Evaluation, NodeScore, PlacementMetric, norm_score
from model.plan import Placed

# Of one evaluation; its document must fit into a transaction whatever the job looks like.
_GROUPS_MAX = 100
# As many nodes as Nomad keeps.
_NODES_MAX = 5


def timed(placed: Placed, took_ns: int) -> Placed:
    """With the time that one alloc took: all of the job's are placed in one go, so it is the mean."""
    each_ns = max(0, took_ns) // max(1, len(placed.allocs) + sum(placed.queued.values()))

    def of(metrics: Mapping[str, PlacementMetric]) -> dict[str, PlacementMetric]:
        return {group: msgspec.structs.replace(one, allocation_time=each_ns) for group, one in metrics.items()}

    return replace(placed, metrics=of(placed.metrics), failed=of(placed.failed)) if each_ns else placed


def with_placements(
    evals: Sequence[Evaluation], under: Evaluation | None, placed: Placed, view: View
) -> list[Evaluation]:
    """The evaluations as they are to be written, with what was found of the groups placed under this one. What is
    known from earlier passes stays."""
    written: list[Evaluation] = []
    for one in evals:
        new = placed.metrics if under is not None and one.id == under.id else {}
        written.append(_with(one, new, view))
    if under is not None and placed.metrics and all(one.id != under.id for one in evals):
        written.append(_with(under, placed.metrics, view))
    return written


def _with(evaluation: Evaluation, new: Mapping[str, PlacementMetric], view: View) -> Evaluation:
    known = view.evals.get(evaluation.id)
    merged = {**(known.document.placements if known else {}), **new}
    return msgspec.structs.replace(evaluation, placements=dict(list(merged.items())[-_GROUPS_MAX:]))


def alloc_metric(view: View, alloc: Alloc) -> PlacementMetric:
    """How the alloc was placed: its group's picture as the first of its evaluation's was, with its own node in it.
    What was looked at alone (a system job's) was one node."""
    desired = alloc.desired
    evaluation = view.evals.get(desired.eval_id)
    metric = evaluation.document.placements.get(desired.task_group) if evaluation else None
    own = NodeScore(node_id=desired.node_id, scores=desired.scores, norm_score=norm_score(desired.scores))
    if metric is None:
        metric = PlacementMetric(nodes_evaluated=1)
    if not desired.scores:  # placed by a drover that kept none
        return metric
    best = list(metric.score_meta_data)
    at = next((number for number, one in enumerate(best) if one.node_id == own.node_id), None)
    if at is None:
        best = [*best[: _NODES_MAX - 1], own]
    else:
        best[at] = own
    return msgspec.structs.replace(metric, score_meta_data=tuple(best))


# Nomad shows these of every node, 0 where they do not apply.
_ALWAYS = {"job-anti-affinity": 0.0, "node-affinity": 0.0, "node-reschedule-penalty": 0.0}


def score_documents(metric: PlacementMetric) -> list[dict[str, Any]] | None:
    """ScoreMetaData in Nomad's shape."""
    return [
        {"NodeID": one.node_id, "Scores": {**_ALWAYS, **one.scores}, "NormScore": one.norm_score}
        for one in metric.score_meta_data
    ] or None
