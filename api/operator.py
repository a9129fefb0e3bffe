"""The API's /v1/operator: what concerns the cluster as a whole."""

import asyncio
import tempfile
from typing import Any

import msgspec
from aiohttp import web

from api.context import CONTEXT, Context
from api.query import BadRequest, Conflict, NotFound, Query, answer, decode, is_true, member, of_state, read
from catalog import saved
from leader import braking, candidates, restoring, scheduling
from leader.leading import Leading
from leader.view import View
from model.cluster import SchedulerConfiguration
from model.job import JobId
from model.node import NodeId


async def rebalance(request: web.Request, leading: Leading) -> web.Response:
    """drover's own. `{JobID, DryRun}`, both optional: what moves, or would, and how uneven it was and will be."""
    data = await request.read()
    body = decode(data) if data else {}
    keys = sorted(leading.view.jobs)
    if job_id := member(body, "JobID", str):
        key = (read(request).namespace, JobId(job_id))
        if key not in leading.view.jobs:
            raise NotFound("job not found")
        keys = [key]
    if member(body, "DryRun", bool):
        found = await leading.rebalancer.plan(keys)
    else:
        found = await leading.rebalancer.rebalance(keys)
    return answer(request, {"Jobs": found}, index=leading.view.api_index(leading.view.index), is_read=False)


async def scheduler(request: web.Request, leading: Leading) -> web.Response:
    def found(view: View, _: Query) -> object:
        known = view.scheduler
        indexes = {"CreateIndex": view.api_index(known.create_index), "ModifyIndex": view.api_index(known.modify_index)}
        shown = msgspec.to_builtins(known.document) | {"PauseEvalBroker": False} | indexes
        del shown["Epoch"]
        return {"SchedulerConfig": shown, "Index": indexes["ModifyIndex"], "LastContact": 0, "KnownLeader": True}

    return await of_state(request, leading.view, ("scheduler",), found)


async def set_scheduler(request: web.Request, leading: Leading) -> web.Response:
    """`?cas=INDEX`: only if it has not changed since. What the body leaves out is as in a new cluster, as with Nomad."""
    body = decode(await request.read())
    if member(body, "PauseEvalBroker", bool):
        raise BadRequest("PauseEvalBroker: nothing is queued in drover; RejectJobRegistration keeps new jobs away")
    try:
        wanted = msgspec.convert(body, SchedulerConfiguration)
    except msgspec.ValidationError as error:
        raise BadRequest(f"not a scheduler configuration: {error}") from error
    if wanted.scheduler_algorithm not in ("binpack", "spread"):
        raise BadRequest(f"SchedulerAlgorithm must be binpack or spread, found {wanted.scheduler_algorithm[:60]!r}")
    view, cas = leading.view, request.query.get("cas")
    if cas is not None and cas != str(view.api_index(view.scheduler.modify_index)):
        return answer(request, {"Updated": False, "Index": view.api_index(view.index)}, index=view.api_index(view.index), is_read=False)
    index = view.api_index(await scheduling.write(leading, wanted))
    return answer(request, {"Updated": True, "Index": index}, index=index, is_read=False)


async def brake(request: web.Request, leading: Leading) -> web.Response:
    """drover's own: why no node is held lost just now, if none is."""
    return answer(request, braking.status(leading), index=leading.view.api_index(leading.view.index))


async def release_brake(request: web.Request, leading: Leading) -> web.Response:
    return answer(request, await braking.release(leading), index=leading.view.api_index(leading.view.index), is_read=False)


async def snapshot(request: web.Request, leading: Leading) -> web.StreamResponse:
    """drover's whole state as one file: see catalog/saved.py."""
    async with leading.fenced.kv.export(leading.keys.state) as (index, pieces):
        response = web.StreamResponse(headers={"Content-Type": "application/x-gzip"})
        await response.prepare(request)
        async for piece in saved.packed(leading.keys.root, index, pieces, leading.fenced.now()):
            await response.write(piece)
            await asyncio.sleep(0)
        await response.write_eof()
        return response


async def restore(request: web.Request, leading: Leading) -> web.Response:
    """The body is a file as `snapshot` answers; larger than other bodies may be, so it goes through a file."""
    with tempfile.TemporaryFile() as file:
        async for piece in request.content.iter_any():
            file.write(piece)
        file.seek(0)
        try:
            found = await asyncio.to_thread(saved.parse, file.read(), "the snapshot")
        except saved.SnapshotFault as error:
            raise BadRequest(str(error)) from error
    try:
        count = await restoring.restore(leading, found, is_forced=is_true(request, "force"))
    except restoring.RestoreRefused as error:
        raise Conflict(str(error)) from error
    return answer(request, {"Keys": count}, index=leading.view.api_index(leading.view.index), is_read=False)


async def step_down(request: web.Request, leading: Leading) -> web.Response:
    """drover's own: hands over to another candidate. Refused where there is none, unless forced."""
    context = request.app[CONTEXT]
    others = [m for m in await context.members() if m.is_passing and m.node_id != context.node_id]
    if not others and not is_true(request, "force"):
        raise Conflict("there is no other candidate that could lead (force it to let this one take the lock anew)")
    await leading.finish(allowed=1)  # this very call
    context.election.step_down(has_others=bool(others))
    return answer(request, {"Others": [m.name for m in others]}, index=leading.view.api_index(leading.view.index), is_read=False)


async def candidate(request: web.Request, leading: Leading) -> web.Response:
    """drover's own. `{NodeID, Candidate}`: whether the agent stands for election, kept over restarts."""
    body = decode(await request.read())
    node_id, wanted = member(body, "NodeID", str), member(body, "Candidate", bool)
    if not node_id or wanted is None:
        raise BadRequest("NodeID and Candidate must be specified")
    members = await request.app[CONTEXT].members()
    if node_id not in leading.view.nodes and all(m.node_id != node_id for m in members):
        raise NotFound("node not found")
    others = [m for m in members if m.is_passing and m.node_id != node_id]
    if not wanted and not others and not is_true(request, "force"):
        raise Conflict("it is the last candidate: without one nobody leads, and nothing that fails is replaced")
    index = await candidates.set_candidate(leading, NodeId(node_id), is_candidate=wanted)
    shown = {"Index": leading.view.api_index(index)}
    return answer(request, shown, index=leading.view.api_index(index), is_read=False)


async def lock(request: web.Request) -> web.Response:
    """drover's own, answered by any agent, also where nobody leads: who holds the leader's lock, and whether it answers."""
    return answer(request, await _lock(request.app[CONTEXT]))


async def break_lock(request: web.Request) -> web.Response:
    """Refused while the holder answers, unless forced."""
    context = request.app[CONTEXT]
    holder = await context.lock.holder()
    if holder is None:
        raise Conflict("nobody holds the lock")
    shown = await _lock(context)
    if shown["Answers"] and not is_true(request, "force"):
        raise Conflict(f"{holder.leader.name} ({holder.leader.http_addr}) holds the lock and answers")
    await context.lock.break_it(holder)
    return answer(request, shown)


async def _lock(context: Context) -> dict[str, Any]:
    holder = await context.lock.holder()
    if holder is None:
        return {"Held": False, "Leader": None, "Session": "", "Answers": False}
    answers = holder.leader.node_id == context.node_id or await context.is_up(holder.leader)
    return {"Held": True, "Leader": holder.leader, "Session": holder.session, "Answers": answers}
