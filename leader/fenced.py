"""How does a leader write, and what does every part of its term share?

Every write goes through the fence and under the lease's deadline; one that Consul accepted counts as a
renewal. Whoever runs for the whole term does it by `keep_on`, so that one bad cycle is told and the
next one starts from a fresh look.
"""

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from catalog.kv import Entry, Kv, Op, pause
from catalog.lease import Lease, Term
from model.errors import InvariantBroken, SessionLost, StoreRefused, StoreUnavailable, StoreUnclear, WriteConflict

log = logging.getLogger("drover.leader")


@dataclass(slots=True, kw_only=True)
class Fenced:
    """One term's way to Consul, its clock and its source of chance."""

    kv: Kv
    lease: Lease
    term: Term
    now: Callable[[], datetime]
    rng: random.Random

    @property
    def epoch(self) -> int:
        return self.term.epoch

    @property
    def now_ns(self) -> int:
        return round(self.now().timestamp() * 1e9)

    def new_id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    async def commit(self, ops: Sequence[Op]) -> dict[str, Entry]:
        """One transaction: see Kv.commit. Raises SessionLost also when the deadline passes meanwhile."""
        sent_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(self.lease.deadline_s):
                written = await self.kv.commit(ops, fence=self.term.fence)
        except TimeoutError as error:
            if asyncio.get_running_loop().time() < self.lease.deadline_s:
                # Renewed meanwhile: the term goes on, and this write is as unclear as any without an answer.
                raise StoreUnclear("no answer within the lease as it was when this was sent") from error
            raise SessionLost("the lease's deadline passed during a write") from error
        self.lease.extend(sent_s)
        return written

    async def keep_on(self, what: str, cycle: Callable[[], Awaitable[None]]) -> None:
        """Runs the cycle again and again until the lease is lost."""
        while True:
            try:
                await cycle()
            except (SessionLost, InvariantBroken):
                raise
            except (StoreUnavailable, StoreRefused, WriteConflict) as error:
                log.warning("%s: %s", what, error)
                await pause(self.rng.random())
            except Exception:
                log.exception("%s failed", what)
                await pause(self.rng.random(), 1.0)
