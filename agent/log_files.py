"""Which file is a task's log, and how does the agent open it without being led elsewhere?

A task may write in its log directory, and put a link, a fifo or a device in a log's place. The agent is root, and appends
to that name at the next start, cuts it, and reads it for whoever asks for the logs. So the directory is held by a descriptor
that no link led to, a name below it by one that opens nothing yet (O_PATH); only what is then seen to be a regular file
without a second name is opened, the same one, by way of /proc/self/fd. Everything else is no log (NoLog).

All functions block, for microseconds.
"""

import errno
import os
import stat as modes
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_APPEND | os.O_CLOEXEC


class NoLog(OSError):
    """Something else lies where a log should be: a task has put it there."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(errno.EINVAL, what, str(path))


class LogFolder:
    """A log directory, held open. Raises FileNotFoundError, and NoLog for a link."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.descriptor = os.open(path, _FOLDER)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise NoLog(path, "is no directory") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self.descriptor)

    def names(self) -> list[str]:
        return os.listdir(self.descriptor)

    def size(self, name: str) -> int:
        """Raises FileNotFoundError, NoLog."""
        return self._checked(name, os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)).st_size

    def open(self, name: str, flags: int) -> int:
        """A descriptor, the caller's to close. flags: how a file that is there is opened. Raises FileNotFoundError, NoLog."""
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            self._checked(name, os.fstat(found))
            return os.open(f"/proc/self/fd/{found}", flags | os.O_CLOEXEC)
        finally:
            os.close(found)

    def append(self, name: str) -> int:
        """A descriptor to append to, made if it is not there. Raises FileNotFoundError without the directory, NoLog."""
        with suppress(FileExistsError):
            return os.open(name, _NEW, 0o644, dir_fd=self.descriptor)
        return self.open(name, os.O_RDWR | os.O_APPEND)

    def create(self, name: str) -> int:
        """A descriptor of a new, empty file; what had this name goes. Raises OSError for a directory."""
        self.remove(name)
        return os.open(name, _NEW & ~os.O_APPEND, 0o644, dir_fd=self.descriptor)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """A link goes, not what it leads to."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)

    def _checked(self, name: str, status: os.stat_result) -> os.stat_result:
        if not modes.S_ISREG(status.st_mode):
            raise NoLog(self._path / name, "is no regular file")
        if status.st_nlink > 1:
            raise NoLog(self._path / name, "has a second name")
        return status


def append(path: Path) -> int:
    """A descriptor of one log file, to append to. Raises OSError, NoLog."""
    with LogFolder(path.parent) as folder:
        return folder.append(path.name)


def size(path: Path) -> int:
    """0 for what is no log, or not there."""
    with suppress(FileNotFoundError, NoLog), LogFolder(path.parent) as folder:
        return folder.size(path.name)
    return 0
