"""How does a candidate come to lead, again and again?

    acquire (waits) ──> lead until the lease is lost ──> forget the term ──> acquire …

Losing the lease cancels the work of the term; it never touches a running task.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from catalog.client import Client
from catalog.keys import Keys
from catalog.kv import Kv, pause
from catalog.lease import Lease, Term
from leader.collecting import Collecting
from leader.fenced import Fenced
from leader.leading import Leading
from leader.lives import Probe
from leader.periodic import Launching
from leader.vault_path import VaultPath
from leader.vaulting import LeaderVault, Revocations
from leader.watched import Watched
from model.errors import SessionLost, StoreRefused, StoreUnavailable
from model.snapshot import Settings

log = logging.getLogger("drover.leader")

# How long one that stepped down leaves the lock to others: three take-overs of a candidate that is there.
_REST_S = 10.0


@dataclass(slots=True, kw_only=True)
class Election:
    """One candidate's part in it. `leading` is the term under way, None while another leads."""

    client: Client
    kv: Kv
    keys: Keys
    lease: Lease
    settings: Settings
    now: Callable[[], datetime]
    rng: random.Random
    probe: Probe
    leading: Leading | None = None
    vault: LeaderVault | None = None
    index_floor: int = 0
    _rest_s: float | None = None  # to step down: how long others have before this one stands again

    def step_down(self, *, has_others: bool) -> None:
        """Hands over to another candidate; without any it takes the lock anew. Does nothing where another leads."""
        if self.leading is not None:
            self._rest_s = _REST_S if has_others else 0.0
            self.leading.end("asked to step down")

    async def run(self) -> None:
        """Stands for election for ever; cancelled, it hands over."""
        try:
            async with asyncio.TaskGroup() as terms:
                while True:
                    term = await self.lease.acquire()
                    # A task of its own, and waited for, not awaited: a TaskGroup whose child fails at the moment
                    # of its cancellation raises the failure and eats the cancellation (CPython 3.11), and then this
                    # would stand for election again while the process waits for its end.
                    leading = terms.create_task(self._lead(term), name=f"term {term.epoch}")
                    await asyncio.wait([leading])
                    if self._rest_s is not None:
                        await self._rest(self._rest_s)
                    else:
                        self.lease.lost()
        finally:
            await self.lease.release()

    async def _rest(self, rest_s: float) -> None:
        """Gives the lock to whoever takes it; takes it again only when nobody else has after a while."""
        self._rest_s = None
        await self.lease.release()
        with suppress(TimeoutError):
            async with asyncio.timeout(rest_s):
                while not await self._is_taken():
                    await pause(self.rng.random(), 0.1)

    async def _is_taken(self) -> bool:
        with suppress(StoreUnavailable, StoreRefused):
            held = await self.kv.get(self.keys.leader)
            return held is not None and bool(held.session)
        return False

    async def _lead(self, term: Term) -> None:
        self.leading = Leading(
            client=self.client,
            keys=self.keys,
            fenced=Fenced(kv=self.kv, lease=self.lease, term=term, now=self.now, rng=self.rng),
            settings=self.settings,
            probe=self.probe,
            index_floor=self.index_floor,
            vault=self.vault,
            more=(Collecting, Launching, Watched, VaultPath, *((Revocations,) if self.vault is not None else ())),
        )
        try:
            await self.leading.lead()
        except SessionLost as error:
            log.warning("no longer leading: %s", error)
        finally:
            view = self.leading.view
            self.index_floor = max(self.index_floor, view.api_index(view.index))
            self.leading = None
