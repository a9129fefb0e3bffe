"""What did a scheduling pass find, and why was something not placed?

Evaluations exist for people and clients: nothing is decided from them.
"""

from collections.abc import Mapping
from enum import StrEnum

from model.alloc import EvalId
from model.job import JobId, Namespace
from model.node import NodeId
from model.wire import Document


class EvalStatus(StrEnum):
    PENDING = "pending"
    COMPLETE = "complete"
    BLOCKED = "blocked"
    FAILED = "failed"
    CANCELED = "canceled"


# A part of a score that decides before all others, and so is not in their mean.
ALLOCATION_SPREAD = "allocation-spread"


class NodeScore(Document):
    """What a node was worth to a group. scores: its parts by Nomad's names, those that applied."""

    node_id: NodeId
    scores: Mapping[str, float] = {}
    norm_score: float = 0.0


def norm_score(scores: Mapping[str, float]) -> float:
    """The one number by which nodes are compared that are alike to every spread."""
    parts = [value for name, value in scores.items() if name != ALLOCATION_SPREAD]
    return sum(parts) / len(parts) if parts else 0.0


class PlacementMetric(Document):
    """How a group's alloc found its node, or why none: how many were looked at and what each "no" was.

    constraint_filtered and dimension_exhausted: {reason: number of nodes}. score_meta_data: the best nodes, as they
    were preferred.
    """

    nodes_evaluated: int = 0
    nodes_filtered: int = 0
    nodes_exhausted: int = 0
    nodes_available: Mapping[str, int] = {}
    class_filtered: Mapping[str, int] = {}
    constraint_filtered: Mapping[str, int] = {}
    class_exhausted: Mapping[str, int] = {}
    dimension_exhausted: Mapping[str, int] = {}
    coalesced_failures: int = 0
    allocation_time: int = 0  # ns
    score_meta_data: tuple[NodeScore, ...] = ()


class Evaluation(Document):
    id: EvalId
    namespace: Namespace
    job_id: JobId
    type: str = "service"
    priority: int = 50
    triggered_by: str = "job-register"
    node_id: NodeId = NodeId("")
    deployment_id: str = ""
    job_modify_index: int = 0
    status: EvalStatus = EvalStatus.PENDING
    status_description: str = ""
    failed_tg_allocs: Mapping[str, PlacementMetric] = {}
    queued_allocations: Mapping[str, int] = {}
    placements: Mapping[str, PlacementMetric] = {}  # by group, as its first alloc was placed
    blocked_eval: EvalId = EvalId("")
    next_eval: EvalId = EvalId("")
    previous_eval: EvalId = EvalId("")
    create_time: int = 0
    modify_time: int = 0
