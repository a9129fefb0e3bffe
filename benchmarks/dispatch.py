"""How fast are jobs dispatched, and what is left of them once they are collected?

    python -m benchmarks.dispatch [--measured 1000] [--all 5000] [--clients 20] [--nodes 20] [--again 0]

A real Consul, a real `drover agent` that leads, and nodes that report each alloc as complete. So many clients dispatch
`measured` instances of a no-op job with a payload of 1 KiB over the API, each waiting for its answer: rate, median and
99th percentile. They go on to `all`; when all of them are done, the collection is asked for. Prints one JSON line: also
the KV keys below drover's root and the leader's memory at each point.
"""

import argparse
import asyncio
import base64
import json
import random
import statistics
import time
from collections import defaultdict
from pathlib import Path

import aiohttp

from benchmarks.commit import register_nodes
from benchmarks.takeover import documents, fill
from catalog.agent_store import AgentStore
from catalog.client import Client
from catalog.keys import Keys, is_sentinel
from catalog.kv import Kv
from catalog.transport import Endpoint, HttpTransport
from model.alloc import AllocId, ClientStatus, DesiredAlloc, ObservedAlloc, TaskState, TaskStatus
from model.node import NodeId
from model.wire import decode
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, job

_POLL_S = 0.3
# Collecting is asked for again after so long: allocs go only once their jobs have.
_ASK_S = 5.0
_GIVE_UP_S = 900.0


class Nodes:
    """Report whatever they should run as complete, and forget it with its document."""

    def __init__(self, kv: Kv, keys: Keys, ids: list[NodeId]) -> None:
        self._kv, self._keys = kv, keys
        self._stores = {node_id: AgentStore(kv, keys, random.Random(node_id)) for node_id in ids}
        self.reported: dict[AllocId, NodeId] = {}
        self.count = 0

    async def run(self) -> None:
        while True:
            entries = [e for e in (await self._kv.list(self._keys.desired)).entries if not is_sentinel(e.key)]
            wanted = {alloc.id: alloc for alloc in (decode(e.value, DesiredAlloc) for e in entries)}
            await self._report([alloc for alloc_id, alloc in wanted.items() if alloc_id not in self.reported])
            await self._forget([alloc_id for alloc_id in self.reported if alloc_id not in wanted])
            await asyncio.sleep(_POLL_S)

    async def _report(self, allocs: list[DesiredAlloc]) -> None:
        by_node = defaultdict(list)
        state = TaskState(state=TaskStatus.DEAD, started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:01Z")
        for alloc in allocs:
            by_node[alloc.node_id].append(
                ObservedAlloc(
                    id=alloc.id,
                    node_id=alloc.node_id,
                    client_status=ClientStatus.COMPLETE,
                    task_states={"t": state},
                    job_version=alloc.job_version,
                    boot_id="b",
                    modify_time=time.time_ns(),
                )
            )
            self.reported[alloc.id] = alloc.node_id
        async with asyncio.TaskGroup() as tasks:
            for node_id, some in by_node.items():
                tasks.create_task(self._stores[node_id].report(node_id, some, None), name="report")
        self.count += len(allocs)

    async def _forget(self, alloc_ids: list[AllocId]) -> None:
        by_node = defaultdict(list)
        for alloc_id in alloc_ids:
            by_node[self.reported.pop(alloc_id)].append(alloc_id)
        async with asyncio.TaskGroup() as tasks:
            for node_id, some in by_node.items():
                tasks.create_task(self._stores[node_id].delete_observed(node_id, some), name="forget")


async def dispatch(address: str, count: int, clients: int) -> tuple[list[float], float]:
    """How long each answer took, and all of them together, in seconds."""
    body = {"Payload": base64.b64encode(b"x" * 1024).decode(), "Meta": {}}
    took: list[float] = []
    left = iter(range(count))

    async def client(session: aiohttp.ClientSession) -> None:
        for _ in left:
            begun = time.perf_counter()
            async with session.put(f"http://{address}/v1/job/noop/dispatch", json=body) as answer:
                answer.raise_for_status()
                await answer.read()
            took.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        for number in range(clients):
            tasks.create_task(client(session), name=f"client {number}")
    return took, time.perf_counter() - begun


def memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024, 1)


async def measure(consul: ConsulServer, args: argparse.Namespace) -> dict[str, object]:
    transport = HttpTransport(Endpoint(address=consul.http_addr))
    client, keys, kv = Client(transport), Keys(), Kv(transport)
    await fill(kv, documents(keys, random.Random(1), args.nodes, 0, 1))
    ids = [NodeId(e.key.rpartition("/")[2]) for e in (await kv.list(keys.nodes)).entries if not is_sentinel(e.key)]
    await register_nodes(client, ids)
    nodes = Nodes(kv, keys, ids)
    points: dict[str, dict[str, float]] = {}
    with Drover(consul, client=False) as leader:

        async def point(name: str) -> None:
            found = [key for key in await kv.keys(keys.state) if not is_sentinel(key) and not key.startswith(keys.inboxes)]
            points[name] = {"keys": len(found), "memory_mb": memory_mb(leader.pid)}

        async def until(what: str, is_done: object) -> float:
            begun = time.perf_counter()
            while not await is_done():  # type: ignore[operator]
                if time.perf_counter() - begun > _GIVE_UP_S:
                    raise AssertionError(f"{what} is not done")
                await asyncio.sleep(_POLL_S)
            return time.perf_counter() - begun

        async def all_ready() -> bool:
            found = await asyncio.to_thread(leader.get, "/v1/nodes")
            return sum(n["Status"] == "ready" for n in found) == args.nodes

        async def all_reported() -> bool:
            return nodes.count >= args.all

        asked_s = 0.0

        async def is_collected() -> bool:
            nonlocal asked_s
            if time.perf_counter() - asked_s > _ASK_S:
                await asyncio.to_thread(leader.run, "system", "gc")
                asked_s = time.perf_counter()
            return not nodes.reported and len(await kv.keys(keys.versions)) <= 3

        await until("readiness", all_ready)
        noop = job("noop", "/bin/true", [], job={"Type": "batch", "ParameterizedJob": {}}, DispatchPayload={"File": "in"})
        await asyncio.to_thread(leader.submit, noop)
        async with asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(nodes.run(), name="nodes")
            await asyncio.sleep(2.0)
            await point("before")
            took, all_s = await dispatch(leader.address, args.measured, args.clients)
            begun = time.perf_counter()
            if args.all > args.measured:
                await dispatch(leader.address, args.all - args.measured, args.clients)
            await until("the last run", all_reported)
            run_s = all_s + time.perf_counter() - begun
            await asyncio.sleep(2.0)
            await point("all done")
            collect_s = await until("the collection", is_collected)
            await asyncio.sleep(2.0)
            await point("collected")
            for _ in range(args.again):
                nodes.count = 0
                await dispatch(leader.address, args.all, args.clients)
                await until("the last run", all_reported)
                await until("the collection", is_collected)
            if args.again:
                await asyncio.sleep(2.0)
                await point(f"collected {args.again} times more")
            reporting.cancel()
    await transport.close()
    return {
        "clients": args.clients,
        "dispatches": args.measured,
        "per_s": round(args.measured / all_s),
        "median_ms": round(statistics.median(took) * 1000, 1),
        "p99_ms": round(statistics.quantiles(took, n=100)[98] * 1000, 1),
        "all": args.all,
        "all_run_s": round(run_s, 1),
        "collect_s": round(collect_s, 1),
        **points,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", type=int, default=1000)
    parser.add_argument("--all", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--again", type=int, default=0, help="so many times more, to see whether anything grows")
    args = parser.parse_args()
    with ConsulServer(config={"log_level": "warn"}) as consul:
        print(json.dumps(asyncio.run(measure(consul, args))))


if __name__ == "__main__":
    main()
