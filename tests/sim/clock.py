"""How does a whole cluster live in virtual time, and how is one of its processes frozen?

The loop's clock jumps to the next timer as soon as nothing is ready. Every callback runs in the context
of the process that asked for it, so a stopped process (SIGSTOP) is exact: its callbacks are parked, in
order, and run when it goes on; timers that came due meanwhile run then, all at once.

Fails loudly when nothing is scheduled any more (a deadlock), when time stands still, and on real I/O.
Tasks hash by number: asyncio keeps them in sets, whose order would else depend on memory addresses.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from datetime import UTC, datetime, timedelta
from heapq import heappush
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
# Callbacks within one moment; a whole cluster that wakes at once stays far below.
_TURNS_MAX = 50_000


class Freezable:
    """Whose callbacks can be parked."""

    is_frozen = False

    def __init__(self) -> None:
        self.parked: list[asyncio.Handle] = []


# The process that the running code belongs to; None: the world around.
OWNER: ContextVar[Freezable | None] = ContextVar("owner", default=None)


class _Selector(selectors.SelectSelector):
    """Never sleeps: what would be a wait moves the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: everybody waits and nothing is scheduled")
        if timeout > 0.0:
            self.now_s += timeout
            self._turns = 0
        self._turns += 1
        if self._turns > _TURNS_MAX:
            raise RuntimeError(f"time stands still at {self.now_s} s")
        return []


class _Handle(asyncio.Handle):
    def _run(self) -> None:
        owner = self._context.get(OWNER)  # type: ignore[attr-defined]
        if owner is not None and owner.is_frozen:
            owner.parked.append(self)
        else:
            asyncio.Handle._run(self)  # type: ignore[attr-defined]


class _TimerHandle(asyncio.TimerHandle):
    _run = _Handle._run


class _Task(asyncio.Task[Any]):
    _number = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _Task._number += 1
        self._hash = _Task._number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._hash


class SimLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        super().__init__(self._clock)
        self.set_task_factory(lambda loop, coro, **kwargs: _Task(coro, loop=loop, **kwargs))  # type: ignore[arg-type]
        self._is_open = True

    def time(self) -> float:
        return self._clock.now_s

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._clock.now_s)

    def thaw(self, owner: Freezable) -> None:
        owner.is_frozen = False
        parked, owner.parked = owner.parked, []
        self._ready.extend(parked)  # type: ignore[attr-defined]

    # What asyncio calls.

    def _call_soon(self, callback: Any, args: Any, context: Context | None) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _TimerHandle(when, callback, args, self, context)
        heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _write_to_self(self) -> None:
        """One thread only: nobody sleeps in select()."""

    def _add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
        if hasattr(self, "_is_open"):
            raise RuntimeError("real I/O in virtual time")
        return super()._add_reader(fd, callback, *args)  # type: ignore[misc]

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        raise RuntimeError(f"a thread in virtual time: {func}")

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs the coroutine to its end in virtual time."""
    _Task._number = 0
    with asyncio.Runner(loop_factory=SimLoop) as runner:
        return runner.run(main)
