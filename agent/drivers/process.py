"""Which process is it, and does it still live?

A pid alone names nobody: it is used again. A process is (boot id, pid, start time), the start time from
/proc/<pid>/stat. Signals go through a pidfd that was opened before the start time was compared, so
they never reach a stranger. A zombie has ended.
"""

import asyncio
import os
import signal as signals
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from model.errors import TaskRefused

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process of this boot. start: in clock ticks since the boot."""

    pid: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stat:
    """What one line of /proc/<pid>/stat says, as far as anybody here asks."""

    process: Process
    state: str
    session: int
    cpu_s: float
    rss_bytes: int

    @property
    def has_ended(self) -> bool:
        return self.state in "ZXx"


@cache
def boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def parse_stat(line: str) -> Stat | None:
    """None for a line that is not whole. The command's name may hold spaces and parentheses."""
    head, _, tail = line.rpartition(")")
    fields = tail.split()
    if not head or len(fields) < 22:
        return None
    return Stat(
        process=Process(pid=int(head.partition(" ")[0]), start=int(fields[19])),
        state=fields[0],
        session=int(fields[3]),
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_PER_S,
        rss_bytes=int(fields[21]) * PAGE_BYTES,
    )


def stat_of(pid: int) -> Stat | None:
    """None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return parse_stat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(process: Process) -> bool:
    stat = stat_of(process.pid)
    return stat is not None and stat.process == process and not stat.has_ended


def children(pid: int) -> tuple[int, ...]:
    """Of a process' first thread, which is the only one of those that are asked about."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return tuple(map(int, file.read().split()))
    except (FileNotFoundError, ProcessLookupError):
        return ()


def open_pidfd(process: Process) -> int | None:
    """A descriptor of exactly this process, to be closed by the caller; None when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if not is_alive(process):
        os.close(descriptor)
        return None
    return descriptor


async def ended(process: Process) -> None:
    """Returns when the process has ended."""
    descriptor = open_pidfd(process)
    if descriptor is not None:
        await pidfd_ready(descriptor)


async def pidfd_ready(descriptor: int) -> None:
    """Returns when the process behind the descriptor has ended; closes the descriptor in any case."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.add_reader(descriptor, _resolve, done)
    try:
        await done
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


def send(process: Process, signal: signals.Signals) -> None:
    """Sends a signal; to nobody when the process has ended."""
    descriptor = open_pidfd(process)
    if descriptor is None:
        return
    try:
        with suppress(ProcessLookupError):
            signals.pidfd_send_signal(descriptor, signal)
    finally:
        os.close(descriptor)


def signal_named(name: str) -> signals.Signals:
    """SIGTERM for "SIGTERM" or "TERM". Raises TaskRefused."""
    upper = name.upper()
    try:
        return signals.Signals[upper if upper.startswith("SIG") else f"SIG{upper}"]
    except KeyError as error:
        raise TaskRefused(f"{name!r} is no signal of this machine") from error


def reap(pid: int) -> int:
    """The exit status of an own child that has ended, as os.waitstatus_to_exitcode; 0 for anybody else's."""
    with suppress(ChildProcessError):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return 0


def session_pids(session: int) -> tuple[int, ...]:
    """All live processes of a session: every process on the machine is looked at, so only for stopping."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = stat_of(int(name))
            if stat is not None and stat.session == session and not stat.has_ended:
                found.append(stat.process.pid)
    return tuple(found)
