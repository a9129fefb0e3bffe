"""Where are an alloc's files?

    <root>/<alloc id>/
      alloc/data alloc/logs alloc/tmp     shared by its tasks; NOMAD_ALLOC_DIR
      <task>/                             working directory
      <task>/local                        NOMAD_TASK_DIR
      <task>/secrets                      NOMAD_SECRETS_DIR, readable by its owner alone; in memory where drover writes
                                          secrets into it
      <task>/tmp
    <root>/.fetching/<alloc id>/<task>    what is fetched for it and not yet whole; nobody's but the agent's

Nomad's layout, for people and tools look there. Task names were checked at submit, but a name that
leaves its directory is refused here once more.
"""

import asyncio
import logging
import os
import shutil
from pathlib import Path
from typing import Protocol

from agent import tmpfs
from agent.drivers.base import TaskDirs
from model.alloc import AllocId
from model.errors import TaskRefused

log = logging.getLogger(__name__)

# Of a task's secrets in memory: what is not written takes none.
SECRETS_MB_MAX = 16


class AllocDirs(Protocol):
    """Makes, names and removes directories. Two implementations: on disk, and none (NoDirs)."""

    def path(self, alloc_id: AllocId) -> Path: ...

    def task(self, alloc_id: AllocId, task_name: str) -> TaskDirs: ...

    def build_alloc(self, alloc_id: AllocId) -> None: ...

    def build_task(self, alloc_id: AllocId, task_name: str, user: str, *, is_contained: bool, has_secrets: bool) -> None: ...

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

    def build_task(self, alloc_id: AllocId, task_name: str, user: str, *, is_contained: bool, has_secrets: bool) -> None:
        """Idempotent, also after a reboot has taken what was in memory.

        user: who the task runs as; the secrets are theirs. is_contained: its directories are mounted into a container,
        whose user only the image knows: they are open to all there, and nobody else on the machine gets near them.
        has_secrets: drover will write some; without root, who may not mount, they have no such place.
        """
        task = f"{self.path(alloc_id)}/{_segment(task_name)}"
        is_mounted = has_secrets and os.geteuid() == 0
        if os.path.isdir(f"{task}/secrets") and (not is_mounted or os.path.ismount(f"{task}/secrets")):
            return
        own, secret = (0o700, 0o777) if is_contained else (0o777, 0o700)
        for name, mode in (("", own), ("/local", 0o777), ("/tmp", 0o777), ("/secrets", secret)):
            _make(task + name, mode)
        if is_mounted:
            tmpfs.mount(f"{task}/secrets", mode=secret, size_mb=SECRETS_MB_MAX)
        if user and not is_contained and os.geteuid() == 0:
            try:
                shutil.chown(f"{task}/secrets", user)
            except LookupError as error:
                raise TaskRefused(f"user {user!r} does not exist on this machine") from error

    async def remove(self, alloc_id: AllocId) -> None:
        """In a thread: it may hold a million files."""
        await asyncio.to_thread(remove_tree, self.path(alloc_id))
        await asyncio.to_thread(shutil.rmtree, fetching_dir(self.path(alloc_id)), ignore_errors=True)


class NoDirs:
    """Names directories and makes none: for drivers that touch no files."""

    def path(self, alloc_id: AllocId) -> Path:
        return Path("/nonexistent") / alloc_id

    def task(self, alloc_id: AllocId, task_name: str) -> TaskDirs:
        alloc = self.path(alloc_id)
        task = alloc / task_name
        return TaskDirs(shared=alloc / "alloc", task=task, local=task / "local", secrets=task / "secrets")

    def build_alloc(self, alloc_id: AllocId) -> None: ...

    def build_task(self, alloc_id: AllocId, task_name: str, user: str, *, is_contained: bool, has_secrets: bool) -> None: ...

    async def remove(self, alloc_id: AllocId) -> None: ...


def fetching_dir(alloc: Path) -> Path:
    """Where what is fetched for an alloc waits until it is whole: beside its directory, where tasks may name things as they like."""
    return alloc.parent / ".fetching" / alloc.name


def remove_tree(path: Path) -> None:
    """With what is mounted in it. Nothing of a tree goes whose secrets cannot be unmounted."""
    try:
        for secrets in path.glob("*/secrets"):
            tmpfs.unmount(secrets)
    except OSError as error:
        log.warning("%s stays: %s", path, error)
        return
    shutil.rmtree(path, ignore_errors=True)


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
