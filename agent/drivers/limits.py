"""What may a task use at most, and did the kernel end it for that?

    v1, one hierarchy a controller    memory.limit_in_bytes (with swap, where that is counted), cpu.shares, pids.max
    v2, the task's own cgroup         memory.max, memory.swap.max, cpu.weight, pids.max

cpu is a share of what is there, as with Nomad: a task alone on a machine may use all of it.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.drivers.cgroup import MOUNT, NAME, Hierarchy

PIDS_MAX = 65_536  # no fork bomb takes the machine's
_CONTROLLERS = ("memory", "cpu", "pids")
_SHARES_MIN, _SHARES_MAX = 2, 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """memory_mb: what it may use; with memory_max_mb it may use that, and keeps memory_mb when memory is short. cpu: MHz."""

    memory_mb: int
    memory_max_mb: int
    cpu: int


@dataclass(frozen=True, slots=True)
class LimitedCgroups:
    """Of one node. hierarchy: the one that tasks are ended by, which with v2 holds the limits as well."""

    hierarchy: Hierarchy
    mount: Path = MOUNT
    name: str = NAME

    def missing(self) -> list[str]:
        """Controllers that are not there: without them no limit holds."""
        return [one for one in _CONTROLLERS if self._kind(one) is None]

    def make(self, task: str, limits: Limits) -> list[str]:
        """Makes the cgroups of a task, and returns the cgroup.procs to join. Idempotent. Raises OSError."""
        found = []
        for controller in _CONTROLLERS:
            path = self._path(controller, task)
            if self._kind(controller) == "v2":
                self._pass_on(controller)
            path.mkdir(parents=True, exist_ok=True)
            for name, value in self._values(controller, limits):
                (path / name).write_text(value)
            found.append(str(path / "cgroup.procs"))
        self._limit_swap(task, limits)
        return list(dict.fromkeys(found))

    def joined(self, task: str) -> list[str]:
        """cgroup.procs of a task's cgroups, as far as they are there."""
        found = dict.fromkeys(str(self._path(one, task) / "cgroup.procs") for one in _CONTROLLERS)
        return [path for path in found if Path(path).exists()]

    def remove(self, task: str) -> None:
        """Only when empty; with v2 it is the task's own cgroup, which others remove."""
        for controller in _CONTROLLERS:
            if self._kind(controller) == "v1":
                with suppress(OSError):
                    self._path(controller, task).rmdir()

    def oom_kills(self, task: str) -> int:
        """Of its processes, how many the kernel ended for want of memory."""
        path = self._path("memory", task) / ("memory.oom_control" if self._kind("memory") == "v1" else "memory.events")
        try:
            lines = [line.split() for line in path.read_text().splitlines()]
        except OSError:
            return 0
        return sum(int(value) for name, value in lines if name == "oom_kill")

    def _kind(self, controller: str) -> str | None:
        if (self.mount / controller / "cgroup.procs").exists():
            return "v1"
        with suppress(OSError):
            if self.hierarchy.kind == "v2" and controller in self._above("cgroup.controllers").read_text().split():
                return "v2"
        return None

    def _above(self, name: str) -> Path:
        return Path(self.hierarchy.root).parent / name

    def _path(self, controller: str, task: str) -> Path:
        root = self.mount / controller / self.name if self._kind(controller) == "v1" else Path(self.hierarchy.root)
        return root / task

    def _pass_on(self, controller: str) -> None:
        root = Path(self.hierarchy.root)
        for folder in (root.parent, root):
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")

    def _values(self, controller: str, limits: Limits) -> Iterator[tuple[str, str]]:
        is_v1 = self._kind(controller) == "v1"
        most = (limits.memory_max_mb or limits.memory_mb) << 20
        match controller:
            case "memory" if is_v1:
                yield "memory.limit_in_bytes", str(most)
                yield "memory.soft_limit_in_bytes", str(limits.memory_mb << 20)
            case "memory":
                yield "memory.max", str(most)
                yield "memory.low", str(limits.memory_mb << 20)
            case "cpu":
                shares = min(max(limits.cpu, _SHARES_MIN), _SHARES_MAX)
                weight = 1 + (shares - _SHARES_MIN) * 9999 // (_SHARES_MAX - _SHARES_MIN)
                yield ("cpu.shares", str(shares)) if is_v1 else ("cpu.weight", str(weight))
            case _:
                yield "pids.max", str(PIDS_MAX)

    def _limit_swap(self, task: str, limits: Limits) -> None:
        """Where the kernel counts it; a machine without that has no swap, or does not mind."""
        most = (limits.memory_max_mb or limits.memory_mb) << 20
        names = (("memory.memsw.limit_in_bytes", str(most)), ("memory.swap.max", "0"))
        for name, value in names:
            path = self._path("memory", task) / name
            if path.exists():
                path.write_text(value)
