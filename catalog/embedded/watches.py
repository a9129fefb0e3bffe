"""Who waits for what to change?

A blocking query names topics and sleeps; a write touches topics and wakes them. Waking promises
nothing: the query runs again and goes back to sleep when its index has not passed (consul's own
rule). KV topics are prefixes, found through the lengths in use, so that a write costs a few lookups
however many prefixes are watched.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    KEY = "key"  # one key
    PREFIX = "prefix"  # all keys that start so
    ANY_KEY = "any key"  # the whole KV table: what a missing key or an empty prefix watches
    SERVICE = "service"  # one service's instances and their checks
    NODE_CHECKS = "node checks"
    STATE_CHECKS = "state checks"  # checks in one state
    SERVICE_CHECKS = "service checks"
    NODES = "nodes"
    SERVICES = "services"
    NODE = "node"  # one node and its services
    SESSIONS = "sessions"
    SESSION_NODE = "session node"
    SESSION = "session"
    LINK = "link"  # one agent's connection to the servers
    EVERYTHING = "everything"  # a restore or the loss of the leader: every query looks again


class Topic(NamedTuple):
    kind: Kind
    name: str = ""


class Watches:
    """Sleeping queries by topic."""

    def __init__(self) -> None:
        # Dicts as ordered sets: the order of waking must not depend on hashes, or a simulation would not replay.
        self._waiters: dict[Topic, dict[asyncio.Future[None], None]] = {}
        self._prefix_lengths: Counter[int] = Counter()

    @contextmanager
    def waiting(
        self, topics: Iterable[Topic], loop: asyncio.AbstractEventLoop
    ) -> Iterator[asyncio.Future[None]]:
        """A future that is done at the first touch of a topic."""
        future: asyncio.Future[None] = loop.create_future()
        watched = dict.fromkeys((*topics, Topic(Kind.EVERYTHING)))
        for topic in watched:
            self._waiters.setdefault(topic, {})[future] = None
            if topic.kind is Kind.PREFIX:
                self._prefix_lengths[len(topic.name)] += 1
        try:
            yield future
        finally:
            for topic in watched:
                self._forget(topic, future)

    def touch(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            for future in list(self._waiters.get(topic, ())):
                if not future.done():
                    future.set_result(None)

    def touch_key(self, key: str) -> None:
        """Wakes those that watch this key or a prefix of it, and those that watch the table."""
        self.touch((Topic(Kind.KEY, key), Topic(Kind.ANY_KEY)))
        self.touch(
            Topic(Kind.PREFIX, key[:length]) for length in list(self._prefix_lengths) if length <= len(key)
        )

    def _forget(self, topic: Topic, future: asyncio.Future[None]) -> None:
        waiters = self._waiters[topic]
        waiters.pop(future, None)
        if not waiters:
            del self._waiters[topic]
        if topic.kind is Kind.PREFIX:
            self._prefix_lengths[len(topic.name)] -= 1
            if not self._prefix_lengths[len(topic.name)]:
                del self._prefix_lengths[len(topic.name)]
