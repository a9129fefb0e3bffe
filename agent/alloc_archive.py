"""How does what an alloc would take along to another node become one tar file?

`alloc/data` and each task's `local`, as Nomad's snapshot of an alloc: the rest is made anew where it starts. Written
while it is read (no file on disk, one chunk in memory), by a thread into a pipe whose reader sets the pace.
Walked by descriptors that follow no link, so that nothing swapped in meanwhile leads outside; links are kept as links,
fifos, sockets and devices left out.
"""

import os
import stat as modes
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol, cast


class _Readable(Protocol):
    def read(self, count: int = -1, /) -> bytes: ...


def write(root: Path, tasks: Sequence[str], out: IO[bytes]) -> None:
    """Blocks. Raises OSError, BrokenPipeError when nobody reads on."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for parts in (("alloc", "data"), *((task, "local") for task in tasks)):
            try:
                folder = _folder(root, parts)
            except OSError:
                continue  # no such directory, or something else in its place
            try:
                _add(tar, "/".join(parts), folder)
            finally:
                os.close(folder)


def _folder(root: Path, parts: Sequence[str]) -> int:
    how = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here = os.open(root, how)
    for name in parts:
        try:
            there = os.open(name, how, dir_fd=here)
        finally:
            os.close(here)
        here = there
    return here


def _add(tar: tarfile.TarFile, prefix: str, folder: int) -> None:
    tar.addfile(_entry(prefix, os.fstat(folder)))
    for above, folders, files, descriptor in _walk(folder):
        for name in (*folders, *files):
            path = "/".join(part for part in (prefix, above, name) if part)
            with suppress(FileNotFoundError):
                _add_one(tar, path, name, descriptor)


def _walk(folder: int) -> Iterator[tuple[str, list[str], list[str], int]]:
    """As os.fwalk, which compares what it opens with what it saw."""
    for above, folders, files, descriptor in os.fwalk(".", dir_fd=folder):
        yield "" if above == "." else os.path.normpath(above), folders, files, descriptor


def _add_one(tar: tarfile.TarFile, path: str, name: str, above: int) -> None:
    status = os.stat(name, dir_fd=above, follow_symlinks=False)
    if modes.S_ISLNK(status.st_mode):
        entry = _entry(path, status)
        entry.linkname = os.readlink(name, dir_fd=above)
        tar.addfile(entry)
    elif modes.S_ISDIR(status.st_mode):
        tar.addfile(_entry(path, status))
    elif modes.S_ISREG(status.st_mode):
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
        with open(descriptor, "rb", buffering=0) as file:
            status = os.fstat(descriptor)
            if modes.S_ISREG(status.st_mode):
                tar.addfile(_entry(path, status), cast("IO[bytes]", _Whole(file)))


def _entry(path: str, status: os.stat_result) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.mode, entry.mtime, entry.uid, entry.gid = modes.S_IMODE(status.st_mode), status.st_mtime, status.st_uid, status.st_gid
    if modes.S_ISDIR(status.st_mode):
        entry.type = tarfile.DIRTYPE
    elif modes.S_ISLNK(status.st_mode):
        entry.type = tarfile.SYMTYPE
    else:
        entry.size = status.st_size
    return entry


class _Whole:
    """A file that may become shorter while it is read; its entry already says how long it is. The rest is zeros."""

    def __init__(self, file: _Readable) -> None:
        self._file = file

    def read(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count and (piece := self._file.read(count - len(data))):
            data += piece
        return bytes(data) + b"\0" * (count - len(data))
