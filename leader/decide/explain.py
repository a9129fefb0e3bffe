"""What does each node say to a group that finds no place?

    ready? ─> datacenter ─> drivers ─> constraints ─> host volumes and networks ─> distinct_hosts
                                                       ─> distinct_property, max_skew ─> room ─> ports

The filters of place.py in its order; the first that refuses is the node's answer. Counted they agree with the
evaluation's metrics, which a test holds against each other over random worlds.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from leader.decide.constraints import reason
from leader.decide.feasible import (
    Fact,
    Needs,
    asks_unique,
    class_refusal,
    in_datacenters,
    needs_of,
    node_refusal,
)
from leader.decide.ports import Rng, assign_ports, networks_of
from leader.decide.ranking import Ranking
from leader.decide.spread import Cells
from leader.decide.table import DIMENSIONS, NodeTable, ask_of
from model.job import Constraint, Job, TaskGroup
from model.node import Eligibility, Node, NodeId
from model.snapshot import Life, NodeView
from model.wire import Document


class Filter(StrEnum):
    """Why a node refuses. In the order in which they are asked: who says no late is the nearer to a yes."""

    NOT_READY = "not ready"
    DATACENTER = "datacenter"
    DRIVER = "driver"
    CONSTRAINT = "constraint"
    VOLUME = "host volume"
    NETWORK = "host network"
    DISTINCT_HOSTS = "distinct_hosts"
    DISTINCT_PROPERTY = "distinct_property"
    MAX_SKEW = "max_skew"
    ROOM = "room"
    PORTS = "ports"
    NONE = ""


ORDER = {one: number for number, one in enumerate(Filter)}


class NodeAnswer(Document):
    """filter: the first that refuses, "" when the node would do. reason: what of it, in the metrics' words.
    short: {dimension: how much is missing}. scores: the parts of the score of a node that would do, by Nomad's names."""

    node_id: NodeId
    name: str
    datacenter: str
    virtual_datacenter: str
    node_class: str
    filter: Filter = Filter.NONE
    reason: str = ""
    short: Mapping[str, int] = {}
    scores: Mapping[str, float] = {}


class FilterCount(Document):
    """nodes: how many it took away. classes: of which node classes."""

    filter: Filter
    reason: str
    nodes: int
    classes: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """May an alloc of the group go to these nodes? table, held: room and live allocs ({group: {node: how many}}) as
    they are once all is placed that finds room. index: the alloc's number, where that matters to where it may go."""

    job: Job
    group: TaskGroup
    nodes: Mapping[NodeId, NodeView]
    table: NodeTable
    held: Mapping[str, Mapping[NodeId, int]]
    algorithm: str
    index: int | None = None

    @property
    def needs(self) -> Needs:
        return needs_of(self.table, self.job, self.group, self.index)

    @property
    def own(self) -> Mapping[NodeId, int]:
        return self.held.get(self.group.name, {})

    @property
    def together(self) -> Counter[NodeId]:
        """Live allocs of all the job's groups."""
        together = Counter[NodeId]()
        for nodes in self.held.values():
            together.update(nodes)
        return together


def answers(question: Question, rng: Rng) -> tuple[NodeAnswer, ...]:
    """What each node says, by name. rng: as for placing, for ports."""
    refusals = _refusals(question)
    left = [node_id for node_id in question.nodes if node_id not in refusals]
    for refuse in (_distinct_hosts, _cells(left), _room, _ports(rng)):
        found = refuse(question, left)
        refusals |= found
        left = [node_id for node_id in left if node_id not in found]
    scores = _scores(question, left)
    shorts = shorts_of(question, [node for node, (kind, _) in refusals.items() if kind is Filter.ROOM])
    return tuple(
        _answer(view, *refusals.get(view.id, (Filter.NONE, "")), shorts.get(view.id, {}), scores.get(view.id, {}))
        for view in sorted(question.nodes.values(), key=lambda view: (view.node.name, view.id))
    )


def counts(found: tuple[NodeAnswer, ...]) -> tuple[FilterCount, ...]:
    """How many nodes each filter took away, in their order."""
    nodes: Counter[tuple[Filter, str]] = Counter((one.filter, one.reason) for one in found if one.filter)
    classes: dict[tuple[Filter, str], Counter[str]] = {}
    for one in found:
        if one.filter and one.node_class:
            classes.setdefault((one.filter, one.reason), Counter())[one.node_class] += 1
    return tuple(
        FilterCount(filter=key[0], reason=key[1], nodes=nodes[key], classes=dict(sorted(classes.get(key, {}).items())))
        for key in sorted(nodes, key=lambda key: (ORDER[key[0]], key[1]))
    )


# What one filter says: {node it refuses: (filter, reason)}.
_Found = dict[NodeId, tuple[Filter, str]]
_Refuse = Callable[[Question, Sequence[NodeId]], _Found]


def _answer(
    view: NodeView, refused_by: Filter, why: str, short: Mapping[str, int], scores: Mapping[str, float]
) -> NodeAnswer:
    return NodeAnswer(
        node_id=view.id,
        name=view.node.name,
        datacenter=view.node.datacenter,
        virtual_datacenter=view.node.virtual_datacenter,
        node_class=view.node.node_class,
        filter=refused_by,
        reason=why,
        short=short,
        scores=scores,
    )


# -- what a node is


def _refusals(question: Question) -> _Found:
    """By the node's own state and facts; facts that are not unique are asked once for all nodes of a class."""
    needs = question.needs
    has_unique = asks_unique(needs)
    of_class: dict[int, tuple[Filter, str] | None] = {}
    found: _Found = {}
    for view in question.nodes.values():
        if not view.takes_work:
            found[view.id] = (Filter.NOT_READY, _state(view))
            continue
        number = int(question.table.class_of[question.table.rows[view.id]])
        if number not in of_class:
            of_class[number] = _fact_refusal(view.node, needs)
        refusal = of_class[number]
        if refusal is None and has_unique:
            refusal = _told(node_refusal(view.node, needs))
        if refusal is not None:
            found[view.id] = refusal
    return found


def _state(view: NodeView) -> str:
    if view.life is Life.READY:
        return "ineligible" if view.control.scheduling_eligibility is Eligibility.INELIGIBLE else "busy"
    return "not heard" if view.life is Life.SUSPECT else view.control.status.value


def _fact_refusal(node: Node, needs: Needs) -> tuple[Filter, str] | None:
    if not in_datacenters(needs.datacenters, node.datacenter, node.virtual_datacenter, needs.bound):
        return Filter.DATACENTER, node.virtual_datacenter or node.datacenter
    return _told(class_refusal(node, needs))


def _told(refusal: tuple[Fact, str] | None) -> tuple[Filter, str] | None:
    return None if refusal is None else (Filter(refusal[0].value), refusal[1])


# -- what is there already


def _distinct_hosts(question: Question, left: Sequence[NodeId]) -> _Found:
    found: _Found = {}
    together = question.together
    for rules, held in ((question.group.constraints, question.own), (question.job.constraints, together)):
        rule = next((c for c in rules if c.operand == "distinct_hosts" and c.rtarget != "false"), None)
        if rule is not None:
            why = (Filter.DISTINCT_HOSTS, reason(rule))
            found |= {node: why for node in left if held.get(node, 0) > 0 and node not in found}
    return found


def limits_of(question: Question) -> list[tuple[Constraint, Mapping[NodeId, int], bool]]:
    """Each distinct_property with the allocs that it counts, and whether they are the whole job's."""
    own = [(c, question.own, False) for c in question.group.constraints if c.operand == "distinct_property"]
    return [*own, *((c, question.together, True) for c in question.job.constraints if c.operand == "distinct_property")]


def _cells(may: Sequence[NodeId]) -> _Refuse:
    """distinct_property and max_skew, asked once for all nodes of a cell. may: those whose values count, which they do
    though an alloc of the job be there already."""

    def refuse(question: Question, left: Sequence[NodeId]) -> _Found:
        spreads, limits = (*question.job.spreads, *question.group.spreads), limits_of(question)
        if not left or not (limits or any(spread.max_skew is not None for spread in spreads)):
            return {}
        rows = question.table.rows
        mask = _mask(question.table, may)
        cells = Cells(question.table, mask, spreads, limits, question.own, question.group.count)
        of_cell: dict[int, tuple[Filter, str]] = {}
        for node in left:
            cell = int(cells.of_row[rows[node]])
            if cell not in of_cell:
                why = next(iter(cells.refused(np.array([rows[node]]))[0]), "")
                kind = Filter.MAX_SKEW if why.startswith("max_skew") else Filter.DISTINCT_PROPERTY
                of_cell[cell] = (kind if why else Filter.NONE, why)
        by_node = {node: of_cell[int(cells.of_row[rows[node]])] for node in left}
        return {node: refusal for node, refusal in by_node.items() if refusal[0] is not Filter.NONE}

    return refuse


def _mask(table: NodeTable, nodes: Iterable[NodeId]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(len(table.ids), dtype=np.bool_)
    mask[[table.rows[node] for node in nodes]] = True
    return mask


# -- what is left of it


def shorts_of(question: Question, nodes: Sequence[NodeId]) -> dict[NodeId, dict[str, int]]:
    """{node: {dimension: how much is missing}} of those where something is."""
    rows = np.array([question.table.rows[node] for node in nodes], dtype=np.int64)
    missing = question.table.missing(ask_of(question.group), rows)
    return {
        nodes[at]: {name: round(amount) for name, amount in zip(DIMENSIONS, missing[at].tolist()) if amount > 0}
        for at in np.flatnonzero((missing > 0).any(axis=1)).tolist()
    }


def total_of(question: Question, node: NodeId) -> tuple[int, ...]:
    """What the node has for allocs when it is empty, by dimension."""
    return tuple(round(amount) for amount in question.table.total[question.table.rows[node]].tolist())


def needs_on(question: Question, node: NodeId) -> tuple[int, ...]:
    """What the group takes of the node, by dimension: whole cores are MHz as well, how many is up to the node."""
    rows = np.array([question.table.rows[node]], dtype=np.int64)
    return tuple(round(amount) for amount in question.table.needs(ask_of(question.group), rows)[0].tolist())


def asks_of(group: TaskGroup) -> dict[str, int]:
    """What the group asks for in each dimension: of cpu and cores only what it does ask for."""
    ask = ask_of(group)
    asked = {name: round(amount) for name, amount in zip(DIMENSIONS, ask.amounts(0.0))}
    unasked = {"cores"} if not ask.cores else {"cpu"} if not ask.cpu_mhz else set()
    return {name: amount for name, amount in asked.items() if name not in unasked}


def _room(question: Question, left: Sequence[NodeId]) -> _Found:
    return {node: (Filter.ROOM, ", ".join(short)) for node, short in shorts_of(question, left).items()}


def _ports(rng: Rng) -> Callable[[Question, list[NodeId]], _Found]:
    def refuse(question: Question, left: Sequence[NodeId]) -> _Found:
        networks, found = networks_of(question.group), _Found()
        for node in left:
            used = question.table.ports_used(question.table.rows[node])
            ports = assign_ports(networks, question.nodes[node].node, used, rng)
            if isinstance(ports, str):
                found[node] = (Filter.PORTS, ports)
        return found

    return refuse


def _scores(question: Question, left: Sequence[NodeId]) -> dict[NodeId, dict[str, float]]:
    table = question.table
    if not left:
        return {}
    mask = _mask(table, left)
    here = {table.rows[node]: count for node, count in question.own.items() if node in table.rows}
    ranking = Ranking(table, question.job, question.group, mask, here, question.algorithm)
    return {node: ranking.parts(table.rows[node]) for node in left}
