"""What does an agent find on its disk after it was killed?

What was put, and of what was only noted a part: notes are written by and by (agent/journal_sqlite.py
waits up to a quarter of a second), in order, so a kill takes the last ones away. After a power cut the same holds.
"""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence

from agent.journal import Contents, MemoryJournal, Row
from agent.journal_sqlite import NOTE_WAIT_S
from model.alloc import AllocId

_FSYNC_S = 0.004


class Disk:
    """Outlives the process. Opened anew by each."""

    def __init__(self, rng: random.Random) -> None:
        self.rows = MemoryJournal()
        self.rng = rng


class DiskJournal:
    """A Journal on a Disk, for one life of the agent."""

    def __init__(self, disk: Disk, is_dead: Callable[[], bool]) -> None:
        self._disk = disk
        self._is_dead = is_dead
        self._noted: list[Row] = []
        self._timer: asyncio.TimerHandle | None = None

    async def load(self) -> Contents:
        await asyncio.sleep(_FSYNC_S)
        return await self._disk.rows.load()

    async def put(self, rows: Sequence[Row]) -> None:
        self._noted.extend(rows)
        await asyncio.sleep(self._disk.rng.random() * _FSYNC_S)
        self._write()
        await asyncio.sleep(self._disk.rng.random() * _FSYNC_S)

    def note(self, row: Row) -> None:
        self._noted.append(row)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTE_WAIT_S, self._write)

    async def forget(self, allocs: Mapping[AllocId, Sequence[str]], jobs: Sequence[str]) -> None:
        await asyncio.sleep(self._disk.rng.random() * _FSYNC_S)
        self._write()
        if not self._is_dead():
            await self._disk.rows.forget(allocs, jobs)

    async def close(self) -> None:
        self._write()

    def cut(self) -> None:
        """The process is killed: of what waits to be written, some had begun."""
        kept = self._noted[: self._disk.rng.randint(0, len(self._noted))] if self._noted else []
        for row in kept:
            self._disk.rows.note(row)
        self._noted = []

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_dead():
            noted, self._noted = self._noted, []
            for row in noted:
                self._disk.rows.note(row)
