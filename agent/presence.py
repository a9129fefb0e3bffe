"""How does Consul, and so the leader, know that this node's drover is alive?

The service `drover-agent` with a TTL check on the local Consul agent: passing it costs no raft write. It
is not taken away when drover is stopped: its tasks run on, and a lapsed check says just that ("the machine
is alive, drover is not"), while a vanished service would look like a lost machine.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from catalog.lease import Pulse
from catalog.outage import Outage
from catalog.services import LocalAgent
from checks.registration import META_BOOT, META_NODE
from model.errors import StoreRefused, StoreUnavailable
from model.node import NodeControl, NodeId
from model.wire import seconds

log = logging.getLogger("drover.agent")

AGENT_SERVICE = "drover-agent"
# How often the leader's wish for the heartbeat's TTL is read; it changes with the size of the cluster.
CONTROL_S = 60.0
RETRY_S = 1.0
# What telling Consul may delay a stop.
LEAVE_S = 2.0


@dataclass(slots=True, kw_only=True)
class Presence:
    """Keeps the node's own service registered. read_control: the leader's document about this node. boot_id: of the
    machine, so that nobody takes what was reported before a reboot for what runs now."""

    consul: LocalAgent
    pulse: Pulse
    node_id: NodeId
    name: str
    http_addr: str
    boot_id: str
    read_control: Callable[[NodeId], Awaitable[NodeControl | None]]
    ttl_s: float = 10.0
    _lost: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def service_id(self) -> str:
        return f"_drover-agent-{self.node_id}"

    @property
    def check_id(self) -> str:
        return f"service:{self.service_id}"

    def forgotten(self, check_id: str) -> None:
        """The heartbeat found that Consul does not know the check: it was restarted without its data."""
        if check_id == self.check_id:
            self._lost.set()

    async def run(self) -> None:
        outage = Outage(log)
        while True:
            self._lost.clear()
            try:
                await self.register()
            except (StoreUnavailable, StoreRefused) as error:
                outage.failed("not registered in Consul, trying again", error)
                await asyncio.sleep(RETRY_S)
                continue
            outage.passed("registered in Consul")
            while not self._lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(CONTROL_S):
                        await self._lost.wait()
                if await self._ttl_changed():
                    break

    async def register(self) -> None:
        """Raises StoreUnavailable, StoreRefused. Idempotent."""
        host, _, port = self.http_addr.rpartition(":")
        await self.consul.register(
            {
                "Name": AGENT_SERVICE,
                "ID": self.service_id,
                "Address": host,
                "Port": int(port),
                "Meta": {META_NODE: self.node_id, META_BOOT: self.boot_id, "drover_name": self.name},
                "Check": {
                    "Name": "drover agent",
                    "CheckID": self.check_id,
                    "TTL": f"{self.ttl_s}s",
                    "Status": "passing",
                },
            }
        )
        self.pulse.add(self.check_id, self.ttl_s)

    async def leave(self) -> None:
        """Says at once what a lapsed check would say later: drover stops here, its tasks run on."""
        self.pulse.remove(self.check_id)
        with suppress(StoreUnavailable, StoreRefused, TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self.consul.feed(self.check_id, "critical", "drover was stopped; its tasks run on")

    async def deregister(self) -> None:
        """Only for `-dev`, which stops its tasks."""
        self.pulse.remove(self.check_id)
        with suppress(StoreUnavailable, StoreRefused):
            await self.consul.deregister(self.service_id)

    async def _ttl_changed(self) -> bool:
        with suppress(StoreUnavailable, StoreRefused):
            control = await self.read_control(self.node_id)
            if control is not None and seconds(control.heartbeat_ttl) != self.ttl_s:
                self.ttl_s = seconds(control.heartbeat_ttl)
                return True
        return False
