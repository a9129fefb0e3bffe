"""Would a job have to be served by Vault so that Vault can be reached?

    job ──needs──> Vault ──is reached at──> hop ──is served by──> job ──leads on to──> hop ──> …

A job needs Vault when a task has a `vault` block or a template that reads a secret. It serves a Vault when it registers
the service, or holds the host and port, that the configured address or a hop already on that way names; what it leads
on to is named by its `drover_upstreams` meta, else by its templates. A job that only looks Vault up serves nothing.

Pure: what has to be looked up first is told by `wanted`, and asked for anew with the answers. Whatever a job file or a
configuration holds, nothing here raises: what cannot be read leads nowhere.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from model.job import Job, Task, TaskGroup
from model.node import Node
from model.snapshot import JobKey
from model.upstreams import UPSTREAMS_META, Address, address_of, shortest, upstreams_of
from template import TemplateFault, What, parse
from template.reads import Reads
from vault.components import components
from vault.directory import Directory, service_names, tasks_of
from vault.hops import VAULT_TAGS, Hop, is_local, of_host, of_service, written

# How a node tells which Vault its agent uses.
ADDRESS_ATTRIBUTE = "vault.address"
# In `held`: an address and a port of whichever machine.
LOCAL = "localhost"
# Jobs on one way to a Vault. Real ways have two or three; what follows is not looked at.
_WAY_MAX = 32
# Where Vault listens unless it is told otherwise, and ports that say nothing.
_VAULT_PORT, _COMMON_PORTS = 8200, (80, 443)


class Instance(NamedTuple):
    """Of a service in Consul's catalog."""

    host: str
    port: int
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of the cluster.

    jobs: those that are not stopped. instead: the one that is asked about, in the place of its current version.
    left: jobs that were stopped or purged, of which something was left running.
    may_run: whether a group may run on a node at all.
    Found out when they are wanted: held, whose allocs have a port of an address; services, by name and datacenter; queries,
    services of prepared queries; hosts, addresses of DNS names. What was looked up and is not there has an empty entry.
    """

    jobs: Directory
    nodes: Sequence[Node]
    may_run: Callable[[Job, TaskGroup, Node], bool]
    instead: Directory = field(default_factory=Directory)
    left: Mapping[JobKey, Job] = field(default_factory=dict)
    held: Mapping[tuple[str, int], frozenset[JobKey]] = field(default_factory=dict)
    services: Mapping[tuple[str, str], frozenset[Instance]] = field(default_factory=dict)
    queries: Mapping[str, str] = field(default_factory=dict)
    hosts: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class Wanted:
    """Something that has to be looked up. kind: service (datacenter: Consul's, empty: the own one), query, host or address, which has a port."""

    kind: str
    name: str
    port: int = 0
    datacenter: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Server:
    """A job on the way to a Vault. before: the one that leads on to it; led: what says so, how: what makes it serve the hop."""

    job: JobKey
    hop: Hop
    how: str
    before: "Server | None" = None
    led: str = ""

    def back(self) -> Iterator["Server"]:
        """From itself to the first."""
        one: Server | None = self
        while one is not None:
            yield one
            one = one.before

    @property
    def way(self) -> tuple[str, ...]:
        """From the configured address to it, a sentence each."""
        told: list[str] = []
        for one in self.back():
            told.append(f"{one.hop} {one.how} {named(one.job)}")
            if one.before is not None:
                told.append(f"{named(one.before.job)} leads on to {one.hop} ({one.led})")
        return tuple(reversed(told))

    @property
    def through(self) -> tuple[JobKey, ...]:
        """The jobs on that way, itself the last."""
        return tuple(one.job for one in self.back())[::-1]


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
    """servers: of each Vault's address, the jobs that it is reached through. wanted: what is to be looked up for a better answer.
    cycles: so many that each job that is part of any is part of one of these."""

    cycles: tuple[Cycle, ...] = ()
    servers: Mapping[str, tuple[Server, ...]] = field(default_factory=dict)
    wanted: frozenset[Wanted] = frozenset()

    @property
    def bootstrap(self) -> frozenset[JobKey]:
        """Jobs that have to run before anybody can reach Vault."""
        return frozenset(server.job for servers in self.servers.values() for server in servers)

    def cycle_of(self, key: JobKey) -> Cycle | None:
        """The first that this job is part of."""
        return next((cycle for cycle in self.cycles if key in cycle.jobs), None)


def examine(facts: Facts) -> Found:
    known = _Known(facts)
    servers = {address: tuple(_servers(known, address)) for address in known.vaults}
    return Found(cycles=tuple(_cycles(known, servers)), servers=servers, wanted=frozenset(known.wanted))


def named(key: JobKey) -> str:
    namespace, job_id = key
    return f'job "{job_id}"' if namespace == "default" else f'job "{job_id}" of namespace "{namespace}"'


# ---- the way to a Vault


def _servers(known: "_Known", address: str) -> Iterator[Server]:
    """Breadth first: the shortest way to each job."""
    start = known.hops(address)
    ways: deque[tuple[Hop, Server | None, str]] = deque((hop, None, "") for hop in start)
    seen: set[Hop] = set()
    found: set[JobKey] = set()
    while ways:
        hop, before, led = ways.popleft()
        if hop in seen:
            continue
        seen.add(hop)
        for key, how in known.who_serves(hop):
            if key in found:
                continue
            found.add(key)
            server = Server(job=key, hop=hop, how=how, before=before, led=led)
            yield server
            passed = [one.hop for one in server.back()]
            if len(passed) < _WAY_MAX:
                ways.extend((onward, server, by) for onward, by in known.onward(key, {*start, *passed}))


class _Known:
    """Looks things up in the facts, and notes what is not there yet. vaults: by address the nodes whose agents use it."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.wanted: set[Wanted] = set()
        self._at: dict[str, list[Node]] = {}
        self._called: dict[str, list[Node]] = {}
        vaults: dict[str, list[Node]] = {}
        for node in facts.nodes:
            for address in {shortest(one) or one for one in (node.address, *(network.address for network in node.host_networks))}:
                self._at.setdefault(address, []).append(node)
            for name in {node.name.lower(), node.consul_node.lower(), node.id.lower()}:
                self._called.setdefault(name, []).append(node)
            if vault := node.attributes.get(ADDRESS_ATTRIBUTE):
                vaults.setdefault(vault, []).append(node)
        self.vaults = dict(sorted(vaults.items()))
        self._leads: dict[JobKey, list[tuple[Hop, str]]] = {}
        self._configured: dict[str, Address] = {}  # by host
        for configured in self.vaults:
            if (read := address_of(configured)) is not None:
                self._configured[read.host] = read
        self._vault_hops = {hop for address in self.vaults for hop in self.hops(address)}
        self._vault_services = {"vault", *(hop.service for hop in self._vault_hops if hop.service)}
        self._vault_ports = {_VAULT_PORT, *(one.port for one in self._configured.values())}.difference(_COMMON_PORTS, (0,))

    def job(self, key: JobKey) -> Job | None:
        """None: nothing of it is at hand any more."""
        return self._facts.instead.get(key) or self._facts.jobs.get(key) or self._facts.left.get(key)

    def hops(self, address: str) -> tuple[Hop, ...]:
        read = address_of(address)
        if read is None:
            return ()
        return (Hop(service=read.host),) if read.is_service else self._of_host(read.host, read.port)

    def _of_host(self, host: str, port: int) -> tuple[Hop, ...]:
        name = of_host(host, port)
        if isinstance(name, Hop):
            return (name,)
        if name.kind == "query":
            service = self._facts.queries.get(name.name)
            if service is None:
                self.wanted.add(Wanted("query", name.name))
            return (Hop(service=service.lower()),) if service else ()
        if name.kind == "node":
            nodes = [node for node in self._called.get(name.name, ()) if _is_in(node, name.datacenter)]
            addresses: Iterable[str] | None = {one for node in nodes for one in (node.address, *(n.address for n in node.host_networks))}
        else:
            addresses = self._facts.hosts.get(name.name)
            if addresses is None:
                self.wanted.add(Wanted("host", name.name))
        return tuple(Hop(host=one, port=port) for one in sorted({shortest(one) or one for one in addresses or ()}))

    def who_serves(self, hop: Hop) -> Iterator[tuple[JobKey, str]]:
        if not hop.service:
            for key in sorted(self._holders(hop.host, hop.port)):
                yield key, "is held by"
            return
        for key in sorted(self._registering(hop)):
            yield key, "is registered by"
        instances = self._facts.services.get((hop.service, hop.datacenter))
        if instances is None:
            self.wanted.add(Wanted("service", hop.service, datacenter=hop.datacenter))
        for host, port, tags in sorted(instances or (), key=lambda one: one[:2]):
            if _answers_to(hop.tag, tags):
                for key in sorted(self._holders(shortest(host) or host, port)):
                    yield key, f"is at {Hop(host=shortest(host) or host, port=port)}, which is held by"

    def _registering(self, hop: Hop) -> set[JobKey]:
        found = set()
        for directory in (self._facts.jobs, self._facts.instead):
            for key, job, group, service in directory.registering(hop.service):
                if directory is self._facts.jobs and key in self._facts.instead:
                    continue
                if _answers_to(hop.tag, (*service.tags, *service.canary_tags)) and self._may_run_in(job, group, hop.datacenter):
                    found.add(key)
        return found

    def _may_run_in(self, job: Job, group: TaskGroup, datacenter: str) -> bool:
        """Whether Consul would tell of it there."""
        return not datacenter or any(_is_in(node, datacenter) and self._facts.may_run(job, group, node) for node in self._facts.nodes)

    def _holders(self, host: str, port: int) -> set[JobKey]:
        """Who runs there already, and whose static port that would be on a machine that it may run on."""
        nodes: Sequence[Node] = self._facts.nodes if is_local(host) else self._at.get(host, ())
        if not nodes:
            return set()
        at = (LOCAL if is_local(host) else host, port)
        if at not in self._facts.held:
            self.wanted.add(Wanted("address", *at))
        found = {key for key in self._facts.held.get(at, ()) if self.job(key) is not None}
        for directory in (self._facts.jobs, self._facts.instead):
            for key, job, group in directory.asking_for(port):
                if directory is self._facts.jobs and key in self._facts.instead:
                    continue
                if key not in found and any(self._facts.may_run(job, group, node) for node in nodes):
                    found.add(key)
        return found

    def onward(self, key: JobKey, passed: set[Hop]) -> list[tuple[Hop, str]]:
        """What a job on the way leads on to, and what says so. passed: hops that the way has behind it."""
        if key not in self._leads:
            job = self.job(key)
            self._leads[key] = [] if job is None else list(self._led(job))
        leads = [(self._rank(hop, by), hop, by) for hop, by in self._leads[key] if hop not in passed]
        # A balancer of many services leads to Vault by the one that is called so.
        best = min((rank for rank, _, _ in leads), default=0)
        return [(hop, by) for rank, hop, by in leads if rank == best]

    def _rank(self, hop: Hop, by: str) -> int:
        """How surely that is Vault: what is configured as such or is called exactly so, what sounds so, anything else. What
        the meta says is taken as said."""
        if by == _BY_META or hop.service in self._vault_services or hop in self._vault_hops:
            return 0
        return 1 if "vault" in hop.service or (hop.port in self._vault_ports and not is_local(hop.host)) else 2

    def _led(self, job: Job) -> Iterator[tuple[Hop, str]]:
        if upstreams := _upstreams(job):
            for address in upstreams:
                for hop in self.hops(address):
                    yield hop, _BY_META
            return
        own = service_names(job)
        for task in tasks_of(job):
            for hop, by in self._in_templates(task):
                if hop.service not in own:
                    yield hop, by

    def _in_templates(self, task: Task) -> Iterator[tuple[Hop, str]]:
        for number, (one, read) in enumerate(zip(task.templates, _reads(task), strict=True)):
            by = f'template {number + 1} of its task "{task.name}"'
            for service in sorted(read.of(What.SERVICE), key=lambda found: (found.name, found.tag)):
                yield of_service(service.name, service.tag, service.datacenter), by
            for name in written(one.embedded_tmpl):
                configured = self._configured.get(name.host)
                is_known = configured is not None or name.host.endswith(".consul") or bool(shortest(name.host)) or name.host == LOCAL
                if is_known:  # any other name with a dot in it is a file's, a method's, or not to do with Vault
                    port = name.port or (configured.port if configured else 0)
                    for hop in self._of_host(name.host, port):
                        if hop.service or hop.port:
                            yield hop, by

    def uses(self, job: Job) -> dict[str, str]:
        """The Vaults that it needs, by address: those of the agents on whose nodes it may run, and why."""
        needs = list(_needs(job))
        found: dict[str, str] = {}
        for address, nodes in self.vaults.items() if needs else ():
            for group, why in needs:
                if any(self._facts.may_run(job, group, node) for node in nodes):
                    found[address] = why
                    break
        return found


_BY_META = f"meta {UPSTREAMS_META}"


def _is_in(node: Node, datacenter: str) -> bool:
    """Of Consul; a node that has not told its own yet may be anywhere."""
    return not datacenter or node.consul_datacenter.lower() in ("", datacenter)


def _answers_to(tag: str, tags: Iterable[str]) -> bool:
    """Whether a service with these tags is found by that one. Vault's own tags come from Vault itself: what has no tags in
    its job file, or others of Vault's, may have them; what has only others is something else of that name."""
    has = {one.lower() for one in tags}
    if not tag or tag in has or any("$" in one for one in has):
        return True
    return tag in VAULT_TAGS and (not has or bool(has & VAULT_TAGS))


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
    metas = (job.meta, *(g.meta for g in job.task_groups), *(t.meta for t in tasks_of(job)))
    return tuple(dict.fromkeys(one for meta in metas for one in upstreams_of(meta)))


# ---- who needs Vault, and which circles that makes


def _needs(job: Job) -> Iterator[tuple[TaskGroup, str]]:
    """Its groups that need Vault, and why in words."""
    for group in job.task_groups:
        if why := next(filter(None, map(_need, group.tasks)), ""):
            yield group, why


def _need(task: Task) -> str:
    if task.vault is not None:
        return f'its task "{task.name}" has a vault block'
    for number, read in enumerate(_reads(task)):
        if read.needs_vault:
            path = min(read.secrets, default="")
            what = f'reads the secret "{path}"' if path else "reads secrets"
            return f'template {number + 1} of its task "{task.name}" {what}'
    return ""


class _Step(NamedTuple):
    """A job that a Vault is reached through needs another one, or that one itself."""

    server: Server
    why: str
    address: str  # of the one that is needed


def _cycles(known: _Known, servers: Mapping[str, tuple[Server, ...]]) -> Iterator[Cycle]:
    """Vault ──is reached through──> job ──needs──> Vault ──> …, until one comes again: a round inside of one component."""
    uses: dict[JobKey, dict[str, str]] = {}
    needing: dict[str, list[Server]] = {}
    for address, found in servers.items():
        for server in found:
            if server.job not in uses:
                job = known.job(server.job)
                uses[server.job] = {} if job is None else known.uses(job)
        needing[address] = [server for server in found if uses[server.job]]
    ahead: dict[str | JobKey, list[str | JobKey]] = {address: [server.job for server in found] for address, found in needing.items()}
    ahead.update((key, list(used)) for key, used in uses.items())
    component = components(ahead)
    told: set[JobKey] = set()
    for address, serving in needing.items():
        for server in serving:
            if component[server.job] == component[address] and not told.issuperset(server.through):
                steps = _round(needing, uses, address, server)
                told.update(key for step in steps for key in step.server.through)
                yield _told(steps)


def _round(needing: Mapping[str, list[Server]], uses: Mapping[JobKey, Mapping[str, str]], address: str, server: Server) -> list[_Step]:
    """The shortest from an address through this server of it back to the address. There is one."""
    came: dict[str, tuple[str, Server]] = {}
    ahead = deque([(address, server)])
    asked = {server.job}
    while True:
        at, serving = ahead.popleft()
        if address in uses[serving.job]:
            came[address] = at, serving
            break
        for used in uses[serving.job]:
            if used not in came:
                came[used] = at, serving
                others = [one for one in needing[used] if one.job not in asked]
                asked.update(one.job for one in others)
                ahead.extend((used, one) for one in others)
    steps: list[_Step] = []
    used = address
    while not steps or used != address:
        at, serving = came[used]
        steps.append(_Step(serving, uses[serving.job][used], used))
        used = at
    return steps[::-1]


def _told(steps: Sequence[_Step]) -> Cycle:
    """From the job that needs the first Vault, over what serves it, to that job again."""
    chain: list[str] = []
    for last, step in zip((steps[-1], *steps[:-1]), steps, strict=True):
        chain += (f"{named(last.server.job)} needs Vault: {last.why}", f"Vault is reached at {last.address}", *step.server.way)
    return Cycle(jobs=frozenset(key for step in steps for key in step.server.through), chain=tuple(chain))
