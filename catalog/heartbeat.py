"""What keeps drover's own TTL checks passing while the event loop is busy?

A small thread with a connection of its own, so that neither a long computation nor a starved machine
makes Consul think that drover died, while a loop that really hangs still lets the checks lapse: the
loop ticks, and the thread passes the checks only as long as the last tick is recent.

An accepted pass is no proof of contact with Consul's servers: the local agent answers even when it is
cut off from all of them (measured). The lease therefore never counts it as a renewal.
"""

import asyncio
import http.client
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

from catalog.transport import Endpoint

# A loop that has not ticked for this long counts as hung. Well above any slice of work that drover
# allows itself (a third of a check's TTL), and above what a starved machine was seen to cost.
STALLED_AFTER_S = 10.0
# Passes per TTL: one may be lost and another late before the check lapses.
PASSES_PER_TTL = 4
_TICK_S = 0.5


class Heartbeat:
    """Passes any number of TTL checks on the local Consul agent. Use as `async with`.

    add() may be called at any time; a check that Consul does not know (restarted, not yet registered)
    is retried at the next beat, and `on_unknown` is told so that it can be registered again.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        on_unknown: Callable[[str], None] | None = None,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self._endpoint = endpoint
        self._stalled_after_s = stalled_after_s
        self._on_unknown = on_unknown
        self._ttls: dict[str, float] = {}
        self._next: dict[str, float] = {}
        self._passed: dict[str, float] = {}
        self._ticked = time.monotonic()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._ticker: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> "Heartbeat":
        self._loop = asyncio.get_running_loop()
        self._tick()
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        self._stopping = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join, 3.0)

    def add(self, check_id: str, ttl_s: float) -> None:
        """Keeps this check passing from now on; the first pass is sent at once."""
        self._ttls[check_id] = ttl_s
        self._next[check_id] = 0.0
        self._wake.set()

    def remove(self, check_id: str) -> None:
        self._ttls.pop(check_id, None)

    def age_s(self, check_id: str) -> float | None:
        """Since Consul last took a pass of this check; None: it never did."""
        passed = self._passed.get(check_id)
        return None if passed is None else time.monotonic() - passed

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        if self._loop is not None:
            self._ticker = self._loop.call_later(_TICK_S, self._tick)

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stopping:
            now = time.monotonic()
            due = [c for c in list(self._ttls) if self._next.get(c, 0.0) <= now]
            if due and now - self._ticked < self._stalled_after_s:
                for check_id in due:
                    connection = self._pass(connection, check_id)
            for check_id in due:
                self._next[check_id] = now + self._ttls.get(check_id, 1.0) / PASSES_PER_TTL
            soonest = min((self._next.get(c, now) for c in list(self._ttls)), default=now + 1.0)
            self._wake.wait(max(0.05, soonest - time.monotonic()))
            self._wake.clear()
        if connection is not None:
            connection.close()

    def _pass(
        self, connection: http.client.HTTPConnection | None, check_id: str
    ) -> http.client.HTTPConnection | None:
        """One pass; returns the connection to go on with, None when it broke."""
        try:
            if connection is None:
                connection = self._connect()
            connection.request(
                "PUT", f"/v1/agent/check/pass/{quote(check_id, safe=':')}", headers=self._endpoint.headers
            )
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            # A kept-alive connection may have been closed under us: one more try comes with the next beat,
            # a quarter of the TTL later.
            if connection is not None:
                connection.close()
            return None
        if answer.status < 400:
            self._passed[check_id] = time.monotonic()
        elif self._on_unknown is not None and self._loop is not None:
            with suppress(RuntimeError):  # the loop is closing
                self._loop.call_soon_threadsafe(self._on_unknown, check_id)
        return connection

    def _connect(self) -> http.client.HTTPConnection:
        if self._endpoint.tls is not None:
            return http.client.HTTPSConnection(self._endpoint.address, timeout=5, context=self._endpoint.tls)
        return http.client.HTTPConnection(self._endpoint.address, timeout=5)
