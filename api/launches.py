"""How did the children of a periodic or parameterized job do? drover's own answer; Nomad has none."""

from datetime import UTC, datetime
from typing import Any

from leader.children import runs
from leader.decide.children import ChildRun, Outcome
from leader.decide.launching import following
from leader.view import View
from leader.watched import of_line, watch
from model.cluster import Launches
from model.job import Job
from model.snapshot import JobKey

# Go's zero time: nothing is launched.
_NEVER = "0001-01-01T00:00:00Z"


def next_launch_text(job: Job, now_ns: int) -> str:
    """As `plan` tells it: RFC 3339 in UTC."""
    moment_s = _next_s(job, now_ns // 1_000_000_000)
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment_s else _NEVER


def _next_s(job: Job, now_s: int) -> int:
    return following(job.periodic, now_s) or 0 if job.periodic is not None and job.is_scheduled else 0


def launches_document(view: View, key: JobKey, job: Job, now_s: int) -> dict[str, Any]:
    """NextLaunch, LastSuccess and the children's times: ns since the epoch, 0 for none. Status, Output: as Consul's
    check of a periodic job says. Children: the newest first, those that were removed too."""
    known = view.launches.get(key)
    launches: Launches | None = known.document if known else None
    there = runs(view, key)
    removed = [of_line(line) for line in launches.removed] if launches else []
    found = watch(view, key, job, now_s)
    last = max((run for run in there if run.outcome is Outcome.SUCCEEDED), key=lambda run: run.ended_ns, default=None)
    last_ns, took_ns = (last.ended_ns, last.ended_ns - last.started_ns) if last else (0, 0)
    if last is None and launches is not None:
        last_ns, took_ns = launches.last_success, launches.last_duration
    return {
        "JobID": job.id,
        "Namespace": job.namespace,
        "NextLaunch": _next_s(job, now_s) * 1_000_000_000,
        "LastSuccess": last_ns,
        "LastDuration": took_ns,
        "Missed": launches.missed if launches else 0,
        "Status": found.status if found else "",
        "Output": found.output if found else "",
        "Children": [
            *(_child(run, is_removed=False) for run in sorted(there, key=_age)),
            *(_child(run, is_removed=True) for run in sorted(removed, key=_age)),
        ],
    }


def _age(run: ChildRun) -> tuple[int, str]:
    return -max(run.due_s * 1_000_000_000, run.started_ns), run.job_id


def _child(run: ChildRun, *, is_removed: bool) -> dict[str, Any]:
    return {
        "ID": run.job_id,
        "Due": run.due_s * 1_000_000_000,
        "Outcome": run.outcome.value,
        "Started": run.started_ns,
        "Ended": run.ended_ns,
        "Reason": run.reason,
        "Removed": is_removed,
    }
