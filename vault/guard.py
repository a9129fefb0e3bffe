"""Would a job have to be served by Vault so that Vault can be reached?

    job ──needs──> Vault ──is reached at──> hop ──is served by──> job ──leads on to──> hop ──> …

A job needs Vault when a task has a `vault` block or a template that reads a secret. It serves a Vault when it registers
the service, or holds the host and port, that the configured address or a hop already on that way names; what it leads
on to is named by its `drover_upstreams` meta, else by its templates. A job that only looks Vault up serves nothing.

Pure: what has to be looked up first is told by `wanted`, and asked for anew with the answers.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from model.job import Constraint, Job, Task, TaskGroup
from model.snapshot import JobKey
from template import TemplateFault, What, parse
from template.reads import Reads

# Meta of a job, group or task: what a balancer leads on to, where its templates do not say it or say too much.
UPSTREAMS_META = "drover_upstreams"

_HTTP_PORT, _HTTPS_PORT = 80, 443
# In a template's text: a name of Consul's DNS or an address, each with a port.
_WRITTEN = re.compile(r"\b(?P<host>(?:[\w-]+\.)+consul|(?:\d{1,3}\.){3}\d{1,3}):(?P<port>\d{1,5})\b")
_SERVICE = re.compile(r"(?:(?P<tag>[\w-]+)\.)?(?P<name>[\w-]+)\.service(?:\.[\w-]+)*\.consul\.?")
_RFC_2782 = re.compile(r"_(?P<name>[\w-]+)\._(?P<tag>[\w-]+)(?:\.service)?(?:\.[\w-]+)*\.consul\.?")
_QUERY = re.compile(r"(?P<name>[\w.-]+)\.query(?:\.[\w-]+)*\.consul\.?")
_NODE = re.compile(r"(?P<name>[\w-]+)\.node(?:\.[\w-]+)*\.consul\.?")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultAt:
    """A Vault by its configured address (a URL), and the datacenters whose agents use it."""

    address: str
    datacenters: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A node: its names (drover's, Consul's, its id), addresses and datacenters, the virtual one among them."""

    names: frozenset[str]
    addresses: frozenset[str]
    datacenters: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of the cluster.

    jobs: those that are not stopped, the one that is asked about among them.
    Found out when they are wanted: held, whose allocs have a port of an address; services, addresses in the catalog;
    queries, services of prepared queries; hosts, addresses of DNS names. What was looked up and is not there has an empty entry.
    """

    vaults: tuple[VaultAt, ...]
    jobs: Mapping[JobKey, Job]
    machines: tuple[Machine, ...] = ()
    held: Mapping[tuple[str, int], frozenset[JobKey]] = field(default_factory=dict)
    services: Mapping[str, frozenset[tuple[str, int]]] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that has to be looked up. kind: service, query, host or address, which has a port."""

    kind: str
    name: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a connection goes: a service in Consul (with a tag or without), else a host and a port."""

    service: str = ""
    tag: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        tagged = f"{self.tag}.{self.service}" if self.tag else self.service
        return f'service "{tagged}"' if self.service else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A job on the way to a Vault. way: from the configured address to it, a sentence each."""

    job: JobKey
    way: tuple[str, ...]
    through: tuple[JobKey, ...]  # the jobs on that way, itself the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """jobs: all that are part of it. chain: why, a sentence each, from the job that needs Vault back to itself."""

    jobs: frozenset[JobKey]
    chain: tuple[str, ...]

    def __str__(self) -> str:
        first, *others = self.chain
        return "\n".join(("Vault could not be reached without Vault:", f"  {first}", *(f"  -> {one}" for one in others)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """servers: of each Vault's address, the jobs that it is reached through. wanted: what is to be looked up for a better answer."""

    cycles: tuple[Cycle, ...]
    servers: Mapping[str, tuple[Server, ...]]
    wanted: frozenset[Wanted]

    @property
    def bootstrap(self) -> frozenset[JobKey]:
        """Jobs that have to run before anybody can reach Vault."""
        return frozenset(server.job for servers in self.servers.values() for server in servers)

    def cycle_of(self, key: JobKey) -> Cycle | None:
        """The first that this job is part of."""
        return next((cycle for cycle in self.cycles if key in cycle.jobs), None)


def examine(facts: Facts) -> Found:
    wanted: set[Wanted] = set()
    known = _Known(facts, wanted)
    servers = {vault.address: tuple(_servers(known, vault)) for vault in facts.vaults}
    return Found(cycles=tuple(_cycles(facts, servers)), servers=servers, wanted=frozenset(wanted))


def need(job: Job) -> str:
    """Why it needs Vault, in words; empty when it does not."""
    for group in job.task_groups:
        for task in group.tasks:
            if task.vault is not None:
                return f'its task "{task.name}" has a vault block'
            for number, read in enumerate(_reads(task)):
                if read.needs_vault:
                    path = next(iter(sorted(read.secrets)), "")
                    what = f'reads the secret "{path}"' if path else "reads secrets"
                    return f'template {number + 1} of its task "{task.name}" {what}'
    return ""


def _cycles(facts: Facts, servers: Mapping[str, tuple[Server, ...]]) -> Iterator[Cycle]:
    """Vault -> job on its way -> the Vaults that this job needs -> …, until one comes again."""
    needs: dict[str, list[tuple[Server, str, str]]] = {}  # by a Vault: (who serves it, why it needs one, which)
    for address, found in servers.items():
        for server in found:
            job = facts.jobs[server.job]
            if why := need(job):
                # One's own Vault first: that is the shorter story.
                used = sorted(_vaults_of(facts, job), key=lambda other, own=address: (other != own, other))  # type: ignore[misc]
                needs.setdefault(address, []).extend((server, why, other) for other in used)
    told: set[frozenset[str]] = set()
    for start in servers:
        for edges in _rounds(needs, start, start, ()):
            round_of = frozenset(edge[2] for edge in edges) | {server.job[1] for server, _, _ in edges}
            if round_of not in told:
                told.add(round_of)
                yield _told(edges)


def _rounds(
    needs: Mapping[str, list[tuple[Server, str, str]]], at: str, start: str, edges: tuple[tuple[Server, str, str], ...]
) -> Iterator[tuple[tuple[Server, str, str], ...]]:
    for edge in needs.get(at, ()):
        if edge[2] == start:
            yield (*edges, edge)
        elif all(edge[2] != other for _, _, other in edges):
            yield from _rounds(needs, edge[2], start, (*edges, edge))


def _told(edges: tuple[tuple[Server, str, str], ...]) -> Cycle:
    """From the job that needs the first Vault, over what serves it, to that job again."""
    jobs: set[JobKey] = set()
    chain: list[str] = []
    for (needing, why, address), (serving, _, _) in zip((edges[-1], *edges[:-1]), edges, strict=True):
        chain += (f"{named(needing.job)} needs Vault: {why}", f"Vault is reached at {address}", *serving.way)
        jobs.update(serving.through)
    return Cycle(jobs=frozenset(jobs), chain=tuple(chain))


def _vaults_of(facts: Facts, job: Job) -> Iterator[str]:
    """Those that the agents of its datacenters use."""
    for vault in facts.vaults:
        if not vault.datacenters or any(fnmatchcase(dc, wish) for dc in vault.datacenters for wish in job.datacenters):
            yield vault.address


def named(key: JobKey) -> str:
    namespace, job_id = key
    return f'job "{job_id}"' if namespace == "default" else f'job "{job_id}" of namespace "{namespace}"'


def _servers(known: "_Known", vault: VaultAt) -> Iterator[Server]:
    """Breadth first: the shortest way to each job."""
    ways: list[tuple[Hop, tuple[str, ...], tuple[JobKey, ...]]] = [(hop, (), ()) for hop in known.hops(vault.address)]
    seen: set[Hop] = set()
    found: set[JobKey] = set()
    while ways:
        hop, way, through = ways.pop(0)
        if hop in seen:
            continue
        seen.add(hop)
        for key, how in known.who_serves(hop):
            if key in found:
                continue
            found.add(key)
            here = (*way, f"{hop} {how} {named(key)}")
            yield Server(job=key, way=here, through=(*through, key))
            for onward, by in known.onward(key):
                ways.append((onward, (*here, f"{named(key)} leads on to {onward} ({by})"), (*through, key)))


class _Known:
    """Looks things up in the facts, and notes what is not there yet."""

    def __init__(self, facts: Facts, wanted: set[Wanted]) -> None:
        self._facts, self._wanted = facts, wanted
        self._registering: dict[str, list[tuple[JobKey, frozenset[str]]]] = {}
        for key, job in facts.jobs.items():
            for service in (*(s for g in job.task_groups for s in g.services), *(s for t in _tasks(job) for s in t.services)):
                tags = frozenset((*service.tags, *service.canary_tags))
                self._registering.setdefault(service.name.lower(), []).append((key, tags))
        self._static: dict[int, list[tuple[JobKey, Job, TaskGroup]]] = {}
        for key, job in facts.jobs.items():
            for group in job.task_groups:
                for port in _static_ports(group):
                    self._static.setdefault(port, []).append((key, job, group))

    def hops(self, address: str) -> tuple[Hop, ...]:
        """Of a URL, `host:port`, or a bare name, which is a service."""
        if "://" not in address and ":" not in address and "." not in address:
            return (Hop(service=address.lower()),)
        url = urlsplit(address if "://" in address else f"//{address}")
        try:
            port = url.port
        except ValueError:
            port = None
        return self._of_host((url.hostname or "").lower(), port or (_HTTPS_PORT if url.scheme == "https" else _HTTP_PORT))

    def _of_host(self, host: str, port: int) -> tuple[Hop, ...]:
        if match := _RFC_2782.fullmatch(host) or _SERVICE.fullmatch(host):
            return (_service(match["name"], match["tag"] or ""),)
        if match := _QUERY.fullmatch(host):
            service = self._facts.queries.get(match["name"])
            if service is None:
                self._wanted.add(Wanted("query", match["name"]))
            return (Hop(service=service.lower()),) if service else ()
        if match := _NODE.fullmatch(host):
            of_node = {one for machine in self._facts.machines if match["name"] in machine.names for one in machine.addresses}
            return tuple(Hop(host=one, port=port) for one in sorted(of_node))
        if _is_address(host) or host == "localhost":
            return (Hop(host=host, port=port),)
        addresses = self._facts.hosts.get(host)
        if addresses is None:
            self._wanted.add(Wanted("host", host))
        return tuple(Hop(host=one, port=port) for one in sorted(addresses or ()))

    def who_serves(self, hop: Hop) -> Iterator[tuple[JobKey, str]]:
        if not hop.service:
            for key in sorted(self._holders(hop.host, hop.port)):
                yield key, "is held by"
            return
        for key, tags in self._registering.get(hop.service, ()):
            if not hop.tag or hop.tag in tags or any("$" in tag for tag in tags):
                yield key, "is registered by"
        addresses = self._facts.services.get(hop.service)
        if addresses is None:
            self._wanted.add(Wanted("service", hop.service))
        for host, port in sorted(addresses or ()):
            for key in sorted(self._holders(host, port)):
                yield key, f"is at {host}:{port}, which is held by"

    def _holders(self, host: str, port: int) -> set[JobKey]:
        """Who runs there already, and whose static port that would be on a machine that it may run on."""
        is_local = host == "localhost" or (_is_address(host) and ip_address(host).is_loopback)
        machines = [m for m in self._facts.machines if is_local or host in m.addresses]
        addresses = {host, *(one for machine in machines if is_local for one in machine.addresses)}
        self._wanted.update(Wanted("address", one, port) for one in addresses if (one, port) not in self._facts.held)
        found = {key for one in addresses for key in self._facts.held.get((one, port), ())}
        for key, job, group in self._static.get(port, ()):
            if any(_may_run_on(job, group, machine) for machine in machines):
                found.add(key)
        return found

    def onward(self, key: JobKey) -> Iterator[tuple[Hop, str]]:
        """What a job on the way leads on to, and what says so."""
        job = self._facts.jobs[key]
        if upstreams := _upstreams(job):
            for address in upstreams:
                for hop in self.hops(address):
                    yield hop, f"meta {UPSTREAMS_META}"
            return
        found = [(hop, by) for task in _tasks(job) for hop, by in self._in_templates(task)]
        # A balancer of many services leads to Vault by the one that is called so.
        to_vault = [one for one in found if "vault" in one[0].service]
        yield from to_vault or found

    def _in_templates(self, task: Task) -> Iterator[tuple[Hop, str]]:
        for number, (one, read) in enumerate(zip(task.templates, _reads(task), strict=True)):
            by = f'template {number + 1} of its task "{task.name}"'
            for service in sorted(read.of(What.SERVICE), key=lambda found: (found.name, found.tag)):
                yield _service(service.name, service.tag), by
            for match in _WRITTEN.finditer(one.embedded_tmpl):
                for hop in self._of_host(match["host"].lower(), int(match["port"])):
                    yield hop, by


def _service(name: str, tag: str) -> Hop:
    """Without the tags that Vault registers itself with, or that are a protocol's: no job file names them."""
    return Hop(service=name.lower(), tag="" if tag in ("active", "standby", "tcp") else tag)


def _tasks(job: Job) -> Iterator[Task]:
    for group in job.task_groups:
        yield from group.tasks


def _reads(task: Task) -> Iterator[Reads]:
    for one in task.templates:
        yield _reads_of(one.embedded_tmpl, one.left_delim, one.right_delim)


@lru_cache(maxsize=2048)
def _reads_of(text: str, left: str, right: str) -> Reads:
    """Of a text that is wrong: nothing. It is refused for that."""
    try:
        return parse(text, name="", left=left, right=right).reads()
    except TemplateFault:
        return Reads(all=frozenset(), open=(), faults=())


def _upstreams(job: Job) -> tuple[str, ...]:
    metas: Iterable[Mapping[str, str]] = (job.meta, *(g.meta for g in job.task_groups), *(t.meta for t in _tasks(job)))
    return tuple(one for meta in metas for one in re.split(r"[,\s]+", meta.get(UPSTREAMS_META, "")) if one)


def _static_ports(group: TaskGroup) -> set[int]:
    networks = (*group.networks, *(n for task in group.tasks for n in task.resources.networks))
    return {port.value for network in networks for port in network.reserved_ports}


def _may_run_on(job: Job, group: TaskGroup, machine: Machine) -> bool:
    """As far as datacenters and constraints on the node itself tell; other constraints are taken as met."""
    constraints: tuple[Constraint, ...] = (*job.constraints, *group.constraints, *(c for t in group.tasks for c in t.constraints))
    return any(fnmatchcase(dc, wish) for dc in machine.datacenters for wish in job.datacenters) and all(
        one.rtarget in machine.names
        for one in constraints
        if one.ltarget in ("${node.unique.name}", "${node.unique.id}") and one.operand in ("=", "==", "is")
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
