"""The task's directories: made before its first start, removed with the alloc (alloc_dir.py knows the layout).

A sticky disk's are those of the alloc that it replaces, when that ran here; it has ended by now (turf.py).

What is in memory of them goes when the task is dead for good: its secrets are of no use to anybody any more.
"""

from collections.abc import Mapping

from agent.alloc_dir import AllocDirs
from agent.drivers.base import StartFailed
from agent.hooks.base import TaskContext, TaskHook
from agent.task_files import files_of
from agent.users import of_task
from jobspec.interpolate import interpolate


class DirsHook(TaskHook):
    name = "dirs"

    def __init__(self, dirs: AllocDirs) -> None:
        self._dirs = dirs

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        alloc_id = context.desired.id
        try:
            self._dirs.build_alloc(alloc_id)
            if context.group.ephemeral_disk.sticky and context.desired.previous_allocation:
                tasks = {one.name: one.driver == "docker" for one in context.group.tasks}
                self._dirs.inherit(alloc_id, context.desired.previous_allocation, tasks)
            task = context.task
            goes_in = _goes_into_secrets(context)
            has_secrets = goes_in or task.vault is not None or bool(task.templates)
            is_contained = task.driver == "docker"
            self._dirs.build_task(
                alloc_id, task.name, _user(context), is_contained=is_contained, has_secrets=has_secrets
            )
        except OSError as error:
            raise StartFailed(f"cannot build the task's directories: {error}") from error
        if goes_in:
            self._dirs.check_memory(alloc_id, task.name)
        return {}

    async def over(self, context: TaskContext) -> None:
        self._dirs.forget_secrets(context.desired.id, context.task.name)

    async def dispose(self, context: TaskContext) -> None:
        await self._dirs.remove(context.desired.id)


def _user(context: TaskContext) -> str:
    user = context.task.user
    return of_task(interpolate(user, context.env().values) if "${" in user else user, context.task.driver)


def _goes_into_secrets(context: TaskContext) -> bool:
    """Whether drover is to write anything into the task's secrets. Raises TaskRefused for a destination that is none."""
    task = context.task
    if task.vault is not None and not task.vault.disable_file:
        return True
    destinations = [*(one.dest_path for one in task.templates), *(one.relative_dest for one in task.artifacts)]
    if not destinations:
        return False
    env = context.env()
    files = files_of(context, env.variables)
    secrets = (context.dirs.task.name, context.dirs.secrets.name)
    return any(files.parts(one, env.values)[:2] == secrets for one in destinations)
