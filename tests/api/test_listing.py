"""Lists are filtered, come page by page, and packed for who takes that."""

import gzip
import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.http import ask
from tests.e2e.drover import Drover, marking_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture(params=["leader", "another"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover) -> str:
    return one.address if request.param == "leader" else two.address


@pytest.fixture(scope="module")
def jobs(one: Drover) -> Iterator[list[str]]:
    names = [f"list-{letter}" for letter in "abcde"]
    for number, name in enumerate(names):
        one.submit(marking_job(name, count=1) | {"Meta": {"team": "red" if number % 2 else "blue"}, "Priority": 40 + number})
        one.wait_running(name, 1)
    yield names
    for name in names:
        one.stop_job(name, purge=True)


def names_of(address: str, path: str, **query: Any) -> list[str]:
    parts = tuple(str(value) for value in query.values())
    asked = "&".join(f"{name}={{}}" for name in query)
    return [found.get("JobID") or found["ID"] for found in ask(address, "GET", f"{path}?prefix={'list-' if path == '/v1/jobs' else ''}&{asked}", *parts).json]


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ('Meta.team == "red"', "bd"),
        ('Meta.team == "red" and Priority != 41', "d"),
        ('ID matches "list-[ab]"', "ab"),
        ('not (Meta.team == red) and "dc1" in Datacenters', "ace"),
        ('Meta.nobody == "x"', ""),
        ('Status == "running" or Status == "dead"', "abcde"),
    ],
)
def test_a_filter_keeps_jobs_by_what_they_are(expression: str, kept: str, address: str, jobs: list[str]) -> None:
    assert names_of(address, "/v1/jobs", filter=expression) == [f"list-{letter}" for letter in kept]


def test_a_filter_keeps_allocations_and_nodes_too(address: str, jobs: list[str]) -> None:
    assert names_of(address, "/v1/allocations", filter='JobID == "list-a" and ClientStatus == "running"') == ["list-a"]
    assert sorted(names_of(address, "/v1/allocations", filter='Job.Meta.team == "red"')) == ["list-b", "list-d"]
    on_linux = ask(address, "GET", "/v1/nodes?filter={}", 'Attributes["kernel.name"] == "linux" and Name matches "^(one|none)$"').json
    assert [node["Name"] for node in on_linux] == ["one"]


@pytest.mark.parametrize("expression", ["Nonsense ==", 'Nobody == "x"', 'ID matches "("', "(" * 2000, "ID"])
def test_a_filter_that_is_none_is_refused(expression: str, address: str, jobs: list[str]) -> None:
    status, text = ask(address, "GET", "/v1/jobs?filter={}", expression).error
    assert status == 400
    assert text.startswith("failed to read filter expression: ")


@pytest.mark.parametrize("reverse", ["", "&reverse=true"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/allocations", "/v1/evaluations"])
def test_pages_together_are_the_list(path: str, reverse: str, address: str, jobs: list[str]) -> None:
    whole = ask(address, "GET", f"{path}?x=1{reverse}").json
    found, token = [], ""
    for _ in range(len(whole)):
        reply = ask(address, "GET", f"{path}?per_page=2&next_token={{}}{reverse}", token)
        assert len(reply.json) <= 2
        found += reply.json
        token = reply.headers.get("X-Nomad-Nexttoken", "")
        if not token:
            break
    assert [one["ID"] for one in found] == [one["ID"] for one in whole]


def test_a_page_begins_after_one_that_is_gone(one: Drover, address: str, jobs: list[str]) -> None:
    one.submit(marking_job("list-bb", count=0))
    token = ask(address, "GET", "/v1/jobs?prefix=list-&per_page=2").headers["X-Nomad-Nexttoken"]
    one.stop_job("list-bb", purge=True)
    assert [job["ID"] for job in ask(address, "GET", "/v1/jobs?prefix=list-&per_page=2&next_token={}", token).json] == ["list-c", "list-d"]


@pytest.mark.parametrize("wrong", ["per_page=x", "per_page=-1", "next_token=*", "next_token=W10x", "next_token=eyJhIjoxfQ=="])
def test_a_page_that_is_none_is_refused(wrong: str, address: str) -> None:
    status, text = ask(address, "GET", f"/v1/jobs?{wrong}").error
    assert (status, text) == (400, f"Invalid {wrong.partition('=')[0]}")


def test_what_is_asked_for_is_added_and_what_is_not_wanted_left_out(address: str, jobs: list[str]) -> None:
    assert {job["Meta"]["team"] for job in ask(address, "GET", "/v1/jobs?prefix=list-&meta=true").json} == {"red", "blue"}
    node = ask(address, "GET", "/v1/nodes?resources=true").json[0]
    assert node["NodeResources"]["Memory"]["MemoryMB"] > 0
    alloc = ask(address, "GET", "/v1/allocations?resources=true&task_states=false").json[0]
    assert (set(alloc["AllocatedResources"]), alloc["TaskStates"]) == ({"Tasks", "TaskLifecycles", "Shared"}, None)


def test_a_long_answer_is_packed_for_who_takes_it(one: Drover, address: str, jobs: list[str]) -> None:
    path = f"/v1/node/{next(node['ID'] for node in one.get('/v1/nodes') if node['Name'] == 'one')}/allocations"
    plain = ask(address, "GET", path)
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert len(plain.body) > 8 * 1024
    assert "Content-Encoding" not in plain.headers
    if answer.headers.get("Content-Encoding") == "gzip":  # through another agent it comes as it is
        assert answer.headers["Vary"] == "Accept-Encoding"
        body = gzip.decompress(body)
    elif address == one.address:
        raise AssertionError("not packed")
    assert [alloc["ID"] for alloc in json.loads(body)] == [alloc["ID"] for alloc in plain.json]
