"""Tasks outlive drover, its leader and Consul: nothing is restarted, nothing runs twice."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, call, is_alive, job, marking_job, restart, stays, wait, web_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


def pids_of(drover: Drover, job_id: str) -> dict[str, list[int]]:
    return {alloc["ID"]: drover.pids(alloc["ID"]) for alloc in drover.running(job_id)}


@pytest.mark.parametrize(("ttl", "limit_s"), [("3s", 4.0), ("2s", 3.0)], ids=["default", "ttl 2s"])
def test_a_killed_leader_is_followed_by_another_and_no_task_notices(
    consul: ConsulServer, ttl: str, limit_s: float
) -> None:
    lease = f'lease_ttl = "{ttl}"'
    with Drover(consul, name="leads", client=False, server_settings=lease) as leader:
        wait("it leads", lambda: leader.get("/v1/status/leader") == leader.address)
        with Drover(consul, name="follows", server_settings=lease) as other:
            other.wait_ready()
            other.submit(marking_job("old", count=2))
            other.wait_running("old", 2)
            before = wait("both task files", lambda: all(pids_of(other, "old").values()) and pids_of(other, "old"))
            leader.kill()
            killed = time.monotonic()
            wait("a leader that takes jobs", lambda: other.submit(marking_job("new")))
            other.wait_running("new", 1)
            took_s = time.monotonic() - killed
            print(f"take-over with a {ttl} check: {took_s:.2f} s")
            # The figure is the benchmark's; here a second is left for a busy machine.
            assert took_s < limit_s + 1.0
            assert pids_of(other, "old") == before
            assert all(is_alive(pid) for pids in before.values() for pid in pids)


def test_a_killed_leader_that_comes_back_at_once_leads_at_once(consul: ConsulServer) -> None:
    with Drover(consul) as one:
        one.wait_ready()
        one.kill()
        one.start()
        begun = time.monotonic()
        wait("it takes jobs", lambda: one.submit(marking_job("new")))
        one.wait_running("new", 1)
        assert time.monotonic() - begun < 3.0, "its own old session was waited for"


def test_a_planned_hand_over_takes_less_than_a_second(consul: ConsulServer) -> None:
    with (
        Drover(consul, name="one", client=False) as one,
        Drover(consul, name="two", server=False) as two,
        Drover(consul, name="three", client=False) as three,
    ):
        two.wait_ready()
        leader, other = (one, three) if two.get("/v1/status/leader") == one.address else (three, one)
        two.submit(marking_job("old"))
        two.wait_running("old", 1)
        before = wait("the task's file", lambda: all(pids_of(two, "old").values()) and pids_of(two, "old"))
        begun = time.monotonic()
        assert leader.terminate() == 0
        wait("the other leads", lambda: other.get("/v1/status/leader") == other.address)
        other.submit(marking_job("new"))
        other.wait_running("new", 1)
        took_s = time.monotonic() - begun
        print(f"hand-over, SIGTERM to a new task: {took_s:.2f} s")
        assert took_s < 2.0
        assert pids_of(two, "old") == before


def test_a_killed_agent_finds_its_tasks_again_and_tells_what_ended_meanwhile(consul: ConsulServer) -> None:
    with Drover(consul) as one:
        one.wait_ready()
        one.submit(marking_job("keeps", count=3))
        kept = one.wait_running("keeps", 3)
        wait("the task files", lambda: all(pids_of(one, "keeps").values()))
        before = pids_of(one, "keeps")
        one.submit(
            job(
                "ends",
                "/bin/sh",
                ["-c", "echo $$ >> starts; while [ ! -e go ]; do sleep 0.1; done; rm go; exit 7"],
                group={"RestartPolicy": restart(attempts=5)},
            )
        )
        ending = one.wait_running("ends", 1)[0]["ID"]
        wait("its file", lambda: one.pids(ending))
        one.kill()
        (one.task_dir(ending) / "go").touch()
        wait("the task's end", lambda: not is_alive(one.pids(ending)[0]))
        one.start()
        again = wait("the restart", lambda: len(one.pids(ending)) == 2 and one.pids(ending))
        state = wait(
            "the report",
            lambda: (s := one.alloc(ending)["TaskStates"]["t"])["Restarts"] == 1 and s["State"] == "running" and s,
        )
        codes = [e.get("ExitCode", 0) for e in state["Events"] if e["Type"] == "Terminated"]
        assert codes == [7]
        assert is_alive(again[1])
        stays("nothing runs twice", lambda: pids_of(one, "keeps") == before and len(one.pids(ending)) == 2, 2.0)
        assert {a["ID"] for a in one.running("keeps")} == {a["ID"] for a in kept}
        assert all(s["TaskStates"]["t"]["Restarts"] == 0 for s in one.running("keeps"))


def services(consul: ConsulServer) -> dict[str, tuple[int, str]]:
    """{service id: (port, worst check)} of what drover's tasks registered."""
    found = call(consul.http_addr, "GET", "/v1/agent/services")
    checks = call(consul.http_addr, "GET", "/v1/agent/checks")
    worst = {c["ServiceID"]: c["Status"] for c in checks.values()}
    return {k: (v["Port"], worst.get(k, "")) for k, v in found.items() if k.startswith("_drover-task-")}


@pytest.mark.parametrize("outage_s", [float(os.environ.get("DROVER_TEST_OUTAGE_S", "15"))], ids=lambda s: f"{s:g} s")
def test_an_outage_of_consul_with_an_agent_restart_in_it_restarts_no_task(
    consul: ConsulServer, outage_s: float
) -> None:
    with Drover(consul) as one:
        one.wait_ready()
        one.submit(web_job("web", {"Limit": 3, "Grace": NS_2}, count=2))
        one.wait_running("web", 2)
        passing = wait(
            "both passing", lambda: [s for _, s in services(consul).values()] == ["passing"] * 2 and services(consul)
        )
        before = pids_of(one, "web")
        consul.stop(kill=True)
        begun = time.monotonic()
        one.kill()
        one.start(is_ready=False)
        stays(
            "no task is touched while Consul is away",
            lambda: all(is_alive(p) for pids in before.values() for p in pids)
            and {a: one.pids(a) for a in before} == before,
            outage_s - (time.monotonic() - begun),
        )
        consul.start()
        wait("registrations as they were", lambda: services(consul) == passing, 60.0)
        wait("a leader again", lambda: len(one.running("web")) == 2, 60.0)
        stays("nothing restarted", lambda: {a: one.pids(a) for a in before} == before, 5.0)
        assert all(a["TaskStates"]["t"]["Restarts"] == 0 for a in one.running("web"))


NS_2 = 2_000_000_000


def test_sigterm_leaves_the_tasks_running_and_exits_with_0(consul: ConsulServer) -> None:
    with Drover(consul) as one:
        one.wait_ready()
        one.submit(marking_job("keeps"))
        alloc = one.wait_running("keeps", 1)[0]["ID"]
        pid = wait("its file", lambda: one.pids(alloc))[0]
        assert one.terminate() == 0
        stays("the task runs on", lambda: is_alive(pid), 1.0)
        one.start()
        one.wait_running("keeps", 1)
        assert one.pids(alloc) == [pid]
        os.kill(pid, signal.SIGKILL)
        wait("a restart after re-attaching", lambda: len(one.pids(alloc)) == 2)
