"""What a dispatch brought along: written into the task's local directory before each start."""

import base64
import os
from collections.abc import Mapping

from agent.drivers.base import StartFailed
from agent.hooks.base import TaskContext, TaskHook
from agent.task_files import files_of, owner_of
from jobspec.interpolate import interpolate
from model.errors import TaskRefused


class PayloadHook(TaskHook):
    """For tasks with a `dispatch_payload` block. What the task itself wrote there is written over, as with Nomad."""

    name = "dispatch_payload"

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        wanted, payload = context.task.dispatch_payload, context.job.payload
        if wanted is None or not context.job.dispatched:
            return {}
        task, env = context.task, context.env()
        parts = _parts(wanted.file)
        if parts[0] in ("", ".", ".."):
            raise TaskRefused(f"the payload's file {wanted.file!r} is not inside the task's local directory")
        owner = owner_of(interpolate(task.user, env.values), task.driver, None, None)
        # Readable by the task alone. Who a container runs as is for its image to say.
        mode = 0o644 if task.driver == "docker" else 0o600
        files = files_of(context, env.variables)
        try:
            files.write((task.name, context.dirs.local.name, *parts), base64.b64decode(payload or ""), mode, owner)
        except (OSError, ValueError) as error:
            raise StartFailed(f"cannot write the payload: {error}") from error
        return {}


def _parts(path: str) -> list[str]:
    return os.path.normpath(path.lstrip("/")).split("/")
