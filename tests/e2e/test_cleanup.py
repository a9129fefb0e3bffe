"""What drover left or lost on a node is found and removed, what looks like it is not, whether the agent runs or not."""

import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import tmpfs
from agent.drivers.cgroup import find_hierarchy
from tests.components import docker
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, is_alive, job, marking_job, restart, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount and make cgroups")]

LOST = "11111111-2222-4333-8444-555555555555"
PURGED = "99999999-2222-4333-8444-555555555555"
STRANGER = "77777777-2222-4333-8444-555555555555"


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture
def one(consul: ConsulServer) -> Iterator[Drover]:
    with Drover(consul) as drover:
        drover.wait_ready()
        yield drover


def cleanup(one: Drover, *flags: str) -> list[dict[str, Any]]:
    said = one.run("node", "cleanup", "-config", str(one.config), "-json", *flags)
    assert said.stdout, said.stderr
    found: list[dict[str, Any]] = json.loads(said.stdout)
    assert said.returncode == 0, [entry for entry in found if entry["State"] not in ("found", "removed")]
    return found


def sleeper(**how: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "54321"], start_new_session=True, **how)


def service(consul: ConsulServer, service_id: str, node: str) -> None:
    document = {"ID": service_id, "Name": "left", "Meta": {"drover_node": node}, "Check": {"TTL": "1h"}}
    assert consul.call("PUT", "/v1/agent/service/register", document)[0] == 200


def container(name: str, node: str, *, runs: bool) -> str:
    or_skip(docker.engine)
    labels = ["--label", f"drover.node={node}"] if node else []
    made = subprocess.run(["docker", "create", "--name", name, *labels, docker.IMAGE, "sleep", "54321"], capture_output=True, text=True, check=True)
    if runs:
        subprocess.run(["docker", "start", name], check=True, capture_output=True)
    return made.stdout.strip()


def containers() -> set[str]:
    said = subprocess.run(["docker", "ps", "-a", "--no-trunc", "-q"], capture_output=True, text=True, check=True)
    return set(said.stdout.split())


def test_what_was_lost_is_found_and_removed_and_nothing_else(consul: ConsulServer, one: Drover, tmp_path: Path) -> None:
    one.submit(marking_job("lives", group={"Services": [{"Name": "lives"}]}))
    live = one.wait_running("lives", 1)[0]["ID"]
    wait("its process", lambda: one.pids(live))
    finished = job("done", "/bin/true", [], job={"Type": "batch"}, group={"RestartPolicy": restart()})
    one.submit(finished)
    journalled = wait("its end", lambda: [a for a in one.allocs("done") if a["ClientStatus"] == "complete"])[0]["ID"]
    node = one.get("/v1/nodes")[0]["ID"]

    # Planted: of an alloc that nobody knows any more.
    hierarchy = find_hierarchy()
    assert hierarchy is not None
    cgroup = Path(hierarchy.root) / f"{LOST}.t.1"
    cgroup.mkdir()
    in_cgroup, journalled_only = sleeper(), sleeper()
    (cgroup / "cgroup.procs").write_text(str(in_cgroup.pid))
    (one.data_dir / "run" / f"{LOST}.u.1.task").write_text(Path(f"/proc/{journalled_only.pid}/stat").read_text())
    left = one.data_dir / "alloc" / LOST
    (left / "t" / "secrets").mkdir(parents=True)
    tmpfs.mount(left / "t" / "secrets", mode=0o700, size_mb=1)
    (left / "t" / "bound").mkdir()
    subprocess.run(["mount", "--bind", str(tmp_path), str(left / "t" / "bound")], check=True)
    (tmp_path / "precious").write_text("x")
    running, stopped = container(f"t-{LOST}", node, runs=True), container(f"u-{LOST}", node, runs=False)
    service(consul, f"_drover-task-{LOST}-t-left-http", node)
    for key in (f"observed/{PURGED}/{LOST}", f"desired/{PURGED}/{LOST}", f"control/{PURGED}", f"inbox/{PURGED}"):
        consul.call("PUT", f"/v1/kv/drover/state/{key}", {})

    # Look-alikes.
    foreign, named_alike = container("someone-elses", "", runs=True), sleeper()
    others = container(f"t-{STRANGER}", STRANGER, runs=False)
    service(consul, f"_drover-task-{STRANGER}-t-left-http", STRANGER)
    service(consul, "_drover-taskmaster", node)
    elsewhere = tmp_path / "mounted"
    elsewhere.mkdir()
    tmpfs.mount(elsewhere, mode=0o700, size_mb=1)
    strangers = Path(hierarchy.root) / f"{STRANGER}.t.1"
    strangers.mkdir()
    try:
        listed = cleanup(one)
        kinds = {entry["Kind"] for entry in listed}
        assert kinds == {"process", "container", "mount", "directory", "file", "service", "keys"}
        assert all(entry["AllocID"] in ("", LOST) and entry["State"] == "found" for entry in listed), listed
        assert (is_alive(in_cgroup.pid), is_alive(journalled_only.pid), left.exists()) == (True, True, True)

        assert {entry["State"] for entry in cleanup(one, "-yes")} == {"removed"}
        in_cgroup.wait(10)
        journalled_only.wait(10)
        assert (cgroup.exists(), left.exists()) == (False, False)
        assert not containers() & {running, stopped}
        services = consul.call("GET", "/v1/agent/services")[1]
        assert f"_drover-task-{LOST}-t-left-http" not in services
        assert not [key for key in consul.call("GET", "/v1/kv/drover/?keys")[1] if PURGED in key]
        assert cleanup(one) == []

        assert {foreign, others} <= containers()
        assert is_alive(named_alike.pid)
        assert {f"_drover-task-{STRANGER}-t-left-http", "_drover-taskmaster"} <= services.keys()
        assert os.path.ismount(elsewhere)
        assert ((tmp_path / "precious").read_text(), strangers.exists()) == ("x", True)
        assert is_alive(one.pids(live)[0])
        assert any(f"_drover-task-{live}" in service_id for service_id in services)
        assert (one.data_dir / "alloc" / journalled).exists()
        assert one.alloc(live)["ClientStatus"] == "running"
    finally:
        for process in (in_cgroup, journalled_only, named_alike):
            process.kill()
            process.wait()
        subprocess.run(["docker", "rm", "-f", foreign, others, running, stopped], capture_output=True, check=False)
        tmpfs.unmount(elsewhere)
        strangers.rmdir()


def test_it_refuses_where_nobody_says_what_is_to_stay(consul: ConsulServer, one: Drover) -> None:
    one.submit(marking_job("lives"))
    live = one.wait_running("lives", 1)[0]["ID"]
    wait("its process", lambda: one.pids(live))
    one.kill()
    aside = one.home / "aside"
    aside.mkdir()
    for path in one.data_dir.glob("journal.db*"):
        path.rename(aside / path.name)
    assert cleanup(one, "-yes") == []  # Consul knows it
    consul.stop()
    said = one.run("node", "cleanup", "-config", str(one.config), "-yes")
    assert (said.returncode, "neither" in said.stderr) == (1, True)
    assert is_alive(one.pids(live)[0])
    for path in one.data_dir.glob("journal.db*"):
        path.unlink()
    for path in aside.iterdir():
        path.rename(one.data_dir / path.name)
    assert cleanup(one, "-yes") == []  # the journal knows it
    assert is_alive(one.pids(live)[0])
    consul.start()


def test_the_last_resort_ends_and_removes_all_and_the_agent_begins_anew(consul: ConsulServer, one: Drover) -> None:
    one.submit(marking_job("lives", count=3))
    allocs = [alloc["ID"] for alloc in one.wait_running("lives", 3)]
    wait("their processes", lambda: all(one.pids(alloc) for alloc in allocs))
    pids = [pid for alloc in allocs for pid in one.pids(alloc)]
    node = (one.data_dir / "node-id").read_text()
    bystander = sleeper()
    try:
        cleanup(one, "-all", "-yes")
        one.kill()  # reaped: it was ended by the command
        wait("their end", lambda: not any(map(is_alive, pids)))
        assert sorted(path.name for path in one.data_dir.iterdir()) == ["alloc", "lock", "node-id"]
        assert is_alive(bystander.pid)
        one.start()
        one.wait_ready()
        wait("new processes", lambda: all(one.pids(alloc) for alloc in [a["ID"] for a in one.wait_running("lives", 3)]))
        assert (one.data_dir / "node-id").read_text() == node
    finally:
        bystander.send_signal(signal.SIGKILL)
        bystander.wait()


def test_a_directory_that_is_no_agents_is_not_touched(consul: ConsulServer, tmp_path: Path) -> None:
    path = tmp_path / "agent.hcl"
    (tmp_path / "data" / "alloc" / str(uuid.uuid4())).mkdir(parents=True)
    path.write_text(f'data_dir = "{tmp_path}/data"\nconsul {{ address = "{consul.http_addr}" }}\nclient {{ enabled = true }}\n')
    said = subprocess.run(
        [shutil.which("python3") or "python3", "-m", "cli.main", "node", "cleanup", "-config", str(path), "-all", "-yes"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert said.returncode == 1
    assert len(list((tmp_path / "data" / "alloc").iterdir())) == 1
