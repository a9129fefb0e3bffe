"""In which order do a group's tasks live and die, whatever ends, fails, is stopped or interrupted on the way?"""

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from agent.decide.lifecycle import may_start, must_stop, stops_after
from agent.drivers.base import ExitResult
from model.alloc import ClientStatus, DesiredAlloc, TaskState, TaskStatus
from model.job import Job, JobType, Lifecycle, Service, Task
from model.wire import nanoseconds
from tests import clock
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.unit.agent.world import World, kinds, restart_policy

ONCE = restart_policy(attempts=0)
FAILED = ExitResult(code=1)


def hook(name: str, when: str, *, sidecar: bool = False, **more: object) -> Task:
    return a_task(name, lifecycle=Lifecycle(hook=when, sidecar=sidecar), **{"restart_policy": ONCE, **more})


def full(job_type: JobType = JobType.SERVICE, **main: object) -> Job:
    """One task of each kind."""
    return a_job(
        hook("init", "prestart"),
        hook("proxy", "prestart", sidecar=True, restart_policy=restart_policy(delay=1)),
        a_task("main", **{"restart_policy": ONCE, **main}),
        hook("tell", "poststart"),
        hook("watch", "poststart", sidecar=True),
        hook("clean", "poststop"),
        job_type=job_type,
    )


def order(world: World) -> list[str]:
    return [task for _, task, _ in world.driver.starts]


async def begun(world: World, alloc: DesiredAlloc, *names: str) -> None:
    """Waits until these run, and finds that no others do."""
    await asyncio.sleep(5)
    running = {task for (_, task, _), found in world.driver.tasks.items() if not found.ended.is_set()}
    assert running == set(names), alloc.id


# -- the stories


def test_each_kind_of_task_has_its_time_and_a_batch_with_sidecars_completes() -> None:
    async def story() -> None:
        job = full(JobType.BATCH)
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await begun(world, alloc, "init", "proxy")
            world.driver.end(alloc.id, "init")
            await begun(world, alloc, "proxy", "main", "tell", "watch")
            assert order(world)[2] == "main"
            world.driver.end(alloc.id, "tell")
            world.driver.end(alloc.id, "main")
            await begun(world, alloc, "clean")
            assert "Main Tasks Dead" in kinds(world.store, alloc.id, "proxy")
            world.driver.end(alloc.id, "clean")
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)

    clock.run(story())


def test_a_prestart_that_fails_is_restarted_by_its_policy_and_then_fails_the_alloc_before_main_began() -> None:
    async def story() -> None:
        policy = restart_policy(attempts=2, delay=1, interval=600)
        job = a_job(hook("init", "prestart", restart_policy=policy), a_task("main"), hook("clean", "poststop"))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            for _ in range(3):
                await begun(world, alloc, "init")
                world.driver.end(alloc.id, "init", FAILED)
            await begun(world, alloc, "clean")
            world.driver.end(alloc.id, "clean")
            seen = await world.store.until_observed(alloc.id, ClientStatus.FAILED)
            assert order(world) == ["init", "init", "init", "clean"]
            assert (seen.task_states["init"].failed, seen.task_states["main"].failed) == (True, False)
            assert seen.task_states["main"].started_at is None

    clock.run(story())


def test_a_sidecar_that_ends_is_started_again_as_long_as_main_runs_even_in_a_batch_job() -> None:
    async def story() -> None:
        job = full(JobType.BATCH)
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await begun(world, alloc, "init", "proxy")
            world.driver.end(alloc.id, "init")
            await asyncio.sleep(5)
            world.driver.end(alloc.id, "proxy")
            await begun(world, alloc, "proxy", "main", "tell", "watch")

    clock.run(story())


@pytest.mark.parametrize("at", ["prestart", "main"])
def test_a_stop_ends_everything_and_poststop_runs_after_it(at: str) -> None:
    async def story() -> None:
        job = full(kill_timeout=nanoseconds(10))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await asyncio.sleep(5)
            if at == "main":
                world.driver.end(alloc.id, "init")
                await asyncio.sleep(5)
                (main,) = world.driver.running(alloc.id, "main")
                main.ignores_signals = True
            world.store.stop(alloc.id)
            if at == "main":
                await asyncio.sleep(5)
                assert "clean" not in order(world), "main has not ended yet"
                await asyncio.sleep(5)
            await begun(world, alloc, "clean")
            world.driver.end(alloc.id, "clean")
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)

    clock.run(story())


def test_a_failed_main_task_is_cleaned_up_after_before_the_alloc_has_failed() -> None:
    async def story() -> None:
        job = full()
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await asyncio.sleep(5)
            world.driver.end(alloc.id, "init")
            await asyncio.sleep(5)
            world.driver.end(alloc.id, "main", FAILED)
            await begun(world, alloc, "clean")
            assert world.store.observed[alloc.id].client_status is ClientStatus.RUNNING
            world.driver.end(alloc.id, "clean")
            await world.store.until_observed(alloc.id, ClientStatus.FAILED)

    clock.run(story())


def test_what_never_began_needs_no_cleaning_up() -> None:
    async def story() -> None:
        job = full()
        world, alloc = World(job), an_alloc(job=job)
        world.driver.start_gate = asyncio.Event()
        async with world.running():
            world.store.want(alloc)
            await asyncio.sleep(5)
            world.store.stop(alloc.id)
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
            assert world.driver.starts == []

    clock.run(story())


# -- the leader task


def test_the_leader_task_ends_first_and_takes_the_others_with_it() -> None:
    async def story() -> None:
        job = a_job(a_task("main", leader=True), a_task("shipper"))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            await asyncio.sleep(1)
            (leader,), (shipper,) = (world.driver.running(alloc.id, name) for name in ("main", "shipper"))
            leader.ignores_signals = True
            world.store.stop(alloc.id)
            await asyncio.sleep(3)
            assert (leader.signals, shipper.signals) == (["SIGINT"], [])
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
            assert shipper.signals == ["SIGINT"]

    clock.run(story())


def test_when_the_leader_task_has_done_its_work_the_others_are_stopped() -> None:
    async def story() -> None:
        job = a_job(a_task("main", leader=True), a_task("shipper"), hook("clean", "poststop"), job_type=JobType.BATCH)
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await begun(world, alloc, "main", "shipper")
            world.driver.end(alloc.id, "main")
            await begun(world, alloc, "clean")
            assert "Leader Task Dead" in kinds(world.store, alloc.id, "shipper")
            world.driver.end(alloc.id, "clean")
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)

    clock.run(story())


def test_a_failed_sibling_stops_the_leader_first_too() -> None:
    async def story() -> None:
        job = a_job(a_task("main", leader=True), a_task("shipper"), a_task("frail", restart_policy=ONCE))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await begun(world, alloc, "main", "shipper", "frail")
            (leader,), (shipper,) = (world.driver.running(alloc.id, name) for name in ("main", "shipper"))
            leader.ignores_signals = True
            world.driver.end(alloc.id, "frail", FAILED)
            await asyncio.sleep(3)
            assert (leader.signals, shipper.signals) == (["SIGINT"], [])
            await world.store.until_observed(alloc.id, ClientStatus.FAILED)

    clock.run(story())


# -- out of service first


def test_all_services_are_withdrawn_before_the_delay_and_the_groups_delay_is_one_for_all_tasks() -> None:
    async def story() -> None:
        job = a_job(
            a_task("main", leader=True, shutdown_delay=nanoseconds(3), services=(Service(name="web"),)),
            a_task("shipper", shutdown_delay=nanoseconds(1), services=(Service(name="ship"),)),
            shutdown_delay=nanoseconds(10),
        )
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await begun(world, alloc, "main", "shipper")
            (leader,), (shipper,) = (world.driver.running(alloc.id, name) for name in ("main", "shipper"))
            world.store.stop(alloc.id)
            await asyncio.sleep(12.5)
            assert sorted(world.services.calls[2:]) == [("withdraw", alloc.id, "main"), ("withdraw", alloc.id, "shipper")]
            assert (leader.signals, shipper.signals) == ([], [])
            await asyncio.sleep(1)
            assert (leader.signals, shipper.signals) == (["SIGINT"], [])
            await asyncio.sleep(1)
            assert shipper.signals == ["SIGINT"]

    clock.run(story())


# -- an agent that dies at any moment


@pytest.mark.parametrize("is_stopped", [False, True], ids=["by itself", "by a stop"])
@pytest.mark.parametrize("life_s", [0.0, 0.01, 0.4, 2.0])
def test_agents_that_die_again_and_again_change_neither_the_order_nor_how_often_anything_starts(
    life_s: float, is_stopped: bool
) -> None:
    async def story() -> None:
        job = full(JobType.BATCH)
        world, alloc = World(job), an_alloc(job=job)
        world.store.want(alloc)
        ends = iter(("init", "tell") if is_stopped else ("init", "tell", "main"))
        for life in itertools.count():
            async with world.running():
                await asyncio.sleep(life_s)
            if life % 20 == 19:
                await _settle(world)
                name = next(ends, None)
                if name is not None:
                    world.driver.end(alloc.id, name)
                elif "clean" not in order(world):
                    world.store.stop(alloc.id)
                else:
                    world.driver.end(alloc.id, "clean")
                    break
        async with world.running():
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
        assert set(order(world)[:2]) == {"init", "proxy"}
        assert order(world)[2] == "main"
        assert set(order(world)[3:5]) == {"tell", "watch"}
        assert order(world)[5:] == ["clean"]

    async def _settle(world: World) -> None:
        async with world.running():
            await asyncio.sleep(10)

    clock.run(story())


# -- the rules, over all they can be asked

TASKS = full().task_groups[0].tasks
STATES = (
    TaskState(),
    TaskState(state=TaskStatus.RUNNING, started_at="then"),
    TaskState(state=TaskStatus.DEAD, started_at="then"),
    TaskState(state=TaskStatus.DEAD, started_at="then", failed=True),
)


def worlds() -> Iterator[dict[str, TaskState]]:
    for states in itertools.product(STATES, repeat=len(TASKS)):
        yield {task.name: state for task, state in zip(TASKS, states)}


def test_nothing_may_begin_before_its_time_and_poststop_is_never_told_to_end() -> None:
    named = {task.name: task for task in TASKS}
    for states in worlds():
        if may_start(named["main"], TASKS, states):
            assert states["init"].state is TaskStatus.DEAD
            assert not states["init"].failed
            assert states["proxy"].started_at
        for name in ("tell", "watch"):
            assert not may_start(named[name], TASKS, states) or states["main"].started_at
        assert may_start(named["clean"], TASKS, states) == (states["main"].state is TaskStatus.DEAD)
        assert must_stop(named["clean"], TASKS, states) is None
        if any(state.failed for name, state in states.items() if name != "clean"):
            # Nobody waits for ever for what will not come.
            left = [n for n, s in states.items() if not s.failed and n != "clean"]
            assert all(must_stop(named[name], TASKS, states) for name in left)


def test_a_poststop_task_that_calls_itself_leader_keeps_nobody_from_stopping() -> None:
    tasks = (a_task("main"), hook("clean", "poststop", leader=True))
    states = {"main": STATES[1], "clean": STATES[0]}
    assert not stops_after(tasks[0], tasks, states)
