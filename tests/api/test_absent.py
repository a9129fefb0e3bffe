"""What Nomad has and drover has not: each path answers in Nomad's words or says why not. And what is about candidates,
where Nomad has servers."""

import os
import signal
from collections.abc import Iterator

import pytest

from api.routes import ABSENT
from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("number", range(len(ABSENT)))
def test_what_there_is_not_answers_in_words(number: int, one: Drover, two: Drover) -> None:
    route = ABSENT[number]
    path = route.template.replace("{id}", "x")
    for drover in (one, two):
        for method in {each.method for each in route.registered()}:
            reply = ask(drover.address, method, path, body={} if method != "GET" else None)
            if path in ("/v1/volumes", "/v1/plugins"):
                assert (reply.status, reply.json, reply.index > 0) == (200, [], True)
            elif route.text.startswith("501"):
                assert reply.error == (501, "Nomad Enterprise only endpoint")
            elif method == "GET" and "csi" in path:
                assert reply.error == (404, f"{path.split('/')[2]} not found")
            else:
                status, words = reply.error
                assert (status in (404, 409), " " in words) == (True, True)


def test_the_root_leads_to_the_web_ui(one: Drover) -> None:
    reply = ask(one.address, "GET", "/")
    assert (reply.status, reply.headers["Location"]) == (307, "/ui/")


def test_candidates_are_told_as_peers(one: Drover, two: Drover) -> None:
    for drover in (one, two):
        (peer,) = ask(drover.address, "GET", "/v1/operator/raft/configuration").json["Servers"]
        assert (peer["Node"], peer["Address"], peer["Leader"], peer["Voter"]) == ("one.global", one.address, True, True)
        health = ask(drover.address, "GET", "/v1/operator/autopilot/health")
        assert (health.status, health.json["Healthy"], health.json["FailureTolerance"]) == (200, True, 0)
        assert ask(drover.address, "DELETE", f"/v1/operator/raft/peer?id={peer['ID']}").status == 409
        assert ask(drover.address, "PUT", "/v1/operator/autopilot/configuration", body={}).status == 409
        license_ = ask(drover.address, "GET", "/v1/operator/license")
        assert (license_.status, license_.body) == (204, b"")


def test_joining_and_reconciling_do_nothing_and_are_no_errors(one: Drover, two: Drover) -> None:
    for drover in (one, two):
        joined = ask(drover.address, "PUT", "/v1/agent/join?address=10.0.0.1")
        assert (joined.status, joined.json["num_joined"], bool(joined.json["error"])) == (200, 0, True)
        done = ask(drover.address, "PUT", "/v1/system/reconcile/summaries")
        assert (done.status, done.body) == (200, b"")
        assert ask(drover.address, "POST", "/v1/system/reconcile/summaries").status == 405
        unblocked = ask(drover.address, "PUT", f"/v1/deployment/unblock/{UNKNOWN}", body={})
        assert unblocked.error == (404, "deployment not found")


@pytest.mark.usefixtures("clean")
def test_a_node_is_evaluated(one: Drover, two: Drover) -> None:
    one.submit(marking_job("here"))
    (alloc,) = one.wait_running("here", 1)
    reply = ask(two.address, "PUT", f"/v1/node/{alloc['NodeID']}/evaluate")
    assert (reply.status, len(reply.json["EvalIDs"])) == (200, 1)
    assert one.get(f"/v1/evaluation/{reply.json['EvalIDs'][0]}")["JobID"] == "here"
    assert ask(two.address, "PUT", f"/v1/node/{UNKNOWN}/evaluate").error == (404, "node not found")


@pytest.fixture
def own() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


def test_health_is_bad_without_consul_and_of_what_was_asked_for(own: ConsulServer) -> None:
    with Drover(own, name="well") as drover:
        drover.wait_ready()
        well = {"ok": True, "message": "ok"}
        assert ask(drover.address, "GET", "/v1/agent/health").json == {"client": well, "server": well}
        assert ask(drover.address, "GET", "/v1/agent/health?type=client").json == {"client": well}
        assert ask(drover.address, "GET", "/v1/agent/health?type=server").json == {"server": well}
        assert drover.get("/v1/agent/self")["stats"]["client"]["heartbeat_ttl"].endswith("s")
        os.kill(own.pid, signal.SIGSTOP)
        try:
            reply = wait("it is told", lambda: (r := ask(drover.address, "GET", "/v1/agent/health")).status == 500 and r)
            assert reply.json["client"] == {"ok": False, "message": "Consul does not answer"}
            assert ask(drover.address, "GET", "/v1/regions").json == ["global"]
            assert ask(drover.address, "GET", "/v1/agent/self").json["stats"]["client"]["node_id"]
        finally:
            os.kill(own.pid, signal.SIGCONT)
        wait("it is well again", lambda: ask(drover.address, "GET", "/v1/agent/health").status == 200)


def test_a_candidate_that_is_gone_can_be_forgotten_and_one_that_lives_cannot(own: ConsulServer) -> None:
    with Drover(own, name="stays") as stays, Drover(own, name="goes", client=False) as goes:
        wait("both", lambda: len(stays.get("/v1/agent/members")["Members"]) == 2)
        assert ask(stays.address, "PUT", "/v1/agent/force-leave?node=goes").status == 409
        goes.kill()
        wait("it fails", lambda: [m["Status"] for m in stays.get("/v1/agent/members")["Members"] if m["Name"] == "goes.global"] == ["failed"])
        for name in ("goes.global", "nobody"):
            left = ask(stays.address, "PUT", f"/v1/agent/force-leave?node={name}")
            assert (left.status, left.body) == (200, b"")
        wait("it is forgotten", lambda: [m["Name"] for m in stays.get("/v1/agent/members")["Members"]] == ["stays.global"])


def test_only_candidates_that_consul_knows_can_be_set_as_servers(one: Drover, two: Drover) -> None:
    for drover in (one, two):
        assert ask(drover.address, "PUT", "/v1/agent/servers").error == (400, "missing server address")
        assert ask(drover.address, "PUT", f"/v1/agent/servers?address={one.address}").status == 200
        refused = ask(drover.address, "PUT", f"/v1/agent/servers?address={one.address}&address=10.0.0.1:4647")
        assert refused.error == (400, "10.0.0.1:4647: no leader candidate; agents find those in Consul, they are not set")
