"""What do /v1/session and /v1/internal/acl answer?"""

from typing import Any

from catalog.embedded.answers import Fields, Refused, Response, as_json, read_fields
from catalog.embedded.reads import Link, Read, Request, answer, servers_for
from catalog.embedded.records import SERF_HEALTH, ServiceCheckRef, Session
from catalog.embedded.state import ConsulState
from catalog.embedded.watches import Kind, Topic

SESSION = "/v1/session/"
LOCK_DELAY_NS_DEFAULT = 15_000_000_000
SECONDS_BELOW = 1000  # a bare LockDelay below this is in seconds, above in nanoseconds: consul's own rule


async def create(link: Link, request: Request) -> Response:
    """PUT /v1/session/create; everything in the body is optional, and so is the body."""
    fields = read_fields(request.body) if request.body else Fields({})
    wanted = Session(
        id="",
        name=fields.text("Name"),
        node=fields.text("Node") or link.node_name,
        lock_delay=_lock_delay_ns(fields),
        behavior=fields.text("Behavior") or "release",
        ttl=fields.text("TTL"),
        node_checks=_node_checks(fields),
        service_checks=tuple(
            ServiceCheckRef(id=item.text("ID"), namespace=item.text("Namespace"))
            for item in fields.nested_items("ServiceChecks")
        )
        or None,
    )
    state = servers_for(link, request.params.get("dc", ""))
    return as_json({"ID": state.create_session(wanted).id})


async def destroy(link: Link, request: Request) -> Response:
    """PUT /v1/session/destroy/<id>."""
    id = _id(request, "destroy/")
    servers_for(link, request.params.get("dc", "")).destroy_session(id)
    return as_json(True)


async def renew(link: Link, request: Request) -> Response:
    """PUT /v1/session/renew/<id>."""
    id = _id(request, "renew/")
    session = servers_for(link, request.params.get("dc", "")).renew_session(id)
    if session is None:
        raise Refused(404, f"Session id '{id}' not found")
    return as_json((session,))


async def info(link: Link, request: Request) -> Response:
    """GET /v1/session/info/<id>."""
    id = _id(request, "info/")

    def read(state: ConsulState) -> Read:
        session = state.session(id)
        found: tuple[Any, ...] = (session,) if session else ()
        return Read(index=state.sessions_index, topics=(Topic(Kind.SESSION, id),), found=found)

    return await answer(link, request, read)


async def list_all(link: Link, request: Request) -> Response:
    """GET /v1/session/list."""
    return await answer(
        link,
        request,
        lambda state: Read(
            index=state.sessions_index, topics=(Topic(Kind.SESSIONS),), found=state.sessions()
        ),
    )


async def list_node(link: Link, request: Request) -> Response:
    """GET /v1/session/node/<node>."""
    node = request.rest(SESSION + "node/")
    if not node:
        raise Refused(400, "Missing node name")

    def read(state: ConsulState) -> Read:
        found = [session for session in state.sessions() if session.node.lower() == node.lower()]
        return Read(index=state.sessions_index, topics=(Topic(Kind.SESSION_NODE, node.lower()),), found=found)

    return await answer(link, request, read)


async def authorize(link: Link, request: Request) -> Response:
    """POST /v1/internal/acl/authorize: the embedded Consul has no ACLs, and says so as a real one does."""
    raise Refused(401, "ACL support disabled")


def _id(request: Request, verb: str) -> str:
    id = request.rest(SESSION + verb)
    if not id:
        raise Refused(400, "Missing session")
    return id


def _node_checks(fields: Fields) -> tuple[str, ...]:
    """NodeChecks, else the older name Checks, else serfHealth; an empty list is kept as empty."""
    for name in ("NodeChecks", "Checks"):
        if fields.has(name):
            return tuple(str(check) for check in fields.items(name))
    return (SERF_HEALTH,)


def _lock_delay_ns(fields: Fields) -> int:
    if not fields.has("LockDelay"):
        return LOCK_DELAY_NS_DEFAULT
    bare = fields.raw("LockDelay")
    if isinstance(bare, int) and bare < SECONDS_BELOW:
        return bare * 1_000_000_000
    return round(fields.duration_s("LockDelay") * 1e9)
