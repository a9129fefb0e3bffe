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

from agent.alloc_files import opened
from agent.drivers.base import StartFailed
from model.errors import TaskRefused

_NEW = ".drover-new"


def place(staged: Path, alloc: Path, parts: Sequence[str]) -> None:
    """A file as `parts` below the alloc's directory, a tree into it. Raises TaskRefused, StartFailed."""
    root = os.open(alloc, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        is_tree = staged.is_dir() and not staged.is_symlink()
        folder = _folder(root, parts if is_tree else parts[:-1])
        try:
            if is_tree:
                _merge(staged, folder)
            else:
                _move(staged, folder, parts[-1])
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP, errno.ENOTDIR):
            raise TaskRefused(f"{'/'.join(parts)!r} leads out of the allocation's directory, or through a file") from error
        raise StartFailed(f"{'/'.join(parts)}: {error.strerror}") from error
    finally:
        os.close(root)


def chown(tree: Path, uid: int, gid: int) -> None:
    """All of it, links themselves and not what they lead to."""
    os.chown(tree, uid, gid, follow_symlinks=False)
    if tree.is_dir() and not tree.is_symlink():
        for one in tree.iterdir():
            chown(one, uid, gid)


def _folder(root: int, parts: Sequence[str]) -> int:
    here = os.dup(root)
    for number, name in enumerate(parts):
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=here)
            there = opened(root, parts[: number + 1], may_cross=True)
        finally:
            os.close(here)
        here = there
    return here


def _merge(staged: Path, folder: int) -> None:
    for one in sorted(staged.iterdir()):
        if one.is_symlink() or not one.is_dir():
            _move(one, folder, one.name)
            continue
        mode = one.stat().st_mode & 0o777
        with suppress(FileExistsError):
            os.mkdir(one.name, mode, dir_fd=folder)
            os.chmod(one.name, mode | 0o700, dir_fd=folder)
            status = one.stat()
            os.chown(one.name, status.st_uid, status.st_gid, dir_fd=folder, follow_symlinks=False)
        inner = os.open(one.name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            _merge(one, inner)
        finally:
            os.close(inner)


def _move(one: Path, folder: int, name: str) -> None:
    try:
        os.rename(one, name, dst_dir_fd=folder)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(one, folder, name)  # into `secrets`, which is in memory


def _copy(one: Path, folder: int, name: str) -> None:
    new = f"{name[:200]}{_NEW}"
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    if one.is_symlink():
        os.symlink(os.readlink(one), new, dir_fd=folder)
    else:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        status = one.stat()
        with open(descriptor, "wb") as out, one.open("rb") as file:
            shutil.copyfileobj(file, out)
            os.fchown(out.fileno(), status.st_uid, status.st_gid)
            os.fchmod(out.fileno(), status.st_mode & 0o777)
    os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
