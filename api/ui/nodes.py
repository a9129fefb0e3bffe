"""The UI's nodes, and how full the (virtual) datacenters are."""

from typing import Any

from aiohttp import web

from api.query import answer
from api.shapes import node_status
from api.ui.lists import Row, asked, page_of, shown
from leader.decide.table import DIMENSIONS
from leader.leading import Leading
from leader.view import View
from model.node import Eligibility
from model.snapshot import NodeView

_CPU, _MEMORY, _DISK = (DIMENSIONS.index(name) for name in ("cpu", "memory", "disk"))


def state(node: NodeView) -> str:
    """One word: as Nomad's status, and what an operator made of a node that is ready."""
    status = node_status(node).value
    if node.control.drain is not None:
        return "draining"
    if status == "ready" and node.control.scheduling_eligibility is Eligibility.INELIGIBLE:
        return "ineligible"
    if status == "ready" and node.control.penalized_until:
        return "flapping"
    return status


def row(view: View, node: NodeView) -> Row:
    """CPU in MHz, memory and disk in MiB, each [given to allocs, offered]. Live: allocs that have not ended."""
    document, number = node.node, view.table.rows[node.id]
    used, total = view.table.used[number], view.table.total[number]
    return {
        "ID": document.id,
        "Name": document.name,
        "State": state(node),
        "Status": node_status(node).value,
        "Eligibility": node.control.scheduling_eligibility.value,
        "Datacenter": document.datacenter,
        "VirtualDatacenter": document.virtual_datacenter,
        "NodeClass": document.node_class,
        "Address": document.address,
        "Version": document.version,
        "Live": live(view, node),
        "CPU": [int(used[_CPU]), int(total[_CPU])],
        "Memory": [int(used[_MEMORY]), int(total[_MEMORY])],
        "Disk": [int(used[_DISK]), int(total[_DISK])],
        "Drivers": sorted(name for name, driver in document.drivers.items() if driver.healthy),
        "Flaps": node.control.flaps,
        "PenalizedUntil": node.control.penalized_until,
    }


def live(view: View, node: NodeView) -> int:
    """Allocs on it that have not ended."""
    return view.tally.live[node.id]


def _fullness(view: View, node: NodeView, column: int) -> float:
    number = view.table.rows[node.id]
    return float(view.table.used[number][column] / (view.table.total[number][column] or 1.0))


async def list_nodes(request: web.Request, leading: Leading) -> web.Response:
    """`?state=&datacenter=&virtual_datacenter=`."""
    view = leading.view
    sorts = {
        "name": lambda node: (node.node.name, node.id),
        "state": lambda node: (state(node) == "ready", state(node), node.node.name),
        "datacenter": lambda node: (node.node.datacenter, node.node.virtual_datacenter, node.node.name),
        "cpu": lambda node: (_fullness(view, node, _CPU), node.node.name),
        "memory": lambda node: (_fullness(view, node, _MEMORY), node.node.name),
        "live": lambda node: (live(view, node), node.node.name),
    }
    wanted = asked(request, sorts)
    chosen = {name: request.query.get(name, "") for name in ("state", "datacenter", "virtual_datacenter")}

    def keeps(node: NodeView) -> bool:
        document = node.node
        if chosen["datacenter"] not in ("", document.datacenter) or chosen["virtual_datacenter"] not in ("", document.virtual_datacenter):
            return False
        if chosen["state"] and state(node) != chosen["state"]:
            return False
        text = wanted.text
        return not text or text in document.name.lower() or document.id.startswith(text) or text in document.address or text in document.node_class.lower()

    found = [node for node in view.nodes.values() if keeps(node)]
    return shown(request, view, ("nodes",), [row(view, node) for node in page_of(found, wanted, sorts, "state")], len(found))


async def topology(request: web.Request, leading: Leading) -> web.Response:
    """By physical and virtual datacenter, each with its nodes: [id, name, state, live allocs, share of cpu, of memory].
    CPU in MHz, Memory in MiB, each [given to allocs, offered]."""
    view = leading.view
    places: dict[tuple[str, str], dict[str, Any]] = {}
    all_used, all_total = view.table.used.tolist(), view.table.total.tolist()  # at once: numpy's numbers one by one are slow
    for node in sorted(view.nodes.values(), key=lambda one: (one.node.name, one.id)):
        document, number = node.node, view.table.rows[node.id]
        used, total = all_used[number], all_total[number]
        place = places.setdefault(
            (document.datacenter, document.virtual_datacenter),
            {
                "Datacenter": document.datacenter,
                "VirtualDatacenter": document.virtual_datacenter,
                "States": {},
                "Live": 0,
                "CPU": [0, 0],
                "Memory": [0, 0],
                "Nodes": [],
            },
        )
        word, count = state(node), live(view, node)
        place["States"][word] = place["States"].get(word, 0) + 1
        place["Live"] += count
        for name, column in (("CPU", _CPU), ("Memory", _MEMORY)):
            place[name][0] += int(used[column])
            place[name][1] += int(total[column])
        shares = (round(used[column] / (total[column] or 1.0), 3) for column in (_CPU, _MEMORY))
        place["Nodes"].append([document.id, document.name, word, count, *shares])
    return answer(request, [places[key] for key in sorted(places)], index=view.topic_index(("nodes",)))
