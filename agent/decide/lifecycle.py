"""In which order do the tasks of a group start and end?

    prestart           at once; the main tasks wait until it has ended well
    prestart, sidecar  at once; the main tasks wait until it runs
    main               together
    poststart          once every main task has started
    poststop           once every main task has ended

When the last main task ends, sidecars are stopped; when a task that matters fails, or the `leader` task
ends, the others are stopped. poststop tasks run even then, and are no leaders: nothing is left that could follow.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from model.alloc import TaskState, TaskStatus
from model.job import Task

States = Mapping[str, TaskState]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiblingFailed:
    sibling: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderDead:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class MainTasksDead:
    pass


StopCause = SiblingFailed | LeaderDead | MainTasksDead


def hook_of(task: Task) -> str:
    """ "" for a main task."""
    return task.lifecycle.hook if task.lifecycle else ""


def is_sidecar(task: Task) -> bool:
    return task.lifecycle is not None and task.lifecycle.sidecar


def may_start(task: Task, tasks: tuple[Task, ...], states: States) -> bool:
    """Whether all that must come before the task's first start has happened."""
    match hook_of(task):
        case "prestart":
            return True
        case "poststart":
            return all(_has_started(states[t.name]) for t in tasks if not hook_of(t))
        case "poststop":
            return all(_is_dead(states[t.name]) for t in tasks if not hook_of(t))
        case _:
            return all(
                _has_started(states[t.name]) if is_sidecar(t) else _ended_well(states[t.name])
                for t in tasks
                if hook_of(t) == "prestart"
            )


def must_stop(task: Task, tasks: tuple[Task, ...], states: States) -> StopCause | None:
    """Why a task has to end because of what became of the others; None while it may run."""
    if hook_of(task) == "poststop":
        return None
    for other in tasks:
        state = states[other.name]
        if other is task or not _is_dead(state):
            continue
        if state.failed and hook_of(other) != "poststop":
            return SiblingFailed(sibling=other.name)
        if _leads(other):
            return LeaderDead()
    mains = [t for t in tasks if not hook_of(t)]
    if is_sidecar(task) and mains and all(_is_dead(states[t.name]) for t in mains):
        return MainTasksDead()
    return None


def stops_after(task: Task, tasks: tuple[Task, ...], states: States) -> bool:
    """Whether the task waits with its stop until the group's leader has ended: whatever stops one, stops that too."""
    return any(_leads(other) and other is not task and not _is_dead(states[other.name]) for other in tasks)


def _leads(task: Task) -> bool:
    return task.leader and hook_of(task) != "poststop"


def _is_dead(state: TaskState) -> bool:
    return state.state is TaskStatus.DEAD


def _ended_well(state: TaskState) -> bool:
    return _is_dead(state) and not state.failed


def _has_started(state: TaskState) -> bool:
    return state.started_at is not None
