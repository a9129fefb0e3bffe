"""Is it a web page of somebody else's that makes a browser call?

A page may send a browser to any address, and with a name that resolves to another address later (DNS rebinding) even
read what it answers. So:

    Host      is an address, a name without a dot, a name of this agent (its own, what it listens on or advertises), one
              below `.consul`, or one of `http_hosts`. Behind a proxy that keeps the public name, that name belongs there.
    Origin    of a call that changes something, or that opens a websocket: that of the Host, or a name of `http_hosts`.
              Who sends none is no web page: curl, Nomad's clients, other agents.
    A header  that no form and no other page's script can send, of a call from a browser that changes something: what the web
              UI or another client sends by itself (`X-Drover-UI`, a token, JSON as Content-Type).

Without TLS only: with it, a browser has verified that the name is on the certificate. The Origin counts with TLS too.
"""

import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import urlsplit

from aiohttp import web

from api.forwarding import Handler
from api.rights import Forbidden

ANY = "*"
_READS = ("GET", "HEAD", "OPTIONS")
_OWN_HEADERS = ("X-Drover-UI", "X-Nomad-Token", "X-Consul-Token", "Authorization")


class Origins:
    """own: what the agent is called by itself. listed: `http_hosts`. Names, without ports."""

    def __init__(self, own: Iterable[str], listed: Iterable[str], *, is_tls: bool) -> None:
        self._listed = _names(listed)
        self._hosts = _names(own) | self._listed | {socket.gethostname().lower()}
        self._is_tls = is_tls

    def check(self, request: web.Request) -> None:
        """Raises Forbidden."""
        if ANY in self._listed:
            return
        host = request.headers.get("Host", "")
        if not self._is_tls and not self._is_ours(host):
            raise Forbidden(f"Permission denied: this API has no name {_name(host)[:80]!r} (http_hosts may list it)")
        if request.method not in _READS and "Sec-Fetch-Site" in request.headers and not _is_by_script(request):
            raise Forbidden("Permission denied: a browser that changes something sends X-Drover-UI, a token or JSON")
        is_read = request.method in _READS and not request.path.endswith("/gc")  # which changes things by GET too
        if is_read and request.headers.get("Upgrade", "").lower() != "websocket":
            return
        origin = request.headers.get("Origin")
        if origin is None:
            if request.headers.get("Sec-Fetch-Site", "") not in ("cross-site", "same-site"):
                return
        elif _place(origin) == host.lower() or _name(_place(origin)) in self._listed:
            return
        raise Forbidden("Permission denied: a web page of another origin may change nothing (http_hosts may list its host)")

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        # A name without a dot is nobody's on the Internet: it comes from the machine's own hosts or search domain.
        if ("." not in name.rstrip(".") and ":" not in name) or name in self._hosts or name.endswith((".localhost", ".consul")):
            return True
        with suppress(ValueError):
            ipaddress.ip_address(name.partition("%")[0])
            return True
        return False


def _is_by_script(request: web.Request) -> bool:
    """Whether it carries what a page of another origin could send only if that was allowed first, which it is not."""
    return any(name in request.headers for name in _OWN_HEADERS) or request.content_type == "application/json"


@web.middleware
async def known_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    request.app[ORIGINS].check(request)
    return await handler(request)


def _names(hosts: Iterable[str]) -> frozenset[str]:
    return frozenset(host.lower().rstrip(".") for host in hosts if host)


def _place(origin: str) -> str:
    """`https://Host:port` as `host:port`, without a port that goes without saying."""
    with suppress(ValueError):
        return urlsplit(origin).netloc.lower()
    return ""


def _name(host: str) -> str:
    """`Name:port` and `[::1]:port` without the port."""
    text = host.lower().strip()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    name, colon, port = text.rpartition(":")
    return (name if colon and port.isdigit() else text).rstrip(".")


ORIGINS: web.AppKey[Origins] = web.AppKey("origins", Origins)
