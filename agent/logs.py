"""How do log files stay small without a process for each task?

A task writes straight into logs/<task>.stdout.<n>, opened for append; the highest number is the current
one. Once it is too large, its head is cut off under the living writer:

    copy the head's whole blocks to a hidden file      .main.stdout.head
    rename  main.stdout.3 -> main.stdout.4             the writer's descriptor goes with the file
    collapse the head of main.stdout.4                 fallocate: the kernel moves blocks, no byte is lost
    rename  .main.stdout.head -> main.stdout.3

A reader that is at (n, offset) beyond the size of n goes on at (n + 1, offset - size of n). Killed in
between, the next agent finds the hidden file and finishes. Where the file system cannot collapse (only
ext4, xfs and f2fs can) the copy is of everything and the file is truncated: what is written between the two calls is lost.

One stat for each file every few seconds is all that it costs while nothing is written.
"""

import asyncio
import ctypes
import errno
import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

# A file is looked at this often while it grows, and less and less often while it does not: a task that
# suddenly writes 100 MB/s fills 2 GB until it is looked at again.
LOOK_S = 5.0
_LOOK_S_MAX = 20.0
_CHUNK = 1 << 20

_FALLOC_FL_COLLAPSE_RANGE = 0x08
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@dataclass(slots=True)
class _Watched:
    """One stream of one task. path: the current file; looked at next at `due_s`."""

    stem: Path
    files_max: int
    bytes_max: int
    path: Path
    size: int = -1
    due_s: float = 0.0
    pause_s: float = LOOK_S


class LogRotation:
    """run() beside the NodeAgent; add and discard from its hook."""

    def __init__(self) -> None:
        self._watched: dict[Path, _Watched] = {}

    def add(self, stem: Path, files_max: int, bytes_max: int) -> None:
        """stem: logs/<task>.stdout. Idempotent."""
        self._watched[stem] = _Watched(stem, max(files_max, 1), max(bytes_max, 4096), current(stem))

    def discard(self, stem: Path) -> None:
        self._watched.pop(stem, None)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look(asyncio.get_running_loop().time())

    async def look(self, now_s: float) -> None:
        """Looks at what is due, and rotates what is too large, in a thread: collapsing waits for the disk."""
        for watched in list(self._watched.values()):
            if now_s < watched.due_s or not _has_grown(watched, now_s):
                continue
            try:
                watched.path = await asyncio.to_thread(
                    rotate, watched.stem, watched.files_max, watched.bytes_max
                )
            except OSError as error:
                log.warning("%s cannot be rotated: %s", watched.stem, error)


def _has_grown(watched: _Watched, now_s: float) -> bool:
    """Whether the file is too large now; sets when to look again."""
    try:
        size = os.stat(watched.path).st_size
    except FileNotFoundError:
        size = 0
    is_quiet = size == watched.size
    watched.pause_s = min(watched.pause_s * 2, _LOOK_S_MAX) if is_quiet else LOOK_S
    watched.size = size
    watched.due_s = now_s + watched.pause_s
    return size >= watched.bytes_max


def numbers(stem: Path) -> list[int]:
    """The numbers of a stream's files, lowest first."""
    pattern = re.compile(re.escape(stem.name) + r"\.(\d+)")
    try:
        names = os.listdir(stem.parent)
    except FileNotFoundError:
        return []
    return sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))


def current(stem: Path) -> Path:
    """The file to append to."""
    found = numbers(stem)
    return _numbered(stem, found[-1] if found else 0)


def rotate(stem: Path, files_max: int, bytes_max: int) -> Path:
    """Cuts the current file down below bytes_max, keeps files_max files. Blocks. Returns the current file."""
    finish_cut(stem)
    found = numbers(stem)
    last = found[-1] if found else 0
    with suppress(FileNotFoundError):
        while os.stat(_numbered(stem, last)).st_size >= bytes_max:
            if not _cut(stem, last, bytes_max):
                break
            last += 1
    for number in numbers(stem)[:-files_max]:
        with suppress(FileNotFoundError):
            os.unlink(_numbered(stem, number))
    return _numbered(stem, last)


def finish_cut(stem: Path) -> None:
    """Ends a cut that a killed agent left half done."""
    head = _head(stem)
    found = numbers(stem)
    if not head.exists() or not found:
        return
    last = found[-1]
    if last == 0 or last - 1 in found:
        # The writer's file was not yet renamed: nothing has happened to it.
        head.unlink()
        return
    with open(_numbered(stem, last), "r+b") as live, open(head, "rb") as copied:
        length = os.fstat(copied.fileno()).st_size
        if _starts_with(live.fileno(), copied.fileno(), length):
            if not _can_collapse(stem.parent):
                head.unlink()  # not yet truncated: the writer's file still has it all
                return
            _collapse(live.fileno(), length)
    head.rename(_numbered(stem, last - 1))


def _cut(stem: Path, last: int, bytes_max: int) -> bool:
    """Moves the first blocks of file `last` into a file of their own; what is left becomes `last` + 1."""
    head = _head(stem)
    with open(_numbered(stem, last), "r+b") as live, open(head, "wb") as copy:
        block = os.fstatvfs(live.fileno()).f_bsize
        length = bytes_max // block * block
        if not length or os.fstat(live.fileno()).st_size <= length:
            # Collapsing a whole file is not allowed; a block more, and it will do.
            head.unlink()
            return False
        if _can_collapse(stem.parent):
            _copy(live.fileno(), copy.fileno(), length)
            os.rename(_numbered(stem, last), _numbered(stem, last + 1))
            _collapse(live.fileno(), length)
        else:
            copied = 0
            while (size := os.fstat(live.fileno()).st_size) > copied:
                _copy(live.fileno(), copy.fileno(), size - copied, copied)
                copied = size
            os.rename(_numbered(stem, last), _numbered(stem, last + 1))
            os.ftruncate(live.fileno(), 0)
    head.rename(_numbered(stem, last))
    return True


def _copy(source: int, target: int, length: int, offset: int = 0) -> None:
    end = offset + length
    while offset < end:
        count = os.sendfile(target, source, offset, min(_CHUNK, end - offset))
        if count == 0:
            raise OSError(errno.EIO, "the log became shorter while it was copied")
        offset += count


def _collapse(descriptor: int, length: int) -> None:
    if _libc.fallocate(descriptor, _FALLOC_FL_COLLAPSE_RANGE, 0, length) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_collapsible: dict[int, bool] = {}


def _can_collapse(folder: Path) -> bool:
    """Whether the folder's file system can; tried once for each on a file of its own."""
    device = os.stat(folder).st_dev
    if device not in _collapsible:
        probe = folder / f".probe.{os.getpid()}"
        try:
            with open(probe, "w+b") as file:
                block = os.fstatvfs(file.fileno()).f_bsize
                file.write(b"\0" * (2 * block))
                file.flush()
                _collapse(file.fileno(), block)
            _collapsible[device] = True
        except OSError as error:
            log.warning("%s: logs are rotated by copy and truncate here: %s", folder, error)
            _collapsible[device] = False
        finally:
            with suppress(FileNotFoundError):
                probe.unlink()
    return _collapsible[device]


def _starts_with(live: int, head: int, length: int) -> bool:
    for offset in range(0, length, _CHUNK):
        count = min(_CHUNK, length - offset)
        if os.pread(live, count, offset) != os.pread(head, count, offset):
            return False
    return True


def _numbered(stem: Path, number: int) -> Path:
    return stem.with_name(f"{stem.name}.{number}")


def _head(stem: Path) -> Path:
    return stem.with_name(f".{stem.name}.head")
