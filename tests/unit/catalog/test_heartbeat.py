"""Checks pass while the loop is busy, and lapse when it hangs: real threads, for that is what it is about."""

import asyncio
import http.server
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from catalog.heartbeat import STALLED_AFTER_S, Heartbeat
from catalog.transport import Endpoint
from model.secret import Secret

TTL_S = 0.4  # four passes a TTL: one each 0.1 s


@dataclass
class Consul:
    """Takes passes; knows the checks that are in `known`."""

    port: int = 0
    known: set[str] = field(default_factory=lambda: {"a", "service:_drover-server-n1"})
    passes: list[tuple[float, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    breaks: int = 0

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(address=f"127.0.0.1:{self.port}", token=Secret("t0ken"))

    def times(self, check: str = "a") -> list[float]:
        return [at for at, name in self.passes if name == check]


@asynccontextmanager
async def consul() -> AsyncIterator[Consul]:
    made = Consul()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            if made.breaks:
                made.breaks -= 1
                self.connection.close()
                self.close_connection = True
                return
            check = self.path.removeprefix("/v1/agent/check/pass/")
            made.tokens.add(self.headers.get("X-Consul-Token"))
            is_known = check in made.known
            if is_known:
                made.passes.append((time.monotonic(), check))
            self.send_response(200 if is_known else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass  # a connection that the test broke

    with Server(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not fact():
            await asyncio.sleep(0.01)


def gaps(times: list[float]) -> float:
    """The longest time without a pass."""
    return max(b - a for a, b in itertools.pairwise(times))


async def test_a_check_is_passed_at_once_and_four_times_a_ttl_with_the_token() -> None:
    async with consul() as target, Heartbeat(target.endpoint) as heartbeat:
        begun = time.monotonic()
        heartbeat.add("a", TTL_S)
        heartbeat.add("service:_drover-server-n1", TTL_S)
        await until(lambda: len(target.times()) >= 8)
        assert target.times()[0] - begun < TTL_S / 4
        assert gaps(target.times()) < TTL_S
        assert len(target.times()) <= (time.monotonic() - begun) / (TTL_S / 4) + 2
        assert target.times("service:_drover-server-n1")
        assert target.tokens == {"t0ken"}


async def test_a_check_that_is_removed_is_passed_no_more() -> None:
    async with consul() as target, Heartbeat(target.endpoint) as heartbeat:
        heartbeat.add("a", TTL_S)
        heartbeat.add("service:_drover-server-n1", TTL_S)
        await until(lambda: bool(target.times()))
        heartbeat.remove("a")
        seen = len(target.times("service:_drover-server-n1"))
        await until(lambda: len(target.times("service:_drover-server-n1")) >= seen + 2)
        settled = len(target.times())
        await until(lambda: len(target.times("service:_drover-server-n1")) >= seen + 6)
        assert len(target.times()) == settled


async def test_a_loop_that_is_busy_for_two_seconds_loses_no_check() -> None:
    async with consul() as target, Heartbeat(target.endpoint) as heartbeat:
        heartbeat.add("a", TTL_S)
        await until(lambda: bool(target.times()))
        begun = time.monotonic()
        _block(2.0)
        during = [at for at in target.times() if begun <= at <= begun + 2.0]
        assert gaps([begun, *during, begun + 2.0]) < TTL_S
    assert STALLED_AFTER_S > 2.0


async def test_a_loop_that_hangs_lets_its_checks_lapse_and_passes_them_again_once_it_goes_on() -> None:
    stalled_s = 0.8
    async with consul() as target, Heartbeat(target.endpoint, stalled_after_s=stalled_s) as heartbeat:
        heartbeat.add("a", TTL_S)
        await until(lambda: bool(target.times()))
        begun = time.monotonic()
        _block(2.0)
        ended = time.monotonic()
        assert max(at for at in target.times() if at <= ended) < begun + stalled_s + TTL_S / 2
        await until(lambda: target.times()[-1] > ended)
        assert target.times()[-1] - ended < 1.0


def _block(span_s: float) -> None:
    """A computation that gives nothing up, and hangs: nothing else runs on this loop meanwhile."""
    threading.Event().wait(span_s)


async def test_a_check_that_consul_does_not_know_is_told_on_the_loop_and_tried_again() -> None:
    told: list[tuple[str, int]] = []
    async with (
        consul() as target,
        Heartbeat(target.endpoint, on_unknown=lambda check: told.append((check, threading.get_ident()))) as heartbeat,
    ):
        heartbeat.add("b", TTL_S)
        await until(lambda: len(told) >= 2)
        assert set(told) == {("b", threading.get_ident())}
        target.known.add("b")
        await until(lambda: len(target.times("b")) >= 2)


async def test_a_connection_that_breaks_costs_one_beat_and_a_consul_that_is_away_is_found_again() -> None:
    async with consul() as target, Heartbeat(target.endpoint) as heartbeat:
        heartbeat.add("a", TTL_S)
        await until(lambda: len(target.times()) >= 2)
        target.breaks = 1
        await until(lambda: target.breaks == 0)
        broken = len(target.times())
        await until(lambda: len(target.times()) >= broken + 3)
        assert gaps(target.times()) < TTL_S


async def test_nobody_to_pass_to_is_no_error_and_leaving_is_quick() -> None:
    begun = time.monotonic()
    async with Heartbeat(Endpoint(address="127.0.0.1:1")) as heartbeat:
        heartbeat.add("a", TTL_S)
        await asyncio.sleep(0.1)
    assert time.monotonic() - begun < 1.0
