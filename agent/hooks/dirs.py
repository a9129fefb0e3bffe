"""The task's directories: made before its first start, removed with the alloc (alloc_dir.py knows the layout)."""

from collections.abc import Mapping

from agent.alloc_dir import AllocDirs
from agent.drivers.base import StartFailed
from agent.hooks.base import TaskContext, TaskHook


class DirsHook(TaskHook):
    name = "dirs"

    def __init__(self, dirs: AllocDirs) -> None:
        self._dirs = dirs

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        alloc_id = context.desired.id
        try:
            self._dirs.build_alloc(alloc_id)
            task = context.task
            has_secrets = task.vault is not None or bool(task.templates)
            is_contained = task.driver == "docker"
            self._dirs.build_task(
                alloc_id, task.name, task.user, is_contained=is_contained, has_secrets=has_secrets
            )
        except OSError as error:
            raise StartFailed(f"cannot build the task's directories: {error}") from error
        return {}

    async def dispose(self, context: TaskContext) -> None:
        await self._dirs.remove(context.desired.id)
