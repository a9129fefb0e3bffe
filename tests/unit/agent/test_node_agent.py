"""What becomes of an alloc on its node, over the lives of the agent?"""

import asyncio
from typing import Any

from msgspec.structs import replace

from agent.drivers.base import ExitResult
from model.alloc import ClientStatus, TaskStatus
from model.job import Service
from tests import clock
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.unit.agent.world import World, kinds, restart_policy


def test_an_alloc_runs_is_reported_and_stops_when_desired_says_so() -> None:
    async def story() -> None:
        job = a_job()
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            assert kinds(world.store, alloc.id) == ["Received", "Task Setup", "Started"]
            world.store.stop(alloc.id)
            seen = await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
            assert seen.task_states["main"].state is TaskStatus.DEAD
            assert not seen.task_states["main"].failed
            assert kinds(world.store, alloc.id)[3:] == ["Killing", "Terminated", "Killed"]
        assert len(world.driver.starts) == 1

    clock.run(story())


def test_a_dead_alloc_is_forgotten_once_desired_no_longer_names_it() -> None:
    async def story() -> None:
        job = a_job()
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.store.stop(alloc.id)
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
            world.store.remove(alloc.id)
            await world.store.until(lambda store: alloc.id not in store.observed)
            await asyncio.sleep(1)
            assert not world.agent.allocs
            assert not world.driver.tasks
            assert (world.journal.allocs, world.journal.tasks, world.journal.jobs) == ({}, {}, {})

    clock.run(story())


def test_a_job_that_was_purged_and_submitted_again_runs_as_it_is_now_though_both_are_version_0() -> None:
    async def story() -> None:
        old, new = a_job(a_task(config={"command": "old"})), a_job(a_task(config={"command": "new"}))
        world, first, second = World(old), an_alloc(1, job=old), an_alloc(2, job=new)
        async with world.running():
            world.store.want(first)
            await world.store.until_observed(first.id, ClientStatus.RUNNING)
            world.store.stop(first.id)
            await world.store.until_observed(first.id, ClientStatus.COMPLETE)
            world.store.add_job(new)
            del world.store.desired[first.id]
            world.store.want(second)  # seen together with the removal
            await world.store.until_observed(second.id, ClientStatus.RUNNING)
        ran = {key[0]: task.start.config for key, task in world.driver.tasks.items()}
        assert ran[second.id] == {"command": "new"}

    clock.run(story())


def test_an_agent_killed_and_started_again_finds_its_tasks_without_consul() -> None:
    async def story() -> None:
        job = a_job()
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
        world.store.go_away()
        async with world.running():
            await asyncio.sleep(3600)
            assert len(world.driver.running(alloc.id)) == 1
            world.store.come_back()
            await asyncio.sleep(60)
        assert len(world.driver.starts) == 1
        assert world.driver.running(alloc.id)
        assert world.services.calls == []

    clock.run(story())


def test_a_task_that_ended_while_no_agent_ran_is_reported_with_its_exit_code_and_restarted() -> None:
    async def story() -> None:
        job = a_job(a_task(restart_policy=restart_policy(delay=15)))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
        world.driver.end(alloc.id, result=ExitResult(code=3))
        async with world.running():
            await world.store.until_observed(alloc.id, ClientStatus.PENDING)
            seen = await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            (end,) = [event for event in seen.task_states["main"].events if event.type == "Terminated"]
            assert (end.exit_code, end.display_message) == (3, "Exit Code: 3")
            assert seen.task_states["main"].restarts == 1
        assert [attempt for _, _, attempt in world.driver.starts] == [1, 2]

    clock.run(story())


def test_a_job_version_that_needs_no_restart_is_taken_up_in_place() -> None:
    async def story() -> None:
        job = a_job(a_task(services=(Service(name="web"),)))
        newer = a_job(a_task(services=(Service(name="web", tags=("v2",)),)), version=1)
        world, alloc = World(job, newer), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.store.want(replace(alloc, job_version=1))
            await world.store.until(lambda store: store.observed[alloc.id].job_version == 1)
            await asyncio.sleep(1)
            assert world.services.runs[-1].task.services[0].tags == ("v2",)
        assert len(world.driver.starts) == 1
        async with world.running():
            await asyncio.sleep(10)
            assert world.agent.allocs[alloc.id].job == newer

    clock.run(story())


def test_300_allocs_cost_few_reports_and_the_newest_state_always_arrives() -> None:
    async def story() -> None:
        job = a_job()
        world = World(job)
        allocs = [an_alloc(number, job) for number in range(300)]
        async with world.running():
            world.store.want(*allocs)
            await world.store.until_all(ClientStatus.RUNNING)
            assert len(world.store.reports) <= 20
            world.store.go_away()
            for alloc in allocs:
                world.driver.end(alloc.id, result=ExitResult(code=1))
            await asyncio.sleep(100)
            world.store.come_back()
            await world.store.until(
                lambda store: all(o.task_states["main"].restarts == 1 for o in store.observed.values())
            )
        sequences = [document.sequence for report in world.store.reports for document in report]
        assert len(set(sequences)) == len(sequences)

    clock.run(story())


def test_stop_all_ends_every_task_for_dev() -> None:
    async def story() -> None:
        job = a_job()
        world = World(job)
        allocs = [an_alloc(number, job) for number in range(5)]
        async with world.running() as agent:
            world.store.want(*allocs)
            await world.store.until_all(ClientStatus.RUNNING)
            await agent.stop_all()
            assert not any(world.driver.running(alloc.id) for alloc in allocs)

    clock.run(story())


def test_the_same_seed_gives_the_same_history_twice() -> None:
    async def story() -> list[Any]:
        job = a_job()
        world = World(job)
        allocs = [an_alloc(number, job) for number in range(10)]
        async with world.running():
            world.store.want(*allocs)
            await world.store.until_all(ClientStatus.RUNNING)
            for alloc in allocs:
                world.driver.end(alloc.id, result=ExitResult(code=1))
            await asyncio.sleep(100)
        return [world.store.reports, world.driver.starts]

    assert clock.run(story()) == clock.run(story())
