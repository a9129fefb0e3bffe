"""The API's /v1/operator/raft and /v1/operator/autopilot: leader candidates, told as Nomad tells of its servers.

There is no raft of drover's own: Consul's keeps the state, and whichever candidate holds the lock leads. So each
candidate is a voter, any number but one may fail, and a new one counts at once.
"""

from typing import Any

from aiohttp import web

from api.context import CONTEXT
from api.query import Conflict, answer
from api.shapes import api_version


async def raft_configuration(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    leader = await context.leader()
    servers = [
        {
            "ID": one.node_id,
            "Node": f"{one.name}.{context.region}",
            "Address": one.http_addr,
            "Leader": leader is not None and leader.node_id == one.node_id,
            "Voter": one.is_passing,
            "RaftProtocol": "3",
        }
        for one in await context.members()
    ]
    return answer(request, {"Servers": servers, "Index": leader.epoch if leader else 0})


async def remove_peer(request: web.Request) -> web.Response:
    raise Conflict("drover has no raft peers: `drover server demote` takes a candidate out of the election")


async def autopilot_configuration(request: web.Request) -> web.Response:
    return answer(
        request,
        {
            "CleanupDeadServers": False,
            "LastContactThreshold": f"{request.app[CONTEXT].election.lease.candidate.ttl_s:g}s",
            "MaxTrailingLogs": 0,
            "MinQuorum": 1,
            "ServerStabilizationTime": "0s",
            "EnableRedundancyZones": False,
            "DisableUpgradeMigration": True,
            "EnableCustomUpgrades": False,
            "CreateIndex": 0,
            "ModifyIndex": 0,
        },
    )


async def set_autopilot(request: web.Request) -> web.Response:
    raise Conflict("drover has no autopilot: candidates are watched by Consul, and what that does is set there")


async def autopilot_health(request: web.Request) -> web.Response:
    """429 when nobody leads or could."""
    context = request.app[CONTEXT]
    leader, members = await context.leader(), await context.members()
    passing = [one for one in members if one.is_passing]
    servers: list[dict[str, Any]] = [
        {
            "ID": one.node_id,
            "Name": f"{one.name}.{context.region}",
            "Address": one.http_addr,
            "SerfStatus": "alive" if one.is_passing else "failed",
            "Version": api_version(one.version),
            "Leader": leader is not None and leader.node_id == one.node_id,
            "LastContact": "0s",
            "LastTerm": leader.epoch if leader else 0,
            "LastIndex": 0,
            "Healthy": one.is_passing,
            "Voter": one.is_passing,
        }
        for one in members
    ]
    is_healthy = leader is not None and bool(passing)
    response = answer(
        request, {"Healthy": is_healthy, "FailureTolerance": max(0, len(passing) - 1), "Servers": servers}
    )
    if not is_healthy:
        response.set_status(429)
    return response
