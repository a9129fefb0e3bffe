"""What is found by the beginning of an id, and by a part of a name."""

from collections.abc import Iterator

import pytest

from tests.api.http import ask
from tests.e2e.drover import Drover, marking_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture(scope="module")
def alloc(one: Drover, two: Drover) -> Iterator[dict[str, str]]:
    """One alloc of the job `found/here`, besides 24 jobs `many-…`."""
    names = [f"many-{number:02}" for number in range(24)]
    for name in names:
        one.submit(marking_job(name, count=0))
    one.submit(marking_job("found/here", job={"Name": "Found"}))
    yield next(a for a in one.wait_running("found%2Fhere", 1))
    for name in [*names, "found%2Fhere"]:
        one.stop_job(name, purge=True)


@pytest.fixture(params=["leader", "another"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover) -> str:
    return one.address if request.param == "leader" else two.address


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_ids_are_found_by_their_beginning_in_every_context(method: str, address: str, alloc: dict[str, str]) -> None:
    reply = ask(address, method, "/v1/search", body={"Prefix": alloc["ID"][:7], "Context": "all"})
    assert (reply.status, reply.state["X-Nomad-KnownLeader"]) == (200, "true")
    assert set(reply.json) == {"Matches", "Truncations", "Index", "LastContact", "KnownLeader"}
    assert reply.json["Matches"]["allocs"] == [alloc["ID"]]
    assert set(reply.json["Matches"]) == {
        "allocs", "deployment", "evals", "jobs", "namespaces", "nodes", "plugins", "scaling_policy", "volumes"
    }
    assert set(reply.json["Truncations"].values()) == {False}
    for context, prefix, wanted in (
        ("jobs", "found/", ["found/here"]),
        ("nodes", alloc["NodeID"][:8].upper(), [alloc["NodeID"]]),
        ("evals", alloc["EvalID"], [alloc["EvalID"]]),
        ("namespaces", "def", ["default"]),
        ("allocs", "zz", []),
    ):
        found = ask(address, method, "/v1/search", body={"Prefix": prefix, "Context": context}).json
        assert found["Matches"] == {context: wanted}


def test_twenty_of_a_context_are_shown(address: str, alloc: dict[str, str]) -> None:
    found = ask(address, "PUT", "/v1/search", body={"Prefix": "many-", "Context": "jobs"}).json
    assert (found["Matches"]["jobs"], found["Truncations"]) == ([f"many-{n:02}" for n in range(20)], {"jobs": True})
    found = ask(address, "PUT", "/v1/search/fuzzy", body={"Text": "many", "Context": "jobs"}).json
    assert (len(found["Matches"]["jobs"]), found["Truncations"]) == (20, {"jobs": True})


def test_names_are_found_by_a_part_of_them_with_what_they_belong_to(address: str, alloc: dict[str, str]) -> None:
    found = ask(address, "PUT", "/v1/search/fuzzy", body={"Text": "OUND", "Context": "all"}).json["Matches"]
    assert found["jobs"] == [{"ID": "Found", "Scope": ["default", "found/here"]}]
    assert found["allocs"] == [{"ID": "found/here.g[0]", "Scope": ["default", alloc["ID"]]}]
    commands = ask(address, "PUT", "/v1/search/fuzzy", body={"Text": "bin/sh", "Context": "commands"}).json["Matches"]
    assert {"ID": "/bin/sh", "Scope": ["default", "found/here", "g", "t"]} in commands["commands"]
    nodes = ask(address, "PUT", "/v1/search/fuzzy", body={"Text": "tw", "Context": "nodes"}).json["Matches"]
    assert [node["ID"] for node in nodes["nodes"]] == ["two"]
    assert ask(address, "PUT", "/v1/search/fuzzy?namespace=other", body={"Text": "found"}).json["Matches"] == {}


@pytest.mark.parametrize("path", ["/v1/search", "/v1/search/fuzzy"])
def test_a_wrong_search_is_refused_in_nomads_words(path: str, address: str) -> None:
    status, words = ask(address, "PUT", path, body={"Prefix": "ab", "Text": "ab", "Context": "planets"}).error
    assert (status, words.startswith("context must be one of ["), words.endswith("got 'planets'")) == (400, True, True)
    assert ask(address, "PUT", path, raw=b"").error == (400, "Request body is empty")
    assert ask(address, "PUT", path, body={"Prefix": 5, "Text": 5}).status == 400
    if path.endswith("fuzzy"):
        assert ask(address, "PUT", path, body={"Text": "a"}).error == (
            400, "fuzzy search query must be at least 2 characters, got 1"
        )
