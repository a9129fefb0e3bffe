"""Where would these jobs run, were they submitted to a cluster that was saved, or to one that is made up?

    snapshot ──the leader's own load──> View ─┐
    -nodes N ──synthetic fleet────────────────┴─> planning.attempt, job after job ─> the view holds what was placed

No second placement: what a leader would decide is decided here, by the same code, on a view that nobody writes back.
An older version of a job is replaced in one go, for the end of a roll-out is asked about and not its first step.
"""

import random
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from catalog.keys import Keys
from catalog.saved import Saved
from leader.decide.feasible import FeasibleCache
from leader.decide.spread import Cells
from leader.deciding import Deciding
from leader.explaining import JobWhy, why
from leader.planning import Trial, attempt
from leader.store import LeaderStore
from leader.view import View
from model.cluster import JobRecord
from model.job import Job, Spread, TaskGroup
from model.node import DriverInfo, Node, NodeControl, NodeId, NodeResources, NodeStatus
from model.snapshot import Reach, Settings
from model.wire import Document

# What a node of a synthetic fleet has: four kinds, in turn, as machines bought in different years.
_KINDS = ((4_000, 8_192), (8_000, 16_384), (16_000, 32_768), (32_000, 65_536))  # MHz, MB
_DISK_MB = 200_000
_DRIVERS = ("docker", "exec", "java", "raw_exec")


class ValueShare(Document):
    """target: allocs that the value should hold, None for one that shares no part."""

    value: str
    target: float
    actual: int


class SpreadResult(Document):
    attribute: str
    values: tuple[ValueShare, ...]


class NodeResult(Document):
    name: str
    datacenter: str
    virtual_datacenter: str
    node_class: str
    allocs: int


class GroupResult(Document):
    """placed: allocs that would run; missing: those that find no place."""

    name: str
    wanted: int
    placed: int
    missing: int
    nodes: tuple[NodeResult, ...]
    spreads: tuple[SpreadResult, ...]


class JobResult(Document):
    """why: what stands in the way of what is missing, None when all is placed."""

    job_id: str
    type: str
    groups: tuple[GroupResult, ...]
    why: JobWhy | None = None

    @property
    def is_placed(self) -> bool:
        return not any(group.missing for group in self.groups)


@dataclass(slots=True)
class _Still:
    """The part of a term that decisions ask for, where nobody leads and no time passes."""

    now_ns: int
    epoch: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def new_id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))


class Simulation:
    """A leader's view with nobody behind it. settings: how the cluster places."""

    def __init__(self, settings: Settings, now_ns: int) -> None:
        self.settings = settings
        self.view = View()
        self.view.put_scheduler(settings.scheduler, 0, 0)
        still = cast(Any, _Still(now_ns))
        self.deciding = Deciding(fenced=still, store=cast(Any, None), view=self.view, settings=settings)

    async def load(self, saved: Saved) -> None:
        """Nodes that were ready are taken as heard, the others as silent."""
        await LeaderStore(cast(Any, saved), Keys(saved.head.root), cast(Any, None)).load(self.view)
        for node_id, node in list(self.view.nodes.items()):
            is_ready = node.control.status is NodeStatus.READY
            self.view.put_reach(node_id, Reach.PASSING if is_ready else Reach.SILENT, 0.0)

    def add_nodes(self, count: int, datacenters: Sequence[str]) -> None:
        """Made up: of four kinds in turn, over the datacenters in turn."""
        for number in range(count):
            cpu_mhz, memory_mb = _KINDS[number // len(datacenters) % len(_KINDS)]
            node_id = NodeId(str(uuid.uuid5(uuid.NAMESPACE_OID, f"synthetic {number}")))
            attributes = {"kernel.name": "linux", "cpu.arch": "amd64", "os.name": "debian", "os.version": "12"}
            node = Node(
                id=node_id,
                name=f"synthetic-{number}",
                datacenter=datacenters[number % len(datacenters)],
                node_class=f"kind-{number // len(datacenters) % len(_KINDS) + 1}",
                address=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
                attributes=attributes | {f"driver.{name}": "1" for name in _DRIVERS},
                drivers={name: DriverInfo(detected=True, healthy=True) for name in _DRIVERS},
                resources=NodeResources(cpu_mhz=cpu_mhz, memory_mb=memory_mb, disk_mb=_DISK_MB),
            )
            self.view.put_node(node, 1)
            self.view.put_control(NodeControl(node_id=node_id, status=NodeStatus.READY, epoch=1), 1)
            self.view.put_reach(node_id, Reach.PASSING, 0.0)

    def run(self, job: Job) -> JobResult:
        """Submits the job; what is placed stays, for the jobs that follow."""
        job = _at_once(job)
        trial = attempt(self, job)
        found = why(self, job) if trial.placed.failed else None
        self._keep(trial)
        groups = tuple(self._group(trial, group) for group in trial.job.task_groups)
        return JobResult(job_id=job.id, type=job.type.value, groups=groups, why=found)

    def _keep(self, trial: Trial) -> None:
        view, job = self.view, trial.job
        view.put_version(job, 1, 1)
        view.put_record(JobRecord(namespace=job.namespace, job_id=job.id, version=job.version), 1, 1)
        stopped = {alloc.id for alloc in (*trial.placed.stopped, *trial.placed.preempted)}
        for alloc in trial.after:
            if alloc.id in stopped or alloc.desired.is_stopping:
                view.drop_alloc(alloc.id, 1)
            else:
                view.put_desired(alloc.desired, 1, 1)
        for gone in trial.placed.preempted:
            view.drop_alloc(gone.id, 1)
        for desired in trial.placed.allocs:
            view.put_desired(desired, 1, 1)

    def _group(self, trial: Trial, group: TaskGroup) -> GroupResult:
        key = (trial.job.namespace, trial.job.id)
        live = [
            alloc
            for alloc in self.view.allocs_by_job.get(key, {}).values()
            if alloc.desired.task_group == group.name and alloc.is_live
        ]
        here = Counter(alloc.desired.node_id for alloc in live)
        missing = trial.placed.queued.get(group.name, 0)
        wanted = len(live) + missing if trial.job.is_system else group.count
        spreads = (*trial.job.spreads, *group.spreads)
        return GroupResult(
            name=group.name,
            wanted=wanted,
            placed=len(live),
            missing=missing,
            nodes=tuple(self._node(node_id, count) for node_id, count in sorted(here.items(), key=lambda one: (-one[1], one[0]))),
            spreads=tuple(self._spread(trial.job, group, spread, here) for spread in spreads),
        )

    def _node(self, node_id: NodeId, count: int) -> NodeResult:
        known = self.view.nodes.get(node_id)
        node = known.node if known is not None else Node(id=node_id, name=node_id)
        return NodeResult(
            name=node.name,
            datacenter=node.datacenter,
            virtual_datacenter=node.virtual_datacenter,
            node_class=node.node_class,
            allocs=count,
        )

    def _spread(self, job: Job, group: TaskGroup, spread: Spread, here: Mapping[NodeId, int]) -> SpreadResult:
        table = self.view.table
        mask = FeasibleCache().get(table, job, group).mask & table.takes_work[: len(table.ids)]
        shares = Cells(table, mask, (spread,), (), here, group.count).shares(0)
        return SpreadResult(
            attribute=spread.attribute,
            values=tuple(ValueShare(value=value, target=target, actual=actual) for value, target, actual in shares),
        )


def _at_once(job: Job) -> Job:
    groups = (msgspec.structs.replace(group, update=None) for group in job.task_groups)
    return msgspec.structs.replace(job, task_groups=tuple(groups))
