"""May an alloc start here, or does another one still stand where it wants to be?

Two copies on one node collide: on a static port, on cores that each is to have for itself, or as the replacement of an alloc whose process has not
yet ended. The later one waits until the earlier is dead; it is never the leader's promise that is
trusted here, but what runs. Who came first is told by the order of add(), and what already runs counts as first.
"""

from collections.abc import Callable

from model.alloc import AllocId, DesiredAlloc

# What only one alloc can have: ("port", address, number) or ("core", "", id).
_Place = tuple[str, str, int]


def _places(desired: DesiredAlloc) -> list[_Place]:
    ports: list[_Place] = [("port", port.host_ip, port.value) for port in desired.ports]
    return ports + [("core", "", core) for given in desired.cores for core in given.ids]


class Turf:
    """is_dead, is_running: of an alloc of this node, by id; an unknown one is dead."""

    def __init__(self, is_dead: Callable[[AllocId], bool], is_running: Callable[[AllocId], bool]) -> None:
        self._is_dead = is_dead
        self._is_running = is_running
        self._order: dict[AllocId, int] = {}
        self._owners: dict[_Place, dict[AllocId, None]] = {}
        self._count = 0

    def add(self, desired: DesiredAlloc) -> None:
        self._count += 1
        self._order[desired.id] = self._count
        for place in _places(desired):
            self._owners.setdefault(place, {})[desired.id] = None

    def discard(self, desired: DesiredAlloc) -> None:
        self._order.pop(desired.id, None)
        for place in _places(desired):
            owners = self._owners.get(place, {})
            owners.pop(desired.id, None)
            if not owners:
                self._owners.pop(place, None)

    def blocker(self, desired: DesiredAlloc) -> tuple[AllocId, str] | None:
        """Who has to end first, and why; None when the way is free."""
        before = desired.previous_allocation
        if before and before in self._order and not self._is_dead(before):
            return before, f"Waiting for alloc {before}, which it replaces, to end here"
        for gone in desired.preempted_allocations:
            if gone in self._order and not self._is_dead(gone):
                return gone, f"Waiting for alloc {gone}, which has to go for it, to end here"
        for place in _places(desired):
            for owner in self._owners.get(place, {}):
                if owner != desired.id and self._is_ahead(owner, desired.id):
                    return owner, f"Waiting for alloc {owner} to free {place[0]} {place[2]}"
        return None

    def _is_ahead(self, owner: AllocId, asking: AllocId) -> bool:
        if self._is_dead(owner):
            return False
        return self._is_running(owner) or self._order[owner] < self._order.get(asking, self._count + 1)
