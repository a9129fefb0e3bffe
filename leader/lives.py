"""Which nodes are ready, which suspect, which lost? Judges them whenever one changes, and writes what changed."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC

import msgspec

from catalog.kv import Op, replace
from leader.decide.brake import Brake, LossBudget, assess
from leader.decide.nodes import drain_finished, heartbeat_ttl_ns, judge, lost_at_s, unpenalized
from leader.fenced import Fenced
from leader.store import LeaderStore
from leader.view import View
from model.node import Node, NodeControl, NodeId, NodeStatus
from model.snapshot import Life, Reach, Settings
from model.wire import encode

log = logging.getLogger("drover.leader")

# How often they are judged while one of them is running out of time.
_LIVES_S = 0.5
# And while none is silent: a node whose drover alone is down has minutes.
_LIVES_QUIET_S = 5.0
# Agents asked at once whether they still answer.
_PROBES = 50
# A full read of Consul's health at least each 30 s: later, Consul was away, and what it says first may be old.
_OUTAGE_S = 40.0
# How often the others are asked whether they answer while one is about to be given up, and how many of them: the
# share of 200 at random is right within 7 per cent.
_LOOK_S = 3.0
_LOOKED_AT_MAX = 200
# Control documents in one transaction, each perhaps with a sentinel.
_CONTROLS_MAX = 24

Probe = Callable[[Node], Awaitable[bool]]


@dataclass(slots=True, kw_only=True)
class NodeLives:
    """probe: calls an agent's own address and says whether it answered. doubt: told which nodes to read anew, for
    what was written about them may be there or not."""

    fenced: Fenced
    store: LeaderStore
    view: View
    settings: Settings
    probe: Probe
    doubt: Callable[[NodeId], None]
    _budget: LossBudget = field(init=False)
    _held_until_s: float = 0.0
    _mute: frozenset[NodeId] = frozenset()  # nodes that pass, and did not answer when they were last asked
    _looked_at_s: float = -math.inf
    _told: frozenset[str] = frozenset()  # scopes whose brake was last said to be engaged

    def __post_init__(self) -> None:
        self._budget = LossBudget(self.settings.brake.lost_nodes_per_second, self.settings.brake.lost_nodes_burst)

    async def run(self) -> None:
        self._held_until_s = asyncio.get_running_loop().time() + self.settings.brake.hold_s
        await self.fenced.keep_on("nodes", self._cycle)

    def brake(self) -> Brake:
        is_fresh = asyncio.get_running_loop().time() < self._looked_at_s + 2 * _LOOK_S
        return assess(
            self.view.nodes,
            frozenset(self.view.released.nodes),
            self.fenced.now_ns,
            self.settings.brake,
            mute=self._mute if is_fresh else frozenset(),
        )

    def held_s(self, now_s: float) -> float:
        """For how long no node is held lost yet: after a new leader, and after Consul was away."""
        if now_s - self.view.heard_at_s > _OUTAGE_S:
            self._held_until_s = now_s + self.settings.brake.hold_s
        return max(0.0, self._held_until_s - now_s)

    async def _cycle(self) -> None:
        self.view.nodes_changed.clear()
        is_waiting = await self._judge_nodes()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LIVES_S if is_waiting else _LIVES_QUIET_S):
                await self.view.nodes_changed.wait()

    async def _judge_nodes(self) -> bool:
        """Writes what changed about nodes; returns whether one of them is running out of time."""
        now_s = asyncio.get_running_loop().time()
        moment = self.fenced.now()
        ttl = heartbeat_ttl_ns(len(self.view.nodes), self.settings)
        changed: list[tuple[NodeControl, int]] = []
        silent = [n for n in self.view.nodes.values() if n.reach is Reach.SILENT and n.life is not Life.LOST]
        answering = await self._probe_all(
            [n.node for n in silent if now_s >= lost_at_s(n, self.settings, is_answering=False)]
        )
        judged = {
            node_id: judge(
                self.view.nodes[node_id],
                now_s=now_s,
                now_ns=self.fenced.now_ns,
                stamp=moment.astimezone(UTC).isoformat(),
                settings=self.settings,
                is_answering=node_id in answering,
            )
            for node_id in sorted(self.view.nodes)
        }
        held = await self._held(
            [node_id for node_id, control in judged.items() if control is not None and control.status is NodeStatus.DOWN]
        )
        for node_id, control in judged.items():
            node = self.view.nodes[node_id]
            if node_id in held:
                control = None
            control = unpenalized(control or node.control, self.fenced.now_ns) or control
            if node.control.drain is not None and self.view.is_drained(node):
                control = drain_finished(control or node.control, moment.astimezone(UTC).isoformat())
            if control is None and node.control.heartbeat_ttl == ttl and node.control.epoch:
                continue
            control = msgspec.structs.replace(
                control or node.control, heartbeat_ttl=ttl, epoch=self.fenced.epoch
            )
            changed.append((control, node.control_index))
        for start in range(0, len(changed), _CONTROLS_MAX):
            await self._write_controls(changed[start : start + _CONTROLS_MAX])
        return bool(silent)

    async def _held(self, falling: Sequence[NodeId]) -> set[NodeId]:
        """Those that must not be held lost now, though their time is up."""
        now_s = asyncio.get_running_loop().time()
        if not falling:
            self._tell(self.brake())
            return set()
        if self.held_s(now_s) > 0:
            return set(falling)
        await self._look_around(falling, now_s)
        brake = self.brake()
        self._tell(brake)
        return {
            node_id
            for node_id in falling
            if brake.holds(self.view.nodes[node_id]) or not self._budget.take(now_s)
        }

    async def _look_around(self, falling: Sequence[NodeId], now_s: float) -> None:
        """Before the first of many is given up: do the others still answer? Gossip may need long to find out, the
        longer the more of them are gone."""
        if now_s < self._looked_at_s + _LOOK_S:
            return
        others = sorted(n for n, node in self.view.nodes.items() if node.reach is Reach.PASSING and n not in falling)
        asked = self.fenced.rng.sample(others, min(len(others), _LOOKED_AT_MAX))
        answering = await self._probe_all([self.view.nodes[n].node for n in asked])
        self._mute = frozenset(asked) - answering
        self._looked_at_s = asyncio.get_running_loop().time()

    def _tell(self, brake: Brake) -> None:
        engaged = frozenset(scope.name for scope in brake.engaged)
        for scope in brake.engaged:
            if scope.name not in self._told:
                log.warning(
                    "brake: %d of %d nodes of the %s are unheard (limit %g %%): none is held lost until they are heard, or"
                    " `drover brake release`",
                    scope.unheard, scope.total, scope.name, scope.limit_percent,
                )
        for name in sorted(self._told - engaged):
            log.warning("brake: released for the %s", name)
        self._told = engaged

    async def _probe_all(self, nodes: Sequence[Node]) -> set[NodeId]:
        """Which of these nodes' agents answer a direct call although gossip lost them."""
        answering: set[NodeId] = set()
        gate = asyncio.Semaphore(_PROBES)

        async def ask(node: Node) -> None:
            async with gate:
                if await self.probe(node):
                    answering.add(node.id)

        async with asyncio.TaskGroup() as tasks:
            for node in nodes:
                tasks.create_task(ask(node), name=f"probe {node.name}")
        return answering

    async def _write_controls(self, controls: Sequence[tuple[NodeControl, int]]) -> None:
        """Each only over what it was judged by: an operator's command writes the same document."""
        ops: list[Op] = []
        for control, index in controls:
            ops.append(replace(self.store.keys.control(control.node_id), encode(control), index))
            if not self.view.nodes[control.node_id].control.epoch:
                # First seen: the agent's watch must never find an empty prefix.
                ops.append(self.store.sentinel(self.store.keys.desired_of(control.node_id), self.fenced.new_id()))
        try:
            written = await self.fenced.commit(ops)
        except BaseException:
            for control, _ in controls:
                self.doubt(control.node_id)
            raise
        for control, _ in controls:
            self.view.put_control(control, written[self.store.keys.control(control.node_id)].modify_index)
            log.info("node %s is %s", self.view.nodes[control.node_id].node.name, control.status)
