"""`drover alloc exec`: a command beside a running task, with this terminal at its other end.

Exit code: the command's own, 1 when it could not be run. With a terminal the escape character (`~`, after a line
break) followed by a dot leaves at once, whatever the other end does.
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from cli.alloc import chosen_alloc, chosen_task
from cli.client import Api
from cli.failure import CommandFailed, fail

_CHUNK_BYTES = 16 * 1024
_HEARTBEAT_S = 10.0
_STDIN, _STDOUT, _STDERR = 0, 1, 2


def run(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        argv: list[str] = args.command[1:] if args.command[:1] == ["--"] else args.command
        if not argv:
            raise CommandFailed("A command is required")
        is_tty = os.isatty(_STDIN) and os.isatty(_STDOUT) if args.t is None else args.t
        if is_tty and not args.i:
            raise CommandFailed("-i must be enabled if running with tty")
        if args.e != "none" and len(args.e.encode()) != 1:
            raise CommandFailed("-e requires 'none' or a single character")
        alloc = chosen_alloc(api, args.alloc, is_job=args.job)
        task = chosen_task(alloc, args.task)
        path = f"/v1/client/allocation/{alloc['ID']}/exec"
        params: dict[str, object] = {"task": task, "tty": is_tty, "command": json.dumps(argv)}
        escape = args.e.encode() if is_tty and args.e != "none" else b""
        with _raw(is_tty=is_tty):
            return asyncio.run(_Exec(api, path, params, is_tty=is_tty, has_input=args.i, escape=escape).run())
    except CommandFailed as error:
        return fail(error)


@contextmanager
def _raw(*, is_tty: bool) -> Iterator[None]:
    """Every key goes to the other end, this terminal's own signals included."""
    if not (is_tty and os.isatty(_STDIN)):
        yield
        return
    before = termios.tcgetattr(_STDIN)
    try:
        tty.setraw(_STDIN)
        yield
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


class Escapes:
    """Takes `~.` after a line break out of what is typed; `~~` is one `~`. character: empty for none."""

    def __init__(self, character: bytes) -> None:
        self._character = character
        self._is_line_start = True
        self._is_held = False  # the character was typed, and waits for the next one

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """(what is to be sent, whether to leave)."""
        if not self._character:
            return data, False
        out = bytearray()
        for number in data:
            byte = bytes((number,))
            if self._is_held:
                self._is_held = False
                if byte == b".":
                    return bytes(out), True
                out += byte if byte == self._character else self._character + byte
            elif self._is_line_start and byte == self._character:
                self._is_held = True
                continue
            else:
                out += byte
            self._is_line_start = byte in (b"\r", b"\n")
        return bytes(out), False



class _Exec:
    def __init__(
        self, api: Api, path: str, params: dict[str, object], *, is_tty: bool, has_input: bool, escape: bytes
    ) -> None:
        self._api, self._path, self._params = api, path, params
        self._is_tty, self._has_input = is_tty, has_input
        self._escapes = Escapes(escape)
        self._left = asyncio.Event()
        self._socket: Any = None

    async def run(self) -> int:
        """The command's exit code. Raises CommandFailed."""
        import aiohttp

        url, headers, how = self._api.websocket(self._path, **self._params)
        async with aiohttp.ClientSession() as client:
            try:
                self._socket = await client.ws_connect(url, headers=headers, **how, max_msg_size=0)
            except aiohttp.WSServerHandshakeError as error:
                self._api.get(self._path, **self._params)  # says why, in the plain way
                raise CommandFailed(f"failed to exec into task: {error.message}") from error
            except (aiohttp.ClientError, OSError) as error:
                raise CommandFailed(f"failed to exec into task: {error}") from error
            try:
                return await self._talk()
            finally:
                await self._socket.close()

    async def _talk(self) -> int:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            beating = [tasks.create_task(self._beat(), name="heartbeat")]
            if self._is_tty:
                loop.add_signal_handler(signal.SIGWINCH, lambda: tasks.create_task(self._tell_size(), name="size"))
                beating.append(tasks.create_task(self._tell_size(), name="size"))
            if self._has_input:
                # A thread, for a file cannot be waited on; a daemon, for nothing ends a read of a terminal.
                threading.Thread(target=self._give, args=(loop,), name="stdin", daemon=True).start()
            else:
                await self._say({"stdin": {"close": True}})
            reading = tasks.create_task(self._read(), name="output")
            leaving = tasks.create_task(self._left.wait(), name="escape")
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            for each in (*beating, leaving, reading):
                each.cancel()
        if self._is_tty:
            loop.remove_signal_handler(signal.SIGWINCH)
        if reading.cancelled():
            raise CommandFailed("failed to exec into task: left by the escape character")
        code, why = reading.result()
        if code is None:
            raise CommandFailed(f"failed to exec into task: {why or 'the connection broke off'}")
        return code

    async def _read(self) -> tuple[int | None, str]:
        """(the exit code, or None and why)."""
        import aiohttp

        code: int | None = None
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                return code, str(message.extra or "") if message.type is aiohttp.WSMsgType.CLOSE else ""
            found = json.loads(message.data)
            for name, descriptor in (("stdout", _STDOUT), ("stderr", _STDERR)):
                if data := (found.get(name) or {}).get("data"):
                    await asyncio.to_thread(_write, descriptor, base64.b64decode(data))
            if found.get("exited"):
                code = int((found.get("result") or {}).get("exit_code", 0))

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        """What is typed or piped in, each piece only once the one before was taken."""
        with suppress(OSError, RuntimeError, asyncio.CancelledError):
            while True:
                data = os.read(_STDIN, _CHUNK_BYTES)
                data, is_leaving = self._escapes.filter(data) if data else (data, False)
                message = {"data": base64.b64encode(data).decode()} if data else {"close": True}
                if is_leaving:
                    loop.call_soon_threadsafe(self._left.set)
                    return
                asyncio.run_coroutine_threadsafe(self._say({"stdin": message}), loop).result()
                if "close" in message:
                    return

    async def _tell_size(self) -> None:
        with suppress(OSError):
            size = os.get_terminal_size(_STDOUT if os.isatty(_STDOUT) else _STDIN)
            await self._say({"tty_size": {"height": size.lines, "width": size.columns}})

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            await self._say({})

    async def _say(self, message: object) -> None:
        with suppress(ConnectionError):  # the reader sees how it ended
            await self._socket.send_str(json.dumps(message))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
    sys.stdout.flush()
