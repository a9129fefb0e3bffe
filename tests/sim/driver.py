"""What runs on a machine, and what happens to it, whoever watches?

The Engine is the machine's: its tasks survive the agent, end by a script of the seed, and only a reboot
takes them all. EngineDriver is one process' way to it. Every start, stop and end is told to `observer`.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent.drivers.base import (
    ExitResult,
    Handle,
    SeenDirs,
    StartFailed,
    TaskDirs,
    TaskStart,
    TaskStats,
    same_dirs,
)
from checks.registration import TaskNetwork
from model.errors import DriverBusy
from model.node import DriverInfo

Key = tuple[str, str, int]

START_S_MAX = 0.3
STOP_S_MAX = 2.0


@dataclass(eq=False)
class Thing:
    """One started task. sick_since_s: since when its health check fails; was_sick: it ever did."""

    start: TaskStart
    started_s: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    result: ExitResult = field(default_factory=ExitResult)
    script: asyncio.TimerHandle | None = None
    is_sick: bool = False
    was_sick: bool = False

    @property
    def key(self) -> Key:
        return self.start.alloc_id, self.start.task_name, self.start.attempt

    @property
    def is_alive(self) -> bool:
        return not self.ended.is_set()


class Observer(Protocol):
    def started(self, engine: "Engine", thing: Thing) -> None: ...
    def stopping(self, engine: "Engine", thing: Thing, how: str) -> None: ...
    def ended(self, engine: "Engine", thing: Thing) -> None: ...


class Engine:
    """calm: no task fails any more. busy_p: share of calls that the engine refuses for now."""

    def __init__(self, name: str, rng: random.Random, observer: Observer) -> None:
        self.name = name
        self.things: dict[Key, Thing] = {}
        self.refused: dict[str, set[str]] = {}  # alloc: tasks that could not be started at least once
        self.is_calm = False
        self.busy_p = 0.0
        self._rng = rng
        self._observer = observer

    @property
    def alive(self) -> list[Thing]:
        return [thing for thing in self.things.values() if thing.is_alive]

    def start(self, start: TaskStart) -> None:
        key = (start.alloc_id, start.task_name, start.attempt)
        if key in self.things:
            return
        loop = asyncio.get_running_loop()
        thing = self.things[key] = Thing(start, loop.time())
        script = self._script(str(start.config.get("life", "")))
        if script is not None:
            thing.script = loop.call_later(script[0], self.end, thing, script[1])
        self._observer.started(self, thing)

    def _script(self, life: str) -> tuple[float, ExitResult] | None:
        failure = ExitResult(code=self._rng.randint(1, 3))
        lives, fails, after_s = self._rng.random(), self._rng.random(), self._rng.expovariate(1 / 15)
        if life == "batch":
            return 0.5 + after_s / 3, failure if fails < 0.2 and not self.is_calm else ExitResult()
        if life == "prestart":
            return 0.2 + after_s / 20, failure if fails < 0.1 and not self.is_calm else ExitResult()
        return (after_s, failure) if lives < 0.15 and not self.is_calm else None

    def calm(self) -> None:
        """From now on what is to run for ever does."""
        self.is_calm, self.busy_p = True, 0.0
        for thing in self.alive:
            thing.is_sick = False
            if thing.script is not None and thing.start.config.get("life") == "service":
                thing.script.cancel()

    def end(self, thing: Thing, result: ExitResult) -> None:
        if thing.is_alive:
            if thing.script is not None:
                thing.script.cancel()
            thing.result = result
            thing.ended.set()
            self._observer.ended(self, thing)

    def stop(self, thing: Thing, how: str) -> None:
        """Somebody asked for its end; it comes a moment later, whatever becomes of who asked."""
        if thing.is_alive:
            self._observer.stopping(self, thing, how)
            delay_s = self._rng.random() * STOP_S_MAX
            asyncio.get_running_loop().call_later(delay_s, self.end, thing, ExitResult(code=143, signal=15))

    def reboot(self) -> None:
        """The machine lost power: nothing runs, nobody asked for it."""
        for thing in self.alive:
            self.end(thing, ExitResult(code=137, signal=9))
        self.things.clear()

    def is_busy(self) -> bool:
        return self._rng.random() < self.busy_p

    def delay_s(self) -> float:
        return self._rng.random() * START_S_MAX


class EngineDriver:
    """A Driver on an Engine, for one life of the agent. is_dead: that life is over."""

    name = "fake"

    def __init__(self, engine: Engine, boot_id: str, is_dead: Callable[[], bool]) -> None:
        self._engine = engine
        self._boot_id = boot_id
        self._is_dead = is_dead

    def seen_dirs(self, dirs: TaskDirs) -> SeenDirs:
        return same_dirs(dirs)

    async def fingerprint(self) -> DriverInfo:
        return DriverInfo(detected=True, healthy=True)

    async def start(self, task: TaskStart) -> Handle:
        await self._reach()
        await asyncio.sleep(self._engine.delay_s())
        key = (task.alloc_id, task.task_name, task.attempt)
        if key not in self._engine.things and self._engine.is_busy():
            self._engine.refused.setdefault(task.alloc_id, set()).add(task.task_name)
            raise StartFailed("the image could not be pulled")
        self._check()
        self._engine.start(task)
        await asyncio.sleep(self._engine.delay_s())
        await self._reach()
        return Handle(
            driver=self.name,
            alloc_id=task.alloc_id,
            task_name=task.task_name,
            attempt=task.attempt,
            boot_id=self._boot_id,
        )

    async def recover(self, handle: Handle) -> bool:
        await self._reach()
        return self._key(handle) in self._engine.things

    async def wait(self, handle: Handle) -> ExitResult:
        await self._reach()
        thing = self._engine.things[self._key(handle)]
        await thing.ended.wait()
        return thing.result

    async def signal(self, handle: Handle, signal: str) -> None:
        await self._reach()

    async def stop(self, handle: Handle, signal: str, timeout_s: float) -> None:
        await self._end(handle, "stop")

    async def destroy(self, handle: Handle) -> None:
        await self._end(handle, "destroy")
        self._engine.things.pop(self._key(handle), None)

    async def execute(self, handle: Handle, argv: Sequence[str], timeout_s: float) -> tuple[int, bytes]:
        await self._reach()
        thing = self._engine.things[self._key(handle)]
        return (2, b"sick") if thing.is_sick or not thing.is_alive else (0, b"fine")

    async def stats(self, handle: Handle) -> TaskStats:
        return TaskStats()

    async def network(self, handle: Handle) -> TaskNetwork | None:
        await self._reach()
        return None

    async def _end(self, handle: Handle, how: str) -> None:
        await self._reach()
        thing = self._engine.things.get(self._key(handle))
        if thing is not None and thing.is_alive:
            self._engine.stop(thing, how)
            await self._reach()
            await thing.ended.wait()
            await asyncio.sleep(0)

    async def _reach(self) -> None:
        self._check()
        await asyncio.sleep(0.001)
        self._check()
        if self._engine.is_busy():
            raise DriverBusy("the engine does not answer")

    def _check(self) -> None:
        if self._is_dead():
            raise DriverBusy("this agent is dead")

    def _key(self, handle: Handle) -> Key:
        return handle.alloc_id, handle.task_name, handle.attempt
