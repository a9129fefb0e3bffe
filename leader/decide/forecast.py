"""What would a plan change, told as Nomad tells it?

    Reconciled ──> how many of what, by group ──> the diff, annotated: which edit forces what

The numbers are the first step's: of a rolling update, what `max_parallel` holds back is ignored for now.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from leader.decide.changes import needs_replacing
from leader.decide.counted import MIGRATED
from model.alloc import Alloc
from model.job import Job, JobId, Task, TaskGroup
from model.plan import Placed, PlaceRequest, Reconciled
from model.wire import Document

Json = dict[str, Any]

_CREATE, _DESTROY = "forces create", "forces destroy"
_IN_PLACE, _REPLACE = "forces in-place update", "forces create/destroy update"


class GroupUpdates(Document):
    """How many allocs of a group what happens to. place: new ones. destructive_update: stopped and replaced.
    preemptions: what of other jobs has to go for them."""

    ignore: int = 0
    place: int = 0
    migrate: int = 0
    stop: int = 0
    in_place_update: int = 0
    destructive_update: int = 0
    canary: int = 0
    preemptions: int = 0


# Nomad's names of them in a diff.
_UPDATES = {
    "ignore": "ignore",
    "place": "create",
    "migrate": "migrate",
    "stop": "destroy",
    "canary": "canary",
    "in_place_update": "in-place update",
    "destructive_update": "create/destroy update",
}


def updates_by_group(
    job: Job, needed: Reconciled, placed: Placed, allocs: Iterable[Alloc], after: Iterable[Alloc]
) -> dict[str, GroupUpdates]:
    """allocs: the job's, as they are. after: with what `needed` changes in them. Groups that the job no longer has
    are there too."""
    counts: dict[str, dict[str, int]] = {group.name: {} for group in job.task_groups}

    def count(group: str, what: str, by: int = 1) -> None:
        of_group = counts.setdefault(group, {})
        of_group[what] = of_group.get(what, 0) + by

    changed = set()
    for request in needed.place:
        count(request.group.name, _what(request))
        if request.stops:
            changed.add(request.stops.id)
    for one in placed.allocs:
        count(one.task_group, "preemptions", len(one.preempted_allocations))
    before = {alloc.id: alloc.desired for alloc in allocs}
    for alloc in after:
        was = before[alloc.id]
        if alloc.id in changed:
            continue
        if alloc.is_live:
            is_same = was.job_version == alloc.desired.job_version
            count(alloc.desired.task_group, "ignore" if is_same else "in_place_update")
        elif alloc.desired.is_stopping and not was.is_stopping:
            count(alloc.desired.task_group, "stop")
    return {name: GroupUpdates(**of_group) for name, of_group in sorted(counts.items())}


def _what(request: PlaceRequest) -> str:
    if request.is_canary:
        return "canary"
    if request.stops is not None:
        return "migrate" if request.stops.desired_description == MIGRATED else "destructive_update"
    return "place" if request.avoid is None else "migrate"


def annotated(diff: Json, updates: Mapping[str, GroupUpdates], old: Job | None, new: Job) -> Json:
    """job_diff's answer with what each edit forces, and each group's numbers."""
    groups = [
        _group(group, updates.get(group["Name"]), old.group(group["Name"]) if old else None, new.group(group["Name"]))
        for group in diff["TaskGroups"]
    ]
    return {**diff, "TaskGroups": groups}


def _group(diff: Json, updates: GroupUpdates | None, old: TaskGroup | None, new: TaskGroup | None) -> Json:
    counts = {shown: count for name, shown in _UPDATES.items() if (count := getattr(updates, name, 0))}
    return {
        **diff,
        "Fields": [_count(field) for field in diff["Fields"]],
        "Tasks": [_task(task, diff["Type"], old, new) for task in diff["Tasks"]],
        "Updates": counts,
    }


def _count(field: Json) -> Json:
    before, after = (int(field[side] or 0) if field["Name"] == "Count" else 0 for side in ("Old", "New"))
    if before == after:
        return field
    return {**field, "Annotations": [_CREATE if before < after else _DESTROY]}


def _task(diff: Json, group_type: str, old: TaskGroup | None, new: TaskGroup | None) -> Json:
    if diff["Type"] == "None":
        return diff
    if group_type in ("Added", "Deleted"):
        forces = _CREATE if group_type == "Added" else _DESTROY
    else:
        forces = _REPLACE if _is_replaced(_named(old, diff["Name"]), _named(new, diff["Name"])) else _IN_PLACE
    return {**diff, "Annotations": [forces]}


def _named(group: TaskGroup | None, name: str) -> Task | None:
    return next((task for task in group.tasks if task.name == name), None) if group else None


def _is_replaced(old: Task | None, new: Task | None) -> bool:
    """Whether this edit alone would replace what runs, by the same rule as reconcile's."""
    if old is None or new is None:
        return True
    job = Job(id=JobId(""), name="")
    before, after = (TaskGroup(name="", tasks=(task,)) for task in (old, new))
    return needs_replacing(job, before, job, after)
