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


class ReservedResources(Document):
    cpu_mhz: int = msgspec.field(name="CpuShares", default=0)
    memory_mb: int = 0
    disk_mb: int = 0
    ports: tuple[int, ...] = ()


class Node(Document):
    """What the agent found on its machine (its fingerprint) and where it can be reached."""

    id: NodeId
    name: str
    datacenter: str = "dc1"
    virtual_datacenter: str = ""
    node_class: str = ""
    http_addr: str = msgspec.field(name="HTTPAddr", default="")  # host:port of the agent's API
    address: str = ""  # IP that services and ports are published on
    attributes: Mapping[str, str] = {}
    meta: Mapping[str, str] = {}
    drivers: Mapping[str, DriverInfo] = {}
    resources: NodeResources = NodeResources()
    reserved: ReservedResources = ReservedResources()
    consul_node: str = ""  # Consul's name of the machine, and the Consul datacenter it is in
    consul_datacenter: str = ""
    boot_id: str = ""
    version: str = ""
    started_time: int = 0  # ns since the epoch; changes at every agent start


class NodeEvent(Document):
    message: str
    timestamp: str
    subsystem: str = "Cluster"
    details: Mapping[str, str] = {}


class NodeControl(Document):
    """What the leader holds of a node; survives leader changes."""

    node_id: NodeId
    status: NodeStatus = NodeStatus.INITIALIZING
    status_description: str = ""
    status_updated_at: int = 0  # seconds since the epoch, as Nomad's StatusUpdatedAt
    scheduling_eligibility: Eligibility = Eligibility.ELIGIBLE
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
