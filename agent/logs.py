"""How do log files stay small without a process for each task, and how are they read meanwhile?

A task writes straight into logs/<task>.stdout.<n>, opened for append; the highest number is the current
one. Once it is too large, its head is cut off under the living writer:

    copy the head's whole blocks to a hidden file      .main.stdout.head
    rename  main.stdout.3 -> main.stdout.4             the writer's descriptor goes with the file
    collapse the head of main.stdout.4                 fallocate: the kernel moves blocks, no byte is lost
    rename  .main.stdout.head -> main.stdout.3

Killed in between, the next agent finds the hidden file and finishes. Where the file system cannot collapse
(only ext4, xfs and f2fs can) the copy is of everything and the file is truncated: what is written between
the two calls is lost.

File and offset name no byte for long: the same one is at (3, 5 MB), then at (8, 0), then gone. So a reader goes
by a position in the whole stream, which no cut changes (LogStream); the agent that cuts is the one
that is asked for the logs, and a lock keeps its readers out between the two renames.

Each file is opened as log_files.py says, for its directory is the task's: what it put in a log's place is none.

One stat for each file when it should be full, and every five seconds while nothing is written, is all
that it costs.
"""

import asyncio
import ctypes
import errno
import logging
import os
import re
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from agent import log_files
from agent.log_files import LogFolder, NoLog

log = logging.getLogger(__name__)

# A growing file is looked at again when it should be full, but no sooner than this: so much more than its size may
# a steadily growing file hold. Half of it would wake an idle agent's processor twice as often for one busy task.
LOOK_S_MIN = 0.25
# A quiet file is looked at half as often each time. A task that is quiet and then writes 100 MB/s fills 500 MB
# until it is looked at; half of it would double what 600 quiet files cost: 0.5 ms of processor time a second.
LOOK_S_MAX = 5.0
# A growing one may grow faster from now on.
_GROWING_S_MAX = 1.0
_CHUNK = 1 << 20
_HELD_POLL_S = 0.002

_FALLOC_FL_COLLAPSE_RANGE = 0x08
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a stream. offset: in `file`, after them. position: in the stream, after them."""

    data: bytes
    file: Path
    offset: int
    position: int


@dataclass(slots=True, weakref_slot=True, eq=False)
class LogStream:
    """All files of one stream as one row of bytes. Get it from stream_of(): whoever cuts and whoever reads share it.

    A position counts from the first byte that was there when the object was made. dropped: how many bytes
    have been deleted since, so the position at which the lowest file begins.
    """

    stem: Path
    dropped: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    _current: Path | None = None  # the newest file that a reader saw

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Nothing is cut meanwhile: for a writer that names the current file anew each time. A cut takes 2 to 50 ms."""
        # The event loop does not wait for a disk, and the thread that cuts knows of no asyncio.Event.
        while not self.lock.acquire(blocking=False):  # noqa: ASYNC110
            await asyncio.sleep(_HELD_POLL_S)
        try:
            yield
        finally:
            self.lock.release()

    def exists(self) -> bool:
        return bool(numbers(self.stem))

    def mark(self) -> tuple[Path | None, int, int]:
        """Changes when there is something new to read; costs a stat (3 µs), so that a follower may look often.

        A cut gives the current file's name to another file, so no listing is needed to notice it.
        """
        if self._current is not None:
            with suppress(OSError):
                status = os.stat(self._current, follow_symlinks=False)
                return self._current, status.st_ino, status.st_size
        return None, 0, time.monotonic_ns()  # nobody knows: to be read

    def is_newest(self, file: Path) -> bool:
        """Whether its end is the stream's, as far as a reader has seen."""
        return file == self._current

    def bounds(self) -> tuple[int, int]:
        """The positions of the first byte that is still there and after the last one."""
        with self.lock:
            return self.dropped, self.dropped + sum(size for _, size in self._sizes())

    def read(self, position: int, bytes_max: int) -> Piece | None:
        """What follows the position, of one file; None at the end. What is deleted is skipped."""
        with self.lock:
            begin = self.dropped
            sizes = self._sizes()
            end = begin + sum(size for _, size in sizes)
            if position > end and sizes:
                # The task, or a rotation that cannot collapse, emptied the current file.
                position = end - sizes[-1][1]
            position = max(position, begin)
            for path, size in sizes:
                if position < begin + size:
                    return _read(path, position - begin, bytes_max, position)
                begin += size
        return None

    def _sizes(self) -> list[tuple[Path, int]]:
        """Every file, in the order they were written."""
        found = []
        with suppress(FileNotFoundError, NoLog), LogFolder(self.stem.parent) as folder:
            for number in _numbers(folder, self.stem):
                path = _numbered(self.stem, number)
                with suppress(FileNotFoundError, NoLog):
                    found.append((path, folder.size(path.name)))
        self._current = found[-1][0] if found else None
        return found


def _read(path: Path, offset: int, bytes_max: int, position: int) -> Piece | None:
    try:
        with LogFolder(path.parent) as folder, open(folder.open(path.name, os.O_RDONLY), "rb") as file:
            data = os.pread(file.fileno(), bytes_max, offset)
    except (FileNotFoundError, NoLog):
        return None  # the alloc was just forgotten, or a task is at work on it
    return Piece(data, path, offset + len(data), position + len(data)) if data else None


_streams: WeakValueDictionary[Path, LogStream] = WeakValueDictionary()


def stream_of(stem: Path) -> LogStream:
    """The stream of logs/<task>.stdout: the same object for all who hold it at one time. Whole: see finish_cut.

    To be called in the event loop's thread. Raises OSError when a half-done cut cannot be ended.
    """
    stream = _streams.get(stem)
    if stream is None:
        finish_cut(stem)
        stream = _streams[stem] = LogStream(stem)
    return stream


@dataclass(slots=True)
class _Watched:
    """One stream of one task. path: the current file; looked at next at `due_s`."""

    stream: LogStream
    files_max: int
    bytes_max: int
    path: Path
    size: int = -1
    seen_s: float = 0.0
    due_s: float = 0.0
    pause_s: float = LOOK_S_MIN


class LogRotation:
    """run() beside the NodeAgent; add and discard from its hook."""

    def __init__(self) -> None:
        self._watched: dict[Path, _Watched] = {}
        self._wake = asyncio.Event()

    def add(self, stem: Path, files_max: int, bytes_max: int) -> None:
        """stem: logs/<task>.stdout. Idempotent."""
        self._watched[stem] = _Watched(stream_of(stem), max(files_max, 1), max(bytes_max, 4096), current(stem))
        self._wake.set()

    def discard(self, stem: Path) -> None:
        self._watched.pop(stem, None)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            await self.look(loop.time())
            if not self._watched:
                await self._wake.wait()
            await asyncio.sleep(LOOK_S_MIN)  # one look for all that come due meanwhile
            due_s = min((watched.due_s for watched in self._watched.values()), default=0.0)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due_s):
                    await self._wake.wait()

    async def look(self, now_s: float) -> None:
        """Looks at what is due, and rotates what is too large, in a thread: collapsing waits for the disk."""
        for watched in list(self._watched.values()):
            if now_s < watched.due_s or not _is_too_large(watched, now_s):
                continue
            try:
                watched.path = await asyncio.to_thread(
                    rotate, watched.stream, watched.files_max, watched.bytes_max
                )
            except OSError as error:
                log.warning("%s cannot be rotated: %s", watched.stream.stem, error)
            watched.size = log_files.size(watched.path)


def _is_too_large(watched: _Watched, now_s: float) -> bool:
    """Sets when to look again, too."""
    size = log_files.size(watched.path)
    growth, span_s = size - watched.size, now_s - watched.seen_s
    if watched.size < 0 or growth < 0:
        watched.pause_s = LOOK_S_MIN
    elif growth == 0:
        watched.pause_s = min(watched.pause_s * 2, LOOK_S_MAX)
    else:
        full_s = max(watched.bytes_max - size, 0) * span_s / growth
        watched.pause_s = min(max(full_s, LOOK_S_MIN), _GROWING_S_MAX)
    watched.size, watched.seen_s = size, now_s
    watched.due_s = now_s + watched.pause_s
    return size >= watched.bytes_max


def numbers(stem: Path) -> list[int]:
    """The numbers of a stream's files, lowest first; whatever lies there under such a name counts."""
    with suppress(FileNotFoundError, NoLog), LogFolder(stem.parent) as folder:
        return _numbers(folder, stem)
    return []


def _numbers(folder: LogFolder, stem: Path) -> list[int]:
    pattern = re.compile(re.escape(stem.name) + r"\.(\d+)")
    return sorted(int(match[1]) for name in folder.names() if (match := pattern.fullmatch(name)))


def current(stem: Path) -> Path:
    """The file to append to."""
    found = numbers(stem)
    return _numbered(stem, found[-1] if found else 0)


def rotate(stream: LogStream, files_max: int, bytes_max: int) -> Path:
    """Cuts the current file down below bytes_max, keeps files_max files. Blocks. Returns the current file.

    Raises OSError, NoLog.
    """
    stem = stream.stem
    with stream.lock:
        finish_cut(stem)
    last = 0
    with suppress(FileNotFoundError), LogFolder(stem.parent) as folder:
        last = max(_numbers(folder, stem), default=0)
        with suppress(FileNotFoundError):
            while folder.size(_name(stem, last)) >= bytes_max:
                if not _cut(folder, stream, last, bytes_max):
                    break
                last += 1
        for number in _numbers(folder, stem)[:-files_max]:
            with stream.lock, suppress(FileNotFoundError):
                with suppress(NoLog):
                    stream.dropped += folder.size(_name(stem, number))
                folder.remove(_name(stem, number))
    return _numbered(stem, last)


def finish_cut(stem: Path) -> None:
    """Ends a cut that a killed agent left half done. Raises OSError."""
    with suppress(FileNotFoundError, NoLog), LogFolder(stem.parent) as folder:
        head = _head(stem)
        if head in folder.names() and (found := _numbers(folder, stem)):
            _finish_cut(folder, stem, found)


def _finish_cut(folder: LogFolder, stem: Path, found: list[int]) -> None:
    head, last = _head(stem), found[-1]
    if last == 0 or last - 1 in found:
        # The writer's file was not yet renamed: nothing has happened to it.
        folder.remove(head)
        return
    with open(folder.open(_name(stem, last), os.O_RDWR), "r+b") as live, open(folder.open(head, os.O_RDONLY), "rb") as copied:
        length = os.fstat(copied.fileno()).st_size
        if _starts_with(live.fileno(), copied.fileno(), length):
            if not _can_collapse(folder):
                folder.remove(head)  # not yet truncated: the writer's file still has it all
                return
            _collapse(live.fileno(), length)
    folder.rename(head, _name(stem, last - 1))


def _cut(folder: LogFolder, stream: LogStream, last: int, bytes_max: int) -> bool:
    """Moves the first blocks of file `last` into a file of their own; what is left becomes `last` + 1."""
    stem = stream.stem
    head, before, after = _head(stem), _name(stem, last), _name(stem, last + 1)
    with open(folder.open(before, os.O_RDWR), "r+b") as live, open(folder.create(head), "wb") as copy:
        block = os.fstatvfs(live.fileno()).f_bsize
        length = bytes_max // block * block
        if not length or os.fstat(live.fileno()).st_size <= length:
            # Collapsing a whole file is not allowed; a block more, and it will do.
            folder.remove(head)
            return False
        if _can_collapse(folder):
            _copy(live.fileno(), copy.fileno(), length)
            with stream.lock:
                folder.rename(before, after)
                _collapse(live.fileno(), length)
                folder.rename(head, before)
        else:
            with stream.lock:
                copied = 0
                while (size := os.fstat(live.fileno()).st_size) > copied:
                    _copy(live.fileno(), copy.fileno(), size - copied, copied)
                    copied = size
                folder.rename(before, after)
                os.ftruncate(live.fileno(), 0)
                folder.rename(head, before)
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


def _can_collapse(folder: LogFolder) -> bool:
    """Whether the folder's file system can; tried once for each on a file of its own."""
    device = os.fstat(folder.descriptor).st_dev
    if device not in _collapsible:
        probe = f".probe.{os.getpid()}"
        try:
            with open(folder.create(probe), "w+b") as file:
                block = os.fstatvfs(file.fileno()).f_bsize
                file.write(b"\0" * (2 * block))
                file.flush()
                _collapse(file.fileno(), block)
            _collapsible[device] = True
        except OSError as error:
            log.warning("%s: logs are rotated by copy and truncate here: %s", os.readlink(f"/proc/self/fd/{folder.descriptor}"), error)
            _collapsible[device] = False
        finally:
            folder.remove(probe)
    return _collapsible[device]


def _starts_with(live: int, head: int, length: int) -> bool:
    for offset in range(0, length, _CHUNK):
        count = min(_CHUNK, length - offset)
        if os.pread(live, count, offset) != os.pread(head, count, offset):
            return False
    return True


def _numbered(stem: Path, number: int) -> Path:
    return stem.with_name(_name(stem, number))


def _name(stem: Path, number: int) -> str:
    return f"{stem.name}.{number}"


def _head(stem: Path) -> str:
    return f".{stem.name}.head"
