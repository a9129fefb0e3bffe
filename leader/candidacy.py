"""Does this process stand for election? As its configuration says, unless an operator said otherwise at run time.

    control/<node>.candidate ──watched──> Election runs, or hands over and waits
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from catalog.keys import Keys
from catalog.kv import Kv, next_index, pause
from catalog.outage import Outage
from leader.election import Election, log
from model.errors import StoreRefused, StoreUnavailable
from model.node import NodeControl, NodeId
from model.wire import decode

_WAIT_S = 300.0
# Of a process that is no node there is no such document until somebody says something, and a watch of a missing key
# wakes on every write in Consul (measured).
_ABSENT_S = 5.0


@dataclass(slots=True, kw_only=True)
class Candidacy:
    """is_configured: whether it is a candidate when nobody said otherwise."""

    kv: Kv
    keys: Keys
    node_id: NodeId
    election: Election
    is_configured: bool
    _said: bool | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_candidate(self) -> bool:
        return self.is_configured if self._said is None else self._said

    async def run(self) -> None:
        """Runs for ever; cancelled, it hands over."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(), name="candidate or not")
            while True:
                self._changed.clear()
                if not self.is_candidate:
                    await self._changed.wait()
                    continue
                standing = tasks.create_task(self.election.run(), name="election")
                while self.is_candidate and not standing.done():
                    await self._changed.wait()
                    self._changed.clear()
                standing.cancel()
                await asyncio.wait([standing])

    async def _follow(self) -> None:
        index, outage = 0, Outage(log)
        while True:
            try:
                entry, new = await self.kv.wait(self.keys.control(self.node_id), index, _WAIT_S)
            except (StoreUnavailable, StoreRefused) as error:
                outage.failed("candidate or not", error)
                await pause(0.5)
                continue
            outage.passed("candidate or not: back")
            said = decode(entry.value, NodeControl).candidate if entry is not None else None
            if said is not self._said:
                self._said = said
                log.info("this agent is %s", "a candidate for leader" if self.is_candidate else "no candidate for leader")
                self._changed.set()
            if entry is None:
                index = 0
                with suppress(TimeoutError):
                    await asyncio.sleep(_ABSENT_S)
            else:
                index = next_index(index, new)
