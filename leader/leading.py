"""What does a leader do while it leads?

    inbox, health, timer, API command ──mark jobs──> observe (the View) ─> decide (pure) ─> apply (fenced)

One Leading is one term: it begins with an empty view, reads all of Consul, and ends with the lease.
Everything is level-triggered; whatever is interrupted is found again by the next leader.

    lead()
     ├─ confirm   moves the lease's deadline
     ├─ inboxes   reads the facts that agents name
     ├─ health    who is heard
     ├─ lives     ready, suspect, lost
     └─ decide    jobs to which something happened
"""

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from catalog.client import Client
from catalog.keys import Keys, is_sentinel, last_segment
from catalog.kv import Kv, Op, delete, next_index, pause, put
from catalog.lease import CONFIRMS_PER_TTL, Lease, Term
from leader.decide.nodes import heartbeat_ttl_ns, judge, lost_at_s
from leader.decide.place import FeasibleCache, fitting_nodes, place
from leader.decide.reconcile import reconcile
from leader.health import NodeHealth
from leader.store import LeaderStore
from leader.view import View
from model.alloc import AllocId, DesiredAlloc, EvalId
from model.cluster import Inbox
from model.errors import SessionLost, StoreRefused, StoreUnavailable, WriteConflict
from model.evaluation import EvalStatus, Evaluation, PlacementMetric
from model.job import Job
from model.node import Node, NodeControl, NodeId
from model.plan import Placed, Plan, Reconciled
from model.snapshot import JobKey, Life, Reach, Settings
from model.wire import decode, encode

log = logging.getLogger("drover.leader")

# Operations gathered from several jobs before a transaction is sent; below Consul's 64 with the fence.
_GATHER_OPS = 48
# Evaluations kept per job: what `job status` and `eval list` show.
_EVALS_PER_JOB = 10
_INBOX_WAIT_S = 60.0
# How often the lives of nodes are judged while one of them is not heard.
_LIVES_S = 0.5
# Agents asked at once whether they still answer.
_PROBES = 50

Probe = Callable[[Node], Awaitable[bool]]


@dataclass(slots=True, kw_only=True)
class Leading:
    """One term of leadership. `probe` calls an agent's own address and says whether it answered."""

    client: Client
    kv: Kv
    keys: Keys
    lease: Lease
    term: Term
    settings: Settings
    now: Callable[[], datetime]
    rng: random.Random
    probe: Probe
    view: View = field(default_factory=View)
    is_ready: bool = False
    _store: LeaderStore = field(init=False)
    _cache: FeasibleCache = field(default_factory=FeasibleCache)
    _asked: dict[JobKey, list[Evaluation]] = field(default_factory=dict)
    _blocked: dict[JobKey, Evaluation] = field(default_factory=dict)
    _wake_at: dict[JobKey, int] = field(default_factory=dict)
    _force_gc: bool = False

    def __post_init__(self) -> None:
        self._store = LeaderStore(self.kv, self.keys, self.term.fence)

    @property
    def now_ns(self) -> int:
        return round(self.now().timestamp() * 1e9)

    def new_id(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))

    # -- the term

    async def lead(self) -> None:
        """Leads until the lease is lost. Raises SessionLost then; never returns."""
        try:
            async with asyncio.timeout_at(self.lease.deadline_s) as scope, asyncio.TaskGroup() as tasks:
                tasks.create_task(self._confirm(scope), name="leader confirm")
                await self._load()
                tasks.create_task(self._inboxes(), name="leader inboxes")
                tasks.create_task(NodeHealth(self.client, self.view, self.rng).run(), name="leader health")
                tasks.create_task(self._lives(), name="leader lives")
                tasks.create_task(self._decide(), name="leader decide")
        except TimeoutError as error:
            raise SessionLost("the lease's deadline passed without a confirmation") from error
        except BaseExceptionGroup as group:
            lost, rest = group.split(SessionLost)
            if lost is None or rest is not None:
                raise
            raise SessionLost(str(_first(lost))) from group
        finally:
            self.is_ready = False

    async def _confirm(self, scope: asyncio.Timeout) -> None:
        while True:
            scope.reschedule(self.lease.deadline_s)
            await asyncio.sleep(self.lease.candidate.ttl_s / CONFIRMS_PER_TTL)
            try:
                await self.lease.confirm()
            except (StoreUnavailable, StoreRefused) as error:
                log.debug("the lease could not be confirmed: %s", error)

    async def _load(self) -> None:
        while True:
            try:
                await self._store.load(self.view)
                await NodeHealth(self.client, self.view, self.rng).read_all()
                break
            except StoreUnavailable as error:
                log.warning("take-over: %s; reading again", error)
                self.view = View()
                await pause(self.rng.random())
        await self._commit([self._store.sentinel(self.keys.inboxes, self.new_id())])
        for key, evals in self.view.evals_by_job.items():
            for indexed in evals.values():
                if indexed.document.status is EvalStatus.PENDING:
                    self._asked.setdefault(key, []).append(indexed.document)
                elif indexed.document.status is EvalStatus.BLOCKED:
                    self._blocked[key] = indexed.document
        # Purged jobs whose allocs still run have no record, so both maps are needed.
        self.view.mark([*self.view.jobs, *self.view.allocs_by_job])
        self.is_ready = True
        log.info(
            "leading in epoch %d: %d jobs, %d allocs, %d nodes",
            self.term.epoch, len(self.view.jobs), len(self.view.allocs), len(self.view.nodes),
        )

    # -- writing

    async def _commit(self, ops: Sequence[Op]) -> dict[str, tuple[int, int]]:
        """One fenced transaction; returns {key: (create index, modify index)}. Counts as a renewal."""
        sent_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(self.lease.deadline_s):
                written = await self.kv.commit(ops, fence=self.term.fence)
        except TimeoutError as error:
            raise SessionLost("the lease's deadline passed during a write") from error
        self.lease.extend(sent_s)
        return {key: (entry.create_index, entry.modify_index) for key, entry in written.items()}

    async def write(self, ops: Sequence[Op]) -> dict[str, tuple[int, int]]:
        """A command's transaction: see _commit. Raises SessionLost, WriteConflict, StoreRefused, StoreUnavailable."""
        return await self._commit(ops)

    def asked(self, evaluation: Evaluation) -> None:
        """A command's evaluation was written: it is answered by the next decision about its job."""
        key = (evaluation.namespace, evaluation.job_id)
        self._asked.setdefault(key, []).append(evaluation)
        self.view.mark([key])

    def collect_garbage(self) -> None:
        """Ended allocs go now instead of after gc_after_s."""
        self._force_gc = True
        self.view.mark([*self.view.jobs, *self.view.allocs_by_job])

    # -- inboxes

    async def _inboxes(self) -> None:
        index = 0
        while True:
            try:
                listing = await self.kv.wait_prefix(self.keys.inboxes, index, _INBOX_WAIT_S)
                index = next_index(index, listing.index)
                consumed: list[tuple[NodeId, int]] = []
                for entry in listing.entries:
                    if is_sentinel(entry.key):
                        continue
                    node_id = NodeId(last_segment(entry.key))
                    await self._store.read_facts(self.view, node_id, decode(entry.value, Inbox))
                    consumed.append((node_id, entry.modify_index))
                for start in range(0, len(consumed), _GATHER_OPS):
                    await self._consume(consumed[start : start + _GATHER_OPS])
            except (StoreUnavailable, StoreRefused) as error:
                log.debug("inboxes: %s", error)
                index = 0
                await pause(self.rng.random())

    async def _consume(self, consumed: Sequence[tuple[NodeId, int]]) -> None:
        try:
            await self._commit(self._store.consume(consumed, self.new_id()))
        except WriteConflict:
            # Somebody added names meanwhile; the watch shows them, the rest is deleted one by one.
            if len(consumed) > 1:
                for one in consumed:
                    await self._consume([one])

    # -- nodes

    async def _lives(self) -> None:
        while True:
            self.view.nodes_changed.clear()
            is_waiting = await self._judge_nodes()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LIVES_S if is_waiting else None):
                    await self.view.nodes_changed.wait()

    async def _judge_nodes(self) -> bool:
        """Writes what changed about nodes; returns whether one of them is running out of time."""
        now_s = asyncio.get_running_loop().time()
        moment = self.now()
        ttl = heartbeat_ttl_ns(len(self.view.nodes), self.settings)
        changed: list[NodeControl] = []
        silent = [n for n in self.view.nodes.values() if n.reach is Reach.SILENT and n.life is not Life.LOST]
        answering = await self._probe_all(
            [n.node for n in silent if now_s >= lost_at_s(n, self.settings, is_answering=False)]
        )
        for node_id in sorted(self.view.nodes):
            node = self.view.nodes[node_id]
            control = judge(
                node,
                now_s=now_s,
                now_ns=self.now_ns,
                stamp=moment.astimezone(UTC).isoformat(),
                settings=self.settings,
                is_answering=node_id in answering,
            )
            if control is None and node.control.heartbeat_ttl == ttl and node.control.epoch:
                continue
            control = msgspec.structs.replace(
                control or node.control, heartbeat_ttl=ttl, epoch=self.term.epoch
            )
            changed.append(control)
        for start in range(0, len(changed), _GATHER_OPS // 2):
            await self._write_controls(changed[start : start + _GATHER_OPS // 2])
        return bool(silent)

    async def _probe_all(self, nodes: Sequence[Node]) -> set[NodeId]:
        """Which of these nodes' agents answer a direct call although gossip lost them."""
        answering: set[NodeId] = set()
        gate = asyncio.Semaphore(_PROBES)

        async def ask(node: Node) -> None:
            async with gate:
                if await self.probe(node):
                    answering.add(node.id)

        async with asyncio.TaskGroup() as tasks:
            for node in nodes:
                tasks.create_task(ask(node), name=f"probe {node.name}")
        return answering

    async def _write_controls(self, controls: Sequence[NodeControl]) -> None:
        ops: list[Op] = []
        for control in controls:
            ops.append(put(self.keys.control(control.node_id), encode(control)))
            if not self.view.nodes[control.node_id].control.epoch:
                # First seen: the agent's watch must never find an empty prefix.
                ops.append(self._store.sentinel(self.keys.desired_of(control.node_id), self.new_id()))
        try:
            written = await self._commit(ops)
        except (StoreUnavailable, StoreRefused) as error:
            log.warning("node status not written: %s", error)
            return
        for control in controls:
            self.view.put_control(control, written[self.keys.control(control.node_id)][1])
            log.info("node %s is %s", control.node_id, control.status)

    # -- jobs

    async def _decide(self) -> None:
        while True:
            await self._wait_for_work()
            keys = sorted(self.view.dirty)
            self.view.dirty.clear()
            gather: list[_Decided] = []
            for number, key in enumerate(keys):
                decided = self._decide_job(key)
                gather.append(decided)
                if sum(d.size for d in gather) >= _GATHER_OPS:
                    await self._apply(gather)
                    gather = []
                elif number % 20 == 19:
                    await asyncio.sleep(0)
            await self._apply(gather)
            self._force_gc = False

    async def _wait_for_work(self) -> None:
        soonest = min(self._wake_at.values(), default=None)
        wait_s = None if soonest is None else max(0.0, (soonest - self.now_ns) / 1e9)
        try:
            async with asyncio.timeout(wait_s):
                await self.view.wake.wait()
        except TimeoutError:
            pass
        self.view.wake.clear()
        now_ns = self.now_ns
        self.view.mark([key for key, at_ns in self._wake_at.items() if at_ns <= now_ns])
        self.view.wake.clear()

    def _decide_job(self, key: JobKey) -> "_Decided":
        """Observe and decide for one job; no await, so the view stands still."""
        view = self.view
        job = view.jobs.get(key)
        now_ns = self.now_ns
        fits = (
            {g.name: fitting_nodes(view.table, self._cache, job, g) for g in job.task_groups}
            if job and job.is_system and not job.stop
            else None
        )
        needed = reconcile(
            job,
            view.allocs_by_job.get(key, {}).values(),
            versions={v: j for (k, v), j in self._versions_of(key)},
            nodes=view.nodes,
            now_ns=now_ns,
            gc_after_ns=0 if self._force_gc else round(self.settings.gc_after_s * 1e9),
            fits=fits,
        )
        if needed.wake_at_ns is None:
            self._wake_at.pop(key, None)
        else:
            self._wake_at[key] = needed.wake_at_ns
        asked = self._asked.pop(key, [])
        evaluation = asked[-1] if asked else None
        if evaluation is None and needed.place and key not in self._blocked and job is not None:
            evaluation = self.new_evaluation(job, "alloc-failure" if needed.place[0].previous else "node-update")
        # A job that is only blocked is tried again under its blocked evaluation.
        under = evaluation or self._blocked.get(key)
        eval_id = under.id if under else EvalId("")
        placed = place(
            needed.place,
            table=view.table,
            cache=self._cache,
            held=_held(view, key),
            make_id=self.rng,
            eval_id=eval_id,
            now_ns=now_ns,
            epoch=self.term.epoch,
        )
        plan = Plan(
            change=tuple(
                msgspec.structs.replace(alloc, epoch=self.term.epoch, modify_time=now_ns)
                for alloc in needed.change
            ),
            place=placed.allocs,
            forget=tuple(alloc.id for alloc in needed.forget),
        )
        evals = self._evaluations(key, job, evaluation, asked, placed, now_ns)
        return _Decided(key=key, plan=plan, evals=evals, needed=needed)

    def _versions_of(self, key: JobKey) -> list[tuple[tuple[JobKey, int], Job]]:
        wanted = {alloc.desired.job_version for alloc in self.view.allocs_by_job.get(key, {}).values()}
        return [((key, v), self.view.versions[key, v]) for v in sorted(wanted) if (key, v) in self.view.versions]

    def new_evaluation(self, job: Job, triggered_by: str, status: EvalStatus = EvalStatus.PENDING) -> Evaluation:
        now_ns = self.now_ns
        return Evaluation(
            id=EvalId(self.new_id()),
            namespace=job.namespace,
            job_id=job.id,
            type=job.type.value,
            priority=job.priority,
            triggered_by=triggered_by,
            status=status,
            create_time=now_ns,
            modify_time=now_ns,
        )

    def _evaluations(
        self,
        key: JobKey,
        job: Job | None,
        evaluation: Evaluation | None,
        asked: Sequence[Evaluation],
        placed: Placed,
        now_ns: int,
    ) -> list[Evaluation]:
        """The evaluations to write: those that were asked for are complete, a failed placement blocks one."""
        written: list[Evaluation] = []
        blocked = self._blocked.get(key)
        changes: dict[str, object] = {}
        if placed.failed and job is not None:
            if blocked is None or _reasons(blocked.failed_tg_allocs) != _reasons(placed.failed):
                blocked = msgspec.structs.replace(
                    blocked or self.new_evaluation(job, "queued-allocs", EvalStatus.BLOCKED),
                    failed_tg_allocs=placed.failed,
                    queued_allocations=placed.queued,
                    previous_eval=evaluation.id if evaluation else EvalId(""),
                    status_description="created to place remaining allocations",
                    modify_time=now_ns,
                )
                self._blocked[key] = blocked
                written.append(blocked)
            changes = {"failed_tg_allocs": placed.failed, "blocked_eval": blocked.id}
        elif blocked is not None:
            del self._blocked[key]
            written.append(
                msgspec.structs.replace(
                    blocked, status=EvalStatus.COMPLETE, failed_tg_allocs={}, queued_allocations={}, modify_time=now_ns
                )
            )
        for one in asked or ([evaluation] if evaluation else []):
            written.append(
                msgspec.structs.replace(
                    one,
                    status=EvalStatus.COMPLETE,
                    queued_allocations=placed.queued,
                    modify_time=now_ns,
                    **(changes if one is evaluation else {}),
                )
            )
        return written

    # -- apply

    async def _apply(self, decided: Sequence["_Decided"]) -> None:
        decided = [d for d in decided if d.size]
        if not decided:
            return
        steps: list[list[Op]] = []
        documents: dict[str, DesiredAlloc | Evaluation | None] = {}
        for one in decided:
            steps.extend(self._store.steps(one.plan, self.view))
            for alloc in (*one.plan.change, *one.plan.place):
                documents[self.keys.desired_alloc(alloc.node_id, alloc.id)] = alloc
            for evaluation in one.evals:
                key = self.keys.evaluation(evaluation.id)
                documents[key] = evaluation
                steps.append([put(key, encode(evaluation)), *self._old_evals(one.key, evaluation)])
        try:
            for transaction in self._store.transactions(steps):
                self._accept(transaction, await self._commit(transaction), documents)
        except (StoreUnavailable, WriteConflict) as error:
            log.warning("plan not written (%s): reading what Consul holds", error)
            await self._look_again(decided)
            return
        for one in decided:
            if one.plan.change or one.plan.place:
                log.info(
                    "job %s: %d placed, %d changed, %d blocked",
                    one.key[1], len(one.plan.place), len(one.plan.change), len(one.needed.place) - len(one.plan.place),
                )
            await self._finish_purge(one.key)

    def _old_evals(self, key: JobKey, newest: Evaluation) -> list[Op]:
        """Deletions that keep the job's evaluations bounded."""
        known = self.view.evals_by_job.get(key, {})
        if newest.id in known or len(known) < _EVALS_PER_JOB:
            return []
        oldest = min(known.values(), key=lambda indexed: indexed.create_index)
        return [delete(self.keys.evaluation(oldest.document.id))]

    def _accept(
        self,
        ops: Sequence[Op],
        written: dict[str, tuple[int, int]],
        documents: dict[str, DesiredAlloc | Evaluation | None],
    ) -> None:
        """Consul took the transaction: the view follows."""
        highest = max((modify for _, modify in written.values()), default=self.view.index)
        for op in ops:
            if op.key in written:
                document = documents.get(op.key)
                create_index, modify_index = written[op.key]
                if isinstance(document, Evaluation):
                    self.view.put_eval(document, create_index, modify_index)
                elif isinstance(document, DesiredAlloc):
                    self.view.put_desired(document, create_index, modify_index)
            elif op.key.startswith(self.keys.desired):
                self.view.drop_alloc(AllocId(last_segment(op.key)), highest)
            elif op.key.startswith(self.keys.evals):
                self.view.drop_eval(EvalId(last_segment(op.key)), highest)

    async def _look_again(self, decided: Sequence["_Decided"]) -> None:
        """The plan's fate is unknown: forget it and read those keys before deciding anything again."""
        nodes: set[NodeId] = set()
        for one in decided:
            for alloc in (*one.plan.change, *one.plan.place):
                nodes.add(alloc.node_id)
                if alloc.id not in self.view.allocs:
                    self.view.table.free(alloc.id)
            nodes.update(self.view.allocs[a].desired.node_id for a in one.plan.forget if a in self.view.allocs)
        while True:
            try:
                await self._store.reread(self.view, sorted(nodes), [one.key for one in decided])
                break
            except StoreUnavailable:
                await pause(self.rng.random())
        for one in decided:
            self._asked.setdefault(one.key, []).extend(e for e in one.evals if e.status is EvalStatus.COMPLETE)
        self.view.mark([one.key for one in decided])

    async def _finish_purge(self, key: JobKey) -> None:
        """A purged job's versions go once no alloc names them any more."""
        if key in self.view.jobs or self.view.allocs_by_job.get(key):
            return
        versions = [v for k, v in self.view.versions if k == key]
        for start in range(0, len(versions), _GATHER_OPS):
            ops = [delete(self.keys.version(*key, v)) for v in versions[start : start + _GATHER_OPS]]
            try:
                await self._commit(ops)
            except (StoreUnavailable, WriteConflict):
                return
        self.view.drop_versions(key)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decided:
    key: JobKey
    plan: Plan
    evals: Sequence[Evaluation]
    needed: Reconciled

    @property
    def size(self) -> int:
        return len(self.plan.change) + len(self.plan.place) + 2 * len(self.plan.forget) + 2 * len(self.evals)


def _first(group: BaseExceptionGroup[SessionLost]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _held(view: View, key: JobKey) -> dict[str, dict[NodeId, int]]:
    held: dict[str, dict[NodeId, int]] = {}
    for alloc in view.allocs_by_job.get(key, {}).values():
        if alloc.is_live:
            nodes = held.setdefault(alloc.desired.task_group, {})
            nodes[alloc.desired.node_id] = nodes.get(alloc.desired.node_id, 0) + 1
    return held


def _reasons(failed: Mapping[str, PlacementMetric]) -> dict[str, tuple[object, ...]]:
    return {
        group: (dict(m.constraint_filtered), dict(m.dimension_exhausted), m.nodes_evaluated, m.coalesced_failures)
        for group, m in failed.items()
    }
