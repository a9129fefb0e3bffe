"""A wide area network between Consul datacenters on one machine, for kernels without netem.

Each server advertises to other datacenters an address of this network's, where a relay listens on the same ports and passes
on what comes, late and not always: a datagram that is lost is gone, a piece of a TCP stream that is lost comes a
retransmission later. When the network is cut nothing comes through and nothing is closed, as when a line is dug up.
"""

import asyncio
import random
import socket
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self

from tests.components.consul import ConsulServer

# What Linux waits at least before it sends a lost segment again.
_RETRANSMIT_S = 0.2
_CHUNK_BYTES = 64 * 1024


class Wan:
    """delay_s: one way. loss: share of packets, each way."""

    def __init__(self, delay_s: float = 0.0, loss: float = 0.0) -> None:
        self.delay_s, self.loss = delay_s, loss
        self._rng = random.Random(1)
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closers: list[Any] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def reach(self, server: ConsulServer, at: str) -> None:
        """Relays its WAN ports from this address."""
        self._call(self._listen(server, at))

    def cut(self) -> None:
        self._loop.call_soon_threadsafe(self._open.clear)

    def heal(self) -> None:
        self._loop.call_soon_threadsafe(self._open.set)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        done: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)
        done.result(10)

    async def _listen(self, server: ConsulServer, at: str) -> None:
        for name in ("server", "serf_wan"):
            there = (server.address, server.ports[name])
            listener = await asyncio.start_server(lambda r, w, there=there: self._relay(r, w, there), at, there[1])  # type: ignore[misc]
            self._closers.append(listener)
        there = (server.address, server.ports["serf_wan"])
        transport, _ = await self._loop.create_datagram_endpoint(lambda: _Datagrams(self, there), local_addr=(at, there[1]))
        self._closers.append(transport)

    async def _end(self) -> None:
        for one in self._closers:
            one.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: tuple[str, int]) -> None:
        await self._open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*there)
        except OSError:
            writer.close()
            return
        for one, other in ((reader, far_writer), (far_reader, writer)):
            task = self._loop.create_task(self._pump(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Order is kept; what is behind a lost piece waits for it."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(_CHUNK_BYTES):
                await asyncio.sleep(self.delay_s + (_RETRANSMIT_S if self.is_lost() else 0.0))
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    def is_lost(self) -> bool:
        return self._rng.random() < self.loss

    def later(self, send: Any, *arguments: Any) -> None:
        """A datagram, unless it is lost."""
        if self._open.is_set() and not self.is_lost():
            self._loop.call_later(self.delay_s, send, *arguments)


class _Datagrams(asyncio.DatagramProtocol):
    """To the server under one's own address for each sender, so that its answers find back."""

    def __init__(self, wan: Wan, there: tuple[str, int]) -> None:
        self._wan, self._there = wan, there
        self._out: socket.socket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._out.bind((transport.get_extra_info("sockname")[0], 0))

    def datagram_received(self, data: bytes, _: object) -> None:
        # Gossip answers to the address that a member advertises, not to the one a packet came from.
        if self._out is not None:
            self._wan.later(self._out.sendto, data, self._there)

    def connection_lost(self, _: Exception | None) -> None:
        if self._out is not None:
            self._out.close()
