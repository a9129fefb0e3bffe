"""What finds no room says why, and is placed as soon as there is some."""

from collections.abc import Iterator

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, call, job, marking_job, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture(scope="module")
def one() -> Iterator[Drover]:
    room = "client { cpu_total_compute = 1000 }"
    with or_skip(lambda: ConsulServer().__enter__()) as consul, Drover(consul, settings=room) as drover:
        drover.wait_ready()
        yield drover


def test_a_job_that_finds_no_room_is_placed_when_another_ends(one: Drover) -> None:
    large = {"Resources": {"CPU": 700, "MemoryMB": 16}}
    one.submit(marking_job("first", **large))
    one.wait_running("first", 1)
    one.submit(marking_job("second", **large))
    blocked = wait(
        "the reason", lambda: next((e for e in one.get("/v1/job/second/evaluations") if e["Status"] == "blocked"), None)
    )
    metric = blocked["FailedTGAllocs"]["g"]
    assert (metric["NodesEvaluated"], metric["DimensionExhausted"]) == (1, {"cpu": 1})
    assert one.get("/v1/job/second/summary")["Summary"]["g"]["Queued"] == 1
    stays("nothing is placed without room", lambda: not one.allocs("second"), 1.0)
    one.stop_job("first")
    one.wait_running("second", 1)
    wait("nothing is blocked any more", lambda: all(e["Status"] == "complete" for e in one.get("/v1/job/second/evaluations")))
    for name in ("first", "second"):
        one.stop_job(name, purge=True)


def test_a_constraint_that_no_node_meets_is_named(one: Drover) -> None:
    one.submit(
        job(
            "picky",
            "/bin/true",
            [],
            job={"Constraints": [{"LTarget": "${attr.kernel.name}", "Operand": "=", "RTarget": "plan9"}]},
        )
    )
    blocked = wait(
        "the reason", lambda: next((e for e in one.get("/v1/job/picky/evaluations") if e["Status"] == "blocked"), None)
    )
    assert blocked["FailedTGAllocs"]["g"]["ConstraintFiltered"] == {"${attr.kernel.name} = plan9": 1}
    one.stop_job("picky", purge=True)


def test_a_batch_job_runs_to_completion_and_a_system_job_runs_once_on_the_node(one: Drover) -> None:
    one.submit(job("batch", "/bin/true", [], count=5, job={"Type": "batch"}))
    wait("five completions", lambda: [a["ClientStatus"] for a in one.allocs("batch")] == ["complete"] * 5)
    wait("the job is dead", lambda: one.get("/v1/job/batch")["Status"] == "dead")
    stays("and nothing is run again", lambda: len(one.allocs("batch")) == 5, 1.0)
    one.submit(marking_job("system", job={"Type": "system"}))
    one.wait_running("system", 1)
    for name in ("batch", "system"):
        one.stop_job(name, purge=True)
    wait("both are forgotten", lambda: not one.allocs("batch") and not one.allocs("system"))


def test_an_update_replaces_what_changed_and_a_purge_leaves_nothing_in_consul(one: Drover) -> None:
    one.submit(marking_job("web", count=2))
    first = {a["ID"] for a in one.wait_running("web", 2)}
    one.submit(marking_job("web", count=2, Env={"A": "1"}))
    wait("two of the new version", lambda: {a["JobVersion"] for a in one.running("web")} == {1} and len(one.running("web")) == 2)
    assert not first & {a["ID"] for a in one.running("web")}
    one.stop_job("web", purge=True)
    wait("its allocs are forgotten", lambda: not one.allocs("web"))
    def keys() -> list[str]:
        found: list[str] = call(one.consul.http_addr, "GET", "/v1/kv/drover/?keys")
        return [k for k in found if "/web/" in k or "/observed/" in k or k.endswith("/web")]

    wait("nothing of it is left", lambda: not keys())


def test_an_update_that_finds_no_place_leaves_the_old_one_running(one: Drover) -> None:
    one.submit(marking_job("grows", Resources={"CPU": 100, "MemoryMB": 16}))
    (old,) = one.wait_running("grows", 1)
    pids = wait("its process id", lambda: one.pids(old["ID"]))
    one.submit(marking_job("grows", Resources={"CPU": 99_999, "MemoryMB": 16}))
    wait("the reason", lambda: any(e["Status"] == "blocked" for e in one.get("/v1/job/grows/evaluations")))
    stays("the old one runs on", lambda: [a["ID"] for a in one.running("grows")] == [old["ID"]], 1.0)
    assert one.pids(old["ID"]) == pids
    # 900 fit only where the old one's 100 are given back for it.
    one.submit(marking_job("grows", Resources={"CPU": 950, "MemoryMB": 16}))
    wait("the new one runs", lambda: [a["JobVersion"] for a in one.running("grows")] == [2])
    one.stop_job("grows", purge=True)


def test_an_update_keeps_its_static_port_on_its_only_node(one: Drover) -> None:
    network = {"Networks": [{"ReservedPorts": [{"Label": "db", "Value": 25_432}]}]}
    one.submit(marking_job("static", group=dict(network)))
    one.wait_running("static", 1)
    submitted = one.submit(marking_job("static", Env={"A": "1"}, group=dict(network)))
    wait("the new one runs", lambda: [a["JobVersion"] for a in one.running("static")] == [1])
    assert one.get(f"/v1/evaluation/{submitted['EvalID']}")["BlockedEval"] == ""
    one.stop_job("static", purge=True)


def test_a_changed_batch_job_runs_again_and_an_unchanged_one_does_not(one: Drover) -> None:
    for version, env in ((0, {}), (1, {"A": "1"})):
        one.submit(job("again", "/bin/true", [], job={"Type": "batch"}, Env=env))
        wait(
            f"version {version} is done",
            lambda v=version: {a["JobVersion"]: a["ClientStatus"] for a in one.allocs("again")}.get(v) == "complete",
        )
    one.submit(job("again", "/bin/true", [], job={"Type": "batch"}, Env={"A": "1"}))
    stays("nothing is run a third time", lambda: len(one.allocs("again")) == 2, 1.0)
    one.stop_job("again", purge=True)


def test_a_constraint_added_to_a_running_job_is_obeyed(one: Drover) -> None:
    one.submit(marking_job("moved"))
    (old,) = one.wait_running("moved", 1)
    plan9 = {"Constraints": [{"LTarget": "${attr.kernel.name}", "Operand": "=", "RTarget": "plan9"}]}
    one.submit(marking_job("moved", job=plan9))
    wait("the reason", lambda: any(e["Status"] == "blocked" for e in one.get("/v1/job/moved/evaluations")))
    assert [(a["ID"], a["JobVersion"]) for a in one.running("moved")] == [(old["ID"], 0)]
    one.stop_job("moved", purge=True)


def test_a_system_job_pushes_away_what_is_of_lower_priority_and_that_comes_back_when_there_is_room(one: Drover) -> None:
    one.submit(marking_job("low", Resources={"CPU": 700, "MemoryMB": 16}, job={"Priority": 20}))
    (low,) = one.wait_running("low", 1)
    high = marking_job("high", Resources={"CPU": 600, "MemoryMB": 16}, job={"Type": "system", "Priority": 80})
    one.submit(high)
    (alloc,) = one.wait_running("high", 1)
    gone = wait("the other one has ended", lambda: (a := one.alloc(low["ID"]))["ClientStatus"] == "complete" and a)
    assert (gone["DesiredStatus"], gone["PreemptedByAllocation"]) == ("evict", alloc["ID"])
    assert one.alloc(alloc["ID"])["PreemptedAllocations"] == [low["ID"]]
    wait("it waits for room", lambda: any(e["Status"] == "blocked" for e in one.get("/v1/job/low/evaluations")))
    assert any(e["TriggeredBy"] == "preemption" for e in one.get("/v1/job/low/evaluations"))
    one.stop_job("high", purge=True)
    one.wait_running("low", 1)
    one.stop_job("low", purge=True)
