"""Every path of the API: status, headers, keys and words are Nomad's, on the leader and through another agent."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from api.routes import ABSENT, ROUTES
from tests.api.http import Asked, Reply, ask
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, job, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

UNKNOWN = "00000000-0000-4000-8000-000000000000"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

JOB_STUB = {
    "CreateIndex", "Datacenters", "ID", "JobModifyIndex", "JobSummary", "ModifyIndex", "Name", "Namespace",
    "ParameterizedJob", "ParentID", "Periodic", "Priority", "Status", "StatusDescription", "Stop", "SubmitTime", "Type",
}
JOB = {
    "Affinities", "AllAtOnce", "Constraints", "CreateIndex", "Datacenters", "DispatchIdempotencyToken", "Dispatched", "ID", "JobModifyIndex",
    "Meta", "ModifyIndex", "Multiregion", "Name", "Namespace", "NodePool", "ParameterizedJob", "ParentID", "Payload",
    "Periodic", "Priority", "Region", "SchedulerAlgorithm", "Spreads", "Stable", "Status", "StatusDescription", "Stop", "SubmitTime",
    "TaskGroups", "Type", "UI", "Update", "Version",
}
ALLOC_STUB = {
    "ClientDescription", "ClientStatus", "CreateIndex", "CreateTime", "DeploymentStatus", "DesiredDescription",
    "DesiredStatus", "DesiredTransition", "EvalID", "FollowupEvalID", "ID", "JobID", "JobType", "JobVersion",
    "ModifyIndex", "ModifyTime", "Name", "Namespace", "NodeID", "NodeName", "PreemptedAllocations",
    "PreemptedByAllocation", "RescheduleTracker", "TaskGroup", "TaskStates",
}
ALLOC = ALLOC_STUB | {
    "AllocModifyIndex", "AllocatedResources", "DeploymentID", "Job", "Metrics", "NextAllocation", "PreviousAllocation",
    "Resources", "SharedResources", "TaskResources",
}
EVALUATION = {
    "BlockedEval", "CreateIndex", "CreateTime", "DeploymentID", "FailedTGAllocs", "ID", "JobID", "JobModifyIndex",
    "ModifyIndex", "ModifyTime", "Namespace", "NextEval", "NodeID", "PreviousEval", "Priority", "QueuedAllocations", "SnapshotIndex",
    "Status", "StatusDescription", "TriggeredBy", "Type",
}
NODE_STUB = {
    "Address", "CreateIndex", "Datacenter", "Drain", "Drivers", "ID", "ModifyIndex", "Name", "NodeClass",
    "LastDrain", "SchedulingEligibility", "Status", "StatusDescription", "StatusUpdatedAt", "Version", "VirtualDatacenter",
}
NODE = NODE_STUB | {
    "Attributes", "CSIControllerPlugins", "CSINodePlugins", "ComputedClass", "DrainStrategy", "Events", "HTTPAddr",
    "HostVolumes", "Links", "Meta", "NodeResources", "Reserved", "ReservedResources", "Resources", "TLSEnabled",
}
DEPLOYMENT = {
    "CreateIndex", "CreateTime", "EvalPriority", "ID", "IsMultiregion", "JobCreateIndex", "JobID", "JobModifyIndex",
    "JobSpecModifyIndex", "JobVersion", "ModifyIndex", "ModifyTime", "Namespace", "Status", "StatusDescription", "TaskGroups",
}
SUMMARY = {"Children", "CreateIndex", "JobID", "ModifyIndex", "Namespace", "Summary"}
NAMESPACE = {
    "Capabilities", "CreateIndex", "Description", "Hash", "Meta", "ModifyIndex", "Name", "Quota", "VirtualDatacenters",
}

# {path: the keys of its answer; a list: of each element}. {job}, {alloc}, {eval}, {node} are filled in.
STATE: dict[str, Any] = {
    "/v1/scaling/policies": [{"CreateIndex", "Enabled", "ID", "ModifyIndex", "Target", "Type"}],
    "/v1/scaling/policy/{policy}": {
        "CreateIndex", "Enabled", "ID", "Max", "Min", "ModifyIndex", "Namespace", "Policy", "Target", "Type"
    },
    "/v1/jobs": [JOB_STUB],
    "/v1/job/{job}": JOB,
    "/v1/job/{job}/allocations": [ALLOC_STUB],
    "/v1/job/{job}/evaluations": [EVALUATION],
    "/v1/job/{job}/deployments": [DEPLOYMENT],
    "/v1/job/{job}/deployment": DEPLOYMENT,
    "/v1/job/{job}/summary": SUMMARY,
    "/v1/job/{job}/versions": {"Versions", "Diffs"},
    "/v1/job/{job}/scale": {"JobCreateIndex", "JobID", "JobModifyIndex", "JobStopped", "Namespace", "TaskGroups"},
    "/v1/allocations": [ALLOC_STUB],
    "/v1/allocation/{alloc}": ALLOC,
    "/v1/evaluations": [EVALUATION],
    "/v1/evaluation/{eval}": EVALUATION,
    "/v1/evaluation/{eval}/allocations": [ALLOC_STUB],
    "/v1/nodes": [NODE_STUB],
    "/v1/node/{node}": NODE,
    "/v1/node/{node}/allocations": [ALLOC],
    "/v1/namespaces": [NAMESPACE],
    "/v1/namespace/{namespace}": NAMESPACE,
    "/v1/deployments": [DEPLOYMENT],
    "/v1/deployment/{deployment}": DEPLOYMENT,
    "/v1/deployment/allocations/{deployment}": [ALLOC_STUB],
}
# Answers of an agent itself: none of them is about state, so none has an index.
OWN: dict[str, Any] = {
    "/v1/agent/self": {"config", "member", "stats"},
    "/v1/agent/members": {"Members", "ServerDC", "ServerName", "ServerRegion"},
    "/v1/agent/host": {"AgentID", "HostData"},
    "/v1/agent/servers": [],
    "/v1/metrics": {"Counters", "Gauges", "Points", "Samples", "Timestamp"},
    "/v1/operator/raft/configuration": {"Index", "Servers"},
    "/v1/operator/autopilot/configuration": {
        "CleanupDeadServers", "CreateIndex", "DisableUpgradeMigration", "EnableCustomUpgrades", "EnableRedundancyZones",
        "LastContactThreshold", "MaxTrailingLogs", "MinQuorum", "ModifyIndex", "ServerStabilizationTime",
    },
    "/v1/operator/autopilot/health": {"FailureTolerance", "Healthy", "Servers"},
    "/v1/agent/health": {"client"},
    "/v1/status/leader": "",
    "/v1/status/contact": {"Epoch", "LeaderID", "Lost"},
    "/v1/status/peers": [],
    "/v1/regions": [],
    "/v1/client/allocation/{alloc}/stats": {"ResourceUsage", "Tasks", "Timestamp"},
    "/v1/client/stats": {
        "AllocDirStats", "CPU", "CPUTicksConsumed", "DeviceStats", "DiskStats", "Memory", "Timestamp", "Uptime"
    },
}
# drover's own, of which Nomad has none.
OPERATOR = ("/v1/client/metadata", "/v1/client/samples", "/v1/client/allocation/{alloc}/samples", "/v1/job/{job}/checks", "/v1/job/{job}/spread", *(f"/v1/ui/{what}" for what in ("pulse", "overview", "may", "jobs", "allocations", "services", "nodes", "topology")), "/v1/job/{job}/launches", "/v1/job/{job}/why", "/v1/operator/brake", "/v1/operator/lock", "/v1/operator/snapshot", "/v1/operator/scheduler/configuration", "/v1/agent/vault", "/v1/operator/vault/path")
WRITES = (
    "/v1/jobs",
    "/v1/jobs/parse",
    "/v1/validate/job",
    "/v1/job/{job}",
    "/v1/job/{job}/evaluate",
    "/v1/node/{node}/eligibility",
    "/v1/client/allocation/{alloc}/restart",
    "/v1/client/allocation/{alloc}/signal",
    "/v1/client/allocation/{alloc}/gc",
    "/v1/client/gc",
    "/v1/allocation/{alloc}/stop",
    "/v1/allocation/{alloc}/restart-permit",
    "/v1/allocation/{alloc}/vault-token",
    "/v1/allocation/{alloc}/release",
    "/v1/client/metadata",
    *(f"/v1/deployment/{verb}/{{deployment}}" for verb in ("promote", "fail", "pause", "allocation-health")),
    "/v1/node/{node}/drain",
    "/v1/node/{node}/purge",
    "/v1/namespace",
    "/v1/namespaces",
    "/v1/namespace/{namespace}",
    "/v1/agent/vault/check",
    "/v1/operator/brake/release",
    "/v1/operator/candidate",
    "/v1/operator/leader/step-down",
    "/v1/operator/lock/break",
    "/v1/operator/rebalance",
    "/v1/operator/scheduler/configuration",
    "/v1/operator/snapshot",
    # tests/api/test_search.py and tests/api/test_absent.py hold these.
    "/v1/search",
    "/v1/search/fuzzy",
    "/v1/agent/join",
    "/v1/agent/servers",
    "/v1/agent/force-leave",
    "/v1/deployment/unblock/{deployment}",
    "/v1/node/{node}/evaluate",
    "/v1/operator/autopilot/configuration",
)
# Of a node: tests/api/test_nomads_members.py, test_fs.py, test_exec.py, test_monitor.py and test_forwarding.py hold what they answer.
OF_NODE = (
    *(f"/v1/client/fs/{verb}/{{alloc}}" for verb in ("ls", "stat", "cat", "readat", "stream", "logs")),
    *(f"/v1/client/allocation/{{alloc}}/{verb}" for verb in ("checks", "exec", "snapshot", "gc")),
    "/v1/client/gc",
    "/v1/agent/monitor",
)
# Each in a file of its own.
ELSEWHERE = {
    ("GET", "/v1/event/stream"),
    ("GET", "/v1/job/{job}/submission"),
    ("GET", "/v1/operator/license"),
    ("DELETE", "/v1/operator/raft/peer"),
    ("PUT", "/v1/system/reconcile/summaries"),
}


@pytest.fixture(scope="module")
def known(one: Drover, two: Drover) -> Iterator[dict[str, str]]:
    """The ids of a job that runs on both nodes: {job}, {alloc} and {node} of node one, {eval}."""
    group: dict[str, Any] = {"Constraints": [{"Operand": "distinct_hosts"}]}
    group["Scaling"] = {"Min": 1, "Max": 4, "Policy": {"cooldown": "1m"}}
    one.submit(marking_job("contract", count=2, group=group))
    allocs = one.wait_running("contract", 2)
    mine = next(alloc for alloc in allocs if alloc["NodeName"] == "one")
    wait("its process", lambda: one.pids(mine["ID"]))
    deployment = one.get("/v1/job/contract/deployment")["ID"]
    yield {
        "job": "contract", "alloc": mine["ID"], "eval": mine["EvalID"], "node": mine["NodeID"], "deployment": deployment,
        "namespace": "default", "policy": one.get("/v1/scaling/policies?job=contract")[0]["ID"],
    }
    one.stop_job("contract", purge=True)


@pytest.fixture
def new(clean: None) -> str:
    """A job's id that no test before had: what was purged may still be about to be forgotten."""
    return f"new-{next(_numbers)}"


_numbers = itertools.count(1)


@pytest.fixture(params=["leader", "another"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover) -> str:
    return one.address if request.param == "leader" else two.address


def keys(document: Any) -> Any:
    """The shape of an answer as the tables here write it."""
    if isinstance(document, dict):
        return set(document)
    if isinstance(document, list) and document and isinstance(document[0], dict):
        return [keys(document[0])]
    if isinstance(document, list):
        return []
    return "" if isinstance(document, str) else document


def fill(path: str, known: dict[str, str]) -> str:
    return path.format(**known)


def test_every_path_of_the_api_is_held_by_this_contract() -> None:
    names = {"allocation": "{alloc}", "evaluation": "{eval}", "node": "{node}", "deployment": "{deployment}", "job": "{job}", "namespace": "{namespace}", "scaling": "{policy}"}
    served = set()
    for route in (route for route in ROUTES if route not in ABSENT):  # tests/api/test_absent.py walks those
        path = route.template
        kind = path.removeprefix("/v1/").removeprefix("client/").partition("/")[0]
        path = path.replace("{id}", names.get(kind, "{alloc}"))
        served |= {(each.method, path) for each in route.registered()}
    held = {("GET", path) for path in (*STATE, *OWN, *OPERATOR, *OF_NODE)}
    held |= ELSEWHERE
    held |= {(method, path) for path in WRITES for method in ("PUT", "POST")}
    held |= {("DELETE", "/v1/job/{job}"), ("DELETE", "/v1/namespace/{namespace}"), ("PUT", "/v1/system/gc")}
    # tests/api/test_rights.py holds what there is of ACLs.
    served = {(method, path) for method, path in served if not path.startswith("/v1/acl/")}
    # tests/api/test_plan.py and tests/e2e hold what is done to a job.
    done = {(method, path) for method, path in served if path.startswith("/v1/job/{job}/") and method != "GET"}
    assert served - done == held - done


@pytest.mark.parametrize("path", STATE)
def test_a_read_of_state_has_its_keys_and_nomads_headers(
    path: str, address: str, known: dict[str, str]
) -> None:
    reply = ask(address, "GET", fill(path, known))
    assert (reply.status, reply.kind, keys(reply.json)) == (200, "application/json", STATE[path])
    assert reply.index > 0
    assert reply.state == {
        "X-Nomad-Index": str(reply.index), "X-Nomad-LastContact": "0", "X-Nomad-KnownLeader": "true"
    }
    assert int(reply.headers["Content-Length"]) == len(reply.body)


@pytest.mark.parametrize("path", OWN)
def test_what_an_agent_says_of_itself_has_no_index(path: str, one: Drover, known: dict[str, str]) -> None:
    reply = ask(one.address, "GET", fill(path, known))
    expected = {"client", "server"} if path == "/v1/agent/health" else OWN[path]
    assert (reply.status, reply.kind, keys(reply.json)) == (200, "application/json", expected)
    assert reply.state == {}


@pytest.mark.parametrize("path", STATE)
def test_both_agents_answer_the_same(path: str, one: Drover, two: Drover, known: dict[str, str]) -> None:
    of_leader, of_other = (ask(drover.address, "GET", fill(path, known)) for drover in (one, two))
    assert of_other.json == of_leader.json
    assert of_other.state == of_leader.state


def test_agents_name_the_same_leader_and_the_nodes_their_own_ids(
    one: Drover, two: Drover, known: dict[str, str]
) -> None:
    for drover in (one, two):
        assert ask(drover.address, "GET", "/v1/status/leader").json == one.address
        assert ask(drover.address, "GET", "/v1/status/peers").json == [one.address]
        assert ask(drover.address, "GET", "/v1/agent/servers").json == [one.address]
        assert ask(drover.address, "GET", "/v1/regions").json == ["global"]
        members = ask(drover.address, "GET", "/v1/agent/members").json["Members"]
        host, _, port = one.address.rpartition(":")
        assert [(m["Addr"], m["Port"], m["Tags"]["port"], m["Tags"]["id"], m["Status"]) for m in members] == [
            (host, int(port), port, known["node"], "alive")
        ]
    assert ask(one.address, "GET", "/v1/agent/self").json["stats"]["client"]["node_id"] == known["node"]
    names = {node["ID"]: node["Name"] for node in one.get("/v1/nodes")}
    assert names[ask(two.address, "GET", "/v1/agent/self").json["stats"]["client"]["node_id"]] == "two"


def test_stats_of_an_agent_are_maps_of_maps_of_strings(one: Drover, two: Drover) -> None:
    for drover in (one, two):
        stats = ask(drover.address, "GET", "/v1/agent/self").json["stats"]
        assert {type(value) for group in stats.values() for value in group.values()} == {str}


# -- submitting


def is_write(reply: Reply) -> bool:
    """A successful write: its index as header and in its body, and no other header of a read."""
    return (
        reply.status == 200
        and reply.kind == "application/json"
        and reply.state == {"X-Nomad-Index": str(reply.json["Index"])}
        and reply.json["Index"] > 0
        and (reply.json["LastContact"], reply.json["KnownLeader"]) == (0, False)
    )


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/job/{}"])
def test_a_job_is_registered_by_put_and_by_post(
    method: str, path: str, address: str, one: Drover, new: str
) -> None:
    reply = ask(address, method, path.format(new), body={"Job": marking_job(new, count=0)})
    assert is_write(reply)
    assert set(reply.json) == {
        "EvalCreateIndex", "EvalID", "Index", "JobModifyIndex", "KnownLeader", "LastContact", "Warnings"
    }
    found = one.get(f"/v1/job/{new}")
    assert (found["Version"], found["JobModifyIndex"]) == (0, reply.json["JobModifyIndex"])
    evaluation = one.get(f"/v1/evaluation/{reply.json['EvalID']}")
    assert (evaluation["TriggeredBy"], evaluation["CreateIndex"]) == ("job-register", reply.json["EvalCreateIndex"])


def test_an_unchanged_job_keeps_version_and_index_and_gets_an_evaluation(
    one: Drover, address: str, new: str
) -> None:
    first, second, third = (
        ask(address, "PUT", "/v1/jobs", body={"Job": marking_job(new, count=count)}).json for count in (0, 0, 1)
    )
    assert second["JobModifyIndex"] == first["JobModifyIndex"] < third["JobModifyIndex"]
    assert first["EvalID"] != second["EvalID"]
    assert first["Index"] < second["Index"] < third["Index"]
    versions = ask(address, "GET", f"/v1/job/{new}/versions").json["Versions"]
    assert [(v["Version"], v["JobModifyIndex"]) for v in versions] == [
        (1, third["JobModifyIndex"]), (0, first["JobModifyIndex"])
    ]


def test_counts_of_known_groups_are_preserved_on_demand(one: Drover, address: str, new: str) -> None:
    def submit(count: int, *, keeps: bool) -> list[int]:
        wanted = marking_job(new, count=count, job={"Constraints": [{"LTarget": "${attr.kernel.name}", "RTarget": "plan9", "Operand": "="}]})
        if keeps:
            wanted["TaskGroups"].append({**wanted["TaskGroups"][0], "Name": "second"})
        assert is_write(ask(address, "PUT", "/v1/jobs", body={"Job": wanted, "PreserveCounts": keeps}))
        return [group["Count"] for group in one.get(f"/v1/job/{new}")["TaskGroups"]]

    assert submit(3, keeps=False) == [3]
    assert submit(1, keeps=True) == [3, 1]
    assert submit(2, keeps=False) == [2]


def test_an_enforced_index_is_refused_in_nomads_words(address: str, new: str) -> None:
    def submit(index: object) -> Reply:
        body = {"Job": marking_job(new, count=0), "EnforceIndex": True, "JobModifyIndex": index}
        return ask(address, "PUT", "/v1/jobs", body=body)

    assert submit(5).error == (500, "Enforcing job modify index 5: job does not exist")
    index = submit(0).json["JobModifyIndex"]
    assert submit(0).error == (500, "Enforcing job modify index 0: job already exists")
    assert submit(index + 1).error == (
        500, f"Enforcing job modify index {index + 1}: job exists with conflicting job modify index: {index}"
    )
    assert submit(index).status == 200


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_what_is_no_job_is_a_bad_request(method: str, address: str) -> None:
    def submit(path: str, raw: bytes) -> tuple[int, str]:
        return ask(address, method, path, raw=raw).error

    for path in ("/v1/jobs", "/v1/job/x", "/v1/validate/job"):
        assert submit(path, b"") == (400, "Request body is empty")
        assert submit(path, b"{}") == (400, "Job must be specified")
        assert submit(path, b'{"Job": null}') == (400, "Job must be specified")
        assert submit(path, b'{"Job": []}') == (400, "Job must be an object, found a list")
        assert submit(path, b"[]") == (400, "Request body must be a JSON object")
        assert submit(path, b'{"Job": ')[0] == 400
        assert submit(path, b'\xff{"Job": {}}')[0] == 400
        assert submit(path, b'{"Job": {"ID": "\xff"}}')[0] == 400
        assert submit(path, b"[" * 100_000)[0] == 400
    body = json.dumps({"Job": marking_job("y")}).encode()
    assert submit("/v1/job/x", body) == (400, "Job ID does not match")
    odd = {"Job": marking_job("y"), "EnforceIndex": True, "JobModifyIndex": "7"}
    assert submit("/v1/jobs", json.dumps(odd).encode()) == (400, "JobModifyIndex must be a whole number, found a string")
    odd = {"Job": marking_job("y"), "EnforceIndex": "true", "JobModifyIndex": 7}
    assert submit("/v1/jobs", json.dumps(odd).encode()) == (400, "EnforceIndex must be a boolean, found a string")


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ((), {"ID": 5}, "job.id: expected a string, found a number"),
        ((), {"TaskGroups": {}}, "job.new.group: expected a list, found an object"),
        (("TaskGroups", 0), {"Count": "x"}, "job.new.group.g.count: expected a whole number, found a string"),
        (("TaskGroups", 0, "Tasks", 0), {"Config": 5}, "job.new.group.g.task.t.config: expected an object, found a number"),
    ],
)
def test_a_member_of_the_wrong_type_is_a_bad_request_that_names_it(
    where: tuple[Any, ...], value: dict[str, Any], words: str, address: str
) -> None:
    wrong = marking_job("new")
    found: Any = wrong
    for part in where:
        found = found[part]
    found.update(value)
    assert ask(address, "PUT", "/v1/jobs", body={"Job": wrong}).error == (400, words)


def test_an_invalid_job_is_refused_with_all_its_faults(address: str) -> None:
    wrong = marking_job("new")
    del wrong["Datacenters"]
    wrong["TaskGroups"][0]["Count"] = -1
    status, text = ask(address, "PUT", "/v1/jobs", body={"Job": wrong}).error
    assert (status, text.splitlines()[0], text[-2:]) == (400, "2 errors occurred:", "\n\n")
    assert all(line.startswith("\t* ") for line in text.splitlines()[1:3])
    shown = ask(address, "PUT", "/v1/validate/job", body={"Job": wrong})
    assert (shown.status, shown.state, shown.json["Error"]) == (200, {}, text)
    assert [f"\t* {fault}" for fault in shown.json["ValidationErrors"]] == text.splitlines()[1:3]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_valid_job_is_said_to_be_valid(method: str, address: str) -> None:
    reply = ask(address, method, "/v1/validate/job", body={"Job": marking_job("new")})
    assert (reply.status, reply.kind, reply.state) == (200, "application/json", {})
    assert reply.json == {"DriverConfigValidated": True, "ValidationErrors": None, "Error": "", "Warnings": ""}


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_hcl_is_parsed_to_the_job_itself(method: str, address: str) -> None:
    text = 'job "web" {\n  datacenters = ["dc1"]\n  group "g" {\n    task "t" {\n      driver = "raw_exec"\n    }\n  }\n}\n'
    plain = ask(address, method, "/v1/jobs/parse", body={"JobHCL": text})
    assert (plain.status, plain.state, plain.json["ID"], plain.json["Priority"]) == (200, {}, "web", None)
    full = ask(address, method, "/v1/jobs/parse", body={"JobHCL": text, "Canonicalize": True})
    assert (full.status, full.json["ID"], full.json["Priority"]) == (200, "web", 50)
    text = 'variable "count" {\n  type = number\n}\n' + text.replace("datacenters", "priority = var.count\n  datacenters")
    assert ask(address, method, "/v1/jobs/parse", body={"JobHCL": text}).status == 400
    given = {"JobHCL": text, "Variables": "count = 70\n"}
    assert ask(address, method, "/v1/jobs/parse", body=given).json["Priority"] == 70
    assert ask(address, method, "/v1/jobs/parse", body=given | {"hclv1": True}).error == (400, "HCL1 has no variables")
    assert ask(address, method, "/v1/jobs/parse", body={"JobHCL": ""}).error == (400, "Job spec is empty")
    assert ask(address, method, "/v1/jobs/parse", body={"JobHCL": 5}).error == (
        400, "JobHCL must be a string, found a whole number"
    )
    assert ask(address, method, "/v1/jobs/parse", body={"JobHCL": "job {"}).status == 400


def test_a_text_to_parse_reads_no_file_of_the_agents_machine(address: str) -> None:
    text = 'job "web" {\n  meta { secret = file("/etc/hostname") }\n}\n'
    status, words = ask(address, "PUT", "/v1/jobs/parse", body={"JobHCL": text}).error
    assert status == 400
    assert "file" in words


# -- stopping


def test_a_job_that_is_stopped_stays_and_one_that_is_purged_goes(
    address: str, one: Drover, new: str
) -> None:
    one.submit(marking_job(new, count=0))
    stopped = ask(address, "DELETE", f"/v1/job/{new}")
    assert is_write(stopped)
    assert set(stopped.json) == {
        "EvalCreateIndex", "EvalID", "Index", "JobModifyIndex", "KnownLeader", "LastContact"
    }
    assert (one.get(f"/v1/job/{new}")["Stop"], one.get(f"/v1/job/{new}")["Status"]) == (True, "dead")
    assert is_write(ask(address, "DELETE", f"/v1/job/{new}"))
    assert is_write(ask(address, "DELETE", f"/v1/job/{new}?purge=true"))
    assert ask(address, "GET", f"/v1/job/{new}").error == (404, "job not found")


@pytest.mark.parametrize("query", ["", "?purge=true"])
def test_an_unknown_job_is_deleted_without_complaint(query: str, address: str, one: Drover) -> None:
    reply = ask(address, "DELETE", f"/v1/job/unknown{query}")
    assert is_write(reply)
    path = f"/v1/evaluation/{reply.json['EvalID']}"
    found = wait("its evaluation", lambda: (e := one.get(path))["Status"] == "complete" and e)
    assert (found["JobID"], found["TriggeredBy"]) == ("unknown", "job-deregister")
    assert ask(address, "GET", "/v1/job/unknown").error == (404, "job not found")


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_job_is_evaluated_on_demand(method: str, address: str, known: dict[str, str], one: Drover) -> None:
    reply = ask(address, method, "/v1/job/contract/evaluate", body={"EvalOptions": {}})
    assert is_write(reply)
    assert one.get(f"/v1/evaluation/{reply.json['EvalID']}")["TriggeredBy"] == "job-eval"
    assert ask(address, method, "/v1/job/unknown/evaluate").error == (404, "job not found")


def test_gc_is_a_put_with_an_empty_answer(address: str) -> None:
    reply = ask(address, "PUT", "/v1/system/gc")
    assert (reply.status, reply.body, reply.headers["Content-Length"], reply.state) == (200, b"", "0", {})


# -- nodes and allocs


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_node_is_made_ineligible_and_eligible(method: str, address: str, known: dict[str, str], one: Drover) -> None:
    path = f"/v1/node/{known['node']}/eligibility"
    for word in ("ineligible", "eligible"):
        reply = ask(address, method, path, body={"NodeID": known["node"], "Eligibility": word})
        assert (reply.status, set(reply.json)) == (200, {"EvalIDs", "EvalCreateIndex", "NodeModifyIndex"})
        assert reply.state == {"X-Nomad-Index": str(reply.json["NodeModifyIndex"])}
        assert one.get(f"/v1/node/{known['node']}")["SchedulingEligibility"] == word


def test_a_wrong_eligibility_or_node_is_refused(address: str, known: dict[str, str]) -> None:
    words = 'invalid scheduling eligibility (expected "eligible" or "ineligible")'
    path = f"/v1/node/{known['node']}/eligibility"
    for raw in (b"{}", b'{"Eligibility": "perhaps"}', b'{"Eligibility": null}'):
        assert ask(address, "PUT", path, raw=raw).error == (400, words)
    for raw in (b"", b"[]", b"5", b"{", b"\xff"):
        assert ask(address, "PUT", path, raw=raw).status == 400
    wrong = ask(address, "PUT", path, raw=b'{"Eligibility": [1]}')
    assert wrong.error == (400, "Eligibility must be a string, found a list")
    reply = ask(address, "PUT", f"/v1/node/{UNKNOWN}/eligibility", body={"Eligibility": "eligible"})
    assert reply.error == (404, "node not found")


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_an_alloc_is_restarted_and_signalled_wherever_it_runs(method: str, address: str, one: Drover, two: Drover) -> None:
    one.submit(marking_job("tasks", count=2, group={"Constraints": [{"Operand": "distinct_hosts"}]}))
    for alloc in one.wait_running("tasks", 2):
        home = one if alloc["NodeName"] == "one" else two
        wait("its process", lambda home=home, alloc=alloc: home.pids(alloc["ID"]))
        for count, (what, body) in enumerate(
            (("restart", {"TaskName": ""}), ("signal", {"Task": "t", "Signal": "SIGKILL"})), start=2
        ):
            reply = ask(address, method, f"/v1/client/allocation/{alloc['ID']}/{what}", body=body)
            assert (reply.status, reply.json, reply.state) == (200, {}, {})
            wait("a new process", lambda home=home, alloc=alloc, n=count: len(home.pids(alloc["ID"])) == n)
            wait("it runs", lambda alloc=alloc: len(one.running("tasks")) == 2)


def test_a_wrong_restart_or_signal_is_refused(address: str, known: dict[str, str]) -> None:
    for what in ("restart", "signal"):
        reply = ask(address, "PUT", f"/v1/client/allocation/{UNKNOWN}/{what}", body={})
        assert reply.error == (404, f'Unknown allocation "{UNKNOWN}"')
        path = f"/v1/client/allocation/{known['alloc']}/{what}"
        assert ask(address, "PUT", path, raw=b"{").status == 400
        name = "TaskName" if what == "restart" else "Task"
        assert ask(address, "PUT", path, body={name: "none", "Signal": "SIGUSR1"}).status == 404
        for task, found in ((5, "a whole number"), ([], "a list"), ({}, "an object")):
            reply = ask(address, "PUT", path, body={name: task, "Signal": "SIGUSR1"})
            assert reply.error == (400, f"{name} must be a string, found {found}")


def test_an_unknown_signal_is_refused_and_told_nobody(address: str, known: dict[str, str], one: Drover) -> None:
    def events() -> list[str]:
        return [event["Type"] for event in one.alloc(known["alloc"])["TaskStates"]["t"]["Events"]]

    before = events()
    reply = ask(address, "PUT", f"/v1/client/allocation/{known['alloc']}/signal", body={"Signal": "SIGFOO"})
    assert reply.error == (400, 'Invalid signal "SIGFOO"')
    assert ask(address, "PUT", f"/v1/client/allocation/{known['alloc']}/signal", body={"Signal": "SIGCONT"}).status == 200
    wait("the one that was sent", lambda: events() == [*before, "Signaling"])


# -- what is not there, and what is no way to ask


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/job/unknown", "job not found"),
        ("/v1/job/unknown/summary", "job not found"),
        ("/v1/job/unknown/versions", "job versions not found"),
        ("/v1/job/contract/nonsense", "job not found"),
        (f"/v1/allocation/{UNKNOWN}", "alloc not found"),
        ("/v1/allocation/zz", "alloc not found"),
        (f"/v1/evaluation/{UNKNOWN}", "eval not found"),
        (f"/v1/node/{UNKNOWN}", "node not found"),
    ],
)
def test_what_is_unknown_is_404_with_an_index_to_wait_from(path: str, words: str, address: str) -> None:
    reply = ask(address, "GET", path)
    assert reply.error == (404, words)
    assert set(reply.state) == {"X-Nomad-Index", "X-Nomad-LastContact", "X-Nomad-KnownLeader"}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/job/unknown/allocations",
        "/v1/job/never/evaluations",
        "/v1/job/unknown/deployments",
        f"/v1/evaluation/{UNKNOWN}/allocations",
        f"/v1/node/{UNKNOWN}/allocations",
        "/v1/jobs?prefix=unknown",
        "/v1/allocations?prefix=ffffffff-ffff",
        "/v1/jobs?namespace=unknown",
    ],
)
def test_lists_of_what_is_unknown_are_empty(path: str, address: str) -> None:
    reply = ask(address, "GET", path)
    assert (reply.status, reply.body) == (200, b"[]")
    assert reply.index > 0


def test_nothing_is_the_deployment_of_an_unknown_job(address: str) -> None:
    reply = ask(address, "GET", "/v1/job/unknown/deployment")
    assert (reply.status, reply.body) == (200, b"null")


def test_stats_and_logs_of_an_unknown_alloc_say_so(address: str) -> None:
    for path in (
        f"/v1/client/allocation/{UNKNOWN}/stats",
        f"/v1/client/fs/logs/{UNKNOWN}?task=t&type=stdout",
    ):
        assert ask(address, "GET", path).error == (404, f'Unknown allocation "{UNKNOWN}"')


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[(method, path) for path in ("/v1/jobs", "/v1/allocations", "/v1/nodes") for method in ("DELETE", "PATCH", "OPTIONS")],
        *[("PUT", path) for path in ("/v1/allocations", "/v1/evaluations", "/v1/nodes", "/v1/agent/self", "/v1/regions")],
        ("PATCH", "/v1/job/contract"),
        ("DELETE", "/v1/job/contract/evaluations"),
        ("PUT", "/v1/job/contract/summary"),
        ("POST", "/v1/system/gc"),
        ("GET", "/v1/system/gc"),
        ("GET", "/v1/validate/job"),
        ("GET", "/v1/jobs/parse"),
        ("GET", "/v1/node/n/eligibility"),
        ("GET", "/v1/client/allocation/a/restart"),
    ],
)
def test_another_method_is_405(method: str, path: str, address: str, known: dict[str, str]) -> None:
    reply = ask(address, method, path)
    assert reply.error == (405, "Invalid method")


@pytest.mark.parametrize("path", [*STATE, *OWN, "/v1/client/fs/logs/{alloc}?task=t&type=stdout"])
def test_head_is_a_get_without_its_body(path: str, address: str, known: dict[str, str]) -> None:
    head, whole = (ask(address, method, fill(path, known)) for method in ("HEAD", "GET"))
    assert (head.status, head.kind, head.body, set(head.state)) == (200, whole.kind, b"", set(whole.state))
    assert ask(address, "HEAD", "/v1/job/unknown").status == 404
    assert ask(address, "HEAD", "/v1/system/gc").status == 405


def headers_of_origin(reply: Reply) -> dict[str, str]:
    return {name: text for name, text in reply.headers.items() if name == "Vary" or name.startswith("Access-")}


@pytest.mark.parametrize(
    "path",
    [
        "/v1/client/fs/logs/{alloc}?task=t&type=stdout",
        "/v1/client/allocation/{alloc}/stats",
        f"/v1/client/fs/logs/{UNKNOWN}?task=t&type=stdout",
    ],
)
def test_pages_of_other_origins_may_read_what_a_node_tells(path: str, address: str, known: dict[str, str]) -> None:
    origin = {"Origin": "http://ui.example"}
    assert headers_of_origin(ask(address, "GET", fill(path, known), headers=origin)) == {
        "Vary": "Origin", "Access-Control-Allow-Origin": "*"
    }
    assert headers_of_origin(ask(address, "GET", fill(path, known))) == {"Vary": "Origin"}
    may = {**origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "X-Nomad-Token"}
    asked = ask(address, "OPTIONS", fill(path, known), headers=may)
    assert (asked.status, headers_of_origin(asked)) == (
        204,
        {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": "*",
            "Access-Control-Allow-Methods": "GET, HEAD",
            "Access-Control-Allow-Headers": "X-Nomad-Token",
        },
    )
    assert ask(address, "OPTIONS", fill(path, known)).status == 405


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/job/contract", "/v1/agent/self"])
def test_pages_of_other_origins_may_read_nothing_else(path: str, address: str, known: dict[str, str]) -> None:
    assert headers_of_origin(ask(address, "GET", path, headers={"Origin": "http://ui.example"})) == {}


@pytest.mark.parametrize("path", ["/v1/nonsense", "/v2/jobs", "/v1/job/", "/v1/allocation/a/b/c", "//", "/v1/node/a/b"])
def test_an_unknown_path_is_404_and_empty(path: str, address: str) -> None:
    reply = ask(address, "GET", path)
    assert (reply.status, reply.body) == (404, b"")


def test_an_odd_prefix_of_an_alloc_is_refused_as_nomad_does(address: str, known: dict[str, str]) -> None:
    reply = ask(address, "GET", f"/v1/allocations?prefix={known['alloc'][:5]}")
    assert reply.error == (
        400, "alloc lookup failed: index error: prefix must have an even number of hex digits"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs", "/v1/job/contract", "/v1/nodes", "/v1/status/leader", "/v1/status/peers", "/v1/allocations",
        "/v1/evaluations", "/v1/client/allocation/{alloc}/stats",
    ],
)
def test_there_is_no_path_to_another_region(path: str, address: str, known: dict[str, str]) -> None:
    path = fill(path, known)
    assert ask(address, "GET", f"{path}?region=mars").error == (500, "No path to region")
    assert ask(address, "GET", f"{path}?region=global").status == 200
    assert ask(address, "GET", f"{path}?region=").status == 200


def test_a_job_of_another_region_or_namespace_is_refused_and_one_of_this_one_is_not(
    address: str, new: str, one: Drover
) -> None:
    def submit(query: str = "", **more: str) -> Reply:
        return ask(address, "PUT", f"/v1/jobs{query}", body={"Job": {**marking_job(new, count=0), **more}})

    no_path, no_namespace = (500, "No path to region"), (500, f'job "{new}" is in nonexistent namespace "other"')
    assert submit("?region=mars").error == submit(Region="mars").error == no_path
    assert submit("?namespace=other").error == submit(Namespace="other").error == no_namespace
    assert submit("?namespace=other", Namespace="default").error == no_namespace
    assert submit("?namespace=*").error == (500, f'job "{new}" is in nonexistent namespace "*"')
    assert ask(address, "GET", f"/v1/job/{new}").status == 404
    for query, more in (("", {"Region": "global"}), ("?region=global", {"Region": "mars"}), ("?namespace=default", {})):
        assert is_write(submit(query, **more))
        assert (one.get(f"/v1/job/{new}")["Region"], one.get(f"/v1/job/{new}")["Version"]) == ("global", 0)


# -- query parameters


def test_a_prefix_chooses(address: str, known: dict[str, str], one: Drover) -> None:
    assert [j["ID"] for j in ask(address, "GET", "/v1/jobs?prefix=con").json] == ["contract"]
    assert [a["ID"] for a in ask(address, "GET", f"/v1/allocations?prefix={known['alloc'][:8]}").json] == [known["alloc"]]
    assert [n["ID"] for n in ask(address, "GET", f"/v1/nodes?prefix={known['node'][:8]}").json] == [known["node"]]
    assert [e["ID"] for e in ask(address, "GET", f"/v1/evaluations?prefix={known['eval']}").json] == [known["eval"]]


@pytest.mark.parametrize("kind", ["jobs", "allocations", "evaluations"])
def test_a_list_is_of_one_namespace_or_of_all(kind: str, address: str, known: dict[str, str]) -> None:
    default, every, other = (
        ask(address, "GET", f"/v1/{kind}?namespace={name}").json for name in ("default", "*", "other")
    )
    assert default == every == ask(address, "GET", f"/v1/{kind}").json
    assert default != []
    assert other == []
    assert ask(address, "GET", "/v1/job/contract?namespace=other").error == (404, "job not found")


def test_pretty_is_indented_by_four_and_means_the_same(address: str, known: dict[str, str]) -> None:
    plain, pretty = (ask(address, "GET", f"/v1/job/contract{query}") for query in ("", "?pretty"))
    assert pretty.json == plain.json
    assert b"\n" not in plain.body
    assert pretty.body.startswith(b'{\n    "')


NAMES = ("a/b", "a/b/c", "cron/periodic-1795", "ä", "with space", "x%2Fy", "a?b", "a#b", "..", ".", "...", "a/", "-", "~", "a/summary")


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("name", NAMES)
def test_any_job_id_that_is_accepted_is_found_again(name: str, address: str, consul: ConsulServer, one: Drover) -> None:
    reply = ask(address, "PUT", "/v1/jobs", body={"Job": marking_job(name, count=0)})
    if reply.status == 400:  # refused by name
        assert name in reply.body.decode()
        assert [j["ID"] for j in one.get("/v1/jobs") if j["ID"] != "contract"] == []
        return
    assert is_write(reply)
    assert [j["ID"] for j in one.get("/v1/jobs") if j["ID"] != "contract"] == [name]
    assert ask(address, "GET", "/v1/job/{}", name).json["ID"] == name
    assert ask(address, "GET", "/v1/job/{}/summary", name).json["JobID"] == name
    assert is_write(ask(address, "DELETE", "/v1/job/{}?purge=true", name))
    assert ask(address, "GET", "/v1/job/{}", name).status == 404


@pytest.mark.usefixtures("clean")
def test_an_allocation_that_fits_nowhere_is_told_in_its_evaluation(address: str, one: Drover) -> None:
    nowhere = job("nowhere", "/bin/true", [], job={"Constraints": [{"LTarget": "${attr.kernel.name}", "RTarget": "plan9", "Operand": "="}]})
    evaluation_id = ask(address, "PUT", "/v1/jobs", body={"Job": nowhere}).json["EvalID"]
    evaluation = wait(
        "it is answered",
        lambda: (e := one.get(f"/v1/evaluation/{evaluation_id}"))["Status"] == "complete" and e,
    )
    blocked = one.get(f"/v1/evaluation/{evaluation['BlockedEval']}")
    metric = evaluation["FailedTGAllocs"]["g"]
    assert (metric["NodesEvaluated"], metric["NodesFiltered"], metric["ConstraintFiltered"]) == (
        2, 2, {"${attr.kernel.name} = plan9": 2}
    )
    assert (blocked["Status"], blocked["QueuedAllocations"], blocked["PreviousEval"]) == ("blocked", {"g": 1}, evaluation_id)
    assert one.get("/v1/job/nowhere/summary")["Summary"]["g"]["Queued"] == 1


def test_who_submit_the_same_job_at_once_are_all_served_one_after_the_other(
    one: Drover, two: Drover, new: str
) -> None:
    def numbered(number: int) -> dict[str, Any]:
        return {"Job": marking_job(new, count=0, Env={"N": str(number)})}

    agents = (one.address, two.address)
    calls = [Asked(agents[number % 2], "PUT", "/v1/jobs", body=numbered(number)) for number in range(10)]
    replies = [call.reply() for call in calls]
    assert [reply.status for reply in replies] == [200] * 10
    versions = one.get(f"/v1/job/{new}/versions")["Versions"]
    assert [version["Version"] for version in versions] == list(range(9, -1, -1))
    assert sorted(v["JobModifyIndex"] for v in versions) == sorted(reply.json["JobModifyIndex"] for reply in replies)
