"""How are the query parameters of Nomad's API read, and how does a blocking query wait?

`?index=N&wait=5s` answers once the result's index is above N, or after `wait` (default and maximum five
minutes) plus up to a sixteenth of jitter. Bad values are 400, with Nomad's words. The same for bodies: a
JSON object, its members of the right type.
"""

import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from api.context import CONTEXT
from leader.view import Topic, View
from model.job import Namespace
from model.snapshot import JobKey

T = TypeVar("T")

WAIT_S_MAX = 300.0
# Below it, packing costs more than it saves.
GZIP_FROM_BYTES = 8 * 1024

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class BadRequest(Exception):
    """400 with this text."""


class NotFound(Exception):
    """404 with this text. index: that of the topic asked for, so that a client can wait for it to appear."""

    def __init__(self, text: str, *, index: int = 0) -> None:
        super().__init__(text)
        self.index = index


class Conflict(Exception):
    """409 with this text: drover's own, where things are not so that it could be done."""


class Refused(Exception):
    """500 with this text: Nomad's status for what its servers will not do."""


def _none(_: JobKey) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """sees: whether the caller may read that job; asked for by lists, else no job at all."""

    index: int
    wait_s: float
    prefix: str
    namespace: Namespace
    sees: Callable[[JobKey], bool] = _none

    def has_namespace(self, namespace: str) -> bool:
        return self.namespace in ("*", namespace)


def read(request: web.Request) -> Query:
    """Raises BadRequest."""
    raw_index, raw_wait = request.query.get("index", ""), request.query.get("wait", "")
    if raw_index and not (raw_index.isascii() and raw_index.isdigit() and len(raw_index) <= 20):
        raise BadRequest("Invalid index")
    index = int(raw_index or 0)
    wait_s = min(duration_s(raw_wait), WAIT_S_MAX) if raw_wait else WAIT_S_MAX
    return Query(
        index=index,
        wait_s=wait_s or WAIT_S_MAX,
        prefix=request.query.get("prefix", ""),
        namespace=Namespace(request.query.get("namespace") or "default"),
    )


def is_true(request: web.Request, name: str) -> bool:
    """A flag of the query, as Go reads it."""
    return request.query.get(name, "").lower() in ("1", "t", "true")


def check_region(request: web.Request, region: str | None = None) -> None:
    """There is one region. Raises Refused for another one, with Nomad's words. region: else that of the query."""
    if (region or request.query.get("region")) not in (None, "", request.app[CONTEXT].region):
        raise Refused("No path to region")


def decode(raw: bytes) -> dict[str, Any]:
    """The JSON object of a request's body. Raises BadRequest."""
    if not raw:
        raise BadRequest("Request body is empty")
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(str(error)) from error
    except RecursionError:
        raise BadRequest("Request body is nested too deeply") from None
    if not isinstance(body, dict):
        raise BadRequest("Request body must be a JSON object")
    return body


_WORDS = {
    type(None): "null",
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def member(body: dict[str, Any], name: str, kind: type[T]) -> T | None:
    """One member of a body; None where it is null or not there. Raises BadRequest for another type."""
    value = body.get(name)
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise BadRequest(f"{name} is no 64-bit number")
    if value is None or type(value) is kind:
        return value
    raise BadRequest(f"{name} must be {_WORDS[kind]}, found {_WORDS[type(value)]}")


def duration_s(text: str) -> float:
    """`60000ms`, `1m30s` as seconds. Raises BadRequest."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise BadRequest("Invalid wait time")
    return sum(float(number) * _UNIT_S[unit] for number, unit in parts)


async def block(view: View, topic: Topic, query: Query) -> None:
    """Waits until the topic moved past the asked index, if one was asked."""
    if query.index:
        jitter = 1.0 + random.random() / 16
        await view.wait(topic, query.index, query.wait_s * jitter)


def answer(request: web.Request, document: object, *, index: int = 0, is_read: bool = True) -> web.Response:
    """JSON as Nomad sends it. index: for reads and writes of state; 0 where Nomad sends none."""
    if isinstance(document, bytes):
        body = document
    else:
        body = msgspec.json.encode(document)
    if "pretty" in request.query:
        body = msgspec.json.format(body, indent=4)
    headers = read_headers(index) if is_read else {"X-Nomad-Index": str(index)}
    response = web.Response(body=body, content_type="application/json", headers=headers if index else None)
    if len(body) >= GZIP_FROM_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.headers["Vary"] = "Accept-Encoding"
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def of_state(
    request: web.Request,
    view: View,
    topic: Topic,
    look: Callable[[View, Query], object],
    *,
    missing: str = "",
    lists: Callable[[View, Query], Iterable[JobKey]] | None = None,
) -> web.Response:
    """What the leader's view holds, once it is as new as was asked for. look: None where there is no such thing,
    which is told as `missing`. lists: the jobs that it is of, where it
    is not the path's own; look shows what query.sees. Raises BadRequest, NotFound."""
    query = read(request)
    await block(view, topic, query)
    if lists is not None:
        # After the wait, and with nothing awaited between this and the look.
        query = replace(query, sees=await request.app[CONTEXT].rights.readable(request, lists(view, query)))
    found = look(view, query)
    if found is None:
        raise NotFound(missing, index=view.topic_index(topic))
    return answer(request, found, index=view.topic_index(topic))


def read_headers(index: int) -> dict[str, str]:
    """What every answer about state carries."""
    return {"X-Nomad-Index": str(index), "X-Nomad-LastContact": "0", "X-Nomad-KnownLeader": "true"}
