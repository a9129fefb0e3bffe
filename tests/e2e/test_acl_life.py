"""A whole life on a Consul with default-deny: agents that have the policies drover brings, and nothing else."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.api.policies import agent_with_policies, policy
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, job, marking_job, wait, web_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture(scope="module")
def fleet() -> Iterator[tuple[ConsulServer, ConsulServer, dict[str, Drover]]]:
    """A Consul server with two candidates that run tasks, and a Consul client agent with one that only runs tasks."""
    with ExitStack() as stack:
        consul = or_skip(lambda: stack.enter_context(ConsulServer(acl=True)))
        local = stack.enter_context(ConsulServer.client(consul, acl=True))
        token = consul.make_token("operator", policy("operator"))
        agents = {}
        for name, where, server in (("one", consul, True), ("two", consul, True), ("three", local, False)):
            agents[name] = agent_with_policies(where, name, server=server, token=token, tokens_of=consul)
            stack.enter_context(agents[name])
        agents["one"].wait_ready(3)
        yield consul, local, agents


def _passing(consul: ConsulServer, service: str) -> int:
    return len(consul.call("GET", f"/v1/health/service/{service}?passing")[1])


def test_jobs_live_move_and_end_with_the_policies_alone(
    fleet: tuple[ConsulServer, ConsulServer, dict[str, Drover]],
) -> None:
    consul, _, agents = fleet
    spread = {"group": {"Spreads": [{"Attribute": "${node.unique.name}", "Weight": 100}]}}
    web = web_job("web", {"Limit": 3, "Grace": 0}, count=3)
    web["TaskGroups"][0] |= spread["group"]
    agents["three"].submit(web)
    allocs = agents["three"].wait_running("web", 3)
    assert {alloc["NodeName"] for alloc in allocs} == {"one", "two", "three"}
    wait("three that pass", lambda: _passing(consul, "web") == 3)

    # A periodic job, whose check the leader keeps in the catalog.
    nightly = job("nightly", "/bin/true", [], job={"Type": "batch", "Periodic": {"Spec": "@every 2s"}})
    agents["three"].submit(nightly)
    wait("its check", lambda: _passing(consul, "drover-periodic-nightly") == 1)
    agents["three"].stop_job("nightly", purge=True)
    wait("no check", lambda: consul.call("GET", "/v1/health/service/drover-periodic-nightly")[1] == [])
    for child in agents["three"].get("/v1/jobs?prefix=nightly"):
        agents["three"].stop_job(child["ID"].replace("/", "%2F"), purge=True)

    # A take-over, of which no task notices anything.
    leader = next(a for a in agents.values() if agents["three"].get("/v1/status/leader") == a.address)
    leader.terminate()
    wait("another leader", lambda: agents["three"].get("/v1/status/leader") not in ("", leader.address))
    agents["three"].submit(marking_job("after"))
    agents["three"].wait_running("after", 1)
    leader.start()
    agents["three"].wait_ready(3)
    assert {a["ID"] for a in agents["one"].wait_running("web", 3)} == {a["ID"] for a in allocs}

    # A drain, with what clients see of it.
    node = next(n for n in agents["one"].get("/v1/nodes") if n["Name"] == "three")
    done = agents["three"].run("node", "drain", "-enable", "-yes", "-deadline", "20s", node["ID"])
    assert (done.returncode, done.stderr) == (0, "")
    wait("all elsewhere", lambda: {a["NodeName"] for a in agents["one"].running("web")} == {"one", "two"})
    wait("three that pass", lambda: _passing(consul, "web") == 3)
    agents["three"].stop_job("web", purge=True)
    agents["three"].stop_job("after", purge=True)
    wait("no allocs", lambda: agents["one"].get("/v1/allocations") == [])
    wait("no services", lambda: _passing(consul, "web") == 0)

    for agent in agents.values():
        assert "Permission denied" not in agent.log
        assert "Traceback" not in agent.log
    for log in (consul.log, fleet[1].log):
        assert not [line for line in log.splitlines() if "Permission denied" in line]


def test_an_agent_whose_token_lacks_the_leaders_policy_says_so_and_leads_not(
    fleet: tuple[ConsulServer, ConsulServer, dict[str, Drover]],
) -> None:
    consul, _, _ = fleet
    token = consul.make_token("no-leader", policy("agent", "88888888-0000-4000-8000-000000000000"))
    settings = f'consul {{\n token = "{token}"\n kv_path = "elsewhere"\n}}'
    with Drover(consul, name="poor", client=False, settings=settings) as poor:
        wait("the reason", lambda: "this agent cannot lead: Consul refused" in poor.log)
        assert poor.log.count("this agent cannot lead") == 1
        assert "configs/policies/leader.hcl" in poor.log
        assert token not in poor.log
