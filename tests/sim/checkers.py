"""What must never happen, whatever breaks? Outside observers: they see what Consul accepted and what the
engines did, and nothing of what drover thinks.

    one writer       leader keys are written only by who holds the lock; epochs rise, one holder each
    count            never more than `count` wanted allocs of a group run that are not held lost
    reasons          a task is stopped only for a stop document, its restart policy, its siblings, or a
                     disconnect that its group asked to be stopped for
    once             one live process per (alloc, task); no port twice on a machine
    updates          what is updated is stopped by the very transaction that places its replacement; no more than
                     max_parallel of them are not healthy yet
    moves            what moves stops for a stand-in that was healthy, or at its drain's deadline
    one for one      nothing is replaced by two
    once each        of a completing group no place is run twice at once, or again after its success
    order            desired goes after a terminal report, a report after its desired; a stop is final
    return           a healthy original is kept over its stand-in, a rebooted one is not
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from catalog.embedded import Response as Answer
from catalog.keys import Keys, is_sentinel, last_segment, unescape
from catalog.kv import Op, Verb, unpack
from leader.decide.counted import MIGRATED, ORIGINAL_BACK, UPDATED
from model.alloc import AllocId, ClientStatus, DesiredAlloc, ObservedAlloc, Verdict
from model.cluster import Epoch, JobRecord
from model.deployment import Deployment
from model.job import Job, JobType, TaskGroup
from model.node import NodeControl, NodeStatus
from model.wire import decode, seconds
from tests.sim.driver import Engine, Thing
from tests.sim.machine import Process, World
from tests.sim.wire import Caller

T = TypeVar("T")
Group = tuple[str, str, str]

# What the leader may not have heard yet when it decides, in seconds.
_HEARD_S = 3.0


class _Kv(msgspec.Struct, rename={"kv": "KV"}):
    kv: Op


_ops_of = msgspec.json.Decoder(list[_Kv]).decode
_WRITES = (Verb.SET, Verb.CAS, Verb.DELETE, Verb.DELETE_CAS, Verb.LOCK, Verb.UNLOCK)
_PUTS = (Verb.SET, Verb.CAS)
_DELETES = (Verb.DELETE, Verb.DELETE_CAS)


@dataclass
class Checkers:
    """broke: told each violation. machines: by name, for the engines."""

    world: World
    broke: Callable[[str], None]
    keys: Keys = field(default_factory=Keys)
    # Mirrors of what was accepted.
    desired: dict[AllocId, DesiredAlloc] = field(default_factory=dict)
    observed: dict[AllocId, ObservedAlloc] = field(default_factory=dict)
    observed_since_s: dict[AllocId, float] = field(default_factory=dict)
    versions: dict[tuple[str, str, int], Job] = field(default_factory=dict)
    records: dict[tuple[str, str], JobRecord] = field(default_factory=dict)
    # The version before the current one, and since when it is not: what it asked for is stopped a moment later.
    replaced_records: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    controls: dict[str, NodeControl] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    ever: dict[AllocId, DesiredAlloc] = field(default_factory=dict)
    ever_at: dict[AllocId, set[int]] = field(default_factory=dict)  # the job versions that an alloc was ever to run
    ever_stopped: dict[AllocId, None] = field(default_factory=dict)
    healthy: dict[AllocId, None] = field(default_factory=dict)  # those that ever passed their health rule
    ever_lost: dict[AllocId, None] = field(default_factory=dict)
    # Who holds what.
    sessions: dict[str, Process] = field(default_factory=dict)
    epochs: dict[int, Process] = field(default_factory=dict)
    epoch: int = 0
    engines: dict[str, Engine] = field(default_factory=dict)
    ended_tasks: dict[AllocId, set[str]] = field(default_factory=dict)
    live: dict[AllocId, dict[str, Thing]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # -- Consul's side

    def applied(
        self, caller: Caller, method: str, path: str, params: Mapping[str, str], body: bytes, answer: Answer
    ) -> None:
        if answer.status != 200 or method != "PUT":
            return
        assert isinstance(caller, Process)
        if path == "/v1/session/create":
            self.sessions[answer.json()["ID"]] = caller
        elif path == "/v1/txn":
            ops = [wrapped.kv for wrapped in _ops_of(body)]
            writes = [op for op in ops if op.verb in _WRITES]
            if writes:
                self._written(caller, writes)
        elif path.startswith("/v1/kv/"):
            self.broke(f"{caller.name} wrote {path} outside a transaction")

    def _written(self, process: Process, ops: Sequence[Op]) -> None:
        self.count("transactions")
        self._lock_taken(process, ops)
        leaders = [op for op in ops if self._is_leaders(op)]
        if leaders:
            self._one_writer(process, leaders)
        for op in ops:
            if op.key.startswith((self.keys.observed, self.keys.nodes)) and process.machine.node_id not in op.key:
                self.broke(f"{process.name} wrote {op.key}, another node's key")
        told = []
        for op in ops:
            if not is_sentinel(op.key):
                told.append(self._mirror(op))
        for op in ops:
            if not is_sentinel(op.key):
                self._removed(op)
        self._replaced(ops)
        for new in self._put(ops):
            if new.previous_allocation and not new.is_stopping:
                self._paced(new)
        if any(op.key.startswith((self.keys.desired, self.keys.jobs)) for op in ops):
            self._count_all()
        text = ", ".join(t for t in told if t)
        if text:
            self.world.say(f"{process.name} wrote {text}")

    def _is_leaders(self, op: Op) -> bool:
        keys = self.keys
        if op.key.startswith(keys.inboxes):
            return is_sentinel(op.key) or op.verb in _DELETES
        return op.key.startswith((keys.jobs, keys.versions, keys.desired, keys.controls, keys.evals, keys.deployments, keys.index_base))

    def _lock_taken(self, process: Process, ops: Sequence[Op]) -> None:
        for op in ops:
            if op.key == self.keys.epoch and any(other.verb is Verb.LOCK for other in ops):
                epoch = _read(op, Epoch).epoch
                if epoch <= self.epoch:
                    self.broke(f"epoch {epoch} after {self.epoch}")
                self.epoch = epoch
                self.epochs[epoch] = process
                self.count("terms")
                self.world.say(f"{process.name} leads in epoch {epoch}")

    def _one_writer(self, process: Process, ops: Sequence[Op]) -> None:
        lock = self.world.state.kv.get(self.keys.leader)
        session = lock.session if lock is not None and isinstance(lock.session, str) else ""
        holder = self.sessions.get(session)
        if holder is not process:
            self.broke(
                f"{process.name} wrote {len(ops)} leader keys ({ops[0].key}) while the lock is held by "
                f"{holder.name if holder else 'nobody'}"
            )
        for op in ops:
            epoch = self._epoch_of(op)
            if epoch is None:
                continue
            if self.epochs.get(epoch) is not process:
                self.broke(f"{process.name} wrote {op.key} in epoch {epoch}, which is another's")
            if epoch != self.epoch:
                self.broke(f"{process.name} wrote {op.key} in epoch {epoch}, but it is {self.epoch}")

    def _epoch_of(self, op: Op) -> int | None:
        if op.verb not in _PUTS or is_sentinel(op.key):
            return None
        if op.key.startswith(self.keys.desired):
            return _read(op, DesiredAlloc).epoch
        if op.key.startswith(self.keys.controls):
            return _read(op, NodeControl).epoch
        if op.key.startswith(self.keys.jobs):
            return _read(op, JobRecord).epoch
        return None

    def _mirror(self, op: Op) -> str:
        """Takes up one accepted put; returns what the trace says of it."""
        keys, is_put = self.keys, op.verb in _PUTS
        if op.key.startswith(keys.desired) and is_put:
            return self._wanted(_read(op, DesiredAlloc))
        if op.key.startswith(keys.observed) and is_put:
            seen = _read(op, ObservedAlloc)
            before = self.observed.get(seen.id)
            self.observed[seen.id] = seen
            if seen.deployment_status is not None and seen.deployment_status.healthy:
                self.healthy[seen.id] = None
            if before is None or before.client_status is not seen.client_status:
                self.observed_since_s[seen.id] = self.world.loop.time()
                return f"{seen.id[:8]} is {seen.client_status}" + (" (orphan)" if seen.orphan else "")
        elif op.key.startswith(keys.versions) and is_put:
            job = _read(op, Job)
            self.versions[job.namespace, job.id, job.version] = job
            return f"{job.id} v{job.version}" + (" stopped" if job.stop else "")
        elif op.key.startswith(keys.jobs):
            if is_put:
                record = _read(op, JobRecord)
                key = (record.namespace, record.job_id)
                if (known := self.records.get(key)) is not None and known.version != record.version:
                    self.replaced_records[key] = (known.version, self.world.loop.time())
                self.records[key] = record
            else:
                job_id = unescape(last_segment(op.key))
                self.records.pop(("default", job_id), None)
                return f"{job_id} purged"
        elif op.key.startswith(keys.deployments):
            return self._deployed(op, is_put=is_put)
        elif op.key.startswith(keys.controls) and is_put:
            control = _read(op, NodeControl)
            before_control = self.controls.get(control.node_id)
            self.controls[control.node_id] = control
            if before_control is None or before_control.status is not control.status:
                machine = self.world.machine_of(control.node_id)
                return f"{machine.name if machine else control.node_id} {control.status}"
        return ""

    def _deployed(self, op: Op, *, is_put: bool) -> str:
        if not is_put:
            self.deployments.pop(last_segment(op.key), None)
            return ""
        new = _read(op, Deployment)
        old = self.deployments.get(new.id)
        self.deployments[new.id] = new
        if old is not None and not old.is_active and old.status is not new.status:
            self.broke(f"deployment {new.id[:8]} was {old.status} and is {new.status}")
        where = f"deployment {new.id[:8]} of {new.job_id} v{new.job_version}"
        return "" if old is not None and old.status is new.status else f"{where} {new.status} ({new.status_description})"

    def newest_deployment(self, namespace: str, job_id: str) -> Deployment | None:
        return max(
            (d for d in self.deployments.values() if (d.namespace, d.job_id) == (namespace, job_id)),
            key=lambda d: (d.create_time, d.job_version),
            default=None,
        )

    def _wanted(self, new: DesiredAlloc) -> str:
        old = self.desired.get(new.id)
        known = self.ever.get(new.id)
        self.desired[new.id] = self.ever[new.id] = new
        self.ever_at.setdefault(new.id, set()).add(new.job_version)
        machine = self.world.machine_of(new.node_id)
        where = f"{new.id[:8]} {new.name} v{new.job_version}@{machine.name if machine else '?'}"
        if known is not None and known.is_stopping and not new.is_stopping:
            self.broke(f"{where}: a stop was taken back")
        if new.verdict is not Verdict.NONE:
            self.ever_lost[new.id] = None
        if new.is_stopping:
            self.ever_stopped[new.id] = None
            if old is not None and not old.is_stopping:
                self._stopped(old, new)
                return f"stop {where} ({new.desired_description})"
        elif known is None:
            self._ports(new)
            self._one_for_one(new)
            self._once_each(new)
            return f"run {where}" + (f" for {new.previous_allocation[:8]}" if new.previous_allocation else "")
        elif old is None:
            return f"adopt {where}"
        if old is not None and old.verdict is not new.verdict:
            return f"hold {where} {new.verdict or 'present'}"
        return ""

    def _stopped(self, old: DesiredAlloc, new: DesiredAlloc) -> None:
        """The original and its stand-in: who may be stopped for the other?"""
        now_s = self.world.loop.time()
        record = self.records.get((old.namespace, old.job_id))
        group = self._group(old.namespace, old.job_id, record.version, old.task_group) if record else None
        if record is None or group is None or self._job_is_stopped(old, record.version):
            return
        if new.desired_description == MIGRATED:
            self._moved(old, group)
            return
        if new.desired_description == ORIGINAL_BACK:
            original = self.observed.get(old.previous_allocation)
            desired = self.desired.get(old.previous_allocation)
            machine = self.world.machine_of(desired.node_id) if desired else None
            if original is not None and machine is not None and original.boot_id != machine.boot_id:
                self.broke(f"stand-in {old.id[:8]} stopped for {original.id[:8]}, whose machine was rebooted")
            return
        seen = self.observed.get(old.id)
        is_healthy = (
            seen is not None
            and seen.client_status is ClientStatus.RUNNING
            and now_s - self.observed_since_s[old.id] > _HEARD_S
            and bool(self.live.get(old.id))
        )
        stand_ins = [
            d
            for d in self.desired.values()
            if d.previous_allocation == old.id and not d.is_stopping and d.job_version == old.job_version
        ]
        control = self.controls.get(old.node_id)
        is_ready = control is not None and control.status is NodeStatus.READY
        if is_healthy and is_ready and stand_ins and old.index < group.count and record.version == old.job_version:
            self.broke(f"healthy original {old.id[:8]} stopped, stand-in {stand_ins[0].id[:8]} kept")

    def _job_is_stopped(self, alloc: DesiredAlloc, version: int) -> bool:
        job = self.versions.get((alloc.namespace, alloc.job_id, version))
        return job is None or job.stop

    def _put(self, ops: Sequence[Op]) -> list[DesiredAlloc]:
        return [
            _read(op, DesiredAlloc)
            for op in ops
            if op.verb in _PUTS and op.key.startswith(self.keys.desired) and not is_sentinel(op.key)
        ]

    def _replaced(self, ops: Sequence[Op]) -> None:
        """Nothing is stopped for an update whose replacement is not written with it."""
        written = self._put(ops)
        replaced = {new.previous_allocation for new in written}
        for old in written:
            if old.is_stopping and old.desired_description == UPDATED and old.id not in replaced:
                self.broke(f"{old.id[:8]} stopped for an update without a replacement")

    def _moved(self, old: DesiredAlloc, group: TaskGroup) -> None:
        """With a surge the stand-in was healthy first."""
        control = self.controls.get(old.node_id)
        drain = control.drain if control is not None else None
        now_ns = round(self.world.loop.now().timestamp() * 1e9)
        has_surge = old.migrate_to or (drain is not None and group.count == 1)
        if not has_surge or old.id not in self.healthy or (drain is not None and drain.is_over(now_ns)):
            return
        stand_ins = [d for d in self.ever.values() if d.name == old.name and d.id != old.id and d.id in self.healthy]
        if not any(d.create_time >= old.create_time for d in stand_ins):
            self.broke(f"{old.id[:8]} moved away without a healthy stand-in")

    def _one_for_one(self, new: DesiredAlloc) -> None:
        """What was lost or fails has one replacement at a time."""
        before = new.previous_allocation
        others = [
            d.id
            for d in self.desired.values()
            if before and d.previous_allocation == before and d.id != new.id and not d.is_stopping
            and d.verdict is Verdict.NONE and not self._is_over(d)
        ]  # fmt: skip
        if others:
            self.broke(f"{before[:8]} is replaced by {new.id[:8]} and by {others[0][:8]}")

    def _once_each(self, new: DesiredAlloc) -> None:
        """A place of a completing group is run again only when what was there has ended or is given up, without success."""
        group = self._group(new.namespace, new.job_id, new.job_version, new.task_group)
        if group is None or group.completion is None:
            return
        for other in self.desired.values():
            if other.id == new.id or other.name != new.name or other.verdict is not Verdict.NONE or other.job_id != new.job_id:
                continue
            seen = self.observed.get(other.id)
            if not self._is_over(other):
                self.broke(f"{new.name} is run again as {new.id[:8]} while {other.id[:8]} has not ended")
            elif seen is not None and seen.client_status is ClientStatus.COMPLETE and not other.is_stopping and other.job_version == new.job_version:
                self.broke(f"{new.name} is run again as {new.id[:8]} though {other.id[:8]} has succeeded")
            self.count("completions checked")

    def _is_over(self, desired: DesiredAlloc) -> bool:
        seen = self.observed.get(desired.id)
        return seen is not None and seen.client_status.is_terminal

    def _paced(self, new: DesiredAlloc) -> None:
        """An update is under way for no more than max_parallel of a group's places."""
        group = self._group(new.namespace, new.job_id, new.job_version, new.task_group)
        job = self.versions.get((new.namespace, new.job_id, new.job_version))
        if job is None or job.is_system or group is None or group.update is None or not group.update.max_parallel:
            return
        under_way = [
            d
            for d in self.desired.values()
            if (d.namespace, d.job_id, d.task_group, d.job_version) == (new.namespace, new.job_id, new.task_group, new.job_version)
            and not d.is_stopping
            and d.verdict is Verdict.NONE
            and not self._is_over(d)
            and d.id not in self.healthy
            and d.deployment_id
            and (old := self.ever.get(d.previous_allocation)) is not None
            and old.desired_description == UPDATED
        ]  # fmt: skip
        if job.type is JobType.SERVICE and len(under_way) > group.update.max_parallel:
            ids = ", ".join(d.id[:8] for d in under_way)
            self.broke(f"{new.job_id}: {len(under_way)} are updated at once ({ids}), max_parallel is {group.update.max_parallel}")

    def _ports(self, new: DesiredAlloc) -> None:
        """A port is given again only to the job itself, whose own stopping alloc it then waits for on the node."""
        mine = {port.value for port in new.ports}
        for other in self.desired.values():
            seen = self.observed.get(other.id)
            is_over = seen is not None and seen.client_status.is_terminal
            if other.id == new.id or other.node_id != new.node_id or is_over:
                continue
            if other.is_stopping and (other.namespace, other.job_id) == (new.namespace, new.job_id):
                continue
            both = mine & {port.value for port in other.ports}
            if both:
                self.broke(f"ports {sorted(both)} of {other.id[:8]} given again to {new.id[:8]}")

    def _removed(self, op: Op) -> None:
        if op.verb not in _DELETES:
            return
        alloc_id = AllocId(last_segment(op.key))
        if op.key.startswith(self.keys.desired):
            gone = self.desired.pop(alloc_id, None)
            seen = self.observed.get(alloc_id)
            if gone is not None and (seen is None or not seen.client_status.is_terminal):
                self.broke(f"desired {alloc_id[:8]} deleted while observed {seen.client_status if seen else 'nowhere'}")
            if gone is not None and self.live.get(alloc_id):
                self.broke(f"desired {alloc_id[:8]} deleted while it runs")
        elif op.key.startswith(self.keys.observed):
            if alloc_id in self.desired:
                self.broke(f"observed {alloc_id[:8]} deleted while desired is there")
            self.observed.pop(alloc_id, None)
        elif op.key.startswith(self.keys.versions):
            parts = op.key.removeprefix(self.keys.versions).split("/")
            version = (parts[0], unescape(parts[1]), int(parts[2]))
            self.versions.pop(version, None)
            for desired in self.desired.values():
                if (desired.namespace, desired.job_id, desired.job_version) == version:
                    self.broke(f"version {version} deleted while {desired.id[:8]} names it")

    # -- counts

    def _group(self, namespace: str, job_id: str, version: int, name: str) -> TaskGroup | None:
        job = self.versions.get((namespace, job_id, version))
        return job.group(name) if job else None

    def _count_all(self) -> None:
        self._count({(d.namespace, d.job_id, d.task_group) for d in self.desired.values()})

    def _count(self, groups: set[Group]) -> None:
        """Running, wanted, not held lost: at most `count` and the canaries, by the largest of the versions concerned."""
        for namespace, job_id, name in sorted(groups):
            running = [
                d
                for d in self.desired.values()
                if (d.namespace, d.job_id, d.task_group) == (namespace, job_id, name)
                and not d.is_stopping
                and d.verdict is Verdict.NONE
                and self.live.get(d.id)
            ]
            extra = sum(d.canary or self._stands_in(d, running) for d in running)
            record = self.records.get((namespace, job_id))
            wanted = {d.job_version for d in running} | ({record.version} if record else set())
            before, since_s = self.replaced_records.get((namespace, job_id), (0, -_HEARD_S))
            if self.world.loop.time() - since_s < _HEARD_S:
                wanted.add(before)
            jobs = [j for v in wanted if (j := self.versions.get((namespace, job_id, v))) is not None]
            if any(job.is_system for job in jobs):
                nodes = [d.node_id for d in running]
                if len(nodes) != len(set(nodes)):
                    self.broke(f"{job_id}.{name}: two on one node")
                continue
            limit = max((g.count for job in jobs if (g := job.group(name)) is not None), default=None)
            if limit is not None and len(running) - extra > limit:
                ids = ", ".join(f"{d.id[:8]}@{d.node_name}" for d in running)
                self.broke(f"{job_id}.{name}: {len(running)} run, count is {limit}: {ids}")

    def _stands_in(self, alloc: DesiredAlloc, running: Sequence[DesiredAlloc]) -> bool:
        """Whether it runs beside the alloc of its place, which is about to move."""
        def leaves(other: DesiredAlloc) -> bool:
            control = self.controls.get(other.node_id)
            return bool(other.migrate_to) or (control is not None and control.drain is not None)

        beside = [other for other in running if other.name == alloc.name and other.id != alloc.id]
        return any(leaves(other) for other in beside) and not leaves(alloc)

    # -- the engines' side

    def started(self, engine: Engine, thing: Thing) -> None:
        self.count("starts")
        start = thing.start
        alloc_id = start.alloc_id
        live = self.live.setdefault(alloc_id, {})
        if start.task_name in live:
            self.broke(f"{alloc_id[:8]}/{start.task_name} runs twice on {engine.name}")
        wanted = self.ever.get(alloc_id)
        machine = self.world.machine_of(wanted.node_id) if wanted else None
        if wanted is None or machine is None or machine.name != engine.name:
            self.broke(f"{alloc_id[:8]} started on {engine.name}, which nobody asked for")
        mine = {port.value for port in start.ports}
        for other in engine.alive:
            both = mine & {port.value for port in other.start.ports}
            if other.start.alloc_id != alloc_id and both:
                self.broke(f"{alloc_id[:8]} and {other.start.alloc_id[:8]} both have ports {sorted(both)}")
        live[start.task_name] = thing
        self.world.say(f"{engine.name} starts {alloc_id[:8]}/{start.task_name} attempt {start.attempt}")
        if wanted is not None:
            self._count({(wanted.namespace, wanted.job_id, wanted.task_group)})

    def stopping(self, engine: Engine, thing: Thing, how: str) -> None:
        self.count("stops")
        alloc_id, name = thing.start.alloc_id, thing.start.task_name
        why = self._reason(engine, thing)
        self.world.say(f"{engine.name} {how}s {alloc_id[:8]}/{name}: {why or 'WHY?'}")
        if why is None:
            self.broke(f"{alloc_id[:8]}/{name} stopped on {engine.name} without a reason")

    def _reason(self, engine: Engine, thing: Thing) -> str | None:
        alloc_id = thing.start.alloc_id
        if alloc_id in self.ever_stopped:
            return "stop document"
        if thing.was_sick:
            return "its check failed"
        if self.ended_tasks.get(alloc_id, set()) - {thing.start.task_name}:
            return "a sibling ended"
        wanted = self.ever.get(alloc_id)
        if wanted is not None and alloc_id in self.ever_lost and self._is_of_several(wanted):
            return "given up while its main task did not run"
        if engine.refused.get(alloc_id, set()) - {thing.start.task_name}:
            return "a sibling could not be started"
        machine = self.world.machine_of(wanted.node_id) if wanted else None
        process = machine.process if machine is not None else None
        if wanted is not None and machine is not None and process is not None:
            # An agent whose watch hangs goes by the version that it knows.
            groups = [self._group(wanted.namespace, wanted.job_id, version, wanted.task_group) for version in self.ever_at[alloc_id]]
            limits = [seconds(one.stop_after_client_disconnect) for one in groups if one and one.stop_after_client_disconnect is not None]
            if limits and max(process.note_away(), machine.away_before_s) >= min(limits):
                return "stop_after_client_disconnect"
        return None

    def _is_of_several(self, alloc: DesiredAlloc) -> bool:
        group = self._group(alloc.namespace, alloc.job_id, alloc.job_version, alloc.task_group)
        return group is not None and len(group.tasks) > 1

    def ended(self, engine: Engine, thing: Thing) -> None:
        alloc_id, name = thing.start.alloc_id, thing.start.task_name
        self.live.get(alloc_id, {}).pop(name, None)
        if not self.live.get(alloc_id):
            self.live.pop(alloc_id, None)
        self.ended_tasks.setdefault(alloc_id, set()).add(name)
        self.world.say(f"{engine.name} {alloc_id[:8]}/{name} ends with {thing.result.code}")


def _read(op: Op, kind: type[T]) -> T:
    return decode(unpack(op.value or b""), kind)


