"""The API's /v1/namespace(s)."""

from typing import Any

import msgspec
from aiohttp import web

from api.query import BadRequest, NotFound, Query, decode, of_state
from api.rights import whole_of
from leader import namespaces
from leader.leading import Leading
from leader.view import Indexed, View
from model.cluster import NamespaceSpec
from model.job import Namespace


def _document(view: View, indexed: Indexed) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(indexed.document)
    del shown["Epoch"]
    indexes = {"CreateIndex": view.api_index(indexed.create_index), "ModifyIndex": view.api_index(indexed.modify_index)}
    return shown | {"Quota": "", "Hash": None} | indexes


async def list_namespaces(request: web.Request, leading: Leading) -> web.Response:
    def chosen(view: View, query: Query) -> object:
        return [_document(view, view.namespaces[n]) for n in sorted(view.namespaces) if n.startswith(query.prefix) and query.sees(whole_of(n))]

    return await of_state(
        request, leading.view, ("namespaces",), chosen, lists=lambda view, _: [whole_of(n) for n in view.namespaces]
    )


async def namespace(request: web.Request, leading: Leading) -> web.Response:
    def found(view: View, _: Query) -> object:
        known = view.namespaces.get(name)
        return None if known is None else _document(view, known)

    name = Namespace(request.match_info["id"])
    return await of_state(request, leading.view, ("namespace", name), found, missing="Namespace not found")


async def write(request: web.Request, leading: Leading) -> web.Response:
    """The path's name, if it has one, must be the body's."""
    body = decode(await request.read())
    named = request.match_info.get("id")
    try:
        given = {key: value for key, value in body.items() if value is not None}
        spec = msgspec.convert({"Name": named or "", **given}, NamespaceSpec)
    except msgspec.ValidationError as error:
        raise BadRequest(f"not a namespace: {error}") from error
    if named and spec.name != named:
        raise BadRequest("Namespace name does not match request path")
    try:
        return _written(request, leading, await namespaces.write(leading, spec))
    except namespaces.BadNamespace as error:
        raise BadRequest(str(error)) from error


async def forget(request: web.Request, leading: Leading) -> web.Response:
    try:
        index = await namespaces.forget(leading, Namespace(request.match_info["id"]))
    except namespaces.UnknownNamespace as error:
        raise NotFound(str(error)) from error
    return _written(request, leading, index)


def _written(request: web.Request, leading: Leading, index: int) -> web.Response:
    """No body, as Nomad's."""
    return web.Response(headers={"X-Nomad-Index": str(leading.view.api_index(index))})
