"""What children of periodic and parameterized jobs do beside each other, in whole clusters: one job's trouble is its own,
whoever waits gets a turn, and what still runs counts."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from catalog.embedded import Response as Answer
from leader import children, commands, dispatching, lines, stopping
from leader.dispatching import Dispatch
from leader.explaining import why
from leader.leading import Leading
from leader.view import View
from leader.watched import service_name, watch
from model.alloc import ClientStatus
from model.cluster import Launches
from model.job import DEFAULT_NAMESPACE, Constraint, Job, JobId, JobType, ParameterizedConfig
from model.snapshot import JobKey
from model.wire import Nanoseconds
from tests.sim.test_launches import PERIOD_S, in_a_world, moments, periodic, until_moment
from tests.sim.wire import Caller
from tests.sim.workload import a_job
from tests.sim.world import World

ENDLESS: dict[str, Any] = {"life": "service"}


def refusing(world: World, is_refused: Callable[[str, bytes], bool]) -> list[bytes]:
    """Consul says from now on that this is too large. Returns the bodies that it took."""
    taken: list[bytes] = []
    passed = world.net.exchange

    async def exchange(caller: Caller, method: str, path: str, params: Mapping[str, str], body: bytes) -> Answer:
        if method == "PUT" and is_refused(path, body):
            return Answer(status=413, body=b"Request body too large")
        taken.append(body)
        return await passed(caller, method, path, params, body)

    world.net.exchange = exchange  # type: ignore[method-assign]
    return taken


def leading(world: World) -> Leading:
    process = world.leader
    assert process is not None
    assert process.election is not None
    assert process.election.leading is not None
    return process.election.leading


def view(world: World) -> View:
    return leading(world).view


def key(name: str) -> JobKey:
    return DEFAULT_NAMESPACE, JobId(name)


def launches(world: World, name: str) -> Launches:
    known: Launches = view(world).launches[key(name)].document
    return known


def with_task(job: Job, config: dict[str, Any]) -> Job:
    (group,) = job.task_groups
    (task,) = group.tasks
    group = msgspec.structs.replace(group, tasks=(msgspec.structs.replace(task, config=config),))
    return msgspec.structs.replace(job, task_groups=(group,))


def parameterized(name: str, config: dict[str, Any] | None = None, **settings: Any) -> Job:
    job = msgspec.structs.replace(a_job(name, kind=JobType.BATCH), parameterized_job=ParameterizedConfig(**settings))
    return job if config is None else with_task(job, config)


async def dispatched(world: World, name: str, **asked: Any) -> bool:
    return await world.ask(
        "dispatch", lambda leading: dispatching.dispatch(leading, *key(name), Dispatch(**{"meta": {}, **asked}))
    )


def running(world: World, name: str) -> list[str]:
    """Children of which something is placed, by age."""
    found = view(world)
    there = found.families.children(key(name))
    return [child[1] for child in there if any(not alloc.is_terminal for alloc in found.allocs_by_job.get(child, {}).values())]


def test_a_job_whose_launch_is_refused_stops_no_other_and_says_so() -> None:
    async def live(world: World) -> None:
        refusing(world, lambda path, body: path == "/v1/txn" and b"/a-large%2Fperiodic-" in body)
        for name in ("a-large", "b-small", "c-small"):
            assert await world.register(periodic(name))
        await world.until(lambda: len(moments(world, "c-small")) >= 2, "two runs of the others", 3 * PERIOD_S)
        assert moments(world, "a-large") == []
        assert moments(world, "b-small") == moments(world, "c-small")
        known = launches(world, "a-large")
        assert known.missed == len(known.removed) >= 2
        found = watch(view(world), key("a-large"), view(world).jobs[key("a-large")], known.dealt + 1)
        assert found is not None
        assert found.status == "critical"
        assert "failed: not started: " in found.output
        assert "too large" in found.output

    in_a_world(live)


def test_a_job_that_is_no_run_is_not_taken_for_one() -> None:
    async def live(world: World) -> None:
        assert await world.register(periodic("sq"))
        await world.until(lambda: moments(world, "sq"), "the first run", 2 * PERIOD_S)
        soon = moments(world, "sq")[-1] + PERIOD_S
        assert await world.register(a_job(f"sq/periodic-{soon}", kind=JobType.BATCH))
        await until_moment(world, soon + PERIOD_S + 5)
        known = launches(world, "sq")
        assert (known.missed, known.dealt) == (1, soon + PERIOD_S)
        assert [(line.due, line.reason) for line in known.removed] == [
            (soon, "not started: a job of that name is there, which is no run of this one")
        ]
        assert f"sq/periodic-{soon + PERIOD_S}" in {name for _, name in view(world).jobs}

    in_a_world(live)


def test_a_check_that_consul_refuses_keeps_no_other_from_being_told() -> None:
    async def live(world: World) -> None:
        taken = refusing(world, lambda path, body: path == "/v1/catalog/register" and b"-a-bad" in body)
        for name in ("a-bad", "b-good"):
            assert await world.register(periodic(name))
        shown = service_name(key("b-good"), "drover").encode()
        await world.until(lambda: any(shown in body for body in taken), "the other's check", 45)
        for name in ("a-bad", "b-good"):
            assert await world.deregister(name)

    in_a_world(live)


def test_runs_that_find_no_place_are_told_and_do_not_pile_up() -> None:
    async def live(world: World) -> None:
        job = periodic("nowhere", starting_deadline=Nanoseconds(3_000_000_000))
        never = Constraint(ltarget="${attr.nothing}", rtarget="x", operand="=")
        assert await world.register(msgspec.structs.replace(job, constraints=(never,)))
        await world.until(lambda: launches(world, "nowhere").missed if key("nowhere") in view(world).launches else 0, "a run given up", 15 * PERIOD_S)
        assert len(moments(world, "nowhere")) == 10
        found = watch(view(world), key("nowhere"), view(world).jobs[key("nowhere")], moments(world, "nowhere")[0] + 4)
        assert found is not None
        assert found.status == "critical"
        assert "did not start within 3s: group app: " in found.output
        assert "attr.nothing" in found.output
        assert await world.register(job)
        await world.until(lambda: len(moments(world, "nowhere")) >= 10, "more runs")
        for name in [f"nowhere/periodic-{moment}" for moment in moments(world, "nowhere")]:
            assert await world.deregister(name)
        assert await world.deregister("nowhere")

    in_a_world(live)


def test_what_ends_of_a_purged_run_still_counts_as_running() -> None:
    async def live(world: World) -> None:
        assert await world.register(with_task(periodic("long", prohibit_overlap=True), ENDLESS))
        await world.until(lambda: running(world, "long"), "the first run", 2 * PERIOD_S)
        (first,) = running(world, "long")
        parent = key("long")
        assert children.has_running(view(world), parent)
        assert await world.deregister(first, purge=True)
        assert (key(first) in view(world).jobs, children.has_running(view(world), parent)) == (False, True)
        assert view(world).families.departed(parent) == [key(first)]
        await world.until(lambda: not children.has_running(view(world), parent), "it has ended")
        await world.until(lambda: not view(world).families.departed(parent), "it is forgotten")
        await world.until(lambda: running(world, "long"), "the next run", 2 * PERIOD_S)
        for name in [f"long/periodic-{moment}" for moment in moments(world, "long")]:
            await world.deregister(name)
        assert await world.deregister("long")

    in_a_world(live)


def test_a_failed_run_that_is_tried_again_counts_again() -> None:
    async def live(world: World) -> None:
        job = with_task(periodic("again", prohibit_overlap=True), ENDLESS)
        assert await world.register(job)
        await world.until(lambda: running(world, "again"), "the first run", 2 * PERIOD_S)
        child = key(running(world, "again")[0])
        view(world).families.closed(child)  # whoever found it done
        (alloc,) = view(world).allocs_by_job[child].values()
        assert alloc.client_status is not ClientStatus.FAILED
        assert list(view(world).families.open(key("again"))) == []
        view(world).put_desired(alloc.desired, alloc.create_index, alloc.desired_index + 1)
        assert list(view(world).families.open(key("again"))) == [child]
        await world.ask("force", lambda leading: stopping.force_reschedule(leading, child))
        for name in [f"again/periodic-{moment}" for moment in moments(world, "again")]:
            await world.deregister(name)
        assert await world.deregister("again")

    in_a_world(live)


async def a_queue(world: World, name: str, count: int = 4) -> list[str]:
    """One runs, the others wait; by age."""
    assert await world.register(parameterized(name, ENDLESS, max_running=1))
    for _ in range(count):
        assert await dispatched(world, name)
    await world.until(lambda: running(world, name), "the first runs")
    found = view(world)
    return [child[1] for child in sorted(found.families.children(key(name)), key=lambda one: found.records[one].create_index)]


async def end(world: World, names: list[str]) -> None:
    for name in names:
        await world.deregister(name)


def test_when_the_limit_is_lifted_all_that_waited_runs() -> None:
    async def live(world: World) -> None:
        queue = await a_queue(world, "q")
        assert running(world, "q") == queue[:1]
        last = view(world).jobs[key(queue[-1])]
        assert lines.told(view(world), key(queue[-1]), last) == "waits for max_running (3 before it)"
        told = why(leading(world), last)
        assert (told.waits, told.groups) == ("waits for max_running (3 before it)", ())
        assert await world.register(parameterized("q", ENDLESS, max_running=0))
        await world.until(lambda: len(running(world, "q")) == 4, "all of them")
        await end(world, queue)

    in_a_world(live)


def test_when_the_parent_is_no_such_job_any_more_what_waited_runs() -> None:
    async def live(world: World) -> None:
        queue = await a_queue(world, "q")
        assert await world.register(a_job("q", kind=JobType.BATCH))
        await world.until(lambda: len(running(world, "q")) == 4, "all of them")
        await end(world, queue)

    in_a_world(live)


def test_when_the_parent_is_purged_what_waited_is_cancelled_and_what_runs_goes_on() -> None:
    async def live(world: World) -> None:
        queue = await a_queue(world, "q")
        assert await world.deregister("q", purge=True)
        await world.until(lambda: all(view(world).jobs[key(name)].stop for name in queue[1:]), "they are cancelled")
        assert {view(world).jobs[key(name)].status_description for name in queue[1:]} == {
            "cancelled: it waited for max_running, and its parent was purged"
        }
        assert (running(world, "q"), view(world).jobs[key(queue[0])].stop) == (queue[:1], False)
        await end(world, queue)

    in_a_world(live)


def test_the_same_token_is_one_child_also_with_dedupe() -> None:
    async def live(world: World) -> None:
        assert await world.register(parameterized("once", ENDLESS, dedupe=True, meta_optional=("n",)))
        found = leading(world)

        async def one(number: int) -> None:
            await dispatching.dispatch(found, *key("once"), Dispatch(meta={"n": str(number)}, token="same"))

        async def several(_: Leading) -> None:
            await asyncio.gather(*(one(number) for number in range(4)))

        assert await world.ask("dispatch four at once", several)
        assert len(view(world).families.children(key("once"))) == 1
        await end(world, [child[1] for child in view(world).families.children(key("once"))])

    in_a_world(live)


def test_a_job_of_which_no_child_could_be_kept_is_refused() -> None:
    async def live(world: World) -> None:
        job = periodic("huge")
        noise = "".join(world.rng("noise").choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=480_000))
        huge = msgspec.structs.replace(job, meta={"noise": noise})
        said: list[str] = []

        async def submit(leading: Leading) -> None:
            try:
                await commands.register(leading, huge)
            except commands.StoreRefused as error:
                said.append(str(error))

        assert await world.ask("register huge", submit)
        assert said
        assert "too large to start children" in said[0]
        assert await world.register(msgspec.structs.replace(huge, periodic=None, id=JobId("alone")))
        assert await world.deregister("alone")

    in_a_world(live)


def test_a_hundred_jobs_of_one_second_start_beside_each_other() -> None:
    async def live(world: World) -> None:
        names = [f"many-{number:03}" for number in range(100)]
        for name in names:
            assert await world.register(periodic(name))
        first = min(moments(world, names[0]) or [int(view(world).jobs[key(names[0])].submit_time // 10**9 // PERIOD_S + 2) * PERIOD_S])
        due_s = first + 2 * PERIOD_S
        await until_moment(world, due_s + 0.5)
        started = [view(world).jobs.get(key(f"{name}/periodic-{due_s}")) for name in names]
        assert all(started)
        for name in names:
            assert await world.deregister(name)

    in_a_world(live)
