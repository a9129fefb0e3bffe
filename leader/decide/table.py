"""What room is there on each node?

One row a node, in numpy arrays, kept up to date alloc by alloc instead of rebuilt per decision. An
alloc takes room from the moment it is planned until its agent says that it ended.
"""

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.alloc import AllocatedPort, AllocId
from model.job import Task, TaskGroup
from model.node import Node, NodeId
from model.snapshot import NodeView

Floats = npt.NDArray[np.float64]
# Node, what was asked for, host ports.
Held = tuple[NodeId, "Ask", tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Ask:
    """What one alloc of a group takes: MHz, MB, MB."""

    cpu_mhz: int
    memory_mb: int
    disk_mb: int


def ask_of(group: TaskGroup) -> Ask:
    return Ask(
        cpu_mhz=_most_at_once(group.tasks, lambda task: task.resources.cpu),
        memory_mb=_most_at_once(group.tasks, lambda task: task.resources.memory_mb),
        disk_mb=group.ephemeral_disk.size_mb,
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


class NodeTable:
    """Capacity and use of all nodes. Columns of `total` and `used`: cpu (MHz), memory (MB), disk (MB)."""

    def __init__(self) -> None:
        self.ids: list[NodeId] = []
        self.views: list[NodeView] = []
        self.rows: dict[NodeId, int] = {}
        self.total: Floats = np.zeros((0, 3))
        self.used: Floats = np.zeros((0, 3))
        self.takes_work: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)
        # Nodes that only their unique attributes tell apart: one node of each class, and each row's class.
        self.classes: list[Node] = []
        self.class_of: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._class_numbers: dict[object, int] = {}
        self._ports: list[dict[int, int]] = []
        self._held: dict[AllocId, Held] = {}
        # Counts changes of nodes, so that masks computed from them can be kept while it stands still.
        self.generation = 0

    def copy(self) -> "NodeTable":
        """For a trial: what it takes leaves no trace here. What is known of the nodes is shared: set none on it."""
        trial = copy(self)
        trial.used, trial._held = self.used.copy(), self._held.copy()
        trial._ports = [ports.copy() for ports in self._ports]
        return trial

    def set_node(self, view: NodeView) -> None:
        """Adds or updates a node."""
        row, node = self.rows.get(view.id), view.node
        if row is None:
            row = self.rows[view.id] = len(self.ids)
            self.ids.append(view.id)
            self.views.append(view)
            self._ports.append({})
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
        )
        self._classify(row, node)

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

    def hold(self, alloc_id: AllocId, node_id: NodeId, ask: Ask, ports: tuple[AllocatedPort, ...]) -> None:
        """Takes room. Idempotent per alloc."""
        if alloc_id not in self._held and node_id in self.rows:
            self.take_back(alloc_id, (node_id, ask, tuple(port.value for port in ports)))

    def take_back(self, alloc_id: AllocId, held: Held) -> None:
        """Takes again what `free` gave."""
        node_id, ask, numbers = self._held[alloc_id] = held
        row = self.rows[node_id]
        self.used[row] += (ask.cpu_mhz, ask.memory_mb, ask.disk_mb)
        for number in numbers:
            self._ports[row][number] = self._ports[row].get(number, 0) + 1

    def free(self, alloc_id: AllocId) -> Held | None:
        """Gives room back, and returns what it was. Idempotent per alloc."""
        held = self._held.pop(alloc_id, None)
        if held is None:
            return None
        node_id, ask, numbers = held
        row = self.rows[node_id]
        self.used[row] -= (ask.cpu_mhz, ask.memory_mb, ask.disk_mb)
        for number in numbers:
            left = self._ports[row][number] - 1
            if left:
                self._ports[row][number] = left
            else:
                del self._ports[row][number]
        return held

    def ports_used(self, row: int) -> dict[int, int]:
        """{host port: number of allocs that hold it} on the row's node."""
        return self._ports[row]

    def _grow(self, size: int) -> None:
        def larger(old: npt.NDArray[Any]) -> npt.NDArray[Any]:
            new = np.zeros((size, *old.shape[1:]), dtype=old.dtype)
            new[: len(old)] = old
            return new

        self.total, self.used, self.takes_work = larger(self.total), larger(self.used), larger(self.takes_work)
        self.class_of = larger(self.class_of)
