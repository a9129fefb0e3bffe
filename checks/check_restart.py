"""When do failing check results restart a task?

`check_restart` asks for `limit` consecutive failing results, counted from `grace` after the task's process
started. Script and ttl results are counted one by one, for drover feeds them. The results of http, tcp
and grpc checks are Consul's, and equal ones are invisible there, so the limit-th is reckoned:

    first failing result seen + (limit - 1) x (interval + probe time) + slack

where the probe time is the check's timeout if its output says that it timed out, else 0. The caller reads
the status once more before it acts. A healthy result starts over; so does each restart of the task. A check
that has not run yet (empty output), a missing check and an unreachable Consul are no failures.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from model.job import TaskGroup

# Covers what a probe takes that fails at once, and the age of the status when it is read. Larger delays
# every restart by as much; smaller would kill before the limit-th result of a check that runs a little late.
SLACK_S = 0.1

# Consul's words for a probe that hit its timeout: Go's net/http, net.Dial and gRPC.
_TIMED_OUT = ("Client.Timeout exceeded", "i/o timeout", "context deadline exceeded", "DeadlineExceeded", "timed out")


class CheckStatus(StrEnum):
    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One check's check_restart. is_counted: drover itself feeds the results (script, ttl)."""

    limit: int
    grace_s: float
    ignore_warnings: bool
    interval_s: float
    timeout_s: float
    is_counted: bool = False

    def is_healthy(self, status: CheckStatus) -> bool:
        return status is CheckStatus.PASSING or (status is CheckStatus.WARNING and self.ignore_warnings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What has been seen since the task's process started. Times are loop times.

    due_s: when the limit-th failing result is reckoned to be there; None while nothing fails.
    probe_s: the probe time it was reckoned with.
    """

    armed_s: float
    failures: int = 0
    due_s: float | None = None
    probe_s: float = 0.0

    @property
    def is_failing(self) -> bool:
        return self.failures > 0


def begin(rule: Rule, started_s: float) -> Tally:
    """A new process: nothing counts before its grace is over."""
    return Tally(armed_s=started_s + rule.grace_s)


def count(rule: Rule, tally: Tally, status: CheckStatus, now_s: float) -> Tally:
    """One result that drover fed itself."""
    if now_s < tally.armed_s or rule.is_healthy(status):
        return Tally(armed_s=tally.armed_s)
    failures = tally.failures + 1
    return replace(tally, failures=failures, due_s=now_s if failures >= rule.limit else None)


def see(rule: Rule, tally: Tally, status: CheckStatus, output: str, now_s: float) -> Tally:
    """The status of a check that Consul runs, as just read. Equal failing reads change nothing."""
    if rule.is_healthy(status) or not output or now_s < tally.armed_s:
        return Tally(armed_s=tally.armed_s)
    probe_s = rule.timeout_s if any(word in output for word in _TIMED_OUT) else 0.0
    if tally.due_s is None:
        slack_s = SLACK_S if rule.limit > 1 else 0.0
        due_s = now_s + (rule.limit - 1) * (rule.interval_s + probe_s) + slack_s
        return replace(tally, failures=1, due_s=due_s, probe_s=probe_s)
    if probe_s > tally.probe_s:
        # The first failure was quick and a later one ran into its timeout: the rest of the count takes longer.
        return replace(tally, due_s=tally.due_s + (rule.limit - 1) * (probe_s - tally.probe_s), probe_s=probe_s)
    return tally


def is_due(tally: Tally, now_s: float) -> bool:
    """Whether the task is to be restarted, if the check still fails when read again."""
    return tally.due_s is not None and now_s >= tally.due_s


def max_parallel_restarts(group: TaskGroup) -> int | None:
    """How many of the group may be ended at once by `check_restart`: the least that one of its checks asks for."""
    services = [*group.services, *(service for task in group.tasks for service in task.services)]
    rules = [check.check_restart for service in services for check in service.checks]
    return min((rule.max_parallel for rule in rules if rule is not None and rule.max_parallel > 0), default=None)
