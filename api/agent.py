"""The API's /v1/agent, /v1/status and /v1/regions: who is there and who leads."""

from typing import Any

from aiohttp import web

from api.context import CONTEXT
from api.query import answer


def _split(http_addr: str) -> tuple[str, int]:
    host, _, port = http_addr.rpartition(":")
    return host, int(port or 0)


async def agent_self(request: web.Request) -> web.Response:
    """Nomad's `stats` are a map of maps of strings; `node status -self` reads client.node_id there."""
    context = request.app[CONTEXT]
    leading = context.leading
    stats: dict[str, dict[str, str]] = {
        "nomad": {
            "server": str(context.is_candidate()).lower(),
            "leader": str(leading is not None).lower(),
            "bootstrap": "false",
        },
        "raft": {"num_peers": str(max(0, len(await context.members()) - 1))},
    }
    if context.agent is not None:
        stats["client"] = {
            "node_id": context.node_id,
            "num_allocations": str(sum(not r.is_dead for r in context.agent.allocs.values())),
            "known_servers": "",
            "heartbeat_ttl": "",
            "last_heartbeat": "",
        }
    member = _member(
        context.name, context.node_id, context.http_addr, context.region, context.datacenter, context.version
    )
    config = context.config | {"ACL": {"Enabled": await context.rights.is_asked()}}
    return answer(request, {"config": config, "stats": stats, "member": member})


def _member(name: str, node_id: str, http_addr: str, region: str, datacenter: str, version: str) -> dict[str, Any]:
    host, port = _split(http_addr)
    return {
        "Name": f"{name}.{region}",
        "Addr": host,
        "Port": port,
        "Status": "alive",
        "Tags": {
            "role": "nomad",
            "region": region,
            "dc": datacenter,
            "build": version,
            "port": str(port),
            "id": node_id,
            "vsn": "1",
        },
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    }


async def members(request: web.Request) -> web.Response:
    """The leader candidates, as Consul's catalog has them."""
    context = request.app[CONTEXT]
    shown = []
    for candidate in await context.members():
        member = _member(
            candidate.name, candidate.node_id, candidate.http_addr, context.region, candidate.datacenter, candidate.version
        )
        member["Status"] = "alive" if candidate.is_passing else "failed"
        shown.append(member)
    return answer(
        request,
        {
            "ServerName": context.name,
            "ServerRegion": context.region,
            "ServerDC": context.datacenter,
            "Members": shown,
        },
    )


async def servers(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    return answer(request, [m.http_addr for m in await context.members() if m.is_passing])


async def health(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    shown: dict[str, Any] = {}
    if context.agent is not None:
        shown["client"] = {"ok": True, "message": "ok"}
    if context.is_candidate():
        shown["server"] = {"ok": True, "message": "ok"}
    return answer(request, shown)


async def leader(request: web.Request) -> web.Response:
    found = await request.app[CONTEXT].leader()
    return answer(request, found.http_addr if found else "")


async def peers(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    return answer(request, [m.http_addr for m in await context.members() if m.is_passing])


async def regions(request: web.Request) -> web.Response:
    return answer(request, [request.app[CONTEXT].region])
