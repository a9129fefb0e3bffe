"""The API's /v1/agent/monitor: the agent's own log as it is written, at whatever level is asked for.

Frames as of a log (`{"Data": base64}`, `{}` each second of silence), or with `plain=true` the lines themselves.
`node_id` and `server_id` name another agent than the one that is asked. A reader that is too slow misses lines, and
is told how many; the agent never waits for it.
"""

import asyncio
import base64
import logging
from collections import deque
from contextlib import suppress

from aiohttp import web

from api.context import CONTEXT, NODE_HEADER, is_gone
from api.files import HEARTBEAT_S
from api.forwarding import on_named_node
from api.query import BadRequest, NotFound, is_true
from configs.log_lines import formatter, level_of, listening
from model.wire import encode

# 512 as in Nomad; at DEBUG a busy agent writes so many within a second.
LINES_MAX = 512


class LogTap(logging.Handler):
    """Keeps the newest lines until they are taken. May be written to from any thread."""

    def __init__(self, level: int, *, is_json: bool) -> None:
        super().__init__(level)
        self.setFormatter(formatter(is_json=is_json))
        self._lines: deque[str] = deque()
        self._missed = 0
        self._loop = asyncio.get_running_loop()
        self._there = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        # Called under the handler's lock.
        if len(self._lines) >= LINES_MAX:
            self._missed += 1
            return
        is_first = not self._lines
        self._lines.append(self.format(record))
        if is_first:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._there.set)

    async def take(self, wait_s_max: float) -> bytes:
        """The lines since the last call, each with its end; none after that time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s_max):
                await self._there.wait()
        self.acquire()
        try:
            self._there.clear()
            lines, missed = list(self._lines), self._missed
            self._lines.clear()
            self._missed = 0
        finally:
            self.release()
        if missed:
            words = f"{missed} lines were missed: they came faster than they were read"
            told = logging.makeLogRecord({"name": "monitor", "levelno": logging.WARNING, "levelname": "WARNING", "msg": words})
            lines.append(self.format(told))
        return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


async def monitor(request: web.Request) -> web.StreamResponse:
    """`?log_level=&log_json=&node_id=&server_id=&plain=`."""
    level = request.query.get("log_level", "") or "INFO"
    if level_of(level) is None:
        raise BadRequest(f"Unknown log level: {level[:20]}")
    node, server = request.query.get("node_id", ""), request.query.get("server_id", "")
    if node and server:
        raise BadRequest("Cannot target node and server simultaneously")
    if node:
        return await _of_node(request)
    return await (_of_server(request, server) if server else _stream(request))


async def _of_server(request: web.Request, name: str) -> web.StreamResponse:
    """name: a candidate's, its id, or `leader`."""
    context = request.app[CONTEXT]
    if request.headers.get(NODE_HEADER) == context.node_id:
        return await _stream(request)
    leader = await context.leader() if name == "leader" else None
    for member in await context.members():
        names = (member.node_id, member.name, f"{member.name}.{context.region}")
        if member.node_id == leader.node_id if leader is not None else name in names:
            if member.node_id == context.node_id:
                return await _stream(request)
            return await context.forward_to_node(request, member.http_addr, member.node_id, is_tls=member.tls_enabled)
    raise NotFound(f'Unknown server "{name[:80]}"')


async def _stream(request: web.Request) -> web.StreamResponse:
    is_plain = is_true(request, "plain")
    response = web.StreamResponse()
    response.content_type = "text/plain" if is_plain else "application/json"
    response.headers["X-Content-Type-Options"] = "nosniff"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    tap = LogTap(level_of(request.query.get("log_level", "") or "INFO") or logging.INFO, is_json=is_true(request, "log_json"))
    with listening(tap), suppress(ConnectionError):
        while not is_gone(request):
            lines = await tap.take(HEARTBEAT_S)
            if is_plain:
                if lines:
                    await response.write(lines)
            else:
                await response.write(encode({"Data": base64.b64encode(lines).decode()}) if lines else b"{}")
    return response


_of_node = on_named_node(_stream)
