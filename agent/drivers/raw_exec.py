"""How does a plain process run without isolation, and outlive drover?

    agent --posix_spawn--> supervisor.sh --foreground--> setsid … command      (own session each,
             cheap: vfork      waits, keeps the exit code      and as root a cgroup for the task)

What comes before the command runs as the agent's user and in its environment, the command in the job's (becoming.py).

posix_spawn, because fork copies the agent's page tables and asyncio's subprocess wants a watcher and
transports for each child: measured 0.4 ms of wall time for each spawn. The supervisor is a shell,
because a Python process for each task would cost 10 MB; it costs 115 kB.

All that is known of a task lies in <run>/<alloc>.<task>.<attempt>.{pid,task,exit}; nothing here keeps
state, so a new agent needs no more than the names. Its user is at the end of .task, for /proc shows whose a process is
just now: root's, before it has become the task's user, and for good where it keeps itself from being traced.
"""

import asyncio
import errno
import itertools
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from agent import log_files
from agent.cpuset import cpuset
from agent.drivers import becoming, command, process, session
from agent.drivers.base import (
    ExecSession,
    ExitResult,
    Handle,
    SeenDirs,
    StartFailed,
    TaskDirs,
    TaskStart,
    TaskStats,
    same_dirs,
)
from agent.drivers.cgroup import Hierarchy, TaskCgroup, find_hierarchy, make_cpuset, own_cpuset, remove_cpuset
from agent.drivers.process import Process, boot_id
from agent.env import inherited
from agent.turns import Turns
from agent.users import user_of
from checks.registration import TaskNetwork
from jobspec.driver_config import DRIVERS
from jobspec.suggest import did_you_mean
from model.alloc import AllocId
from model.errors import TaskRefused
from model.node import DriverInfo

SUPERVISOR = Path(__file__).with_name("supervisor.sh")

# A spawn blocks the event loop for 0.4 ms: after this many in one round others get their turn.
_SPAWNS_PER_ROUND = 4
# From its start a supervisor needs 1 ms to write its pid file and 2 ms to write the task's; on a starved
# machine a hundred times that. One that has not done so after this long never will.
_FILES_WAIT_S_MAX = 10.0
_FILES_POLL_S = 0.002

_STOP_SIGNAL = "SIGINT"  # Nomad's

# What the supervisor itself ends with, see there.
_NO_ROOM = 74
_TAKEN = 75
# A line of /proc/<pid>/stat has 300 bytes, and never 1,100.
_RESERVED = b" " * 1200

# A supervisor ends within milliseconds of its task; one that was frozen by hand is not waited for.
_SUPERVISOR_END_S = 2.0


class RawExec:
    """run_dir: a folder of data_dir. environ: the agent's own, which tasks inherit without its secrets."""

    name = "raw_exec"

    def __init__(self, run_dir: Path, environ: Mapping[str, str], *, use_cgroups: bool = True) -> None:
        self._run_dir = run_dir
        self._environ = inherited(environ)
        self._on_the_way = becoming.on_the_way(self._environ)
        self._cgroups: Hierarchy | None = find_hierarchy() if use_cgroups else None
        self._turns = Turns(_SPAWNS_PER_ROUND)
        self._children: dict[str, asyncio.Event] = {}  # own supervisors; set when one was reaped
        self._sessions: dict[str, set[session.ProcessSession]] = {}  # commands that run beside a task
        self._endings: dict[str, int] = {}  # how those ended that could not say so in a file
        self._setsid = shutil.which("setsid") or ""
        self._setpriv = shutil.which("setpriv") or ""
        self._taskset = shutil.which("taskset") or ""
        self._mv = shutil.which("mv") or "/bin/mv"

    def seen_dirs(self, dirs: TaskDirs) -> SeenDirs:
        return same_dirs(dirs)

    async def fingerprint(self) -> DriverInfo:
        if not self._setsid:
            return DriverInfo(detected=False, healthy=False, health_description="setsid is not on PATH")
        return DriverInfo(
            detected=True, healthy=True, health_description="Healthy", attributes={"driver.raw_exec": "1"}
        )

    async def start(self, task: TaskStart) -> Handle:
        handle = Handle(
            driver=self.name,
            alloc_id=task.alloc_id,
            task_name=task.task_name,
            attempt=task.attempt,
            boot_id=boot_id(),
        )
        await self._turns.take()
        if not self._has_begun(handle):
            self._spawn(task, handle)
        return handle

    async def recover(self, handle: Handle) -> bool:
        """A task of an earlier boot has left nothing; one of this boot is followed to its end."""
        if self._exit_code(handle) is not None:
            return True
        return handle.boot_id == boot_id() and self._has_begun(handle)

    async def wait(self, handle: Handle) -> ExitResult:
        code = self._exit_code(handle)
        if code is None:
            await self._supervisor_ended(handle)
            code = self._exit_code(handle)
        if code is None:
            # The supervisor was killed; the task itself may well run on.
            task = await self._process(handle, "task", wait_s_max=0.0)
            if task is not None:
                await process.ended(task)
        await self._kill_all(handle)
        if code is None:
            return ExitResult(code=-1, error=self._why_unknown(handle))
        ended_at, signal, is_oom = self._ended_at(handle), max(code - 128, 0), self._was_oom_killed(handle)
        return ExitResult(code=code, signal=signal, ended_at=ended_at, oom_killed=is_oom)

    async def signal(self, handle: Handle, signal: str) -> None:
        number = process.signal_named(signal)
        task = await self._own_process(handle)
        if task is not None:
            process.send(task, number)

    async def stop(self, handle: Handle, signal: str, timeout_s: float) -> None:
        with suppress(TaskRefused):  # an unknown signal: the kill below does it
            await self.signal(handle, signal or _STOP_SIGNAL)
        try:
            async with asyncio.timeout(timeout_s):
                await self.wait(handle)
        except TimeoutError:
            await self._kill_all(handle)
            await self.wait(handle)

    async def destroy(self, handle: Handle) -> None:
        await self._kill_all(handle)
        # The supervisor writes the exit code a moment after its task's end: removed before, it would come back.
        with suppress(TimeoutError):
            async with asyncio.timeout(_SUPERVISOR_END_S):
                await self._supervisor_ended(handle)
        if self._cgroups is not None:
            self._cgroup(self._cgroups, handle).remove()
            remove_cpuset(self._cgroup_name(handle))
        for suffix in ("pid", "task", "exit", "exit.partial"):
            with suppress(FileNotFoundError):
                os.unlink(self._file(handle, suffix))
        self._endings.pop(self._file(handle, ""), None)

    async def execute(self, handle: Handle, argv: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
        owner = self._owner(handle)
        env, pid = await self._surroundings(handle)
        whole = [*await self._entering(handle, owner), *becoming.LAUNCHER, *argv]
        with becoming.handed(env) as given:
            cwd, descriptor = self._directory(pid), (given, becoming.FD)
            return await command.run(whole, env=self._on_the_way, cwd=cwd, timeout_s=timeout_s, handed=descriptor)

    @asynccontextmanager
    async def session(
        self, handle: Handle, argv: Sequence[str], *, is_tty: bool
    ) -> AsyncIterator[ExecSession]:
        owner = self._owner(handle)
        env, pid = await self._surroundings(handle)
        program = self._beside(argv[0], pid, env)
        whole = [*await self._entering(handle, owner), *becoming.LAUNCHER, program, *argv[1:]]
        shown = {"TERM": "xterm", **env} if is_tty else env
        with becoming.handed(shown) as given:
            beside = session.Command(
                argv=whole,
                env=self._on_the_way,
                cwd=self._directory(pid),
                owner=owner,
                handed=(given, becoming.FD),
                cgroups=self._joined(handle),
            )
            async with session.run(beside, is_tty=is_tty) as running:
                key = self._file(handle, "")
                self._sessions.setdefault(key, set()).add(running)
                try:
                    yield running
                finally:
                    self._sessions[key].discard(running)
                    if not self._sessions[key]:
                        del self._sessions[key]

    async def _surroundings(self, handle: Handle) -> tuple[dict[str, str], int]:
        """(environment, pid) of the task. Raises TaskRefused when it does not run."""
        task = await self._own_process(handle)
        if task is None:
            raise TaskRefused(f'task "{handle.task_name}" is not running.')
        env = _environment(task.pid)
        give_up_at = asyncio.get_running_loop().time() + _FILES_WAIT_S_MAX
        while not env or becoming.MARK in env:
            # On the way to the task's own program: the kernel shows no environment, or that of root's programs.
            if asyncio.get_running_loop().time() >= give_up_at:
                if env:
                    raise TaskRefused(f'task "{handle.task_name}" is not running.')
                break
            await asyncio.sleep(_FILES_POLL_S)
            env = _environment(task.pid)
        return env, task.pid

    def _owner(self, handle: Handle) -> tuple[int, int]:
        """(user, group) that the task was started as. Raises TaskRefused when nothing says so: it does not run."""
        try:
            with open(self._file(handle, "task"), errors="replace") as file:
                user, group = map(int, file.read().splitlines()[-1].split())
        except (OSError, ValueError, IndexError) as error:
            raise TaskRefused(f'task "{handle.task_name}" is not running.') from error
        return user, group

    def _beside(self, name: str, pid: int, env: Mapping[str, str]) -> str:
        """The path of a command that runs beside the task. Raises TaskRefused."""
        try:
            cwd = Path(os.readlink(f"/proc/{pid}/cwd"))
        except OSError as error:
            raise TaskRefused("the task is not running") from error
        return command.lookup(name, cwd, env.get("PATH", os.defpath))

    def _directory(self, pid: int) -> str:
        """Where such a command is started: where the task is, not what has that name by now, for root goes there."""
        return f"/proc/{pid}/cwd"

    async def _entering(self, handle: Handle, owner: tuple[int, int]) -> list[str]:
        """What runs a command where the task is and as its user."""
        if os.geteuid() != 0 or owner[0] == 0:
            return []
        return [self._setpriv, f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups"]

    def _joined(self, handle: Handle) -> list[str]:
        """cgroup.procs of the task's cgroups."""
        if self._cgroups is None:
            return []
        own = self._cgroup(self._cgroups, handle).procs
        return list(dict.fromkeys([own, *own_cpuset(self._cgroups, self._cgroup_name(handle))]))

    async def stats(self, handle: Handle) -> TaskStats:
        found = [stat for pid in await self._pids(handle) if (stat := process.stat_of(pid))]
        return TaskStats(
            cpu_s=sum(stat.cpu_s for stat in found),
            memory_bytes=sum(stat.rss_bytes for stat in found),
            pids=tuple(stat.process.pid for stat in found),
        )

    async def network(self, handle: Handle) -> TaskNetwork | None:
        return None

    def _spawn(self, task: TaskStart, handle: Handle) -> None:
        env = {**self._environ, **task.env}
        argv, work_dir = self._command(task, env)
        self._reserve(handle, self._owner_of(task))
        self._endings.pop(self._file(handle, ""), None)
        procs = ""
        if self._cgroups is not None:
            cgroup = self._cgroup(self._cgroups, handle)
            cgroup.make()
            procs = cgroup.procs
        limits, argv = self._limited(task, handle, argv)
        with ExitStack() as stack:
            files = [_log(path, stack) for path in (task.stdout, task.stderr)]
            files.append(stack.enter_context(becoming.handed(env)))
            try:
                child = os.posix_spawn(
                    "/bin/sh",
                    [
                        *("sh", str(SUPERVISOR), self._file(handle, ""), procs, ":".join(limits), work_dir),
                        *(self._setsid, self._mv, "--", *argv),
                    ],
                    self._on_the_way,
                    file_actions=[*_NO_FILES, *((os.POSIX_SPAWN_DUP2, one, number) for number, one in enumerate(files, 3))],
                    setsid=True,
                    setsigmask=(),
                    setsigdef=command.DEFAULT_SIGNALS,
                )
            except OSError as error:
                raise StartFailed(f"cannot start {argv[0]}: {error.strerror}") from error
            except ValueError as error:
                raise TaskRefused(f"config: {error}") from error
        self._mind(self._file(handle, ""), child)

    def _owner_of(self, task: TaskStart) -> tuple[int, int]:
        """(user, group) that a task is to run as. Raises TaskRefused for a user that is not known here."""
        if not task.user or os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        return user_of(task.user)

    def _command(self, task: TaskStart, env: Mapping[str, str]) -> tuple[list[str], str]:
        """(what the supervisor runs, working directory). Raises TaskRefused."""
        options = parse_config(self.name, task.config)
        if task.binds:
            raise TaskRefused(f'task driver "{self.name}" for "{task.task_name}" does not support host volumes')
        path = env.get("PATH", os.defpath)
        argv = [command.lookup(options.command, task.dirs.task, path, alloc=task.dirs.task.parent), *options.args]
        become = []
        if task.user and os.geteuid() == 0:
            become = [self._setpriv, f"--reuid={task.user}", f"--regid={user_of(task.user)[1]}", "--init-groups"]
        return [*become, *becoming.LAUNCHER, *argv], options.work_dir or str(task.dirs.task)

    def _limited(self, task: TaskStart, handle: Handle, argv: list[str]) -> tuple[list[str], list[str]]:
        """(cgroup.procs to join, command) of a task that gets cores to itself. Without a right to cgroups it is only told
        to keep to them, and may leave them."""
        cores = task.cores
        if not cores:
            return [], argv
        if self._cgroups is None:
            if not self._taskset:
                raise TaskRefused("cores: taskset is not on PATH, and without root there is no other way to give them")
            return [], [self._taskset, "--cpu-list", cpuset(cores), *argv]
        try:
            return [make_cpuset(self._cgroups, self._cgroup_name(handle), cores)], argv
        except OSError as error:
            raise StartFailed(f"cannot give it cores {cpuset(cores)}: {error.strerror}") from error

    def _reserve(self, handle: Handle, owner: tuple[int, int]) -> None:
        """Takes the room now that the supervisor will need: it has nobody to tell when there is none. Notes the user."""
        try:
            for suffix, more in (("task", b"\n%d %d\n" % owner), ("exit.partial", b"")):
                path = self._file(handle, suffix)
                if not os.path.exists(path) or not os.path.getsize(path):
                    with open(path, "wb", buffering=0) as file:
                        file.write(_RESERVED + more)
        except OSError as error:
            for suffix in ("task", "exit.partial"):
                with suppress(FileNotFoundError):
                    os.unlink(self._file(handle, suffix))
            raise StartFailed(f"cannot write below {self._run_dir}: {error.strerror}") from error

    def _mind(self, key: str, child: int) -> None:
        """Reaps an own supervisor whenever it ends, whoever waits or not: the exit code is there a moment before."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        descriptor = os.pidfd_open(child)

        def reap() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            ending = process.reap(child)
            if ending and ending != _TAKEN:
                self._endings[key] = ending
            if self._children.get(key) is ended:
                del self._children[key]
            ended.set()

        self._children[key] = ended
        loop.add_reader(descriptor, reap)

    async def _supervisor_ended(self, handle: Handle) -> None:
        """Returns when nobody is there any more to write the exit code."""
        key = self._file(handle, "")
        child = self._children.get(key)
        if child is not None:
            await child.wait()
            if self._endings.get(key) == _NO_ROOM:
                return
        # Not our child, or ours was not the first for this attempt: the file says who is.
        supervisor = await self._process(handle, "pid")
        if supervisor is not None:
            await process.ended(supervisor)

    async def _process(
        self, handle: Handle, suffix: str, wait_s_max: float = _FILES_WAIT_S_MAX
    ) -> Process | None:
        """Who wrote RUN.<suffix>; waits for a supervisor that has only just been started."""
        if handle.boot_id != boot_id():
            return None
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait_s_max
        while True:
            found = self._read_process(handle, suffix)
            if found is not None or loop.time() >= give_up_at or self._exit_code(handle) is not None:
                return found
            if suffix == "task" and not self._supervisor_lives(handle):
                return self._read_process(handle, suffix)
            await asyncio.sleep(_FILES_POLL_S)

    async def _own_process(self, handle: Handle) -> Process | None:
        """The task's own: what signals are for; None when it does not run."""
        return await self._process(handle, "task")

    def _has_begun(self, handle: Handle) -> bool:
        return os.path.exists(self._file(handle, "pid"))

    def _was_oom_killed(self, handle: Handle) -> bool:
        return False  # nothing is limited here

    def _ended_at(self, handle: Handle) -> float:
        try:
            return os.stat(self._file(handle, "exit")).st_mtime
        except FileNotFoundError:
            return 0.0

    def _read_process(self, handle: Handle, suffix: str) -> Process | None:
        try:
            with open(self._file(handle, suffix), errors="replace") as file:
                line = file.read()
        except FileNotFoundError:
            return None
        line, is_whole, _ = line.partition("\n")  # what was reserved for it follows, and its user
        stat = process.parse_stat(line) if is_whole else None
        return stat.process if stat else None

    def _why_unknown(self, handle: Handle) -> str:
        ending = self._endings.get(self._file(handle, ""), 0)
        if ending == _NO_ROOM:
            return f"not started: cannot write below {self._run_dir}: {os.strerror(errno.ENOSPC)}"
        if ending < 0:
            return "the exit code is not known: the task's supervisor was killed"
        return "the exit code is not known: the task's supervisor left none"

    def _supervisor_lives(self, handle: Handle) -> bool:
        supervisor = self._read_process(handle, "pid")
        return supervisor is None or process.is_alive(supervisor)

    def _exit_code(self, handle: Handle) -> int | None:
        try:
            with open(self._file(handle, "exit")) as file:
                return int(file.read())
        except FileNotFoundError:
            return None

    async def _pids(self, handle: Handle) -> tuple[int, ...]:
        if self._cgroups is not None:
            return self._cgroup(self._cgroups, handle).pids()
        task = self._read_process(handle, "task")
        return process.session_pids(task.pid) if task else ()

    async def _kill_all(self, handle: Handle) -> None:
        """Ends all that the task started: by its cgroup, else by its session."""
        for beside in self._sessions.get(self._file(handle, ""), ()):
            beside.release()
        if self._cgroups is not None:
            await self._cgroup(self._cgroups, handle).kill()
            return
        task = self._read_process(handle, "task")
        if task is None or handle.boot_id != boot_id():
            return
        for tries in itertools.count():
            # The session's id is the task's pid; while any process of the session lives, no other gets it.
            pids = process.session_pids(task.pid)
            if not pids:
                return
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(min(0.001 * 2**tries, 0.1))

    def _cgroup(self, hierarchy: Hierarchy, handle: Handle) -> TaskCgroup:
        return TaskCgroup(hierarchy, self._cgroup_name(handle))

    @staticmethod
    def _cgroup_name(handle: Handle) -> str:
        return f"{_name(handle.alloc_id, handle.task_name)}.{handle.attempt}"

    def _file(self, handle: Handle, suffix: str) -> str:
        dot = "." if suffix else ""
        return f"{self._run_dir}/{_name(handle.alloc_id, handle.task_name)}.{handle.attempt}{dot}{suffix}"


class Options:
    """A task's config, as far as it says what to run."""

    __slots__ = ("args", "command", "work_dir")

    def __init__(self, command: str, args: tuple[str, ...], work_dir: str) -> None:
        self.command = command
        self.args = args
        self.work_dir = work_dir


def parse_config(driver: str, config: Mapping[str, Any]) -> Options:
    """Raises TaskRefused naming the option that is unknown or of the wrong type."""
    known = DRIVERS[driver].supported
    for name in config:
        if name not in known:
            raise TaskRefused(f"config: {driver} has no option {name!r}{did_you_mean(name, known)}")
    return Options(
        command=str(config.get("command", "")),
        args=texts(config, "args"),
        work_dir=str(config.get("work_dir", "")),
    )


def texts(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """A list of strings; what Nomad makes strings of is one. Raises TaskRefused."""
    values = config.get(name) or []
    if not isinstance(values, list | tuple):
        raise TaskRefused(f"config: {name} must be a list of strings")
    return tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in values)


_NO_FILES = (
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
)


def _log(path: Path, stack: ExitStack) -> int:
    """A descriptor to append to, closed with the stack. Raises StartFailed."""
    try:
        found = becoming.above(log_files.append(path))
    except OSError as error:
        raise StartFailed(f"cannot write to {path}: {error.strerror}") from error
    stack.callback(os.close, found)
    return found


def _environment(pid: int) -> dict[str, str]:
    """Of a running task. A line of it that is no variable is the task's own doing, and left out."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            pairs = [entry.partition(b"=") for entry in file.read().split(b"\0")]
    except (FileNotFoundError, ProcessLookupError) as error:
        raise TaskRefused("the task is not running") from error
    return {os.fsdecode(name): os.fsdecode(value) for name, equals, value in pairs if name and equals}


def _name(alloc_id: AllocId, task_name: str) -> str:
    return f"{alloc_id}.{task_name}"
