"""What can happen to a call between a drover process and its Consul agent?

    process ──out──> Consul agent ──> applied ──back──> process
        lost: never answered     refused: 500 before it     unclear: applied, then 500 or silence
        late: seconds on the way out or back                spurious: a blocking read answers at once

A write that is on its way arrives whatever becomes of its sender: its life is the world's, not the
process'. The observer sees every request that Consul answered, at the moment at which it was applied.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Protocol

from catalog.embedded import ConsulAgent
from catalog.embedded import Response as Answer
from catalog.heartbeat import PASSES_PER_TTL
from catalog.transport import Response, unreachable
from tests.pieces import OnePiece

# Loopback plus a raft round.
_LATENCY_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Shares of calls to which each thing happens; late_s_max: how long "late" may be."""

    lost: float = 0.0
    refused: float = 0.0
    unclear: float = 0.0
    late: float = 0.0
    spurious: float = 0.0
    late_s_max: float = 6.0


CALM = Weather()


class Caller(Protocol):
    """Whose call it is."""

    @property
    def is_dead(self) -> bool: ...
    @property
    def consul(self) -> ConsulAgent | None: ...
    @property
    def weather(self) -> Weather: ...


Applied = Callable[[Caller, str, str, Mapping[str, str], bytes, Answer], None]


class Net:
    """All wires of the world. tasks: the world's group, which carries what is on its way."""

    def __init__(
        self, tasks: asyncio.TaskGroup, context: Context, rng: random.Random, applied: Applied
    ) -> None:
        self._tasks = tasks
        self._context = context
        self._rng = rng
        self._applied = applied
        self._serving: dict[asyncio.Future[Answer], ConsulAgent] = {}

    def drop(self, consul: ConsulAgent) -> None:
        """That Consul agent's process ended: all its connections break."""
        for future in [f for f, agent in self._serving.items() if agent is consul and not f.done()]:
            future.set_exception(ConnectionResetError("connection reset"))

    async def exchange(
        self, caller: Caller, method: str, path: str, params: Mapping[str, str], body: bytes
    ) -> Answer:
        """Consul's answer. Raises ConnectionError; may never return."""
        if caller.is_dead:
            raise ConnectionResetError("the process is dead")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        serving = self._tasks.create_task(
            self._serve(future, caller, method, path, params, body), name=f"{method} {path}", context=self._context
        )
        try:
            return await future
        finally:
            self._serving.pop(future, None)
            if method == "GET":
                serving.cancel()

    async def _serve(
        self,
        future: asyncio.Future[Answer],
        caller: Caller,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: bytes,
    ) -> None:
        weather, chance = caller.weather, self._rng.random
        fates = [chance() < p for p in (weather.lost, weather.refused, weather.unclear, weather.late, weather.spurious)]
        is_lost, is_refused, is_unclear, is_late, is_spurious = fates
        out_s, back_s, is_silent = chance(), chance(), chance() < 0.5
        late_s = weather.late_s_max * chance()
        sent_to = caller.consul
        await asyncio.sleep(_LATENCY_S * out_s + (late_s if is_late and is_silent else 0.0))
        if is_lost and not is_unclear:
            return
        consul = caller.consul
        if consul is not sent_to and path.startswith("/v1/agent/"):
            # What was on its way to a Consul agent that has ended reaches no other one; what it passed on to the
            # servers may yet arrive.
            consul = None
        if consul is None:
            if not future.done():
                future.set_exception(ConnectionRefusedError("connection refused"))
            return
        if is_refused:
            self._resolve(future, Answer(status=500, body=b"rpc error: No cluster leader"))
            return
        if is_spurious and "index" in params:
            params = {**params, "wait": "1ms"}
        self._serving[future] = consul
        answer = await consul.request(method, path, params, {}, body)
        # No await up to here: whoever looks now sees Consul just as this request left it.
        self._applied(caller, method, path, params, body, answer)
        await asyncio.sleep(_LATENCY_S * back_s + (late_s if is_late and not is_silent else 0.0))
        self._serving.pop(future, None)
        if is_unclear and method != "GET":
            if is_silent:
                return
            answer = Answer(status=500, body=b"leadership lost while committing log")
        self._resolve(future, answer)

    @staticmethod
    def _resolve(future: asyncio.Future[Answer], answer: Answer) -> None:
        if not future.done():
            future.set_result(answer)


class SimTransport(OnePiece):
    """catalog.transport.Transport without sockets, for one process."""

    def __init__(self, net: Net, caller: Caller) -> None:
        self._net = net
        self._caller = caller

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = 10.0,
    ) -> Response:
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._net.exchange(self._caller, method, path, params or {}, body)
        except (OSError, TimeoutError) as error:
            raise unreachable(method, path, f"{type(error).__name__}: {error}") from error
        if answer.status >= 500 or answer.status == 429:
            raise unreachable(method, path, f"{answer.status} {answer.body[:200].decode()}")
        return Response(answer.status, answer.headers, answer.body)

    async def close(self) -> None:
        """Nothing is open."""


class SimPulse:
    """catalog.lease.Pulse as a coroutine, in place of the heartbeat's thread."""

    def __init__(self, net: Net, caller: Caller, on_unknown: Callable[[str], None]) -> None:
        self._net = net
        self._caller = caller
        self._on_unknown = on_unknown
        self._ttls: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._wake = asyncio.Event()

    def add(self, check_id: str, ttl_s: float) -> None:
        self._ttls[check_id] = ttl_s
        self._next[check_id] = 0.0
        self._wake.set()

    def remove(self, check_id: str) -> None:
        self._ttls.pop(check_id, None)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for check_id in [c for c in self._ttls if self._next[c] <= loop.time()]:
                if check_id not in self._ttls:
                    continue
                self._next[check_id] = loop.time() + self._ttls[check_id] / PASSES_PER_TTL
                await self._pass(check_id)
            soonest = min((self._next[c] for c in self._ttls), default=loop.time() + 3600.0)
            try:
                async with asyncio.timeout_at(soonest):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _pass(self, check_id: str) -> None:
        try:
            async with asyncio.timeout(5.0):
                answer = await self._net.exchange(self._caller, "PUT", f"/v1/agent/check/pass/{check_id}", {}, b"")
        except (OSError, TimeoutError):
            return
        if answer.status >= 400:
            self._on_unknown(check_id)
