"""The API's /v1/jobs and /v1/job/…: submitting, reading and stopping jobs.

Job ids may hold slashes: a path ends in one of the known suffixes, everything before it is the id.
"""

from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

import jobspec
from api.query import BadRequest, NotFound, Query, answer, block, read
from api.shapes import StubCache, evaluation_document, job_document, job_stub, job_summary
from leader import commands
from leader.leading import Leading
from model.errors import JobspecError
from model.job import Job, JobId
from model.snapshot import JobKey

SUFFIXES = ("allocations", "evaluations", "deployment", "deployments", "summary", "versions", "evaluate")


def job_list(leading: Leading, query: Query) -> list[dict[str, Any]]:
    view = leading.view
    return [
        job_stub(view, key, view.jobs[key])
        for key in sorted(view.jobs)
        if query.has_namespace(key[0]) and key[1].startswith(query.prefix)
    ]


async def list_jobs(request: web.Request, leading: Leading) -> web.Response:
    query = read(request)
    await block(leading.view, ("jobs",), query)
    return answer(request, job_list(leading, query), index=leading.view.topic_index(("jobs",)))


async def register(request: web.Request, leading: Leading) -> web.Response:
    body = _body(await request.read())
    document = body.get("Job")
    if not isinstance(document, dict):
        raise BadRequest("Job must be specified")
    if namespace := request.query.get("namespace"):
        document = {**document, "Namespace": document.get("Namespace") or namespace}
    job = canonical(document)
    if (path_id := request.match_info.get("rest")) and job.id != path_id:
        raise BadRequest("Job ID does not match")
    enforce = body.get("JobModifyIndex") or 0
    if type(enforce) is not int:
        raise BadRequest(f"JobModifyIndex must be a number, found {type(enforce).__name__}")
    done = await commands.register(leading, job, enforce_index=enforce if body.get("EnforceIndex") else None)
    index = leading.view.api_index(done.eval_index)
    return answer(
        request,
        {
            "EvalID": done.evaluation.id,
            "EvalCreateIndex": index,
            "JobModifyIndex": leading.view.api_index(done.job_modify_index),
            "Warnings": "\n".join(jobspec.warnings(job)),
            "Index": index,
            "LastContact": 0,
            "KnownLeader": False,
        },
        index=index,
        is_read=False,
    )


def canonical(document: dict[str, Any]) -> Job:
    """The submitted document as a valid canonical job. Raises JobspecError with every fault."""
    job = jobspec.canonicalize(document)
    if faults := jobspec.validate(job):
        raise JobspecError(faults)
    return job


async def validate(request: web.Request, leading: object = None) -> web.Response:
    """Never an error status for a wrong job: the faults are in the answer."""
    document = _body(await request.read()).get("Job")
    if not isinstance(document, dict):
        raise BadRequest("Job must be specified")
    faults: list[str] = []
    warnings: tuple[str, ...] = ()
    try:
        warnings = jobspec.warnings(canonical(document))
    except JobspecError as error:
        faults = [str(fault) for fault in error.faults]
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
    body = _body(await request.read())
    text = body.get("JobHCL")
    if not isinstance(text, str) or not text:
        raise BadRequest("Job spec is empty")
    try:
        # A text from the network must not read this machine's files.
        document = jobspec.parse(text.encode(), file="input.hcl", reads_files=False)
        if body.get("Canonicalize"):
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
    if request.method == "GET":
        return await _read_job(request, leading, stubs, key, suffix, query)
    if request.method == "DELETE" and not suffix:
        return await _deregister(request, leading, key)
    if request.method in ("PUT", "POST") and not suffix:
        return await register(request, leading)
    if request.method in ("PUT", "POST") and suffix == "evaluate":
        done = await commands.evaluate(leading, *key)
        if done is None:
            raise NotFound("job not found")
        return _eval_answer(request, leading, done)
    raise web.HTTPMethodNotAllowed(request.method, ["GET", "PUT", "POST", "DELETE"])


async def _read_job(
    request: web.Request, leading: Leading, stubs: StubCache, key: JobKey, suffix: str, query: Query
) -> web.Response:
    view = leading.view
    match suffix:
        case "allocations":
            topic = ("job-allocs", key)
            await block(view, topic, query)
            allocs = sorted(view.allocs_by_job.get(key, {}).values(), key=lambda a: a.create_index)
            return answer(request, stubs.list(view, allocs), index=view.topic_index(topic))
        case "evaluations":
            topic = ("job-evals", key)
            await block(view, topic, query)
            known = view.evals_by_job.get(key, {}).values()
            shown = [evaluation_document(view, e.document, e.create_index, e.modify_index) for e in known]
            shown.sort(key=lambda e: -int(e["CreateIndex"]))
            return answer(request, shown, index=view.topic_index(topic))
        case "deployments" | "deployment":
            await block(view, ("job", key), query)
            return answer(request, [] if suffix == "deployments" else None, index=view.topic_index(("job", key)))
    topic = ("summary", key) if suffix == "summary" else ("job", key)
    await block(view, topic, query)
    current = view.jobs.get(key)
    if current is None:
        raise NotFound(
            "job versions not found" if suffix == "versions" else "job not found", index=view.topic_index(topic)
        )
    match suffix:
        case "summary":
            return answer(request, job_summary(view, key, current), index=view.topic_index(topic))
        case "versions":
            versions = sorted((v for k, v in view.versions if k == key), reverse=True)
            shown = [job_document(view, key, view.versions[key, v]) for v in versions]
            return answer(request, {"Versions": shown, "Diffs": None}, index=view.topic_index(topic))
    return answer(request, job_document(view, key, current), index=view.topic_index(topic))


async def _deregister(request: web.Request, leading: Leading, key: JobKey) -> web.Response:
    purge = request.query.get("purge", "false").lower() in ("1", "true", "t")
    done = await commands.deregister(leading, *key, purge=purge)
    if done is None:
        # Nomad answers an unknown job with an evaluation that has nothing to do.
        index = leading.view.topic_index(("job", key))
        shown = {"EvalID": "", "EvalCreateIndex": 0, "JobModifyIndex": 0, "Index": index}
        return answer(request, shown | {"LastContact": 0, "KnownLeader": False}, index=index, is_read=False)
    return _eval_answer(request, leading, done)


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


def _body(raw: bytes) -> dict[str, Any]:
    """A JSON object. Raises BadRequest."""
    if not raw:
        raise BadRequest("Request body is empty")
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(str(error)) from error
    except RecursionError:
        raise BadRequest("Request body is nested too deeply") from None
    if not isinstance(body, dict):
        raise BadRequest("Request body must be a JSON object")
    return body


