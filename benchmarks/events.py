"""How many events a second reach 20 listeners, and what does an event cost when nobody listens?

    python -m benchmarks.events [--events 5000] [--listeners 20]

A view of the leader's with so many allocs in it changes one after the other, as an agent reports them; the API's handler
streams the changes over sockets to listeners in a process of their own. The clock stops when the last listener has the
last event. Prints one JSON line: events a second (times the listeners for lines), bytes of one event, and nanoseconds
for one that nobody listens to (of which without any ring).
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import threading
import time
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from api import events
from leader.view import View
from model.alloc import Alloc, ClientStatus, ObservedAlloc
from model.cluster import JobRecord
from tests.build import alloc, job

# Changes made before the listeners may take them: a busy inbox.
_BURST = 64


def a_view(count: int, *, is_open: bool = True) -> tuple[View, list[Alloc]]:
    view = View()
    one = job()
    view.put_version(one, 2, 2)
    view.put_record(JobRecord(namespace=one.namespace, job_id=one.id, version=0), 2, 2)
    allocs = [alloc(number) for number in range(count)]
    for number, each in enumerate(allocs):
        view.put_desired(each.desired, 10 + number, 10 + number)
    if is_open:
        view.events.begin(10 + count)
    return view, allocs


def change(view: View, each: Alloc, index: int) -> None:
    view.put_observed(ObservedAlloc(id=each.id, node_id=each.desired.node_id, client_status=ClientStatus.RUNNING, sequence=index), index)


def alone_ns(count: int, *, is_open: bool) -> float:
    view, allocs = a_view(count, is_open=is_open)
    began = time.perf_counter_ns()
    for number, each in enumerate(allocs):
        change(view, each, 1_000_000 + number)
    return (time.perf_counter_ns() - began) / count


def listen(port: int, last: int, count: int, ready: Any, done: Any) -> None:
    """A process with all listeners, a thread each."""

    def follow() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /v1/event/stream HTTP/1.1\r\nHost: x\r\n\r\n")
            data, tail = connection.recv(65536), b""
            ready.release()
            wanted = b'{"Index":%d,' % last
            while wanted not in tail + data:
                tail, data = data[-64:], connection.recv(1 << 20)
        done.release()

    threads = [threading.Thread(target=follow) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def measure(count: int, listeners: int) -> dict[str, float]:
    view, allocs = a_view(count)
    leading: Any = SimpleNamespace(view=view)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await events.stream(request, leading)

    app = web.Application()
    app[events.RENDERED] = []
    app.router.add_get("/v1/event/stream", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    base, spawn = 1_000_000, multiprocessing.get_context("spawn")
    ready, done = spawn.Semaphore(0), spawn.Semaphore(0)
    process = spawn.Process(target=listen, args=(port, base + count - 1, listeners, ready, done))
    process.start()
    for _ in range(listeners):
        await asyncio.to_thread(ready.acquire)
    began = time.perf_counter()
    for number, each in enumerate(allocs):
        change(view, each, base + number)
        if number % _BURST == _BURST - 1:
            # As the leader does, which reads the next facts from Consul: the slowest listener sets the pace.
            await asyncio.sleep(0)
    for _ in range(listeners):
        await asyncio.to_thread(done.acquire)
    took_s = time.perf_counter() - began
    process.join()
    size = len(events.rendered(view, view.events.take(view.events.end_position - 1)[0][1]))
    view.end()
    await runner.cleanup()
    return {"events_per_s": round(count / took_s), "lines_per_s": round(count * listeners / took_s), "event_bytes": size}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=4000, help="at most what the ring holds: the changes are made at once")
    parser.add_argument("--listeners", type=int, default=20)
    args = parser.parse_args()
    found = asyncio.run(measure(args.events, args.listeners))
    with_ring, without = (
        round(min(alone_ns(args.events, is_open=is_open) for _ in range(5))) for is_open in (True, False)
    )
    print(json.dumps({"listeners": args.listeners, **found, "change_ns": with_ring, "change_without_ring_ns": without}))


if __name__ == "__main__":
    main()
