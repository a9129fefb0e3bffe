"""A cancelled runner ends, also when the cancellation comes while its tasks are failing already."""

import asyncio

from agent.drivers.base import ExitResult, Handle
from tests import clock
from tests.agent.doubles import FakeDriver, a_job, a_task, an_alloc
from tests.unit.agent.world import World


class FailingDriver(FakeDriver):
    """The watch of task `bad` breaks once; that of `slow` needs its time to be cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks = asyncio.Event()
        self.is_ending = asyncio.Event()
        self.may_end = asyncio.Event()

    async def wait(self, handle: Handle) -> ExitResult:
        if handle.task_name == "bad":
            await self.breaks.wait()
            raise RuntimeError("a bug in the driver")
        try:
            return await super().wait(handle)
        except asyncio.CancelledError:
            self.is_ending.set()
            await self.may_end.wait()
            raise


def test_a_cancellation_that_comes_while_the_tasks_are_failing_is_not_lost() -> None:
    async def story() -> None:
        job = a_job(a_task("bad"), a_task("slow"))
        world, alloc = World(job), an_alloc(job=job)
        driver = world.driver = FailingDriver()
        async with world.running() as agent:
            world.store.want(alloc)
            await world.store.until(lambda store: len(driver.starts) == 2)
            runner = agent.allocs[alloc.id]
            while not all(task.row.state.started_at for task in runner.tasks.values()):
                await asyncio.sleep(0.01)
            (host,) = [t for t in asyncio.all_tasks() if t.get_name() == f"alloc {alloc.id[:8]}"]
            driver.breaks.set()
            await driver.is_ending.wait()  # the group is aborting, and waits for `slow`
            host.cancel()
            await asyncio.sleep(0)
            driver.may_end.set()
            await asyncio.wait([host], timeout=60)
            assert host.cancelled()

    clock.run(story())
