"""Where may the agent read and write for a task's templates and artifacts? Below its alloc's directory, whatever lies there by now.

The task may be hostile, and its directory is its own: between a look at a path and its use it may put a link there. So the
kernel resolves each path in one call and refuses what leads out (agent/alloc_files.py), a file is made and renamed within a
directory that is held open, and a link at its very place is replaced, not followed.

All functions block: they belong in a thread.
"""

import errno
import os
import stat as modes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent import tmpfs
from agent.alloc_files import opened
from agent.drivers.base import SeenDirs, TaskDirs
from agent.hooks.base import TaskContext
from agent.users import of_task, user_of
from jobspec.interpolate import interpolate
from model.errors import TaskRefused

# As much as a template may say (template/budget.py), in bytes of four to a character.
FILE_BYTES_MAX = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """None: as it comes."""

    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFiles:
    """The files of one task. seen: its directories by the names that the task itself has for them."""

    dirs: TaskDirs
    seen: SeenDirs

    @property
    def _root(self) -> Path:
        return self.dirs.task.parent

    def parts(self, path: str, values: Mapping[str, str]) -> tuple[str, ...]:
        """The names on the way from the alloc's directory to a path as a job file has it: relative to the task's
        directory, absolute as the task sees it or as this machine does, with references. Raises TaskRefused."""
        here = {
            **values,
            "NOMAD_ALLOC_DIR": f"{self.dirs.shared}",
            "NOMAD_TASK_DIR": f"{self.dirs.local}",
            "NOMAD_SECRETS_DIR": f"{self.dirs.secrets}",
        }
        return self._within(interpolate(path, here), path)

    def _within(self, path: str, told: str) -> tuple[str, ...]:
        root = os.path.normpath(self._root)
        if path.startswith("/") and not os.path.normpath(path).startswith(f"{root}/"):
            path = self._unseen(path)
        full = os.path.normpath(os.path.join(self.dirs.task, path))
        if "\0" in path or not full.startswith(f"{root}/"):
            raise TaskRefused(f"{told!r} is outside of the allocation's directory")
        return tuple(full.removeprefix(f"{root}/").split("/"))

    def _unseen(self, path: str) -> str:
        """What a container calls /secrets/x; any other absolute path is taken from the task's directory, as Nomad does."""
        pairs = ((self.seen.alloc, self.dirs.shared), (self.seen.local, self.dirs.local), (self.seen.secrets, self.dirs.secrets))
        for seen, here in pairs:
            if os.path.normpath(path).startswith(f"{seen}/"):
                return f"{here}/{os.path.normpath(path).removeprefix(f'{seen}/')}"
        return path.lstrip("/")

    def read(self, parts: Sequence[str]) -> bytes | None:
        """None: there is no such file. Raises TaskRefused for what is none, leads outside or is another task's secret."""
        self._check_secrets(parts)
        with self._open_root() as root:
            try:
                found = opened(root, parts, may_cross=True)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR):
                    return None
                raise self._refused(parts, error) from error
            try:
                self._check_secrets(self._led_to(root, found))
                if not modes.S_ISREG(os.fstat(found).st_mode):
                    raise TaskRefused(f"{'/'.join(parts)} is no regular file")
                return _content(found)
            finally:
                os.close(found)

    def mode(self, parts: Sequence[str]) -> int | None:
        """Its permissions; None: there is no such regular file."""
        with self._open_root() as root, suppress(OSError):
            found = opened(root, parts, may_cross=True)
            try:
                status = os.fstat(found)
                return modes.S_IMODE(status.st_mode) if modes.S_ISREG(status.st_mode) else None
            finally:
                os.close(found)
        return None

    def write(
        self, parts: Sequence[str], data: bytes, mode: int, owner: Owner, before: Callable[[], None] | None = None
    ) -> None:
        """Whole, or not at all; directories on the way are made. before: called when nothing speaks against it any more.
        Raises TaskRefused, and OSError for a machine in trouble."""
        with self._open_root() as root:
            folder = self._folder(root, parts)
            try:
                self._check_place((*self._led_to(root, folder), parts[-1]), folder)
                if before is not None:
                    before()
                _replace(folder, parts[-1], data, mode, owner)
            except IsADirectoryError as error:
                raise TaskRefused(f"{'/'.join(parts)} is a directory") from error
            finally:
                os.close(folder)

    @contextmanager
    def folder(self, parts: Sequence[str]) -> Iterator[int]:
        """A descriptor (O_PATH) of that directory, made where it is missing. Raises TaskRefused, and OSError for a machine in trouble."""
        with self._open_root() as root:
            found = self._folder(root, (*parts, ""))
            try:
                self._check_place(self._led_to(root, found), found)
                yield found
            finally:
                os.close(found)

    def _folder(self, root: int, parts: Sequence[str]) -> int:
        """A descriptor of the directory that a file is to lie in."""
        here = os.dup(root)
        try:
            for number, name in enumerate(parts[:-1]):
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=here)
                there = opened(root, parts[: number + 1], may_cross=True)
                os.close(here)
                here = there
            if not modes.S_ISDIR(os.fstat(here).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        except OSError as error:
            os.close(here)
            if error.errno in (errno.EXDEV, errno.ELOOP, errno.ENOTDIR, errno.ENOENT):
                raise self._refused(parts, error) from error
            raise
        return here

    def _check_secrets(self, parts: Sequence[str]) -> None:
        """Another task's secrets are not this one's to see."""
        if len(parts) > 1 and parts[1] == "secrets" and parts[0] not in (self.dirs.task.name, "alloc"):
            raise TaskRefused(f"{'/'.join(parts[:2])} are another task's")

    def _check_place(self, parts: Sequence[str], folder: int) -> None:
        """Where it is about to be written. What is below a task's secrets is in memory or not written: the tmpfs may be gone,
        or be in sight of an earlier agent alone."""
        self._check_secrets(parts)
        if parts[:2] == (self.dirs.task.name, "secrets") and not tmpfs.is_in_memory(folder):
            raise TaskRefused(f"{'/'.join(parts[:2])} is not in memory; it is again with the task's next start")

    def _led_to(self, root: int, found: int) -> tuple[str, ...]:
        """Where the links led, by the names that the kernel has now."""
        above, here = (os.readlink(f"/proc/self/fd/{descriptor}") for descriptor in (root, found))
        return tuple(here.removeprefix(above).strip("/").split("/"))

    @contextmanager
    def _open_root(self) -> Iterator[int]:
        root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            yield root
        finally:
            os.close(root)

    def _refused(self, parts: Sequence[str], error: OSError) -> TaskRefused:
        path = "/".join(parts)
        if error.errno in (errno.EXDEV, errno.ELOOP):
            return TaskRefused(f"{path!r} leads out of the allocation's directory")
        return TaskRefused(f"{path!r}: {os.strerror(error.errno or 0)}")


def _content(found: int) -> bytes:
    """Not waited for, whoever holds a lease on it; cut off beyond what a template can be."""
    descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise TaskRefused(f"a file of more than {FILE_BYTES_MAX >> 20} MiB")
    return data


def _replace(folder: int, name: str, data: bytes, mode: int, owner: Owner) -> None:
    new = f".{name[:200]}.drover-new"
    # An O_PATH descriptor is good for the names below it; what a killed agent left is not written into.
    with suppress(FileNotFoundError):
        os.unlink(new, dir_fd=folder)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            if owner.uid is not None or owner.gid is not None:
                os.fchown(file.fileno(), -1 if owner.uid is None else owner.uid, -1 if owner.gid is None else owner.gid)
            os.fchmod(file.fileno(), mode)
        os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(new, dir_fd=folder)
        raise


def files_of(context: TaskContext, variables: Mapping[str, str]) -> TaskFiles:
    seen = SeenDirs(
        alloc=variables["NOMAD_ALLOC_DIR"], local=variables["NOMAD_TASK_DIR"], secrets=variables["NOMAD_SECRETS_DIR"]
    )
    return TaskFiles(dirs=context.dirs, seen=seen)


def owner_of(user: str, driver: str, uid: int | None, gid: int | None) -> Owner:
    """Whose a rendered file is: as the job says, else the task's user; who runs in a container is for its image to say.

    Raises TaskRefused for a user that is not known here.
    """
    named = Owner(uid=uid if uid is not None and uid >= 0 else None, gid=gid if gid is not None and gid >= 0 else None)
    if os.geteuid() != 0:
        return Owner()
    name = of_task(user, driver)
    if not name or driver == "docker":
        return named
    return Owner(uid=user_of(name)[0] if named.uid is None else named.uid, gid=named.gid)
