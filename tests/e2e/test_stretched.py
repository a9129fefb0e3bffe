"""One Consul datacenter over three sites, each with a Consul server, a candidate and a virtual datacenter of its own: a
site goes whole, as when its power fails."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, is_alive, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

SITES = ("north", "west", "south")


@dataclass(frozen=True, slots=True)
class Site:
    consul: ConsulServer
    drover: Drover

    def fail(self) -> None:
        """Everything of it at once, its tasks too."""
        self.consul.stop(kill=True)
        self.drover.kill()
        for pid in self.drover.task_pids():
            os.kill(pid, signal.SIGKILL)


@contextmanager
def stretched() -> Iterator[dict[str, Site]]:
    with ExitStack() as stack:
        servers: list[ConsulServer] = []
        for number, name in enumerate(SITES, 31):
            server = ConsulServer(node_name=name, servers=3, join=tuple(servers), address=f"127.0.{number}.1")
            stack.callback(server.close)
            servers.append(server)
        or_skip(lambda: [server.start(wait=False) for server in servers])
        for server in servers:
            server.wait_ready()
        sites = {}
        for name, server in zip(SITES, servers, strict=True):
            settings = f'client {{ virtual_datacenter = "{name}" }}'
            sites[name] = Site(server, stack.enter_context(Drover(server, name=name, settings=settings)))
        sites["north"].drover.wait_ready(3)
        yield sites


def leads(drover: Drover) -> str:
    """The site whose candidate leads."""
    found = drover.get("/v1/operator/lock")["Leader"]
    return str(found["Name"]) if found else ""


def work() -> dict[str, Any]:
    """Two in each site; one of a site that is lost is replaced elsewhere."""
    document = marking_job("web", count=6, job={"Datacenters": [*SITES]})
    document["Spreads"] = [{"Attribute": "${node.virtual_datacenter}", "Weight": 100}]
    return document


@pytest.mark.parametrize("takes_consuls_leader", [False, True], ids=["Consul's leader elsewhere", "Consul's leader too"])
def test_a_site_with_the_leader_goes_whole_and_work_moves(takes_consuls_leader: bool) -> None:
    with stretched() as sites:
        some = sites["north"]
        at = some.consul.call("GET", "/v1/status/leader")[1].partition(":")[0]
        raft = next(name for name, site in sites.items() if site.consul.address == at)
        wanted = raft if takes_consuls_leader else next(name for name in SITES if name != raft)
        while leads(some.drover) != wanted:
            before = leads(some.drover)
            assert sites[before].drover.run("leader", "step-down").returncode == 0
            wait("another leads", lambda was=before: leads(some.drover) not in ("", was))  # type: ignore[misc]
        some.drover.submit(work())
        wait("two in each site", lambda: sorted(a["NodeName"] for a in some.drover.running("web")) == sorted(SITES * 2))
        left = {name: site for name, site in sites.items() if name != wanted}
        any_left = next(iter(left.values())).drover
        pids = {a["ID"]: left[a["NodeName"]].drover.pids(a["ID"]) for a in any_left.running("web") if a["NodeName"] in left}
        epoch = any_left.get("/v1/operator/lock")["Leader"]["Epoch"]

        sites[wanted].fail()
        since = time.monotonic()

        def successor() -> str:
            found = any_left.get("/v1/operator/lock")["Leader"]
            return str(found["Name"]) if found and found["Epoch"] > epoch else ""

        assert wait("a new leader", successor, 60.0) in left
        led_s = time.monotonic() - since
        wait(
            "all six in the two sites that are left",
            lambda: [a["NodeName"] in left for a in any_left.running("web")] == [True] * 6,
            120.0,
        )
        print(f"a new leader after {led_s:.1f} s, the work elsewhere after {time.monotonic() - since:.1f} s")
        assert any("its lock is freed" in site.drover.log for site in left.values())
        for alloc_id, of in pids.items():
            home = next(site.drover for site in left.values() if (site.drover.data_dir / "alloc" / alloc_id).exists())
            assert home.pids(alloc_id) == of
            assert is_alive(of[-1])
