"""How is the API described to programs? OpenAPI 3.1, made from the route table and the documents' own types."""

import re
from typing import Any

import msgspec
from aiohttp import web

from api.context import CONTEXT
from api.query import answer
from api.rights import Right
from api.routes import ABSENT, BLOCKING, ROUTES, Route

_WORDS = {
    "prefix": "only ids that begin so",
    "namespace": "default where it is not given; * for all, in lists",
    "q": "only what holds this text",
    "page": "0 for the first",
    "filter": 'an expression, as Meta.team == "red" and Status == "running"',
    "per_page": "at most so many",
    "next_token": "where a page begins: X-Nomad-NextToken of the one before",
}
_TYPES: dict[str, dict[str, Any]] = {
    "per_page": {"type": "integer", "minimum": 0},
    "page": {"type": "integer", "minimum": 0},
    "offset": {"type": "integer", "minimum": 0},
    "limit": {"type": "integer", "minimum": 0},
    "cas": {"type": "integer", "minimum": 0},
}
_FLAGS = frozenset({"stale", "reverse", "meta", "resources", "os", "task_states", "diffs", "nodes", "optional", "failing", "purge", "orphan", "global", "force", "follow", "plain"})
_ABOUT = """Nomad's HTTP API as drover serves it. Errors are plain text.

Every read of state answers with X-Nomad-Index and takes `index` and `wait`: it answers once its result's index is
above `index`, or after `wait` (as 30s; 5m at most and without it). Every call takes `pretty`, `region` and `stale`.
"""
_ERRORS = {
    "400": "what was sent is wrong",
    "403": "the token does not allow it",
    "404": "there is no such thing",
    "405": "another method is needed",
    "409": "things are not so that it could be done",
    "413": "the body is too large",
    "429": "too many refused calls, or connections",
    "500": "refused, or it failed; the text says why",
}


def description(version: str) -> dict[str, Any]:
    """The whole API as an OpenAPI document."""
    described = [route for route in ROUTES if route not in ABSENT]  # what there is not is no part of the API
    kinds = [kind for route in described for kind in route.body.values()]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    left = iter(schemas)
    paths: dict[str, dict[str, Any]] = {}
    for route in described:
        body = {name: next(left) for name in route.body}
        operation = _operation(route, body)
        path = paths.setdefault(route.template, {})
        path[route.method.rstrip("!").lower()] = operation
        if route.method == "PUT":
            path["post"] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "drover",
            "version": version,
            "description": _ABOUT,
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "apiKey", "in": "header", "name": "X-Nomad-Token"}},
        },
    }


def _operation(route: Route, body: dict[str, Any]) -> dict[str, Any]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", route.template)
    ]
    # Whatever is of a job is of one namespace.
    of_jobs = ("namespace",) if route.right.startswith("job:") and "namespace" not in route.query else ()
    in_query = [_parameter(name) for name in (*route.query, *of_jobs) if name not in BLOCKING]
    shown: dict[str, Any] = {
        "summary": route.text,
        "tags": [route.path.split("/")[2]],
        "parameters": [*in_path, *in_query],
        "responses": {
            "200": {"description": "done"},
            **{status: {"description": text, "content": {"text/plain": {}}} for status, text in _ERRORS.items()},
        },
    }
    if route.right is not Right.NONE:
        shown["security"] = [{"token": []}]
        shown["description"] = f"Needs the right {route.right}."
    if body:
        schema = {"type": "object", "properties": body}
        shown["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return shown


def _parameter(name: str) -> dict[str, Any]:
    schema = _TYPES.get(name, {"type": "boolean"} if name in _FLAGS else {"type": "string"})
    words = {"description": _WORDS[name]} if name in _WORDS else {}
    return {"name": name, "in": "query", "schema": schema, **words}


async def openapi(request: web.Request) -> web.Response:
    return answer(request, description(request.app[CONTEXT].version))
