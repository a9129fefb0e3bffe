"""How does a test speak to a Consul without sockets, in virtual time, and break the way there?

    async with Embedded() as consul:
        kv = Kv(consul.transport())

Wire is a Transport on the embedded Consul's request(). `cut`: nothing gets through. `lose`: so many writes
are applied and their answers lost. `before`: called before each request, to let others go first.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

from catalog.embedded import ConsulAgent, ConsulState
from catalog.transport import Response, unreachable
from tests.pieces import OnePiece


class Wire(OnePiece):
    def __init__(self, agent: ConsulAgent) -> None:
        self._agent = agent
        self.is_cut = False
        self.lose = 0
        self.before: Callable[[str, str], Awaitable[None]] | None = None
        self.calls: list[tuple[str, str]] = []

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = 10.0,
    ) -> Response:
        self.calls.append((method, path))
        if self.before is not None:
            await self.before(method, path)
        await asyncio.sleep(0.001)
        try:
            async with asyncio.timeout(timeout_s):
                if self.is_cut:
                    await asyncio.sleep(timeout_s + 1)
                answer = await self._agent.request(method, path, params, {}, body)
        except TimeoutError as error:
            raise unreachable(method, path, "TimeoutError") from error
        if self.lose and method != "GET":
            self.lose -= 1
            raise unreachable(method, path, "the answer was lost")
        if answer.status >= 500 or answer.status == 429:
            raise unreachable(method, path, f"{answer.status} {answer.body[:200].decode()}")
        return Response(answer.status, answer.headers, answer.body)

    async def close(self) -> None:
        """Nothing is open."""


class Embedded:
    """One Consul server's state with an agent for each name that is asked for."""

    def __init__(self) -> None:
        self.state: ConsulState
        self._agents: dict[str, ConsulAgent] = {}

    async def __aenter__(self) -> Self:
        self.state = ConsulState(loop=asyncio.get_running_loop(), rng=random.Random(1))
        await self.join("server-1")
        return self

    async def __aexit__(self, *_: object) -> None:
        for agent in self._agents.values():
            await agent.__aexit__(None, None, None)
        self.state.close()

    async def join(self, name: str) -> ConsulAgent:
        """The agent of this name, joined."""
        if name not in self._agents:
            address = f"10.0.0.{len(self._agents) + 1}"
            agent = ConsulAgent(self.state, name, address, is_server=not self._agents)
            self._agents[name] = await agent.__aenter__()
        return self._agents[name]

    def wire(self, name: str = "server-1") -> Wire:
        """A way to that agent; each caller has its own to break."""
        return Wire(self._agents[name])
