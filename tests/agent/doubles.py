"""What stands for Consul and for a driver, when a test is about the agent?

MemoryStore is an AgentStore whose desired documents a test sets; FakeDriver runs nothing, outlives the
agent that used it (so a second agent can re-attach) and ends a task when the test says so.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from agent.drivers.base import (
    ExitResult,
    Handle,
    SeenDirs,
    TaskDirs,
    TaskStart,
    TaskStats,
    same_dirs,
)
from checks.registration import TaskNetwork
from model.alloc import AllocId, ClientStatus, DesiredAlloc, DesiredStatus, ObservedAlloc, alloc_name
from model.errors import DriverBusy, StoreUnavailable
from model.job import Job, JobId, JobType, Namespace, RestartPolicy, Task, TaskGroup
from model.node import DriverInfo, Node, NodeId
from model.wire import nanoseconds

NODE = Node(id=NodeId("node-1"), name="node-1", boot_id="boot-1")


@dataclass(frozen=True, slots=True)
class View:
    allocs: Mapping[AllocId, DesiredAlloc]
    index: int
    meta: Mapping[str, str | None] = field(default_factory=dict)


class MemoryStore:
    """is_away: every call raises StoreUnavailable until it is set back with come_back(). is_hung: no call returns
    until its own timeout."""

    def __init__(self, *jobs: Job) -> None:
        self.desired: dict[AllocId, DesiredAlloc] = {}
        self.jobs = {(job.namespace, job.id, job.version): job for job in jobs}
        self.observed: dict[AllocId, ObservedAlloc] = {}
        self.nodes: dict[NodeId, Node] = {}
        self.reports: list[tuple[ObservedAlloc, ...]] = []
        self.is_away = self.is_hung = False
        self.index = 1
        self._change = asyncio.Event()
        self._reported = asyncio.Event()

    def add_job(self, job: Job) -> None:
        self.jobs[job.namespace, job.id, job.version] = job

    def want(self, *documents: DesiredAlloc) -> None:
        self.desired |= {document.id: document for document in documents}
        self._changed()

    def stop(self, *alloc_ids: AllocId) -> None:
        self.want(*(replace(self.desired[i], desired_status=DesiredStatus.STOP) for i in alloc_ids))

    def remove(self, *alloc_ids: AllocId) -> None:
        for alloc_id in alloc_ids:
            del self.desired[alloc_id]
        self._changed()

    def go_away(self) -> None:
        self.is_away = True
        self._changed()

    def come_back(self) -> None:
        self.is_away = False
        self._changed()

    async def until_observed(self, alloc_id: AllocId, status: ClientStatus) -> ObservedAlloc:
        """The report that has this status; waits for it."""
        while True:
            found = self.observed.get(alloc_id)
            if found is not None and found.client_status is status:
                return found
            self._reported.clear()
            await self._reported.wait()

    async def until_all(self, status: ClientStatus) -> None:
        for alloc_id in list(self.desired):
            await self.until_observed(alloc_id, status)

    async def until(self, fact: Any) -> None:
        """Waits until fact(self) holds after some report."""
        while not fact(self):
            self._reported.clear()
            await self._reported.wait()

    def _changed(self) -> None:
        self.index += 1
        self._change.set()

    def _reach(self) -> None:
        if self.is_away:
            raise StoreUnavailable("the test took Consul away")

    async def watch_desired(self, node_id: NodeId, index: int, wait_s: float) -> View:
        self._reach()
        try:
            async with asyncio.timeout(wait_s):
                while self.index <= index:
                    self._change.clear()
                    await self._change.wait()
                    self._reach()
        except TimeoutError:
            await self._hang(1.0)
        return View(dict(self.desired), self.index)

    async def read_job(self, namespace: Namespace, job_id: JobId, version: int) -> Job | None:
        self._reach()
        return self.jobs.get((namespace, job_id, version))

    async def reach(self, timeout_s: float) -> None:
        self._reach()
        await self._hang(timeout_s)

    async def _hang(self, timeout_s: float) -> None:
        if self.is_hung:
            await asyncio.sleep(timeout_s)
            raise StoreUnavailable("no answer in time")

    async def report(self, node_id: NodeId, allocs: Sequence[ObservedAlloc], node: Node | None) -> None:
        self._reach()
        await asyncio.sleep(0.003)  # a transaction on a real Consul
        await self._hang(10.0)
        self._reach()
        if allocs:
            self.reports.append(tuple(allocs))
        self.observed |= {document.id: document for document in allocs}
        if node is not None:
            self.nodes[node.id] = node
        self._reported.set()

    async def delete_observed(self, node_id: NodeId, alloc_ids: Sequence[AllocId]) -> None:
        self._reach()
        for alloc_id in alloc_ids:
            self.observed.pop(alloc_id, None)
        self._reported.set()


@dataclass
class FakeTask:
    start: TaskStart
    signals: list[str] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    result: ExitResult = field(default_factory=ExitResult)
    ignores_signals: bool = False


class FakeDriver:
    """tasks: by (alloc, task, attempt), in the order of their starts; what ended stays until destroyed."""

    name = "fake"

    def __init__(self) -> None:
        self.tasks: dict[tuple[str, str, int], FakeTask] = {}
        self.starts: list[tuple[str, str, int]] = []
        self.start_errors: list[Exception] = []  # raised by the next starts, one each
        self.is_busy = False
        self.start_gate: asyncio.Event | None = None

    def running(self, alloc_id: str, task: str = "main") -> list[FakeTask]:
        return [
            found
            for (alloc, name, _), found in self.tasks.items()
            if (alloc, name) == (alloc_id, task) and not found.ended.is_set()
        ]

    def end(self, alloc_id: str, task: str = "main", result: ExitResult | None = None) -> None:
        """The running task ends."""
        (found,) = self.running(alloc_id, task)
        found.result = result or ExitResult()
        found.ended.set()

    def reboot(self) -> None:
        self.tasks.clear()

    def seen_dirs(self, dirs: TaskDirs) -> SeenDirs:
        return same_dirs(dirs)

    async def fingerprint(self) -> DriverInfo:
        return DriverInfo(detected=True, healthy=not self.is_busy)

    async def start(self, task: TaskStart) -> Handle:
        self._reach()
        if self.start_gate is not None:
            await self.start_gate.wait()
        if self.start_errors:
            raise self.start_errors.pop(0)
        key = (task.alloc_id, task.task_name, task.attempt)
        if key not in self.tasks:
            self.tasks[key] = FakeTask(task)
            self.starts.append(key)
        return Handle(
            driver=self.name,
            alloc_id=task.alloc_id,
            task_name=task.task_name,
            attempt=task.attempt,
            boot_id=NODE.boot_id,
        )

    async def recover(self, handle: Handle) -> bool:
        self._reach()
        return self._key(handle) in self.tasks

    async def wait(self, handle: Handle) -> ExitResult:
        self._reach()
        found = self.tasks[self._key(handle)]
        await found.ended.wait()
        return found.result

    async def signal(self, handle: Handle, signal: str) -> None:
        self.tasks[self._key(handle)].signals.append(signal)

    async def stop(self, handle: Handle, signal: str, timeout_s: float) -> None:
        self._reach()
        found = self.tasks[self._key(handle)]
        found.signals.append(signal or "SIGINT")
        if found.ignores_signals and not found.ended.is_set():
            try:
                async with asyncio.timeout(timeout_s):
                    await found.ended.wait()
            except TimeoutError:
                found.signals.append("SIGKILL")
                found.result = ExitResult(code=137, signal=9)
        elif not found.ended.is_set():
            found.result = ExitResult(code=130, signal=2)
        found.ended.set()

    async def destroy(self, handle: Handle) -> None:
        found = self.tasks.pop(self._key(handle), None)
        if found is not None:
            found.ended.set()

    async def execute(self, handle: Handle, argv: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
        return 0, " ".join(argv).encode()

    async def stats(self, handle: Handle) -> TaskStats:
        return TaskStats(memory_bytes=1)

    async def network(self, handle: Handle) -> TaskNetwork | None:
        return None

    def _key(self, handle: Handle) -> tuple[str, str, int]:
        return handle.alloc_id, handle.task_name, handle.attempt

    def _reach(self) -> None:
        if self.is_busy:
            raise DriverBusy("the test took the engine away")


def a_task(name: str = "main", *, driver: str = "fake", **fields: Any) -> Task:
    policy = RestartPolicy(attempts=2, delay=nanoseconds(15), interval=nanoseconds(1800))
    return Task(**{"name": name, "driver": driver, "restart_policy": policy, **fields})


def a_job(*tasks: Task, job_type: JobType = JobType.SERVICE, version: int = 0, **group: Any) -> Job:
    return Job(
        id=JobId("web"),
        name="web",
        type=job_type,
        version=version,
        task_groups=(TaskGroup(**{"name": "app", "tasks": tasks or (a_task(),), **group}),),
    )


def an_alloc(number: int = 0, job: Job | None = None, **fields: Any) -> DesiredAlloc:
    job = job or a_job()
    defaults: dict[str, Any] = {
        "id": AllocId(f"{number:08x}-0000-4000-8000-000000000000"),
        "name": alloc_name(job.id, "app", number),
        "namespace": job.namespace,
        "job_id": job.id,
        "job_version": job.version,
        "task_group": "app",
        "node_id": NODE.id,
    }
    return DesiredAlloc(**(defaults | fields))
