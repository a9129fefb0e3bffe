"""What does a running agent know of one task's Vault token, and how long does it wait before it asks again?"""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from agent.hooks.base import TaskContext
from agent.task_run import TaskRun
from agent.vault_records import Record
from model.alloc import AllocId

TaskKey = tuple[AllocId, str]

# Between tries of a task while Vault answers, and what was asked of it fails all the same: doubled each time. A Vault that
# takes longer over a token than a call may take would be asked for another one each second otherwise.
PAUSE_S_MIN, PAUSE_S_MAX = 1.0, 60.0
# Who waited longer than this for Vault found it away.
_AT_ONCE_S = 0.01


class Reach(Protocol):
    """Whether Vault can be asked at all (vault/login.py)."""

    async def usable(self) -> None:
        """Returns when it can."""

    async def returned(self) -> None:
        """Returns when it can again."""

    def doubt(self) -> None:
        """What was asked came to nothing: have a look now."""


@dataclass(slots=True, eq=False)
class Kept:
    """record: None: none yet, or lost. stale: set when another token has taken the record's place."""

    key: TaskKey
    record: Record | None = None
    context: TaskContext | None = None
    task_run: TaskRun | None = None
    worker: asyncio.Task[None] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    stale: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def name(self) -> str:
        return f"{self.key[0][:8]}/{self.key[1]}"

    def stop(self) -> None:
        if self.worker is not None and self.worker is not asyncio.current_task():
            self.worker.cancel()
        self.worker = None

    def wake_reads(self) -> None:
        """Its secrets are to be read with the new token, before those of the old one end."""
        self.stale.set()
        self.stale = asyncio.Event()


class Pauses:
    """Of one caller, from its first failure on."""

    def __init__(self, reach: Reach, rng: random.Random) -> None:
        self._reach, self._rng = reach, rng
        self._pause_s = PAUSE_S_MIN

    async def wait(self) -> None:
        """Returns when it may be worth another try: after a pause that grows, and at once when Vault comes back."""
        loop = asyncio.get_running_loop()
        self._reach.doubt()
        has_returned = False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s * (0.5 + self._rng.random() / 2)):
                await self._reach.returned()
                has_returned = True
        asked_s = loop.time()
        await self._reach.usable()
        has_returned |= loop.time() - asked_s > _AT_ONCE_S
        self._pause_s = PAUSE_S_MIN if has_returned else min(2 * self._pause_s, PAUSE_S_MAX)
