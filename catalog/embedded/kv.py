"""What do the keys hold, and with which index does a read of them answer?

The rules are Consul 1.8.7's, measured (tests/contract): an equal write changes nothing; a plain PUT
keeps the session of a locked key but resets its LockIndex; a delete leaves a tombstone, so that the
index of a prefix never goes back while tombstones live (15 minutes). A read of a missing key, or of a
prefix with neither keys nor tombstones, answers with the index of the whole table.

Changes between begin() and commit() can be rolled back: that is what a transaction needs. Pure state:
no clock of its own (times are passed in), no watches (the caller touches what `changed` names).
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

MAX_VALUE_BYTES: Final = 512 * 1024  # kv_max_value_size's default since 1.7.2
TOMBSTONE_TTL_S: Final = 15 * 60.0  # consul's TombstoneTTL
LOCK_DELAY_S_MAX: Final = 60.0


class KvPair(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One key, as GET /v1/kv answers it. `session` is absent, not empty, on a free key."""

    lock_index: int = 0
    key: str
    flags: int = 0
    value: bytes | None = None
    session: str | UnsetType = UNSET
    create_index: int = 0
    modify_index: int = 0

    def holds(self, other: "KvPair") -> bool:
        """True when writing `other` over this would change nothing."""
        return (self.lock_index, self.flags, self.value, self.session) == (
            other.lock_index,
            other.flags,
            other.value,
            other.session,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KvSnapshot:
    pairs: dict[str, KvPair]
    tombstones: dict[str, tuple[int, float]]
    index: int


@dataclass(slots=True)
class _Journal:
    """The values before a transaction, in the order of its writes."""

    pairs: list[tuple[str, KvPair | None]] = field(default_factory=list)
    tombstones: list[tuple[str, tuple[int, float] | None]] = field(default_factory=list)
    index: int = 0


class KvTable:
    """All keys of one datacenter."""

    def __init__(self) -> None:
        self.index = 0  # of the last change of any key
        self.changed: dict[str, None] = {}  # keys changed since the caller last looked
        self._pairs: dict[str, KvPair] = {}
        self._keys: list[str] = []  # sorted
        self._tombstones: dict[str, tuple[int, float]] = {}  # key or deleted prefix: index, since
        self._tombstone_keys: list[str] = []  # sorted
        self._lock_delays: dict[str, float] = {}  # key: until
        self._held: dict[str, dict[str, None]] = {}  # session: its keys
        self._journal: _Journal | None = None

    # Reads

    def get(self, key: str) -> KvPair | None:
        return self._pairs.get(key)

    def under(self, prefix: str) -> list[KvPair]:
        """All keys that start with `prefix`, sorted."""
        return [self._pairs[key] for key in self._range(self._keys, prefix)]

    def names(self, prefix: str, separator: str) -> list[str]:
        """Names under `prefix`; with a separator, cut after its first occurrence past the prefix."""
        found: dict[str, None] = {}
        for key in self._range(self._keys, prefix):
            cut = key.find(separator, len(prefix)) if separator else -1
            found[key if cut < 0 else key[: cut + len(separator)]] = None
        return list(found)

    def index_of(self, prefix: str, pairs: list[KvPair]) -> int:
        """The index of a read of `prefix` that found `pairs`: of its keys and tombstones, else the table's."""
        if not prefix:
            return self.index
        own = max((pair.modify_index for pair in pairs), default=0)
        dead = max((self._tombstones[key][0] for key in self._range(self._tombstone_keys, prefix)), default=0)
        return max(own, dead) or self.index

    def held_by(self, session: str) -> list[str]:
        return sorted(self._held.get(session, ()))

    def is_delayed(self, key: str, now_s: float) -> bool:
        """True while the lock-delay of a session that died holding `key` runs."""
        until_s = self._lock_delays.get(key)
        if until_s is None:
            return False
        if now_s < until_s:
            return True
        del self._lock_delays[key]
        return False

    # Writes; each takes the raft index that it happens at

    def put(self, index: int, pair: KvPair, *, keep_session: bool = True) -> KvPair:
        """Stores `pair` (its indexes are filled in here); an equal value leaves the old one as it is."""
        old = self._pairs.get(pair.key)
        session = old.session if keep_session and old else pair.session
        new = msgspec.structs.replace(
            pair, session=session, create_index=old.create_index if old else index, modify_index=index
        )
        if old and old.holds(new):
            return old
        self._store(new)
        self.index = index
        return new

    def put_cas(self, index: int, pair: KvPair, expected: int) -> KvPair | None:
        """put() if the key's ModifyIndex is `expected` (0: does not exist); None when it is not."""
        old = self._pairs.get(pair.key)
        if expected != (old.modify_index if old else 0):
            return None
        return self.put(index, pair)

    def lock(self, index: int, pair: KvPair) -> KvPair | None:
        """put() holding the key for `pair.session`, which the caller has looked up; None when another holds it."""
        old = self._pairs.get(pair.key)
        if old and old.session is not UNSET and old.session != pair.session:
            return None
        is_ours = old is not None and old.session == pair.session
        lock_index = (old.lock_index if old else 0) + (0 if is_ours else 1)
        return self.put(index, msgspec.structs.replace(pair, lock_index=lock_index), keep_session=False)

    def unlock(self, index: int, pair: KvPair) -> KvPair | None:
        """put() letting go of the key; None when `pair.session` does not hold it."""
        old = self._pairs.get(pair.key)
        if old is None or old.session is UNSET or old.session != pair.session:
            return None
        free = msgspec.structs.replace(pair, session=UNSET, lock_index=old.lock_index)
        return self.put(index, free, keep_session=False)

    def release(
        self, index: int, key: str, *, delay_until_s: float | None, delete: bool, now_s: float
    ) -> None:
        """What the end of the session that holds `key` does to it."""
        pair = self._pairs[key]
        if delete:
            self.delete(index, key, now_s)
        else:
            self.put(index, msgspec.structs.replace(pair, session=UNSET), keep_session=False)
        if delay_until_s is not None:
            self._lock_delays[key] = delay_until_s

    def delete(self, index: int, key: str, now_s: float) -> bool:
        """True when the key was there."""
        if key not in self._pairs:
            return False
        self._remove(key)
        self._bury(key, index, now_s)
        self.index = index
        return True

    def delete_cas(self, index: int, key: str, expected: int, now_s: float) -> bool:
        """False when the ModifyIndex is another one; True when deleted, or not there at all."""
        old = self._pairs.get(key)
        if old is None:
            return True
        return old.modify_index == expected and self.delete(index, key, now_s)

    def delete_tree(self, index: int, prefix: str, now_s: float) -> None:
        """Deletes all keys under `prefix`, leaving one tombstone, at the prefix."""
        doomed = list(self._range(self._keys, prefix))
        if not doomed:
            return
        for key in doomed:
            self._remove(key)
        if prefix:
            self._bury(prefix, index, now_s)
        self.index = index

    def reap(self, now_s: float) -> float | None:
        """Forgets tombstones past their time; returns when the next one is due, or None without any."""
        for key, (_, since_s) in list(self._tombstones.items()):
            if now_s >= since_s + TOMBSTONE_TTL_S:
                self._unbury(key)
        return min((since_s + TOMBSTONE_TTL_S for _, since_s in self._tombstones.values()), default=None)

    # Transactions

    def begin(self) -> None:
        self._journal = _Journal(index=self.index)

    def commit(self) -> None:
        self._journal = None

    def rollback(self) -> None:
        """Undoes every write since begin()."""
        journal, self._journal = self._journal, None
        if journal is None:
            return
        for key, pair in reversed(journal.pairs):
            if pair is None:
                self._remove(key)
            else:
                self._store(pair)
        for key, tombstone in reversed(journal.tombstones):
            self._unbury(key)
            if tombstone is not None:
                self._bury(key, *tombstone)
        self.index = journal.index
        self.changed.clear()

    def snapshot(self) -> KvSnapshot:
        return KvSnapshot(pairs=dict(self._pairs), tombstones=dict(self._tombstones), index=self.index)

    @classmethod
    def restored(cls, snapshot: KvSnapshot) -> "KvTable":
        """Everything as it was, the index too; lock-delays live in the leader's memory only and are lost."""
        table = cls()
        for key in sorted(snapshot.pairs):
            table._store(snapshot.pairs[key])
        for key, (index, since_s) in snapshot.tombstones.items():
            table._bury(key, index, since_s)
        table.index = snapshot.index
        table.changed.clear()
        return table

    # Storage

    def _store(self, pair: KvPair) -> None:
        old = self._pairs.get(pair.key)
        if self._journal is not None:
            self._journal.pairs.append((pair.key, old))
        if old is None:
            insort(self._keys, pair.key)
        self._pairs[pair.key] = pair
        self._hold(pair.key, old, pair)
        self.changed[pair.key] = None

    def _remove(self, key: str) -> None:
        old = self._pairs.pop(key)
        if self._journal is not None:
            self._journal.pairs.append((key, old))
        del self._keys[bisect_left(self._keys, key)]
        self._hold(key, old, None)
        self.changed[key] = None

    def _hold(self, key: str, old: KvPair | None, new: KvPair | None) -> None:
        if old and old.session is not UNSET:
            self._held[old.session].pop(key, None)
            if not self._held[old.session]:
                del self._held[old.session]
        if new and new.session is not UNSET:
            self._held.setdefault(new.session, {})[key] = None

    def _bury(self, key: str, index: int, now_s: float) -> None:
        if self._journal is not None:
            self._journal.tombstones.append((key, self._tombstones.get(key)))
        if key not in self._tombstones:
            insort(self._tombstone_keys, key)
        self._tombstones[key] = (index, now_s)

    def _unbury(self, key: str) -> None:
        if self._tombstones.pop(key, None) is not None:
            del self._tombstone_keys[bisect_left(self._tombstone_keys, key)]

    @staticmethod
    def _range(keys: list[str], prefix: str) -> Iterator[str]:
        """The keys that start with `prefix`; a copy, so that the caller may delete on the way."""
        start = bisect_left(keys, prefix)
        end = bisect_left(keys, prefix + "\U0010ffff", lo=start) if prefix else len(keys)
        yield from keys[start:end]
