"""What does a hook promise, and how do several run together?

A hook is one concern around a task: its directories, its logs, its services; later its secrets and its
templates. Every call is idempotent, for an agent that was killed calls it again. What must be undone
runs in reverse order, and one that fails does not keep the others from it.

    prepare   before each start; may add to the environment. TaskRefused: the task cannot run;
              StartFailed: not this time; StoreUnavailable, DriverBusy: try again, nobody's failure
    started   after each process start, and when a new agent has found the process running
    updated   the job changed under a running task
    stopping  before the kill signal, at a stop or restart by wish
    ended     after each end of the process
    over      the task is dead for good: nothing of it starts again
    dispose   the alloc is forgotten: leave nothing
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from agent.drivers.base import TaskDirs
from agent.env import TaskEnv
from agent.task_run import TaskRun
from model.alloc import DesiredAlloc
from model.job import Job, Task, TaskGroup

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """Which task a hook is asked about; dirs are the host's paths.

    env: the task's environment without what hooks add, looked up when asked. say: (type, message) is told in the task's
    history. waits: why it does not start, for as long as that is so; None: it does not wait any more.
    """

    desired: DesiredAlloc
    job: Job
    group: TaskGroup
    task: Task
    dirs: TaskDirs
    env: Callable[[], TaskEnv]
    say: Callable[[str, str], None]
    waits: Callable[[str | None], None]


class TaskHook:
    """Does nothing at every point; a hook overrides what it is about."""

    name = "hook"

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        return {}

    async def started(self, context: TaskContext, run: TaskRun) -> None:
        pass

    async def updated(self, context: TaskContext, run: TaskRun) -> None:
        pass

    async def stopping(self, context: TaskContext) -> None:
        pass

    async def ended(self, context: TaskContext) -> None:
        pass

    async def over(self, context: TaskContext) -> None:
        pass

    async def dispose(self, context: TaskContext) -> None:
        pass


async def prepare_all(hooks: Sequence[TaskHook], context: TaskContext) -> dict[str, str]:
    """The environment that the hooks add. The first that raises ends it; prepare is called again later."""
    env: dict[str, str] = {}
    for hook in hooks:
        env |= await hook.prepare(context)
    return env


async def tell_all(
    hooks: Sequence[TaskHook], context: TaskContext, call: Callable[[TaskHook], Awaitable[None]]
) -> None:
    """Calls every hook in order; what one raises is logged and keeps none of the others from it."""
    for hook in hooks:
        try:
            await call(hook)
        except Exception:
            log.exception(
                "alloc %s, task %s: hook %s failed", context.desired.id, context.task.name, hook.name
            )


async def undo_all(
    hooks: Sequence[TaskHook], context: TaskContext, call: Callable[[TaskHook], Awaitable[None]]
) -> None:
    """As tell_all, in reverse order."""
    await tell_all(tuple(reversed(hooks)), context, call)
