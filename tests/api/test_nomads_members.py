"""What later Nomads' clients send and read beside what they always did: members of bodies, flags of the query, versions."""

import re
from typing import Any

import pytest

from tests.api.http import ask
from tests.e2e.drover import Drover, marking_job, wait, web_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# As semver.org writes one: Terraform's provider compares what it finds with what its resources need.
SEMANTIC = re.compile(r"1\.1\.0\+drover(\.[0-9A-Za-z-]+)+")


def test_versions_are_semantic_ones_of_nomads(one: Drover, two: Drover) -> None:
    nodes = {node["Version"] for node in one.get("/v1/nodes")}
    members = {member["Tags"]["build"] for member in one.get("/v1/agent/members")["Members"]}
    peers = {peer["Version"] for peer in one.get("/v1/operator/autopilot/health")["Servers"]}
    assert nodes == members == peers
    assert all(SEMANTIC.fullmatch(version) for version in nodes)
    own = ask(two.address, "GET", "/v1/agent/self").json
    assert {own["member"]["Tags"]["build"]} == nodes
    version = own["config"]["Version"]
    assert f"{version['Version']}+{version['VersionMetadata']}" in nodes


def test_nodes_are_listed_with_their_operating_system_on_demand(one: Drover, two: Drover) -> None:
    for drover in (one, two):
        plain, shown = (ask(drover.address, "GET", path).json for path in ("/v1/nodes", "/v1/nodes?os=true"))
        assert all("Attributes" not in node for node in plain)
        names = {node["Attributes"]["os.name"] for node in shown}
        assert names == {one.get(f"/v1/node/{node['ID']}")["Attributes"]["os.name"] for node in shown}
        assert "" not in names


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_what_is_said_of_a_drain_is_kept_with_it(method: str, one: Drover, two: Drover) -> None:
    # Of a count of one that may be nowhere else: the drain waits for a replacement that never comes.
    one.submit(marking_job("stays", job={"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "two", "Operand": "="}]}))
    one.wait_running("stays", 1)
    node = next(found["ID"] for found in one.get("/v1/nodes") if found["Name"] == "two")
    path = f"/v1/node/{node}/drain"
    for meta, words in (({"a": 1}, "Meta must be an object of strings"), ({"a": "x" * 3000}, "Meta of a drain has 3008 bytes (limit 2048)")):
        assert ask(two.address, method, path, body={"DrainSpec": None, "Meta": meta}).error == (400, words)
    spec = {"Deadline": 0, "IgnoreSystemJobs": True}
    reply = ask(two.address, method, path, body={"DrainSpec": spec, "Meta": {"why": "disk"}})
    assert (reply.status, set(reply.json)) == (200, {"EvalIDs", "EvalCreateIndex", "NodeModifyIndex"})
    assert one.get(f"/v1/node/{node}")["LastDrain"]["Meta"] == {"why": "disk"}
    assert ask(two.address, method, path, body={"DrainSpec": None, "MarkEligible": True, "Meta": {"who": "ann"}}).status == 200
    wait("it takes work again", lambda: one.get(f"/v1/node/{node}")["SchedulingEligibility"] == "eligible")
    assert one.get(f"/v1/node/{node}")["LastDrain"]["Meta"] == {"why": "disk", "who": "ann"}


@pytest.mark.usefixtures("clean")
def test_checks_of_an_allocation_are_told_by_any_agent(one: Drover, two: Drover) -> None:
    def found(drover: Drover) -> list[dict[str, Any]]:
        reply = ask(drover.address, "GET", f"/v1/client/allocation/{alloc['ID']}/checks")
        assert (reply.status, reply.state) == (200, {})
        assert all(key == check["ID"] for key, check in reply.json.items())
        return list(reply.json.values())

    one.submit(web_job("checked"))
    (alloc,) = one.wait_running("checked", 1)
    home = one if alloc["NodeName"] == "one" else two
    for drover in (one, two):
        (check,) = wait("it passes", lambda drover=drover: (f := found(drover)) and f[0]["Status"] == "success" and f)
        assert set(check) == {"Check", "Group", "ID", "Mode", "Output", "Service", "Status", "StatusCode", "Task", "Timestamp"}
        assert (check["Check"], check["Service"], check["Group"], check["Task"], check["Mode"]) == (
            "alive", "checked", "checked.g[0]", "", "healthiness"
        )  # fmt: skip
        assert "200" in check["Output"]
    (home.task_dir(alloc["ID"]) / "mode").write_text("F")
    wait("it fails", lambda: found(two)[0]["Status"] == "failure")
    unknown = "00000000-0000-4000-8000-000000000000"
    assert ask(two.address, "GET", f"/v1/client/allocation/{unknown}/checks").error == (404, f'Unknown allocation "{unknown}"')
