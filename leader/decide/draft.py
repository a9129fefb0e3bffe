"""What does a decision about one job know, and what has it decided so far?

`Facts` is read only; the groups' decisions add to the `Draft`, which becomes a Reconciled.
"""

from collections.abc import Container, Mapping, Set
from dataclasses import dataclass, field

import msgspec

from model.alloc import Alloc, AllocId, ClientStatus, DesiredAlloc, DesiredStatus, Verdict
from model.deployment import Deployment
from model.job import Job, JobType, TaskGroup
from model.node import NodeId
from model.plan import PlaceRequest, Reconciled
from model.snapshot import NodeView


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known about the job beside its allocs.

    versions: {version: job} of what the allocs name and of what may be gone back to. fits: for system jobs
    {group: nodes it may run on}. misplaced: allocs whose nodes the current version's constraints rule out.
    deployment: the job's newest, of whatever version. stable: versions known to be good. emptied: draining
    nodes on which only system jobs' allocs are left. followed: allocs that another has followed for good, be it
    apart from the job since. new_deployment_id: for the one that may begin.
    """

    job: Job
    versions: Mapping[int, Job]
    nodes: Mapping[NodeId, NodeView]
    now_ns: int
    fits: Mapping[str, frozenset[NodeId]] = field(default_factory=dict)
    misplaced: Container[AllocId] = ()
    deployment: Deployment | None = None
    stable: Set[int] = frozenset()
    emptied: Set[NodeId] = frozenset()
    followed: Set[AllocId] = frozenset()
    new_deployment_id: str = ""

    def must_leave(self, alloc: Alloc) -> bool:
        """Whether its node is to be empty, or somebody asked for the move."""
        node = self.nodes.get(alloc.desired.node_id)
        is_draining = node is not None and node.control.drain is not None
        if self.job.is_batch:
            return is_draining and self.must_leave_now(alloc)  # it may end by itself until the deadline
        return is_draining or self.moves_to(alloc) is not None

    def moves_to(self, alloc: Alloc) -> NodeId | None:
        """Where rebalancing wants it, while that node takes work."""
        target = self.nodes.get(alloc.desired.migrate_to)
        return target.id if target is not None and target.takes_work else None

    def must_leave_now(self, alloc: Alloc) -> bool:
        """Whether the drain's deadline is over, so that nothing is waited for."""
        node = self.nodes.get(alloc.desired.node_id)
        drain = node.control.drain if node is not None else None
        return drain is not None and drain.is_over(self.now_ns)


@dataclass(slots=True)
class Draft:
    place: list[PlaceRequest] = field(default_factory=list)
    change: dict[AllocId, DesiredAlloc] = field(default_factory=dict)
    forget: list[Alloc] = field(default_factory=list)
    moving: set[AllocId] = field(default_factory=set)
    deployments: list[Deployment] = field(default_factory=list)
    wake_at_ns: int | None = None
    revert_to: int | None = None
    is_stable: bool = False

    def stop(self, alloc: Alloc, why: str) -> None:
        self.change[alloc.id] = stopped(alloc, why)

    def wake(self, at_ns: int) -> None:
        self.wake_at_ns = at_ns if self.wake_at_ns is None else min(self.wake_at_ns, at_ns)

    def replaces(self, alloc: Alloc) -> bool:
        """Whether a replacement was asked for in this very decision, with which it stops."""
        return any(request.stops is not None and request.stops.id == alloc.id for request in self.place)

    def done(self) -> Reconciled:
        return Reconciled(
            place=tuple(self.place),
            change=tuple(self.change.values()),
            forget=tuple(self.forget),
            wake_at_ns=self.wake_at_ns,
            moving=frozenset(self.moving),
            deployments=tuple(self.deployments),
            revert_to=self.revert_to,
            is_stable=self.is_stable,
        )


def stopped(alloc: Alloc, why: str) -> DesiredAlloc:
    return msgspec.structs.replace(
        alloc.desired,
        desired_status=DesiredStatus.STOP,
        desired_description=why,
        # A returned node must read a plain stop: under a verdict it would keep what runs.
        verdict=Verdict.NONE,
    )


def health(alloc: Alloc, job: Job, group: TaskGroup) -> bool | None:
    """Whether it passed its health rule, None while that is open: an operator's word, else the agent's, and where no
    rule is (batch jobs, groups that neither roll nor migrate) whether it runs."""
    if alloc.desired.health is not None:
        return alloc.desired.health
    strategy = group.update if alloc.desired.deployment_id else group.migrate
    if job.type is not JobType.SERVICE or strategy is None:
        return True if alloc.client_status is ClientStatus.RUNNING else None
    reported = alloc.observed.deployment_status if alloc.observed else None
    return reported.healthy if reported is not None else None


def is_healthy(alloc: Alloc, job: Job, group: TaskGroup) -> bool:
    return alloc.client_status is ClientStatus.RUNNING and health(alloc, job, group) is True
