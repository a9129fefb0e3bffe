"""What became of a child, which of the ended ones go, and what does Consul's check say?"""

from dataclasses import replace
from typing import Any

import pytest

from leader.decide.children import ChildRun, Outcome, due_of, run_of, surplus
from leader.decide.watch import judge
from model.alloc import ClientStatus, DesiredStatus, ObservedAlloc, TaskEvent, TaskState, TaskStatus, Verdict
from model.job import Completion, History, Job, JobId, PeriodicConfig, ReschedulePolicy
from model.wire import Nanoseconds
from tests import build

START = 1_800_000_000  # a whole multiple of 60


def child(**more: Any) -> Job:
    never = ReschedulePolicy(attempts=0, unlimited=False)
    return build.job(
        groups=(build.group(reschedule_policy=more.pop("policy", never)),),
        **{"type": "batch", "id": JobId(f"p/periodic-{START}"), "parent_id": JobId("p"), **more},
    )


def alloc(status: ClientStatus, **more: Any) -> Any:
    return build.alloc(status=status, **more)


def failed(**event: Any) -> Any:
    made = build.alloc(status=ClientStatus.FAILED)
    state = TaskState(state=TaskStatus.DEAD, failed=True, events=(TaskEvent(type="Terminated", time=1, **event),))
    observed = ObservedAlloc(id=made.id, node_id=made.desired.node_id, client_status=ClientStatus.FAILED, task_states={"t": state}, modify_time=7)
    return replace(made, observed=observed)


def test_a_child_knows_the_moment_that_it_was_launched_for() -> None:
    assert due_of(child()) == START
    assert due_of(child(id=JobId("p/dispatch-1-abc"))) == 0
    assert due_of(child(parent_id=JobId("q"))) == 0


OUTCOMES = {
    "nothing placed": (child(), [], Outcome.PENDING),
    "that wants nothing": (build.job(0, type="batch", parent_id=JobId("p")), [], Outcome.SUCCEEDED),
    "running": (child(), [alloc(ClientStatus.RUNNING)], Outcome.RUNNING),
    "done": (child(), [alloc(ClientStatus.COMPLETE)], Outcome.SUCCEEDED),
    "failed for good": (child(), [failed(exit_code=3)], Outcome.FAILED),
    "failed, and tried again later": (
        child(policy=ReschedulePolicy(unlimited=True)), [failed(exit_code=3)], Outcome.RUNNING,
    ),
    "lost, and placed again when there is room": (
        child(), [alloc(ClientStatus.RUNNING, verdict=Verdict.LOST)], Outcome.RUNNING,
    ),
    "stopped before anything was placed": (child(stop=True), [], Outcome.STOPPED),
    "being stopped": (
        child(stop=True, version=1), [alloc(ClientStatus.RUNNING, desired=DesiredStatus.STOP)], Outcome.RUNNING,
    ),
    "stopped": (
        child(stop=True, version=1), [alloc(ClientStatus.COMPLETE, desired=DesiredStatus.STOP)], Outcome.STOPPED,
    ),
    "stopped after it was done": (child(stop=True, version=1), [alloc(ClientStatus.COMPLETE)], Outcome.SUCCEEDED),
}


@pytest.mark.parametrize(("job", "allocs", "outcome"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_what_became_of_a_child(job: Job, allocs: list[Any], outcome: Outcome) -> None:
    assert run_of(job, allocs).outcome is outcome


def test_a_failure_says_how_the_task_ended() -> None:
    assert run_of(child(), [failed(exit_code=3)]).reason == 'task "t" ended with exit code 3'
    assert run_of(child(), [failed(exit_code=137, signal=9)]).reason == 'task "t" ended with signal 9'


def test_a_child_of_several_places_is_done_when_all_are() -> None:
    two = build.job(groups=(build.group(2),), type="batch")
    first = alloc(ClientStatus.COMPLETE)
    assert run_of(two, [first]).outcome is Outcome.RUNNING


def test_a_child_with_a_completion_block_is_over_as_that_says() -> None:
    rule = Completion(completions=2, backoff_limit=1)
    job = build.job(groups=(build.group(1, completion=rule),), type="batch", id=JobId("p/dispatch-1"), parent_id=JobId("p"))
    done = [build.alloc(index, of=job, status=ClientStatus.COMPLETE) for index in range(2)]
    bad = [build.alloc(0, of=job, status=ClientStatus.FAILED) for _ in range(2)]
    assert run_of(job, done[:1]).outcome is Outcome.RUNNING
    assert run_of(job, done).outcome is Outcome.SUCCEEDED
    assert run_of(job, bad[:1]).outcome is Outcome.RUNNING
    assert (run_of(job, bad).outcome, "backoff_limit" in run_of(job, bad).reason) == (Outcome.FAILED, True)


def test_a_child_whose_deadline_passed_before_it_found_a_place_has_failed() -> None:
    rule = Completion(completions=1, active_deadline=ns(60))
    job = build.job(groups=(build.group(1, completion=rule),), type="batch", id=JobId("p/1"), parent_id=JobId("p"), submit_time=ns(START))
    assert run_of(job, (), now_ns=ns(START + 59)).outcome is Outcome.PENDING
    late = run_of(job, (), now_ns=ns(START + 60))
    assert (late.outcome, "active_deadline of 60s has passed" in late.reason) == (Outcome.FAILED, True)


def a_run(number: int, outcome: Outcome = Outcome.SUCCEEDED, **more: Any) -> ChildRun:
    ended_ns = (START + number) * 1_000_000_000
    fields = {"job_id": JobId(f"p/{number}"), "due_s": START + 60 * number, "outcome": outcome, "ended_ns": ended_ns}
    return ChildRun(**{**fields, **more})


def test_the_newest_of_each_kind_are_kept() -> None:
    runs = [a_run(n, Outcome.FAILED if n % 3 == 0 else Outcome.SUCCEEDED) for n in range(9)] + [a_run(9, Outcome.RUNNING)]
    gone = surplus(runs, History(successful=2, failed=1), (START + 100) * 1_000_000_000)
    assert [run.job_id for run in gone] == ["p/0", "p/1", "p/2", "p/3", "p/4", "p/5"]
    assert surplus(runs, History(successful=2, failed=1), (START + 1) * 1_000_000_000) == gone[:2]
    assert len(surplus(runs, History(successful=0, failed=0), (START + 100) * 1_000_000_000)) == 9


def watched(runs: list[ChildRun], now_s: int, **settings: Any) -> tuple[str, str]:
    config = PeriodicConfig(spec="@every 1m", **settings)
    found = judge(config, runs, since_s=START - 1, now_s=now_s)
    return found.status, found.output


def ns(span_s: int) -> Nanoseconds:
    return Nanoseconds(span_s * 1_000_000_000)


def test_a_check_passes_before_the_first_run_and_after_a_good_one() -> None:
    assert watched([], START - 1) == ("passing", "no run has ended yet")
    assert watched([a_run(0)], START + 59)[0] == "passing"
    assert watched([a_run(0), a_run(1, Outcome.RUNNING)], START + 70)[0] == "passing"


def test_a_check_is_critical_while_the_last_run_that_ended_failed() -> None:
    bad = a_run(1, Outcome.FAILED, reason="exit code 1")
    assert watched([a_run(0), bad], START + 61) == ("critical", "the run of 2027-01-15T08:01:00Z failed: exit code 1")
    assert watched([a_run(0), bad, a_run(2, Outcome.RUNNING)], START + 125)[0] == "critical"
    assert watched([bad, a_run(2)], START + 125)[0] == "passing"


def test_a_run_that_finds_no_place_has_not_started() -> None:
    waiting = [a_run(0, Outcome.PENDING, reason="group g: ${attr.x} = y on 2 nodes"), a_run(1, Outcome.PENDING)]
    late = "the run of 2027-01-15T08:00:00Z"
    assert watched(waiting[:1], START + 5)[0] == "passing"
    assert watched(waiting, START + 65) == ("warning", f"{late} has not started: group g: ${{attr.x}} = y on 2 nodes")
    assert watched(waiting, START + 65, starting_deadline=ns(3)) == (
        "critical", f"{late} did not start within 3s: group g: ${{attr.x}} = y on 2 nodes",
    )  # fmt: skip
    assert watched(waiting, START + 65, expect_within=ns(30)) == (
        "critical", f"{late} has not succeeded within 30s: group g: ${{attr.x}} = y on 2 nodes",
    )  # fmt: skip
    many = [a_run(number, Outcome.PENDING, reason="no") for number in range(10)]
    assert watched(many, START + 600)[1].endswith(": no; 10 runs wait, and no further one starts meanwhile")
    assert watched([a_run(0, Outcome.RUNNING)], START + 50, starting_deadline=ns(3))[0] == "passing"


def test_a_check_warns_when_a_run_did_not_start() -> None:
    running = [a_run(0, Outcome.RUNNING)]
    assert watched(running, START + 61)[0] == "passing"
    assert watched(running, START + 70) == ("warning", "the run of 2027-01-15T08:01:00Z has not started")
    assert watched([], START + 70)[0] == "warning"


def test_a_check_is_critical_when_a_run_did_not_start_by_its_deadline() -> None:
    late = watched([a_run(0, Outcome.RUNNING)], START + 91, starting_deadline=ns(30))
    assert late == ("critical", "the run of 2027-01-15T08:01:00Z did not start within 30s")
    assert watched([a_run(0, Outcome.RUNNING)], START + 90, starting_deadline=ns(30))[0] == "warning"


def test_a_check_is_critical_when_no_run_succeeded_in_time() -> None:
    runs = [a_run(0), a_run(1, Outcome.RUNNING)]
    assert watched(runs, START + 89, expect_within=ns(30))[0] == "passing"
    assert watched(runs, START + 90, expect_within=ns(30)) == (
        "critical", "the run of 2027-01-15T08:01:00Z has not succeeded within 30s",
    )
    assert watched([a_run(0), a_run(1)], START + 90, expect_within=ns(30))[0] == "passing"


def test_a_check_says_when_time_alone_changes_it() -> None:
    config = PeriodicConfig(spec="@every 1m", starting_deadline=ns(30), expect_within=ns(45))
    begun = judge(config, [a_run(0)], since_s=START - 1, now_s=START + 50)
    assert begun.until_s == START + 60
    due = judge(config, [a_run(0)], since_s=START - 1, now_s=START + 60)
    assert due.until_s == START + 68
    late = judge(config, [a_run(0)], since_s=START - 1, now_s=START + 70)
    assert (late.status, late.until_s) == ("warning", START + 91)


def test_a_job_that_is_not_enabled_is_not_late() -> None:
    assert watched([], START + 600, enabled=False) == ("passing", "not enabled")
