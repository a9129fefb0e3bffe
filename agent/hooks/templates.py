"""The task's templates: rendered before each start, and kept as Consul and Vault have it while it runs (agent/templates)."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from agent.hooks.base import TaskContext, TaskHook
from agent.secrets import TaskSecrets
from agent.task_run import TaskRun
from agent.templates.task_templates import EVENT, TaskTemplates
from agent.templates.watching import Watches
from model.errors import TaskRefused

log = logging.getLogger(__name__)

# After something that is nobody's fault but ours or the machine's.
_AGAIN_S = 5.0

_TaskKey = tuple[str, str]


class TemplatesHook(TaskHook):
    """Entered for as long as tasks are kept: it owns a TaskGroup with one follower for each running task that has templates.

    secrets: None where no Vault is configured. aside: runs what blocks.
    """

    name = "template"

    def __init__(
        self,
        watches: Watches,
        secrets: TaskSecrets | None,
        *,
        now: Callable[[], datetime],
        rng: random.Random,
        aside: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        self._watches, self._secrets, self._now, self._rng, self._aside = watches, secrets, now, rng, aside
        self._tasks: dict[_TaskKey, TaskTemplates] = {}
        self._followers: dict[_TaskKey, asyncio.Task[None]] = {}
        self._stack = AsyncExitStack()
        self._group: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._watches)
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._group = None
        for follower in self._followers.values():
            follower.cancel()
        await self._stack.aclose()

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        if not context.task.templates:
            return {}
        self._end(context)  # of a process whose end is only being told
        return await self._of(context).prepare(context)

    async def started(self, context: TaskContext, run: TaskRun) -> None:
        self._end(context)
        if context.task.templates and self._group is not None:
            name = f"templates {context.desired.id[:8]}/{context.task.name}"
            self._followers[_key(context)] = self._group.create_task(self._follow(context, run), name=name)

    async def updated(self, context: TaskContext, run: TaskRun) -> None:
        await self.started(context, run)

    async def stopping(self, context: TaskContext) -> None:
        self._end(context)

    async def ended(self, context: TaskContext) -> None:
        self._end(context)

    async def over(self, context: TaskContext) -> None:
        self._end(context)
        self._tasks.pop(_key(context), None)

    async def dispose(self, context: TaskContext) -> None:
        self._end(context)
        self._tasks.pop(_key(context), None)

    def _of(self, context: TaskContext) -> TaskTemplates:
        known = self._tasks.get(_key(context))
        if known is None:
            known = TaskTemplates(self._watches, self._secrets, now=self._now, rng=self._rng, aside=self._aside)
            self._tasks[_key(context)] = known
        return known

    def _end(self, context: TaskContext) -> None:
        follower = self._followers.pop(_key(context), None)
        if follower is not None:
            follower.cancel()

    async def _follow(self, context: TaskContext, run: TaskRun) -> None:
        while True:
            try:
                return await self._of(context).follow(context, run)
            except TaskRefused as error:
                return context.say(EVENT, str(error))  # it runs on with what it has
            except Exception:
                log.exception("alloc %s, task %s: templates: going round again", context.desired.id, context.task.name)
                await asyncio.sleep(_AGAIN_S)


def _key(context: TaskContext) -> _TaskKey:
    return context.desired.id, context.task.name
