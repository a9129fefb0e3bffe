"""What does a leader do while it leads?

    inbox, health, timer, API command ──mark jobs──> observe (the View) ─> decide (pure) ─> apply (fenced)

One Leading is one term: it begins with an empty view, reads all of Consul, and ends with the lease.
Everything is level-triggered; whatever is interrupted is found again by the next leader.

    lead()
     ├─ confirm   moves the lease's deadline
     ├─ inboxes   inboxes.py: reads the facts that agents name
     ├─ health    health.py: who is heard
     ├─ lives     lives.py: ready, suspect, lost
     ├─ decide    deciding.py: jobs to which something happened
     ├─ rebalance rebalancing.py: evens out, if it is switched on
     ├─ garbage   collecting.py: removes what has no further use
     ├─ launch    periodic.py: starts periodic jobs
     ├─ watched   watched.py: tells Consul how those do
     ├─ revoke    vaulting.py: ends the Vault tokens of lost nodes
     └─ path      vault_path.py: which jobs Vault is reached through
"""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol
from weakref import WeakValueDictionary

from catalog.client import Client
from catalog.keys import Keys
from catalog.kv import pause, put
from catalog.lease import CONFIRMS_PER_TTL
from leader import scheduling, telemetry, vault_path
from leader.deciding import Deciding
from leader.fenced import Fenced
from leader.health import NodeHealth
from leader.inboxes import Inboxes
from leader.lives import NodeLives, Probe
from leader.permits import Permits
from leader.rebalancing import Rebalancer
from leader.store import LeaderStore
from leader.vaulting import LeaderVault
from leader.view import View
from model.cluster import IndexBase
from model.errors import SessionLost, StoreRefused, StoreUnavailable
from model.job import Namespace
from model.snapshot import JobKey, Settings
from model.wire import encode

log = logging.getLogger("drover.leader")

# A write takes milliseconds; what takes longer is not waited for by a hand-over.
_FINISH_S_MAX = 1.0


class Part(Protocol):
    """Runs for ever, beside the others of a term."""

    async def run(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Leading:
    """One term. is_ready: all of Consul has been read, so commands and reads may be answered."""

    client: Client
    keys: Keys
    fenced: Fenced
    settings: Settings
    probe: Probe
    # The highest index that this process' API has shown: a Consul that was restored begins below it.
    index_floor: int = 0
    view: View = field(default_factory=View)
    store: LeaderStore = field(init=False)
    deciding: Deciding = field(init=False)
    lives: NodeLives = field(init=False)
    vault: LeaderVault | None = None
    is_ready: bool = False
    since_s: float = 0.0  # loop time at which the term began
    # Asked for by `system gc`.
    garbage: asyncio.Event = field(default_factory=asyncio.Event)
    permits: Permits = field(default_factory=Permits)
    _asked_to_end: asyncio.Event = field(default_factory=asyncio.Event)
    _why_over: str = ""
    # What else runs for as long as the term lasts, and gives commands as users do.
    more: Sequence[Callable[["Leading"], Part]] = ()
    # One command at a time for a job: the next one must see what the one before wrote. Gone when nobody waits.
    _turns: WeakValueDictionary[JobKey, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    _writes: int = 0
    _written: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: set[Namespace] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.view.clock = self._clock
        self.store = LeaderStore(self.fenced.kv, self.keys, self.fenced.term.fence)
        self.deciding = self._deciding()

    @property
    def rebalancer(self) -> Rebalancer:
        return Rebalancer(
            fenced=self.fenced,
            view=self.view,
            deciding=self.deciding,
            interval_s=self.settings.rebalance_interval_s,
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A call that changes something is under way: a planned hand-over waits for it."""
        self._writes += 1
        try:
            yield
        finally:
            self._writes -= 1
            self._written.set()

    async def finish(self, allowed: int) -> None:
        """Takes no further calls, and waits a little until no more than `allowed` writes are under way."""
        self.is_ready = False
        with suppress(TimeoutError):
            async with asyncio.timeout(_FINISH_S_MAX):
                while self._writes > allowed:
                    self._written.clear()
                    await self._written.wait()

    def is_closed(self, namespace: Namespace) -> bool:
        return namespace in self._closed

    @asynccontextmanager
    async def closing(self, namespace: Namespace) -> AsyncIterator[None]:
        """No command brings a job into the namespace, and none that began to is under way still."""
        self._closed.add(namespace)
        try:
            for turn in [turn for key, turn in self._turns.items() if key[0] == namespace]:
                async with turn:
                    pass
            yield
        finally:
            self._closed.discard(namespace)

    def _deciding(self) -> Deciding:
        return Deciding(fenced=self.fenced, store=self.store, view=self.view, settings=self.settings)

    def _clock(self) -> int:
        return self.fenced.now_ns

    def turn(self, key: JobKey) -> asyncio.Lock:
        """A command's turn at its job; use as `async with`."""
        return self._turns.setdefault(key, asyncio.Lock())

    async def lead(self) -> None:
        """Leads until the lease is lost. Raises SessionLost then; never returns."""
        deadline_s = self.fenced.lease.deadline_s
        self.since_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(deadline_s) as scope, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._confirm(scope), name="leader confirm")
                await self._load()
                self.lives = NodeLives(
                    fenced=self.fenced,
                    store=self.store,
                    view=self.view,
                    settings=self.settings,
                    probe=self.probe,
                    doubt=self.deciding.doubt_node,
                )
                # Millions of documents that live as long as the term: with 100,000 allocs a full collection held the
                # loop for 0.36 s. Set aside, they are not walked; what is replaced goes by its reference count.
                gc.freeze()
                self.is_ready = True
                telemetry.TAKEOVERS.inc()
                parts: tuple[Part, ...] = (
                    Inboxes(fenced=self.fenced, store=self.store, view=self.view),
                    NodeHealth(self.client, self.view, self.fenced.rng),
                    self.lives,
                    self.deciding,
                    self.rebalancer,
                    *(make(self) for make in self.more),
                )
                for part in parts:
                    tasks.create_task(part.run(), name=f"leader {type(part).__name__.lower()}")
                tasks.create_task(self._until_asked(), name="leader until asked")
        except TimeoutError as error:
            raise SessionLost("the lease's deadline passed without a confirmation") from error
        except BaseExceptionGroup as group:
            lost, rest = group.split(SessionLost)
            if lost is None or rest is not None:
                raise
            raise SessionLost(str(_first(lost))) from group
        finally:
            self.is_ready = False
            self.view.end()
            gc.unfreeze()

    def end(self, why: str) -> None:
        """Ends the term; whoever leads next, perhaps this very candidate, reads everything anew."""
        self._why_over = why
        self._asked_to_end.set()

    async def _until_asked(self) -> None:
        await self._asked_to_end.wait()
        raise SessionLost(self._why_over)

    async def _confirm(self, scope: asyncio.Timeout) -> None:
        lease = self.fenced.lease
        while True:
            if scope.expired():
                return  # lead() is being cancelled; a passed deadline cannot be moved
            scope.reschedule(lease.deadline_s)
            await asyncio.sleep(lease.candidate.ttl_s / CONFIRMS_PER_TTL)
            try:
                await lease.confirm()
            except (StoreUnavailable, StoreRefused) as error:
                log.debug("the lease could not be confirmed: %s", error)

    async def _load(self) -> None:
        while True:
            try:
                await self.store.load(self.view)
                await NodeHealth(self.client, self.view, self.fenced.rng).read_all()
                await self._raise_index()
                if not self.view.scheduler.modify_index:
                    await scheduling.write(self, self.settings.scheduler)
                if await self.fenced.kv.get(self.keys.restoring) is not None:
                    log.warning("the restore of a snapshot was interrupted: nothing is decided until it is done once more")
                    self.deciding.hold()
                # An inbox prefix without any key would wake its watch on every unrelated write.
                await self.fenced.commit([self.store.sentinel(self.keys.inboxes, self.fenced.new_id())])
                break
            except (StoreUnavailable, StoreRefused) as error:
                log.warning("take-over: %s; reading again", error)
                self.view = View(clock=self._clock)
                self.deciding = self._deciding()
                await pause(self.fenced.rng.random())
        self.view.events.begin(self.view.floor)
        self.view.bootstrap = await vault_path.known(self.view)
        self.deciding.take_over()
        log.info(
            "leading in epoch %d: %d jobs, %d allocs, %d nodes",
            self.fenced.epoch,
            len(self.view.jobs),
            len(self.view.allocs),
            len(self.view.nodes),
        )

    async def _raise_index(self) -> None:
        """Keeps the API's index from going back after Consul's did."""
        self.view.floor = self.fenced.term.index
        self.view.index = max(self.view.index, self.view.floor)
        missing = self.index_floor - self.view.api_index(self.view.index)
        if missing >= 0:
            self.view.index_base += missing + 1
            base = IndexBase(base=self.view.index_base, nonce=self.fenced.new_id())
            await self.fenced.commit([put(self.keys.index_base, encode(base))])


def _first(group: BaseExceptionGroup[SessionLost]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
