"""What may not run beside what?"""

import asyncio

from model.alloc import AllocatedPort, ClientStatus, TaskCores
from tests import clock
from tests.agent.doubles import a_job, an_alloc
from tests.unit.agent.world import World


def test_a_replacement_waits_until_the_alloc_it_replaces_has_ended_here() -> None:
    async def story() -> None:
        job = a_job()
        world = World(job)
        old = an_alloc(1, job)
        new = an_alloc(2, job, previous_allocation=old.id)
        async with world.running():
            world.store.want(old)
            await world.store.until_observed(old.id, ClientStatus.RUNNING)
            (process,) = world.driver.running(old.id)
            process.ignores_signals = True
            world.store.want(new)
            world.store.stop(old.id)
            await asyncio.sleep(3)
            assert not world.driver.running(new.id)
            assert "to end here" in world.store.observed[new.id].client_description
            await world.store.until_observed(new.id, ClientStatus.RUNNING)
            assert not world.driver.running(old.id)

    clock.run(story())


def test_a_static_port_is_held_by_one_alloc_at_a_time_whatever_desired_says() -> None:
    async def story() -> None:
        job = a_job()
        world = World(job)
        port = (AllocatedPort(label="http", value=8080, host_ip="10.0.0.1"),)
        allocs = [an_alloc(number, job, ports=port) for number in range(3)]
        async with world.running():
            world.store.want(*allocs)
            await asyncio.sleep(60)
        async with world.running():
            await asyncio.sleep(60)
            assert [len(world.driver.running(alloc.id)) for alloc in allocs] == [1, 0, 0]
            world.store.stop(allocs[0].id)
            await asyncio.sleep(60)
            assert [len(world.driver.running(alloc.id)) for alloc in allocs] == [0, 1, 0]
            assert world.store.observed[allocs[2].id].client_description.endswith("to free port 8080")

    clock.run(story())


def test_cores_are_held_by_one_alloc_at_a_time_and_a_port_once_on_each_address() -> None:
    async def story() -> None:
        job = a_job()
        world = World(job)

        def port(address: str) -> tuple[AllocatedPort, ...]:
            return (AllocatedPort(label="http", value=8080, host_ip=address),)

        first = an_alloc(1, job, cores=(TaskCores(task="main", ids=(0, 3)),), ports=port("10.0.0.1"))
        second = an_alloc(2, job, cores=(TaskCores(task="main", ids=(3,)),), ports=port("10.0.0.2"))
        other = an_alloc(3, job, cores=(TaskCores(task="main", ids=(1,)),), ports=port("10.0.0.3"))
        async with world.running():
            world.store.want(first)
            await world.store.until_observed(first.id, ClientStatus.RUNNING)
            world.store.want(second, other)
            await asyncio.sleep(60)
            assert [len(world.driver.running(alloc.id)) for alloc in (first, second, other)] == [1, 0, 1]
            assert world.store.observed[second.id].client_description.endswith("to free core 3")
            world.store.stop(first.id)
            await world.store.until_observed(second.id, ClientStatus.RUNNING)

    clock.run(story())
