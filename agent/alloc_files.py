"""How is a file of an alloc read, and never one that is not the alloc's?

Tasks write below the alloc's directory what they like, links and fifos too, and may swap one for another while it is
looked at. So no path is checked and opened afterwards: the kernel walks it once, from a descriptor of the alloc's
directory (openat2, RESOLVE_BENEATH and RESOLVE_NO_XDEV), and what it found is held by a descriptor that opens nothing
yet (O_PATH). Only when that is seen to be a regular file or a directory is it opened to be read; the same one, by
way of /proc/self/fd. So no fifo blocks, and no device notices.

A link is followed when it is relative and stays inside. Where the kernel lacks openat2 (before 5.6, or behind a
strict seccomp filter) none is followed.

A task's `secrets` are not read, by whatever way they are reached.

All functions block: they belong in a thread.
"""

import ctypes
import errno
import os
import stat as modes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from model.errors import TaskRefused

# Nomad has no limit; the answer for so many has about 20 MB.
ENTRIES_MAX = 100_000
# As Go's http.DetectContentType: what it looks at.
_SNIFFED_BYTES = 512

_SYS_OPENAT2 = 437  # on every architecture
_RESOLVE_NO_XDEV, _RESOLVE_NO_MAGICLINKS, _RESOLVE_BENEATH = 0x01, 0x02, 0x08
_libc = ctypes.CDLL(None, use_errno=True)
# A path that is renamed while `..` of a link is walked; the next try is usually alone.
_TRIES_MAX = 100


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class PathEscapes(TaskRefused):
    def __init__(self) -> None:
        super().__init__("Path escapes the alloc directory")


class SecretFile(TaskRefused):
    def __init__(self, path: str) -> None:
        super().__init__(f"Reading secret file prohibited: {path}")


class Unreadable(TaskRefused):
    """There is something, and it cannot be read in this way."""


class NotThere(Unreadable):
    """There is no such file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInfo:
    """mode: as Go writes it (`drwxr-xr-x`). modified: RFC 3339. content_type: of a file that was looked into."""

    name: str
    is_dir: bool
    size: int
    mode: str
    modified: str
    content_type: str = ""


class AllocFiles:
    """The directory of one alloc. use_openat2: False walks as on an old kernel."""

    def __init__(self, root: Path, *, use_openat2: bool = True) -> None:
        self._root = root
        self._use_openat2 = use_openat2

    def stat(self, path: str) -> FileInfo:
        """Links are followed. Raises PathEscapes, SecretFile (for what lies in a secrets directory), Unreadable."""
        with self._found(path, "stat") as found:
            status = os.fstat(found)
            name = os.path.basename(os.path.normpath(f"/{path}")) or self._root.name
            kind = "" if modes.S_ISDIR(status.st_mode) else _content_type(name, found, status)
            return _info(name, status, kind)

    def ls(self, path: str) -> Sequence[FileInfo]:
        """By name; links as what they are. Raises as stat does, and Unreadable for what is no directory."""
        with self._found(path, "open", is_read=True) as found:
            if not modes.S_ISDIR(os.fstat(found).st_mode):
                raise Unreadable(f"readdirent {path}: not a directory")
            folder = _reopened(found, os.O_DIRECTORY, path)
        try:
            entries: list[FileInfo] = []
            with os.scandir(folder) as listed:
                for entry in listed:
                    if len(entries) == ENTRIES_MAX:
                        raise Unreadable(f"{path} has more than {ENTRIES_MAX} entries")
                    try:
                        entries.append(_info(_text(entry.name), entry.stat(follow_symlinks=False)))
                    except FileNotFoundError:
                        continue  # removed just now
        finally:
            os.close(folder)
        return sorted(entries, key=lambda entry: entry.name)

    def open(self, path: str) -> int:
        """A descriptor of a regular file, to be read and closed by the caller.

        Raises PathEscapes, SecretFile, Unreadable (a directory, a fifo or a device, too).
        """
        with self._found(path, "stat", is_read=True) as found:
            status = os.fstat(found)
            if modes.S_ISDIR(status.st_mode):
                raise Unreadable(f'file "{path}" is a directory')
            if not modes.S_ISREG(status.st_mode):
                raise Unreadable(f'file "{path}" is no regular file')
            return _reopened(found, 0, path)

    def same(self, path: str, descriptor: int) -> bool:
        """Whether the path still leads to the open file."""
        try:
            with self._found(path, "stat") as found:
                return os.path.samestat(os.fstat(found), os.fstat(descriptor))
        except TaskRefused:
            return False

    @contextmanager
    def _found(self, path: str, verb: str, *, is_read: bool = False) -> Iterator[int]:
        """An O_PATH descriptor. is_read: a secrets directory itself is refused, too."""
        parts = _parts(path)
        _check_secret(parts, path, is_read=is_read)
        try:
            root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _told(error, verb, path) from error
        try:
            try:
                found = opened(root, parts, use_openat2=self._use_openat2)
            except OSError as error:
                if error.errno == errno.EXDEV:
                    raise PathEscapes from error
                raise _told(error, verb, path) from error
            try:
                # Where the links led: both names as the kernel has them now.
                above, here = (os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in (root, found))
                _check_secret(_parts(here.removeprefix(above)), path, is_read=is_read)
                yield found
            finally:
                os.close(found)
        finally:
            os.close(root)


def _parts(path: str) -> list[str]:
    """The names on the way from the alloc's directory. Raises PathEscapes, by the letters alone."""
    try:
        is_name = "\0" not in path and bool(os.fsencode(path))
    except UnicodeEncodeError:
        is_name = False
    if path and not is_name:
        raise Unreadable(f"stat {path!a}: invalid argument")
    parts: list[str] = []
    for name in path.split("/"):
        if name == "..":
            if not parts:
                raise PathEscapes
            parts.pop()
        elif name not in ("", "."):
            parts.append(name)
    return parts


def _check_secret(parts: Sequence[str], path: str, *, is_read: bool) -> None:
    """<task>/secrets/…; the directory itself may be seen, but not looked into."""
    if len(parts) > 1 and parts[1] == "secrets" and (is_read or len(parts) > 2):
        raise SecretFile(path)


def opened(root: int, parts: Sequence[str], *, use_openat2: bool = True, may_cross: bool = False) -> int:
    """An O_PATH descriptor of what lies below `root`, itself a descriptor; links that stay below it are followed.

    may_cross: also onto another file system. Raises OSError; EXDEV for what leads outside.
    """
    if use_openat2:
        resolve = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | (0 if may_cross else _RESOLVE_NO_XDEV)
        how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, resolve)
        name = os.fsencode("/".join(parts) or ".")
        for _ in range(_TRIES_MAX):
            found = int(_libc.syscall(_SYS_OPENAT2, root, name, ctypes.byref(how), ctypes.sizeof(how)))
            if found >= 0:
                return found
            if ctypes.get_errno() != errno.EAGAIN:
                break
        number = ctypes.get_errno()
        if number not in (errno.ENOSYS, errno.EPERM):
            raise OSError(number, os.strerror(number))
    return _walked(root, parts, may_cross=may_cross)


def _walked(root: int, parts: Sequence[str], *, may_cross: bool) -> int:
    """Name by name, no link followed."""
    device = os.fstat(root).st_dev
    here = os.dup(root)
    try:
        for name in parts:
            there = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = there
            status = os.fstat(here)
            if modes.S_ISLNK(status.st_mode):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            if status.st_dev != device and not may_cross:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    except BaseException:
        os.close(here)
        raise
    return here


def _reopened(found: int, flags: int, path: str) -> int:
    """The same file, to be read. Not waited for, whoever holds a lease on it."""
    how = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | flags
    try:
        return os.open(f"/proc/self/fd/{found}", how)
    except OSError as error:
        raise _told(error, "open", path) from error


def _told(error: OSError, verb: str, path: str) -> Unreadable:
    """As Go says it."""
    words = f"{verb} {path}: {os.strerror(error.errno or 0).lower()}"
    return NotThere(words) if error.errno in (errno.ENOENT, errno.ENOTDIR) else Unreadable(words)


def _text(name: str) -> str:
    """A name that is no UTF-8 has its odd bytes replaced: JSON holds no others."""
    return os.fsencode(name).decode("utf-8", "replace")


def _info(name: str, status: os.stat_result, content_type: str = "") -> FileInfo:
    return FileInfo(
        name=name,
        is_dir=modes.S_ISDIR(status.st_mode),
        size=status.st_size,
        mode=go_mode(status.st_mode),
        modified=_rfc3339(status.st_mtime_ns),
        content_type=content_type,
    )


_LETTERS = (
    (modes.S_ISDIR, "d"),
    (modes.S_ISLNK, "L"),
    (modes.S_ISBLK, "D"),
    (modes.S_ISCHR, "Dc"),
    (modes.S_ISFIFO, "p"),
    (modes.S_ISSOCK, "S"),
)
_BITS = ((modes.S_ISUID, "u"), (modes.S_ISGID, "g"), (modes.S_ISVTX, "t"))


def go_mode(mode: int) -> str:
    """`drwxrwxrwt` of ls is `dtrwxrwxrwx` in Go."""
    kind = next((letters for is_kind, letters in _LETTERS if is_kind(mode)), "")
    head, tail = kind[:1], kind[1:]
    head += "".join(letter for bit, letter in _BITS[:2] if mode & bit) + tail
    head += _BITS[2][1] if mode & modes.S_ISVTX else ""
    rights = "".join(letter if mode & (1 << (8 - place)) else "-" for place, letter in enumerate("rwxrwxrwx"))
    return (head or "-") + rights


def _rfc3339(moment_ns: int) -> str:
    whole = datetime.fromtimestamp(moment_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{moment_ns % 1_000_000_000:09d}".rstrip("0")
    return f"{whole}{'.' if fraction else ''}{fraction}Z"


_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"\x1f\x8b\x08", "application/x-gzip"),
    (b"PK\x03\x04", "application/zip"),
)
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\f\r\x1b")


def _content_type(name: str, found: int, status: os.stat_result) -> str:
    """What Nomad's web UI goes by to show a file."""
    if name.endswith(".json"):
        return "application/json"
    if not modes.S_ISREG(status.st_mode):
        return "application/octet-stream"
    descriptor = _reopened(found, 0, name)
    try:
        data = os.read(descriptor, _SNIFFED_BYTES)
    except OSError:
        return "application/octet-stream"
    finally:
        os.close(descriptor)
    for signature, kind in _SIGNATURES:
        if data.startswith(signature):
            return kind
    return "application/octet-stream" if _CONTROLS & set(data) else "text/plain; charset=utf-8"
