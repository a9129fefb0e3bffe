"""What has drover left on a node, or lost there? Found by its marks, and removed; nothing without a mark is touched.

    known    allocs that the journal or desired/ names: never touched, save when everything is to go
    found    processes (cgroup, run files), containers (label), mounts, directories, services (meta), keys of purged nodes

An alloc is this node's if its id stands in this data_dir, in a container with this node's label, or in a service with its
meta. Works while the agent runs and while it does not.
"""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent import tmpfs
from agent.data_dir import DataDir
from agent.drivers import process
from agent.drivers.cgroup import MOUNT, NAME
from agent.drivers.docker import Docker
from agent.journal_sqlite import SqliteJournal
from catalog.keys import Keys, last_segment
from catalog.kv import Kv
from catalog.services import LocalAgent
from checks.registration import META_NODE
from model.alloc import AllocId
from model.errors import DriverBusy, StoreRefused, StoreUnavailable, TaskRefused
from model.node import NodeId

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ALLOC = re.compile(_UUID)
_TASK = re.compile(rf"(?P<alloc>{_UUID})\.(?P<task>.+)\.(?P<attempt>\d+)(?:\.(?P<suffix>pid|task|exit|exit\.partial))?")
_SERVICE = re.compile(rf"_drover-task-(?P<alloc>{_UUID})-.+")
_KILL_TRIES = 50
_KILL_PAUSE_S = 0.1

# What a removal may fail with: the next one goes on all the same.
REMOVE_FAILURES = (OSError, DriverBusy, TaskRefused, StoreUnavailable, StoreRefused)


class Unreadable(Exception):
    """Neither the journal nor desired/ says what is to stay."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """kind: process, container, mount, directory, file, service, keys. name: for people. remove: idempotent; may raise OSError,
    DriverBusy, TaskRefused, StoreUnavailable, StoreRefused."""

    kind: str
    name: str
    alloc: str
    remove: Callable[[], Awaitable[None]] = field(compare=False, repr=False)


@dataclass(slots=True, kw_only=True)
class Cleaner:
    """One node. docker, consul, kv: None where they do not answer. everything: also what is known."""

    data: DataDir
    node_id: NodeId
    keys: Keys
    docker: Docker | None
    consul: LocalAgent | None
    kv: Kv | None
    everything: bool = False
    mount: Path = MOUNT

    async def known(self) -> frozenset[AllocId]:
        """What is to stay. Raises Unreadable."""
        if self.everything:
            return frozenset()
        found: set[AllocId] = set()
        with suppress(OSError):
            found |= await self._journalled()
        if self.kv is not None:
            with suppress(StoreUnavailable, StoreRefused):
                names = await self.kv.keys(self.keys.desired_of(self.node_id))
                return frozenset(found | {AllocId(last_segment(name)) for name in names})
        if not found:  # a journal that names nothing may be one that was lost
            raise Unreadable(f"neither {self.data.journal} nor Consul's desired documents of node {self.node_id} say what is to stay")
        return frozenset(found)

    async def _journalled(self) -> set[AllocId]:
        """Raises OSError."""
        if not self.data.journal.exists():
            raise FileNotFoundError(self.data.journal)
        journal = SqliteJournal(self.data.journal)
        try:
            contents = await journal.load()
        finally:
            await journal.close()
        return {AllocId(row.desired.id) for row in contents.allocs}

    async def find(self) -> list[Leftover]:
        """In the order in which they go. Raises Unreadable."""
        known = await self.known()
        ours = self._ours()
        found = [
            *(one for one in self._processes(ours) if one.alloc not in known),
            *(one for one in await self._containers() if one.alloc not in known),
            *(one for one in self._mounts() if one.alloc not in known),
            *(one for one in self._files() if one.alloc not in known),
            *(one for one in await self._services() if one.alloc not in known),
            *await self._keys_of_purged(),
        ]
        if self.everything:
            found += self._data()
        return found

    # ---- marks

    def _ours(self) -> frozenset[str]:
        """Ids of allocs that stand in this data_dir."""
        names = [path.name for folder in (self.data.allocs, self.data.run) if folder.is_dir() for path in folder.iterdir()]
        return frozenset(match[0] for name in names if (match := _ALLOC.match(name)))

    def _is_ours(self, alloc: str, pids: Iterable[int], ours: frozenset[str]) -> bool:
        """A cgroup tells no node: another drover of this machine has its own below the same name."""
        return alloc in ours or any(_works_below(pid, self.data.allocs / alloc) for pid in pids)

    # ---- what there is

    def _processes(self, ours: frozenset[str]) -> Iterator[Leftover]:
        for folder in sorted({*self.mount.glob(f"{NAME}/*"), *self.mount.glob(f"*/{NAME}/*")}):
            match = _TASK.fullmatch(folder.name)
            if match is not None and folder.is_dir() and self._is_ours(match["alloc"], _pids(folder), ours):
                yield self._cgroup(folder, match["alloc"])
        for path in sorted(self.data.run.glob("*.task")) if self.data.run.is_dir() else ():
            match = _TASK.fullmatch(path.name)
            stat = process.parse_stat(path.read_text(errors="replace").partition("\n")[0])
            if match is None or stat is None or not process.is_alive(stat.process):
                continue
            yield self._process(stat.process, match["alloc"], match["task"])

    def _cgroup(self, folder: Path, alloc: str) -> Leftover:
        async def remove() -> None:
            for _ in range(_KILL_TRIES):
                pids = _pids(folder)
                if not pids:
                    break
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(_KILL_PAUSE_S)
            with suppress(FileNotFoundError):
                os.rmdir(folder)

        running = len(_pids(folder))
        return Leftover("process", f"{folder} ({running} running)", alloc, remove)

    def _process(self, one: process.Process, alloc: str, task: str) -> Leftover:
        async def remove() -> None:
            for _ in range(_KILL_TRIES):
                pids = process.session_pids(one.pid) if process.is_alive(one) else ()
                if not pids:
                    return
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(_KILL_PAUSE_S)

        return Leftover("process", f"pid {one.pid} of task {task}", alloc, remove)

    async def _containers(self) -> list[Leftover]:
        if self.docker is None:
            return []
        found = []
        for one in await self.docker.leftovers():
            name, alloc = str(one["Names"][0]).lstrip("/"), str((one.get("Labels") or {}).get("drover.alloc", ""))
            alloc = alloc or (match[0] if (match := _ALLOC.search(name)) else "")
            found.append(Leftover("container", f"{name} ({one.get('State')})", alloc, self._container(str(one["Id"]))))
        return found

    def _container(self, container: str) -> Callable[[], Awaitable[None]]:
        async def remove() -> None:
            if self.docker is not None:
                await self.docker.remove(container)

        return remove

    def _mounts(self) -> Iterator[Leftover]:
        """The last that was mounted first."""
        root = f"{os.path.realpath(self.data.allocs)}/"
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        for path in reversed([line.split()[4].encode().decode("unicode_escape") for line in lines]):
            match = _ALLOC.match(path.removeprefix(root)) if path.startswith(root) else None
            if match is not None:
                yield Leftover("mount", path, match[0], _unmounting(path))

    def _files(self) -> Iterator[Leftover]:
        for path in sorted(self.data.allocs.iterdir()) if self.data.allocs.is_dir() else ():
            if (match := _ALLOC.match(path.name)) is not None:
                yield Leftover("directory", f"{path}", match[0], _removing(path))
        for path in sorted(self.data.run.iterdir()) if self.data.run.is_dir() else ():
            if (match := _TASK.fullmatch(path.name)) is not None:
                yield Leftover("file", f"{path}", match["alloc"], _removing(path))

    async def _services(self) -> list[Leftover]:
        if self.consul is None:
            return []
        found = []
        for service_id, service in (await self.consul.services(META_NODE, self.node_id)).items():
            if (match := _SERVICE.fullmatch(service_id)) is not None:
                found.append(Leftover("service", f"{service.service} ({service_id})", match["alloc"], self._deregistering(service_id)))
        return found

    def _deregistering(self, service_id: str) -> Callable[[], Awaitable[None]]:
        async def remove() -> None:
            if self.consul is not None:
                await self.consul.deregister(service_id)

        return remove

    async def _keys_of_purged(self) -> list[Leftover]:
        """Of any node whose own document is gone: nobody will write them again."""
        kv = self.kv
        if kv is None:
            return []
        alive = {last_segment(key) for key in await kv.keys(self.keys.nodes)}
        found: dict[str, int] = {}
        prefixes = (self.keys.observed, self.keys.desired, self.keys.controls, self.keys.inboxes)
        for prefix in prefixes:
            for key in await kv.keys(prefix):
                node_id = key.removeprefix(prefix).split("/")[0]
                if _ALLOC.fullmatch(node_id) and node_id not in alive and node_id != self.node_id:
                    found[node_id] = found.get(node_id, 0) + 1

        def forgetting(node_id: str) -> Callable[[], Awaitable[None]]:
            async def remove() -> None:
                for prefix in prefixes:
                    await kv.remove_tree(f"{prefix}{node_id}")  # ids are of one length: none begins another

            return remove

        return [Leftover("keys", f"{count} of node {node_id}", "", forgetting(node_id)) for node_id, count in sorted(found.items())]

    def _data(self) -> Iterator[Leftover]:
        """Of the last resort: all that the agent knows, save who it is."""
        yield Leftover("mount", f"{self.data.secrets}", "", _unmounting(f"{self.data.secrets}"))
        for path in (self.data.secrets, self.data.run, *self.data.path.glob("journal.db*"), self.data.path / "consul.json"):
            if path.exists():
                yield Leftover("directory" if path.is_dir() else "file", f"{path}", "", _removing(path))


def _pids(cgroup: Path) -> list[int]:
    try:
        return [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _works_below(pid: int, directory: Path) -> bool:
    """Whether a process has its working directory or its NOMAD_ALLOC_DIR there."""
    with suppress(OSError):
        if os.readlink(f"/proc/{pid}/cwd").startswith(f"{directory}/"):
            return True
        return f"NOMAD_ALLOC_DIR={directory}/".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    return False


def _unmounting(path: str) -> Callable[[], Awaitable[None]]:
    async def remove() -> None:
        tmpfs.unmount(path)

    return remove


def _removing(path: Path) -> Callable[[], Awaitable[None]]:
    """Never below a mount that is still there."""

    async def remove() -> None:
        await asyncio.to_thread(_remove, path)

    return remove


def _remove(path: Path) -> None:
    """Raises OSError."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    inside = f"{os.path.realpath(path)}/"
    if any(line.split()[4].startswith(inside) for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        raise OSError(f"{path}: something is mounted in it")
    shutil.rmtree(path)
