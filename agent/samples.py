"""What did the tasks of this node, and the machine, use in the last hour?

A sample each half minute, so that a chart is full when somebody opens it. Bounded: 120 samples of 12 bytes for each task,
forgotten an hour after its last one. A task's first sample comes within ten seconds; its processor time is a counter, so it
takes two looks to tell how fast that grows. Looks at what is due only, a few allocs at a time: each look at a container is a
call of its engine.
"""

import asyncio
import logging
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import psutil

from agent import host_stats
from agent.drivers.base import TaskStats
from model.alloc import AllocId
from model.errors import DriverBusy, TaskRefused

log = logging.getLogger("drover.agent")

EVERY_S = 30.0
KEPT = 120
# How soon what is new is looked at.
TICK_S = 5.0
_ALLOCS_AT_ONCE = 8
# An engine that does not answer keeps nothing waiting.
_LOOK_S_MAX = 20.0


class Sampled(Protocol):
    """The agent, as far as it is looked at."""

    @property
    def allocs(self) -> Mapping[AllocId, object]: ...

    def stats(self, alloc_id: AllocId) -> Awaitable[Mapping[str, TaskStats]]:
        """By task, running ones only. Raises TaskRefused, DriverBusy."""


@dataclass(slots=True)
class Ring:
    """The newest samples, the oldest first: seconds since 1970, processors' worth of time a second, bytes (as MiB)."""

    times: "array[int]" = field(default_factory=lambda: array("L"))
    cores: "array[float]" = field(default_factory=lambda: array("f"))
    memory_mib: "array[float]" = field(default_factory=lambda: array("f"))
    _before: tuple[float, float] | None = None  # when it was looked at, and the counter then

    def look(self, now_s: float, cpu_s: float, memory_bytes: float) -> None:
        """now_s: since 1970."""
        if self._before is not None and now_s > self._before[0]:
            at_s, counter = self._before
            for values, value in ((self.times, int(now_s)), (self.cores, max(cpu_s - counter, 0.0) / (now_s - at_s)), (self.memory_mib, memory_bytes / 1048576)):
                values.append(value)  # type: ignore[arg-type]  # each of its own kind
                if len(values) > KEPT:
                    values.pop(0)
        self._before = now_s, cpu_s

    def is_due(self, now_s: float) -> bool:
        return self._before is None or not self.times or now_s - self._before[0] >= EVERY_S

    def is_old(self, now_s: float) -> bool:
        """Nothing of it is of the last hour."""
        return self._before is not None and now_s - self._before[0] > KEPT * EVERY_S


@dataclass(slots=True)
class Samples:
    agent: Sampled
    now_s: Callable[[], float] = time.time
    machine: Ring = field(default_factory=Ring)
    _tasks: dict[AllocId, dict[str, Ring]] = field(default_factory=dict)

    def of(self, alloc_id: AllocId) -> Mapping[str, Ring]:
        return self._tasks.get(alloc_id, {})

    async def run(self) -> None:
        """For ever. What goes wrong with one look is told, and is no end of it."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("what tasks use cannot be looked at")
            await asyncio.sleep(TICK_S)

    async def look(self) -> None:
        now_s = self.now_s()
        if self.machine.is_due(now_s):
            self.machine.look(now_s, *_of_machine())
        self._forget(now_s)
        due = [alloc_id for alloc_id in self.agent.allocs if self._is_due(alloc_id, now_s)]
        for start in range(0, len(due), _ALLOCS_AT_ONCE):
            async with asyncio.TaskGroup() as tasks:
                for alloc_id in due[start : start + _ALLOCS_AT_ONCE]:
                    tasks.create_task(self._look_at(alloc_id), name=f"sample {alloc_id[:8]}")

    def _is_due(self, alloc_id: AllocId, now_s: float) -> bool:
        known = self._tasks.get(alloc_id)
        return not known or any(ring.is_due(now_s) for ring in known.values())

    async def _look_at(self, alloc_id: AllocId) -> None:
        try:
            async with asyncio.timeout(_LOOK_S_MAX):
                found = await self.agent.stats(alloc_id)
        except (TaskRefused, DriverBusy, TimeoutError):
            return
        now_s = self.now_s()
        for name, stats in found.items():
            ring = self._tasks.setdefault(alloc_id, {}).setdefault(name, Ring())
            if ring.is_due(now_s):
                ring.look(now_s, stats.cpu_s, stats.memory_bytes)

    def _forget(self, now_s: float) -> None:
        known: Iterable[tuple[AllocId, dict[str, Ring]]] = list(self._tasks.items())
        for alloc_id, rings in known:
            if alloc_id not in self.agent.allocs or all(ring.is_old(now_s) for ring in rings.values()):
                del self._tasks[alloc_id]


def _of_machine() -> tuple[float, float]:
    """Processor time spent since the boot, and bytes of memory in use."""
    memory = psutil.virtual_memory()
    return sum(cpu.total_s - cpu.idle_s for cpu in host_stats.cpus()), float(memory.total - memory.available)
