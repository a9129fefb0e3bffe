"""How does a task live: started, restarted, stopped, in the order that its group asks for?"""

import asyncio
from collections.abc import Mapping

from msgspec.structs import replace

from agent.drivers.base import ExitResult, StartFailed
from agent.hooks.base import TaskContext, TaskHook
from model.alloc import AllocId, ClientStatus, DesiredStatus
from model.errors import TaskRefused
from model.job import CheckRestart, Completion, JobType, Service, ServiceCheck
from model.wire import nanoseconds
from tests import clock
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.unit.agent.world import World, kinds, restart_policy


def test_who_waits_for_a_permit_runs_on_and_can_be_stopped() -> None:
    async def story() -> None:
        braked = ServiceCheck(name="alive", check_restart=CheckRestart(limit=1, max_parallel=1))
        task = a_task(services=(Service(name="web", checks=(braked,)),), restart_policy=restart_policy(attempts=9, delay=1))
        job = a_job(task)
        world, alloc = World(job), an_alloc(job=job)
        gate, asked = asyncio.Event(), []

        async def permit(alloc_id: AllocId, max_parallel: int) -> None:
            asked.append((alloc_id, max_parallel))
            await gate.wait()

        world.permit = permit
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.services.runs[-1].restart('check "alive" unhealthy')
            await asyncio.sleep(9)
            assert (asked, len(world.driver.starts), len(world.driver.running(alloc.id))) == ([(alloc.id, 1)], 1, 1)
            gate.set()
            await world.store.until(lambda _: len(world.driver.starts) == 2)
            gate.clear()
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.services.runs[-1].restart('check "alive" unhealthy')
            await asyncio.sleep(1)
            world.store.want(replace(alloc, desired_status=DesiredStatus.STOP))
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
        assert len(world.driver.starts) == 2

    clock.run(story())


def test_a_batch_task_that_succeeds_is_complete_and_never_starts_again() -> None:
    async def story() -> None:
        job = a_job(job_type=JobType.BATCH)
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.driver.end(alloc.id)
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
        async with world.running():
            await asyncio.sleep(600)
        assert len(world.driver.starts) == 1

    clock.run(story())


def test_a_run_of_a_completing_group_is_started_again_in_place_after_twice_the_wait_each_time() -> None:
    """No limit of its own, and none of `restart`: nobody need be there to ask."""

    async def story() -> None:
        rule = Completion(restart_policy="on_failure")
        job = a_job(a_task(restart_policy=restart_policy(attempts=1)), job_type=JobType.BATCH, completion=rule)
        world, alloc = World(job), an_alloc(job=job)
        waited = []
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.store.is_away = True
            for failures in range(1, 9):
                await asyncio.sleep(1)
                began_s = asyncio.get_running_loop().time()
                world.driver.end(alloc.id, result=ExitResult(code=failures))
                while len(world.driver.starts) <= failures:
                    await asyncio.sleep(0.1)
                waited.append(round(asyncio.get_running_loop().time() - began_s))
            world.store.come_back()
            await asyncio.sleep(60)
            assert world.store.observed[alloc.id].failed_runs == 8
            world.driver.end(alloc.id)
            seen = await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
        assert waited == [10, 20, 40, 80, 160, 320, 360, 360]
        assert seen.failed_runs == 8

    clock.run(story())


def test_the_waits_of_a_run_go_on_where_a_killed_agent_left_them() -> None:
    async def story() -> None:
        rule = Completion(restart_policy="on_failure")
        job = a_job(job_type=JobType.BATCH, completion=rule)
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            for _ in range(2):
                world.driver.end(alloc.id, result=ExitResult(code=1))
                await asyncio.sleep(25)
            assert len(world.driver.starts) == 3
            world.driver.end(alloc.id, result=ExitResult(code=1))
            await asyncio.sleep(1)
        async with world.running():
            await asyncio.sleep(38)
            assert len(world.driver.starts) == 3
            await asyncio.sleep(2)
            assert len(world.driver.starts) == 4
            assert world.store.observed[alloc.id].failed_runs == 3

    clock.run(story())


def test_a_failed_run_ends_its_alloc_where_each_retry_is_a_new_one() -> None:
    async def story() -> None:
        job = a_job(
            a_task(restart_policy=restart_policy(attempts=5)), job_type=JobType.BATCH, completion=Completion(restart_policy="never")
        )
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.driver.end(alloc.id, result=ExitResult(code=1))
            seen = await world.store.until_observed(alloc.id, ClientStatus.FAILED)
        assert (len(world.driver.starts), seen.failed_runs) == (1, 0)

    clock.run(story())


def test_a_failed_task_takes_its_siblings_with_it_and_only_then_the_alloc_has_failed() -> None:
    async def story() -> None:
        job = a_job(
            a_task(restart_policy=restart_policy(attempts=0)), a_task("other", kill_timeout=nanoseconds(30))
        )
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            await asyncio.sleep(1)
            (other,) = world.driver.running(alloc.id, "other")
            other.ignores_signals = True
            world.driver.end(alloc.id, "main", ExitResult(code=1))
            await asyncio.sleep(20)
            assert world.store.observed[alloc.id].client_status is ClientStatus.RUNNING
            seen = await world.store.until_observed(alloc.id, ClientStatus.FAILED)
            assert other.signals == ["SIGINT", "SIGKILL"]
            assert "Sibling Task Failed" in kinds(world.store, alloc.id, "other")
            assert [seen.task_states[name].failed for name in ("main", "other")] == [True, False]

    clock.run(story())


def test_a_stop_withdraws_the_services_waits_and_only_then_signals() -> None:
    async def story() -> None:
        task = a_task(services=(Service(name="web"),), shutdown_delay=nanoseconds(5), kill_signal="SIGTERM")
        job = a_job(task, shutdown_delay=nanoseconds(2))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            (process,) = world.driver.running(alloc.id)
            world.store.stop(alloc.id)
            await asyncio.sleep(6.9)
            assert world.services.calls == [("publish", alloc.id, "main"), ("withdraw", alloc.id, "main")]
            assert process.signals == []
            await asyncio.sleep(0.2)
            assert process.signals == ["SIGTERM"]

    clock.run(story())


def test_services_are_published_at_each_process_start_and_withdrawn_at_each_end() -> None:
    async def story() -> None:
        task = a_task(services=(Service(name="web"),), restart_policy=restart_policy(delay=1))
        job = a_job(task)
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            world.driver.end(alloc.id, result=ExitResult(code=1))
            await asyncio.sleep(10)
            calls = [call for call, _, _ in world.services.calls]
            assert calls == ["publish", "withdraw", "publish"]
            assert world.services.runs[1].started_s > world.services.runs[0].started_s

    clock.run(story())


def test_a_check_restart_counts_and_an_operators_restart_does_not() -> None:
    async def story() -> None:
        task = a_task(services=(Service(name="web"),), restart_policy=restart_policy(attempts=1, delay=1))
        job = a_job(task)
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            for _ in range(5):
                world.agent.restart(alloc.id)
                await asyncio.sleep(1)
            assert len(world.driver.starts) == 6
            world.services.runs[-1].restart('check "alive" unhealthy')
            await asyncio.sleep(10)
            assert len(world.driver.starts) == 7
            world.services.runs[-1].restart('check "alive" unhealthy')
            seen = await world.store.until_observed(alloc.id, ClientStatus.FAILED)
            assert seen.task_states["main"].restarts == 6

    clock.run(story())


def test_a_busy_driver_is_no_failure() -> None:
    async def story() -> None:
        job = a_job(a_task(restart_policy=restart_policy(attempts=0)))
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.driver.is_busy = True
            world.store.want(alloc)
            await asyncio.sleep(300)
            world.driver.is_busy = False
            seen = await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            assert seen.task_states["main"].restarts == 0
        world.driver.is_busy = True
        async with world.running():
            await asyncio.sleep(300)
            assert world.store.observed[alloc.id].client_status is ClientStatus.RUNNING
            world.driver.is_busy = False
            await asyncio.sleep(60)
        assert len(world.driver.starts) == 1

    clock.run(story())


def test_a_refused_task_fails_at_once_and_a_failed_start_is_tried_again_by_policy() -> None:
    async def story() -> None:
        job = a_job(a_task(restart_policy=restart_policy(attempts=2, delay=1)))
        world = World(job)
        refused, unlucky = an_alloc(1, job), an_alloc(2, job)
        async with world.running():
            world.driver.start_errors = [TaskRefused("command 'nope' was not found")]
            world.store.want(refused)
            await world.store.until_observed(refused.id, ClientStatus.FAILED)
            assert kinds(world.store, refused.id)[-2:] == ["Driver Failure", "Not Restarting"]
            world.driver.start_errors = [StartFailed("pull failed"), StartFailed("pull failed")]
            world.store.want(unlucky)
            seen = await world.store.until_observed(unlucky.id, ClientStatus.RUNNING)
            assert seen.task_states["main"].restarts == 2

    clock.run(story())


def test_a_stop_reaches_a_task_that_is_still_starting() -> None:
    async def story() -> None:
        job = a_job()
        world, alloc = World(job), an_alloc(job=job)
        world.driver.start_gate = asyncio.Event()
        async with world.running():
            world.store.want(alloc)
            await asyncio.sleep(5)
            world.store.stop(alloc.id)
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
        assert world.driver.starts == []

    clock.run(story())


def test_an_intended_start_that_left_nothing_is_the_same_attempt_again() -> None:
    async def story() -> None:
        job = a_job()
        world, alloc = World(job), an_alloc(job=job)
        world.driver.start_gate = asyncio.Event()
        async with world.running():
            world.store.want(alloc)
            await asyncio.sleep(5)
        world.driver.start_gate = None
        async with world.running():
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
        assert world.driver.starts == [(alloc.id, "main", 1)]

    clock.run(story())


def test_hooks_add_to_the_environment_and_one_that_fails_at_the_end_keeps_no_other_from_it() -> None:
    told: list[str] = []

    class Recorded(TaskHook):
        def __init__(self, name: str) -> None:
            self.name = name

        async def prepare(self, context: TaskContext) -> Mapping[str, str]:
            return {f"FROM_{self.name}": context.task.name}

        async def ended(self, context: TaskContext) -> None:
            told.append(self.name)
            raise RuntimeError("this hook always fails")

    async def story() -> None:
        job = a_job(job_type=JobType.BATCH)
        world, alloc = World(job), an_alloc(job=job)
        async with world.running([Recorded("a"), Recorded("b")]):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            (process,) = world.driver.running(alloc.id)
            assert process.start.env["FROM_a"] == process.start.env["FROM_b"] == "main"
            world.driver.end(alloc.id)
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
            await asyncio.sleep(1)
        assert told == ["b", "a"]

    clock.run(story())
