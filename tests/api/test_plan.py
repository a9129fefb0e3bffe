"""A plan's answer has Nomad's keys and changes nothing; `why` is drover's own beside it. On the leader and through another."""

from typing import Any

import pytest

from tests.api.http import ask
from tests.e2e.drover import Drover, job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

PLAN = {
    "Annotations", "CreatedEvals", "Diff", "FailedTGAllocs", "Index", "JobModifyIndex", "NextPeriodicLaunch", "Warnings",
}  # fmt: skip
UPDATES = {
    "Canary", "DestructiveUpdate", "Ignore", "InPlaceUpdate", "Migrate", "Place", "Preemptions", "Stop",
}  # fmt: skip
METRIC = {
    "AllocationTime", "ClassExhausted", "ClassFiltered", "CoalescedFailures", "ConstraintFiltered", "DimensionExhausted",
    "NodesAvailable", "NodesEvaluated", "NodesExhausted", "NodesFiltered", "QuotaExhausted", "ResourcesExhausted",
    "ScoreMetaData", "Scores",
}  # fmt: skip


@pytest.fixture(params=["leader", "another"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover) -> str:
    return one.address if request.param == "leader" else two.address


def wanted(**more: Any) -> dict[str, Any]:
    return job("planned", "/bin/true", [], count=2, **more)


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_plan_has_nomads_shape(method: str, address: str, one: Drover) -> None:
    reply = ask(address, method, "/v1/job/planned/plan", body={"Job": wanted(), "Diff": True, "PolicyOverride": False})
    assert (reply.status, reply.kind, set(reply.json)) == (200, "application/json", PLAN)
    plan = reply.json
    updates = plan["Annotations"]["DesiredTGUpdates"]
    assert (set(updates["g"]), updates["g"]["Place"], plan["Annotations"]["PreemptedAllocs"]) == (UPDATES, 2, None)
    assert (plan["FailedTGAllocs"], plan["JobModifyIndex"], plan["CreatedEvals"]) == (None, 0, None)
    assert (plan["NextPeriodicLaunch"], plan["Warnings"], plan["Index"]) == ("0001-01-01T00:00:00Z", "", 0)
    assert (plan["Diff"]["Type"], plan["Diff"]["ID"]) == ("Added", "planned")
    assert ask(one.address, "GET", "/v1/job/planned").error == (404, "job not found")


def test_without_diff_there_is_none(address: str) -> None:
    assert ask(address, "PUT", "/v1/job/planned/plan", body={"Job": wanted()}).json["Diff"] is None


def test_what_finds_no_place_has_nomads_metrics(address: str) -> None:
    nowhere = wanted(job={"Datacenters": ["dc9"]})
    failed = ask(address, "PUT", "/v1/job/planned/plan", body={"Job": nowhere}).json["FailedTGAllocs"]
    assert (set(failed["g"]), failed["g"]["NodesEvaluated"], failed["g"]["CoalescedFailures"]) == (METRIC, 0, 1)


@pytest.mark.parametrize("what", ["plan", "why"])
def test_a_bad_body_is_refused_as_at_submit(what: str, address: str) -> None:
    path = f"/v1/job/planned/{what}"
    assert ask(address, "PUT", path).error == (400, "Request body is empty")
    assert ask(address, "PUT", path, body={}).error == (400, "Job must be specified")
    other = ask(address, "PUT", f"/v1/job/other/{what}", body={"Job": wanted()})
    assert other.error == (400, "Job ID does not match")
    status, text = ask(address, "PUT", path, body={"Job": wanted(job={"Priority": 999})}).error
    assert (status, "priority" in text.lower()) == (400, True)


def test_why_tells_each_group_and_on_request_each_node(address: str, one: Drover) -> None:
    nowhere = wanted(job={"Datacenters": ["dc9"]})
    # One that was killed just now still counts, until it has been silent for a while.
    wait("two nodes", lambda: {n["Name"] for n in one.get("/v1/nodes") if n["Status"] == "ready"} == {"one", "two"})
    (group,) = ask(address, "PUT", "/v1/job/planned/why", body={"Job": nowhere}).json["Groups"]
    # Agents of other tests, long gone, are "not ready".
    filters = [one for one in group["Filters"] if one["Filter"] != "not ready"]
    assert (group["Name"], group["Wanted"], group["Missing"], filters) == (
        "g", 2, 2, [{"Filter": "datacenter", "Reason": "dc1", "Nodes": 2, "Classes": {}}]
    )  # fmt: skip
    assert "no node is in datacenter dc9 (known: dc1)" in group["Remedies"]
    assert "Nodes" not in group
    (group,) = ask(address, "PUT", "/v1/job/planned/why?nodes=true", body={"Job": nowhere}).json["Groups"]
    assert [(node["Name"], node["Filter"]) for node in group["Nodes"] if node["Filter"] != "not ready"] == [("one", "datacenter"), ("two", "datacenter")]


def test_why_of_a_job_that_is_not_known_is_not_found(address: str) -> None:
    assert ask(address, "GET", "/v1/job/unknown/why").error == (404, "job not found")
