"""What would happen if this job were submitted now?

    view ──a copy of the node table──> reconcile ─> place ──> decide/forecast.py: how many of what, and the diff
                                                        └──> explaining.py: why not all is placed

The same decisions as deciding.py's, as a trial: nothing is written, and what the trial takes is taken of the copy.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from jobspec.diff import job_diff
from leader.commands import admitted, as_current
from leader.decide.forecast import GroupUpdates, annotated, updates_by_group
from leader.decide.place import as_changed
from leader.decide.table import NodeTable
from leader.deciding import Deciding
from leader.view import View
from model.alloc import Alloc, DesiredAlloc, EvalId
from model.evaluation import PlacementMetric
from model.job import Job, spec_of
from model.plan import Placed, Reconciled
from model.snapshot import JobKey, Settings


class Cluster(Protocol):
    """What a trial asks of whoever leads, or of a snapshot of it (simulating.py)."""

    @property
    def view(self) -> View: ...
    @property
    def settings(self) -> Settings: ...
    @property
    def deciding(self) -> Deciding: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """job: with the version it would have. preempted: what of other jobs would have to go for it. job_modify_index: the
    current version's, Consul's; None: it is new."""

    job: Job
    updates: Mapping[str, GroupUpdates]
    preempted: tuple[DesiredAlloc, ...]
    failed: Mapping[str, PlacementMetric]
    job_modify_index: int | None
    diff: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """allocs, after: the job's, as they are and with what is `needed`. table: the room left once all is placed."""

    job: Job
    current: Job | None
    allocs: tuple[Alloc, ...]
    after: tuple[Alloc, ...]
    needed: Reconciled
    placed: Placed
    table: NodeTable
    algorithm: str


def forecast(leading: Cluster, job: Job, *, has_diff: bool) -> Forecast:
    """What submitting the job would do. It must be valid."""
    trial = attempt(leading, job)
    current, view = trial.current, leading.view
    updates = updates_by_group(trial.job, trial.needed, trial.placed, trial.allocs, trial.after)
    known = view.version_indexes.get((_key(job), current.version)) if current else None
    return Forecast(
        job=trial.job,
        updates=updates,
        preempted=trial.placed.preempted,
        failed=trial.placed.failed,
        job_modify_index=known.modify_index if known else None,
        diff=annotated(job_diff(current, trial.job), updates, current, trial.job) if has_diff else None,
    )


def attempt(leading: Cluster, job: Job, *, is_partial: bool = False) -> Trial:
    """The next step for this job, on a copy of the table. is_partial: places what it can of an all_at_once job too."""
    view, key = leading.view, _key(job)
    current = view.jobs.get(key)
    job = _as_submitted(leading, current, job)
    table, deciding = view.table.copy(), leading.deciding
    allocs = tuple(view.allocs_by_job.get(key, {}).values())
    needed = deciding.needed(key, job)
    after = tuple(as_changed(allocs, needed))
    asked = needed
    if is_partial and job.all_at_once:
        some = msgspec.structs.replace(job, all_at_once=False)
        asked = replace(needed, place=tuple(replace(request, job=some) for request in needed.place))
    placed = deciding.placed(job, asked, after, table=table, rng=random.Random(0), eval_id=EvalId(""))
    return Trial(
        job=job,
        current=current,
        allocs=allocs,
        after=after,
        needed=needed,
        placed=placed,
        table=table,
        algorithm=deciding.algorithm(job),
    )


def _as_submitted(leading: Cluster, current: Job | None, job: Job) -> Job:
    """With the version that it would get; the current one where nothing changed."""
    job = admitted(job, leading.view.scheduler.document)
    job = as_current(current, job, leading.deciding.fenced.now_ns)
    if current is not None and spec_of(current) == spec_of(job):
        return current
    newest = max(leading.view.version_numbers(_key(job)), default=-1)
    return msgspec.structs.replace(job, version=newest + 1)


def _key(job: Job) -> JobKey:
    return (job.namespace, job.id)
