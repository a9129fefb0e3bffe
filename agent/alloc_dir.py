"""Where are an alloc's files?

    <root>/<alloc id>/
      alloc/data alloc/logs alloc/tmp     shared by its tasks; NOMAD_ALLOC_DIR
      <task>/                             working directory
      <task>/local                        NOMAD_TASK_DIR
      <task>/secrets                      NOMAD_SECRETS_DIR, readable by its owner alone
      <task>/tmp

Nomad's layout, for people and tools look there. Task names were checked at submit, but a name that
leaves its directory is refused here once more.
"""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Protocol

from agent.drivers.base import TaskDirs
from model.alloc import AllocId
from model.errors import TaskRefused


class AllocDirs(Protocol):
    """Makes, names and removes directories. Two implementations: on disk, and none (NoDirs)."""

    def path(self, alloc_id: AllocId) -> Path: ...

    def task(self, alloc_id: AllocId, task_name: str) -> TaskDirs: ...

    def build_alloc(self, alloc_id: AllocId) -> None: ...

    def build_task(self, alloc_id: AllocId, task_name: str, user: str) -> None: ...

    async def remove(self, alloc_id: AllocId) -> None: ...


class DiskDirs:
    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, alloc_id: AllocId) -> Path:
        return self._root / _segment(alloc_id)

    def task(self, alloc_id: AllocId, task_name: str) -> TaskDirs:
        alloc = self.path(alloc_id)
        task = alloc / _segment(task_name)
        return TaskDirs(shared=alloc / "alloc", task=task, local=task / "local", secrets=task / "secrets")

    def build_alloc(self, alloc_id: AllocId) -> None:
        """Idempotent. Open to all, as Nomad's: tasks run as many users. The way in is `allocs`, 0711."""
        alloc = f"{self.path(alloc_id)}"
        if os.path.isdir(f"{alloc}/alloc/tmp"):
            return
        _make(alloc, 0o755)
        for name in ("alloc", "alloc/data", "alloc/logs", "alloc/tmp"):
            _make(f"{alloc}/{name}", 0o777)

    def build_task(self, alloc_id: AllocId, task_name: str, user: str) -> None:
        """Idempotent. `user` names who the task runs as; the secrets are theirs."""
        task = f"{self.path(alloc_id)}/{_segment(task_name)}"
        if os.path.isdir(f"{task}/secrets"):
            return
        for name, mode in (("", 0o777), ("/local", 0o777), ("/tmp", 0o777), ("/secrets", 0o700)):
            _make(task + name, mode)
        if user and os.geteuid() == 0:
            try:
                shutil.chown(f"{task}/secrets", user)
            except LookupError as error:
                raise TaskRefused(f"user {user!r} does not exist on this machine") from error

    async def remove(self, alloc_id: AllocId) -> None:
        """In a thread: it may hold a million files."""
        await asyncio.to_thread(shutil.rmtree, self.path(alloc_id), ignore_errors=True)


class NoDirs:
    """Names directories and makes none: for drivers that touch no files."""

    def path(self, alloc_id: AllocId) -> Path:
        return Path("/nonexistent") / alloc_id

    def task(self, alloc_id: AllocId, task_name: str) -> TaskDirs:
        alloc = self.path(alloc_id)
        task = alloc / task_name
        return TaskDirs(shared=alloc / "alloc", task=task, local=task / "local", secrets=task / "secrets")

    def build_alloc(self, alloc_id: AllocId) -> None: ...

    def build_task(self, alloc_id: AllocId, task_name: str, user: str) -> None: ...

    async def remove(self, alloc_id: AllocId) -> None: ...


def _make(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    if mode & 0o022:
        os.chmod(path, mode)  # mkdir's mode is cut by our umask


def _segment(name: str) -> str:
    if not name or "/" in name or name in (".", "..") or "\0" in name:
        raise TaskRefused(f"{name!r} cannot be the name of a directory")
    return name
