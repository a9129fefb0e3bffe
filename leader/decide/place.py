"""Where does a missing alloc go, and if nowhere, why?

    all nodes ──feasible──> mask ──room──> scores (ranking) ──spread: the shortest cell──> the best node in it
                                                                  └─ its ports ─> taken, one row worked out again

Every filter has a reason, so every "no" can be told. Spread comes first and the score second; distinct_hosts,
distinct_property and max_skew are never traded for anything.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import numpy.typing as npt

from leader.decide.constraints import reason
from leader.decide.cores import assign_cores
from leader.decide.feasible import FeasibleCache
from leader.decide.ports import Rng, assign_ports, is_reserved, networks_of, static_ports
from leader.decide.preempt import Harm, Victim, Victims, least_harm
from leader.decide.ranking import BINPACK, Ranking
from leader.decide.spread import Cells
from leader.decide.table import DIMENSIONS, Ask, Held, NodeTable, ask_of
from leader.decide.volumes import is_per_alloc
from model.alloc import (
    Alloc,
    AllocatedPort,
    AllocId,
    ClientStatus,
    DesiredAlloc,
    DesiredStatus,
    EvalId,
    index_of,
)
from model.evaluation import ALLOCATION_SPREAD, NodeScore, PlacementMetric, norm_score
from model.job import Constraint, Job, TaskGroup
from model.node import NodeId
from model.plan import Placed, PlaceRequest, Reconciled

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

# Not a dimension, but shown beside them: what moves away from a node does not come back to it.
LEFT = "node: it is moved away from here"
# Nodes compared for whom to push away, of those where somebody could be: all of a large cluster would take too long.
_PREEMPT_NODES = 100
# The best nodes that are told of, as many as Nomad tells of.
_BEST_NODES = 5
# Digits of a score that is kept: finer than any two nodes are told apart by eye, in half the bytes.
_SCORE_DIGITS = 4
# Two cells that are short of the same, but for how floats add up.
_SAME = 1e-9


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


def merged(one: Placed, other: Placed) -> Placed:
    """Two runs over requests of one job."""
    return Placed(
        allocs=(*one.allocs, *other.allocs),
        stopped=(*one.stopped, *other.stopped),
        preempted=(*one.preempted, *other.preempted),
        failed={**one.failed, **other.failed},
        metrics={**one.metrics, **other.metrics},
        queued=_added(one.queued, other.queued) if one.queued else other.queued,
    )


def place(
    requests: Sequence[PlaceRequest],
    *,
    table: NodeTable,
    cache: FeasibleCache,
    held: Mapping[str, Mapping[NodeId, int]],
    staying: Mapping[str, Mapping[NodeId, int]] | None = None,
    leaving: Iterable[AllocId] = (),
    rng: Rng,
    eval_id: EvalId,
    now_ns: int,
    epoch: int,
    algorithm: str = BINPACK,
    victims: Victims | None = None,
) -> Placed:
    """Places what fits; takes the room in `table` as it goes. All requests are of one job version; held, staying,
    leaving: of the job's allocs. staying: those of `held` that are not about to move (None: all), for spread.

    What leaves is told to stop but has not ended. Its room and ports, as those of the alloc that a request replaces,
    are free for the job's own new ones (on the node these wait until the place is clear), and for nobody else.
    algorithm: "binpack" or "spread". victims: what runs on a node, when the job may push others away.
    """
    if not requests:
        return Placed()
    placing = _Placing(requests[0].job, table, cache, held, held if staying is None else staying, rng, algorithm, victims)
    for alloc_id in leaving:
        placing.lend(alloc_id)
    try:
        return placing.run(requests, eval_id, now_ns, epoch)
    finally:
        placing.return_lent()


class _Placing:
    """One run over one job's requests."""

    def __init__(
        self,
        job: Job,
        table: NodeTable,
        cache: FeasibleCache,
        held: Mapping[str, Mapping[NodeId, int]],
        staying: Mapping[str, Mapping[NodeId, int]],
        rng: Rng,
        algorithm: str,
        victims: Victims | None,
    ) -> None:
        self._job, self._table, self._cache, self._rng, self._algorithm = job, table, cache, rng, algorithm
        self._victims = victims
        self._held = {group: dict(nodes) for group, nodes in held.items()}
        self._staying = {group: dict(nodes) for group, nodes in staying.items()}
        self._lent: dict[AllocId, Held] = {}
        # A group whose allocs each have a volume of their own looks at the nodes anew for each of them.
        self._groups: dict[_Kind, _Group] = {}

    def lend(self, alloc_id: AllocId) -> None:
        room = self._table.free(alloc_id)
        if room is not None:
            self._lent[alloc_id] = room

    def return_lent(self) -> None:
        for alloc_id, room in self._lent.items():
            self._table.take_back(alloc_id, room)
        self._lent.clear()

    def run(self, requests: Sequence[PlaceRequest], eval_id: EvalId, now_ns: int, epoch: int) -> Placed:
        placed: list[DesiredAlloc] = []
        stopped: list[DesiredAlloc] = []
        preempted: list[DesiredAlloc] = []
        failed: dict[str, PlacementMetric] = {}
        metrics: dict[str, PlacementMetric] = {}
        queued: dict[str, int] = {}
        homeless: set[_Kind] = set()
        for request in requests:
            name, old, kind = request.group.name, request.stops, _kind(request)
            queued.setdefault(name, 0)
            is_apart = request.node_id or request.avoid is not None or (request.previous and request.group.ephemeral_disk.sticky)
            if kind in homeless and old is None and not is_apart:
                # All of a kind ask for the same: what one did not find the next will not.
                failed[name] = _coalesced(failed[name])
                queued[name] += 1
                continue
            group = self._groups.get(kind)
            if group is None:
                group = self._groups[kind] = _Group(
                    self._job, request.group, kind[1], self._table, self._cache, self._held, self._staying, self._algorithm
                )
            if old is not None:
                self.lend(old.id)
                self._changed(name, old.node_id, -1)
            choice = group.choose(request, self._rng)
            harm = self._harm(group, request) if isinstance(choice, PlacementMetric) else None
            if harm is not None:
                row, going = harm
                for victim in going:
                    self.lend(victim.id)
                there = group.on(row, self._rng)
                if isinstance(there, PlacementMetric):  # room, but no ports: why not on any node stays the answer
                    for victim in going:
                        self._take_back(victim.id)
                    group.refresh(row)
                else:
                    choice = there
            if isinstance(choice, PlacementMetric):
                failed[name] = _merged(failed.get(name), choice, is_of_one_node=bool(request.node_id))
                if request.avoid is None:
                    homeless.add(kind)
                queued[name] += 1
                if old is not None:
                    self._take_back(old.id)
                    self._changed(name, old.node_id, 1)
                continue
            row, ports = choice
            going = harm[1] if harm is not None else ()
            if name not in metrics and not request.node_id:
                metrics[name] = group.picture()
            scores = group.scores_of(row, request)
            alloc = self._document(request, group.ask, row, ports, scores, going, eval_id, now_ns, epoch)
            preempted.extend(_preempted(victim.desired, alloc.id) for victim in going)
            self._table.hold(alloc.id, alloc.node_id, group.ask, ports, alloc.cores)
            self._changed(name, alloc.node_id, 1)
            placed.append(alloc)
            if old is not None:
                stopped.append(old)
        if failed and self._job.all_at_once:
            # All or nothing: what was placed is queued with the rest.
            for alloc in placed:
                self._table.free(alloc.id)
                queued[alloc.task_group] += 1
            placed, stopped, preempted, metrics = [], [], [], {}
        return Placed(
            allocs=tuple(placed),
            stopped=tuple(stopped),
            preempted=tuple(preempted),
            failed=failed,
            metrics=metrics,
            queued=queued,
        )

    def _harm(self, group: "_Group", request: PlaceRequest) -> tuple[int, tuple[Victim, ...]] | None:
        """Where and whom to push away for it; who goes already is counted as gone."""
        victims = self._victims
        if victims is None:
            return None
        return group.preempt(request, lambda node: (v for v in victims(node) if v.id not in self._lent))

    def _take_back(self, alloc_id: AllocId) -> None:
        if alloc_id in self._lent:
            self._table.take_back(alloc_id, self._lent.pop(alloc_id))

    def _changed(self, group: str, node_id: NodeId, by: int) -> None:
        """An alloc of the group came to the node (+1) or left it (-1)."""
        for counts in (self._held, self._staying):
            here = counts.setdefault(group, {})
            here[node_id] = here.get(node_id, 0) + by
        row = self._table.rows.get(node_id)
        if row is not None:
            for (name, _), one in self._groups.items():
                one.changed(row, by, is_own=name == group)

    def _document(
        self,
        request: PlaceRequest,
        ask: Ask,
        row: int,
        ports: tuple[AllocatedPort, ...],
        scores: Mapping[str, float],
        going: Sequence[Victim],
        eval_id: EvalId,
        now_ns: int,
        epoch: int,
    ) -> DesiredAlloc:
        job, node = request.job, self._table.views[row].node
        return DesiredAlloc(
            id=_new_id(self._rng),
            name=request.name,
            namespace=job.namespace,
            job_id=job.id,
            job_version=job.version,
            task_group=request.group.name,
            node_id=node.id,
            node_name=node.name,
            eval_id=eval_id,
            ports=ports,
            cores=assign_cores(request.group, node, self._table.cores_used(row)) if ask.cores else (),
            scores=scores,
            previous_allocation=request.previous.id if request.previous else AllocId(""),
            deployment_id=request.deployment_id,
            canary=request.is_canary,
            reschedule_tracker=request.tracker,
            preempted_allocations=tuple(victim.id for victim in going),
            create_time=now_ns,
            modify_time=now_ns,
            epoch=epoch,
        )


# A group, and the number of its alloc where that matters to where it may go.
_Kind = tuple[str, int | None]


def _kind(request: PlaceRequest) -> _Kind:
    group = request.group
    return group.name, index_of(request.name) if group.volumes and is_per_alloc(group) else None


class Relocating:
    """Where would allocs of one group go, were they placed once more? Each that moves has moved, on the table, before
    the next is asked. The group must have spreads; held: the job's allocs, of all groups."""

    def __init__(
        self, job: Job, group: TaskGroup, table: NodeTable, cache: FeasibleCache, held: Mapping[str, Mapping[NodeId, int]]
    ) -> None:
        self._job, self._job_group, self._table = job, group, table
        self._group = _Group(job, group, None, table, cache, held, held, BINPACK)

    def surplus(self, rows: Ints) -> list[float]:
        """By row, how much its values hold above their targets."""
        cells = self._group.cells
        return cells.surplus(rows).tolist() if cells is not None else []

    def move(self, alloc: Alloc, gain_min: float, rng: Rng) -> NodeId | None:
        """The node to which it would go now, if that brings its spreads nearer to their targets by more than this."""
        desired, cells = alloc.desired, self._group.cells
        row, room = self._table.rows[desired.node_id], self._table.free(alloc.id)
        request = PlaceRequest(
            job=self._job, group=self._job_group, name=desired.name, previous=alloc, avoid=desired.node_id
        )
        self._group.changed(row, -1, is_own=True)
        choice = self._group.choose(request, rng)
        self._group.changed(row, 1, is_own=True)
        if isinstance(choice, tuple) and cells is not None and cells.gain(row, choice[0]) > gain_min:
            to, ports = choice
            self._table.hold(alloc.id, self._table.ids[to], self._group.ask, ports)
            self._group.changed(row, -1, is_own=True)
            self._group.changed(to, 1, is_own=True)
            return self._table.ids[to]
        if room is not None:
            self._table.take_back(alloc.id, room)
            self._group.refresh(row)
        return None


def _preempted(victim: DesiredAlloc, by: AllocId) -> DesiredAlloc:
    return msgspec.structs.replace(
        victim,
        desired_status=DesiredStatus.EVICT,
        desired_description=f"Preempted by alloc ID {by}",
        preempted_by_allocation=by,
    )


def _new_id(rng: Rng) -> AllocId:
    """A random UUID (version 4) from the run's own chance."""
    text = f"{rng.getrandbits(128):032x}"
    variant = "89ab"[int(text[16], 16) & 3]
    return AllocId(f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}")


def _coalesced(metric: PlacementMetric) -> PlacementMetric:
    return msgspec.structs.replace(metric, coalesced_failures=metric.coalesced_failures + 1)


def _merged(known: PlacementMetric | None, new: PlacementMetric, *, is_of_one_node: bool) -> PlacementMetric:
    """Further failures of a group: the same again, or one more node that was looked at by itself."""
    if known is None:
        return new
    if not is_of_one_node:
        return _coalesced(known)
    return msgspec.structs.replace(
        known,
        nodes_evaluated=known.nodes_evaluated + new.nodes_evaluated,
        nodes_filtered=known.nodes_filtered + new.nodes_filtered,
        nodes_exhausted=known.nodes_exhausted + new.nodes_exhausted,
        constraint_filtered=_added(known.constraint_filtered, new.constraint_filtered),
        dimension_exhausted=_added(known.dimension_exhausted, new.dimension_exhausted),
        class_filtered=_added(known.class_filtered, new.class_filtered),
        class_exhausted=_added(known.class_exhausted, new.class_exhausted),
        coalesced_failures=known.coalesced_failures + 1,
    )


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(one) + Counter(other))


class _Group:
    """What is known of all nodes for one group of the job, kept up to date placement by placement."""

    def __init__(
        self,
        job: Job,
        group: TaskGroup,
        index: int | None,
        table: NodeTable,
        cache: FeasibleCache,
        held: Mapping[str, Mapping[NodeId, int]],
        staying: Mapping[str, Mapping[NodeId, int]],
        algorithm: str,
    ) -> None:
        self.ask = ask_of(group)
        self._table = table
        self._networks = networks_of(group)
        self._feasible = cache.get(table, job, group, index)
        self._may = self._feasible.mask & table.takes_work[: len(table.ids)]
        self._own_distinct = _distinct_hosts(group.constraints)
        self._job_distinct = _distinct_hosts(job.constraints)
        self._here = _by_row(table, held.get(group.name, {}))
        self._together = _by_row(table, _sum(held))
        mask = self._may.copy()
        for row in (*self._here, *self._together):
            mask[row] = self._may[row] and self._is_open(row)
        self._ranking = Ranking(table, job, group, mask, self._here, algorithm)
        self._mask = mask
        own = held.get(group.name, {})
        limits = [(c, own, False) for c in group.constraints if c.operand == "distinct_property"]
        limits += [(c, _sum(held), True) for c in job.constraints if c.operand == "distinct_property"]
        spreads, stays = (*job.spreads, *group.spreads), staying.get(group.name, {})
        self._cells = Cells(table, self._may, spreads, limits, stays, group.count) if spreads or limits else None
        self._count = max(1, group.count)
        # By cell, what each was short of when a node was chosen last; None without spreads.
        self._short: npt.NDArray[np.float64] | None = None
        self._has_spreads = bool(spreads)
        self._no_ports: dict[int, str] = {}
        self._members: list[Ints] = []
        self._best_of: Ints = np.zeros(0, dtype=np.int64)
        if self._cells is not None:
            self._index(self._cells)

    @property
    def cells(self) -> Cells | None:
        return self._cells

    # -- changes

    def changed(self, row: int, by: int, *, is_own: bool) -> None:
        """An alloc of the job came to this row (+1) or left it (-1)."""
        self._together[row] = self._together.get(row, 0) + by
        if is_own:
            self._here[row] = self._here.get(row, 0) + by
        if self._cells is not None:
            self._cells.change(row, by, is_own=is_own)
        self._no_ports.pop(row, None)
        self._mask[row] = self._may[row] and self._is_open(row)
        self._refresh(row)

    def _is_open(self, row: int) -> bool:
        if self._own_distinct is not None and self._here.get(row, 0) > 0:
            return False
        return self._job_distinct is None or self._together.get(row, 0) <= 0

    def _refresh(self, row: int) -> None:
        self._ranking.refresh(row)
        self._rank_cell(row)

    def _index(self, cells: Cells) -> None:
        """The rows of each cell, and the best of them."""
        rows = np.flatnonzero(self._may)
        order = np.lexsort((-self._ranking.scores[rows], cells.of_row[rows]))
        rows = rows[order]
        starts = np.searchsorted(cells.of_row[rows], np.arange(cells.size))
        self._members = np.split(rows, starts[1:])
        self._best_of = rows[starts] if len(rows) else np.zeros(0, dtype=np.int64)

    def _rank_cell(self, row: int) -> None:
        if self._cells is None:
            return
        cell = int(self._cells.of_row[row])
        if cell >= 0:
            members = self._members[cell]
            self._best_of[cell] = members[self._ranking.scores[members].argmax()]

    # -- choosing

    def choose(self, request: PlaceRequest, rng: Rng) -> tuple[int, tuple[AllocatedPort, ...]] | PlacementMetric:
        """The best node for the request and its ports there, or why there is none."""
        if request.node_id:
            row = self._table.rows.get(NodeId(request.node_id))
            return PlacementMetric() if row is None else self.on(row, rng)
        home = self._home(request)
        there = self.on(home, rng) if home is not None else None
        if isinstance(there, tuple):
            return there
        tried = self._tried(request)
        for row in tried:
            if row not in self._no_ports:
                self._ranking.scores[row] = self._ranking.penalized(row)
                self._rank_cell(row)
        avoided = self._table.rows.get(request.avoid) if request.avoid is not None else None
        if avoided is not None:
            self._no_ports[avoided] = LEFT
            self._ranking.scores[avoided] = -np.inf
            self._rank_cell(avoided)
        try:
            while (best := self._best()) is not None:
                ports = self._ports(best, rng)
                if isinstance(ports, tuple):
                    return best, ports
                self._no_ports[best] = ports
                self._ranking.scores[best] = -np.inf
                self._rank_cell(best)
            return self._metric(np.arange(len(self._may)))
        finally:
            if avoided is not None:
                self._no_ports.pop(avoided, None)
                self._refresh(avoided)
            for row in tried:
                if row not in self._no_ports:
                    self._refresh(row)

    def _home(self, request: PlaceRequest) -> int | None:
        """The row of the node where its data is, if it has a sticky disk and is not about to leave that node. As with
        Nomad it comes before every other preference, and only what rules the node out is in its way."""
        previous = request.previous
        if previous is None or not request.group.ephemeral_disk.sticky or request.avoid == previous.desired.node_id:
            return None
        row = self._table.rows.get(previous.desired.node_id)
        if row is None or (self._cells is not None and not len(self._cells.refused(np.array([row]))[1])):
            return None
        return row

    def on(self, row: int, rng: Rng) -> tuple[int, tuple[AllocatedPort, ...]] | PlacementMetric:
        """On this very node."""
        self._no_ports.pop(row, None)
        self._refresh(row)
        if self._ranking.scores[row] > -np.inf:
            ports = self._ports(row, rng)
            if isinstance(ports, tuple):
                return row, ports
            self._no_ports[row] = ports
        return self._metric(np.array([row]))

    def _ports(self, row: int, rng: Rng) -> tuple[AllocatedPort, ...] | str:
        return assign_ports(self._networks, self._table.views[row].node, self._table.ports_used(row), rng)

    def _tried(self, request: PlaceRequest) -> list[int]:
        """Rows of the nodes where it failed before."""
        previous = request.previous
        if previous is None or previous.client_status not in (ClientStatus.FAILED, ClientStatus.LOST):
            return []
        nodes = [previous.desired.node_id]
        if request.tracker is not None:
            nodes += [event.prev_node_id for event in request.tracker.events]
        return sorted({self._table.rows[node] for node in nodes if node in self._table.rows})

    def _best(self) -> int | None:
        scores = self._ranking.scores
        if self._cells is None:
            if not len(scores):
                return None
            row = int(scores.argmax())
            return row if scores[row] > -np.inf else None
        if not len(self._best_of):
            return None
        of_cell = scores[self._best_of]
        short = self._cells.short()
        if self._has_spreads:
            self._short = short.copy()
        short[of_cell == -np.inf] = -np.inf
        most = short.max()
        if most == -np.inf:
            return None
        of_cell[short < most - _SAME] = -np.inf
        return int(self._best_of[of_cell.argmax()])

    def preempt(self, request: PlaceRequest, victims: Victims) -> tuple[int, tuple[Victim, ...]] | None:
        """The node where the least is lost by pushing others away for the request, and who has to go."""
        rows = np.flatnonzero(self._mask)
        if request.avoid is not None:
            rows = rows[rows != self._table.rows.get(request.avoid, -1)]
        if request.node_id:
            rows = rows[rows == self._table.rows.get(NodeId(request.node_id), -1)]
        if self._cells is not None:
            _, rows = self._cells.refused(rows)
        if len(rows) > _PREEMPT_NODES:
            # Where the least is missing the least is lost.
            needs = self._table.needs(self.ask, rows)
            free = self._table.total[rows] - self._table.used[rows]
            lacks = ((needs - free) / np.maximum(needs, 1.0)).max(axis=1)
            rows = rows[np.argsort(lacks, kind="stable")]
        found = 0
        best: tuple[Harm, int] | None = None
        for row in rows.tolist():
            node = self._table.views[row].node
            static = frozenset(static_ports(self._networks, node))
            if any(is_reserved(node, port) for port in static):
                continue
            free = (self._table.total[row] - self._table.used[row]).tolist()
            harm = least_harm(
                self._ranking.need(row),
                free,
                static,
                victims(self._table.ids[row]),
                job=(request.job.namespace, request.job.id),
                priority=request.job.priority,
                core_mhz=float(self._table.core_mhz[row]),
            )
            if harm is None:
                continue
            if best is None or harm.key < best[0].key:
                best = harm, row
            found += 1
            if found == _PREEMPT_NODES:
                break
        return (best[1], best[0].victims) if best is not None else None

    def refresh(self, row: int) -> None:
        """Room on the row came or went without an alloc of the job."""
        self._no_ports.pop(row, None)
        self._refresh(row)

    # -- reasons

    def _metric(self, looked_at: Ints) -> PlacementMetric:
        """Why none of these rows will do."""
        return self._counted(looked_at, is_placed=False)

    def picture(self) -> PlacementMetric:
        """What was found of all nodes, though one of them will do: what ruled others out, and which are the best."""
        counted = self._counted(np.arange(len(self._may)), is_placed=True)
        return msgspec.structs.replace(counted, score_meta_data=tuple(self._score(row) for row in self._best_rows()))

    def scores_of(self, row: int, request: PlaceRequest) -> dict[str, float]:
        """The parts of the row's score for this request."""
        return self._parts(row, is_penalized=row in self._tried(request))

    def _score(self, row: int) -> NodeScore:
        scores = self._parts(row)
        return NodeScore(node_id=self._table.ids[row], scores=scores, norm_score=round(norm_score(scores), _SCORE_DIGITS))

    def _parts(self, row: int, *, is_penalized: bool = False) -> dict[str, float]:
        parts = self._ranking.parts(row, is_penalized=is_penalized)
        if self._short is not None and self._cells is not None:
            # As a share of the group, so that it lies in -1..1 as the others do.
            short = float(self._short[self._cells.of_row[row]]) / self._count
            parts[ALLOCATION_SPREAD] = min(max(short, -1.0), 1.0)
        return {name: round(value, _SCORE_DIGITS) for name, value in parts.items()}

    def _best_rows(self) -> list[int]:
        """In the order in which they are preferred."""
        scores = self._ranking.scores
        rows = np.flatnonzero(scores > -np.inf)
        if self._cells is None:
            if len(rows) > _BEST_NODES:
                rows = rows[np.argpartition(-scores[rows], _BEST_NODES)[:_BEST_NODES]]
            found: list[int] = rows[np.argsort(-scores[rows], kind="stable")].tolist()
            return found
        short = self._cells.short()[self._cells.of_row[rows]]
        rows, short = rows[short > -np.inf], short[short > -np.inf]
        best: list[int] = rows[np.lexsort((-scores[rows], -short.round(9)))[:_BEST_NODES]].tolist()
        return best

    def _counted(self, looked_at: Ints, *, is_placed: bool) -> PlacementMetric:
        """is_placed: some of the rows would do, and only the others count as exhausted."""
        takes_work = np.zeros(len(self._may), dtype=bool)
        takes_work[looked_at] = self._table.takes_work[looked_at]
        available = self._feasible.available(takes_work)
        filtered = Counter(self._feasible.filtered(takes_work))
        rows = looked_at[self._may[looked_at]]
        for constraint, counts in ((self._own_distinct, self._here), (self._job_distinct, self._together)):
            if constraint is not None:
                taken = np.fromiter((counts.get(int(row), 0) > 0 for row in rows), np.bool_, len(rows))
                filtered[reason(constraint)] += int(taken.sum())
                rows = rows[~taken]
        if self._cells is not None:
            refused, rows = self._cells.refused(rows)
            filtered.update(refused)
        evaluated = self._feasible.evaluated(takes_work, except_for=rows)
        if is_placed:
            rows = rows[self._ranking.scores[rows] == -np.inf]
        short = (self._table.missing(self.ask, rows) > 0).sum(axis=0)
        exhausted = Counter({name: int(count) for name, count in zip(DIMENSIONS, short) if count})
        exhausted.update(self._no_ports[row] for row in rows.tolist() if row in self._no_ports)
        filtered = +filtered
        return PlacementMetric(
            nodes_evaluated=sum(available.values()),
            nodes_filtered=sum(filtered.values()),
            nodes_exhausted=len(rows),
            nodes_available=available,
            class_filtered=self._by_class(evaluated),
            constraint_filtered=dict(filtered),
            class_exhausted=self._by_class(rows),
            dimension_exhausted=dict(exhausted),
        )

    def _by_class(self, rows: Ints) -> dict[str, int]:
        found = Counter[str]()
        for node, count in zip(self._table.classes, np.bincount(self._table.class_of[rows]).tolist()):
            found[node.node_class] += count
        return {name: count for name, count in sorted(found.items()) if name and count}


def _distinct_hosts(constraints: Iterable[Constraint]) -> Constraint | None:
    return next((c for c in constraints if c.operand == "distinct_hosts" and c.rtarget != "false"), None)


def _sum(held: Mapping[str, Mapping[NodeId, int]]) -> Counter[NodeId]:
    """Of all groups together."""
    together = Counter[NodeId]()
    for nodes in held.values():
        together.update(nodes)
    return together


def _by_row(table: NodeTable, nodes: Mapping[NodeId, int]) -> dict[int, int]:
    return {table.rows[node]: count for node, count in nodes.items() if node in table.rows}
