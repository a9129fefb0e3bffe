"""Does the agent that a call was passed on to still lead?

A leader that is frozen, or whose machine is gone, answers nothing and refuses nothing: its connections just stay
silent. Only Consul tells that another leads by now. All calls that wait share one look a second, for a hundred
blocking queries through one agent must not become a hundred consistent reads a second.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from model.cluster import Leader
from model.errors import StoreRefused, StoreUnavailable

# What is younger is taken from the look before. Shorter than what a call waits between two questions: what it is
# told was then read after it was passed on, and no older leader is taken for the next one.
LOOK_EVERY_S = 0.9
# A look that takes longer told nothing; the next may.
LOOK_S_MAX = 2.0
# How long the lock may be nobody's before who held it is given up: longer than a take-over (about 3.3 s).
FREE_S_MAX = 5.0


class LeaderLookup(Protocol):
    async def read_leader(self) -> Leader | None: ...


@dataclass(slots=True, kw_only=True)
class Leadership:
    """What Consul said last about who leads."""

    lookup: LeaderLookup
    _known: Leader | None = None
    _looked_s: float = float("-inf")  # loop time
    _free_since_s: float | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def is_over(self, leader: Leader) -> bool:
        """Whether another leads by now, or nobody for long; False when Consul does not tell."""
        with suppress(StoreUnavailable, StoreRefused, TimeoutError):
            async with asyncio.timeout(LOOK_S_MAX), self._turn:
                await self._look()
            if self._known is not None:
                return (self._known.node_id, self._known.http_addr) != (leader.node_id, leader.http_addr)
            return self._free_since_s is not None and self._looked_s - self._free_since_s >= FREE_S_MAX
        return False

    async def _look(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._looked_s < LOOK_EVERY_S:
            return
        self._known = await self.lookup.read_leader()
        is_gap = now_s - self._looked_s > LOOK_EVERY_S + 2 * LOOK_S_MAX  # nobody looked: it may have been held
        self._looked_s = now_s
        if self._known is not None:
            self._free_since_s = None
        elif self._free_since_s is None or is_gap:
            self._free_since_s = now_s
