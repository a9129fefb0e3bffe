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
from leader.decide.place import held_by, place
from leader.decide.ports import Rng
from leader.decide.spread import Cells
from leader.decide.table import NodeTable
from model.alloc import Alloc, AllocId, EvalId
from model.job import Job, Spread, TaskGroup
from model.node import NodeId
from model.plan import PlaceRequest

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
        now = list(allocs)
        moved: set[AllocId] = set()
        while (move := self._next(job, now, moved)) is not None:
            moved.add(move.alloc.id)
            now = [_at(alloc, move.to) if alloc.id == move.alloc.id else alloc for alloc in now]
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

    def _next(self, job: Job, allocs: Sequence[Alloc], moved: set[AllocId]) -> Move | None:
        cells = self._cells(self._spreads(), allocs)
        asked: set[NodeId] = set()
        for alloc in self._fullest_first(cells, allocs, moved):
            if alloc.desired.node_id in asked:
                continue
            if len(asked) == _TRIES:
                return None
            asked.add(alloc.desired.node_id)
            move = self._try(job, cells, alloc, allocs)
            if move is not None:
                return move
        return None

    def _fullest_first(self, cells: Cells, allocs: Sequence[Alloc], moved: set[AllocId]) -> list[Alloc]:
        may = [
            alloc
            for alloc in allocs
            if alloc.desired.task_group == self.group.name
            and alloc.id not in moved
            and alloc.is_live
            and is_healthy(alloc, self.job, self.group)
            and alloc.desired.node_id in self.table.rows
        ]
        rows = np.array([self.table.rows[alloc.desired.node_id] for alloc in may], dtype=np.int64)
        surplus = cells.surplus(rows).tolist()
        load = (self.table.used[rows] / np.maximum(self.table.total[rows], 1.0)).max(axis=1).tolist() if may else []
        order = sorted(range(len(may)), key=lambda i: (-surplus[i], -load[i], may[i].desired.name, may[i].id))
        return [may[i] for i in order]

    def _try(self, job: Job, cells: Cells, alloc: Alloc, allocs: Sequence[Alloc]) -> Move | None:
        """Places it once more without itself; on the table only if that gains."""
        group = job.group(self.group.name)
        if group is None:
            return None
        request = PlaceRequest(job=job, group=group, name=alloc.desired.name, previous=alloc, avoid=alloc.desired.node_id)
        others = held_by(one for one in allocs if one.id != alloc.id)
        placed = place(
            [request], table=self.table, cache=self.cache, held=others, rng=self.rng, eval_id=EvalId(""), now_ns=0, epoch=0
        )
        for new in placed.allocs:
            row, to = self.table.rows[alloc.desired.node_id], self.table.rows[new.node_id]
            if cells.gain(row, to) > _GAIN_MIN:
                self.table.free(alloc.id)
                return Move(alloc=alloc, to=new.node_id)
            self.table.free(new.id)
        return None


def _at(alloc: Alloc, node_id: NodeId) -> Alloc:
    """The alloc as if it ran on that node."""
    return replace(alloc, desired=msgspec.structs.replace(alloc.desired, node_id=node_id))
