"""What a caller gets when nobody leads, when the leader changes under a call, and when Consul forgets the leader."""

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.http import Asked, ask
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture(scope="module")
def own() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


def consul_call(own: ConsulServer, method: str, path: str) -> bytes:
    connection = http.client.HTTPConnection(own.http_addr, timeout=10)
    try:
        connection.request(method, path)
        return connection.getresponse().read()
    finally:
        connection.close()


def depose(own: ConsulServer) -> None:
    """Consul takes the lock away, as after a lapse of the leader's check."""
    session = json.loads(consul_call(own, "GET", "/v1/kv/drover/state/leader"))[0]["Session"]
    assert consul_call(own, "PUT", f"/v1/session/destroy/{session}") == b"true"


def leader(*drovers: Drover) -> Drover:
    """The one of them that leads; one that was killed before them is still named until its check lapses."""

    def look() -> Drover | None:
        address = drovers[0].get("/v1/status/leader")
        return next((drover for drover in drovers if drover.address == address), None)

    return wait("a leader", look)


def test_without_any_leader_calls_about_state_say_so_and_the_agents_own_are_answered(own: ConsulServer) -> None:
    with Drover(own, server=False) as alone:
        asked = [
            Asked(alone.address, "GET", "/v1/jobs"),
            Asked(alone.address, "GET", "/v1/node/x"),
            Asked(alone.address, "PUT", "/v1/jobs", body={"Job": marking_job("x")}),
            Asked(alone.address, "DELETE", "/v1/job/x"),
            Asked(alone.address, "GET", "/v1/client/allocation/x/stats"),
            Asked(alone.address, "PUT", "/v1/system/gc"),
        ]
        assert ask(alone.address, "GET", "/v1/agent/health").json == {"client": {"ok": True, "message": "ok"}}
        assert ask(alone.address, "GET", "/v1/status/leader").json == ""
        assert ask(alone.address, "GET", "/v1/agent/members").json["Members"] == []
        assert ask(alone.address, "PUT", "/v1/validate/job", body={"Job": marking_job("x")}).status == 200
        for call in asked:
            reply = call.reply(10.0)
            assert reply.error == (500, "No cluster leader")
            assert reply.state == {}
        assert "Traceback" not in alone.log


def test_who_waits_when_the_leader_changes_goes_on_waiting_under_the_next(own: ConsulServer) -> None:
    with ExitStack() as stack:
        drovers = [stack.enter_context(Drover(own, name=name, client=False)) for name in ("a", "b")]
        client = stack.enter_context(Drover(own, name="c", server=False))
        first = leader(*drovers)
        client.wait_ready()
        client.submit(marking_job("web", count=0))
        highest = {}
        for round_ in range(2):
            for drover in (*drovers, client):
                index = ask(drover.address, "GET", "/v1/job/web").index
                assert index >= highest.get(drover.name, 0)
                highest[drover.name] = index
            calls = [
                Asked(drover.address, "GET", f"/v1/job/web?index={highest[drover.name] + 1000}&wait=60s")
                for drover in (*drovers, client)
            ]
            missing = Asked(client.address, "GET", f"/v1/job/other-{round_}?index={highest['c']}&wait=60s")
            depose(own)
            wait("a leader again", lambda: client.get("/v1/jobs"))
            leader(*drovers)
            client.submit(marking_job(f"other-{round_}", count=0))
            # The take-over itself may wake a call: then its answer is the next leader's, at a higher index.
            reply = missing.reply(10.0)
            assert reply.index > highest["c"]
            assert reply.status in (200, 404)
            assert not any(call.is_answered for call in calls)
        assert first.get("/v1/status/leader")
        for drover in (*drovers, client):
            assert "Traceback" not in drover.log


def test_a_leader_that_hands_over_under_a_forwarded_call_is_no_error(own: ConsulServer) -> None:
    with ExitStack() as stack:
        drovers = [stack.enter_context(Drover(own, name=name, client=False)) for name in ("d", "e")]
        asked_of = stack.enter_context(Drover(own, name="f", server=False))
        first = leader(*drovers)
        other = next(drover for drover in drovers if drover is not first)
        index = ask(asked_of.address, "GET", "/v1/jobs").index
        assert first.terminate() == 0
        assert ask(asked_of.address, "GET", "/v1/jobs").index >= index
        assert ask(asked_of.address, "PUT", "/v1/jobs", body={"Job": marking_job("y", count=0)}).status == 200
        assert asked_of.get("/v1/status/leader") == other.address


def connections(drover: Drover) -> int:
    """How many sockets the process holds."""
    found = 0
    for fd in Path(f"/proc/{drover.pid}/fd").iterdir():
        try:
            found += os.readlink(fd).startswith("socket:")
        except FileNotFoundError:
            continue
    return found


def test_calls_passed_on_to_a_leader_that_froze_go_to_the_next_and_a_write_is_not_left_hanging(own: ConsulServer) -> None:
    with ExitStack() as stack:
        drovers = [stack.enter_context(Drover(own, name=name, client=False)) for name in ("g", "h")]
        asked_of = stack.enter_context(Drover(own, name="i", server=False))
        frozen = leader(*drovers)
        next_ = next(drover for drover in drovers if drover is not frozen)
        asked_of.submit(marking_job("kept", count=0))
        waiting = Asked(next_.address, "GET", f"/v1/job/kept?index={ask(next_.address, 'GET', '/v1/job/kept').index + 1000}&wait=60s")
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            reads = [Asked(drover.address, "GET", "/v1/job/kept") for drover in (asked_of, next_)]
            logs = Asked(asked_of.address, "GET", "/v1/client/allocation/none/stats")
            writes = [Asked(drover.address, "PUT", "/v1/jobs", body={"Job": marking_job("new", count=0)}) for drover in (asked_of, next_)]
            for read in reads:
                assert read.reply(15.0).json["ID"] == "kept"
            assert logs.reply(15.0).error == (404, 'Unknown allocation "none"')
            for write in writes:
                assert write.reply(15.0).error == (
                    500,
                    "the leader changed while the call was under way: it may or may not have happened, look and try again",
                )
            assert not waiting.is_answered
            assert asked_of.submit(marking_job("new", count=0))["EvalID"]
            assert asked_of.get("/v1/status/leader") == next_.address
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        for drover in (asked_of, next_):
            assert "Traceback" not in drover.log


def test_a_write_whose_leader_dies_under_it_is_told_as_unclear(own: ConsulServer) -> None:
    with ExitStack() as stack:
        dying = stack.enter_context(Drover(own, name="m", client=False))
        asked_of = stack.enter_context(Drover(own, name="n", server=False))
        leader(dying)
        asked_of.submit(marking_job("before", count=0))  # from now on there is a connection that is kept
        os.kill(dying.pid, signal.SIGSTOP)
        write = Asked(asked_of.address, "PUT", "/v1/jobs", body={"Job": marking_job("unclear", count=0)})
        wait("it was passed on", lambda: unread_bytes(dying))
        dying.kill()
        assert write.reply(15.0).error == (
            500,
            "the leader changed while the call was under way: it may or may not have happened, look and try again",
        )
        assert "Traceback" not in asked_of.log


def unread_bytes(drover: Drover) -> int:
    """What waits on the connections to its API: columns as in proc(5), local address and receive queue."""
    port = f":{int(drover.address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].partition(":")[2], 16) for row in rows if row[1].endswith(port) and row[3] == "01")


def test_many_waiting_calls_through_one_agent_hinder_no_other_and_leave_nothing_behind(own: ConsulServer) -> None:
    with ExitStack() as stack:
        drover = stack.enter_context(Drover(own, name="j", client=False))
        asked_of = stack.enter_context(Drover(own, name="k", server=False))
        wait("a leader", lambda: drover.get("/v1/status/leader") == drover.address)
        index = ask(asked_of.address, "GET", "/v1/jobs").index
        before = connections(asked_of), connections(drover)
        host, _, port = asked_of.address.partition(":")
        clients = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(150)]
        for client in clients:
            client.sendall(f"GET /v1/jobs?index={index + 1000}&wait=300s HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        wait("all are passed on", lambda: connections(drover) >= before[1] + 140)  # some come over pooled connections
        assert ask(asked_of.address, "GET", "/v1/jobs").took_s < 3.0
        for client in clients:
            client.close()
        # What is left are pooled connections to Consul.
        wait("all are gone", lambda: connections(asked_of) <= before[0] + 50 and connections(drover) <= before[1] + 5)
        assert "Traceback" not in asked_of.log
