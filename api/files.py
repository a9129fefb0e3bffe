"""The API's /v1/client/…: what only the node that holds an alloc can answer. Logs, for now.

Frames are concatenated JSON objects, flushed as they come: `{"Data": base64, "File": …, "Offset": position
after Data}`, `{}` as a heartbeat. A follower crosses rotated files: the highest number is the current one.
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from api.context import CONTEXT, is_gone
from api.query import BadRequest, NotFound, answer
from model.alloc import AllocId
from model.errors import TaskRefused
from model.wire import encode

CHUNK_BYTES = 64 * 1024
# How soon a follower sees a new line; a heartbeat each second keeps the connection known to be alive.
FOLLOW_S = 0.2
_HEARTBEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of one log file; offset: the position after them. Empty data: nothing new."""

    data: bytes
    file: str
    offset: int


def log_files(logs: Path, task: str, kind: str) -> list[tuple[int, Path]]:
    """The task's log files in the order they were written."""
    pattern = re.compile(rf"^{re.escape(task)}\.{kind}\.(\d+)$")
    found = [(int(m.group(1)), path) for path in logs.iterdir() if (m := pattern.match(path.name))]
    return sorted(found)


async def read_logs(
    logs: Path, task: str, kind: str, *, offset: int, from_end: bool, follow: bool
) -> AsyncIterator[Piece]:
    """All log files of a task as one stream, from `offset` bytes after the start or before the end."""
    files = await asyncio.to_thread(log_files, logs, task, kind)
    sizes = [path.stat().st_size for _, path in files]
    skip = max(0, sum(sizes) - offset) if from_end else offset
    number, position = (files[0][0] if files else 0), 0
    for (at, _), size in zip(files, sizes, strict=True):
        number, position = at, skip
        if skip <= size:
            break
        skip -= size
    quiet_s = 0.0
    while True:
        path = logs / f"{task}.{kind}.{number}"
        data, size = await asyncio.to_thread(_read, path, position)
        if data:
            quiet_s = 0.0
            position += len(data)
            yield Piece(data, f"alloc/logs/{path.name}", position)
            continue
        later = [at for at, _ in await asyncio.to_thread(log_files, logs, task, kind) if at > number]
        if later:
            # Rotation moved the current file's head into this number: what followed it goes on in the next.
            number, position = later[0], max(0, position - size)
            continue
        if position > size:
            position = 0  # cut off where nothing could be collapsed
        if not follow:
            return
        await asyncio.sleep(FOLLOW_S)
        quiet_s += FOLLOW_S
        if quiet_s >= _HEARTBEAT_S:
            quiet_s = 0.0
            yield Piece(b"", "", 0)


def _read(path: Path, position: int) -> tuple[bytes, int]:
    """Up to a chunk from the position, and the file's size; a file that is gone is empty."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(position)
            return file.read(CHUNK_BYTES), size
    except FileNotFoundError:
        return b"", 0


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
    folder = directory / "alloc" / "logs"
    if not folder.is_dir() or not log_files(folder, task, kind):
        raise NotFound(f'task "{task}" not started yet. No logs available')
    follow = query.get("follow", "false").lower() in ("1", "t", "true")
    plain = query.get("plain", "false").lower() in ("1", "t", "true")
    response = web.StreamResponse()
    response.content_type = "text/plain" if plain else "application/json"
    await response.prepare(request)
    with suppress(ConnectionError):  # the reader left: nothing to tell anybody
        async for piece in read_logs(folder, task, kind, offset=offset, from_end=origin == "end", follow=follow):
            if is_gone(request):
                break
            await response.write(piece.data if plain else _frame(piece))
        await response.write_eof()
    return response


def _frame(piece: Piece) -> bytes:
    if not piece.data:
        return b"{}"
    return encode({"Data": base64.b64encode(piece.data).decode(), "File": piece.file, "Offset": piece.offset})


async def alloc_stats(request: web.Request) -> web.Response:
    """cpu and memory of the alloc's running tasks."""
    agent = request.app[CONTEXT].agent
    try:
        stats = await agent.stats(AllocId(request.match_info["id"]))
    except TaskRefused as error:
        raise NotFound(str(error)) from error
    tasks = {
        name: {
            "ResourceUsage": {
                "MemoryStats": {"RSS": task.memory_bytes, "Usage": task.memory_bytes, "Measured": ["RSS", "Usage"]},
                "CpuStats": {"TotalTicks": task.cpu_s, "Measured": ["Total Ticks"]},
            },
            "Timestamp": 0,
            "Pids": None,
        }
        for name, task in stats.items()
    }
    return answer(request, {"ResourceUsage": None, "Tasks": tasks, "Timestamp": 0})


async def alloc_restart(request: web.Request) -> web.Response:
    """Restarts one task or all of them; it does not count under the restart policy."""
    body = await _body(request)
    try:
        request.app[CONTEXT].agent.restart(AllocId(request.match_info["id"]), body.get("TaskName") or None)
    except TaskRefused as error:
        raise NotFound(str(error)) from error
    return answer(request, {})


async def alloc_signal(request: web.Request) -> web.Response:
    body = await _body(request)
    try:
        await request.app[CONTEXT].agent.signal(
            AllocId(request.match_info["id"]), body.get("Task") or None, body.get("Signal") or "SIGINT"
        )
    except TaskRefused as error:
        raise NotFound(str(error)) from error
    return answer(request, {})


async def _body(request: web.Request) -> dict[str, str]:
    try:
        body = await request.json() if request.can_read_body else {}
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return body if isinstance(body, dict) else {}
