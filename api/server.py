"""The HTTP server: its middlewares, error answers and limits. Which path is answered by whom: api/routes.py.

Errors are Nomad's: the bare message as text/plain, with its status codes.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from weakref import WeakSet

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from api import absent, alloc_exec, connections, events, metrics, stats
from api.acl import NotHere
from api.connections import CONNECTIONS, Connections, timed
from api.context import CONTEXT, Context, LeaderChanged, NoLeader
from api.forwarding import Handler
from api.jobs import errors_text
from api.openapi import openapi
from api.origins import ORIGINS, Origins, known_origin
from api.query import BadRequest, Conflict, NotFound, Refused, check_region, read_headers
from api.rights import Forbidden, TooManyFailures
from api.routes import ROUTES
from api.ui import jobs as ui_jobs
from api.ui import overview
from api.websockets import NoWebsocket
from configs import AgentConfig
from leader.commands import EnforceIndexError, NothingToEvaluate, StillLeaving
from leader.dispatching import DispatchRefused
from leader.namespaces import NamespaceRefused
from leader.periodic import NotPeriodic
from leader.scheduling import RegistrationRejected
from leader.vault_path import VaultCycle
from leader.versions import ScalingRefused, UnknownJob, VersionRefused
from model.errors import (
    InputError,
    SessionLost,
    StoreRefused,
    StoreUnavailable,
    VaultRefused,
    VaultUnavailable,
    WriteConflict,
)

log = logging.getLogger("drover.api")
_http_log = logging.getLogger("drover.http")

# A job may be as large as Consul takes, JSON escapes and all; more is refused before it is read.
# A command that is run beside a task travels in the URL, and so may a long filter.
LINE_BYTES_MAX = 256 * 1024
BODY_BYTES_MAX = 8 * 1024 * 1024

# What an agent says of itself and of what it is given, whatever region is named.
_OWN = ("/v1/operator/lock", "/v1/agent/", "/v1/metrics", "/v1/regions", "/v1/jobs/parse")
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
    DispatchRefused,
    EnforceIndexError,
    NotPeriodic,
    NothingToEvaluate,
    StillLeaving,
    NamespaceRefused,
    RegistrationRejected,
    VersionRefused,
    LeaderChanged,
    Refused,
    StoreRefused,
    StoreUnavailable,
    VaultRefused,
    VaultUnavailable,
    WriteConflict,
)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every failure as Nomad words it; never a traceback in an answer."""
    try:
        return await handler(request)
    except Forbidden as error:
        return _text(403, str(error))
    except NotHere as error:
        return _text(501, str(error))
    except TooManyFailures as error:
        return _text(429, str(error))
    except (BadRequest, ScalingRefused) as error:
        return _text(400, str(error))
    except NoWebsocket as error:
        return _text(400, str(error))
    except NotFound as error:
        response = _text(404, str(error))
        if error.index:
            response.headers.update(read_headers(error.index))
        return response
    except InputError as error:
        # Nomad says 500; what a client sent wrong is 400 here, with the same words.
        return _text(400, errors_text([str(fault) for fault in error.faults]))
    except (NoLeader, SessionLost):
        return _text(500, "No cluster leader")
    except (Conflict, VaultCycle) as error:
        return _text(409, str(error))
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
    # Its words quote what was sent, a token among it.
    _http_log.debug("%s: %s", record.getMessage(), type(error).__name__)
    return False


_http_log.addFilter(_clients_own_faults)


def application(context: Context, config: AgentConfig, pages: Iterable[web.RouteDef] = ()) -> web.Application:
    """pages: what is served beside the API."""
    app = web.Application(middlewares=[timed, errors, known_origin, one_region], client_max_size=BODY_BYTES_MAX)
    app.on_response_prepare.append(allow_origin)
    app.on_response_prepare.append(metrics.count_call)
    app[CONTEXT] = context
    app[stats.METER] = stats.Meter()
    app[CONNECTIONS] = Connections(config.limits)
    own = (config.name, config.http_host, config.advertise.http.rpartition(":")[0])
    app[ORIGINS] = Origins(own, config.http_hosts, is_tls=config.tls.http)
    app[alloc_exec.OPEN] = WeakSet()
    app.on_shutdown.append(alloc_exec.end_all)
    app[metrics.LOOKS] = metrics.Looks()
    app[events.RENDERED] = []
    app[overview.ACTIVITY], app[overview.BRAKING], app[ui_jobs.STANDINGS] = [], [], []
    for route in ROUTES:
        app.add_routes(route.registered())
    app.router.add_get("/v1/openapi.json", openapi)
    app.router.add_get("/", absent.to_ui)
    app.add_routes(pages)
    app.router.add_options("/v1/client/{path:.*}", preflight)
    return app


class ApiServer:
    """The listening API. Use as `async with`; raises OSError when the port is taken."""

    def __init__(
        self, context: Context, config: AgentConfig, bound: socket.socket | None = None, pages: Iterable[web.RouteDef] = ()
    ) -> None:
        """bound: holds the port already. pages: see application()."""
        self._context, self._config, self._bound = context, config, bound
        self._app = application(context, config, pages)
        self._runner = web.AppRunner(
            self._app, access_log=None, logger=_http_log, handle_signals=False, shutdown_timeout=1.0,
            max_line_size=LINE_BYTES_MAX, max_field_size=LINE_BYTES_MAX,
        )
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "ApiServer":
        await self._runner.setup()
        host, port = self._config.http_host, self._config.ports.http
        where = {"host": host, "port": port} if self._bound is None else {"sock": self._bound}
        self._server = await connections.listen(
            self._runner, self._app[CONNECTIONS], where, self._context.tls.server
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()
        await self._context.close()
