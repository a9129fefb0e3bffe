"""The API's /v1/client/…: what only the node that holds an alloc can answer: logs, restart, signal.

Logs come in frames, concatenated JSON objects that are flushed as they come: `{"Data": base64, "File": …,
"Offset": position after Data}`; `{}` says that all there is was sent, and then each second that the
connection lives. A follower crosses rotated files (agent/logs.py). Its stream ends once the task is dead
for good and everything was sent, or the alloc is forgotten.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.logs import LogStream, Piece, stream_of
from agent.task_runner import SignalRefused
from api.context import CONTEXT, is_gone
from api.query import BadRequest, NotFound, answer, decode, is_true, member
from model.alloc import AllocId, TaskStatus
from model.errors import TaskRefused
from model.wire import encode

CHUNK_BYTES = 64 * 1024
# How soon a follower sees a new line; a heartbeat each second keeps the connection known to be alive.
FOLLOW_S = 0.2
HEARTBEAT_S = 1.0


async def read_logs(
    stream: LogStream, *, offset: int, from_end: bool, is_over: Callable[[], bool]
) -> AsyncIterator[Piece | None]:
    """The stream from `offset` bytes after its start or before its end; None: nothing new. is_over: nothing
    more will be written, so that the end is the end."""
    begin, end = await asyncio.to_thread(stream.bounds)
    position = max(begin, end - offset) if from_end else min(begin + offset, end)
    waited_s = HEARTBEAT_S  # the first end is told at once
    while True:
        was_over, mark = is_over(), stream.mark()  # before the read: what it finds then is all
        piece = await asyncio.to_thread(stream.read, position, CHUNK_BYTES)
        if piece is not None:
            position = piece.position
            yield piece
            if len(piece.data) == CHUNK_BYTES or not stream.is_newest(piece.file):
                continue
        if was_over:
            return
        while True:
            if waited_s >= HEARTBEAT_S:
                waited_s = 0.0
                yield None
            await asyncio.sleep(FOLLOW_S)
            waited_s += FOLLOW_S
            if stream.mark() != mark or is_over():
                break


async def logs(request: web.Request) -> web.StreamResponse:
    """`?task=&type=stdout|stderr&follow=&offset=&origin=start|end&plain=`."""
    query = request.query
    task, kind = query.get("task", ""), query.get("type", "")
    if not task:
        raise BadRequest("must provide task name")
    if kind not in ("stdout", "stderr"):
        raise BadRequest("must provide log type (stdout/stderr)")
    origin = query.get("origin", "start") or "start"
    if origin not in ("start", "end"):
        raise BadRequest("origin must be start or end")
    try:
        offset = max(0, int(query.get("offset", "0") or 0))
    except ValueError:
        raise BadRequest("error parsing offset: not a number") from None
    agent = request.app[CONTEXT].agent
    alloc_id = AllocId(request.match_info["id"])
    try:
        directory: Path = agent.alloc_dir(alloc_id)
    except TaskRefused as error:
        raise NotFound(str(error)) from error
    if task not in agent.allocs[alloc_id].tasks:
        raise BadRequest(f'unknown task name "{task}"')
    stream = stream_of(directory / "alloc" / "logs" / f"{task}.{kind}")
    if not stream.exists():
        raise NotFound(f'task "{task}" not started yet. No logs available')
    follow = is_true(request, "follow")
    plain = is_true(request, "plain")

    def is_over() -> bool:
        runner = agent.allocs.get(alloc_id)
        return not follow or runner is None or runner.states()[task].state is TaskStatus.DEAD

    response = web.StreamResponse()
    response.content_type = "text/plain" if plain else "application/json"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    with suppress(ConnectionError):  # the reader left: nothing to tell anybody
        async for piece in read_logs(stream, offset=offset, from_end=origin == "end", is_over=is_over):
            if is_gone(request):
                break
            if data := _plain(piece) if plain else _frame(piece):
                await response.write(data)
        await response.write_eof()
    return response


def _plain(piece: Piece | None) -> bytes:
    return piece.data if piece else b""


def _frame(piece: Piece | None) -> bytes:
    if piece is None:
        return b"{}"
    data, file = base64.b64encode(piece.data).decode(), f"alloc/logs/{piece.file.name}"
    return encode({"Data": data, "File": file, "Offset": piece.offset})


async def alloc_restart(request: web.Request) -> web.Response:
    """Restarts one task or all of them; it does not count under the restart policy."""
    task = member(await _body(request), "TaskName", str) or None
    try:
        request.app[CONTEXT].agent.restart(AllocId(request.match_info["id"]), task)
    except TaskRefused as error:
        raise NotFound(str(error)) from error
    return answer(request, {})


async def alloc_signal(request: web.Request) -> web.Response:
    body = await _body(request)
    task, signal = member(body, "Task", str) or None, member(body, "Signal", str) or "SIGINT"
    try:
        await request.app[CONTEXT].agent.signal(AllocId(request.match_info["id"]), task, signal)
    except SignalRefused as error:
        raise BadRequest(str(error)) from error
    except TaskRefused as error:
        raise NotFound(str(error)) from error
    return answer(request, {})


async def _body(request: web.Request) -> dict[str, Any]:
    """No body at all asks for what is usual."""
    raw = await request.read()
    return decode(raw) if raw else {}
