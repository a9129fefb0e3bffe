"""How does a command run in a container, with somebody at its other end?

By the engine's exec, which makes the terminal or the pipes and keeps the exit code. What the engine does not do is end
a command whose client has left. So the command is found among the machine's processes and its session is killed, which
needs an engine on this machine and an agent that is root: else it runs on until it reads its end of input, or until
the container ends.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from agent.drivers.base import StartFailed
from agent.drivers.docker_engine import Engine
from agent.drivers.process import Process, stat_of
from agent.drivers.session import END_OF_INPUT, kill_session
from model.errors import DriverBusy

# The engine notes an end a moment after the output ended.
_CODE_S_MAX = 5.0
_CODE_POLL_S = 0.05
# The engine answers the start before the process is there.
_PID_S_MAX = 5.0
_PID_POLL_S = 0.02
_STREAMS = {1: "stdout", 2: "stderr"}


class DockerSession:
    """Made by run()."""

    def __init__(self, engine: Engine, exec_id: str, stream: Any, *, is_tty: bool) -> None:
        self._engine, self._id, self._stream, self._is_tty = engine, exec_id, stream, is_tty

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        while (message := await self._stream.read_out()) is not None:
            yield _STREAMS.get(message.stream, "stdout"), bytes(message.data)

    async def write(self, data: bytes) -> None:
        with suppress(ConnectionError, RuntimeError):  # it has ended
            await self._stream.write_in(data)

    async def end_input(self) -> None:
        if self._is_tty:
            await self.write(END_OF_INPUT)
            return
        # aiodocker's close() ends both directions.
        connection = self._stream._resp.connection
        if connection is not None and connection.transport is not None:
            connection.transport.write_eof()

    async def resize(self, height: int, width: int) -> None:
        if self._is_tty:
            with suppress(StartFailed, DriverBusy):
                await self._engine.call("POST", f"exec/{self._id}/resize", params={"h": height, "w": width})

    async def ended(self) -> int:
        give_up_s = asyncio.get_running_loop().time() + _CODE_S_MAX
        while True:
            found = await self._engine.call("GET", f"exec/{self._id}/json")
            if not found["Running"] or asyncio.get_running_loop().time() >= give_up_s:
                return int(found["ExitCode"] or 0)
            await asyncio.sleep(_CODE_POLL_S)


@asynccontextmanager
async def run(engine: Engine, container: str, argv: Sequence[str], *, is_tty: bool) -> AsyncIterator[DockerSession]:
    """Raises DriverBusy, StartFailed."""
    made = await engine.call(
        "POST",
        f"containers/{container}/exec",
        body={
            "Cmd": list(argv),
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": is_tty,
        },
    )
    leader: Process | None = None
    try:
        async with engine.attached(made["Id"], is_tty=is_tty) as stream:
            # Now, for at the end the engine may not answer any more, or nobody asks it: the agent stops.
            leader = await _leader(engine, made["Id"])
            yield DockerSession(engine, made["Id"], stream, is_tty=is_tty)
    finally:
        if leader is not None:
            await kill_session(leader)


async def _leader(engine: Engine, exec_id: str) -> Process | None:
    """The command's own process, if it is one of this machine: of the container by its cgroup's name."""
    give_up_s = asyncio.get_running_loop().time() + _PID_S_MAX
    while True:
        found = await engine.call("GET", f"exec/{exec_id}/json")
        pid, container = int(found.get("Pid") or 0), str(found.get("ContainerID") or "?")
        if pid:
            break
        if found.get("ExitCode") is not None or asyncio.get_running_loop().time() >= give_up_s:
            return None
        await asyncio.sleep(_PID_POLL_S)
    stat = stat_of(pid)
    return stat.process if stat and _is_in(pid, container) else None


def _is_in(pid: int, container: str) -> bool:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            return container in file.read()
    except OSError:
        return False
