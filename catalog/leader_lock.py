"""Who holds the leader lock, and how is it taken from one who is gone for good?

Works without a leader, at any agent. Breaking it is safe whoever held it: the epoch that the next leader raises, and
the session that each write of the old one checks, refuse whatever the old one may still send.
"""

from dataclasses import dataclass

from catalog.client import Client
from catalog.keys import Keys
from catalog.kv import Kv
from model.cluster import Leader
from model.wire import decode


@dataclass(frozen=True, slots=True)
class Holder:
    leader: Leader
    session: str


@dataclass(slots=True, kw_only=True)
class LeaderLock:
    client: Client
    kv: Kv
    keys: Keys

    async def holder(self) -> Holder | None:
        """None while nobody holds it. Raises StoreUnavailable."""
        entry = await self.kv.get(self.keys.leader)
        if entry is None or not entry.session:
            return None
        return Holder(decode(entry.value, Leader), entry.session)

    async def break_it(self, holder: Holder) -> None:
        """Ends the holder's session, and with it the lock. Raises StoreUnavailable."""
        await self.client.session.destroy(holder.session)
