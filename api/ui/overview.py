"""The UI's front page, and the pulse that each page asks for: who leads, and since when is Consul not heard?"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from api.context import CONTEXT
from api.query import answer
from api.ui import jobs
from api.ui.activity import Activity, Line
from api.ui.nodes import state
from leader import braking
from leader.leading import Leading

# The newest term's, made when the first page asks.
ACTIVITY: web.AppKey[list[Activity]] = web.AppKey("activity", list)
_FAILING_MAX, _ROLLING_MAX, _LINES_MAX = 12, 12, 40


@dataclass(slots=True)
class Braking:
    """The brake as it was a moment ago: each page asks for it every few seconds, and it is reckoned from all nodes."""

    leading: Leading
    at_s: float
    status: braking.BrakeStatus


BRAKING: web.AppKey[list[Braking]] = web.AppKey("braking", list)
_BRAKE_FRESH_S = 1.0


def _brake(request: web.Request, leading: Leading) -> braking.BrakeStatus:
    known, now_s = request.app[BRAKING], asyncio.get_running_loop().time()
    if not known or known[0].leading is not leading or now_s - known[0].at_s > _BRAKE_FRESH_S:
        known[:] = [Braking(leading, now_s, braking.status(leading))]
    return known[0].status


def _pulse(request: web.Request, leading: Leading) -> dict[str, Any]:
    """Spans in seconds. ConsulAge: since the last answer of Consul that confirmed the lease was asked for."""
    loop, fenced = asyncio.get_running_loop(), leading.fenced
    lease, brake = fenced.lease, _brake(request, leading)
    leader = lease.candidate.leader
    return {
        "Now": fenced.now_ns,
        "Version": request.app[CONTEXT].version,
        "Region": request.app[CONTEXT].region,
        "Leader": {"Name": leader.name, "NodeID": leader.node_id, "Address": leader.http_addr, "Epoch": fenced.epoch},
        "LockAge": round(loop.time() - leading.since_s, 1),
        "ConsulAge": round(max(0.0, lease.candidate.ttl_s - (lease.deadline_s - loop.time())), 1),
        "Brake": {
            "Engaged": brake.engaged,
            "Held": brake.held_s,
            "Scopes": [{"Name": one.name, "Unheard": one.unheard, "Total": one.total} for one in brake.scopes if one.is_engaged],
        },
    }


async def pulse(request: web.Request, leading: Leading) -> web.Response:
    """Asked for each few seconds by every page that is open."""
    return answer(request, _pulse(request, leading), index=leading.view.api_index(leading.view.index))


async def overview(request: web.Request, leading: Leading) -> web.Response:
    """What is of jobs is of those that the caller may read; Nodes is null for who may not read nodes."""
    view, rights = leading.view, request.app[CONTEXT].rights
    sees = await rights.readable(request, view.jobs)
    has_nodes = await rights.sees_nodes(request)
    now_s = leading.fenced.now_ns // 1_000_000_000
    everything = await jobs.standings(request, leading)
    stand = [one for one in everything if sees(one.key) and one.key in view.jobs]
    failing = sorted((one for one in stand if one.severity), key=lambda one: (-one.severity, one.job.id))
    rolling = [one for one in stand if one.deployment is not None and one.deployment.is_active]
    counts: Counter[str] = Counter()
    for one in stand:
        counts.update(jobs.counted(one.counts, one.queued))
    lines = [line for line in _activity(request, leading, everything) if (has_nodes if line.job is None else sees(line.job))]
    shown = _pulse(request, leading) | {
        "Jobs": dict(Counter(one.status for one in stand)),
        "Failing": [jobs.row(view, one, now_s) for one in failing[:_FAILING_MAX]],
        "FailingTotal": len(failing),
        "Rolling": [jobs.row(view, one, now_s) for one in rolling[:_ROLLING_MAX]],
        "Allocs": dict(counts),
        "Nodes": _nodes(leading) if has_nodes else None,
        "Activity": [line.document() for line in lines[:_LINES_MAX]],
        "Vault": _vault(request),
    }
    return answer(request, shown, index=view.api_index(view.index))


def _activity(request: web.Request, leading: Leading, everything: list[jobs.Standing]) -> list[Line]:
    known = request.app[ACTIVITY]
    if not known or known[0].view is not leading.view:
        known[:] = [Activity(leading.view, tuple(one.key for one in everything if one.severity))]
    return known[0].lines(leading.fenced.now_ns)


def _nodes(leading: Leading) -> list[dict[str, Any]]:
    """How many are in which state, by physical and virtual datacenter."""
    places: dict[tuple[str, str], Counter[str]] = {}
    for node in leading.view.nodes.values():
        places.setdefault((node.node.datacenter, node.node.virtual_datacenter), Counter())[state(node)] += 1
    return [
        {"Datacenter": datacenter, "VirtualDatacenter": virtual, "States": dict(places[datacenter, virtual])}
        for datacenter, virtual in sorted(places)
    ]


def _vault(request: web.Request) -> dict[str, Any]:
    """As the leader's own agent sees it."""
    login = request.app[CONTEXT].vault
    if login is None:
        return {"Enabled": False}
    health = login.health
    return {
        "Enabled": True,
        "Usable": health is not None and health.is_usable,
        "State": health.state if health is not None else "not asked yet",
        "Error": login.error,
    }


async def may(request: web.Request, leading: Leading) -> web.Response:
    """What the caller may do with `?job=` of `?namespace=` and with `?node=`, or with any of them where none is named."""
    context, view = request.app[CONTEXT], leading.view
    return answer(request, await context.rights.of_ui(request, view), index=view.api_index(view.index))
