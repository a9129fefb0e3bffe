"""Two of three Consul servers gone for ever: what runs runs on, and docs/consul-quorum-loss.md brings the rest back."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.components.consul import ConsulServer, consul_binary, consul_cluster
from tests.conftest import or_skip
from tests.e2e.drover import Drover, is_alive, marking_job, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.timeout(400)]

# DROVER_TEST_QUORUM_S="90" lets it last; `make test` has it short.
OUTAGE_S = float(os.environ.get("DROVER_TEST_QUORUM_S", "15"))


@dataclass(frozen=True)
class Fleet:
    servers: tuple[ConsulServer, ...]
    one: Drover  # the only candidate, a node too
    workers: tuple[Drover, ...]

    def pids(self, job_id: str = "web") -> dict[str, list[int]]:
        homes = {d.name: d for d in (self.one, *self.workers)}
        return {a["ID"]: homes[a["NodeName"]].pids(a["ID"]) for a in self.one.running(job_id)}


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with ExitStack() as stack:
        servers = or_skip(lambda: stack.enter_context(consul_cluster()))
        consuls = [stack.enter_context(ConsulServer.client(*servers, node_name=n)) for n in ("one", "two", "three")]
        one = stack.enter_context(Drover(consuls[0], name="one"))
        two = stack.enter_context(Drover(consuls[1], name="two", server=False))
        three = stack.enter_context(Drover(consuls[2], name="three", server=False))
        one.wait_ready(3)
        yield Fleet(servers, one, (two, three))


def consul(server: ConsulServer, *argv: str) -> str:
    """One `consul` command against this server, as an operator gives it."""
    environ = {**os.environ, "CONSUL_HTTP_ADDR": server.http_addr}
    done = subprocess.run(
        [consul_binary(), *argv], capture_output=True, text=True, timeout=30, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def members(server: ConsulServer) -> dict[str, str]:
    """{name: "alive", "failed" or "left"}"""
    lines = consul(server, "members").splitlines()[1:]
    return {line.split()[0]: line.split()[2] for line in lines}


def voters(server: ConsulServer) -> set[str]:
    peers = [line.split() for line in consul(server, "operator", "raft", "list-peers").splitlines()[1:]]
    assert [peer[3] for peer in peers].count("leader") == 1
    return {peer[0] for peer in peers if peer[4] == "true"}


def recover(left: ConsulServer) -> None:
    """The only server that is left is told to be the whole quorum."""
    left.stop()
    node_id = (left.data_dir / "node-id").read_text().strip()
    peers = [{"id": node_id, "address": f"{left.address}:{left.ports['server']}", "non_voter": False}]
    (left.data_dir / "raft" / "peers.json").write_text(json.dumps(peers))
    left.start()


def test_the_last_of_three_consul_servers_is_recovered_under_the_running_tasks(fleet: Fleet) -> None:
    *lost, left = fleet.servers
    one, two = fleet.one, fleet.workers[0]
    job = marking_job("web", count=6)
    job["Spreads"] = [{"Attribute": "${node.unique.name}", "Weight": 100}]
    one.submit(job)
    assert {a["NodeName"] for a in one.wait_running("web", 6)} == {"one", "two", "three"}
    before = wait("the task files", lambda: (p := fleet.pids()) and all(p.values()) and p)
    for server in lost:
        server.close()  # SIGKILL, and its data is removed
    stays("without Consul everything runs on", lambda: all(is_alive(p[0]) for p in before.values()), OUTAGE_S)

    recover(left)
    wait("the agents are back", lambda: {"one", "two", "three"} <= {n for n, s in members(left).items() if s == "alive"}, 60.0)
    for name, status in members(left).items():
        if status == "failed":
            consul(left, "force-leave", "-prune", name)
    wait("the lost servers are forgotten", lambda: set(members(left)) == {"one", "two", "three", "server-3"})
    assert voters(left) == {"server-3"}

    wait("somebody leads", lambda: one.get("/v1/operator/lock")["Leader"]["Name"] == "one", 60.0)
    one.wait_ready(3)
    assert fleet.pids() == before
    assert one.run("server", "promote", "two").returncode == 0
    wait("it is a candidate", lambda: "two.global" in one.run("server", "members").stdout)
    done = one.run("leader", "step-down")
    assert (done.returncode, "two leads now" in done.stdout) == (0, True), done.stderr
    two.submit(marking_job("new", count=3))
    two.wait_running("new", 3)
    with ConsulServer(node_name="server-4", servers=3, join=[left]), ConsulServer(node_name="server-5", servers=3, join=[left]):
        wait("they are three again", lambda: voters(left) == {"server-3", "server-4", "server-5"}, 60.0)
        stays("nothing was started or stopped", lambda: fleet.pids() == before, 10.0)
    assert all(is_alive(pid) for pids in before.values() for pid in pids)
