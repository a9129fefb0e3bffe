"""One instance is taken out of its job, or all are left by it, and none of their processes notices."""


import pytest

from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, call, is_alive, marking_job, stays, wait, web_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def pid_of(one: Drover, alloc: str) -> int:
    return wait("its process", lambda: one.pids(alloc))[-1]


def instances(consul: ConsulServer, name: str) -> int:
    return len(call(consul.http_addr, "GET", f"/v1/health/service/{name}?passing"))


def test_a_released_instance_runs_on_apart_and_its_job_gets_another(one: Drover, consul: ConsulServer) -> None:
    one.submit(web_job("web", count=2))
    first, second = (alloc["ID"] for alloc in one.wait_running("web", 2))
    pids = {alloc: pid_of(one, alloc) for alloc in (first, second)}
    wait("both are led to", lambda: instances(consul, "web") == 2)
    done = one.run("alloc", "release", first)
    assert done.returncode == 0, done.stderr
    allocs = one.wait_running("web", 3)
    wait("the others are led to", lambda: instances(consul, "web") == 2)
    (third,) = {alloc["ID"] for alloc in allocs} - {first, second}
    registered = call(consul.http_addr, "GET", "/v1/agent/services")
    assert not [service for service in registered if first in service]
    assert one.get("/v1/job/web")["Status"] == "running"
    assert one.get("/v1/job/web/summary")["Summary"]["g"]["Running"] == 2
    shown = one.run("alloc", "status", first).stdout
    assert "alloc was taken out of its job by a user" in shown

    one.kill()  # over the agent's restart and a new term
    one.start()
    one.wait_running("web", 3)
    assert not [s for s in call(consul.http_addr, "GET", "/v1/agent/services") if first in s]
    one.stop_job("web", purge=True)
    wait("the job's own end", lambda: not is_alive(pid_of(one, second)) and not is_alive(pid_of(one, third)))
    stays("it runs on", lambda: is_alive(pids[first]), 2.0)
    assert one.run("alloc", "stop", "-detach", first).returncode == 0
    wait("its end", lambda: not is_alive(pids[first]))
    wait("all is forgotten", lambda: not one.allocs("web"))


def test_what_a_job_left_runs_on_and_is_taken_over_by_the_next_of_its_name(one: Drover) -> None:
    one.submit(marking_job("db", count=3))
    pids = {alloc["ID"]: pid_of(one, alloc["ID"]) for alloc in one.wait_running("db", 3)}
    assert one.run("job", "stop", "-orphan", "-purge", "db").returncode == 1
    done = one.run("job", "stop", "-orphan", "-detach", "db")
    assert done.returncode == 0, done.stderr
    wait("the job is over", lambda: one.get("/v1/job/db")["Status"] == "dead")
    assert call(one.address, "PUT", "/v1/system/gc") is None  # what was left is no garbage
    stays("all run on", lambda: all(is_alive(pid) for pid in pids.values()), 2.0)
    one.kill()
    one.start()
    one.wait_ready()

    found = one.submit({**marking_job("db", count=1), "Priority": 60})
    assert "3 orphaned allocations of an earlier job run on beside this one (one)" in found["Warnings"]
    wait("another beside them", lambda: len(one.running("db")) == 4)
    (new,) = {alloc["ID"] for alloc in one.running("db")} - set(pids)

    adopted = call(one.address, "PUT", "/v1/jobs", {"Job": marking_job("db", count=4), "Adopt": True})
    assert adopted["Warnings"] == ""
    wait("all are the job's", lambda: one.get("/v1/job/db/summary")["Summary"]["g"]["Running"] == 4)
    assert {alloc["ID"] for alloc in one.running("db")} >= set(pids)
    assert all(is_alive(pid) for pid in pids.values())
    one.stop_job("db", purge=True)
    wait("their end", lambda: not any(is_alive(pid) for pid in (*pids.values(), pid_of(one, new))))
