"""What an autoscaler reads and does: policies, the history of a group's scaling, and the job file as it was submitted."""

import itertools
from typing import Any

import pytest

from tests.api.http import Asked, ask
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.usefixtures("clean")]

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def scalable(job_id: str, count: int = 0, **scaling: Any) -> dict[str, Any]:
    return marking_job(job_id, count=count, group={"Scaling": {"Min": 0, "Max": 5, "Policy": {"cooldown": "1m"}, **scaling}})


_numbers = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A job's id that no test before had: what was purged may still be about to be forgotten."""
    return f"scaled-{next(_numbers)}"


@pytest.fixture(params=["leader", "another"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover) -> str:
    return one.address if request.param == "leader" else two.address


def test_a_policy_has_an_id_that_stays_and_is_chosen_by_job_and_type(address: str, one: Drover, name: str) -> None:
    for each in (name, f"{name}-2"):
        one.submit(scalable(each))
    listed = ask(address, "GET", f"/v1/scaling/policies?job={name}&type=horizontal").json
    (stub,) = listed
    assert stub["Target"] == {"Namespace": "default", "Job": name, "Group": "g"}
    assert len(ask(address, "GET", "/v1/scaling/policies").json) >= 2
    assert ask(address, "GET", "/v1/scaling/policies?type=cluster").json == []
    assert ask(address, "GET", f"/v1/scaling/policies?prefix={stub['ID'][:8]}").json == listed
    full = ask(address, "GET", f"/v1/scaling/policy/{stub['ID']}").json
    assert (full["Min"], full["Max"], full["Policy"], full["Enabled"]) == (0, 5, {"cooldown": "1m"}, True)
    one.submit(scalable(name, Max=7, Enabled=False))
    after = ask(address, "GET", f"/v1/scaling/policy/{stub['ID']}").json
    assert (after["Max"], after["Enabled"], after["CreateIndex"]) == (7, False, full["CreateIndex"])
    assert after["ModifyIndex"] > full["ModifyIndex"]
    missing = ask(address, "GET", f"/v1/scaling/policy/{UNKNOWN}")
    assert (missing.error, missing.index > 0) == ((404, "policy not found"), True)
    one.stop_job(name)
    assert ask(address, "GET", f"/v1/scaling/policies?job={name}").json == []


def test_policies_wake_who_waits_when_they_change_and_not_when_the_count_does(address: str, one: Drover, name: str) -> None:
    one.submit(scalable(name))
    listed = ask(address, "GET", "/v1/scaling/policies")
    path = next(f"/v1/scaling/policy/{policy['ID']}" for policy in listed.json if policy["Target"]["Job"] == name)
    index = ask(address, "GET", path).index
    waiting = [Asked(address, "GET", f"{what}?index={at}&wait=30s") for what, at in (("/v1/scaling/policies", listed.index), (path, index))]
    assert ask(address, "PUT", f"/v1/job/{name}/scale", body={"Count": 1, "Target": {"Group": "g"}}).status == 200
    assert not any(call.is_answered for call in waiting)
    one.submit(scalable(name, count=1, Max=9))
    for call, before in zip(waiting, (listed.index, index), strict=True):
        assert call.reply(5.0).index > before


def test_scaling_is_remembered_with_what_was_said(address: str, one: Drover, name: str) -> None:
    one.submit(scalable(name))
    done = ask(address, "PUT", f"/v1/job/{name}/scale", body={
        "Count": 2, "Target": {"Group": "g"}, "Message": "more of it", "Meta": {"metric": 0.7}
    })
    assert done.status == 200
    wait("its deployment's end", lambda: ask(address, "PUT", f"/v1/job/{name}/scale", body={
        "Count": None, "Target": {"Group": "g"}, "Message": "no metric", "Error": True
    }).status == 200)
    newest, first = ask(address, "GET", f"/v1/job/{name}/scale").json["TaskGroups"]["g"]["Events"]
    assert (newest["Count"], newest["PreviousCount"], newest["Error"], newest["Message"], newest["EvalID"]) == (
        None, 2, True, "no metric", None
    )
    assert (first["Count"], first["PreviousCount"], first["Error"], first["Message"], first["Meta"]) == (
        2, 0, False, "more of it", {"metric": 0.7}
    )
    assert first["EvalID"] == done.json["EvalID"]
    assert newest["Time"] > first["Time"] > 0


def test_what_is_only_said_makes_no_version_and_no_evaluation(address: str, one: Drover, name: str) -> None:
    one.submit(scalable(name))
    said = {"Target": {"Group": "g"}, "Message": "x" * 5000}
    reply = ask(address, "PUT", f"/v1/job/{name}/scale", body=said)
    assert (reply.status, reply.json["EvalID"], reply.json["EvalCreateIndex"]) == (200, "", 0)
    assert one.get(f"/v1/job/{name}")["Version"] == 0
    for number in range(24):
        assert ask(address, "PUT", f"/v1/job/{name}/scale", body={**said, "Message": str(number)}).status == 200
    events = one.get(f"/v1/job/{name}/scale")["TaskGroups"]["g"]["Events"]
    assert [event["Message"] for event in events] == [str(number) for number in range(23, 3, -1)]
    too_much = ask(address, "PUT", f"/v1/job/{name}/scale", body={**said, "Meta": {"a": "x" * 3000}})
    assert (too_much.status, "Meta of a scaling action" in too_much.body.decode()) == (400, True)
    wrong = ask(address, "PUT", f"/v1/job/{name}/scale", body={"Target": {"Group": "none"}, "Message": "x"})
    assert wrong.error == (400, 'task group "none" specified for scaling does not exist in job')


def test_a_new_version_keeps_what_was_said_before(address: str, one: Drover, name: str) -> None:
    one.submit(scalable(name))
    ask(address, "PUT", f"/v1/job/{name}/scale", body={"Target": {"Group": "g"}, "Message": "kept"})
    one.submit(scalable(name, Max=9))
    assert [e["Message"] for e in one.get(f"/v1/job/{name}/scale")["TaskGroups"]["g"]["Events"]] == ["kept"]


def test_a_job_file_is_kept_with_the_version_that_it_made(address: str, one: Drover, consul: ConsulServer, name: str) -> None:
    def submit(count: int, source: str | None) -> dict[str, Any]:
        more = {} if source is None else {"Submission": {"Source": source, "Format": "hcl2", "VariableFlags": {"a": "1"}, "Variables": "b = 2\n"}}
        reply: dict[str, Any] = ask(address, "PUT", "/v1/jobs", body={"Job": marking_job(name, group={"Count": count, "Meta": {"n": str(count)}}), **more}).json
        return reply

    submit(0, "job {} # 0")
    submit(0, "job {} # unchanged")
    made = submit(1, "job {} # 1")
    newest = ask(address, "GET", f"/v1/job/{name}/submission")
    assert (newest.status, newest.index > 0) == (200, True)
    assert (newest.json["Source"], newest.json["Format"], newest.json["Version"]) == ("job {} # 1", "hcl2", 1)
    assert (newest.json["VariableFlags"], newest.json["Variables"]) == ({"a": "1"}, "b = 2\n")
    assert newest.json["JobModifyIndex"] == made["JobModifyIndex"]
    assert ask(address, "GET", f"/v1/job/{name}/submission?version=0").json["Source"] == "job {} # 0"
    submit(2, None)
    for path in (f"/v1/job/{name}/submission", f"/v1/job/{name}/submission?version=9", "/v1/job/none/submission"):
        missing = ask(address, "GET", path)
        assert (missing.error, missing.index > 0) == ((404, "job source not found"), True)
    assert ask(address, "GET", f"/v1/job/{name}/submission?version=x").status == 400
    large = submit(3, "#" * 300_000)
    assert "source is not kept" in large["Warnings"]
    one.stop_job(name, purge=True)
    wait("nothing of it is left", lambda: not [key for key in keys_of(consul) if f"/{name}/" in key])


def keys_of(consul: ConsulServer) -> list[str]:
    found: list[str] = ask(consul.http_addr, "GET", "/v1/kv/drover/state/?keys").json
    return [key for key in found if "/submissions/" in key or "/versions/" in key]
