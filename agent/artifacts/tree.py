"""Is a tree that was fetched fit to be given to a task? And how is one made, name by name, that leads nowhere else?

Who packed it may be hostile, and the agent is root. While it is made, no link is followed: each directory on the way has to be one, and
what is in the way of a file is taken away, not written through. Links are made whatever they say, for nothing goes through
them here; only what is whole is judged (check): none may lead out of the tree, there is no device, no setuid bit.

That rule for links is exact because it is strict: a target is some `..`, then names, without a `..` among them. The first ones start at a
real directory, so they can be counted; what the names pass through are links of the same kind.
"""

import os
import shutil
import stat as modes
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from agent.artifacts.work import Work
from agent.drivers.base import StartFailed

CHUNK_BYTES = 1 << 20
# A tree is walked by functions that call themselves, each with an open directory.
_DEPTH_MAX = 100


class Tree:
    """A new directory that is filled by names of an archive."""

    def __init__(self, where: Path, work: Work) -> None:
        self._where, self._work = where, work
        where.mkdir()

    def folder(self, name: str, mode: int) -> None:
        parts = self._parts(name)
        if parts:
            self._reach(parts).chmod(_folder_mode(mode))

    def file(self, name: str, mode: int, content: IO[bytes]) -> None:
        path = self._place(name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as out:
            copy(content, out, self._work)
            os.fchmod(out.fileno(), _file_mode(mode))

    def symlink(self, name: str, target: str) -> None:
        os.symlink(target, self._place(name))

    def hardlink(self, name: str, target: str) -> None:
        """To a file that is already there."""
        parts = self._parts(target)
        of = self._reach(parts[:-1]).joinpath(*parts[-1:])
        if not of.is_file() or of.is_symlink():
            raise StartFailed(f"{name!r} in the archive is a link to what is no file of it")
        os.link(of, self._place(name), follow_symlinks=False)

    def _place(self, name: str) -> Path:
        """Where something new of this name goes; what is there already goes away."""
        parts = self._parts(name)
        if not parts:
            raise StartFailed(f"{name!r} in the archive is no name of a file")
        path = self._reach(parts[:-1]) / parts[-1]
        self._work.made()
        if os.path.lexists(path):
            os.unlink(path)
        return path

    def _reach(self, parts: Sequence[str]) -> Path:
        """That directory, made where it is missing."""
        here = self._where
        for part in parts:
            here /= part
            if not os.path.lexists(here):
                self._work.made()
                here.mkdir(0o755)
            elif here.is_symlink() or not here.is_dir():
                raise StartFailed(f"{'/'.join(parts)!r} in the archive leads through a link or a file")
        return here

    def _parts(self, name: str) -> list[str]:
        parts = [one for one in name.split("/") if one not in ("", ".")]
        if ".." in parts or "\0" in name:
            raise StartFailed(f"{name[:200]!r} in the archive leads out of its directory")
        if len(parts) > _DEPTH_MAX:
            raise StartFailed(f"{name[:80]!r}… in the archive is more than {_DEPTH_MAX} directories deep")
        return parts


def copy(content: IO[bytes], out: IO[bytes], work: Work) -> None:
    """What an archive says of a file's size is not believed: what comes is counted."""
    while chunk := content.read(CHUNK_BYTES):
        work.unpacked(len(chunk))
        out.write(chunk)


def copied(source: Path, where: Path, work: Work) -> None:
    """A file or a tree of the machine, links as links. Raises StartFailed for what is neither file, directory nor link."""
    status = source.lstat()
    work.go_on()
    if modes.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), where)
    elif modes.S_ISDIR(status.st_mode):
        where.mkdir(0o700)
        for one in sorted(source.iterdir()):
            copied(one, where / one.name, work)
        where.chmod(_folder_mode(status.st_mode))
    elif modes.S_ISREG(status.st_mode):
        with source.open("rb") as content, where.open("xb") as out:
            while chunk := content.read(CHUNK_BYTES):
                work.go_on()
                out.write(chunk)
        where.chmod(_file_mode(status.st_mode))
    else:
        raise StartFailed(f"{source} is a device or something else that is no file")


def check(path: Path, work: Work, depth: int = 0, name: str = "") -> None:
    """Raises StartFailed for what a task must not get; takes special permissions away. path: a file, or the top of a tree."""
    work.go_on()
    status = path.lstat()
    if modes.S_ISLNK(status.st_mode):
        if depth == 0 or not _stays(os.readlink(path), depth - 1):
            raise StartFailed(f"{name or path.name!r} is a link that leads out of what was fetched")
    elif modes.S_ISDIR(status.st_mode):
        if depth > _DEPTH_MAX:
            raise StartFailed(f"{name[:80]!r}… is more than {_DEPTH_MAX} directories deep")
        path.chmod(_folder_mode(status.st_mode))
        for one in sorted(path.iterdir()):
            check(one, work, depth + 1, f"{name}/{one.name}" if name else one.name)
    elif modes.S_ISREG(status.st_mode):
        path.chmod(_file_mode(status.st_mode))
    else:
        raise StartFailed(f"{name or path.name!r} is a device or something else that is no file")


def _stays(target: str, depth: int) -> bool:
    """Whether a link in a directory that is so deep in the tree leads to somewhere in it."""
    parts = [one for one in target.split("/") if one not in ("", ".")]
    names = [number for number, one in enumerate(parts) if one != ".."]
    up = names[0] if names else len(parts)
    return not target.startswith("/") and up <= depth and ".." not in parts[up:]


def only_file(tree: Path) -> Path | None:
    """The one regular file in it; None: there are none or more."""
    files = [path for path in tree.rglob("*") if path.is_symlink() or not path.is_dir()]
    return files[0] if len(files) == 1 and not files[0].is_symlink() else None


def chown(tree: Path, uid: int, gid: int) -> None:
    """All of it, links themselves and not what they lead to."""
    os.chown(tree, uid, gid, follow_symlinks=False)
    if tree.is_dir() and not tree.is_symlink():
        for one in tree.iterdir():
            chown(one, uid, gid)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _file_mode(mode: int) -> int:
    return mode & 0o755 | 0o600


def _folder_mode(mode: int) -> int:
    return mode & 0o755 | 0o700
