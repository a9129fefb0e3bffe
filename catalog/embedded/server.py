"""How is an embedded agent reached over HTTP?

A thin adapter: aiohttp on one address, every request handed to ConsulAgent.request() and its answer
sent back as it is. Nothing is decided here. A client that goes away cancels its blocking query.
"""

from types import TracebackType
from typing import Self
from urllib.parse import unquote

from aiohttp import web

from catalog.embedded.agent import ConsulAgent

# The agent refuses what is too large, in Consul's words; this only bounds what is read into memory.
BODY_BYTES_MAX = 4 * 1024 * 1024


class HttpServer:
    """Serves one agent. port 0: a free one; `port` holds it once entered."""

    def __init__(self, agent: ConsulAgent, host: str = "127.0.0.1", port: int = 8500) -> None:
        self.host = host
        self.port = port
        self._agent = agent
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_route("*", "/{rest:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
        await runner.setup()
        self._runner = runner
        site = web.TCPSite(runner, self.host, self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.Response:
        answer = await self._agent.request(
            request.method,
            unquote(request.rel_url.raw_path),
            request.query,
            request.headers,
            await request.read(),
        )
        return web.Response(status=answer.status, headers=dict(answer.headers), body=answer.body)
