"""Would this job close a circle: Vault reached through what needs Vault? vault/guard.py decides, this finds the facts.

    facts of the view ──> examine (beside the loop) ──wanted──> looked up, all at once ──> examine …

What runs and what it holds is in the view; services that others registered, prepared queries and DNS names are looked
up as the guard asks for them. What cannot be looked up in time is taken as leading nowhere: a job is refused for what is
known, never because Consul or DNS was slow, nor because of a fault in here.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from catalog.client import Client
from catalog.names import query_services, service_instances
from leader.decide.constraints import violated
from leader.decide.feasible import constraints_of, in_datacenters
from leader.events import EventTopic
from leader.view import View
from model.alloc import Alloc, Apart
from model.errors import DroverError, StoreRefused, StoreUnavailable
from model.job import Job, Namespace, TaskGroup
from model.node import Node
from model.snapshot import JobKey
from model.upstreams import shortest
from vault.directory import Directory
from vault.guard import ADDRESS_ATTRIBUTE, LOCAL, Facts, Found, Instance, Wanted, examine, named
from vault.threads import Threads

log = logging.getLogger("drover.leader")

T = TypeVar("T")

# What one submit may cost: all look-ups together, in time and in number. What comes later leads nowhere.
_FIND_S_MAX = 3.0
_LOOKUPS_MAX = 64
# Each round looks up what the one before led to. A way has two or three hops, a service's two rounds each.
_ROUNDS_MAX = 16
# The resolver may take 10 s and more for a name; nobody waits for it longer than above, and no other work does at all.
_RESOLVERS = Threads(4)
# How many nodes and allocs are looked at in one go: a few milliseconds' worth.
_LOOKED_AT_ONCE = 2000
# How often the way to Vault is looked at anew: for what comes first, and for warnings; submits look themselves.
_LOOK_S = 30.0


class VaultCycle(DroverError):
    """The job is part of a circle: Vault is reached through what needs Vault."""


async def admit(view: View, client: Client, job: Job, *, allows_cycle: bool) -> tuple[str, ...]:
    """What whoever submits the job is to be told. Raises VaultCycle."""
    try:
        cycle = (await find(view, client, job)).cycle_of((job.namespace, job.id))
    except Exception:
        log.exception("whether job %s closes a Vault cycle could not be found out: it is taken as it is", job.id)
        return ()
    if cycle is None:
        return ()
    if allows_cycle:
        return (str(cycle),)
    raise VaultCycle(f"{cycle}\n-allow-vault-cycle submits it all the same: until Vault is there, nothing of this would start.")


def allowed(view: View, key: JobKey, consul_index: int, cycles: Iterable[str]) -> None:
    """Notes that a job which closes these was written all the same."""
    for cycle in cycles:
        log.warning("audit: job %s is allowed to close a Vault cycle: %s", key[1], " ".join(cycle.split()))
        view.note(consul_index, EventTopic.JOB, "VaultCycleAllowed", view.jobs[key])


async def find(view: View, client: Client, job: Job | None = None) -> Found:
    """The ways to every Vault that agents use, with this job in place of its current version."""
    if not has_vault(view):
        return Found()
    facts, budget = facts_of(view, job), _Budget(asyncio.get_running_loop().time() + _FIND_S_MAX)
    found = await _examined(view, facts)
    for _ in range(_ROUNDS_MAX):
        if not found.wanted:
            break
        facts = await _looked_up(facts, view, client, found.wanted, budget)
        found = await _examined(view, facts)
    return found


async def known(view: View) -> frozenset[JobKey]:
    """The jobs that Vault is reached through, as far as the view alone tells."""
    if not has_vault(view):
        return frozenset()
    try:
        return (await _examined(view, facts_of(view))).bootstrap
    except Exception:
        log.exception("which jobs Vault is reached through could not be found out")
        return frozenset()


def has_vault(view: View) -> bool:
    return any(ADDRESS_ATTRIBUTE in node.node.attributes for node in view.nodes.values())


async def _examined(view: View, facts: Facts) -> Found:
    """In a thread: templates have to be read, perhaps of hundreds of jobs."""
    jobs = {key: job for key, job in view.jobs.items() if _counts(view, key, job)}

    def work() -> Found:
        with facts.jobs.lock:  # who asked before may have gone away, and their thread be at it still
            facts.jobs.update(jobs)
            return examine(facts)

    async with view.directory_turn:
        return await asyncio.to_thread(work)


def _counts(view: View, key: JobKey, job: Job) -> bool:
    """A stopped job with all that runs of it still: it ends, and does not come back. What was left running stays."""
    return not job.stop or (job.orphans == "leave" and any(map(_is_left, view.allocs_by_job.get(key, {}).values())))


def _is_left(alloc: Alloc) -> bool:
    return alloc.desired.apart is Apart.ORPHANED and not alloc.is_terminal and not alloc.desired.is_stopping


def facts_of(view: View, job: Job | None = None) -> Facts:
    return Facts(
        jobs=view.directory,
        instead=Directory({} if job is None else {(job.namespace, job.id): job}),
        nodes=tuple(node.node for node in view.nodes.values()),
        may_run=may_run(dict(view.table.bindings)),
    )


def may_run(bindings: Mapping[Namespace, Sequence[str]]) -> Callable[[Job, TaskGroup, Node], bool]:
    """As placement has it, but for what comes and goes: drivers, room, whether the node takes work just now.
    bindings: the virtual datacenters of namespaces that are bound to some."""

    def answer(job: Job, group: TaskGroup, node: Node) -> bool:
        bound = bindings.get(job.namespace, ())
        return in_datacenters(job.datacenters, node.datacenter, node.virtual_datacenter, bound) and not any(
            violated(one, node) for one in constraints_of(job, group)
        )

    return answer


# ---- look-ups


@dataclass(slots=True)
class _Budget:
    """Of one submit. ends_s: on the loop's clock."""

    ends_s: float
    lookups: int = _LOOKUPS_MAX

    def take(self, wanted: Wanted) -> bool:
        self.lookups -= 1
        if self.lookups == -1:
            log.warning("the way to Vault: %s %s is not looked up, nor what follows: %d look-ups are enough", wanted.kind, wanted.name, _LOOKUPS_MAX)
        return self.lookups >= 0


async def _looked_up(facts: Facts, view: View, client: Client, wanted: Iterable[Wanted], budget: _Budget) -> Facts:
    """Everything that is wanted has an entry afterwards, though it be empty."""
    services, queries, hosts = dict(facts.services), dict(facts.queries), dict(facts.hosts)

    async def service(one: Wanted) -> None:
        services[one.name, one.datacenter] = await _service(client, one, budget)

    async def query(names: list[str]) -> None:
        known = await _queries(client, names, budget)
        queries.update({name: known.get(name, "") for name in names})

    async def host(one: Wanted) -> None:
        hosts[one.name] = await _host(one.name, budget)

    asked = sorted(one for one in wanted if one.kind != "address")
    held, left = await _held(view, [(one.name, one.port) for one in wanted if one.kind == "address"])
    async with asyncio.TaskGroup() as tasks:
        for one in asked:
            if one.kind == "service":
                services[one.name, one.datacenter] = frozenset()
                if budget.take(one):
                    tasks.create_task(service(one), name=f"vault path: service {one.name}")
            elif one.kind == "host":
                hosts[one.name] = frozenset()
                if budget.take(one):
                    tasks.create_task(host(one), name=f"vault path: host {one.name}")
        if names := [one.name for one in asked if one.kind == "query"]:
            tasks.create_task(query(names), name="vault path: prepared queries")
    return replace(
        facts, services=services, queries=queries, hosts=hosts, held={**facts.held, **held}, left={**facts.left, **left}
    )


async def _held(
    view: View, asked: Collection[tuple[str, int]]
) -> tuple[dict[tuple[str, int], frozenset[JobKey]], dict[JobKey, Job]]:
    """Whose allocs have those ports, and of the jobs that are purged among them the documents."""
    found: dict[tuple[str, int], set[JobKey]] = {at: set() for at in asked}
    left: dict[JobKey, Job] = {}
    hosts, ports = {host for host, _ in asked}, {port for _, port in asked}
    looked = 0
    for node in [one.node for one in view.nodes.values()] if asked else ():
        looked += 1
        addresses = {shortest(one) or one: one for one in (node.address, *(network.address for network in node.host_networks))}
        allocs = view.allocs_by_node.get(node.id, {}) if LOCAL in hosts or not hosts.isdisjoint(addresses) else {}
        for alloc in list(allocs.values()):
            looked += 1
            key = alloc.desired.namespace, alloc.desired.job_id
            for one in alloc.desired.ports:
                if one.value not in ports or not _holds_on(view, key, alloc):
                    continue
                if (document := view.versions.get((key, alloc.desired.job_version))) is not None and key not in view.jobs:
                    left[key] = document
                for host in (LOCAL, *(address for address, said in addresses.items() if one.host_ip in ("", said))):
                    if (host, one.value) in found:
                        found[host, one.value].add(key)
        if looked >= _LOOKED_AT_ONCE:
            looked = 0
            await asyncio.sleep(0)
    return {at: frozenset(keys) for at, keys in found.items()}, left


def _holds_on(view: View, key: JobKey, alloc: Alloc) -> bool:
    """Whether the port is to stay with it. What was told to end serves nothing any more, though it be there still."""
    if alloc.is_terminal or alloc.desired.is_stopping:
        return False
    job = view.jobs.get(key)
    return alloc.desired.apart is Apart.ORPHANED or (job is not None and not job.stop)


async def _service(client: Client, wanted: Wanted, budget: _Budget) -> frozenset[Instance]:
    async def ask() -> frozenset[Instance]:
        return frozenset(Instance(*one) for one in await service_instances(client, wanted.name, wanted.datacenter))

    return await _answer(ask(), f"service {wanted.name}", budget) or frozenset()


async def _queries(client: Client, names: Iterable[str], budget: _Budget) -> dict[str, str]:
    return await _answer(query_services(client), f"prepared query {', '.join(names)}", budget) or {}


async def _host(name: str, budget: _Budget) -> frozenset[str]:
    asking = _RESOLVERS.run(lambda: socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    return frozenset(str(address[0]) for *_, address in await _answer(asking, f"host {name}", budget) or ())


async def _answer(asking: Coroutine[Any, Any, T], what: str, budget: _Budget) -> T | None:
    """None where there is none in time, or it cannot be read. Raises nothing: a TaskGroup one of whose children fails at the
    moment of its cancellation eats the cancellation (CPython 3.11), and the term would never end."""
    try:
        async with asyncio.timeout_at(budget.ends_s):
            return await asking
    except (StoreUnavailable, StoreRefused, TimeoutError, OSError, UnicodeError) as error:
        log.warning("the way to Vault: %s is not looked up: %s", what, error or "no answer in time")
    except Exception:
        log.exception("the way to Vault: the answer about %s cannot be read", what)
    return None


# ---- the term's part


class Term(Protocol):
    """What the part below needs of a term (leading.py)."""

    view: View
    client: Client


@dataclass(slots=True)
class VaultPath:
    """Keeps the view's `bootstrap` up to date, and warns of what no job file shows: an agent whose Vault is reached
    through jobs of drover's own."""

    term: Term
    _told: frozenset[str] = field(default_factory=frozenset)

    async def run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:
                log.exception("the way to Vault could not be looked at")
            await asyncio.sleep(_LOOK_S)

    async def _look(self) -> None:
        found = await find(self.term.view, self.term.client)
        self.term.view.bootstrap = found.bootstrap
        told = frozenset(warnings(found))
        for line in sorted(told - self._told):
            log.warning("%s", line)
        self._told = told


def warnings(found: Found) -> list[str]:
    """Of each Vault that jobs stand before, and of each circle, a sentence."""
    lines = []
    for address, servers in found.servers.items():
        if servers:
            jobs = ", ".join(sorted(named(server.job) for server in servers))
            lines.append(f"Vault at {address} is reached through {jobs}: they are placed first, and must never need Vault")
    return [*lines, *(f"Vault could not be reached without Vault: {' -> '.join(cycle.chain)}" for cycle in found.cycles)]
