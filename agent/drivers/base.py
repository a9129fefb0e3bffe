"""What does every driver promise?

A driver starts, finds again, watches and ends the thing that a task is: a process group, a container.
It knows nothing of jobs, policies or Consul. Its promises, which the whole agent is built on:

- start() is idempotent for one (alloc, task, attempt): whoever calls it twice, even from two lives of
  the agent, gets the same running thing. The caller has made its intent durable before.
- recover() finds a thing by (alloc, task, attempt) alone; a handle's details are only short cuts.
- What it starts lives on when the agent ends or is killed, and its exit code is not lost meanwhile.

Errors are sorted by what the task runner does: DriverBusy: try again, no failure of the task.
TaskRefused: the task cannot run as written. StartFailed: this start failed, another may not.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from checks.registration import TaskNetwork
from model.alloc import AllocatedPort, AllocId
from model.errors import TaskRefused
from model.job import Resources
from model.node import DriverInfo
from model.wire import Document


class StartFailed(TaskRefused):
    """This start failed (an image that could not be pulled); counted under the restart policy."""


class Handle(Document):
    """Names a started thing. Kept in the journal: holds no environment and no secret.

    details: the driver's own notes (a pid, a container's id). boot_id: of the machine when it was started.
    """

    driver: str
    alloc_id: AllocId
    task_name: str
    attempt: int
    boot_id: str = ""
    details: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDirs:
    """An alloc's directories as the agent sees them."""

    shared: Path  # <alloc>/alloc, NOMAD_ALLOC_DIR
    task: Path  # <alloc>/<task>, the working directory
    local: Path  # NOMAD_TASK_DIR
    secrets: Path  # NOMAD_SECRETS_DIR

    @property
    def logs(self) -> Path:
        return self.shared / "logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDirs:
    """An alloc's directories by the paths that the task itself uses."""

    alloc: str
    local: str
    secrets: str


def same_dirs(dirs: TaskDirs) -> SeenDirs:
    """For drivers whose tasks see the host's file system."""
    return SeenDirs(alloc=str(dirs.shared), local=str(dirs.local), secrets=str(dirs.secrets))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A directory of the machine that the task sees at `target`. propagation: the kernel's word (rprivate, rslave,
    rshared) for whether what is mounted below it is seen on the other side."""

    source: str
    target: str
    is_read_only: bool = False
    propagation: str = "rprivate"


def _unheard(message: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStart:
    """All that a driver needs to start a task; config and env are already interpolated.

    core_mhz: what one of the machine's cores counts for, 0: not known.
    cores: ids of those that it has to itself, empty for a share of all. resources.cpu is what they count for.
    binds: what a driver that cannot show the task another file system refuses.
    say: tells the task's history what takes so long ("Downloading image ...").
    """

    alloc_id: AllocId
    task_name: str
    attempt: int
    config: Mapping[str, Any]
    env: Mapping[str, str]
    dirs: TaskDirs
    stdout: Path  # opened for append
    stderr: Path
    resources: Resources
    user: str = ""
    ports: tuple[AllocatedPort, ...] = ()
    cores: tuple[int, ...] = ()
    core_mhz: int = 0
    binds: tuple[Bind, ...] = ()
    labels: Mapping[str, str] = field(
        default_factory=dict
    )  # job, group and node, for whoever looks at the engine
    say: Callable[[str], None] = _unheard


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitResult:
    """How a task ended. error: why that is not known exactly, or empty. ended_at: epoch seconds, 0: just now."""

    code: int = 0
    signal: int = 0
    oom_killed: bool = False
    error: str = ""
    ended_at: float = 0.0

    @property
    def is_success(self) -> bool:
        return not (self.code or self.signal or self.oom_killed or self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStats:
    """What a task uses just now. cpu_s: processor time since it started, user and system."""

    cpu_s: float = 0.0
    memory_bytes: int = 0
    pids: tuple[int, ...] = ()


class ExecSession(Protocol):
    """A command that somebody runs beside a task, and watches."""

    def output(self) -> AsyncIterator[tuple[str, bytes]]:
        """("stdout" or "stderr", bytes) as they come, read no faster than they are taken; ends with the command."""

    async def write(self, data: bytes) -> None:
        """To its standard input; waits while the command does not read. Nothing happens once it has ended."""

    async def end_input(self) -> None: ...

    async def resize(self, height: int, width: int) -> None:
        """Of its terminal, if it has one."""

    async def ended(self) -> int:
        """Its exit code, 128 + the signal that ended it; to be asked once its output has ended."""


class Driver(Protocol):
    @property
    def name(self) -> str: ...

    def seen_dirs(self, dirs: TaskDirs) -> SeenDirs:
        """The paths to name in NOMAD_ALLOC_DIR and its like."""

    async def fingerprint(self) -> DriverInfo:
        """Whether tasks can be started here, and with what. Never raises."""

    async def start(self, task: TaskStart) -> Handle: ...

    async def recover(self, handle: Handle) -> bool:
        """Whether the thing runs, or has ended with a result that wait() will give. Raises DriverBusy."""

    async def wait(self, handle: Handle) -> ExitResult:
        """Returns when the thing has ended. Raises DriverBusy."""

    async def signal(self, handle: Handle, signal: str) -> None:
        """Sends a signal ("SIGHUP") to the main process; nothing happens when it has ended."""

    async def stop(self, handle: Handle, signal: str, timeout_s: float) -> None:
        """Asks it to end, then ends it and all that it started. Returns once nothing of it runs.

        signal: empty for the driver's default; an unknown one does not keep it from ending.
        """

    async def destroy(self, handle: Handle) -> None:
        """Removes all traces of an ended thing; ends it first if it still runs."""

    async def execute(self, handle: Handle, argv: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
        """Runs a command where the task runs. (exit code, output, both streams, bounded)."""

    def session(
        self, handle: Handle, argv: Sequence[str], *, is_tty: bool
    ) -> AbstractAsyncContextManager[ExecSession]:
        """Runs a command where the task runs, as its user. On leaving, all that it started and that stayed in its
        session is ended. Entering raises TaskRefused, StartFailed, DriverBusy."""

    async def stats(self, handle: Handle) -> TaskStats: ...

    async def network(self, handle: Handle) -> TaskNetwork | None:
        """The running task's own; None: it uses the machine's, or has ended. Raises DriverBusy."""
