"""Scripted scenarios: what design.md promises in sections 4 and 5, and what seeds have found.

Each is a cluster of its own in virtual time, driven step by step; the checkers watch all of them, and each ends
with a healed cluster that is as wanted.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any

from agent.drivers.base import ExitResult
from catalog.keys import Keys
from leader import commands
from model.alloc import ClientStatus, DesiredAlloc, Verdict
from model.job import Completion, JobType
from model.node import Eligibility, NodeControl, NodeId
from model.wire import decode, nanoseconds
from tests.sim import clock
from tests.sim.machine import LEASE_TTL_S, SETTINGS, Machine, Process
from tests.sim.wire import CALM, Weather
from tests.sim.workload import a_job
from tests.sim.world import World, a_world

Scenario = Callable[[World], Awaitable[None]]


def scenario(
    nodes: int = 3, candidates: int = 2
) -> Callable[[Callable[[World], Coroutine[Any, Any, None]]], Callable[[], None]]:
    """Runs the test in a cluster of that size, and heals it afterwards."""

    def mark(test: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        async def live() -> None:
            async with a_world(1, nodes=nodes, candidates=candidates) as world:
                for machine in world.machines:
                    machine.engine.calm()
                await test(world)
                await world.heal()

        @wraps(test)
        def run() -> None:
            clock.run(live())

        del run.__wrapped__  # type: ignore[attr-defined]  # pytest would ask for a fixture `world`
        return run

    return mark


def leader_of(world: World) -> Process:
    process = world.leader
    assert process is not None
    return process


def status_of(world: World, desired: DesiredAlloc) -> ClientStatus:
    observed = world.checkers.observed.get(desired.id)
    return observed.client_status if observed else ClientStatus.PENDING


async def running(world: World, name: str, count: int) -> list[DesiredAlloc]:
    """The job's wanted allocs once so many of them run and are reported."""

    def found() -> list[DesiredAlloc]:
        return [
            desired
            for desired in world.checkers.desired.values()
            if desired.job_id == name
            and not desired.is_stopping
            and desired.verdict is Verdict.NONE
            and desired.id in world.checkers.live
            and status_of(world, desired) is ClientStatus.RUNNING
        ]

    await world.until(lambda: len(found()) == count, f"{count} of {name} running")
    return found()


def machine_of(world: World, alloc: DesiredAlloc) -> Machine:
    machine = world.machine_of(alloc.node_id)
    assert machine is not None
    return machine


async def on_a_follower(world: World, name: str) -> tuple[DesiredAlloc, Machine]:
    """A running alloc of a new job on a machine that does not lead."""
    assert await world.register(a_job(name, count=len(world.machines)))
    for alloc in await running(world, name, len(world.machines)):
        machine = machine_of(world, alloc)
        if machine.process is not world.leader:
            return alloc, machine
    raise AssertionError("all of it is on the leader's machine")


def starts(world: World) -> int:
    return world.checkers.counts.get("starts", 0)


def stops(world: World) -> int:
    return world.checkers.counts.get("stops", 0)


@scenario()
async def test_the_healthy_original_of_a_returned_node_stays_and_its_stand_in_goes(world: World) -> None:
    original, machine = await on_a_follower(world, "api")
    machine.cut(is_off_net=True)
    await world.until(lambda: world.checkers.desired[original.id].verdict is Verdict.LOST, "given up")
    await running(world, "api", 3)
    stand_in = next(d for d in world.checkers.desired.values() if d.previous_allocation == original.id)
    machine.uncut()
    await world.until(lambda: stand_in.id not in world.checkers.live, "the stand-in has ended")
    assert original.id in world.checkers.live
    assert world.checkers.desired[original.id].verdict is Verdict.NONE


@scenario()
async def test_after_a_reboot_the_stand_in_stays(world: World) -> None:
    original, machine = await on_a_follower(world, "api")
    machine.power_off()
    await world.until(lambda: world.checkers.desired[original.id].verdict is Verdict.LOST, "given up")
    await running(world, "api", 3)
    stand_in = next(d for d in world.checkers.desired.values() if d.previous_allocation == original.id)
    machine.boot()
    await world.until(
        lambda: world.checkers.observed[original.id].client_status is ClientStatus.LOST, "told as lost"
    )
    assert stand_in.id in world.checkers.live
    assert original.id not in world.checkers.live


@scenario()
async def test_a_rebooted_machine_that_is_heard_before_its_drover_spoke_brings_nothing_back(world: World) -> None:
    """Seed 28: Consul still showed the registration, and the reports, of the boot before."""
    original, machine = await on_a_follower(world, "api")
    machine.power_off()
    await world.until(lambda: world.checkers.desired[original.id].verdict is Verdict.LOST, "given up")
    await running(world, "api", 3)
    machine.is_on = True
    machine.boots += 1
    machine.start_consul()
    world.state.node_recovered(machine.name)
    await asyncio.sleep(40.0)
    assert world.checkers.desired[original.id].verdict is Verdict.LOST
    machine.start_drover()
    await world.until(
        lambda: world.checkers.observed[original.id].client_status is ClientStatus.LOST, "told as lost"
    )


@scenario()
async def test_a_leader_cut_off_from_the_servers_has_stopped_leading_at_its_deadline(world: World) -> None:
    leader = leader_of(world)
    leader.machine.cut(is_off_net=False)
    began_s = world.loop.time()
    await world.until(lambda: not leader.is_leading, "it has stopped", within_s=LEASE_TTL_S + 0.2)
    await world.until(lambda: world.leader is not None, "another leads", within_s=LEASE_TTL_S + 8.0)
    assert leader_of(world) is not leader
    assert world.loop.time() - began_s < 12.0


@scenario()
async def test_a_frozen_leader_that_goes_on_writes_nothing_more(world: World) -> None:
    leader = leader_of(world)
    assert await world.register(a_job("api", count=3))
    await running(world, "api", 3)
    leader.freeze()
    await world.until(lambda: world.leader not in (None, leader), "another leads")
    assert await world.register(a_job("api", count=2))
    await running(world, "api", 2)
    world.loop.thaw(leader)
    await asyncio.sleep(5.0)
    assert not leader.is_leading


@scenario()
async def test_a_leader_killed_at_the_moment_it_goes_on_ends(world: World) -> None:
    """Seed 98: the cancellation of the process was lost with that of the term."""
    leader = leader_of(world)
    leader.freeze()
    await asyncio.sleep(LEASE_TTL_S + 1.0)
    leader.kill()
    await world.until(lambda: leader.machine.process is None, "its end", within_s=10.0)
    leader.machine.start_drover()


@scenario(candidates=1)
async def test_a_leaders_view_is_set_aside_from_garbage_collection_until_its_term_ends(world: World) -> None:
    machine = leader_of(world).machine
    await world.until(lambda: gc.get_freeze_count() > 0, "the view is set aside")
    machine.terminate_drover()
    await world.until(lambda: machine.process is None, "its end")
    assert gc.get_freeze_count() == 0
    machine.start_drover()


@scenario()
async def test_a_plan_whose_write_was_unclear_is_not_carried_out_twice(world: World) -> None:
    world.weather = Weather(unclear=0.5)
    while not any(d.job_id == "api" for d in world.checkers.desired.values()):
        await world.register(a_job("api", count=4))
        await asyncio.sleep(1.0)
    await asyncio.sleep(10.0)
    world.weather = CALM
    await running(world, "api", 4)
    assert starts(world) == 4


@scenario()
async def test_a_write_that_arrives_after_it_was_given_up_is_refused(world: World) -> None:
    """Seed 2510: placed anew after the first plan was thought lost; then the first one arrived as well."""
    assert await world.register(a_job("api", count=1))
    await running(world, "api", 1)
    for count in range(2, 8):
        world.weather = Weather(late=0.6, late_s_max=9.0)
        await world.register(a_job("api", count=count))
        await asyncio.sleep(4.0)
        world.weather = CALM
        await asyncio.sleep(12.0)


@scenario()
async def test_a_command_whose_answer_was_lost_is_carried_out(world: World) -> None:
    """Seed 591: it was in Consul, and the leader did not know."""
    world.weather = Weather(unclear=1.0)
    assert not await world.register(a_job("api", count=2))
    world.weather = CALM
    await running(world, "api", 2)
    assert await world.register(a_job("api", count=1))


@scenario()
async def test_a_node_whose_eligibility_was_set_without_an_answer_is_as_consul_has_it(world: World) -> None:
    node = world.machines[1].node_id

    def ask(wanted: Eligibility) -> Awaitable[bool]:
        return world.ask(wanted, lambda leading: commands.set_eligibility(leading, node, wanted))

    def kept() -> Eligibility:
        pair = world.state.kv.get(Keys().control(node))
        assert pair is not None
        return decode(pair.value, NodeControl).scheduling_eligibility

    refused = 0
    for wanted in (Eligibility.INELIGIBLE, Eligibility.ELIGIBLE) * 20:
        world.weather = Weather(unclear=0.5)
        is_done = await ask(wanted)
        world.weather = CALM
        refused += not is_done
        assert kept() is wanted or not is_done
        await world.until(lambda: shown(world, node) is kept(), "the leader knows what Consul has")
    assert 0 < refused < 40


def shown(world: World, node: NodeId) -> Eligibility | None:
    """As the API tells it; None while nobody leads."""
    election = world.leader.election if world.leader else None
    leading = election.leading if election else None
    return leading.view.nodes[node].control.scheduling_eligibility if leading else None


@scenario(candidates=1)
async def test_an_agent_restarted_while_consul_is_away_keeps_its_tasks(world: World) -> None:
    assert await world.register(a_job("api", count=6))
    await running(world, "api", 6)
    machine = world.machines[2]
    before = {thing.key for thing in machine.engine.alive}
    assert before
    machine.stop_consul(is_leaving=False)
    machine.kill_drover()
    await world.until(lambda: machine.process is None, "the process is gone")
    machine.start_drover()
    await asyncio.sleep(30.0)
    assert {thing.key for thing in machine.engine.alive} == before
    assert stops(world) == 0


@scenario(candidates=1)
async def test_everything_runs_on_while_consul_has_no_leader(world: World) -> None:
    assert await world.register(a_job("api", count=6))
    await running(world, "api", 6)
    world.state.is_leaderless = True
    await asyncio.sleep(120.0)
    machine = world.machines[1]
    machine.engine.end(machine.engine.alive[0], ExitResult(code=1))
    await world.until(lambda: starts(world) == 7, "restarted locally")
    assert (stops(world), len(world.checkers.live)) == (0, 6)


@scenario(candidates=1)
async def test_an_empty_desired_stops_nothing_and_what_runs_is_adopted(world: World) -> None:
    """As after a restored snapshot: the documents are gone, the tasks are not."""
    assert await world.register(a_job("api", count=6))
    allocs = await running(world, "api", 6)
    machine = world.machines[2]
    mine = [alloc for alloc in allocs if alloc.node_id == machine.node_id]
    assert mine
    before = starts(world)
    for alloc in mine:
        world.state.delete(Keys().desired_alloc(alloc.node_id, alloc.id))
        del world.checkers.desired[alloc.id]
    world.machines[0].kill_drover()  # who leads next reads what is there
    await world.until(lambda: world.machines[0].process is None, "the leader is gone")
    world.machines[0].start_drover()
    await world.until(lambda: all(alloc.id in world.checkers.desired for alloc in mine), "adopted")
    assert (starts(world), stops(world)) == (before, 0)


@scenario()
async def test_a_group_that_asks_for_it_is_stopped_without_contact(world: World) -> None:
    job = a_job("queue", count=3, stop_after_client_disconnect=nanoseconds(4.0))
    assert await world.register(job)
    for alloc in await running(world, "queue", 3):
        machine = machine_of(world, alloc)
        if machine.process is not world.leader:
            machine.cut(is_off_net=True)
            await world.until(lambda lost=alloc: lost.id not in world.checkers.live, "stopped")
            return


@scenario()
async def test_the_result_of_a_batch_place_outlives_its_stand_in(world: World) -> None:
    """Seed 62: the original had finished, was collected with its result, and the work ran again."""
    assert await world.register(a_job("load", kind=JobType.BATCH, count=4))
    await world.until(lambda: starts(world) >= 4, "all begun")
    machine = next(m for m in world.machines if m.engine.alive and m.process is not world.leader)
    machine.kill_drover()
    machine.stop_consul(is_leaving=True)
    await asyncio.sleep(SETTINGS.heartbeat_grace_s + 5.0)
    machine.start_consul()
    machine.start_drover()
    await asyncio.sleep(60.0)
    begun = starts(world)
    await world.deregister("nothing")
    leader_of(world).machine.kill_drover()
    await asyncio.sleep(60.0)
    assert starts(world) == begun


@scenario()
async def test_a_finished_job_is_purged_after_the_time_that_it_names_and_kept_where_it_names_none(world: World) -> None:
    for name, ttl in (("brief", nanoseconds(20.0)), ("kept", None)):
        rule = Completion(completions=3, restart_policy="never", ttl_after_finished=ttl)
        assert await world.register(a_job(name, kind=JobType.BATCH, count=3, completion=rule))
    assert ("default", "brief") in world.checkers.records
    await world.until(lambda: ("default", "brief") not in world.checkers.records, "its end", within_s=180.0)
    assert ("default", "kept") in world.checkers.records
