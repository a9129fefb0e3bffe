"""What does a node's agent read and write in Consul's KV?

It reads `desired/<node>/`, job versions, its `control/<node>` and the leader; it writes `observed/` and
`nodes/` of its own id, always together with its inbox: observed first and inbox last in one transaction,
the inbox compare-and-set so that names the leader has not yet consumed are never dropped.
"""

import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from catalog.keys import Keys, is_sentinel, last_segment
from catalog.kv import Kv, Op, Verb, check_at, cut, delete, put, replace
from model.alloc import AllocId, DesiredAlloc, ObservedAlloc
from model.cluster import INBOX_NAMES_MAX, NODE_FACT, Inbox, Leader
from model.errors import WriteConflict
from model.job import Job, JobId, Namespace
from model.node import Node, NodeControl, NodeId
from model.wire import decode, encode

# The leader consumes an inbox within milliseconds, so one retry is usual and five mean a real quarrel.
_INBOX_TRIES = 5


@dataclass(frozen=True, slots=True)
class DesiredView:
    """All that should run on a node, and the index to wait from. meta: the node's, as set at run time."""

    allocs: Mapping[AllocId, DesiredAlloc]
    index: int
    meta: Mapping[str, str | None] = field(default_factory=dict)


def merge_inbox(inbox: Inbox | None, names: Iterable[str], nonce: str) -> Inbox:
    """The inbox with more names; "all" once there are too many to name."""
    merged = dict.fromkeys((*(inbox.names if inbox else ()), *names))
    is_all = (inbox is not None and inbox.is_all) or len(merged) > INBOX_NAMES_MAX
    return Inbox(names=() if is_all else tuple(merged), is_all=is_all, nonce=nonce)


@dataclass(slots=True)
class AgentStore:
    kv: Kv
    keys: Keys
    rng: random.Random
    # What we believe of our inbox: its value and index; index 0 when consumed.
    _inbox: Inbox | None = None
    _inbox_index: int = 0
    # Our node document and its index: no write passes once a later process of this node has written its own, so a
    # report of a killed agent that arrives after its successor's is refused. After a write without an answer our own
    # next one changes the document: the one before may be under way still, and comes too late then.
    _node: Node | None = None
    _node_index: int = 0
    _is_doubtful: bool = False
    _turn: int = 0
    _decoded: dict[str, tuple[int, DesiredAlloc]] = field(default_factory=dict)
    # The run-time meta, and the sentinel's index at which it was read.
    _meta: Mapping[str, str | None] = field(default_factory=dict)
    _meta_index: int = 0

    async def watch_desired(self, node_id: NodeId, index: int, wait_s: float) -> DesiredView:
        """All desired documents of the node, once one changed after `index`. Raises StoreUnavailable.

        The leader moves their sentinel when it changes the node's meta, so that one watch serves for both: a second
        one would cost Consul another waiting query for each node.
        """
        listing = await self.kv.wait_prefix(self.keys.desired_of(node_id), index, wait_s)
        known, self._decoded = self._decoded, {}
        allocs: dict[AllocId, DesiredAlloc] = {}
        for entry in listing.entries:
            if is_sentinel(entry.key):
                await self._read_meta(node_id, entry.modify_index)
                continue
            before = known.get(entry.key)
            desired = (
                before[1]
                if before is not None and before[0] == entry.modify_index
                else decode(entry.value, DesiredAlloc)
            )
            self._decoded[entry.key] = (entry.modify_index, desired)
            allocs[AllocId(last_segment(entry.key))] = desired
        return DesiredView(allocs, listing.index, self._meta)

    async def _read_meta(self, node_id: NodeId, sentinel_index: int) -> None:
        if sentinel_index != self._meta_index:
            control = await self.read_control(node_id)
            self._meta, self._meta_index = control.meta if control else {}, sentinel_index

    async def read_job(self, namespace: Namespace, job_id: JobId, version: int) -> Job | None:
        """One job version; None when it is gone. Raises StoreUnavailable."""
        entry = await self.kv.get(self.keys.version(namespace, job_id, version))
        return decode(entry.value, Job) if entry else None

    async def read_control(self, node_id: NodeId) -> NodeControl | None:
        entry = await self.kv.get(self.keys.control(node_id))
        return decode(entry.value, NodeControl) if entry else None

    async def read_leader(self) -> Leader | None:
        """Who holds the lock; None when nobody does."""
        entry = await self.kv.get(self.keys.leader)
        return decode(entry.value, Leader) if entry and entry.session else None

    async def reach(self, timeout_s: float) -> None:
        """Returns when Consul's servers have answered. Raises StoreUnavailable."""
        await self.kv.get(self.keys.leader, timeout_s=timeout_s)

    async def report(self, node_id: NodeId, allocs: Sequence[ObservedAlloc], node: Node | None) -> None:
        """Writes the documents and names them in the inbox. Idempotent. Raises StoreUnavailable, WriteConflict."""
        steps: list[tuple[str, Op]] = []
        if node is not None:
            steps.append(self._node_step(node_id, node))
        for alloc in allocs:
            steps.append((alloc.id, put(self.keys.observed_alloc(node_id, alloc.id), encode(alloc))))
        await self._write(node_id, steps)

    async def delete_observed(self, node_id: NodeId, alloc_ids: Sequence[AllocId]) -> None:
        """Forgets allocs whose desired documents are gone."""
        await self._write(
            node_id, [(alloc_id, delete(self.keys.observed_alloc(node_id, alloc_id))) for alloc_id in alloc_ids]
        )

    def _node_step(self, node_id: NodeId, node: Node) -> tuple[str, Op]:
        self._turn += self._is_doubtful
        self._node = msgspec.structs.replace(node, turn=self._turn)
        return NODE_FACT, put(self.keys.node(node_id), encode(self._node))

    async def _write(self, node_id: NodeId, steps: Sequence[tuple[str, Op]]) -> None:
        if self._is_doubtful and self._node is not None and all(name != NODE_FACT for name, _ in steps):
            steps = [self._node_step(node_id, self._node), *steps]
        names = {op.key: name for name, op in steps}
        # The leader has most likely consumed what we wrote last; a wrong guess costs a conflict and a
        # read, and never drops a name.
        self._inbox, self._inbox_index = None, 0
        fullest = put(self.keys.inbox(node_id), b" " * (INBOX_NAMES_MAX * 40))
        own = Op(Verb.SET, self.keys.node(node_id), encode(self._node) if self._node else b"")
        for transaction in cut([(op,) for _, op in steps], reserve=[fullest, own, check_at(own.key, 1)]):
            await self._write_one(node_id, transaction, [names[op.key] for op in transaction])

    async def _write_one(self, node_id: NodeId, ops: list[Op], names: list[str]) -> None:
        node_key, key = self.keys.node(node_id), self.keys.inbox(node_id)
        for attempt in range(_INBOX_TRIES):
            nonce = uuid.UUID(int=self.rng.getrandbits(128), version=4).hex
            inbox = merge_inbox(self._inbox, names, nonce)
            fence = [check_at(node_key, self._node_index)] if self._node_index else []
            try:
                written = await self.kv.commit([*fence, *ops, replace(key, encode(inbox), self._inbox_index)])
            except WriteConflict:
                if attempt == _INBOX_TRIES - 1:
                    raise
                entry = await self.kv.get(key)
                self._inbox = decode(entry.value, Inbox) if entry else None
                self._inbox_index = entry.modify_index if entry else 0
                if not await self._is_node_ours(node_key) and self._node is not None and NODE_FACT not in names:
                    ops, names = [put(node_key, encode(self._node)), *ops], [NODE_FACT, *names]
            except BaseException:
                self._is_doubtful = True
                raise
            else:
                self._inbox, self._inbox_index = inbox, written[key].modify_index
                if node_key in written:
                    self._node_index = written[node_key].modify_index
                    self._is_doubtful = False
                return

    async def _is_node_ours(self, node_key: str) -> bool:
        """Looks which process of this node wrote its document last; a life before ours may have written late."""
        entry = await self.kv.get(node_key)
        self._node_index = entry.modify_index if entry else 0
        if entry is None or self._node is None:
            return False
        return decode(entry.value, Node).started_time == self._node.started_time
