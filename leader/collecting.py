"""Who removes from Consul what has no further use, and forgets nodes?

    every minute, or asked ──decide/garbage.py──> versions, ended jobs, evaluations, nodes ──> fenced deletions
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from catalog.kv import Op, delete
from leader import children, commands
from leader.children import history_of
from leader.commands import UnknownNode
from leader.decide.children import ChildRun, surplus
from leader.decide.garbage import gone_nodes, is_over, kept_ns, old_evals, old_versions
from leader.leading import Leading
from leader.status import progress_of
from model.errors import DroverError
from model.job import History, JobId
from model.node import NodeId, NodeStatus
from model.snapshot import JobKey

INTERVAL_S = 60.0
_OPS_MAX = 48
# Jobs looked at before the loop may do something else. Some 5 us each; what is let in may be 20 decisions, so that one at
# a time of 5,000 jobs took minutes while all of them were decided about (measured).
_JOBS_PER_SLICE = 100
_NONE_KEPT = History(successful=0, failed=0)


class NodeInUse(DroverError):
    """The node is not down."""


@dataclass(slots=True)
class Collecting:
    """leading.garbage, once set: now, and whatever its age."""

    leading: Leading

    async def run(self) -> None:
        await self.leading.fenced.keep_on("garbage", self._cycle)

    async def _cycle(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL_S):
                await self.leading.garbage.wait()
        is_forced = self.leading.garbage.is_set()
        self.leading.garbage.clear()
        await self.collect(is_forced=is_forced)

    async def collect(self, *, is_forced: bool) -> None:
        settings, view = self.leading.settings, self.leading.view
        now_ns = self.leading.fenced.now_ns
        job_after_ns, node_after_ns = (
            0 if is_forced else round(span_s * 1e9) for span_s in (settings.job_gc_after_s, settings.node_gc_after_s)
        )
        for number, key in enumerate(list(view.jobs)):
            if number % _JOBS_PER_SLICE == _JOBS_PER_SLICE - 1:
                await asyncio.sleep(0)
            await self._versions(key)
            job, parent = view.jobs.get(key), view.families.parent(key)
            if parent is not None and parent in view.jobs:
                continue  # goes by its parent's `history`
            after_ns = 0 if is_forced or job is None else kept_ns(job, job_after_ns)
            if job is None or after_ns is None or not is_over(job, view.allocs_by_job.get(key, {}).values(), now_ns, after_ns):
                continue
            if job.stop or all(one.is_over for one in progress_of(view, key, job).values()):
                await commands.deregister(self.leading, *key, purge=True)
        await self._children(now_ns, is_forced=is_forced)
        await self._evals(0 if is_forced else round(settings.gc_after_s * 1e9))
        view.forget_topics()
        has_allocs = {node_id for node_id, allocs in view.allocs_by_node.items() if allocs}
        for node_id in gone_nodes(view.nodes, has_allocs, now_ns, node_after_ns):
            await forget_node(self.leading, node_id)

    async def _versions(self, key: JobKey) -> None:
        view, keys = self.leading.view, self.leading.keys
        record = view.records.get(key)
        if record is None:
            return
        named = {alloc.desired.job_version for alloc in view.allocs_by_job.get(key, {}).values()}
        known = view.version_numbers(key)
        old = old_versions(known, record.document.version, record.document.stable, named)
        for start in range(0, len(old), _OPS_MAX // 2):
            part = old[start : start + _OPS_MAX // 2]
            gone = [name(*key, version) for version in part for name in (keys.version, keys.submission)]
            await self.leading.fenced.commit([delete(one) for one in gone])
            view.drop_versions(key, part)

    async def _children(self, now_ns: int, *, is_forced: bool) -> None:
        """Ended children beyond what their parents' `history` keeps, or all of them, each remembered in a line. Who dispatched one has
        the time to ask what became of it; a periodic job's nobody waits for."""
        view, keep_ns = self.leading.view, round(self.leading.settings.gc_after_s * 1e9)
        for key in view.families.parents():
            job = view.jobs.get(key)
            history = history_of(job) if job is not None else None
            if job is None or history is None:
                continue
            history = _NONE_KEPT if is_forced else history
            before_ns = now_ns if is_forced or job.periodic is not None else now_ns - keep_ns
            async with self.leading.turn(key):
                old = surplus(children.runs(view, key), history, before_ns)
                size = {run.job_id: 1 + len(view.evals_by_job.get((key[0], run.job_id), ())) for run in old}
                for part in _parts(old, size):
                    await children.remove(self.leading, key, part)

    async def _evals(self, after_ns: int) -> None:
        """Of purged jobs; those of others are bounded by their number."""
        view, keys = self.leading.view, self.leading.keys
        jobs = {*view.jobs, *(key for key, allocs in view.allocs_by_job.items() if allocs)}
        evals = (indexed.document for indexed in view.evals.values())
        old = old_evals(evals, jobs, self.leading.fenced.now_ns, after_ns)
        for start in range(0, len(old), _OPS_MAX):
            part = old[start : start + _OPS_MAX]
            await self.leading.fenced.commit([delete(keys.evaluation(eval_id)) for eval_id in part])
            for eval_id in part:
                view.drop_eval(eval_id, view.index + 1)


def _parts(runs: Sequence[ChildRun], ops: Mapping[JobId, int]) -> Iterator[list[ChildRun]]:
    """Each small enough for a transaction, of so many operations for each."""
    part: list[ChildRun] = []
    size = 0
    for run in runs:
        if part and size + ops[run.job_id] > _OPS_MAX:
            yield part
            part, size = [], 0
        part.append(run)
        size += ops[run.job_id]
    if part:
        yield part


async def purge_node(leading: Leading, node_id: NodeId) -> int:
    """An operator forgets a node that is down, with all it held. Returns Consul's index. Raises UnknownNode,
    NodeInUse."""
    node = leading.view.nodes.get(node_id)
    if node is None:
        raise UnknownNode("node not found")
    if node.control.status is not NodeStatus.DOWN:
        raise NodeInUse(f'node "{node.node.name}" is {node.control.status.value}: only a node that is down can be purged')
    return await forget_node(leading, node_id)


async def forget_node(leading: Leading, node_id: NodeId) -> int:
    """All keys of a node. What it held counts as lost; should its machine come back, it registers anew and tells of
    what still runs there."""
    keys, kv, view = leading.keys, leading.fenced.kv, leading.view
    held = list(view.allocs_by_node.get(node_id, {}).values())
    below = [*await kv.keys(keys.desired_of(node_id)), *await kv.keys(keys.observed_of(node_id))]
    ops: list[Op] = [delete(key) for key in below]
    ops += [delete(keys.inbox(node_id)), delete(keys.node(node_id)), delete(keys.control(node_id))]
    for start in range(0, len(ops), _OPS_MAX):
        await leading.fenced.commit(ops[start : start + _OPS_MAX])
    index = view.index + 1
    for alloc in held:
        view.drop_observed(alloc.desired.node_id, alloc.id)
        view.drop_alloc(alloc.id, index)
        view.mark([(alloc.desired.namespace, alloc.desired.job_id)])
    view.drop_node(node_id, index)
    return index
