"""The API's /v1/event/stream: what changes, as it changes.

One JSON object a line, `{"Index": N, "Events": […]}` with all events of one index; `{}` each 30 s. `?index=N` begins with
what is remembered from N on; where that is no longer all (a new leader, or long ago), with each object that has a
higher index, once and as it is now, oldest change first. Nobody is waited for: see leader/events.py.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import groupby

import msgspec
from aiohttp import web

from api.context import CONTEXT, is_gone
from api.deployments import deployment_document
from api.query import BadRequest, read
from api.rights import Forbidden, TooManyFailures
from api.shapes import alloc_full, evaluation_document, job_document, node_document
from leader.events import Event, EventTopic, Overrun
from leader.leading import Leading
from leader.view import Indexed, View, job_key, names_of
from model.errors import StoreRefused, StoreUnavailable
from model.snapshot import JobKey

log = logging.getLogger("drover.api")

_HEARTBEAT_S = 30.0
# How soon it is seen that a listener hung up, where nothing happens.
_LOOK_S = 1.0
# How long a listener may take nothing before its connection is cut; what it was sent waits in buffers of 64 KB.
_STALLED_S = 30.0
# Objects rendered before the loop may do something else; some 10 ms.
_SLICE = 100
# Rendered events that are kept: listeners are mostly at the same place.
_RENDERED_MAX = 512

# Nomad's, those of ACLs included: nothing happens to what drover does not keep.
_TOPICS = ("*", *EventTopic, "ACLToken", "ACLPolicy", "ACLRole", "Service", "Operator", "CSIVolume", "CSIPlugin", "NodePool")

_encoder = msgspec.json.Encoder()


@dataclass(slots=True)
class Rendered:
    """Events as JSON, each made once for all listeners. Of one term: another has another view."""

    view: View
    _known: OrderedDict[int, bytes] = field(default_factory=OrderedDict)

    def of(self, position: int, event: Event) -> bytes:
        data = self._known.get(position)
        if data is None:
            data = self._known[position] = rendered(self.view, event)
            if len(self._known) > _RENDERED_MAX:
                self._known.popitem(last=False)
        return data


RENDERED: web.AppKey[list[Rendered]] = web.AppKey("rendered", list)


def rendered(view: View, event: Event) -> bytes:
    return _encoder.encode(
        {
            "Topic": event.topic.value,
            "Type": event.type,
            "Key": event.key,
            "FilterKeys": [other for other in event.others if other],
            "Namespace": event.namespace,
            "Index": view.api_index(event.index),
            "Payload": {event.topic.value: _document(view, event)},
        }
    )


def _document(view: View, event: Event) -> object:
    document = event.document
    match event.topic:
        case EventTopic.JOB:
            return job_document(view, (document.namespace, document.id), document)
        case EventTopic.ALLOCATION:
            return alloc_full(view, document, is_whole=False)
        case EventTopic.EVALUATION:
            return evaluation_document(view, document)
        case EventTopic.DEPLOYMENT:
            return deployment_document(view, document)
        case EventTopic.NODE:
            return node_document(view, document)


Wants = Callable[[Event], bool]
# Of some events those that the listener may see, asked anew for each lot of them.
Sees = Callable[[Iterable[Event]], Awaitable[Wants]]


def wanted(topics: Sequence[str], namespace: str) -> Wants:
    """Which events a listener asked for: `Job:web`, `Allocation:*`, `Node`, `*`; none: all. Raises BadRequest."""
    keys: dict[str, set[str]] = {}
    for text in topics:
        topic, _, key = text.partition(":")
        if text.count(":") > 1 or topic not in _TOPICS:
            raise BadRequest(f"Invalid topic query: {text!r} is not a topic, or a topic and a key divided by a colon")
        keys.setdefault(topic, set()).add(key or "*")

    def wants(event: Event) -> bool:
        if namespace != "*" and event.namespace and event.namespace != namespace:
            return False
        if not keys:
            return True
        chosen = keys.get("*", set()) | keys.get(event.topic, set())
        return "*" in chosen or event.key in chosen or any(other in chosen for other in event.others)

    return wants


def _job_of(event: Event) -> JobKey | None:
    """None of a node."""
    document = event.document.document if isinstance(event.document, Indexed) else event.document
    match event.topic:
        case EventTopic.NODE:
            return None
        case EventTopic.JOB:
            return document.namespace, document.id
        case EventTopic.ALLOCATION:
            return job_key(document)
    return document.namespace, document.job_id


def _seen_by(request: web.Request) -> Sees:
    rights = request.app[CONTEXT].rights

    async def sees(events: Iterable[Event]) -> Wants:
        jobs = {_job_of(event) for event in events}
        readable = await rights.readable(request, (key for key in jobs if key is not None))
        has_nodes = None in jobs and await rights.sees_nodes(request)
        return lambda event: has_nodes if (key := _job_of(event)) is None else readable(key)

    return sees


async def _all(_: Iterable[Event]) -> Wants:
    return lambda _: True


async def stream(request: web.Request, leading: Leading) -> web.StreamResponse:
    query = read(request)
    wants = wanted(request.query.getall("topic", []), query.namespace)
    response = web.StreamResponse()
    response.content_type = "application/json"
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async with aclosing(lines(leading.view, _rendered_of(request, leading.view), wants, query.index, _seen_by(request))) as found:
            async for piece in found:
                if is_gone(request):
                    break
                if piece:
                    async with asyncio.timeout(_STALLED_S):
                        await response.write(piece)
        await response.write_eof()
    except TimeoutError:
        # It reads no more: there is nothing that it could be told.
        if request.transport is not None:
            request.transport.abort()
    except (Forbidden, TooManyFailures, StoreUnavailable, StoreRefused) as error:
        log.info("an event stream ends: %s", error)  # its token is none any more, or nobody knows
    except ConnectionError:
        pass  # it left
    return response


def _rendered_of(request: web.Request, view: View) -> Rendered:
    kept = request.app[RENDERED]
    if not kept or kept[0].view is not view:
        kept[:] = [Rendered(view)]
    return kept[0]


async def lines(view: View, known: Rendered, wants: Wants, index: int, sees: Sees = _all) -> AsyncGenerator[bytes]:
    """What to send, at least one (perhaps empty) piece each second; ends with the term, or for a listener that is
    overrun."""
    events, loop = view.events, asyncio.get_running_loop()
    beat_s = loop.time() + _HEARTBEAT_S
    with events.listening():
        consul_index = max(index - view.index_base, 1) if index else 0
        position = events.position(consul_index)
        if position is None:
            position = events.end_position
            async for piece in _as_it_is(view, wants, consul_index, sees):
                yield piece
        while not events.is_over:
            try:
                found = events.take(position)
            except Overrun:
                words = "too slow: events that were not read yet are gone; connect again with the last index"
                yield _encoder.encode({"Error": {"Message": words}}) + b"\n"
                return
            if found:
                position = found[-1][0] + 1
                asked = [(at, event) for at, event in found if wants(event)]
                may_see = await sees(event for _, event in asked)
                chosen = [(event.index, known.of(at, event)) for at, event in asked if may_see(event)]
                yield b"".join(_joined(view, chosen))
                continue
            if loop.time() >= beat_s:
                beat_s = loop.time() + _HEARTBEAT_S
                yield b"{}\n"
            yield b""
            await events.wait(position, min(_LOOK_S, max(beat_s - loop.time(), 0.0)))


def _joined(view: View, events: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """One line for each index."""
    for index, group in groupby(events, lambda one: one[0]):
        yield b'{"Index":%d,"Events":[%b]}\n' % (view.api_index(index), b",".join(data for _, data in group))


async def _as_it_is(view: View, wants: Wants, index: int, sees: Sees) -> AsyncIterator[bytes]:
    """Each object that changed after `index`, in the order of its last change."""
    changed = [one for one in _objects(view) if one.index > index and wants(one)]
    changed = list(filter(await sees(changed), changed))
    changed.sort(key=lambda one: one.index)
    for start in range(0, len(changed), _SLICE):
        yield b"".join(_joined(view, ((one.index, rendered(view, one)) for one in changed[start : start + _SLICE])))
        await asyncio.sleep(0)


def _objects(view: View) -> Iterator[Event]:
    def event(index: int, topic: EventTopic, type_: str, document: object) -> Event:
        return Event(index, topic, type_, *names_of(document), document)  # type: ignore[arg-type]  # one of the four below

    for key, record in view.records.items():
        job = view.jobs[key]
        yield event(record.modify_index, EventTopic.JOB, "JobDeregistered" if job.stop else "JobRegistered", job)
    for evaluation in view.evals.values():
        yield event(evaluation.modify_index, EventTopic.EVALUATION, "EvaluationUpdated", evaluation)
    for deployment in view.deployments.values():
        yield event(deployment.modify_index, EventTopic.DEPLOYMENT, "DeploymentStatusUpdate", deployment)
    for alloc in view.allocs.values():
        yield event(alloc.modify_index, EventTopic.ALLOCATION, "AllocationUpdated", alloc)
    for node in view.nodes.values():
        yield event(view.node_indexes.get(node.id, 1), EventTopic.NODE, "NodeRegistration", node)
