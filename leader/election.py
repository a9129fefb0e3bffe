"""How does a candidate come to lead, again and again?

    acquire (waits) ──> lead until the lease is lost ──> forget the term ──> acquire …

Losing the lease cancels the work of the term; it never touches a running task.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from catalog.client import Client
from catalog.keys import Keys
from catalog.kv import Kv
from catalog.lease import Lease
from leader.fenced import Fenced
from leader.leading import Leading
from leader.lives import Probe
from model.errors import SessionLost
from model.snapshot import Settings

log = logging.getLogger("drover.leader")


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
    index_floor: int = 0

    async def run(self) -> None:
        """Stands for election for ever; cancelled, it hands over."""
        try:
            while True:
                term = await self.lease.acquire()
                self.leading = Leading(
                    client=self.client,
                    keys=self.keys,
                    fenced=Fenced(kv=self.kv, lease=self.lease, term=term, now=self.now, rng=self.rng),
                    settings=self.settings,
                    probe=self.probe,
                    index_floor=self.index_floor,
                )
                try:
                    await self.leading.lead()
                except SessionLost as error:
                    log.warning("no longer leading: %s", error)
                    _end_if_cancelled()
                finally:
                    view = self.leading.view
                    self.index_floor = max(self.index_floor, view.api_index(view.index))
                    self.leading = None
                self.lease.lost()
        finally:
            await self.lease.release()


def _end_if_cancelled() -> None:
    """A TaskGroup whose child failed at the moment of its cancellation tells the failure and eats the other."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
