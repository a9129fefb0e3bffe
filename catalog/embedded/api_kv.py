"""What do /v1/kv and /v1/txn answer?

Limits, verbs, messages and the shapes of transaction answers are 1.8.7's. A transaction with only
reading verbs answers with the query's meta data, as real Consul does; one with several faults names
them all.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET

from catalog.embedded.answers import (
    Fields,
    Refused,
    Response,
    as_json,
    go_unsigned,
    is_flagged,
    read_json,
)
from catalog.embedded.kv import MAX_VALUE_BYTES, KvPair
from catalog.embedded.reads import Link, Read, Request, answer, options_of, servers_for
from catalog.embedded.state import ConsulState
from catalog.embedded.watches import Kind, Topic

KV = "/v1/kv/"
TXN_OPS_MAX = 64  # 128 from 1.14; the smaller one is what drover must live with
TXN_BYTES_MAX = 512 * 1024  # txn_max_req_len's default, of the encoded body

_READ_VERBS = frozenset({"get", "get-tree", "check-session", "check-index", "check-not-exists"})
_WRITE_VERBS = frozenset({"set", "cas", "lock", "unlock", "delete", "delete-cas", "delete-tree"})


async def get_key(link: Link, request: Request) -> Response:
    """GET /v1/kv/<key>, with recurse, keys, separator and raw."""
    key, params = request.rest(KV), request.params
    if is_flagged(params, "keys"):
        return await answer(link, request, lambda state: _names(state, key, params.get("separator", "")))
    if is_flagged(params, "recurse"):
        return await answer(link, request, lambda state: _tree(state, key))
    if not key:
        raise Refused(400, "Missing key name")
    return await answer(link, request, lambda state: _one(state, key, is_raw=is_flagged(params, "raw")))


async def put_key(link: Link, request: Request) -> Response:
    """PUT /v1/kv/<key>, with cas, flags, acquire and release."""
    key, params = request.rest(KV), request.params
    _refuse_conflict(request, "cas", "acquire", "release")
    if not key:
        raise Refused(400, "Missing key name")
    if len(request.body) > MAX_VALUE_BYTES:
        raise _too_large(len(request.body), MAX_VALUE_BYTES, "kv_max_value_size")
    pair = KvPair(key=key, flags=go_unsigned(params.get("flags") or "0"), value=request.body or None)
    state = servers_for(link, params.get("dc", ""))
    if is_flagged(params, "cas"):
        return as_json(state.put_cas(pair, go_unsigned(params["cas"])))
    if is_flagged(params, "acquire"):
        return as_json(state.lock(msgspec.structs.replace(pair, session=params["acquire"])))
    if is_flagged(params, "release"):
        return as_json(state.unlock(msgspec.structs.replace(pair, session=params["release"])))
    state.put(pair)
    return as_json(True)


async def delete_key(link: Link, request: Request) -> Response:
    """DELETE /v1/kv/<key>, with recurse and cas."""
    key, params = request.rest(KV), request.params
    _refuse_conflict(request, "recurse", "cas")
    if not key and not is_flagged(params, "recurse"):
        raise Refused(400, "Missing key name")
    expected = go_unsigned(params["cas"]) if is_flagged(params, "cas") else None
    state = servers_for(link, params.get("dc", ""))
    if is_flagged(params, "recurse"):
        state.delete_tree(key)
    elif expected is not None:
        return as_json(state.delete_cas(key, expected))
    else:
        state.delete(key)
    return as_json(True)


def _one(state: ConsulState, key: str, *, is_raw: bool) -> Read:
    pair = state.kv.get(key)
    if pair is None:
        return Read(index=state.kv.index, topics=(Topic(Kind.ANY_KEY),), found=None, is_missing=True)
    headers = {
        "Content-Type": "text/plain",
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    raw = Response(status=200, headers=headers, body=pair.value or b"") if is_raw else None
    return Read(index=pair.modify_index, topics=(Topic(Kind.KEY, key),), found=(pair,), raw=raw)


def _tree(state: ConsulState, prefix: str) -> Read:
    pairs = state.kv.under(prefix)
    return _under(state, prefix, pairs, found=pairs, is_missing=not pairs)


def _names(state: ConsulState, prefix: str, separator: str) -> Read:
    """Names alone; the root's list may be empty, any other's not (measured)."""
    names = state.kv.names(prefix, separator)
    pairs = state.kv.under(prefix)
    return _under(state, prefix, pairs, found=names, is_missing=not pairs and bool(prefix))


def _under(state: ConsulState, prefix: str, pairs: list[KvPair], *, found: object, is_missing: bool) -> Read:
    """Without keys and tombstones below it, a prefix answers with the table's index: any write wakes it.

    Real Consul wakes it only for writes that share a node of its radix tree; which these are depends on
    the other keys, so the embedded one takes the worst case.
    """
    index = state.kv.index_of(prefix, pairs)
    is_whole_table = not prefix or (not pairs and index == state.kv.index)
    topic = Topic(Kind.ANY_KEY) if is_whole_table else Topic(Kind.PREFIX, prefix)
    return Read(index=index, topics=(topic,), found=found, is_missing=is_missing)


def _refuse_conflict(request: Request, *names: str) -> None:
    if sum(name in request.params for name in names) > 1:
        raise Refused(400, f"Conflicting flags: {urlencode(sorted(request.params.items()))}")


def _too_large(size: int, limit: int, setting: str) -> Refused:
    return Refused(
        413,
        f"Request body({size} bytes) too large, max size: {limit} bytes. "
        f"See https://www.consul.io/docs/agent/options.html#{setting}.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Op:
    verb: str
    pair: KvPair
    index: int


class _OpFailed(Exception):
    """One operation of a transaction cannot be done; the message is Consul's."""


async def transaction(link: Link, request: Request) -> Response:
    """PUT /v1/txn: all operations or none."""
    if len(request.body) > TXN_BYTES_MAX:
        raise _too_large(len(request.body), TXN_BYTES_MAX, "txn_max_req_len")
    documents = read_json(request.body, "Failed to parse body")
    if not isinstance(documents, list):
        raise Refused(
            400, "Failed to parse body: json: cannot unmarshal object into Go value of type api.TxnOps"
        )
    if len(documents) > TXN_OPS_MAX:
        raise Refused(413, f"Transaction contains too many operations ({len(documents)} > {TXN_OPS_MAX})")
    ops = [op for op in map(_read_op, documents) if op is not None]
    is_reading = not any(op.verb in _WRITE_VERBS for op in ops)
    options = options_of(request)
    state = servers_for(link, options.datacenter, is_stale=options.is_stale and is_reading)
    results, faults = _precheck(state, ops)
    if not faults:
        results, faults = _run(state, ops)
    status = 409 if faults else 200
    document: dict[str, Any] = {"Results": None if faults else results, "Errors": faults or None}
    if not is_reading:
        return as_json(document, status=status)
    document.update(Index=0, LastContact=0, KnownLeader=True, ConsistencyLevel="")
    return as_json(document, {"X-Consul-Knownleader": "true", "X-Consul-Lastcontact": "0"}, status)


def _read_op(document: object) -> _Op | None:
    """None for an empty operation, which Consul skips. Raises Refused(400)."""
    label = "Failed to parse body"
    outer = Fields(document if isinstance(document, dict) else {}, label)
    outer.only("KV", "Node", "Service", "Check")
    if any(outer.has(name) for name in ("Node", "Service", "Check")):
        raise Refused(400, "Failed to parse body: the embedded Consul's transactions hold KV operations only")
    if not outer.has("KV"):
        return None
    fields = outer.nested("KV")
    fields.only("Verb", "Key", "Value", "Flags", "Index", "Session", "Namespace")
    try:
        value = base64.b64decode(fields.text("Value"), validate=True)
    except binascii.Error as error:
        raise Refused(400, f"{label}: illegal base64 data at input byte 0") from error
    pair = KvPair(
        key=fields.text("Key"),
        flags=fields.number("Flags"),
        value=value or None,
        session=fields.text("Session") or UNSET,
    )
    return _Op(verb=fields.text("Verb"), pair=pair, index=fields.number("Index"))


def _precheck(state: ConsulState, ops: list[_Op]) -> tuple[list[Any], list[Any]]:
    """Faults that the leader sees before anything goes through raft."""
    faults: list[Any] = []
    for number, op in enumerate(ops):
        if not op.pair.key and op.verb != "delete-tree":
            faults.append(_fault(number, "Must provide key"))
        elif op.verb == "lock" and state.kv.is_delayed(op.pair.key, state.loop.time()):
            faults.append(_fault(number, f"failed to lock key {_quoted(op)} due to lock delay"))
    return [], faults


def _run(state: ConsulState, ops: list[_Op]) -> tuple[list[Any], list[Any]]:
    results: list[Any] = []
    faults: list[Any] = []
    index = state.begin()
    for number, op in enumerate(ops):
        try:
            run = _VERBS.get(op.verb)
            if run is None:
                raise _OpFailed(f'unknown KV verb "{op.verb}"')
            results.extend({"KV": pair} for pair in run(state, index, op))
        except (_OpFailed, Refused) as error:
            faults.append(_fault(number, str(error)))
    if faults:
        state.rollback()
    else:
        state.commit()
    return results, faults


def _fault(number: int, what: str) -> dict[str, Any]:
    return {"OpIndex": number, "What": what}


def _quoted(op: _Op) -> str:
    return f'"{op.pair.key}"'


def _without_value(pair: KvPair) -> list[KvPair]:
    return [msgspec.structs.replace(pair, value=None)]


def _free(op: _Op) -> KvPair:
    """A plain write carries no session, whatever the operation said."""
    return msgspec.structs.replace(op.pair, session=UNSET)


def _set(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    return _without_value(state.kv.put(index, _free(op)))


def _cas(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    stored = state.kv.put_cas(index, _free(op), op.index)
    if stored is None:
        raise _OpFailed(f"failed to set key {_quoted(op)}, index is stale")
    return _without_value(stored)


def _lock(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    state.require_session(op.pair)
    stored = state.kv.lock(index, op.pair)
    if stored is None:
        raise _OpFailed(f"failed to lock key {_quoted(op)}, lock is already held")
    return _without_value(stored)


def _unlock(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    if op.pair.session is UNSET:
        raise _OpFailed("missing session")
    stored = state.kv.unlock(index, op.pair)
    if stored is None:
        raise _OpFailed(f"failed to unlock key {_quoted(op)}, lock isn't held, or is held by another session")
    return _without_value(stored)


def _get(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    pair = state.kv.get(op.pair.key)
    if pair is None:
        raise _OpFailed(f"key {_quoted(op)} doesn't exist")
    return [pair]


def _get_tree(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    return state.kv.under(op.pair.key)


def _check_index(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    pair = state.kv.get(op.pair.key)
    if pair is None:
        raise _OpFailed(f"failed to check index, key {_quoted(op)} doesn't exist")
    if pair.modify_index != op.index:
        raise _OpFailed(
            f"failed index check for key {_quoted(op)}, current modify index {pair.modify_index} != {op.index}"
        )
    return _without_value(pair)


def _check_session(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    pair = state.kv.get(op.pair.key)
    if pair is None:
        raise _OpFailed(f"failed to check session, key {_quoted(op)} doesn't exist")
    if pair.session != op.pair.session:
        held, asked = (_session_text(session) for session in (pair.session, op.pair.session))
        raise _OpFailed(f'failed session check for key {_quoted(op)}, current session "{held}" != "{asked}"')
    return _without_value(pair)


def _session_text(session: object) -> str:
    return "" if session is UNSET else str(session)


def _check_not_exists(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    if state.kv.get(op.pair.key) is not None:
        raise _OpFailed(f"key {_quoted(op)} exists")
    return []


def _delete(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    state.kv.delete(index, op.pair.key, state.loop.time())
    return []


def _delete_cas(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    if not state.kv.delete_cas(index, op.pair.key, op.index, state.loop.time()):
        raise _OpFailed(f"failed to delete key {_quoted(op)}, index is stale")
    return []


def _delete_tree(state: ConsulState, index: int, op: _Op) -> list[KvPair]:
    state.kv.delete_tree(index, op.pair.key, state.loop.time())
    return []


_VERBS: dict[str, Callable[[ConsulState, int, _Op], list[KvPair]]] = {
    "set": _set,
    "cas": _cas,
    "lock": _lock,
    "unlock": _unlock,
    "get": _get,
    "get-tree": _get_tree,
    "check-index": _check_index,
    "check-session": _check_session,
    "check-not-exists": _check_not_exists,
    "delete": _delete,
    "delete-cas": _delete_cas,
    "delete-tree": _delete_tree,
}
