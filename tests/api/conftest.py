"""One real Consul, a leader with a client, and a second agent that never leads: every call is asked of both."""

from collections.abc import Iterator

import pytest

from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, wait


@pytest.fixture(scope="package")
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="package")
def one(consul: ConsulServer) -> Iterator[Drover]:
    """Leads, and runs tasks."""
    with Drover(consul, log_level="DEBUG") as drover:
        drover.wait_ready()
        yield drover


@pytest.fixture(scope="package")
def two(one: Drover, consul: ConsulServer) -> Iterator[Drover]:
    """Runs tasks, and is no candidate."""
    with Drover(consul, name="two", server=False) as drover:
        one.wait_ready(2)
        yield drover


@pytest.fixture(autouse=True)
def _no_traceback(request: pytest.FixtureRequest) -> Iterator[None]:
    """No call may fail by a bug, however wrong it was."""
    agents = [request.getfixturevalue(name) for name in ("one", "two") if name in request.fixturenames]
    before = [len(agent.log) for agent in agents]
    yield
    for agent, start in zip(agents, before, strict=True):
        assert "Traceback" not in (log := agent.log[start:]), log


@pytest.fixture
def clean(one: Drover) -> Iterator[None]:
    """Purges the jobs that the test made, and waits until their allocs are forgotten."""
    before = {(job["Namespace"], job["ID"]) for job in one.get("/v1/jobs?namespace=*")}
    left = {alloc["ID"] for alloc in one.get("/v1/allocations?namespace=*")}  # of agents that died
    yield
    for job in one.get("/v1/jobs?namespace=*"):
        if (job["Namespace"], job["ID"]) not in before:
            ask(one.address, "DELETE", "/v1/job/{}?purge=true&namespace={}", job["ID"], job["Namespace"])
    wait(
        "a cluster as before",
        lambda: {(a["Namespace"], a["JobID"]) for a in one.get("/v1/allocations?namespace=*") if a["ID"] not in left} <= before,
    )
