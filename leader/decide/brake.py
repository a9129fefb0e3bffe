"""Have so many nodes gone silent at once that the fault is more likely ours than theirs?

    unheard nodes ──share of a datacenter, a virtual one, the cluster──> engaged: no node there is held lost
                                                                           └─ cleared by itself, or released

Moving the work of half a fleet makes a network's fault into everybody's (Kubernetes' zones and Mesos' removal limits
are such brakes). What is engaged is reckoned anew from what is seen, so it clears as soon as nodes are heard again;
an operator's release lets just the nodes go that were unheard then.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from model.node import NodeId, NodeStatus
from model.snapshot import BrakeSettings, NodeView, Reach
from model.wire import Document

CLUSTER = "cluster"


class Scope(Document):
    """One part of the fleet. name: "cluster", "datacenter dc1" or "virtual datacenter blue". limit: per cent of its
    nodes that may be unheard. nodes: the unheard ones, sorted."""

    name: str
    unheard: int
    total: int
    limit_percent: float
    is_engaged: bool
    nodes: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Brake:
    scopes: tuple[Scope, ...]

    @property
    def engaged(self) -> tuple[Scope, ...]:
        return tuple(scope for scope in self.scopes if scope.is_engaged)

    def holds(self, node: NodeView) -> bool:
        """Whether the node must not be held lost now."""
        names = set(_scopes_of(node))
        return any(scope.name in names and node.id in scope.nodes for scope in self.engaged)


def assess(
    nodes: Mapping[NodeId, NodeView],
    released: Set[NodeId],
    now_ns: int,
    settings: BrakeSettings,
    *,
    mute: Set[NodeId] = frozenset(),
) -> Brake:
    """released: nodes that an operator gave up. mute: nodes that pass in Consul and did not answer a call. Nodes that
    are down for longer than the window are no part of it."""
    members: dict[str, list[NodeView]] = {}
    for node_id in sorted(nodes):
        node = nodes[node_id]
        if _is_unheard(node) or not _is_down(node) or _fell_within(node, now_ns, settings):
            for name in _scopes_of(node):
                members.setdefault(name, []).append(node)
    return Brake(scopes=tuple(_scope(name, members[name], released, mute, settings) for name in sorted(members)))


def _scope(
    name: str, members: Iterable[NodeView], released: Set[NodeId], mute: Set[NodeId], settings: BrakeSettings
) -> Scope:
    everything = list(members)
    unheard = tuple(
        node.id
        for node in everything
        if (_is_unheard(node) or _is_down(node) or node.id in mute) and node.id not in released
    )
    limit = settings.cluster_percent if name == CLUSTER else settings.datacenter_percent
    is_over = len(unheard) * 100 > limit * len(everything)
    # A datacenter that is gone as a whole while others are heard is rather dead than cut off by a fault of ours.
    is_gone = name != CLUSTER and len(unheard) == len(everything)
    return Scope(
        name=name,
        unheard=len(unheard),
        total=len(everything),
        limit_percent=limit,
        # One node alone is never a mass: a fleet of two must get over the loss of one.
        is_engaged=is_over and not is_gone and len(unheard) >= settings.nodes_min,
        nodes=unheard,
    )


def _scopes_of(node: NodeView) -> tuple[str, ...]:
    found = (CLUSTER, f"datacenter {node.node.datacenter}")
    virtual = node.node.virtual_datacenter
    return (*found, f"virtual datacenter {virtual}") if virtual else found


def _is_unheard(node: NodeView) -> bool:
    return node.reach is not Reach.PASSING and node.control.status is not NodeStatus.DOWN


def _is_down(node: NodeView) -> bool:
    return node.control.status is NodeStatus.DOWN


def _fell_within(node: NodeView, now_ns: int, settings: BrakeSettings) -> bool:
    """A slow cascade is a mass failure too."""
    return now_ns / 1e9 - node.control.status_updated_at <= settings.window_s


@dataclass(slots=True)
class LossBudget:
    """A token bucket: how many nodes may be held lost in a row, so that what moves at once stays little."""

    per_s: float
    burst: int
    _left: float = -1.0
    _at_s: float = 0.0

    def take(self, now_s: float) -> bool:
        if self._left < 0:
            self._left, self._at_s = float(self.burst), now_s
        self._left = min(float(self.burst), self._left + (now_s - self._at_s) * self.per_s)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
