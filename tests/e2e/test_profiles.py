"""Each shipped profile against outages of a machine: what its grace covers moves nothing, and nothing on the machine
itself is ever stopped.

DROVER_TEST_OUTAGES="5 40 240" runs the long ones (20 minutes); CI runs the shortest.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import configs
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, is_alive, marking_job, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.timeout(900)]

PROFILES = {"default": 10, "good-network": 60, "five-sites": 300}  # the grace in seconds
OUTAGES_S = [float(text) for text in os.environ.get("DROVER_TEST_OUTAGES", "5").split()]


@dataclass(frozen=True)
class Pair:
    leader: Drover
    far: Drover
    consul: ConsulServer
    grace_s: float

    def placed(self) -> dict[str, str]:
        return {a["ID"]: a["NodeName"] for a in self.leader.running("web")}


@pytest.fixture(params=PROFILES)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A leader with the profile, and two machines of which one has an outage."""
    text = (Path(configs.__file__).parent / "profiles" / f"{request.param}.hcl").read_text()
    body = text[text.index("server {") + len("server {") : text.rindex("}")]
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        near, far = (stack.enter_context(ConsulServer.client(server, node_name=n)) for n in ("near", "far"))
        leader = stack.enter_context(Drover(server, name="leader", client=False, server_settings=body))
        stack.enter_context(Drover(near, name="near", server=False))
        two = stack.enter_context(Drover(far, name="far", server=False))
        leader.wait_ready(2)
        yield Pair(leader, two, far, PROFILES[request.param])


@pytest.mark.parametrize("outage_s", OUTAGES_S)
def test_an_outage_moves_nothing_that_the_grace_covers_and_stops_nothing_on_the_machine(pair: Pair, outage_s: float) -> None:
    pair.leader.submit(marking_job("web", count=4))
    pair.leader.wait_running("web", 4)
    before = pair.placed()
    there = [alloc for alloc, name in before.items() if name == "far"]
    assert there, "placement put nothing on the second machine"
    pids = wait("the task files", lambda: (p := {a: pair.far.pids(a) for a in there}) and all(p.values()) and p)
    pair.consul.pause()
    os.kill(pair.far.pid, signal.SIGSTOP)
    try:
        if outage_s <= pair.grace_s:
            stays("nothing moves within the grace", lambda: pair.placed() == before, outage_s)
        else:
            stays("its tasks run on", lambda: all(is_alive(p[0]) for p in pids.values()), outage_s)
    finally:
        pair.consul.resume()
        os.kill(pair.far.pid, signal.SIGCONT)
    wait("the originals count again", lambda: pair.placed() == before, 120.0)
    stays("and stay", lambda: pair.placed() == before, 2.0)
    assert {a: pair.far.pids(a) for a in there} == pids
    assert all(is_alive(pid) for of_one in pids.values() for pid in of_one)
