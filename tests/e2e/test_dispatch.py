"""A dispatched job runs with its payload and metadata; the same token is the same child; only so many run at once."""

import base64
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Answer, Drover, call, job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

ONCE = {"RestartPolicy": {"Attempts": 0, "Mode": "fail"}, "ReschedulePolicy": {"Attempts": 0, "Unlimited": False}}


@pytest.fixture(scope="module")
def one() -> Iterator[Drover]:
    with or_skip(lambda: ConsulServer().__enter__()) as server, Drover(server) as drover:
        drover.wait_ready()
        yield drover


@pytest.fixture(autouse=True)
def _purged(one: Drover) -> Iterator[None]:
    yield
    for found in one.get("/v1/jobs"):
        call(one.address, "DELETE", f"/v1/job/{escaped(found['ID'])}?purge=true")


def escaped(job_id: str) -> str:
    return job_id.replace("/", "%2F")


def parameterized(job_id: str, script: str, task: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return job(
        job_id, "/bin/sh", ["-c", script], job={"Type": "batch", "ParameterizedJob": settings}, group=ONCE, **(task or {})
    )


def dispatch(one: Drover, job_id: str, payload: bytes = b"", **body: Any) -> dict[str, Any]:
    if payload:
        body["Payload"] = base64.b64encode(payload).decode()
    answer: dict[str, Any] = call(one.address, "PUT", f"/v1/job/{job_id}/dispatch", body)
    return answer


def status(one: Drover, child: str) -> str:
    return str(one.get(f"/v1/job/{escaped(child)}")["Status"])


def outcomes(one: Drover, job_id: str) -> list[str]:
    return [child["Outcome"] for child in one.get(f"/v1/job/{job_id}/launches")["Children"]]


def test_a_dispatch_brings_its_payload_and_its_metadata(one: Drover) -> None:
    script = 'cp "$NOMAD_TASK_DIR/in/data" "$NOMAD_TASK_DIR/out"; echo "$NOMAD_META_WHO $NOMAD_META_colour $NOMAD_JOB_PARENT_ID" > "$NOMAD_TASK_DIR/meta"'
    task = {"DispatchPayload": {"File": "in/data"}}
    answer = one.submit(parameterized("par", script, task, MetaRequired=["who"], MetaOptional=["colour"], Payload="required"))
    assert (answer["EvalID"], one.get("/v1/job/par")["Status"]) == ("", "running")
    payload = os.urandom(16 * 1024)
    done = dispatch(one, "par", payload, Meta={"who": "me", "colour": "blue"})
    assert done["DispatchedJobID"].startswith("par/dispatch-")
    assert one.get(f"/v1/evaluation/{done['EvalID']}")["JobID"] == done["DispatchedJobID"]
    wait("it ran", lambda: outcomes(one, "par") == ["succeeded"])
    (alloc,) = one.allocs(escaped(done["DispatchedJobID"]))
    local = one.task_dir(alloc["ID"]) / "local"
    assert (local / "out").read_bytes() == payload
    assert (local / "meta").read_text() == "me blue par\n"
    assert stat.S_IMODE((local / "in/data").stat().st_mode) == 0o600
    child = one.get(f"/v1/job/{escaped(done['DispatchedJobID'])}")
    assert (child["ParentID"], child["Dispatched"], child["Meta"]) == ("par", True, {"who": "me", "colour": "blue"})


REFUSED = {
    "no payload": ({"Meta": {"who": "x"}}, b"", 'Payload is not provided but required by parameterized job "strict"'),
    "too much payload": ({"Meta": {"who": "x"}}, b"x" * 16385, "Payload exceeds maximum size; 16385 > 16384"),
    "missing meta": ({}, b"x", r"Dispatch did not provide required meta keys: \[who\]"),
    "other meta": ({"Meta": {"who": "x", "zzz": "y"}}, b"x", r"Dispatch request included unpermitted metadata keys: \[zzz\]"),
}


@pytest.mark.parametrize(("body", "payload", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_a_dispatch_may_not_bring_is_refused_in_nomads_words(one: Drover, body: dict[str, Any], payload: bytes, words: str) -> None:
    one.submit(parameterized("strict", "true", MetaRequired=["who"], Payload="required"))
    with pytest.raises(Answer, match=words) as refused:
        dispatch(one, "strict", payload, **body)
    assert refused.value.status == 500
    assert one.get("/v1/job/strict/launches")["Children"] == []


def test_the_same_token_is_the_same_child_also_at_once_and_after_the_leader_was_killed(one: Drover) -> None:
    one.submit(parameterized("tok", "true"))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: dispatch(one, "tok", IdempotencyToken="abc"), range(8)))
    assert len({answer["DispatchedJobID"] for answer in answers}) == 1
    one.kill()
    one.start()
    again = wait("it leads again", lambda: dispatch(one, "tok", IdempotencyToken="abc"))
    assert again["DispatchedJobID"] == answers[0]["DispatchedJobID"]
    assert dispatch(one, "tok", IdempotencyToken="def")["DispatchedJobID"] != again["DispatchedJobID"]
    assert len(outcomes(one, "tok")) == 2


def test_beyond_max_running_children_wait_in_order(one: Drover) -> None:
    one.submit(parameterized("few", "exec sleep 1000", MaxRunning=2))
    made = [dispatch(one, "few", IdPrefixTemplate=f"n{number}")["DispatchedJobID"] for number in range(5)]
    assert [name.split("-")[1] for name in made] == ["n0", "n1", "n2", "n3", "n4"]
    wait("two run", lambda: [status(one, name) for name in made] == ["running", "running", "pending", "pending", "pending"])
    waiting = one.get(f"/v1/job/{escaped(made[4])}")
    assert waiting["StatusDescription"] == "waits for max_running (4 before it)"
    call(one.address, "DELETE", f"/v1/job/{escaped(made[3])}")  # one that waits is stopped
    call(one.address, "DELETE", f"/v1/job/{escaped(made[0])}")
    wait("the next runs", lambda: [status(one, name) for name in made] == ["dead", "running", "running", "dead", "pending"])
    call(one.address, "DELETE", f"/v1/job/{escaped(made[1])}?purge=true")
    wait("and the last", lambda: [status(one, name) for name in (made[2], made[4])] == ["running", "running"])
    one.submit(parameterized("few", "exec sleep 1000", MaxRunning=3))
    more = [dispatch(one, "few")["DispatchedJobID"] for _ in range(2)]
    wait("one more fits", lambda: [status(one, name) for name in more] == ["running", "pending"])


def test_with_dedupe_a_dispatch_like_one_that_is_not_done_is_that_one(one: Drover) -> None:
    one.submit(parameterized("same", "exec sleep 1000", Dedupe=True, MetaOptional=["n"]))
    first = dispatch(one, "same", b"data")["DispatchedJobID"]
    assert dispatch(one, "same", b"data")["DispatchedJobID"] == first
    assert dispatch(one, "same", b"data", Meta={"n": "1"})["DispatchedJobID"] != first
    call(one.address, "DELETE", f"/v1/job/{escaped(first)}")
    wait("it has ended", lambda: "stopped" in outcomes(one, "same"))
    assert dispatch(one, "same", b"data")["DispatchedJobID"] != first


def test_what_was_dispatched_is_collected_and_remembered(one: Drover) -> None:
    one.submit(parameterized("gone", "true"))
    before = set(keys(one))
    for _ in range(30):
        dispatch(one, "gone")
    wait("all ran", lambda: outcomes(one, "gone") == ["succeeded"] * 30, 60.0)

    def is_clean() -> bool:
        one.run("system", "gc")
        return set(keys(one)) - before == {"drover/state/launches/default/gone"}

    wait("nothing is left but the lines", is_clean, 60.0)
    assert outcomes(one, "gone") == ["succeeded"] * 30


def keys(one: Drover) -> list[str]:
    found: list[str] = call(one.consul.http_addr, "GET", "/v1/kv/drover/state/?keys")
    return [key for key in found if not key.endswith(".sentinel") and "/inbox/" not in key]
