"""How many of a group may be restarted for failing checks at once?

An agent whose group has a `check_restart { max_parallel }` asks before it ends an unhealthy task, waits at most 10 s,
and then decides by itself: this only keeps a fault that all instances see (a database that is away) from taking all of
them down in the same second. Nothing of it is in Consul, and a new leader begins without permits.
"""

import asyncio
from dataclasses import dataclass, field

from leader.view import View, job_key
from model.alloc import Alloc, AllocId, ClientStatus
from model.snapshot import JobKey

# What a call waits for one: its agent gives up after 10 s (agent/permit.py).
PERMIT_WAIT_S = 9.5
# A permit whose restart is never seen ends by itself: the agent may have died after it asked.
PERMIT_S_MAX = 60.0
# How often a waiting agent's chance is looked at.
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class _Permit:
    until_s: float
    restarts: int  # of the alloc's tasks when it was given


@dataclass(slots=True)
class Permits:
    _given: dict[tuple[JobKey, str], dict[AllocId, _Permit]] = field(default_factory=dict)

    async def wait(self, view: View, alloc: Alloc, max_parallel: int, wait_s: float) -> bool:
        """Whether the alloc got one of its group's permits within the time."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + wait_s
        while not self.take(view, alloc, max_parallel, loop.time()):
            if loop.time() >= deadline_s or view.is_over:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def take(self, view: View, alloc: Alloc, max_parallel: int, now_s: float) -> bool:
        group = (job_key(alloc), alloc.desired.task_group)
        held = {a: permit for a, permit in self._given.get(group, {}).items() if _is_used(view, a, permit, now_s)}
        is_given = alloc.id in held or len(held) < max_parallel
        if is_given:
            held[alloc.id] = _Permit(now_s + PERMIT_S_MAX, _restarts(view.allocs.get(alloc.id)))
        self._given[group] = held
        if not held:
            del self._given[group]
        return is_given


def _is_used(view: View, alloc_id: AllocId, permit: _Permit, now_s: float) -> bool:
    """Until the alloc runs again after its restart."""
    alloc = view.allocs.get(alloc_id)
    if alloc is None or alloc.is_terminal or now_s >= permit.until_s:
        return False
    return alloc.client_status is not ClientStatus.RUNNING or _restarts(alloc) <= permit.restarts


def _restarts(alloc: Alloc | None) -> int:
    states = alloc.observed.task_states.values() if alloc is not None and alloc.observed is not None else ()
    return sum(state.restarts for state in states)
