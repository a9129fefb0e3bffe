"""How does the leader read all of Consul, and how are its plans written?

Reads at take-over go page by page, so that the lease is confirmed in between and nothing holds the event
loop for long: node ids are random, so the first digits of a node's id divide `desired/` and `observed/`
into pages of about equal size.
"""

import asyncio
import logging
import uuid
import zlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from catalog.keys import SENTINEL, Keys, is_sentinel, last_segment
from catalog.kv import Entry, Fence, Kv, Op, Verb, cut, delete, delete_at, put, replace
from leader.view import View
from model.alloc import AllocId, DesiredAlloc, ObservedAlloc
from model.cluster import (
    INBOX_NAMES_MAX,
    NODE_FACT,
    BrakeRelease,
    Inbox,
    IndexBase,
    JobRecord,
    Launches,
    NamespaceSpec,
    SchedulerConfiguration,
    Sentinel,
)
from model.deployment import Deployment
from model.errors import StoreUnavailable
from model.evaluation import Evaluation
from model.job import Job
from model.node import Node, NodeControl, NodeId
from model.plan import Plan
from model.snapshot import JobKey
from model.wire import decode, encode

log = logging.getLogger("drover.leader")

T = TypeVar("T")

# A page of about this many nodes; with ten allocs each it decodes in some 20 ms.
_NODES_PER_PAGE = 40
# Documents decoded before the loop may do something else.
_SLICE = 500


@dataclass(slots=True)
class LeaderStore:
    """Consul as the leader of one term sees it. Every write goes through `fence`."""

    kv: Kv
    keys: Keys
    fence: Fence

    # -- reading

    async def load(self, view: View) -> None:
        """Reads everything into an empty view. Raises StoreUnavailable."""
        base = await self.kv.get(self.keys.index_base)
        view.index_base = decode(base.value, IndexBase).base if base else 0
        release = await self.kv.get(self.keys.brake)
        view.released = decode(release.value, BrakeRelease) if release else BrakeRelease()
        scheduler = await self.kv.get(self.keys.scheduler)
        if scheduler is not None:
            view.put_scheduler(decode(scheduler.value, SchedulerConfiguration), scheduler.create_index, scheduler.modify_index)
        async for entry in self._all(self.keys.namespaces):
            view.put_namespace(decode(entry.value, NamespaceSpec), entry.create_index, entry.modify_index)
        async for entry in self._all(self.keys.versions):
            view.put_version(decode(entry.value, Job), entry.create_index, entry.modify_index)
        async for entry in self._all(self.keys.jobs):
            view.put_record(decode(entry.value, JobRecord), entry.create_index, entry.modify_index)
        nodes = 0
        async for entry in self._all(self.keys.nodes):
            # One that cannot be read is a node all the same: what runs there counts, and nothing new is placed there.
            node = self._node_in(entry) or Node(id=NodeId(last_segment(entry.key)), name="", datacenter="")
            view.put_node(node, entry.modify_index)
            nodes += 1
        async for entry in self._all(self.keys.controls):
            view.put_control(decode(entry.value, NodeControl), entry.modify_index)
        async for entry in self._all(self.keys.evals):
            view.put_eval(decode(entry.value, Evaluation), entry.create_index, entry.modify_index)
        async for entry in self._all(self.keys.deployments):
            view.put_deployment(decode(entry.value, Deployment), entry.create_index, entry.modify_index)
        async for entry in self._all(self.keys.launches):
            view.put_launches(decode(entry.value, Launches), entry.create_index, entry.modify_index)
        for page in pages(nodes):
            async for entry in self._all(self.keys.observed + page):
                if (observed := self._observed_in(entry)) is not None:
                    view.put_observed(observed, entry.modify_index)
            async for entry in self._all(self.keys.desired + page):
                view.put_desired(decode(entry.value, DesiredAlloc), entry.create_index, entry.modify_index)

    async def read_facts(self, view: View, node_id: NodeId, inbox: Inbox) -> None:
        """Reads just what the inbox names (or all of the node) into the view. Raises StoreUnavailable."""
        if inbox.is_all or len(inbox.names) > INBOX_NAMES_MAX:
            await self._read_node(view, node_id)
            alive: set[str] = set()
            async for entry in self._all(self.keys.observed_of(node_id)):
                if (observed := self._observed_in(entry)) is not None:
                    view.put_observed(observed, entry.modify_index)
                alive.add(last_segment(entry.key))
            for alloc_id in [a for a in view.allocs_by_node.get(node_id, {}) if a not in alive]:
                view.drop_observed(node_id, alloc_id)
            return
        if NODE_FACT in inbox.names:
            await self._read_node(view, node_id)
        ids = [AllocId(name) for name in inbox.names if name != NODE_FACT]
        found = await self.kv.read_many([self.keys.observed_alloc(node_id, alloc_id) for alloc_id in ids])
        for alloc_id in ids:
            fact = found.get(self.keys.observed_alloc(node_id, alloc_id))
            if fact is None:
                view.drop_observed(node_id, alloc_id)
            elif (observed := self._observed_in(fact)) is not None:
                view.put_observed(observed, fact.modify_index)

    async def _read_node(self, view: View, node_id: NodeId) -> None:
        entry = await self.kv.get(self.keys.node(node_id))
        node = self._node_in(entry) if entry is not None else None
        if entry is None or node is None:
            return
        view.put_node(node, entry.modify_index)
        control = await self.kv.get(self.keys.control(node_id))
        if control is not None:
            view.put_control(decode(control.value, NodeControl), control.modify_index)

    async def reread(self, view: View, node_ids: Sequence[NodeId], job_keys: Sequence[JobKey]) -> None:
        """After a write whose result is unclear: what Consul really holds of these nodes and jobs. Other writes go on
        meanwhile: what they put into the view is newer than what is read here, and stays."""
        for node_id in node_ids:
            await self._read_node(view, node_id)
            before = dict(view.allocs_by_node.get(node_id, {}))
            async for entry in self._all(self.keys.desired_of(node_id)):
                desired = decode(entry.value, DesiredAlloc)
                known, was = view.allocs.get(desired.id), before.pop(desired.id, None)
                is_as_before = known is not None and was is not None and known.desired_index == was.desired_index
                if known is None or is_as_before or known.desired_index <= entry.modify_index:
                    view.put_desired(desired, entry.create_index, entry.modify_index)
            for alloc_id, alloc in before.items():
                known = view.allocs.get(alloc_id)
                if known is not None and known.desired_index == alloc.desired_index:
                    view.drop_alloc(alloc_id, view.index)
        for key in job_keys:
            await self._reread_job(view, key)

    async def reread_launches(self, view: View, key: JobKey) -> None:
        """What Consul really holds of what a job started. Raises StoreUnavailable."""
        entry = await self.kv.get(self.keys.launches_of(*key))
        if entry is None:
            view.drop_launches(key)
        else:
            view.put_launches(decode(entry.value, Launches), entry.create_index, entry.modify_index)

    async def _reread_job(self, view: View, key: JobKey) -> None:
        known, deployments = view.records.get(key), dict(view.deployments_by_job.get(key, {}))
        # The record before the versions, so that the one it names is among them. Versions without a record are what a
        # purge left, or of a submission whose answer is still to come: not known here, they are not cleared away.
        record = await self.kv.get(self.keys.job(*key))
        if record is not None:
            async for entry in self._all(self.keys.job_versions(*key)):
                view.put_version(decode(entry.value, Job), entry.create_index, entry.modify_index)
        async for entry in self._all(self.keys.job_deployments(*key)):
            deployment = decode(entry.value, Deployment)
            indexed = view.deployments.get(deployment.id)
            if indexed is None or indexed.modify_index <= entry.modify_index:
                view.put_deployment(deployment, entry.create_index, entry.modify_index)
            deployments.pop(deployment.id, None)
        for deployment_id, indexed in deployments.items():
            if view.deployments.get(deployment_id) is indexed:
                view.drop_deployment(deployment_id, view.index)
        if view.records.get(key) is not known:
            return  # submitted or purged meanwhile
        if record is not None:
            document = decode(record.value, JobRecord)
            if (key, document.version) not in view.versions:
                raise StoreUnavailable(f"job {key[1]} changed while it was read")  # purged meanwhile: read again
            view.put_record(document, record.create_index, record.modify_index)
        elif known is not None:
            view.drop_job(key, view.index)

    # What agents write: one's bad document costs that node alone, and speaks for no other one.

    def inbox_in(self, entry: Entry) -> Inbox:
        """Of one that cannot be read: look at everything."""
        return _decoded(entry, Inbox) or Inbox(is_all=True)

    def _node_in(self, entry: Entry) -> Node | None:
        node = _decoded(entry, Node)
        return node if node is not None and _is_of(entry, self.keys.node(node.id)) else None

    def _observed_in(self, entry: Entry) -> ObservedAlloc | None:
        observed = _decoded(entry, ObservedAlloc)
        if observed is None or not _is_of(entry, self.keys.observed_alloc(observed.node_id, observed.id)):
            return None
        orphan = observed.orphan
        if orphan is not None and (orphan.node_id, orphan.id) != (observed.node_id, observed.id):
            log.error("%s: its orphan is another's; not heeded", entry.key)
            return None
        return observed

    async def _all(self, prefix: str) -> AsyncIterator[Entry]:
        listing = await self.kv.list(prefix)
        for number, entry in enumerate(listing.entries):
            if number % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            if not is_sentinel(entry.key):
                yield entry

    # -- writing

    def sentinel(self, prefix: str, nonce: str) -> Op:
        return put(prefix + SENTINEL, encode(Sentinel(nonce=nonce)))

    def consume(self, consumed: Sequence[tuple[NodeId, int]], nonce: str) -> list[Op]:
        """Deletes inboxes at the index at which they were read."""
        ops = [delete_at(self.keys.inbox(node_id), index) for node_id, index in consumed]
        return [*ops, self.sentinel(self.keys.inboxes, nonce)]

    def steps(self, plan: Plan, view: View) -> list[list[Op]]:
        """The plan's writes in their order: changed (stopped) allocs, new ones, each with the stops of what it
        replaces or pushes away, deletions with their sentinel."""
        stops = {alloc.id: alloc for alloc in plan.change if alloc.is_stopping}
        going = {
            alloc.id: [stops[a] for a in (alloc.previous_allocation, *alloc.preempted_allocations) if a in stops]
            for alloc in plan.place
        }
        paired = {stop.id for of_one in going.values() for stop in of_one}
        steps = [[self.desired_op(alloc, view)] for alloc in plan.change if alloc.id not in paired]
        for alloc in plan.place:
            steps.append([self.desired_op(one, view) for one in (*going[alloc.id], alloc)])
        for alloc_id in plan.forget:
            node_id = view.allocs[alloc_id].desired.node_id
            steps.append(
                [
                    delete(self.keys.desired_alloc(node_id, alloc_id)),
                    self.sentinel(self.keys.desired_of(node_id), uuid.uuid5(uuid.NAMESPACE_OID, alloc_id).hex),
                ]
            )
        return steps

    def desired_op(self, alloc: DesiredAlloc, view: View) -> Op:
        """Only over what it was decided by: nobody else writes it, but a snapshot that is restored into a running Consul
        takes away what the view still has, and a stop written then would end what is to run on."""
        known = view.allocs.get(alloc.id)
        return replace(self.keys.desired_alloc(alloc.node_id, alloc.id), encode(alloc), known.desired_index if known else 0)

    def transactions(self, steps: Sequence[Sequence[Op]]) -> list[list[Op]]:
        """What two of the steps write of one key is written once, as the later one says: over what the first one wrote
        the second would be refused."""
        last = {op.key: op for step in steps for op in step if op.verb is Verb.CAS}
        steps = [[op for op in step if last.get(op.key, op) is op] for step in steps]
        return cut([step for step in steps if step], reserve=self.fence.ops)


def _decoded(entry: Entry, kind: type[T]) -> T | None:
    try:
        return decode(entry.value, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, zlib.error) as error:
        log.error("%s cannot be read and is passed over: %s", entry.key, error)
        return None


def _is_of(entry: Entry, key: str) -> bool:
    if entry.key != key:
        log.error("%s speaks of %s; not heeded", entry.key, key)
    return entry.key == key


def pages(nodes: int) -> list[str]:
    """Prefixes of node ids that divide so many nodes into pages; one empty prefix for a small cluster."""
    digits = 0
    while nodes / 16**digits > _NODES_PER_PAGE and digits < 3:
        digits += 1
    return [f"{number:0{digits}x}" for number in range(16**digits)] if digits else [""]
