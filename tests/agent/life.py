"""One life of a real agent in a process of its own, to be killed.

    python -m tests.agent.life DATA_DIR STORE_DIR

Consul's place is taken by a folder: jobs/*.json and desired/*.json are read, observed/<alloc>.json written by
rename. A file STORE_DIR/away makes every call fail. For the parent: FolderStore writes and reads the
same folder, and AgentProcess starts and kills.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from agent.alloc_dir import DiskDirs
from agent.data_dir import DataDir
from agent.drivers.base import Driver
from agent.drivers.process import boot_id
from agent.drivers.raw_exec import RawExec
from agent.journal_sqlite import SqliteJournal
from agent.node_agent import NodeAgent, Pace
from model.alloc import AllocId, ClientStatus, DesiredAlloc, ObservedAlloc
from model.errors import StoreUnavailable
from model.job import Job, JobId, Namespace
from model.node import Node, NodeId
from model.wire import decode, encode
from tests.agent.doubles import View

T = TypeVar("T")

REPO = Path(__file__).resolve().parents[2]
_POLL_S = 0.01
WAIT_S_MAX = 30.0


class FolderStore:
    """An AgentStore for the agent's process, and the test's way to write to and read from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("jobs", "desired", "observed"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    # The test's side.

    def add_job(self, job: Job) -> None:
        _write(self.folder / "jobs" / f"{job.id}-{job.version}.json", encode(job))

    def want(self, *documents: DesiredAlloc) -> None:
        for document in documents:
            _write(self.folder / "desired" / f"{document.id}.json", encode(document))
        self._bump()

    def remove(self, alloc_id: AllocId) -> None:
        (self.folder / "desired" / f"{alloc_id}.json").unlink()
        self._bump()

    def set_away(self, is_away: bool) -> None:
        if is_away:
            (self.folder / "away").touch()
        else:
            (self.folder / "away").unlink(missing_ok=True)

    def observed(self, alloc_id: AllocId) -> ObservedAlloc | None:
        with suppress(FileNotFoundError):
            return decode((self.folder / "observed" / f"{alloc_id}.json").read_bytes(), ObservedAlloc)
        return None

    def wait_observed(self, alloc_id: AllocId, status: ClientStatus) -> ObservedAlloc:
        def seen() -> ObservedAlloc | None:
            found = self.observed(alloc_id)
            return found if found is not None and found.client_status is status else None

        return wait_for(seen, f"alloc {alloc_id} {status}, is {self.observed(alloc_id)}")

    def _bump(self) -> None:
        _write(self.folder / "index", str(self._index() + 1).encode())

    def _index(self) -> int:
        with suppress(FileNotFoundError):
            return int((self.folder / "index").read_text())
        return 1

    # The agent's side.

    def _reach(self) -> None:
        if (self.folder / "away").exists():
            raise StoreUnavailable("the test took Consul away")

    async def watch_desired(self, node_id: NodeId, index: int, wait_s: float) -> View:
        self._reach()
        while (now := self._index()) <= index:
            await asyncio.sleep(_POLL_S)
            self._reach()
        documents = [
            decode(path.read_bytes(), DesiredAlloc) for path in (self.folder / "desired").glob("*.json")
        ]
        return View({document.id: document for document in documents}, now)

    async def read_job(self, namespace: Namespace, job_id: JobId, version: int) -> Job | None:
        self._reach()
        return decode((self.folder / "jobs" / f"{job_id}-{version}.json").read_bytes(), Job)

    async def reach(self, timeout_s: float) -> None:
        self._reach()

    async def report(self, node_id: NodeId, allocs: Sequence[ObservedAlloc], node: Node | None) -> None:
        self._reach()
        for document in allocs:
            _write(self.folder / "observed" / f"{document.id}.json", encode(document))

    async def delete_observed(self, node_id: NodeId, alloc_ids: Sequence[AllocId]) -> None:
        self._reach()
        for alloc_id in alloc_ids:
            (self.folder / "observed" / f"{alloc_id}.json").unlink(missing_ok=True)


class AgentProcess:
    """start() and kill() as often as a test likes, on one data_dir and one store."""

    def __init__(self, home: Path, data_dir: Path | None = None) -> None:
        self.data_dir = data_dir or home / "data"
        self.store = FolderStore(home / "store")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> int:
        """The new agent's pid."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.agent.life", str(self.data_dir), str(self.store.folder), *options],
            cwd=REPO,
            start_new_session=True,
        )
        return self._process.pid

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(WAIT_S_MAX)


def wait_for(found: Callable[[], T | None], what: str) -> T:
    """The first answer that is not None. Real processes tell nobody when they are done; so they are asked."""
    give_up_at = time.monotonic() + WAIT_S_MAX
    pause = threading_event()
    while time.monotonic() < give_up_at:
        answer = found()
        if answer is not None:
            return answer
        pause(_POLL_S)
    raise AssertionError(f"waited {WAIT_S_MAX} s for {what}")


def threading_event() -> Callable[[float], Any]:
    import threading

    return threading.Event().wait


def _write(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    partial.rename(path)


async def live(data_dir: Path, store_dir: Path, options: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    loop.add_signal_handler(signal.SIGTERM, main.cancel)
    with DataDir(data_dir) as data:
        drivers: list[Driver] = [RawExec(data.run, os.environ, use_cgroups="--no-cgroups" not in options)]
        if "--docker" in options:
            from agent.drivers.docker import Docker

            drivers.append(Docker(data.node_id(), data.run))
        agent = NodeAgent(
            node=Node(id=data.node_id(), name="life", boot_id=boot_id()),
            store=FolderStore(store_dir),
            journal=SqliteJournal(data.journal),
            drivers=drivers,
            dirs=DiskDirs(data.allocs),
            now=lambda: datetime.now(UTC),
            rng=random.Random(),
            pace=Pace(collect_s=0.1),
        )
        await agent.run()


if __name__ == "__main__":
    with suppress(asyncio.CancelledError, KeyboardInterrupt):
        asyncio.run(live(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
