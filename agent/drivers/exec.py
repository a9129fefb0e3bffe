"""How does a process run apart from the machine and from other tasks, and outlive drover as any other?

    supervisor.sh ──> bwrap ──> init of its own PID namespace ──> setpriv ──> sh ──> command
                      mount, PID, IPC and UTS namespaces            unprivileged user, no capability

Inside, `/` is the task's directory (`/local`, `/secrets`, `/tmp` and what it writes besides), `/alloc` the group's; of the machine it
sees `/usr`, `/etc` and what programs need of the rest, read-only, and no other process. The network is the machine's. Memory,
cpu and the number of processes are limited by cgroups. bubblewrap sets up the namespaces; as root, for it needs no user namespace then.
"""

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from agent import folders
from agent.drivers import becoming, command, process
from agent.drivers.base import Handle, SeenDirs, StartFailed, TaskDirs, TaskStart
from agent.drivers.limits import LimitedCgroups, Limits
from agent.drivers.process import Process
from agent.drivers.raw_exec import RawExec, parse_config
from agent.users import of_task, user_of
from model.errors import TaskRefused
from model.node import DriverInfo

# Of the machine, as far as it is there: Nomad's chroot, and where /etc/resolv.conf may lead.
SYSTEM = ("/bin", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr", "/run/resolvconf", "/run/systemd/resolve")
# Below /etc, and no task's to read: drover's own configuration, whoever owns the files.
HIDDEN = ("/etc/drover.d",)
SEEN_DIRS = SeenDirs(alloc="/alloc", local="/local", secrets="/secrets")
# What setpriv needs to become that user, and then takes from itself.
_CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
_TRY_S_MAX = 10.0
# From bwrap's start to the command's: some 10 ms; on a starved machine much more.
_INSIDE_S_MAX = 10.0
_INSIDE_POLL_S = 0.005


class Exec(RawExec):
    """run_dir, environ: as for raw_exec."""

    name = "exec"

    def __init__(self, run_dir: Path, environ: Mapping[str, str]) -> None:
        super().__init__(run_dir, environ)
        self._bwrap = shutil.which("bwrap") or ""
        self._nsenter = shutil.which("nsenter") or ""
        self._limits = LimitedCgroups(self._cgroups) if self._cgroups is not None else None

    def seen_dirs(self, dirs: TaskDirs) -> SeenDirs:
        return SEEN_DIRS

    async def fingerprint(self) -> DriverInfo:
        why = self._why_not()
        if why:
            return DriverInfo(detected=False, healthy=False, health_description=why)
        code, said = await command.run(
            [self._bwrap, "--ro-bind", "/", "/", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--proc", "/proc", "true"],
            env=self._environ,
            cwd="/",
            timeout_s=_TRY_S_MAX,
        )
        if code:
            words = f"bubblewrap cannot make namespaces here: {said.decode('utf-8', 'replace').strip()[:200]}"
            return DriverInfo(detected=True, healthy=False, health_description=words)
        return DriverInfo(detected=True, healthy=True, health_description="Healthy", attributes={f"driver.{self.name}": "1"})

    def _why_not(self) -> str:
        if os.geteuid() != 0:
            return "the agent does not run as root"
        for name, path in (("bwrap (bubblewrap)", self._bwrap), ("setpriv", self._setpriv), ("nsenter", self._nsenter)):
            if not path:
                return f"{name} is not on PATH"
        if self._limits is None:
            return "no cgroup can be made"
        missing = self._limits.missing()
        return f"cgroups without {', '.join(missing)}: nothing could be limited" if missing else ""

    async def destroy(self, handle: Handle) -> None:
        await super().destroy(handle)
        if self._limits is not None:
            self._limits.remove(self._cgroup_name(handle))

    # ---- what is run

    def _command(self, task: TaskStart, env: Mapping[str, str]) -> tuple[list[str], str]:
        for name in ("pid_mode", "ipc_mode"):
            if str(task.config.get(name) or "private") != "private":
                raise TaskRefused(f'config: {name} must be "private"')
        if task.config.get("cap_add"):
            raise TaskRefused("config: cap_add: a task has no capability, and gets none")
        inside = self._program(task, env)
        _make_mount_points(task)
        return [self._bwrap, *_sandbox(task), "--", *self._become(self._owner_of(task)), *becoming.LAUNCHER, *inside], "/"

    def _program(self, task: TaskStart, env: Mapping[str, str]) -> list[str]:
        """The command and its arguments, by the paths inside. Raises TaskRefused."""
        options = parse_config(self.name, task.config)
        program = lookup(options.command, task.dirs.task, env.get("PATH", os.defpath))
        _make_executable(program, task.dirs)
        return [program, *options.args]

    def _owner_of(self, task: TaskStart) -> tuple[int, int]:
        owner = user_of(of_task(task.user, self.name))
        if owner[0] == 0:
            raise TaskRefused("running as root is not allowed with this driver (raw_exec allows it, where it is enabled)")
        return owner

    def _become(self, owner: tuple[int, int]) -> list[str]:
        return [
            self._setpriv,
            *(f"--reuid={owner[0]}", f"--regid={owner[1]}", "--clear-groups"),
            *("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"),
        ]

    def _limited(self, task: TaskStart, handle: Handle, argv: list[str]) -> tuple[list[str], list[str]]:
        procs, argv = super()._limited(task, handle, argv)
        if self._limits is None:
            raise TaskRefused("no cgroup can be made: the task could not be limited")
        resources = task.resources
        limits = Limits(memory_mb=resources.memory_mb, memory_max_mb=resources.memory_max_mb, cpu=resources.cpu)
        try:
            return [*procs, *self._limits.make(self._cgroup_name(handle), limits)], argv
        except OSError as error:
            raise StartFailed(f"cannot limit it: {error.filename}: {error.strerror}") from error

    def _was_oom_killed(self, handle: Handle) -> bool:
        return self._limits is not None and self._limits.oom_kills(self._cgroup_name(handle)) > 0

    # ---- what runs

    async def _own_process(self, handle: Handle) -> Process | None:
        """bwrap waits outside, for the init of the namespace, whose child is the task."""
        outer = await self._process(handle, "task")
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _INSIDE_S_MAX
        while outer is not None and process.is_alive(outer):
            for init in process.children(outer.pid):
                for pid in process.children(init):
                    stat = process.stat_of(pid)
                    if stat is not None:
                        return stat.process
            if loop.time() >= give_up_at:
                break
            await asyncio.sleep(_INSIDE_POLL_S)
        return None

    async def _entering(self, handle: Handle, owner: tuple[int, int]) -> list[str]:
        task = await self._own_process(handle)
        if task is None:
            raise TaskRefused(f'task "{handle.task_name}" is not running.')
        # Nothing of the inside is run as root: a task may have made a mount namespace of its own there, with its own setpriv.
        namespaces = ("--mount", "--pid", "--ipc", "--uts", "--root", "--wd")
        become = (f"--setgid={owner[1]}", f"--setuid={owner[0]}")
        return [self._setpriv, "--no-new-privs", self._nsenter, f"--target={task.pid}", *namespaces, *become, "--"]

    def _beside(self, name: str, pid: int, env: Mapping[str, str]) -> str:
        return name  # looked up inside

    def _directory(self, pid: int) -> str:
        return "/"  # the task's is of the inside

    def _joined(self, handle: Handle) -> list[str]:
        mine = self._limits.joined(self._cgroup_name(handle)) if self._limits is not None else []
        return list(dict.fromkeys([*super()._joined(handle), *mine]))


def _sandbox(task: TaskStart) -> list[str]:
    """bwrap's words for what the task sees."""
    words = ["--bind", f"{task.dirs.task}", "/"]
    for path in SYSTEM:
        if os.path.isdir(path):
            words += ["--ro-bind", os.path.realpath(path), path]
    for path in HIDDEN:
        if os.path.isdir(path):
            words += ["--tmpfs", path, "--remount-ro", path]
    words += ["--ro-bind", "/sys", "/sys", "--bind", f"{task.dirs.shared}", SEEN_DIRS.alloc]
    for bind in task.binds:
        if bind.propagation != "rprivate":
            raise TaskRefused(f"volume_mount: propagation_mode of {bind.target!r} is not supported by this driver (only private)")
        words += ["--ro-bind" if bind.is_read_only else "--bind", bind.source, bind.target]
    words += ["--proc", "/proc", "--dev", "/dev", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += ["--cap-drop", "ALL", *(word for one in _CAPABILITIES for word in ("--cap-add", one))]
    return [*words, "--chdir", str(task.config.get("work_dir") or "/")]


def _make_mount_points(task: TaskStart) -> None:
    """bubblewrap would follow, as root, what the task put in their place the last time. Raises StartFailed."""
    system = [path for path in SYSTEM if os.path.isdir(path)]
    try:
        for path in (*system, "/sys", "/proc", "/dev", SEEN_DIRS.alloc, *(bind.target for bind in task.binds)):
            parts = os.path.normpath(path).strip("/").split("/")
            is_shared = parts[0] == SEEN_DIRS.alloc.strip("/") and len(parts) > 1
            folders.make(task.dirs.shared if is_shared else task.dirs.task, parts[1:] if is_shared else parts)
    except OSError as error:
        raise StartFailed(f"cannot make what is mounted on: {error.filename}: {error.strerror}") from error


def _make_executable(program: str, dirs: TaskDirs) -> None:
    """Of the alloc's files; by its path inside."""
    shared = program.removeprefix(f"{SEEN_DIRS.alloc}/")
    path = f"{dirs.shared}/{shared}" if shared != program else f"{dirs.task}{program}"
    if os.path.isfile(path) and not os.access(path, os.X_OK):
        command.make_executable(path, dirs.task.parent)


def lookup(name: str, task_dir: Path, search_path: str) -> str:
    """The path inside of a command: the task's local/ and own directory first, then the system's, as Nomad does.
    Raises TaskRefused saying what is wrong with it."""
    if not name:
        raise TaskRefused("config: command is missing")
    if os.path.isabs(name):
        inside = os.path.normpath(name)
        own = os.path.lexists(f"{task_dir}{inside}") or inside.startswith("/alloc/")
        if not own and not (inside.startswith(SYSTEM) and os.access(inside, os.X_OK)):
            raise TaskRefused(f"command {name!r} was not found in the task's directory, nor where programs of the machine are")
        return inside
    for inside in (f"/local/{name}", f"/{name}"):
        if os.path.lexists(f"{task_dir}{inside}"):
            return os.path.normpath(inside)
    places = [one for one in search_path.split(os.pathsep) if one.startswith(SYSTEM)]
    found = None if "/" in name else shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise TaskRefused(f"command {name!r} was not found in the task's directory or in PATH {os.pathsep.join(places)}")
    return found

