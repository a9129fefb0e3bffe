"""How long does a new leader take over 10,000 nodes and 100,000 allocs, and does it keep its lease meanwhile?

    python -m benchmarks.takeover [--nodes 10000] [--allocs 100000] [--jobs 1000]

A real Consul is filled with a cluster's state (as many running allocs as asked, spread over jobs and
nodes); then a leader takes over with the default lease and decides about every job. Prints one JSON
line: how long the read took, the longest time the event loop was held, the epoch (1: the lease was never
lost), memory.
"""

import argparse
import asyncio
import json
import random
import resource
import time
import uuid
from datetime import UTC, datetime

from catalog.client import Client
from catalog.heartbeat import Heartbeat
from catalog.keys import Keys
from catalog.kv import Kv, Op, cut, put
from catalog.lease import Candidate, Lease
from catalog.transport import Endpoint, HttpTransport
from leader.election import Election
from model.alloc import (
    AllocId,
    ClientStatus,
    DesiredAlloc,
    EvalId,
    ObservedAlloc,
    TaskState,
    TaskStatus,
    alloc_name,
)
from model.cluster import JobRecord, Leader
from model.job import EphemeralDisk, Job, JobId, ReschedulePolicy, Resources, Task, TaskGroup
from model.node import DriverInfo, Node, NodeControl, NodeId, NodeResources, NodeStatus
from model.snapshot import Settings
from model.wire import encode
from tests.components.consul import ConsulServer


def documents(keys: Keys, rng: random.Random, nodes: int, allocs: int, jobs: int) -> list[Op]:
    def new_id() -> str:
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    ops: list[Op] = []
    node_ids = [NodeId(new_id()) for _ in range(nodes)]
    for number, node_id in enumerate(node_ids):
        node = Node(
            id=node_id,
            name=f"n{number}",
            attributes={f"attr.{i}": f"value {i}" for i in range(20)},
            drivers={"raw_exec": DriverInfo(detected=True, healthy=True)},
            resources=NodeResources(cpu_mhz=20000, memory_mb=64000, disk_mb=100000),
            boot_id="b",
        )
        control = NodeControl(node_id=node_id, status=NodeStatus.READY, epoch=1, heartbeat_ttl=200_000_000_000)
        ops += [put(keys.node(node_id), encode(node)), put(keys.control(node_id), encode(control))]
    per_job = allocs // jobs
    for number in range(jobs):
        job = Job(
            id=JobId(f"job-{number}"),
            name=f"job-{number}",
            datacenters=("dc1",),
            task_groups=(
                TaskGroup(
                    name="g",
                    count=per_job,
                    ephemeral_disk=EphemeralDisk(size_mb=10),
                    reschedule_policy=ReschedulePolicy(),
                    tasks=(Task(name="t", driver="raw_exec", resources=Resources(cpu=10, memory_mb=10)),),
                ),
            ),
        )
        ops.append(put(keys.version(job.namespace, job.id, 0), encode(job)))
        record = JobRecord(namespace=job.namespace, job_id=job.id, version=0)
        ops.append(put(keys.job(job.namespace, job.id), encode(record)))
        for index in range(per_job):
            alloc_id, node_id = AllocId(new_id()), rng.choice(node_ids)
            desired = DesiredAlloc(
                id=alloc_id,
                name=alloc_name(job.id, "g", index),
                namespace=job.namespace,
                job_id=job.id,
                job_version=0,
                task_group="g",
                node_id=node_id,
                eval_id=EvalId(new_id()),
                create_time=1,
            )
            observed = ObservedAlloc(
                id=alloc_id,
                node_id=node_id,
                client_status=ClientStatus.RUNNING,
                task_states={"t": TaskState(state=TaskStatus.RUNNING, started_at="2026-01-01T00:00:00Z")},
                boot_id="b",
            )
            ops += [
                put(keys.desired_alloc(node_id, alloc_id), encode(desired)),
                put(keys.observed_alloc(node_id, alloc_id), encode(observed)),
            ]
    return ops


async def fill(kv: Kv, ops: list[Op]) -> None:
    gate = asyncio.Semaphore(8)

    async def write(transaction: list[Op]) -> None:
        async with gate:
            await kv.commit(transaction, timeout_s=60)

    async with asyncio.TaskGroup() as tasks:
        for transaction in cut([(op,) for op in ops]):
            tasks.create_task(write(transaction), name="fill")


async def _is_answering(_: Node) -> bool:
    return True  # the nodes exist only on paper; none may be given up while we measure


def an_election(transport: HttpTransport, client: Client, pulse: Heartbeat) -> Election:
    """A candidate with the default lease."""
    who = Leader(node_id=NodeId("bench"), name="bench", http_addr="127.0.0.1:1", epoch=0, since=0, nonce="")
    kv, keys, rng = Kv(transport), Keys(), random.Random(1)
    return Election(
        client=client,
        kv=kv,
        keys=keys,
        lease=Lease(
            client=client, kv=kv, keys=keys, pulse=pulse, candidate=Candidate(leader=who), now_ns=time.time_ns, rng=rng
        ),
        settings=Settings(heartbeat_grace_s=3600),
        now=lambda: datetime.now(UTC),
        rng=rng,
        probe=_is_answering,
    )


async def measure(addr: str, nodes: int, allocs: int, jobs: int) -> dict[str, float | int]:
    endpoint = Endpoint(address=addr)
    transport = HttpTransport(endpoint)
    client, keys, rng = Client(transport), Keys(), random.Random(1)
    kv = Kv(transport)
    begun = time.monotonic()
    await fill(kv, documents(keys, rng, nodes, allocs, jobs))
    fill_s = time.monotonic() - begun
    longest = 0.0

    async def watch_loop() -> None:
        nonlocal longest
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.01)
            now = time.monotonic()
            longest, last = max(longest, now - last - 0.01), now

    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with Heartbeat(endpoint) as pulse, asyncio.TaskGroup() as tasks:
        election = an_election(transport, client, pulse)
        watcher = tasks.create_task(watch_loop(), name="watch loop")
        begun, cpu = time.monotonic(), time.process_time()
        running = tasks.create_task(election.run(), name="election")
        while not (election.leading and election.leading.is_ready):
            await asyncio.sleep(0.01)
        read_s = time.monotonic() - begun
        view = election.leading.view
        cpu_s = time.process_time() - cpu
        # Twice the lease longer, for a lease lost late would show only now.
        await asyncio.sleep(6)
        leading = election.leading
        result = {
            "nodes": len(view.nodes),
            "allocs": len(view.allocs),
            "fill_s": round(fill_s, 2),
            "read_s": round(read_s, 2),
            "cpu_s": round(cpu_s, 2),
            "longest_hold_s": round(longest, 3),
            "epoch": leading.fenced.epoch if leading else 0,
            "rss_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) // 1024,
        }
        watcher.cancel()
        running.cancel()
    await transport.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--allocs", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=1_000)
    args = parser.parse_args()
    with ConsulServer(config={"log_level": "warn"}) as consul:
        print(json.dumps(asyncio.run(measure(consul.http_addr, args.nodes, args.allocs, args.jobs))))


if __name__ == "__main__":
    main()
