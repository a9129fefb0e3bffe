"""Who starts periodic jobs on time, once, whoever leads?

    the soonest moment, or something happened ──decide/launching.py──> child + launches/<ns>/<job>, one transaction

The key of the child names the job and the moment and is created, never overwritten; and `launches` moves past that
moment in the same transaction, over what was read of it. So no moment is launched twice, not by two leaders and not
after its child was removed. What may or may not have been written is read before anything is decided again.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from leader import children
from leader.commands import Registered, indexes
from leader.decide.children import PERIODIC_INFIX
from leader.decide.launching import Due, due
from leader.fenced import log
from leader.leading import Leading
from model.cluster import Launches
from model.errors import DroverError, StoreUnclear, WriteConflict
from model.job import Job, JobId, Namespace
from model.snapshot import JobKey

# What a wake may be off: nothing is started later than this if a wake was lost.
_LOOK_S_MAX = 30.0


class NotPeriodic(DroverError):
    """There is nothing to force. The words are Nomad's."""


@dataclass(slots=True)
class Launching:
    leading: Leading
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _wake_s: dict[JobKey, int | None] = field(default_factory=dict)

    async def run(self) -> None:
        self._changed.set()
        self.leading.view.families.listeners.add(self._changed)
        await self.leading.fenced.keep_on("launch", self._cycle)

    async def _cycle(self) -> None:
        is_woken = await self._wait()
        if self.leading.deciding.is_held:
            return
        now_s = self.leading.fenced.now_ns // 1_000_000_000
        scheduled = self.leading.view.families.scheduled
        self._wake_s = {key: at for key, at in self._wake_s.items() if key in scheduled}
        try:
            for key in sorted(scheduled):
                at = self._wake_s.get(key, 0)
                if is_woken or (at is not None and at <= now_s):
                    async with self.leading.turn(key):
                        await self._step(key)
        except BaseException:
            self._changed.set()  # all of them are looked at again
            raise

    async def _wait(self) -> bool:
        """Whether something happened; else the soonest moment is there."""
        now_s = self.leading.fenced.now_ns / 1e9
        soonest = min((at for at in self._wake_s.values() if at is not None), default=None)
        wait_s = _LOOK_S_MAX if soonest is None else min(_LOOK_S_MAX, max(0.0, soonest - now_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()
        is_woken = self._changed.is_set()
        self._changed.clear()
        return is_woken

    async def _step(self, key: JobKey) -> None:
        leading, view = self.leading, self.leading.view
        await leading.deciding.read_doubted()
        job = view.jobs.get(key)
        if job is None or job.periodic is None or not job.is_scheduled:
            return
        launches = children.known_launches(leading, key)
        found = due(
            job.periodic,
            # A changed schedule counts from when it was submitted.
            since_s=max(launches.dealt, job.submit_time // 1_000_000_000),
            now_s=leading.fenced.now_ns // 1_000_000_000,
            is_running=job.periodic.prohibit_overlap and children.has_running(view, key),
        )
        await self._carry_out(key, job, launches, found)
        self._wake_s[key] = found.wake_s

    async def _carry_out(self, key: JobKey, job: Job, launches: Launches, found: Due) -> None:
        leading, view = self.leading, self.leading.view
        if found.launch_s is None and not found.missed:
            return
        changed = msgspec.structs.replace(launches, dealt=found.dealt_s, missed=launches.missed + found.missed)
        if found.missed:
            log.warning("job %s: %d runs up to %s never started", job.id, found.missed, children.moment_text(found.dealt_s))
        child_id = f"{job.id}{PERIODIC_INFIX}{found.launch_s}"
        if found.launch_s is not None and (key[0], JobId(child_id)) not in view.jobs:
            await _launch(leading, job, child_id, changed)
            return
        # Given up; or forced at this very moment.
        op = children.launches_op(leading, changed)
        try:
            written = await leading.fenced.commit([op])
        except BaseException:
            leading.deciding.doubt_launches(key)
            raise
        view.put_launches(changed, *indexes(written[op.key]))


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
