"""The API's /v1/operator: what concerns the cluster as a whole."""

import asyncio

from aiohttp import web

from api.query import NotFound, answer, decode, member, read
from catalog import saved
from leader import braking
from leader.leading import Leading
from model.job import JobId


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
