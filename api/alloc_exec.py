"""The API's /v1/client/allocation/{id}/exec: a command beside a running task, over a websocket.

All messages are JSON texts.

    client   {"stdin": {"data": base64}}  {"stdin": {"close": true}}  {"tty_size": {"height": 33, "width": 99}}  {}
    server   {"stdout": {"data": base64}}  {"stderr": …}  {"stdout": {"close": true}}
             {"exited": true, "result": {"exit_code": 5}} (`result` is empty for 0), then the close frame 1000

With `ws_handshake=true` (browsers, which send no headers of their own) the client's first message is `{"version": 1,
"auth_token": …}`. What fails before the command runs is told by the close frame: 1008 the client's fault, 1011 ours.

The command ends when its client goes away. One chunk at a time is read from it, and the next once that was sent.
"""

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp import web

from agent.drivers.base import ExecSession, StartFailed
from api import rights, websockets
from api.context import CONTEXT
from api.query import BadRequest
from api.rights import Forbidden, Right, TooManyFailures
from api.websockets import CLIENTS_FAULT, GOING_AWAY, NORMAL, OUR_FAULT
from model.alloc import AllocId
from model.errors import DriverBusy, StoreRefused, StoreUnavailable, TaskRefused
from model.wire import encode

log = logging.getLogger(__name__)

_HANDSHAKE_S_MAX = 10.0
# Nomad's CLI sends the size with its first breath; no terminal is larger.
_SIZE_MAX = 65_535

OPEN: web.AppKey[WeakSet[web.WebSocketResponse]] = web.AppKey("open execs", WeakSet)


class _Refused(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


async def run(request: web.Request) -> web.StreamResponse:
    """`?task=&command=["…"]&tty=&ws_handshake=`."""
    argv, is_tty = _command(request), _flag(request, "tty")
    has_handshake = _flag(request, "ws_handshake")
    response = await websockets.accepted(request)
    request.app[OPEN].add(response)
    code, reason = NORMAL, ""
    try:
        if has_handshake:
            await _handshake(request, response)
        await _begun(request, response, argv, is_tty=is_tty)
    except _Refused as error:
        code, reason = error.code, str(error)
    except ConnectionError:
        pass  # the client left
    except Exception:
        log.exception("exec in alloc %s failed", request.match_info["id"])
        code, reason = OUR_FAULT, "internal error; the agent's log has the details"
    await websockets.close(response, code, reason)
    return response


async def end_all(app: web.Application) -> None:
    """The agent stops: whoever is in a shell is told so."""
    opened = app[OPEN]
    async with asyncio.TaskGroup() as tasks:
        for response in list(opened):
            tasks.create_task(
                websockets.close(response, GOING_AWAY, "the agent is stopping"), name="end of an exec"
            )


def _command(request: web.Request) -> list[str]:
    """Raises BadRequest; an empty one is told after the upgrade, as Nomad does."""
    try:
        argv = json.loads(request.query.get("command") or "[]")
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"failed to marshal command into json: {error}") from error
    if not isinstance(argv, list) or not all(isinstance(each, str) and "\0" not in each for each in argv):
        raise BadRequest("failed to marshal command into json: expected a list of strings")
    return argv


def _flag(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "").lower()
    if text not in ("", "1", "t", "true", "0", "f", "false"):
        raise BadRequest(f"{name} value is not a boolean")
    return text in ("1", "t", "true")


async def _handshake(request: web.Request, response: web.WebSocketResponse) -> None:
    """The token that comes with it is whose rights count where the request has none. Raises _Refused without them."""
    try:
        message = await response.receive(timeout=_HANDSHAKE_S_MAX)
    except TimeoutError:
        raise _Refused(CLIENTS_FAULT, "no handshake") from None
    shaken = _object(message.data) if message.type is aiohttp.WSMsgType.TEXT else {}
    if shaken.get("version") != 1:
        raise _Refused(CLIENTS_FAULT, f"unexpected handshake value: {str(shaken.get('version'))[:20]}")
    if rights.has_handshake(request):
        request[rights.HANDSHAKE_TOKEN] = str(shaken.get("auth_token") or "")
        context = request.app[CONTEXT]
        try:
            await context.rights.require(request, Right.EXEC, None, context.agent)
        except (Forbidden, TooManyFailures) as error:
            raise _Refused(CLIENTS_FAULT, str(error)) from error
        except (StoreUnavailable, StoreRefused) as error:
            raise _Refused(OUR_FAULT, str(error)) from error


async def _begun(request: web.Request, response: web.WebSocketResponse, argv: list[str], *, is_tty: bool) -> None:
    """Raises _Refused when the command cannot be run."""
    task = request.query.get("task", "")
    if not task:
        raise _Refused(CLIENTS_FAULT, "must provide task name")
    if not argv or not argv[0]:
        raise _Refused(CLIENTS_FAULT, "command is not present")
    context = request.app[CONTEXT]
    if not context.allows_exec:
        raise _Refused(CLIENTS_FAULT, "Permission denied")
    try:
        beside = context.agent.session(AllocId(request.match_info["id"]), task, argv, is_tty=is_tty)
    except TaskRefused as error:
        raise _Refused(CLIENTS_FAULT, str(error)) from error
    log.info("exec in alloc %s, task %s: %s", request.match_info["id"], task, argv[0])
    try:
        async with beside as session:
            await _talk(request, response, session, is_tty=is_tty)
    except (TaskRefused, StartFailed, DriverBusy) as error:
        raise _Refused(OUR_FAULT, str(error)) from error


async def _talk(request: web.Request, response: web.WebSocketResponse, session: ExecSession, *, is_tty: bool) -> None:
    """Returns when the command has ended and that was told, or the client is gone."""
    async with asyncio.TaskGroup() as tasks:
        talking = [
            tasks.create_task(_listen(response, session), name="exec input"),
            tasks.create_task(_tell(response, session, is_tty=is_tty), name="exec output"),
        ]
        await websockets.first_of(talking, request, response)
        for each in talking:
            each.cancel()


async def _listen(response: web.WebSocketResponse, session: ExecSession) -> None:
    """Returns when the client is gone. Input goes by a task of its own, so that a command that reads none keeps
    neither a new size nor its client's farewell waiting, as long as no more than two messages wait for it."""
    given: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(2)
    async with asyncio.TaskGroup() as tasks:
        feeding = tasks.create_task(_feed(given, session), name="exec stdin")
        while True:
            message = await response.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                if message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.ERROR):
                    break
                continue
            found = _object(message.data)
            size = found.get("tty_size")
            if isinstance(size, dict):
                await session.resize(_dimension(size.get("height")), _dimension(size.get("width")))
            stdin = found.get("stdin")
            if isinstance(stdin, dict):
                await given.put(stdin)
        feeding.cancel()


async def _feed(given: asyncio.Queue[Mapping[str, Any]], session: ExecSession) -> None:
    while True:
        stdin = await given.get()
        data = stdin.get("data")
        if isinstance(data, str):
            try:
                await session.write(base64.b64decode(data))
            except binascii.Error:
                continue
        if stdin.get("close"):
            await session.end_input()


async def _tell(response: web.WebSocketResponse, session: ExecSession, *, is_tty: bool) -> None:
    try:
        async for stream, data in session.output():
            await response.send_str(encode({stream: {"data": base64.b64encode(data).decode()}}).decode())
        for stream in ("stdout",) if is_tty else ("stdout", "stderr"):
            await response.send_str(encode({stream: {"close": True}}).decode())
        code = await session.ended()
        result = {"exit_code": code} if code else {}
        await response.send_str(encode({"exited": True, "result": result}).decode())
    except (ConnectionError, RuntimeError):
        return  # the client left


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _dimension(value: object) -> int:
    return min(max(value, 0), _SIZE_MAX) if isinstance(value, int) else 0
