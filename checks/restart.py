"""May a task be started again on its node, and when?

Nomad's `restart` policy, as a value: `after()` takes what happened and the history so far and gives the
verdict with the new history. The history is kept in the agent's journal, so its clock is wall time:
a restart of drover forgets no attempt.

    a task that ended well and need not run for ever   -> Finished
    attempts left in the interval                      -> Again after delay (and up to 25 % of it)
    none left, mode "fail"                             -> GivenUp
    none left, mode "delay"                            -> Again when the interval is over
    asked for by an operator or a template             -> Again at once, uncounted

A group's `completion` block takes its place for all but sidecars (`after_run()`): started again for as long as it
takes, each time after twice the wait. How many runs may fail in all is no matter of either; the leader counts those.
"""

import random
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from model.job import Completion, JobType, Lifecycle, RestartPolicy
from model.wire import seconds

# Nomad's: spreads the restarts of tasks that failed together.
JITTER_SHARE = 0.25

WITHIN_POLICY = "Restart within policy"
DELAYED = "Exceeded allowed attempts, applying a delay"
NONE_ALLOWED = "Policy allows no restarts"
NEVER = 'A failed run is not started again in place: restart_policy is "never"'
BACKING_OFF = "Backing off after a failed run"
UNNECESSARY = "Restart unnecessary as task terminated successfully"
UNRECOVERABLE = "Error was unrecoverable"


class Cause(StrEnum):
    """Why a restart is in question."""

    SUCCEEDED = "succeeded"  # exit code 0
    FAILED = "failed"  # any other end
    START_FAILED = "start failed"  # nothing ran; another start may go better
    REFUSED = "refused"  # nothing ran and nothing will
    UNHEALTHY = "unhealthy"  # check_restart: a running task that must end; counts as a failure
    ASKED = "asked"  # an operator, a template, a renewed secret: never counted


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Counted restarts of one task since `since_s` (seconds since the epoch), the interval's start."""

    count: int = 0
    since_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    delay_s: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The task has done its work."""

    reason: str = UNNECESSARY


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    reason: str


Verdict = Again | Finished | GivenUp


def runs_for_ever(job_type: JobType, lifecycle: Lifecycle | None) -> bool:
    """Whether a task that ended with exit code 0 has ended too early."""
    if lifecycle is not None:
        # A sidecar serves as long as there is somebody to serve, also in a batch job; there is nobody after the end.
        return lifecycle.sidecar and lifecycle.hook != "poststop"
    match job_type:
        case JobType.SERVICE | JobType.SYSTEM:
            return True
        case JobType.BATCH | JobType.SYSBATCH:
            return False
    assert_never(job_type)


def after(
    cause: Cause, policy: RestartPolicy, history: History, now_s: float, rng: random.Random, *, for_ever: bool
) -> tuple[Verdict, History]:
    """What follows, and the history to decide from next time. now_s: seconds since the epoch."""
    if cause is Cause.ASKED:
        return Again(delay_s=0.0), history
    if cause is Cause.SUCCEEDED and not for_ever:
        return Finished(), history
    if policy.attempts == 0:
        return GivenUp(reason=NONE_ALLOWED), history
    history = _counted(history, policy, now_s)
    if cause is Cause.REFUSED:
        return GivenUp(reason=UNRECOVERABLE), history
    if history.count <= policy.attempts:
        delay_s = seconds(policy.delay)
        return Again(delay_s=delay_s * (1 + JITTER_SHARE * rng.random()), reason=WITHIN_POLICY), history
    if policy.mode == "delay":
        left_s = history.since_s + seconds(policy.interval) - now_s
        return Again(delay_s=max(left_s, 0.0), reason=DELAYED), history
    return GivenUp(reason=exceeded(policy)), history


def after_run(cause: Cause, rule: Completion, history: History, now_s: float) -> tuple[Verdict, History]:
    """As after(), of a task that is part of a run. The history counts every failure of it."""
    if cause is Cause.ASKED:
        return Again(delay_s=0.0), history
    if cause is Cause.SUCCEEDED:
        return Finished(), history
    if cause is Cause.REFUSED:
        return GivenUp(reason=UNRECOVERABLE), history
    if rule.restart_policy != "on_failure":
        return GivenUp(reason=NEVER), history
    history = History(count=history.count + 1, since_s=history.since_s or now_s)
    return Again(delay_s=seconds(rule.backoff(history.count)), reason=BACKING_OFF), history


def exceeded(policy: RestartPolicy) -> str:
    return (
        f"Exceeded allowed attempts {policy.attempts} in interval {go_duration(policy.interval)}"
        ' and mode is "fail"'
    )


def _counted(history: History, policy: RestartPolicy, now_s: float) -> History:
    """One more attempt; in a new interval the first. A clock set back also starts a new interval."""
    is_over = now_s > history.since_s + seconds(policy.interval) or now_s < history.since_s
    if is_over:
        return History(count=1, since_s=now_s)
    return replace(history, count=history.count + 1)


def go_duration(ns: int) -> str:
    """A span as Go prints it: 1h30m0s, 15s, 1.5s, 250ms."""
    if ns == 0:
        return "0s"
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if ns < size * 1000:
            return f"{sign}{_decimal(ns, size)}{unit}"
    minutes, rest = divmod(ns, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 1_000_000_000)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{text}"
    return f"{sign}{minutes}m{text}" if minutes else f"{sign}{text}"


def _decimal(number: int, unit: int) -> str:
    whole, part = divmod(number, unit)
    digits = f"{part:0{len(str(unit)) - 1}d}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)
