"""The API's /v1/jobs and /v1/job/…: submitting, reading and stopping jobs.

Job ids may hold slashes: a path ends in one of the known suffixes, everything before it is the id.
"""

from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

import jobspec
from api.context import CONTEXT
from api.deployments import deployment_document
from api.plans import plan_document, why_document
from api.query import (
    BadRequest,
    NotFound,
    Query,
    Refused,
    answer,
    check_region,
    decode,
    member,
    of_state,
    read,
)
from api.shapes import StubCache, evaluation_document, job_document, job_scale, job_stub, job_summary
from jobspec.diff import job_diff
from leader import commands, explaining, planning, versions
from leader.leading import Leading
from leader.view import View
from model.alloc import Apart
from model.errors import JobspecError
from model.job import DEFAULT_NAMESPACE, DEFAULT_REGION, Job, JobId
from model.snapshot import JobKey

_TOPICS = {
    "allocations": "job-allocs",
    "evaluations": "job-evals",
    "summary": "summary",
    "deployment": "job-deployments",
    "deployments": "job-deployments",
    "scale": "job-allocs",
}
_READ = ("allocations", "evaluations", "deployment", "deployments", "summary", "versions", "scale")
SUFFIXES = (*_READ, "evaluate", "plan", "why", "revert", "stable", "restart")


async def list_jobs(request: web.Request, leading: Leading) -> web.Response:
    def chosen(view: View, query: Query) -> object:
        return [
            job_stub(view, key, view.jobs[key])
            for key in sorted(view.jobs)
            if query.has_namespace(key[0]) and key[1].startswith(query.prefix)
        ]

    return await of_state(request, leading.view, ("jobs",), chosen)


async def register(request: web.Request, leading: Leading) -> web.Response:
    body = decode(await request.read())
    job = _submitted(request, body, request.match_info.get("rest"))
    enforce = member(body, "JobModifyIndex", int) or 0
    is_enforced = member(body, "EnforceIndex", bool)
    adopt = bool(member(body, "Adopt", bool))
    warnings = [*_warnings(leading, job), *([] if adopt else _orphans(leading, job))]
    done = await commands.register(leading, job, enforce_index=enforce if is_enforced else None, adopt=adopt)
    index = leading.view.api_index(done.eval_index)
    return answer(
        request,
        {
            "EvalID": done.evaluation.id,
            "EvalCreateIndex": index,
            "JobModifyIndex": leading.view.api_index(done.job_modify_index),
            "Warnings": "\n".join(warnings),
            "Index": index,
            "LastContact": 0,
            "KnownLeader": False,
        },
        index=index,
        is_read=False,
    )


def _submitted(request: web.Request, body: dict[str, Any], path_id: str | None) -> Job:
    """The body's job, valid and of this cluster. path_id: the id that it must have, if any."""
    document = member(body, "Job", dict)
    if document is None:
        raise BadRequest("Job must be specified")
    job = _of_this_cluster(request, canonical(document))
    if path_id and job.id != path_id:
        raise BadRequest("Job ID does not match")
    return job


def _warnings(leading: Leading, job: Job) -> list[str]:
    found = list(jobspec.warnings(job))
    if commands.admitted(job, leading.view.scheduler.document) != job:
        found.append("memory_max has no effect: memory_oversubscription_enabled is false in this cluster")
    return found


def _orphans(leading: Leading, job: Job) -> list[str]:
    """That something of an earlier job of the id runs still."""
    left = [
        alloc.desired.node_name
        for alloc in leading.view.allocs_by_job.get((job.namespace, job.id), {}).values()
        if alloc.desired.apart is Apart.ORPHANED and not alloc.is_terminal and not alloc.desired.is_stopping
    ]
    if not left:
        return []
    nodes = ", ".join(sorted(set(left)))
    return [f"{len(left)} orphaned allocations of an earlier job run on beside this one ({nodes}): -adopt takes them over"]


def _of_this_cluster(request: web.Request, job: Job) -> Job:
    """The job with its region and namespace, of which there is one each; the query goes before the job, and a
    job's region "global" is that of whoever is asked. Raises Refused, with Nomad's words."""
    if job.region != DEFAULT_REGION and not request.query.get("region"):
        check_region(request, job.region)
    namespace = request.query.get("namespace") or DEFAULT_NAMESPACE
    if namespace == DEFAULT_NAMESPACE:
        namespace = job.namespace
    if namespace != DEFAULT_NAMESPACE:
        raise Refused(f'job "{job.id}" is in nonexistent namespace "{namespace}"')
    return msgspec.structs.replace(job, region=request.app[CONTEXT].region)


def canonical(document: dict[str, Any]) -> Job:
    """The submitted document as a valid canonical job. Raises JobspecError with every fault, BadRequest for a
    document that is no job at all: something in it has the wrong type."""
    try:
        job = jobspec.canonicalize(document)
    except JobspecError as error:
        raise BadRequest("; ".join(str(fault) for fault in error.faults)) from error
    if faults := jobspec.validate(job):
        raise JobspecError(faults)
    return job


async def validate(request: web.Request, leading: object = None) -> web.Response:
    """Never an error status for a wrong job: the faults are in the answer."""
    document = member(decode(await request.read()), "Job", dict)
    if document is None:
        raise BadRequest("Job must be specified")
    warnings: tuple[str, ...] = ()
    try:
        job = jobspec.canonicalize(document)
        if not (found := jobspec.validate(job)):
            warnings = jobspec.warnings(job)
    except JobspecError as error:
        found = error.faults
    faults = [str(fault) for fault in found]
    shown = {
        "DriverConfigValidated": True,
        "ValidationErrors": faults or None,
        "Error": errors_text(faults),
        "Warnings": "\n".join(warnings),
    }
    return answer(request, shown)


def errors_text(faults: list[str]) -> str:
    """Several errors as Nomad words them."""
    if not faults:
        return ""
    count = "1 error occurred" if len(faults) == 1 else f"{len(faults)} errors occurred"
    return f"{count}:\n" + "".join(f"\t* {fault}\n" for fault in faults) + "\n"


async def parse(request: web.Request, leading: object = None) -> web.Response:
    """HCL in, the job's JSON out, canonical when asked."""
    body = decode(await request.read())
    text, is_canonical = member(body, "JobHCL", str), member(body, "Canonicalize", bool)
    if not text:
        raise BadRequest("Job spec is empty")
    try:
        # A text from the network must not read this machine's files.
        document = jobspec.parse(
            text.encode(), file="input.hcl", reads_files=False, is_hcl1=bool(member(body, "hclv1", bool))
        )
        if is_canonical:
            return answer(request, jobspec.canonicalize(document))
    except JobspecError as error:
        raise BadRequest(str(error)) from error
    return answer(request, document)


async def job(request: web.Request, leading: Leading, stubs: StubCache) -> web.Response:
    """Everything below /v1/job/: the suffix, if it is a known one, says what is asked."""
    # As sent: a slash inside an id is %2F, so that a job named `a/summary` can be asked for too.
    rest = request.rel_url.raw_path.removeprefix("/v1/job/")
    job_id, _, suffix = rest.rpartition("/")
    if suffix not in SUFFIXES or not job_id:
        job_id, suffix = rest, ""
    job_id = unquote(job_id)
    query = read(request)
    key: JobKey = (query.namespace, JobId(job_id))
    if suffix == "why" and request.method in ("GET", "HEAD", "PUT", "POST"):
        return await _why(request, leading, key)
    if request.method in ("GET", "HEAD"):
        return await _read_job(request, leading, stubs, key, suffix)
    if request.method == "DELETE" and not suffix:
        return await _deregister(request, leading, key)
    if request.method in ("PUT", "POST") and not suffix:
        return await register(request, leading)
    if request.method in ("PUT", "POST") and suffix == "evaluate":
        done = await commands.evaluate(leading, *key)
        if done is None:
            raise NotFound("job not found")
        return _eval_answer(request, leading, done)
    if request.method in ("PUT", "POST") and suffix == "plan":
        return await _plan(request, leading, JobId(job_id))
    if request.method in ("PUT", "POST") and suffix in _VERSIONS:
        return await _VERSIONS[suffix](request, leading, key)
    raise web.HTTPMethodNotAllowed(request.method, ["GET", "PUT", "POST", "DELETE"])


async def _read_job(
    request: web.Request, leading: Leading, stubs: StubCache, key: JobKey, suffix: str
) -> web.Response:
    query = request.query

    def found(view: View, _: Query) -> object:
        match suffix:
            case "allocations":
                allocs = view.allocs_by_job.get(key, {}).values()
                return stubs.list(view, sorted(allocs, key=lambda a: a.create_index))
            case "evaluations":
                known = view.evals_by_job.get(key, {}).values()
                return [evaluation_document(view, e) for e in sorted(known, key=lambda e: -e.create_index)]
            case "deployments":
                deployments = view.deployments_by_job.get(key, {}).values()
                return [deployment_document(view, d) for d in sorted(deployments, key=lambda d: -d.create_index)]
            case "deployment":
                latest = view.latest_deployment(key)
                return b"null" if latest is None else deployment_document(view, view.deployments[latest.id])
        current = view.jobs.get(key)
        if current is None:
            return None
        match suffix:
            case "summary":
                return job_summary(view, key, current)
            case "scale":
                return job_scale(view, key, current)
            case "versions":
                numbers = sorted((v for k, v in view.versions if k == key), reverse=True)
                shown = [job_document(view, key, view.versions[key, v]) for v in numbers]
                older = [view.versions[key, v] for v in numbers]
                has_diffs = query.get("diffs", "").lower() in ("1", "true", "t")
                diffs = [job_diff(old, new) for new, old in pairwise(older)] if has_diffs else None
                return {"Versions": shown, "Diffs": diffs}
        return job_document(view, key, current)

    topic = (_TOPICS.get(suffix, "job"), key)
    missing = "job versions not found" if suffix == "versions" else "job not found"
    return await of_state(request, leading.view, topic, found, missing=missing)


async def _plan(request: web.Request, leading: Leading, job_id: JobId) -> web.Response:
    """What submitting the job would do; nothing is written."""
    body = decode(await request.read())
    job = _submitted(request, body, job_id)
    found = planning.forecast(leading, job, has_diff=bool(member(body, "Diff", bool)))
    return answer(request, plan_document(leading.view, found, _warnings(leading, job)))


async def _why(request: web.Request, leading: Leading, key: JobKey) -> web.Response:
    """Why not all of the job is placed: as it is, or, for one in the body, as it would be."""
    if request.method in ("GET", "HEAD"):
        job = leading.view.jobs.get(key)
        if job is None:
            raise NotFound("job not found", index=leading.view.topic_index(("job", key)))
    else:
        job = _submitted(request, decode(await request.read()), key[1])
    has_nodes = request.query.get("nodes", "").lower() in ("1", "true", "t")
    return answer(request, why_document(explaining.why(leading, job), has_nodes=has_nodes), index=leading.view.api_index(leading.view.index))


async def _revert(request: web.Request, leading: Leading, key: JobKey) -> web.Response:
    body = decode(await request.read())
    version = member(body, "JobVersion", int)
    if version is None:
        raise BadRequest("JobVersion must be specified")
    prior = member(body, "EnforcePriorVersion", int)
    return _eval_answer(request, leading, await versions.revert(leading, *key, version, prior_version=prior))


async def _stable(request: web.Request, leading: Leading, key: JobKey) -> web.Response:
    body = decode(await request.read())
    version = member(body, "JobVersion", int) or 0
    index = await versions.set_stable(leading, *key, version, is_stable=bool(member(body, "Stable", bool)))
    shown = {"JobModifyIndex": leading.view.api_index(index), "Index": leading.view.api_index(index)}
    return answer(request, shown, index=leading.view.api_index(index), is_read=False)


async def _scale(request: web.Request, leading: Leading, key: JobKey) -> web.Response:
    body = decode(await request.read())
    target = member(body, "Target", dict) or {}
    group = str(target.get("Group") or "")
    if not group:
        raise BadRequest("missing task group name for scaling action")
    count = member(body, "Count", int)
    if member(body, "Error", bool) and count is not None:
        raise BadRequest("scaling action should not contain count if error is true")
    return _eval_answer(request, leading, await versions.scale(leading, *key, group, count))


async def _restart(request: web.Request, leading: Leading, key: JobKey) -> web.Response:
    """drover's own: replaces all of an unchanged job in the rolling manner."""
    return _eval_answer(request, leading, await versions.restart(leading, *key))


_VERSIONS = {"revert": _revert, "stable": _stable, "scale": _scale, "restart": _restart}


async def _deregister(request: web.Request, leading: Leading, key: JobKey) -> web.Response:
    purge = request.query.get("purge", "false").lower() in ("1", "true", "t")
    orphan = request.query.get("orphan", "false").lower() in ("1", "true", "t")
    if purge and orphan:
        raise BadRequest("a job is either stopped with orphan or with purge")
    return _eval_answer(request, leading, await commands.deregister(leading, *key, purge=purge, orphan=orphan))


def _eval_answer(request: web.Request, leading: Leading, done: commands.Registered) -> web.Response:
    index = leading.view.api_index(done.eval_index)
    shown = {
        "EvalID": done.evaluation.id,
        "EvalCreateIndex": index,
        "JobModifyIndex": leading.view.api_index(done.job_modify_index),
        "Index": index,
        "LastContact": 0,
        "KnownLeader": False,
    }
    return answer(request, shown, index=index, is_read=False)
