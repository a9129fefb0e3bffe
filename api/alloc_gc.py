"""The API's gc and snapshot of /v1/client: what ended allocs leave on a node, and what they would take along.

GET as well as PUT, as Nomad has it. What is removed here is still told of until the leader forgets it.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from agent import alloc_archive
from api.context import CONTEXT, is_gone
from api.files import CHUNK_BYTES
from api.query import Conflict, NotFound, Refused
from model.alloc import AllocId
from model.errors import DriverBusy, TaskRefused

_PIPE_POLL_S = 1.0


async def of_node(request: web.Request) -> web.Response:
    try:
        await request.app[CONTEXT].agent.collect()
    except DriverBusy as error:
        raise Refused(str(error)) from error
    return web.Response()


async def of_alloc(request: web.Request) -> web.Response:
    try:
        is_done = await request.app[CONTEXT].agent.collect(AllocId(request.match_info["id"]))
    except DriverBusy as error:
        raise Refused(str(error)) from error
    except TaskRefused as error:
        raise NotFound(str(error)) from error
    if not is_done:
        raise Conflict("no such allocation on client, or allocation not eligible for GC")
    return web.Response()


async def snapshot(request: web.Request) -> web.StreamResponse:
    """A tar file of `alloc/data` and of each task's `local`. An answer that is broken off is no whole file."""
    agent, alloc_id = request.app[CONTEXT].agent, AllocId(request.match_info["id"])
    try:
        root: Path = agent.alloc_dir(alloc_id)
    except TaskRefused as error:
        raise NotFound(str(error)) from error
    tasks = sorted(agent.allocs[alloc_id].tasks)
    response = web.StreamResponse()
    response.content_type = "application/x-tar"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)

    def write() -> Exception | None:
        try:
            with open(writing, "wb") as out:
                alloc_archive.write(root, tasks, out)
        except (OSError, ValueError) as error:
            return error
        return None

    async with asyncio.TaskGroup() as group:
        packing = group.create_task(asyncio.to_thread(write), name=f"snapshot of {alloc_id[:8]}")
        try:
            with suppress(ConnectionError):  # the reader left
                while not is_gone(request) and (data := await _next(reading)):
                    await response.write(data)
        finally:
            os.close(reading)  # a writer that is not done gets EPIPE, and ends
    if packing.result() is not None:
        if request.transport is not None:
            request.transport.abort()
        return response
    with suppress(ConnectionError):
        await response.write_eof()
    return response


async def _next(descriptor: int) -> bytes:
    """What the pipe holds; b"" at its end."""
    while True:
        try:
            return os.read(descriptor, CHUNK_BYTES)
        except BlockingIOError:
            await _readable(descriptor)


async def _readable(descriptor: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PIPE_POLL_S):
                await ready.wait()
    finally:
        loop.remove_reader(descriptor)
