"""What has changed lately, for those who follow it (`/v1/event/stream`)?

The view adds one event for each change, which names the document as it then was; nothing is copied or rendered before
somebody asks. A ring of bounded size: a listener keeps a position in it instead of a queue, and one that is overrun is
told so. A ring begins with its term: what changed before it is found in the view by its index.

    view.put_…() ──add──> ring ──take──> listeners (api/events.py)

An event's index is that of its write, and never lower than the one before: a fact that is read late shows the newest
index so far. So no index is shown that Consul has not reached, and the next leader's are all higher.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import Any

# Some minutes of a busy cluster. An event holds on to its document, of some kilobytes: 16 MB at most.
RING_EVENTS = 4096
# Events that a listener takes at once.
_TAKE_MAX = 256


class EventTopic(StrEnum):
    JOB = "Job"
    ALLOCATION = "Allocation"
    EVALUATION = "Evaluation"
    DEPLOYMENT = "Deployment"
    NODE = "Node"


@dataclass(frozen=True, slots=True)
class Event:
    """type: Nomad's word for what happened. others: further keys that a filter may name. namespace: "" for nodes.
    document: Job, Alloc, Indexed (of an evaluation or a deployment) or NodeView. index: Consul's."""

    index: int
    topic: EventTopic
    type: str
    key: str
    others: tuple[str, ...]
    namespace: str
    document: Any


class Overrun(Exception):
    """The listener was so slow that events which it has not taken are gone."""


@dataclass(slots=True)
class Events:
    """One term's. Positions count its events from 0."""

    capacity: int = RING_EVENTS
    is_open: bool = False
    is_over: bool = False
    index: int = 0  # of the newest event, at first of the term's begin
    forgotten_index: int = 0  # whatever happened up to it may be missing here
    _ring: deque[Event] = field(default_factory=deque)
    _end: int = 0  # position of the next event
    _listeners: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, index: int) -> None:
        """From now on changes are noted; those up to `index` are only in the view."""
        self.index = self.forgotten_index = index
        self.is_open = True

    def add(
        self, index: int, topic: EventTopic, type_: str, key: str, others: tuple[str, ...], namespace: str, document: object
    ) -> None:
        """index: Consul's, of the write."""
        if not self.is_open:
            return
        self.index = max(self.index, index)
        if len(self._ring) >= self.capacity:
            self.forgotten_index = self._ring.popleft().index
        self._ring.append(Event(self.index, topic, type_, key, others, namespace, document))
        self._end += 1
        if self._listeners:
            self._tell()

    def end(self) -> None:
        self.is_over = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Only who is in here is woken."""
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1

    @property
    def end_position(self) -> int:
        return self._end

    def position(self, index: int) -> int | None:
        """Of the first event that has this index or a higher one; None: there may have been others that are gone. 0: of
        the oldest that is there."""
        if index and index <= self.forgotten_index:
            return None
        begin = self._end - len(self._ring)
        return next((begin + n for n, event in enumerate(self._ring) if event.index >= index), self._end)

    def take(self, position: int) -> Sequence[tuple[int, Event]]:
        """The next events with their positions, all of one index together. Raises Overrun."""
        begin = self._end - len(self._ring)
        if position < begin:
            raise Overrun
        # From the nearer end: a deque is walked, and listeners are mostly where the news are.
        behind = self._end - position
        newer = list(islice(reversed(self._ring), behind)) if behind else []
        newer.reverse()
        if len(newer) > _TAKE_MAX:
            last = newer[_TAKE_MAX - 1].index
            newer = newer[: next((n for n in range(_TAKE_MAX, len(newer)) if newer[n].index != last), len(newer))]
        return list(enumerate(newer, position))

    async def wait(self, position: int, timeout_s: float) -> None:
        """Returns once there is something at `position`, after the timeout, or when the term is over."""
        if position < self._end or self.is_over:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return
