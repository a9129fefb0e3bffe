"""The API's allocations, evaluations and nodes as the leader's view has them, and what is done to nodes."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from api.context import CONTEXT
from api.listing import Kind
from api.query import BadRequest, NotFound, Query, Refused, answer, decode, is_true, member, of_state
from api.shapes import (
    alloc_full,
    alloc_stub,
    allocated_resources,
    evaluation_document,
    job_document,
    node_document,
    node_stub,
)
from leader import collecting, commands, draining, stopping
from leader.leading import Leading
from leader.permits import PERMIT_WAIT_S
from leader.view import View, job_key
from model.alloc import Alloc, AllocId, EvalId
from model.errors import TaskRefused, VaultRefused, VaultUnavailable
from model.node import Drain, Eligibility, NodeId
from model.snapshot import JobKey
from model.wire import encode

# Of what an operator says of a drain: it is kept in the node's control document (leader/lives.py).
_DRAIN_META_BYTES_MAX = 2048

T = TypeVar("T")
Handler = Callable[[web.Request, Leading], Awaitable[web.Response]]


def _one(kind: str, of: Callable[[View], Mapping[Any, T]], document: Callable[[View, T], object]) -> Handler:
    """Answers with the one whose id is `{id}`."""

    async def handler(request: web.Request, leading: Leading) -> web.Response:
        def found(view: View, _: Query) -> object:
            known = of(view).get(one_id)
            return None if known is None else document(view, known)

        one_id = request.match_info["id"]
        return await of_state(request, leading.view, (kind, one_id), found, missing=f"{kind} not found")

    return handler


allocation = _one("alloc", lambda view: view.allocs, alloc_full)
evaluation = _one("eval", lambda view: view.evals, evaluation_document)
node = _one("node", lambda view: view.nodes, node_document)


def _found_allocs(view: View, query: Query) -> Iterable[Alloc]:
    return (
        alloc
        for alloc in view.allocs.values()
        if query.has_namespace(alloc.desired.namespace) and alloc.id.startswith(query.prefix)
    )


def _filtered_alloc(view: View, alloc: Alloc, expression: str) -> dict[str, Any]:
    """Its stub, and its job where the expression asks for it."""
    shown: dict[str, Any] = msgspec.to_builtins(alloc_stub(view, alloc))
    job = view.versions.get((job_key(alloc), alloc.desired.job_version)) if "Job." in expression or "Job[" in expression else None
    return shown | {"Job": job_document(view, job_key(alloc), job) if job else {}}


def _shown_allocs(request: web.Request, view: View, allocs: Sequence[Alloc]) -> object:
    has_resources, has_states = is_true(request, "resources"), request.query.get("task_states", "").lower() not in ("0", "f", "false")
    if not has_resources and has_states:
        return request.app[CONTEXT].stubs.list(view, allocs)
    shown: list[dict[str, Any]] = [msgspec.to_builtins(alloc_stub(view, alloc)) for alloc in allocs]
    for stub, alloc in zip(shown, allocs, strict=True):
        if has_resources:
            stub["AllocatedResources"] = allocated_resources(view, alloc)
        if not has_states:
            stub["TaskStates"] = None
    return shown


_ALLOCS = Kind(
    _found_allocs,
    lambda alloc: (-alloc.create_index, alloc.id),
    _shown_allocs,
    _filtered_alloc,
    job_key,
)


async def list_allocations(request: web.Request, leading: Leading) -> web.Response:
    """`?resources=true`: with what each was given; `?task_states=false`: without its tasks' states."""
    if len(request.query.get("prefix", "").replace("-", "")) % 2:
        raise BadRequest("alloc lookup failed: index error: prefix must have an even number of hex digits")
    return await _ALLOCS.answer(request, leading, ("allocs",))


async def allocation_stop(request: web.Request, leading: Leading) -> web.Response:
    return await _changed(request, leading, stopping.stop)


async def allocation_release(request: web.Request, leading: Leading) -> web.Response:
    """drover's own: the alloc runs on apart from its job."""
    return await _changed(request, leading, stopping.release)


async def _changed(
    request: web.Request, leading: Leading, change: Callable[[Leading, AllocId], Awaitable[commands.Registered]]
) -> web.Response:
    try:
        done = await change(leading, AllocId(request.match_info["id"]))
    except stopping.UnknownAlloc as error:
        raise NotFound("alloc not found") from error
    index = leading.view.api_index(done.eval_index)
    shown = {"EvalID": done.eval_id, "Index": index}
    return answer(request, shown, index=index, is_read=False)


async def restart_permit(request: web.Request, leading: Leading) -> web.Response:
    """drover's own: an agent asks before it ends a task for failing checks, `{MaxParallel}`: see leader/permits.py."""
    alloc = leading.view.allocs.get(AllocId(request.match_info["id"]))
    max_parallel = member(decode(await request.read()), "MaxParallel", int)
    if alloc is None:
        raise NotFound("alloc not found")
    if not max_parallel or max_parallel < 1:
        raise BadRequest("MaxParallel must be at least 1")
    is_given = await leading.permits.wait(leading.view, alloc, max_parallel, PERMIT_WAIT_S)
    return answer(request, {"Permitted": is_given}, is_read=False)


async def vault_token(request: web.Request, leading: Leading) -> web.Response:
    """drover's own: an agent without a Vault token of its own asks for one for a task, `{Task}`. It comes wrapped."""
    alloc = leading.view.allocs.get(AllocId(request.match_info["id"]))
    if alloc is None:
        raise NotFound("alloc not found")
    task = member(decode(await request.read()), "Task", str)
    if not task:
        raise BadRequest("Task must be specified")
    if leading.vault is None:
        raise Refused("the leader has no Vault: it has no vault block in its configuration")
    key = (alloc.desired.namespace, alloc.desired.job_id)
    job = leading.view.versions.get((key, alloc.desired.job_version))
    if job is None:
        raise NotFound("job version not found")
    try:
        wrapped = await leading.vault.wrapped(alloc, job, task)
    except (TaskRefused, VaultRefused) as error:
        raise BadRequest(str(error)) from error
    except VaultUnavailable as error:
        raise Refused(str(error)) from error
    return answer(request, {"WrappedToken": wrapped.secret.reveal(), "TTL": wrapped.ttl_s}, is_read=False)


_EVALUATIONS = Kind(
    lambda view, query: (
        e
        for e in view.evals.values()
        if query.has_namespace(e.document.namespace) and e.document.id.startswith(query.prefix)
    ),
    lambda e: (-e.create_index, e.document.id),
    lambda _, view, found: [evaluation_document(view, e) for e in found],
    lambda view, e, _: evaluation_document(view, e),
    lambda e: (e.document.namespace, e.document.job_id),
)


async def list_evaluations(request: web.Request, leading: Leading) -> web.Response:
    return await _EVALUATIONS.answer(request, leading, ("evals",))


async def evaluation_allocations(request: web.Request, leading: Leading) -> web.Response:
    def chosen(view: View, _: Query) -> bytes:
        known = view.evals.get(eval_id)
        of_job = view.allocs_by_job.get((known.document.namespace, known.document.job_id), {}) if known else {}
        return request.app[CONTEXT].stubs.list(view, (alloc for alloc in of_job.values() if alloc.desired.eval_id == eval_id))

    eval_id = EvalId(request.match_info["id"])
    return await of_state(request, leading.view, ("eval-allocs", eval_id), chosen)


_NODES = Kind(
    lambda view, query: (one for one in view.nodes.values() if one.id.startswith(query.prefix)),
    lambda one: (one.id,),
    lambda request, view, found: [node_stub(view, one, has_resources=is_true(request, "resources"), has_os=is_true(request, "os")) for one in found],
    lambda view, one, _: node_document(view, one),
    None,
)


async def list_nodes(request: web.Request, leading: Leading) -> web.Response:
    """`?resources=true`: with what each has; `?os=true`: with its operating system."""
    return await _NODES.answer(request, leading, ("nodes",))


async def node_allocations(request: web.Request, leading: Leading) -> web.Response:
    def of_node(view: View) -> list[tuple[JobKey, Alloc]]:
        return [((a.desired.namespace, a.desired.job_id), a) for a in view.allocs_by_node.get(node_id, {}).values()]

    def found(view: View, query: Query) -> object:
        return [alloc_full(view, alloc) for key, alloc in of_node(view) if query.sees(key)]

    node_id = NodeId(request.match_info["id"])
    return await of_state(
        request, leading.view, ("node-allocs", node_id), found, lists=lambda view, _: {key for key, _ in of_node(view)}
    )


async def node_eligibility(request: web.Request, leading: Leading) -> web.Response:
    try:
        wanted = Eligibility(member(decode(await request.read()), "Eligibility", str) or "")
    except ValueError:
        raise BadRequest('invalid scheduling eligibility (expected "eligible" or "ineligible")') from None
    try:
        index = await commands.set_eligibility(leading, NodeId(request.match_info["id"]), wanted)
    except commands.UnknownNode as error:
        raise NotFound("node not found") from error
    shown = {"EvalIDs": None, "EvalCreateIndex": 0, "NodeModifyIndex": leading.view.api_index(index)}
    return answer(request, shown, index=leading.view.api_index(index), is_read=False)


async def node_drain(request: web.Request, leading: Leading) -> web.Response:
    """DrainSpec null calls it off. Deadline in ns: 0 is none, less is at once, as Nomad's clients send it. Meta says why, and
    is kept in LastDrain. Without a body `?enable=` as old clients have it: true empties the node at once."""
    if "enable" in request.query:
        body: dict[str, Any] = {"DrainSpec": {"Deadline": -1} if is_true(request, "enable") else None}
    else:
        body = decode(await request.read())
    spec = member(body, "DrainSpec", dict)
    drain = None
    if spec is not None:
        deadline_ns = member(spec, "Deadline", int) or 0
        drain = Drain(
            deadline_at=leading.fenced.now_ns + deadline_ns if deadline_ns > 0 else None,
            is_forced=deadline_ns < 0,
            ignores_system=bool(member(spec, "IgnoreSystemJobs", bool)),
        )
    meta = member(body, "Meta", dict) or {}
    if not all(isinstance(value, str) for value in meta.values()):
        raise BadRequest("Meta must be an object of strings")
    if len(encode(meta)) > _DRAIN_META_BYTES_MAX:
        raise BadRequest(f"Meta of a drain has {len(encode(meta))} bytes (limit {_DRAIN_META_BYTES_MAX})")
    node_id = NodeId(request.match_info["id"])
    try:
        index = await draining.set_drain(
            leading, node_id, drain, mark_eligible=bool(member(body, "MarkEligible", bool)), meta=meta
        )
    except commands.UnknownNode as error:
        raise NotFound("node not found") from error
    shown = {"EvalIDs": None, "EvalCreateIndex": 0, "NodeModifyIndex": leading.view.api_index(index)}
    return answer(request, shown, index=leading.view.api_index(index), is_read=False)


async def node_purge(request: web.Request, leading: Leading) -> web.Response:
    try:
        index = await collecting.purge_node(leading, NodeId(request.match_info["id"]))
    except commands.UnknownNode as error:
        raise NotFound("node not found") from error
    except collecting.NodeInUse as error:
        raise Refused(str(error)) from error
    shown = {"EvalIDs": None, "EvalCreateIndex": 0, "NodeModifyIndex": leading.view.api_index(index)}
    return answer(request, shown, index=leading.view.api_index(index), is_read=False)


async def node_evaluate(request: web.Request, leading: Leading) -> web.Response:
    """Decides again about every job that has something there, and those that belong on every node."""
    node_id = NodeId(request.match_info["id"])
    if node_id not in leading.view.nodes:
        raise NotFound("node not found")
    found = [await commands.evaluate(leading, *key) for key in sorted(leading.view.jobs_of_node(node_id)) if not _is_parent(leading, key)]
    done = [one for one in found if one is not None]
    view = leading.view
    index = view.api_index(done[-1].eval_index if done else view.node_indexes.get(node_id, 1))
    shown = {
        "EvalIDs": [one.eval_id for one in done] or None,
        "EvalCreateIndex": index if done else 0,
        "NodeModifyIndex": view.api_index(view.node_indexes.get(node_id, 1)),
        "Index": index,
    }
    return answer(request, shown, index=index, is_read=False)


def _is_parent(leading: Leading, key: JobKey) -> bool:
    job = leading.view.jobs.get(key)
    return job is not None and job.is_parent


async def reconcile_summaries(request: web.Request, leading: Leading) -> web.Response:
    """Nothing to do: a summary is counted whenever it is asked for, and cannot be wrong."""
    return web.Response()


async def system_gc(request: web.Request, leading: Leading) -> web.Response:
    leading.deciding.collect_garbage()
    leading.garbage.set()
    return web.Response()
