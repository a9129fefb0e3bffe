"""What is one running task to those that serve it from outside: services, checks, templates?

The task runner makes a TaskRun at each process start and hands it to TaskServices, which publishes the
task's (and, with its first task, the group's) services in Consul and runs its script checks, and to the hooks.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from checks.registration import TaskNetwork
from model.alloc import AllocId, DesiredAlloc
from model.job import Job, Task, TaskGroup


def _unheard(kind: str, message: str) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRun:
    """One process start of one task.

    started_s: loop time of this process start. execute: runs a command in the task's context, (argv,
    timeout in s) -> (exit code, output). restart: asks the task runner for a restart that counts under
    the restart policy, with this reason. bounce: for one that does not count. fail: ends it for good, as failed.
    signal: (name, reason); raises TaskRefused, DriverBusy. All of them mean this very process start: of a later one
    nothing is restarted or signalled. network: the task's own, None: it uses the machine's. tell: (type, message) is told
    in the task's history.
    """

    alloc: DesiredAlloc
    job: Job
    group: TaskGroup
    task: Task
    env: Mapping[str, str]
    started_s: float
    execute: Callable[[Sequence[str], float], Awaitable[tuple[int, bytes]]]
    restart: Callable[[str], None]
    bounce: Callable[[str], None]
    fail: Callable[[str], None]
    signal: Callable[[str, str], Awaitable[None]]
    network: TaskNetwork | None = None
    tell: Callable[[str, str], None] = _unheard


class TaskServices(Protocol):
    async def publish(self, run: TaskRun) -> None:
        """After each process start. Never raises for an unreachable Consul."""

    async def withdraw(self, alloc_id: AllocId, task_name: str) -> None:
        """Before the task is stopped. Bounded in time; never raises for an unreachable Consul."""
