"""What is a node, and what does the leader hold of it?

`Node` is written by the node's own agent, `NodeControl` by the leader. `NodeId` is drover's own id
(a UUID kept in data_dir), never Consul's node name.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NewType

import msgspec

from model.wire import Document

NodeId = NewType("NodeId", str)

# The host network that every node is on.
DEFAULT_NETWORK = "default"


class NodeStatus(StrEnum):
    """Nomad's words for a node, as the leader holds it.

    initializing: registered, not yet seen passing. ready: takes work. suspect is not among them:
    a node within its grace still shows `ready`, only without new placements.
    """

    INITIALIZING = "initializing"
    READY = "ready"
    DISCONNECTED = "disconnected"
    DOWN = "down"


class Eligibility(StrEnum):
    ELIGIBLE = "eligible"
    INELIGIBLE = "ineligible"


class DriverInfo(Document):
    detected: bool = False
    healthy: bool = False
    health_description: str = ""
    attributes: Mapping[str, str] = {}


class NodeResources(Document):
    """What a node offers, before `reserved` is taken off."""

    cpu_mhz: int = msgspec.field(name="CpuShares", default=0)
    memory_mb: int = 0
    disk_mb: int = 0
    min_dynamic_port: int = 20000
    max_dynamic_port: int = 32000
    total_cores: int = 0
    reservable_cores: tuple[int, ...] = ()  # ids of those that tasks may have to themselves

    @property
    def core_mhz(self) -> int:
        """What one core counts for."""
        return self.cpu_mhz // self.total_cores if self.total_cores else 0


class ReservedResources(Document):
    cpu_mhz: int = msgspec.field(name="CpuShares", default=0)
    memory_mb: int = 0
    disk_mb: int = 0
    ports: tuple[int, ...] = ()  # on all of its networks
    cores: tuple[int, ...] = ()


class HostVolume(Document):
    """A directory of the machine that its operator offers to tasks under a name."""

    name: str
    path: str
    read_only: bool = False


class HostNetwork(Document):
    """A further address of the machine, under the name by which ports ask for it."""

    name: str
    address: str
    device: str = ""
    reserved_ports: tuple[int, ...] = ()


class Node(Document):
    """What the agent found on its machine (its fingerprint) and where it can be reached."""

    id: NodeId
    name: str
    datacenter: str = "dc1"
    virtual_datacenter: str = ""
    node_class: str = ""
    http_addr: str = msgspec.field(name="HTTPAddr", default="")  # host:port of the agent's API
    tls_enabled: bool = msgspec.field(name="TLSEnabled", default=False)  # whether that is HTTPS
    address: str = ""  # IP that services and ports are published on
    attributes: Mapping[str, str] = {}
    meta: Mapping[str, str] = {}
    drivers: Mapping[str, DriverInfo] = {}
    resources: NodeResources = NodeResources()
    reserved: ReservedResources = ReservedResources()
    host_volumes: Mapping[str, HostVolume] = {}
    host_networks: tuple[HostNetwork, ...] = ()  # the default one, at `address`, is not among them
    consul_node: str = ""  # Consul's name of the machine, and the Consul datacenter it is in
    consul_datacenter: str = ""
    boot_id: str = ""
    version: str = ""
    started_time: int = 0  # ns since the epoch; changes at every agent start
    turn: int = 0  # raised after a write without an answer: what of it comes late is refused then

    def address_on(self, network: str) -> str | None:
        """Its address on a host network, None where it is not on it."""
        if network in ("", DEFAULT_NETWORK):
            return self.address
        return next((one.address for one in self.host_networks if one.name == network), None)


class NodeEvent(Document):
    message: str
    timestamp: str
    subsystem: str = "Cluster"
    details: Mapping[str, str] = {}


class Drain(Document):
    """An operator wants the node empty. deadline_at: ns since the epoch, when what is still there is stopped without
    waiting for its replacement; None: never. is_forced: at once."""

    deadline_at: int | None = None
    is_forced: bool = False
    ignores_system: bool = False
    started_at: int = 0  # ns since the epoch

    def is_over(self, now_ns: int) -> bool:
        """Whether nothing is waited for any more."""
        return self.is_forced or (self.deadline_at is not None and now_ns >= self.deadline_at)


class LastDrain(Document):
    """status: draining | complete | canceled, Nomad's words; the times RFC 3339; meta: what the operator said of it."""

    started_at: str = ""
    updated_at: str = ""
    status: str = ""
    meta: Mapping[str, str] | None = None


class NodeControl(Document):
    """What the leader holds of a node; survives leader changes."""

    node_id: NodeId
    status: NodeStatus = NodeStatus.INITIALIZING
    status_description: str = ""
    status_updated_at: int = 0  # seconds since the epoch, as Nomad's StatusUpdatedAt
    scheduling_eligibility: Eligibility = Eligibility.ELIGIBLE
    flaps: tuple[int, ...] = ()  # when it came back after it was held lost, lately; seconds since the epoch
    penalized_until: int = 0  # seconds since the epoch: it came back too often, and gets no new work; 0: it may
    candidate: bool | None = None  # whether its process stands for election; None: as it is configured
    drain: Drain | None = None
    last_drain: LastDrain | None = None
    heartbeat_ttl: int = 10_000_000_000  # ns: TTL of the agent's Consul check
    events: tuple[NodeEvent, ...] = ()
    # Set at run time, over what the agent's configuration says: {key: value, None: not there}.
    meta: Mapping[str, str | None] = {}
    epoch: int = 0


def overlaid(static: Mapping[str, str], dynamic: Mapping[str, str | None]) -> Mapping[str, str]:
    """A node's effective meta: its configuration's with what was set at run time over it."""
    if not dynamic:
        return static
    merged: dict[str, str | None] = {**static, **dynamic}
    return {key: value for key, value in merged.items() if value is not None}
