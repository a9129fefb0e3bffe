"""`node status`: what is shown of the nodes that the API tells of."""

from collections.abc import Mapping
from typing import Any

from api.shapes import node_document, node_stub
from cli import node as command
from leader.view import View
from model.node import HostNetwork, HostVolume
from tests.build import view as node_view


def shown(name: str, **facts: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The node in a list, and by itself."""
    view, node = View(), node_view(name, **facts)
    return node_stub(view, node), node_document(view, node)


def test_a_list_has_the_virtual_datacenters_beside_the_physical_ones() -> None:
    nodes = [shown("n1")[0], shown("n2", virtual_datacenter="edge")[0]]
    assert command.listed(nodes, None, is_verbose=False).splitlines() == [
        "ID  DC   Name  Class   Drain  Eligibility  Status  Virtual DC",
        "n1  dc1  n1    <none>  false  eligible     ready   <none>",
        "n2  dc1  n2    <none>  false  eligible     ready   edge",
    ]
    assert command.listed(nodes[:1], {}, is_verbose=False).splitlines() == [
        "ID  DC   Name  Class   Drain  Eligibility  Status  Running Allocs",
        "n1  dc1  n1    <none>  false  eligible     ready   0",
    ]


def test_a_node_shows_both_datacenters_and_what_it_offers_by_name() -> None:
    _, bare = shown("n1")
    _, rich = shown(
        "n2",
        virtual_datacenter="edge",
        host_volumes={"data": HostVolume(name="data", path="/srv/data", read_only=True)},
        host_networks=(HostNetwork(name="public", address="203.0.113.1", device="eth1", reserved_ports=(22,)),),
        meta={"rack": "r1"},
    )
    wanted = ("DC", "Virtual DC", "Host Volumes", "Host Networks")

    def told(node: Mapping[str, Any]) -> list[str]:
        pairs = [line.split("=") for line in command.basics(node, (), is_verbose=False).splitlines()]
        return [value.strip() for name, value in pairs if name.strip() in wanted]

    assert told(bare) == ["dc1", "<none>", "<none>", "<none>"]
    assert told(rich) == ["dc1", "edge", "data", "public"]


def test_a_nodes_sections_are_left_out_where_they_are_empty() -> None:
    _, bare = shown("n1", attributes={})
    assert command.sections(bare, is_verbose=True) == ""
    _, rich = shown(
        "n2",
        attributes={"kernel.name": "linux"},
        host_volumes={"data": HostVolume(name="data", path="/srv/data", read_only=True)},
        host_networks=(HostNetwork(name="public", address="203.0.113.1", device="eth1", reserved_ports=(22,)),),
        meta={"rack": "r1"},
    )
    assert command.sections(rich, is_verbose=True).splitlines() == [
        "",
        "Host Volumes",
        "Name  ReadOnly  Source",
        "data  true      /srv/data",
        "",
        "Host Networks",
        "Name    Address      Interface  ReservedPorts",
        "public  203.0.113.1  eth1       22",
        "",
        "Attributes",
        "kernel.name = linux",
        "",
        "Meta",
        "rack = r1",
    ]
    assert command.sections(rich, is_verbose=False).splitlines() == ["", "Meta", "rack = r1"]
