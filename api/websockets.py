"""How is a websocket taken up, and how is one passed on to another agent?

A web page of another origin opens none (api/origins.py): the browser asks nobody before it does, as it would for other
calls. That is looked at where the client comes in; between agents there is no origin.

What is passed on is passed on message by message, each only once the one before was taken: a slow client holds up
the agent behind, and fills no memory here.
"""

import asyncio
import os
import select
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

T = TypeVar("T")

# Nomad's clients send a few KiB a message; ours 32 KiB in base64.
MESSAGE_BYTES_MAX = 1024 * 1024
# A client whose machine is gone answers nothing, and a shell may be silent for days.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
_HANDSHAKE_S_MAX = 10.0
NORMAL, GOING_AWAY, CLIENTS_FAULT, OUR_FAULT = 1000, 1001, 1008, 1011
_CLOSE_S_MAX = 2.0
# How soon it is noticed that a client has left whose input nobody takes.
_LOOK_S = 1.0
# A close frame holds 125 bytes, two of them the code.
_REASON_BYTES_MAX = 123


class NoWebsocket(Exception):
    """400: the call is none."""

    def __init__(self) -> None:
        super().__init__("websocket: the client is not using the websocket protocol")


def is_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def accepted(request: web.Request) -> web.WebSocketResponse:
    """Raises NoWebsocket."""
    response = web.WebSocketResponse(max_msg_size=MESSAGE_BYTES_MAX, timeout=_CLOSE_S_MAX, compress=False)
    if not response.can_prepare(request):
        raise NoWebsocket
    await response.prepare(request)
    found = request.transport.get_extra_info("socket") if request.transport else None
    if found is not None:
        with suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                found.setsockopt(socket.IPPROTO_TCP, option, value)
    return response


async def first_of(tasks: Sequence[asyncio.Task[T]], request: web.Request, response: web.WebSocketResponse) -> None:
    """Returns when one of them has ended, or the client has hung up.

    With input of its that nobody takes on the way, its farewell comes to nobody either. So it is spoken to now and
    then: the kernel of a client that is gone answers with a reset.
    """
    while not (await asyncio.wait(tasks, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED))[0]:
        if _has_hung_up(request):
            return
        # No room for it: then what is on the way already does the same.
        with suppress(ConnectionError, RuntimeError, TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await response.ping()


def _has_hung_up(request: web.Request) -> bool:
    if request.transport is None or request.transport.is_closing():
        return True
    found = request.transport.get_extra_info("socket")
    if found is None or found.fileno() < 0:
        return True
    look = select.poll()
    look.register(found.fileno(), select.POLLRDHUP)
    return bool(look.poll(0))


def _break_off(there: aiohttp.ClientWebSocketResponse) -> None:
    """Nobody is interested any more in what is still on the way there, and would hold up every farewell."""
    found = there.get_extra_info("socket")
    if found is not None and found.fileno() >= 0:
        # Of the loop's own socket object only the number can be relied on.
        with suppress(OSError), socket.socket(fileno=os.dup(found.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)


async def close(response: web.WebSocketResponse, code: int, reason: str) -> None:
    """Bounded in time, whatever the client does."""
    with suppress(ConnectionError, RuntimeError, TimeoutError):
        async with asyncio.timeout(_CLOSE_S_MAX):
            await response.close(code=code, message=cut(reason))


def cut(reason: str) -> bytes:
    """No longer than a close frame takes, and whole characters."""
    return reason.encode()[:_REASON_BYTES_MAX].decode("utf-8", "ignore").encode()


async def passed_on(
    request: web.Request, session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], how: Mapping[str, Any]
) -> web.StreamResponse | None:
    """None when the other agent takes up no websocket: asked in the plain way it says why. how: aiohttp's arguments for
    TLS.

    Raises aiohttp's errors as long as nothing was taken up.
    """
    kept = {name: value for name, value in headers.items() if not name.lower().startswith(("sec-websocket", "origin"))}
    try:
        async with asyncio.timeout(_HANDSHAKE_S_MAX):
            there = await session.ws_connect(url, headers=kept, max_msg_size=MESSAGE_BYTES_MAX, **how)
    except aiohttp.WSServerHandshakeError:
        return None
    except TimeoutError as error:
        raise aiohttp.ServerTimeoutError(f"no websocket within {_HANDSHAKE_S_MAX:g} s") from error
    try:
        here = await accepted(request)
        async with asyncio.TaskGroup() as tasks:
            pumps = [
                tasks.create_task(_pump(here, there), name="websocket to the node"),
                tasks.create_task(_pump(there, here), name="websocket to the client"),
            ]
            await first_of(pumps, request, here)
            for pump in pumps:
                pump.cancel()
        code, reason = next((pump.result() for pump in pumps if not pump.cancelled()), (GOING_AWAY, ""))
        if code == GOING_AWAY:
            _break_off(there)
        await close(here, code, reason)
    finally:
        with suppress(ConnectionError, RuntimeError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S_MAX):
                await there.close()
    return here


_Side = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


async def _pump(source: _Side, target: _Side) -> tuple[int, str]:
    """How the source closed."""
    while True:
        message = await source.receive()
        try:
            match message.type:
                case aiohttp.WSMsgType.TEXT:
                    await target.send_str(message.data)
                case aiohttp.WSMsgType.BINARY:
                    await target.send_bytes(message.data)
                case aiohttp.WSMsgType.CLOSE:
                    return int(message.data or NORMAL), str(message.extra or "")
                case _:
                    return OUR_FAULT, "the connection to the node broke off"
        except (ConnectionError, RuntimeError):
            return OUR_FAULT, "the connection broke off"
