"""The task's services: published after each process start, withdrawn before it is stopped and when it has ended."""

from agent.hooks.base import TaskContext, TaskHook
from agent.task_run import TaskRun, TaskServices


class ServicesHook(TaskHook):
    name = "services"

    def __init__(self, services: TaskServices) -> None:
        self._services = services

    async def started(self, context: TaskContext, run: TaskRun) -> None:
        if _has_services(context):
            await self._services.publish(run)

    async def updated(self, context: TaskContext, run: TaskRun) -> None:
        # Also without services: the version before may have had some.
        await self._services.publish(run)

    async def stopping(self, context: TaskContext) -> None:
        if _has_services(context):
            await self._services.withdraw(context.desired.id, context.task.name)

    async def ended(self, context: TaskContext) -> None:
        await self.stopping(context)


def _has_services(context: TaskContext) -> bool:
    return bool(context.task.services or context.group.services)
