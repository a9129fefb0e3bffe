"""How many allocs of each job are how, counted as they change?

Part of the View: a list of 2,000 jobs with 100,000 allocs is shown without going through the allocs. What an agent's
report or the leader's word changes moves an alloc from one column to another.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from model.alloc import Alloc, AllocId, ClientStatus, TaskStatus, Verdict
from model.node import NodeId
from model.snapshot import JobKey


@dataclass(slots=True)
class Counts:
    """Allocs of one job. failed, complete: by their own end, and neither stopped nor replaced since. stopping: told to
    stop, and still there. unhealthy, restarting: of those that are wanted and have not ended, counted in the others too."""

    running: int = 0
    starting: int = 0
    unknown: int = 0
    lost: int = 0
    failed: int = 0
    complete: int = 0
    stopping: int = 0
    unhealthy: int = 0
    restarting: int = 0


_NONE = Counts()
_LIVE = {ClientStatus.RUNNING: "running", ClientStatus.PENDING: "starting", ClientStatus.UNKNOWN: "unknown", ClientStatus.LOST: "lost"}


@dataclass(slots=True)
class Tally:
    """live: allocs on each node that have not ended. _replaced: allocs in whose place others are."""

    live: Counter[NodeId] = field(default_factory=Counter)

    _counts: dict[JobKey, Counts] = field(default_factory=dict)
    _replaced: set[AllocId] = field(default_factory=set)

    def of(self, key: JobKey) -> Counts:
        """Not to be changed."""
        return self._counts.get(key, _NONE)

    def moved(self, key: JobKey, before: Alloc | None, after: Alloc | None, allocs: Mapping[AllocId, Alloc]) -> None:
        """allocs: all that are known now."""
        for alloc, by in ((before, -1), (after, 1)):
            if alloc is not None and not alloc.is_terminal:
                self.live[alloc.desired.node_id] += by
        either = after or before
        previous = either.desired.previous_allocation if either is not None else AllocId("")
        if before is None and previous:
            known = allocs.get(previous)
            self._move(key, self._columns(known), ())
            self._replaced.add(previous)
            self._move(key, (), self._columns(known))
        self._move(key, self._columns(before), self._columns(after))
        if after is None and before is not None:
            self._replaced.discard(before.id)
            if previous not in allocs:
                self._replaced.discard(previous)

    def _columns(self, alloc: Alloc | None) -> tuple[str, ...]:
        if alloc is not None and alloc.id in self._replaced and (alloc.is_terminal or alloc.desired.verdict is Verdict.LOST):
            return ()
        return columns(alloc)

    def _move(self, key: JobKey, was: tuple[str, ...], now: tuple[str, ...]) -> None:
        if was == now:
            return
        counts = self._counts.setdefault(key, Counts())
        for name in was:
            setattr(counts, name, getattr(counts, name) - 1)
        for name in now:
            setattr(counts, name, getattr(counts, name) + 1)
        if counts == _NONE:
            del self._counts[key]


def columns(alloc: Alloc | None) -> tuple[str, ...]:
    """Where the alloc is counted; nowhere once it was stopped, and while it runs apart from its job."""
    if alloc is None:
        return ()
    if alloc.is_terminal:
        if alloc.desired.is_stopping:
            return ()
        return ("complete",) if alloc.client_status is ClientStatus.COMPLETE else ("failed",)
    if alloc.desired.apart:
        return ()
    if alloc.desired.is_stopping:
        return ("stopping",)
    own: tuple[str, ...] = (_LIVE[alloc.client_status],)
    observed = alloc.observed
    if observed is None:
        return own
    if observed.deployment_status is not None and observed.deployment_status.healthy is False:
        own += ("unhealthy",)
    if any(state.restarts and state.state is TaskStatus.PENDING for state in observed.task_states.values()):
        own += ("restarting",)
    return own
