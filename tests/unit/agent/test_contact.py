"""What does an agent make of a reboot, a verdict, a document that is gone, a Consul that does not answer?"""

import asyncio

from msgspec.structs import replace

from agent.drivers.base import ExitResult
from model.alloc import ClientStatus, Verdict
from model.job import JobType, Lifecycle
from model.wire import nanoseconds
from tests import clock
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.unit.agent.world import World, restart_policy


def test_after_a_reboot_nothing_starts_before_desired_was_read() -> None:
    async def story() -> None:
        job = a_job()
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
        world.reboot()
        world.store.go_away()
        async with world.running():
            await asyncio.sleep(600)
            assert world.driver.starts == [(alloc.id, "main", 1)]
            world.store.come_back()
            await asyncio.sleep(60)
            assert world.driver.starts == [(alloc.id, "main", 1), (alloc.id, "main", 2)]

    clock.run(story())


def test_after_a_reboot_an_alloc_that_was_given_up_is_reported_lost_and_not_started() -> None:
    async def story() -> None:
        job = a_job()
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
        world.reboot()
        world.store.want(replace(alloc, verdict=Verdict.LOST))
        async with world.running():
            await world.store.until_observed(alloc.id, ClientStatus.LOST)
        async with world.running():
            await asyncio.sleep(60)
        assert len(world.driver.starts) == 1
        assert world.store.observed[alloc.id].client_status is ClientStatus.LOST

    clock.run(story())


def test_a_running_task_that_was_given_up_runs_on_and_is_reported_running() -> None:
    async def story() -> None:
        job = a_job()
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            for verdict in (Verdict.UNKNOWN, Verdict.LOST):
                world.store.want(replace(alloc, verdict=verdict))
                await asyncio.sleep(60)
            assert world.store.observed[alloc.id].client_status is ClientStatus.RUNNING
            assert world.driver.running(alloc.id)

    clock.run(story())


def test_an_alloc_that_was_given_up_before_it_came_is_lost_and_one_stopped_is_complete() -> None:
    async def story() -> None:
        job = a_job()
        world = World(job)
        lost, stopped = an_alloc(1, job, verdict=Verdict.LOST), an_alloc(2, job)
        world.store.want(lost, stopped)
        world.store.stop(stopped.id)
        async with world.running():
            await world.store.until_observed(lost.id, ClientStatus.LOST)
            await world.store.until_observed(stopped.id, ClientStatus.COMPLETE)
        assert world.driver.starts == []

    clock.run(story())


def test_a_document_that_disappears_makes_an_orphan_that_runs_on_even_over_restarts() -> None:
    async def story() -> None:
        job = a_job(a_task(restart_policy=restart_policy(delay=1)))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.store.remove(alloc.id)
            await world.store.until(lambda store: store.observed[alloc.id].orphan is not None)
            assert world.store.observed[alloc.id].orphan == alloc
            await asyncio.sleep(3600)
        world.store.observed.clear()
        async with world.running():
            await world.store.until(lambda store: alloc.id in store.observed)
            await world.store.until(lambda store: store.observed[alloc.id].orphan == alloc)
            assert world.driver.running(alloc.id)
            world.store.want(alloc)
            await world.store.until(lambda store: store.observed[alloc.id].orphan is None)
        assert len(world.driver.starts) == 1

    clock.run(story())


def test_an_orphan_whose_task_has_ended_is_never_started_again() -> None:
    async def story() -> None:
        job = a_job(a_task(restart_policy=restart_policy(attempts=5, delay=1)))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.store.remove(alloc.id)
            await world.store.until(lambda store: store.observed[alloc.id].orphan is not None)
            world.driver.end(alloc.id, result=ExitResult(code=1))
            await world.store.until_observed(alloc.id, ClientStatus.LOST)
            await asyncio.sleep(3600)
        assert len(world.driver.starts) == 1

    clock.run(story())


def test_what_is_left_of_an_orphan_waits_for_the_sibling_that_runs() -> None:
    async def story() -> None:
        policy = restart_policy(attempts=5, delay=1)
        job = a_job(a_task(restart_policy=policy), a_task("other", restart_policy=policy))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.store.remove(alloc.id)
            await world.store.until(lambda store: store.observed[alloc.id].orphan is not None)
            world.driver.end(alloc.id, "main", ExitResult(code=1))
            await asyncio.sleep(60)
            assert len(world.driver.starts) == 2
            world.store.want(alloc)  # adopted: all of it is wanted again
            await world.store.until(lambda _: len(world.driver.starts) == 3)
            assert world.driver.running(alloc.id)

    clock.run(story())


def test_a_view_that_is_suddenly_empty_stops_nothing() -> None:
    async def story() -> None:
        job = a_job()
        world = World(job)
        allocs = [an_alloc(number, job) for number in range(20)]
        async with world.running():
            world.store.want(*allocs)
            await world.store.until_all(ClientStatus.RUNNING)
            world.store.desired.clear()
            world.store.index = 1
            world.store.come_back()
            await asyncio.sleep(600)
            assert all(world.driver.running(alloc.id) for alloc in allocs)

    clock.run(story())


def test_tasks_are_restarted_by_policy_while_consul_is_away_and_all_is_reported_after() -> None:
    async def story() -> None:
        job = a_job(a_task(restart_policy=restart_policy(attempts=2, delay=15, interval=1800)))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.store.go_away()
            for _ in range(3):
                world.driver.end(alloc.id, result=ExitResult(code=1))
                await asyncio.sleep(20)
            assert len(world.driver.starts) == 3
            world.store.come_back()
            seen = await world.store.until_observed(alloc.id, ClientStatus.FAILED)
            last = seen.task_states["main"].events[-1]
            assert last.type == "Not Restarting"
            assert last.display_message == 'Exceeded allowed attempts 2 in interval 30m0s and mode is "fail"'

    clock.run(story())


def test_only_a_group_that_asks_for_it_is_stopped_without_contact() -> None:
    async def story() -> None:
        asking = a_job(stop_after_client_disconnect=nanoseconds(60))
        staying = replace(a_job(), id="stays")
        world = World(asking, staying)
        one, other = an_alloc(1, asking), an_alloc(2, staying)
        async with world.running():
            world.store.want(one, other)
            await world.store.until_all(ClientStatus.RUNNING)
            world.store.go_away()
            await asyncio.sleep(59)
            assert world.driver.running(one.id)
            await asyncio.sleep(2)
            assert not world.driver.running(one.id)
            await asyncio.sleep(3600)
            assert world.driver.running(other.id)

    clock.run(story())


def test_a_consul_that_answers_nothing_at_all_is_no_contact_though_a_query_is_open() -> None:
    async def story() -> None:
        job = a_job(stop_after_client_disconnect=nanoseconds(10))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            await asyncio.sleep(300)
            assert world.driver.running(alloc.id), "an idle agent is in contact"
            world.store.is_hung = True
            await asyncio.sleep(7)
            assert world.driver.running(alloc.id)
            await asyncio.sleep(6)
            assert not world.driver.running(alloc.id)

    clock.run(story())


def test_many_short_absences_never_add_up() -> None:
    async def story() -> None:
        job = a_job(stop_after_client_disconnect=nanoseconds(30))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            for _ in range(50):
                world.store.go_away()
                await asyncio.sleep(20)
                world.store.come_back()
                await asyncio.sleep(8)
            assert world.driver.running(alloc.id)

    clock.run(story())


def test_what_was_stopped_without_contact_is_cleaned_up_after_and_told_as_lost_and_not_as_done() -> None:
    async def story() -> None:
        clean = a_task("clean", lifecycle=Lifecycle(hook="poststop"))
        job = a_job(a_task(), clean, job_type=JobType.BATCH, stop_after_client_disconnect=nanoseconds(5))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.store.go_away()
            await asyncio.sleep(10)
            assert not world.driver.running(alloc.id)
            world.driver.end(alloc.id, "clean")
            await asyncio.sleep(10)
            world.store.come_back()
            seen = await world.store.until_observed(alloc.id, ClientStatus.LOST)
            assert seen.client_description == "stop_after_client_disconnect has passed without contact"
            killing = next(e for e in seen.task_states["main"].events if e.type == "Killing")
            assert killing.details["kill_reason"] == seen.client_description
            await asyncio.sleep(600)
            assert [task for _, task, _ in world.driver.starts] == ["main", "clean"]

    clock.run(story())


def test_an_agent_that_dies_while_it_stops_for_want_of_contact_goes_on_with_that() -> None:
    async def story() -> None:
        job = a_job(
            a_task(shutdown_delay=nanoseconds(30)), stop_after_client_disconnect=nanoseconds(5), count=1
        )
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.store.go_away()
            await asyncio.sleep(10)
            assert world.driver.running(alloc.id)
        world.store.come_back()
        async with world.running():
            await world.store.until_observed(alloc.id, ClientStatus.LOST)
        async with world.running():
            await asyncio.sleep(60)
        assert world.store.observed[alloc.id].client_status is ClientStatus.LOST
        assert len(world.driver.starts) == 1

    clock.run(story())
