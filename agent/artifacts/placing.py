"""From the agent's own place to where the task sees it, whatever the task's directory looks like by now.

Names are walked with descriptors that stay below the alloc's directory (agent/alloc_files.py); no link is followed at the
last step. Directories are merged, files replaced. All of it blocks.
"""

import errno
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.drivers.base import StartFailed
from agent.task_files import TaskFiles
from model.errors import TaskRefused

_NEW = ".drover-new"


def place(staged: Path, files: TaskFiles, parts: Sequence[str]) -> None:
    """A file as `parts` below the alloc's directory, a tree into it. Raises TaskRefused, StartFailed."""
    try:
        if staged.is_dir():
            with files.folder(parts) as folder:
                _merge(staged, folder)
        else:
            with files.folder(parts[:-1]) as folder:
                _move(staged, folder, parts[-1])
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise TaskRefused(f"{'/'.join(parts)!r} leads through a link or a file") from error
        raise StartFailed(f"{'/'.join(parts)}: {error.strerror}") from error


def _merge(staged: Path, folder: int) -> None:
    for one in sorted(staged.iterdir()):
        if one.is_symlink() or not one.is_dir():
            _move(one, folder, one.name)
            continue
        is_new = True
        try:
            os.mkdir(one.name, 0o700, dir_fd=folder)
        except FileExistsError:
            is_new = False
        inner = os.open(one.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if is_new:
                _give(one, inner)
            _merge(one, inner)
        finally:
            os.close(inner)


def _give(one: Path, descriptor: int) -> None:
    """Owner and permissions, by a descriptor: the name may be another's by now."""
    status = one.stat()
    os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, status.st_mode & 0o777)


def _move(one: Path, folder: int, name: str) -> None:
    try:
        os.rename(one, name, dst_dir_fd=folder)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(one, folder, name)  # into `secrets`, which is in memory


def _copy(one: Path, folder: int, name: str) -> None:
    new = f".{name[:200]}{_NEW}"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    try:
        if one.is_symlink():
            os.symlink(os.readlink(one), new, dir_fd=folder)
        else:
            how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(new, how, 0o600, dir_fd=folder), "wb") as out, one.open("rb") as file:
                shutil.copyfileobj(file, out)
                _give(one, out.fileno())
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with suppress(OSError):
            os.unlink(new, dir_fd=folder)
        raise
