"""What became of a child of a periodic or parameterized job, and which of those that ended may go?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from leader.decide.completing import ProgressStatus, progress
from leader.decide.counted import failed_at_ns, is_result, replaced
from leader.decide.reschedule import next_attempt
from model.alloc import Alloc, ClientStatus, TaskStatus, Verdict
from model.job import History, Job, JobId, TaskGroup

PERIODIC_INFIX = "/periodic-"
DISPATCH_INFIX = "/dispatch-"


class Outcome(StrEnum):
    """pending: nothing of it was placed yet."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_over(self) -> bool:
        return self not in (Outcome.PENDING, Outcome.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRun:
    """One child's run. due_s: the moment that it was launched for, 0 if it was dispatched. started_ns, ended_ns: 0 for
    not yet. reason: why it failed, or finds no place."""

    job_id: JobId
    due_s: int
    outcome: Outcome
    started_ns: int = 0
    ended_ns: int = 0
    reason: str = ""


def run_of(job: Job, allocs: Iterable[Alloc], versions: Mapping[int, Job] | None = None, now_ns: int = 0) -> ChildRun:
    """allocs: all of the child's. versions: those of the child that they name; None: only its current one."""
    everything = sorted((a for a in allocs if not a.desired.apart), key=lambda a: (a.create_index, a.id))
    outcome, reason = _outcome(job, everything, versions or {job.version: job}, now_ns)
    started = min((a.desired.create_time for a in everything), default=0)
    ended = max((failed_at_ns(a) for a in everything), default=job.submit_time) if outcome.is_over else 0
    return ChildRun(
        job_id=job.id, due_s=due_of(job), outcome=outcome, started_ns=started, ended_ns=ended, reason=reason
    )


def due_of(job: Job) -> int:
    """The moment in a periodic child's id, in seconds since 1970; 0 in others."""
    if not job.parent_id:
        return 0
    prefix, _, moment = job.id.rpartition(PERIODIC_INFIX)
    return int(moment) if prefix == job.parent_id and moment.isdecimal() else 0


def _outcome(job: Job, allocs: Sequence[Alloc], versions: Mapping[int, Job], now_ns: int) -> tuple[Outcome, str]:
    if job.stop:
        if any(not alloc.is_terminal for alloc in allocs):
            return Outcome.RUNNING, ""
    elif not allocs and not (job.wants_nothing or _is_too_late(job, versions, now_ns)):
        return Outcome.PENDING, ""
    if job.is_system:
        found = [_of_place(job, job.group(alloc.desired.task_group), [alloc]) for alloc in allocs]
    else:
        found = [
            _of_place(job, group, [a for a in allocs if a.desired.task_group == group.name and a.desired.index == index])
            for group in job.task_groups
            if group.completion is None
            for index in range(group.count)
        ]
        completing = [group for group in job.task_groups if group.completion is not None]
        found += [_of_completing(job, group, allocs, versions, now_ns) for group in completing]
    outcomes = {outcome for outcome, _ in found}
    for first in (Outcome.RUNNING, Outcome.FAILED, Outcome.STOPPED):
        if first in outcomes:
            return first, next((reason for outcome, reason in found if outcome is first and reason), "")
    return Outcome.SUCCEEDED, ""


def _is_too_late(job: Job, versions: Mapping[int, Job], now_ns: int) -> bool:
    """Whether a group's deadline passed before anything of it found a place."""
    groups = [group for group in job.task_groups if group.completion is not None]
    return any(progress(job, group, (), versions, now_ns).is_over for group in groups)


def _of_completing(
    job: Job, group: TaskGroup, allocs: Sequence[Alloc], versions: Mapping[int, Job], now_ns: int
) -> tuple[Outcome, str]:
    of_group = [alloc for alloc in allocs if alloc.desired.task_group == group.name]
    known = progress(job, group, of_group, versions, now_ns)
    if not known.is_over:
        return (Outcome.STOPPED, "stopped") if job.stop and not known.active else (Outcome.RUNNING, "")
    if known.status is ProgressStatus.COMPLETE:
        return Outcome.SUCCEEDED, ""
    return Outcome.FAILED, f"group {group.name}: {known.reason}"


def _of_place(job: Job, group: TaskGroup | None, allocs: Sequence[Alloc]) -> tuple[Outcome, str]:
    if any(_is_done(alloc, job) for alloc in allocs):
        return Outcome.SUCCEEDED, ""
    if any(not alloc.is_terminal for alloc in allocs):
        return Outcome.RUNNING, ""
    followed = replaced(allocs)
    last = next((a for a in reversed(allocs) if a.id not in followed), None)
    if last is not None and last.client_status is ClientStatus.FAILED and not last.desired.is_stopping:
        policy = group.reschedule_policy if group is not None else None
        goes_on = policy is not None and not job.stop and not job.is_system and next_attempt(last, policy, failed_at_ns(last)) is not None
        return (Outcome.RUNNING, "") if goes_on else (Outcome.FAILED, _reason(last))
    if job.stop:
        return Outcome.STOPPED, "stopped"
    if last is not None and last.desired.verdict is not Verdict.NONE:
        return Outcome.RUNNING, ""  # its replacement finds no place yet
    if last is not None and job.is_system:
        return Outcome.STOPPED, "stopped"
    return Outcome.RUNNING, ""


def _is_done(alloc: Alloc, job: Job) -> bool:
    """Stopping a job makes a new version of it, which nothing of has run."""
    if job.stop:
        return alloc.client_status is ClientStatus.COMPLETE and not alloc.desired.is_stopping
    return is_result(alloc, job)


def _reason(alloc: Alloc) -> str:
    """What its first failed task says of it."""
    observed = alloc.observed
    for name, state in sorted(observed.task_states.items()) if observed else ():
        if state.failed and state.state is TaskStatus.DEAD:
            last = next((e for e in reversed(state.events) if e.type in ("Terminated", "Driver Failure", "Failed Validation")), None)
            if last is not None and last.type == "Terminated":
                how = f"signal {last.signal}" if last.signal else f"exit code {last.exit_code}"
                return f'task "{name}" ended with {how}'
            said = (last.display_message or last.message) if last else ""
            return f'task "{name}" failed{f": {said}" if said else ""}'[:300]
    return (observed.client_description if observed else "") or "failed"


def surplus(runs: Iterable[ChildRun], history: History, ended_before_ns: int) -> list[ChildRun]:
    """Those that ended before that moment and are not among the newest that are kept, oldest first. Stopped ones count
    as failed."""
    over = sorted((run for run in runs if run.outcome.is_over), key=lambda run: (run.ended_ns, run.job_id))
    good = [run for run in over if run.outcome is Outcome.SUCCEEDED]
    bad = [run for run in over if run.outcome is not Outcome.SUCCEEDED]
    kept = {run.job_id for run in (*_last(good, history.successful), *_last(bad, history.failed))}
    return [run for run in over if run.job_id not in kept and run.ended_ns <= ended_before_ns]


def _last(runs: Sequence[ChildRun], count: int) -> Sequence[ChildRun]:
    return runs[-count:] if count else ()
