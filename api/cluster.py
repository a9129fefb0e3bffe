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
from model.node import Drain, Eligibility, NodeId

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


_EVALUATIONS = Kind(
    lambda view, query: (
        e
        for e in view.evals.values()
        if query.has_namespace(e.document.namespace) and e.document.id.startswith(query.prefix)
    ),
    lambda e: (-e.create_index, e.document.id),
    lambda _, view, found: [evaluation_document(view, e) for e in found],
    lambda view, e, _: evaluation_document(view, e),
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
    lambda request, view, found: [node_stub(view, one, has_resources=is_true(request, "resources")) for one in found],
    lambda view, one, _: node_document(view, one),
)


async def list_nodes(request: web.Request, leading: Leading) -> web.Response:
    """`?resources=true`: with what each has."""
    return await _NODES.answer(request, leading, ("nodes",))


async def node_allocations(request: web.Request, leading: Leading) -> web.Response:
    def found(view: View, _: Query) -> object:
        return [alloc_full(view, alloc) for alloc in view.allocs_by_node.get(node_id, {}).values()]

    node_id = NodeId(request.match_info["id"])
    return await of_state(request, leading.view, ("node-allocs", node_id), found)


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
    """DrainSpec null calls it off. Deadline in ns: 0 is none, less is at once, as Nomad's clients send it."""
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
    node_id = NodeId(request.match_info["id"])
    try:
        index = await draining.set_drain(
            leading, node_id, drain, mark_eligible=bool(member(body, "MarkEligible", bool))
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


async def system_gc(request: web.Request, leading: Leading) -> web.Response:
    leading.deciding.collect_garbage()
    leading.garbage.set()
    return web.Response()
