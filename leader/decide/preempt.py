"""Whom does an alloc of higher priority push away when there is no room for it?

Nomad's rules: only allocs of jobs whose priority is lower by at least 10, never of its own job. On each node the
least that is enough: lowest priorities first, among those the ones closest in size to what is missing, and none
that turns out not to be needed. Of the nodes, the one where the least is lost: the lowest highest priority, then
the fewest allocs, then the smallest sum of priorities.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from leader.decide.table import Amounts, Ask, HostPort
from model.alloc import AllocId, DesiredAlloc
from model.node import NodeId
from model.snapshot import JobKey

# Jobs closer in priority than this leave each other alone.
PRIORITY_DELTA = 10


@dataclass(frozen=True, slots=True)
class Victim:
    """An alloc that runs on a node and might have to go."""

    desired: DesiredAlloc
    priority: int
    ask: Ask

    @property
    def id(self) -> AllocId:
        return self.desired.id

    @property
    def job_key(self) -> JobKey:
        return (self.desired.namespace, self.desired.job_id)


# Everything that runs on a node.
Victims = Callable[[NodeId], Iterable[Victim]]


@dataclass(frozen=True, slots=True)
class Harm:
    """What would be lost; the smaller the better."""

    highest: int
    count: int
    total: int
    victims: tuple[Victim, ...]

    @property
    def key(self) -> tuple[int, int, int]:
        return self.highest, self.count, self.total


def least_harm(
    need: Sequence[float],
    free: Sequence[float],
    ports: frozenset[HostPort],
    here: Iterable[Victim],
    *,
    job: JobKey,
    priority: int,
    core_mhz: float = 0.0,
) -> Harm | None:
    """The fewest and least of those `here` whose going makes room on one node; None if not even all of them would.

    need, free: cpu (MHz), memory (MB), disk (MB), whole cores. ports: static ones that must be free. priority: of the
    job that asks. core_mhz: what one of the node's cores counts for.
    """
    eligible: list[Victim] = []
    for one in here:
        if one.job_key == job:
            continue
        if one.priority <= priority - PRIORITY_DELTA:
            eligible.append(one)
        elif _holds(one, ports):
            return None  # somebody who may not be pushed away has the port
    chosen = [one for one in eligible if _holds(one, ports)]
    missing = _missing(need, free, chosen, core_mhz)
    left = sorted((one for one in eligible if one not in chosen), key=lambda one: (one.priority, one.id))
    while any(amount > 0 for amount in missing):
        if not left:
            return None
        lowest = left[0].priority
        best = min((one for one in left if one.priority == lowest), key=lambda one: (_distance(missing, one.ask.amounts(core_mhz)), one.id))
        left.remove(best)
        chosen.append(best)
        missing = _missing(need, free, chosen, core_mhz)
    # The largest that were taken early may have made smaller ones needless, and the other way round.
    for one in sorted(chosen, key=lambda one: (-one.priority, one.id)):
        others = [other for other in chosen if other is not one]
        if not _holds(one, ports) and all(amount <= 0 for amount in _missing(need, free, others, core_mhz)):
            chosen = others
    if not chosen:
        return None
    priorities = [one.priority for one in chosen]
    return Harm(max(priorities), len(chosen), sum(priorities), tuple(chosen))


def _holds(one: Victim, ports: frozenset[HostPort]) -> bool:
    return any((port.host_ip, port.value) in ports for port in one.desired.ports)


def _missing(need: Sequence[float], free: Sequence[float], going: Sequence[Victim], core_mhz: float) -> Sequence[float]:
    given = [one.ask.amounts(core_mhz) for one in going]
    return [wanted - there - sum(one[at] for one in given) for at, (wanted, there) in enumerate(zip(need, free))]


def _distance(missing: Sequence[float], sizes: Amounts) -> float:
    """How far an alloc's size is from what is missing, relative to it."""
    return sum(((amount - size) / amount) ** 2 for amount, size in zip(missing, sizes) if amount > 0)
