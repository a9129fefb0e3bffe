"""The API's /v1/scaling/…: which groups may be scaled by an autoscaler, between which counts, and by which policy?

A policy is part of its job (`scaling` of a group or a task), so nothing is kept of it but the job; its id is made of what
it scales, and stays over versions.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aiohttp import web

from api.context import CONTEXT
from api.query import NotFound, Query, answer, block, of_state, read
from api.rights import jobs_in
from leader.leading import Leading
from leader.view import View
from model.job import Job, TaskGroup
from model.snapshot import JobKey

Policy = dict[str, Any]

# So that ids are the same whichever leader answers.
_IDS = uuid.UUID("5f6a3f0e-2f1c-5d0b-9b56-3a5f0a8f6f51")


def policies(view: View) -> Iterator[Policy]:
    """All of them, those of stopped jobs excepted, in full."""
    for key, job in view.jobs.items():
        if not job.stop:
            yield from _of_job(view, key, job)


def _of_job(view: View, key: JobKey, job: Job) -> Iterator[Policy]:
    for group in job.task_groups:
        for task, scaling in _scalings(group):
            target = {"Namespace": job.namespace, "Job": job.id, "Group": group.name, **({"Task": task} if task else {})}
            kind = scaling.get("Type") or "horizontal"
            created, modified = _indexes(view, key, job, group, scaling)
            yield {
                "ID": str(uuid.uuid5(_IDS, "\0".join((*target.values(), kind)))),
                "Namespace": job.namespace,
                "Type": kind,
                "Target": target,
                "Min": scaling.get("Min"),
                "Max": scaling.get("Max"),
                "Policy": scaling.get("Policy"),
                "Enabled": scaling.get("Enabled") is not False,
                "CreateIndex": created,
                "ModifyIndex": modified,
            }


def _scalings(group: TaskGroup) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """With the task's name; "" of the group's own."""
    if group.scaling is not None:
        yield "", group.scaling
    for task in group.tasks:
        yield from ((task.name, policy) for policy in task.scaling_policies)


def _indexes(view: View, key: JobKey, job: Job, group: TaskGroup, scaling: Mapping[str, Any]) -> tuple[int, int]:
    """Since when the job has it, as far as its versions tell, and since when as it is."""
    created = modified = view.version_indexes[key, job.version].modify_index
    is_same = True
    for number in reversed([v for v in view.version_numbers(key) if v < job.version]):
        before = view.versions[key, number].group(group.name)
        known = [policy for _, policy in _scalings(before)] if before else []
        if not known:
            break
        created = view.version_indexes[key, number].modify_index
        is_same = is_same and scaling in known
        if is_same:
            modified = created
    return view.api_index(created), view.api_index(modified)


def job_of(policy: Policy) -> JobKey:
    return policy["Target"]["Namespace"], policy["Target"]["Job"]


async def list_policies(request: web.Request, leading: Leading) -> web.Response:
    """`?job=&type=&prefix=`: without what they say."""
    job_id, kind = request.query.get("job"), request.query.get("type")

    def chosen(view: View, query: Query) -> object:
        return [
            {name: policy[name] for name in ("ID", "Enabled", "Type", "Target", "CreateIndex", "ModifyIndex")}
            for policy in sorted(policies(view), key=lambda one: str(one["ID"]))
            if query.has_namespace(policy["Namespace"])
            and policy["ID"].startswith(query.prefix)
            and query.sees(job_of(policy))
            and job_id in (None, "", policy["Target"]["Job"])
            and kind in (None, "", policy["Type"])
        ]

    return await of_state(request, leading.view, ("scaling",), chosen, lists=lambda view, query: jobs_in(view, query.namespace))


async def policy(request: web.Request, leading: Leading) -> web.Response:
    wanted, view = request.match_info["id"], leading.view

    def find() -> Policy | None:
        return next((one for one in policies(view) if one["ID"] == wanted), None)

    known = find()
    topic = ("scaling", known["Target"]["Namespace"], known["Target"]["Job"]) if known else ("scaling",)
    await block(view, topic, read(request))
    known = find()
    if known is None:
        raise NotFound("policy not found", index=view.topic_index(("scaling",)))
    await request.app[CONTEXT].rights.may_read(request, job_of(known))
    return answer(request, known, index=view.topic_index(topic))
