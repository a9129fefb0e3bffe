"""How does a read answer: at once, or when what it reads has changed?

A read is a plain function from the state to a Read: what was found, its index, and the topics whose
touch is worth another look. answer() runs it, and with `?index=` runs it again after each touch until
the index has passed or the wait is over. A restore and the loss of the leader end every wait. Between
running the read and starting to wait nothing awaits, so no change can slip through.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from catalog.embedded.answers import NO_LEADER, Refused, Response, as_json, empty, go_duration_s, is_flagged
from catalog.embedded.state import ConsulState
from catalog.embedded.watches import Kind, Topic

WAIT_S_DEFAULT = 300.0
WAIT_S_MAX = 600.0
WAIT_JITTER = 1 / 16  # consul adds up to this share, so that waits do not end together


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request; the path is percent-decoded."""

    method: str
    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def rest(self, prefix: str) -> str:
        """The path after `prefix`."""
        return self.path[len(prefix) :]

    def all_of(self, name: str) -> list[str]:
        """Every value of a repeated parameter, when the caller's mapping keeps them."""
        getall = getattr(self.params, "getall", None)
        if getall is not None:
            return list(getall(name, []))
        return [self.params[name]] if name in self.params else []


class Link(Protocol):
    """An agent's view of the servers."""

    node_name: str

    @property
    def state(self) -> ConsulState: ...

    @property
    def is_connected(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a read found. found None: 404 with an empty body. raw: sent as it is instead of JSON."""

    index: int
    topics: tuple[Topic, ...]
    found: object
    raw: Response | None = None
    is_missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a read is to be done."""

    index: int
    wait_s: float
    is_stale: bool
    is_consistent: bool
    datacenter: str


def options_of(request: Request) -> Options:
    """Raises Refused(400) for parameters that do not parse or contradict one another."""
    params = request.params
    is_stale, is_consistent = is_flagged(params, "stale"), is_flagged(params, "consistent")
    if is_stale and is_consistent:
        raise Refused(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
    wait_s = WAIT_S_DEFAULT
    if params.get("wait"):
        try:
            wait_s = go_duration_s(params["wait"]) or WAIT_S_DEFAULT
        except ValueError as error:
            raise Refused(400, "Invalid wait time") from error
    index = params.get("index") or "0"
    if not (index.isascii() and index.isdigit()):
        raise Refused(400, "Invalid index")
    return Options(
        index=int(index),
        wait_s=min(wait_s, WAIT_S_MAX),
        is_stale=is_stale,
        is_consistent=is_consistent,
        datacenter=params.get("dc", ""),
    )


def link_topic(node_name: str) -> Topic:
    """Touched when that agent's link to the servers is cut."""
    return Topic(Kind.LINK, node_name)


def servers_for(link: Link, datacenter: str, *, is_stale: bool = False) -> ConsulState:
    """The servers that answer. Raises Refused(500) when they cannot be reached or have no leader."""
    if not link.is_connected:
        raise Refused(500, NO_LEADER)
    state = link.state.in_datacenter(datacenter)
    if state.is_leaderless and not is_stale:
        raise Refused(500, NO_LEADER)
    return state


async def answer(
    link: Link, request: Request, read: Callable[[ConsulState], Read], *, names_consistency: bool = False
) -> Response:
    """Runs the read, and waits for a change first when the request asks for one."""
    options = options_of(request)
    state = servers_for(link, options.datacenter, is_stale=options.is_stale)
    result = read(state)
    if options.index > 0:
        result = await _changed(link, state, options, read, result)
    headers = {
        "X-Consul-Index": str(max(result.index, 1)),
        "X-Consul-Knownleader": "false" if state.is_leaderless else "true",
        "X-Consul-Lastcontact": str(round(state.leaderless_s * 1000)),
    }
    if names_consistency:
        headers["X-Consul-Effective-Consistency"] = (
            "stale" if options.is_stale else "consistent" if options.is_consistent else "leader"
        )
    if result.is_missing:
        return empty(headers, status=404)
    if result.raw is not None:
        return Response(status=200, headers={**result.raw.headers, **headers}, body=result.raw.body)
    return as_json(result.found, headers)


async def _changed(
    link: Link, state: ConsulState, options: Options, read: Callable[[ConsulState], Read], result: Read
) -> Read:
    """The read's result once its index is past the asked one, or when the wait is over."""
    loop = state.loop
    jitter_s = state.rng.random() * options.wait_s * WAIT_JITTER
    give_up_at_s = loop.time() + options.wait_s + jitter_s
    generation = state.generation
    while max(result.index, 1) <= options.index and generation == state.generation:
        left_s = give_up_at_s - loop.time()
        if left_s <= 0:
            break
        with state.watches.waiting((*result.topics, link_topic(link.node_name)), loop) as touched:
            await asyncio.wait((touched,), timeout=left_s)
        servers_for(link, options.datacenter, is_stale=options.is_stale)
        result = read(state)
    return result
