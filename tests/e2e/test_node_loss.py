"""A machine that goes silent: its work is replaced after the grace, and sorted out when it returns."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, is_alive, marking_job, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

GRACE = 'heartbeat_grace = "2s"'


@pytest.fixture
def fleet() -> Iterator[tuple[Drover, Drover, Drover, ConsulServer]]:
    """A leader, two nodes, and the second node's own Consul agent."""
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        near, far = (stack.enter_context(ConsulServer.client(server, node_name=n)) for n in ("near", "far"))
        leader = stack.enter_context(Drover(server, name="leader", client=False, server_settings=GRACE))
        one = stack.enter_context(Drover(near, name="near", server=False))
        two = stack.enter_context(Drover(far, name="far", server=False))
        leader.wait_ready(2)
        yield leader, one, two, far


def on(leader: Drover, name: str) -> list[dict[str, object]]:
    return [a for a in leader.running("web") if a["NodeName"] == name]


def test_a_silent_machine_keeps_its_tasks_and_gives_up_the_stand_ins_when_it_is_back(
    fleet: tuple[Drover, Drover, Drover, ConsulServer],
) -> None:
    leader, _, two, far = fleet
    leader.submit(marking_job("web", count=4))
    leader.wait_running("web", 4)
    before = wait(
        "the task files", lambda: (p := {a["ID"]: two.pids(a["ID"]) for a in on(leader, "far")}) and all(p.values()) and p
    )
    assert before, "placement put nothing on the second node"
    # The machine hangs: nothing of it answers, but nothing of it ends.
    far.pause()
    os.kill(two.pid, signal.SIGSTOP)
    try:
        wait("its work runs elsewhere", lambda: len(on(leader, "near")) == 4, 60.0)
        nodes = {n["Name"]: n["Status"] for n in leader.get("/v1/nodes")}
        assert nodes == {"near": "ready", "far": "down"}
        assert {a["ClientStatus"] for a in leader.allocs("web") if a["ID"] in before} == {"lost"}
    finally:
        far.resume()
        os.kill(two.pid, signal.SIGCONT)
    wait("the originals count again", lambda: {a["ID"] for a in on(leader, "far")} == set(before), 60.0)
    leader.wait_running("web", 4)
    stays("nothing of theirs was touched", lambda: {a: two.pids(a) for a in before} == before, 2.0)
    assert all(is_alive(pid) for pids in before.values() for pid in pids)


def test_a_short_silence_moves_and_restarts_nothing(fleet: tuple[Drover, Drover, Drover, ConsulServer]) -> None:
    leader, _, two, far = fleet
    leader.submit(marking_job("web", count=4))
    have = {a["ID"] for a in leader.wait_running("web", 4)}
    far.pause()
    os.kill(two.pid, signal.SIGSTOP)
    stays("everything counts on", lambda: {a["ID"] for a in leader.running("web")} == have, 3.0)
    far.resume()
    os.kill(two.pid, signal.SIGCONT)
    stays("nothing is moved afterwards", lambda: {a["ID"] for a in leader.running("web")} == have, 5.0)


def test_a_dead_drover_on_a_live_machine_keeps_its_work(
    fleet: tuple[Drover, Drover, Drover, ConsulServer],
) -> None:
    leader, _, two, _ = fleet
    leader.submit(marking_job("web", count=4))
    have = {a["ID"] for a in leader.wait_running("web", 4)}
    two.kill()
    # Its check lapses after 10 s, and the grace would be over 2 s later.
    stays("its tasks count while gossip hears the machine", lambda: {a["ID"] for a in leader.running("web")} == have, 16.0)
    two.start()
    stays("and afterwards", lambda: {a["ID"] for a in leader.running("web")} == have, 3.0)


def test_what_was_placed_where_nobody_answers_any_more_soon_runs_elsewhere(
    fleet: tuple[Drover, Drover, Drover, ConsulServer],
) -> None:
    leader, _, two, _ = fleet
    two.kill()
    leader.submit(marking_job("web", count=4))
    assert {a["NodeName"] for a in wait("placements", lambda: leader.allocs("web"))} == {"near", "far"}
    wait("all of it runs", lambda: len(on(leader, "near")) == 4, 60.0)
    (far,) = (n for n in leader.get("/v1/nodes") if n["Name"] == "far")
    assert (far["Status"], far["StatusDescription"]) == ("disconnected", "Agent is down, its tasks run on")
    two.start()
    wait("the others are seen to have never begun", lambda: {
        a["ClientStatus"] for a in leader.allocs("web") if a["NodeName"] == "far"
    } == {"lost"}, 60.0)
    stays("and nothing of it begins", lambda: len(leader.running("web")) == 4, 2.0)


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_the_next_leader_places_nothing_where_the_last_one_was(how: str) -> None:
    """Both are servers and clients; the job is submitted as soon as the second one leads."""
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        far = stack.enter_context(ConsulServer.client(server, node_name="far"))
        first = stack.enter_context(Drover(server, name="first"))
        second = stack.enter_context(Drover(far, name="second"))
        second.wait_ready(2)
        getattr(first, how)()
        wait("the second one leads", lambda: submitted(second), 30.0)
        allocs = wait("placements", lambda: second.allocs("web"))
        assert {a["NodeName"] for a in allocs} == {"second"}
        second.wait_running("web", 4)


def submitted(leader: Drover) -> bool:
    with suppress(OSError):
        leader.submit(marking_job("web", count=4))
        return True
    return False
