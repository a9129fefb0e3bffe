"""The API's /v1/acl: tokens and policies are Consul's. A caller may see its own token; all else is done in Consul."""

from aiohttp import web

from api.context import CONTEXT
from api.query import BadRequest, answer

_MANAGEMENT = "global-management"


class NotHere(Exception):
    """501 with this text."""


async def token_self(request: web.Request) -> web.Response:
    """The caller's token in Nomad's shape, without its secret: the caller has that."""
    found = await request.app[CONTEXT].rights.itself(request)
    if found is None:
        raise BadRequest("ACL support disabled")
    policies = [policy["Name"] for policy in found.get("Policies") or ()]
    shown = {
        "AccessorID": found["AccessorID"],
        "SecretID": "",
        "Name": found.get("Description", ""),
        "Type": "management" if _MANAGEMENT in policies else "client",
        "Policies": policies or None,
        "Roles": [{"ID": role.get("ID", ""), "Name": role["Name"]} for role in found.get("Roles") or ()] or None,
        "Global": not found.get("Local", False),
        "Hash": found.get("Hash", ""),
        "CreateTime": found.get("CreateTime"),
        "ExpirationTime": found.get("ExpirationTime"),
        "CreateIndex": found.get("CreateIndex", 0),
        "ModifyIndex": found.get("ModifyIndex", 0),
    }
    return answer(request, shown)


async def elsewhere(request: web.Request) -> web.Response:
    if not await request.app[CONTEXT].rights.is_asked():
        raise BadRequest("ACL support disabled")
    what = request.path.removeprefix("/v1/acl/").partition("/")[0]
    raise NotHere(f"acl {what}: tokens and policies are kept in Consul (consul acl …, or Consul's own API)")
