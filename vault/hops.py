"""Where does a name or an address lead, as far as it can be told from its form?

    vault.service.dc2.consul ─> the service "vault" of Consul's datacenter dc2      10.0.0.1:8200 ─> a host and port
    near.query.consul, db-1.node.consul, vault.example.com ─> what somebody has to look up: a Name

`written` finds such names in the text of a template, of a balancer's configuration that is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from model.upstreams import shortest

# Vault registers itself with these; they move from instance to instance, and a job file has them only if they are written there.
VAULT_TAGS = frozenset({"active", "standby", "performance-standby", "initialized"})
# In the place of a tag, they say how, not which.
_PROTOCOLS = ("tcp", "udp")

_REST = r"(?P<rest>(?:\.[\w-]+)*)\.consul"
_SERVICE = re.compile(r"(?:(?P<tag>[\w-]+)\.)?(?P<name>[\w-]+)\.(?:service|connect|virtual)" + _REST)
_RFC_2782 = re.compile(r"_(?P<name>[\w-]+)\._(?P<tag>[\w-]+)(?:\.service)?" + _REST)
_QUERY = re.compile(r"(?P<name>[\w.-]+)\.query" + _REST)
_NODE = re.compile(r"(?P<name>[\w.-]+)\.node" + _REST)
_ADDRESS = re.compile(r"(?P<name>[0-9a-f]{8}|[0-9a-f]{32})\.addr" + _REST)

# Each run of letters that could be a host is one match: the time goes with the text's length.
_WRITTEN = re.compile(r"(?:(?P<scheme>https?)://)?(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[\w.-]+))(?::(?P<port>\d{1,5})(?!\w|\.\w))?")
_FOUR = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a connection goes: a service in Consul (of a tag, of a datacenter, or any), else a host and a port."""

    service: str = ""
    tag: str = ""
    host: str = ""
    port: int = 0
    datacenter: str = ""  # Consul's

    def __str__(self) -> str:
        if not self.service:
            return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        tagged = f"{self.tag}.{self.service}" if self.tag else self.service
        return f'service "{tagged}"' + (f" of {self.datacenter}" if self.datacenter else "")


@dataclass(frozen=True, slots=True)
class Name:
    """What has to be looked up. kind: query, node or host. datacenter: Consul's, of a node; empty: any."""

    kind: str
    name: str
    datacenter: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A name or an address in a text. port: None where none is written, nor a scheme."""

    host: str
    port: int | None


def of_service(name: str, tag: str = "", datacenter: str = "") -> Hop:
    tag = tag.lower()
    return Hop(service=name.lower(), tag="" if tag in _PROTOCOLS else tag, datacenter=datacenter.lower())


@lru_cache(maxsize=32768)
def of_host(host: str, port: int) -> Hop | Name:
    """host: in lower case, without a dot at its end."""
    if match := _RFC_2782.fullmatch(host) or _SERVICE.fullmatch(host):
        return of_service(match["name"], match["tag"] or "", _datacenter(match["rest"]))
    if match := _QUERY.fullmatch(host):
        return Name("query", match["name"])
    if match := _NODE.fullmatch(host):
        return Name("node", match["name"], _datacenter(match["rest"]))
    if match := _ADDRESS.fullmatch(host):
        return Hop(host=shortest(str(ip_address(bytes.fromhex(match["name"])))), port=port)
    if ip := shortest(host):
        return Hop(host=ip, port=port)
    return Hop(host=host, port=port) if host == "localhost" else Name("host", host)


def is_local(host: str) -> bool:
    """host: a name, or an IP in its shortest form."""
    return host in ("localhost", "::1") or (host.startswith("127.") and bool(shortest(host)))


@lru_cache(maxsize=256)  # it keeps the texts too
def written(text: str) -> tuple[Written, ...]:
    """What looks like a name of Consul's or an IP with a port, and every other name with a dot in it: whether that is a host
    at all the caller may know. Addresses that mean "any" are none."""
    return tuple(dict.fromkeys(_written(text)))


def _written(text: str) -> Iterator[Written]:
    for match in _WRITTEN.finditer(text):
        port = int(match["port"]) if match["port"] else {"https": 443, "http": 80}.get(match["scheme"] or "")
        if match["six"] or _FOUR.fullmatch(match["host"]):
            ip = shortest(match["six"] or match["host"])
            if ip and port and not ip_address(ip).is_unspecified:
                yield Written(ip, port)
            continue
        host = match["host"].lower().strip(".")
        if "." in host or (host == "localhost" and port):
            yield Written(host, port)


def _datacenter(rest: str) -> str:
    """Of the labels between the kind and the domain: one alone is it; in the long form the one before `dc` is."""
    labels = rest.split(".")[1:]
    if "dc" in labels[1:]:
        return labels[labels.index("dc", 1) - 1]
    return labels[0] if len(labels) == 1 else ""
