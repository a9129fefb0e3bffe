"""How does a periodic job do: passing, warning or critical, and why?

    passing    its last run succeeded, or none was due yet
    warning    a run is due and has not started: the one before it still runs, it was missed, or it finds no place
    critical   the last run failed; or a run did not start by its starting_deadline, or succeed by its expect_within

A run has started once something of it was placed. It says nothing then before it has ended; what the last one said stays
until then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jobspec.durations import duration_text
from leader.decide.children import ChildRun, Outcome
from leader.decide.launching import PENDING_MAX, following, latest
from model.job import PeriodicConfig

# A run whose moment has come starts within milliseconds, after a change of leader within this.
_LATE_S = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """status: Consul's word. until_s: when time alone changes it, None: never."""

    status: str
    output: str
    until_s: int | None = None


def judge(config: PeriodicConfig, runs: Iterable[ChildRun], *, since_s: int, now_s: int) -> Watch:
    """runs: of all children that are known. since_s: when the job's current version was submitted."""
    if not config.enabled:
        return Watch(status="passing", output="not enabled")
    known = sorted(runs, key=lambda run: (run.due_s, run.job_id))
    ended = [run for run in known if run.outcome in (Outcome.SUCCEEDED, Outcome.FAILED)]
    good_s = max((run.due_s for run in ended if run.outcome is Outcome.SUCCEEDED), default=0)
    until = [_until(config, now_s)]
    found = _failed(ended[-1]) if ended and ended[-1].outcome is Outcome.FAILED else None
    # What did not start since the last one did, or was tried to be: the oldest of it.
    due_s = following(config, max(since_s, known[-1].due_s if known else 0))
    late = _late(config, due_s, now_s, until) if due_s is not None and due_s <= now_s else None
    waiting = [run for run in known if run.outcome is Outcome.PENDING and run.due_s]
    if waiting:
        late = _late(config, waiting[0].due_s, now_s, until, waiting) or late
    overdue = _overdue(config, good_s, since_s, now_s, waiting)
    found = found or overdue or late
    if found is None:
        found = ("passing", f"the run of {_moment(good_s)} succeeded" if good_s else "no run has ended yet")
    soonest = min((moment for moment in until if moment is not None), default=None)
    return Watch(status=found[0], output=found[1], until_s=soonest)


def _failed(run: ChildRun) -> tuple[str, str]:
    return "critical", f"the run of {_moment(run.due_s)} failed: {run.reason}"


def _overdue(
    config: PeriodicConfig, good_s: int, since_s: int, now_s: int, waiting: Sequence[ChildRun]
) -> tuple[str, str] | None:
    if config.expect_within is None:
        return None
    due_s = latest(config, since_s, now_s - config.expect_within // 1_000_000_000)
    if due_s is None or good_s >= due_s:
        return None
    return "critical", f"the run of {_moment(due_s)} has not succeeded within {duration_text(config.expect_within)}{_why(waiting)}"


def _late(
    config: PeriodicConfig, due_s: int, now_s: int, until: list[int | None], waiting: Sequence[ChildRun] = ()
) -> tuple[str, str] | None:
    """waiting: those that were launched and find no place, where it is of them."""
    deadline_ns = config.starting_deadline
    if deadline_ns is not None:
        deadline_s = due_s + max(1, deadline_ns // 1_000_000_000)
        if now_s > deadline_s:
            return "critical", f"the run of {_moment(due_s)} did not start within {duration_text(deadline_ns)}{_why(waiting)}"
        until.append(deadline_s + 1)
    if now_s < due_s + _LATE_S:
        until.append(due_s + _LATE_S)
        return None
    return "warning", f"the run of {_moment(due_s)} has not started{_why(waiting)}"


def _why(waiting: Sequence[ChildRun]) -> str:
    """Why the oldest finds no place, and whether others do so too."""
    if not waiting:
        return ""
    more = f"; {len(waiting)} runs wait, and no further one starts meanwhile" if len(waiting) >= PENDING_MAX else ""
    return f": {waiting[0].reason or 'it waits to be placed'}{more}"


def _until(config: PeriodicConfig, now_s: int) -> int | None:
    """The next moment at which a run is late, or overdue."""
    moments = [following(config, now_s)]
    if config.expect_within is not None:
        span_s = config.expect_within // 1_000_000_000
        due_s = following(config, now_s - span_s)
        moments.append(None if due_s is None else due_s + span_s)
    return min((moment for moment in moments if moment is not None), default=None)


def _moment(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
