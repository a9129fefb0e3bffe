"""What moves when there are other nodes than before: as little as evens things out, and nothing for nothing."""

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from leader.decide.feasible import FeasibleCache
from leader.decide.rebalance import Balancing, Move
from leader.decide.table import NodeTable, ask_of
from model.alloc import Alloc, AllocId, DeploymentHealth
from model.job import Constraint, Job, MigrateStrategy, Spread, SpreadTarget
from model.node import Eligibility, NodeId
from model.snapshot import NodeView
from tests.build import alloc, group, job, port_group, view

ZONE = "${meta.zone}"


def service(count: int, **more: Any) -> Job:
    made = more.pop("group", group)
    return job(groups=(replace(made(count), migrate=MigrateStrategy(), **more),))


def zoned(name: str, zone: str, **more: Any) -> NodeView:
    return view(name, meta={"zone": zone}, **more)


def well(index: int, of: Job, on: str, *, healthy: bool = True, **more: Any) -> Alloc:
    one = alloc(index, of=of, on=on, identity=f"a{index}", **more)
    assert one.observed is not None
    seen = replace(one.observed, deployment_status=DeploymentHealth(healthy=healthy))
    return Alloc(desired=one.desired, observed=seen, create_index=index, desired_index=1, observed_index=2)


def balancing(of: Job, allocs: Sequence[Alloc], views: Sequence[NodeView]) -> Balancing:
    table = NodeTable()
    for one in views:
        table.set_node(one)
    for one_alloc in allocs:
        table.hold(one_alloc.id, one_alloc.desired.node_id, ask_of(of.task_groups[0]), one_alloc.desired.ports)
    return Balancing(job=of, group=of.task_groups[0], table=table, cache=FeasibleCache(), rng=random.Random(1))


def moves(of: Job, allocs: Sequence[Alloc], views: Sequence[NodeView]) -> list[Move]:
    return list(balancing(of, allocs, views).moves(allocs))


def after(allocs: Sequence[Alloc], found: Sequence[Move]) -> Counter[str]:
    to = {move.alloc.id: move.to for move in found}
    return Counter(to.get(one.id, one.desired.node_id) for one in allocs)


def test_what_is_even_stays() -> None:
    of = service(4)
    assert moves(of, [well(i, of, f"n{i % 2}") for i in range(4)], [view("n0"), view("n1")]) == []


def test_a_node_that_joined_gets_its_share_and_no_more_moves_than_that_takes() -> None:
    of = service(6)
    have = [well(i, of, f"n{i % 2}") for i in range(6)]
    found = moves(of, have, [view("n0"), view("n1"), view("n2")])
    assert len(found) == 2
    assert after(have, found) == {"n0": 2, "n1": 2, "n2": 2}


def test_a_spread_gets_its_targets_back() -> None:
    spread = Spread(attribute=ZONE, spread_target=(SpreadTarget(value="a", percent=50), SpreadTarget(value="b", percent=30), SpreadTarget(value="c", percent=20)))
    of = service(10, spreads=(spread,))
    # Zone b was away: its three are in a and c.
    have = [well(i, of, f"{'a' if i < 7 else 'c'}{i % 2}") for i in range(10)]
    views = [zoned(f"{zone}{number}", zone) for zone in "abc" for number in (0, 1)]
    found = moves(of, have, views)
    assert len(found) == 3
    assert Counter(node[0] for node in after(have, found).elements()) == {"a": 5, "b": 3, "c": 2}
    shown = balancing(of, have, views).skews(have, {move.alloc.id: move.to for move in found})
    assert (shown[0].attribute, shown[0].before, shown[0].after) == (ZONE, 5.0, 0.0)


def test_the_remainder_of_a_spread_evens_out_among_its_values() -> None:
    of = service(6, spreads=(Spread(attribute=ZONE, spread_target=(SpreadTarget(value="a", percent=33),)),))
    have = [well(i, of, "a0" if i < 2 else "b0") for i in range(6)]
    found = moves(of, have, [zoned("a0", "a"), zoned("b0", "b"), zoned("c0", "c")])
    assert after(have, found) == {"a0": 2, "b0": 2, "c0": 2}


def test_constraints_hosts_ports_and_room_hold_there_too() -> None:
    distinct = (Constraint(operand="distinct_hosts"),)
    of = service(3, constraints=distinct)
    have = [well(i, of, f"n{i}") for i in range(3)]
    assert moves(of, have, [view("n0"), view("n1"), view("n2"), view("n3")]) == []
    of = service(4)
    full = view("n1", resources=replace(view().node.resources, memory_mb=150))
    have = [well(i, of, "n0") for i in range(4)]
    assert after(have, moves(of, have, [view("n0"), full])) == {"n0": 3, "n1": 1}
    of = service(2, group=lambda count: port_group(count, static=8080))
    have = [well(i, of, f"n{i}") for i in range(2)]
    assert moves(of, have, [view("n0"), view("n1")]) == []


def test_what_is_not_healthy_stays() -> None:
    of = service(4)
    have = [well(i, of, "n0", healthy=False) for i in range(4)]
    assert moves(of, have, [view("n0"), view("n1")]) == []


def test_nothing_goes_to_a_node_that_takes_no_work() -> None:
    of = service(4)
    have = [well(i, of, "n0") for i in range(4)]
    assert moves(of, have, [view("n0"), view("n1", eligibility=Eligibility.INELIGIBLE)]) == []


@settings(max_examples=150, deadline=None)
@given(
    on=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    zones=st.lists(st.sampled_from("abc"), min_size=6, max_size=6),
    has_spread=st.booleans(),
)
def test_each_move_helps_and_no_alloc_moves_twice(on: list[int], zones: list[str], has_spread: bool) -> None:
    of = service(len(on), spreads=(Spread(attribute=ZONE),) if has_spread else ())
    have = [well(i, of, f"n{node}") for i, node in enumerate(on)]
    views = [zoned(f"n{number}", zone) for number, zone in enumerate(zones)]
    found = moves(of, have, views)
    assert len({move.alloc.id for move in found}) == len(found)
    assert all(move.to != move.alloc.desired.node_id for move in found)
    to: dict[AllocId, NodeId] = {move.alloc.id: move.to for move in found}
    shown = balancing(of, have, views).skews(have, to)
    assert all(skew.after <= max(skew.before, 1.0) + 1e-9 for skew in shown[:1])
    if not has_spread:
        counts = [after(have, found)[f"n{number}"] for number in range(6)]
        assert max(counts) - min(counts) <= 1
    # What was moved once stays: a second run finds nothing.
    settled = [well(i, of, to.get(one.id, one.desired.node_id)) for i, one in enumerate(have)]
    assert moves(of, settled, views) == []
