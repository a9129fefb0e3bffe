"""An agent starts as Nomad's own Go tests start theirs: `agent -config FILE -dev`, FILE in JSON with the client switched off."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.data_dir import remove_data_dir
from tests.components.consul import free_port
from tests.e2e.drover import call, marking_job, remove_cgroups, wait

pytestmark = [pytest.mark.e2e]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Started:
    address: str
    name: str
    config: Path
    log: Path
    process: "subprocess.Popen[bytes]"

    def get(self, path: str) -> Any:
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        return call(self.address, "GET", path)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    folder = tmp_path_factory.mktemp("nomad")
    http, rpc, serf = free_port(), free_port(), free_port()
    name = f"node-{uuid.uuid4()}"
    config = folder / "config.json"
    config.write_text(
        json.dumps(
            {
                "name": name,
                "data_dir": str(folder / "data"),
                "region": "global",
                "disable_update_check": True,
                "log_level": "DEBUG",
                "advertise": {"http": f"127.0.0.1:{http}", "rpc": f"127.0.0.1:{rpc}", "serf": f"127.0.0.1:{serf}"},
                "ports": {"http": http, "rpc": rpc, "serf": serf},
                "server": {"enabled": True, "bootstrap_expect": 1, "raft_protocol": 3},
                "client": {"enabled": False, "cpu_total_compute": 4000},
                "vault": {"enabled": False},
                "acl": {"enabled": False},
                "telemetry": {"publish_allocation_metrics": True},
            }
        )
    )
    log = folder / "log"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("NOMAD_", "CONSUL_", "VAULT_"))}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "agent", "-config", str(config), "-dev", "-meta", "rack=r1", "-node-class", "small", "-retry-join", "10.0.0.1"],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=ROOT, env={**kept, "TMPDIR": str(folder)},
        )  # fmt: skip
    started = Started(address=f"127.0.0.1:{http}", name=name, config=config, log=log, process=process)
    try:
        wait("its API", lambda: bool(started.get("/v1/regions")))
        yield started
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            allocs = folder / "data" / "alloc"
            remove_cgroups({path.name for path in allocs.iterdir()} if allocs.is_dir() else set())
            remove_data_dir(folder / "data")


def test_it_leads_and_is_a_node_though_the_file_switches_the_client_off(agent: Started) -> None:
    wait("a leader", lambda: agent.get("/v1/status/leader") == agent.address)
    (node,) = wait("its node", lambda: [n for n in agent.get("/v1/nodes") if n["Status"] == "ready"])
    assert (node["Name"], node["NodeClass"]) == (agent.name, "small")
    assert agent.get(f"/v1/node/{node['ID']}")["Meta"] == {"rack": "r1"}
    own = agent.get("/v1/agent/self")
    assert (own["config"]["Server"]["Enabled"], own["config"]["Client"]["Enabled"]) == (True, True)
    assert own["member"]["Name"] == f"{agent.name}.global"
    assert agent.get("/v1/agent/health") == {"client": {"ok": True, "message": "ok"}, "server": {"ok": True, "message": "ok"}}


def test_it_tells_what_of_that_has_no_effect(agent: Started) -> None:
    lines = agent.log.read_text().splitlines()

    def told(words: str) -> bool:
        return any(words in line for line in lines)

    assert told("client.enabled = false has no effect: -dev is leader and client in one")
    assert told("server.bootstrap_expect has no effect in drover")
    assert told("ports.rpc has no effect in drover")
    assert told("Note: -retry-join has no effect: agents find one another in Consul")


def test_what_nomads_tests_do_first_works(agent: Started) -> None:
    wait("its node", lambda: [n for n in agent.get("/v1/nodes") if n["Status"] == "ready"])
    wanted = marking_job("job1", job={"Datacenters": ["dc1"], "Region": "global"})
    assert call(agent.address, "PUT", "/v1/jobs", {"Job": wanted})["EvalID"]
    wait("it runs", lambda: [a for a in agent.get("/v1/job/job1/allocations") if a["ClientStatus"] == "running"])
    call(agent.address, "DELETE", "/v1/job/job1?purge=true")
    wait("it ended", lambda: all(a["ClientStatus"] == "complete" for a in agent.get("/v1/allocations")))
    call(agent.address, "PUT", "/v1/system/gc")
