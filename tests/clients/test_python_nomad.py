"""python-nomad drives a whole life through drover: each of its classes of endpoints is used at least once."""

import base64
from collections.abc import Iterator
from typing import Any

import nomad
import pytest
from nomad.api.exceptions import BadRequestNomadException, BaseNomadException, URLNotFoundNomadException

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

TALKS = "echo said; echo kept > local/file; exec sleep 100000"


@pytest.fixture(scope="module")
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="module")
def one(consul: ConsulServer) -> Iterator[Drover]:
    with Drover(consul) as drover:
        drover.wait_ready()
        yield drover


@pytest.fixture(scope="module")
def client(one: Drover) -> nomad.Nomad:
    host, _, port = one.address.partition(":")
    return nomad.Nomad(host=host, port=int(port), timeout=20)


def wanted(name: str = "web", **more: Any) -> dict[str, Any]:
    update = {"MinHealthyTime": NS // 10, "MaxParallel": 1}
    return {"Job": job(name, "/bin/sh", ["-c", TALKS], group={"Update": update, "Scaling": {"Min": 1, "Max": 5, "Enabled": True, "Policy": {}}}, **more)}


@pytest.fixture(scope="module")
def alloc(client: nomad.Nomad) -> dict[str, Any]:
    """Of a job that runs."""
    client.job.register_job("web", wanted())
    return wait("it runs", lambda: next((a for a in client.job.get_allocations("web") if a["ClientStatus"] == "running"), None))


def settled(client: nomad.Nomad) -> str:
    """The id of web's one allocation, once its newest version has been rolled out: a roll-out under way would end it."""

    def look() -> str | None:
        version, deployment = client.job.get_job("web")["Version"], client.job.get_deployment("web")
        if (deployment["JobVersion"], deployment["Status"]) != (version, "successful"):
            return None
        running = [a for a in client.job.get_allocations("web") if (a["ClientStatus"], a["DesiredStatus"], a["JobVersion"]) == ("running", "run", version)]
        return str(running[0]["ID"]) if len(running) == 1 else None

    return wait("its newest version is rolled out", look)


def test_jobs_are_validated_planned_read_and_found(client: nomad.Nomad, alloc: dict[str, Any]) -> None:
    assert client.validate.validate_job(wanted()).json()["ValidationErrors"] is None
    plan = client.job.plan_job("web", wanted(job={"Priority": 60}), diff=True)
    assert plan["Diff"]["Type"] == "Edited"
    assert client.jobs.parse('job "x" { datacenters = ["dc1"] }')["ID"] == "x"
    assert "web" in client.jobs
    assert client.jobs["web"]["ID"] == client.job["web"]["ID"] == client.job.get_job("web")["ID"] == "web"
    assert [found["ID"] for found in client.jobs.get_jobs(prefix="web")] == ["web"]
    settled(client)
    assert client.job.get_summary("web")["Summary"]["g"]["Running"] == 1
    assert client.job.get_versions("web")["Versions"][0]["Version"] == 0
    assert client.job.get_evaluations("web")
    assert "nowhere" not in client.jobs
    with pytest.raises(URLNotFoundNomadException):
        client.job.get_job("nowhere")
    with pytest.raises(BadRequestNomadException):
        client.jobs.register_job({"Job": {"ID": "bad", "Name": "bad"}})


def test_a_job_is_changed_reverted_called_stable_and_evaluated(client: nomad.Nomad, alloc: dict[str, Any]) -> None:
    settled(client)
    client.job.register_job("web", wanted(Meta={"a": "b"}))
    wait("its second version", lambda: client.job.get_job("web")["Version"] == 1)
    settled(client)
    client.job.stable_job("web", 0, True)
    assert client.job.revert_job("web", 0)["EvalID"]
    assert client.job.evaluate_job("web")["EvalID"]
    for ask in (lambda: client.job.dispatch_job("web"), lambda: client.job.periodic_job("web")):
        with pytest.raises(BaseNomadException):
            ask()


def test_deployments_are_read_paused_promoted_and_failed(client: nomad.Nomad, alloc: dict[str, Any]) -> None:
    canaries = wanted("canaries")
    canaries["Job"]["TaskGroups"][0]["Update"]["Canary"] = 1
    client.job.register_job("canaries", canaries)
    wait("it is deployed", lambda: (client.job.get_deployment("canaries") or {}).get("Status") == "successful")
    canaries["Job"]["Meta"] = {"changed": "yes"}
    canaries["Job"]["TaskGroups"][0]["Tasks"][0]["Env"] = {"A": "b"}
    client.job.register_job("canaries", canaries)
    deployment = wait(
        "its canary is healthy",
        lambda: next(
            (d for d in client.job.get_deployments("canaries") if d["JobVersion"] == 1 and d["TaskGroups"]["g"]["HealthyAllocs"]), None
        ),
    )["ID"]
    client.deployment.pause_deployment(deployment, True)
    assert client.deployment.get_deployment(deployment)["Status"] == "paused"
    client.deployment.pause_deployment(deployment, False)
    assert client.deployment.get_deployment_allocations(deployment)
    client.deployment.promote_deployment_all(deployment)
    wait("it took over", lambda: client.deployment[deployment]["Status"] == "successful")
    assert deployment in client.deployments
    assert client.deployments[deployment]["ID"] in {found["ID"] for found in client.deployments.get_deployments()}
    with pytest.raises(BaseNomadException):
        client.deployment.fail_deployment(deployment)
    with pytest.raises(BaseNomadException):
        client.deployment.deployment_allocation_health(deployment, healthy_allocations=[alloc["ID"]])
    client.job.deregister_job("canaries", purge=True)


def test_an_allocation_is_read_and_reached_through_its_node(client: nomad.Nomad, alloc: dict[str, Any]) -> None:
    one = settled(client)
    assert client.allocation.get_allocation(one)["Job"]["ID"] == "web"
    assert one in {found["ID"] for found in client.allocations.get_allocations(prefix=one[:8])}
    assert client.client.allocation.read_allocation_stats(one)["Tasks"]["t"]
    assert {file["Name"] for file in client.client.ls.list_files(one)} >= {"alloc", "t"}
    assert client.client.stat.stat_file(one, path="/t/local/file")["Size"] == 5
    assert client.client.cat.read_file(one, path="/t/local/file") == "kept\n"
    assert client.client.read_at.read_file_offset(one, 1, 3, path="/t/local/file") == "ept"
    with pytest.raises(BadRequestNomadException):  # of a file that is there it would stream for ever
        client.client.stream_file.stream(one, 0, "start", "/t/local/nothing")
    assert base64.b64encode(b"said\n").decode() in client.client.stream_logs.stream(one, "t", "stdout")
    assert client.client.stats.read_stats()["Memory"]["Total"] > 0
    client.client.allocation.restart_allocation(one)
    wait("it was restarted", lambda: client.allocation.get_allocation(one)["TaskStates"]["t"]["Restarts"] == 1)
    wait("it runs again", lambda: client.allocation.get_allocation(one)["TaskStates"]["t"]["State"] == "running")
    client.client.allocation.signal_allocation(one, "SIGUSR2", "t")
    client.client.gc_all_allocations.garbage_collect()
    evaluation = client.allocation.stop_allocation(one)["EvalID"]
    assert client.evaluation.get_evaluation(evaluation)["TriggeredBy"] == "alloc-stop"
    wait("it is decided", lambda: client.evaluation[evaluation]["Status"] == "complete")
    assert client.evaluation.get_allocations(evaluation)
    assert evaluation in client.evaluations
    assert client.evaluations.get_evaluations()
    wait("it ended", lambda: client.allocation[one]["ClientStatus"] == "complete")
    client.client.gc_allocation.garbage_collect(one)


def test_a_node_is_read_drained_and_used_again(client: nomad.Nomad, alloc: dict[str, Any]) -> None:
    (node,) = (found["ID"] for found in client.nodes.get_nodes())
    assert node in client.nodes
    assert client.node.get_node(node)["Status"] == "ready"
    assert client.node.get_allocations(node)
    assert client.node.eligible_node(node, ineligible=True)["NodeModifyIndex"]
    assert client.node[node]["SchedulingEligibility"] == "ineligible"
    client.node.drain_node_with_spec(node, drain_spec={"Deadline": -1})
    wait("it is empty", lambda: client.node.get_node(node)["DrainStrategy"] is None)
    client.node.drain_node(node, enable=False)
    client.node.eligible_node(node, eligible=True)
    client.node.evaluate_node(node)
    wait("it runs again", lambda: [a for a in client.job.get_allocations("web") if a["ClientStatus"] == "running"])
    with pytest.raises(BaseNomadException):
        client.node.purge_node(node)  # it is not down


def test_namespaces_and_scaling_and_search(client: nomad.Nomad, alloc: dict[str, Any]) -> None:
    client.namespace.create_namespace({"Name": "team", "Description": "theirs"})
    assert client.namespace.get_namespace("team")["Description"] == "theirs"
    client.namespace.update_namespace("team", {"Name": "team", "Description": "ours"})
    assert {found["Name"] for found in client.namespaces.get_namespaces()} == {"default", "team"}
    assert "team" in client.namespaces
    client.namespace.delete_namespace("team")
    (policy,) = client.scaling.get_scaling_policies()
    assert client.scaling.get_scaling_policy(policy["ID"])["Max"] == 5
    assert client.search.search("we", "jobs")["Matches"]["jobs"] == ["web"]
    assert client.search.fuzzy_search("we", "jobs")["Matches"]["jobs"][0]["ID"] == "web"


def test_the_cluster_tells_of_itself(client: nomad.Nomad, one: Drover) -> None:
    assert client.agent.get_agent()["config"]["Region"] == "global"
    assert client.agent.get_members()["Members"][0]["Status"] == "alive"
    assert client.agent.get_servers() == [one.address]
    assert client.agent.join_agent("10.9.9.9")["num_joined"] == 0
    client.agent.force_leave("nobody")
    assert client.status.leader.get_leader() == one.address
    assert client.status.peers.get_peers() == [one.address]
    assert client.regions.get_regions() == ["global"]
    assert client.operator.get_configuration()["Servers"][0]["Leader"]
    with pytest.raises(BaseNomadException):
        client.operator.delete_peer("10.9.9.9:4647")
    assert client.metrics.get_metrics()["Gauges"]
    client.system.initiate_garbage_collection()
    client.system.reconcile_summaries()


def test_events_come_as_a_stream(client: nomad.Nomad, alloc: dict[str, Any]) -> None:
    stream, end, events = client.event.stream.get_stream(index=1, topic={"Job": "web"}, timeout=20)
    stream.daemon = True
    stream.start()
    client.job.register_job("web", wanted(job={"Priority": 55}))
    first = events.get(timeout=20)
    assert (first["Events"][0]["Topic"], first["Events"][0]["Key"]) == ("Job", "web")
    end.set()


def test_what_drover_leaves_to_consul_and_vault_is_refused_with_words(client: nomad.Nomad) -> None:
    with pytest.raises(BaseNomadException, match="ACL support disabled"):
        client.acl.get_tokens()
    with pytest.raises(BaseNomadException):
        client.sentinel.get_policies()
    for ask in (client.variables.get_variables, lambda: client.variable.get_variable("a/b")):
        with pytest.raises(BaseNomadException):
            ask()


def test_a_job_is_stopped_and_purged(client: nomad.Nomad, alloc: dict[str, Any]) -> None:
    assert client.job.deregister_job("web")["EvalID"]
    assert client.job.get_job("web")["Status"] in ("running", "dead")
    client.job.deregister_job("web", purge=True)
    with pytest.raises(URLNotFoundNomadException):
        client.job.get_job("web")
