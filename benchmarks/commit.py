"""How fast is a large job placed, from its submission to the last document in Consul?

    python -m benchmarks.commit [--nodes 10000] [--count 1000]

A real Consul holds so many nodes, all of them passing; a real leader has taken over. Then one job of so many
allocs is submitted: the clock stops when Consul has accepted the last `desired/` key. Prints one JSON line with the
best of three jobs, and how many keys a listing finds afterwards.
"""

import argparse
import asyncio
import json
import random
import time
from collections.abc import Sequence

from benchmarks.takeover import an_election, documents, fill
from catalog.client import Client
from catalog.heartbeat import Heartbeat
from catalog.keys import Keys, is_sentinel
from catalog.kv import Kv
from catalog.transport import Endpoint, HttpTransport
from leader.commands import deregister, register
from leader.health import AGENT_SERVICE
from leader.leading import Leading
from model.job import EphemeralDisk, Job, JobId, ReschedulePolicy, Resources, Task, TaskGroup
from model.node import NodeId
from model.snapshot import Reach
from tests.components.consul import ConsulServer

_TXN_OPS = 64


def a_job(name: str, count: int) -> Job:
    group = TaskGroup(
        name="g",
        count=count,
        ephemeral_disk=EphemeralDisk(size_mb=10),
        reschedule_policy=ReschedulePolicy(),
        tasks=(Task(name="t", driver="raw_exec", resources=Resources(cpu=100, memory_mb=100)),),
    )
    return Job(id=JobId(name), name=name, datacenters=("dc1",), task_groups=(group,))


async def register_nodes(client: Client, ids: Sequence[NodeId]) -> None:
    """A catalog node with a passing agent for each."""
    ops = []
    for number, node_id in enumerate(ids):
        name = f"n{number}"
        service = {"ID": f"drover-agent-{node_id}", "Service": AGENT_SERVICE, "Meta": {"drover_node": node_id}}
        ops.append({"Node": {"Verb": "set", "Node": {"Node": name, "Address": "127.0.0.1"}}})
        ops.append({"Service": {"Verb": "set", "Node": name, "Service": service}})
    for start in range(0, len(ops), _TXN_OPS):
        await client.call("PUT", "/v1/txn", document=ops[start : start + _TXN_OPS])


async def measure(addr: str, nodes: int, count: int) -> dict[str, float | int]:
    endpoint = Endpoint(address=addr)
    transport = HttpTransport(endpoint)
    client, keys, kv = Client(transport), Keys(), Kv(transport)
    await fill(kv, documents(keys, random.Random(1), nodes, 0, 1))
    ids = [NodeId(e.key.rpartition("/")[2]) for e in (await kv.list(keys.nodes)).entries if not is_sentinel(e.key)]
    await register_nodes(client, ids)
    async with Heartbeat(endpoint) as pulse, asyncio.TaskGroup() as tasks:
        election = an_election(transport, client, pulse)
        running = tasks.create_task(election.run(), name="election")
        while not (election.leading and election.leading.is_ready):
            await asyncio.sleep(0.01)
        leading = election.leading
        while sum(node.takes_work for node in leading.view.nodes.values()) < nodes:
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)  # until it has nothing left to do
        took = []
        for number in range(3):
            took.append(await _submit(leading, a_job(f"big-{number}", count)))
            if number < 2:
                await deregister(leading, a_job("", 1).namespace, JobId(f"big-{number}"), purge=True)
                await asyncio.sleep(1)
        found = [e for e in (await kv.list(keys.desired)).entries if not is_sentinel(e.key) and b'"big-2"' in e.value]
        assert sum(node.reach is Reach.PASSING for node in leading.view.nodes.values()) == nodes
        running.cancel()
    await transport.close()
    return {
        "nodes": nodes,
        "count": count,
        "best_s": round(min(took), 3),
        "placements_per_s": round(count / min(took)),
        "keys_found": len(found),
    }


async def _submit(leading: Leading, job: Job) -> float:
    key = (job.namespace, job.id)
    started = time.monotonic()
    await register(leading, job)
    while len(leading.view.allocs_by_job.get(key, {})) < job.task_groups[0].count:
        await asyncio.sleep(0.002)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=1_000)
    args = parser.parse_args()
    with ConsulServer(config={"log_level": "warn"}) as consul:
        print(json.dumps(asyncio.run(measure(consul.http_addr, args.nodes, args.count))))


if __name__ == "__main__":
    main()
