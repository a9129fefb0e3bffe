"""Who may act as leader, and until when?

A candidate registers the Consul service `drover-server` with a TTL check, opens a session bound to
`serfHealth` and to that check, and takes the lock on the leader key in one transaction that also
raises the epoch. LockDelay is 0: the fence (`check-session` first in every write) makes that safe, and
a dead leader's lock is free as soon as its check lapses (measured: 2.0 s with a 2 s check).

The deadline moves only when a consistent read that shows our session, or a fenced write, has returned,
and is counted from before that call was sent. After it nothing may be done as leader.
"""

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from catalog.client import Client
from catalog.keys import Keys
from catalog.kv import Entry, Fence, Kv, Op, Verb, create, pack, pause
from catalog.kv import replace as replace_op
from model.cluster import Epoch, Leader
from model.errors import SessionLost, StoreRefused, StoreUnavailable, WriteConflict
from model.node import NodeId
from model.wire import decode, encode

log = logging.getLogger(__name__)

SERVER_SERVICE = "drover-server"
# Confirmations per TTL: two may fail before the deadline passes.
CONFIRMS_PER_TTL = 3
# One blocking read on the lock; the answer comes at once when the lock is freed.
_WATCH_S = 60.0


class Pulse(Protocol):
    """What keeps TTL checks passing: catalog.heartbeat's thread, or the simulator's coroutine."""

    def add(self, check_id: str, ttl_s: float) -> None: ...
    def remove(self, check_id: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One time of leading: its epoch, the fence for its writes, and Consul's index at which it began."""

    epoch: int
    fence: Fence
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Who stands for election: the value of the lock without epoch and nonce, what `server members` tells of it, and
    the check's TTL."""

    leader: Leader
    datacenter: str = ""
    version: str = ""
    ttl_s: float = 3.0

    @property
    def service_id(self) -> str:
        return f"_drover-server-{self.leader.node_id}"

    @property
    def check_id(self) -> str:
        return f"service:{self.service_id}"


async def forget_candidate(client: Client, node_id: NodeId) -> None:
    """Takes away what a candidate of this node left behind. An unreachable Consul changes nothing."""
    with suppress(StoreUnavailable, StoreRefused):
        await client.agent.service.deregister(f"_{SERVER_SERVICE}-{node_id}")


@dataclass(slots=True, kw_only=True)
class Lease:
    """The lock's life at one candidate: register, acquire, confirm, release."""

    client: Client
    kv: Kv
    keys: Keys
    pulse: Pulse
    candidate: Candidate
    now_ns: Callable[[], int]
    rng: random.Random
    deadline_s: float = 0.0  # loop time
    _session: str = ""
    _term: Term | None = field(default=None)
    _refusal: str = ""

    async def register(self) -> None:
        """Puts the candidate's service and check on the local agent. Raises StoreUnavailable. Idempotent."""
        who = self.candidate.leader
        host, _, port = who.http_addr.rpartition(":")
        await self.client.call(
            "PUT",
            "/v1/agent/service/register",
            params={"replace-existing-checks": "true"},
            document={
                "Name": SERVER_SERVICE,
                "ID": self.candidate.service_id,
                "Address": host,
                "Port": int(port),
                "Meta": {
                    "drover_node": who.node_id,
                    "drover_name": who.name,
                    "drover_root": self.keys.root,
                    "drover_datacenter": self.candidate.datacenter,
                    "drover_version": self.candidate.version,
                    **({"drover_tls": "true"} if who.tls_enabled else {}),
                },
                "Check": {
                    "Name": "drover leader candidate",
                    "CheckID": self.candidate.check_id,
                    "TTL": f"{self.candidate.ttl_s}s",
                    "Status": "passing",
                },
            },
        )
        self.pulse.add(self.candidate.check_id, self.candidate.ttl_s)

    async def acquire(self) -> Term:
        """Waits until the lock is ours. Never raises for an unreachable Consul: it waits for it."""
        index = 0
        while True:
            try:
                session = await self._open_session()
                sent_s = asyncio.get_running_loop().time()
                held, new_index = await self.kv.wait(self.keys.leader, index, _WATCH_S)
                index = 0 if new_index < index else new_index
                if held is not None and held.session and held.session != session:
                    await self._end_predecessor(held)
                    continue
                if held is not None and held.session == session:
                    # A take-over whose answer was lost: the transaction tells us its epoch.
                    return await self._begin_taken(held, session, sent_s)
                index = 0
                return await self._take(session)
            except WriteConflict:
                # Another was faster, or our session is gone: look again with a new one if need be.
                await self._forget_dead_session()
                index = 0
            except StoreRefused as error:
                self._tell(str(error))
                await pause(self.rng.random())
                index = 0
            except StoreUnavailable:
                await pause(self.rng.random())
                index = 0

    def _tell(self, refusal: str) -> None:
        """A missing right is no outage: it is said once, and again when it is another one."""
        if refusal != self._refusal:
            self._refusal = refusal
            log.error("this agent cannot lead: %s (configs/policies/leader.hcl has what it needs)", refusal)

    async def confirm(self) -> None:
        """Moves the deadline. Raises SessionLost when another holds the lock, StoreUnavailable when nobody knows."""
        sent_s = asyncio.get_running_loop().time()
        entry = await self.kv.get(self.keys.leader, timeout_s=self.candidate.ttl_s)
        if entry is None or self._term is None or entry.session != self._term.fence.session:
            raise SessionLost("the leader key shows another session than ours")
        self.extend(sent_s)

    def extend(self, sent_s: float) -> None:
        """Counts a fenced write (sent at loop time `sent_s`) that Consul accepted as a renewal."""
        self.deadline_s = max(self.deadline_s, sent_s + self.candidate.ttl_s)

    async def release(self) -> None:
        """Hands the lock over at once: release first, then destroy (the other way round costs the lock-delay)."""
        term, session = self._term, self._session
        self._term, self._session = None, ""
        self.pulse.remove(self.candidate.check_id)
        with suppress(StoreUnavailable, StoreRefused, WriteConflict):
            if term is not None:
                await self.kv.commit([Op(Verb.UNLOCK, self.keys.leader, b"{}", session=session)], timeout_s=2.0)
        with suppress(StoreUnavailable, StoreRefused):
            if session:
                await self.client.session.destroy(session)
        with suppress(StoreUnavailable, StoreRefused):
            await self.client.agent.service.deregister(self.candidate.service_id)

    def lost(self) -> None:
        """Forgets the term, after SessionLost or a passed deadline; acquire() starts over."""
        self._term, self._session = None, ""

    async def _open_session(self) -> str:
        if not self._session:
            await self.register()
            for attempt in range(40):
                try:
                    self._session = await self.client.session.create(
                        name="drover leader", checks=["serfHealth", self.candidate.check_id], lock_delay=0
                    )
                    break
                except StoreUnavailable:
                    # The new check reaches Consul's servers a moment after the local agent took it.
                    if attempt == 39:
                        raise
                    await asyncio.sleep(0.05)
        return self._session

    async def _end_predecessor(self, held: Entry) -> None:
        """Frees a lock that this very candidate held in an earlier life. Its process is gone (data_dir is
        locked), but its session hangs on the check that we keep passing, so it would never lapse."""
        if decode(held.value, Leader).node_id == self.candidate.leader.node_id:
            await self.client.session.destroy(held.session)

    async def _forget_dead_session(self) -> None:
        with suppress(StoreUnavailable, StoreRefused):
            response = await self.client.call("GET", f"/v1/session/info/{self._session}")
            if response.body.strip() in (b"[]", b"null"):
                self._session = ""

    async def _take(self, session: str) -> Term:
        current = await self.kv.get(self.keys.epoch)
        epoch = (decode(current.value, Epoch).epoch if current else 0) + 1
        nonce = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        value = encode(Epoch(epoch=epoch, nonce=nonce))
        leader = msgspec.structs.replace(self.candidate.leader, epoch=epoch, since=self.now_ns(), nonce=nonce)
        raise_epoch = (
            replace_op(self.keys.epoch, value, current.modify_index) if current else create(self.keys.epoch, value)
        )
        sent_s = asyncio.get_running_loop().time()
        written = await self.kv.commit(
            [Op(Verb.LOCK, self.keys.leader, pack(encode(leader), self.keys.leader), session=session), raise_epoch],
            timeout_s=self.candidate.ttl_s,
        )
        return self._begin(
            epoch, session, sent_s, written[self.keys.leader].modify_index, written[self.keys.epoch].modify_index
        )

    async def _begin_taken(self, held: Entry, session: str, sent_s: float) -> Term:
        entry = await self.kv.get(self.keys.epoch)
        epoch = decode(held.value, Leader).epoch
        if entry is None or decode(entry.value, Epoch).epoch != epoch:
            raise WriteConflict(f"{self.keys.epoch}: is not what was written with the lock")
        return self._begin(epoch, session, sent_s, held.modify_index, entry.modify_index)

    def _begin(self, epoch: int, session: str, sent_s: float, index: int, turn: int) -> Term:
        fence = Fence(key=self.keys.leader, session=session, turn_key=self.keys.epoch, turn=turn)
        self._term = Term(epoch=epoch, fence=fence, index=index)
        self.deadline_s = sent_s + self.candidate.ttl_s
        return self._term


