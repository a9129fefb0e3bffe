"""The catalog and its health views."""

from typing import Any

import pytest

from tests.contract.conftest import Api

SERF = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"}


async def instance(api: Api, number: int, *, serf: str = "passing", own: str = "", **service: Any) -> None:
    """A node of its own with one instance of the service api.name, id i<number>."""
    checks: list[dict[str, Any]] = [{**SERF, "Status": serf}]
    if own:
        checks.append({"CheckID": f"own-{number}", "Name": "own", "Status": own, "ServiceID": f"i{number}"})
    await api.node(
        Node=f"{api.name}-{number}",
        Address=f"127.1.0.{number}",
        NodeMeta={"number": str(number)},
        Service={"Service": api.name, "ID": f"i{number}", "Port": 8000 + number, **service},
        Checks=checks,
    )


async def clean(api: Api, *numbers: int) -> None:
    for number in numbers:
        await api.put("/v1/catalog/deregister", {"Node": f"{api.name}-{number}"})


async def ids(api: Api, path: str) -> list[str]:
    entries = (await api.get(path)).json
    return sorted(entry["Service"]["ID"] if "Service" in entry else entry["ServiceID"] for entry in entries)


async def test_a_health_entry_holds_node_service_and_all_checks_that_count(api: Api) -> None:
    await instance(api, 1, own="warning", Tags=["t"], Meta={"k": "v"})
    answer = await api.get(f"/v1/health/service/{api.name}")
    [entry] = answer.json
    assert list(entry) == ["Node", "Service", "Checks"]
    assert without_indexes(entry["Node"]) == {
        "ID": "",
        "Node": f"{api.name}-1",
        "Address": "127.1.0.1",
        "Datacenter": "dc1",
        "TaggedAddresses": None,
        "Meta": {"number": "1"},
    }
    assert without_indexes(entry["Service"]) == {
        "ID": "i1",
        "Service": api.name,
        "Tags": ["t"],
        "Address": "",
        "Meta": {"k": "v"},
        "Port": 8001,
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
        "Proxy": {"MeshGateway": {}, "Expose": {}},
        "Connect": {},
    }
    assert [(check["CheckID"], check["Status"], check["ServiceName"]) for check in entry["Checks"]] == [
        ("serfHealth", "passing", ""),
        ("own-1", "warning", api.name),
    ]
    assert answer.headers["X-Consul-Effective-Consistency"] == "leader"
    await clean(api, 1)


async def test_the_catalogs_view_of_a_service_is_flat(api: Api) -> None:
    await instance(api, 1, Tags=["t"], Address="127.2.0.1")
    [entry] = (await api.get(f"/v1/catalog/service/{api.name}")).json
    assert without_indexes(entry) == {
        "ID": "",
        "Node": f"{api.name}-1",
        "Address": "127.1.0.1",
        "Datacenter": "dc1",
        "TaggedAddresses": None,
        "NodeMeta": {"number": "1"},
        "ServiceKind": "",
        "ServiceID": "i1",
        "ServiceName": api.name,
        "ServiceTags": ["t"],
        "ServiceAddress": "127.2.0.1",
        "ServiceWeights": {"Passing": 1, "Warning": 1},
        "ServiceMeta": {},
        "ServicePort": 8001,
        "ServiceEnableTagOverride": False,
        "ServiceProxy": {"MeshGateway": {}, "Expose": {}},
        "ServiceConnect": {},
    }
    await clean(api, 1)


def without_indexes(document: dict[str, Any]) -> dict[str, Any]:
    # Registered by catalog rather than by an agent, 1.8.7 leaves out the service's tagged addresses.
    return {name: value for name, value in document.items() if name not in ("CreateIndex", "ModifyIndex")}


async def test_passing_leaves_out_warnings_and_whole_nodes_that_failed(api: Api) -> None:
    await instance(api, 1, own="passing")
    await instance(api, 2, own="warning")
    await instance(api, 3, own="critical")
    await instance(api, 4, own="passing", serf="critical")
    path = f"/v1/health/service/{api.name}"
    assert await ids(api, path) == ["i1", "i2", "i3", "i4"]
    for yes in ("passing", "passing=true", "passing=1"):
        assert await ids(api, f"{path}?{yes}") == ["i1"]
    assert len(await ids(api, path + "?passing=false")) == 4
    answer = await api.get(path + "?passing=x")
    assert (answer.status, answer.text) == (400, "Invalid value for ?passing")
    await clean(api, 1, 2, 3, 4)


async def test_tags_and_node_meta_narrow_a_service_down(api: Api) -> None:
    await instance(api, 1, Tags=["http", "v1"])
    await instance(api, 2, Tags=["http"])
    for view in ("health", "catalog"):
        path = f"/v1/{view}/service/{api.name}"
        assert await ids(api, path + "?tag=http") == ["i1", "i2"]
        assert await ids(api, path + "?tag=HTTP&tag=v1") == ["i1"]
        assert await ids(api, path + "?tag=none") == []
        assert await ids(api, path + "?node-meta=number:2") == ["i2"]
    tags = (await api.get("/v1/catalog/services")).json[api.name]
    assert sorted(tags) == ["http", "v1"]
    assert (await api.get("/v1/catalog/services?node-meta=number:none")).json == {}
    await clean(api, 1, 2)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('Checks.Status != "passing"', ["i2", "i3"]),
        ('Checks.Status == "passing"', ["i1", "i2", "i3"]),
        ('not Checks.Status == "passing"', ["i4"]),
        ('Checks.Status == "critical" or Checks.Status == "warning"', ["i2", "i3"]),
        ('Checks.CheckID == "own-2" and Checks.Status == "passing"', ["i2"]),
        ("Checks is empty", ["i4"]),
        ('Service.Meta.k == "v2"', ["i2"]),
        ('Service.Meta["k"] != "v2"', ["i1", "i3", "i4"]),
        ("k in Service.Meta", ["i1", "i2", "i3"]),
        ("Service.Meta contains k", ["i1", "i2", "i3"]),
        ("`odd` in Service.Tags", ["i1", "i3"]),
        ('"odd" not in Service.Tags', ["i2", "i4"]),
        ("Service.Tags not contains odd", ["i2", "i4"]),
        ("Service.Tags is not empty", ["i1", "i2", "i3", "i4"]),
        ('Service.ID matches "i[12]"', ["i1", "i2"]),
        ('Service.ID not matches "i[12]"', ["i3", "i4"]),
        ("Service.Port == 8003", ["i3"]),
        ("Service.EnableTagOverride == false", ["i1", "i2", "i3", "i4"]),
        ('(Service.ID == "i1" or Service.ID == "i2") and not (Checks.Status == "warning")', ["i1"]),
        ('Service.ID == "i1" or Service.ID == "i2" and Service.ID == "i3"', ["i1"]),
        ('Node.Meta.number == "4"', ["i4"]),
        ('Node.Datacenter == "dc2"', []),
        ("", ["i1", "i2", "i3", "i4"]),
    ],
)
async def test_a_filter_keeps_what_matches(api: Api, expression: str, expected: list[str]) -> None:
    for number, own in ((1, "passing"), (2, "warning"), (3, "critical")):
        tag = "odd" if number % 2 else "even"
        await instance(api, number, own=own, Tags=[tag], Meta={"k": f"v{number}"})
    await api.node(
        Node=f"{api.name}-4",
        Address="127.1.0.4",
        NodeMeta={"number": "4"},
        Service={"Service": api.name, "ID": "i4", "Tags": ["even"]},
    )
    assert await ids(api, f"/v1/health/service/{api.name}?filter={quoted(expression)}") == expected
    await clean(api, 1, 2, 3, 4)


def quoted(expression: str) -> str:
    for char, code in (("%", "%25"), (" ", "%20"), ('"', "%22"), ("[", "%5B"), ("]", "%5D"), ("`", "%60")):
        expression = expression.replace(char, code)
    return expression


async def test_each_view_has_selectors_of_its_own(api: Api) -> None:
    await instance(api, 1, own="warning", Tags=["t"])
    node = f"{api.name}-1"
    assert await ids(api, f"/v1/catalog/service/{api.name}?filter={quoted('ServicePort == 8001')}") == ["i1"]
    by_name = f"/v1/catalog/nodes?filter={quoted(f'Node == {chr(34)}{node}{chr(34)}')}"
    assert [found["Node"] for found in (await api.get(by_name)).json] == [node]
    for view in (f"node/{node}", f"checks/{api.name}", "state/any"):
        expression = f'ServiceName == "{api.name}" and Status != "passing"'
        checks = (await api.get(f"/v1/health/{view}?filter={quoted(expression)}")).json
        assert [check["CheckID"] for check in checks] == ["own-1"]
    await clean(api, 1)


@pytest.mark.parametrize(
    "expression",
    ["ServiceID == 1", 'Checks.Bogus == "x"', "(Node.Node == x", "Node.Node", "Node.Node ==", "  "],
)
async def test_a_filter_that_does_not_parse_or_fit_is_500(api: Api, expression: str) -> None:
    answer = await api.get(f"/v1/health/service/{api.name}?filter={quoted(expression)}")
    assert answer.status == 500
    assert answer.text.startswith("Failed to create boolean expression evaluator: ")


async def test_a_nodes_view_lists_its_services_and_a_missing_node_is_null(api: Api) -> None:
    await instance(api, 1)
    answer = await api.get(f"/v1/catalog/node/{api.name}-1")
    assert list(answer.json) == ["Node", "Services"]
    assert list(answer.json["Services"]) == ["i1"]
    await clean(api, 1)
    answer = await api.get(f"/v1/catalog/node/{api.name}-1")
    assert (answer.status, answer.text.strip()) == (200, "null")


async def test_health_views_select_checks_by_node_service_and_state(api: Api) -> None:
    await instance(api, 1, own="warning")

    async def found(view: str) -> list[str]:
        answer = await api.get(f"/v1/health/{view}")
        return [check["CheckID"] for check in answer.json if check["Node"] == f"{api.name}-1"]

    assert await found(f"node/{api.name}-1") == ["own-1", "serfHealth"]
    assert await found(f"checks/{api.name}") == ["own-1"]
    assert await found("state/warning") == ["own-1"]
    assert await found("state/any") == ["own-1", "serfHealth"]
    assert await found("state/bogus") == []
    await clean(api, 1)


async def test_what_is_not_there_is_an_empty_list(api: Api) -> None:
    for path in (
        "health/service",
        "health/node",
        "health/checks",
        "catalog/service",
    ):
        answer = await api.get(f"/v1/{path}/{api.name}")
        assert (answer.status, answer.text) == (200, "[]")
        missing = await api.get(f"/v1/{path}/")
        assert missing.status == 400


async def test_names_are_compared_without_case(api: Api) -> None:
    await instance(api, 1)
    assert await ids(api, f"/v1/health/service/{api.name.upper()}") == ["i1"]
    assert (await api.get(f"/v1/catalog/node/{api.name.upper()}-1")).json["Node"]["Node"] == f"{api.name}-1"
    await clean(api, 1)


async def test_an_equal_registration_moves_no_service_index(api: Api) -> None:
    await instance(api, 1, own="passing")
    path = f"/v1/health/service/{api.name}"
    before = (await api.get(path)).index
    await instance(api, 1, own="passing")
    assert (await api.get(path)).index == before
    await instance(api, 1, own="warning")
    assert (await api.get(path)).index > before
    await clean(api, 1)


async def test_a_change_of_the_node_moves_the_index_of_its_services(api: Api) -> None:
    await instance(api, 1)
    before = (await api.get(f"/v1/health/service/{api.name}")).index
    await api.node(Node=f"{api.name}-1", Address="127.1.0.1", NodeMeta={"number": "changed"})
    assert (await api.get(f"/v1/health/service/{api.name}")).index > before
    await clean(api, 1)


async def test_deregistering_a_service_or_a_check_leaves_the_rest(api: Api) -> None:
    await instance(api, 1, own="passing")
    node = f"{api.name}-1"
    await api.put("/v1/catalog/deregister", {"Node": node, "CheckID": "own-1"})
    assert [check["CheckID"] for check in (await api.get(f"/v1/health/node/{node}")).json] == ["serfHealth"]
    await api.put("/v1/catalog/deregister", {"Node": node, "ServiceID": "i1"})
    assert (await api.get(f"/v1/catalog/node/{node}")).json["Services"] == {}
    await clean(api, 1)


@pytest.mark.parametrize(
    ("verb", "body", "text"),
    [
        ("register", {"Node": "x"}, "Must provide address if SkipNodeUpdate is not set"),
        ("deregister", {}, "Must provide node"),
        (
            "register",
            {"Node": "x", "Address": "127.1.1.1", "Check": {"Name": "n", "ServiceID": "none"}},
            'failed inserting check: Missing service registration on node "x"',
        ),
    ],
)
async def test_a_registration_that_cannot_be_is_500(api: Api, verb: str, body: object, text: str) -> None:
    answer = await api.put(f"/v1/catalog/{verb}", body)
    assert (answer.status, answer.text) == (500, text)
    assert "x" not in [node["Node"] for node in (await api.get("/v1/catalog/nodes")).json]


async def test_the_cluster_describes_itself(api: Api) -> None:
    assert (await api.get("/v1/catalog/datacenters")).json == ["dc1"]
    leader = (await api.get("/v1/status/leader")).json
    assert (await api.get("/v1/status/peers")).json == [leader]
    [server] = (await api.get("/v1/operator/raft/configuration")).json["Servers"]
    assert (server["Address"], server["Leader"], server["Voter"]) == (leader, True, True)
    assert "consul" in (await api.get("/v1/catalog/services")).json
    nodes = {node["Node"]: node for node in (await api.get("/v1/catalog/nodes")).json}
    assert nodes[api.target.node_name]["Datacenter"] == "dc1"
    for path in ("catalog/nodes", "health/state/any", "catalog/services", "session/list"):
        answer = await api.get(f"/v1/{path}?dc=nope")
        assert (answer.status, answer.text) == (500, "No path to datacenter")
