"""Who may lead is an operator's to say at run time, and a lock whose holder is gone can be broken."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, call, is_alive, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture
def pair() -> Iterator[tuple[Drover, Drover]]:
    """A candidate that is a node too, and an ordinary agent."""
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        other = stack.enter_context(ConsulServer.client(server, node_name="other"))
        one = stack.enter_context(Drover(server, name="one"))
        two = stack.enter_context(Drover(other, name="two", server=False))
        one.wait_ready(2)
        yield one, two


def leader(any_agent: Drover) -> str:
    found = any_agent.get("/v1/operator/lock")["Leader"]
    return str(found["Name"]) if found else ""


def members(any_agent: Drover) -> set[str]:
    return {m["Name"] for m in any_agent.get("/v1/agent/members")["Members"] if m["Status"] == "alive"}


def test_an_ordinary_agent_becomes_a_candidate_leads_and_goes_back(pair: tuple[Drover, Drover]) -> None:
    one, two = pair
    one.submit(marking_job("web", count=2))
    before = {a["ID"] for a in one.wait_running("web", 2)}
    alone = one.run("leader", "step-down")
    assert (alone.returncode, "no other candidate" in alone.stderr) == (1, True)
    last = one.run("server", "demote", "one")
    assert (last.returncode, "it is the last candidate" in last.stderr) == (1, True)
    assert one.run("server", "promote", "two").returncode == 0
    wait("it is a candidate", lambda: members(one) == {"one.global", "two.global"})
    done = one.run("leader", "step-down")
    assert (done.returncode, "two leads now" in done.stdout) == (0, True), done.stderr
    assert one.run("server", "demote", "one").returncode == 0
    wait("it is none any more", lambda: members(two) == {"two.global"})
    # What was said outlives the process, whatever its configuration.
    one.terminate()
    one.start()
    two.terminate()
    two.start()
    wait("the promoted one leads again", lambda: leader(two) == "two")
    assert members(two) == {"two.global"}
    assert {a["ID"] for a in two.wait_running("web", 2)} == before
    assert one.run("server", "promote", "one").returncode == 0
    wait("it is a candidate again", lambda: members(two) == {"one.global", "two.global"})
    assert one.run("server", "demote", "two").returncode == 0
    wait("the leader that was demoted handed over", lambda: leader(two) == "one")
    unknown = one.run("server", "promote", "nobody")
    assert (unknown.returncode, "no agent has the name" in unknown.stderr) == (1, True)


def test_a_lock_whose_holder_is_gone_is_broken_and_nothing_else(pair: tuple[Drover, Drover]) -> None:
    one, two = pair
    one.submit(marking_job("web"))
    (alloc,) = one.wait_running("web", 1)
    home = one if alloc["NodeName"] == "one" else two
    pids = wait("its process", lambda: home.pids(alloc["ID"]))
    answers = two.run("operator", "break-lock", "-yes")
    assert (answers.returncode, "the holder answers" in answers.stderr) == (1, True)
    # A session that nothing ends: no check, no TTL. Its holder names an address where nobody is.
    consul = one.consul.http_addr
    one.kill()
    session = call(consul, "PUT", "/v1/session/create", {"Name": "left over", "Checks": [], "LockDelay": "0s"})["ID"]
    value = {"NodeID": "gone", "Name": "gone", "HTTPAddr": "127.0.0.1:9", "Epoch": 1, "Since": 1, "Nonce": "n"}
    wait("the lock is theirs", lambda: call(consul, "PUT", f"/v1/kv/drover/state/leader?acquire={session}", value), 30.0)
    unasked = two.run("operator", "break-lock")
    assert (unasked.returncode, "has to be confirmed" in unasked.stderr) == (1, True)
    done = two.run("operator", "break-lock", "-yes")
    assert (done.returncode, "The lock is broken" in done.stdout) == (0, True), done.stderr
    one.start()
    wait("a candidate leads", lambda: leader(two) == "one", 30.0)
    assert home.pids(alloc["ID"]) == pids
    assert is_alive(pids[0])
