"""When is an alloc healthy to its deployment?"""

import asyncio
from typing import Any

from msgspec.structs import replace

from agent.drivers.base import ExitResult
from model.errors import TaskRefused
from model.job import Job, Service, ServiceCheck, UpdateStrategy
from model.wire import nanoseconds
from tests import clock
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.unit.agent.world import World, restart_policy


def rolling(**fields: Any) -> Job:
    strategy = UpdateStrategy(min_healthy_time=nanoseconds(10), healthy_deadline=nanoseconds(60), **fields)
    service = Service(name="web", checks=(ServiceCheck(name="alive", type="tcp"),))
    return a_job(
        a_task(services=(service,), restart_policy=restart_policy(delay=1, attempts=5)), update=strategy
    )


def test_an_alloc_is_healthy_after_its_checks_have_passed_without_a_break() -> None:
    async def story() -> None:
        job = rolling()
        world, alloc = World(job), an_alloc(job=job, deployment_id="d1")
        world.services.checks_pass = False
        async with world.running():
            world.store.want(alloc)
            await asyncio.sleep(20)
            world.services.checks_pass = True
            await asyncio.sleep(8)
            world.services.checks_pass = False
            await asyncio.sleep(1)
            world.services.checks_pass = True
            await asyncio.sleep(9)
            assert world.store.observed[alloc.id].deployment_status is None
            await asyncio.sleep(2)
            health = world.store.observed[alloc.id].deployment_status
            assert health is not None
            assert health.healthy is True

    clock.run(story())


def test_an_alloc_is_unhealthy_at_its_deadline_or_when_a_task_has_failed() -> None:
    async def story() -> None:
        job = rolling()
        world = World(job)
        late, failed = an_alloc(1, job, deployment_id="d1"), an_alloc(2, job, deployment_id="d1")
        world.services.checks_pass = False
        async with world.running():
            world.store.want(late, failed)
            await asyncio.sleep(5)
            world.driver.start_errors = [TaskRefused("no")]
            world.driver.end(failed.id, result=ExitResult(code=1))
            await asyncio.sleep(10)
            seen = world.store.observed[failed.id].deployment_status
            assert seen is not None
            assert seen.healthy is False
            assert world.store.observed[late.id].deployment_status is None
            await asyncio.sleep(50)
            seen = world.store.observed[late.id].deployment_status
            assert seen is not None
            assert seen.healthy is False

    clock.run(story())


def test_a_new_deployment_of_the_same_alloc_asks_for_its_health_again() -> None:
    async def story() -> None:
        job = rolling(health_check="task_states")
        world, alloc = World(job), an_alloc(job=job, deployment_id="d1")
        async with world.running():
            world.store.want(alloc)
            await asyncio.sleep(15)
            first = world.store.observed[alloc.id].deployment_status
            world.store.want(replace(alloc, deployment_id="d2"))
            await asyncio.sleep(5)
            world.agent.restart(alloc.id)
            await asyncio.sleep(9)
            second = world.store.observed[alloc.id].deployment_status
            await asyncio.sleep(5)
            third = world.store.observed[alloc.id].deployment_status
            assert first is not None
            assert third is not None
            assert (first.healthy, second, third.healthy) == (True, None, True)

    clock.run(story())
