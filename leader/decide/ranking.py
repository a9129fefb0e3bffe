"""How good is each node for a group, and why?

The parts are Nomad's: bin packing (or its opposite, spreading) by cpu and memory in 0..1, job anti-affinity
-(collisions + 1) / count, affinities in -1..1, -1 for a node where it failed before; a node's score is the mean
of those that apply to it. Kept as arrays over all nodes: after a placement only the chosen node's row is worked out again.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from leader.decide.constraints import is_unique, violated
from leader.decide.table import Amounts, NodeTable, ask_of
from model.job import Affinity, Constraint, Job, TaskGroup

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BINPACK = "binpack"
RESCHEDULE_PENALTY = -1.0


class Ranking:
    """Scores of all nodes for one group. `scores` is -inf where it finds no room."""

    def __init__(
        self, table: NodeTable, job: Job, group: TaskGroup, mask: Mask, here: Mapping[int, int], algorithm: str
    ) -> None:
        """mask: the rows that may. here: {row: live allocs of the group there}."""
        self._table, self._mask, self._here, self._count = table, mask, here, max(1, group.count)
        self._ask = ask_of(group)
        self._fixed = self._ask.amounts(0.0)
        self._algorithm = algorithm
        self._affinity = _affinity_scores(table, affinities_of(job, group))
        size = len(table.ids)
        self.scores: Floats = np.full(size, -np.inf)
        rows = np.flatnonzero(mask)
        need = table.needs(self._ask, rows) if self._ask.cores else self._fixed
        total, used = table.total[rows], table.used[rows] + need
        fits = ~(used > total).any(axis=1)
        rows, total, used = rows[fits], np.maximum(total[fits], 1.0), used[fits]
        share = 1.0 - used[:, :2] / total[:, :2]
        packed = np.power(10.0, share).sum(axis=1)
        base = np.clip(20.0 - packed if algorithm == BINPACK else packed - 2.0, 0.0, 18.0) / 18.0
        parts = np.ones(len(rows))
        if self._affinity is not None:
            affinity = self._affinity[rows]
            base = base + affinity
            parts += affinity != 0.0
        self.scores[rows] = base / parts
        for row in here:
            self.refresh(row)

    def need(self, row: int) -> Amounts:
        """What the group takes of the row's node, by column."""
        return self._ask.amounts(float(self._table.core_mhz[row])) if self._ask.cores else self._fixed

    def refresh(self, row: int) -> None:
        """Works the row's score out again after its use or its allocs changed."""
        self.scores[row] = self._score(row) if self._mask[row] else -np.inf

    def _score(self, row: int, *, is_penalized: bool = False) -> float:
        parts = self.parts(row, is_penalized=is_penalized)
        return sum(parts.values()) / len(parts) if parts else -np.inf

    def penalized(self, row: int) -> float:
        """The row's score for an alloc that failed there."""
        return self._score(row, is_penalized=True) if self._mask[row] else -np.inf

    def parts(self, row: int, *, is_penalized: bool = False) -> dict[str, float]:
        """The parts of the row's score by Nomad's names, where "binpack" is the fit by whatever algorithm; empty where
        there is no room."""
        total, used, need = self._table.total[row].tolist(), self._table.used[row].tolist(), self._fixed
        if need[3]:
            need = self.need(row)
            if used[3] + need[3] > total[3]:
                return {}
        if used[0] + need[0] > total[0] or used[1] + need[1] > total[1] or used[2] + need[2] > total[2]:
            return {}
        packed = 10.0 ** (1.0 - (used[0] + need[0]) / max(total[0], 1.0)) + 10.0 ** (
            1.0 - (used[1] + need[1]) / max(total[1], 1.0)
        )
        fit = 20.0 - packed if self._algorithm == BINPACK else packed - 2.0
        parts = {BINPACK: min(max(fit, 0.0), 18.0) / 18.0}
        collisions = self._here.get(row, 0)
        if collisions > 0:
            parts["job-anti-affinity"] = -(collisions + 1) / self._count
        if self._affinity is not None and self._affinity[row]:
            parts["node-affinity"] = float(self._affinity[row])
        if is_penalized:
            parts["node-reschedule-penalty"] = RESCHEDULE_PENALTY
        return parts


def affinities_of(job: Job, group: TaskGroup) -> tuple[Affinity, ...]:
    return (*job.affinities, *group.affinities, *(a for task in group.tasks for a in task.affinities))


def _affinity_scores(table: NodeTable, affinities: Sequence[Affinity]) -> Floats | None:
    """The weights of those that hold, over the sum of all: -1..1. None without affinities."""
    if not affinities:
        return None
    size = len(table.ids)
    scores: Floats = np.zeros(size)
    total = sum(abs(one.weight) for one in affinities) or 1
    for one in affinities:
        asked = Constraint(ltarget=one.ltarget, operand=one.operand, rtarget=one.rtarget)
        if is_unique(asked):
            holds = np.fromiter((not violated(asked, view.node) for view in table.views), np.bool_, size)
        else:
            by_class = np.array([not violated(asked, node) for node in table.classes], dtype=np.bool_)
            holds = by_class[table.class_of[:size]] if size else np.zeros(0, np.bool_)
        scores[holds] += one.weight / total
    return scores
