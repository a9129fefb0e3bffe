"""Which jobs are children of which, in the order in which they were started?

Part of the View. Who waits for something to happen to a periodic job or a child listens here: a wake carries no fact.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from model.job import Job, JobId
from model.snapshot import JobKey


@dataclass(slots=True)
class Families:
    """open: of each parent the children that may not be done, by Consul's CreateIndex; whoever finds one done
    says so (`closed`)."""

    scheduled: set[JobKey] = field(default_factory=set)
    periodic: set[JobKey] = field(default_factory=set)
    listeners: set[asyncio.Event] = field(default_factory=set)
    _children: dict[JobKey, dict[JobKey, None]] = field(default_factory=dict)
    _parents: dict[JobKey, JobKey] = field(default_factory=dict)
    _open: dict[JobKey, dict[JobKey, int]] = field(default_factory=dict)
    _unsorted: set[JobKey] = field(default_factory=set)
    _tokens: dict[tuple[JobKey, str], JobKey] = field(default_factory=dict)
    _token_of: dict[JobKey, str] = field(default_factory=dict)

    def children(self, parent: JobKey) -> list[JobKey]:
        return list(self._children.get(parent, ()))

    def parents(self) -> list[JobKey]:
        return list(self._children)

    def parent(self, child: JobKey) -> JobKey | None:
        return self._parents.get(child)

    def dispatched_by(self, parent: JobKey, token: str) -> JobKey | None:
        """The child that was dispatched with this token."""
        return self._tokens.get((parent, token))

    def open(self, parent: JobKey) -> Iterator[JobKey]:
        """Those that may not be done, the oldest first. Nothing may change while it is gone through."""
        known = self._open.get(parent, {})
        if parent in self._unsorted:
            self._unsorted.discard(parent)
            known = self._open[parent] = dict(sorted(known.items(), key=lambda item: (item[1], item[0])))
        yield from known

    def closed(self, child: JobKey) -> None:
        """It is done; should it be submitted once more, it is open again."""
        parent = self._parents.get(child)
        if parent is not None:
            self._open.get(parent, {}).pop(child, None)

    def changed(self) -> None:
        for event in self.listeners:
            event.set()

    def put(self, key: JobKey, job: Job, create_index: int) -> None:
        for members, is_member in (
            (self.scheduled, job.is_scheduled),
            (self.periodic, job.periodic is not None and not job.stop and not job.is_parameterized),
        ):
            if is_member:
                members.add(key)
            else:
                members.discard(key)
        if job.parent_id:
            self._put_child(key, (job.namespace, JobId(job.parent_id)), job.dispatch_idempotency_token, create_index)
        if job.parent_id or job.periodic is not None:
            self.changed()

    def _put_child(self, key: JobKey, parent: JobKey, token: str, create_index: int) -> None:
        self._parents[key] = parent
        self._children.setdefault(parent, {})[key] = None
        known = self._open.setdefault(parent, {})
        if known and next(reversed(known.values())) > create_index:
            self._unsorted.add(parent)
        known[key] = create_index
        if token:
            self._tokens[parent, token] = key
            self._token_of[key] = token

    def drop(self, key: JobKey) -> None:
        self.scheduled.discard(key)
        self.periodic.discard(key)
        parent = self._parents.pop(key, None)
        if parent is not None:
            for by_parent in (self._children, self._open):
                of_parent = by_parent.get(parent, {})
                of_parent.pop(key, None)
                if not of_parent:
                    by_parent.pop(parent, None)
            token = self._token_of.pop(key, None)
            if token is not None and self._tokens.get((parent, token)) == key:
                del self._tokens[parent, token]
        self.changed()
