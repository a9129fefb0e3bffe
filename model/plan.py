"""What has been decided, before anything is written?

A Plan is data: the documents to write and the reasons for what is not done. apply turns it into fenced
transactions; `drover replay` prints it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from model.alloc import Alloc, AllocId, DesiredAlloc, RescheduleTracker
from model.deployment import Deployment
from model.evaluation import PlacementMetric
from model.job import Job, TaskGroup
from model.node import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceRequest:
    """One alloc that is missing.

    previous: what it replaces, whose node is avoided when it failed there. node_id: only there (system jobs).
    stops: the document that stops `previous`, still running; written only together with the replacement's,
    so that what finds no place takes nothing away. avoid: the node that it must not be on (what moves away from there).
    job: the current version, or an older one while a newer is not promoted or has failed.
    """

    job: Job
    group: TaskGroup
    name: str
    previous: Alloc | None = None
    tracker: RescheduleTracker | None = None
    node_id: str = ""
    stops: DesiredAlloc | None = None
    avoid: NodeId | None = None
    deployment_id: str = ""
    is_canary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What one job needs, by name of the change. Nothing here is placed yet.

    place: missing allocs. change: desired documents to overwrite (stopped, lost, restored, moved to a new
    version in place). forget: ended allocs whose documents may go. wake_at_ns: when a delayed
    reschedule is due (ns since the epoch), None if none is. moving: allocs whose replacement is there or asked for
    while they still run. deployments: to be written before anything else. revert_to: the version to go back to,
    None to stay. is_stable: the deployment proved the current version.
    """

    place: tuple[PlaceRequest, ...] = ()
    change: tuple[DesiredAlloc, ...] = ()
    forget: tuple[Alloc, ...] = ()
    wake_at_ns: int | None = None
    moving: frozenset[AllocId] = frozenset()
    deployments: tuple[Deployment, ...] = ()
    revert_to: int | None = None
    is_stable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where the missing allocs go, what stops for them, which allocs of other jobs are pushed away, and for each
    group that found no room, why and how many. metrics: by group, what was found as its first alloc was placed."""

    allocs: tuple[DesiredAlloc, ...] = ()
    stopped: tuple[DesiredAlloc, ...] = ()
    preempted: tuple[DesiredAlloc, ...] = ()
    failed: Mapping[str, PlacementMetric] = field(default_factory=dict)
    metrics: Mapping[str, PlacementMetric] = field(default_factory=dict)
    queued: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One job's writes, in the order they must happen: deployments, changes (stops), placements, deletions.

    What is placed for an alloc that is stopped by the same plan is written in one step with that stop.
    """

    change: tuple[DesiredAlloc, ...] = ()
    place: tuple[DesiredAlloc, ...] = ()
    forget: tuple[AllocId, ...] = ()
    deployments: tuple[Deployment, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.change or self.place or self.forget or self.deployments)
