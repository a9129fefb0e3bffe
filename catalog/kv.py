"""How is Consul's KV read and written?

Typed reads (one key, a prefix, many keys at once), blocking reads, and atomic transactions with an
optional fence. Transactions obey Consul's limits: 64 operations and 512 KiB of encoded body
(measured on 1.8.7; later versions allow more operations, none allows fewer).
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from catalog.transport import Response, Transport, checked
from model.errors import SessionLost, StoreForbidden, StoreRefused, StoreUnavailable, WriteConflict

TXN_OPS_MAX = 64
TXN_BYTES_MAX = 512 * 1024
VALUE_BYTES_MAX = 512 * 1024
# A value above this is deflated: job documents with large templates shrink five- to tenfold.
COMPRESS_ABOVE = 64 * 1024
# What one operation costs in the encoded body besides key and value: braces, names, verb, index.
_OP_OVERHEAD = 160
# A blocking query may last wait + wait/16 in Consul; a little more covers the way there and back.
BLOCKING_MARGIN_S = 5.0


class Verb(StrEnum):
    SET = "set"
    CAS = "cas"
    LOCK = "lock"
    UNLOCK = "unlock"
    DELETE = "delete"
    DELETE_CAS = "delete-cas"
    CHECK_SESSION = "check-session"
    CHECK_INDEX = "check-index"
    GET_TREE = "get-tree"


class Op(msgspec.Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """One operation of a transaction, as Consul's /v1/txn reads it (value: base64 on the wire)."""

    verb: Verb
    key: str
    value: bytes | None = None
    index: int = 0
    session: str = ""

    @property
    def size(self) -> int:
        """Upper bound of this operation's share of the encoded body, in bytes."""
        return _OP_OVERHEAD + len(self.key) * 2 + (len(self.value or b"") * 4 + 2) // 3


def put(key: str, value: bytes) -> Op:
    return Op(Verb.SET, key, pack(value, key))


def create(key: str, value: bytes) -> Op:
    """Writes only if the key does not exist (`cas` with index 0)."""
    return Op(Verb.CAS, key, pack(value, key))


def replace(key: str, value: bytes, index: int) -> Op:
    """Writes only if the key is still at `index` (0: must not exist)."""
    return Op(Verb.CAS, key, pack(value, key), index)


def delete(key: str) -> Op:
    return Op(Verb.DELETE, key)


def delete_at(key: str, index: int) -> Op:
    """Deletes only if the key is still at `index`."""
    return Op(Verb.DELETE_CAS, key, index=index)


def check_at(key: str, index: int) -> Op:
    """Writes nothing; refuses its transaction unless the key is still at `index`."""
    return Op(Verb.CHECK_INDEX, key, index=index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """First operations of every leader write: refused unless this session still holds the leader key and the turn
    key is still at `turn`. Whoever got no answer raises the turn: what is still on its way comes too late then."""

    key: str
    session: str
    turn_key: str
    turn: int

    @property
    def ops(self) -> tuple[Op, Op]:
        return (
            Op(Verb.CHECK_SESSION, self.key, session=self.session),
            check_at(self.turn_key, self.turn),
        )


class Entry(msgspec.Struct, frozen=True, rename="pascal"):
    """One key as Consul returns it. `raw` may be deflated: read `value`."""

    key: str
    raw: bytes | None = msgspec.field(name="Value", default=None)
    create_index: int = 0
    modify_index: int = 0
    session: str = ""

    @property
    def value(self) -> bytes:
        return unpack(self.raw or b"")


@dataclass(frozen=True, slots=True)
class Listing:
    """All keys under a prefix, sorted by key, and the prefix's index."""

    entries: tuple[Entry, ...]
    index: int


class _TxnOp(msgspec.Struct, rename={"kv": "KV"}):
    kv: Op


class _TxnResult(msgspec.Struct, rename={"kv": "KV"}):
    kv: Entry | None = None


class _TxnError(msgspec.Struct, rename="pascal"):
    op_index: int = 0
    what: str = ""


class _TxnAnswer(msgspec.Struct, rename="pascal"):
    results: list[_TxnResult] | None = None
    errors: list[_TxnError] | None = None


_encode_ops = msgspec.json.Encoder().encode
_decode_entries = msgspec.json.Decoder(tuple[Entry, ...]).decode
_decode_txn = msgspec.json.Decoder(_TxnAnswer).decode
_decode_keys = msgspec.json.Decoder(tuple[str, ...]).decode


def pack(value: bytes, key: str) -> bytes:
    """The value as stored. Raises StoreRefused with size and limit when it is too large even deflated."""
    packed = zlib.compress(value, 6) if len(value) > COMPRESS_ABOVE else value
    # A value alone in its transaction still has to fit the body, base64 and all.
    if len(packed) > VALUE_BYTES_MAX or Op(Verb.SET, key, packed).size > TXN_BYTES_MAX - 1024:
        raise StoreRefused(
            f"{key}: {len(packed)} bytes do not fit into Consul (limit about {TXN_BYTES_MAX * 3 // 4} bytes a value)"
        )
    return packed


def unpack(value: bytes) -> bytes:
    # zlib's header; every document of drover is JSON and starts with `{`.
    return zlib.decompress(value) if value[:1] == b"\x78" else value


def cut(steps: Iterable[Sequence[Op]], *, reserve: Sequence[Op] = ()) -> list[list[Op]]:
    """Packs steps into transactions, in order; a step (what must be written together) is never divided.

    reserve: operations that the caller adds to every transaction (the fence, the inbox).
    Raises StoreRefused when one step alone is too large.
    """
    ops_max = TXN_OPS_MAX - len(reserve)
    bytes_max = TXN_BYTES_MAX - sum(op.size for op in reserve) - 64
    transactions: list[list[Op]] = []
    current: list[Op] = []
    size = 0
    for step in steps:
        step_size = sum(op.size for op in step)
        if len(step) > ops_max or step_size > bytes_max:
            raise StoreRefused(
                f"one transaction would need {len(step)} operations and {step_size} bytes (limit {ops_max} and {bytes_max})"
            )
        if current and (len(current) + len(step) > ops_max or size + step_size > bytes_max):
            transactions.append(current)
            current, size = [], 0
        current.extend(step)
        size += step_size
    if current:
        transactions.append(current)
    return transactions


class Kv:
    """Consul's KV through one agent. `dc`: the home datacenter when it is not the agent's own."""

    def __init__(self, transport: Transport, *, dc: str = "") -> None:
        self._transport = transport
        self._dc = {"dc": dc} if dc else {}

    async def get(self, key: str, *, timeout_s: float = 10.0) -> Entry | None:
        """The key, read consistently; None when it does not exist."""
        entries, _ = await self._read(key, {"consistent": ""}, timeout_s)
        return entries[0] if entries else None

    async def wait(self, key: str, index: int, wait_s: float) -> tuple[Entry | None, int]:
        """The key once it changed after `index`, or as it is after `wait_s`; and its index."""
        entries, new = await self._wait(key, {}, index, wait_s)
        return (entries[0] if entries else None), new

    async def list(self, prefix: str, *, timeout_s: float = 60.0) -> Listing:
        """Everything under the prefix, read consistently."""
        return Listing(*await self._read(prefix, {"recurse": "", "consistent": ""}, timeout_s))

    @asynccontextmanager
    async def export(self, prefix: str, *, timeout_s: float = 600.0) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """Everything under the prefix as of one moment: its index, and Consul's JSON in pieces."""
        params = {"recurse": "", "consistent": "", **self._dc}
        async with self._transport.stream(f"/v1/kv/{prefix}", params=params, timeout_s=timeout_s) as (answer, pieces):
            checked(answer, f"listing {prefix}")
            yield answer.index, pieces

    async def wait_prefix(self, prefix: str, index: int, wait_s: float) -> Listing:
        """Everything under the prefix once something there changed after `index`, or after `wait_s`."""
        return Listing(*await self._wait(prefix, {"recurse": ""}, index, wait_s))

    async def keys(self, prefix: str, *, separator: str = "", timeout_s: float = 60.0) -> tuple[str, ...]:
        """The key names under the prefix; with a separator only up to it, as folders."""
        params = {"keys": "", "consistent": "", **({"separator": separator} if separator else {}), **self._dc}
        response = await self._transport.request("GET", f"/v1/kv/{prefix}", params=params, timeout_s=timeout_s)
        if response.status == 404:
            return ()
        return _decode_keys(checked(response, f"listing {prefix}").body)

    async def read_many(self, keys: Sequence[str], *, timeout_s: float = 10.0) -> dict[str, Entry]:
        """The keys that exist among `keys`, read consistently, 64 at a time.

        Uses get-tree, for a `get` of a missing key fails its whole transaction; so no key may be
        another's prefix (ids of one length never are).
        """
        found: dict[str, Entry] = {}
        for start in range(0, len(keys), TXN_OPS_MAX):
            ops = [_TxnOp(Op(Verb.GET_TREE, key)) for key in keys[start : start + TXN_OPS_MAX]]
            response = await self._transport.request(
                "PUT",
                "/v1/txn",
                params={"consistent": "", **self._dc},
                body=_encode_ops(ops),
                timeout_s=timeout_s,
            )
            for result in _decode_txn(checked(response, "a read").body).results or ():
                if result.kv is not None:
                    found[result.kv.key] = result.kv
        return found

    async def commit(
        self, ops: Sequence[Op], *, fence: Fence | None = None, timeout_s: float = 10.0
    ) -> dict[str, Entry]:
        """Writes all or nothing; returns {key: entry with its new indexes, without value} of what was written.

        Raises SessionLost when the fence refused, StoreUnavailable when its turn was over (nothing was written),
        WriteConflict when a compare-and-set or lock lost,
        StoreRefused when Consul will never take it, StoreUnclear when nobody knows.
        """
        wire = [_TxnOp(op) for op in fence.ops] if fence else []
        wire.extend(_TxnOp(op) for op in ops)
        response = await self._transport.request(
            "PUT", "/v1/txn", params=self._dc, body=_encode_ops(wire), timeout_s=timeout_s
        )
        if response.status == 409:
            raise self._conflict(response, fence, ops)
        answer = _decode_txn(checked(response, f"a write of {len(ops)} keys").body)
        return {r.kv.key: r.kv for r in answer.results or () if r.kv is not None}

    async def remove_tree(self, prefix: str, *, timeout_s: float = 10.0) -> None:
        """Removes every key that begins so, unfenced: only for a root that nobody else writes below."""
        response = await self._transport.request(
            "DELETE", f"/v1/kv/{prefix}", params={"recurse": "", **self._dc}, timeout_s=timeout_s
        )
        checked(response, f"the removal of {prefix}")

    def _conflict(self, response: Response, fence: Fence | None, ops: Sequence[Op]) -> Exception:
        errors = _decode_txn(response.body).errors or [_TxnError(what=response.text[:200])]
        first = errors[0]
        if first.what == "Permission denied":
            return StoreForbidden(f"Consul refused a write of {len(ops)} keys: {first.what}")
        if fence and first.op_index == 0:
            return SessionLost(f"the leader's session no longer holds the lock: {first.what}")
        if fence and first.op_index == 1:
            return StoreUnavailable(f"sent in a turn that is over, and not written: {first.what}")
        at = first.op_index - (len(fence.ops) if fence else 0)
        key = ops[at].key if 0 <= at < len(ops) else "?"
        return WriteConflict(f"{key}: {first.what}")

    def _blocking(self, index: int, wait_s: float) -> dict[str, str]:
        return {"index": str(index), "wait": f"{max(1, round(wait_s * 1000))}ms"} if index else {}

    async def _wait(self, path: str, params: dict[str, str], index: int, wait_s: float) -> tuple[tuple[Entry, ...], int]:
        """A blocking read. When a snapshot is restored Consul gives up those under way: each is answered at once with
        what was, at the very index that was asked for, and asked again with it would block though everything is
        another (measured, 1.8.7). So one that is early and without news is read once more, without waiting."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        found = await self._read(path, params | self._blocking(index, wait_s), wait_s * 17 / 16 + BLOCKING_MARGIN_S)
        if found[1] == index and loop.time() < until_s:
            return await self._read(path, params | {"consistent": ""}, 60.0)
        return found

    async def _read(self, path: str, params: dict[str, str], timeout_s: float) -> tuple[tuple[Entry, ...], int]:
        response = await self._transport.request(
            "GET", f"/v1/kv/{path}", params={**params, **self._dc}, timeout_s=timeout_s
        )
        if response.status == 404:
            return (), response.index
        if not (body := checked(response, f"reading {path}").body):
            raise StoreUnavailable(f"Consul: GET {path}: empty answer")
        return _decode_entries(body), response.index


def next_index(asked: int, got: int) -> int:
    """The index for the next blocking read: 0 (read everything again) when Consul's index went back."""
    return 0 if got < asked else max(1, got)


async def pause(rng_value: float, base_s: float = 0.5) -> None:
    """Waits between retries, jittered: base_s * (1 .. 2)."""
    await asyncio.sleep(base_s * (1.0 + rng_value))
