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
import errno
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from agent import folders, tmpfs
from agent.drivers.base import TaskDirs
from agent.users import user_of
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

    def inherit(self, alloc_id: AllocId, previous: AllocId, tasks: Mapping[str, bool]) -> None:
        """Moves what a sticky disk keeps from an ended alloc. tasks: {name: is_contained}."""

    def check_memory(self, alloc_id: AllocId, task_name: str) -> None:
        """Raises TaskRefused where the task's secrets would be on a disk."""

    def forget_secrets(self, alloc_id: AllocId, task_name: str) -> None: ...

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
        with self._made(alloc_id) as alloc, folders.made(alloc, "alloc", 0o777) as shared:
            for name in ("data", "logs", "tmp"):
                with folders.made(shared, name, 0o777):
                    pass

    def build_task(self, alloc_id: AllocId, task_name: str, user: str, *, is_contained: bool, has_secrets: bool) -> None:
        """Idempotent, also after a reboot has taken what was in memory. Raises StartFailed for what is no directory any more.

        user: who the task runs as; the secrets are theirs. is_contained: its directories are mounted into a container,
        whose user only the image knows: they are open to all there, and nobody else on the machine gets near them.
        has_secrets: drover may write some; who may not mount has no such place for them (check_memory).
        """
        own, secret = _own(is_contained), 0o777 if is_contained else 0o700
        with self._made(alloc_id) as alloc, folders.made(alloc, _segment(task_name), own) as task:
            for name, mode in (("local", 0o777), ("tmp", 0o777), ("secrets", secret)):
                with folders.made(task, name, mode):
                    pass
            if has_secrets:
                tmpfs.secure(self.task(alloc_id, task_name).secrets, mode=secret, size_mb=SECRETS_MB_MAX)
            if user and not is_contained and os.geteuid() == 0:
                with folders.made(task, "secrets", secret) as secrets:
                    os.fchown(secrets, user_of(user)[0], -1)

    def inherit(self, alloc_id: AllocId, previous: AllocId, tasks: Mapping[str, bool]) -> None:
        """alloc/data and each task's local, as Nomad. Idempotent: each is one rename, onto a directory that is empty still;
        one that is not has been moved, or was written to since. Nothing happens where the earlier alloc left nothing.
        """
        with suppress(FileNotFoundError), folders.found(self._root, _segment(previous)) as old, self._made(alloc_id) as new:
            with folders.made(new, "alloc", 0o777) as shared, folders.made(shared, "data", 0o777):
                _move(old, "alloc", "data", shared)
            for name, is_contained in tasks.items():
                with folders.made(new, _segment(name), _own(is_contained)) as task, folders.made(task, "local", 0o777):
                    _move(old, name, "local", task)

    @contextmanager
    def _made(self, alloc_id: AllocId) -> Iterator[int]:
        """A descriptor of the alloc's own directory."""
        with folders.opened(self._root) as root, folders.made(root, _segment(alloc_id), 0o755) as alloc:
            yield alloc

    def check_memory(self, alloc_id: AllocId, task_name: str) -> None:
        in_memory(self.task(alloc_id, task_name).secrets)

    def forget_secrets(self, alloc_id: AllocId, task_name: str) -> None:
        """What is in memory of a task that is dead for good; its other files stay. Idempotent."""
        _forget(self.task(alloc_id, task_name).secrets)

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

    def inherit(self, alloc_id: AllocId, previous: AllocId, tasks: Mapping[str, bool]) -> None: ...

    def check_memory(self, alloc_id: AllocId, task_name: str) -> None: ...

    def forget_secrets(self, alloc_id: AllocId, task_name: str) -> None: ...

    async def remove(self, alloc_id: AllocId) -> None: ...


def in_memory(path: Path) -> None:
    """Raises TaskRefused for a directory that is on a disk."""
    if not tmpfs.is_in_memory(path):
        raise TaskRefused(
            f"{path} is on a disk, where no secret may be: run the agent as root with CAP_SYS_ADMIN, or put its data_dir on a tmpfs"
        )


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


def _forget(secrets: Path) -> None:
    """A tmpfs goes with what it holds, also while somebody looks at it; where the data_dir is in memory, the files do."""
    try:
        tmpfs.unmount(secrets)
        if not secrets.is_symlink() and tmpfs.is_in_memory(secrets):
            for name in os.listdir(secrets):
                path = secrets / name
                path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path, ignore_errors=True)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s stays: %s", secrets, error)


def _own(is_contained: bool) -> int:
    """The mode of a task's own directory."""
    return 0o700 if is_contained else 0o777


def _move(old: int, above: str, name: str, new: int) -> None:
    """<old>/<above>/<name> to <new>/<name>. A link in its place is no directory, and stays."""
    try:
        descriptor = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=old)
    except OSError:
        return  # the earlier version had no such task
    try:
        os.rename(name, name, src_dir_fd=descriptor, dst_dir_fd=new)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR):
            raise
    finally:
        os.close(descriptor)


def _segment(name: str) -> str:
    if not name or "/" in name or name in (".", "..") or "\0" in name:
        raise TaskRefused(f"{name!r} cannot be the name of a directory")
    return name
