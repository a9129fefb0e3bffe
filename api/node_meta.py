"""The API's /v1/client/metadata: what jobs may ask of a node as ${meta.…}, and setting it at run time.

Nomad's agents keep what is set at run time themselves. Here it is the leader's fact, in the node's control document,
so that it survives whatever happens to the machine; so the leader answers, whichever agent is asked.
"""

from typing import Any

from aiohttp import web

from api.context import CONTEXT, FORWARDED_HEADER
from api.query import BadRequest, NotFound, answer, decode, member
from leader import commands
from leader.leading import Leading
from model.node import NodeId


async def read(request: web.Request, leading: Leading) -> web.Response:
    return answer(request, _document(leading, _asked_for(request)))


async def apply(request: web.Request, leading: Leading) -> web.Response:
    """`{"NodeID": …, "Meta": {key: value or null}}`; null takes the key away."""
    body = decode(await request.read())
    node_id = NodeId(member(body, "NodeID", str) or _asked_for(request))
    changes = member(body, "Meta", dict)
    if not changes:
        raise BadRequest("missing required Meta object")
    for key, value in changes.items():
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"Meta.{key} must be a string or null")
    try:
        await commands.set_meta(leading, node_id, changes)
    except commands.UnknownNode as error:
        raise _unknown(node_id) from error
    except commands.BadMeta as error:
        raise BadRequest(str(error)) from error
    return answer(request, _document(leading, node_id))


def _asked_for(request: web.Request) -> NodeId:
    """`?node_id=`, else the agent that was asked first, which those that passed the call on have named."""
    first = request.headers.get(FORWARDED_HEADER, "").partition(",")[0]
    return NodeId(request.query.get("node_id") or first or request.app[CONTEXT].node_id)


def _document(leading: Leading, node_id: NodeId) -> dict[str, Any]:
    node = leading.view.nodes.get(node_id)
    if node is None:
        raise _unknown(node_id)
    return {"Meta": dict(node.node.meta), "Dynamic": dict(node.control.meta), "Static": dict(node.static_meta)}


def _unknown(node_id: NodeId) -> NotFound:
    return NotFound(f'Unknown node "{node_id}"')
