"""May this caller do that? Consul says, asked with the caller's own token (docs/security.md has the table).

    X-Nomad-Token | X-Consul-Token | Authorization: Bearer      none of them: Consul's anonymous token

    of a job       key read or write on `drover/jobs/<ns>/<job>`, a path that holds nothing and exists to be asked about
    a submission   that, service write for each service that the job registers, and `drover/privileged/<ns>/<job>`
                   where a task would get out of its isolation
    exec           key write on `drover/exec/<ns>/<job>`
    of a node      node read or write on Consul's name of it; of all: on the empty name, which only a prefix rule grants
    an agent's own key write on `drover/state/observed/<node>/`: only that node's agent has it

Whoever answers a call asks: the leader, or the agent of the node. One that passes a call on passes the token on.
With ACLs off in Consul the API is open to callers of this machine, to those that `acl { open_to }` names, and to other
agents that pass a call on.
"""

import asyncio
import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web

from catalog.keys import Keys, escape
from catalog.rights import Authority, Mode, Question, UnknownToken
from configs import Acl
from jobspec.artifacts import reads_machine
from leader.view import View
from model.alloc import AllocId, EvalId
from model.deployment import DeploymentId
from model.errors import StoreRefused, StoreUnavailable
from model.job import Job, JobId, Namespace, Task
from model.node import NodeId
from model.secret import Secret
from model.snapshot import JobKey

log = logging.getLogger("drover.api")

# Refusals of one address: so many at once, and so many a second. A page that polls without a token stays below it;
# who guesses tokens does not.
FAILURES_MAX = 50.0
FAILURES_PER_S = 5.0
# Through another agent come the calls of all of its clients.
FORWARDED_TIMES = 20.0
# Addresses that are remembered; the one that failed longest ago is forgotten first.
ADDRESSES_MAX = 10_000
# Who passes calls on: read from Consul's catalog this often at most.
FLEET_S = 10.0
# Of a request: another agent passed it on, whose address Consul knows.
_PASSED_ON = "drover.passed_on"
# Consul's are 36 characters.
TOKEN_LENGTH_MAX = 512


class Right(StrEnum):
    """What the caller's token must allow. The job rights are of the job that the path or the alloc names."""

    NONE = "none"
    JOB_READ = "job:read"
    JOB_LIST = "job:list"  # whoever has a token may ask; the handler shows those jobs that may be read
    JOB_WRITE = "job:write"
    JOB_SUBMIT = "job:submit"  # the job is in the body: the handler asks, with may_submit()
    EXEC = "exec"
    NODE_READ = "node:read"
    NODE_WRITE = "node:write"
    OPERATOR_READ = "operator:read"
    OPERATOR_WRITE = "operator:write"
    AGENT_READ = "agent:read"
    AGENT_WRITE = "agent:write"
    AGENT = "an agent's own"


class Forbidden(Exception):
    """403 with this text."""

    def __init__(self, text: str = "Permission denied") -> None:
        super().__init__(text)


class TooManyFailures(Exception):
    """429: the address was refused too often."""

    def __init__(self) -> None:
        super().__init__("too many calls from this address were refused, wait a few seconds")


# Of a websocket whose client could send no headers: what its first message held.
HANDSHAKE_TOKEN: web.RequestKey[str] = web.RequestKey("handshake token", str)


def has_handshake(request: web.Request) -> bool:
    """Whether the token is still to come, with the first message of a websocket."""
    is_promised = request.query.get("ws_handshake", "").lower() in ("1", "t", "true")
    return is_promised and HANDSHAKE_TOKEN not in request and not token_of(request)


def token_of(request: web.Request) -> Secret:
    """The caller's; empty where there is none. Raises Forbidden for what is no token."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    text = (
        request.headers.get("X-Nomad-Token")
        or request.headers.get("X-Consul-Token")
        or (bearer.strip() if scheme.lower() == "bearer" else "")
        or request.get(HANDSHAKE_TOKEN, "")
    )
    if len(text) > TOKEN_LENGTH_MAX or not text.isascii() or not text.isprintable():
        raise Forbidden("ACL token not found")
    return Secret(text)


@dataclass(slots=True, kw_only=True)
class Rights:
    """One process' answers. authority: None where nobody is asked, as in tests of handlers alone.

    consul_node: Consul's name of this machine. fleet: reads where the other agents are, as Consul's catalog says.
    """

    authority: Authority
    keys: Keys
    acl: Acl
    node_id: NodeId
    consul_node: str
    fleet: Callable[[], Any]
    _failures: "Failures" = field(default_factory=lambda: Failures())
    _agents: frozenset[str] = frozenset()
    _agents_read_s: float = float("-inf")

    async def is_asked(self) -> bool:
        """Whether Consul's ACLs decide. Raises StoreUnavailable while nobody knows, StoreRefused where they have to."""
        if self.acl.enabled is False:
            return False
        if await self.authority.find_mode() is not Mode.OFF:
            return True
        if self.acl.enabled:
            raise StoreRefused("acl { enabled = true } is set, and ACLs are off in Consul: nobody is allowed anything")
        return False

    async def tell(self) -> None:
        """One line at the start on who may do what."""
        whom = ", ".join(["callers of this machine", *map(str, self.acl.open_to)])
        try:
            if await self.is_asked():
                log.info("API: Consul's ACLs say what a token may do (rights asked %s)", self.authority.mode)
            else:
                log.warning("API: without ACLs everything is allowed to %s; others are refused", whom)
        except StoreUnavailable:
            log.warning("API: Consul does not say whether ACLs are on: nobody is allowed anything until it does")
        except StoreRefused as error:
            log.error("API: %s", error)

    async def admit(self, request: web.Request, view: View | None, *, is_forwarded: bool) -> None:
        """Without ACLs: whether the caller's address is one of those that may call. Raises Forbidden."""
        if await self.is_asked():
            return
        address = _address(request)
        if address is None or address.is_loopback or any(address in network for network in self.acl.open_to):
            return
        if request.transport and _host(request.transport.get_extra_info("sockname")) == str(address):
            return
        if is_forwarded and str(address) in await self._fleet(view):
            return
        raise Forbidden("Permission denied: without ACLs in Consul only acl { open_to } lets other machines in")

    async def _fleet(self, view: View | None) -> frozenset[str]:
        """Addresses of the other agents. An agent that led not long ago knows those of its term."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._agents_read_s > FLEET_S:
            known = {_host_of(member.http_addr) for member in await self.fleet()}
            nodes = {_host_of(node.node.http_addr) for node in view.nodes.values()} if view else self._agents
            self._agents, self._agents_read_s = frozenset(known | nodes), now_s
        return self._agents

    async def require(self, request: web.Request, right: Right, view: View | None, agent: Any) -> None:
        """Raises Forbidden, TooManyFailures, StoreUnavailable."""
        if right is Right.NONE or not await self.is_asked():
            return
        if "X-Drover-Forwarded" in request.headers:
            request[_PASSED_ON] = str(_address(request)) in await self._fleet(view)
        await self._require(request, self._questions(request, right, view, agent))

    def _questions(self, request: web.Request, right: Right, view: View | None, agent: Any) -> list[Question]:
        match right:
            case Right.JOB_LIST | Right.JOB_SUBMIT:
                return []  # the token must be one; the handler asks for more
            case Right.JOB_READ | Right.JOB_WRITE | Right.EXEC:
                return [self.of_job(right, job_of(request, view, agent) or whole_of(_namespace(request)))]
            case Right.NODE_READ | Right.NODE_WRITE:
                return [Question("node", self._consul_node_of(request, view), right.value.partition(":")[2])]
            case Right.OPERATOR_READ | Right.OPERATOR_WRITE:
                return [Question("operator", "", right.value.partition(":")[2])]
            case Right.AGENT_READ | Right.AGENT_WRITE:
                return [Question("agent", self.consul_node, right.value.partition(":")[2])]
            case _:
                alloc = view.allocs.get(AllocId(request.match_info.get("id", ""))) if view else None
                owner = alloc.desired.node_id if alloc else NodeId("")
                return [Question("key", self.keys.observed_of(owner) if owner else self.keys.observed, "write")]

    def of_job(self, right: Right, key: JobKey) -> Question:
        path = f"{escape(key[0])}/{escape(key[1])}"
        if right is Right.EXEC:
            return Question("key", f"{self.keys.root}/exec/{path}", "write")
        return Question("key", f"{self.keys.root}/jobs/{path}", "read" if right is Right.JOB_READ else "write")

    def _consul_node_of(self, request: web.Request, view: View | None) -> str:
        """Consul's name of the node that the path or the query names; empty for a list, and for what a body names."""
        node_id = NodeId(request.match_info.get("id") or "")
        if not node_id and request.path in ("/v1/client/stats", "/v1/client/samples"):
            node_id = NodeId(request.query.get("node_id") or self.node_id)
        if node_id == self.node_id:
            return self.consul_node
        known = view.nodes.get(node_id) if view else None
        return known.node.consul_node or known.node.name if known else str(node_id)

    async def may_read(self, request: web.Request, key: JobKey) -> None:
        """Of a job that a body names. Raises as require()."""
        if await self.is_asked():
            await self._require(request, [self.of_job(Right.JOB_READ, key)])

    async def sees_nodes(self, request: web.Request) -> bool:
        """Whether the caller may read all nodes."""
        if not await self.is_asked():
            return True
        return bool(await self._allowed(request, token_of(request), [Question("node", "", "read")]))

    async def of_ui(self, request: web.Request, view: View) -> dict[str, bool]:
        """What the UI offers: of the job and the node that the query names, of all where it names none. Raises as require()."""
        namespace, job_id = _namespace(request), JobId(request.query.get("job", ""))
        key, known = (namespace, job_id), view.nodes.get(NodeId(request.query.get("node", "")))
        node = known.node.consul_node or known.node.name if known else ""
        questions = {
            "ReadJob": self.of_job(Right.JOB_READ, key),
            "WriteJob": self.of_job(Right.JOB_WRITE, key),
            "Exec": self.of_job(Right.EXEC, key),
            "ReadNode": Question("node", node, "read"),
            "WriteNode": Question("node", node, "write"),
            "WriteOperator": Question("operator", "", "write"),
        }
        if not await self.is_asked():
            return {"ACL": False, **dict.fromkeys(questions, True)}
        allowed = await self._allowed(request, token_of(request), questions.values())
        return {"ACL": True, **{name: question in allowed for name, question in questions.items()}}

    async def may_submit(self, request: web.Request, job: Job) -> None:
        """Whether the caller may bring this job onto the nodes. Raises as require()."""
        if not await self.is_asked():
            return
        questions = [self.of_job(Right.JOB_WRITE, (job.namespace, job.id))]
        questions += [Question("service", name, "write") for name in service_names(job)]
        if is_privileged(job):
            path = f"{escape(job.namespace)}/{escape(job.id)}"
            questions.append(Question("key", f"{self.keys.root}/privileged/{path}", "write"))
        await self._require(request, questions)

    async def readable(self, request: web.Request, jobs: Iterable[JobKey]) -> Callable[[JobKey], bool]:
        """Which of these jobs the caller may read; of any other it is no. A right to write them all is found out by
        one question for each namespace. Raises as require()."""
        if not await self.is_asked():
            return lambda _: True
        token = token_of(request)
        by_namespace: dict[Namespace, list[JobKey]] = {}
        for key in jobs:
            by_namespace.setdefault(key[0], []).append(key)
        whole = {
            Question("key", f"{self.keys.root}/jobs/{escape(namespace)}/", "write-prefix"): namespace
            for namespace in by_namespace
        }
        all_of = {whole[one] for one in await self._allowed(request, token, whole)}
        each = {
            self.of_job(Right.JOB_READ, key): key
            for namespace, keys in by_namespace.items()
            if namespace not in all_of
            for key in keys
        }
        found = {each[one] for one in await self._allowed(request, token, each)}
        return lambda key: key[0] in all_of or key in found

    async def itself(self, request: web.Request) -> dict[str, Any] | None:
        """What Consul keeps of the caller's token; None without ACLs. Raises Forbidden."""
        if not await self.is_asked():
            return None
        self._failures.check(request)
        try:
            return await self.authority.token_itself(token_of(request))
        except UnknownToken:
            self._failures.count(request)
            raise Forbidden("ACL token not found") from None

    async def _require(self, request: web.Request, questions: list[Question]) -> None:
        token = token_of(request)
        # A token that none is asked about must be one all the same.
        asked = questions or [Question("operator", "", "read")]
        is_new = not self.authority.is_known(token, asked)
        found = await self._allowed(request, token, asked)
        if questions and len(found) < len(set(questions)):
            if is_new:
                self._failures.count(request)
            raise Forbidden

    async def _allowed(self, request: web.Request, token: Secret, questions: Iterable[Question]) -> set[Question]:
        """As Authority.allowed. A refusal counts against the address where Consul had to be asked. Raises Forbidden for an
        unknown token, TooManyFailures."""
        questions = list(questions)
        is_new = not self.authority.is_known(token, questions)
        if is_new:
            self._failures.check(request)
        try:
            return await self.authority.allowed(token, questions)
        except UnknownToken:
            if is_new:
                self._failures.count(request)
            raise Forbidden("ACL token not found") from None

    async def close(self) -> None:
        await self.authority.close()


@dataclass(slots=True)
class Failures:
    """How often each address was refused lately: a bucket that refills. What Consul has answered already is answered
    from memory however often it is asked, and costs it nothing."""

    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def check(self, request: web.Request) -> None:
        """Raises TooManyFailures."""
        if self._now(request)[1] < 1.0:
            raise TooManyFailures

    def count(self, request: web.Request) -> None:
        name, left, now_s = self._now(request)
        self._left.pop(name, None)
        self._left[name] = (max(left - 1.0, 0.0), now_s)
        while len(self._left) > ADDRESSES_MAX:
            self._left.popitem(last=False)

    def _now(self, request: web.Request) -> tuple[str, float, float]:
        """The bucket's name, what is left in it, and the time."""
        times = FORWARDED_TIMES if request.get(_PASSED_ON) else 1.0
        name, now_s = f"{times:g} {_address(request)}", asyncio.get_running_loop().time()
        left, seen_s = self._left.get(name, (FAILURES_MAX * times, now_s))
        return name, min(left + (now_s - seen_s) * FAILURES_PER_S * times, FAILURES_MAX * times), now_s


def job_of(request: web.Request, view: View | None, agent: Any) -> JobKey | None:
    """The job that the call is about: the path's own, or that of the alloc, evaluation or deployment that it names. None
    where it names none that is known here."""
    path, named = request.match_info.route.resource.canonical if request.match_info.route.resource else "", request.match_info.get("id")
    if not named:
        return None
    if path.startswith("/v1/job/"):
        return _namespace(request), JobId(named)
    if path.startswith("/v1/namespace/"):
        return whole_of(Namespace(named))
    if path.startswith(("/v1/allocation/", "/v1/client/")):
        if agent is not None and (runner := agent.allocs.get(AllocId(named))):
            return runner.desired.namespace, runner.desired.job_id
        alloc = view.allocs.get(AllocId(named)) if view else None
        return (alloc.desired.namespace, alloc.desired.job_id) if alloc else None
    if view and path.startswith("/v1/evaluation/"):
        evaluation = view.evals.get(EvalId(named))
        return (evaluation.document.namespace, evaluation.document.job_id) if evaluation else None
    if view and path.startswith("/v1/deployment/"):
        deployment = view.deployments.get(DeploymentId(named))
        return (deployment.document.namespace, deployment.document.job_id) if deployment else None
    return None


def whole_of(namespace: Namespace) -> JobKey:
    """Stands for all of a namespace's jobs: only a prefix rule grants the path that ends with the namespace."""
    return namespace, JobId("")


def _namespace(request: web.Request) -> Namespace:
    return Namespace(request.query.get("namespace") or "default")


def jobs_in(view: View, namespace: str) -> set[JobKey]:
    """Every job that something is known of, in one namespace or in all (`*`)."""
    known = {*view.jobs, *view.allocs_by_job, *view.evals_by_job, *view.deployments_by_job}
    return known if namespace == "*" else {key for key in known if key[0] == namespace}


def service_names(job: Job) -> tuple[str, ...]:
    """Those that it registers. A part that only the node knows (`web-${attr.x}`) stays as it is written: a rule on the
    prefix before it allows that, one on a whole name does not."""
    found: dict[str, None] = {}
    for group in job.task_groups:
        for service in (*group.services, *(s for task in group.tasks for s in task.services)):
            found[service.name] = None
    return tuple(found)


# Of the docker driver: with any of these a container reaches what is not its own.
_DOCKER_WAYS_OUT = ("privileged", "cap_add", "devices", "pid_mode", "ipc_mode", "userns_mode", "uts_mode", "security_opt", "sysctl", "runtime", "volume_driver")
# Directories of the alloc that a bind may name without a slash; any other word is a volume that others have too.
_OWN_DIRECTORIES = frozenset({"local", "secrets", "alloc", "tmp"})
_OWN_LOGS = frozenset({"", "json-file", "local", "none", "journald"})


def is_privileged(job: Job) -> bool:
    """Whether a task of it may reach the node itself: no isolation at all, or one with a way out."""
    return any(_is_privileged(task) for group in job.task_groups for task in group.tasks)


def _is_privileged(task: Task) -> bool:
    if task.driver == "raw_exec" or any(reads_machine(artifact) for artifact in task.artifacts):
        return True
    config = task.config
    if any(config.get(name) for name in _DOCKER_WAYS_OUT):
        return True
    network = str(config.get("network_mode") or "")
    logs = [one for one in _listed(config.get("logging")) if isinstance(one, dict)]
    mounts = [one for name in ("mount", "mounts") for one in _listed(config.get(name))]
    return (
        network == "host"
        or network.startswith("container:")
        or "$" in network  # what it will be, nobody knows yet
        or any(str(one.get("type", one.get("driver", ""))) not in _OWN_LOGS for one in logs)
        or any(not isinstance(one, dict) or one.get("type", "volume") != "tmpfs" for one in mounts)
        or any(not _is_own_directory(str(one).partition(":")[0]) for one in _listed(config.get("volumes")))
    )


def _is_own_directory(source: str) -> bool:
    """Whether a bind's source is below the alloc's directory for certain; the driver refuses one that a link leads out."""
    if source.startswith(("/", "~")) or "$" in source or ".." in source.replace("../alloc/", "", 1):
        return False
    return "/" in source or source in _OWN_DIRECTORIES


def _listed(value: object) -> Iterable[object]:
    if isinstance(value, list | tuple):
        return value
    return () if value is None else (value,)


def _address(request: web.Request) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    with suppress(ValueError):
        found = ipaddress.ip_address(_host(peer))
        return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found
    return None


def _host(name: object) -> str:
    host = str(name[0]) if isinstance(name, tuple) and name else ""
    return host.removeprefix("::ffff:").partition("%")[0]


def _host_of(http_addr: str) -> str:
    return http_addr.rpartition(":")[0].strip("[]")
