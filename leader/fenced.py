"""How does a leader write, and what does every part of its term share?

Every write goes through the fence and under the lease's deadline; one that Consul accepted counts as a
renewal. Whoever runs for the whole term does it by `keep_on`, so that one bad cycle is told and the
next one starts from a fresh look.
"""

import asyncio
import dataclasses
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from catalog.kv import Entry, Fence, Kv, Op, pause, replace
from catalog.lease import Lease, Term
from catalog.outage import Outage
from model.cluster import Epoch
from model.errors import (
    InvariantBroken,
    SessionLost,
    StoreRefused,
    StoreUnavailable,
    StoreUnclear,
    WriteConflict,
)
from model.wire import decode, encode

log = logging.getLogger("drover.leader")


@dataclass(slots=True, kw_only=True)
class Fenced:
    """One term's way to Consul, its clock and its source of chance."""

    kv: Kv
    lease: Lease
    term: Term
    now: Callable[[], datetime]
    rng: random.Random
    _fence: Fence = field(init=False)
    _is_doubtful: bool = False
    _settling: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._fence = self.term.fence

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
                await self.settle()
                written = await self.kv.commit(ops, fence=self._fence)
        except (SessionLost, StoreRefused, WriteConflict):
            raise
        except TimeoutError as error:
            self._is_doubtful = True
            if asyncio.get_running_loop().time() < self.lease.deadline_s:
                # Renewed meanwhile: the term goes on, and this write is as unclear as any without an answer.
                raise StoreUnclear("no answer within the lease as it was when this was sent") from error
            raise SessionLost("the lease's deadline passed during a write") from error
        except BaseException:
            self._is_doubtful = True
            raise
        self.lease.extend(sent_s)
        return written

    async def settle(self) -> None:
        """After a write without an answer: from now on it can no longer arrive, so that what is read next stays
        true. To be called before reading what became of it. Raises StoreUnclear, SessionLost."""
        async with self._settling:
            while self._is_doubtful:
                key = self._fence.turn_key
                value = encode(Epoch(epoch=self.epoch, nonce=self.new_id()))
                try:
                    written = await self.kv.commit([replace(key, value, self._fence.turn)], fence=self._fence)
                except (WriteConflict, StoreUnavailable) as error:
                    # Perhaps a turn of ours that was thought lost: take it up and raise it once more.
                    entry = await self.kv.get(key)
                    if entry is None or decode(entry.value, Epoch).epoch != self.epoch:
                        raise SessionLost("another leads") from error
                    if entry.modify_index == self._fence.turn:
                        raise
                    self._fence = dataclasses.replace(self._fence, turn=entry.modify_index)
                else:
                    self._fence = dataclasses.replace(self._fence, turn=written[key].modify_index)
                    self._is_doubtful = False

    async def keep_on(self, what: str, cycle: Callable[[], Awaitable[None]]) -> None:
        """Runs the cycle again and again until the lease is lost."""
        outage = Outage(log)
        while True:
            try:
                await cycle()
                outage.passed(f"{what}: back")
            except (SessionLost, InvariantBroken):
                raise
            except WriteConflict as error:
                log.warning("%s: %s", what, error)
                await pause(self.rng.random())
            except (StoreUnavailable, StoreRefused) as error:
                outage.failed(what, error)
                await pause(self.rng.random())
            except Exception:
                log.exception("%s failed", what)
                await pause(self.rng.random(), 1.0)
