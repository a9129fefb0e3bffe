"""What do the API's handlers need, and how does a call get to whom it concerns?

Every agent answers every call: what needs the cluster's state is answered by the leader's process (from
its view, which only ever holds what is in Consul), what needs an alloc's files by the agent of its node;
any other agent passes the call on and its answer back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from agent.samples import Samples
from agent.services import CheckResult
from api.leadership import LeaderLookup, Leadership
from api.rights import Rights
from api.shapes import StubCache
from api.websockets import is_websocket, passed_on
from catalog.leader_lock import LeaderLock
from configs import Telemetry
from configs.tls import Contexts
from leader.election import Election
from leader.leading import Leading
from leader.succession import Contact
from model.alloc import AllocId
from model.cluster import Leader
from model.errors import StoreRefused, StoreUnavailable
from model.node import NodeId
from vault.login import Login

# Names the agents that passed a call on. Each does so once: two that take one another for the leader do not pass
# it to and fro, and a call that waits under a leader that is deposed still gets to the next one.
FORWARDED_HEADER = "X-Drover-Forwarded"
# The node that the leader passes a call on to: from there it goes no further.
NODE_HEADER = "X-Drover-Node"
# How often a call without news is asked whether its client is still there, and whether its leader still leads.
GONE_POLL_S = 1.0
# How long a call waits for a leader to be there: a take-over after a crash takes about 3.3 s with the
# default lease, and a client that waits is better off than one that must try again.
LEADER_WAIT_S = 5.0
LEADER_POLL_S = 0.1
# What a connection to another agent may take. A machine that is gone does not refuse: within LEADER_WAIT_S there are
# two more attempts, the last of them after a take-over.
CONNECT_S_MAX = 2.0
# What an agent answers at once and by itself, whatever else is out of reach.
ALIVE_PATH = "/v1/regions"
# Calls that may be asked again.
_READS = ("GET", "HEAD")
# Who leads, and whether this candidate reaches it.
CONTACT_PATH = "/v1/status/contact"
_HOP_HEADERS = {"connection", "content-length", "transfer-encoding", "host", "date", "server", "upgrade"}


class NoLeader(Exception):
    """Nobody leads; Nomad's clients know these words."""

    def __init__(self) -> None:
        super().__init__("No cluster leader")


class NotReached(StoreUnavailable):
    """No connection came about, so nothing was asked of the other agent: asking again is safe."""


class LeaderChanged(Exception):
    """The leader that a call was passed on to leads no more, and has not answered. A read may be asked again."""

    def __init__(self) -> None:
        super().__init__(
            "the leader changed while the call was under way: it may or may not have happened, look and try again"
        )


class BrokenOff(aiohttp.ClientError):
    """The connection broke after something of a call was sent: whether it happened is not known."""


class ClientGone(Exception):
    """The client hung up: nobody waits for the answer."""


@dataclass(slots=True, kw_only=True)
class Context:
    """One agent process as its API sees it. is_candidate: whether it stands for election; agent: None without client.

    allows_exec: whether commands may be run beside this agent's tasks.
    """

    node_id: NodeId
    name: str
    region: str
    datacenter: str
    http_addr: str
    version: str
    config: dict[str, Any]
    lookup: LeaderLookup
    election: Election
    is_candidate: Callable[[], bool]
    contact: Callable[[], Contact]
    lock: LeaderLock
    rights: Rights
    tls: Contexts
    agent: Any
    members: Callable[[], Any]
    forget_member: Callable[[Any], Awaitable[None]]
    # Of the node's check in Consul: its TTL, and how long ago it was passed (None: never); None without client.
    heartbeat: Callable[[], tuple[float, float | None] | None]
    # What Consul knows of the checks of one of this agent's allocs; of no use without client.
    check_results: Callable[[AllocId], Awaitable[Sequence[CheckResult]]]
    allows_exec: bool = True
    telemetry: Telemetry = field(default_factory=Telemetry)
    # None: Vault is not enabled. The role is what tasks' tokens are made by; empty: none.
    vault: Login | None = None
    vault_role: str = ""
    # An hour of what tasks use; None without client.
    samples: Samples | None = None
    stubs: StubCache = field(default_factory=StubCache)
    # Held while a long text that somebody sent is worked on.
    parsing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _session: aiohttp.ClientSession | None = None
    _leadership: Leadership = field(init=False)

    def __post_init__(self) -> None:
        self._leadership = Leadership(lookup=self.lookup)

    @property
    def leading(self) -> Leading | None:
        """The term of this process, once it has read all of Consul."""
        leading = self.election.leading
        return leading if leading is not None and leading.is_ready else None

    async def leader(self) -> Leader | None:
        """Who leads, as Consul says. Raises StoreUnavailable."""
        return await self.lookup.read_leader()

    async def leader_or_wait(self) -> Leading | Leader:
        """This process' term, or who else leads. Raises NoLeader."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + LEADER_WAIT_S
        while True:
            if self.leading is not None:
                return self.leading
            with suppress(StoreUnavailable, StoreRefused):
                leader = await self.leader()
                if leader is not None and leader.node_id != self.node_id:
                    return leader
            if loop.time() >= deadline_s:
                raise NoLeader
            await asyncio.sleep(LEADER_POLL_S)

    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # No limit: each blocking query and each stream holds a connection for as long as it lasts.
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S_MAX),
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def peer(self, http_addr: str, *, is_tls: bool, is_leader: bool = False) -> tuple[str, dict[str, Any]]:
        """How another agent's API is called: what its URLs begin with, and aiohttp's arguments for TLS."""
        if not is_tls:
            return f"http://{http_addr}", {}
        tls = self.tls.leaders if is_leader else self.tls.peers
        named = is_leader and self.tls.tls.verify_server_hostname
        return f"https://{http_addr}", {
            "ssl": tls or True,
            "server_hostname": f"server.{self.region}.nomad" if named else None,
        }

    async def is_up(self, leader: Leader) -> bool:
        """Whether the agent that holds the lock answers."""
        base, how = self.peer(leader.http_addr, is_tls=leader.tls_enabled, is_leader=True)
        try:
            async with asyncio.timeout(CONNECT_S_MAX), self.session().get(f"{base}{ALIVE_PATH}", **how) as found:
                return found.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def contact_of(self, http_addr: str, is_tls: bool, answer_s: float) -> Contact | None:
        """What the candidate there says of the leader; None when it says nothing within the time."""
        base, how = self.peer(http_addr, is_tls=is_tls, is_leader=True)
        try:
            async with asyncio.timeout(answer_s), self.session().get(f"{base}{CONTACT_PATH}", **how) as found:
                return msgspec.json.decode(await found.read(), type=Contact) if found.status == 200 else Contact()
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError):
            return None

    async def forward(self, request: web.Request, leader: Leader) -> web.StreamResponse:
        """Passes the call to the leader and its answer back.

        Raises NoLeader for a call that was passed on here already, NotReached, and LeaderChanged.
        """
        if self.node_id in request.headers.get(FORWARDED_HEADER, "").split(","):
            raise NoLeader
        peer = self.peer(leader.http_addr, is_tls=leader.tls_enabled, is_leader=True)
        return await self._pass_on(request, peer, {}, leader)

    async def forward_to_node(
        self, request: web.Request, http_addr: str, node_id: str, *, is_tls: bool
    ) -> web.StreamResponse:
        """Passes the call to the agent of that node and its answer back. Raises NotReached."""
        return await self._pass_on(request, self.peer(http_addr, is_tls=is_tls), {NODE_HEADER: node_id}, None)

    async def _pass_on(
        self,
        request: web.Request,
        peer: tuple[str, dict[str, Any]],
        more_headers: dict[str, str],
        leader: Leader | None,
    ) -> web.StreamResponse:
        """peer: see peer(). leader: who is asked as the leader."""
        base, how = peer
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_HEADERS} | more_headers
        headers[FORWARDED_HEADER] = ",".join(filter(None, (request.headers.get(FORWARDED_HEADER), self.node_id)))
        response: web.StreamResponse | None = None
        url = URL(f"{base}{request.raw_path}", encoded=True)  # as it came, a job named `..` included
        try:
            if is_websocket(request):
                taken_up = await passed_on(request, self.session(), url, headers, how)
                if taken_up is not None:
                    return taken_up
            body = await request.read()
            call = asked(self.session(), request.method, url, data=body, headers=headers, allow_redirects=False, **how)
            async with await self._answer(call, request, leader) as answer:
                response = web.StreamResponse(status=answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP_HEADERS and name.lower() != "content-encoding":
                        response.headers[name] = value
                if answer.content_length is not None and "Content-Encoding" not in answer.headers:
                    response.content_length = answer.content_length
                await response.prepare(request)
                while not is_gone(request):
                    try:
                        async with asyncio.timeout(GONE_POLL_S):
                            chunk = await answer.content.readany()
                    except TimeoutError:
                        continue
                    if not chunk:
                        await response.write_eof()
                        break
                    await response.write(chunk)
                return response
        except ClientGone:
            return web.Response(status=499)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotReached(f"agent at {base} does not answer: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            if response is not None:
                # The answer has begun: all that is left is to break it off, so that nobody takes it for whole.
                if request.transport is not None:
                    request.transport.abort()
                return response
            if leader is not None:
                raise LeaderChanged from error  # it died while the call waited there
            unclear = "" if request.method in _READS else ": it may or may not have happened, look and try again"
            raise StoreUnavailable(f"agent at {base} broke off: {error}{unclear}") from error

    async def _answer(
        self, call: Awaitable[aiohttp.ClientResponse], request: web.Request, leader: Leader | None
    ) -> aiohttp.ClientResponse:
        """The answer as soon as its headers are there. Raises ClientGone, LeaderChanged, and aiohttp's errors."""
        why_not: Exception | None = None
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(_outcome(call), name=f"{request.method} passed on")
            while why_not is None:
                await asyncio.wait([asking], timeout=GONE_POLL_S)
                if asking.done():
                    break
                if is_gone(request):
                    why_not = ClientGone()
                elif leader is not None and await self._leadership.is_over(leader):
                    why_not = LeaderChanged()
            asking.cancel()  # without effect on one that is done
        if asking.cancelled():
            raise why_not or asyncio.CancelledError
        outcome = asking.result()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def asked(session: aiohttp.ClientSession, method: str, url: URL, **how: Any) -> Awaitable[aiohttp.ClientResponse]:
    """One call to another agent; what changes something is sent once. how: as aiohttp takes it."""
    middlewares = () if method in _READS else (sent_once,)
    return session.request(method, url, middlewares=middlewares, **how)


async def sent_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp sends PUT and DELETE again by itself when the connection breaks, as if they were idempotent: a dispatch
    would happen twice. Raises BrokenOff instead, which it leaves alone."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise  # nothing was sent
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise BrokenOff(str(error)) from error


async def _outcome(
    call: Awaitable[aiohttp.ClientResponse],
) -> aiohttp.ClientResponse | aiohttp.ClientError | OSError:
    """A failure as a value: raised, it would cancel the TaskGroup and come out wrapped."""
    try:
        return await call
    except (aiohttp.ClientError, OSError) as error:
        return error


def is_gone(request: web.Request) -> bool:
    """Whether the client has hung up; aiohttp tells only those who write."""
    return request.transport is None or request.transport.is_closing()


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
