"""What must the agent still know after it was killed?

Three kinds of rows: the allocs it holds (the whole desired document, so that they run on without
Consul), the job versions they name, and each task's phase, history and handle. A row is written whole
and replaces the one before. There is no environment and no secret in any of them.

put() returns once the rows are durable: the intent to start must be before the start. note() returns
at once, for what could be found out again (a handle, an event); it is durable with the next put(), and
soon after in any case.

Two implementations: journal_sqlite.py on disk, MemoryJournal for tests and the simulator.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.decide.step import Phase
from agent.drivers.base import Handle
from model.alloc import AllocId, ClientStatus, DeploymentHealth, DesiredAlloc, TaskState
from model.job import Job
from model.wire import Document


class AllocRow(Document):
    """desired: as last read. ended_as: how it ended when its tasks do not tell: lost, or never begun."""

    desired: DesiredAlloc
    job_version: int  # the version that its tasks run now; desired may already name the next
    deployment_status: DeploymentHealth | None = None
    health_of: str = ""  # the deployment that deployment_status is about
    ended_as: ClientStatus | None = None
    description: str = ""
    is_cut_off: bool = False  # stopped for want of contact, as its group asks

    @property
    def key(self) -> str:
        return self.desired.id


class TaskRow(Document):
    """phase `waiting` with attempt > 0: a start was intended, and may or may not have happened."""

    alloc_id: AllocId
    task_name: str
    phase: Phase = Phase.WAITING
    attempt: int = 0
    state: TaskState = TaskState()
    handle: Handle | None = None
    restart_count: int = 0  # the restart policy's history
    restart_since_s: float = 0.0
    restart_at: int = 0  # ns since the epoch: when a backoff is over

    @property
    def key(self) -> str:
        return f"{self.alloc_id}/{self.task_name}"


Row = AllocRow | TaskRow | Job


def job_key(job: Job) -> str:
    return f"{job.namespace}/{job.id}/{job.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All rows, as read at the agent's start."""

    allocs: tuple[AllocRow, ...] = ()
    tasks: tuple[TaskRow, ...] = ()
    jobs: Mapping[str, Job] = field(default_factory=dict)


class Journal(Protocol):
    async def load(self) -> Contents: ...

    async def put(self, rows: Sequence[Row]) -> None:
        """Durable on return. Raises OSError when the disk refuses."""

    def note(self, row: Row) -> None:
        """Durable soon."""

    async def forget(self, allocs: Mapping[AllocId, Sequence[str]], jobs: Sequence[str]) -> None:
        """Drops allocs with their tasks (by name), and job versions (by job_key)."""

    async def close(self) -> None:
        """Writes what was noted. The journal may not be used afterwards."""


class MemoryJournal:
    """A journal that lives as long as the object: an agent killed and started again keeps it."""

    def __init__(self) -> None:
        self.allocs: dict[str, AllocRow] = {}
        self.tasks: dict[str, TaskRow] = {}
        self.jobs: dict[str, Job] = {}

    async def load(self) -> Contents:
        return Contents(
            allocs=tuple(self.allocs.values()), tasks=tuple(self.tasks.values()), jobs=dict(self.jobs)
        )

    async def put(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.note(row)

    def note(self, row: Row) -> None:
        match row:
            case AllocRow():
                self.allocs[row.key] = row
            case TaskRow():
                self.tasks[row.key] = row
            case Job():
                self.jobs[job_key(row)] = row

    async def forget(self, allocs: Mapping[AllocId, Sequence[str]], jobs: Sequence[str]) -> None:
        for alloc_id, names in allocs.items():
            self.allocs.pop(alloc_id, None)
            for name in names:
                self.tasks.pop(f"{alloc_id}/{name}", None)
        for key in jobs:
            self.jobs.pop(key, None)

    async def close(self) -> None:
        """Nothing to write."""
