"""What a dispatch brought along: written into the task's local directory before each start."""

import base64
import os
import shutil
from collections.abc import Mapping

from agent.drivers.base import StartFailed
from agent.hooks.base import TaskContext, TaskHook
from model.errors import TaskRefused
from model.job import Task


class PayloadHook(TaskHook):
    """For tasks with a `dispatch_payload` block. What the task itself wrote there is written over, as with Nomad."""

    name = "dispatch_payload"

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        wanted, payload = context.task.dispatch_payload, context.job.payload
        if wanted is None or not context.job.dispatched:
            return {}
        local = context.dirs.local.resolve()
        path = (local / wanted.file.lstrip("/")).resolve()
        if path == local or not path.is_relative_to(local):  # a task before us may have put a link there
            raise TaskRefused(f"the payload's file {wanted.file!r} is not inside the task's local directory")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path.as_posix(), base64.b64decode(payload or ""), context.task)
        except LookupError as error:
            raise TaskRefused(f"user {context.task.user!r} does not exist on this machine") from error
        except (OSError, ValueError) as error:
            raise StartFailed(f"cannot write the payload: {error}") from error
        return {}


def _write(path: str, data: bytes, task: Task) -> None:
    """Readable by the task alone, and whole or not there. Who a container runs as is for its image to say."""
    new, is_contained = f"{path}.new", task.driver == "docker"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(data)
    if is_contained:
        os.chmod(new, 0o644)
    elif task.user and os.geteuid() == 0:
        shutil.chown(new, task.user)
    os.replace(new, path)
