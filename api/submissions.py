"""The API's /v1/job/…/submission: the job file that a version was submitted as, with its variables."""

from typing import Any

import msgspec
from aiohttp import web

from api.query import BadRequest, NotFound, answer, block, is_true, member, read
from leader.leading import Leading
from model.cluster import Submission
from model.job import JobId
from model.wire import decode

# Nomad's own limit is 1 MB, of its raft. Deflated, job files are a quarter of this and smaller.
SOURCE_BYTES_MAX = 256 * 1024


def of_body(body: dict[str, Any]) -> tuple[Submission | None, list[str]]:
    """What `job run` sends beside the job, and the warning that it is too large to be kept. Raises BadRequest."""
    given = member(body, "Submission", dict)
    if not given or not given.get("Source"):
        return None, []
    try:
        found = msgspec.convert({name: value for name, value in given.items() if value is not None}, Submission)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Submission: {error}") from error
    size = len(found.source.encode()) + len(found.variables.encode()) + sum(len(v) for v in (found.variable_flags or {}).values())
    if size > SOURCE_BYTES_MAX:
        return None, [f"the job's source is not kept: {size} bytes with its variables (limit {SOURCE_BYTES_MAX})"]
    return found, []


async def submission(request: web.Request, leading: Leading) -> web.Response:
    """`?version=`, else the current one; `?optional=true`: null and no error where none is kept. It is read from Consul: nobody needs it in memory."""
    text = request.query.get("version", "")
    if text and not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadRequest(f'Failed to parse value of "version" ("{text[:20]}") as a number')
    query, view = read(request), leading.view
    key = query.namespace, JobId(request.match_info["id"])
    await block(view, ("job", key), query)
    record = view.records.get(key)
    version = int(text) if text else record.document.version if record else -1
    index = view.topic_index(("job", key))
    known = view.version_indexes.get((key, version)) if record else None
    entry = await leading.fenced.kv.get(leading.keys.submission(*key, version)) if known else None
    if record is not None and entry is None and is_true(request, "optional"):
        return answer(request, b"null", index=index)
    if known is None or entry is None:
        raise NotFound("job source not found", index=index)
    shown: dict[str, Any] = msgspec.to_builtins(decode(entry.value, Submission))
    shown |= {
        "Namespace": key[0],
        "JobID": key[1],
        "Version": version,
        "JobModifyIndex": view.api_index(known.modify_index),
        "CreateIndex": view.api_index(entry.create_index),
        "ModifyIndex": view.api_index(entry.modify_index),
    }
    return answer(request, shown, index=index)
