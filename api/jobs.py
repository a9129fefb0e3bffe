"""The API's /v1/jobs and /v1/job/…: submitting, reading and stopping jobs.

Job ids may hold slashes: a path ends in one of the known suffixes (api/routes.py), everything before it is the id.
"""

import asyncio
import base64
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
from aiohttp import web

import jobspec
from api import submissions
from api.context import CONTEXT
from api.deployments import deployment_document
from api.launches import launches_document, next_launch_text
from api.listing import Kind
from api.plans import plan_document, why_document
from api.query import (
    BadRequest,
    NotFound,
    Query,
    answer,
    check_region,
    decode,
    is_true,
    member,
    of_state,
    read,
)
from api.shapes import evaluation_document, job_document, job_scale, job_stub, job_summary
from jobspec.diff import job_diff
from leader import (
    commands,
    dispatching,
    explaining,
    lines,
    periodic,
    planning,
    stopping,
    vault_path,
    versions,
)
from leader.dispatching import Dispatch
from leader.leading import Leading
from leader.view import View
from model.alloc import Apart
from model.cluster import ScalingEvent
from model.errors import Fault, JobspecError
from model.job import DEFAULT_NAMESPACE, DEFAULT_REGION, Job, JobId
from model.secret import Secret
from model.snapshot import JobKey
from model.wire import encode
from template.of_job import template_faults

# Of a scaling action: its message in characters, and what else is said with it. A record keeps 20 a group.
_SCALING_MESSAGE_MAX = 1024
_SCALING_META_BYTES_MAX = 2048


T = TypeVar("T")

# A body below this is worked on within some 20 ms.
_LONG_BYTES = 32 * 1024


def _found_jobs(view: View, query: Query) -> list[JobKey]:
    return [key for key in view.jobs if query.has_namespace(key[0]) and key[1].startswith(query.prefix)]


def _shown_jobs(request: web.Request, view: View, keys: Sequence[JobKey]) -> object:
    has_meta = is_true(request, "meta")
    return [job_stub(view, key, view.jobs[key], has_meta=has_meta) for key in keys]


_JOBS = Kind(_found_jobs, lambda key: key, _shown_jobs, lambda view, key, _: job_document(view, key, view.jobs[key]), lambda key: key)


async def list_jobs(request: web.Request, leading: Leading) -> web.Response:
    """`?meta=true`: with each job's metadata."""
    return await _JOBS.answer(request, leading, ("jobs",))


async def register(request: web.Request, leading: Leading) -> web.Response:
    body = decode(await request.read())
    job = await _submitted(request, body, request.match_info.get("id"))
    await request.app[CONTEXT].rights.may_submit(request, job)
    await _require_policies(leading, job, body)
    enforce = member(body, "JobModifyIndex", int) or 0
    is_enforced = member(body, "EnforceIndex", bool)
    adopt = bool(member(body, "Adopt", bool))
    keeps_counts = bool(member(body, "PreserveCounts", bool))
    cycle = await _vault_cycle(leading, job, body)
    warnings = [*_warnings(leading, job), *([] if adopt else _orphans(leading, job)), *cycle]
    source, omitted = submissions.of_body(body)
    done = await commands.register(
        leading, job, enforce_index=enforce if is_enforced else None, adopt=adopt, keeps_counts=keeps_counts, submission=source
    )
    vault_path.allowed(leading.view, (job.namespace, job.id), done.job_modify_index, cycle)
    index = leading.view.api_index(done.eval_index)
    return answer(
        request,
        {
            "EvalID": done.eval_id,
            "EvalCreateIndex": index,
            "JobModifyIndex": leading.view.api_index(done.job_modify_index),
            "Warnings": "\n".join((*warnings, *omitted)),
            "Index": index,
            "LastContact": 0,
            "KnownLeader": False,
        },
        index=index,
        is_read=False,
    )


async def _vault_cycle(leading: Leading, job: Job, body: dict[str, Any]) -> tuple[str, ...]:
    """What is to be told of the circle that the job closes, where the body allows that. Raises VaultCycle."""
    return await vault_path.admit(leading.view, leading.client, job, allows_cycle=bool(member(body, "AllowVaultCycle", bool)))


async def _require_policies(leading: Leading, job: Job, body: dict[str, Any]) -> None:
    """Where tokens of submitters are asked for. The token is used here and kept nowhere. Raises VaultRefused, VaultUnavailable."""
    if leading.vault is not None and leading.vault.asks_submitters:
        token = (member(body, "Job", dict) or {}).get("VaultToken")
        await leading.vault.require_policies(job, Secret(token if isinstance(token, str) else ""))


async def _submitted(request: web.Request, body: dict[str, Any], path_id: str | None) -> Job:
    """The body's job, valid and of this cluster. path_id: the id that it must have, if any."""
    document = member(body, "Job", dict)
    if document is None:
        raise BadRequest("Job must be specified")
    if path_id and document.get("ID") not in (None, path_id):
        raise BadRequest("Job ID does not match")
    job = _of_this_cluster(request, await _aside(request, lambda: canonical(document)))
    if path_id and job.id != path_id:
        raise BadRequest("Job ID does not match")
    return job


def _warnings(leading: Leading, job: Job) -> list[str]:
    found = list(jobspec.warnings(job))
    if commands.admitted(job, leading.view.scheduler.document) != job:
        found.append("memory_max has no effect: memory_oversubscription_enabled is false in this cluster")
    if commands.claims_to_be_child(leading.view.jobs.get((job.namespace, job.id)), job):
        found.append("ParentID, Dispatched, DispatchIdempotencyToken and Payload are ignored: only children that drover starts have them")
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
    """The job with its region, of which there is one, and its namespace; the query goes before the job, and a
    job's region "global" is that of whoever is asked. Raises Refused, with Nomad's words."""
    if job.region != DEFAULT_REGION and not request.query.get("region"):
        check_region(request, job.region)
    namespace = request.query.get("namespace") or DEFAULT_NAMESPACE
    if namespace == DEFAULT_NAMESPACE:
        namespace = job.namespace
    return msgspec.structs.replace(job, region=request.app[CONTEXT].region, namespace=namespace)


def canonical(document: dict[str, Any]) -> Job:
    """The submitted document as a valid canonical job. Raises JobspecError with every fault, BadRequest for a
    document that is no job at all: something in it has the wrong type."""
    try:
        job = jobspec.canonicalize(document)
    except JobspecError as error:
        raise BadRequest("; ".join(str(fault) for fault in error.faults)) from error
    if faults := faults_of(job):
        raise JobspecError(faults)
    return job


def faults_of(job: Job) -> tuple[Fault, ...]:
    """Everything wrong with a canonical job, the texts of its templates included."""
    return jobspec.validate(job) + template_faults(job)


async def _aside(request: web.Request, work: Callable[[], T]) -> T:
    """Work on what somebody sent: where that is long, beside everything else, one at a time."""
    if len(await request.read()) < _LONG_BYTES:
        return work()
    async with request.app[CONTEXT].parsing:
        return await asyncio.to_thread(work)


async def validate(request: web.Request, leading: object = None) -> web.Response:
    """Never an error status for a wrong job: the faults are in the answer."""
    document = member(decode(await request.read()), "Job", dict)
    if document is None:
        raise BadRequest("Job must be specified")

    def look() -> tuple[list[str], tuple[str, ...]]:
        try:
            job = jobspec.canonicalize(document)
        except JobspecError as error:
            return [str(fault) for fault in error.faults], ()
        faults = [str(fault) for fault in faults_of(job)]
        return faults, () if faults else jobspec.warnings(job)

    faults, warnings = await _aside(request, look)
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
    """HCL in, the job's JSON out, canonical when asked. `Variables`: the text of a variable file."""
    body = decode(await request.read())
    text, is_canonical = member(body, "JobHCL", str), member(body, "Canonicalize", bool)
    if not text:
        raise BadRequest("Job spec is empty")
    is_hcl1 = bool(member(body, "hclv1", bool))
    variables = (member(body, "Variables", str) or "").encode()
    if is_hcl1 and variables:
        raise BadRequest("HCL1 has no variables")

    def work() -> object:
        # A text from the network must not read this machine's files.
        var_files = [("input.vars", variables)] if variables else []
        document = jobspec.parse(text.encode(), file="input.hcl", var_files=var_files, reads_files=False, is_hcl1=is_hcl1)
        return jobspec.canonicalize(document) if is_canonical else document

    try:
        # However short, it may take its whole budget.
        async with request.app[CONTEXT].parsing:
            document = await asyncio.to_thread(work)
    except JobspecError as error:
        raise BadRequest(str(error)) from error
    return answer(request, document)


def _key(request: web.Request) -> JobKey:
    """The job that the path names. A slash inside an id comes as %2F, so that a job named `a/summary` can be asked
    for too; a last segment that names nothing to ask for is part of the id."""
    namespace = read(request).namespace
    if namespace == "*" and request.method not in ("GET", "HEAD"):
        raise BadRequest("a job that is changed is of one namespace, not of all")
    return namespace, JobId(request.match_info["id"])


async def _of_job(request: web.Request, leading: Leading, topic: str, look: Callable[[View, JobKey], object]) -> web.Response:
    """What the view holds of the path's job, known or not."""
    key = _key(request)
    return await of_state(request, leading.view, (topic, key), lambda view, _: look(view, key))


async def _of_known(
    request: web.Request, leading: Leading, topic: str, look: Callable[[View, JobKey, Job], object], missing: str = "job not found"
) -> web.Response:
    """The same of one that must be there. Raises NotFound."""
    key = _key(request)

    def found(view: View, _: Query) -> object:
        current = view.jobs.get(key)
        return None if current is None else look(view, key, current)

    return await of_state(request, leading.view, (topic, key), found, missing=missing)


async def job(request: web.Request, leading: Leading) -> web.Response:
    def look(view: View, key: JobKey, current: Job) -> object:
        shown = job_document(view, key, current)
        if waits := lines.told(view, key, current):
            shown["StatusDescription"] = waits
        return shown

    return await _of_known(request, leading, "job", look)


async def allocations(request: web.Request, leading: Leading) -> web.Response:
    stubs = request.app[CONTEXT].stubs

    def look(view: View, key: JobKey) -> object:
        return stubs.list(view, sorted(view.allocs_by_job.get(key, {}).values(), key=lambda a: a.create_index))

    return await _of_job(request, leading, "job-allocs", look)


async def evaluations(request: web.Request, leading: Leading) -> web.Response:
    def look(view: View, key: JobKey) -> object:
        known = view.evals_by_job.get(key, {}).values()
        return [evaluation_document(view, e) for e in sorted(known, key=lambda e: -e.create_index)]

    return await _of_job(request, leading, "job-evals", look)


async def deployments(request: web.Request, leading: Leading) -> web.Response:
    def look(view: View, key: JobKey) -> object:
        known = view.deployments_by_job.get(key, {}).values()
        return [deployment_document(view, d) for d in sorted(known, key=lambda d: -d.create_index)]

    return await _of_job(request, leading, "job-deployments", look)


async def latest_deployment(request: web.Request, leading: Leading) -> web.Response:
    def look(view: View, key: JobKey) -> object:
        latest = view.latest_deployment(key)
        return b"null" if latest is None else deployment_document(view, view.deployments[latest.id])

    return await _of_job(request, leading, "job-deployments", look)


async def summary(request: web.Request, leading: Leading) -> web.Response:
    return await _of_known(request, leading, "summary", job_summary)


async def scale_status(request: web.Request, leading: Leading) -> web.Response:
    return await _of_known(request, leading, "job-scale", job_scale)


async def versions_of(request: web.Request, leading: Leading) -> web.Response:
    has_diffs = is_true(request, "diffs")

    def look(view: View, key: JobKey, _: Job) -> object:
        numbers = view.version_numbers(key)[::-1]
        known = [view.versions[key, v] for v in numbers]
        diffs = [job_diff(old, new) for new, old in pairwise(known)] if has_diffs else None
        return {"Versions": [job_document(view, key, one) for one in known], "Diffs": diffs}

    return await _of_known(request, leading, "job", look, "job versions not found")


async def evaluate(request: web.Request, leading: Leading) -> web.Response:
    """`EvalOptions.ForceReschedule`: what failed is replaced now, whatever its policy says."""
    raw = await request.read()
    options = member(decode(raw), "EvalOptions", dict) if raw else None
    if options and member(options, "ForceReschedule", bool):
        await stopping.force_reschedule(leading, _key(request))
    done = await commands.evaluate(leading, *_key(request))
    if done is None:
        raise NotFound("job not found")
    return _eval_answer(request, leading, done)


def _check_named(job_id: object, request: web.Request) -> None:
    if job_id not in (None, "", request.match_info["id"]):
        raise BadRequest("job ID does not match")


async def plan(request: web.Request, leading: Leading) -> web.Response:
    """What submitting the job would do; nothing is written."""
    body = decode(await request.read())
    job = await _submitted(request, body, request.match_info["id"])
    await request.app[CONTEXT].rights.may_read(request, (job.namespace, job.id))
    found = planning.forecast(leading, job, has_diff=bool(member(body, "Diff", bool)))
    next_launch = next_launch_text(found.job, leading.fenced.now_ns)
    cycle = await _vault_cycle(leading, job, body)
    return answer(request, plan_document(leading.view, found, [*_warnings(leading, job), *cycle], next_launch))


async def why(request: web.Request, leading: Leading) -> web.Response:
    """Why not all of the job is placed."""
    key = _key(request)
    current = leading.view.jobs.get(key)
    if current is None:
        raise NotFound("job not found", index=leading.view.topic_index(("job", key)))
    return _why(request, leading, current)


async def why_submitted(request: web.Request, leading: Leading) -> web.Response:
    """Why not all of the body's job would be placed."""
    job = await _submitted(request, decode(await request.read()), request.match_info["id"])
    await request.app[CONTEXT].rights.may_read(request, (job.namespace, job.id))
    return _why(request, leading, job)


def _why(request: web.Request, leading: Leading, job: Job) -> web.Response:
    shown = why_document(explaining.why(leading, job), has_nodes=is_true(request, "nodes"))
    return answer(request, shown, index=leading.view.api_index(leading.view.index))


async def revert(request: web.Request, leading: Leading) -> web.Response:
    body = decode(await request.read())
    _check_named(member(body, "JobID", str), request)
    version = member(body, "JobVersion", int)
    if version is None:
        raise BadRequest("JobVersion must be specified")
    prior = member(body, "EnforcePriorVersion", int)
    if version < 0 or (prior or 0) < 0:
        raise BadRequest("a version is no negative number")
    key, cycle = _key(request), tuple[str, ...]()
    if (again := leading.view.versions.get((key, version))) is not None:
        await request.app[CONTEXT].rights.may_submit(request, again)
        cycle = await _vault_cycle(leading, again, body)
    done = await versions.revert(leading, *key, version, prior_version=prior)
    vault_path.allowed(leading.view, key, done.job_modify_index, cycle)
    return _eval_answer(request, leading, done, warnings=cycle)


async def stable(request: web.Request, leading: Leading) -> web.Response:
    body = decode(await request.read())
    version = member(body, "JobVersion", int) or 0
    if version < 0:
        raise BadRequest("a version is no negative number")
    index = await versions.set_stable(leading, *_key(request), version, is_stable=bool(member(body, "Stable", bool)))
    shown = {"JobModifyIndex": leading.view.api_index(index), "Index": leading.view.api_index(index)}
    return answer(request, shown, index=leading.view.api_index(index), is_read=False)


async def scale(request: web.Request, leading: Leading) -> web.Response:
    body = decode(await request.read())
    target = member(body, "Target", dict) or {}
    _check_named(target.get("Job"), request)
    group = str(target.get("Group") or "")
    if not group:
        raise BadRequest("missing task group name for scaling action")
    count = member(body, "Count", int)
    has_failed = bool(member(body, "Error", bool))
    if has_failed and count is not None:
        raise BadRequest("scaling action should not contain count if error is true")
    meta = member(body, "Meta", dict) or {}
    if len(encode(meta)) > _SCALING_META_BYTES_MAX:
        raise BadRequest(f"Meta of a scaling action has {len(encode(meta))} bytes (limit {_SCALING_META_BYTES_MAX})")
    message = (member(body, "Message", str) or "")[:_SCALING_MESSAGE_MAX]
    said = ScalingEvent(time=leading.fenced.now_ns, error=has_failed, message=message, meta=meta)
    if count is not None:
        return _eval_answer(request, leading, await versions.scale(leading, *_key(request), group, count, said))
    index = leading.view.api_index(await versions.note_scaling(leading, *_key(request), group, said))
    shown = {"EvalID": "", "EvalCreateIndex": 0, "JobModifyIndex": index, "Index": index, "LastContact": 0, "KnownLeader": False}
    return answer(request, shown, index=index, is_read=False)


async def dispatch(request: web.Request, leading: Leading) -> web.Response:
    body = decode(await request.read())
    namespace, job_id = _key(request)
    if (named := member(body, "JobID", str)) and named != job_id:
        raise BadRequest("Job ID does not match")
    asked = Dispatch(
        payload=_payload(body),
        meta=_meta(body),
        prefix=member(body, "IdPrefixTemplate", str) or "",
        # python-nomad writes it into the body as others into the query.
        token=member(body, "IdempotencyToken", str)
        or member(body, "idempotency_token", str)
        or request.query.get("idempotency_token", ""),
    )
    done = await dispatching.dispatch(leading, namespace, job_id, asked)
    if done is None:
        raise NotFound("job not found")
    index = leading.view.api_index(done.eval_index)
    shown = {
        "DispatchedJobID": done.job_id,
        "EvalID": done.eval_id,
        "EvalCreateIndex": index,
        "JobCreateIndex": leading.view.api_index(done.job_index),
        "Index": index,
        "LastContact": 0,
        "KnownLeader": False,
    }
    return answer(request, shown, index=index, is_read=False)


def _payload(body: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(member(body, "Payload", str) or "", validate=True)
    except ValueError as error:
        raise BadRequest(f"Payload is not base64: {error}") from error


def _meta(body: dict[str, Any]) -> dict[str, str]:
    meta = member(body, "Meta", dict) or {}
    if not all(isinstance(value, str) for value in meta.values()):
        raise BadRequest("Meta must be an object of strings")
    return meta


async def force_periodic(request: web.Request, leading: Leading) -> web.Response:
    done = await periodic.force(leading, *_key(request))
    if done is None:
        raise NotFound("job not found")
    return _eval_answer(request, leading, done)


async def launches(request: web.Request, leading: Leading) -> web.Response:
    """drover's own: how a periodic or parameterized job's children did, those that were removed too."""
    now_s = leading.fenced.now_ns // 1_000_000_000

    def look(view: View, key: JobKey, job: Job) -> object:
        return launches_document(view, key, job, now_s)

    return await _of_known(request, leading, "summary", look)


async def restart(request: web.Request, leading: Leading) -> web.Response:
    """drover's own: replaces all of an unchanged job in the rolling manner."""
    return _eval_answer(request, leading, await versions.restart(leading, *_key(request)))


async def deregister(request: web.Request, leading: Leading) -> web.Response:
    purge, orphan = is_true(request, "purge"), is_true(request, "orphan")
    if purge and orphan:
        raise BadRequest("a job is either stopped with orphan or with purge")
    return _eval_answer(request, leading, await commands.deregister(leading, *_key(request), purge=purge, orphan=orphan))


def _eval_answer(
    request: web.Request, leading: Leading, done: commands.Registered, *, warnings: Sequence[str] | None = None
) -> web.Response:
    index = leading.view.api_index(done.eval_index)
    shown = {
        "EvalID": done.eval_id,
        "EvalCreateIndex": index,
        "JobModifyIndex": leading.view.api_index(done.job_modify_index),
        "Index": index,
        "LastContact": 0,
        "KnownLeader": False,
    }
    if warnings is not None:
        shown["Warnings"] = "\n".join(warnings)
    return answer(request, shown, index=index, is_read=False)
