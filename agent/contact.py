"""How long has Consul not answered, and whose group asked to be stopped for that?

    every success of the agent ──told()──> reached
    a question of its own, while such a group runs ─┘        now - reached >= its limit ──> AllocRunner.cut_off()

A blocking query may be open for a minute and proves nothing while it is, so a group with
`stop_after_client_disconnect` is reason to ask Consul's servers something small, four times within its limit. Without
such a group nothing is asked, and nothing is ever stopped here.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from agent.alloc_runner import AllocRunner
from agent.store import AgentStore
from model.errors import StoreRefused, StoreUnavailable
from model.job import TaskGroup, disconnect_of
from model.wire import Nanoseconds, seconds

log = logging.getLogger(__name__)

# Of the shortest limit: how long one question may take, and how often one is asked. Halved, a limit of minutes costs
# twice the reads; doubled, one lost answer makes half of the limit uncertain.
_SHARE = 0.25
_ASK_S_MIN, _ASK_S_MAX = 0.25, 15.0


class Contact:
    """runners: all allocs of the agent. told() at each answer of Consul's servers, wake() when an alloc came or changed."""

    def __init__(self, store: AgentStore, runners: Callable[[], Iterable[AllocRunner]]) -> None:
        self._store = store
        self._runners = runners
        self._reached_s = 0.0  # loop time
        self._wake = asyncio.Event()

    def told(self) -> None:
        self._reached_s = asyncio.get_running_loop().time()

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        # A life begins in contact: how long the one before was without is nobody's knowledge.
        self.told()
        while True:
            asking = self._asking()
            if not asking:
                self._wake.clear()
                await self._wake.wait()
                continue
            limit_s = min(limit_s for _, limit_s in asking)
            await self._look(limit_s)
            await asyncio.sleep(self._pause_s(limit_s))

    def _asking(self) -> list[tuple[AllocRunner, float]]:
        """The allocs that are to be stopped without contact, and after how long."""
        return [
            (runner, seconds(limit))
            for runner in self._runners()
            if (limit := _limit(runner.group)) is not None and runner.may_be_cut_off
        ]

    async def _look(self, limit_s: float) -> None:
        """Asks, and cuts off who has waited long enough."""
        loop = asyncio.get_running_loop()
        ask_s, asked_s = _ask_s(limit_s), loop.time()
        if await self._is_answered(ask_s) or loop.time() - asked_s > 2 * ask_s:
            # The second: we were frozen ourselves, and the answer may have come meanwhile. Ask again first.
            return
        away_s = loop.time() - self._reached_s
        for runner, runner_limit_s in self._asking():
            if away_s >= runner_limit_s:
                log.warning("alloc %s: stopped as its group asks, %.0f s without contact", runner.desired.id, away_s)
                runner.cut_off()

    async def _is_answered(self, ask_s: float) -> bool:
        try:
            async with asyncio.timeout(ask_s):
                await self._store.reach(ask_s)
        except (StoreUnavailable, TimeoutError):
            return False
        except StoreRefused:
            pass  # refused by servers that are there
        self.told()
        return True

    def _pause_s(self, limit_s: float) -> float:
        """Until the next question: so that at the limit the last one has just failed."""
        ask_s = _ask_s(limit_s)
        left_s = self._reached_s + limit_s - ask_s - asyncio.get_running_loop().time()
        return max(min(ask_s, left_s), _ASK_S_MIN)


def _ask_s(limit_s: float) -> float:
    return min(max(limit_s * _SHARE, _ASK_S_MIN), _ASK_S_MAX)


def _limit(group: TaskGroup) -> Nanoseconds | None:
    rule = disconnect_of(group)
    return rule.stop_on_client_after if rule is not None else None
