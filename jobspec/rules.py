"""Are constraints, affinities, spreads and the restart, reschedule, update and migrate policies sound?"""

import re
from collections.abc import Iterator, Sequence

from jobspec.durations import duration_text
from jobspec.schema import EXTENSION_OPERATORS
from model.errors import Fault
from model.job import (
    Affinity,
    Completion,
    Constraint,
    JobType,
    MigrateStrategy,
    ReschedulePolicy,
    RestartPolicy,
    Spread,
    TaskGroup,
    UpdateStrategy,
)
from model.patterns import PatternFault, compile_pattern
from model.wire import SECOND

Faults = Iterator[Fault]

COMPARISONS = ("=", "==", "is", "!=", "not", "<", "<=", ">", ">=")
OPERATORS = (
    *COMPARISONS,
    "distinct_hosts",
    "distinct_property",
    "regexp",
    "version",
    "semver",
    "set_contains",
    "set_contains_all",
    "set_contains_any",
    "is_set",
    "is_not_set",
    *EXTENSION_OPERATORS,
)
# Operators that compare nothing, or only within a job.
_WITHOUT_VALUE = ("distinct_hosts", "distinct_property", "is_set", "is_not_set")
_DISTINCT_COUNT = re.compile(r"0{0,8}[1-9][0-9]{0,8}")
_VERSION_RULE = re.compile(r"\s*(=|!=|>=|<=|>|<|~>)?\s*v?\d+(\.\d+)*([-+.]?[0-9A-Za-z.+~-]+)?\s*")

# Nomad's smallest spans: a restart interval and a reschedule delay below 5 s would be a busy loop.
INTERVAL_MIN = 5 * SECOND
RESCHEDULE_INTERVAL_MIN = 15 * SECOND


def _fault(path: str, message: str) -> Fault:
    return Fault(path=path, message=message)


def constraint_faults(constraints: Sequence[Constraint], path: str, *, is_task: bool = False) -> Faults:
    for number, rule in enumerate(constraints):
        here = f"{path}.constraint[{number}]"
        if is_task and rule.operand in ("distinct_hosts", "distinct_property"):
            yield _fault(here, f"{rule.operand} cannot be used in a task (put it in the group or the job)")
        yield from _operator_faults(rule.operand, rule.ltarget, rule.rtarget, here)


def _operator_faults(operand: str, ltarget: str, rtarget: str, path: str) -> Faults:
    if operand not in OPERATORS:
        yield _fault(f"{path}.operator", f'unknown operator "{operand[:60]}" (known: {" ".join(OPERATORS)})')
        return
    if operand != "distinct_hosts" and not ltarget:
        yield _fault(path, "an attribute is needed")
    if operand not in _WITHOUT_VALUE and not rtarget and operand not in ("=", "==", "is", "!=", "not"):
        yield _fault(path, f"{operand} needs a value")
    elif operand == "regexp":
        yield from _pattern_faults(rtarget, path)
    elif operand in ("version", "semver"):
        for part in rtarget.split(","):
            if "${" not in part and not _VERSION_RULE.fullmatch(part[:200]):
                yield _fault(path, f'"{part.strip()[:60]}" is no version rule (as ">= 1.2, < 2.0")')
    elif operand == "distinct_property" and rtarget and not _DISTINCT_COUNT.fullmatch(rtarget):
        yield _fault(f"{path}.value", f'must be a whole number of at least 1 with distinct_property, found "{rtarget[:60]}"')
    elif operand == "distinct_hosts" and rtarget not in ("", "true", "false"):
        yield _fault(path, f'distinct_hosts is true or false, found "{rtarget[:60]}"')


def _pattern_faults(pattern: str, path: str) -> Faults:
    if "${" in pattern:
        return
    try:
        compile_pattern(pattern)
    except PatternFault as fault:
        yield _fault(path, str(fault))


def affinity_faults(affinities: Sequence[Affinity], path: str, *, is_system: bool) -> Faults:
    if is_system and affinities:
        yield _fault(f"{path}.affinity[0]", "a system job cannot have an affinity")
        return
    for number, rule in enumerate(affinities):
        here = f"{path}.affinity[{number}]"
        if rule.operand in ("distinct_hosts", "distinct_property"):
            yield _fault(f"{here}.operator", f'unknown operator "{rule.operand}"')
        else:
            yield from _operator_faults(rule.operand, rule.ltarget, rule.rtarget, here)
        if not -100 <= rule.weight <= 100 or rule.weight == 0:
            yield _fault(f"{here}.weight", f"must be between -100 and 100 and not 0, found {rule.weight}")


def spread_faults(spreads: Sequence[Spread], path: str, *, is_system: bool) -> Faults:
    if is_system and spreads:
        yield _fault(f"{path}.spread[0]", "a system job cannot have a spread")
        return
    for number, spread in enumerate(spreads):
        here = f"{path}.spread[{number}]"
        if not spread.attribute:
            yield _fault(here, "an attribute is needed")
        if spread.max_skew is not None and spread.max_skew < 1:
            yield _fault(f"{here}.max_skew", f"must be at least 1, found {spread.max_skew}")
        if not 1 <= spread.weight <= 100:
            yield _fault(f"{here}.weight", f"must be between 1 and 100, found {spread.weight}")
        values = [target.value for target in spread.spread_target]
        for value in sorted({value for value in values if values.count(value) > 1}):
            yield _fault(f"{here}.target.{value}", f'there are two targets "{value}"')
        for target in spread.spread_target:
            if not 0 <= target.percent <= 100:
                yield _fault(
                    f"{here}.target.{target.value}",
                    f"percent must be between 0 and 100, found {target.percent}",
                )
        total = sum(target.percent for target in spread.spread_target)
        if total > 100:
            yield _fault(here, f"the targets' percentages add up to {total} (at most 100)")


def restart_faults(policy: RestartPolicy, path: str) -> Faults:
    if policy.mode not in ("fail", "delay"):
        yield _fault(f"{path}.mode", f'must be fail or delay, found "{policy.mode}"')
    if policy.attempts < 0:
        yield _fault(f"{path}.attempts", f"must not be negative, found {policy.attempts}")
    if policy.attempts == 0 and policy.mode == "delay":
        yield _fault(path, 'mode "delay" with 0 attempts is ambiguous (use mode "fail")')
    if policy.delay < 0:
        yield _fault(f"{path}.delay", "must not be negative")
    if policy.interval < INTERVAL_MIN:
        yield _fault(f"{path}.interval", f"must be at least 5s, found {duration_text(policy.interval)}")
    elif policy.attempts * policy.delay > policy.interval:
        yield _fault(
            path,
            f"{policy.attempts} attempts with a delay of {duration_text(policy.delay)} do not fit"
            f" in an interval of {duration_text(policy.interval)}",
        )


def reschedule_faults(policy: ReschedulePolicy, path: str) -> Faults:
    if policy.attempts < 0:
        yield _fault(f"{path}.attempts", f"must not be negative, found {policy.attempts}")
    if policy.attempts <= 0 and not policy.unlimited:
        return
    if policy.delay_function not in ("constant", "exponential", "fibonacci"):
        yield _fault(
            f"{path}.delay_function",
            f'must be constant, exponential or fibonacci, found "{policy.delay_function}"',
        )
        return
    if policy.delay < INTERVAL_MIN:
        yield _fault(f"{path}.delay", f"must be at least 5s, found {duration_text(policy.delay)}")
    if policy.delay_function != "constant":
        if policy.max_delay < INTERVAL_MIN:
            yield _fault(f"{path}.max_delay", f"must be at least 5s, found {duration_text(policy.max_delay)}")
        elif policy.max_delay < policy.delay:
            yield _fault(
                f"{path}.max_delay",
                f"({duration_text(policy.max_delay)}) is less than delay ({duration_text(policy.delay)})",
            )
    if policy.unlimited:
        return
    if policy.interval < RESCHEDULE_INTERVAL_MIN:
        yield _fault(f"{path}.interval", f"must be at least 15s, found {duration_text(policy.interval)}")
    elif (needed := _time_for_attempts(policy)) > policy.interval:
        yield _fault(
            path,
            f"{policy.attempts} attempts do not fit in an interval of {duration_text(policy.interval)}"
            f" (needed: {duration_text(needed)})",
        )


def _time_for_attempts(policy: ReschedulePolicy) -> int:
    """How long the delays of all attempts take, one after the other; stops at the interval."""
    total, before, delay = 0, 0, int(policy.delay)
    for _ in range(min(policy.attempts, 10_000)):
        total += delay
        if total > policy.interval:
            return total
        if policy.delay_function == "exponential":
            delay = min(delay * 2, policy.max_delay)
        elif policy.delay_function == "fibonacci":
            before, delay = delay, min(delay + before, policy.max_delay)
    return total


def update_faults(update: UpdateStrategy, path: str) -> Faults:
    if update.on_change not in ("", "roll", "new_only"):
        yield _fault(f"{path}.on_change", f'must be roll or new_only, found "{update.on_change}"')
    if update.max_parallel < 0:
        yield _fault(f"{path}.max_parallel", f"must not be negative, found {update.max_parallel}")
    if update.max_parallel == 0:
        return  # no rolling update: the rest does not count
    if update.health_check not in ("checks", "task_states", "manual"):
        yield _fault(
            f"{path}.health_check", f'must be checks, task_states or manual, found "{update.health_check}"'
        )
    if update.canary < 0:
        yield _fault(f"{path}.canary", f"must not be negative, found {update.canary}")
    if update.canary == 0 and update.auto_promote:
        yield _fault(f"{path}.auto_promote", "needs canary to be at least 1")
    for name, span in (
        ("min_healthy_time", update.min_healthy_time),
        ("progress_deadline", update.progress_deadline),
    ):
        if span < 0:
            yield _fault(f"{path}.{name}", "must not be negative")
    for name, span in (("healthy_deadline", update.healthy_deadline), ("stagger", update.stagger)):
        if span <= 0:
            yield _fault(f"{path}.{name}", "must be greater than zero")
    if update.min_healthy_time >= update.healthy_deadline:
        yield _fault(
            path,
            f"min_healthy_time ({duration_text(update.min_healthy_time)}) must be less than"
            f" healthy_deadline ({duration_text(update.healthy_deadline)})",
        )
    if update.progress_deadline and update.healthy_deadline >= update.progress_deadline:
        yield _fault(
            path,
            f"healthy_deadline ({duration_text(update.healthy_deadline)}) must be less than"
            f" progress_deadline ({duration_text(update.progress_deadline)})",
        )


def migrate_faults(migrate: MigrateStrategy, path: str) -> Faults:
    if migrate.max_parallel < 0:
        yield _fault(f"{path}.max_parallel", f"must not be negative, found {migrate.max_parallel}")
    if migrate.health_check not in ("checks", "task_states"):
        yield _fault(f"{path}.health_check", f'must be checks or task_states, found "{migrate.health_check}"')
    if migrate.min_healthy_time < 0:
        yield _fault(f"{path}.min_healthy_time", "must not be negative")
    if migrate.healthy_deadline < 0:
        yield _fault(f"{path}.healthy_deadline", "must not be negative")
    if migrate.min_healthy_time > migrate.healthy_deadline:
        yield _fault(path, "min_healthy_time must be less than healthy_deadline")


def disconnect_faults(group: TaskGroup, path: str) -> Faults:
    old = {
        "stop_after_client_disconnect": group.stop_after_client_disconnect is not None,
        "max_client_disconnect": group.max_client_disconnect is not None,
        "prevent_reschedule_on_lost": group.prevent_reschedule_on_lost,
    }
    rule = group.disconnect
    if rule is not None:
        for name in (name for name, is_given in old.items() if is_given):
            yield _fault(f"{path}.{name}", "is an older name for part of disconnect: give only one of them")
        if rule.reconcile not in ("keep_original", "keep_replacement", "best_score", "longest_running"):
            yield _fault(
                f"{path}.disconnect.reconcile",
                "must be keep_original, keep_replacement, best_score or longest_running, "
                f'found "{rule.reconcile}"',
            )
        for name, span in (("lost_after", rule.lost_after), ("stop_on_client_after", rule.stop_on_client_after)):
            if span is not None and span < 0:
                yield _fault(f"{path}.disconnect.{name}", "must not be negative")
        if rule.lost_after and rule.stop_on_client_after:
            yield _fault(f"{path}.disconnect", "lost_after and stop_on_client_after exclude each other")
    elif group.max_client_disconnect is not None:
        if group.max_client_disconnect < 0:
            yield _fault(f"{path}.max_client_disconnect", "must not be negative")
        if group.stop_after_client_disconnect:
            yield _fault(path, "max_client_disconnect and stop_after_client_disconnect exclude each other")


# A backoff below 1 s would be a busy loop of the leader.
BACKOFF_MIN = SECOND


def completion_faults(group: TaskGroup, rule: Completion, path: str, job_type: JobType) -> Faults:
    if job_type is not JobType.BATCH:
        yield _fault(path, f"only a batch job comes to an end by itself, this is a {job_type} job")
    match rule.restart_policy:
        case "never" | "on_failure":
            pass
        case "":
            yield _fault(
                f"{path}.restart_policy",
                "is needed: on_failure (a failed task is started again in place) or never (each retry is a new alloc)",
            )
        case "always":
            yield _fault(f"{path}.restart_policy", "what is always started again never completes: use on_failure or never")
        case other:
            yield _fault(f"{path}.restart_policy", f'must be on_failure or never, found "{other[:60]}"')
    if rule.parallelism is not None:
        yield _fault(
            f"{path}.parallelism", f"is the group's count by another name: {rule.parallelism} contradicts count = {group.count}"
        )
    if rule.completions is not None and rule.completions < 1:
        yield _fault(f"{path}.completions", f"must be at least 1, found {rule.completions}")
    if rule.indexed and rule.completions is None:
        yield _fault(f"{path}.indexed", "needs completions: a work queue has no index to complete")
    if rule.backoff_limit < 0:
        yield _fault(f"{path}.backoff_limit", f"must not be negative, found {rule.backoff_limit}")
    if rule.backoff_base < BACKOFF_MIN:
        yield _fault(f"{path}.backoff_base", f"must be at least 1s, found {duration_text(rule.backoff_base)}")
    if rule.backoff_max < rule.backoff_base:
        yield _fault(
            f"{path}.backoff_max",
            f"({duration_text(rule.backoff_max)}) is less than backoff_base ({duration_text(rule.backoff_base)})",
        )
    if rule.active_deadline is not None and rule.active_deadline <= 0:
        yield _fault(f"{path}.active_deadline", "must be greater than zero")
    if rule.ttl_after_finished is not None and rule.ttl_after_finished < 0:
        yield _fault(f"{path}.ttl_after_finished", "must not be negative")
