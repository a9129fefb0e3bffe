"""How many connections may a client hold, and for how long may one be held up?

Between a transport and aiohttp's own protocol, which has no such limits:

    too many of one address      429, and closed
    no request's headers yet     http_header_timeout after the connection began, closed (later requests of a
                                 connection have aiohttp's keep-alive limit)
    a body that does not come    nothing for http_stall_timeout while it is due, closed
    a reader that does not read  nothing went out for http_stall_timeout while there is something to send, closed.
                                 Until then what waits is one answer, or 64 KiB of a stream: writers wait for it.
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web

from configs import Limits

_TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 44\r\nConnection: close\r\n\r\nYour IP is issuing too many concurrent calls"
)


class Connections:
    """All of one server's. factory: makes aiohttp's protocol."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.of_address: Counter[str] = Counter()
        self._all: dict[asyncio.BaseTransport, _Connection] = {}

    def wrapped(self, factory: Callable[[], asyncio.BaseProtocol]) -> Callable[[], asyncio.Protocol]:
        return lambda: _Connection(self, cast(asyncio.Protocol, factory()))

    def add(self, transport: asyncio.BaseTransport, connection: "_Connection") -> None:
        self._all[transport] = connection

    def discard(self, transport: asyncio.BaseTransport | None) -> None:
        if transport is not None:
            self._all.pop(transport, None)

    def begun(self, request: web.Request) -> None:
        """A request's headers are there; its body is due now, if it has one."""
        transport = request.transport
        if transport is not None and (connection := self._all.get(transport)) is not None:
            connection.begun(request)


@web.middleware
async def timed(request: web.Request, handler: Any) -> web.StreamResponse:
    request.app[CONNECTIONS].begun(request)
    response: web.StreamResponse = await handler(request)
    return response


class _Connection(asyncio.Protocol):
    def __init__(self, all_: Connections, inner: asyncio.Protocol) -> None:
        self._all, self._inner = all_, inner
        self._address = ""
        self._transport: asyncio.Transport | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._received = 0
        self._is_refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        limits = self._all.limits
        self._all.of_address[self._address] += 1
        if 0 < limits.http_max_conns_per_client < self._all.of_address[self._address]:
            self._is_refused = True
            self._transport.write(_TOO_MANY)
            self._transport.close()
            return
        self._all.add(transport, self)
        self._inner.connection_made(transport)
        if limits.http_header_timeout_s:
            self._later("headers", limits.http_header_timeout_s, self._end)

    def connection_lost(self, error: Exception | None) -> None:
        for name in list(self._timers):
            self._cancel(name)
        self._all.of_address[self._address] -= 1
        if not self._all.of_address[self._address]:
            del self._all.of_address[self._address]
        self._all.discard(self._transport)
        if not self._is_refused:
            self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if not self._is_refused:
            self._received += len(data)
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._is_refused else self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        if self._all.limits.http_stall_timeout_s:
            self._await_reader(self._unsent())

    def resume_writing(self) -> None:
        self._cancel("reader")
        self._inner.resume_writing()

    def begun(self, request: web.Request) -> None:
        self._cancel("headers")
        if request.body_exists and self._all.limits.http_stall_timeout_s:
            self._await_body(request, self._received)

    def _await_body(self, request: web.Request, received: int) -> None:
        def look() -> None:
            if not request.content.is_eof() and request.transport is not None:
                # Paused: it is the handler that has not read yet.
                is_reading = self._transport is not None and self._transport.is_reading()
                if self._received == received and is_reading:
                    self._end()
                else:
                    self._await_body(request, self._received)

        self._later("body", self._all.limits.http_stall_timeout_s, look)

    def _await_reader(self, unsent: int) -> None:
        def look() -> None:
            left = self._unsent()
            if left >= unsent:
                self._end()
            else:
                self._await_reader(left)

        self._later("reader", self._all.limits.http_stall_timeout_s, look)

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport else 0

    def _later(self, name: str, after_s: float, then: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = asyncio.get_running_loop().call_later(after_s, then)

    def _cancel(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.abort()


CONNECTIONS: web.AppKey[Connections] = web.AppKey("connections", Connections)


async def listen(
    runner: web.AppRunner,
    connections: Connections,
    where: dict[str, Any],
    tls: ssl.SSLContext | None,
) -> asyncio.Server:
    """where: host and port, or sock, as asyncio's create_server takes them. Raises OSError."""
    server = runner.server
    assert server is not None  # the runner is set up
    more: dict[str, Any] = {}
    if tls is not None and connections.limits.https_handshake_timeout_s:
        more["ssl_handshake_timeout"] = connections.limits.https_handshake_timeout_s
    return await asyncio.get_running_loop().create_server(
        connections.wrapped(server), ssl=tls, backlog=1024, **where, **more
    )
