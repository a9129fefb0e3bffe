"""How does a group with a completion block come to its end? In virtual time, from the documents alone."""

import os
import random
from typing import Any

import msgspec
import pytest

from leader.decide.completing import Progress, ProgressStatus, progress
from leader.decide.counted import MIGRATED, NOT_NEEDED
from leader.decide.reconcile import reconcile
from model.alloc import Alloc, AllocId, ClientStatus, DesiredAlloc, DesiredStatus, ObservedAlloc, Verdict
from model.job import Completion, Job, JobType, ParameterizedConfig, TaskGroup
from model.node import Drain, NodeId
from model.plan import Reconciled
from model.snapshot import NodeView
from model.wire import Nanoseconds
from tests.build import SECOND, group, job, lost, nodes, task, view

# 500 have passed (1 minute).
SEEDS = int(os.environ.get("DROVER_SEEDS", "50"))
START = 1_700_000_000 * SECOND


def completing(count: int = 1, *, version: int = 0, command: str = "true", **rule: Any) -> Job:
    of = group(count, completion=Completion(**{"restart_policy": "never", **rule}), tasks=(task(config={"command": command}),))
    return job(groups=(of,), type=JobType.BATCH, version=version, submit_time=START)


class Run:
    """One job's documents, a clock, and nothing that is remembered beside them: any leader would see the same."""

    def __init__(self, of: Job) -> None:
        self.versions = {of.version: of}
        self.job = of
        self.now_ns = START
        self.allocs: dict[AllocId, Alloc] = {}
        self.nodes: dict[NodeId, NodeView] = nodes(view("n1"))
        self._number = 0
        self.step()

    @property
    def group(self) -> TaskGroup:
        return self.job.task_groups[0]

    def submit(self, of: Job) -> None:
        self.job = self.versions[of.version] = of
        self.step()

    def step(self) -> Reconciled:
        """One decision, carried out: what is placed runs at once."""
        found = self.decide()
        for changed in found.change:
            self._put(changed)
        for request in found.place:
            self._number += 1
            self._put(
                DesiredAlloc(
                    id=AllocId(f"alloc-{self._number:04}"),
                    name=request.name,
                    namespace=self.job.namespace,
                    job_id=self.job.id,
                    job_version=request.job.version,
                    task_group=request.group.name,
                    node_id=min(node.id for node in self.nodes.values() if node.takes_work),
                    previous_allocation=request.previous.id if request.previous else AllocId(""),
                    create_time=self.now_ns,
                    modify_time=self.now_ns,
                ),
                ClientStatus.RUNNING,
            )
        for alloc in found.forget:
            del self.allocs[alloc.id]
        return found

    def decide(self) -> Reconciled:
        return reconcile(
            self.job, self.allocs.values(), versions=self.versions, nodes=self.nodes, now_ns=self.now_ns, gc_after_ns=0
        )

    def _put(self, desired: DesiredAlloc, status: ClientStatus | None = None) -> None:
        known = self.allocs.get(desired.id)
        seen = known.observed if known is not None else None
        self.allocs[desired.id] = Alloc(
            desired=desired, observed=seen, create_index=known.create_index if known else self._number, desired_index=self._number
        )
        if status is not None:
            self.report(self.allocs[desired.id], status)

    def report(self, alloc: Alloc, status: ClientStatus, failed_runs: int | None = None) -> None:
        """Its agent's word."""
        known = self.allocs[alloc.id]
        if failed_runs is None:
            failed_runs = known.observed.failed_runs if known.observed is not None else 0
        seen = ObservedAlloc(
            id=alloc.id, node_id=known.desired.node_id, client_status=status, failed_runs=failed_runs,
            boot_id="boot-1", modify_time=self.now_ns,
        )  # fmt: skip
        self.allocs[alloc.id] = Alloc(
            desired=known.desired, observed=seen, create_index=known.create_index, desired_index=known.desired_index,
            observed_index=known.desired_index + 1,
        )  # fmt: skip

    def end(self, alloc: Alloc, status: ClientStatus) -> None:
        self.report(alloc, status)
        self.step()

    def fail(self) -> None:
        """What runs fails, the first of it."""
        self.end(self.live[0], ClientStatus.FAILED)

    def end_stopped(self) -> None:
        for alloc in [a for a in self.allocs.values() if a.desired.is_stopping and not a.is_terminal]:
            self.report(alloc, ClientStatus.COMPLETE)
        self.step()

    def wait(self) -> float:
        """Until the next moment at which something is to be decided; returns how long that was, in seconds."""
        at_ns = self.decide().wake_at_ns
        assert at_ns is not None
        waited, self.now_ns = (at_ns - self.now_ns) / SECOND, at_ns
        self.step()
        return waited

    @property
    def live(self) -> list[Alloc]:
        return sorted((a for a in self.allocs.values() if a.is_live), key=lambda a: (a.desired.index, a.create_index))

    @property
    def indexes(self) -> list[int]:
        return [alloc.desired.index for alloc in self.live]

    @property
    def progress(self) -> Progress:
        return progress(self.job, self.group, self.allocs.values(), self.versions, self.now_ns)


def test_so_many_run_at_once_until_so_many_have_succeeded() -> None:
    run = Run(completing(3, completions=7))
    most = 0
    while run.live:
        most = max(most, len(run.live))
        assert run.progress.status is ProgressStatus.RUNNING
        run.now_ns += SECOND
        run.end(run.live[0], ClientStatus.COMPLETE)
    assert most == 3
    assert sorted(alloc.desired.index for alloc in run.allocs.values()) == list(range(7))
    assert run.progress == Progress(
        wanted=7, succeeded=7, status=ProgressStatus.COMPLETE, started_at=START, finished_at=START + 7 * SECOND
    )
    assert run.decide() == Reconciled()


def test_a_failed_run_waits_twice_as_long_each_time_up_to_the_longest_wait() -> None:
    run = Run(completing(completions=1, backoff_limit=20))
    waited = []
    for _ in range(9):
        run.fail()
        assert run.live == []
        waited.append(run.wait())
        assert len(run.live) == 1
    assert waited == [10, 20, 40, 80, 160, 320, 360, 360, 360]


def test_the_series_begins_where_the_group_says() -> None:
    rule = Completion(backoff_base=Nanoseconds(2 * SECOND), backoff_max=Nanoseconds(5 * SECOND))
    assert [rule.backoff(n) // SECOND for n in (1, 2, 3, 4, 500)] == [2, 4, 5, 5, 5]


def test_a_place_that_fails_keeps_no_other_from_running() -> None:
    run = Run(completing(1, completions=3, backoff_limit=20))
    run.fail()
    assert run.indexes == [1], "the failed one waits, the next goes on"
    run.end(run.live[0], ClientStatus.COMPLETE)
    run.end(run.live[0], ClientStatus.COMPLETE)
    assert run.live == []
    run.wait()
    assert run.indexes == [0]
    run.fail()
    assert run.wait() == 20


@pytest.mark.parametrize("in_place", [False, True], ids=["new allocs", "in place"])
def test_the_group_fails_at_the_seventh_failed_run(in_place: bool) -> None:
    run = Run(completing(2, completions=2, restart_policy="on_failure" if in_place else "never"))
    other = run.live[1]
    for number in range(1, 8):
        assert run.progress.status is ProgressStatus.RUNNING, number
        if in_place:
            run.report(run.live[0], ClientStatus.RUNNING, failed_runs=number)
            run.step()
        else:
            run.fail()
            if number < 7:
                run.now_ns += 400 * SECOND
                run.step()
    assert run.allocs[other.id].desired.desired_status is DesiredStatus.STOP
    assert run.allocs[other.id].desired.desired_description == "7 runs have failed, backoff_limit is 6"
    run.end_stopped()
    assert (run.live, run.progress.status, run.progress.failed) == ([], ProgressStatus.FAILED, 7)
    run.now_ns += 3600 * SECOND
    assert run.decide() == Reconciled(), "it stays failed"


def test_in_place_restarts_of_what_succeeded_in_the_end_still_count() -> None:
    run = Run(completing(1, completions=2, restart_policy="on_failure", backoff_limit=3))
    run.report(run.live[0], ClientStatus.COMPLETE, failed_runs=3)
    run.step()
    assert (run.progress.succeeded, run.progress.failed, run.indexes) == (1, 3, [1])
    run.report(run.live[0], ClientStatus.RUNNING, failed_runs=1)
    run.step()
    assert run.progress.status is ProgressStatus.FAILED


def test_after_the_active_deadline_everything_is_stopped_and_the_group_has_failed() -> None:
    run = Run(completing(2, completions=5, active_deadline=Nanoseconds(60 * SECOND)))
    run.now_ns += 20 * SECOND
    run.end(run.live[0], ClientStatus.COMPLETE)
    assert run.wait() == 40
    assert run.live == []
    assert {a.desired.desired_description for a in run.allocs.values() if a.desired.is_stopping} == {
        "active_deadline of 60s has passed"
    }
    run.end_stopped()
    assert run.progress == Progress(
        wanted=5, succeeded=1, status=ProgressStatus.FAILED, reason="active_deadline of 60s has passed",
        started_at=START, finished_at=START + 60 * SECOND,
    )  # fmt: skip


def test_the_deadline_passes_also_while_a_retry_is_waited_for() -> None:
    run = Run(completing(completions=1, active_deadline=Nanoseconds(15 * SECOND)))
    run.now_ns += 10 * SECOND
    run.fail()
    assert run.wait() == 5, "the deadline comes before the retry"
    assert (run.live, run.progress.status) == ([], ProgressStatus.FAILED)


def test_the_deadline_passes_also_where_nothing_found_a_place() -> None:
    of = completing(completions=1, active_deadline=Nanoseconds(15 * SECOND))
    (group_of,) = of.task_groups
    nowhere = reconcile(of, (), versions={0: of}, nodes={}, now_ns=START + SECOND, gc_after_ns=0)
    assert (len(nowhere.place), nowhere.wake_at_ns) == (1, START + 15 * SECOND)
    assert reconcile(of, (), versions={0: of}, nodes={}, now_ns=START + 15 * SECOND, gc_after_ns=0) == Reconciled()
    assert progress(of, group_of, (), {0: of}, START + 15 * SECOND) == Progress(
        wanted=1, status=ProgressStatus.FAILED, finished_at=START + 15 * SECOND,
        reason="active_deadline of 15s has passed, and nothing of it found a place",
    )  # fmt: skip
    in_line = msgspec.structs.replace(of, dispatched=True, parameterized_job=ParameterizedConfig(max_running=1))
    assert progress(in_line, group_of, (), {0: of}, START + 15 * SECOND).status is ProgressStatus.RUNNING


def test_the_deadline_counts_from_the_first_alloc_however_long_that_took() -> None:
    run = Run(completing(completions=1, active_deadline=Nanoseconds(15 * SECOND)))
    run.allocs.clear()
    run.now_ns += 14 * SECOND
    run.step()
    assert (run.wait(), run.progress.status) == (15, ProgressStatus.FAILED)


def test_what_completed_before_its_deadline_stays_complete() -> None:
    run = Run(completing(completions=1, active_deadline=Nanoseconds(15 * SECOND)))
    run.end(run.live[0], ClientStatus.COMPLETE)
    run.now_ns += 100 * SECOND
    assert run.progress.status is ProgressStatus.COMPLETE


def test_a_work_queue_is_done_when_one_has_succeeded_and_all_have_ended() -> None:
    run = Run(completing(4))
    run.fail()
    assert run.wait() == 10, "before the first success a failed one is tried again"
    assert len(run.live) == 4
    run.end(run.live[0], ClientStatus.COMPLETE)
    assert (len(run.live), run.progress.status) == (3, ProgressStatus.RUNNING)
    run.fail()
    assert len(run.live) == 2, "nothing new starts after the first success"
    assert run.decide().wake_at_ns is None
    run.end(run.live[0], ClientStatus.COMPLETE)
    run.end(run.live[0], ClientStatus.COMPLETE)
    assert (run.progress.status, run.progress.wanted, run.progress.succeeded) == (ProgressStatus.COMPLETE, None, 3)


def test_what_is_lost_with_its_node_is_run_again_and_is_no_failure() -> None:
    run = Run(completing(2, completions=2))
    run.nodes = nodes(lost("n1"), view("n2"))
    for _ in range(9):
        run.step()
    assert (run.indexes, run.progress.failed) == ([0, 1], 0)
    assert {alloc.desired.node_id for alloc in run.live} == {"n2"}
    first, second = (a for a in run.allocs.values() if a.desired.verdict is Verdict.LOST)
    run.report(first, ClientStatus.LOST)
    run.report(second, ClientStatus.FAILED)
    run.step()
    assert (run.indexes, run.progress.failed) == ([0, 1], 0)


def test_a_lost_run_that_had_succeeded_after_all_takes_its_place_back() -> None:
    run = Run(completing(1, completions=2))
    run.nodes = nodes(lost("n1"), view("n2"))
    run.step()
    (original,) = (a for a in run.allocs.values() if a.desired.verdict is Verdict.LOST)
    run.report(original, ClientStatus.COMPLETE)
    run.step()
    assert run.progress.succeeded == 1
    assert run.live == [], "the stand-in is stopped, and holds its slot until it has ended"
    run.end_stopped()
    assert run.indexes == [1]


def test_a_place_is_run_again_only_once_what_was_stopped_there_has_ended() -> None:
    run = Run(completing(1, completions=1))
    (old,) = run.live
    drain = Drain(deadline_at=START)
    node = run.nodes[NodeId("n1")]
    draining = NodeView(
        node=node.node, control=msgspec.structs.replace(node.control, drain=drain), reach=node.reach, reach_since_s=0.0
    )
    run.nodes = nodes(draining, view("n2"))
    run.step()
    assert run.allocs[old.id].desired.desired_description == MIGRATED
    assert run.live == []
    run.end_stopped()
    assert (run.indexes, run.live[0].desired.node_id, run.progress.failed) == ([0], "n2", 0)


@pytest.mark.parametrize("to", [0, 1, 5], ids=str)
def test_parallelism_is_scaled_while_it_runs_and_keeps_what_succeeded(to: int) -> None:
    run = Run(completing(3, completions=8))
    run.end(run.live[0], ClientStatus.COMPLETE)
    run.submit(completing(to, completions=8, version=1))
    assert len(run.live) == to
    run.end_stopped()
    assert (len(run.live), run.progress.succeeded) == (to, 1)
    assert {alloc.desired.job_version for alloc in run.live} <= {1}
    run.submit(completing(2, completions=8, version=2))
    run.end_stopped()
    while run.live:
        run.end(run.live[0], ClientStatus.COMPLETE)
    assert (run.progress.succeeded, run.progress.status) == (8, ProgressStatus.COMPLETE)


def test_another_command_begins_anew() -> None:
    run = Run(completing(2, completions=2))
    run.fail()
    run.end(run.live[0], ClientStatus.COMPLETE)
    assert (run.progress.succeeded, run.progress.failed) == (1, 1)
    run.submit(completing(2, completions=2, version=1, command="false"))
    assert (run.progress.succeeded, run.progress.failed, run.indexes) == (0, 0, [0, 1])


def test_what_runs_of_an_older_command_is_stopped_first() -> None:
    run = Run(completing(2, completions=3))
    run.submit(completing(2, completions=3, version=1, command="false"))
    assert run.live == []
    assert {alloc.desired.desired_description for alloc in run.allocs.values()} == {NOT_NEEDED}
    run.end_stopped()
    assert run.indexes == [0, 1]


def test_a_higher_limit_lets_a_failed_group_go_on() -> None:
    run = Run(completing(1, completions=2, backoff_limit=0))
    run.fail()
    assert run.progress.status is ProgressStatus.FAILED
    run.submit(completing(1, completions=2, backoff_limit=1, version=1))
    assert (run.progress.status, run.indexes) == (ProgressStatus.RUNNING, [1])


def test_results_are_kept_as_long_as_the_job() -> None:
    run = Run(completing(2, completions=4))
    while run.live:
        run.end(run.live[0], ClientStatus.COMPLETE)
    run.now_ns += 10**6 * SECOND
    run.step()
    assert len(run.allocs) == 4
    run.submit(msgspec.structs.replace(run.job, stop=True, version=1))
    assert len(run.allocs) == 4


def test_each_index_succeeds_once_whatever_fails_and_whoever_decides() -> None:
    """Failures, lost nodes that come back, stops, scaling. Every decision is made from the documents alone, as a new
    leader would."""
    for seed in range(SEEDS):
        _one_life(random.Random(seed), f"seed {seed}")


def _one_life(rng: random.Random, seed: str) -> None:
    wanted = rng.randint(1, 12)
    run = Run(completing(rng.randint(1, 5), completions=wanted, backoff_limit=10_000, indexed=True, restart_policy=rng.choice(("never", "on_failure"))))
    for _ in range(60):
        run.now_ns += rng.randint(0, 200) * SECOND
        match rng.choice(("end", "end", "fail", "retry", "lose", "back", "stop", "scale", "ended")):
            case "end" if run.live:
                run.report(rng.choice(run.live), ClientStatus.COMPLETE)
            case "fail" if run.live:
                run.report(rng.choice(run.live), ClientStatus.FAILED)
            case "retry" if run.live:
                run.report(one := rng.choice(run.live), ClientStatus.RUNNING, failed_runs=(one.observed.failed_runs if one.observed else 0) + 1)
            case "lose":
                run.nodes = nodes(lost("n1"), view("n2")) if rng.random() < 0.5 else nodes(view("n1"), lost("n2"))
            case "back":
                run.nodes = nodes(view("n1"), view("n2"))
            case "stop" if run.live:
                alloc = rng.choice(run.live)
                run._put(msgspec.structs.replace(alloc.desired, desired_status=DesiredStatus.STOP))
            case "scale":
                rule = run.group.completion
                assert rule is not None
                changed = group(rng.randint(0, 5), completion=rule, tasks=run.group.tasks)
                run.submit(msgspec.structs.replace(run.job, task_groups=(changed,), version=run.job.version + 1))
            case "ended":
                run.end_stopped()
        run.step()
        _sound(run, seed)
    run.nodes = nodes(view("n1"), view("n2"))
    for alloc in run.allocs.values():
        if alloc.desired.verdict is not Verdict.NONE and not alloc.is_terminal:
            run.report(alloc, ClientStatus.LOST)
    if not run.group.count:
        run.submit(msgspec.structs.replace(run.job, task_groups=(msgspec.structs.replace(run.group, count=1),), version=run.job.version + 1))
    for _ in range(20):
        run.now_ns += 400 * SECOND
        run.end_stopped()
        for alloc in run.live:
            run.report(alloc, ClientStatus.COMPLETE)
    run.step()
    _sound(run, seed)
    assert (run.progress.succeeded, run.progress.status, run.progress.active) == (wanted, ProgressStatus.COMPLETE, 0), seed


def _sound(run: Run, seed: str) -> None:
    """No two of one index run beside each other or have succeeded, unless one had been given up with its node."""
    assert len(run.live) <= run.group.count, seed
    by_index: dict[int, list[Alloc]] = {}
    for alloc in run.allocs.values():
        if alloc.desired.verdict is Verdict.NONE:
            by_index.setdefault(alloc.desired.index, []).append(alloc)
    for index, here in by_index.items():
        successes = [a for a in here if a.client_status is ClientStatus.COMPLETE and not a.desired.is_stopping]
        runs = [a for a in here if not a.is_terminal]
        live = [a for a in runs if a.is_live]
        assert len(successes) <= 1, f"{seed}: index {index} has succeeded {len(successes)} times"
        assert not (successes and live), f"{seed}: index {index} is done and runs again"
        assert len(live) <= 1, f"{seed}: index {index} runs twice"
    # Nothing is left to say: the same decision again changes nothing, and needs no memory of the first.
    assert run.decide().place == (), seed
