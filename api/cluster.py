"""The API's allocations, evaluations and nodes as the leader's view has them, and what is done to nodes."""

from aiohttp import web

from api.query import BadRequest, NotFound, Refused, answer, block, decode, member, read
from api.shapes import StubCache, alloc_full, evaluation_document, node_document, node_stub
from leader import commands
from leader.leading import Leading
from model.alloc import AllocId, EvalId
from model.node import Eligibility, NodeId


async def list_allocations(request: web.Request, leading: Leading, stubs: StubCache) -> web.Response:
    query = read(request)
    view = leading.view
    if len(query.prefix.replace("-", "")) % 2:
        raise Refused("alloc lookup failed: index error: prefix must have an even number of hex digits")
    await block(view, ("allocs",), query)
    chosen = [
        alloc
        for alloc in view.allocs.values()
        if query.has_namespace(alloc.desired.namespace) and alloc.id.startswith(query.prefix)
    ]
    chosen.sort(key=lambda a: -a.create_index)
    return answer(request, stubs.list(view, chosen), index=view.topic_index(("allocs",)))


async def allocation(request: web.Request, leading: Leading) -> web.Response:
    query = read(request)
    alloc_id = AllocId(request.match_info["id"])
    view = leading.view
    await block(view, ("alloc", alloc_id), query)
    alloc = view.allocs.get(alloc_id)
    if alloc is None:
        raise NotFound("alloc not found", index=view.topic_index(("alloc", alloc_id)))
    return answer(request, alloc_full(view, alloc), index=view.topic_index(("alloc", alloc_id)))


async def list_evaluations(request: web.Request, leading: Leading) -> web.Response:
    query = read(request)
    view = leading.view
    await block(view, ("evals",), query)
    shown = [
        evaluation_document(view, e.document, e.create_index, e.modify_index)
        for e in view.evals.values()
        if query.has_namespace(e.document.namespace) and e.document.id.startswith(query.prefix)
    ]
    shown.sort(key=lambda e: -int(e["CreateIndex"]))
    return answer(request, shown, index=view.topic_index(("evals",)))


async def evaluation(request: web.Request, leading: Leading) -> web.Response:
    query = read(request)
    eval_id = EvalId(request.match_info["id"])
    view = leading.view
    await block(view, ("eval", eval_id), query)
    known = view.evals.get(eval_id)
    if known is None:
        raise NotFound("eval not found", index=view.topic_index(("eval", eval_id)))
    shown = evaluation_document(view, known.document, known.create_index, known.modify_index)
    return answer(request, shown, index=view.topic_index(("eval", eval_id)))


async def evaluation_allocations(request: web.Request, leading: Leading, stubs: StubCache) -> web.Response:
    query = read(request)
    eval_id = EvalId(request.match_info["id"])
    view = leading.view
    topic = ("eval-allocs", eval_id)
    await block(view, topic, query)
    known = view.evals.get(eval_id)
    key = (known.document.namespace, known.document.job_id) if known else None
    allocs = [a for a in view.allocs_by_job.get(key, {}).values() if a.desired.eval_id == eval_id] if key else []
    return answer(request, stubs.list(view, allocs), index=view.topic_index(topic))


async def list_nodes(request: web.Request, leading: Leading) -> web.Response:
    query = read(request)
    view = leading.view
    await block(view, ("nodes",), query)
    shown = [
        node_stub(view, view.nodes[node_id])
        for node_id in sorted(view.nodes)
        if node_id.startswith(query.prefix)
    ]
    return answer(request, shown, index=view.topic_index(("nodes",)))


async def node(request: web.Request, leading: Leading) -> web.Response:
    query = read(request)
    node_id = NodeId(request.match_info["id"])
    view = leading.view
    await block(view, ("node", node_id), query)
    known = view.nodes.get(node_id)
    if known is None:
        raise NotFound("node not found", index=view.topic_index(("node", node_id)))
    return answer(request, node_document(view, known), index=view.topic_index(("node", node_id)))


async def node_allocations(request: web.Request, leading: Leading) -> web.Response:
    query = read(request)
    node_id = NodeId(request.match_info["id"])
    view = leading.view
    topic = ("node-allocs", node_id)
    await block(view, topic, query)
    shown = [alloc_full(view, alloc) for alloc in view.allocs_by_node.get(node_id, {}).values()]
    return answer(request, shown, index=view.topic_index(topic))


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


async def system_gc(request: web.Request, leading: Leading) -> web.Response:
    leading.deciding.collect_garbage()
    return web.Response()
