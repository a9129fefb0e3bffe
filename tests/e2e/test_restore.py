"""A Consul that lost everything: what runs runs on, and a saved state puts the rest back under it."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.components.consul import ConsulServer, consul_binary
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


def snapshot(consul: ConsulServer, verb: str, path: Path) -> None:
    command = [str(consul_binary()), "snapshot", verb, f"-http-addr={consul.http_addr}", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


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


def test_a_snapshot_restored_into_a_running_consul_stops_nothing(fleet: tuple[ConsulServer, Drover, Drover], tmp_path: Path) -> None:
    """Consul's own snapshot. What was submitted after it is known to nobody then: it runs on, and is taken over."""
    server, one, two = fleet
    one.submit(web_job("old", count=2))
    old = {a["ID"]: a["NodeName"] for a in one.wait_running("old", 2)}
    saved = tmp_path / "consul.snap"
    snapshot(server, "save", saved)
    one.submit(web_job("new", count=2))
    new = {a["ID"]: a["NodeName"] for a in one.wait_running("new", 2)}
    known = old | new
    before = wait("the task files", lambda: (p := pids(one, two, known)) and all(p.values()) and p)
    snapshot(server, "restore", saved)
    wait("the later job is unknown", lambda: [j["ID"] for j in one.get("/v1/jobs")] == ["old"], 60.0)
    # What a leader may do wrong, it does when it looks at the jobs again.
    one.submit(web_job("after"))
    one.wait_running("after", 1, 60.0)
    stays("all of it runs on", lambda: pids(one, two, known) == before and all(is_alive(p[-1]) for p in before.values()), 5.0)
    assert {a["ID"] for a in one.wait_running("old", 2)} == set(old)
    file = tmp_path / "new.json"
    file.write_text(json.dumps({"Job": web_job("new", count=2)}))
    done = one.run("job", "run", "-json", "-adopt", "-detach", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    wait("it is taken over", lambda: {a["ID"] for a in one.running("new")} == set(new), 90.0)
    stays("and nothing besides", lambda: {a["ID"] for a in one.allocs("new")} == set(new), 3.0)
    assert pids(one, two, known) == before
