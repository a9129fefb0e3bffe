"""How does a command change documents that decisions write too?

It asks: the change is worked out in the job's turn among the decisions, from the view as it is then, and written by
them. So nothing is written over from an old look, and after an unclear answer it is worked out anew.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from catalog.kv import Entry
from model.alloc import DesiredAlloc
from model.cluster import JobRecord
from model.deployment import Deployment
from model.errors import DroverError, StoreUnavailable
from model.evaluation import Evaluation
from model.job import Job
from model.snapshot import JobKey

Written = Evaluation | DesiredAlloc | Deployment | Job | JobRecord

# What one may take, with a Consul that is away for a moment.
_ERRAND_S = 30.0


@dataclass(slots=True)
class Errand:
    """work: the documents to write, from the view as it is; none when all is as asked. It may raise DroverError: what
    the asker is told then. outcome: Consul's entries by key."""

    work: Callable[[], Sequence[Written]]
    outcome: asyncio.Future[Mapping[str, Entry]]

    def done(self, written: Mapping[str, Entry]) -> None:
        if not self.outcome.done():
            self.outcome.set_result(written)


@dataclass(slots=True)
class Errands:
    """First come, first served, job by job."""

    _waiting: dict[JobKey, deque[Errand]] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def run(self, key: JobKey, work: Callable[[], Sequence[Written]], wake: Callable[[], None]) -> Mapping[str, Entry]:
        """Returns when Consul holds it. Raises what `work` raises, and StoreUnavailable after 30 s: then it may have
        happened, or happen yet."""
        errand = Errand(work, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(key, deque()).append(errand)
        wake()
        try:
            async with asyncio.timeout(_ERRAND_S):
                return await errand.outcome
        except TimeoutError as error:
            raise StoreUnavailable("the leader has not written it in time") from error

    def next(self, key: JobKey) -> tuple[Errand, Sequence[Written]] | None:
        """The next one with something to write; those that are refused or have nothing to do are answered here."""
        waiting = self._waiting.get(key)
        while waiting:
            errand = waiting[0]
            if not errand.outcome.done():
                try:
                    documents = errand.work()
                except DroverError as error:
                    errand.outcome.set_exception(error)
                else:
                    if documents:
                        return errand, documents
                    errand.done({})
            waiting.popleft()
        self._waiting.pop(key, None)
        return None

    def finished(self, key: JobKey, errand: Errand, written: Mapping[str, Entry]) -> None:
        """It is in Consul. One whose fate is unclear stays, and is worked out again."""
        waiting = self._waiting.get(key)
        if waiting and waiting[0] is errand:
            waiting.popleft()
        errand.done(written)
