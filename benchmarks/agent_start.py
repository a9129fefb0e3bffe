"""What do 300 raw_exec tasks cost the agent: to start, to keep, to stop?

    python -m benchmarks.agent_start [--count 300] [--idle 30] [--uvloop]

NodeAgent with the SQLite journal and real processes, and a store in memory in Consul's place (3 ms a
write). CPU is the agent's and its children's, per alloc; memory is PSS.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from agent.alloc_dir import DiskDirs
from agent.data_dir import DataDir
from agent.drivers.process import boot_id
from agent.drivers.raw_exec import RawExec
from agent.hooks.logs import LogsHook
from agent.journal_sqlite import SqliteJournal
from agent.logs import LogRotation
from agent.node_agent import NodeAgent, Pace
from model.alloc import ClientStatus
from model.node import Node
from tests.agent.doubles import MemoryStore, a_job, a_task, an_alloc


def cpu_s() -> tuple[float, float]:
    own = time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own, children.ru_utime + children.ru_stime


def spawned_cpu_s(supervisors: list[int]) -> float:
    """Processor time of supervisors and their tasks so far, in nanosecond steps (/proc/<pid>/schedstat)."""
    total = 0
    for pid in supervisors:
        with suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for process in (pid, *children):
                total += int(Path(f"/proc/{process}/schedstat").read_text().split()[0])
    return total / 1e9


def pss_kb(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        return 0
    return 0


def supervisors() -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                command = Path(f"/proc/{name}/cmdline").read_bytes()
                status = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if b"supervisor.sh" in command and int(status[1]) == os.getpid():
                found.append(int(name))
    return found


class Lag:
    """The longest time that the event loop did not come round."""

    def __init__(self) -> None:
        self.worst_s = 0.0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0.005)
            self.worst_s = max(self.worst_s, loop.time() - before - 0.005)


async def measure(count: int, idle_s: float, home: Path) -> dict[str, float]:
    job = a_job(a_task(driver="raw_exec", config={"command": "/bin/sleep", "args": ["100000"]}))
    store = MemoryStore(job)
    figures: dict[str, float] = {}
    rotation = LogRotation()
    with DataDir(home) as data:
        agent = NodeAgent(
            node=Node(id=data.node_id(), name="bench", boot_id=boot_id()),
            store=store,
            journal=SqliteJournal(data.journal),
            drivers=[RawExec(data.run, os.environ)],
            dirs=DiskDirs(data.allocs),
            now=lambda: datetime.now(UTC),
            rng=random.Random(1),
            hooks=[LogsHook(rotation)],
            pace=Pace(collect_s=0.5),
        )
        async with asyncio.TaskGroup() as group:
            running = group.create_task(agent.run(), name="agent")
            rotating = group.create_task(rotation.run(), name="rotate logs")
            await store.until(lambda s: s.nodes)
            lag = Lag()
            watching = group.create_task(lag.run(), name="lag")
            allocs = [an_alloc(number, job) for number in range(count)]
            own, _ = cpu_s()
            at = time.perf_counter()
            store.want(*allocs)
            await store.until_all(ClientStatus.RUNNING)
            figures["start_wall_s"] = time.perf_counter() - at
            figures["start_agent_cpu_ms"] = (cpu_s()[0] - own) / count * 1000
            await asyncio.sleep(1.0)
            helpers = supervisors()
            figures["start_spawned_cpu_ms"] = spawned_cpu_s(helpers) / count * 1000
            figures["start_reports"] = len(store.reports)
            figures["start_worst_lag_ms"] = lag.worst_s * 1000
            figures["agent_pss_mb"] = pss_kb(os.getpid()) / 1024
            figures["supervisor_pss_kb"] = sum(map(pss_kb, helpers)) / max(len(helpers), 1)
            watching.cancel()
            own, _ = cpu_s()
            await asyncio.sleep(idle_s)
            figures["idle_agent_cpu_s_per_minute"] = (cpu_s()[0] - own) * 60 / idle_s
            own, children = cpu_s()
            at = time.perf_counter()
            store.stop(*(alloc.id for alloc in allocs))
            await store.until_all(ClientStatus.COMPLETE)
            figures["stop_wall_s"] = time.perf_counter() - at
            figures["stop_agent_cpu_ms"] = (cpu_s()[0] - own) / count * 1000
            figures["children_cpu_ms_whole_life"] = (cpu_s()[1] - children) / count * 1000
            at = time.perf_counter()
            own, _ = cpu_s()
            store.remove(*(alloc.id for alloc in allocs))
            await store.until(lambda s: not s.observed)
            figures["collect_wall_s"] = time.perf_counter() - at
            figures["collect_agent_cpu_ms"] = (cpu_s()[0] - own) / count * 1000
            running.cancel()
            rotating.cancel()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--idle", type=float, default=30.0)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    factory = None
    if options.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    with (
        tempfile.TemporaryDirectory(prefix="drover-bench-") as home,
        asyncio.Runner(loop_factory=factory) as runner,
    ):
        figures = runner.run(measure(options.count, options.idle, Path(home)))
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}, indent=1))


if __name__ == "__main__":
    main()
