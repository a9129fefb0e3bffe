"""Which nodes may a group run on at all, and what rules the others out?

    datacenters, drivers, constraints, ──once per class of equal nodes──> mask and reasons, kept per signature
    host volumes and networks

Nodes are of one class when nothing but what is unique to a node (`${attr.unique.*}`, `${node.unique.*}`) tells
them apart: a fleet of 10,000 with 20 kinds of machine costs 20 evaluations. Only constraints on something unique
are asked of each node.
"""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from leader.decide.constraints import is_unique, reason, violated
from leader.decide.ports import missing_network, networks_of
from leader.decide.table import NodeTable
from leader.decide.volumes import MISSING_VOLUMES, VolumeNeed, lacks_volume, volumes_of
from model.job import Constraint, Job, Port, TaskGroup
from model.node import DEFAULT_NETWORK, DriverInfo, Node, NodeId

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

# The job asks for other datacenters: such a node is not even evaluated, as in Nomad.
_ELSEWHERE = ""


@dataclass(slots=True)
class Feasible:
    """mask: the nodes that may, by row. Whether they take work just now is no part of it."""

    mask: Mask
    _table: NodeTable
    _reasons: list[str]
    _reason_of: Ints  # by row: index in _reasons, -1 for a node that may

    def available(self, takes_work: Mask) -> dict[str, int]:
        """{datacenter: nodes that take work} of the datacenters that the job names."""
        classes = self._table.class_of[: len(takes_work)][takes_work & (self._reason_of != 0)]
        available: dict[str, int] = {}
        for node, count in zip(self._table.classes, np.bincount(classes, minlength=len(self._table.classes))):
            if count:
                available[node.datacenter] = available.get(node.datacenter, 0) + int(count)
        return available

    def evaluated(self, takes_work: Mask, *, except_for: Ints) -> Ints:
        """Rows in the job's datacenters that would take work, without these others."""
        is_evaluated = takes_work & (self._reason_of != 0)
        is_evaluated[except_for] = False
        return np.flatnonzero(is_evaluated)

    def filtered(self, takes_work: Mask) -> dict[str, int]:
        """{reason: nodes} of those that would take work."""
        counts = np.bincount(self._reason_of[takes_work & (self._reason_of > 0)], minlength=len(self._reasons))
        return {name: int(count) for name, count in zip(self._reasons, counts) if count and name}


@dataclass(frozen=True, slots=True)
class Needs:
    """All that a mask depends on. ports: those on other host networks than the default one, without their numbers.
    bound: the virtual datacenters that the job's namespace is bound to, () for none."""

    datacenters: tuple[str, ...]
    drivers: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    volumes: tuple[VolumeNeed, ...] = ()
    ports: tuple[Port, ...] = ()
    bound: tuple[str, ...] = ()


def needs_of(table: NodeTable, job: Job, group: TaskGroup, index: int | None = None) -> Needs:
    """index: the alloc's number, which matters to volumes that each alloc has its own of; None: any."""
    return Needs(
        datacenters=tuple(job.datacenters),
        drivers=tuple(sorted({task.driver for task in group.tasks})),
        constraints=constraints_of(job, group),
        volumes=volumes_of(group, index) if group.volumes else (),
        ports=tuple(
            Port(label=port.label, host_network=port.host_network)
            for network in networks_of(group)
            for port in (*network.reserved_ports, *network.dynamic_ports)
            if port.host_network not in ("", DEFAULT_NETWORK)
        ),
        bound=table.bindings.get(job.namespace, ()),
    )


@dataclass(slots=True)
class FeasibleCache:
    """Masks by what they were computed from, good for one generation of the node table.

    Not by job and version: a job that was purged and submitted again begins with version 0 once more.
    """

    generation: int = -1
    found: dict[Needs, Feasible] = field(default_factory=dict)

    def get(self, table: NodeTable, job: Job, group: TaskGroup, index: int | None = None) -> Feasible:
        """index: as for needs_of."""
        if self.generation != table.generation:
            self.found.clear()
            self.generation = table.generation
        needs = needs_of(table, job, group, index)
        feasible = self.found.get(needs)
        if feasible is None:
            feasible = self.found[needs] = _feasible(table, needs)
        return feasible


# What a node tells of its agent's configuration.
HAS_VAULT = Constraint(ltarget="${attr.vault.address}", operand="is_set")


def constraints_of(job: Job, group: TaskGroup) -> tuple[Constraint, ...]:
    """Job, group and task constraints, all of which must hold; a task with a vault block needs a node that has one too."""
    vault = (HAS_VAULT,) if any(task.vault is not None for task in group.tasks) else ()
    return (*job.constraints, *group.constraints, *(c for task in group.tasks for c in task.constraints), *vault)


def fitting_nodes(table: NodeTable, cache: FeasibleCache, job: Job, group: TaskGroup) -> frozenset[NodeId]:
    """The nodes a system job's group belongs on, whether or not they have room or take work right now."""
    mask = cache.get(table, job, group).mask
    return frozenset(table.ids[row] for row in np.flatnonzero(mask))


def in_datacenters(names: Sequence[str], datacenter: str, virtual: str, bound: Sequence[str] = ()) -> bool:
    """Whether a job that names these datacenters may use the node. A node of a virtual one takes only jobs that
    name that: a wildcard enters it only with a prefix of its name, `*` alone never.

    bound: the virtual datacenters that alone the job's namespace has; there `*` means these."""
    if bound:
        return virtual in bound and any(fnmatch.fnmatchcase(virtual, name) for name in names)
    if virtual:
        return any(fnmatch.fnmatchcase(virtual, name) for name in names if name.strip("*"))
    return any(fnmatch.fnmatchcase(datacenter, name) for name in names)


def _feasible(table: NodeTable, needs: Needs) -> Feasible:
    size = len(table.ids)
    reasons = [_ELSEWHERE]
    numbers: dict[str, int] = {}

    def number_of(why: str) -> int:
        if why not in numbers:
            numbers[why] = len(reasons)
            reasons.append(why)
        return numbers[why]

    by_class = np.full(len(table.classes), -1, dtype=np.int64)
    for number, node in enumerate(table.classes):
        if not in_datacenters(needs.datacenters, node.datacenter, node.virtual_datacenter, needs.bound):
            by_class[number] = 0
            continue
        refusal = class_refusal(node, needs)
        if refusal is not None:
            by_class[number] = number_of(refusal[1])
    reason_of = by_class[table.class_of[:size]] if size else np.zeros(0, dtype=np.int64)
    if asks_unique(needs):
        for row in np.flatnonzero(reason_of == -1):
            refusal = node_refusal(table.views[row].node, needs)
            if refusal is not None:
                reason_of[row] = number_of(refusal[1])
    return Feasible(reason_of == -1, table, reasons, reason_of)


class Fact(StrEnum):
    """What of a node refuses a group, in the order in which they are asked."""

    DRIVER = "driver"
    CONSTRAINT = "constraint"
    VOLUME = "host volume"
    NETWORK = "host network"


# What refuses, and why in Nomad's words.
Refusal = tuple[Fact, str]


def class_refusal(node: Node, needs: Needs) -> Refusal | None:
    """Why no node of this one's class may, None if they may as far as they are equal."""
    for driver in needs.drivers:
        if not _has_driver(node.drivers.get(driver)):
            return Fact.DRIVER, f"missing drivers: {driver}"
    for constraint in needs.constraints:
        if not is_unique(constraint) and violated(constraint, node):
            return Fact.CONSTRAINT, reason(constraint)
    if any(lacks_volume(node, volume) for volume in needs.volumes):
        return Fact.VOLUME, MISSING_VOLUMES
    return _network_refusal(node, (port for port in needs.ports if not _is_unique_port(port)))


def node_refusal(node: Node, needs: Needs) -> Refusal | None:
    """The same for what only this node is."""
    for constraint in needs.constraints:
        if is_unique(constraint) and violated(constraint, node):
            return Fact.CONSTRAINT, reason(constraint)
    return _network_refusal(node, (port for port in needs.ports if _is_unique_port(port)))


def asks_unique(needs: Needs) -> bool:
    """Whether nodes of one class may answer differently."""
    return any(is_unique(one) for one in needs.constraints) or any(_is_unique_port(port) for port in needs.ports)


def _network_refusal(node: Node, ports: Iterable[Port]) -> Refusal | None:
    reasons = (missing_network(port, node) for port in ports)
    return next(((Fact.NETWORK, why) for why in reasons if why), None)


def _is_unique_port(port: Port) -> bool:
    return "unique." in port.host_network


def _has_driver(info: DriverInfo | None) -> bool:
    return info is not None and info.detected and info.healthy
