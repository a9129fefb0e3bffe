"""Who starts periodic jobs on time, once, whoever leads?

    the soonest moment, or something happened ──decide/launching.py──> child + launches/<ns>/<job>, one transaction

The key of the child names the job and the moment and is created, never overwritten; and `launches` moves past that
moment in the same transaction, over what was read of it. So no moment is launched twice, not by two leaders and not
after its child was removed. What may or may not have been written is read before anything is decided again.

One job's refusal is that job's: its run is given up and its check says why. Several jobs' transactions are under way at
once, for each takes as long as Consul's disk; what is due is worked out for one job at a time.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from leader import children
from leader.commands import Registered, indexes
from leader.decide.children import PERIODIC_INFIX
from leader.decide.launching import Due, due, following
from leader.families import Changes
from leader.fenced import log
from leader.leading import Leading
from model.cluster import Launches
from model.errors import (
    DroverError,
    InvariantBroken,
    SessionLost,
    StoreForbidden,
    StoreRefused,
    StoreUnavailable,
    StoreUnclear,
    WriteConflict,
)
from model.job import Job, JobId, Namespace
from model.snapshot import JobKey

# What a wake may be off: nothing is started later than this if a wake was lost.
_LOOK_S_MAX = 30.0
# Transactions under way at once; Consul gathers what comes while it writes. 150 jobs of one second were launched a median
# 2.2 s late one after the other, and 0.3 s with 16 at once.
_AT_ONCE = 16
# How long a job waits after a write of its own was refused or lost a race, or its decision failed.
_AGAIN_S = 1
_UNDECIDED_S = 10


class NotPeriodic(DroverError):
    """There is nothing to force. The words are Nomad's."""


@dataclass(slots=True)
class Launching:
    leading: Leading
    _changes: Changes = field(default_factory=Changes)
    _wake_s: dict[JobKey, int] = field(default_factory=dict)

    async def run(self) -> None:
        families = self.leading.view.families
        families.listen(self._changes)
        self._changes.add(*families.scheduled)
        await self.leading.fenced.keep_on("launch", self._cycle)

    async def _cycle(self) -> None:
        await self._wait()
        now_s = self.leading.fenced.now_ns // 1_000_000_000
        keys = sorted({*self._changes.take(), *(key for key, at_s in self._wake_s.items() if at_s <= now_s)})
        if self.leading.deciding.is_held:
            return
        try:
            await self._look_at(keys)
        except BaseException:
            self._changes.add(*keys)
            raise

    async def _wait(self) -> None:
        """Until something happened, or the soonest moment is there."""
        now_s = self.leading.fenced.now_ns / 1e9
        soonest = min(self._wake_s.values(), default=None)
        wait_s = _LOOK_S_MAX if soonest is None else min(_LOOK_S_MAX, max(0.0, soonest - now_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changes.event.wait()

    async def _look_at(self, keys: Sequence[JobKey]) -> None:
        """Raises what ends the round: SessionLost, StoreUnavailable, a bug."""
        room, failures = asyncio.Semaphore(_AT_ONCE), list[Exception]()
        async with asyncio.TaskGroup() as tasks:
            for key in keys:
                self._wake_s.pop(key, None)
                if key not in self.leading.view.families.scheduled:
                    continue
                await room.acquire()
                if failures:
                    break
                tasks.create_task(self._look(key, room, failures), name=f"launch {key[1]}")
                await asyncio.sleep(0)
        if failures:
            raise next((one for one in failures if isinstance(one, SessionLost | InvariantBroken)), failures[0])

    async def _look(self, key: JobKey, room: asyncio.Semaphore, failures: list[Exception]) -> None:
        now_s = self.leading.fenced.now_ns // 1_000_000_000
        try:
            async with self.leading.turn(key):
                await self._step(key)
        except (SessionLost, InvariantBroken, StoreUnavailable, StoreForbidden) as error:
            failures.append(error)
        except (WriteConflict, StoreRefused) as error:
            log.warning("launch of job %s: %s", key[1], error)
            self._wake_s[key] = now_s + (_AGAIN_S if isinstance(error, WriteConflict) else _UNDECIDED_S)
        except Exception:
            # One job that cannot be decided must not keep the others from it; it is tried again later.
            log.exception("launch of job %s failed", key[1])
            self._wake_s[key] = now_s + _UNDECIDED_S
        finally:
            room.release()

    async def _step(self, key: JobKey) -> None:
        leading, view = self.leading, self.leading.view
        await leading.deciding.read_doubted()
        job = view.jobs.get(key)
        if job is None or job.periodic is None or not job.is_scheduled:
            return
        launches = children.known_launches(leading, key)
        now_s = leading.fenced.now_ns // 1_000_000_000
        # A changed schedule counts from when it was submitted.
        since_s = max(launches.dealt, job.submit_time // 1_000_000_000)
        found = Due(dealt_s=since_s, wake_s=following(job.periodic, since_s))
        if found.wake_s is not None and found.wake_s <= now_s:
            found = due(
                job.periodic,
                since_s=since_s,
                now_s=now_s,
                is_running=job.periodic.prohibit_overlap and children.has_running(view, key),
                pending=children.pending(view, key),
            )
            await self._carry_out(key, job, launches, found)
        if found.wake_s is not None:
            self._wake_s[key] = found.wake_s

    async def _carry_out(self, key: JobKey, job: Job, launches: Launches, found: Due) -> None:
        leading, view = self.leading, self.leading.view
        if found.launch_s is None and not found.missed:
            return
        changed: Launches = msgspec.structs.replace(launches, dealt=found.dealt_s, missed=launches.missed + found.missed)
        if found.missed:
            log.warning("job %s: %d runs up to %s never started", job.id, found.missed, children.moment_text(found.dealt_s))
        if found.launch_s is not None:
            child_id = f"{job.id}{PERIODIC_INFIX}{found.launch_s}"
            why_not = await _launch_once(leading, job, child_id, changed)
            if why_not is None:
                return
            if why_not:
                log.warning("%s was not started: %s", child_id, why_not)
                changed = children.given_up(changed, child_id, found.launch_s, leading.fenced.now_ns, why_not)
        op = children.launches_op(leading, changed)
        try:
            written = await leading.fenced.commit([op])
        except BaseException:
            leading.deciding.doubt_launches(key)
            raise
        view.put_launches(changed, *indexes(written[op.key]))


async def _launch_once(leading: Leading, job: Job, child_id: str, launches: Launches) -> str | None:
    """None: it is started, and `launches` written. Else why not; "": it was forced at this very moment."""
    there = leading.view.jobs.get((job.namespace, JobId(child_id)))
    if there is not None:
        return "" if there.parent_id == job.id else "a job of that name is there, which is no run of this one"
    try:
        await _launch(leading, job, child_id, launches)
    except StoreForbidden:
        raise
    except StoreRefused as error:
        return str(error)
    return None


async def force(leading: Leading, namespace: Namespace, job_id: JobId) -> Registered | None:
    """Starts a periodic job now, whatever its schedule and whatever runs of it. Twice in a second is once. None: there is
    no such job. Raises NotPeriodic, and as every write."""
    key: JobKey = (namespace, job_id)
    async with leading.turn(key):
        job = leading.view.jobs.get(key)
        if job is None:
            return None
        if job.periodic is None or job.is_parameterized:
            raise NotPeriodic("can't force launch non-periodic job")
        if job.stop:
            raise NotPeriodic("can't force launch a stopped job")
        await leading.deciding.read_doubted()
        child_id = JobId(f"{job.id}{PERIODIC_INFIX}{leading.fenced.now_ns // 1_000_000_000}")
        if (there := leading.view.jobs.get((namespace, child_id))) is not None and there.parent_id != job.id:
            raise NotPeriodic(f'there is a job "{child_id}" already, which is no run of "{job.id}"')
        known = leading.view.evals.get(children.first_eval(leading.view, (namespace, child_id)))
        if known is not None:
            return Registered(known.document, known.create_index, known.create_index)
        try:
            return await _launch(leading, job, child_id)
        except (WriteConflict, StoreUnclear):
            # It was started in this very second after all, or by an earlier try of ours.
            await leading.deciding.read_doubted()
            known = leading.view.evals.get(children.first_eval(leading.view, (namespace, child_id)))
            if known is None:
                raise
            return Registered(known.document, known.create_index, known.create_index)


async def _launch(leading: Leading, job: Job, child_id: str, launches: Launches | None = None) -> Registered:
    child = children.child_of(job, child_id, leading.fenced.now_ns, periodic=None)
    return await children.start(leading, child, "periodic-job", launches)
