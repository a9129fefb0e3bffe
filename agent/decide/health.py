"""Has an alloc passed the health rule of its deployment or migration?

Nomad's rule: every task that has to runs, and with `health_check = "checks"` every Consul check passes,
without a break for `min_healthy_time`. A failed task fails it at once, `healthy_deadline` in the end. The answer is
given once for each deployment; `manual` is an operator's to give.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.decide.lifecycle import hook_of, is_sidecar
from model.alloc import TaskState, TaskStatus
from model.job import TaskGroup
from model.wire import seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    needs_checks: bool
    min_healthy_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How far an alloc is. began_s: when it was first looked at; well_since_s: None while it is not well."""

    began_s: float
    well_since_s: float | None = None
    started: tuple[str | None, ...] = ()  # of its tasks: a restart begins the healthy time anew


def rule_of(group: TaskGroup, *, is_deployed: bool) -> Rule | None:
    """None when nobody here has to say whether the alloc is healthy."""
    strategy = group.update if is_deployed else group.migrate
    if strategy is None or strategy.health_check == "manual":
        return None
    return Rule(
        needs_checks=strategy.health_check == "checks" and _has_checks(group),
        min_healthy_s=seconds(strategy.min_healthy_time),
        deadline_s=seconds(strategy.healthy_deadline),
    )


def look(
    watch: Watch,
    rule: Rule,
    group: TaskGroup,
    states: Mapping[str, TaskState],
    checks_pass: bool | None,
    now_s: float,
) -> tuple[bool | None, Watch]:
    """(healthy, not, or None for not yet; what to look from next time). checks_pass None: Consul did not say."""
    if any(state.state is TaskStatus.DEAD and state.failed for state in states.values()):
        return False, watch
    started = tuple(state.started_at for state in states.values())
    is_well = all(_is_well(name, group, states) for name in states)
    if rule.needs_checks and checks_pass is None and is_well:
        return None, watch
    is_well = is_well and (not rule.needs_checks or bool(checks_pass))
    since_s = watch.well_since_s if watch.well_since_s is not None and started == watch.started else now_s
    watch = Watch(began_s=watch.began_s, well_since_s=since_s if is_well else None, started=started)
    if is_well and now_s - since_s >= rule.min_healthy_s:
        return True, watch
    return (False if now_s - watch.began_s >= rule.deadline_s else None), watch


def _is_well(name: str, group: TaskGroup, states: Mapping[str, TaskState]) -> bool:
    task = next((task for task in group.tasks if task.name == name), None)
    if task is None or hook_of(task) == "poststop":
        return True
    state = states[name].state
    is_once = bool(hook_of(task)) and not is_sidecar(task)
    return state is TaskStatus.RUNNING or (is_once and state is TaskStatus.DEAD)


def _has_checks(group: TaskGroup) -> bool:
    services = (*group.services, *(service for task in group.tasks for service in task.services))
    return any(service.checks for service in services)
