"""What may one artifact take of this machine, and how is its work in threads ended at once?

Everything that blocks (writing, hashing, unpacking, copying) runs in a few threads of its own, so that large archives do not
keep the rest of the agent waiting. A thread cannot be cancelled: it asks at each step whether it may go on, and who was
cancelled waits for that step, so that nothing writes into a directory that is being removed.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import ParamSpec, TypeVar

from agent.drivers.base import StartFailed

P = ParamSpec("P")
T = TypeVar("T")


class Work:
    """bytes_max, files_max: of what is unpacked; 0: no limit."""

    def __init__(self, threads: Executor, bytes_max: int = 0, files_max: int = 0) -> None:
        self._threads = threads
        self._bytes_max, self._files_max = bytes_max, files_max
        self._bytes = self._files = 0
        self._is_over = False

    @property
    def files_max(self) -> int:
        return self._files_max

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        running = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._is_over = True
            await asyncio.wait([running])
            running.exception()
            raise

    def go_on(self) -> None:
        """Asked in a thread at each step."""
        if self._is_over:
            raise StartFailed("it was stopped")

    def unpacked(self, size: int) -> None:
        """So many bytes more. Raises StartFailed."""
        self.go_on()
        self._bytes += size
        if self._bytes_max and self._bytes > self._bytes_max:
            raise StartFailed(f"the archive unpacks to more than {self._bytes_max} bytes")

    def made(self) -> None:
        """One more file, link or directory. Raises StartFailed."""
        self.go_on()
        self._files += 1
        if self._files_max and self._files > self._files_max:
            raise StartFailed(f"the archive has more than {self._files_max} files")
