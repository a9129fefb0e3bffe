"""What does the catalog hold, and in which shapes is it answered?

One record per node, service instance and check, kept as /v1/health answers them; the flat form of
/v1/catalog/service and the agent's own forms are made from these. Fields that real Consul always sends
but drover never fills (Proxy, Connect, Definition) are constants.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

SERF_HEALTH = "serfHealth"
SERF_ALIVE = "Agent alive and reachable"
SERF_FAILED = "Agent not live or unreachable"


class Status(StrEnum):
    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"


STATUSES = frozenset(Status)


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Base of all: frozen, Consul's names outside."""


class Weights(Record, frozen=True, kw_only=True):
    passing: int = 1
    warning: int = 1


class ServiceAddress(Record, frozen=True, kw_only=True):
    address: str
    port: int


NO_PROXY: Mapping[str, Any] = {"MeshGateway": {}, "Expose": {}}


class Node(Record, frozen=True, kw_only=True):
    id: str = msgspec.field(name="ID", default="")
    node: str
    address: str
    datacenter: str
    tagged_addresses: Mapping[str, str] | None = None
    meta: Mapping[str, str] | None = None
    create_index: int = 0
    modify_index: int = 0


class Service(Record, frozen=True, kw_only=True):
    """One instance. `node` is where it runs; it is no part of the document."""

    id: str = msgspec.field(name="ID")
    service: str
    tags: tuple[str, ...] = ()
    address: str = ""
    tagged_addresses: Mapping[str, ServiceAddress] | UnsetType = UNSET
    meta: Mapping[str, str] | None = None
    port: int = 0
    weights: Weights = Weights()
    enable_tag_override: bool = False
    proxy: Mapping[str, Any] = msgspec.field(default_factory=lambda: NO_PROXY)
    connect: Mapping[str, Any] = {}
    create_index: int = 0
    modify_index: int = 0


class Check(Record, frozen=True, kw_only=True):
    node: str
    check_id: str = msgspec.field(name="CheckID")
    name: str = ""
    status: str = Status.CRITICAL
    notes: str = ""
    output: str = ""
    service_id: str = msgspec.field(name="ServiceID", default="")
    service_name: str = ""
    service_tags: tuple[str, ...] = ()
    type: str = ""
    definition: Mapping[str, Any] = {}
    create_index: int = 0
    modify_index: int = 0


class ServiceEntry(Record, frozen=True, kw_only=True):
    """One element of /v1/health/service."""

    node: Node
    service: Service
    checks: tuple[Check, ...]


class CatalogService(Record, frozen=True, kw_only=True):
    """One element of /v1/catalog/service."""

    id: str = msgspec.field(name="ID")
    node: str
    address: str
    datacenter: str
    tagged_addresses: Mapping[str, str] | None
    node_meta: Mapping[str, str] | None
    service_kind: str = ""
    service_id: str = msgspec.field(name="ServiceID")
    service_name: str
    service_tags: tuple[str, ...]
    service_address: str
    service_tagged_addresses: Mapping[str, ServiceAddress] | UnsetType
    service_weights: Weights
    service_meta: Mapping[str, str]
    service_port: int
    service_enable_tag_override: bool
    service_proxy: Mapping[str, Any] = msgspec.field(default_factory=lambda: NO_PROXY)
    service_connect: Mapping[str, Any] = {}
    create_index: int
    modify_index: int


class CatalogNode(Record, frozen=True, kw_only=True):
    """The answer of /v1/catalog/node."""

    node: Node
    services: Mapping[str, Service]


class AgentService(Record, frozen=True, kw_only=True):
    """One service as the agent's own endpoints answer it."""

    id: str = msgspec.field(name="ID")
    service: str
    tags: tuple[str, ...]
    meta: Mapping[str, str]
    port: int
    address: str
    tagged_addresses: Mapping[str, ServiceAddress] | UnsetType
    weights: Weights
    enable_tag_override: bool
    content_hash: str | UnsetType = UNSET


class ServiceCheckRef(Record, frozen=True, kw_only=True):
    id: str = msgspec.field(name="ID")
    namespace: str = ""


class Session(Record, frozen=True, kw_only=True):
    """One session, as /v1/session answers it; lock_delay is in nanoseconds."""

    id: str = msgspec.field(name="ID")
    name: str = ""
    node: str
    lock_delay: int = 15_000_000_000
    behavior: str = "release"
    ttl: str = msgspec.field(name="TTL", default="")
    node_checks: tuple[str, ...] | None = (SERF_HEALTH,)
    service_checks: tuple[ServiceCheckRef, ...] | None = None
    create_index: int = 0
    modify_index: int = 0


def catalog_service(node: Node, service: Service) -> CatalogService:
    return CatalogService(
        id=node.id,
        node=node.node,
        address=node.address,
        datacenter=node.datacenter,
        tagged_addresses=node.tagged_addresses,
        node_meta=node.meta,
        service_id=service.id,
        service_name=service.service,
        service_tags=service.tags,
        service_address=service.address,
        service_tagged_addresses=service.tagged_addresses,
        service_weights=service.weights,
        service_meta=service.meta or {},
        service_port=service.port,
        service_enable_tag_override=service.enable_tag_override,
        create_index=service.create_index,
        modify_index=service.modify_index,
    )


def agent_service(service: Service, content_hash: str | UnsetType = UNSET) -> AgentService:
    return AgentService(
        id=service.id,
        service=service.service,
        tags=service.tags,
        meta=service.meta or {},
        port=service.port,
        address=service.address,
        tagged_addresses=service.tagged_addresses,
        weights=service.weights,
        enable_tag_override=service.enable_tag_override,
        content_hash=content_hash,
    )


def is_same(old: Record | None, new: Record) -> bool:
    """Equal but for the indexes."""
    if old is None or type(old) is not type(new):
        return False
    indexes = {name: getattr(old, name) for name in ("create_index", "modify_index")}
    return bool(old == msgspec.structs.replace(new, **indexes))
