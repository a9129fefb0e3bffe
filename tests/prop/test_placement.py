"""Placement on fleets too large to try them all: its rules hold at every step, chance and order decide nothing."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from leader.decide.feasible import FeasibleCache
from leader.decide.place import place
from leader.decide.table import NodeTable, ask_of
from model.alloc import EvalId
from model.job import Constraint, Job, Network, Port, Spread, SpreadTarget, TaskGroup
from model.node import NodeId, NodeResources
from model.plan import Placed, PlaceRequest
from tests.build import group, job, view

RACKS = ("a", "b", "c", "d")
RACK = "${meta.rack}"


@dataclass(frozen=True)
class Machine:
    """room: how many allocs it has cpu for. held: those of the group that it holds already."""

    name: str
    rack: str
    room: int
    held: int


@st.composite
def fleets(draw: st.DrawFn) -> tuple[Machine, ...]:
    held = st.sampled_from((0, 0, 0, 1, 2))
    made = draw(st.lists(st.tuples(st.sampled_from(RACKS), st.integers(0, 6), held), min_size=1, max_size=14))
    return tuple(Machine(f"n{number:02}", *one) for number, one in enumerate(made))


# With room for everything on each machine, and nothing there yet.
empty_fleets = st.lists(st.sampled_from(RACKS), min_size=1, max_size=14).map(
    lambda racks: tuple(Machine(f"n{number:02}", rack, 20, 0) for number, rack in enumerate(racks))
)


@dataclass(frozen=True)
class Outcome:
    placed: Placed
    racks: tuple[str, ...]  # of what was placed, in that order


def settle(fleet: Sequence[Machine], of: Job, seed: int = 1) -> Outcome:
    """Places all groups of the job; what machines hold already is of the first."""
    table = NodeTable()
    for one in fleet:
        resources = NodeResources(cpu_mhz=100 * (one.room + one.held), memory_mb=100_000, disk_mb=100_000)
        table.set_node(view(one.name, meta={"rack": one.rack}, resources=resources))
    first = of.task_groups[0]
    for one in fleet:
        for index in range(one.held):
            table.hold(f"{one.name}-{index}", NodeId(one.name), ask_of(first), ())  # type: ignore[arg-type]
    placed = place(
        [
            PlaceRequest(job=of, group=one, name=f"j.{one.name}[{index}]")
            for one in of.task_groups
            for index in range(one.count)
        ],
        table=table,
        cache=FeasibleCache(),
        held={first.name: {NodeId(one.name): one.held for one in fleet if one.held}},
        rng=random.Random(seed),
        eval_id=EvalId("e"),
        now_ns=7,
        epoch=1,
    )
    rack_of = {one.name: one.rack for one in fleet}
    return Outcome(placed, tuple(rack_of[one.node_id] for one in placed.allocs))


def held_by_rack(fleet: Sequence[Machine]) -> Counter[str]:
    found = Counter[str]()
    for one in fleet:
        found[one.rack] += one.held
    return found


def property_limit(limit: int) -> Constraint:
    return Constraint(ltarget=RACK, operand="distinct_property", rtarget=str(limit))


def spread(*targets: tuple[str, int], max_skew: int | None = None) -> Spread:
    return Spread(attribute=RACK, spread_target=tuple(SpreadTarget(value=v, percent=p) for v, p in targets), max_skew=max_skew)


groups = st.builds(
    lambda count, hosts, limit, even, skew, dynamic: group(
        count,
        constraints=(*((Constraint(operand="distinct_hosts"),) if hosts else ()), *((property_limit(limit),) if limit else ())),
        spreads=(spread(max_skew=skew),) if even or skew else (),
        networks=(Network(dynamic_ports=(Port(label="http"),)),) if dynamic else (),
    ),
    count=st.integers(0, 20),
    hosts=st.booleans(),
    limit=st.integers(0, 4),
    even=st.booleans(),
    skew=st.sampled_from((None, None, 1, 3)),
    dynamic=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(fleet=fleets(), group_of=groups, seed=st.integers(0, 5))
def test_the_same_world_and_the_same_chance_give_the_same_plan(
    fleet: tuple[Machine, ...], group_of: TaskGroup, seed: int
) -> None:
    of = job(groups=(group_of,))
    assert settle(fleet, of, seed) == settle(fleet, of, seed)


@settings(max_examples=300, deadline=None)
@given(fleet=fleets(), group_of=groups, order=st.randoms(use_true_random=False), seed=st.integers(0, 5))
def test_neither_the_order_of_the_nodes_nor_chance_changes_how_many_are_placed_nor_why_the_others_are_not(
    fleet: tuple[Machine, ...], group_of: TaskGroup, order: random.Random, seed: int
) -> None:
    of = job(groups=(group_of,))
    shuffled = list(fleet)
    order.shuffle(shuffled)
    one, other = settle(fleet, of), settle(shuffled, of, seed)
    assert len(one.placed.allocs) == len(other.placed.allocs)
    assert (one.placed.failed, one.placed.queued) == (other.placed.failed, other.placed.queued)


@settings(max_examples=300, deadline=None)
@given(fleet=fleets(), limit=st.integers(1, 5), counts=st.tuples(st.integers(0, 12), st.integers(0, 12)), is_of_job=st.booleans())
def test_a_distinct_property_holds_for_its_group_or_over_all_groups_of_the_job(
    fleet: tuple[Machine, ...], limit: int, counts: tuple[int, int], is_of_job: bool
) -> None:
    rule = (property_limit(limit),)
    made = tuple(group(n, name=name, constraints=() if is_of_job else rule) for name, n in zip("gh", counts))
    outcome = settle(fleet, job(groups=made, constraints=rule if is_of_job else ()))
    total = held_by_rack(fleet)
    by_group = {"g": Counter(total), "h": Counter[str]()}
    for one, rack in zip(outcome.placed.allocs, outcome.racks):
        total[rack] += 1
        by_group[one.task_group][rack] += 1
        counted = total if is_of_job else by_group[one.task_group]
        assert counted[rack] <= limit
    for name in outcome.placed.failed:
        counted = total if is_of_job else by_group[name]
        # Every rack is at its limit, or has no room.
        used = Counter(one.node_id for one in outcome.placed.allocs)
        assert all(counted[one.rack] >= limit or used[NodeId(one.name)] >= one.room for one in fleet)


@settings(max_examples=300, deadline=None)
@given(fleet=fleets(), skew=st.integers(1, 3), count=st.integers(0, 20))
def test_racks_are_never_further_apart_than_max_skew_allows_unless_they_were_before(
    fleet: tuple[Machine, ...], skew: int, count: int
) -> None:
    outcome = settle(fleet, job(groups=(group(count, spreads=(spread(max_skew=skew),)),)))
    here, racks = held_by_rack(fleet), {one.rack for one in fleet}
    for rack in outcome.racks:
        here[rack] += 1
        assert here[rack] - min(here[other] for other in racks) <= skew


@settings(max_examples=300, deadline=None)
@given(fleet=empty_fleets, count=st.integers(0, 20))
def test_an_even_spread_with_room_enough_ends_within_one(fleet: tuple[Machine, ...], count: int) -> None:
    outcome = settle(fleet, job(groups=(group(count, spreads=(spread(),)),)))
    here = Counter(outcome.racks)
    found = [here[rack] for rack in {one.rack for one in fleet}]
    assert sum(found) == count
    assert max(found) - min(found) <= 1


@settings(max_examples=300, deadline=None)
@given(fleet=empty_fleets, count=st.integers(1, 20), weights=st.tuples(*[st.integers(1, 10)] * len(RACKS)))
def test_a_spread_with_targets_and_room_enough_ends_within_one_of_each(
    fleet: tuple[Machine, ...], count: int, weights: tuple[int, ...]
) -> None:
    parts = {rack: weight for rack, weight in zip(RACKS, weights) if any(one.rack == rack for one in fleet)}
    percents = {rack: weight * 100 // sum(parts.values()) for rack, weight in parts.items()}
    percents[min(percents)] += 100 - sum(percents.values())
    outcome = settle(fleet, job(groups=(group(count, spreads=(spread(*percents.items()),)),)))
    here = Counter(outcome.racks)
    assert sum(here.values()) == count
    for rack, percent in percents.items():
        assert abs(here[rack] - count * percent / 100) < 1, (here, percents)
