"""What has no further use leaves Consul, and what is of use stays."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, call, job, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

GRACE = 'heartbeat_grace = "2s"'


@pytest.fixture(scope="module")
def fleet() -> Iterator[tuple[Drover, Drover, ConsulServer]]:
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        other = stack.enter_context(ConsulServer.client(server, node_name="other"))
        one = stack.enter_context(Drover(server, name="one", server_settings=GRACE))
        two = stack.enter_context(Drover(other, name="two", server=False))
        one.wait_ready(2)
        yield one, two, other


def keys(one: Drover, below: str = "") -> list[str]:
    found: list[str] = call(one.consul.http_addr, "GET", f"/v1/kv/drover/state/{below}?keys")
    return [key for key in found if not key.endswith(".sentinel") and "/inbox/" not in key]


def collect(one: Drover) -> None:
    assert one.run("system", "gc").returncode == 0


def test_after_200_batch_allocs_nothing_is_left(fleet: tuple[Drover, Drover, ConsulServer]) -> None:
    one, _, _ = fleet
    before = set(keys(one))
    for number in range(20):
        one.submit(job(f"batch-{number}", "/bin/true", [], count=10, job={"Type": "batch"}))
    for number in range(20):
        wait(f"job {number} is done", lambda n=number: [a["ClientStatus"] for a in one.allocs(f"batch-{n}")] == ["complete"] * 10, 60.0)
    assert len(keys(one)) > len(before) + 400

    def is_clean() -> bool:
        collect(one)
        return set(keys(one)) <= before

    wait("all of it is collected", is_clean, 60.0)
    assert one.get("/v1/jobs") == []


def test_old_versions_go_and_the_stable_one_stays(fleet: tuple[Drover, Drover, ConsulServer]) -> None:
    one, _, _ = fleet
    update = {"Update": {"MinHealthyTime": NS // 10, "HealthyDeadline": 20 * NS, "ProgressDeadline": 60 * NS}}
    one.submit(marking_job("web", group=dict(update)))
    wait("it is stable", lambda: one.get("/v1/job/web")["Stable"])
    for number in range(9):
        one.submit({**marking_job("web", group=dict(update)), "Meta": {"n": str(number)}, "Priority": 40 + number})
    wait("the newest runs", lambda: {a["JobVersion"] for a in one.running("web")} == {9})
    wait("and is stable", lambda: one.get("/v1/job/web")["Stable"])

    def versions() -> list[int]:
        collect(one)
        return [version["Version"] for version in one.get("/v1/job/web/versions")["Versions"]]

    wait("six are left", lambda: versions() == [9, 8, 7, 6, 5, 4], 30.0)
    one.stop_job("web", purge=True)


def test_a_node_that_is_down_is_purged_with_all_its_keys(fleet: tuple[Drover, Drover, ConsulServer]) -> None:
    one, two, other = fleet
    (node,) = [n["ID"] for n in one.get("/v1/nodes") if n["Name"] == "two"]
    refused = one.run("node", "purge", node)
    assert (refused.returncode, "only a node that is down" in refused.stderr) == (1, True)
    one.submit(marking_job("spread", count=2, job={"Constraints": [{"Operand": "distinct_hosts", "RTarget": "true"}]}))
    one.wait_running("spread", 2)
    two.kill()
    other.stop(kill=True)
    wait("it is down", lambda: one.get(f"/v1/node/{node}")["Status"] == "down", 60.0)
    assert one.run("node", "purge", node[:8]).returncode == 0
    assert [key for key in keys(one) if node in key] == []
    assert [n["Name"] for n in one.get("/v1/nodes")] == ["one"]
    assert [a["NodeName"] for a in one.allocs("spread")] == ["one"]
    other.start()
    two.start()
    one.wait_ready(2)
    one.wait_running("spread", 2)
    one.stop_job("spread", purge=True)
