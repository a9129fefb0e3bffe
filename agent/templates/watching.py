"""What was last answered to each question that this node's templates ask?

    Watches ── one Watch for each distinct Read, however many templates want it
                 ├─ Consul   a blocking query; what cannot wait, and what is beyond the connections: asked now and then
                 └─ Vault    each task's own, with its own token: asked again when its lease says so

A failure changes no answer: what was known stays, and is asked for again after a while. A Watch that nobody wants any
more goes on for a little, so that a task that is restarted finds its answers.
"""

import asyncio
import itertools
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import quote

from agent import telemetry
from agent.templates.consul import ConsulReads
from catalog.lookups import Found
from catalog.outage import Outage
from model.errors import DroverError, StoreRefused, StoreUnavailable, VaultRefused, VaultUnavailable
from template import Read, What

log = logging.getLogger(__name__)

# A third of Consul's http_max_conns_per_client (200) is left to all others on this machine: 20 are drover's own.
BLOCKING_MAX = 100
# For first questions and for what is polled, beside them.
CONNECTIONS_MAX = BLOCKING_MAX + 8
WAIT_S = 300.0
# After an answer. A key that is not there wakes for every write to the store (measured): each answer that says nothing
# new doubles the pause, and so it costs Consul one question a second at most.
PAUSE_S_MIN, PAUSE_S_MAX = 0.1, 1.0
POLL_S = 10.0
RARELY_S = 60.0
# Between tries, jittered. A first answer is waited for by a task that does not run: it is there within 2 s of the return.
RETRY_S_MAX_FIRST, RETRY_S_MAX = 1.0, 15.0
# Longer than the restart of a task takes; what is not wanted by then is not asked any more.
LINGER_S = 30.0
# From the end of a prepare to the start of its process; a dead task's secrets are not read again.
LINGER_VAULT_S = 5.0

# What is wrong, whatever was asked.
UNANSWERED = ("Consul does not answer", "Vault does not answer")

_versions = itertools.count(1)  # of all watches: an answer of a later watch is never taken for that of an earlier one


class Answered(Protocol):
    """A read of Vault: (value, seconds until it is to be read again, an event that has it read before)."""

    @property
    def value(self) -> object: ...

    @property
    def again_s(self) -> float: ...

    @property
    def stale(self) -> asyncio.Event | None: ...


Fetch = Callable[[Read], Awaitable[Answered]]


class Watch:
    """The last answer to one Read.

    version: 0 until the first answer, then another number with each answer that differs. trouble: why there was none
    at the last try, empty if there was.
    """

    def __init__(self, read: Read) -> None:
        self.read = read
        self.version = 0
        self.value: object = None
        self.trouble = ""
        self.wanted = 0
        self.listeners: set[Callable[[], None]] = set()
        self.tries = 0

    @property
    def is_answered(self) -> bool:
        return self.version > 0

    def answered(self, value: object) -> bool:
        """Whether it is another answer than the last one."""
        self.trouble, self.tries = "", 0
        if self.is_answered and value == self.value:
            return False
        # The version last: a rendering in a thread that sees it has the value, too.
        self.value = value
        self.version = next(_versions)
        telemetry.TEMPLATE_ANSWERS.inc()
        self._tell()
        return True

    def failed(self, why: str) -> None:
        self.tries += 1
        if why != self.trouble:
            self.trouble = why
            self._tell()

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()


def _masked(error: DroverError, read: Read) -> DroverError:
    """For the log: a template may use a secret as a name."""
    text = str(error)
    for name in {read.name, quote(read.name), quote(read.name, safe="")} - {""}:
        text = text.replace(name, "…")
    return StoreUnavailable(text)


def _done(kind: str) -> None:
    telemetry.TEMPLATE_QUERIES[kind] -= 1


class Watches:
    """Entered by whoever runs the agent; every Watch lives in its TaskGroup. linger_s: see LINGER_S."""

    def __init__(
        self,
        consul: ConsulReads,
        *,
        rng: random.Random,
        blocking_max: int = BLOCKING_MAX,
        linger_s: float = LINGER_S,
    ) -> None:
        self._consul, self._rng, self._linger_s = consul, rng, linger_s
        self._blocking_left = blocking_max
        self._polls = asyncio.Semaphore(CONNECTIONS_MAX - BLOCKING_MAX)
        self._watches: dict[tuple[str, Read], tuple[Watch, asyncio.Task[None]]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._stack = AsyncExitStack()
        self._outage = Outage(log)

    async def __aenter__(self) -> Self:
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, task in self._watches.values():
            task.cancel()
        self._group = None
        await self._stack.aclose()

    def is_hidden(self, read: Read) -> bool:
        return self._consul.is_hidden(read)

    def __len__(self) -> int:
        return len(self._watches)

    def want(self, read: Read, listener: Callable[[], None], *, owner: str = "", fetch: Fetch | None = None) -> Watch:
        """The Watch of this Read, which now has one listener more: it is called when the answer is another, or the trouble is.

        owner, fetch: for what is not Consul's. Pairs with release().
        """
        if self._group is None:
            raise StoreUnavailable("the agent's watches do not run")
        key = (owner, read)
        if key not in self._watches:
            watch = Watch(read)
            loop = self._consul_loop(watch) if fetch is None else self._vault_loop(watch, fetch)
            kind = "consul" if fetch is None else "vault"
            task = self._group.create_task(loop, name=f"watch {read.what}")
            telemetry.TEMPLATE_QUERIES[kind] += 1
            task.add_done_callback(lambda _: _done(kind))
            self._watches[key] = (watch, task)
        watch, _ = self._watches[key]
        watch.wanted += 1
        watch.listeners.add(listener)
        return watch

    def release(self, watch: Watch, listener: Callable[[], None], *, owner: str = "") -> None:
        watch.wanted -= 1
        watch.listeners.discard(listener)
        if watch.wanted == 0:
            linger_s = min(self._linger_s, LINGER_VAULT_S) if owner else self._linger_s
            asyncio.get_running_loop().call_later(linger_s, self._forget, (owner, watch.read), watch)

    def _forget(self, key: tuple[str, Read], watch: Watch) -> None:
        """Ends it, unless somebody wants it again; the newest call after a release is the one that finds it unwanted."""
        known = self._watches.get(key)
        if known is not None and known[0] is watch and watch.wanted == 0:
            known[1].cancel()
            del self._watches[key]

    # Consul.

    async def _consul_loop(self, watch: Watch) -> None:
        index, pause_s = 0, PAUSE_S_MIN
        while True:
            try:
                found = await self._asked(watch.read, index)
            except (StoreUnavailable, StoreRefused) as error:
                index = 0
                await self._troubled(watch, error, is_away=isinstance(error, StoreUnavailable))
                continue
            except Exception as error:
                log.exception("templates: a %s: trying on", watch.read.what)
                index = 0
                await self._troubled(watch, StoreRefused(type(error).__name__), is_away=False)
                continue
            self._outage.passed("templates' lookups are answered again")
            is_new = watch.answered(found.value)
            # An index that went back is another history (a restored snapshot): asked for from its start.
            index = found.index if found.index >= index else 0
            pause_s = PAUSE_S_MIN if is_new else min(2 * pause_s, PAUSE_S_MAX)
            await asyncio.sleep(pause_s if self._is_blocking(watch) else self._poll_s(watch.read))

    def _is_blocking(self, watch: Watch) -> bool:
        return self._blocking_left > 0 and not self._is_rare(watch.read)

    def _is_rare(self, read: Read) -> bool:
        """What nobody can wait for, and what changes with every write of drover's own."""
        return read.what is What.DATACENTERS or self._consul.is_above_hidden(read)

    def _poll_s(self, read: Read) -> float:
        span_s = RARELY_S if self._is_rare(read) else POLL_S
        return span_s * (0.75 + 0.5 * self._rng.random())

    async def _asked(self, read: Read, index: int) -> Found[object]:
        """Waits for a later answer while there is a connection to wait on."""
        if index == 0 or self._blocking_left == 0 or self._is_rare(read):
            async with self._polls:
                return await self._consul.ask(read, 0, 0.0)
        self._blocking_left -= 1
        try:
            # Not all at the same moment: 50 watches that were begun together would end together for ever.
            return await self._consul.ask(read, index, WAIT_S * (0.8 + 0.2 * self._rng.random()))
        finally:
            self._blocking_left += 1

    async def _troubled(self, watch: Watch, error: DroverError, *, is_away: bool) -> None:
        if is_away:
            self._outage.failed("templates' lookups are not answered, their last renderings stay", _masked(error, watch.read))
        watch.failed(UNANSWERED[0] if is_away else str(error))
        await asyncio.sleep(self._retry_s(watch))

    # Vault.

    async def _vault_loop(self, watch: Watch, fetch: Fetch) -> None:
        while True:
            try:
                found = await fetch(watch.read)
            except VaultUnavailable:
                watch.failed(UNANSWERED[1])
            except VaultRefused as error:
                watch.failed(str(error))
            except Exception as error:
                log.exception("templates: a %s: trying on", watch.read.what)
                watch.failed(type(error).__name__)
            else:
                watch.answered(found.value)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(found.again_s, 1.0)):
                        await (found.stale or asyncio.Event()).wait()
                continue
            await asyncio.sleep(self._retry_s(watch))

    def _retry_s(self, watch: Watch) -> float:
        longest_s = RETRY_S_MAX if watch.is_answered else RETRY_S_MAX_FIRST
        return min(0.25 * (1 << min(watch.tries, 8)), longest_s) * (0.5 + self._rng.random() / 2)
