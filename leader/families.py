"""Which jobs are children of which, in the order in which they were started?

Part of the View. Who waits for something to happen to a periodic job or a child listens here: a wake says about which
of them to look again, and carries no fact.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from model.job import Job, JobId
from model.snapshot import JobKey


@dataclass(slots=True)
class Changes:
    """The parents, and what may be one, to which something happened since they were last taken."""

    event: asyncio.Event = field(default_factory=asyncio.Event)
    _keys: set[JobKey] = field(default_factory=set)

    def add(self, *keys: JobKey) -> None:
        self._keys.update(keys)
        self.event.set()

    def take(self) -> set[JobKey]:
        taken, self._keys = self._keys, set()
        self.event.clear()
        return taken


@dataclass(slots=True)
class Families:
    """open: of each parent the children that may not be done, by Consul's CreateIndex; whoever finds one done
    says so (`closed`). departed: those that were purged while allocs of them were there."""

    scheduled: set[JobKey] = field(default_factory=set)
    periodic: set[JobKey] = field(default_factory=set)
    _listeners: list[Changes] = field(default_factory=list)
    _children: dict[JobKey, dict[JobKey, None]] = field(default_factory=dict)
    _parents: dict[JobKey, JobKey] = field(default_factory=dict)
    _open: dict[JobKey, dict[JobKey, int]] = field(default_factory=dict)
    _unsorted: set[JobKey] = field(default_factory=set)
    _created: dict[JobKey, int] = field(default_factory=dict)
    _departed: dict[JobKey, set[JobKey]] = field(default_factory=dict)
    _parent_of_departed: dict[JobKey, JobKey] = field(default_factory=dict)
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
        """It is done; should it be submitted once more, or something of it run again, it is open again."""
        parent = self._parents.get(child)
        if parent is not None:
            self._open.get(parent, {}).pop(child, None)

    def reopened(self, child: JobKey) -> None:
        """Something happened to what runs, or ran, of it."""
        parent = self._parents.get(child)
        if parent is not None and child not in self._open.get(parent, ()):
            self._add_open(child, parent, self._created[child])

    def departed(self, parent: JobKey) -> list[JobKey]:
        """Purged children of which a version is known still: allocs of them may be."""
        return sorted(self._departed.get(parent, ()))

    def listen(self, changes: Changes) -> None:
        self._listeners.append(changes)

    def changed(self, key: JobKey) -> None:
        """Something happened to this job."""
        parent = self._parents.get(key)
        for changes in self._listeners:
            changes.add(key, *([parent] if parent is not None else ()))

    def moved(self, key: JobKey) -> None:
        """What runs of this job does otherwise; of no interest unless it is, or was, a child."""
        parent = self._parents.get(key) or self._parent_of_departed.get(key)
        if parent is not None:
            for changes in self._listeners:
                changes.add(parent)

    def put_version(self, key: JobKey, parent_id: JobId) -> None:
        """A version of a child; its record follows, unless it was purged."""
        if parent_id and key not in self._parents:
            parent = key[0], parent_id
            self._departed.setdefault(parent, set()).add(key)
            self._parent_of_departed[key] = parent

    def drop_versions(self, key: JobKey) -> None:
        """No version of it is known any more."""
        parent = self._parent_of_departed.pop(key, None)
        if parent is not None:
            self._departed[parent].discard(key)
            if not self._departed[parent]:
                del self._departed[parent]

    def put(self, key: JobKey, job: Job, create_index: int) -> None:
        was_periodic = key in self.periodic or key in self.scheduled
        for members, is_member in (
            (self.scheduled, job.is_scheduled),
            (self.periodic, job.periodic is not None and not job.stop and not job.is_parameterized),
        ):
            if is_member:
                members.add(key)
            else:
                members.discard(key)
        self.drop_versions(key)  # of a departed one: it is back
        parent = self._parents.get(key)
        if parent is not None and parent[1] != job.parent_id:
            self._drop_child(key)
        if job.parent_id:
            self._put_child(key, (job.namespace, JobId(job.parent_id)), job.dispatch_idempotency_token, create_index)
        if job.parent_id or job.periodic is not None or was_periodic:
            self.changed(key)

    def _put_child(self, key: JobKey, parent: JobKey, token: str, create_index: int) -> None:
        self._parents[key] = parent
        self._children.setdefault(parent, {})[key] = None
        self._created[key] = create_index
        self._add_open(key, parent, create_index)
        if token:
            self._tokens[parent, token] = key
            self._token_of[key] = token

    def _add_open(self, key: JobKey, parent: JobKey, create_index: int) -> None:
        known = self._open.setdefault(parent, {})
        if known and next(reversed(known.values())) > create_index:
            self._unsorted.add(parent)
        known[key] = create_index

    def drop(self, key: JobKey) -> None:
        """Its record is gone; versions, and with them allocs, may be there still."""
        self.scheduled.discard(key)
        self.periodic.discard(key)
        self.changed(key)
        parent = self._parents.get(key)
        if parent is not None:
            self._drop_child(key)
            self.put_version(key, parent[1])

    def _drop_child(self, key: JobKey) -> None:
        parent = self._parents.pop(key)
        del self._created[key]
        for by_parent in (self._children, self._open):
            of_parent = by_parent.get(parent, {})
            of_parent.pop(key, None)
            if not of_parent:
                by_parent.pop(parent, None)
        token = self._token_of.pop(key, None)
        if token is not None and self._tokens.get((parent, token)) == key:
            del self._tokens[parent, token]
