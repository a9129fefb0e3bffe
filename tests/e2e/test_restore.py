"""A Consul that lost everything: what runs runs on, and a saved state puts the rest back under it."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, call, is_alive, stays, wait, web_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.timeout(400)]


@pytest.fixture
def fleet() -> Iterator[tuple[ConsulServer, Drover, Drover]]:
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        other = stack.enter_context(ConsulServer.client(server, node_name="other"))
        one = stack.enter_context(Drover(server, name="one"))
        two = stack.enter_context(Drover(other, name="two", server=False))
        one.wait_ready(2)
        yield server, one, two


def wipe(consul: ConsulServer) -> None:
    """Everything that Consul knew is gone; it begins anew at the same addresses."""
    consul.stop(kill=True)
    shutil.rmtree(consul.data_dir)
    consul.start()


def pids(one: Drover, two: Drover, allocs: dict[str, str]) -> dict[str, list[int]]:
    return {alloc: (one if name == "one" else two).pids(alloc) for alloc, name in allocs.items()}


def test_a_wiped_consul_is_restored_under_the_running_tasks(
    fleet: tuple[ConsulServer, Drover, Drover], tmp_path: Path
) -> None:
    server, one, two = fleet
    job = web_job("web", count=4)
    job["Constraints"] = [{"LTarget": "${node.unique.name}", "Operand": "set_contains_any", "RTarget": "one,two"}]
    job["Spreads"] = [{"Attribute": "${node.unique.name}", "Weight": 100}]
    one.submit(job)
    allocs = {a["ID"]: a["NodeName"] for a in one.wait_running("web", 4)}
    assert set(allocs.values()) == {"one", "two"}
    before = wait("the task files", lambda: (p := pids(one, two, allocs)) and all(p.values()) and p)

    def passing() -> set[str]:
        found = call(server.http_addr, "GET", "/v1/health/service/web?passing=1")
        return {one["Service"]["ID"] for one in found}

    services = wait("four services", lambda: (found := passing()) and len(found) == 4 and found)
    index = one.get("/v1/job/web")["JobModifyIndex"]
    call(one.address, "PUT", "/v1/namespace/team", {"Name": "team", "Description": "theirs"})
    config = one.get("/v1/operator/scheduler/configuration")["SchedulerConfig"]
    call(one.address, "PUT", "/v1/operator/scheduler/configuration", config | {"SchedulerAlgorithm": "spread"})
    target = tmp_path / "state.snap"
    assert one.run("operator", "snapshot", "save", str(target)).returncode == 0
    refused = one.run("operator", "snapshot", "restore", str(target))
    assert (refused.returncode, "there are 1 jobs already" in refused.stderr) == (1, True)
    wipe(server)
    wait("somebody leads the empty cluster", lambda: one.get("/v1/jobs") == [], 60.0)
    stays("without a state everything runs on", lambda: all(is_alive(p[0]) for p in before.values()), 3.0)
    done = one.run("operator", "snapshot", "restore", str(target))
    assert done.returncode == 0, done.stderr
    wait("all of it is known again", lambda: {a["ID"] for a in one.running("web")} == set(allocs), 60.0)
    # A client agent tells new servers of its services within a minute or two, by Consul's own anti-entropy.
    wait("and found again", lambda: passing() == services, 180.0)
    stays("nothing is started or stopped", lambda: {a["ID"] for a in one.allocs("web")} == set(allocs), 3.0)
    assert pids(one, two, allocs) == before
    assert one.get("/v1/namespace/team")["Description"] == "theirs"
    assert one.get("/v1/operator/scheduler/configuration")["SchedulerConfig"]["SchedulerAlgorithm"] == "spread"
    assert one.get("/v1/job/web")["JobModifyIndex"] > index
    one.stop_job("web", purge=True)
    wait("it obeys again", lambda: not one.allocs("web"), 60.0)
