"""What room is there on each node?

One row a node, in numpy arrays, kept up to date alloc by alloc instead of rebuilt per decision. An
alloc takes room from the moment it is planned until its agent says that it ended.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from model.alloc import AllocatedPort, AllocId
from model.job import TaskGroup
from model.node import NodeId
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
        cpu_mhz=sum(task.resources.cpu for task in group.tasks),
        memory_mb=sum(task.resources.memory_mb for task in group.tasks),
        disk_mb=group.ephemeral_disk.size_mb,
    )


class NodeTable:
    """Capacity and use of all nodes. Columns of `total` and `used`: cpu (MHz), memory (MB), disk (MB)."""

    def __init__(self) -> None:
        self.ids: list[NodeId] = []
        self.views: list[NodeView] = []
        self.rows: dict[NodeId, int] = {}
        self.total: Floats = np.zeros((0, 3))
        self.used: Floats = np.zeros((0, 3))
        self.takes_work: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self._ports: list[dict[int, int]] = []
        self._held: dict[AllocId, Held] = {}
        # Counts changes of nodes, so that masks computed from them can be kept while it stands still.
        self.generation = 0

    def set_node(self, view: NodeView) -> None:
        """Adds or updates a node."""
        row = self.rows.get(view.id)
        if row is None:
            row = self.rows[view.id] = len(self.ids)
            self.ids.append(view.id)
            self.views.append(view)
            self._ports.append({})
            if row >= len(self.takes_work):
                self._grow(max(16, 2 * row))
        elif self.views[row].node != view.node:
            self.generation += 1
        if self.views[row] is not view or not self.total[row].any():
            self.generation += 1
        self.views[row] = view
        node = view.node
        self.total[row] = (
            node.resources.cpu_mhz - node.reserved.cpu_mhz,
            node.resources.memory_mb - node.reserved.memory_mb,
            node.resources.disk_mb - node.reserved.disk_mb,
        )
        self.takes_work[row] = view.takes_work

    def drop_node(self, node_id: NodeId) -> None:
        """A node that is gone keeps its row, without room or work, until the table is rebuilt."""
        row = self.rows.get(node_id)
        if row is not None:
            self.takes_work[row] = False
            self.generation += 1

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
