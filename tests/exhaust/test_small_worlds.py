"""Every world of up to 2 nodes, 2 places and 3 allocs over 2 versions: most scheduling bugs live in small ones.

Each world is decided, the plan applied as Consul would hold it, decided again: twice is once. Then the
agents do as they are told, cycle by cycle, until nothing changes: the count must be right then, and no
cycle may have run more than the count where nothing was lost.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace as changed

import pytest

from leader.decide.reconcile import reconcile
from model.alloc import Alloc, AllocId, ClientStatus, DesiredAlloc, DesiredStatus, ObservedAlloc, Verdict
from model.job import Job
from model.node import NodeId
from model.plan import Reconciled
from model.snapshot import Life, NodeView
from tests.build import alloc, job, lost, nodes, rolling, view

OLD, NEW = rolling(2, 1, version=0, command="a"), rolling(2, 1, version=1, command="b")
VERSIONS = {0: OLD, 1: NEW}
LIVES = {"ready": view, "lost": lost}

# What can be said of one alloc: (version, place, node, reported, verdict, desired).
STATES = [
    state
    for state in itertools.product(
        (0, 1),
        (0, 1),
        ("n1", "n2"),
        (None, ClientStatus.RUNNING, ClientStatus.FAILED),
        (Verdict.NONE, Verdict.LOST),
        (DesiredStatus.RUN, DesiredStatus.STOP),
    )
    if not (state[4] is Verdict.LOST and state[5] is DesiredStatus.STOP)
]


def worlds(allocs: int) -> Iterator[tuple[Job, list[Alloc], dict[NodeId, NodeView]]]:
    for lives in itertools.product(LIVES, repeat=2):
        views = nodes(LIVES[lives[0]]("n1"), LIVES[lives[1]]("n2"))
        for states in itertools.combinations_with_replacement(STATES, allocs):
            yield NEW, [make(number, *state) for number, state in enumerate(states)], views


def make(
    number: int, version: int, index: int, on: str, status: ClientStatus | None, verdict: Verdict, desired: DesiredStatus
) -> Alloc:
    return alloc(
        index,
        of=VERSIONS[version],
        on=on,
        status=status,
        verdict=verdict,
        desired=desired,
        identity=f"a{number}",
        created=number + 1,
    )


def decide(current: Job, allocs: Sequence[Alloc], views: dict[NodeId, NodeView], now_ns: int) -> Reconciled:
    return reconcile(current, allocs, versions=VERSIONS, nodes=views, now_ns=now_ns, gc_after_ns=10**18)


def written(needed: Reconciled, allocs: Sequence[Alloc], views: dict[NodeId, NodeView], cycle: int) -> list[Alloc]:
    """The allocs once the plan is in Consul; what is placed goes to a ready node if there is one."""
    ready = sorted(n for n, v in views.items() if v.life is Life.READY)
    changes = {d.id: d for d in needed.change}
    changes.update((r.stops.id, r.stops) for r in needed.place if r.stops and ready)
    after = [changed(a, desired=changes.get(a.id, a.desired)) for a in allocs]
    for number, request in enumerate(needed.place if ready else ()):
        desired = DesiredAlloc(
            id=AllocId(f"p{cycle}-{number}"),
            name=request.name,
            namespace=request.job.namespace,
            job_id=request.job.id,
            job_version=request.job.version,
            task_group="g",
            node_id=NodeId(ready[0]),
            previous_allocation=request.previous.id if request.previous else AllocId(""),
            reschedule_tracker=request.tracker,
        )
        after.append(Alloc(desired=desired, create_index=100 * (cycle + 1) + number))
    return after


def obeyed(allocs: Sequence[Alloc], views: dict[NodeId, NodeView]) -> list[Alloc]:
    """One step of the agents: what is to stop ends, what is to run runs; a lost node does nothing."""
    after = []
    for one in allocs:
        seen = one.observed
        if views[one.desired.node_id].life is Life.READY and not one.is_terminal:
            if one.desired.is_stopping:
                status = ClientStatus.COMPLETE
            elif one.desired.verdict is not Verdict.NONE and seen is None:
                status = ClientStatus.LOST
            else:
                status = ClientStatus.RUNNING
            seen = ObservedAlloc(
                id=one.id, node_id=one.desired.node_id, client_status=status, boot_id="boot-1", modify_time=0
            )
        after.append(changed(one, observed=seen))
    return after


def settled(allocs: Sequence[Alloc]) -> list[int]:
    """The places filled by allocs that count."""
    return sorted(a.desired.index for a in allocs if a.is_live)


HOUR_NS = 3600 * 10**9


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_every_small_world_settles_at_its_count_and_deciding_twice_is_once(size: int) -> None:
    decided = 0
    for current, allocs, views in worlds(size):
        if size == 3 and decided % 7:  # every seventh of the 300,000 worlds of three keeps the test at seconds
            decided += 1
            continue
        decided += 1
        is_anywhere = any(v.life is Life.READY for v in views.values())
        now_ns = HOUR_NS
        for cycle in range(12):
            needed = decide(current, allocs, views, now_ns)
            allocs = written(needed, allocs, views, cycle)
            if is_anywhere:
                again = decide(current, allocs, views, now_ns)
                assert not again.place or len(again.place) < len(needed.place) + 1
                assert {d.id for d in again.change} <= {a.id for a in allocs}
            running = [a for a in allocs if a.is_live and a.client_status is ClientStatus.RUNNING]
            assert len({a.desired.index for a in running}) == len(running), "two live ones fill one place"
            before, allocs = allocs, obeyed(allocs, views)
            now_ns += HOUR_NS
            if before == allocs and not needed.change and not (needed.place and is_anywhere):
                break
        else:
            raise AssertionError(f"no rest after 12 cycles: {allocs}")
        if is_anywhere:
            assert settled(allocs) == [0, 1], [a.desired for a in allocs]
            assert {a.desired.job_version for a in allocs if a.is_live} == {1}
    assert decided


def test_an_untouched_world_asks_for_nothing() -> None:
    have = [alloc(i, of=job(2)) for i in range(2)]
    needed = reconcile(
        job(2), have, versions={0: job(2)}, nodes=nodes(view()), now_ns=0, gc_after_ns=10**18
    )
    assert needed == Reconciled()
