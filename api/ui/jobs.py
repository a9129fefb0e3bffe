"""The UI's jobs: how well each does, and why not, in one line."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from api.context import CONTEXT
from api.query import BadRequest, read
from api.ui.lists import Row, asked, page_of, shown
from leader.decide.launching import following
from leader.leading import Leading
from leader.status import job_status
from leader.tally import Counts
from leader.view import View
from leader.watched import watch
from model.deployment import Deployment, DeploymentStatus
from model.job import Job, JobType
from model.snapshot import JobKey

# How bad it is: nothing, something, or the job as a whole.
WELL, WARNING, CRITICAL = 0, 1, 2


# All jobs' standings are found out so often at most, however many look; a page asks once a second, too.
_FRESH_S = 0.25
_JOBS_PER_SLICE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a job does. troubles: what is wrong, the worst first; empty where nothing is. wanted: allocs, 0 where that is no
    fixed number (batch jobs end, system jobs are wherever they fit)."""

    key: JobKey
    job: Job
    counts: Counts
    status: str
    wanted: int
    queued: int
    deployment: Deployment | None
    severity: int
    troubles: tuple[str, ...]


def standing(view: View, key: JobKey, job: Job, now_s: int) -> Standing:
    counts = view.tally.of(key)
    status = job_status(view, key, job).value
    is_service = job.type is JobType.SERVICE and not job.is_parent and not job.stop
    wanted = sum(group.count for group in job.task_groups) if is_service else 0
    queued = _queued(view, key) if not job.stop else 0
    deployment = view.latest_deployment(key) if job.type is JobType.SERVICE else None
    found = [] if job.stop else _troubles(view, key, job, counts, wanted, queued, deployment, status, now_s)
    found.sort(key=lambda one: -one[0])
    return Standing(
        key=key,
        job=job,
        counts=counts,
        status=status,
        wanted=wanted,
        queued=queued,
        deployment=deployment,
        severity=found[0][0] if found else WELL,
        troubles=tuple(text for _, text in found),
    )


@dataclass(slots=True)
class Standings:
    """Of one term, for all who look. Nobody waits for a round that began before what he wants to see."""

    view: View
    found: list[Standing] = field(default_factory=list)
    began_s: float = float("-inf")
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


STANDINGS: web.AppKey[list[Standings]] = web.AppKey("standings", list)


async def standings(request: web.Request, leading: Leading) -> list[Standing]:
    """Of all jobs, a quarter of a second old at most; not to be changed. Does not hold the loop."""
    view, known, loop = leading.view, request.app[STANDINGS], asyncio.get_running_loop()
    if not known or known[0].view is not view:
        known[:] = [Standings(view)]
    kept = known[0]
    async with kept.turn:
        if loop.time() - kept.began_s > _FRESH_S or len(kept.found) != len(view.jobs):
            kept.began_s, now_s, found = loop.time(), leading.fenced.now_ns // 1_000_000_000, []
            for number, key in enumerate(list(view.jobs)):
                if number % _JOBS_PER_SLICE == _JOBS_PER_SLICE - 1:
                    await asyncio.sleep(0)
                if (job := view.jobs.get(key)) is not None:
                    found.append(standing(view, key, job, now_s))
            kept.found = found
        return kept.found


def _queued(view: View, key: JobKey) -> int:
    """Allocs that wait for room."""
    return sum(
        sum(indexed.document.queued_allocations.values())
        for indexed in view.evals_by_job.get(key, {}).values()
        if indexed.document.status.value == "blocked"
    )


def _troubles(
    view: View, key: JobKey, job: Job, counts: Counts, wanted: int, queued: int, deployment: Deployment | None, status: str, now_s: int
) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    is_rolling = deployment is not None and deployment.is_active
    if queued:
        found.append((CRITICAL if not counts.running else WARNING, f"{queued} not placed"))
    if counts.running < wanted and not is_rolling:
        found.append((WARNING if counts.running else CRITICAL, f"{counts.running} of {wanted} running"))
    if counts.failed and (wanted == 0 or counts.running < wanted):
        found.append((CRITICAL if status == "dead" or not counts.running else WARNING, f"{counts.failed} failed"))
    if counts.restarting:
        found.append((WARNING, f"{counts.restarting} restarting"))
    if counts.unhealthy:
        found.append((WARNING, f"{counts.unhealthy} unhealthy"))
    if counts.unknown:
        found.append((WARNING, f"{counts.unknown} on nodes that are not heard"))
    if deployment is not None and deployment.status is DeploymentStatus.FAILED and deployment.job_version == job.version:
        found.append((WARNING, "deployment failed"))
    if deployment is not None and is_rolling and any(group.needs_promotion for group in deployment.task_groups.values()):
        found.append((WARNING, "canaries wait for promotion"))
    watched = watch(view, key, job, now_s) if job.periodic is not None else None
    if watched is not None and watched.status != "passing":
        found.append((CRITICAL if watched.status == "critical" else WARNING, watched.output.partition("\n")[0]))
    return found


def row(view: View, one: Standing, now_s: int) -> Row:
    """NextLaunch: ns since the epoch, 0 for none. Children: by status, null for a job that starts none."""
    job, counts = one.job, one.counts
    shown_as: Row = {
        "ID": job.id,
        "Namespace": job.namespace,
        "Name": job.name,
        "Type": job.type.value,
        "Status": one.status,
        "Stop": job.stop,
        "Version": job.version,
        "Priority": job.priority,
        "ParentID": job.parent_id,
        "SubmitTime": job.submit_time,
        "Periodic": job.periodic is not None,
        "Parameterized": job.is_parameterized,
        "Counts": counted(counts, one.queued),
        "Wanted": one.wanted,
        "Severity": one.severity,
        "Troubles": one.troubles,
        "Deployment": _rollout(one.deployment),
        "Children": None,
        "NextLaunch": 0,
        "Watch": None,
    }
    if job.is_parent:
        children = [view.jobs[child] for child in view.families.children(one.key)]
        by_status = {"pending": 0, "running": 0, "dead": 0}
        for child in children:
            by_status[job_status(view, (child.namespace, child.id), child).value] += 1
        newest = max(children, key=lambda child: child.submit_time, default=None)
        shown_as["Children"] = by_status | {"LastLaunch": newest.submit_time if newest else 0, "LastID": newest.id if newest else ""}
        if job.is_scheduled and job.periodic is not None:
            shown_as["NextLaunch"] = (following(job.periodic, now_s) or 0) * 1_000_000_000
        watched = watch(view, one.key, job, now_s)
        shown_as["Watch"] = {"Status": watched.status, "Output": watched.output} if watched else None
    return shown_as


def counted(counts: Counts, queued: int) -> dict[str, int]:
    return {
        "Running": counts.running,
        "Starting": counts.starting,
        "Queued": queued,
        "Failed": counts.failed,
        "Lost": counts.lost,
        "Unknown": counts.unknown,
        "Complete": counts.complete,
        "Stopping": counts.stopping,
        "Unhealthy": counts.unhealthy,
        "Restarting": counts.restarting,
    }


def _rollout(deployment: Deployment | None) -> dict[str, Any] | None:
    if deployment is None or not deployment.is_active:
        return None
    groups = deployment.task_groups.values()
    return {
        "ID": deployment.id,
        "Status": deployment.status.value,
        "Healthy": sum(group.healthy_allocs for group in groups),
        "Total": sum(group.desired_total for group in groups),
    }


_SORTS = {
    "trouble": lambda one: (-one.severity, one.job.id, one.job.namespace),
    "id": lambda one: (one.job.id, one.job.namespace),
    "type": lambda one: (one.job.type.value, one.job.id),
    "status": lambda one: (one.status, one.job.id),
    "running": lambda one: (one.counts.running, one.job.id),
    "priority": lambda one: (one.job.priority, one.job.id),
    "submitted": lambda one: (one.job.submit_time, one.job.id),
}


async def list_jobs(request: web.Request, leading: Leading) -> web.Response:
    """`?type=&status=&failing=true`; `?parent=ID`: its children, which are not listed without it."""
    view, query, wanted = leading.view, read(request), asked(request, _SORTS)
    kind, status, parent = (request.query.get(name, "") for name in ("type", "status", "parent"))
    if kind not in ("", *JobType, "periodic", "parameterized"):
        raise BadRequest("type is no type of a job")
    is_failing = request.query.get("failing", "") == "true"
    now_s = leading.fenced.now_ns // 1_000_000_000

    def keeps(key: JobKey) -> bool:
        job = view.jobs[key]
        if not query.has_namespace(key[0]):
            return False
        if parent:
            if job.parent_id != parent:
                return False
        elif job.parent_id and view.families.parent(key) in view.jobs:
            return False
        if wanted.text and wanted.text not in job.id.lower() and wanted.text not in job.name.lower():
            return False
        if kind == "periodic":
            return job.periodic is not None
        return job.is_parameterized if kind == "parameterized" else kind in ("", job.type.value)

    sees = await request.app[CONTEXT].rights.readable(request, view.jobs)
    found = [one for one in await standings(request, leading) if sees(one.key) and one.key in view.jobs and keeps(one.key)]
    if status:
        found = [one for one in found if one.status == status]
    if is_failing:
        found = [one for one in found if one.severity]
    page = page_of(found, wanted, _SORTS, "trouble")
    return shown(request, view, ("jobs",), [row(view, one, now_s) for one in page], len(found))
