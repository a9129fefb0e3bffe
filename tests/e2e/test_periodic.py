"""Periodic jobs run on time, once, whoever leads; and Consul tells when one stops succeeding."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.components.consul import ConsulServer
from tests.e2e.drover import NS, Answer, Drover, call, job, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

ONCE = {"RestartPolicy": {"Attempts": 0, "Mode": "fail"}, "ReschedulePolicy": {"Attempts": 0, "Unlimited": False}}
# Far away, whatever day it is.
YEARLY = {"Spec": "0 0 1 1 * 2099"}


@pytest.fixture(scope="module")
def pair(consul: ConsulServer) -> Iterator[tuple[Drover, Drover]]:
    """Two candidates, of which one dies and comes back now and then, and a third agent that runs the tasks."""
    with ExitStack() as stack:
        runner = stack.enter_context(Drover(consul, name="runner", server=False))
        one = stack.enter_context(Drover(consul, name="one", client=False))
        two = stack.enter_context(Drover(consul, name="two", client=False))
        runner.wait_ready(1)
        yield one, two


@pytest.fixture
def any_of(pair: tuple[Drover, Drover]) -> Iterator[Drover]:
    """An agent that is up; its jobs are purged afterwards."""
    one = pair[0]
    yield one
    for found in one.get("/v1/jobs"):
        call(one.address, "DELETE", f"/v1/job/{found['ID'].replace('/', '%2F')}?purge=true")


def periodic(job_id: str, script: str, **settings: Any) -> dict[str, Any]:
    return job(job_id, "/bin/sh", ["-c", script], job={"Type": "batch", "Periodic": {"Spec": "@every 2s", **settings}}, group=ONCE)


def children(one: Drover, job_id: str) -> list[dict[str, Any]]:
    return [found for found in one.get("/v1/jobs") if found["ParentID"] == job_id]


def launches(one: Drover, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = one.get(f"/v1/job/{job_id}/launches")
    return found


def check(consul: ConsulServer, job_id: str) -> tuple[str, str]:
    """The status and output of its check, by Consul's health API."""
    found = call(consul.http_addr, "GET", f"/v1/health/service/drover-periodic-{job_id}")
    return (found[0]["Checks"][0]["Status"], found[0]["Checks"][0]["Output"]) if found else ("", "")


def kill_leader(pair: tuple[Drover, Drover]) -> tuple[Drover, Drover]:
    """The one that was killed, and the other, once that leads."""
    leader = pair[0].get("/v1/status/leader")
    dead, other = pair if pair[0].address == leader else pair[::-1]
    dead.kill()
    wait("the other leads", lambda: other.get("/v1/status/leader") == other.address and other.get("/v1/jobs") is not None)
    return dead, other


def test_a_periodic_job_is_answered_as_nomad_answers(any_of: Drover) -> None:
    answer = any_of.submit(periodic("yearly", "true", **YEARLY))
    assert answer["EvalID"] == ""
    parent = any_of.get("/v1/job/yearly")
    assert (parent["Status"], parent["Stop"], any_of.allocs("yearly")) == ("running", False, [])
    (stub,) = any_of.get("/v1/jobs?prefix=yearly")
    assert (stub["Periodic"], stub["JobSummary"]["Children"]) == (True, {"Pending": 0, "Running": 0, "Dead": 0})
    plan = call(any_of.address, "PUT", "/v1/job/yearly/plan", {"Job": periodic("yearly", "true", **YEARLY)})
    assert plan["NextPeriodicLaunch"] == "2099-01-01T00:00:00Z"
    forced = call(any_of.address, "PUT", "/v1/job/yearly/periodic/force")
    evaluation = any_of.get(f"/v1/evaluation/{forced['EvalID']}")
    prefix, _, moment = evaluation["JobID"].rpartition("-")
    assert prefix == "yearly/periodic"
    assert abs(int(moment) - time.time()) < 30
    wait("it ran", lambda: launches(any_of, "yearly")["Children"][0]["Outcome"] == "succeeded")
    assert any_of.get("/v1/job/yearly/summary")["Children"] == {"Pending": 0, "Running": 0, "Dead": 1}
    (child,) = children(any_of, "yearly")
    assert any_of.get(f"/v1/job/{child['ID'].replace('/', '%2F')}")["Periodic"] is None
    with pytest.raises(Answer, match="can't evaluate periodic job"):
        call(any_of.address, "PUT", "/v1/job/yearly/evaluate", {})
    call(any_of.address, "DELETE", "/v1/job/yearly")
    assert any_of.get("/v1/job/yearly")["Status"] == "dead"
    with pytest.raises(Answer, match="can't force launch"):
        call(any_of.address, "PUT", "/v1/job/yearly/periodic/force")


def test_every_moment_is_launched_once_though_the_leader_is_killed(pair: tuple[Drover, Drover], any_of: Drover) -> None:
    any_of.submit(periodic("often", "true", History={"Successful": 100, "Failed": 100}))
    wait("three runs", lambda: len(children(any_of, "often")) >= 3)
    dead, other = kill_leader(pair)
    before = len(children(other, "often"))
    wait("it goes on", lambda: len(children(other, "often")) >= before + 3)
    dead.start()
    moments = sorted(int(child["ID"].rpartition("-")[2]) for child in children(other, "often"))
    missed = launches(other, "often")["Missed"]
    assert all(moment % 2 == 0 for moment in moments)
    assert len(set(moments)) == len(moments)
    # Every moment was launched, or counted as missed.
    assert (moments[-1] - moments[0]) // 2 + 1 == len(moments) + missed
    # In each there was one alloc.
    wait("all are done", lambda: launches(other, "often")["Children"][-1]["Outcome"] == "succeeded")
    for child in children(other, "often")[:4]:
        assert len(other.allocs(child["ID"].replace("/", "%2F"))) <= 1


def test_runs_do_not_overlap_though_the_leader_is_killed(pair: tuple[Drover, Drover], any_of: Drover) -> None:
    any_of.submit(periodic("long", "exec sleep 1000", ProhibitOverlap=True))
    wait("it runs", lambda: [c["Status"] for c in children(any_of, "long")] == ["running"])
    dead, other = kill_leader(pair)
    wait("runs are missed", lambda: launches(other, "long")["Missed"] >= 3)
    dead.start()
    assert len(children(other, "long")) == 1
    wait("it is late", lambda: check(other.consul, "long")[0] == "warning")
    (child,) = children(other, "long")
    call(other.address, "DELETE", f"/v1/job/{child['ID'].replace('/', '%2F')}")
    wait("the next one starts", lambda: len(children(other, "long")) == 2)


def test_one_that_begins_to_fail_turns_its_check_critical_and_it_stays_so_without_the_leader(
    pair: tuple[Drover, Drover], any_of: Drover, consul: ConsulServer
) -> None:
    any_of.submit(periodic("backup", "true"))
    wait("it passes", lambda: check(consul, "backup")[0] == "passing" and "succeeded" in check(consul, "backup")[1])
    any_of.submit(periodic("backup", "exit 3"))
    begun = time.monotonic()
    wait("it is critical", lambda: check(consul, "backup")[0] == "critical")
    took_s = time.monotonic() - begun
    assert took_s <= 2 + 2, f"{took_s:.1f} s"
    assert 'failed: task "t" ended with exit code 3' in check(consul, "backup")[1]
    leader = any_of.get("/v1/status/leader")
    dead = next(one for one in pair if one.address == leader)
    dead.kill()
    stays("it is still there", lambda: check(consul, "backup")[0] == "critical", 1.5)
    other = next(one for one in pair if one is not dead)
    wait("the other leads", lambda: other.get("/v1/status/leader") == other.address)
    assert check(consul, "backup")[0] == "critical"
    call(other.address, "PUT", "/v1/jobs", {"Job": periodic("backup", "true")})
    wait("it passes again", lambda: check(consul, "backup")[0] == "passing")
    dead.start()
    other.stop_job("backup")
    wait("the check goes with the job", lambda: check(consul, "backup") == ("", ""))


def test_ended_children_are_removed_and_remembered(any_of: Drover) -> None:
    any_of.submit(periodic("tidy", "true"))
    wait("five runs", lambda: len(launches(any_of, "tidy")["Children"]) >= 5)
    assert any_of.run("system", "gc").returncode == 0
    wait("three are gone", lambda: sum(c["Removed"] for c in launches(any_of, "tidy")["Children"]) >= 3)
    any_of.stop_job("tidy")
    found = launches(any_of, "tidy")["Children"]
    gone = [c for c in found if c["Removed"]]
    assert {c["Outcome"] for c in gone} == {"succeeded"}
    assert all(c["Started"] and c["Ended"] >= c["Started"] and c["Due"] % (2 * NS) == 0 for c in gone)
    assert {c["ID"] for c in found if not c["Removed"]} == {c["ID"] for c in children(any_of, "tidy")}
    assert launches(any_of, "tidy")["LastSuccess"] >= max(c["Ended"] for c in gone)
    names = [c["ID"].replace("/", "%2F") for c in gone]
    wait("nothing of them is left", lambda: not [name for name in names if name in all_keys(any_of)])
    assert "launches/default/tidy" in all_keys(any_of)


def all_keys(one: Drover) -> str:
    return "\n".join(call(one.consul.http_addr, "GET", "/v1/kv/drover/state/?keys"))
