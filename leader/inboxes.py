"""What did the agents change? Reads just the facts that their inboxes name, then empties them.

The delete is fenced and compares with the index at which the inbox was read, before the facts were: a
name added meanwhile stays, and wakes the watch again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from catalog.keys import is_sentinel, last_segment
from leader.fenced import Fenced
from leader.store import LeaderStore
from leader.view import View
from model.errors import SessionLost, WriteConflict
from model.node import NodeId

_WAIT_S = 60.0
# Inboxes emptied in one transaction; below Consul's 64 operations with fence and sentinel.
_CONSUME_MAX = 48


@dataclass(slots=True, kw_only=True)
class Inboxes:
    fenced: Fenced
    store: LeaderStore
    view: View

    async def run(self) -> None:
        await self.fenced.keep_on("inboxes", self._follow)

    async def _follow(self) -> None:
        """Follows the inboxes until Consul cannot be read; then from the beginning."""
        index = 0
        while True:
            listing = await self.fenced.kv.wait_prefix(self.store.keys.inboxes, index, _WAIT_S)
            if listing.index < index:
                # Consul was restored: nothing in the view can be trusted, so the term ends and all is read anew.
                raise SessionLost(f"Consul's index went back from {index} to {listing.index}")
            index = max(1, listing.index)
            consumed: list[tuple[NodeId, int]] = []
            for entry in listing.entries:
                if is_sentinel(entry.key):
                    continue
                node_id = NodeId(last_segment(entry.key))
                await self.store.read_facts(self.view, node_id, self.store.inbox_in(entry))
                consumed.append((node_id, entry.modify_index))
            for start in range(0, len(consumed), _CONSUME_MAX):
                await self._consume(consumed[start : start + _CONSUME_MAX])

    async def _consume(self, consumed: Sequence[tuple[NodeId, int]]) -> None:
        try:
            await self.fenced.commit(self.store.consume(consumed, self.fenced.new_id()))
        except WriteConflict:
            # Somebody added names meanwhile: the watch shows them, the rest is emptied one by one.
            if len(consumed) > 1:
                for one in consumed:
                    await self._consume([one])
