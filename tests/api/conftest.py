"""For each file one real Consul, a leader with a client, and a second agent that never leads: every call is asked of both."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.api.http import ask
from tests.api.policies import agent_with_policies, policy
from tests.components.consul import MANAGEMENT, ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, marking_job, wait


@pytest.fixture(scope="module")
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="module")
def one(consul: ConsulServer) -> Iterator[Drover]:
    """Leads, and runs tasks."""
    with Drover(consul, log_level="DEBUG") as drover:
        drover.wait_ready()
        yield drover


@pytest.fixture(scope="module")
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


@dataclass(slots=True)
class Guarded:
    """A cluster on a Consul with default-deny ACLs: `one` leads and runs tasks, `two` only runs tasks, each with its own
    policies. tokens: of each role, by the policies that drover brings."""

    consul: ConsulServer
    one: Drover
    two: Drover
    tokens: dict[str, str]

    def alloc(self, job_id: str) -> str:
        """A running alloc of the job, on `two`."""
        return str(self.two.wait_running(job_id, 1)[0]["ID"])


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """Three jobs: `web-used` runs one alloc on `two`, `web-idle` none; `web-stopped` is there to be stopped."""
    with or_skip(lambda: ConsulServer(acl=True).__enter__()) as consul:
        tokens = {role: consul.make_token(role, policy(role)) for role in ("read-only", "submitter", "operator", "leader")}
        tokens |= {"anonymous": "", "management": MANAGEMENT}
        with (
            agent_with_policies(consul, "one", server=True, token=tokens["operator"]) as one,
            agent_with_policies(consul, "two", server=False, token=tokens["operator"]) as two,
        ):
            tokens["agent"] = two.own_token
            one.wait_ready(2)
            here = [{"LTarget": "${node.unique.name}", "Operand": "=", "RTarget": "two"}]
            used = marking_job("web-used", group={"Constraints": here, "Services": [{"Name": "web-used"}], "Update": {"MaxParallel": 0}})
            one.submit(used)
            one.submit(marking_job("web-idle", count=0))
            one.submit(marking_job("web-stopped", count=0))
            cluster = Guarded(consul, one, two, tokens)
            cluster.alloc("web-used")
            yield cluster
