"""The API's /v1/deployment(s): how roll-outs stand, and what an operator says about them."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from api.context import CONTEXT
from api.listing import Kind
from api.query import BadRequest, Conflict, NotFound, Query, Refused, answer, decode, member, of_state
from leader import rollouts
from leader.commands import Registered
from leader.leading import Leading
from leader.view import Indexed, View
from model.alloc import AllocId
from model.deployment import Deployment, DeploymentId

# Go's zero time.
_NEVER = "0001-01-01T00:00:00Z"


def deployment_document(view: View, indexed: Indexed) -> dict[str, Any]:
    """In Nomad's shape: the deadline as a moment, with the job's indexes."""
    deployment: Deployment = indexed.document
    key = (deployment.namespace, deployment.job_id)
    shown: dict[str, Any] = msgspec.to_builtins(deployment)
    del shown["Epoch"], shown["IsGivenUp"]  # the leader's own
    record, version = view.records.get(key), view.version_indexes.get((key, deployment.job_version))
    groups = {}
    for name, state in deployment.task_groups.items():
        by = datetime.fromtimestamp(state.require_progress_by / 1e9, UTC).isoformat().replace("+00:00", "Z")
        groups[name] = {
            **msgspec.to_builtins(state),
            "RequireProgressBy": by if state.require_progress_by else _NEVER,
            "PlacedCanaries": list(state.placed_canaries) or None,
        }
    shown |= {
        "TaskGroups": groups,
        "JobModifyIndex": view.api_index(version.modify_index) if version else 0,
        "JobSpecModifyIndex": view.api_index(version.modify_index) if version else 0,
        "JobCreateIndex": view.api_index(record.create_index) if record else 0,
        "IsMultiregion": False,
        "EvalPriority": 0,
        "CreateIndex": view.api_index(indexed.create_index),
        "ModifyIndex": view.api_index(indexed.modify_index),
    }
    return shown


_DEPLOYMENTS = Kind(
    lambda view, query: (
        indexed
        for indexed in view.deployments.values()
        if query.has_namespace(indexed.document.namespace) and indexed.document.id.startswith(query.prefix)
    ),
    lambda one: (-one.create_index, one.document.id),
    lambda _, view, found: [deployment_document(view, one) for one in found],
    lambda view, one, _: deployment_document(view, one),
    lambda one: (one.document.namespace, one.document.job_id),
)


async def list_deployments(request: web.Request, leading: Leading) -> web.Response:
    return await _DEPLOYMENTS.answer(request, leading, ("deployments",))


async def deployment(request: web.Request, leading: Leading) -> web.Response:
    def found(view: View, _: Query) -> object:
        known = view.deployments.get(deployment_id)
        return None if known is None else deployment_document(view, known)

    deployment_id = DeploymentId(request.match_info["id"])
    return await of_state(
        request, leading.view, ("deployment", deployment_id), found, missing="deployment not found"
    )


async def allocations(request: web.Request, leading: Leading) -> web.Response:
    def chosen(view: View, _: Query) -> bytes:
        known = view.deployments.get(deployment_id)
        of_job = view.allocs_by_job.get((known.document.namespace, known.document.job_id), {}) if known else {}
        return request.app[CONTEXT].stubs.list(view, (alloc for alloc in of_job.values() if alloc.desired.deployment_id == deployment_id))

    deployment_id = DeploymentId(request.match_info["id"])
    return await of_state(request, leading.view, ("allocs",), chosen)


async def promote(request: web.Request, leading: Leading) -> web.Response:
    body = decode(await request.read())
    groups = member(body, "Groups", list)
    if not member(body, "All", bool) and not groups:
        raise BadRequest("no groups specified for promotion")
    wanted = None if member(body, "All", bool) else [str(name) for name in groups or ()]
    return await _said(request, leading, rollouts.promote(leading, _id(request), wanted))


async def fail(request: web.Request, leading: Leading) -> web.Response:
    return await _said(request, leading, rollouts.fail(leading, _id(request)))


async def pause(request: web.Request, leading: Leading) -> web.Response:
    is_paused = bool(member(decode(await request.read()), "Pause", bool))
    return await _said(request, leading, rollouts.pause(leading, _id(request), is_paused=is_paused))


async def unblock(request: web.Request, leading: Leading) -> web.Response:
    """Of jobs over several regions, of which there are none: no deployment is ever blocked."""
    if _id(request) not in leading.view.deployments:
        raise NotFound("deployment not found")
    raise Conflict("can't unblock deployment: it is not blocked")


async def allocation_health(request: web.Request, leading: Leading) -> web.Response:
    body = decode(await request.read())
    healthy, unhealthy = (
        [AllocId(str(one)) for one in member(body, name, list) or ()]
        for name in ("HealthyAllocationIDs", "UnhealthyAllocationIDs")
    )
    return await _said(request, leading, rollouts.set_health(leading, _id(request), healthy, unhealthy))


def _id(request: web.Request) -> DeploymentId:
    return DeploymentId(request.match_info["id"])


async def _said(request: web.Request, leading: Leading, saying: Any) -> web.Response:
    try:
        done: Registered = await saying
    except rollouts.UnknownDeployment as error:
        raise NotFound("deployment not found") from error
    except rollouts.DeploymentRefused as error:
        raise Refused(str(error)) from error
    index = leading.view.api_index(done.eval_index)
    shown = {
        "EvalID": done.eval_id,
        "EvalCreateIndex": index,
        "DeploymentModifyIndex": leading.view.api_index(done.job_modify_index),
        "RevertedJobVersion": None,
        "Index": index,
    }
    return answer(request, shown, index=index, is_read=False)
