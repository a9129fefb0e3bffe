"""What does one node's agent hold itself, and how does it get into the catalog?

The agent is the master of its services and checks: they are kept here, work without any server, and are
copied to the catalog. A change goes there at once; what failed is tried again 15 s later, when the link
returns, and once a minute, and such a full comparison also takes out of the catalog what is not here.
A new output with the same status waits 2.5-7.5 minutes (check_update_interval); a new status never.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from catalog.embedded.answers import Refused
from catalog.embedded.checks import (
    CheckDefinition,
    HttpSpec,
    Prober,
    ProbeResult,
    TcpSpec,
    TtlSpec,
    TtlTimer,
    probe_forever,
)
from catalog.embedded.reads import link_topic
from catalog.embedded.records import SERF_HEALTH, Check, Node, Service, Status, is_same
from catalog.embedded.state import ConsulState, serf_check

SYNC_S = 60.0  # AEInterval, for up to 128 nodes
SYNC_RETRY_S = 15.0  # after a failed sync, plus as much again at random
SYNC_RETURN_S_MAX = 3.0  # a server came back: sync within this
OUTPUT_UPDATE_S = 300.0  # check_update_interval


@dataclass(slots=True)
class LocalCheck:
    """One check here: its document, what it was made from, and what keeps it up to date."""

    check: Check
    definition: CheckDefinition
    ttl: TtlTimer | None = None
    probing: "asyncio.Task[None] | None" = None
    reaping: asyncio.TimerHandle | None = None
    late_output: asyncio.TimerHandle | None = None
    is_synced: bool = False

    def stop(self) -> None:
        for timer in (self.ttl and self.ttl.stop, self.reaping and self.reaping.cancel):
            if timer:
                timer()
        if self.late_output is not None:
            self.late_output.cancel()
        if self.probing is not None:
            self.probing.cancel()


class LocalAgent:
    """The services and checks of one node, kept in step with the catalog while the agent has joined."""

    def __init__(
        self, state: ConsulState, node_name: str, address: str, *, prober: Prober | None, is_server: bool
    ) -> None:
        self.state = state
        self.node_name = node_name
        self.address = address
        self.is_server = is_server
        self.node_id = state.new_id()
        self.node_meta: Mapping[str, str] = {"consul-network-segment": ""}
        self.services: dict[str, Service] = {}
        self.checks: dict[str, LocalCheck] = {}
        self._prober = prober
        self._tasks: asyncio.TaskGroup | None = None
        self._is_connected = True
        self._has_joined = False
        self._unsynced: dict[str, None] = {}  # service ids changed or removed since they were last in step
        self._removed_checks: dict[str, None] = {}
        self._sync_timer: asyncio.TimerHandle | None = None

    # The link

    @property
    def is_connected(self) -> bool:
        """False: cut off from every server. Local calls go on; the rest answers 500."""
        return self._is_connected

    @is_connected.setter
    def is_connected(self, value: bool) -> None:
        if value == self._is_connected:
            return
        self._is_connected = value
        for datacenter in self.state.datacenters:  # a blocked query waits where it was forwarded to
            self.state.in_datacenter(datacenter).watches.touch((link_topic(self.node_name),))
        if value and self._has_joined:
            self._sync_later(self.state.rng.random() * SYNC_RETURN_S_MAX)

    def join(self) -> None:
        """The agent process is up: its node is in the catalog, its services too."""
        self._has_joined = True
        self.sync_all()

    def leave(self) -> None:
        """The agent process ends on purpose (SIGTERM of a client): its node vanishes. join() brings it back."""
        self._has_joined = False
        self._cancel_sync()
        if self._is_connected:
            self.state.node_left(self.node_name)

    def start_probing(self, tasks: asyncio.TaskGroup) -> None:
        """From now on http and tcp checks run, as tasks of this group."""
        self._tasks = tasks
        for local in self.checks.values():
            self._start_probe(local)

    def stop(self) -> None:
        """Ends all timers and probes; nothing leaves the catalog."""
        self._tasks = None
        self._has_joined = False
        self._cancel_sync()
        for local in self.checks.values():
            local.stop()

    # Services and checks

    def add_service(
        self, service: Service, definitions: list[CheckDefinition], *, replaces_checks: bool
    ) -> None:
        """Registers or re-registers; a check that exists keeps its status and output (measured)."""
        self.services[service.id] = service
        self._unsynced[service.id] = None
        kept = {definition.id for definition in definitions}
        if replaces_checks:
            for check_id, local in list(self.checks.items()):
                if local.definition.service_id == service.id and check_id not in kept:
                    self._drop_check(check_id)
        for local in self.checks.values():
            if local.definition.service_id == service.id:
                local.check = msgspec.structs.replace(
                    local.check, service_name=service.service, service_tags=service.tags
                )
                local.is_synced = False
        for definition in definitions:
            self._put_check(definition)
        self.sync()

    def remove_service(self, service_id: str) -> None:
        if self.services.pop(service_id, None) is None:
            return
        for check_id, local in list(self.checks.items()):
            if local.definition.service_id == service_id:
                self._drop_check(check_id)
        self._unsynced[service_id] = None
        self.sync()

    def add_check(self, definition: CheckDefinition) -> None:
        """Raises Refused(500) when its service is not here."""
        if definition.service_id and definition.service_id not in self.services:
            raise Refused(500, f'ServiceID "{definition.service_id}" does not exist')
        self._put_check(definition)
        self.sync()

    def remove_check(self, check_id: str) -> None:
        if check_id in self.checks:
            self._drop_check(check_id)
            self.sync()

    def set_ttl(self, check_id: str, status: Status, output: str) -> None:
        """The owner of a ttl check says how it is. Raises Refused(500) for any other check."""
        local = self.checks.get(check_id)
        if local is None or local.ttl is None:
            raise Refused(500, f'CheckID "{check_id}" does not have associated TTL')
        local.ttl.feed(output)
        self._set_status(check_id, status, output)

    def _put_check(self, definition: CheckDefinition) -> None:
        service = self.services.get(definition.service_id)
        old = self.checks.pop(definition.id, None)
        check = Check(
            node=self.node_name,
            check_id=definition.id,
            name=definition.name,
            status=old.check.status if old else definition.status or Status.CRITICAL,
            notes=definition.notes,
            output=old.check.output if old else "",
            service_id=definition.service_id,
            service_name=service.service if service else "",
            service_tags=service.tags if service else (),
            type=definition.type,
        )
        if old is not None:
            old.stop()
        local = LocalCheck(check=check, definition=definition)
        self.checks[definition.id] = local
        self._removed_checks.pop(definition.id, None)
        if isinstance(definition.spec, TtlSpec):
            local.ttl = TtlTimer(
                self.state.loop,
                definition.spec,
                lambda output: self._set_status(definition.id, Status.CRITICAL, output),
            )
        self._start_probe(local)
        self._reap_if_critical(local)

    def _drop_check(self, check_id: str) -> None:
        self.checks.pop(check_id).stop()
        self._removed_checks[check_id] = None

    def _set_status(self, check_id: str, status: Status, output: str) -> None:
        """A changed status goes out at once, a changed output alone some minutes later."""
        local = self.checks[check_id]
        if (local.check.status, local.check.output) == (status, output):
            return
        is_status_new = local.check.status != status
        local.check = msgspec.structs.replace(local.check, status=status, output=output)
        if not is_status_new:
            if local.late_output is None:
                wait_s = OUTPUT_UPDATE_S / 2 + self.state.rng.random() * OUTPUT_UPDATE_S
                local.late_output = self.state.loop.call_later(wait_s, self._send_output, check_id)
            return
        local.is_synced = False
        self._reap_if_critical(local)
        self.sync()

    def _send_output(self, check_id: str) -> None:
        local = self.checks[check_id]
        local.late_output = None
        local.is_synced = False
        self.sync()

    def _start_probe(self, local: LocalCheck) -> None:
        spec = local.definition.spec
        if self._tasks is None or self._prober is None or not isinstance(spec, HttpSpec | TcpSpec):
            return
        check_id = local.definition.id

        def on_result(result: ProbeResult) -> None:
            self._set_status(check_id, result.status, result.output)

        probing: Coroutine[Any, Any, None] = probe_forever(self._prober, spec, self.state.rng, on_result)
        local.probing = self._tasks.create_task(probing, name=f"check {self.node_name} {check_id}")

    def _reap_if_critical(self, local: LocalCheck) -> None:
        """DeregisterCriticalServiceAfter: the service goes when its check stays critical that long."""
        after_s, service_id = local.definition.deregister_after_s, local.definition.service_id
        if local.check.status != Status.CRITICAL or not after_s or not service_id:
            if local.reaping is not None:
                local.reaping.cancel()
                local.reaping = None
        elif local.reaping is None:
            local.reaping = self.state.loop.call_later(after_s, self.remove_service, service_id)

    # Anti-entropy

    def node(self) -> Node:
        """Our own node, as the catalog should have it."""
        names = ("lan", "lan_ipv4", "wan", "wan_ipv4")
        return Node(
            id=self.node_id,
            node=self.node_name,
            address=self.address,
            datacenter=self.state.datacenter,
            tagged_addresses=dict.fromkeys(names, self.address),
            meta=self.node_meta,
        )

    def sync(self) -> None:
        """Sends what has changed; when that cannot be, tries everything again later."""
        if not self._has_joined:
            return
        if not self._can_write():
            self._sync_later(SYNC_RETRY_S * (1 + self.state.rng.random()))
            return
        if self.state.registry.node(self.node_name) is None:
            self.sync_all()
            return
        for service_id in list(self._unsynced):
            self._sync_service(service_id)
        for check_id in list(self._removed_checks):
            if self.state.registry.check(self.node_name, check_id) is not None:
                self.state.deregister_check(self.node_name, check_id)
        self._removed_checks.clear()
        for local in self.checks.values():
            if not local.is_synced:
                self.state.register(None, self.node_name, None, [local.check])
                local.is_synced = True

    def sync_all(self) -> None:
        """Compares everything with the catalog, both ways, and sets the next time to do so."""
        self._sync_later(SYNC_S * (1 + self.state.rng.random()))
        if not self._can_write():
            self._sync_later(SYNC_RETRY_S * (1 + self.state.rng.random()))
            return
        registry = self.state.registry
        if not is_same(registry.node(self.node_name), self.node()):
            serf = registry.check(self.node_name, SERF_HEALTH) or serf_check(self.node_name)
            self.state.register(self.node(), self.node_name, None, [serf])
        mine = {**self.services, **({"consul": self._server_service()} if self.is_server else {})}
        known = registry.services_of(self.node_name)
        for service_id in sorted({*mine, *known}):
            if service_id not in mine or not is_same(known.get(service_id), mine[service_id]):
                self._unsynced[service_id] = None
        for check in registry.checks_of(self.node_name):
            if check.check_id not in self.checks and check.check_id != SERF_HEALTH:
                self._removed_checks[check.check_id] = None
        for local in self.checks.values():
            in_catalog = registry.check(self.node_name, local.definition.id)
            local.is_synced = in_catalog is not None and is_same(in_catalog, local.check)
        self.sync()

    def _sync_service(self, service_id: str) -> None:
        """One registration holds the service and its checks, as real agents send it."""
        del self._unsynced[service_id]
        if service_id == "consul" and self.is_server:
            self.state.register(None, self.node_name, self._server_service(), [])
            return
        service = self.services.get(service_id)
        if service is None:
            for check_id, check in [
                (check.check_id, check) for check in self.state.registry.checks_of(self.node_name)
            ]:
                if check.service_id == service_id:
                    self._removed_checks.pop(check_id, None)
            if service_id in self.state.registry.services_of(self.node_name):
                self.state.deregister_service(self.node_name, service_id)
            return
        own = [local for local in self.checks.values() if local.definition.service_id == service_id]
        self.state.register(None, self.node_name, service, [local.check for local in own])
        for local in own:
            local.is_synced = True

    def _server_service(self) -> Service:
        port = int(self.state.leader_address.rpartition(":")[2])
        return Service(id="consul", service="consul", port=port, meta={"version": "1.8.7"})

    def _can_write(self) -> bool:
        return self._is_connected and not self.state.is_leaderless

    def _sync_later(self, wait_s: float) -> None:
        self._cancel_sync()
        self._sync_timer = self.state.loop.call_later(wait_s, self.sync_all)

    def _cancel_sync(self) -> None:
        if self._sync_timer is not None:
            self._sync_timer.cancel()
            self._sync_timer = None
