"""Who answers a request to one node's Consul agent?

ConsulAgent is LocalAgent with the HTTP API on top: a table of routes, no sockets. The HTTP server
(server.py) and the simulator call the same request(). Cut off (is_connected False), the agent answers
its own endpoints and 500 "No cluster leader" to the rest, at once: real Consul first retries for up to
7 s, which whoever wraps request() may add.
"""

import asyncio
import posixpath
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from catalog.embedded import api_agent, api_catalog, api_kv, api_session
from catalog.embedded.answers import TEXT, Refused, Response, empty, refusal
from catalog.embedded.checks import Prober
from catalog.embedded.local import LocalAgent
from catalog.embedded.reads import Request
from catalog.embedded.state import ConsulState

Handler = Callable[[Any, Request], Awaitable[Response]]

# A path that ends in a slash stands for everything below it, as in Go's mux.
_ROUTES: dict[str, dict[str, Handler]] = {
    "/v1/kv/": {"GET": api_kv.get_key, "PUT": api_kv.put_key, "DELETE": api_kv.delete_key},
    "/v1/txn": {"PUT": api_kv.transaction},
    "/v1/session/create": {"PUT": api_session.create},
    "/v1/session/destroy/": {"PUT": api_session.destroy},
    "/v1/session/renew/": {"PUT": api_session.renew},
    "/v1/session/info/": {"GET": api_session.info},
    "/v1/session/list": {"GET": api_session.list_all},
    "/v1/session/node/": {"GET": api_session.list_node},
    "/v1/internal/acl/authorize": {"POST": api_session.authorize},
    "/v1/catalog/nodes": {"GET": api_catalog.nodes},
    "/v1/catalog/services": {"GET": api_catalog.services},
    "/v1/catalog/service/": {"GET": api_catalog.service},
    "/v1/catalog/node/": {"GET": api_catalog.node},
    "/v1/catalog/datacenters": {"GET": api_catalog.datacenters},
    "/v1/catalog/register": {"PUT": api_catalog.register},
    "/v1/catalog/deregister": {"PUT": api_catalog.deregister},
    "/v1/health/service/": {"GET": api_catalog.health_service},
    "/v1/health/node/": {"GET": api_catalog.health_node},
    "/v1/health/checks/": {"GET": api_catalog.health_checks},
    "/v1/health/state/": {"GET": api_catalog.health_state},
    "/v1/status/leader": {"GET": api_catalog.status_leader},
    "/v1/status/peers": {"GET": api_catalog.status_peers},
    "/v1/operator/raft/configuration": {"GET": api_catalog.raft_configuration},
    "/v1/agent/self": {"GET": api_agent.agent_self},
    "/v1/agent/members": {"GET": api_agent.members},
    "/v1/agent/metrics": {"GET": api_agent.metrics},
    "/v1/agent/services": {"GET": api_agent.services},
    "/v1/agent/service/": {"GET": api_agent.service},
    "/v1/agent/checks": {"GET": api_agent.checks},
    "/v1/agent/health/service/id/": {"GET": api_agent.service_health},
    "/v1/agent/service/register": {"PUT": api_agent.register_service},
    "/v1/agent/service/deregister/": {"PUT": api_agent.deregister_service},
    "/v1/agent/check/register": {"PUT": api_agent.register_check},
    "/v1/agent/check/deregister/": {"PUT": api_agent.deregister_check},
    "/v1/agent/check/pass/": {"PUT": api_agent.check_pass},
    "/v1/agent/check/warn/": {"PUT": api_agent.check_warn},
    "/v1/agent/check/fail/": {"PUT": api_agent.check_fail},
    "/v1/agent/check/update/": {"PUT": api_agent.check_update},
}


class ConsulAgent(LocalAgent):
    """One node's agent; several may share a state.

        state = ConsulState(loop=loop, rng=rng)
        async with ConsulAgent(state, "n1", "10.0.0.1", prober=prober) as agent:
            answer = await agent.request("GET", "/v1/kv/x", {"recurse": ""}, {}, b"")

    Entering joins the node to the catalog and starts http and tcp checks, in a TaskGroup of its own;
    leaving ends them and leaves the catalog as it is, as a crash would.
    prober None: http and tcp checks are accepted and never run.
    """

    def __init__(
        self,
        state: ConsulState,
        node_name: str,
        address: str,
        *,
        prober: Prober | None = None,
        is_server: bool = False,
    ) -> None:
        super().__init__(state, node_name, address, prober=prober, is_server=is_server)
        self._probes: asyncio.TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._probes = await asyncio.TaskGroup().__aenter__()
        self.join()
        self.start_probing(self._probes)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._probes is not None:
            # The body's own error is not the group's: it goes on as it is, not wrapped in a group.
            await self._probes.__aexit__(None, None, None)
            self._probes = None

    async def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Response:
        """One HTTP request without HTTP. path is percent-decoded; a flag such as recurse is {"recurse": ""}.

        Cancelling ends a blocking query. Raises nothing that a client could have caused.
        """
        request = Request(method=method, path=path, params=params or {}, headers=headers or {}, body=body)
        clean = posixpath.normpath(path) + ("/" if path.endswith("/") and path != "/" else "")
        if clean != path:
            return empty({"Location": clean}, status=301)
        try:
            return await _route(self, request)
        except Refused as error:
            return refusal(error)


async def _route(agent: ConsulAgent, request: Request) -> Response:
    methods = _methods(request.path)
    if methods is None:
        if request.path == "/":
            return Response(status=200, headers={"Content-Type": TEXT}, body=b"Consul Agent")
        is_folder = request.path + "/" in _ROUTES
        return empty({"Location": request.path + "/"}, status=301) if is_folder else empty(status=404)
    handler = methods.get(request.method)
    if handler is not None:
        return await handler(agent, request)
    allowed = {"Allow": ",".join(("OPTIONS", *methods))}
    if request.method == "OPTIONS":
        return empty(allowed)
    message = f"method {request.method} not allowed".encode()
    return Response(status=405, headers={"Content-Type": TEXT, **allowed}, body=message)


def _methods(path: str) -> dict[str, Handler] | None:
    """The route of a path: itself, else the longest folder above it."""
    exact = _ROUTES.get(path)
    if exact is not None:
        return exact
    end = len(path)
    while (end := path.rfind("/", 0, end)) >= 0:
        found = _ROUTES.get(path[: end + 1])
        if found is not None:
            return found
    return None
