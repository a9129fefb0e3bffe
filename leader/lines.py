"""Whose turn is it, where only so many children of a parameterized job may run at once?

The first `max_running` of those that are not done, in the order in which they were dispatched. Nothing is kept of it:
whoever leads finds the same line in the view. Where the limit goes away, be it that the parent is no such job any more, all
of them run; with the parent itself, what waited in its line is given up.
"""

from collections.abc import Iterator
from itertools import islice

from leader.decide.children import run_of
from leader.view import View
from model.job import Job
from model.snapshot import JobKey


def waits(view: View, key: JobKey, job: Job) -> bool:
    """Whether the child has to wait for others to end."""
    parent, at_once = _line(view, key)
    if parent is None or parent == key or not at_once or job.stop or view.allocs_by_job.get(key):
        return False
    return key not in islice(_open(view, parent, at_once), at_once)


def is_abandoned(view: View, key: JobKey, job: Job) -> bool:
    """Whether the child may have waited for others, nothing of it was ever placed, and its parent was purged."""
    settings, parent = job.parameterized_job, view.families.parent(key)
    was_in_line = job.dispatched and settings is not None and settings.max_running > 0
    return was_in_line and not job.stop and parent is not None and parent not in view.jobs and not view.allocs_by_job.get(key)


def next_ones(view: View, key: JobKey) -> list[JobKey]:
    """Whose turn has come, now that this child is done; or about whom to decide, now that its parent was changed or is
    gone."""
    parent, at_once = _line(view, key)
    if view.families.parent(key) is not None:
        if parent is None or not at_once or not _is_over(view, key):
            return []
    else:
        parent = key
    return [child for child in _open(view, parent, at_once or None) if not view.allocs_by_job.get(child)]


def told(view: View, key: JobKey, job: Job) -> str:
    """What the child waits for, "" if for nobody."""
    return f"waits for max_running ({ahead(view, key)} before it)" if waits(view, key, job) else ""


def ahead(view: View, key: JobKey) -> int:
    """How many of its parent's children that are not done come before it."""
    parent, _ = _line(view, key)
    if parent is None:
        return 0
    return next((number for number, child in enumerate(_open(view, parent, None)) if child == key), 0)


def _line(view: View, key: JobKey) -> tuple[JobKey | None, int]:
    """The parent, be it the job itself, and its limit."""
    parent = view.families.parent(key) or key
    job = view.jobs.get(parent)
    settings = job.parameterized_job if job is not None and job.is_parameterized else None
    return (parent, settings.max_running) if settings is not None else (None, 0)


def _open(view: View, parent: JobKey, count: int | None) -> Iterator[JobKey]:
    """The first `count` that are not done; those that are leave the line for good."""
    found: list[JobKey] = []
    done: list[JobKey] = []
    for child in view.families.open(parent):
        if len(found) == count:
            break
        (done if _is_over(view, child) else found).append(child)
    for child in done:
        view.families.closed(child)
    return iter(found)


def _is_over(view: View, key: JobKey) -> bool:
    allocs = view.allocs_by_job.get(key, {}).values()
    return run_of(view.jobs[key], allocs, {v: view.versions[key, v] for v in view.version_numbers(key)}, view.clock()).outcome.is_over
