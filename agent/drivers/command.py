"""Which file is a command, and how is one run for a moment?

lookup() is Nomad's: the task's local/ and own directory first, then the task's PATH. run() is for script
checks: bounded in time and in output, its own session, no thread and no child watcher.
"""

import asyncio
import os
import shutil
import signal
import stat as modes
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agent.alloc_files import opened
from agent.drivers.process import pidfd_ready, reap
from model.errors import TaskRefused

# Script checks report a line or two; Nomad keeps 4 KiB of them.
OUTPUT_BYTES_MAX = 65_536
TIMED_OUT = 124  # as coreutils' timeout


def lookup(command: str, task_dir: Path, search_path: str, *, alloc: Path | None = None) -> str:
    """The absolute path of the command; a file below `alloc` is made executable if it is not. Raises TaskRefused saying what is
    wrong with it."""
    if not command:
        raise TaskRefused("config: command is missing")
    near = [] if os.path.isabs(command) else [f"{task_dir}/local/{command}", f"{task_dir}/{command}"]
    candidates = [*near] if near else [command]
    for candidate in candidates:
        if os.path.isfile(candidate):
            if os.access(candidate, os.X_OK) or (alloc and make_executable(candidate, alloc)):
                return os.path.normpath(candidate)
            raise TaskRefused(f"command {command!r} is not executable: {candidate}")
        if os.path.isdir(candidate) and not near:
            raise TaskRefused(f"command {command!r} is a directory")
    found = None if "/" in command else shutil.which(command, path=search_path)
    if found is None:
        where = "in the task's directory" + ("" if "/" in command else f" or in PATH {search_path}")
        raise TaskRefused(f"command {command!r} was not found" + (f" {where}" if near else ""))
    return os.path.abspath(found)


def make_executable(path: str, alloc: Path) -> bool:
    """What was fetched comes without that permission. False: it stays as it is. Only a file that has no second name, wherever links lead."""
    above, path = f"{os.path.normpath(alloc)}/", os.path.normpath(path)
    if not path.startswith(above):
        return False
    try:
        root = os.open(alloc, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = opened(root, path.removeprefix(above).split("/"))
        finally:
            os.close(root)
        try:
            status = os.fstat(found)
            if not modes.S_ISREG(status.st_mode) or status.st_nlink != 1:
                return False
            os.chmod(f"/proc/self/fd/{found}", 0o755)
        finally:
            os.close(found)
    except OSError:
        return False
    return True


async def run(
    argv: Sequence[str], *, env: Mapping[str, str], cwd: str, timeout_s: float, handed: tuple[int, int] | None = None
) -> tuple[int, bytes]:
    """(exit code, output of both streams). argv is looked up in PATH; a command that runs too long is 124.

    handed: a descriptor that it is to have, and by which number.
    """
    reading, pid = _spawn(argv, env, cwd, handed)
    output = bytearray()
    loop = asyncio.get_running_loop()
    loop.add_reader(reading, _collect, reading, output, loop)
    try:
        async with asyncio.timeout(timeout_s):
            await pidfd_ready(os.pidfd_open(pid))
    except TimeoutError:
        _end(pid)
        return TIMED_OUT, bytes(output) or b"timed out"
    except asyncio.CancelledError:
        _end(pid)
        raise
    finally:
        _collect(reading, output, loop)
        loop.remove_reader(reading)
        os.close(reading)
    code = reap(pid)
    return (code if code >= 0 else 128 - code), bytes(output)


# Python ignores SIGPIPE and SIGXFSZ; what we start must not.
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _spawn(argv: Sequence[str], env: Mapping[str, str], cwd: str, handed: tuple[int, int] | None) -> tuple[int, int]:
    """(descriptor to read its output from, pid). The shell does what posix_spawn cannot: change the directory."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(reading, False)
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", 'cd -- "$1" && shift && exec "$@"', "sh", cwd, *argv],
            env,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writing, 1),
                (os.POSIX_SPAWN_DUP2, writing, 2),
                *([(os.POSIX_SPAWN_DUP2, *handed)] if handed else []),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    return reading, pid


def _collect(reading: int, output: bytearray, loop: asyncio.AbstractEventLoop) -> None:
    """Takes what is in the pipe; what is beyond the bound is read and dropped, so that nobody blocks."""
    while True:
        try:
            chunk = os.read(reading, 65_536)
        except BlockingIOError:
            return
        if not chunk:
            loop.remove_reader(reading)
            return
        output += chunk[: OUTPUT_BYTES_MAX - len(output)]


def _end(pid: int) -> None:
    """Kills the session that the child leads, and the child."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    # Killed: the wait is over in a moment, and must be finished even when we are cancelled.
    reap(pid)
