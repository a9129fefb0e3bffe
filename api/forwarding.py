"""Who answers a call: the process that leads, the agent of the node that it concerns, or whoever is asked.

Handlers are given to one of these; what is not theirs to answer is passed on, and its answer back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass

from aiohttp import web

from api.context import (
    CONTEXT,
    FORWARDED_HEADER,
    LEADER_POLL_S,
    LEADER_WAIT_S,
    NODE_HEADER,
    LeaderChanged,
    NotReached,
)
from api.query import NotFound
from api.rights import Right, has_handshake, job_of
from leader.leading import Leading
from leader.view import View
from model.alloc import AllocId
from model.errors import SessionLost
from model.node import NodeId

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_RIGHT: web.RequestKey[Right] = web.RequestKey("right", Right)


@dataclass(frozen=True, slots=True)
class Placed:
    """A handler that asks for the caller's rights itself, once it is known who answers."""

    answer: Handler

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request)


def guarded(handler: Handler, right: Right) -> Handler:
    """The handler of a route: nobody gets past this without the right."""
    placed = handler if isinstance(handler, Placed) else here(handler)

    async def enter(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        request[_RIGHT] = right
        if right is not Right.NONE:
            view = context.leading.view if context.leading is not None else None
            is_forwarded = FORWARDED_HEADER in request.headers or NODE_HEADER in request.headers
            await context.rights.admit(request, view, is_forwarded=is_forwarded)
        return await placed(request)

    return enter


def here(handler: Handler) -> Placed:
    """Answered by whoever is asked."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await _require(request, None)
        return await handler(request)

    return Placed(answer)


async def _require(request: web.Request, view: View | None) -> None:
    context, right = request.app[CONTEXT], request[_RIGHT]
    if right is Right.EXEC and has_handshake(request):
        return  # api/alloc_exec.py asks, on the node, once the token is there
    await context.rights.require(request, right, view, context.agent)


def on_leader(handler: Callable[[web.Request, Leading], Awaitable[web.StreamResponse]]) -> Placed:
    """Answered by the process that leads; any other passes the call on."""

    async def allowed(request: web.Request, leading: Leading) -> web.StreamResponse:
        agent = request.app[CONTEXT].agent
        await _require(request, leading.view)
        is_unknown = job_of(request, leading.view, agent) is None
        response = await handler(request, leading)
        if is_unknown and request[_RIGHT] is Right.JOB_READ and job_of(request, leading.view, agent) is not None:
            # What was not there when it was asked for came while the call waited, and is of some job.
            await _require(request, leading.view)
        return response

    async def answer(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        loop = asyncio.get_running_loop()
        is_read = request.method in ("GET", "HEAD")
        give_up_s = loop.time() + LEADER_WAIT_S
        while True:
            leader = await context.leader_or_wait()
            try:
                if isinstance(leader, Leading):
                    with nullcontext() if is_read else leader.writing():
                        return await allowed(request, leader)
                return await context.forward(request, leader)
            except (SessionLost, LeaderChanged):
                # A read that waited under a leader that is none any more is asked of the next one.
                if not is_read:
                    raise
                give_up_s = loop.time() + LEADER_WAIT_S
                await asyncio.sleep(LEADER_POLL_S)  # one that broke off is perhaps named still
            except NotReached:
                # A leader that died is named until its lease lapses.
                if isinstance(leader, Leading) or loop.time() >= give_up_s:
                    raise
                await asyncio.sleep(LEADER_POLL_S)

    return Placed(answer)


NodeOf = Callable[[web.Request, View], NodeId | None]


def on_node(handler: Handler, is_here: Callable[[web.Request], bool], node_of: NodeOf, unknown: str) -> Placed:
    """Answered by the node that it concerns, which the leader knows (node_of) where it is not this one; any other
    passes the call on. unknown: what `{id}` was not found as."""

    async def answer(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        if context.agent is not None and is_here(request):
            await _require(request, None)
            return await handler(request)
        if request.headers.get(NODE_HEADER) == context.node_id:
            # The leader named this node, which has not taken the alloc up yet, or has forgotten it already.
            raise NotFound(f'Unknown {unknown} "{_asked_for(request)}"')
        return await of_node(request)

    async def pass_on(request: web.Request, leading: Leading) -> web.StreamResponse:
        context = request.app[CONTEXT]
        node_id = node_of(request, leading.view)
        node = leading.view.nodes.get(node_id) if node_id else None
        if node is None or node.id == context.node_id:
            raise NotFound(f'Unknown {unknown} "{_asked_for(request)}"')
        # The leader's own hop is allowed: from here it goes to the node and no further.
        return await context.forward_to_node(request, node.node.http_addr, node.id, is_tls=node.node.tls_enabled)

    of_node = on_leader(pass_on)
    return Placed(answer)


def _asked_for(request: web.Request) -> str:
    return request.match_info.get("id") or request.query.get("node_id", "")


def on_node_of_alloc(handler: Handler) -> Placed:
    """`{id}` is an alloc's."""

    def node_of(request: web.Request, view: View) -> NodeId | None:
        alloc = view.allocs.get(AllocId(_asked_for(request)))
        return alloc.desired.node_id if alloc else None

    return on_node(
        handler,
        lambda request: AllocId(_asked_for(request)) in request.app[CONTEXT].agent.allocs,
        node_of,
        "allocation",
    )


def on_named_node(handler: Handler) -> Placed:
    """`?node_id=` names the node; without it, it is the one that is asked."""
    return on_node(
        handler,
        lambda request: _asked_for(request) in ("", request.app[CONTEXT].node_id),
        lambda request, _: NodeId(_asked_for(request)),
        "node",
    )
