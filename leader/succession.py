"""Is the leader's machine gone? Its candidates find out by calling it, and when most of them agree they free its lock.

    every half second: ask the leader ──fails twice──> out of contact ──so say more than half of all──> end its session

Without it a dead machine's lock is free once gossip has found out, 5 to 10 s later. Safe whoever is wrong: what the old
leader may still write is refused by its fence. Without a majority, so with two candidates, gossip decides as before.
docs/design/027-succession.md has the measurements.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from catalog.leader_lock import Holder, LeaderLock
from catalog.services import Member
from leader.candidacy import Candidacy
from model.errors import StoreRefused, StoreUnavailable
from model.node import NodeId

log = logging.getLogger("drover.leader")

_EACH_S = 0.5
# Between the two calls that have to fail.
_AGAIN_S = 0.25


class Contact(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What a candidate says: who leads as it knows, in which epoch, and whether it is out of contact with that one."""

    leader_id: str = msgspec.field(name="LeaderID", default="")
    epoch: int = 0
    is_lost: bool = msgspec.field(name="Lost", default=False)


Ask = Callable[[str, bool, float], Awaitable[Contact | None]]


@dataclass(slots=True, kw_only=True)
class Succession:
    """One candidate's part in it. members: all candidates. ask: what the agent at this address (whether by TLS) says
    within so many seconds, None if nothing. answer_s: how long a candidate has to answer."""

    node_id: NodeId
    candidacy: Candidacy
    lock: LeaderLock
    members: Callable[[], Awaitable[tuple[Member, ...]]]
    ask: Ask
    rng: random.Random
    answer_s: float
    _holder: Holder | None = None
    _is_lost: bool = False

    @property
    def contact(self) -> Contact:
        leading = self.candidacy.election.leading
        if leading is not None:
            return Contact(leader_id=self.node_id, epoch=leading.fenced.epoch)
        if self._holder is None:
            return Contact()
        leader = self._holder.leader
        return Contact(leader_id=leader.node_id, epoch=leader.epoch, is_lost=self._is_lost)

    async def run(self) -> None:
        """Runs for ever. An unreachable Consul is waited for."""
        while True:
            await asyncio.sleep(_EACH_S * self.rng.uniform(0.9, 1.1))
            if not self.candidacy.is_candidate or self.candidacy.election.leading is not None:
                self._holder, self._is_lost = None, False
                continue
            with suppress(StoreUnavailable, StoreRefused):
                await self._look()

    async def _look(self) -> None:
        """Consul is asked who leads only when nobody is known to, or the known one does not say that it does."""
        if self._holder is not None and await self._still_leads(self._holder):
            self._is_lost = False
            return
        held = await self.lock.holder()
        is_same = held is not None and self._holder is not None and held.session == self._holder.session
        self._holder, self._is_lost = held, is_same and self._is_lost
        if held is None or held.leader.node_id == self.node_id:
            return  # its own earlier life: the lease ends it
        for pause_s in (_AGAIN_S, 0.0):
            if await self._asked(held) is not None:
                self._is_lost = False
                return
            await asyncio.sleep(pause_s)
        if not self._is_lost:
            log.info("out of contact with the leader %s at %s", held.leader.name, held.leader.http_addr)
        self._is_lost = True
        await self._free(held)

    async def _asked(self, holder: Holder) -> Contact | None:
        return await self.ask(holder.leader.http_addr, holder.leader.tls_enabled, self.answer_s)

    async def _still_leads(self, holder: Holder) -> bool:
        said = await self._asked(holder)
        return said is not None and (said.leader_id, said.epoch) == (holder.leader.node_id, holder.leader.epoch)

    async def _free(self, held: Holder) -> None:
        """Ends the session of one whom more than half of all candidates, itself among them, cannot reach."""
        members = await self.members()
        others = [m for m in members if m.node_id not in (self.node_id, held.leader.node_id)]
        said = await asyncio.gather(*(self.ask(m.http_addr, m.tls_enabled, self.answer_s) for m in others))
        lost = Contact(leader_id=held.leader.node_id, epoch=held.leader.epoch, is_lost=True)
        agreeing = 1 + sum(one == lost for one in said)
        if 2 * agreeing > len({m.node_id for m in members} | {self.node_id, held.leader.node_id}):
            log.warning(
                "%d of %d candidates cannot reach the leader %s at %s: its lock is freed",
                agreeing, len(members), held.leader.name, held.leader.http_addr,
            )
            await self.lock.break_it(held)
