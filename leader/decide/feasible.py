"""Which nodes may a group run on at all, and what rules the others out?

    datacenters, drivers, constraints ──once per class of equal nodes──> mask and reasons, kept per signature

Nodes are of one class when nothing but what is unique to a node (`${attr.unique.*}`, `${node.unique.*}`) tells
them apart: a fleet of 10,000 with 20 kinds of machine costs 20 evaluations. Only constraints on something unique
are asked of each node.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from leader.decide.constraints import is_unique, reason, violated
from leader.decide.table import NodeTable
from model.job import Constraint, Job, TaskGroup
from model.node import DriverInfo, Node, NodeId

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


# Datacenters, drivers and constraints: all that a mask depends on.
_Signature = tuple[tuple[str, ...], tuple[str, ...], tuple[Constraint, ...]]


@dataclass(slots=True)
class FeasibleCache:
    """Masks by what they were computed from, good for one generation of the node table.

    Not by job and version: a job that was purged and submitted again begins with version 0 once more.
    """

    generation: int = -1
    found: dict[_Signature, Feasible] = field(default_factory=dict)

    def get(self, table: NodeTable, job: Job, group: TaskGroup) -> Feasible:
        if self.generation != table.generation:
            self.found.clear()
            self.generation = table.generation
        drivers = tuple(sorted({task.driver for task in group.tasks}))
        key: _Signature = (tuple(job.datacenters), drivers, constraints_of(job, group))
        feasible = self.found.get(key)
        if feasible is None:
            feasible = self.found[key] = _feasible(table, *key)
        return feasible


def constraints_of(job: Job, group: TaskGroup) -> tuple[Constraint, ...]:
    """Job, group and task constraints, all of which must hold."""
    return (*job.constraints, *group.constraints, *(c for task in group.tasks for c in task.constraints))


def fitting_nodes(table: NodeTable, cache: FeasibleCache, job: Job, group: TaskGroup) -> frozenset[NodeId]:
    """The nodes a system job's group belongs on, whether or not they have room or take work right now."""
    mask = cache.get(table, job, group).mask
    return frozenset(table.ids[row] for row in np.flatnonzero(mask))


def in_datacenters(names: Sequence[str], datacenter: str, virtual: str) -> bool:
    """Whether a job that names these datacenters may use the node. A node of a virtual one takes only jobs that
    name that: a wildcard enters it only with a prefix of its name, `*` alone never."""
    if virtual:
        return any(fnmatch.fnmatchcase(virtual, name) for name in names if name.strip("*"))
    return any(fnmatch.fnmatchcase(datacenter, name) for name in names)


def _feasible(
    table: NodeTable, datacenters: tuple[str, ...], drivers: tuple[str, ...], constraints: tuple[Constraint, ...]
) -> Feasible:
    size = len(table.ids)
    shared = [c for c in constraints if not is_unique(c)]
    reasons = [_ELSEWHERE]
    numbers: dict[str, int] = {}

    def number_of(why: str) -> int:
        if why not in numbers:
            numbers[why] = len(reasons)
            reasons.append(why)
        return numbers[why]

    by_class = np.full(len(table.classes), -1, dtype=np.int64)
    for number, node in enumerate(table.classes):
        if not in_datacenters(datacenters, node.datacenter, node.virtual_datacenter):
            by_class[number] = 0
            continue
        why = _refusal(node, drivers, shared)
        if why:
            by_class[number] = number_of(why)
    reason_of = by_class[table.class_of[:size]] if size else np.zeros(0, dtype=np.int64)
    for constraint in constraints:
        if is_unique(constraint):
            for row in np.flatnonzero(reason_of == -1):
                if violated(constraint, table.views[row].node):
                    reason_of[row] = number_of(reason(constraint))
    return Feasible(reason_of == -1, table, reasons, reason_of)


def _refusal(node: Node, drivers: Sequence[str], constraints: Sequence[Constraint]) -> str:
    """Why a node of this class may not, "" if it may."""
    for driver in drivers:
        if not _has_driver(node.drivers.get(driver)):
            return f"missing drivers: {driver}"
    return next((reason(c) for c in constraints if violated(c, node)), "")


def _has_driver(info: DriverInfo | None) -> bool:
    return info is not None and info.detected and info.healthy
