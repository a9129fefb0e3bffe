"""Which allocs should move, now that there are other nodes than when they were placed?

    allocs of a group ──the ones furthest above their targets──> where would each go today?
                                └─ nearer to the targets ─> a move; until no move helps any more

Each move must gain: the smallest set of moves that a step-by-step descent finds, not a fresh placement of all. What
is evened out are the group's own spreads and, behind them, how many of its allocs each node holds. Where an alloc
would go is place.py's answer, so that every constraint, port and limit holds there too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from leader.decide.draft import is_healthy
from leader.decide.feasible import FeasibleCache
from leader.decide.place import Relocating, held_by
from leader.decide.ports import Rng
from leader.decide.spread import Cells
from leader.decide.table import NodeTable
from leader.decide.volumes import is_per_alloc
from model.alloc import Alloc, AllocId
from model.job import Job, Spread, TaskGroup
from model.node import NodeId

# Behind every spread of the job's own, whose weights begin at 1 of usually 50.
_EVEN = Spread(attribute="${node.unique.id}", weight=1)
# Allocs that are asked where they would go before a group is left as it is: of different nodes, the fullest first.
_TRIES = 8
# Less is no gain but how floats add up.
_GAIN_MIN = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    alloc: Alloc
    to: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """One attribute: how many allocs the fullest value is further above its target than the emptiest one."""

    attribute: str
    before: float
    after: float


@dataclass(slots=True)
class Balancing:
    """One group on a trial table, which the moves of groups before it have changed already."""

    job: Job
    group: TaskGroup
    table: NodeTable
    cache: FeasibleCache
    rng: Rng

    def moves(self, allocs: Sequence[Alloc]) -> Iterator[Move]:
        """Move after move, each as if those before were done. allocs: the job's, of all groups; those of the group
        that are not healthy stay. The table follows: a caller that stops asking has it half way."""
        job = self._evenly()
        group = job.group(self.group.name)
        if group is None or is_per_alloc(group):  # whose volumes stand where they stand
            return
        relocating = Relocating(job, group, self.table, self.cache, held_by(allocs))
        left = [alloc for alloc in allocs if self._may_move(alloc)]
        while (move := self._next(relocating, left)) is not None:
            left.remove(move.alloc)
            yield move

    def skews(self, allocs: Sequence[Alloc], after: Mapping[AllocId, NodeId]) -> tuple[Skew, ...]:
        """after: where those that move go."""
        moved = [_at(alloc, after[alloc.id]) if alloc.id in after else alloc for alloc in allocs]
        spreads = self._spreads()
        before, then = (self._cells(spreads, of).skews() for of in (allocs, moved))
        return tuple(
            Skew(attribute=spread.attribute, before=old, after=new) for spread, old, new in zip(spreads, before, then)
        )

    def _spreads(self) -> tuple[Spread, ...]:
        return (*self.job.spreads, *self.group.spreads, _EVEN)

    def _evenly(self) -> Job:
        """The job with an even spread over the nodes behind its own spreads."""
        group = msgspec.structs.replace(self.group, spreads=(*self.group.spreads, _EVEN))
        others = (g if g.name != group.name else group for g in self.job.task_groups)
        return msgspec.structs.replace(self.job, task_groups=tuple(others))

    def _cells(self, spreads: Sequence[Spread], allocs: Sequence[Alloc]) -> Cells:
        mask = self.cache.get(self.table, self.job, self.group).mask & self.table.takes_work[: len(self.table.ids)]
        here = held_by(alloc for alloc in allocs if alloc.desired.task_group == self.group.name)
        return Cells(self.table, mask, spreads, (), here.get(self.group.name, {}), self.group.count)

    def _next(self, relocating: Relocating, left: Sequence[Alloc]) -> Move | None:
        asked: set[NodeId] = set()
        for alloc in self._fullest_first(relocating, left):
            if alloc.desired.node_id in asked:
                continue
            if len(asked) == _TRIES:
                return None
            asked.add(alloc.desired.node_id)
            to = relocating.move(alloc, _GAIN_MIN, self.rng)
            if to is not None:
                return Move(alloc=alloc, to=to)
        return None

    def _may_move(self, alloc: Alloc) -> bool:
        desired = alloc.desired
        is_there = desired.task_group == self.group.name and desired.node_id in self.table.rows
        return is_there and alloc.is_live and is_healthy(alloc, self.job, self.group)

    def _fullest_first(self, relocating: Relocating, left: Sequence[Alloc]) -> list[Alloc]:
        rows = np.array([self.table.rows[alloc.desired.node_id] for alloc in left], dtype=np.int64)
        surplus = relocating.surplus(rows)
        load = (self.table.used[rows] / np.maximum(self.table.total[rows], 1.0)).max(axis=1).tolist() if left else []
        order = sorted(range(len(left)), key=lambda i: (-surplus[i], -load[i], left[i].desired.name, left[i].id))
        return [left[i] for i in order]


def _at(alloc: Alloc, node_id: NodeId) -> Alloc:
    """The alloc as if it ran on that node."""
    return replace(alloc, desired=msgspec.structs.replace(alloc.desired, node_id=node_id))
