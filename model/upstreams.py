"""How is the address of a server read, and what does a job lead on to by its own word?

The meta `drover_upstreams` of a job, group or task says what a balancer passes connections on to, where its templates do
not say it or say too much: "vault-1, 10.0.0.7:8200". It is checked at submit and used by the guard (vault/guard.py).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

UPSTREAMS_META = "drover_upstreams"
# Of one meta. Real balancers name two or three; each may have to be looked up while somebody waits.
UPSTREAMS_MAX = 100

_HTTP_PORT, _HTTPS_PORT = 80, 443
_SERVICE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")


@dataclass(frozen=True, slots=True)
class Address:
    """host: a name in lower case, or an IP in its shortest form. is_service: a bare name, of a service in Consul; without a port then."""

    host: str
    port: int = 0
    is_service: bool = False


# Of a fleet of 10,000, whose agents have each their own: reading them is nearly all of the guard's time.
_KEPT = 32768


@lru_cache(maxsize=_KEPT)
def address_of(text: str) -> Address | None:
    """Of a URL, `host:port`, a host, or a bare name. None: it is none of these."""
    if _SERVICE.fullmatch(text):
        return Address(text.lower(), is_service=True)
    if host := shortest(text):
        return Address(host, _HTTP_PORT)
    try:
        url = urlsplit(text if "://" in text else f"//{text}")
        host, port = url.hostname or "", url.port
    except ValueError:
        return None
    name = shortest(host) or (host.lower().rstrip(".") if _HOST.fullmatch(host) else "")
    if not name or port == 0:
        return None
    return Address(name, port or (_HTTPS_PORT if url.scheme == "https" else _HTTP_PORT))


@lru_cache(maxsize=_KEPT)
def shortest(host: str) -> str:
    """An IP in the one form that it is compared in, without a zone; empty for what is no IP."""
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    return str(ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else str(ip)


def upstreams_of(meta: Mapping[str, str]) -> tuple[str, ...]:
    """As they are written."""
    return tuple(one for one in re.split(r"[,\s]+", meta.get(UPSTREAMS_META, "")) if one)
