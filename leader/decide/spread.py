"""How should a group's allocs divide over the values of an attribute?

    spread blocks ──> cells (nodes with the same value of every attribute that counts) ──> how many each is short of

Nodes of one cell are alike to every spread and every distinct_property, so both are decided per cell and not per
node. What a cell is short of is counted in allocs, weighted over the spreads: always taking the cell that is
shortest ends within one alloc of every target, which Nomad's scores (a mean with bin packing) do not.

distinct_property and `max_skew` forbid cells; they are never traded for anything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from leader.decide.constraints import reason, resolve
from leader.decide.table import NodeTable
from model.job import Constraint, Spread
from model.node import NodeId

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

# Targets whose per cents do not reach this much leave a remainder for the values not named.
_ALL = 100


class Values:
    """The values of one attribute: a number for each, 0 where a node has none."""

    def __init__(self, table: NodeTable, attribute: str) -> None:
        size = len(table.ids)
        self.numbers: dict[str, int] = {}
        if "unique." in attribute:
            self.of_row = np.fromiter(
                (self._number(resolve(attribute, view.node)) for view in table.views), np.int64, size
            )
        else:
            by_class = [self._number(resolve(attribute, node)) for node in table.classes]
            self.of_row = np.array(by_class, dtype=np.int64)[table.class_of[:size]] if size else np.zeros(0, np.int64)

    def _number(self, value: str | None) -> int:
        return 0 if value is None else self.numbers.setdefault(value, len(self.numbers) + 1)

    def count(self, table: NodeTable, here: Mapping[NodeId, int]) -> Ints:
        """How many allocs each value holds, [0] those on nodes without one."""
        counts = np.zeros(len(self.numbers) + 1, dtype=np.int64)
        for node_id, count in here.items():
            row = table.rows.get(node_id)
            if row is not None:
                counts[self.of_row[row]] += count
        return counts


@dataclass(slots=True)
class _Target:
    """One spread block. target: allocs each value should hold. is_pooled: values that share one remainder."""

    weight: float
    values: Values
    counts: Ints
    target: Floats
    is_pooled: Mask
    max_skew: int | None
    of_cell: Ints


@dataclass(slots=True)
class _Limit:
    """One distinct_property: at most `limit` allocs a value."""

    name: str
    limit: int
    values: Values
    counts: Ints
    is_of_job: bool  # counts the allocs of all the job's groups
    of_cell: Ints


class Cells:
    """The cells of the nodes in `mask`, and what each is short of now. `of_row` is -1 outside of the mask."""

    def __init__(
        self,
        table: NodeTable,
        mask: Mask,
        spreads: Sequence[Spread],
        limits: Sequence[tuple[Constraint, Mapping[NodeId, int], bool]],
        here: Mapping[NodeId, int],
        count: int,
    ) -> None:
        """limits: each distinct_property with the allocs it counts, and whether they are the whole job's. here: the
        group's. count: wanted in the end."""
        known: dict[str, Values] = {}

        def values_of(attribute: str) -> Values:
            if attribute not in known:
                known[attribute] = Values(table, attribute)
            return known[attribute]

        wanted = [(spread, values_of(spread.attribute)) for spread in spreads]
        limited = [(constraint, values_of(constraint.ltarget), of, is_job) for constraint, of, is_job in limits]
        rows = np.flatnonzero(mask)
        self.of_row: Ints = np.full(len(mask), -1, dtype=np.int64)
        if known and len(rows):
            columns = np.stack([values.of_row[rows] for values in known.values()], axis=1)
            cells, inverse = np.unique(columns, axis=0, return_inverse=True)
            self.of_row[rows] = inverse.ravel()
            column = {attribute: cells[:, number] for number, attribute in enumerate(known)}
            self.size = len(cells)
        else:
            self.of_row[rows] = 0
            column = {attribute: np.zeros(1, dtype=np.int64) for attribute in known}
            self.size = 1
        total = sum(abs(spread.weight) for spread in spreads) or 1
        self._targets = [
            _target(spread, values, values.count(table, here), count, spread.weight / total, column[spread.attribute])
            for spread, values in wanted
        ]
        self._limits = [
            _Limit(
                reason(constraint),
                int(constraint.rtarget) if constraint.rtarget.isdecimal() else 1,
                values,
                values.count(table, of),
                is_job,
                column[constraint.ltarget],
            )
            for constraint, values, of, is_job in limited
        ]

    def short(self) -> Floats:
        """By cell: how many allocs it is short of, weighted; -inf where none may go."""
        found = np.zeros(self.size)
        for one in self._targets:
            surplus = _surplus(one)
            found -= one.weight * surplus[one.of_cell]
            if one.max_skew is not None:
                open_values = np.unique(one.of_cell)
                open_values = open_values[open_values > 0]
                least = surplus[open_values].min() if len(open_values) else 0.0
                too_far = surplus[one.of_cell] + 1 - least > one.max_skew + 1e-9
                found[too_far | (one.of_cell == 0)] = -np.inf
        for limit in self._limits:
            found[limit.counts[limit.of_cell] >= limit.limit] = -np.inf
            found[limit.of_cell == 0] = -np.inf
        return found

    def gain(self, row: int, to: int) -> float:
        """By how much a move from one row's node to another's brings the counts nearer to their targets, in allocs;
        above 0 is worth it. A move from a value to one that holds two less gains 1."""
        gained = 0.0
        for one in self._targets:
            value, other = one.values.of_row[row], one.values.of_row[to]
            if value != other:
                # Values that share a remainder have one surplus together, and even out among themselves.
                is_shared = one.is_pooled[value] and one.is_pooled[other]
                surplus = one.counts if is_shared else _surplus(one)
                gained += one.weight * float(surplus[value] - surplus[other] - 1)
        return gained

    def surplus(self, rows: Ints) -> Floats:
        """How much above their targets the values of these rows are, weighted."""
        found = np.zeros(len(rows))
        for one in self._targets:
            found += one.weight * _surplus(one)[one.values.of_row[rows]]
        return found

    def shares(self, number: int) -> list[tuple[str, float, int]]:
        """Of one spread: every value that is named or can be had, what it should hold and what it holds. Values that
        share a remainder should hold equal parts of it."""
        one = self._targets[number]
        open_values = set(np.unique(one.of_cell[one.of_cell > 0]).tolist())
        return [
            (value, float(max(one.target[at], 0.0)), int(one.counts[at]))
            for value, at in sorted(one.values.numbers.items())
            if at in open_values or one.counts[at] > 0
        ]

    def skews(self) -> list[float]:
        """Of each spread, how many allocs the fullest value is further above its target than the emptiest."""
        found = []
        for one in self._targets:
            open_values = np.unique(one.of_cell[one.of_cell > 0])
            surplus = _surplus(one)[open_values]
            found.append(float(surplus.max() - surplus.min()) if len(open_values) else 0.0)
        return found

    def change(self, row: int, by: int, *, is_own: bool) -> None:
        """An alloc of the job came to the row's node (+1), or left it (-1). is_own: of this very group."""
        if is_own:
            for one in self._targets:
                one.counts[one.values.of_row[row]] += by
        for limit in self._limits:
            if is_own or limit.is_of_job:
                limit.counts[limit.values.of_row[row]] += by

    def refused(self, rows: Ints) -> tuple[dict[str, int], Ints]:
        """{reason: nodes} of these rows whose cell takes nothing, by the first rule that says so; and the others."""
        found: dict[str, int] = {}
        left = rows
        rules: list[tuple[str, Callable[[Ints], Mask]]] = [
            *((limit.name, lambda at, limit=limit: _is_full(limit, at)) for limit in self._limits),
            *((f"max_skew {one.max_skew}", lambda at, one=one: _is_skewed(one, at)) for one in self._targets if one.max_skew is not None),
        ]  # fmt: skip
        for name, is_refused in rules:
            refused = is_refused(left)
            if refused.any():
                found[name] = found.get(name, 0) + int(refused.sum())
                left = left[~refused]
        return found, left


def _is_full(limit: _Limit, rows: Ints) -> Mask:
    values = limit.values.of_row[rows]
    full: Mask = (values == 0) | (limit.counts[values] >= limit.limit)
    return full


def _is_skewed(one: _Target, rows: Ints) -> Mask:
    surplus, values = _surplus(one), one.values.of_row[rows]
    open_values = np.unique(one.of_cell)
    open_values = open_values[open_values > 0]
    least = surplus[open_values].min() if len(open_values) else 0.0
    skewed: Mask = (values == 0) | (surplus[values] + 1 - least > (one.max_skew or 0) + 1e-9)
    return skewed


def _surplus(one: _Target) -> Floats:
    """By value: allocs above its target; values that share a remainder lack together, and evenly among themselves."""
    surplus: Floats = one.counts - one.target
    if one.is_pooled.any():
        pool = one.is_pooled
        together = float(one.counts[pool].sum() - one.target[pool].sum())
        # The pool competes with the other values as one; inside of it the emptiest value comes first.
        surplus[pool] = together + 1e-6 * one.counts[pool]
    return surplus


def _target(spread: Spread, values: Values, counts: Ints, count: int, weight: float, of_cell: Ints) -> _Target:
    size = len(values.numbers) + 1
    target, is_pooled = np.zeros(size), np.zeros(size, dtype=bool)
    open_values = np.unique(of_cell[of_cell > 0])
    if not spread.spread_target:
        # Even, over the values that can be had.
        if len(open_values):
            target[open_values] = count / len(open_values)
    else:
        named = 0
        for one in spread.spread_target:
            named += one.percent
            number = values.numbers.get(one.value)
            if number is not None:
                target[number] = count * one.percent / _ALL
        if named < _ALL:
            names = {values.numbers.get(one.value, 0) for one in spread.spread_target}
            rest = np.array([number for number in open_values if number not in names], dtype=np.int64)
            if len(rest):
                is_pooled[rest] = True
                target[rest] = count * (_ALL - named) / _ALL / len(rest)
    # A node without the attribute is behind all others, whatever they hold.
    target[0] = -10.0 * (count + counts.sum() + 1)
    return _Target(weight, values, counts, target, is_pooled, spread.max_skew, of_cell)
