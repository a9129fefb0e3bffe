"""Which path is answered by whom? The route table, error answers, and the HTTP server itself.

Errors are Nomad's: the bare message as text/plain, with its status codes.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from api import agent, cluster, deployments, files, jobs, node_meta, operator, stats
from api.context import (
    CONTEXT,
    LEADER_POLL_S,
    LEADER_WAIT_S,
    NODE_HEADER,
    Context,
    LeaderChanged,
    NoLeader,
    NotReached,
)
from api.jobs import errors_text
from api.query import BadRequest, NotFound, Refused, check_region, read_headers
from leader.commands import EnforceIndexError, StillLeaving
from leader.leading import Leading
from leader.scheduling import RegistrationRejected
from leader.versions import ScalingRefused, UnknownJob, VersionRefused
from leader.view import View
from model.alloc import AllocId
from model.errors import InputError, SessionLost, StoreRefused, StoreUnavailable, WriteConflict
from model.node import NodeId

log = logging.getLogger("drover.api")
_http_log = logging.getLogger("drover.http")

# A job may be as large as Consul takes, JSON escapes and all; more is refused before it is read.
BODY_BYTES_MAX = 8 * 1024 * 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def on_leader(handler: Callable[[web.Request, Leading], Awaitable[web.StreamResponse]]) -> Handler:
    """Answered by the process that leads; any other passes the call on."""

    async def answer(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        loop = asyncio.get_running_loop()
        is_read = request.method in ("GET", "HEAD")
        give_up_s = loop.time() + LEADER_WAIT_S
        while True:
            leader = await context.leader_or_wait()
            try:
                if isinstance(leader, Leading):
                    return await handler(request, leader)
                return await context.forward(request, leader)
            except (SessionLost, LeaderChanged):
                # A read that waited under a leader that is none any more is asked of the next one.
                if not is_read:
                    raise
                give_up_s = loop.time() + LEADER_WAIT_S
            except NotReached:
                # A leader that died is named until its lease lapses.
                if isinstance(leader, Leading) or loop.time() >= give_up_s:
                    raise
                await asyncio.sleep(LEADER_POLL_S)

    return answer


NodeOf = Callable[[web.Request, View], NodeId | None]


def on_node(handler: Handler, is_here: Callable[[web.Request], bool], node_of: NodeOf, unknown: str) -> Handler:
    """Answered by the node that it concerns, which the leader knows (node_of) where it is not this one; any other
    passes the call on. unknown: what `{id}` was not found as."""

    async def answer(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        if context.agent is not None and is_here(request):
            return await handler(request)
        if request.headers.get(NODE_HEADER) == context.node_id:
            # The leader named this node, which has not taken the alloc up yet, or has forgotten it already.
            raise NotFound(f'Unknown {unknown} "{_asked_for(request)}"')
        return await of_node(request)

    async def pass_on(request: web.Request, leading: Leading) -> web.StreamResponse:
        context = request.app[CONTEXT]
        node_id = node_of(request, leading.view)
        node = leading.view.nodes.get(node_id) if node_id else None
        if node is None or node.id == context.node_id:
            raise NotFound(f'Unknown {unknown} "{_asked_for(request)}"')
        # The leader's own hop is allowed: from here it goes to the node and no further.
        return await context.forward_to_node(request, node.node.http_addr, node.id)

    of_node = on_leader(pass_on)
    return answer


def _asked_for(request: web.Request) -> str:
    return request.match_info.get("id") or request.query.get("node_id", "")


def on_node_of_alloc(handler: Handler) -> Handler:
    """`{id}` is an alloc's."""

    def node_of(request: web.Request, view: View) -> NodeId | None:
        alloc = view.allocs.get(AllocId(_asked_for(request)))
        return alloc.desired.node_id if alloc else None

    return on_node(
        handler,
        lambda request: AllocId(_asked_for(request)) in request.app[CONTEXT].agent.allocs,
        node_of,
        "allocation",
    )


def on_named_node(handler: Handler) -> Handler:
    """`?node_id=` names the node; without it, it is the one that is asked."""
    return on_node(
        handler,
        lambda request: _asked_for(request) in ("", request.app[CONTEXT].node_id),
        lambda request, _: NodeId(_asked_for(request)),
        "node",
    )


def routes(context: Context) -> list[web.RouteDef]:
    stubs = context.stubs

    def with_stubs(
        handler: Callable[..., Awaitable[web.StreamResponse]],
    ) -> Callable[[web.Request, Leading], Awaitable[web.StreamResponse]]:
        async def call(request: web.Request, leading: Leading) -> web.StreamResponse:
            return await handler(request, leading, stubs)

        return call

    def writes(path: str, handler: Handler) -> list[web.RouteDef]:
        """Go clients write with PUT, python-nomad with POST."""
        return [web.put(path, handler), web.post(path, handler)]

    job = on_leader(with_stubs(jobs.job))
    return [
        web.get("/v1/jobs", on_leader(jobs.list_jobs)),
        *writes("/v1/jobs", on_leader(jobs.register)),
        *writes("/v1/jobs/parse", jobs.parse),
        *writes("/v1/validate/job", jobs.validate),
        web.get("/v1/job/{rest:.+}", job),
        web.delete("/v1/job/{rest:.+}", job),
        *writes("/v1/job/{rest:.+}", job),
        web.get("/v1/allocations", on_leader(with_stubs(cluster.list_allocations))),
        web.get("/v1/allocation/{id}", on_leader(cluster.allocation)),
        *writes("/v1/allocation/{id}/stop", on_leader(cluster.allocation_stop)),
        *writes("/v1/allocation/{id}/release", on_leader(cluster.allocation_release)),
        *writes("/v1/allocation/{id}/restart-permit", on_leader(cluster.restart_permit)),
        web.get("/v1/evaluations", on_leader(cluster.list_evaluations)),
        web.get("/v1/evaluation/{id}", on_leader(cluster.evaluation)),
        web.get("/v1/evaluation/{id}/allocations", on_leader(with_stubs(cluster.evaluation_allocations))),
        web.get("/v1/deployments", on_leader(deployments.list_deployments)),
        web.get("/v1/deployment/{id}", on_leader(deployments.deployment)),
        web.get("/v1/deployment/allocations/{id}", on_leader(with_stubs(deployments.allocations))),
        *writes("/v1/deployment/promote/{id}", on_leader(deployments.promote)),
        *writes("/v1/deployment/fail/{id}", on_leader(deployments.fail)),
        *writes("/v1/deployment/pause/{id}", on_leader(deployments.pause)),
        *writes("/v1/deployment/allocation-health/{id}", on_leader(deployments.allocation_health)),
        web.get("/v1/nodes", on_leader(cluster.list_nodes)),
        web.get("/v1/node/{id}", on_leader(cluster.node)),
        web.get("/v1/node/{id}/allocations", on_leader(cluster.node_allocations)),
        *writes("/v1/node/{id}/eligibility", on_leader(cluster.node_eligibility)),
        *writes("/v1/node/{id}/purge", on_leader(cluster.node_purge)),
        *writes("/v1/node/{id}/drain", on_leader(cluster.node_drain)),
        web.get("/v1/client/metadata", on_leader(node_meta.read)),
        *writes("/v1/client/metadata", on_leader(node_meta.apply)),
        web.get("/v1/client/stats", on_named_node(stats.client_stats)),
        web.get("/v1/client/fs/logs/{id}", on_node_of_alloc(files.logs)),
        web.get("/v1/client/allocation/{id}/stats", on_node_of_alloc(stats.alloc_stats)),
        *writes("/v1/client/allocation/{id}/restart", on_node_of_alloc(files.alloc_restart)),
        *writes("/v1/client/allocation/{id}/signal", on_node_of_alloc(files.alloc_signal)),
        web.options("/v1/client/{path:.*}", preflight),
        web.get("/v1/agent/self", agent.agent_self),
        web.get("/v1/agent/members", agent.members),
        web.get("/v1/agent/servers", agent.servers),
        web.get("/v1/agent/health", agent.health),
        web.get("/v1/status/leader", agent.leader),
        web.get("/v1/status/peers", agent.peers),
        web.get("/v1/regions", agent.regions),
        *writes("/v1/operator/leader/step-down", on_leader(operator.step_down)),
        *writes("/v1/operator/candidate", on_leader(operator.candidate)),
        web.get("/v1/operator/lock", operator.lock),
        *writes("/v1/operator/lock/break", operator.break_lock),
        *writes("/v1/operator/snapshot", on_leader(operator.restore)),
        web.get("/v1/operator/snapshot", on_leader(operator.snapshot)),
        web.get("/v1/operator/scheduler/configuration", on_leader(operator.scheduler)),
        *writes("/v1/operator/scheduler/configuration", on_leader(operator.set_scheduler)),
        web.get("/v1/operator/brake", on_leader(operator.brake)),
        *writes("/v1/operator/brake/release", on_leader(operator.release_brake)),
        *writes("/v1/operator/rebalance", on_leader(operator.rebalance)),
        web.put("/v1/system/gc", on_leader(cluster.system_gc)),
    ]


# What an agent says of itself and of what it is given, whatever region is named.
_OWN = ("/v1/operator/lock", "/v1/agent/", "/v1/regions", "/v1/jobs/parse")
# What Nomad lets web pages of other origins read: a UI asks a node itself for logs and stats.
_OPEN = "/v1/client/"
_OPEN_METHODS = ("GET", "HEAD")


@web.middleware
async def one_region(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not request.path.startswith(_OWN):
        check_region(request)
    return await handler(request)


async def preflight(request: web.Request) -> web.Response:
    """A browser asks whether a page of another origin may ask."""
    wanted = request.headers.get("Access-Control-Request-Method")
    if "Origin" not in request.headers or not wanted:
        raise web.HTTPMethodNotAllowed(request.method, _OPEN_METHODS)
    response = web.Response(status=204)
    response.headers["Access-Control-Allow-Methods"] = ", ".join(_OPEN_METHODS)
    if headers := request.headers.get("Access-Control-Request-Headers"):
        response.headers["Access-Control-Allow-Headers"] = headers
    return response


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Before the headers are sent, those of a stream and of an error included."""
    if request.path.startswith(_OPEN) and request.method in (*_OPEN_METHODS, "OPTIONS"):
        response.headers["Vary"] = "Origin"
        if "Origin" in request.headers:
            response.headers["Access-Control-Allow-Origin"] = "*"


# What is told as it is, with Nomad's status for what its servers will not do.
_REFUSALS = (
    EnforceIndexError,
    StillLeaving,
    RegistrationRejected,
    VersionRefused,
    LeaderChanged,
    Refused,
    StoreRefused,
    StoreUnavailable,
    WriteConflict,
)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as Nomad words it; never a traceback in an answer."""
    try:
        return await handler(request)
    except (BadRequest, ScalingRefused) as error:
        return _text(400, str(error))
    except NotFound as error:
        response = _text(404, str(error))
        if error.index:
            response.headers.update(read_headers(error.index))
        return response
    except InputError as error:
        return _text(500, errors_text([str(fault) for fault in error.faults]))
    except (NoLeader, SessionLost):
        return _text(500, "No cluster leader")
    except UnknownJob as error:
        return _text(404 if str(error) == "job not found" else 500, str(error))
    except _REFUSALS as error:
        return _text(500, str(error))
    except RequestPayloadError:
        return _text(400, "the request's body cannot be decoded")
    except web.HTTPMethodNotAllowed:
        return _text(405, "Invalid method")
    except web.HTTPNotFound:
        return web.Response(status=404)
    except web.HTTPException:
        raise
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _text(500, "internal error; the agent's log has the details")


def _text(status: int, message: str) -> web.Response:
    return web.Response(status=status, text=message, content_type="text/plain", charset="utf-8")


def _clients_own_faults(record: logging.LogRecord) -> bool:
    """What a client sent that is no HTTP, and that it hung up, is told at DEBUG in one line and not as our error."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError | RequestPayloadError | ConnectionError):
        return True
    _http_log.debug("%s: %s", record.getMessage(), " ".join(str(error).split()))
    return False


_http_log.addFilter(_clients_own_faults)


def application(context: Context) -> web.Application:
    app = web.Application(middlewares=[errors, one_region], client_max_size=BODY_BYTES_MAX)
    app.on_response_prepare.append(allow_origin)
    app[CONTEXT] = context
    app[stats.METER] = stats.Meter()
    app.add_routes(routes(context))
    return app


class ApiServer:
    """The listening API. Use as `async with`; raises OSError when the port is taken."""

    def __init__(
        self,
        context: Context,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        bound: socket.socket | None = None,
    ) -> None:
        """bound: holds the port already."""
        self._context = context
        self._host, self._port, self._tls, self._bound = host, port, tls, bound
        self._runner = web.AppRunner(
            application(context), access_log=None, logger=_http_log, handle_signals=False, shutdown_timeout=1.0
        )

    async def __aenter__(self) -> "ApiServer":
        await self._runner.setup()
        if self._bound is not None:
            await web.SockSite(self._runner, self._bound, ssl_context=self._tls).start()
        else:
            await web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._context.close()
