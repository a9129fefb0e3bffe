"""The task's log files: kept small while it runs (agent/logs.py), forgotten with the alloc."""

from agent.hooks.base import TaskContext, TaskHook
from agent.logs import LogRotation
from agent.task_run import TaskRun

STREAMS = ("stdout", "stderr")


class LogsHook(TaskHook):
    name = "logs"

    def __init__(self, rotation: LogRotation) -> None:
        self._rotation = rotation

    async def started(self, context: TaskContext, run: TaskRun) -> None:
        limits = context.task.log_config
        for stream in STREAMS:
            stem = context.dirs.logs / f"{context.task.name}.{stream}"
            self._rotation.add(stem, limits.max_files, limits.max_file_size_mb << 20)

    async def updated(self, context: TaskContext, run: TaskRun) -> None:
        await self.started(context, run)

    async def dispose(self, context: TaskContext) -> None:
        for stream in STREAMS:
            self._rotation.discard(context.dirs.logs / f"{context.task.name}.{stream}")
