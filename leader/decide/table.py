"""What room is there on each node?

One row a node, in numpy arrays, kept up to date alloc by alloc instead of rebuilt per decision. An
alloc takes room from the moment it is planned until its agent says that it ended. Cores that a task has to
itself count twice, as cores and as the MHz that they are on their node.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from leader.decide.cores import free_cores
from model.alloc import AllocatedPort, AllocId, TaskCores
from model.job import Namespace, Task, TaskGroup
from model.node import Node, NodeId
from model.snapshot import NodeView

Floats = npt.NDArray[np.float64]
# An address of a node and a port there.
HostPort = tuple[str, int]
# What is taken in all columns.
Amounts = tuple[float, float, float, float]

_Key = TypeVar("_Key", HostPort, int)

# Nomad's names of the columns.
DIMENSIONS = ("cpu", "memory", "disk", "cores")


@dataclass(frozen=True, slots=True)
class Ask:
    """What one alloc of a group takes: MHz, MB, MB, whole cores. cpu_mhz: without that of the cores."""

    cpu_mhz: int
    memory_mb: int
    disk_mb: int
    cores: int = 0

    def amounts(self, core_mhz: float) -> Amounts:
        """By column, on a node whose cores count for so many MHz each."""
        return self.cpu_mhz + self.cores * core_mhz, self.memory_mb, self.disk_mb, self.cores


def ask_of(group: TaskGroup) -> Ask:
    return Ask(
        cpu_mhz=_most_at_once(group.tasks, lambda task: 0 if task.resources.cores else task.resources.cpu),
        memory_mb=_most_at_once(group.tasks, lambda task: task.resources.memory_mb),
        disk_mb=group.ephemeral_disk.size_mb,
        cores=sum(task.resources.cores for task in group.tasks),
    )


def _most_at_once(tasks: Iterable[Task], size: Callable[[Task], int]) -> int:
    """What is taken at the fullest moment, as Nomad counts: prestart tasks have ended when the main ones begin, and
    these when poststop tasks do; prestart sidecars run beside both prestart and main tasks."""
    before = main = after = 0
    for task in tasks:
        hook = task.lifecycle.hook if task.lifecycle else ""
        is_sidecar = task.lifecycle is not None and task.lifecycle.sidecar
        if hook == "prestart":
            before += size(task)
        if hook in ("", "poststart") or (hook == "prestart" and is_sidecar):
            main += size(task)
        if hook == "poststop":
            after += size(task)
    return max(before, main, after)


class Held(NamedTuple):
    """What an alloc has of its node. ports: with the addresses that they were given out on."""

    node_id: NodeId
    amounts: Amounts
    ports: tuple[HostPort, ...]
    cores: tuple[int, ...]


class NodeTable:
    """Capacity and use of all nodes. Columns of `total` and `used`: cpu (MHz), memory (MB), disk (MB), whole cores."""

    def __init__(self) -> None:
        self.ids: list[NodeId] = []
        self.views: list[NodeView] = []
        self.rows: dict[NodeId, int] = {}
        self.total: Floats = np.zeros((0, len(DIMENSIONS)))
        self.used: Floats = np.zeros((0, len(DIMENSIONS)))
        self.core_mhz: Floats = np.zeros(0)
        self.takes_work: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)
        # Nodes that only their unique attributes tell apart: one node of each class, and each row's class.
        self.classes: list[Node] = []
        self.class_of: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._class_numbers: dict[object, int] = {}
        self._addresses: list[tuple[str, ...]] = []  # by row, the default network's first
        self._ports: list[dict[HostPort, int]] = []
        self._cores: list[dict[int, int]] = []
        self._held: dict[AllocId, Held] = {}
        # The virtual datacenters that alone the jobs of a namespace have.
        self.bindings: dict[Namespace, tuple[str, ...]] = {}
        # Counts changes of nodes and bindings, so that masks computed from them can be kept while it stands still.
        self.generation = 0

    def copy(self) -> "NodeTable":
        """For a trial: what it takes leaves no trace here. What is known of the nodes is shared: set none on it."""
        trial = copy(self)
        trial.used, trial._held = self.used.copy(), self._held.copy()
        trial._ports = [ports.copy() for ports in self._ports]
        trial._cores = [cores.copy() for cores in self._cores]
        return trial

    def bind(self, namespace: Namespace, virtual_datacenters: Sequence[str]) -> None:
        """() for a namespace whose jobs may run anywhere."""
        before = self.bindings.pop(namespace, ())
        if virtual_datacenters:
            self.bindings[namespace] = tuple(virtual_datacenters)
        if before != tuple(virtual_datacenters):
            self.generation += 1

    def set_node(self, view: NodeView) -> None:
        """Adds or updates a node."""
        row, node = self.rows.get(view.id), view.node
        if row is None:
            row = self.rows[view.id] = len(self.ids)
            self.ids.append(view.id)
            self.views.append(view)
            self._addresses.append(())
            self._ports.append({})
            self._cores.append({})
            if row >= len(self.takes_work):
                self._grow(max(16, 2 * row))
            self._set_facts(row, node)
        elif self.views[row].node != node:
            self._set_facts(row, node)
        self.views[row] = view
        self.takes_work[row] = view.takes_work

    def _set_facts(self, row: int, node: Node) -> None:
        self.generation += 1
        self.total[row] = (
            node.resources.cpu_mhz - node.reserved.cpu_mhz,
            node.resources.memory_mb - node.reserved.memory_mb,
            node.resources.disk_mb - node.reserved.disk_mb,
            len(free_cores(node, ())),
        )
        self.core_mhz[row] = node.resources.core_mhz
        addresses = (node.address, *(network.address for network in node.host_networks))
        if addresses != self._addresses[row]:
            self._addresses[row] = addresses
            self._count_ports(row, node.id)
        self._classify(row, node)

    def _count_ports(self, row: int, node_id: NodeId) -> None:
        """Anew, for the node has other addresses now: what is on one that it no longer has counts on its first."""
        self._ports[row].clear()
        for held in self._held.values():
            if held.node_id == node_id:
                self._take_ports(row, held.ports)

    def _classify(self, row: int, node: Node) -> None:
        if len(self.classes) > 2 * len(self.ids) + 64:  # what nodes were once
            self.classes.clear()
            self._class_numbers.clear()
            for other, view in enumerate(self.views):
                self.class_of[other] = self._class_number(view.node)
        self.class_of[row] = self._class_number(node)

    def _class_number(self, node: Node) -> int:
        key = (
            node.datacenter,
            node.virtual_datacenter,
            node.node_class,
            frozenset(item for item in node.attributes.items() if not item[0].startswith("unique.")),
            frozenset(item for item in node.meta.items() if not item[0].startswith("unique.")),
            frozenset((name, driver.detected, driver.healthy) for name, driver in node.drivers.items()),
            frozenset((name, volume.read_only) for name, volume in node.host_volumes.items()),
            frozenset(network.name for network in node.host_networks),
        )
        number = self._class_numbers.get(key)
        if number is None:
            number = self._class_numbers[key] = len(self.classes)
            self.classes.append(node)
        return number

    def drop_node(self, node_id: NodeId) -> None:
        """A node that is gone keeps its row, without room or work, until the table is rebuilt."""
        row = self.rows.get(node_id)
        if row is not None:
            self.takes_work[row] = False

    def hold(
        self,
        alloc_id: AllocId,
        node_id: NodeId,
        ask: Ask,
        ports: tuple[AllocatedPort, ...],
        cores: Sequence[TaskCores] = (),
    ) -> None:
        """Takes room. Idempotent per alloc."""
        if alloc_id not in self._held and node_id in self.rows:
            amounts = ask.amounts(float(self.core_mhz[self.rows[node_id]]) if ask.cores else 0.0)
            places = tuple([(port.host_ip, port.value) for port in ports])
            ids = tuple([core for given in cores for core in given.ids])
            self.take_back(alloc_id, Held(node_id, amounts, places, ids))

    def take_back(self, alloc_id: AllocId, held: Held) -> None:
        """Takes again what `free` gave."""
        self._held[alloc_id] = held
        row = self.rows[held.node_id]
        self.used[row] += held.amounts
        if held.ports:
            self._take_ports(row, held.ports)
        for core in held.cores:
            self._cores[row][core] = self._cores[row].get(core, 0) + 1

    def free(self, alloc_id: AllocId) -> Held | None:
        """Gives room back, and returns what it was. Idempotent per alloc."""
        held = self._held.pop(alloc_id, None)
        if held is None:
            return None
        row = self.rows[held.node_id]
        self.used[row] -= held.amounts
        for port in held.ports:
            addresses = self._addresses[row]
            _give_back(self._ports[row], port if port[0] in addresses else (addresses[0], port[1]))
        for core in held.cores:
            _give_back(self._cores[row], core)
        return held

    def ports_used(self, row: int) -> Mapping[HostPort, int]:
        """{(address, port): number of allocs that hold it} on the row's node."""
        return self._ports[row]

    def cores_used(self, row: int) -> Mapping[int, int]:
        """{core: number of allocs that have it} on the row's node."""
        return self._cores[row]

    def missing(self, ask: Ask, rows: npt.NDArray[np.int64]) -> Floats:
        """How much of each column the rows lack for it, 0 or less where nothing is missing. Where whole cores are
        missing, their MHz are so as well, which says nothing more: as in Nomad cores come first."""
        missing = self.needs(ask, rows) - (self.total[rows] - self.used[rows])
        if ask.cores:
            missing[missing[:, 3] > 0, 0] = 0.0
        return missing

    def needs(self, ask: Ask, rows: npt.NDArray[np.int64]) -> Floats:
        """What it takes of each column on these rows."""
        needs: Floats = np.tile(np.array(ask.amounts(0.0), dtype=np.float64), (len(rows), 1))
        if ask.cores:
            needs[:, 0] += ask.cores * self.core_mhz[rows]
        return needs

    def _take_ports(self, row: int, ports: Sequence[HostPort]) -> None:
        """On the addresses that they were given out on; on the node's first if it no longer has one of them."""
        held, addresses = self._ports[row], self._addresses[row]
        for port in ports:
            counted = port if port[0] in addresses else (addresses[0], port[1])
            held[counted] = held.get(counted, 0) + 1

    def _grow(self, size: int) -> None:
        def larger(old: npt.NDArray[Any]) -> npt.NDArray[Any]:
            new = np.zeros((size, *old.shape[1:]), dtype=old.dtype)
            new[: len(old)] = old
            return new

        self.total, self.used, self.takes_work = larger(self.total), larger(self.used), larger(self.takes_work)
        self.class_of, self.core_mhz = larger(self.class_of), larger(self.core_mhz)


def _give_back(counts: dict[_Key, int], key: _Key) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]
