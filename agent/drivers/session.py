"""How does a command run beside a task, with somebody at its other end?

    agent --posix_spawn--> sh: joins the task's cgroups, changes the directory --exec--> command
                            └─ the guard: a shell that kills the command's process group once the agent closes, by
                               whatever end, the pipe that it reads from

Its own session, so that all it started can be ended without touching the task: while the command is not yet reaped
nobody else can have that session's id. What leaves the session (setsid) is the task's from then on, and ends with it.

With a terminal its three streams are one pty, which is the session's controlling one; else three pipes. Nothing is
read before it can be passed on: a slow reader at the other end holds up the command, and fills no memory here.
"""

import asyncio
import errno
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from agent.drivers.base import StartFailed
from agent.drivers.command import DEFAULT_SIGNALS
from agent.drivers.process import Process, open_pidfd, reap, session_pids, stat_of

CHUNK_BYTES = 32 * 1024
# What is left in the pipes is there at once; a descendant that left the session may hold them open for ever.
_REST_S = 0.5
# A killed process is gone within milliseconds; one in the kernel's hands is not waited for.
_KILL_S_MAX = 2.0
_KILL_POLL_S = 0.01
END_OF_INPUT = b"\x04"  # what a terminal takes for it

# The guard's own streams lead nowhere, so that the command's end when the command does. It survives what a terminal
# sends to all of a session.
_SCRIPT = """
dir=$1 left=$2
shift 2
while [ "$left" -gt 0 ]; do
    echo 0 >"$1" || exit 126
    shift
    left=$((left - 1))
done
( trap '' HUP INT QUIT TERM; ( IFS= read -r _; kill -s KILL -- "-$$" ) <&3 >/dev/null 2>&1 3<&- & )
exec 3<&-
cd -- "$dir" || exit 126
unset OLDPWD dir left
exec "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """argv: its first an absolute path. owner: who a terminal is to belong to. cgroups: cgroup.procs to join. handed: a
    descriptor that it is to have, and by which number."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    owner: tuple[int, int]
    handed: tuple[int, int]
    cgroups: Sequence[str] = ()


class ProcessSession:
    """Made by run(). To be used by one reader and one writer."""

    def __init__(self, pid: int, pidfd: int, guard: int, outputs: Mapping[int, str], stdin: int, *, is_tty: bool) -> None:
        self._pid, self._guard, self._stdin, self._is_tty = pid, guard, stdin, is_tty
        self._outputs = dict(outputs)
        self._code: int | None = None
        self._exited = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._pidfd = pidfd
        self._loop.add_reader(pidfd, self._notice)

    def _notice(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._exited.set()

    async def output(self) -> AsyncIterator[tuple[str, bytes]]:
        is_last = False
        while self._outputs:
            found = False
            for descriptor, name in list(self._outputs.items()):
                data = _read(descriptor)
                if data is None:
                    continue
                found = True
                if data:
                    yield name, data
                else:
                    self._drop(descriptor)
            if found or not self._outputs:
                continue
            if is_last:
                return
            if self._exited.is_set():
                # Whatever it started and that is still in its session would keep the pipes open.
                await self._kill()
                is_last = True
            await self._readable(_REST_S if is_last else None)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._stdin >= 0 and not self._exited.is_set():
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await self._writable()
            except OSError:
                return  # nobody reads it any more

    async def end_input(self) -> None:
        if self._is_tty:
            await self.write(END_OF_INPUT)
        elif self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    async def resize(self, height: int, width: int) -> None:
        if self._is_tty and self._stdin >= 0:
            with suppress(OSError):
                fcntl.ioctl(self._stdin, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def ended(self) -> int:
        await self._exited.wait()
        if self._code is None:
            await self._kill()
            self._code = reap(self._pid)
        return self._code if self._code >= 0 else 128 - self._code

    async def close(self) -> None:
        """Ends it, if it has not ended."""
        try:
            if self._code is None:
                await self._kill()
                if not self._exited.is_set():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_KILL_S_MAX):
                            await self._exited.wait()
                if self._exited.is_set():
                    self._code = reap(self._pid)
        finally:
            for descriptor in list(self._outputs):
                self._drop(descriptor)
            if self._stdin >= 0 and not self._is_tty:
                os.close(self._stdin)
            self._stdin = -1
            self.release()
            if not self._exited.is_set():
                self._loop.remove_reader(self._pidfd)
                os.close(self._pidfd)

    async def _kill(self) -> None:
        """All of its session, to the last: what is forked meanwhile, too."""
        self.release()
        give_up_s = self._loop.time() + _KILL_S_MAX
        while self._loop.time() < give_up_s:
            # The whole of /proc is looked at.
            pids = await asyncio.to_thread(session_pids, self._pid)
            if not pids:
                return
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_KILL_POLL_S)

    def release(self) -> None:
        """Kills its process group, without waiting; for a task that ends."""
        if self._guard >= 0:
            os.close(self._guard)
            self._guard = -1

    def _drop(self, descriptor: int) -> None:
        if self._outputs.pop(descriptor, None) is not None:
            os.close(descriptor)
            if descriptor == self._stdin:
                self._stdin = -1  # a terminal's one end

    async def _readable(self, wait_s_max: float | None) -> None:
        """Returns when there is something to read, the command has ended, or the time is up."""
        ready = asyncio.Event()
        for descriptor in self._outputs:
            self._loop.add_reader(descriptor, ready.set)
        try:
            async with asyncio.timeout(wait_s_max), asyncio.TaskGroup() as tasks:
                waiting = [tasks.create_task(ready.wait(), name="exec output")]
                if wait_s_max is None:
                    waiting.append(tasks.create_task(self._exited.wait(), name="exec end"))
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for each in waiting:
                    each.cancel()
        except TimeoutError:
            pass
        finally:
            for descriptor in self._outputs:
                self._loop.remove_reader(descriptor)

    async def _writable(self) -> None:
        ready = asyncio.Event()
        # Of its own, for a terminal's one descriptor may be waited on by the reader as well, which is no obstacle: an
        # event loop keeps a reader and a writer apart.
        descriptor = self._stdin
        self._loop.add_writer(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(descriptor)


def _read(descriptor: int) -> bytes | None:
    """b"" at the end, None when there is nothing just now."""
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.EIO:
            return b""  # nobody has the terminal open any more
        raise


@asynccontextmanager
async def run(command: Command, *, is_tty: bool) -> AsyncIterator[ProcessSession]:
    """Raises StartFailed."""
    session = _terminal(command) if is_tty else _pipes(command)
    try:
        yield session
    finally:
        await session.close()


def _terminal(command: Command) -> ProcessSession:
    ours, theirs = pty.openpty()
    try:
        name = os.ttyname(theirs)
        if os.geteuid() == 0:
            os.fchown(theirs, *command.owner)
        # The first terminal that a session's leader opens is its controlling one.
        actions = [(os.POSIX_SPAWN_OPEN, 0, name, os.O_RDWR, 0), (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2)]
        os.set_blocking(ours, False)
        pid, pidfd, guard = _spawn(command, actions)
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    return ProcessSession(pid, pidfd, guard, {ours: "stdout"}, ours, is_tty=True)


def _pipes(command: Command) -> ProcessSession:
    ends = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    (stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr) = ends
    ours, theirs = (to_stdin, from_stdout, from_stderr), (stdin, stdout, stderr)
    try:
        for descriptor in ours:
            os.set_blocking(descriptor, False)
        pid, pidfd, guard = _spawn(
            command, [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(theirs)]
        )
    except BaseException:
        for descriptor in ours:
            os.close(descriptor)
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    outputs = {from_stdout: "stdout", from_stderr: "stderr"}
    return ProcessSession(pid, pidfd, guard, outputs, to_stdin, is_tty=False)


def _spawn(command: Command, actions: Sequence[tuple[int | str, ...]]) -> tuple[int, int, int]:
    """(pid, its pidfd, what keeps the guard still until it is closed)."""
    watched, guard = os.pipe2(os.O_CLOEXEC)
    script = [_SCRIPT, "sh", command.cwd, str(len(command.cgroups)), *command.cgroups]
    try:
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", *script, *command.argv],
            dict(command.env),
            file_actions=[*actions, (os.POSIX_SPAWN_DUP2, watched, 3), (os.POSIX_SPAWN_DUP2, *command.handed)],
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
    except (OSError, ValueError) as error:
        os.close(guard)
        raise StartFailed(f"cannot run {command.argv[0]}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        os.close(watched)
    return pid, os.pidfd_open(pid), guard


async def kill_session(leader: Process) -> None:
    """Ends the session that this process leads, as long as it does."""
    descriptor = open_pidfd(leader)
    if descriptor is None:
        return
    try:
        stat = stat_of(leader.pid)
        if stat is not None and stat.session == leader.pid:
            for pid in await asyncio.to_thread(session_pids, leader.pid):
                if pid != leader.pid:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)
