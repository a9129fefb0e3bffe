"""How far is a batch group with a `completion` block, and what is its next step?

    its allocs' documents ──> places: done, held, failed so often ──> Progress: running, complete or failed
                                                                  └──> what stops, what is placed, when to look again

The places are 0 .. completions - 1, of a work queue 0 .. count - 1; at most `count` are held at once. A place is done
once an alloc of it has succeeded, told by nobody to stop, with what the current version asks for. It is held by
whatever of it may still run, also by what was told to stop: no two of a place run beside each other, unless one is on
a node that was given up. All of it is read from the allocs' documents, so any leader comes to the same end.

A failed run is an alloc that failed, or a failed task that its agent started again in place. What was lost with its
node, moved away or stopped is run again and counts as nothing. Each place waits out its own failures: were it the
group's, one place's bad luck would slow down all the others (docs/design/019-completions.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from leader.decide.changes import versions_alike
from leader.decide.counted import MIGRATED, NOT_NEEDED, failed_at_ns
from leader.decide.draft import Draft, Facts
from model.alloc import Alloc, AllocId, ClientStatus, Verdict, alloc_name
from model.job import Completion, Job, TaskGroup, disconnect_of
from model.plan import PlaceRequest
from model.wire import Document, seconds


class ProgressStatus(StrEnum):
    RUNNING = "running"  # also while it waits out a backoff, or for room
    COMPLETE = "complete"
    FAILED = "failed"


class Progress(Document):
    """wanted: successful runs, None in a work queue. failed: runs that failed, those started again in place included.
    active: allocs that run or are about to. started_at, finished_at: ns since the epoch, 0: not yet."""

    wanted: int | None
    succeeded: int = 0
    failed: int = 0
    active: int = 0
    status: ProgressStatus = ProgressStatus.RUNNING
    reason: str = ""
    started_at: int = 0
    finished_at: int = 0

    @property
    def is_over(self) -> bool:
        return self.status is not ProgressStatus.RUNNING and not self.active


@dataclass(slots=True)
class _Place:
    """last: the newest alloc of it that ended, or was given up."""

    live: list[Alloc] = field(default_factory=list)
    is_held: bool = False
    is_done: bool = False
    failures: int = 0
    last: Alloc | None = None


@dataclass(slots=True, kw_only=True)
class _Work:
    """One group's allocs by place. held: places that are; unneeded: live ones of another spec."""

    places: dict[int, _Place] = field(default_factory=dict)
    unneeded: list[Alloc] = field(default_factory=list)
    held: int = 0
    successes: int = 0
    failures: int = 0
    active: int = 0
    started_at: int = 0
    changed_at: int = 0


def progress(
    job: Job, group: TaskGroup, allocs: Iterable[Alloc], versions: Mapping[int, Job], now_ns: int
) -> Progress:
    """allocs: all of the group. versions: {version: job} of what they name. The group has a completion block."""
    return _progress(job, group, _work(job, group, allocs, versions), now_ns)


def records(job: Job, allocs: Iterable[Alloc], versions: Mapping[int, Job]) -> frozenset[AllocId]:
    """Those whose documents tell how far the job's groups are: they stay as long as the job."""
    alike = {g.name: versions_alike(job, g, versions) for g in job.task_groups if g.completion is not None}
    if not alike:
        return frozenset()
    return frozenset(
        alloc.id for alloc in allocs if not alloc.desired.apart and alloc.desired.job_version in alike.get(alloc.desired.task_group, ())
    )


def completing_group(facts: Facts, group: TaskGroup, allocs: Sequence[Alloc], draft: Draft) -> None:
    """allocs: all of the group, ended ones included, by age."""
    work = _work(facts.job, group, allocs, facts.versions)
    now = _progress(facts.job, group, work, facts.now_ns)
    _stop(facts, group, work, now, draft)
    rule = _rule(group)
    if now.status is not ProgressStatus.RUNNING:
        return
    if (ends_at := _ends_at(facts.job, group, work)) is not None:
        draft.wake(ends_at)
    if rule.completions is None and work.successes:
        return  # nothing is left in the queue: what runs is only awaited
    _place_open(facts, group, work, group.count - work.held, draft)


def _ends_at(job: Job, group: TaskGroup, work: _Work) -> int | None:
    """When its active_deadline passes. It counts from the first alloc on; while there is none, from when the job's version
    was submitted, unless the job may have to wait for its turn (max_running)."""
    deadline = _rule(group).active_deadline
    if deadline is None:
        return None
    if work.started_at:
        return work.started_at + deadline
    line = job.parameterized_job
    is_in_line = job.dispatched and line is not None and line.max_running > 0
    return None if is_in_line or not group.count else job.submit_time + deadline


def _rule(group: TaskGroup) -> Completion:
    return group.completion or Completion()


def _work(job: Job, group: TaskGroup, allocs: Iterable[Alloc], versions: Mapping[int, Job]) -> _Work:
    """One pass, for a group may have run 50,000 times. Only which alloc is a place's last depends on their order."""
    work = _Work()
    alike = versions_alike(job, group, versions)
    waits_for_node = (rule := disconnect_of(group)) is not None and not rule.replace
    for alloc in allocs:
        desired, seen, is_terminal = alloc.desired, alloc.observed, alloc.is_terminal
        if desired.apart:
            continue
        index = desired.index
        place = work.places.get(index)
        if place is None:
            place = work.places[index] = _Place()
        if not is_terminal and (desired.verdict is Verdict.NONE or (desired.verdict is Verdict.UNKNOWN and waits_for_node)):
            work.active += 1
            work.held += not place.is_held
            place.is_held = True
        is_live = not is_terminal and alloc.is_live
        if desired.job_version not in alike:
            if is_live:
                work.unneeded.append(alloc)
            continue
        if is_live:
            place.live.append(alloc)
        else:
            place.last = alloc
        work.started_at = min(work.started_at or desired.create_time, desired.create_time)
        work.changed_at = max(work.changed_at, failed_at_ns(alloc))
        is_own_end = is_terminal and not desired.is_stopping
        failures = (seen.failed_runs if seen is not None else 0) + (is_own_end and _has_failed(alloc))
        place.failures += failures
        work.failures += failures
        if is_own_end and seen is not None and seen.client_status is ClientStatus.COMPLETE:
            place.is_done = True
            work.successes += 1
    return work


def _has_failed(alloc: Alloc) -> bool:
    return alloc.client_status is ClientStatus.FAILED and alloc.desired.verdict is not Verdict.LOST


def _progress(job: Job, group: TaskGroup, work: _Work, now_ns: int) -> Progress:
    rule = _rule(group)
    wanted, succeeded = rule.completions, work.successes
    if wanted is not None:
        succeeded = sum(place.is_done for index, place in work.places.items() if index < wanted)
    is_complete = succeeded >= wanted if wanted is not None else bool(succeeded) and not work.held
    status, reason, ended_at = ProgressStatus.RUNNING, "", work.changed_at
    ends_at = _ends_at(job, group, work)
    if is_complete:
        status = ProgressStatus.COMPLETE
    elif work.failures > rule.backoff_limit:
        status = ProgressStatus.FAILED
        reason = f"{work.failures} runs have failed, backoff_limit is {rule.backoff_limit}"
    elif rule.active_deadline is not None and ends_at is not None and now_ns >= ends_at:
        status = ProgressStatus.FAILED
        without = "" if work.started_at else ", and nothing of it found a place"
        reason = f"active_deadline of {seconds(rule.active_deadline):g}s has passed{without}"
        ended_at = ended_at or ends_at
    is_over = status is not ProgressStatus.RUNNING and not work.active
    return Progress(
        wanted=wanted,
        succeeded=succeeded,
        failed=work.failures,
        active=work.active,
        status=status,
        reason=reason,
        started_at=work.started_at,
        finished_at=ended_at if is_over else 0,
    )


def _stop(facts: Facts, group: TaskGroup, work: _Work, now: Progress, draft: Draft) -> None:
    """Stops what is not to run any more, and tells the rest the current version's number."""
    for alloc in work.unneeded:
        draft.stop(alloc, NOT_NEEDED)
    kept: list[Alloc] = []
    for index, place in work.places.items():
        if not place.live:
            continue
        keeps = not place.is_done and index < group.places and now.status is ProgressStatus.RUNNING
        for alloc in sorted(place.live, key=_preference):
            if not keeps:
                draft.stop(alloc, now.reason or NOT_NEEDED)
            elif facts.must_leave(alloc):
                draft.stop(alloc, MIGRATED)
            elif alloc.desired.job_version != facts.job.version and alloc.id in facts.misplaced:
                draft.stop(alloc, NOT_NEEDED)
            else:
                kept.append(alloc)
                keeps = False  # of two, usually the stand-in of a lost node and its original, one goes
    surplus = len(kept) - group.count
    for alloc in sorted(kept, key=_preference, reverse=True)[: max(0, surplus)]:
        draft.stop(alloc, NOT_NEEDED)
        kept.remove(alloc)
    for alloc in kept:
        if alloc.desired.job_version != facts.job.version:
            current = draft.change.get(alloc.id, alloc.desired)
            draft.change[alloc.id] = msgspec.structs.replace(current, job_version=facts.job.version)


def _preference(alloc: Alloc) -> tuple[bool, int, str]:
    """Sorts the alloc to keep first: running, oldest."""
    return alloc.client_status is not ClientStatus.RUNNING, alloc.create_index, alloc.id


def _place_open(facts: Facts, group: TaskGroup, work: _Work, room: int, draft: Draft) -> None:
    """The lowest places that are neither done nor held, as far as there is room and they have waited long enough."""
    for index in range(group.places):
        if room <= 0:
            return
        place = work.places.get(index, _Place())
        if place.is_done or place.is_held:
            continue
        due_ns = _due_ns(group, place)
        if due_ns > facts.now_ns:
            draft.wake(due_ns)
            continue
        room -= 1
        draft.place.append(
            PlaceRequest(
                job=facts.job, group=group, name=alloc_name(facts.job.id, group.name, index), previous=place.last
            )
        )


def _due_ns(group: TaskGroup, place: _Place) -> int:
    """When the place may be tried again: at once, unless the last of it has failed."""
    last = place.last
    if last is None or last.desired.is_stopping or not _has_failed(last):
        return 0
    return failed_at_ns(last) + _rule(group).backoff(place.failures)
