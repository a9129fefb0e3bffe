"""How well does the leader hear each node?

Consul's own health is asked, never a heartbeat in KV: the agents' TTL checks live on their local Consul
agents. A filtered blocking query (nodes whose checks do not all pass) is quiet and small; it only wakes
us to read everything, for leaving that list is no recovery: a node counts as heard again only when a full
read, also made every 30 s, shows it present and passing.

Each Consul datacenter that a node is in has a query of its own. One that cannot be read, for the WAN is cut, is unseen: its
nodes count as they did when it was last read, and get no new work until it is read again.
"""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field

import msgspec

from catalog.client import Client
from catalog.kv import BLOCKING_MARGIN_S, next_index, pause
from catalog.lease import SERVER_SERVICE
from catalog.outage import Outage
from catalog.services import LocalAgent
from checks.registration import META_BOOT, META_NODE
from leader.view import View
from model.errors import StoreRefused, StoreUnavailable
from model.node import NodeId, NodeStatus
from model.snapshot import Reach

AGENT_SERVICE = "drover-agent"
# A full read at least this often, for a node that silently vanished from the catalog wakes nobody.
FULL_READ_S = 30.0
_NOT_PASSING = 'Checks.Status != "passing"'
_TOLD = {
    Reach.PASSING: "heard",
    Reach.AGENT_DOWN: "alive, but its drover does not answer: its tasks run on",
    Reach.SILENT: "not heard",
}

log = logging.getLogger("drover.leader")


class _Check(msgspec.Struct, rename={"check_id": "CheckID", "status": "Status", "service_id": "ServiceID"}):
    check_id: str
    status: str
    service_id: str = ""


class _ServiceOf(msgspec.Struct, rename={"meta": "Meta"}):
    meta: dict[str, str] | None = None


class _Instance(msgspec.Struct, rename={"service": "Service", "checks": "Checks"}):
    service: _ServiceOf
    checks: list[_Check]


_decode_instances = msgspec.json.Decoder(list[_Instance]).decode
_decode_checks = msgspec.json.Decoder(list[_Check]).decode


def _in(datacenter: str) -> dict[str, str]:
    return {"dc": datacenter} if datacenter else {}


def reach_of(checks: list[_Check]) -> Reach:
    """serfHealth not passing: silent; else any other check not passing: drover alone is down."""
    if any(check.check_id == "serfHealth" and check.status != "passing" for check in checks):
        return Reach.SILENT
    if any(check.service_id and check.status != "passing" for check in checks):
        return Reach.AGENT_DOWN
    return Reach.PASSING


@dataclass(slots=True)
class NodeHealth:
    """Keeps every node's reach in the view up to date."""

    client: Client
    view: View
    rng: random.Random
    _home: str = ""  # Consul's name of the datacenter that the leader is in
    _watches: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)
    _outages: dict[str, Outage] = field(default_factory=dict)

    async def run(self) -> None:
        """Runs for ever; an unreachable Consul only means that nothing changes."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(SERVER_SERVICE, ""), name=f"health watch {SERVER_SERVICE}")
            await self._read(tasks)

    def _watch_each(self, tasks: asyncio.TaskGroup) -> None:
        """A watch for each datacenter that nodes are in, none for those that nobody is in any more."""
        wanted = {"", *self._nodes_by_datacenter()}
        for datacenter in wanted - {known for _, known in self._watches}:
            watch = self._watch(AGENT_SERVICE, datacenter)
            self._watches[AGENT_SERVICE, datacenter] = tasks.create_task(watch, name=f"health watch {datacenter or 'home'}")
        for key in [key for key in self._watches if key[1] not in wanted]:
            self._watches.pop(key).cancel()

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                await self.read_all()
            except (StoreUnavailable, StoreRefused, msgspec.DecodeError):
                await pause(self.rng.random())
                continue
            self._watch_each(tasks)
            try:
                async with asyncio.timeout(FULL_READ_S):
                    await self.view.unheard.wait()
            except TimeoutError:
                pass
            self.view.unheard.clear()

    async def _watch(self, service: str, datacenter: str) -> None:
        index = 0
        while True:
            params = {"filter": _NOT_PASSING, **_in(datacenter)}
            if index:
                params |= {"index": str(index), "wait": f"{FULL_READ_S:.0f}s"}
            try:
                response = await self.client.call(
                    "GET",
                    f"/v1/health/service/{service}",
                    params=params,
                    timeout_s=FULL_READ_S * 17 / 16 + BLOCKING_MARGIN_S,
                )
            except (StoreUnavailable, StoreRefused):
                index = 0
                await pause(self.rng.random())
                continue
            if response.index != index:
                self.view.unheard.set()
            index = next_index(index, response.index)

    async def read_all(self) -> None:
        """One full read. Raises StoreUnavailable when the home datacenter is not read; then nothing is changed."""
        if not self._home:
            self._home = (await LocalAgent(self.client).itself()).datacenter
        seen, unseen = await self._read_one("", self._nodes_by_datacenter().get("", ())), set[NodeId]()
        for datacenter, nodes in self._nodes_by_datacenter().items():
            if not datacenter:
                continue
            outage = self._outages.setdefault(datacenter, Outage(log))
            try:
                seen |= await self._read_one(datacenter, nodes)
            except (StoreUnavailable, StoreRefused) as error:
                outage.failed(f"datacenter {datacenter} is unseen: its {len(nodes)} nodes count as before, and get no new work", error)
                unseen.update(nodes)
            else:
                outage.passed(f"datacenter {datacenter} is seen again")
        for node_id in unseen & self.view.nodes.keys():
            known = self.view.nodes[node_id]
            # As it was when it was last read: what happened to it since, nobody here can know.
            seen[node_id] = Reach.PASSING if known.control.status is NodeStatus.READY else known.reach
        self.apply(seen, await self._stalled() | unseen)

    def _nodes_by_datacenter(self) -> dict[str, list[NodeId]]:
        """"" for the leader's own."""
        found: dict[str, list[NodeId]] = {}
        for node in self.view.nodes.values():
            named = node.node.consul_datacenter
            found.setdefault("" if named == self._home else named, []).append(node.id)
        return found

    async def _read_one(self, datacenter: str, nodes: Sequence[NodeId]) -> dict[NodeId, Reach]:
        """nodes: those that should be in it. Raises StoreUnavailable, StoreRefused."""
        params = {"consistent": "", **_in(datacenter)}
        response = await self.client.call("GET", f"/v1/health/service/{AGENT_SERVICE}", params=params)
        seen: dict[NodeId, Reach] = {}
        for instance in _decode_instances(response.body):
            meta = instance.service.meta or {}
            if meta.get(META_NODE):
                seen[NodeId(meta[META_NODE])] = self._reach(NodeId(meta[META_NODE]), meta, instance.checks)
        for node_id in nodes:
            if node_id not in seen and node_id in self.view.nodes:
                seen[node_id] = await self._unregistered(node_id, datacenter)
        return seen

    def _reach(self, node_id: NodeId, meta: Mapping[str, str], checks: list[_Check]) -> Reach:
        """As its checks say; but of an agent of another boot than its last report nothing is known yet."""
        known, reach = self.view.nodes.get(node_id), reach_of(checks)
        if known is not None and reach is Reach.PASSING and meta.get(META_BOOT, known.node.boot_id) != known.node.boot_id:
            return Reach.AGENT_DOWN
        return reach

    async def _stalled(self) -> set[NodeId]:
        """Nodes whose candidate for leader fails its check: its TTL is shorter than the agent's, and the process the
        same. After the death of a leader this tells at once that its own node is no place for new work."""
        response = await self.client.call(
            "GET", f"/v1/health/service/{SERVER_SERVICE}", params={"consistent": "", "filter": _NOT_PASSING}
        )
        return {
            NodeId((instance.service.meta or {}).get(META_NODE, ""))
            for instance in _decode_instances(response.body)
            if any(check.service_id and check.status != "passing" for check in instance.checks)
        }

    async def _unregistered(self, node_id: NodeId, datacenter: str) -> Reach:
        """A node whose agent is not registered: alive by gossip alone, or silent."""
        name = self.view.nodes[node_id].node.consul_node
        if not name:
            return Reach.SILENT
        response = await self.client.call("GET", f"/v1/health/node/{name}", params=_in(datacenter))
        checks = _decode_checks(response.body)
        serf = [check for check in checks if check.check_id == "serfHealth"]
        return Reach.AGENT_DOWN if serf and serf[0].status == "passing" else Reach.SILENT

    def apply(self, seen: Mapping[NodeId, Reach], stalled: Set[NodeId] = frozenset()) -> None:
        now_s = self.view.heard_at_s = asyncio.get_running_loop().time()
        for node_id in sorted(seen):
            known = self.view.nodes.get(node_id)
            if known is not None and known.reach is not seen[node_id] and known.control.epoch:
                log.info("node %s is %s", known.node.name, _TOLD[seen[node_id]])
            self.view.put_reach(node_id, seen[node_id], now_s, is_stalled=node_id in stalled)
