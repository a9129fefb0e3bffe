"""Would this job close a circle: Vault reached through what needs Vault? vault/guard.py decides, this finds the facts.

What runs and what it holds is in the view; services that others registered, prepared queries and DNS names are looked
up as the guard asks for them. What cannot be looked up in time is taken as leading nowhere: a job is refused for what is
known, never because Consul or DNS was slow.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from catalog.client import Client
from catalog.names import query_service, service_addresses
from leader.view import View
from model.errors import DroverError, StoreRefused, StoreUnavailable
from model.job import Job
from model.snapshot import JobKey
from vault.guard import Facts, Found, Machine, VaultAt, Wanted, examine, named

log = logging.getLogger("drover.leader")

# How a node tells which Vault its agent uses.
ADDRESS_ATTRIBUTE = "vault.address"
# Each round looks up what the one before led to: an address, a balancer, another, and one to spare.
_ROUNDS_MAX = 5
_LOOKUP_S_MAX = 2.0
# How often the way to Vault is looked at anew: for what comes first, and for warnings; submits look themselves.
_LOOK_S = 30.0


class VaultCycle(DroverError):
    """The job is part of a circle: Vault is reached through what needs Vault."""


async def admit(view: View, client: Client, job: Job, *, allows_cycle: bool) -> tuple[str, ...]:
    """What whoever submits the job is to be told. Raises VaultCycle."""
    cycle = (await find(view, client, job)).cycle_of((job.namespace, job.id))
    if cycle is None:
        return ()
    if allows_cycle:
        log.warning("audit: job %s is allowed to close a Vault cycle: %s", job.id, " -> ".join(cycle.chain))
        return (str(cycle),)
    raise VaultCycle(f"{cycle}\n-allow-vault-cycle submits it all the same: until Vault is there, nothing of this would start.")


async def find(view: View, client: Client, job: Job | None = None) -> Found:
    """The ways to every Vault that agents use, with this job in place of its current version."""
    facts = facts_of(view, job)
    found = examine(facts)
    for _ in range(_ROUNDS_MAX):
        if not facts.vaults or not found.wanted:
            break
        facts = await _looked_up(facts, view, client, found.wanted)
        found = examine(facts)
    return found


def known(view: View) -> frozenset[JobKey]:
    """The jobs that Vault is reached through, as far as the view alone tells."""
    facts = facts_of(view)
    return examine(facts).bootstrap if facts.vaults else frozenset()


def facts_of(view: View, job: Job | None = None) -> Facts:
    jobs: dict[JobKey, Job] = {key: one for key, one in view.jobs.items() if not one.stop}
    if job is not None:
        jobs[job.namespace, job.id] = job
    vaults: dict[str, set[str]] = {}
    machines: list[Machine] = []
    for node in view.nodes.values():
        known = node.node
        datacenters = {known.datacenter, *filter(None, (known.virtual_datacenter,))}
        if address := known.attributes.get(ADDRESS_ATTRIBUTE):
            vaults.setdefault(address, set()).update(datacenters)
        machines.append(
            Machine(
                names=frozenset((known.name, known.consul_node, known.id)),
                addresses=frozenset((known.address, *(network.address for network in known.host_networks))),
                datacenters=frozenset(datacenters),
            )
        )
    return Facts(
        vaults=tuple(VaultAt(address=address, datacenters=frozenset(of)) for address, of in sorted(vaults.items())),
        jobs=jobs,
        machines=tuple(machines),
    )


def _held(view: View, address: str, port: int) -> frozenset[JobKey]:
    """Whose allocs have that port."""
    nodes = [n.id for n in view.nodes.values() if address == n.node.address or address in (one.address for one in n.node.host_networks)]
    return frozenset(
        (alloc.desired.namespace, alloc.desired.job_id)
        for node_id in nodes
        for alloc in view.allocs_by_node.get(node_id, {}).values()
        if not alloc.is_terminal and any(one.value == port and one.host_ip in ("", address) for one in alloc.desired.ports)
    )


async def _looked_up(facts: Facts, view: View, client: Client, wanted: Iterable[Wanted]) -> Facts:
    services, queries, hosts, held = dict(facts.services), dict(facts.queries), dict(facts.hosts), dict(facts.held)
    for one in wanted:
        match one.kind:
            case "service":
                services[one.name] = await _service(client, one.name)
            case "query":
                queries[one.name] = await _query(client, one.name)
            case "address":
                held[one.name, one.port] = _held(view, one.name, one.port)
            case _:
                hosts[one.name] = await _host(one.name)
    return replace(facts, services=services, queries=queries, hosts=hosts, held=held)


async def _service(client: Client, name: str) -> frozenset[tuple[str, int]]:
    try:
        async with asyncio.timeout(_LOOKUP_S_MAX):
            return await service_addresses(client, name)
    except (StoreUnavailable, StoreRefused, TimeoutError) as error:
        log.warning("the way to Vault: service %s is not looked up: %s", name, error)
        return frozenset()


async def _query(client: Client, name: str) -> str:
    try:
        async with asyncio.timeout(_LOOKUP_S_MAX):
            return await query_service(client, name)
    except (StoreUnavailable, StoreRefused, TimeoutError) as error:
        log.warning("the way to Vault: prepared query %s is not looked up: %s", name, error)
        return ""


async def _host(name: str) -> frozenset[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_LOOKUP_S_MAX):
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        log.warning("the way to Vault: %s is not resolved: %s", name, error)
        return frozenset()
    return frozenset(str(address[0]) for *_, address in found)


class Term(Protocol):
    """What the part below needs of a term (leading.py)."""

    view: View
    client: Client


@dataclass(slots=True)
class VaultPath:
    """Keeps the view's `bootstrap` up to date, and warns of what no job file shows: an agent whose Vault is reached
    through jobs of drover's own."""

    term: Term
    _told: frozenset[str] = frozenset()

    async def run(self) -> None:
        while True:
            found = await find(self.term.view, self.term.client)
            self.term.view.bootstrap = found.bootstrap
            told = frozenset(warnings(found))
            for line in sorted(told - self._told):
                log.warning("%s", line)
            self._told = told
            await asyncio.sleep(_LOOK_S)


def warnings(found: Found) -> list[str]:
    """Of each Vault that jobs stand before, and of each circle, a sentence."""
    lines = []
    for address, servers in found.servers.items():
        if servers:
            jobs = ", ".join(sorted(named(server.job) for server in servers))
            lines.append(f"Vault at {address} is reached through {jobs}: they are placed first, and must never need Vault")
    return [*lines, *(f"Vault could not be reached without Vault: {' -> '.join(cycle.chain)}" for cycle in found.cycles)]
