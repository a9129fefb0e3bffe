"""What is left in Consul once batch allocs ran and were collected?

    python -m benchmarks.garbage [--allocs 2000] [--count 20] [--nodes 50]

A real Consul holds nodes that report each alloc as complete; a real leader places batch jobs of `count` allocs until
so many have run, then collects as `drover system gc` asks. Prints one JSON line: keys and bytes of drover's state (of
keys and values as they are stored) before, with everything done, and after; what is left by kind; and how long the
collection took. Ends with 1 if more than 2 % is left of keys or bytes.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass

from msgspec.structs import replace

from benchmarks.commit import a_job, register_nodes
from benchmarks.takeover import an_election, documents, fill
from catalog.agent_store import AgentStore
from catalog.client import Client
from catalog.heartbeat import Heartbeat
from catalog.keys import Keys, is_sentinel
from catalog.kv import Kv
from catalog.transport import Endpoint, HttpTransport
from leader.commands import register
from leader.leading import Leading
from model.alloc import AllocId, ClientStatus, ObservedAlloc, TaskState, TaskStatus
from model.job import JobType
from model.node import NodeId
from tests.components.consul import ConsulServer

LEFT_MAX = 0.02
GIVE_UP_S = 120.0
# Jobs submitted before the last ones are waited for: enough to keep the leader busy.
_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Size:
    keys: int
    value_bytes: int
    by_kind: Counter[str]


async def size(kv: Kv, keys: Keys) -> Size:
    """Without inboxes, which come and go all the time."""
    entries = [e for e in (await kv.list(keys.state)).entries if not e.key.startswith(keys.inboxes)]
    kinds = Counter(e.key.removeprefix(keys.state).partition("/")[0] for e in entries)
    return Size(len(entries), sum(len(e.key) + len(e.value) for e in entries), kinds)


async def complete(leading: Leading, stores: dict[NodeId, AgentStore], reported: dict[AllocId, NodeId]) -> None:
    """Each node says of all that it newly should run that it ran."""
    new = defaultdict(list)
    for alloc in list(leading.view.allocs.values()):
        if alloc.id not in reported:
            state = TaskState(state=TaskStatus.DEAD, started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:01Z")
            new[alloc.desired.node_id].append(
                ObservedAlloc(
                    id=alloc.id,
                    node_id=alloc.desired.node_id,
                    client_status=ClientStatus.COMPLETE,
                    task_states={"t": state},
                    job_version=alloc.desired.job_version,
                    boot_id="b",
                    modify_time=time.time_ns(),
                )
            )
            reported[alloc.id] = alloc.desired.node_id
    async with asyncio.TaskGroup() as tasks:
        for node_id, allocs in new.items():
            tasks.create_task(stores[node_id].report(node_id, allocs, None), name="report")


async def forget(leading: Leading, stores: dict[NodeId, AgentStore], reported: dict[AllocId, NodeId]) -> None:
    """Each node takes back what it said of allocs that are wanted no more."""
    old = defaultdict(list)
    for alloc_id in reported.keys() - leading.view.allocs.keys():
        old[reported.pop(alloc_id)].append(alloc_id)
    async with asyncio.TaskGroup() as tasks:
        for node_id, allocs in old.items():
            tasks.create_task(stores[node_id].delete_observed(node_id, allocs), name="forget")


async def run_jobs(leading: Leading, stores: dict[NodeId, AgentStore], allocs: int, count: int) -> dict[AllocId, NodeId]:
    """Returns what was reported, and by whom."""
    reported: dict[AllocId, NodeId] = {}

    async def until_complete(wanted: int) -> None:
        while sum(alloc.client_status is ClientStatus.COMPLETE for alloc in leading.view.allocs.values()) < wanted:
            await complete(leading, stores, reported)
            await asyncio.sleep(0.01)

    done = 0
    while done < allocs:
        for number in range(_AT_ONCE):
            some = min(count, allocs - done)
            if some:
                await register(leading, replace(a_job(f"batch-{done}-{number}", some), type=JobType.BATCH))
            done += some
        await until_complete(done)
    return reported


async def measure(addr: str, allocs: int, count: int, nodes: int) -> dict[str, object]:
    endpoint = Endpoint(address=addr)
    transport = HttpTransport(endpoint)
    client, keys, kv = Client(transport), Keys(), Kv(transport)
    await fill(kv, documents(keys, random.Random(1), nodes, 0, 1))
    ids = [NodeId(e.key.rpartition("/")[2]) for e in (await kv.list(keys.nodes)).entries if not is_sentinel(e.key)]
    await register_nodes(client, ids)
    stores = {node_id: AgentStore(kv, keys, random.Random(node_id)) for node_id in ids}
    async with Heartbeat(endpoint) as pulse, asyncio.TaskGroup() as tasks, asyncio.timeout(1800):
        election = an_election(transport, client, pulse)
        running = tasks.create_task(election.run(), name="election")
        while not (election.leading and election.leading.is_ready):
            await asyncio.sleep(0.01)
        leading = election.leading
        while sum(node.takes_work for node in leading.view.nodes.values()) < nodes:
            await asyncio.sleep(0.1)
        for node_id in ids:  # as at a node's registration
            await leading.fenced.commit([leading.store.sentinel(keys.desired_of(node_id), leading.fenced.new_id())])
        await asyncio.sleep(2)  # until it has nothing left to do
        before, jobs_before = await size(kv, keys), len(leading.view.jobs)
        started = time.monotonic()
        reported = await run_jobs(leading, stores, allocs, count)
        run_s = time.monotonic() - started
        full = await size(kv, keys)
        started = time.monotonic()
        after = full
        while after.keys > before.keys and time.monotonic() - started < GIVE_UP_S:
            leading.deciding.collect_garbage()
            leading.garbage.set()
            await asyncio.sleep(0.5)
            await forget(leading, stores, reported)
            last, after = after, await size(kv, keys)
            if after.keys == last.keys and not reported and not leading.garbage.is_set() and len(leading.view.jobs) == jobs_before:
                break
        collect_s = time.monotonic() - started
        running.cancel()
    await transport.close()
    return {
        "allocs": allocs,
        "jobs": -(-allocs // count),
        "nodes": nodes,
        "run_s": round(run_s, 1),
        "collect_s": round(collect_s, 1),
        "keys": {"before": before.keys, "full": full.keys, "after": after.keys},
        "bytes": {"before": before.value_bytes, "full": full.value_bytes, "after": after.value_bytes},
        "left_percent": {
            "keys": round(100 * (after.keys / before.keys - 1), 2),
            "bytes": round(100 * (after.value_bytes / before.value_bytes - 1), 2),
        },
        "left": dict(after.by_kind - before.by_kind),
        "is_clean": max(after.keys / before.keys, after.value_bytes / before.value_bytes) <= 1 + LEFT_MAX,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--allocs", type=int, default=2_000)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=50)
    args = parser.parse_args()
    with ConsulServer(config={"log_level": "warn"}) as consul:
        result = asyncio.run(measure(consul.http_addr, args.allocs, args.count, args.nodes))
    print(json.dumps(result))
    sys.exit(0 if result["is_clean"] else 1)


if __name__ == "__main__":
    main()
