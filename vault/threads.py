"""Where do blocking calls wait, so that nobody waits for them?

A few daemon threads: a ThreadPoolExecutor's hold up the end of the process until the last call has come back, and with
it each upgrade of drover while Vault hangs.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


class Threads:
    """count_max: how many calls are under way at once; others wait for their turn. For one loop."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._count = 0
        self._busy = 0  # calls that are under way or wait
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    async def run(self, work: Callable[[], T]) -> T:
        """What work() returns or raises. Cancelled: work that waits is dropped, work under way is left to end."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._busy += 1
        if self._count < min(self._busy, self._count_max):
            self._count += 1
            threading.Thread(target=_serve, args=(self._jobs, self._done), name=f"vault {self._count}", daemon=True).start()
        self._jobs.put((loop, future, work))
        return await future

    def close(self) -> None:
        for _ in range(self._count):
            self._jobs.put(None)

    def _done(self, future: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
        self._busy -= 1
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def _serve(jobs: "SimpleQueue[_Job | None]", done: Callable[..., None]) -> None:
    while (job := jobs.get()) is not None:
        loop, future, work = job
        result: object = None
        error: BaseException | None = None
        if not future.cancelled():
            try:
                result = work()
            except BaseException as raised:
                error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done, future, result, error)
        del job, future, work, result, error
