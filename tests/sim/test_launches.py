"""Whatever befalls the leader in the second in which a launch is due, there is exactly one child, with one alloc.

Each write that the leader sends in that second is the one that goes wrong, in each way, in a cluster of its own.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
import pytest

from catalog.embedded import Response as Answer
from leader import dispatching
from leader.dispatching import Dispatch
from model.job import DEFAULT_NAMESPACE, History, Job, JobId, JobType, ParameterizedConfig, PeriodicConfig
from tests.sim import clock
from tests.sim.clock import EPOCH
from tests.sim.machine import Process
from tests.sim.wire import Caller
from tests.sim.workload import a_job
from tests.sim.world import World, a_world

PERIOD_S = 20
# A write that is on its way for so long arrives under another leader.
_LATE_S = 12.0
WAYS = ("killed before", "killed after", "answer lost", "refused", "late", "late and killed", "frozen")
# How many writes a leader sends in such a second, at most; the last case sees none go wrong.
_WRITES = 5


class Trap:
    """The n-th write of the leader goes wrong, once armed. is_sprung: it has."""

    def __init__(self, world: World, way: str, number: int) -> None:
        self.world, self.way, self.number = world, way, number
        self.prey: Process | None = None
        self.seen = 0
        self.is_sprung = False
        self._exchange = world.net.exchange
        world.net.exchange = self.exchange  # type: ignore[method-assign]

    async def exchange(self, caller: Caller, method: str, path: str, params: Mapping[str, str], body: bytes) -> Answer:
        is_leaders = (method == "PUT" and path.startswith("/v1/catalog/")) or (path == "/v1/txn" and b"check-session" in body)
        if caller is not self.prey or not is_leaders:
            return await self._exchange(caller, method, path, params, body)
        self.seen += 1
        if self.seen != self.number:
            return await self._exchange(caller, method, path, params, body)
        self.is_sprung = True
        self.world.say(f"{self.way}: write {self.number}")
        return await self._go_wrong(self.prey, method, path, params, body)

    async def _go_wrong(self, prey: Process, method: str, path: str, params: Mapping[str, str], body: bytes) -> Answer:
        match self.way:
            case "killed before":
                prey.kill()
            case "killed after":
                await self._exchange(prey, method, path, params, body)
                prey.kill()
            case "answer lost":
                await self._exchange(prey, method, path, params, body)
            case "late" | "late and killed":
                self.world.tasks.create_task(self._arrive(prey, method, path, params, body), name="a late write")
                if self.way == "late and killed":
                    prey.kill()
            case "frozen":
                prey.freeze()
                self.world.loop.call_later(_LATE_S, self.world.loop.thaw, prey)
                return await self._exchange(prey, method, path, params, body)
        raise ConnectionResetError(self.way)

    async def _arrive(self, prey: Process, method: str, path: str, params: Mapping[str, str], body: bytes) -> None:
        await asyncio.sleep(_LATE_S)
        future: asyncio.Future[Answer] = self.world.loop.create_future()
        await self.world.net._serve(future, prey, method, path, params, body)
        self.world.say(f"the late write was answered {future.result().status}")


def in_a_world(live: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with a_world(1) as world:
            for machine in world.machines:
                machine.engine.calm()
            await live(world)
            await world.heal()

    clock.run(run())


def periodic(name: str, **more: Any) -> Job:
    config = PeriodicConfig(spec=f"@every {PERIOD_S}s", history=History(successful=1000, failed=1000), **more)
    return msgspec.structs.replace(a_job(name, kind=JobType.BATCH), periodic=config)


def now_s(world: World) -> float:
    return EPOCH.timestamp() + world.loop.time()


async def until_moment(world: World, moment_s: float) -> None:
    await asyncio.sleep(moment_s - now_s(world))


def moments(world: World, name: str) -> list[int]:
    """Of the job's children, as their ids say."""
    found = (job_id for _, job_id in world.checkers.records)
    return sorted(int(job_id.rpartition("-")[2]) for job_id in found if job_id.startswith(f"{name}/periodic-"))


@pytest.mark.parametrize("number", range(1, _WRITES + 1))
@pytest.mark.parametrize("way", WAYS)
def test_whatever_befalls_the_leader_as_a_launch_is_due_there_is_one_child(way: str, number: int) -> None:
    async def live(world: World) -> None:
        assert await world.register(periodic("often"))
        first_s = int(now_s(world)) // PERIOD_S * PERIOD_S + PERIOD_S
        trap = Trap(world, way, number)
        await until_moment(world, first_s + PERIOD_S - 0.001)
        trap.prey = world.leader
        await until_moment(world, first_s + PERIOD_S + 1.0)
        trap.prey = None
        await until_moment(world, first_s + 3 * PERIOD_S + 5)
        for machine in world.machines:
            machine.start_drover()
        await world.until(lambda: world.leader, "somebody leads")
        assert trap.is_sprung == (trap.seen >= number)
        assert moments(world, "often") == [first_s + n * PERIOD_S for n in range(4)]
        assert await world.deregister("often")
        await world.heal()
        # The dead leader's machine may have run one: what replaced that names it.
        firsts = (d for d in world.checkers.desired.values() if not d.previous_allocation)
        allocs = Counter(d.job_id for d in firsts if d.job_id.startswith("often/"))
        assert set(allocs.values()) == {1}, allocs
        assert {version for (_, job_id, version) in world.checkers.versions if job_id.startswith("often/")} == {0}

    in_a_world(live)


def test_runs_do_not_overlap_over_a_change_of_leader() -> None:
    async def live(world: World) -> None:
        job = periodic("long", prohibit_overlap=True)
        (group,) = job.task_groups
        (task,) = group.tasks
        endless = msgspec.structs.replace(group, tasks=(msgspec.structs.replace(task, config={"life": "service"}),))
        assert await world.register(msgspec.structs.replace(job, task_groups=(endless,)))
        await world.until(lambda: moments(world, "long"), "the first run")
        for _ in range(2):
            leader = world.leader
            assert leader is not None
            leader.kill()
            await asyncio.sleep(PERIOD_S + 5.0)
            for machine in world.machines:
                machine.start_drover()
        assert len(moments(world, "long")) == 1
        assert await world.deregister(f"long/periodic-{moments(world, 'long')[0]}")
        await world.until(lambda: len(moments(world, "long")) == 2, "the next run")
        assert await world.deregister("long")
        assert await world.deregister(f"long/periodic-{moments(world, 'long')[1]}")

    in_a_world(live)


@pytest.mark.parametrize("number", range(1, 4))
@pytest.mark.parametrize("way", WAYS)
def test_the_same_token_is_one_child_whatever_befalls_the_leader(way: str, number: int) -> None:
    async def live(world: World) -> None:
        parent = msgspec.structs.replace(a_job("par", kind=JobType.BATCH), parameterized_job=ParameterizedConfig())
        assert await world.register(parent)
        trap = Trap(world, way, number)
        trap.prey = world.leader

        async def dispatched() -> bool:
            return await world.ask(
                "dispatch",
                lambda leading: dispatching.dispatch(
                    leading, DEFAULT_NAMESPACE, JobId("par"), Dispatch(meta={}, token="once")
                ),
            )

        await dispatched()
        await asyncio.sleep(1.0)
        trap.prey = None
        for _ in range(60):
            for machine in world.machines:
                machine.start_drover()
            if await dispatched():
                break
            await asyncio.sleep(1.0)
        await asyncio.sleep(_LATE_S + 3.0)
        children = [job_id for _, job_id in world.checkers.records if job_id.startswith("par/")]
        assert len(children) == 1

    in_a_world(live)
