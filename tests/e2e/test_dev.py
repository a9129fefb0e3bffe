"""`drover agent -dev` keeps to itself beside a production drover, and leaves nothing, however it ended."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import tmpfs
from tests.components.consul import ConsulServer, free_port
from tests.conftest import or_skip
from tests.e2e.drover import Drover, call, cgroups, is_alive, job, marking_job, remove_cgroups, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        try:
            yield server
        finally:
            server.close()


class Dev:
    """One `drover agent -dev` with a temporary directory of its own as /tmp."""

    def __init__(self, consul: ConsulServer | None, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.temporary = folder
        config = folder / "agent.hcl"
        config.write_text(f"ports {{ http = {self.address.rpartition(':')[2]} }}")
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "agent", "-dev", "-config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **({"CONSUL_HTTP_ADDR": consul.http_addr} if consul else {}), "TMPDIR": str(folder)},
            )

    def __enter__(self) -> "Dev":
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)
        remove_cgroups(self.allocs)
        for secrets in self.temporary.glob("drover-dev-*/alloc/*/*/secrets"):
            tmpfs.unmount(secrets)

    def end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(30)

    def submit(self, job: dict[str, Any]) -> None:
        wait("the node", lambda: [n for n in call(self.address, "GET", "/v1/nodes") if n["Status"] == "ready"])
        call(self.address, "PUT", "/v1/jobs", {"Job": job})

    def running(self, job_id: str) -> list[str]:
        found = call(self.address, "GET", f"/v1/job/{job_id}/allocations")
        return [alloc["ID"] for alloc in found if alloc["ClientStatus"] == "running"]

    def run_a_job(self) -> int:
        """The pid of its one task."""
        self.submit(marking_job("dev"))

        def pid() -> int | None:
            starts = list(self.temporary.glob("drover-dev-*/alloc/*/t/starts"))
            return int(starts[0].read_text() or 0) if starts else None

        found = wait("the task", pid)
        assert len(self.allocs) == 1
        return found

    @property
    def allocs(self) -> set[str]:
        return {path.name for path in self.temporary.glob("drover-dev-*/alloc/*")}


def keys(consul: ConsulServer) -> dict[str, int]:
    return {entry["Key"]: entry["CreateIndex"] for entry in ask(consul, "/v1/kv/?recurse&consistent")}


def ask(consul: ConsulServer, path: str) -> Any:
    connection = http.client.HTTPConnection(consul.http_addr, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())


def services(consul: ConsulServer) -> set[str]:
    return set(ask(consul, "/v1/agent/services"))


def test_beside_a_production_drover_dev_moves_nothing_and_leaves_nothing(
    consul: ConsulServer, tmp_path: Path
) -> None:
    with Drover(consul, name="prod") as prod:
        prod.wait_ready()
        prod.submit(marking_job("prod"))
        prod.wait_running("prod", 1)
        leader = prod.get("/v1/status/leader")
        before, known = keys(consul), services(consul)
        with Dev(consul, tmp_path) as dev:
            pid = dev.run_a_job()
            allocs = dev.allocs
            assert cgroups(allocs) or os.geteuid()
            assert [known["ID"] for known in call(dev.address, "GET", "/v1/jobs")] == ["dev"]
            assert len(call(dev.address, "GET", "/v1/agent/members")["Members"]) == 1
            assert len(prod.get("/v1/nodes")) == len(prod.get("/v1/agent/members")["Members"]) == 1
            assert prod.get("/v1/status/leader") == leader
            assert dev.end(signal.SIGTERM) == 0
        assert "real Consul" in dev.log.read_text()
        assert not is_alive(pid)
        assert list(tmp_path.glob("drover-dev-*")) == cgroups(allocs) == []
        assert set(keys(consul)) <= set(before)
        assert services(consul) == known
        assert [known["ID"] for known in prod.get("/v1/jobs")] == ["prod"]


@pytest.mark.docker
def test_dev_removes_its_containers(consul: ConsulServer, tmp_path: Path, docker_image: str) -> None:
    with Dev(consul, tmp_path) as dev:
        config = {"image": docker_image, "command": "/bin/sleep", "args": ["1000"]}
        dev.submit(job("box", "", [], Driver="docker", Config=config))
        (alloc,) = wait("the container", lambda: dev.running("box"))
        assert containers(alloc) == 1
        assert dev.end(signal.SIGTERM) == 0
    assert containers(alloc) == 0


def containers(alloc: str) -> int:
    command = ["docker", "ps", "-aq", "--filter", f"label=drover.alloc={alloc}"]
    return len(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_what_a_killed_dev_agent_left_is_removed_by_the_next(consul: ConsulServer, tmp_path: Path) -> None:
    with Dev(consul, tmp_path) as killed:
        pid = killed.run_a_job()
        left = killed.allocs
        killed.end(signal.SIGKILL)
        assert is_alive(pid)
        assert keys(consul)
        abandoned = tmp_path / "drover-dev-just-made"  # by an agent that has not come to lock it
        abandoned.mkdir()
        broken = tmp_path / "drover-dev-broken"
        broken.mkdir()
        (broken / "lock").touch()
        (broken / "journal.db").write_bytes(b"no database" * 1000)
        with Dev(consul, tmp_path) as dev:
            wait("the API", lambda: call(dev.address, "GET", "/v1/regions"))
            assert not is_alive(pid)
            assert cgroups(left) == []
            assert dev.end(signal.SIGTERM) == 0
    assert "drover-dev-broken: what a -dev agent left is left as it is: file is not a database" in dev.log.read_text()
    assert sorted(tmp_path.glob("drover-dev-*")) == [broken, abandoned]
    assert keys_or_none(consul) == {}
    assert services(consul) == set()


def keys_or_none(consul: ConsulServer) -> dict[str, int]:
    try:
        return keys(consul)
    except ValueError:  # 404, with nothing in it
        return {}


@pytest.mark.parametrize("how", ["flag", "environment", "file"])
def test_a_consul_that_was_named_and_does_not_answer_is_an_error_also_in_dev(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "a.hcl").write_text(f'consul {{ address = "{address}" }}')
        argv = {"flag": ["-consul-address", address], "environment": [], "file": ["-config", str(tmp_path / "a.hcl")]}
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        environ.pop("CONSUL_HTTP_ADDR", None)
        if how == "environment":
            environ["CONSUL_HTTP_ADDR"] = address
        ended = subprocess.run(
            [sys.executable, "-m", "cli.main", "agent", "-dev", *argv[how]],
            capture_output=True, text=True, timeout=30, env=environ, check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    line = f"consul.address: no Consul agent answers at http://{address} (is it running?)\n"
    assert (ended.stdout, ended.stderr) == ("", line)
    assert list(tmp_path.glob("drover-dev-*")) == []




def test_two_without_a_consul_do_not_lean_on_one_another(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    with Dev(None, tmp_path / "first") as first:
        wait("it leads", lambda: call(first.address, "GET", "/v1/status/leader"))
        with Dev(None, tmp_path / "second") as second:
            second.submit(marking_job("dev"))
            wait("it runs", lambda: second.running("dev"))
            first.end(signal.SIGTERM)
            second.submit(marking_job("after"))
            wait("that runs too", lambda: second.running("after"))
            assert second.end(signal.SIGTERM) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["ended", "killed"])
def test_what_periodic_jobs_showed_in_the_catalog_goes_too_and_was_not_productions(
    number: signal.Signals, consul: ConsulServer, tmp_path: Path
) -> None:
    nightly = job("nightly", "/bin/true", [], job={"Type": "batch", "Periodic": {"Spec": "0 0 1 1 * 2099"}})

    def shown() -> set[str]:
        return {name for name in ask(consul, "/v1/catalog/services") if "periodic" in name}

    def outside() -> set[str]:
        return {node["Node"] for node in ask(consul, "/v1/catalog/nodes") if "periodic" in node["Node"]}

    with Drover(consul, name="prod") as prod:
        prod.wait_ready()
        prod.submit(nightly)
        wait("production's", lambda: shown() == {"drover-periodic-nightly"})
        with Dev(consul, tmp_path) as dev:
            dev.submit(nightly)
            wait("both", lambda: shown() == {"drover-periodic-nightly", "drover-dev-periodic-nightly"})
            assert len(ask(consul, "/v1/health/service/drover-periodic-nightly")) == 1
            assert len(outside()) == 2
            dev.end(number)
        if number is signal.SIGKILL:
            with Dev(consul, tmp_path) as dev:
                wait("a new one", lambda: dev.submit(marking_job("dev")) is None)
                wait("only production's", lambda: outside() == {"drover-periodic"})
                assert dev.end(signal.SIGTERM) == 0
        assert (outside(), shown()) == ({"drover-periodic"}, {"drover-periodic-nightly"})
