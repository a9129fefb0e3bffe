"""What do many waiting clients cost, and how soon do they hear of a change?

    python -m benchmarks.watchers [--queries 500] [--followers 50] [--changes 20]

One real Consul and one real agent. So many clients hold a blocking query on /v1/jobs, so many follow the log of a task
that writes a line a second; then jobs are submitted, and each query is asked again as soon as it is answered. Prints
one JSON line: ms from the submission to the answer of a single watcher and of the last of all, the agent's
share of one core (user and system) while all wait and while changes come, its memory, and how many calls failed. Ends
with 1 on a failure, at more than one core, or when a single watcher's median is above 50 ms.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass, field

import aiohttp
import psutil

from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, job, marking_job

WAKE_MS_MAX = 50.0
_IDLE_S = 10.0
_TALKS = 'while :; do echo "a line of a task that says something"; sleep 1; done'


@dataclass(slots=True)
class Watchers:
    """seen: of each query the last index that it was answered with, and when."""

    address: str
    failures: int = 0
    seen: dict[int, tuple[int, float]] = field(default_factory=dict)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    lines: int = 0

    async def query(self, session: aiohttp.ClientSession, number: int) -> None:
        index = 1
        while True:
            try:
                async with session.get(f"http://{self.address}/v1/jobs?index={index}&wait=60s") as answer:
                    text = await answer.text()
                    if answer.status != 200:
                        raise aiohttp.ClientError(f"{answer.status}: {text[:200]}")
                    index = int(answer.headers["X-Nomad-Index"])
            except (aiohttp.ClientError, OSError) as error:
                sys.stderr.write(f"{error}\n")
                self.failures += 1
                await asyncio.sleep(0.1)
                continue
            self.seen[number] = index, time.perf_counter()
            self.told.set()

    async def all_at(self, index: int) -> float:
        """The moment at which the last query knew the index."""
        while any(known < index for known, _ in self.seen.values()):
            self.told.clear()
            await self.told.wait()
        return max(moment for _, moment in self.seen.values())

    async def follow(self, session: aiohttp.ClientSession, alloc: str) -> None:
        path = f"/v1/client/fs/logs/{alloc}?task=t&type=stdout&follow=true&origin=end&plain=true"
        async with session.get(f"http://{self.address}{path}") as answer:
            self.failures += answer.status != 200
            async for line in answer.content:
                self.lines += bool(line)


async def submit(session: aiohttp.ClientSession, address: str, name: str) -> int:
    async with session.put(f"http://{address}/v1/jobs", json={"Job": marking_job(name, count=0)}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{name}: {answer.status} {await answer.text()}")
        return int((await answer.json())["JobModifyIndex"])


async def measure(one: Drover, pid: int, alloc: str, queries: int, followers: int, changes: int) -> dict[str, float]:
    agent = psutil.Process(pid)
    alone, crowd = Watchers(one.address), Watchers(one.address)
    found: dict[str, float] = {}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session:

        async def change(watchers: Watchers, name: str) -> float:
            begun = time.perf_counter()
            index = await submit(session, one.address, name)
            async with asyncio.timeout(30):
                return (await watchers.all_at(index) - begun) * 1e3

        async with asyncio.TaskGroup() as tasks:
            single = tasks.create_task(alone.query(session, 0))
            await asyncio.sleep(1)
            wakes = [await change(alone, f"single-{n}") for n in range(changes)]
            single.cancel()
            found["wake_ms"] = round(statistics.median(wakes), 1)
            waiting = [tasks.create_task(crowd.query(session, number)) for number in range(queries)]
            waiting += [tasks.create_task(crowd.follow(session, alloc)) for _ in range(followers)]
            await asyncio.sleep(5)
            before, begun = sum(agent.cpu_times()[:2]), time.perf_counter()
            await asyncio.sleep(_IDLE_S)
            found["cores_waiting"] = round((sum(agent.cpu_times()[:2]) - before) / (time.perf_counter() - begun), 3)
            before, begun = sum(agent.cpu_times()[:2]), time.perf_counter()
            ends = []
            for number in range(changes):
                ends.append(await change(crowd, f"crowd-{number}"))
                await asyncio.sleep(0.5)
            found["cores_changing"] = round((sum(agent.cpu_times()[:2]) - before) / (time.perf_counter() - begun), 3)
            found["last_of_all_ms"] = round(statistics.median(ends), 1)
            found["memory_mb"] = round(agent.memory_info().rss / 2**20, 1)
            found["lines_followed"] = crowd.lines
            found["failures"] = alone.failures + crowd.failures
            for task in waiting:
                task.cancel()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--followers", type=int, default=50)
    parser.add_argument("--changes", type=int, default=20)
    args = parser.parse_args()
    with ConsulServer() as consul, Drover(consul) as one:
        one.wait_ready()
        one.submit(job("talks", "/bin/sh", ["-c", _TALKS]))
        (alloc,) = one.wait_running("talks", 1)
        found = asyncio.run(measure(one, one.pid, alloc["ID"], args.queries, args.followers, args.changes))
    print(json.dumps(found))
    is_good = not found["failures"] and found["cores_waiting"] < 1 and found["wake_ms"] < WAKE_MS_MAX
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
