"""What does Consul answer to a single question, and to the same one again once the answer is another?

Every call takes the index of the answer before (0: at once) and returns when Consul has a later one, or after `wait_s`.

Any server may answer (`stale`): thousands of nodes ask, and one leader would have to answer all of them. A server that has
lost its leader knows nothing new, so what it says is no answer: whoever asked keeps what he has.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from catalog.kv import BLOCKING_MARGIN_S
from catalog.transport import Response, Transport, checked
from model.errors import StoreUnavailable

T = TypeVar("T")

# Consul adds up to this share to the wait that was asked for.
_WAIT_JITTER = 1 / 16
# A follower hears from its leader several times a second; one that has not for so long is cut off from it.
LAST_CONTACT_MS_MAX = 5_000

Meta = Mapping[str, str]


class Key(msgspec.Struct, frozen=True, rename="pascal"):
    key: str
    value: bytes | None = None
    flags: int = 0
    create_index: int = 0
    modify_index: int = 0
    lock_index: int = 0
    session: str = ""


class CatalogNode(msgspec.Struct, frozen=True, rename="pascal"):
    node: str
    id: str = msgspec.field(name="ID", default="")
    address: str = ""
    datacenter: str = ""
    tagged_addresses: Meta | None = None
    meta: Meta | None = None


class Weights(msgspec.Struct, frozen=True, rename="pascal"):
    passing: int = 1
    warning: int = 1


class Service(msgspec.Struct, frozen=True, rename="pascal"):
    id: str = msgspec.field(name="ID", default="")
    service: str = ""
    tags: tuple[str, ...] | None = None
    meta: Meta | None = None
    port: int = 0
    address: str = ""
    weights: Weights | None = None
    enable_tag_override: bool = False
    namespace: str = ""
    partition: str = ""


class Check(msgspec.Struct, frozen=True, rename="pascal"):
    node: str = ""
    check_id: str = msgspec.field(name="CheckID", default="")
    name: str = ""
    status: str = ""
    notes: str = ""
    output: str = ""
    service_id: str = msgspec.field(name="ServiceID", default="")
    service_name: str = ""


class Entry(msgspec.Struct, frozen=True, rename="pascal"):
    """One instance of a service, with its node and all checks that count for it."""

    node: CatalogNode
    service: Service
    checks: tuple[Check, ...] = ()


class NodeServices(msgspec.Struct, frozen=True, rename="pascal"):
    node: CatalogNode
    services: Mapping[str, Service] = {}


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """index: what to ask from next time; 0 when the endpoint has none."""

    value: T
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """How a question is asked. datacenter: empty for the agent's own. options: further parameters (`near`, `ns`)."""

    index: int = 0
    wait_s: float = 0.0
    datacenter: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


_keys = msgspec.json.Decoder(tuple[Key, ...]).decode
_entries = msgspec.json.Decoder(tuple[Entry, ...]).decode
_tags = msgspec.json.Decoder(dict[str, tuple[str, ...]]).decode
_nodes = msgspec.json.Decoder(tuple[CatalogNode, ...]).decode
_node = msgspec.json.Decoder(NodeServices | None).decode
_names = msgspec.json.Decoder(tuple[str, ...]).decode
_checks = msgspec.json.Decoder(tuple[Check, ...]).decode


@dataclass(frozen=True, slots=True)
class Lookups:
    """Every method raises StoreUnavailable, StoreForbidden or StoreRefused."""

    transport: Transport

    async def key(self, name: str, asking: Asking) -> Found[Key | None]:
        """None: there is no such key."""
        response = await self._ask(f"/v1/kv/{name}", asking, {}, none_is=404)
        found = _decoded(_keys, response) if response.status == 200 else ()
        return Found(found[0] if found else None, response.index)

    async def keys(self, prefix: str, asking: Asking) -> Found[tuple[Key, ...]]:
        """Sorted by key."""
        response = await self._ask(f"/v1/kv/{prefix}", asking, {"recurse": ""}, none_is=404)
        return Found(_decoded(_keys, response) if response.status == 200 else (), response.index)

    async def service(self, name: str, tag: str, asking: Asking, *, is_passing: bool) -> Found[tuple[Entry, ...]]:
        """is_passing: only instances all of whose checks pass."""
        params = ({"tag": tag} if tag else {}) | ({"passing": "1"} if is_passing else {})
        response = await self._ask(f"/v1/health/service/{name}", asking, params)
        return Found(_decoded(_entries, response), response.index)

    async def services(self, asking: Asking) -> Found[Mapping[str, tuple[str, ...]]]:
        """{name: the tags of all its instances}."""
        response = await self._ask("/v1/catalog/services", asking, {})
        return Found(_decoded(_tags, response), response.index)

    async def nodes(self, asking: Asking) -> Found[tuple[CatalogNode, ...]]:
        response = await self._ask("/v1/catalog/nodes", asking, {})
        return Found(_decoded(_nodes, response), response.index)

    async def node(self, name: str, asking: Asking) -> Found[NodeServices | None]:
        """None: there is no such node."""
        response = await self._ask(f"/v1/catalog/node/{name}", asking, {})
        return Found(_decoded(_node, response), response.index)

    async def checks(self, node: str, asking: Asking) -> Found[tuple[Check, ...]]:
        """All of that node and of its services."""
        response = await self._ask(f"/v1/health/node/{node}", asking, {})
        return Found(_decoded(_checks, response), response.index)

    async def datacenters(self) -> Found[tuple[str, ...]]:
        """Nearest first. Nobody can wait for a change of it."""
        response = checked(await self.transport.request("GET", "/v1/catalog/datacenters"), "GET /v1/catalog/datacenters")
        return Found(_decoded(_names, response), 0)

    async def _ask(self, path: str, asking: Asking, params: Mapping[str, str], *, none_is: int = 0) -> Response:
        """none_is: a status besides 200 that is an answer."""
        asked = {**asking.options, **params, "stale": ""}
        if asking.datacenter:
            asked["dc"] = asking.datacenter
        timeout_s = 10.0
        if asking.index:
            asked |= {"index": str(asking.index), "wait": f"{asking.wait_s:.0f}s"}
            timeout_s = asking.wait_s * (1 + _WAIT_JITTER) + BLOCKING_MARGIN_S
        response = await self.transport.request("GET", path, params=asked, timeout_s=timeout_s)
        if response.status != none_is:
            checked(response, f"GET {path}")
        _check_fresh(response, path)
        return response


def _check_fresh(response: Response, path: str) -> None:
    last_ms = response.headers.get("X-Consul-Lastcontact") or "0"
    is_cut_off = last_ms.isdigit() and int(last_ms) > LAST_CONTACT_MS_MAX
    if is_cut_off or response.headers.get("X-Consul-Knownleader") == "false":
        raise StoreUnavailable(f"Consul: GET {path}: no cluster leader")


def _decoded(decode: Callable[[bytes], T], response: Response) -> T:
    try:
        return decode(response.body)
    except msgspec.MsgspecError as error:
        raise StoreUnavailable(f"Consul: an answer that cannot be read: {error}") from error
