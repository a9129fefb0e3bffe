"""The API's /v1/operator: what concerns the cluster as a whole."""

from aiohttp import web

from api.query import NotFound, answer, decode, member, read
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
