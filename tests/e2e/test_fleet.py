"""A fleet of five machines in three virtual datacenters over two physical ones: work divides as asked, and moves when
a whole datacenter is gone."""

import contextlib
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, call, marking_job, stays, wait, web_job
from tests.e2e.health import HealthWatch

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# (name, physical, virtual): blue is half of what the jobs ask for, and one of its machines stands beside green's.
MACHINES = (
    ("b1", "north", "blue"),
    ("b2", "south", "blue"),
    ("g1", "north", "green"),
    ("g2", "south", "green"),
    ("r1", "south", "red"),
)
SHARES = {"blue": 50, "green": 30, "red": 20}


@dataclass(frozen=True)
class Machine:
    virtual: str
    consul: ConsulServer
    drover: Drover

    def vanish(self) -> None:
        """Its drover and its Consul are gone; what drover started runs on, unheard."""
        self.drover.kill()
        self.consul.stop(kill=True)

    def lose_power(self) -> None:
        self.vanish()
        for pid in self.drover.task_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        # The kernel that the test runs on has not booted anew: what a supervisor would have written must not be there.
        shutil.rmtree(self.drover.data_dir / "run")

    def come_back(self) -> None:
        self.consul.start()
        self.drover.start()


@dataclass(frozen=True)
class Fleet:
    consul: ConsulServer
    leader: Drover
    machines: dict[str, Machine]

    def of(self, virtual: str) -> list[Machine]:
        return [one for one in self.machines.values() if one.virtual == virtual]

    def split(self, job_id: str) -> dict[str, int]:
        """{virtual datacenter: running allocs there}."""
        return dict(Counter(self.machines[a["NodeName"]].virtual for a in self.leader.running(job_id)))

    def passing(self, service: str) -> int:
        return len(call(self.consul.http_addr, "GET", f"/v1/health/service/{service}?passing=1"))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        leader = stack.enter_context(
            Drover(server, name="leader", client=False, server_settings='heartbeat_grace = "2s"')
        )
        machines = {}
        for number, (name, physical, virtual) in enumerate(MACHINES):
            consul = stack.enter_context(ConsulServer.client(server, node_name=name))
            # All are this one machine's loopback: each has ports of its own.
            low = 21_000 + 1000 * number
            settings = f"""
datacenter = "{physical}"
client {{
  virtual_datacenter = "{virtual}"
  min_dynamic_port   = {low}
  max_dynamic_port   = {low + 999}
}}
"""
            machines[name] = Machine(virtual, consul, Drover(consul, name=name, server=False, settings=settings))
            stack.enter_context(machines[name].drover)
        leader.wait_ready(len(MACHINES))
        yield Fleet(server, leader, machines)


def spread() -> dict[str, object]:
    targets = [{"Value": name, "Percent": percent} for name, percent in SHARES.items()]
    return {"Attribute": "${node.datacenter}", "Weight": 100, "SpreadTarget": targets}


def spread_over(job: dict[str, object]) -> dict[str, object]:
    return {**job, "Datacenters": list(SHARES), "Spreads": [spread()]}


def run_web(fleet: Fleet) -> None:
    """Ten instances, divided as asked, all of them passing."""
    fleet.leader.wait_ready(len(MACHINES))
    job = spread_over(web_job("web", count=10))
    healthy = {"HealthCheck": "checks", "MinHealthyTime": NS // 2, "HealthyDeadline": 60 * NS}
    job["TaskGroups"][0] |= {"Migrate": {"MaxParallel": 1, **healthy}, "Update": {"MaxParallel": 2, **healthy}}  # type: ignore[index]
    fleet.leader.submit(job)
    fleet.leader.wait_running("web", 10, 60.0)
    assert fleet.split("web") == {"blue": 5, "green": 3, "red": 2}
    running = fleet.leader.running("web")
    assert {a["NodeName"] for a in running} == set(fleet.machines), "machines of one datacenter share its work"
    wait("all of them pass", lambda: fleet.passing("web") == 10, 60.0)


def stop_web(fleet: Fleet) -> None:
    fleet.leader.stop_job("web", purge=True)
    wait("it is gone", lambda: not fleet.leader.allocs("web"), 60.0)


def test_a_datacenter_that_is_cut_off_is_made_up_for_and_has_its_work_again_when_it_is_back(fleet: Fleet) -> None:
    leader = fleet.leader
    run_web(fleet)
    before = {a["ID"] for a in leader.running("web")}
    (red,) = fleet.of("red")
    with HealthWatch(fleet.consul, "web") as watch:
        red.vanish()
        wait("its work runs elsewhere", lambda: fleet.split("web").keys() == {"blue", "green"} and sum(fleet.split("web").values()) == 10, 90.0)
        wait("and passes", lambda: fleet.passing("web") == 10, 60.0)
        red.come_back()
        wait("the originals count again", lambda: {a["ID"] for a in leader.running("web")} == before, 60.0)
        wait("and the stand-ins are gone", lambda: fleet.passing("web") == 10, 60.0)
    assert watch.least == 8, watch.below(8)
    assert fleet.split("web") == {"blue": 5, "green": 3, "red": 2}
    stop_web(fleet)


def test_a_datacenter_that_loses_its_power_is_made_up_for_and_gets_nothing_back_unasked(fleet: Fleet) -> None:
    leader = fleet.leader
    run_web(fleet)
    gone = {a["ID"] for a in leader.running("web") if fleet.machines[a["NodeName"]].virtual == "blue"}
    with HealthWatch(fleet.consul, "web") as watch:
        for one in fleet.of("blue"):
            one.lose_power()
        wait("its work runs elsewhere", lambda: sum(fleet.split("web").values()) == 10 and "blue" not in fleet.split("web"), 90.0)
        wait("and passes", lambda: fleet.passing("web") == 10, 60.0)
    # Nothing of the others was touched, and nobody counted anything twice.
    assert (watch.least, watch.most) == (5, 10)
    assert [gap.least for gap in watch.below(10)] == sorted(gap.least for gap in watch.below(10)), "it only got better"
    # Green is owed more of what is left than red: 30 to 20.
    split = fleet.split("web")
    assert split["green"] > split["red"]
    assert {leader.alloc(a)["ClientStatus"] for a in gone} == {"lost"}
    for one in fleet.of("blue"):
        one.come_back()
    leader.wait_ready(len(MACHINES))
    with HealthWatch(fleet.consul, "web") as watch:
        stays("nothing that runs is moved without being asked to", lambda: fleet.split("web") == split, 5.0)
    assert (watch.least, watch.most) == (10, 10)
    # Asked, it is: one after the other, each stand-in healthy before the old one stops.
    with HealthWatch(fleet.consul, "web") as watch:
        done = leader.run("rebalance", "web")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "${node.datacenter}" in done.stdout
    assert watch.least >= 10, watch.below(10)
    assert fleet.split("web") == {"blue": 5, "green": 3, "red": 2}
    stop_web(fleet)


def test_distinct_hosts_takes_each_machine_once_and_says_why_there_is_no_sixth(fleet: Fleet) -> None:
    leader = fleet.leader
    leader.wait_ready(len(MACHINES))
    apart = {"Constraints": [{"Operand": "distinct_hosts", "RTarget": "true"}]}
    leader.submit(spread_over(marking_job("apart", count=5, job=apart)))
    running = leader.wait_running("apart", 5)
    assert sorted(a["NodeName"] for a in running) == sorted(fleet.machines)
    assert fleet.split("apart") == {"blue": 2, "green": 2, "red": 1}
    leader.submit(spread_over(marking_job("apart", count=6, job=apart)))
    blocked = wait(
        "the reason",
        lambda: next((e for e in leader.get("/v1/job/apart/evaluations") if e["Status"] == "blocked"), None),
    )
    metric = blocked["FailedTGAllocs"]["g"]
    assert metric["ConstraintFiltered"] == {"distinct_hosts true": 5}
    assert (metric["NodesEvaluated"], metric["NodesExhausted"]) == (5, 0)
    assert metric["NodesAvailable"] == {"north": 2, "south": 3}
    stays("the five run on", lambda: len(leader.running("apart")) == 5, 1.0)
    leader.stop_job("apart", purge=True)


def test_a_job_that_names_only_physical_datacenters_never_enters_the_virtual_ones(fleet: Fleet) -> None:
    leader = fleet.leader
    leader.submit({**marking_job("outside"), "Datacenters": ["north", "south", "*"]})
    blocked = wait(
        "the reason",
        lambda: next((e for e in leader.get("/v1/job/outside/evaluations") if e["Status"] == "blocked"), None),
    )
    assert blocked["FailedTGAllocs"]["g"]["NodesEvaluated"] == 0
    leader.stop_job("outside", purge=True)


def test_four_of_five_machines_that_vanish_at_once_move_nothing_until_the_brake_is_released(fleet: Fleet) -> None:
    leader = fleet.leader
    leader.wait_ready(len(MACHINES))
    leader.submit(spread_over(marking_job("braked", count=5)))
    before = {a["ID"]: a["NodeName"] for a in leader.wait_running("braked", 5)}
    lost = [one for name, one in fleet.machines.items() if name != "r1"]
    for one in lost:
        one.vanish()

    def engaged() -> bool:
        return bool(leader.get("/v1/operator/brake")["Engaged"])

    wait("the brake is engaged", engaged, 60.0)
    stays("nothing moves", lambda: {a["ID"]: a["NodeName"] for a in leader.running("braked")} == before, 12.0)
    shown = leader.run("brake", "status")
    assert "The brake is engaged" in shown.stdout
    assert [line.split()[1:3] for line in shown.stdout.splitlines() if line.startswith("cluster")] == [["4", "5"]]
    assert leader.run("brake", "release").returncode == 0
    wait("all of it runs on the last one", lambda: {a["NodeName"] for a in leader.running("braked")} == {"r1"} and len(leader.running("braked")) == 5, 60.0)
    for one in lost:
        one.come_back()
    wait("the originals count again", lambda: {a["ID"]: a["NodeName"] for a in leader.running("braked")} == before, 90.0)
    assert not engaged()
    leader.stop_job("braked", purge=True)
