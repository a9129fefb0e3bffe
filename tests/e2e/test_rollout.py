"""Roll-outs and drains as the services' clients see them: watched from Consul's health and through its DNS."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

import pytest
from dnslib import DNSRecord

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, call, is_alive, marking_job, stays, wait, web_job
from tests.e2e.health import HealthWatch

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

UPDATE = {"MinHealthyTime": NS, "HealthyDeadline": 20 * NS, "ProgressDeadline": 60 * NS}
MIGRATE = {"MaxParallel": 1, "HealthCheck": "checks", "MinHealthyTime": NS // 2, "HealthyDeadline": 20 * NS}


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Drover, Drover]]:
    """Two nodes; the first is the only candidate for leader."""
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        other = stack.enter_context(ConsulServer.client(server, node_name="other"))
        one = stack.enter_context(Drover(server, name="one"))
        two = stack.enter_context(Drover(other, name="two", server=False))
        one.wait_ready(2)
        yield one, two


def service(name: str, version: int, *, count: int, update: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    job = web_job(name, count=count, Env={"VERSION": str(version)}, **more)
    job["TaskGroups"][0] |= {"Update": {**UPDATE, **(update or {})}, "Migrate": MIGRATE}
    return job


def deployed(one: Drover, name: str, status: str, version: int, wait_s_max: float = 60.0) -> dict[str, Any]:
    """The job's newest deployment once it is of that version and so; what was there instead is told."""
    seen: dict[str, Any] | None = None

    def look() -> dict[str, Any] | None:
        nonlocal seen
        seen = one.get(f"/v1/job/{name}/deployment")
        return seen if seen and (seen["Status"], seen["JobVersion"]) == (status, version) else None

    try:
        return wait(f"{name}'s deployment is {status}", look, wait_s_max)
    except AssertionError as error:
        states = {a["Name"]: (a["JobVersion"], a["DesiredStatus"], a["ClientStatus"], a["TaskStates"]) for a in one.allocs(name)}
        raise AssertionError(f"{error}; it is {seen}; its allocs: {states}") from None


class Client:
    """Asks for the service's addresses in Consul's DNS and calls one of them, ten times a second."""

    def __init__(self, consul: ConsulServer, service: str) -> None:
        self._dns, self._name = consul.dns_port, f"{service}.service.consul"
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.calls = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._is_over.wait(0.1):
            self.calls += 1
            try:
                reply = DNSRecord.parse(DNSRecord.question(self._name, "SRV").send("127.0.0.1", self._dns, timeout=2.0))
                ports = [answer.rdata.port for answer in reply.rr]
                assert ports, "no answer in DNS"
                connection = http.client.HTTPConnection("127.0.0.1", ports[self.calls % len(ports)], timeout=1.0)
                connection.request("GET", "/")
                assert connection.getresponse().status == 200
                connection.close()
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.failures.append(f"{time.monotonic():.2f}: {error!r}")


def test_a_rolling_update_is_not_felt_by_who_asks_dns(pair: tuple[Drover, Drover]) -> None:
    one, _ = pair
    of = {"count": 6, "update": {"MaxParallel": 2}, "ShutdownDelay": NS // 2}
    one.submit(service("web", 0, **of))
    deployed(one, "web", "successful", 0)
    with HealthWatch(one.consul, "web") as watch, Client(one.consul, "web") as client:
        began_s = time.monotonic()
        one.submit(service("web", 1, **of))
        found = deployed(one, "web", "successful", 1)
        took_s = time.monotonic() - began_s
    assert watch.least >= 4, watch.below(4)
    assert (client.failures, client.calls > 20) == ([], True)
    assert took_s < 20, f"it took {took_s:.1f} s"
    group = found["TaskGroups"]["g"]
    assert (group["DesiredTotal"], group["PlacedAllocs"], group["HealthyAllocs"], group["UnhealthyAllocs"]) == (6, 6, 6, 0)
    assert one.get("/v1/job/web")["Stable"]
    one.stop_job("web", purge=True)


def test_a_canary_that_fails_takes_nothing_away_and_the_job_goes_back(pair: tuple[Drover, Drover]) -> None:
    one, _ = pair
    update = {"MaxParallel": 1, "Canary": 1, "AutoRevert": True, "HealthyDeadline": 4 * NS}
    one.submit(service("canary", 0, count=3, update=update))
    deployed(one, "canary", "successful", 0)
    before = {a["ID"] for a in one.running("canary")}
    with HealthWatch(one.consul, "canary") as watch:
        broken = service("canary", 1, count=3, update=update, check={"Path": "/", "Header": {}, "Method": "BREAK"})
        one.submit(broken)
        failed = wait(
            "the deployment fails",
            lambda: next((d for d in one.get("/v1/job/canary/deployments") if d["Status"] == "failed"), None),
            60.0,
        )
        deployed(one, "canary", "successful", 2)
    assert "rolling back to job version 0" in failed["StatusDescription"]
    assert watch.least >= 3, watch.below(3)
    assert {a["ID"] for a in one.running("canary")} == before
    one.stop_job("canary", purge=True)


def test_promoted_canaries_stay_and_the_rest_follows(pair: tuple[Drover, Drover]) -> None:
    one, _ = pair
    update = {"MaxParallel": 2, "Canary": 1}
    one.submit(service("blue", 0, count=2, update=update))
    deployed(one, "blue", "successful", 0)
    one.submit(service("blue", 1, count=2, update=update))
    waiting = deployed(one, "blue", "running", 1)

    def canary() -> str | None:
        found = [a for a in one.running("blue") if (a["DeploymentStatus"] or {}).get("Canary")]
        return found[0]["ID"] if found and found[0]["DeploymentStatus"]["Healthy"] else None

    healthy = wait("a healthy canary", canary, 30.0)
    stays("nothing is replaced before it is promoted", lambda: len(one.running("blue")) == 3, 1.0)
    call(one.address, "PUT", f"/v1/deployment/promote/{waiting['ID']}", {"All": True})
    deployed(one, "blue", "successful", 1)
    running = wait("two of the new version", lambda: (r := one.running("blue")) and len(r) == 2 and r)
    assert {a["JobVersion"] for a in running} == {1}
    assert healthy in {a["ID"] for a in running}
    one.stop_job("blue", purge=True)


def test_a_drained_node_is_empty_and_its_only_instance_was_never_missing(pair: tuple[Drover, Drover]) -> None:
    one, _ = pair
    one.submit(service("alone", 0, count=1))
    deployed(one, "alone", "successful", 0)
    (before,) = one.running("alone")
    leader = one.get("/v1/status/leader")
    with HealthWatch(one.consul, "alone") as watch:
        drain(one, before["NodeID"])
        wait("the drain is done", lambda: (n := one.get(f"/v1/node/{before['NodeID']}")) and not n["DrainStrategy"] and n["LastDrain"]["Status"] == "complete", 60.0)
        (after,) = one.wait_running("alone", 1)
    assert watch.least >= 1, watch.below(1)
    assert after["NodeID"] != before["NodeID"]
    assert one.get("/v1/status/leader") == leader
    assert all(a["ClientStatus"] == "complete" for a in one.get(f"/v1/node/{before['NodeID']}/allocations"))
    make_eligible(one, before["NodeID"])
    one.stop_job("alone", purge=True)


def test_draining_the_leaders_own_node_keeps_it_leading_and_system_jobs_go_last(pair: tuple[Drover, Drover]) -> None:
    one, _ = pair
    node = next(n["ID"] for n in one.get("/v1/nodes") if n["Name"] == "one")
    one.submit(marking_job("everywhere", job={"Type": "system"}))
    one.wait_running("everywhere", 2)
    one.submit(service("moved", 0, count=2, update={"MaxParallel": 2}))
    deployed(one, "moved", "successful", 0)
    epoch_before = one.log.count("leading in epoch")
    drain(one, node)
    wait("all of it is on the other node", lambda: {a["NodeName"] for a in one.running("moved")} == {"two"} and len(one.running("moved")) == 2, 60.0)
    wait("the system job's is gone too", lambda: [a["NodeName"] for a in one.running("everywhere")] == ["two"], 60.0)
    assert one.log.count("leading in epoch") == epoch_before
    make_eligible(one, node)
    one.wait_running("everywhere", 2)
    for name in ("moved", "everywhere"):
        one.stop_job(name, purge=True)


def test_rebalancing_evens_out_and_nothing_is_missing_meanwhile(pair: tuple[Drover, Drover]) -> None:
    one, _ = pair
    (node_two,) = [n["ID"] for n in one.get("/v1/nodes") if n["Name"] == "two"]
    call(one.address, "PUT", f"/v1/node/{node_two}/eligibility", {"Eligibility": "ineligible"})
    one.submit(service("uneven", 0, count=4, update={"MaxParallel": 4}))
    deployed(one, "uneven", "successful", 0)
    make_eligible(one, node_two)
    with HealthWatch(one.consul, "uneven") as watch:
        done = one.run("rebalance", "uneven")
    assert done.returncode == 0, done.stdout + done.stderr
    assert watch.least >= 4, watch.below(4)
    assert sorted(a["NodeName"] for a in one.wait_running("uneven", 4)) == ["one", "one", "two", "two"]
    again = one.run("rebalance", "-dry-run", "uneven")
    assert (again.returncode, "0 to move" in again.stdout) == (0, True)
    one.stop_job("uneven", purge=True)


def test_a_restarted_job_is_replaced_alloc_by_alloc(pair: tuple[Drover, Drover]) -> None:
    one, _ = pair
    one.submit(service("again", 0, count=2, update={"MaxParallel": 1}))
    deployed(one, "again", "successful", 0)
    before = {a["ID"] for a in one.running("again")}
    with HealthWatch(one.consul, "again") as watch:
        call(one.address, "PUT", "/v1/job/again/restart")
        deployed(one, "again", "successful", 1)
    assert watch.least >= 1
    assert not before & {a["ID"] for a in one.wait_running("again", 2)}
    one.stop_job("again", purge=True)


def drain(one: Drover, node: str, deadline_ns: int = 3600 * NS) -> None:
    spec = {"Deadline": deadline_ns, "IgnoreSystemJobs": False}
    call(one.address, "PUT", f"/v1/node/{node}/drain", {"NodeID": node, "DrainSpec": spec})


def make_eligible(one: Drover, node: str) -> None:
    call(one.address, "PUT", f"/v1/node/{node}/eligibility", {"Eligibility": "eligible"})


def test_a_drain_that_is_called_off_moves_nothing_more(pair: tuple[Drover, Drover]) -> None:
    one, two = pair
    one.submit(marking_job("stays", count=1))
    (alloc,) = one.wait_running("stays", 1)
    home = two if alloc["NodeName"] == "two" else one
    pids = wait("its process", lambda: home.pids(alloc["ID"]))
    for node in one.get("/v1/nodes"):
        drain(one, node["ID"])
    stays("without another node it runs on", lambda: is_alive(pids[0]), 1.0)
    for node in one.get("/v1/nodes"):
        call(one.address, "PUT", f"/v1/node/{node['ID']}/drain", {"NodeID": node["ID"], "DrainSpec": None, "MarkEligible": True})
    assert {n["SchedulingEligibility"] for n in one.get("/v1/nodes")} == {"eligible"}
    assert [a["ID"] for a in one.running("stays")] == [alloc["ID"]]
    one.stop_job("stays", purge=True)
