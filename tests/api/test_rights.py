"""Who may call: what Consul is asked, what it costs, what a stolen token cannot do, and what holds without ACLs."""

import asyncio
import contextlib
import http.client
import ipaddress
import json
import time
from collections.abc import Mapping
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from api.rights import Forbidden, Rights, is_privileged, service_names
from api.routes import ROUTES, Right
from catalog.keys import Keys
from catalog.rights import Authority, Mode, Question, UnknownToken
from catalog.transport import Endpoint, HttpTransport, Response
from configs import Acl
from jobspec import canonicalize
from model.errors import StoreUnavailable
from model.job import JobId, Namespace
from model.node import NodeId
from model.secret import Secret
from tests.api.conftest import Guarded
from tests.api.http import ask
from tests.api.policies import policy
from tests.components.consul import MANAGEMENT, ConsulServer
from tests.e2e.drover import Drover, job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

UNKNOWN = "99999999-2222-4333-8444-555555555555"


class Counted:
    """A real transport, and which calls went through it."""

    def __init__(self, consul: ConsulServer, *, has_endpoint: bool = True) -> None:
        self.inner = HttpTransport(Endpoint(address=consul.http_addr))
        self.paths: list[str] = []
        self.has_endpoint = has_endpoint

    async def request(self, method: str, path: str, **how: Any) -> Response:
        if not self.has_endpoint:
            path = path.replace("/v1/internal/acl/authorize", "/v1/internal/acl/no-such-endpoint")
        self.paths.append(path)
        return await self.inner.request(method, path, **how)

    async def close(self) -> None:
        await self.inner.close()


def _authority(transport: Any) -> Authority:
    return Authority(transport=transport, datacenter="", root="drover", now_s=time.monotonic)


def _jobs(count: int, access: str = "read") -> list[Question]:
    return [Question("key", f"drover/jobs/default/job-{n}", access) for n in range(count)]


async def test_a_thousand_jobs_cost_sixteen_questions_once(guarded: Guarded) -> None:
    transport = Counted(guarded.consul)
    authority = _authority(transport)
    try:
        assert await authority.find_mode() is Mode.ASKS
        transport.paths.clear()
        assert await authority.allowed(Secret(guarded.tokens["read-only"]), _jobs(1000)) == set(_jobs(1000))
        assert len(transport.paths) == 16
        assert await authority.allowed(Secret(guarded.tokens["read-only"]), _jobs(1000)) == set(_jobs(1000))
        assert len(transport.paths) == 16
        assert await authority.allowed(Secret(guarded.tokens["agent"]), _jobs(2)) == set()
    finally:
        await authority.close()


async def test_who_may_write_a_namespace_is_found_out_by_one_question(guarded: Guarded) -> None:
    transport = Counted(guarded.consul)
    authority = _authority(transport)
    rights = _rights(authority)
    keys = [(Namespace("default"), JobId(f"job-{n}")) for n in range(1000)]
    try:
        await authority.find_mode()
        transport.paths.clear()
        sees = await rights.readable(_request(token=guarded.tokens["operator"]), keys)
        assert all(map(sees, keys))
        assert not sees((Namespace("other"), JobId("job-1")))
        assert len(transport.paths) == 1
    finally:
        await authority.close()


@pytest.mark.parametrize("role", ["anonymous", "read-only", "submitter", "operator", "agent"])
async def test_without_the_endpoint_keys_tell_the_same(guarded: Guarded, role: str) -> None:
    questions = [
        *_jobs(70),
        *_jobs(70, "write"),
        Question("key", "drover/jobs/other/a", "read"),
        Question("key", "drover/jobs/other/a", "write"),
        Question("key", "drover/exec/default/a", "write"),
        Question("key", f"drover/state/observed/{guarded.two.node_id}/", "write"),
    ]
    asks, by_keys = _authority(Counted(guarded.consul)), _authority(Counted(guarded.consul, has_endpoint=False))
    token = Secret(guarded.tokens[role])
    before = guarded.consul.call("GET", "/v1/kv/?keys")
    try:
        assert (await asks.find_mode(), await by_keys.find_mode()) == (Mode.ASKS, Mode.BY_KEYS)
        assert await by_keys.allowed(token, questions) == await asks.allowed(token, questions)
        with pytest.raises(UnknownToken):
            await by_keys.allowed(Secret(UNKNOWN), questions)
    finally:
        await asks.close()
        await by_keys.close()
    assert {key for key in guarded.consul.call("GET", "/v1/kv/?keys")[1] if "/state/" not in key} == {
        key for key in before[1] if "/state/" not in key
    }


async def test_without_the_endpoint_other_rights_are_keys_too(guarded: Guarded) -> None:
    rules = 'key_prefix "drover/rights/service/web" { policy = "write" } key "drover/rights/node/n1" { policy = "read" }'
    token = Secret(guarded.consul.make_token("by-keys", rules))
    authority = _authority(Counted(guarded.consul, has_endpoint=False))
    allowed = [Question("service", "web-1", "write"), Question("node", "n1", "read")]
    refused = [Question("service", "db", "write"), Question("node", "n1", "write"), Question("operator", "", "read")]
    try:
        await authority.find_mode()
        assert await authority.allowed(token, [*allowed, *refused]) == set(allowed)
    finally:
        await authority.close()


async def test_a_consul_that_is_away_is_no_yes() -> None:
    authority = _authority(HttpTransport(Endpoint(address="127.0.0.1:1")))
    try:
        with pytest.raises(StoreUnavailable):
            await _rights(authority).require(_request(), Right.JOB_READ, None, None)
    finally:
        await authority.close()


@pytest.mark.parametrize("role", ["submitter", "agent", "read-only", "operator"])
def test_a_token_alone_brings_no_work_onto_a_node(guarded: Guarded, role: str) -> None:
    """Each key by which something would come to run, written straight into Consul."""
    own, other, alloc = guarded.two.node_id, guarded.one.node_id, "66666666-0000-4000-8000-000000000000"
    keys = [
        *(f"drover/state/desired/{node}/{alloc}" for node in (own, other)),
        f"drover/state/observed/{other}/{alloc}",
        f"drover/state/nodes/{other}",
        f"drover/state/inbox/{other}",
        *(f"drover/state/control/{node}" for node in (own, other)),
        *(f"drover/state/{name}" for name in ("leader", "epoch", "scheduler", "brake", "index_base", "restoring")),
        "drover/state/jobs/default/forged",
        "drover/state/versions/default/forged/0",
        f"drover/state/evals/{alloc}",
    ]
    token = guarded.tokens[role]
    for key in keys:
        for verb in ("set", "delete"):
            status, answer = guarded.consul.call("PUT", "/v1/txn", [{"KV": {"Verb": verb, "Key": key, "Value": "e30="}}], token=token)
            assert (status, "Permission denied" in str(answer)) == (409, True), (key, verb, answer)
        assert guarded.consul.call("PUT", f"/v1/kv/{key}", "x", token=token)[0] == 403, key


def test_every_route_is_closed_to_whoever_has_no_right(guarded: Guarded) -> None:
    alloc = guarded.alloc("web-used")
    names = {"allocation": alloc, "client": alloc, "node": guarded.two.node_id, "job": "web-used"}
    names["evaluation"] = guarded.one.alloc(alloc)["EvalID"]
    names |= {"deployment": UNKNOWN, "namespace": "default"}
    body = {"Job": job("web-used", "/bin/true", []), "Prefix": "", "Text": "web"}
    seen = set()
    for route in ROUTES:
        if route.right is Right.NONE or route.path == "/v1/event/stream":
            continue
        kind = route.template.removeprefix("/v1/").partition("/")[0]
        path = route.template.replace("{id}", names.get(kind, "x"))
        for address in (guarded.one.address, guarded.two.address):
            reply = ask(address, route.method.removesuffix("!"), path, body=None if route.method == "GET" else body)
            if route.right is Right.JOB_LIST and path.startswith("/v1/search"):
                assert not any(reply.json["Matches"].values()), path
            elif path in ("/v1/ui/pulse", "/v1/ui/may"):  # of no job: who leads, and that the caller may do nothing
                assert not any(value is True for name, value in reply.json.items() if name != "ACL"), path
            elif path == "/v1/ui/overview":
                assert (reply.json["Jobs"], reply.json["Failing"], reply.json["Rolling"], reply.json["Nodes"], reply.json["Activity"]) == ({}, [], [], None, []), path
            elif route.right is Right.JOB_LIST and "{id}" in route.template:
                assert reply.status == 404, path
            elif route.right is Right.JOB_LIST:
                assert (reply.status, reply.json) == (200, []), path
            else:
                assert reply.error == (403, "Permission denied"), path
        seen.add(route.right)
    assert seen == set(Right) - {Right.NONE}


@pytest.mark.parametrize(
    "headers",
    [{"X-Nomad-Token": MANAGEMENT}, {"X-Consul-Token": MANAGEMENT}, {"Authorization": f"Bearer {MANAGEMENT}"}],
    ids=["nomad", "consul", "bearer"],
)
def test_a_token_comes_in_any_of_three_headers(guarded: Guarded, headers: Mapping[str, str]) -> None:
    assert ask(guarded.two.address, "GET", "/v1/job/web-used", headers=headers).status == 200


@pytest.mark.parametrize("token", [UNKNOWN, "no uuid", "ü", "x" * 600])
def test_what_is_no_token_is_told_apart_from_a_missing_right(guarded: Guarded, token: str) -> None:
    headers = {"X-Nomad-Token": token.encode().decode("latin-1")}
    assert ask(guarded.two.address, "GET", "/v1/jobs", headers=headers).error == (403, "ACL token not found")


def test_a_list_shows_what_may_be_read(guarded: Guarded) -> None:
    token = guarded.consul.make_token("one-job", 'key "drover/jobs/default/web-idle" { policy = "read" }')
    for agent in (guarded.one, guarded.two):
        headers = {"X-Nomad-Token": token}
        assert [j["ID"] for j in ask(agent.address, "GET", "/v1/jobs?namespace=*", headers=headers).json] == ["web-idle"]
        assert ask(agent.address, "GET", "/v1/allocations", headers=headers).json == []
        assert {e["JobID"] for e in ask(agent.address, "GET", "/v1/evaluations", headers=headers).json} == {"web-idle"}
        assert ask(agent.address, "GET", "/v1/job/web-idle", headers=headers).status == 200
        assert ask(agent.address, "GET", "/v1/job/web-used", headers=headers).error == (403, "Permission denied")


def test_a_nodes_allocations_are_those_of_jobs_that_may_be_read(guarded: Guarded) -> None:
    path = f"/v1/node/{guarded.two.node_id}/allocations"
    guarded.alloc("web-used")
    assert ask(guarded.one.address, "GET", path, headers={"X-Nomad-Token": guarded.tokens["agent"]}).json == []
    seen = ask(guarded.one.address, "GET", path, headers={"X-Nomad-Token": guarded.tokens["read-only"]}).json
    assert {alloc["JobID"] for alloc in seen} == {"web-used"}


def _first_events(guarded: Guarded, role: str) -> set[tuple[str, str]]:
    """(topic, namespace and job, or nothing) of what the stream replays at once."""
    connection = http.client.HTTPConnection(guarded.two.address, timeout=1.5)
    headers = {"X-Nomad-Token": guarded.tokens[role]} if guarded.tokens[role] else {}
    connection.request("GET", "/v1/event/stream?index=1&namespace=*", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    found = set()
    with contextlib.suppress(TimeoutError):
        while line := answer.readline():
            for event in json.loads(line).get("Events", ()):
                document = event["Payload"][event["Topic"]]
                found.add((event["Topic"], document.get("JobID") or document["ID"]))
    connection.close()
    return found


def test_the_event_stream_tells_of_what_may_be_read(guarded: Guarded) -> None:
    assert _first_events(guarded, "anonymous") == set()
    one_job = guarded.consul.make_token("one-stream", 'key "drover/jobs/default/web-idle" { policy = "read" }')
    guarded.tokens["one-stream"] = one_job
    assert {name for _, name in _first_events(guarded, "one-stream")} == {"web-idle"}
    topics = {topic for topic, _ in _first_events(guarded, "read-only")}
    assert {"Job", "Allocation", "Evaluation", "Node"} <= topics
    assert {topic for topic, _ in _first_events(guarded, "agent")} == {"Node"}


def test_search_finds_what_may_be_read(guarded: Guarded) -> None:
    def found(role: str) -> dict[str, list[str]]:
        headers = {"X-Nomad-Token": guarded.tokens[role]}
        matches = ask(guarded.two.address, "PUT", "/v1/search", body={"Prefix": "", "Context": "all"}, headers=headers).json["Matches"]
        return {context: ids for context, ids in matches.items() if ids}

    assert set(found("agent")) == {"nodes"}
    everything = found("read-only")
    assert "web-used" in everything["jobs"]
    assert everything["namespaces"] == ["default"]
    assert "default" not in found("agent").get("namespaces", [])


@pytest.mark.parametrize(("role", "is_allowed"), [("operator", True), ("submitter", False), ("anonymous", False)])
async def test_a_browser_sends_its_token_with_the_first_message(guarded: Guarded, role: str, is_allowed: bool) -> None:
    alloc = await asyncio.to_thread(guarded.alloc, "web-used")
    url = f"http://{guarded.one.address}/v1/client/allocation/{alloc}/exec?task=t&ws_handshake=true&command=%5B%22echo%22%2C%22hello%22%5D"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_str(json.dumps({"version": 1, "auth_token": guarded.tokens[role]}))
        said = [message.data async for message in socket if message.type is aiohttp.WSMsgType.TEXT]
        assert any("aGVsbG8K" in text for text in said) == is_allowed  # hello
        assert socket.close_code == (1000 if is_allowed else 1008)
    assert not guarded.tokens[role] or guarded.tokens[role] not in guarded.two.log


def test_an_id_with_slashes_is_one_segment(guarded: Guarded) -> None:
    token = guarded.consul.make_token("slashes", 'key "drover/jobs/default/team%2Fweb" { policy = "write" }')
    submitted = {"Job": job("team/web", "/bin/true", [], count=0, Driver="docker", Config={"image": "x"})}
    headers = {"X-Nomad-Token": token}
    assert ask(guarded.two.address, "PUT", "/v1/jobs", body=submitted, headers=headers).status == 200
    assert ask(guarded.two.address, "GET", "/v1/job/{}", "team/web", headers=headers).json["ID"] == "team/web"
    assert ask(guarded.two.address, "DELETE", "/v1/job/{}?purge=true", "team/web", headers=headers).status == 200


def test_the_jobs_own_namespace_counts_and_not_the_querys(guarded: Guarded) -> None:
    token = guarded.consul.make_token("mine", 'key_prefix "drover/jobs/mine/" { policy = "write" }')
    submitted = {"Job": job("web-forged", "/bin/true", [], count=0, Driver="docker", Config={"image": "x"})}
    reply = ask(guarded.two.address, "PUT", "/v1/job/web-forged?namespace=default", body=submitted, headers={"X-Nomad-Token": token})
    assert reply.error == (403, "Permission denied")


def test_an_agent_asks_only_for_its_own_tasks(guarded: Guarded) -> None:
    alloc = guarded.alloc("web-used")
    other = guarded.consul.make_token("other-agent", policy("agent", "88888888-0000-4000-8000-000000000000"))
    reply = ask(
        guarded.two.address, "PUT", "/v1/allocation/{}/restart-permit", alloc, body={"MaxParallel": 9}, headers={"X-Nomad-Token": other}
    )
    assert reply.error == (403, "Permission denied")


def test_the_command_tells_whose_token_it_sends(guarded: Guarded) -> None:
    shown = guarded.two.run("acl", "token", "self")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Policies    = operator-0" in shown.stdout
    assert guarded.tokens["operator"] not in shown.stdout


@pytest.mark.parametrize("path", ["/v1/acl/tokens", "/v1/acl/policies", "/v1/acl/policy/x", "/v1/acl/bootstrap"])
def test_other_acl_calls_are_told_where_to_go(guarded: Guarded, one: Drover, path: str) -> None:
    status, text = ask(guarded.one.address, "GET", path, headers={"X-Nomad-Token": MANAGEMENT}).error
    assert status == 501
    assert "kept in Consul" in text
    assert ask(one.address, "GET", path).error == (400, "ACL support disabled")
    assert ask(one.address, "GET", "/v1/acl/token/self").error == (400, "ACL support disabled")


def test_no_token_is_ever_logged(guarded: Guarded) -> None:
    """At DEBUG, after all that the tests of this package did with tokens, wrong ones included."""
    ask(guarded.two.address, "GET", "/v1/jobs", headers={"X-Nomad-Token": UNKNOWN})
    for text in (guarded.one.log, guarded.two.log):
        secrets = [*guarded.tokens.values(), guarded.one.own_token, guarded.two.own_token, UNKNOWN]
        assert [secret for secret in secrets if secret and secret in text] == []


def test_nobody_lent_a_caller_the_consul_agents_own_token(guarded: Guarded) -> None:
    """Consul itself puts its default token into a call without one."""
    config = {"acl": {"tokens": {"default": MANAGEMENT, "agent": MANAGEMENT}, "enabled": True, "default_policy": "deny"}}
    with ConsulServer.client(guarded.consul, config=config) as local:
        local.token = MANAGEMENT
        assert local.call("POST", "/v1/internal/acl/authorize", [{"Resource": "operator", "Access": "write"}], token="")[1][0]["Allow"]
        assert asyncio.run(_anonymous_may(local)) == set()


async def _anonymous_may(consul: ConsulServer) -> set[Question]:
    authority = _authority(HttpTransport(Endpoint(address=consul.http_addr)))
    try:
        await authority.find_mode()
        return await authority.allowed(Secret(""), [Question("operator", "", "write"), *_jobs(3)])
    finally:
        await authority.close()


# -- without ACLs


def _rights(authority: Authority, **acl: Any) -> Rights:
    async def nobody() -> tuple[()]:
        return ()

    return Rights(
        authority=authority, keys=Keys(), acl=Acl(**acl), node_id=NodeId("n"), consul_node="n", fleet=nobody
    )


def _request(address: str = "127.0.0.1", own: str = "127.0.0.1", token: str = "") -> web.Request:
    class Wire(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return {"peername": (address, 4), "sockname": (own, 4646)}.get(name, default)

    headers = {"X-Nomad-Token": token} if token else {}
    return cast(web.Request, make_mocked_request("GET", "/v1/jobs", headers=headers, transport=Wire()))


@pytest.mark.parametrize(
    ("address", "own", "is_let_in"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("192.0.2.7", "192.0.2.7", True),  # this very machine, by its own address
        ("192.0.2.8", "192.0.2.7", False),
        ("172.17.0.2", "172.17.0.1", False),  # a container of this machine
        ("10.1.2.3", "192.0.2.7", True),
        ("::ffff:10.1.2.3", "::ffff:192.0.2.7", True),
        ("11.1.2.3", "192.0.2.7", False),
    ],
)
async def test_without_acls_only_this_machine_and_who_is_named_may_call(address: str, own: str, is_let_in: bool) -> None:
    rights = _rights(_authority(HttpTransport(Endpoint())), enabled=False, open_to=(ipaddress.ip_network("10.0.0.0/8"),))
    request = _request(address, own)
    if is_let_in:
        await rights.admit(request, None, is_forwarded=False)
    else:
        with pytest.raises(Forbidden, match="open_to"):
            await rights.admit(request, None, is_forwarded=False)
        with pytest.raises(Forbidden):  # of no agent that is known
            await rights.admit(request, None, is_forwarded=True)


def test_an_agent_without_acls_says_so_at_its_start(one: Drover, guarded: Guarded) -> None:
    assert "API: without ACLs everything is allowed to callers of this machine; others are refused" in one.log
    assert "API: Consul's ACLs say what a token may do" in guarded.one.log


def test_acls_that_are_asked_for_and_off_let_nobody_in(consul: ConsulServer) -> None:
    with Drover(consul, name="strict", server=False, settings="acl { enabled = true }") as strict:
        status, text = ask(strict.address, "GET", "/v1/jobs").error
        assert (status, "ACLs are off in Consul" in text) == (500, True)
        assert "nobody is allowed anything" in strict.log


# -- what a submission asks for

PRIVILEGED: dict[str, tuple[bool, dict[str, Any]]] = {
    "a container": (False, {"Driver": "docker", "Config": {"image": "x"}}),
    "no isolation": (True, {"Driver": "raw_exec", "Config": {"command": "x"}}),
    "privileged": (True, {"Driver": "docker", "Config": {"image": "x", "privileged": True}}),
    "not privileged": (False, {"Driver": "docker", "Config": {"image": "x", "privileged": False}}),
    "capabilities": (True, {"Driver": "docker", "Config": {"image": "x", "cap_add": ["SYS_ADMIN"]}}),
    "fewer capabilities": (False, {"Driver": "docker", "Config": {"image": "x", "cap_drop": ["ALL"]}}),
    "the host's processes": (True, {"Driver": "docker", "Config": {"image": "x", "pid_mode": "host"}}),
    "a directory of the host": (True, {"Driver": "docker", "Config": {"image": "x", "volumes": ["/etc:/etc"]}}),
    "a directory named by the node": (True, {"Driver": "docker", "Config": {"image": "x", "volumes": ["${meta.d}:/d"]}}),
    "a directory of its own": (False, {"Driver": "docker", "Config": {"image": "x", "volumes": ["local/a:/a"]}}),
    "a bind mount": (True, {"Driver": "docker", "Config": {"image": "x", "mount": [{"type": "bind", "source": "/"}]}}),
    "what is interpolated below its own": (True, {"Driver": "docker", "Config": {"image": "x", "volumes": ["./${NOMAD_META_up}:/h"]}}),
    "a volume by name": (True, {"Driver": "docker", "Config": {"image": "x", "volumes": ["others:/v"]}}),
    "its local directory": (False, {"Driver": "docker", "Config": {"image": "x", "volumes": ["local:/l", "../alloc/data:/d"]}}),
    "out of the alloc": (True, {"Driver": "docker", "Config": {"image": "x", "volumes": ["../alloc/../../x:/h"]}}),
    "the host's network": (True, {"Driver": "docker", "Config": {"image": "x", "network_mode": "host"}}),
    "another container's network": (True, {"Driver": "docker", "Config": {"image": "x", "network_mode": "container:x"}}),
    "a network of its own": (False, {"Driver": "docker", "Config": {"image": "x", "network_mode": "bridge"}}),
    "a mounted volume": (True, {"Driver": "docker", "Config": {"image": "x", "mount": [{"type": "volume", "source": "others"}]}}),
    "an interpolated mount": (True, {"Driver": "docker", "Config": {"image": "x", "mount": [{"type": "${NOMAD_META_k}", "source": "/"}]}}),
    "memory as a mount": (False, {"Driver": "docker", "Config": {"image": "x", "mount": [{"type": "tmpfs", "target": "/t"}]}}),
    "a download": (False, {"Driver": "docker", "Config": {"image": "x"}, "Artifacts": [{"GetterSource": "https://h/${meta.x}"}]}),
    "a file of the machine": (True, {"Driver": "docker", "Config": {"image": "x"}, "Artifacts": [{"GetterSource": "file:///etc/shadow"}]}),
    "what may turn out to be one": (True, {"Driver": "docker", "Config": {"image": "x"}, "Artifacts": [{"GetterSource": "${meta.x}"}]}),
    "logs sent elsewhere": (True, {"Driver": "docker", "Config": {"image": "x", "logging": [{"type": "syslog"}]}}),
}


@pytest.mark.parametrize("case", PRIVILEGED)
def test_a_task_that_could_reach_the_node_is_privileged(case: str) -> None:
    expected, task = PRIVILEGED[case]
    assert is_privileged(canonicalize(job("j", "x", [], **task))) == expected


def test_services_of_groups_and_tasks_are_asked_for() -> None:
    submitted = job("j", "x", [], Services=[{"Name": "${TASK}-api"}], group={"Services": [{"Name": "web"}, {"Name": "web-${attr.x}"}]})
    assert service_names(canonicalize(submitted)) == ("web", "web-${attr.x}", "t-api")
