"""The API's /v1/agent, /v1/status and /v1/regions: who is there and who leads."""

import asyncio
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
from aiohttp import web

from api.context import CONTEXT
from api.query import BadRequest, Conflict, answer
from api.shapes import api_version
from model.errors import StoreRefused, StoreUnavailable

# What Consul may take to answer a question about the agent's health; a load balancer waits no longer.
_HEALTH_S = 2.0


def _split(http_addr: str) -> tuple[str, int]:
    host, _, port = http_addr.rpartition(":")
    return host, int(port or 0)


async def agent_self(request: web.Request) -> web.Response:
    """Nomad's `stats` are a map of maps of strings; `node status -self` reads client.node_id there, `check` num_peers,
    known_servers, heartbeat_ttl and last_heartbeat."""
    context = request.app[CONTEXT]
    leading, leader = context.leading, None
    members: Sequence[Any] = ()
    with suppress(StoreUnavailable, StoreRefused, TimeoutError):
        async with asyncio.timeout(_HEALTH_S):
            members, leader = await context.members(), await context.leader()
    stats: dict[str, dict[str, str]] = {
        "nomad": {
            "server": str(context.is_candidate()).lower(),
            "leader": str(leading is not None).lower(),
            "leader_addr": leader.http_addr if leader else "",
            "bootstrap": "false",
            "known_regions": "1",
        },
        "raft": {
            "num_peers": str(max(0, len(members) - 1)),
            "state": "Leader" if leading else "Follower",
            "term": str(leader.epoch if leader else 0),
            "last_contact": "0" if leading else "never",
        },
        "runtime": {
            "version": platform.python_version(),
            "arch": platform.machine(),
            "kernel.name": platform.system().lower(),
            "cpu_count": str(os.cpu_count() or 1),
        },
    }
    if context.agent is not None:
        ttl_s, age_s = context.heartbeat() or (0.0, None)
        stats["client"] = {
            "node_id": context.node_id,
            "num_allocations": str(sum(not r.is_dead for r in context.agent.allocs.values())),
            "known_servers": str(sum(one.is_passing for one in members)),
            "heartbeat_ttl": f"{ttl_s:g}s",
            "last_heartbeat": "never" if age_s is None else f"{age_s:.3f}s",
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
            "build": api_version(version),
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


async def set_servers(request: web.Request) -> web.Response:
    """`?address=`, may be repeated: candidates are found in Consul, so only those can be set that are there anyway."""
    given = [one.removeprefix("http://").removeprefix("https://") for one in request.query.getall("address", [])]
    if not any(given):
        raise BadRequest("missing server address")
    known = {one.http_addr for one in await request.app[CONTEXT].members()}
    if unknown := sorted(set(given) - known):
        raise BadRequest(f"{', '.join(unknown)}: no leader candidate; agents find those in Consul, they are not set")
    return web.Response()


async def health(request: web.Request) -> web.Response:
    """`?type=client|server`, else of both; 500 with the same body when something is bad, so that a load balancer sends
    calls elsewhere: no call about state can be answered without Consul and a leader. Tasks run on all the same, so
    nobody may take this for the node's life (ALIVE_PATH)."""
    context = request.app[CONTEXT]
    wanted = request.query.getall("type", ["client", "server"])
    fault, has_leader = "", False
    try:
        async with asyncio.timeout(_HEALTH_S):
            has_leader = context.leading is not None or await context.leader() is not None
    except (StoreUnavailable, StoreRefused, TimeoutError):
        fault = "Consul does not answer"
    shown: dict[str, dict[str, Any]] = {}
    if context.agent is not None and "client" in wanted:
        shown["client"] = {"ok": not fault, "message": fault or "ok"}
    if context.is_candidate() and "server" in wanted:
        shown["server"] = {"ok": has_leader, "message": fault or ("ok" if has_leader else "no leader")}
    response = answer(request, shown)
    if not all(one["ok"] for one in shown.values()):
        response.set_status(500)
    return response


async def force_leave(request: web.Request) -> web.Response:
    """`?node=`: a candidate that is gone is no member any more. An unknown one is none already."""
    context = request.app[CONTEXT]
    name = request.query.get("node", "")
    for one in await context.members():
        if name in (one.name, f"{one.name}.{context.region}", one.node_id):
            if one.is_passing:
                raise Conflict(f"{one.name} is alive: `drover server demote` takes it out of the election")
            await context.forget_member(one)
    return web.Response()


async def host(request: web.Request) -> web.Response:
    """The machine, for who looks into a fault. Without the process' environment: it may hold secrets."""
    found = await asyncio.to_thread(_host)
    return answer(request, {"AgentID": request.app[CONTEXT].node_id, "HostData": found})


def _host() -> dict[str, Any]:
    uname = platform.uname()
    addresses = {name: [one.address for one in found if one.family.name in ("AF_INET", "AF_INET6")] for name, found in psutil.net_if_addrs().items()}
    disks = {p.mountpoint: psutil.disk_usage(p.mountpoint) for p in psutil.disk_partitions(all=False) if os.path.isdir(p.mountpoint)}
    return {
        "OS": f"{uname.system} {uname.release} {uname.machine}",
        "Hostname": uname.node,
        "Network": [{"name": name, "addresses": found} for name, found in sorted(addresses.items())],
        "ResolvConf": _text("/etc/resolv.conf"),
        "Hosts": _text("/etc/hosts"),
        "Environment": {},
        "Disk": {mount: {"Total": usage.total, "Used": usage.used, "Free": usage.free} for mount, usage in disks.items()},
    }


def _text(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")[:65536]
    return ""


async def contact(request: web.Request) -> web.Response:
    """Who leads as this candidate knows, and whether it is out of contact with that one (leader/succession.py)."""
    return answer(request, msgspec.to_builtins(request.app[CONTEXT].contact()))


async def leader(request: web.Request) -> web.Response:
    found = await request.app[CONTEXT].leader()
    return answer(request, found.http_addr if found else "")


async def peers(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    return answer(request, [m.http_addr for m in await context.members() if m.is_passing])


async def regions(request: web.Request) -> web.Response:
    return answer(request, [request.app[CONTEXT].region])
