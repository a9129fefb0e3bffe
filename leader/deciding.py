"""What has to happen for the jobs to which something happened, and how is it written?

    dirty jobs ──one after the other──> reconcile ─> place ─> Plan + evaluations
                                                                 └─ several jobs' plans ─> fenced transactions
                                                                       unclear? ─> read those keys again

A plan that may or may not have been written is forgotten, and what Consul really holds is read, before
anything about those jobs is decided again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from dataclasses import replace as replace_dataclass
from itertools import groupby
from typing import assert_never

import msgspec

from catalog.keys import last_segment
from catalog.kv import Entry, Op, delete, pause, put, replace
from leader import lines, telemetry
from leader.decide.counted import MIGRATED
from leader.decide.feasible import FeasibleCache, fitting_nodes
from leader.decide.place import as_changed, held_by, leaving, merged, place
from leader.decide.ports import Rng
from leader.decide.preempt import PRIORITY_DELTA, Victim
from leader.decide.reconcile import reconcile
from leader.decide.rollout import with_placed
from leader.decide.table import NodeTable, ask_of
from leader.errands import Errand, Errands, Written
from leader.fenced import Fenced
from leader.metrics import timed, with_placements
from leader.store import LeaderStore
from leader.view import View, job_key
from model.alloc import Alloc, AllocId, DesiredAlloc, DesiredStatus, EvalId, RescheduleTracker
from model.cluster import JobRecord
from model.deployment import Deployment, DeploymentId
from model.errors import InvariantBroken, StoreUnavailable, WriteConflict
from model.evaluation import EvalStatus, Evaluation, PlacementMetric
from model.job import Job
from model.node import NodeId
from model.plan import Placed, PlaceRequest, Plan, Reconciled
from model.snapshot import JobKey, Settings
from model.wire import encode

log = logging.getLogger("drover.leader")

# Operations gathered from several jobs before a transaction is sent; below Consul's 64 with the fence.
_GATHER_OPS = 48
# Jobs without anything to do that are decided before the loop may do something else.
_JOBS_PER_SLICE = 20
# How long a job waits whose decision failed: long enough not to fill the log, short enough to be seen healing.
_UNDECIDED_NS = 10_000_000_000
# Evaluations kept per job: what `job status` and `eval list` show.
_EVALS_PER_JOB = 10
# And in all: some 500 bytes each, and 1 KB more for each group that was placed.
_EVALS_MAX = 10_000
# Deployments kept per job: what `job deployments` shows.
_DEPLOYMENTS_PER_JOB = 10
_ABANDONED = "cancelled: it waited for max_running, and its parent was purged"
# Versions that are remembered as good: as many as Nomad keeps of a job's history.
_STABLE_MAX = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Jobs to decide about: ready, in_hand (by the cycle under way), later (at a known moment), blocked (until there is
    room). errands: commands that wait for their job's turn."""

    ready: int
    in_hand: int
    errands: int
    later: int
    blocked: int


@dataclass(slots=True, kw_only=True)
class Deciding:
    fenced: Fenced
    store: LeaderStore
    view: View
    settings: Settings
    _cache: FeasibleCache = field(default_factory=FeasibleCache)
    _asked: dict[JobKey, list[Evaluation]] = field(default_factory=dict)
    _blocked: dict[JobKey, Evaluation] = field(default_factory=dict)
    _wake_at: dict[JobKey, int] = field(default_factory=dict)
    _errands: Errands = field(default_factory=Errands)
    _force_gc: bool = False
    _doubted: list[Evaluation] = field(default_factory=list)
    _doubted_launches: set[JobKey] = field(default_factory=set)
    _doubted_nodes: set[NodeId] = field(default_factory=set)
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _is_held: bool = False
    _in_hand: int = 0  # jobs of the cycle under way
    _strangers: set[AllocId] = field(default_factory=set)  # orphans of no known job, told once

    def take_over(self) -> None:
        """After the view was filled: every job is looked at, open evaluations are answered."""
        for key, evals in self.view.evals_by_job.items():
            for indexed in evals.values():
                if indexed.document.status is EvalStatus.PENDING:
                    self._asked.setdefault(key, []).append(indexed.document)
                elif indexed.document.status is EvalStatus.BLOCKED:
                    self._blocked[key] = indexed.document
        self._mark_all()
        self.view.mark(self._asked)  # also about jobs that never were

    def asked(self, evaluation: Evaluation) -> None:
        """A command's evaluation was written: it is answered by the next decision about its job."""
        key = (evaluation.namespace, evaluation.job_id)
        self._asked.setdefault(key, []).append(evaluation)
        self.view.mark([key])

    def doubt(self, evaluation: Evaluation) -> None:
        """A command about this job may or may not have been written: read it before deciding about it."""
        self._doubted.append(evaluation)
        self.view.mark([(evaluation.namespace, evaluation.job_id)])

    def doubt_launches(self, key: JobKey) -> None:
        """As `doubt`, of what the job started."""
        self._doubted_launches.add(key)
        self.view.wake.set()

    def doubt_node(self, node_id: NodeId) -> None:
        """What was written about this node may or may not be there: read it before deciding about anything."""
        self._doubted_nodes.add(node_id)
        self.view.wake.set()

    @property
    def is_held(self) -> bool:
        return self._is_held

    def hold(self) -> None:
        """Nothing is decided any more in this term: a snapshot is being restored."""
        self._is_held = True

    async def errand(self, key: JobKey, work: Callable[[], Sequence[Written]]) -> Mapping[str, Entry]:
        """Has a command's documents worked out and written in the job's turn: see Errands.run."""
        return await self._errands.run(key, work, lambda: self.view.mark([key]))

    def collect_garbage(self) -> None:
        """Ended allocs go now instead of after gc_after_s."""
        self._force_gc = True
        self._mark_all()

    def _mark_all(self) -> None:
        # Purged jobs whose allocs still run have no record, so both maps are needed.
        self.view.mark([*self.view.jobs, *self.view.allocs_by_job, *(key for key, _ in self.view.versions)])

    def queue(self) -> "Queue":
        """How much there is to decide."""
        return Queue(
            ready=len(self.view.dirty),
            in_hand=self._in_hand,
            errands=self._errands.waiting,
            later=len(self._wake_at),
            blocked=len(self._blocked),
        )

    async def run(self) -> None:
        await self.fenced.keep_on("decide", self._cycle)

    async def _cycle(self) -> None:
        await self._wait_for_work()
        if self._is_held:
            return
        self._unblock()
        keys = sorted(self.view.dirty)
        self.view.dirty.clear()
        self._in_hand = len(keys)
        try:
            await self.read_doubted_nodes()
            await self.read_doubted()
            await self._decide_all(keys)
        except BaseException:
            # Nothing is lost: the next cycle looks at all of them again.
            self.view.mark(keys)
            raise
        finally:
            self._in_hand = 0
        self._force_gc = False

    def _unblock(self) -> None:
        """Looks again at what found no room, if it may run where there is more of it now."""
        table = self.view.table
        rows = [table.rows[node_id] for node_id in self.view.freed if node_id in table.rows]
        self.view.freed.clear()
        if not rows:
            return
        for key in self._blocked:
            job = self.view.jobs.get(key)
            if job is None or any(self._cache.get(table, job, group).mask[rows].any() for group in job.task_groups):
                self.view.mark([key])

    async def read_doubted_nodes(self) -> None:
        """What Consul really holds of them. Raises StoreUnavailable, and they stay doubted."""
        async with self._reading:
            while self._doubted_nodes:
                await self.fenced.settle()
                node_id = min(self._doubted_nodes)
                await self.store.reread(self.view, [node_id], [])
                self._doubted_nodes.discard(node_id)

    async def read_doubted(self) -> None:
        """What Consul really holds of the jobs whose commands got no answer. Raises StoreUnavailable."""
        async with self._reading:
            while self._doubted:
                await self.fenced.settle()
                evaluation = self._doubted[0]
                await self.store.reread(self.view, [], [(evaluation.namespace, evaluation.job_id)])
                entry = await self.fenced.kv.get(self.store.keys.evaluation(evaluation.id))
                if entry is not None and evaluation.id not in self.view.evals:
                    self.view.put_eval(evaluation, entry.create_index, entry.modify_index)
                    self.asked(evaluation)
                self._doubted.pop(0)
            while self._doubted_launches:
                await self.fenced.settle()
                key = min(self._doubted_launches)
                await self.store.reread_launches(self.view, key)
                self._doubted_launches.discard(key)

    async def _decide_all(self, keys: Sequence[JobKey]) -> None:
        gather: list[_Decided] = []
        now_ns = self.fenced.now_ns
        for number, key in enumerate(sorted(keys, key=lambda key: self._turn(key, now_ns))):
            job = self.view.jobs.get(key)
            is_alone = job is not None and self.may_preempt(job)
            if is_alone:
                # It may push away allocs of any other job: what was decided about those must be in the view.
                await self._apply(gather)
                gather = []
            try:
                gather.append(self._decide_job(key))
            except InvariantBroken:
                raise
            except Exception:
                # One job that cannot be decided must not keep the others from it; it is tried again later.
                log.exception("job %s cannot be decided", key[1])
                self._wake_at[key] = self.fenced.now_ns + _UNDECIDED_NS
            if is_alone or sum(decided.size for decided in gather) >= _GATHER_OPS:
                await self._apply(gather)
                gather = []
            elif number % _JOBS_PER_SLICE == _JOBS_PER_SLICE - 1:
                await asyncio.sleep(0)
        await self._apply(gather)

    def _turn(self, key: JobKey, now_ns: int) -> tuple[bool, int, int, int, JobKey]:
        """What Vault is reached through comes first, then higher priorities, and of equal ones who has waited longest, of
        those who was there first."""
        job, blocked, record = self.view.jobs.get(key), self._blocked.get(key), self.view.records.get(key)
        waits_since = blocked.create_time if blocked else now_ns
        return key not in self.view.bootstrap, -(job.priority if job else 0), waits_since, record.create_index if record else 0, key

    async def _wait_for_work(self) -> None:
        soonest = min(self._wake_at.values(), default=None)
        wait_s = None if soonest is None else max(0.0, (soonest - self.fenced.now_ns) / 1e9)
        try:
            async with asyncio.timeout(wait_s):
                await self.view.wake.wait()
        except TimeoutError:
            pass
        self.view.wake.clear()
        now_ns = self.fenced.now_ns
        self.view.mark([key for key, at_ns in self._wake_at.items() if at_ns <= now_ns])
        self.view.wake.clear()

    def _decide_job(self, key: JobKey) -> "_Decided":
        """Observe and decide for one job; no await, so the view stands still."""
        # With these written, what the job needs is another question.
        if adopted := self._adopted(key):
            self.view.mark([key])
            return _Decided(key=key, plan=Plan(change=adopted))
        if errand := self._errands.next(key):
            self.view.mark([key])
            return _Decided(key=key, plan=Plan(), errand=errand[0], documents=errand[1])
        job = self.view.jobs.get(key)
        now_ns = self.fenced.now_ns
        needed = self.needed(key, job)
        waits = job is not None and lines.waits(self.view, key, job)
        is_abandoned = job is not None and lines.is_abandoned(self.view, key, job)
        if waits or is_abandoned:
            needed = replace_dataclass(needed, place=())
        self.view.mark(lines.next_ones(self.view, key))
        if needed.wake_at_ns is None:
            self._wake_at.pop(key, None)
        else:
            self._wake_at[key] = needed.wake_at_ns
        asked = self._asked.pop(key, [])
        evaluation = asked[-1] if asked else None
        if evaluation is None and needed.place and key not in self._blocked and job is not None:
            evaluation = new_evaluation(self.fenced, job, self._trigger(key, job, needed))
        # A job that is only blocked is tried again under its blocked evaluation.
        under = evaluation or self._blocked.get(key)
        eval_id = under.id if under else EvalId("")
        after = as_changed(self.view.allocs_by_job.get(key, {}).values(), needed)
        placed = self.placed(job, needed, after, table=self.view.table, rng=self.fenced.rng, eval_id=eval_id)
        took_ns = self.fenced.now_ns - now_ns
        telemetry.DECISION_S.observe(took_ns / 1e9)
        placed = timed(placed, took_ns)
        changed = {alloc.id: alloc for alloc in (*needed.change, *placed.stopped, *placed.preempted)}
        plan = Plan(
            change=tuple(
                msgspec.structs.replace(alloc, epoch=self.fenced.epoch, modify_time=now_ns)
                for alloc in changed.values()
            ),
            place=placed.allocs,
            forget=tuple(alloc.id for alloc in needed.forget),
            deployments=self._deployments(key, needed, placed),
        )
        evals = self._evaluations(key, job, evaluation, asked, placed, now_ns)
        if waits or is_abandoned:
            why = "waits for max_running" if waits else _ABANDONED
            evals = [msgspec.structs.replace(one, status_description=why) for one in evals]
        evals = with_placements([self._of_deployment(key, one, needed) for one in evals], under, placed, self.view)
        version, record = self._job_change(key, job, needed, is_abandoned=is_abandoned)
        return _Decided(key=key, plan=plan, evals=evals, needed=needed, version=version, record=record)

    def _of_deployment(self, key: JobKey, evaluation: Evaluation, needed: Reconciled) -> Evaluation:
        """Names the deployment that is under way, so that clients can follow it."""
        changed = needed.deployments[-1] if needed.deployments else None
        latest = changed or self.view.latest_deployment(key)
        if latest is None or not latest.is_active or evaluation.deployment_id:
            return evaluation
        return msgspec.structs.replace(evaluation, deployment_id=latest.id)

    def _deployments(self, key: JobKey, needed: Reconciled, placed: Placed) -> tuple[Deployment, ...]:
        """Those that changed, with what was placed for the one that is under way."""
        changed = {deployment.id: deployment for deployment in needed.deployments}
        latest = self.view.latest_deployment(key)
        known = changed if latest is None else {latest.id: latest, **changed}
        for one in known.values():
            if (now := with_placed(one, placed.allocs)) != one:
                changed[now.id] = now
        return tuple(msgspec.structs.replace(one, epoch=self.fenced.epoch) for one in changed.values())

    def _job_change(
        self, key: JobKey, job: Job | None, needed: Reconciled, *, is_abandoned: bool
    ) -> tuple[Job | None, JobRecord | None]:
        """The version to go back to, as a new one, and the job's record where a deployment's end changes it; or the
        job's end, where it waited in a line that is gone."""
        known = self.view.records.get(key)
        if job is None or known is None:
            return None, None
        record: JobRecord = known.document
        if is_abandoned:
            newest = max(self.view.version_numbers(key))
            version = msgspec.structs.replace(
                job, stop=True, status_description=_ABANDONED, version=newest + 1, submit_time=self.fenced.now_ns
            )
            return version, self._record(record, version=version.version)
        if needed.revert_to is not None:
            newest = max(self.view.version_numbers(key))
            version = msgspec.structs.replace(
                self.view.versions[key, needed.revert_to], version=newest + 1, submit_time=self.fenced.now_ns
            )
            return version, self._record(record, version=version.version)
        if needed.is_stable and job.version not in record.stable:
            return None, self._record(record, stable=(*record.stable, job.version)[-_STABLE_MAX:])
        return None, None

    def _record(self, record: JobRecord, **changes: object) -> JobRecord:
        return msgspec.structs.replace(
            record, modify_time=self.fenced.now_ns, epoch=self.fenced.epoch, **changes
        )

    def needed(self, key: JobKey, job: Job | None) -> Reconciled:
        """What the job asks for that it has not. job: as it is, or as it might be submitted."""
        view = self.view
        is_wanted = job is not None and not job.stop
        fits = (
            {group.name: fitting_nodes(view.table, self._cache, job, group) for group in job.task_groups}
            if job is not None and is_wanted and job.is_system
            else None
        )
        record = view.records.get(key)
        stable = frozenset(record.document.stable) if record is not None else frozenset()
        return reconcile(
            job,
            view.allocs_by_job.get(key, {}).values(),
            versions=self._versions_of(key, stable),
            nodes=view.nodes,
            now_ns=self.fenced.now_ns,
            gc_after_ns=0 if self._force_gc else round(self.settings.gc_after_s * 1e9),
            fits=fits,
            misplaced=self._misplaced(key, job) if job is not None and is_wanted else (),
            deployment=view.latest_deployment(key),
            stable=stable,
            emptied=view.emptied() if job is not None and job.is_system else frozenset(),
            new_deployment_id=self.fenced.new_id(),
        )

    def placed(
        self,
        job: Job | None,
        needed: Reconciled,
        after: Sequence[Alloc],
        *,
        table: NodeTable,
        rng: Rng,
        eval_id: EvalId,
    ) -> Placed:
        """Where that goes, in the view's table or a copy of it. after: the job's allocs with what is needed."""
        found, allocs = Placed(), list(after)
        # While a new version waits for its promotion, what fails of the old one is placed as it was.
        for _, requests in groupby(sorted(needed.place, key=_version), key=_version):
            of_version = place(
                tuple(requests),
                table=table,
                cache=self._cache if table is self.view.table else FeasibleCache(),
                held=held_by(allocs),
                staying=held_by(alloc for alloc in allocs if alloc.id not in needed.moving),
                leaving=leaving(allocs),
                rng=rng,
                eval_id=eval_id,
                now_ns=self.fenced.now_ns,
                epoch=self.fenced.epoch,
                algorithm=self.algorithm(job),
                victims=self.victims if job and self.may_preempt(job) else None,
            )
            found = merged(found, of_version)
            stopped = {alloc.id for alloc in of_version.stopped}
            allocs = [alloc for alloc in allocs if alloc.id not in stopped]
            allocs += [Alloc(desired=alloc) for alloc in of_version.allocs]
        return found

    def algorithm(self, job: Job | None) -> str:
        default: str = self.view.scheduler.document.scheduler_algorithm
        return (job.scheduler_algorithm if job else "") or default

    def may_preempt(self, job: Job) -> bool:
        """Whether the job may push away what is of lower priority."""
        allowed: bool = self.view.scheduler.document.preemption_config.allows(job.type.value)
        return allowed and job.priority > PRIORITY_DELTA

    def victims(self, node_id: NodeId) -> Iterator[Victim]:
        """What runs on the node and is meant to."""
        view = self.view
        for alloc in view.allocs_by_node.get(node_id, {}).values():
            if not alloc.is_live:
                continue
            job = view.versions.get((job_key(alloc), alloc.desired.job_version))
            group = job.group(alloc.desired.task_group) if job else None
            if job is not None and group is not None:
                yield Victim(alloc.desired, job.priority, ask_of(group))

    def _misplaced(self, key: JobKey, job: Job) -> set[AllocId]:
        """Allocs of older versions on nodes that the current one's constraints rule out: not to be kept in place."""
        table = self.view.table
        found: set[AllocId] = set()
        for alloc in self.view.allocs_by_job.get(key, {}).values():
            group = job.group(alloc.desired.task_group)
            row = table.rows.get(alloc.desired.node_id)
            if not alloc.is_live or alloc.desired.job_version == job.version or group is None or row is None:
                continue
            if not self._cache.get(table, job, group).mask[row]:
                found.add(alloc.id)
        return found

    def _trigger(self, key: JobKey, job: Job, needed: Reconciled) -> str:
        """Why there is something to place that nobody asked for, in Nomad's words."""
        if job.dispatched and key not in self.view.allocs_by_job:
            return "queued-allocs"  # it is its turn now
        if any(a.desired.desired_status is DesiredStatus.EVICT for a in self.view.allocs_by_job.get(key, {}).values()):
            return "preemption"
        first = needed.place[0]
        if first.avoid is not None or (first.stops is not None and first.stops.desired_description == MIGRATED):
            node = self.view.nodes.get(first.previous.desired.node_id) if first.previous is not None else None
            return "node-drain" if node is not None and node.control.drain is not None else "rebalance"
        if first.stops is not None or first.is_canary:
            return "deployment-watcher" if first.deployment_id else "rolling-update"
        return "alloc-failure" if first.previous else "node-update"

    def _adopted(self, key: JobKey) -> tuple[DesiredAlloc, ...]:
        """The documents, to be written back, of what runs though nothing desired names it; reconcile then keeps or
        stops it. What belongs to no known job runs on: perhaps it is our view that lacks something."""
        view = self.view
        adopted: list[DesiredAlloc] = []
        for alloc_id in sorted(view.orphans):
            orphan = view.orphans[alloc_id].orphan
            if orphan is None or (orphan.namespace, orphan.job_id) != key:
                continue
            known = view.allocs.get(alloc_id)
            desired = known.desired if known else orphan
            if key in view.records and (key, desired.job_version) in view.versions:
                adopted.append(
                    msgspec.structs.replace(desired, epoch=self.fenced.epoch, modify_time=self.fenced.now_ns)
                )
            elif alloc_id not in self._strangers:
                self._strangers.add(alloc_id)
                log.warning(
                    "alloc %s of job %s runs on node %s, and no such job (version %d) is known: it runs on",
                    alloc_id, orphan.job_id, orphan.node_id, orphan.job_version,
                )
        return tuple(adopted)

    def _versions_of(self, key: JobKey, stable: Set[int]) -> dict[int, Job]:
        """What its allocs name, and what may be gone back to."""
        wanted = {alloc.desired.job_version for alloc in self.view.allocs_by_job.get(key, {}).values()}
        return {v: self.view.versions[key, v] for v in sorted(wanted | stable) if (key, v) in self.view.versions}

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
                    blocked or new_evaluation(self.fenced, job, "queued-allocs", EvalStatus.BLOCKED),
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
        if any(one.size for one in decided):
            await self._write([one for one in decided if one.size])
        await self._finish_purges([one.key for one in decided])

    async def _write(self, decided: Sequence["_Decided"]) -> None:
        steps: list[list[Op]] = []
        documents: dict[str, Written] = {}
        for one in decided:
            steps.extend(self._of_job(one, documents))
            steps.extend(self.store.steps(one.plan, self.view))
            for alloc in (*one.plan.change, *one.plan.place):
                documents[self.store.keys.desired_alloc(alloc.node_id, alloc.id)] = alloc
            for evaluation in one.evals:
                key = self.store.keys.evaluation(evaluation.id)
                documents[key] = evaluation
                steps.append([put(key, encode(evaluation)), *self._old_evals(one.key, evaluation)])
        entries: dict[str, Entry] = {}
        try:
            for transaction in self.store.transactions(steps):
                written = await self.fenced.commit(transaction)
                self._accept(transaction, written, documents)
                entries |= written
        except (StoreUnavailable, WriteConflict) as error:
            log.warning("plan not written (%s): reading what Consul holds", error)
            await self._look_again(decided)
            return
        for one in decided:
            if one.errand is not None:
                self._errands.finished(one.key, one.errand, entries)
            if one.plan.change or one.plan.place:
                log.info(
                    "job %s: %d placed, %d changed, %d blocked",
                    one.key[1], len(one.plan.place), len(one.plan.change), len(one.needed.place) - len(one.plan.place),
                )

    def _of_job(self, one: "_Decided", documents: dict[str, Written]) -> list[list[Op]]:
        """Deployments with what their end changes of the job, in one step: nobody sees the one without the other. So
        with what a command asked for."""
        changed = (one.version, one.record)
        steps: list[list[Op]] = [[]]
        for document in (*one.plan.deployments, *(d for d in changed if d is not None), *one.documents):
            op = self._op(one.key, document)
            documents[op.key] = document
            if isinstance(document, DesiredAlloc):
                steps.append([op])  # there may be more of them than a transaction takes
                continue
            steps[0].append(op)
            if isinstance(document, Deployment):
                steps[0] += self._old_deployments(one.key, document)
        return [step for step in steps if step]

    def _op(self, key: JobKey, document: Written) -> Op:
        keys = self.store.keys
        match document:
            case Deployment():
                return put(keys.deployment(*key, document.id), encode(document))
            case Job():
                return put(keys.version(*key, document.version), encode(document))
            case JobRecord():
                # An operator's command writes it too, each over what it has read.
                known = self.view.records.get(key)
                return replace(keys.job(*key), encode(document), known.modify_index if known else 0)
            case DesiredAlloc():
                return self.store.desired_op(document, self.view)
            case Evaluation():
                return put(keys.evaluation(document.id), encode(document))
        assert_never(document)

    def _old_deployments(self, key: JobKey, newest: Deployment) -> list[Op]:
        """Deletions that keep the job's deployments bounded; its newest always stays."""
        known = self.view.deployments_by_job.get(key, {})
        if newest.id in known or len(known) < _DEPLOYMENTS_PER_JOB:
            return []
        oldest = min(known.values(), key=lambda indexed: indexed.create_index)
        return [delete(self.store.keys.deployment(*key, oldest.document.id))]

    def _old_evals(self, key: JobKey, newest: Evaluation) -> list[Op]:
        """Deletions that keep the job's evaluations bounded."""
        known = self.view.evals_by_job.get(key, {})
        if newest.id in known:
            return []
        if len(known) >= _EVALS_PER_JOB:
            oldest = min(known.values(), key=lambda indexed: indexed.create_index)
        elif len(self.view.evals) >= _EVALS_MAX:
            # Those of purged jobs are the ones that nothing else would ever remove; the dict keeps their order.
            oldest = next(iter(self.view.evals.values()))
        else:
            return []
        return [delete(self.store.keys.evaluation(oldest.document.id))]

    def _accept(
        self,
        ops: Sequence[Op],
        written: Mapping[str, Entry],
        documents: Mapping[str, Written],
    ) -> None:
        """Consul took the transaction: the view follows."""
        highest = max((entry.modify_index for entry in written.values()), default=self.view.index)
        for op in ops:
            if op.key in written:
                document = documents.get(op.key)
                create_index, modify_index = written[op.key].create_index, written[op.key].modify_index
                if document is not None:
                    self._count(document)
                match document:
                    case Evaluation():
                        self.view.put_eval(document, create_index, modify_index)
                        if document.status is EvalStatus.PENDING:
                            self.asked(document)
                    case Deployment():
                        self.view.put_deployment(document, create_index, modify_index)
                    case Job():
                        self.view.put_version(document, create_index, modify_index)
                    case JobRecord():
                        self.view.put_record(document, create_index, modify_index)
                    case DesiredAlloc():
                        self.view.put_desired(document, create_index, modify_index)
                        if document.desired_status is DesiredStatus.EVICT:
                            # Its job needs another place.
                            self.view.mark([(document.namespace, document.job_id)])
            elif op.key.startswith(self.store.keys.desired):
                self.view.drop_alloc(AllocId(last_segment(op.key)), highest)
            elif op.key.startswith(self.store.keys.deployments):
                self.view.drop_deployment(DeploymentId(last_segment(op.key)), highest)
            elif op.key.startswith(self.store.keys.evals):
                self.view.drop_eval(EvalId(last_segment(op.key)), highest)

    def _count(self, document: Written) -> None:
        """What the view does not hold yet, for /v1/metrics."""
        match document:
            case Evaluation(status=EvalStatus.COMPLETE):
                known = self.view.evals.get(document.id)
                if known is None or known.document.status is EvalStatus.PENDING:
                    telemetry.EVALUATION_S.observe(max(0, self.fenced.now_ns - document.create_time) / 1e9)
            case Deployment() if not document.is_active:
                known = self.view.deployments.get(document.id)
                if known is None or known.document.is_active:
                    telemetry.DEPLOYMENTS.labels(document.status.value).inc()
            case DesiredAlloc(reschedule_tracker=RescheduleTracker(events=(*_, last))) if document.id not in self.view.allocs:
                if last.prev_alloc_id == document.previous_allocation:
                    telemetry.RESCHEDULES.inc()
            case _:
                pass

    async def _look_again(self, decided: Sequence["_Decided"]) -> None:
        """The plan's fate is unknown: forget it and read those keys before deciding anything again."""
        nodes: set[NodeId] = set()
        for one in decided:
            nodes.update(document.node_id for document in one.documents if isinstance(document, DesiredAlloc))
            for alloc in (*one.plan.change, *one.plan.place):
                nodes.add(alloc.node_id)
                if alloc.id not in self.view.allocs:
                    self.view.table.free(alloc.id)
            nodes.update(self.view.allocs[a].desired.node_id for a in one.plan.forget if a in self.view.allocs)
        while True:
            try:
                await self.fenced.settle()
                await self.store.reread(self.view, sorted(nodes), [one.key for one in decided])
                break
            except StoreUnavailable:
                await pause(self.fenced.rng.random())
        for one in decided:
            self._asked.setdefault(one.key, []).extend(e for e in one.evals if e.status is EvalStatus.COMPLETE)
        self.view.mark([one.key for one in decided])

    async def _finish_purges(self, keys: Sequence[JobKey]) -> None:
        """Purged jobs' versions go once no alloc names them any more. Raises StoreUnavailable: then again later."""
        view, names = self.view, self.store.keys
        purged = [key for key in keys if key not in view.jobs and not view.allocs_by_job.get(key)]
        versions = {key: view.version_numbers(key) for key in purged}
        deployments = {key: list(view.deployments_by_job.get(key, {})) for key in purged}
        gone = [
            name(*key, version)
            for key in purged
            for version in versions[key]
            for name in (names.version, names.submission)
        ]
        gone += [names.deployment(*key, deployment_id) for key in purged for deployment_id in deployments[key]]
        for start in range(0, len(gone), _GATHER_OPS):
            await self.fenced.commit([delete(one) for one in gone[start : start + _GATHER_OPS]])
        # Only these: a job may have been submitted again while they were deleted.
        for key in purged:
            view.drop_versions(key, versions[key])
            for deployment_id in deployments[key]:
                view.drop_deployment(deployment_id, view.index)


def new_evaluation(
    fenced: Fenced, job: Job, triggered_by: str, status: EvalStatus = EvalStatus.PENDING
) -> Evaluation:
    now_ns = fenced.now_ns
    return Evaluation(
        id=EvalId(fenced.new_id()),
        namespace=job.namespace,
        job_id=job.id,
        type=job.type.value,
        priority=job.priority,
        triggered_by=triggered_by,
        status=status,
        create_time=now_ns,
        modify_time=now_ns,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decided:
    key: JobKey
    plan: Plan
    evals: Sequence[Evaluation] = ()
    needed: Reconciled = field(default_factory=Reconciled)
    version: Job | None = None
    record: JobRecord | None = None
    errand: Errand | None = None
    documents: Sequence[Written] = ()

    @property
    def size(self) -> int:
        of_job = len(self.documents) + 2 * len(self.plan.deployments) + (self.version is not None) + (self.record is not None)
        return of_job + len(self.plan.change) + len(self.plan.place) + 2 * len(self.plan.forget) + 2 * len(self.evals)


def _version(request: PlaceRequest) -> int:
    """Sorts older versions first: what was there before comes before what is to come."""
    return request.job.version


def _reasons(failed: Mapping[str, PlacementMetric]) -> dict[str, tuple[object, ...]]:
    return {
        group: (dict(m.constraint_filtered), dict(m.dimension_exhausted), m.nodes_evaluated, m.coalesced_failures)
        for group, m in failed.items()
    }
