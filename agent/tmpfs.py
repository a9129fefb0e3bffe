"""Directories that are only in memory: what is written there is on no disk, and gone after a reboot.

Swap is the machine's to turn off or to encrypt, as with any tmpfs.
"""

import ctypes
import errno
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

_LIBC = ctypes.CDLL(None, use_errno=True)
_NOSUID, _NODEV, _NOEXEC = 0x2, 0x4, 0x8
_DETACH, _NOFOLLOW = 0x2, 0x8
# What statfs says of a tmpfs and of a ramfs.
_IN_MEMORY = (0x01021994, 0x858458F6)


def mount(path: Path | str, *, mode: int, size_mb: int) -> None:
    """Over an empty directory; nothing is done where one is mounted already. Raises OSError: EPERM without root,
    ENOTDIR for a link that somebody put there to have another directory covered."""
    if os.path.ismount(path):
        return
    options = f"mode={mode:o},size={size_mb}m".encode()
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        where = b"/proc/self/fd/%d" % directory
        if _LIBC.mount(b"drover-secrets", where, b"tmpfs", _NOSUID | _NODEV | _NOEXEC, options) != 0:
            raise _error(path)
    finally:
        os.close(directory)


def unmount(path: Path | str) -> None:
    """Also while a process holds files below it, and what is bound there; nothing is done where nothing is mounted.
    Raises OSError."""
    if _LIBC.umount2(os.fsencode(path), _DETACH | _NOFOLLOW) == 0 or ctypes.get_errno() in (errno.EINVAL, errno.ENOENT):
        return
    if ctypes.get_errno() == errno.EPERM and not os.path.ismount(path):
        return  # who may not unmount has mounted nothing either
    raise _error(path)


def is_in_memory(place: Path | str | int) -> bool:
    """Whether what is written below a path, or through the descriptor of a directory, stays off every disk: the one that
    is written through, for a path may be another directory's by then. Raises OSError when it is not there."""
    found = ctypes.create_string_buffer(256)  # a struct statfs has 120 bytes; its first word is the type
    if isinstance(place, int):
        failed = _LIBC.fstatfs(place, found)
    else:
        failed = _LIBC.statfs(os.fsencode(place), found)
    if failed:
        raise _error(place if isinstance(place, Path | str) else "")
    return (ctypes.c_long.from_buffer(found).value & 0xFFFFFFFF) in _IN_MEMORY


def secure(path: Path | str, *, mode: int, size_mb: int) -> bool:
    """Has a directory in memory, if that can be had: mounted by root, or it lay there before (an agent without the right to
    mount may have its data_dir on a tmpfs). Whether it is. Raises OSError for what is neither."""
    try:
        if os.geteuid() == 0:
            mount(path, mode=mode, size_mb=size_mb)
    except PermissionError:
        log.debug("%s: not mounted: root without CAP_SYS_ADMIN", path)
    return is_in_memory(path)


def is_apart(path: Path, init: Path = Path("/proc/1")) -> bool:
    """Whether what is mounted below `path` from here on is seen by this process and its children alone, and neither by the
    host's containers nor by an agent after this one. init: of the host's first process. False where that cannot be told."""
    try:
        if os.readlink("/proc/self/ns/mnt") == os.readlink(init / "ns/mnt"):
            return False
        ours = _shared(_mount_of(path, Path("/proc/self/mountinfo").read_text()))
        return not ours or ours not in map(_shared, (init / "mountinfo").read_text().splitlines())
    except OSError:
        return False


def _mount_of(path: Path, mountinfo: str) -> str:
    """The line of the mount that `path` lies in: 36 35 0:32 / /mnt rw shared:7 - tmpfs name options."""
    lines = [line for line in mountinfo.splitlines() if path.resolve().is_relative_to(line.split()[4])]
    return max(lines, key=lambda line: len(line.split()[4]), default="")


def _shared(line: str) -> str:
    """The group of mounts that tell one another what is mounted below them; empty: it has none."""
    return next((word for word in line.partition(" - ")[0].split()[6:] if word.startswith("shared:")), "")


def _error(path: Path | str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(path))
