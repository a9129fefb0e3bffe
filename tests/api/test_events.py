"""What /v1/event/stream tells: every change once and in order, from an index on, also when the leader changes."""

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import pytest

from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@dataclass(slots=True)
class Following:
    """One stream, read in a thread of its own until close()."""

    address: str
    query: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    status: int = 0
    kind: str = ""
    is_over: bool = False
    _connection: http.client.HTTPConnection = field(init=False)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        self._connection = http.client.HTTPConnection(self.address, timeout=60)
        self._connection.request("GET", f"/v1/event/stream{self.query}")
        answer = self._connection.getresponse()  # its headers come though nothing happens
        self.status, self.kind = answer.status, answer.headers["Content-Type"]
        self._thread = threading.Thread(target=self._read, args=(answer,), daemon=True)
        self._thread.start()
        return self

    def _read(self, answer: http.client.HTTPResponse) -> None:
        try:
            while line := answer.readline():
                self.lines.append(json.loads(line))
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            pass  # closed, or its agent was killed
        self.is_over = True

    def __exit__(self, *_: object) -> None:
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._connection.close()
        self._thread.join(10)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for line in list(self.lines) for event in line.get("Events", ())]

    def of(self, topic: str, job_id: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["Topic"] == topic and (e["Key"] == job_id or job_id in e["FilterKeys"])]


def soon_healthy(job_id: str, **more: Any) -> dict[str, Any]:
    return marking_job(
        job_id, group={"Update": {"MinHealthyTime": NS // 10, "HealthCheck": "task_states", "MaxParallel": 1}}, **more
    )


def is_successful(followed: Following, job_id: str) -> bool:
    return any(e["Payload"]["Deployment"]["Status"] == "successful" for e in followed.of("Deployment", job_id))


@pytest.mark.usefixtures("clean")
def test_all_events_of_a_deployment_come_in_order_with_their_indexes(one: Drover, two: Drover) -> None:
    with Following(one.address) as direct, Following(two.address) as passed_on:
        assert (passed_on.status, passed_on.kind) == (200, "application/json")
        one.submit(soon_healthy("told", count=2))
        for followed in (direct, passed_on):
            wait("its deployment's end", lambda followed=followed: is_successful(followed, "told"))
            indexes = [line["Index"] for line in followed.lines]
            assert indexes == sorted(indexes)
            assert all(e["Index"] == line["Index"] for line in followed.lines for e in line["Events"])
            told = [(e["Type"], e["Payload"]["Job"]["Stable"]) for e in followed.of("Job", "told")]
            assert told == [("JobRegistered", False), ("JobRegistered", True)]
            deployments = followed.of("Deployment", "told")
            healthy = [e["Payload"]["Deployment"]["TaskGroups"]["g"]["HealthyAllocs"] for e in deployments]
            assert healthy == sorted(healthy)
            assert (healthy[0], healthy[-1]) == (0, 2)
            assert {e["Type"] for e in deployments} == {"PlanResult", "DeploymentAllocHealth", "DeploymentStatusUpdate"}
            assert [e["Payload"]["Deployment"]["ModifyIndex"] for e in deployments] == [e["Index"] for e in deployments]
            placed = {e["Key"] for e in followed.of("Allocation", "told") if e["Type"] == "PlanResult"}
            running = {
                e["Key"]
                for e in followed.of("Allocation", "told")
                if e["Type"] == "AllocationUpdated" and e["Payload"]["Allocation"]["ClientStatus"] == "running"
            }
            assert placed == running == {alloc["ID"] for alloc in one.allocs("told")}
            assert "JobRegistered" in [e["Type"] for e in followed.of("Evaluation", "told")]
        assert [e for e in passed_on.events if "told" in str(e["FilterKeys"])] == [
            e for e in direct.events if "told" in str(e["FilterKeys"])
        ]


@pytest.mark.usefixtures("clean")
def test_topics_keys_and_namespaces_choose(one: Drover, two: Drover) -> None:
    with ExitStack() as stack:
        jobs, mine, both, none = (
            stack.enter_context(Following(two.address, query))
            for query in (
                "?topic=Job",
                "?topic=Job:mine&topic=Evaluation:mine",
                "?topic=*:mine&topic=Job:other&namespace=*",
                "?topic=Job&namespace=other",
            )
        )
        for name in ("mine", "other"):
            one.submit(marking_job(name, count=0))
        wait("both jobs", lambda: {e["Key"] for e in jobs.events} >= {"mine", "other"})
        wait("the evaluation", lambda: any(e["Topic"] == "Evaluation" for e in mine.events))
        wait("the other", lambda: any(e["Key"] == "other" for e in both.events))
        assert {e["Topic"] for e in jobs.events} == {"Job"}
        assert {(e["Topic"], e["Key"]) for e in mine.events if e["Topic"] == "Job"} == {("Job", "mine")}
        assert all(e["FilterKeys"] == ["mine"] for e in mine.events if e["Topic"] == "Evaluation")
        assert {e["Key"] for e in both.events if e["Topic"] == "Job"} == {"mine", "other"}
        assert none.events == []


def test_a_wrong_topic_or_index_is_a_bad_request(one: Drover, two: Drover) -> None:
    for drover in (one, two):
        for topic in ("Jobs", "Job:a:b", ""):
            status, words = ask(drover.address, "GET", f"/v1/event/stream?topic={topic}").error
            assert (status, words.startswith("Invalid topic query: ")) == (400, True)
        assert ask(drover.address, "GET", "/v1/event/stream?index=x").error == (400, "Invalid index")


@pytest.mark.usefixtures("clean")
def test_who_connects_again_gets_what_came_from_the_index_on(one: Drover, two: Drover) -> None:
    with Following(two.address, "?topic=Job") as first:
        one.submit(marking_job("before", count=0))
        wait("it", lambda: first.of("Job", "before"))
        index = first.events[-1]["Index"]
    for name in ("between-1", "between-2"):
        one.submit(marking_job(name, count=0))
    with Following(two.address, f"?topic=Job&index={index}") as again:
        wait("what was missed", lambda: again.of("Job", "between-2"))
        assert [e["Key"] for e in again.events if e["Type"] == "JobRegistered"] == ["before", "between-1", "between-2"]


def test_an_operators_word_about_a_node_is_told(one: Drover, two: Drover) -> None:
    node = next(n for n in one.get("/v1/nodes") if n["Name"] == "two")
    with Following(one.address, f"?topic=Node:{node['ID']}") as followed:
        for word in ("ineligible", "eligible"):
            ask(one.address, "PUT", f"/v1/node/{node['ID']}/eligibility", body={"Eligibility": word})
        told = wait("both", lambda: len(found := [e for e in followed.events if e["Type"] == "NodeEligibility"]) >= 2 and found)
        assert [e["Payload"]["Node"]["SchedulingEligibility"] for e in told[-2:]] == ["ineligible", "eligible"]


@pytest.fixture(scope="module")
def own() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


def test_after_a_leader_died_each_object_with_a_higher_index_comes_once_as_it_is(own: ConsulServer) -> None:
    with ExitStack() as stack:
        drovers = [stack.enter_context(Drover(own, name=name, client=False)) for name in ("a", "b")]
        client = stack.enter_context(Drover(own, name="c", server=False))
        client.wait_ready()
        client.submit(soon_healthy("early"))
        with Following(client.address) as first:
            client.submit(soon_healthy("web"))
            wait("its deployment's end", lambda: is_successful(first, "web"))
            seen = first.events[-1]["Index"]
            for name in ("web-2", "web-3"):
                client.submit(marking_job(name, count=0))
            client.stop_job("web-2")
            leader = client.get("/v1/status/leader")
            old, new = sorted(drovers, key=lambda drover: drover.address != leader)
            old.kill()
            wait("the stream's end", lambda: first.is_over)
        wait("the next leader", lambda: client.get("/v1/status/leader") == new.address)
        with Following(client.address, f"?index={seen}") as again:
            wait("the last job", lambda: again.of("Job", "web-3"))
            told = {(e["Topic"], e["Key"]): e for e in again.events}
            assert told["Job", "web-2"]["Type"] == "JobDeregistered"
            assert {key for topic, key in told if topic == "Job"} == {"web-2", "web-3"}
            assert all(e["Index"] > seen for e in again.events)
            client.submit(marking_job("later", count=0))
            wait("what happens now", lambda: again.of("Job", "later"))
            jobs = [e["Key"] for e in again.events if e["Topic"] == "Job"]
            assert sorted(jobs) == ["later", "web-2", "web-3"]
            indexes = [line["Index"] for line in again.lines if line]
            assert indexes == sorted(indexes)
        for drover in (new, client):
            assert "Traceback" not in drover.log
