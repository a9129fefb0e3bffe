"""How well does the leader hear each node?

Consul's own health is asked, never a heartbeat in KV: the agents' TTL checks live on their local Consul
agents. A filtered blocking query (nodes whose checks do not all pass) is quiet and small; it only wakes
us to read everything, for leaving that list is no recovery: a node counts as heard again only when a full
read, also made every 30 s, shows it present and passing.
"""

import asyncio
import logging
import random
from collections.abc import Mapping, Set
from dataclasses import dataclass

import msgspec

from catalog.client import Client
from catalog.kv import BLOCKING_MARGIN_S, next_index, pause
from catalog.lease import SERVER_SERVICE
from checks.registration import META_BOOT, META_NODE
from leader.view import View
from model.errors import StoreRefused, StoreUnavailable
from model.node import NodeId
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

    async def run(self) -> None:
        """Runs for ever; an unreachable Consul only means that nothing changes."""
        async with asyncio.TaskGroup() as tasks:
            for service in (AGENT_SERVICE, SERVER_SERVICE):
                tasks.create_task(self._watch(service), name=f"health watch {service}")
            tasks.create_task(self._read(), name="health read")

    async def _read(self) -> None:
        while True:
            try:
                await self.read_all()
            except (StoreUnavailable, StoreRefused, msgspec.DecodeError):
                await pause(self.rng.random())
                continue
            try:
                async with asyncio.timeout(FULL_READ_S):
                    await self.view.unheard.wait()
            except TimeoutError:
                pass
            self.view.unheard.clear()

    async def _watch(self, service: str) -> None:
        index = 0
        while True:
            params = {"filter": _NOT_PASSING}
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
        """One full read. Raises StoreUnavailable; then nothing is changed."""
        response = await self.client.call("GET", f"/v1/health/service/{AGENT_SERVICE}", params={"consistent": ""})
        seen: dict[NodeId, Reach] = {}
        for instance in _decode_instances(response.body):
            meta = instance.service.meta or {}
            if meta.get(META_NODE):
                seen[NodeId(meta[META_NODE])] = self._reach(NodeId(meta[META_NODE]), meta, instance.checks)
        for node_id in [n for n in self.view.nodes if n not in seen]:
            seen[node_id] = await self._unregistered(node_id)
        self.apply(seen, await self._stalled())

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

    async def _unregistered(self, node_id: NodeId) -> Reach:
        """A node whose agent is not registered: alive by gossip alone, or silent."""
        name = self.view.nodes[node_id].node.consul_node
        if not name:
            return Reach.SILENT
        response = await self.client.call("GET", f"/v1/health/node/{name}")
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
