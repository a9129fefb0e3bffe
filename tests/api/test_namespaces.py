"""Namespaces keep jobs of the same name apart, may be bound to virtual datacenters, and go when nothing uses them."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.http import Reply, ask
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def write(one: Drover, name: str, **more: Any) -> Reply:
    return ask(one.address, "PUT", "/v1/namespace/{}", name, body={"Name": name, **more})


@pytest.fixture
def team(one: Drover, clean: None) -> Iterator[str]:
    assert write(one, "team", Description="theirs").status == 200
    yield "team"
    for job in one.get("/v1/jobs?namespace=team"):
        ask(one.address, "DELETE", "/v1/job/{}?namespace=team&purge=true", job["ID"])
    wait("nothing of it runs", lambda: not one.get("/v1/allocations?namespace=team"))
    assert ask(one.address, "DELETE", "/v1/namespace/team").status == 200


def test_jobs_of_the_same_id_live_side_by_side(one: Drover, two: Drover, team: str) -> None:
    of_team = marking_job("same", count=1) | {"Namespace": team}
    one.submit(marking_job("same", count=1))
    assert ask(two.address, "PUT", f"/v1/jobs?namespace={team}", body={"Job": of_team}).status == 200
    wait("both run", lambda: len([a for a in one.get("/v1/allocations?namespace=*") if (a["JobID"], a["ClientStatus"]) == ("same", "running")]) == 2)
    for namespace in ("default", team):
        (job,) = one.get(f"/v1/jobs?namespace={namespace}")
        (alloc,) = [found for found in one.get(f"/v1/allocations?namespace={namespace}") if found["JobID"] == "same"]
        assert (job["ID"], job["Namespace"], alloc["Namespace"]) == ("same", namespace, namespace)
        assert one.get(f"/v1/job/same?namespace={namespace}")["Namespace"] == namespace
    assert {job["Namespace"] for job in one.get("/v1/jobs?namespace=*")} == {"default", team}

    one.stop_job("same", purge=True)
    wait("one of them is gone", lambda: all(alloc["JobID"] != "same" for alloc in one.get("/v1/allocations")))
    (left,) = one.get(f"/v1/allocations?namespace={team}")
    assert left["ClientStatus"] == "running"
    refused = ask(two.address, "DELETE", f"/v1/namespace/{team}")
    assert refused.error == (500, 'namespace "team" has non-terminal jobs in regions: [global]')


def test_what_is_no_namespace_takes_no_job(one: Drover) -> None:
    lost = marking_job("lost", count=1) | {"Namespace": "nowhere"}
    assert ask(one.address, "PUT", "/v1/jobs", body={"Job": lost}).error == (
        500, 'job "lost" is in nonexistent namespace "nowhere"',
    )
    assert ask(one.address, "GET", "/v1/namespace/nowhere").error == (404, "Namespace not found")
    assert ask(one.address, "DELETE", "/v1/namespace/nowhere").status == 404
    assert ask(one.address, "DELETE", "/v1/namespace/default").error == (500, "can not delete default namespace")
    assert write(one, "no good").error[1].startswith('invalid name "no good". Must match regex')
    assert write(one, "long", Description="x" * 257).error == (400, "description longer than 256")
    assert ask(one.address, "PUT", "/v1/namespace/a", body={"Name": "b"}).status == 400
    assert {found["Name"] for found in one.get("/v1/namespaces")} == {"default"}


def test_drivers_that_a_namespace_forbids_are_refused_there_only(one: Drover, team: str) -> None:
    assert write(one, team, Capabilities={"DisabledTaskDrivers": ["raw_exec"]}).status == 200
    wanted = marking_job("raw", count=1) | {"Namespace": team}
    assert ask(one.address, "PUT", "/v1/jobs", body={"Job": wanted}).error == (
        500, 'used task driver "raw_exec" is not allowed in namespace "team"',
    )
    assert write(one, team, Capabilities={"EnabledTaskDrivers": ["raw_exec"]}).status == 200
    assert ask(one.address, "PUT", "/v1/jobs", body={"Job": wanted}).status == 200


def test_namespaces_outlive_the_leader(one: Drover, team: str) -> None:
    assert write(one, team, Meta={"owner": "ops"}).status == 200
    one.kill()
    one.start()
    one.wait_ready()
    found = one.get(f"/v1/namespace/{team}")
    assert (found["Description"], found["Meta"]) == ("", {"owner": "ops"})
