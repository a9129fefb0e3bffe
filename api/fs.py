"""The API's /v1/client/fs/…: an alloc's directory as its node sees it.

`cat` and `readat` are the bytes themselves, or 200 and in words why there are none, as in Nomad; `stream` comes in frames as logs do (api/files.py), with the path that
was asked for in `File`. A follower is told of `file truncated`, and reads on from the start, and of `file deleted`,
with which its stream ends. What may be read, and how nothing else is: agent/alloc_files.py.
"""

import asyncio
import base64
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from aiohttp import web

from agent.alloc_files import AllocFiles, FileInfo, NotThere, SecretFile
from api.context import CONTEXT, is_gone
from api.files import CHUNK_BYTES, FOLLOW_S, HEARTBEAT_S
from api.query import BadRequest, NotFound, answer
from model.alloc import AllocId
from model.errors import TaskRefused
from model.wire import encode

T = TypeVar("T")

_OFFSET_MAX = (1 << 63) - 1


async def ls(request: web.Request) -> web.Response:
    """`?path=`: the files of a directory."""
    files, path = _files(request), request.query.get("path", "") or "/"
    found = await _seen(lambda: files.ls(path))
    return answer(request, [_shown(info) for info in found])


async def stat(request: web.Request) -> web.Response:
    """`?path=`."""
    files, path = _files(request), _path(request)
    info = await _seen(lambda: files.stat(path))
    return answer(request, _shown(info) | {"ContentType": info.content_type})


async def cat(request: web.Request) -> web.StreamResponse:
    """`?path=`: a file as it is now, from its start to its end."""
    return await _bytes(request, 0, None)


async def readat(request: web.Request) -> web.StreamResponse:
    """`?path=&offset=&limit=`: so many bytes of a file, fewer at its end."""
    return await _bytes(request, _number(request, "offset"), _number(request, "limit") if "limit" in request.query else None)


async def stream(request: web.Request) -> web.StreamResponse:
    """`?path=&offset=&origin=start|end&follow=`; follow: true unless said otherwise."""
    path, files = _path(request), _files(request)
    origin = request.query.get("origin", "") or "start"
    if origin not in ("start", "end"):
        raise BadRequest("origin must be start or end")
    offset = _number(request, "offset")
    follow = request.query.get("follow", "").lower() not in ("false", "f", "0")
    try:
        descriptor = await _seen(lambda: files.open(path))
    except NotFound as error:
        raise BadRequest(str(error)) from error
    response = web.StreamResponse()
    response.content_type = "application/json"
    try:
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        size = os.fstat(descriptor).st_size
        position = max(size - offset, 0) if origin == "end" else min(offset, size)
        with suppress(ConnectionError):  # the reader left
            await _follow(request, response, files, path, descriptor, position, follow=follow)
            await response.write_eof()
    finally:
        os.close(descriptor)
    return response


async def _follow(
    request: web.Request,
    response: web.StreamResponse,
    files: AllocFiles,
    path: str,
    descriptor: int,
    position: int,
    *,
    follow: bool,
) -> None:
    waited_s = HEARTBEAT_S  # the first end is told at once
    while not is_gone(request):
        size = os.fstat(descriptor).st_size
        if size < position:
            position = 0
            await response.write(encode({"File": path, "FileEvent": "file truncated"}))
        if size > position:
            data = await asyncio.to_thread(os.pread, descriptor, CHUNK_BYTES, position)
            if data:
                position += len(data)
                frame = {"Data": base64.b64encode(data).decode(), "File": path, "Offset": position}
                await response.write(encode(frame))
                continue
        if not follow:
            return
        if waited_s >= HEARTBEAT_S:
            waited_s = 0.0
            if not os.fstat(descriptor).st_nlink or not await asyncio.to_thread(files.same, path, descriptor):
                await response.write(encode({"File": path, "FileEvent": "file deleted", "Offset": position}))
                return
            await response.write(b"{}")
        await asyncio.sleep(FOLLOW_S)
        waited_s += FOLLOW_S


async def _bytes(request: web.Request, offset: int, limit: int | None) -> web.StreamResponse:
    path, files = _path(request), _files(request)
    try:
        descriptor = await _seen(lambda: files.open(path))
    except (NotFound, BadRequest) as error:
        # Odd as it is: clients of Nomad's rely on it. Who wants to know before asks for the file's stat.
        return web.Response(text=str(error), content_type="text/plain")
    response = web.StreamResponse()
    response.content_type = "text/plain"
    response.headers["X-Content-Type-Options"] = "nosniff"
    try:
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        # What there is when it is asked for: a file that grows for ever has an end, too.
        end = os.fstat(descriptor).st_size
        if limit is not None:
            end = min(end, offset + limit)
        with suppress(ConnectionError):
            while offset < end and not is_gone(request):
                data = await asyncio.to_thread(os.pread, descriptor, min(CHUNK_BYTES, end - offset), offset)
                if not data:
                    break
                offset += len(data)
                await response.write(data)
            await response.write_eof()
    finally:
        os.close(descriptor)
    return response


def _files(request: web.Request) -> AllocFiles:
    """Raises NotFound."""
    try:
        return AllocFiles(request.app[CONTEXT].agent.alloc_dir(AllocId(request.match_info["id"])))
    except TaskRefused as error:
        raise NotFound(str(error)) from error


def _path(request: web.Request) -> str:
    path = request.query.get("path", "")
    if not path:
        raise BadRequest("must provide a file name")
    return path


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "") or "0"
    if not (text.removeprefix("-").isascii() and text.removeprefix("-").isdigit()) or len(text) > 20:
        raise BadRequest(f"error parsing {name}: not a number")
    return min(max(int(text), 0), _OFFSET_MAX)


async def _seen(look: Callable[[], T]) -> T:
    """Raises NotFound, BadRequest, and 403 for a secret; Nomad's words, and 500 in all three cases."""
    try:
        return await asyncio.to_thread(look)
    except NotThere as error:
        raise NotFound(str(error)) from error
    except SecretFile as error:
        raise web.HTTPForbidden(text=str(error), content_type="text/plain") from error
    except TaskRefused as error:
        raise BadRequest(str(error)) from error


def _shown(info: FileInfo) -> dict[str, object]:
    return {
        "FileMode": info.mode,
        "IsDir": info.is_dir,
        "ModTime": info.modified,
        "Name": info.name,
        "Size": info.size,
    }
