"""The whole agent but for drivers and disk: fake driver, journal in memory, virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from agent.alloc_dir import NoDirs
from agent.drivers.base import ExitResult, StartFailed
from agent.hooks.base import TaskContext, TaskHook
from agent.journal import MemoryJournal
from agent.node_agent import NodeAgent, Pace
from agent.task_run import TaskRun
from model.alloc import AllocatedPort, AllocId, ClientStatus, TaskStatus, Verdict
from model.errors import TaskRefused
from model.job import Job, JobType, Lifecycle, RestartPolicy, Service, ServiceCheck, UpdateStrategy
from model.node import Node
from model.wire import nanoseconds
from tests import clock
from tests.agent.doubles import NODE, FakeDriver, MemoryStore, a_job, a_task, an_alloc


@dataclass
class RecordedServices:
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    runs: list[TaskRun] = field(default_factory=list)

    async def publish(self, run: TaskRun) -> None:
        self.calls.append(("publish", run.alloc.id, run.task.name))
        self.runs.append(run)

    checks_pass: bool = True

    async def passing(self) -> Mapping[AllocId, bool]:
        return {run.alloc.id: self.checks_pass for run in self.runs}

    async def withdraw(self, alloc_id: AllocId, task_name: str) -> None:
        self.calls.append(("withdraw", alloc_id, task_name))


class World:
    """A Consul, a driver and a journal that outlive the agents of a test."""

    def __init__(self, *jobs: Job) -> None:
        self.store = MemoryStore(*jobs)
        self.driver = FakeDriver()
        self.journal = MemoryJournal()
        self.services = RecordedServices()
        self.node: Node = NODE
        self.agent: NodeAgent

    @asynccontextmanager
    async def running(
        self, hooks: Sequence[TaskHook] = (), pace: Pace | None = None
    ) -> AsyncIterator[NodeAgent]:
        """One life of the agent; killed at the end of the block."""
        self.agent = NodeAgent(
            node=self.node,
            store=self.store,
            journal=self.journal,
            drivers=[self.driver],
            dirs=NoDirs(),
            now=clock.now,
            rng=random.Random(7),
            services=self.services,
            checks=self.services,
            hooks=hooks,
            pace=pace,
        )
        async with asyncio.TaskGroup() as group:
            life = group.create_task(self.agent.run(), name="agent")
            try:
                yield self.agent
            finally:
                life.cancel()

    def reboot(self) -> None:
        self.driver.reboot()
        self.node = replace(self.node, boot_id=self.node.boot_id + "+")


def kinds(store: MemoryStore, alloc_id: AllocId, task: str = "main") -> list[str]:
    return [event.type for event in store.observed[alloc_id].task_states[task].events]


def restart_policy(**fields: Any) -> RestartPolicy:
    spans = {
        key: nanoseconds(value) if key in ("delay", "interval") else value for key, value in fields.items()
    }
    return RestartPolicy(**spans)


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
            await asyncio.sleep(50)
            assert world.driver.running(one.id)
            await asyncio.sleep(30)
            assert not world.driver.running(one.id)
            await asyncio.sleep(3600)
            assert world.driver.running(other.id)

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


def test_prestart_runs_first_sidecars_go_last_and_poststop_cleans_up() -> None:
    async def story() -> None:
        once = restart_policy(attempts=0)
        job = a_job(
            a_task("init", lifecycle=Lifecycle(hook="prestart"), restart_policy=once),
            a_task("proxy", lifecycle=Lifecycle(hook="prestart", sidecar=True)),
            a_task("main"),
            a_task("tell", lifecycle=Lifecycle(hook="poststart"), restart_policy=once),
            a_task("clean", lifecycle=Lifecycle(hook="poststop"), restart_policy=once),
            job_type=JobType.BATCH,
        )
        world, alloc = World(job), an_alloc(job=job)
        async with world.running():
            world.store.want(alloc)
            await asyncio.sleep(5)
            assert {task for _, task, _ in world.driver.starts} == {"init", "proxy"}
            world.driver.end(alloc.id, "init")
            await asyncio.sleep(5)
            assert [task for _, task, _ in world.driver.starts[2:]] == ["main", "tell"]
            world.driver.end(alloc.id, "tell")
            world.driver.end(alloc.id, "main")
            await asyncio.sleep(5)
            assert not world.driver.running(alloc.id, "proxy")
            world.driver.end(alloc.id, "clean")
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)

    clock.run(story())


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
