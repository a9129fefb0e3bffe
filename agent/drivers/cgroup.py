"""Which processes belong to a task, wherever they have gone, and how are all of them ended?

As root every raw_exec task has a cgroup of its own, outside drover's: a service manager that ends
drover's cgroup leaves it alone, and a daemon that left its session is still found. Only one hierarchy is
used, for raw_exec sets no limits but the cores of a task that has some to itself (below: make_cpuset):

    cgroup2, also when mounted beside v1   one write of cgroup.kill ends all, atomically
    v1: freezer                            frozen, killed, thawed: no fork gets away
    v1: name=systemd or pids               killed again and again until empty

Measured on the reference machine: 12-23 µs to make or remove one; to move a process in, 7-11 ms of waiting
for a lone one (the kernel's RCU grace period, no processor time) and 0.15-0.2 ms in a burst.
"""

import asyncio
import errno
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.cpuset import cpuset

MOUNT = Path("/sys/fs/cgroup")
NAME = "drover"
_POLL_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    root: str  # the folder that holds one cgroup for each task
    kind: str  # v2 | freezer | v1


def find_hierarchy(mount: Path = MOUNT, name: str = NAME) -> Hierarchy | None:
    """The hierarchy to use; None without the right to any."""
    if os.geteuid() != 0:
        return None
    for folder, kind in (
        (mount, "v2"),
        (mount / "unified", "v2"),
        (mount / "freezer", "freezer"),
        (mount / "systemd", "v1"),
        (mount / "pids", "v1"),
    ):
        if kind == "v2" and not (folder / "cgroup.controllers").exists():
            continue
        if not (folder / "cgroup.procs").exists():
            continue
        try:
            (folder / name).mkdir(exist_ok=True)
        except OSError:
            continue
        if kind == "v2" and not (folder / name / "cgroup.kill").exists():
            kind = "v1"  # before Linux 5.14
        return Hierarchy(root=str(folder / name), kind=kind)
    return None


def remove_hierarchy(mount: Path = MOUNT, name: str = NAME) -> None:
    """Removes drover's own cgroups, of each controller where no task's is in it."""
    for root in (mount / name, *mount.glob(f"*/{name}")):
        with suppress(OSError):
            root.rmdir()


def make_cpuset(hierarchy: Hierarchy, task: str, cores: tuple[int, ...], mount: Path = MOUNT, name: str = NAME) -> str:
    """Makes the cgroup that keeps a task to these cores, and returns the cgroup.procs to join. Idempotent. Raises OSError.

    v1 has a hierarchy of its own for it, whose new cgroups hold no core and no memory node until they are told.
    With v2 it is the task's own cgroup, once all above it pass the controller on.
    """
    root = _cpusets(mount, name)
    if root.parent.exists():
        path = root / task
        for folder, given in ((root, ""), (path, cpuset(cores))):
            folder.mkdir(exist_ok=True)
            for kind in ("mems", "cpus"):
                above = (folder.parent / f"cpuset.{kind}").read_text()
                (folder / f"cpuset.{kind}").write_text(given if given and kind == "cpus" else above)
    else:
        path = Path(hierarchy.root) / task
        for folder in (path.parent.parent, path.parent):
            (folder / "cgroup.subtree_control").write_text("+cpuset")
        path.mkdir(exist_ok=True)
        (path / "cpuset.cpus").write_text(cpuset(cores))
    return str(path / "cgroup.procs")


def own_cpuset(hierarchy: Hierarchy, task: str, mount: Path = MOUNT, name: str = NAME) -> list[str]:
    """The cgroup.procs of a task that is kept to cores of its own; none of one that is not."""
    own = _cpusets(mount, name) / task / "cgroup.procs"
    return [str(own)] if hierarchy.root != str(own.parent.parent) and own.exists() else []


def remove_cpuset(task: str, mount: Path = MOUNT, name: str = NAME) -> None:
    """Only when empty. With v2 there is none but the task's own cgroup."""
    with suppress(OSError):
        os.rmdir(_cpusets(mount, name) / task)


def _cpusets(mount: Path, name: str) -> Path:
    return mount / "cpuset" / name


class TaskCgroup:
    """The cgroup of one task. All calls are idempotent."""

    __slots__ = ("_kind", "path")

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        self.path = f"{hierarchy.root}/{name}"
        self._kind = hierarchy.kind

    @property
    def procs(self) -> str:
        return f"{self.path}/cgroup.procs"

    def make(self) -> None:
        os.makedirs(self.path, exist_ok=True)  # the one above goes with the last -dev agent

    def pids(self) -> tuple[int, ...]:
        try:
            with open(self.procs) as file:
                return tuple(int(line) for line in file if line != "0\n")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return ()
            raise

    async def kill(self) -> None:
        """Returns once the cgroup is empty. A process that the kernel cannot end just now is waited for."""
        if not self.pids():
            return
        tries = 0
        while True:
            self._kill_once()
            if not self.pids():
                return
            await asyncio.sleep(_POLL_S[min(tries, len(_POLL_S) - 1)])
            tries += 1

    def remove(self) -> None:
        """Only when empty."""
        with suppress(FileNotFoundError, OSError):
            os.rmdir(self.path)

    def _kill_once(self) -> None:
        match self._kind:
            case "v2":
                self._write("cgroup.kill", "1")
            case "freezer":
                self._write("freezer.state", "FROZEN")
                self._kill_each()
                self._write("freezer.state", "THAWED")
            case _:
                self._kill_each()

    def _kill_each(self) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _write(self, name: str, text: str) -> None:
        with suppress(FileNotFoundError), open(f"{self.path}/{name}", "w") as file:
            file.write(text)
