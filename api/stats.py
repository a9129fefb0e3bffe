"""The API's /v1/client/stats and /v1/client/allocation/…/stats: what a node and its tasks use just now.

Processor time is a counter; what is shown is how fast it grew since somebody asked last, so that whoever
asks every ten seconds gets the whole of them and never waits. The first to ask waits half a second.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from agent import host_stats
from agent.drivers.base import TaskStats
from agent.host_stats import DiskUsage, HostStats
from api.context import CONTEXT
from api.query import NotFound, answer
from model.alloc import AllocId
from model.errors import TaskRefused

T = TypeVar("T")

# Between two looks: the kernel counts in hundredths of a second, so this tells two percent apart. What was
# seen longer ago than _SPAN_S_MAX says nothing of "just now".
_SPAN_S_MIN, _SPAN_S_MAX = 0.5, 60.0

Read = Callable[[], Awaitable[T]]


@dataclass(slots=True)
class Meter:
    """Remembers the counters that were seen last, by what they are of. span_s_max: for so long."""

    span_s_max: float = _SPAN_S_MAX
    _seen: dict[str, tuple[float, Mapping[str, float]]] = field(default_factory=dict)

    async def growth(
        self, key: str, read: Read[T], counters: Callable[[T], Mapping[str, float]]
    ) -> tuple[T, Mapping[str, float]]:
        """What read() finds, and by how much each of its counters grows in a second; 0 for one that is new."""
        loop = asyncio.get_running_loop()
        self._forget(loop.time())
        if key not in self._seen:
            self._seen[key] = (loop.time(), counters(await read()))
        seen_s, before = self._seen[key]
        await asyncio.sleep(max(seen_s + _SPAN_S_MIN - loop.time(), 0.0))
        found, now_s = await read(), loop.time()
        now = counters(found)
        self._seen[key] = (now_s, now)
        span_s = now_s - seen_s
        # A process that ended takes its time with it: no task uses less than nothing.
        return found, {name: max(value - before.get(name, value), 0.0) / span_s for name, value in now.items()}

    def _forget(self, now_s: float) -> None:
        for key in [key for key, (seen_s, _) in self._seen.items() if now_s - seen_s > self.span_s_max]:
            del self._seen[key]


METER: web.AppKey[Meter] = web.AppKey("meter", Meter)


async def client_stats(request: web.Request) -> web.Response:
    """The machine: processors, memory, disks, uptime."""
    agent = request.app[CONTEXT].agent

    async def look() -> HostStats:
        return await asyncio.to_thread(host_stats.read, Path(agent.node.attributes["unique.storage.volume"]))

    host, per_s = await request.app[METER].growth("host", look, _cpu_counters)
    cpus = [_cpu(number, per_s) for number in range(len(host.cpus))]
    used = sum(cpu["Total"] for cpu in cpus) / 100
    shown = {
        "AllocDirStats": _disk(host.alloc_dir),
        "CPU": cpus,
        "CPUTicksConsumed": used * core_mhz(request),
        "DeviceStats": [],
        "DiskStats": [_disk(disk) for disk in host.disks],
        "Memory": {
            "Available": host.memory_available_bytes,
            "Free": host.memory_free_bytes,
            "Total": host.memory_total_bytes,
            "Used": host.memory_used_bytes,
        },
        "Timestamp": time.time_ns(),
        "Uptime": host.uptime_s,
    }
    return answer(request, shown)


def _cpu_counters(host: HostStats) -> Mapping[str, float]:
    return {
        f"{number}/{name}": value
        for number, cpu in enumerate(host.cpus)
        for name, value in (
            ("user", cpu.user_s),
            ("system", cpu.system_s),
            ("idle", cpu.idle_s),
            ("total", cpu.total_s),
        )
    }


def _cpu(number: int, per_s: Mapping[str, float]) -> dict[str, Any]:
    """Percent of what passed on this processor: its own clock, which a starved machine's differs from."""
    total = per_s[f"{number}/total"] or 1.0
    user, system, idle = (min(100 * per_s[f"{number}/{name}"] / total, 100.0) for name in ("user", "system", "idle"))
    return {"CPU": f"cpu{number}", "Idle": idle, "System": system, "Total": max(100.0 - idle, 0.0), "User": user}


def _disk(disk: DiskUsage) -> dict[str, Any]:
    return {
        "Available": disk.available_bytes,
        "Device": disk.device,
        "InodesUsedPercent": disk.inodes_used_percent,
        "Mountpoint": disk.mountpoint,
        "Size": disk.size_bytes,
        "Used": disk.used_bytes,
        "UsedPercent": disk.used_percent,
    }


async def alloc_stats(request: web.Request) -> web.Response:
    """cpu and memory of the alloc's running tasks, or of the one that `?task=` names."""
    agent = request.app[CONTEXT].agent
    alloc_id = AllocId(request.match_info["id"])

    async def look() -> Mapping[str, TaskStats]:
        found: Mapping[str, TaskStats] = await agent.stats(alloc_id)
        return found

    try:
        tasks, per_s = await request.app[METER].growth(
            alloc_id, look, lambda found: {name: task.cpu_s for name, task in found.items()}
        )
    except TaskRefused as error:
        raise NotFound(str(error)) from error
    if wanted := request.query.get("task"):
        tasks = {name: task for name, task in tasks.items() if name == wanted}
    mhz, now_ns = core_mhz(request), time.time_ns()
    of_tasks = {
        name: {"Pids": None, "ResourceUsage": _usage(task.memory_bytes, per_s[name], mhz), "Timestamp": now_ns}
        for name, task in tasks.items()
    }
    of_alloc = _usage(
        sum(task.memory_bytes for task in tasks.values()), sum(per_s[name] for name in tasks), mhz
    )
    return answer(request, {"ResourceUsage": of_alloc, "Tasks": of_tasks, "Timestamp": now_ns})


def _usage(memory_bytes: int, cores: float, mhz: float) -> dict[str, Any]:
    """cores: how many processors' whole time it used."""
    return {
        "CpuStats": {"Measured": ["Percent", "Total Ticks"], "Percent": 100 * cores, "TotalTicks": cores * mhz},
        "DeviceStats": [],
        "MemoryStats": {"Measured": ["RSS", "Usage"], "RSS": memory_bytes, "Usage": memory_bytes},
    }


def core_mhz(request: web.Request) -> float:
    """What one processor counts for where jobs ask for MHz."""
    attributes = request.app[CONTEXT].agent.node.attributes
    return float(attributes["cpu.totalcompute"]) / float(attributes["cpu.numcores"])
