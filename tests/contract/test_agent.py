"""The agent's own services and checks, and how they get into the catalog."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.contract.conftest import Api, eventually


async def check(api: Api, id: str) -> dict[str, Any]:
    answer = await api.get("/v1/agent/checks")
    found: dict[str, Any] = answer.json[id]
    return found


async def has_status(api: Api, id: str, status: str) -> None:
    """Waits until the agent's check has that status."""

    async def holds() -> bool:
        return bool((await check(api, id))["Status"] == status)

    await eventually(holds)


async def forget(api: Api, service: str) -> None:
    await api.put(f"/v1/agent/service/deregister/{service}")


@asynccontextmanager
async def http_server(answer: bytes) -> AsyncIterator[int]:
    """A server on loopback that gives every request this answer, headers and all."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_registered_service_is_on_the_agent_as_given(api: Api) -> None:
    await api.service(
        ID=f"{api.name}-1",
        Name=api.name,
        Tags=["a", "b"],
        Meta={"x": "y"},
        Port=8080,
        Address="127.0.0.9",
    )
    expected = {
        "ID": f"{api.name}-1",
        "Service": api.name,
        "Tags": ["a", "b"],
        "Meta": {"x": "y"},
        "Port": 8080,
        "Address": "127.0.0.9",
        "TaggedAddresses": {
            "lan_ipv4": {"Address": "127.0.0.9", "Port": 8080},
            "wan_ipv4": {"Address": "127.0.0.9", "Port": 8080},
        },
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
    }
    assert (await api.get("/v1/agent/services")).json[f"{api.name}-1"] == expected
    answer = await api.get(f"/v1/agent/service/{api.name}-1")
    assert answer.json.pop("ContentHash") == answer.headers["X-Consul-ContentHash"]
    await forget(api, f"{api.name}-1")
    assert f"{api.name}-1" not in (await api.get("/v1/agent/services")).json
    gone = await api.get(f"/v1/agent/service/{api.name}-1")
    assert (gone.status, gone.text) == (404, f"unknown service ID: {api.name}-1")


async def test_a_service_without_id_and_fields_gets_its_name_and_empty_ones(api: Api) -> None:
    await api.service(Name=api.name)
    service = (await api.get("/v1/agent/services")).json[api.name]
    assert service == {
        "ID": api.name,
        "Service": api.name,
        "Tags": [],
        "Meta": {},
        "Port": 0,
        "Address": "",
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
    }
    await forget(api, api.name)


async def test_checks_get_ids_names_and_start_critical(api: Api) -> None:
    await api.service(
        Name=api.name,
        Check={"TTL": "60s", "Name": "first"},
        Checks=[
            {"CheckID": f"{api.name}-own", "TTL": "60s", "Status": "passing", "Notes": "n"},
            {"TTL": "60s"},
        ],
    )
    checks = (await api.get(f'/v1/agent/checks?filter=ServiceID=="{api.name}"')).json
    assert {id: (one["Name"], one["Status"], one["Type"], one["Notes"]) for id, one in checks.items()} == {
        f"service:{api.name}:1": ("first", "critical", "ttl", ""),
        f"{api.name}-own": (f"Service '{api.name}' check", "passing", "ttl", "n"),
        f"service:{api.name}:3": (f"Service '{api.name}' check", "critical", "ttl", ""),
    }
    assert checks[f"{api.name}-own"] == {
        "Node": api.target.node_name,
        "CheckID": f"{api.name}-own",
        "Name": f"Service '{api.name}' check",
        "Status": "passing",
        "Notes": "n",
        "Output": "",
        "ServiceID": api.name,
        "ServiceName": api.name,
        "ServiceTags": [],
        "Type": "ttl",
        "Definition": {},
        "CreateIndex": 0,
        "ModifyIndex": 0,
    }
    await forget(api, api.name)
    assert not (await api.get(f'/v1/agent/checks?filter=ServiceID=="{api.name}"')).json


async def test_one_check_alone_has_no_number(api: Api) -> None:
    await api.service(Name=api.name, Checks=[{"TTL": "60s"}])
    assert (await check(api, f"service:{api.name}"))["Status"] == "critical"
    await forget(api, api.name)


async def test_registering_again_keeps_a_checks_status_and_output_whatever_is_given(api: Api) -> None:
    id = f"{api.name}-ttl"
    await api.service(Name=api.name, Check={"CheckID": id, "TTL": "60s"})
    await api.put(f"/v1/agent/check/pass/{id}?note=fine")
    for status in ("", "critical"):
        await api.service(Name=api.name, Tags=[status], Check={"CheckID": id, "TTL": "50s", "Status": status})
        again = await check(api, id)
        assert (again["Status"], again["Output"], again["ServiceTags"]) == ("passing", "fine", [status])
    await forget(api, api.name)


async def test_registering_again_leaves_other_checks_unless_they_are_to_be_replaced(api: Api) -> None:
    one, two = f"{api.name}-1", f"{api.name}-2"
    own = f'/v1/agent/checks?filter=ServiceID=="{api.name}"'
    await api.service(Name=api.name, Check={"CheckID": one, "TTL": "60s"})
    await api.service(Name=api.name, Check={"CheckID": two, "TTL": "60s"})
    assert sorted((await api.get(own)).json) == [one, two]
    for query in ("?replace-existing-checks=true", "?replace-existing-checks"):
        body = {"Name": api.name, "Check": {"CheckID": two, "TTL": "60s"}}
        assert (await api.put("/v1/agent/service/register" + query, body)).status == 200
        assert sorted((await api.get(own)).json) == [two]
    await forget(api, api.name)


async def test_services_and_checks_reach_the_catalog_and_leave_it(api: Api) -> None:
    id = f"{api.name}-ttl"
    await api.service(Name=api.name, Port=80, Meta={"k": "v"}, Check={"CheckID": id, "TTL": "60s"})
    [entry] = (await api.get(f"/v1/health/service/{api.name}")).json
    assert entry["Node"]["Node"] == api.target.node_name
    assert (entry["Service"]["Port"], entry["Service"]["Meta"]) == (80, {"k": "v"})
    assert [one["CheckID"] for one in entry["Checks"]] == ["serfHealth", id]
    await forget(api, api.name)

    async def is_gone() -> bool:
        return (await api.get(f"/v1/health/service/{api.name}")).text == "[]"

    await eventually(is_gone)
    assert id not in [one["CheckID"] for one in (await api.get("/v1/health/state/any")).json]


async def test_a_new_status_reaches_the_catalog_at_once_and_a_new_output_alone_does_not(api: Api) -> None:
    id = f"{api.name}-ttl"
    await api.service(Name=api.name, Check={"CheckID": id, "TTL": "60s"})

    async def in_catalog() -> tuple[str, str]:
        [one] = (await api.get(f"/v1/health/checks/{api.name}")).json
        return one["Status"], one["Output"]

    async def is_passing() -> bool:
        return await in_catalog() == ("passing", "one")

    await api.put(f"/v1/agent/check/pass/{id}?note=one")
    await eventually(is_passing)
    await api.put(f"/v1/agent/check/pass/{id}?note=two")
    await asyncio.sleep(0.25)
    assert await in_catalog() == ("passing", "one")
    assert (await check(api, id))["Output"] == "two"
    await forget(api, api.name)


async def test_ttl_checks_take_a_status_and_a_note(api: Api) -> None:
    id = f"{api.name}-ttl"
    await api.put("/v1/agent/check/register", {"ID": id, "Name": "n", "TTL": "60s"})
    assert (await check(api, id))["Status"] == "critical"
    for verb, status in (("pass", "passing"), ("warn", "warning"), ("fail", "critical")):
        assert (await api.put(f"/v1/agent/check/{verb}/{id}?note={verb}%20it")).status == 200
        one = await check(api, id)
        assert (one["Status"], one["Output"]) == (status, f"{verb} it")
    await api.put(f"/v1/agent/check/update/{id}", {"Status": "warning", "Output": "x" * 5000})
    one = await check(api, id)
    assert one["Status"] == "warning"
    assert one["Output"] == "x" * 4096 + " ... (captured 4096 of 5000 bytes)"
    await api.put(f"/v1/agent/check/deregister/{id}")
    assert id not in (await api.get("/v1/agent/checks")).json


async def test_a_ttl_that_runs_out_is_critical_and_says_what_came_last(api: Api) -> None:
    quiet, fed = f"{api.name}-quiet", f"{api.name}-fed"
    for id in (quiet, fed):
        body = {"ID": id, "Name": "n", "TTL": "400ms", "Status": "passing"}
        await api.put("/v1/agent/check/register", body)
    await api.put(f"/v1/agent/check/pass/{fed}?note=hello")
    await has_status(api, quiet, "critical")
    await has_status(api, fed, "critical")
    assert (await check(api, quiet))["Output"] == "TTL expired"
    assert (await check(api, fed))["Output"] == "TTL expired (last output before timeout follows): hello"
    for id in (quiet, fed):
        await api.put(f"/v1/agent/check/deregister/{id}")


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("pass/nope", None, 500, 'CheckID "nope" does not have associated TTL'),
        ("update/nope", {"Status": "passing"}, 500, 'CheckID "nope" does not have associated TTL'),
        ("update/nope", {"Status": "bogus"}, 400, "Invalid check status: 'bogus'"),
        ("update/nope", {"Output": "x"}, 400, "Invalid check status: ''"),
        ("update/nope", "{", 400, "Request decode failed: unexpected EOF"),
        ("deregister/nope", None, 200, ""),
        ("register", {"TTL": "10s"}, 400, "Missing check name"),
        ("register", {"Name": "n"}, 400, "Invalid check: TTL must be > 0 for TTL checks"),
        ("register", {"Name": "n", "TTL": "1s", "Status": "bad"}, 400, "Bad check status"),
        ("register", {"Name": "n", "TTL": "1s", "ServiceID": "no"}, 500, 'ServiceID "no" does not exist'),
        ("register", "", 400, "Request decode failed: EOF"),
    ],
)
async def test_a_check_call_that_makes_no_sense_is_refused(
    api: Api, path: str, body: object, status: int, text: str
) -> None:
    answer = await api.put(f"/v1/agent/check/{path}", body)
    assert (answer.status, answer.text) == (status, text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "Missing service name"),
        ("", "Request decode failed: EOF"),
        ("{", "Request decode failed: unexpected EOF"),
        ({"Check": {"TTL": "x"}}, 'Request decode failed: time: invalid duration "x"'),
        (
            {"Name": "x", "Check": {"HTTP": "http://x"}},
            "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks",
        ),
        (
            {"Name": "x", "Check": {"TTL": "1s", "TCP": "x:1", "Interval": "1s"}},
            "Invalid check: Interval and TTL cannot both be specified",
        ),
        ({"Name": "x", "Checks": [{"Status": "passing"}]}, "Invalid check: TTL must be > 0 for TTL checks"),
        (
            {"Name": "x", "Check": {"TTL": "1s", "Status": "bogus"}},
            "Status for checks must 'passing', 'warning', 'critical'",
        ),
        ({"Name": "x", "Weights": {"Passing": 0}}, "Invalid Weights: Passing must be greater than 0"),
        ({"Name": "x", "Bogus": 1}, 'Request decode failed: json: unknown field "Bogus"'),
        (
            {"Name": "x", "Port": "80"},
            "Request decode failed: json: cannot unmarshal string into Go struct field .Port of type int",
        ),
        (
            {"Name": "x", "Meta": {"a b": "c"}},
            "Invalid Service Meta: Couldn't load metadata pair ('a b', 'c'): Key contains invalid characters",
        ),
        ({"Name": "x", "Address": "0.0.0.0"}, "Invalid service address"),
    ],
)
async def test_a_service_that_cannot_be_is_400(api: Api, body: object, text: str) -> None:
    answer = await api.put("/v1/agent/service/register", body)
    assert (answer.status, answer.text) == (400, text)


async def test_script_checks_are_refused_and_deregistering_nothing_is_fine(api: Api) -> None:
    script = {"Name": "x", "Check": {"Args": ["true"], "Interval": "1s"}}
    answer = await api.put("/v1/agent/service/register", script)
    assert (answer.status, answer.text) == (
        500,
        "Scripts are disabled on this agent from remote calls; "
        "to enable, configure 'enable_script_checks' to true",
    )
    assert (await api.put("/v1/agent/service/deregister/nope")).status == 200
    answer = await api.put("/v1/agent/service/deregister/")
    assert (answer.status, answer.text) == (500, "ServiceID missing")


async def test_the_health_of_one_service_is_the_worst_of_its_checks(api: Api) -> None:
    one, two = f"{api.name}-1", f"{api.name}-2"
    path = f"/v1/agent/health/service/id/{api.name}"
    answer = await api.get(path)
    assert (answer.status, answer.json) == (
        404,
        {"AggregatedStatus": "critical", "Service": None, "Checks": None},
    )
    checks = [{"CheckID": id, "TTL": "60s", "Status": "passing"} for id in (one, two)]
    await api.service(Name=api.name, Checks=checks)
    for verb, status, code in (("pass", "passing", 200), ("warn", "warning", 429), ("fail", "critical", 503)):
        await api.put(f"/v1/agent/check/{verb}/{two}")
        answer = await api.get(path)
        assert (answer.status, answer.json["AggregatedStatus"]) == (code, status)
        assert sorted(found["CheckID"] for found in answer.json["Checks"]) == [one, two]
        text = await api.get(path + "?format=text")
        assert (text.status, text.text) == (code, status)
    await forget(api, api.name)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("200 OK", "passing"),
        ("204 No Content", "passing"),
        ("404 Not Found", "critical"),
        ("429 Too Many Requests", "warning"),
        ("500 Internal Server Error", "critical"),
    ],
)
async def test_an_http_checks_status_follows_the_answer(api: Api, line: str, status: str) -> None:
    body = b"" if line.startswith("204") else b"hello"
    head = f"HTTP/1.1 {line}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    async with http_server(head.encode() + body) as port:
        url = f"http://127.0.0.1:{port}/health?x=1"
        await register_probe(api, {"HTTP": url})
        expected = f"HTTP GET {url}: {line} Output: {body.decode()}"
        await has_output(api, expected)
        assert (await check(api, api.name))["Status"] == status
        assert (await check(api, api.name))["Type"] == "http"
    await api.put(f"/v1/agent/check/deregister/{api.name}")


async def test_an_http_check_sends_what_it_was_told_to(api: Api) -> None:
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head + (await reader.read(4)).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        probe = {"HTTP": f"http://127.0.0.1:{port}/", "Method": "POST", "Body": "ping"}
        await register_probe(api, {**probe, "Header": {"X-One": ["a", "b"], "User-Agent": ["me"]}})
        await has_status(api, api.name, "passing")
        await api.put(f"/v1/agent/check/deregister/{api.name}")
    lines = seen[0].lower().split("\r\n")
    assert lines[0] == "post / http/1.1"
    assert {"x-one: a", "x-one: b", "user-agent: me", f"host: 127.0.0.1:{port}"} <= set(lines)
    assert lines[-1] == "ping"


async def test_nobody_listening_is_critical_in_gos_words(api: Api) -> None:
    port = closed_port()
    await register_probe(api, {"HTTP": f"http://127.0.0.1:{port}/x"})
    await has_output(
        api, f'Get "http://127.0.0.1:{port}/x": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )
    await register_probe(api, {"TCP": f"127.0.0.1:{port}"})
    await has_output(api, f"dial tcp 127.0.0.1:{port}: connect: connection refused")
    assert (await check(api, api.name))["Status"] == "critical"
    await api.put(f"/v1/agent/check/deregister/{api.name}")


async def test_an_answer_that_does_not_come_in_time_is_critical_and_says_deadline_exceeded(api: Api) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        await register_probe(api, {"HTTP": url, "Timeout": "200ms"})
        timed_out = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        await has_output(api, f'Get "{url}": {timed_out}')
        await api.put(f"/v1/agent/check/deregister/{api.name}")


async def test_a_tcp_check_passes_when_somebody_listens(api: Api) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        await register_probe(api, {"TCP": address})
        await has_output(api, f"TCP connect {address}: Success")
        assert (await check(api, api.name))["Status"] == "passing"
        await api.put(f"/v1/agent/check/deregister/{api.name}")


async def test_successes_before_passing_and_failures_before_critical_change_nothing(api: Api) -> None:
    """Over HTTP 1.8.7 takes both and heeds neither: whoever needs them must count himself."""
    thresholds = {"SuccessBeforePassing": 9, "FailuresBeforeCritical": 9}
    await register_probe(api, {"TCP": f"127.0.0.1:{closed_port()}", "Status": "passing", **thresholds})
    await has_status(api, api.name, "critical")
    await api.put(f"/v1/agent/check/deregister/{api.name}")


async def register_probe(api: Api, fields: dict[str, Any]) -> None:
    body = {"ID": api.name, "Name": "probe", "Interval": "1s", **fields}
    assert (await api.put("/v1/agent/check/register", body)).status == 200


async def has_output(api: Api, output: str) -> None:
    async def holds() -> bool:
        return bool((await check(api, api.name))["Output"] == output)

    try:
        await eventually(holds)
    except TimeoutError:
        pytest.fail(f"the output is {(await check(api, api.name))['Output']!r}, not {output!r}")


async def test_the_agent_knows_itself_and_its_members(api: Api) -> None:
    config = (await api.get("/v1/agent/self")).json["Config"]
    assert set(config) == {"Datacenter", "NodeName", "NodeID", "Revision", "Server", "Version"}
    assert (config["Datacenter"], config["NodeName"], config["Server"]) == ("dc1", api.target.node_name, True)
    members = {member["Name"]: member for member in (await api.get("/v1/agent/members")).json}
    own = members[api.target.node_name]
    assert (own["Status"], own["Addr"], own["Tags"]["dc"], own["Tags"]["role"]) == (
        1,
        "127.0.0.1",
        "dc1",
        "consul",
    )
    metrics = (await api.get("/v1/agent/metrics")).json
    assert {"Timestamp", "Gauges", "Points", "Counters", "Samples"} <= set(metrics)


async def test_without_acls_authorization_is_401(api: Api) -> None:
    question = [{"Resource": "key", "Segment": "drover/jobs/x", "Access": "write"}]
    answer = await api.call("POST", "/v1/internal/acl/authorize", question)
    assert (answer.status, answer.text) == (401, "ACL support disabled")
