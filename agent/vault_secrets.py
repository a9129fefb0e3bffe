"""How are a task's secrets read with its token, and when again?

A dynamic secret is issued once: its lease is remembered, and renewed at half of its life for as long as Vault does so. Its
successor is fetched while there is time to render it and to tell the task.
"""

from collections.abc import Callable

import msgspec

from agent.hooks.base import TaskContext
from agent.secrets import Answer
from agent.vault_kept import Kept
from agent.vault_records import LAST_PART, Lease, Record
from model.errors import VaultRefused, VaultUnavailable
from model.secret import Secret
from model.wire import seconds
from template.lookups import Read, What
from template.lookups import Secret as VaultSecret
from vault.client import VaultClient

# Secrets without a lease are read again after this; what consul-template does.
STATIC_S = 300.0
# However short a lease is.
AGAIN_S_MIN = 1.0
# For rendering and for what the task does once it was told, on top of the splay.
MARGIN_S = 3.0


class VaultSecrets:
    """remember: notes a task's changed record."""

    def __init__(self, client: VaultClient, remember: Callable[[Kept, Record], None], now_s: Callable[[], float]) -> None:
        self._client, self._remember_record, self._now_s = client, remember, now_s

    async def read(self, kept: Kept, context: TaskContext, read: Read) -> Answer:
        """As TaskSecrets.read."""
        if read.what is What.SECRETS:
            record, stale = self._valid(kept), kept.stale
            return Answer(await self._client.list(Secret(record.token), read.name, record.namespace) or (), STATIC_S, stale)
        async with kept.turn:  # two templates of a task that want the same dynamic secret get one
            record, stale = self._valid(kept), kept.stale
            found, again_s = await self._secret(kept, record, read, _lead_s(context))
        return Answer(found, max(again_s, AGAIN_S_MIN), stale)

    def _valid(self, kept: Kept) -> Record:
        if kept.record is None or not kept.record.is_valid(self._now_s()):
            raise VaultUnavailable("the task's Vault token has ended, and a new one is not there yet")
        return kept.record

    async def _secret(self, kept: Kept, record: Record, read: Read, lead_s: float) -> tuple[VaultSecret | None, float]:
        key, token = msgspec.json.encode((read.name, read.arguments)).decode(), Secret(record.token)
        lease = record.leases.get(key)
        if lease is not None:
            lease = await self._leased(kept, record, key, lease, lead_s)
        if lease is None:
            found = await self._client.read(token, read.name, read.arguments, record.namespace)
            if found is None or not found.lease_id:
                duration_s = float(found.lease_duration) if found is not None else 0.0
                return found, self._bounded(record, min(duration_s / 2 or STATIC_S, STATIC_S))
            lease = Lease(
                secret=msgspec.to_builtins(found),
                lease_id=found.lease_id,
                duration_s=float(found.lease_duration),
                expires_at=self._now_s() + found.lease_duration,
                renewable=found.renewable,
            )
            self._remember(kept, record, key, lease)
        return msgspec.convert(lease.secret, VaultSecret), self._bounded(record, self._again_s(lease, lead_s))

    async def _leased(self, kept: Kept, record: Record, key: str, lease: Lease, lead_s: float) -> Lease | None:
        """What was issued, its lease renewed when half of it is over; None: a new one is needed."""
        left_s = lease.expires_at - self._now_s()
        last_s = _last_s(lease, lead_s)
        if left_s <= 0:
            return None
        if left_s > lease.duration_s / 2:
            return lease
        if not lease.renewable:
            return None if left_s <= last_s else lease
        try:
            duration_s, renewable = await self._client.renew_lease(Secret(record.token), lease.lease_id, record.namespace)
        except VaultRefused:
            return None
        if duration_s <= last_s:
            return None
        lease = msgspec.structs.replace(lease, expires_at=self._now_s() + duration_s, renewable=renewable)
        self._remember(kept, record, key, lease)
        return lease

    def _again_s(self, lease: Lease, lead_s: float) -> float:
        left_s = lease.expires_at - self._now_s()
        if lease.renewable and left_s > lease.duration_s / 2:
            return left_s / 2
        return max(left_s - _last_s(lease, lead_s), 0.0)

    def _bounded(self, record: Record, again_s: float) -> float:
        """Not after the token, with which its secrets end."""
        left_s = (record.expires_at - self._now_s()) * (1.0 - LAST_PART / 2) if record.expires_at else again_s
        return min(again_s, left_s)

    def _remember(self, kept: Kept, record: Record, key: str, lease: Lease) -> None:
        current = kept.record
        if current is not None and current.accessor == record.accessor:  # of a token that was replaced meanwhile: no use
            self._remember_record(kept, msgspec.structs.replace(current, leases={**current.leases, key: lease}))


def _last_s(lease: Lease, lead_s: float) -> float:
    """The last part of its life, in which its successor is fetched: of a short one, half at most."""
    return min(max(lease.duration_s * LAST_PART, lead_s), lease.duration_s / 2)


def _lead_s(context: TaskContext) -> float:
    """From a new secret to a task that uses it: which template reads it is not known here."""
    return max((seconds(one.splay) for one in context.task.templates), default=0.0) + MARGIN_S
