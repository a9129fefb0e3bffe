"""Where does a missing alloc go, and if nowhere, why?

    all nodes ──filters, cached per group──> feasible ──room──> fitting ──score──> the best one

Every filter has a reason, so every "no" can be told. Scores are Nomad's: bin packing by cpu and memory,
less for each alloc of the same group already there, less for a node where it failed before.
"""

import fnmatch
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from leader.decide.constraints import reason, resolve, violated
from leader.decide.table import Held, NodeTable, ask_of
from model.alloc import Alloc, AllocatedPort, AllocId, ClientStatus, DesiredAlloc, EvalId
from model.evaluation import PlacementMetric
from model.job import Constraint, Job, TaskGroup
from model.node import DriverInfo, NodeId
from model.plan import Placed, PlaceRequest, Reconciled

Mask = npt.NDArray[np.bool_]

# Nomad's wording in DimensionExhausted.
_DIMENSIONS = ("cpu", "memory", "disk")
# Random tries for a dynamic port before the range is walked: with half the range used, 20 tries miss once in a million.
_PORT_TRIES = 20


class Rng(Protocol):
    """The source of chance a caller hands in: random.Random has it."""

    def getrandbits(self, k: int, /) -> int: ...

    def randint(self, a: int, b: int) -> int: ...


@dataclass(slots=True)
class Feasible:
    """Which nodes a group may run on at all, and how many each filter took away. Kept per group."""

    mask: Mask
    filtered: dict[str, int]
    available: dict[str, int]


# Datacenters, drivers and constraints: all that a mask depends on.
_Signature = tuple[tuple[str, ...], tuple[str, ...], tuple[Constraint, ...]]


@dataclass(slots=True)
class FeasibleCache:
    """Masks by what they were computed from, good for one generation of the node table.

    Not by job and version: a job that was purged and submitted again begins with version 0 once more.
    """

    generation: int = -1
    masks: dict[_Signature, Feasible] = field(default_factory=dict)

    def get(self, table: NodeTable, job: Job, group: TaskGroup) -> Feasible:
        if self.generation != table.generation:
            self.masks.clear()
            self.generation = table.generation
        drivers = tuple(sorted({task.driver for task in group.tasks}))
        key: _Signature = (tuple(job.datacenters), drivers, constraints_of(job, group))
        found = self.masks.get(key)
        if found is None:
            found = self.masks[key] = _feasible(table, job, drivers, key[2])
        return found


def constraints_of(job: Job, group: TaskGroup) -> tuple[Constraint, ...]:
    """Job, group and task constraints, all of which must hold."""
    return (*job.constraints, *group.constraints, *(c for task in group.tasks for c in task.constraints))


def fitting_nodes(table: NodeTable, cache: FeasibleCache, job: Job, group: TaskGroup) -> frozenset[NodeId]:
    """The nodes a system job's group belongs on, whether or not there is room right now."""
    mask = cache.get(table, job, group).mask & table.takes_work[: len(table.ids)]
    return frozenset(table.ids[row] for row in np.flatnonzero(mask))


def as_changed(allocs: Iterable[Alloc], needed: Reconciled) -> list[Alloc]:
    """A job's allocs as they will be once what reconcile asked for is written."""
    changed = {desired.id: desired for desired in needed.change}
    return [replace(alloc, desired=changed.get(alloc.id, alloc.desired)) for alloc in allocs]


def held_by(allocs: Iterable[Alloc]) -> dict[str, dict[NodeId, int]]:
    """{group: {node: live allocs there}}: what stops or is given up leaves its node to others."""
    held: dict[str, dict[NodeId, int]] = {}
    for alloc in allocs:
        if alloc.is_live:
            nodes = held.setdefault(alloc.desired.task_group, {})
            nodes[alloc.desired.node_id] = nodes.get(alloc.desired.node_id, 0) + 1
    return held


def leaving(allocs: Iterable[Alloc]) -> list[AllocId]:
    """Those told to stop that have not ended."""
    return [alloc.id for alloc in allocs if alloc.desired.is_stopping and not alloc.is_terminal]


def place(
    requests: Sequence[PlaceRequest],
    *,
    table: NodeTable,
    cache: FeasibleCache,
    held: Mapping[str, Mapping[NodeId, int]],
    leaving: Iterable[AllocId] = (),
    rng: Rng,
    eval_id: EvalId,
    now_ns: int,
    epoch: int,
) -> Placed:
    """Places what fits; takes the room in `table` as it goes. held, leaving: of the job's allocs.

    What leaves is told to stop but has not ended. Its room and ports, as those of the alloc
    that a request replaces, are free for the job's own new ones (on the node these wait until the place is clear),
    and for nobody else.
    """
    lent: dict[AllocId, Held] = {}
    for alloc_id in leaving:
        _lend(alloc_id, table, lent)
    try:
        return _place(requests, table, cache, held, lent, rng, eval_id, now_ns, epoch)
    finally:
        for alloc_id, room in lent.items():
            table.take_back(alloc_id, room)


def _lend(alloc_id: AllocId, table: NodeTable, lent: dict[AllocId, Held]) -> None:
    room = table.free(alloc_id)
    if room is not None:
        lent[alloc_id] = room


def _place(
    requests: Sequence[PlaceRequest],
    table: NodeTable,
    cache: FeasibleCache,
    held: Mapping[str, Mapping[NodeId, int]],
    lent: dict[AllocId, Held],
    rng: Rng,
    eval_id: EvalId,
    now_ns: int,
    epoch: int,
) -> Placed:
    placed: list[DesiredAlloc] = []
    stopped: list[DesiredAlloc] = []
    failed: dict[str, PlacementMetric] = {}
    queued: dict[str, int] = {}
    counts = {group: dict(nodes) for group, nodes in held.items()}
    for request in requests:
        group = request.group
        queued.setdefault(group.name, 0)
        here = counts.setdefault(group.name, {})
        old = request.stops
        if group.name in failed and not request.node_id and old is None:
            # All of a group ask for the same: what one did not find the next will not.
            failed[group.name] = _coalesced(failed[group.name])
            queued[group.name] += 1
            continue
        if old is not None:
            _lend(old.id, table, lent)
            here[old.node_id] -= 1
        choice = _choose(request, table, cache.get(table, request.job, group), counts, rng)
        if isinstance(choice, PlacementMetric):
            failed[group.name] = _coalesced(failed[group.name]) if group.name in failed else choice
            queued[group.name] += 1
            if old is not None:
                here[old.node_id] += 1
                if old.id in lent:
                    table.take_back(old.id, lent.pop(old.id))
            continue
        row, ports = choice
        node_id = table.ids[row]
        alloc = _document(request, table, row, ports, rng, eval_id, now_ns, epoch)
        table.hold(alloc.id, node_id, ask_of(group), ports)
        here[node_id] = here.get(node_id, 0) + 1
        placed.append(alloc)
        if old is not None:
            stopped.append(old)
    return Placed(allocs=tuple(placed), stopped=tuple(stopped), failed=failed, queued=queued)


def _coalesced(metric: PlacementMetric) -> PlacementMetric:
    return msgspec.structs.replace(metric, coalesced_failures=metric.coalesced_failures + 1)


def _choose(
    request: PlaceRequest,
    table: NodeTable,
    feasible: Feasible,
    counts: Mapping[str, Mapping[NodeId, int]],
    rng: Rng,
) -> tuple[int, tuple[AllocatedPort, ...]] | PlacementMetric:
    size = len(table.ids)
    ask = ask_of(request.group)
    need = np.array((ask.cpu_mhz, ask.memory_mb, ask.disk_mb), dtype=np.float64)
    mask = feasible.mask & table.takes_work[:size]
    filtered = dict(feasible.filtered)
    if request.node_id:
        only = np.zeros(size, dtype=bool)
        if request.node_id in table.rows:
            only[table.rows[NodeId(request.node_id)]] = True
        mask = mask & only
    here = counts[request.group.name]
    for constraint in request.group.constraints:
        mask = _distinct(constraint, mask, table, here, filtered)
    for constraint in request.job.constraints:
        # The job's own hold across all its groups.
        mask = _distinct(constraint, mask, table, _together(counts), filtered)
    free = table.total[:size] - table.used[:size]
    short = free < need
    fits = mask & ~short.any(axis=1)
    exhausted: dict[str, int] = {
        name: int(count)
        for name, count in zip(_DIMENSIONS, (short & mask[:, None]).sum(axis=0))
        if count
    }
    previous = request.previous
    scores = _scores(table, size, need, here, request.group.count)
    if previous is not None and previous.client_status in (ClientStatus.FAILED, ClientStatus.LOST):
        tried = table.rows.get(previous.desired.node_id)
        if tried is not None:
            scores[tried] -= 1.0
    scores[~fits] = -np.inf
    for _ in range(int(fits.sum())):
        row = int(np.argmax(scores))
        ports = assign_ports(request.group, table, row, rng)
        if isinstance(ports, tuple):
            return row, ports
        exhausted[ports] = exhausted.get(ports, 0) + 1
        scores[row] = -np.inf
    return PlacementMetric(
        nodes_evaluated=int(table.takes_work[:size].sum()),
        nodes_filtered=sum(filtered.values()),
        nodes_exhausted=int(mask.sum()),
        nodes_available=feasible.available,
        constraint_filtered=filtered,
        dimension_exhausted=exhausted,
    )


def _scores(
    table: NodeTable, size: int, need: npt.NDArray[np.float64], here: Mapping[NodeId, int], count: int
) -> npt.NDArray[np.float64]:
    """Nomad's ScoreFitBinPack (0..18, here /18) and job anti-affinity -(collisions + 1) / count, averaged."""
    total = np.maximum(table.total[:size, :2], 1.0)
    share = 1.0 - (table.used[:size, :2] + need[:2]) / total
    binpack: npt.NDArray[np.float64] = np.clip(20.0 - np.power(10.0, share).sum(axis=1), 0.0, 18.0) / 18.0
    if not here:
        return binpack
    parts = np.ones(size)
    for node_id, collisions in here.items():
        row = table.rows.get(node_id)
        if row is not None and collisions:
            binpack[row] -= (collisions + 1) / max(1, count)
            parts[row] = 2.0
    binpack /= parts
    return binpack


def _together(counts: Mapping[str, Mapping[NodeId, int]]) -> dict[NodeId, int]:
    total: dict[NodeId, int] = {}
    for of_group in counts.values():
        for node_id, count in of_group.items():
            total[node_id] = total.get(node_id, 0) + count
    return total


def _distinct(
    constraint: Constraint,
    mask: Mask,
    table: NodeTable,
    here: Mapping[NodeId, int],
    filtered: dict[str, int],
) -> Mask:
    if constraint.operand == "distinct_hosts":
        taken = [table.rows[n] for n, count in here.items() if count and n in table.rows]
        if not taken or constraint.rtarget == "false":
            return mask
        allowed = mask.copy()
        allowed[taken] = False
    elif constraint.operand == "distinct_property":
        limit = int(constraint.rtarget) if constraint.rtarget.isdecimal() else 1
        counts: dict[str | None, int] = {}
        for node_id, count in here.items():
            if node_id in table.rows:
                value = resolve(constraint.ltarget, table.views[table.rows[node_id]].node)
                counts[value] = counts.get(value, 0) + count
        allowed = mask.copy()
        for row in np.flatnonzero(mask):
            value = resolve(constraint.ltarget, table.views[row].node)
            if value is None or counts.get(value, 0) >= limit:
                allowed[row] = False
    else:
        return mask
    taken_away = int(mask.sum() - allowed.sum())
    if taken_away:
        name = reason(constraint)
        filtered[name] = filtered.get(name, 0) + taken_away
    return allowed


def _feasible(
    table: NodeTable, job: Job, drivers: Sequence[str], constraints: Sequence[Constraint]
) -> Feasible:
    size = len(table.ids)
    mask = np.zeros(size, dtype=bool)
    filtered: dict[str, int] = {}
    available: dict[str, int] = {}
    for row in range(size):
        view = table.views[row]
        node = view.node
        if not in_datacenters(job, node.datacenter, node.virtual_datacenter):
            continue
        if view.takes_work:
            available[node.datacenter] = available.get(node.datacenter, 0) + 1
        why = next((f"missing drivers: {d}" for d in drivers if not _has_driver(node.drivers.get(d))), None)
        why = why or next((reason(c) for c in constraints if violated(c, node)), None)
        if why is None:
            mask[row] = True
        elif view.takes_work:
            filtered[why] = filtered.get(why, 0) + 1
    return Feasible(mask, filtered, available)


def _has_driver(info: DriverInfo | None) -> bool:
    return info is not None and info.detected and info.healthy


def in_datacenters(job: Job, datacenter: str, virtual: str) -> bool:
    """Whether the job names the node's datacenter. A node of a virtual one takes only jobs that name that:
    a wildcard enters it only with a prefix of its name, `*` alone never."""
    if virtual:
        return any(fnmatch.fnmatchcase(virtual, name) for name in job.datacenters if name.strip("*"))
    return any(fnmatch.fnmatchcase(datacenter, name) for name in job.datacenters)


def assign_ports(
    group: TaskGroup, table: NodeTable, row: int, rng: Rng
) -> tuple[AllocatedPort, ...] | str:
    """The group's ports on this node, or the dimension that is exhausted, in Nomad's words."""
    node = table.views[row].node
    used = table.ports_used(row)
    taken: set[int] = set()
    ports: list[AllocatedPort] = []
    networks = (*group.networks, *(network for task in group.tasks for network in task.resources.networks))
    for network in networks:
        for port in network.reserved_ports:
            if port.value in used or port.value in taken or port.value in node.reserved.ports:
                return f"network: reserved port collision {port.label}={port.value}"
            taken.add(port.value)
            ports.append(AllocatedPort(label=port.label, value=port.value, to=port.to, host_ip=node.address))
    low, high = node.resources.min_dynamic_port, node.resources.max_dynamic_port
    for network in networks:
        for port in network.dynamic_ports:
            number = _dynamic_port(low, high, used, taken, node.reserved.ports, rng)
            if number is None:
                return "network: dynamic port selection failed"
            taken.add(number)
            to = number if port.to == -1 else port.to
            ports.append(AllocatedPort(label=port.label, value=number, to=to, host_ip=node.address))
    return tuple(ports)


def _dynamic_port(
    low: int, high: int, used: Mapping[int, int], taken: set[int], reserved: Sequence[int], rng: Rng
) -> int | None:
    def is_free(number: int) -> bool:
        return number not in used and number not in taken and number not in reserved

    for _ in range(_PORT_TRIES):
        number = rng.randint(low, high)
        if is_free(number):
            return number
    return next((number for number in range(low, high + 1) if is_free(number)), None)


def _document(
    request: PlaceRequest,
    table: NodeTable,
    row: int,
    ports: tuple[AllocatedPort, ...],
    rng: Rng,
    eval_id: EvalId,
    now_ns: int,
    epoch: int,
) -> DesiredAlloc:
    node = table.views[row].node
    return DesiredAlloc(
        id=AllocId(str(uuid.UUID(int=rng.getrandbits(128), version=4))),
        name=request.name,
        namespace=request.job.namespace,
        job_id=request.job.id,
        job_version=request.job.version,
        task_group=request.group.name,
        node_id=node.id,
        node_name=node.name,
        eval_id=eval_id,
        ports=ports,
        previous_allocation=request.previous.id if request.previous else AllocId(""),
        reschedule_tracker=request.tracker,
        create_time=now_ns,
        modify_time=now_ns,
        epoch=epoch,
    )
