"""What if the n-th outside call fails, or the agent is killed in it, for every n until a run passes untouched?"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent.alloc_dir import NoDirs
from agent.drivers.base import ExitResult
from agent.journal import MemoryJournal, Row
from agent.node_agent import NodeAgent, Pace
from model.alloc import ClientStatus
from model.errors import DriverBusy, StoreUnavailable
from model.job import RestartPolicy
from model.wire import nanoseconds
from tests import clock
from tests.agent.doubles import NODE, FakeDriver, MemoryStore, a_job, a_task, an_alloc


class Killed(BaseException):
    """The agent's process is gone."""


@dataclass
class Trap:
    """Springs at call number `at`, before or after the call took effect. seen: how many calls there were."""

    at: int
    is_after: bool
    kill: Callable[[], None] | None = None  # None: the call raises its own kind of failure
    seen: int = 0
    names: list[str] = field(default_factory=list)

    async def call(self, name: str, error: Exception, work: Callable[[], Awaitable[Any]]) -> Any:
        self.seen += 1
        self.names.append(name)
        if self.seen != self.at:
            return await work()
        if self.is_after:
            await work()
        if self.kill is None:
            raise error
        self.kill()
        await asyncio.get_running_loop().create_future()  # nothing comes back from a dead process
        raise AssertionError("unreachable")


class TrappedDriver(FakeDriver):
    trap: Trap

    async def start(self, task: Any) -> Any:
        return await self.trap.call("start", DriverBusy("trap"), lambda: FakeDriver.start(self, task))

    async def recover(self, handle: Any) -> Any:
        return await self.trap.call("recover", DriverBusy("trap"), lambda: FakeDriver.recover(self, handle))

    async def stop(self, handle: Any, signal: str, timeout_s: float) -> Any:
        return await self.trap.call(
            "stop", DriverBusy("trap"), lambda: FakeDriver.stop(self, handle, signal, timeout_s)
        )

    async def destroy(self, handle: Any) -> Any:
        return await self.trap.call("destroy", DriverBusy("trap"), lambda: FakeDriver.destroy(self, handle))


class TrappedStore(MemoryStore):
    trap: Trap

    async def read_job(self, *args: Any) -> Any:
        return await self.trap.call(
            "read_job", StoreUnavailable("trap"), lambda: MemoryStore.read_job(self, *args)
        )

    async def report(self, *args: Any) -> Any:
        return await self.trap.call(
            "report", StoreUnavailable("trap"), lambda: MemoryStore.report(self, *args)
        )

    async def delete_observed(self, *args: Any) -> Any:
        return await self.trap.call(
            "delete", StoreUnavailable("trap"), lambda: MemoryStore.delete_observed(self, *args)
        )


class TrappedJournal(MemoryJournal):
    trap: Trap

    async def put(self, rows: Sequence[Row]) -> None:
        await self.trap.call("put", OSError("trap"), lambda: MemoryJournal.put(self, rows))


class Story:
    """One alloc starts, ends with a failure, is started again, is stopped, is forgotten."""

    def __init__(self, at: int, is_after: bool, is_kill: bool) -> None:
        self.job = a_job(a_task(restart_policy=RestartPolicy(attempts=9, delay=nanoseconds(1))))
        self.alloc = an_alloc(job=self.job)
        self.trap = Trap(at, is_after, self.kill if is_kill else None)
        self.store, self.driver, self.journal = TrappedStore(self.job), TrappedDriver(), TrappedJournal()
        self.store.trap = self.driver.trap = self.journal.trap = self.trap
        self.life: asyncio.Task[None] | None = None
        self.lives = 0

    def kill(self) -> None:
        assert self.life is not None
        self.life.cancel()

    async def agents(self) -> None:
        """One life after the other."""
        while True:
            self.lives += 1
            agent = NodeAgent(
                node=NODE,
                store=self.store,
                journal=self.journal,
                drivers=[self.driver],
                dirs=NoDirs(),
                now=clock.now,
                rng=random.Random(3),
                pace=Pace(collect_s=1),
            )
            async with asyncio.TaskGroup() as group:
                self.life = group.create_task(agent.run(), name=f"life {self.lives}")
            await asyncio.sleep(1)

    async def never_two(self) -> None:
        while True:
            assert len(self.driver.running(self.alloc.id)) <= 1
            await asyncio.sleep(0.001)

    async def until(self, fact: Callable[[], bool]) -> None:
        while not fact():
            await asyncio.sleep(0.01)

    async def tell(self) -> None:
        driver, store, alloc = self.driver, self.store, self.alloc
        async with asyncio.timeout(600), asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self.agents(), name="agents"),
                group.create_task(self.never_two(), name="never two"),
            ]
            store.want(alloc)
            await store.until_observed(alloc.id, ClientStatus.RUNNING)
            driver.end(alloc.id, result=ExitResult(code=1))
            await self.until(lambda: bool(driver.running(alloc.id)))
            await store.until(
                lambda s: (
                    s.observed[alloc.id].client_status is ClientStatus.RUNNING
                    and s.observed[alloc.id].task_states["main"].restarts == 1
                )
            )
            store.stop(alloc.id)
            await store.until_observed(alloc.id, ClientStatus.COMPLETE)
            assert not driver.running(alloc.id)
            store.remove(alloc.id)
            await store.until(lambda s: alloc.id not in s.observed)
            await self.until(lambda: not self.journal.allocs and not driver.tasks)
            assert len(driver.starts) == 2, driver.starts
            for task in tasks:
                task.cancel()


@pytest.mark.parametrize("is_kill", [False, True], ids=["fails", "kills"])
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_whichever_outside_call_goes_wrong_the_alloc_runs_once_and_ends_as_wanted(
    is_after: bool, is_kill: bool
) -> None:
    for at in range(1, 100):
        story = Story(at, is_after, is_kill)
        try:
            clock.run(story.tell())
        except BaseException as error:
            raise AssertionError(
                f"call {at} ({story.trap.names[at - 1 : at]}): {story.trap.names}"
            ) from error
        if story.trap.seen < at:
            assert at > 10
            return
    raise AssertionError("the story never ended untouched")
