"""How does drover register services and feed checks on the local Consul agent?

Only agent-local calls: they work while Consul has no servers, and Consul's own anti-entropy carries the
result to the catalog.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from catalog.client import Client
from model.errors import StoreRefused, StoreUnavailable


class LocalCheck(msgspec.Struct, frozen=True, rename={"check_id": "CheckID", "status": "Status", "output": "Output"}):
    """One check as the local agent has it. An empty output: it has not run yet."""

    check_id: str
    status: str
    output: str = ""


class LocalService(msgspec.Struct, frozen=True, rename={"id": "ID", "service": "Service", "meta": "Meta", "tags": "Tags"}):
    id: str
    service: str
    meta: dict[str, str] | None = None
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulSelf:
    """What the local Consul agent says of itself. node: its name of this machine."""

    node: str
    datacenter: str
    version: str


_decode_checks = msgspec.json.Decoder(dict[str, LocalCheck]).decode
_decode_services = msgspec.json.Decoder(dict[str, LocalService]).decode


@dataclass(slots=True)
class LocalAgent:
    """The Consul agent of this machine. Every method raises StoreUnavailable or StoreRefused."""

    client: Client

    async def register(self, document: Mapping[str, Any]) -> None:
        """Service and checks in one call; checks that are no longer in the document go."""
        await self.client.call(
            "PUT",
            "/v1/agent/service/register",
            params={"replace-existing-checks": "true"},
            document=document,
            timeout_s=5.0,
        )

    async def deregister(self, service_id: str) -> None:
        """Idempotent: a service that is not there is no error."""
        response = await self.client.transport.request(
            "PUT", f"/v1/agent/service/deregister/{service_id}", timeout_s=5.0
        )
        # 1.8 answers 404, earlier ones 500, both with these words.
        if response.status >= 400 and "unknown service" not in response.text.lower():
            raise StoreRefused(f"Consul: deregister {service_id}: {response.status} {response.text[:200]}")

    async def services(self, meta_key: str, meta_value: str) -> dict[str, LocalService]:
        """{service id: service} of those with this meta."""
        response = await self.client.call(
            "GET", "/v1/agent/services", params={"filter": f'Meta["{meta_key}"] == "{meta_value}"'}, timeout_s=5.0
        )
        return _decode_services(response.body)

    async def checks(self, *, failing_only: bool = False) -> dict[str, LocalCheck]:
        """{check id: check}; drover's own and everybody else's on this agent."""
        params = {"filter": 'Status != "passing"'} if failing_only else None
        response = await self.client.call("GET", "/v1/agent/checks", params=params, timeout_s=5.0)
        return _decode_checks(response.body)

    async def feed(self, check_id: str, status: str, output: str) -> None:
        """The result of a check that drover runs. StoreRefused: Consul does not know the check."""
        response = await self.client.transport.request(
            "PUT",
            f"/v1/agent/check/update/{check_id}",
            body=msgspec.json.encode({"Status": status, "Output": output[:4000]}),
            timeout_s=5.0,
        )
        if response.status >= 400:
            raise StoreRefused(f"Consul: check {check_id}: {response.status} {response.text[:200]}")

    async def itself(self) -> ConsulSelf:
        answer = await self.client.agent.self()
        config = answer.get("Config")
        if not isinstance(config, dict):
            raise StoreUnavailable("Consul: /v1/agent/self without Config")
        return ConsulSelf(
            node=str(config.get("NodeName", "")),
            datacenter=str(config.get("Datacenter", "")),
            version=str(config.get("Version", "")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outsider:
    """A service with one check on a node of the catalog that has no Consul agent."""

    id: str
    service: str
    meta: Mapping[str, str]
    status: str
    output: str


@dataclass(slots=True)
class OutsideNode:
    """A node of the catalog that nothing but drover's leader writes. Every method raises StoreUnavailable or
    StoreRefused."""

    client: Client
    name: str
    root: str

    async def put(self, outsider: Outsider) -> None:
        service_id = outsider.id
        document = {
            "Node": self.name,
            "Address": "127.0.0.1",  # Consul wants one
            "NodeMeta": {"drover_root": self.root},
            "Service": {"ID": service_id, "Service": outsider.service, "Meta": dict(outsider.meta)},
            "Check": {
                "CheckID": f"service:{service_id}",
                "Name": "the job's runs",
                "ServiceID": service_id,
                "Status": outsider.status,
                "Output": outsider.output[:4000],
            },
        }
        await self.client.call("PUT", "/v1/catalog/register", document=document, timeout_s=5.0)

    async def drop(self, service_id: str) -> None:
        """Idempotent; with the check."""
        document = {"Node": self.name, "ServiceID": service_id}
        await self.client.call("PUT", "/v1/catalog/deregister", document=document, timeout_s=5.0)

    async def drop_all(self) -> None:
        await self.client.call("PUT", "/v1/catalog/deregister", document={"Node": self.name}, timeout_s=5.0)

    async def read(self) -> dict[str, Outsider] | None:
        """By id; None: the node is not there."""
        node = await self.client.call("GET", f"/v1/catalog/node/{self.name}", params={"consistent": ""}, timeout_s=5.0)
        known = msgspec.json.decode(node.body)
        if known is None:
            return None
        health = await self.client.call("GET", f"/v1/health/node/{self.name}", params={"consistent": ""}, timeout_s=5.0)
        checks = {check["ServiceID"]: check for check in msgspec.json.decode(health.body)}
        return {
            service_id: Outsider(
                id=service_id,
                service=service["Service"],
                meta=service.get("Meta") or {},
                status=checks.get(service_id, {}).get("Status", ""),
                output=checks.get(service_id, {}).get("Output", ""),
            )
            for service_id, service in (known["Services"] or {}).items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One leader candidate as the catalog has it. is_passing: its check and its machine's gossip pass."""

    node_id: str
    name: str
    http_addr: str
    datacenter: str
    version: str
    is_passing: bool
    service_id: str = ""
    consul_node: str = ""
    tls_enabled: bool = False


@dataclass(slots=True)
class Candidates:
    """All leader candidates below one root of keys, kept for a second: status pages ask often. datacenter: Consul's, that
    they live in; empty: the local agent's."""

    client: Client
    root: str
    datacenter: str = ""
    _members: tuple[Member, ...] = ()
    _read_s: float = -10.0

    async def read(self) -> tuple[Member, ...]:
        """Sorted by name. Raises StoreUnavailable."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._read_s < 1.0:
            return self._members
        response = await self.client.call("GET", "/v1/health/service/drover-server", params=self._where, timeout_s=5.0)
        found = []
        for one in msgspec.json.decode(response.body):
            service = one["Service"]
            meta = service.get("Meta") or {}
            if meta.get("drover_root") != self.root:
                continue  # another drover's, that shares this Consul
            found.append(
                Member(
                    node_id=meta.get("drover_node", ""),
                    name=meta.get("drover_name", ""),
                    http_addr=f"{service['Address']}:{service['Port']}",
                    datacenter=meta.get("drover_datacenter", ""),
                    version=meta.get("drover_version", ""),
                    is_passing=all(check["Status"] == "passing" for check in one["Checks"]),
                    service_id=service.get("ID", ""),
                    consul_node=one["Node"]["Node"],
                    tls_enabled=meta.get("drover_tls") == "true",
                )
            )
        self._members = tuple(sorted(found, key=lambda m: (m.name, m.node_id)))
        self._read_s = now_s
        return self._members

    @property
    def _where(self) -> dict[str, str]:
        return {"dc": self.datacenter} if self.datacenter else {}

    async def forget(self, member: Member) -> None:
        """Takes a candidate out of the catalog; one that lives is back as soon as its Consul agent looks. Raises
        StoreUnavailable, StoreRefused."""
        document = {"Node": member.consul_node, "ServiceID": member.service_id}
        if self.datacenter:
            document["Datacenter"] = self.datacenter
        await self.client.call("PUT", "/v1/catalog/deregister", document=document, timeout_s=5.0)
        self._read_s = -10.0
