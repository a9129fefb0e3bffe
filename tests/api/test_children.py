"""What dispatch, periodic/force and launches answer, on the leader and through another agent."""

import itertools
from typing import Any

import pytest

from tests.api.http import Reply, ask
from tests.e2e.drover import Drover, job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

_numbers = itertools.count()
LAUNCHES = {
    "Children", "JobID", "LastDuration", "LastSuccess", "Missed", "Namespace", "NextLaunch", "Output", "Status",
}


@pytest.fixture(params=["leader", "another"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover) -> str:
    return one.address if request.param == "leader" else two.address


@pytest.fixture
def name(one: Drover, clean: None) -> str:
    return f"p{next(_numbers)}"


def submit(address: str, name: str, **of_job: Any) -> Reply:
    return ask(address, "PUT", "/v1/jobs", body={"Job": job(name, "/bin/true", [], job={"Type": "batch", **of_job})})


def periodic(address: str, name: str, **settings: Any) -> Reply:
    return submit(address, name, Periodic={"Spec": "0 0 1 1 * 2099", **settings})


def put(address: str, path: str, name: str, body: object = None) -> Reply:
    return ask(address, "PUT", path, name, body=body)


def test_a_forced_run_is_answered_with_its_evaluation(address: str, name: str) -> None:
    assert periodic(address, name).json["EvalID"] == ""
    forced = put(address, "/v1/job/{}/periodic/force", name)
    assert (forced.status, {"EvalID", "EvalCreateIndex", "Index"} <= forced.json.keys()) == (200, True)
    assert int(forced.headers["X-Nomad-Index"]) == forced.json["Index"] > 0
    assert ask(address, "GET", "/v1/evaluation/{}", forced.json["EvalID"]).json["TriggeredBy"] == "periodic-job"


def test_launches_tell_of_the_children_and_block_until_one_changes(address: str, name: str) -> None:
    periodic(address, name)
    before = ask(address, "GET", "/v1/job/{}/launches", name)
    assert (before.status, before.json.keys(), before.json["Children"]) == (200, LAUNCHES, [])
    assert (before.json["Status"], before.json["NextLaunch"]) == ("passing", 4070908800 * 10**9)
    put(address, "/v1/job/{}/periodic/force", name)
    after = ask(address, "GET", "/v1/job/{}/launches?index={}&wait=10s", name, before.headers["X-Nomad-Index"])
    assert len(after.json["Children"]) == 1
    assert after.json["Children"][0].keys() == {"Due", "Ended", "ID", "Outcome", "Reason", "Removed", "Started"}


def test_a_dispatch_is_answered_with_its_child(address: str, name: str) -> None:
    submit(address, name, ParameterizedJob={"MetaOptional": ["x"]})
    done = put(address, "/v1/job/{}/dispatch", name, {"JobID": name, "Payload": "aGVsbG8=", "Meta": {"x": "1"}})
    assert (done.status, done.json.keys()) == (
        200,
        {"DispatchedJobID", "EvalCreateIndex", "EvalID", "Index", "JobCreateIndex", "KnownLeader", "LastContact"},
    )
    assert int(done.headers["X-Nomad-Index"]) == done.json["Index"] >= done.json["JobCreateIndex"] > 0
    child = ask(address, "GET", "/v1/job/{}", done.json["DispatchedJobID"]).json
    assert (child["ParentID"], child["Payload"], child["Meta"], child["Dispatched"]) == (name, "aGVsbG8=", {"x": "1"}, True)
    children = ask(address, "GET", "/v1/job/{}/summary", name).json["Children"]
    assert sum(children.values()) == 1


WRONG = {
    "no job of that name": ("/v1/job/unknown-{}/dispatch", {}, 404, "job not found"),
    "nothing to force": ("/v1/job/unknown-{}/periodic/force", None, 404, "job not found"),
    "another job in the body": ("/v1/job/{}/dispatch", {"JobID": "other"}, 400, "Job ID does not match"),
    "no base64": ("/v1/job/{}/dispatch", {"Payload": "!"}, 400, "Payload is not base64"),
    "metadata that are no strings": ("/v1/job/{}/dispatch", {"Meta": {"x": 1}}, 400, "Meta must be an object of strings"),
    "no object": ("/v1/job/{}/dispatch", [], 400, "Request body must be a JSON object"),
    "not periodic": ("/v1/job/{}/periodic/force", None, 500, "can't force launch non-periodic job"),
    "not to be evaluated": ("/v1/job/{}/evaluate", {}, 500, "can't evaluate parameterized job"),
}


@pytest.mark.parametrize(("path", "body", "status", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_call_is_told_in_nomads_words(path: str, body: object, status: int, words: str, address: str, name: str) -> None:
    submit(address, name, ParameterizedJob={})
    reply = put(address, path, name, body)
    assert (reply.status, words in reply.body.decode()) == (status, True), reply.body.decode()


def test_what_is_not_parameterized_or_is_stopped_is_not_dispatched(address: str, name: str) -> None:
    periodic(address, name)
    assert put(address, "/v1/job/{}/dispatch", name, {}).body.decode() == f'Specified job "{name}" is not a parameterized job'
    submit(address, name, ParameterizedJob={}, Periodic=None)
    assert put(address, "/v1/job/{}/dispatch", name, {}).status == 200
    ask(address, "DELETE", "/v1/job/{}", name)
    assert put(address, "/v1/job/{}/dispatch", name, {}).body.decode() == f'Specified job "{name}" is stopped'


def test_a_job_that_becomes_periodic_stops_what_ran_of_it(address: str, one: Drover, name: str) -> None:
    endless = job(name, "/bin/sleep", ["1000"], job={"Type": "batch"})
    ask(address, "PUT", "/v1/jobs", body={"Job": endless})
    one.wait_running(name, 1)
    assert periodic(address, name).json["EvalID"] == ""
    wait("it ends", lambda: not one.running(name))
    assert one.get(f"/v1/job/{name}")["Status"] == "running"


def test_a_schedule_that_cannot_be_read_is_refused_with_its_path(address: str, name: str) -> None:
    reply = periodic(address, name, Spec="61 * * * *", TimeZone="Mars/Olympus", MissedRun="never")
    assert reply.status == 400
    for words in (
        f'job.{name}.periodic.cron: "61 * * * *": bad minute',
        f'job.{name}.periodic.time_zone: there is no time zone "Mars/Olympus"',
        f'job.{name}.periodic.missed_run: must be once or skip, found "never"',
    ):
        assert words in reply.body.decode()


def test_a_token_in_the_body_as_python_nomad_writes_it_names_one_child(address: str, name: str) -> None:
    submit(address, name, ParameterizedJob={})
    first, second = (put(address, "/v1/job/{}/dispatch", name, {"idempotency_token": "once"}).json for _ in range(2))
    assert first["DispatchedJobID"] == second["DispatchedJobID"]


def test_nobody_but_drover_makes_a_child(address: str, name: str) -> None:
    submit(address, name, ParameterizedJob={})
    forged = submit(address, f"{name}-forged", ParentID=name, Dispatched=True, Payload="aGk=", DispatchIdempotencyToken="t")
    assert "only children that drover starts have them" in forged.json["Warnings"]
    shown = ask(address, "GET", "/v1/job/{}", f"{name}-forged").json
    assert (shown["ParentID"], shown["Dispatched"], shown["Payload"], shown["DispatchIdempotencyToken"]) == ("", False, None, "")
    child = put(address, "/v1/job/{}/dispatch", name, {"Payload": "aGk=", "IdempotencyToken": "t"}).json["DispatchedJobID"]
    assert child != f"{name}-forged"
    known = ask(address, "GET", "/v1/job/{}", child).json
    again = ask(address, "PUT", "/v1/jobs", body={"Job": {**known, "Priority": 60, "Payload": None}})
    assert again.json["Warnings"] == ""
    changed = ask(address, "GET", "/v1/job/{}", child).json
    assert {key: changed[key] for key in ("ParentID", "Dispatched", "Payload", "Priority")} == {
        "ParentID": name, "Dispatched": True, "Payload": "aGk=", "Priority": 60,
    }  # fmt: skip


REFUSED = {
    "a prefix with a line break": ({"IdPrefixTemplate": "a\nb"}, "a job's ID cannot hold a space or a control character"),
    "a long prefix": ({"IdPrefixTemplate": "x" * 500}, "the prefix of the child's ID is too long: "),
    "metadata with a NUL": ({"Meta": {"x": "a\0b"}}, "Dispatch metadata cannot hold control characters"),
    "much metadata": ({"Meta": {"x": "y" * 65536}}, "Dispatch metadata exceeds maximum size; 65537 > 65536"),
}


@pytest.mark.parametrize(("body", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_child_can_have_is_refused(body: dict[str, Any], words: str, address: str, name: str) -> None:
    submit(address, name, ParameterizedJob={"MetaOptional": ["x"]})
    reply = put(address, "/v1/job/{}/dispatch", name, body)
    assert (reply.status, words in reply.body.decode()) == (500, True), reply.body  # as Nomad answers
    assert put(address, "/v1/job/{}/dispatch", name, {"Meta": {"x": "two\nlines"}}).status == 200


def test_an_id_with_a_line_break_is_refused_and_its_path_is_of_a_job(address: str, name: str) -> None:
    refused = submit(address, f"{name}\nx")
    assert (refused.status, "cannot hold a control character" in refused.body.decode()) == (400, True), refused.body
    assert ask(address, "GET", "/v1/job/{}/summary", f"{name}\nx").body.decode() == "job not found"
    assert ask(address, "DELETE", "/v1/job/{}", f"{name}\nx").status == 200


def test_who_waits_for_max_running_is_told_so(address: str, one: Drover, name: str) -> None:
    endless = job(name, "/bin/sleep", ["1000"], job={"Type": "batch", "ParameterizedJob": {"MaxRunning": 1}})
    ask(address, "PUT", "/v1/jobs", body={"Job": endless})
    first, second = (put(address, "/v1/job/{}/dispatch", name, {}).json["DispatchedJobID"] for _ in range(2))
    wait("the first", lambda: ask(address, "GET", "/v1/job/{}/allocations", first).json)
    assert ask(address, "GET", "/v1/job/{}/why", second).json["Waits"] == "waits for max_running (1 before it)"
    assert ask(address, "GET", "/v1/job/{}/why", first).json["Waits"] == ""
    ask(address, "DELETE", "/v1/job/{}?purge=true", name)
    wait("cancelled", lambda: ask(address, "GET", "/v1/job/{}", second).json["Status"] == "dead")
    assert "its parent was purged" in ask(address, "GET", "/v1/job/{}", second).json["StatusDescription"]
    ask(address, "DELETE", "/v1/job/{}?purge=true", first)


def test_a_run_that_wants_nothing_is_done_at_once(address: str, name: str) -> None:
    nothing = job(name, "/bin/true", [], job={"Type": "batch", "Periodic": {"Spec": "0 0 1 1 * 2099"}}, group={"Count": 0})
    ask(address, "PUT", "/v1/jobs", body={"Job": nothing})
    put(address, "/v1/job/{}/periodic/force", name)
    (child,) = ask(address, "GET", "/v1/job/{}/launches", name).json["Children"]
    assert child["Outcome"] == "succeeded"
    assert ask(address, "GET", "/v1/job/{}", child["ID"]).json["Status"] == "dead"
