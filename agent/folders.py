"""How is a directory made, or mounted on, where a task may have put something else?

Name by name, each below the descriptor of the one above, and no link is followed: root's mkdir, chown and mount would go
wherever a link leads. What is no directory makes the start fail.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from agent.drivers.base import StartFailed

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a directory that is nobody's but the agent's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def found(root: Path, name: str) -> Iterator[int]:
    """A descriptor of the directory `name` below root. Raises FileNotFoundError, OSError."""
    with opened(root) as above:
        descriptor = os.open(name, _FOLDER, dir_fd=above)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def made(above: int, name: str, mode: int) -> Iterator[int]:
    """A descriptor of the directory `name` below `above`, made if it is not there. Raises StartFailed for what is none."""
    is_new = True
    try:
        os.mkdir(name, mode, dir_fd=above)
    except FileExistsError:
        is_new = False
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=above)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            path = f"{os.readlink(f'/proc/self/fd/{above}')}/{name}"
            raise StartFailed(f"{path} is no directory: a task has put something else there") from error
        raise
    try:
        if is_new and mode & 0o022:
            os.fchmod(descriptor, mode)  # mkdir's mode is cut by our umask
        yield descriptor
    finally:
        os.close(descriptor)


def make(root: Path, names: Sequence[str]) -> None:
    """A path below root, each directory on the way included. Raises StartFailed, OSError."""
    with opened(root) as descriptor:
        _make(descriptor, names)


def _make(above: int, names: Sequence[str]) -> None:
    if names:
        with made(above, names[0], 0o755) as descriptor:
            _make(descriptor, names[1:])
