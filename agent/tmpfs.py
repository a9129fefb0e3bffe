"""Directories that are only in memory: what is written there is on no disk, and gone after a reboot.

Swap is the machine's to turn off or to encrypt, as with any tmpfs.
"""

import ctypes
import errno
import os
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_NOSUID, _NODEV, _NOEXEC = 0x2, 0x4, 0x8
_DETACH, _NOFOLLOW = 0x2, 0x8


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


def is_in_memory(path: Path | str) -> bool:
    """Whether what is written below `path` stays off every disk. Raises OSError when it is not there."""
    device = os.stat(path).st_dev
    with open("/proc/self/mountinfo") as lines:
        # 36 35 0:32 / /mnt rw - tmpfs name options; the device is the third, the type the first after the dash.
        kinds = {fields[2]: line.partition(" - ")[2].split()[0] for line in lines if (fields := line.split())}
    return kinds.get(f"{os.major(device)}:{os.minor(device)}") in ("tmpfs", "ramfs")


def _error(path: Path | str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(path))
