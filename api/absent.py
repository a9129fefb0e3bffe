"""What of Nomad's API is about something that drover does not have, and what is answered there?

Lists are empty, single things are not found, and what would change something is refused in a sentence.
"""

from aiohttp import web

from api.forwarding import Handler
from api.query import Conflict, NotFound, answer
from leader.leading import Leading


async def nothing(request: web.Request, leading: Leading) -> web.Response:
    """An empty list."""
    return answer(request, [], index=leading.view.api_index(leading.view.index))


async def no_volume(request: web.Request, leading: Leading) -> web.Response:
    raise NotFound("volume not found", index=leading.view.api_index(leading.view.index))


async def no_plugin(request: web.Request, leading: Leading) -> web.Response:
    raise NotFound("plugin not found", index=leading.view.api_index(leading.view.index))


def refused(words: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        raise Conflict(words)

    return handler


async def enterprise(request: web.Request) -> web.Response:
    return web.Response(
        status=501, text="Nomad Enterprise only endpoint", content_type="text/plain", charset="utf-8"
    )


async def no_license(request: web.Request) -> web.Response:
    """As Nomad without one."""
    return web.Response(status=204)


async def no_profile(request: web.Request) -> web.Response:
    raise NotFound("drover is no Go program: it has no pprof profiles (py-spy and the metrics tell what it does)")


async def no_gossip(request: web.Request) -> web.Response:
    """Joining is no error for those who do it at every start."""
    return answer(request, {"num_joined": 0, "error": "drover has no gossip of its own: agents find one another in Consul"})


async def to_ui(request: web.Request) -> web.Response:
    raise web.HTTPTemporaryRedirect("/ui/")
