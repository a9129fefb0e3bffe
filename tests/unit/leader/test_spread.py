"""How a group's allocs divide over the values of attributes: within one alloc of every target, whatever happens."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from leader.decide.feasible import FeasibleCache
from leader.decide.place import place
from leader.decide.table import NodeTable
from model.alloc import EvalId
from model.job import Affinity, Constraint, Job, Spread, SpreadTarget
from model.node import NodeId, NodeResources
from model.plan import Placed, PlaceRequest
from model.snapshot import NodeView, Reach
from tests.build import group, job, view

ROOMY = NodeResources(cpu_mhz=100_000, memory_mb=100_000, disk_mb=100_000)
DC = "${node.datacenter}"


def table_of(views: Sequence[NodeView]) -> NodeTable:
    table = NodeTable()
    for one in views:
        table.set_node(one)
    return table


def fleet(per_datacenter: Mapping[str, int], **more: object) -> list[NodeView]:
    return [
        view(f"{dc}-{number}", datacenter=dc, **{"resources": ROOMY, "meta": {"rack": f"r{number % 4}"}, **more})
        for dc, count in per_datacenter.items()
        for number in range(count)
    ]


def spread(attribute: str = DC, weight: int = 50, max_skew: int | None = None, **targets: int) -> Spread:
    wanted = tuple(SpreadTarget(value=value, percent=percent) for value, percent in targets.items())
    return Spread(attribute=attribute, weight=weight, spread_target=wanted, max_skew=max_skew)


def spread_job(count: int, *spreads: Spread, **more: object) -> Job:
    return job(groups=(group(count, spreads=spreads),), datacenters=("*",), **more)


def put(of: Job, table: NodeTable, count: int = 0, held: Mapping[NodeId, int] | None = None) -> Placed:
    wanted = of.task_groups[0]
    requests = [PlaceRequest(job=of, group=wanted, name=f"j.g[{i}]") for i in range(count or wanted.count)]
    return place(
        requests, table=table, cache=FeasibleCache(), held={"g": held or {}}, rng=random.Random(1), eval_id=EvalId("e"), now_ns=1, epoch=1
    )


def by(placed: Placed, table: NodeTable, key: str = "datacenter") -> Counter[str]:
    nodes = (table.views[table.rows[one.node_id]].node for one in placed.allocs)
    return Counter(node.datacenter if key == "datacenter" else node.meta[key] for node in nodes)


def per_cents(rng: random.Random, values: int) -> list[int]:
    cuts = sorted(rng.randint(0, 100) for _ in range(values - 1))
    return [b - a for a, b in zip([0, *cuts], [*cuts, 100])]


@pytest.mark.parametrize("seed", range(50))
def test_any_targets_are_met_within_one_alloc_also_after_a_datacenter_was_lost_and_is_back(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"dc{number}" for number in range(rng.randint(2, 5))]
    percents = dict(zip(names, per_cents(rng, len(names))))
    count = rng.randint(1, 120)
    of = spread_job(count, spread(**percents))
    views = fleet(dict.fromkeys(names, 4))
    table = table_of(views)

    def is_met(found: Counter[str]) -> bool:
        return all(abs(found[name] - count * percent / 100) < 1 + 1e-9 for name, percent in percents.items())

    first = put(of, table)
    found = by(first, table)
    assert is_met(found), (percents, count, found)
    # One datacenter goes: what it held moves to the others, and when it is back, what is placed anew goes there.
    gone = max(names, key=lambda name: percents[name])
    for one in views:
        if one.node.datacenter == gone:
            table.set_node(view(one.id, reach=Reach.SILENT, datacenter=gone, resources=ROOMY, meta=one.node.meta))
    kept = [one for one in first.allocs if not one.node_id.startswith(gone)]
    held = Counter(one.node_id for one in kept)
    moved = put(of, table, count - len(kept), held) if count > len(kept) else Placed()
    assert gone not in by(moved, table)
    for one in views:
        table.set_node(one)
    returned = put(of, table, count - len(kept), held) if count > len(kept) else Placed()
    assert is_met(by(returned, table) + Counter(one.node_id.split("-")[0] for one in kept))


def test_two_attributes_are_met_at_once() -> None:
    table = table_of(fleet({"dc1": 8, "dc2": 8, "dc3": 8}))
    racks = spread("${meta.rack}", r0=40, r1=30, r2=20, r3=10)
    placed = put(spread_job(100, spread(dc1=50, dc2=30, dc3=20), racks), table)
    assert by(placed, table) == {"dc1": 50, "dc2": 30, "dc3": 20}
    assert by(placed, table, "rack") == {"r0": 40, "r1": 30, "r2": 20, "r3": 10}


def test_without_targets_it_is_even_whatever_the_sizes() -> None:
    table = table_of(fleet({"dc1": 1, "dc2": 20, "dc3": 3}))
    assert sorted(by(put(spread_job(31, spread()), table), table).values()) == [10, 10, 11]


def test_what_the_targets_leave_is_shared_by_the_others_evenly() -> None:
    table = table_of(fleet(dict.fromkeys(("dc1", "dc2", "dc3", "dc4"), 3)))
    assert by(put(spread_job(20, spread(dc1=50)), table), table) == {"dc1": 10, "dc2": 4, "dc3": 3, "dc4": 3}


def test_a_full_datacenter_gives_its_share_to_the_others() -> None:
    small = NodeResources(cpu_mhz=300, memory_mb=300, disk_mb=1000)
    table = table_of([*fleet({"dc1": 1}, resources=small), *fleet({"dc2": 2})])
    assert by(put(spread_job(10, spread(dc1=80, dc2=20)), table), table) == {"dc1": 3, "dc2": 7}


def test_a_node_without_the_attribute_comes_last_but_comes() -> None:
    small = NodeResources(cpu_mhz=200, memory_mb=200, disk_mb=1000)
    table = table_of([*fleet({"dc1": 1}, resources=small), *fleet({"dc2": 1}, meta={})])
    placed = put(spread_job(3, spread("${meta.rack}")), table)
    assert by(placed, table) == {"dc1": 2, "dc2": 1}


def test_max_skew_leaves_what_would_lean_too_far_and_says_so() -> None:
    small = NodeResources(cpu_mhz=200, memory_mb=200, disk_mb=1000)
    table = table_of([*fleet({"dc1": 1}, resources=small), *fleet({"dc2": 2})])
    placed = put(spread_job(10, spread(max_skew=1)), table)
    assert by(placed, table) == {"dc1": 2, "dc2": 3}
    metric = placed.failed["g"]
    assert (placed.queued, metric.constraint_filtered, metric.dimension_exhausted) == ({"g": 5}, {"max_skew 1": 2}, {"cpu": 1, "memory": 1})


def test_distinct_property_and_spread_hold_together() -> None:
    table = table_of(fleet({"dc1": 4, "dc2": 4}))
    limit = Constraint(ltarget="${meta.rack}", operand="distinct_property", rtarget="2")
    placed = put(spread_job(10, spread(dc1=50, dc2=50), constraints=(limit,)), table)
    assert by(placed, table) == {"dc1": 4, "dc2": 4}
    assert by(placed, table, "rack") == {"r0": 2, "r1": 2, "r2": 2, "r3": 2}


def test_an_affinity_chooses_among_nodes_and_never_over_the_spread() -> None:
    table = table_of(fleet({"dc1": 4, "dc2": 4}))
    liked = Affinity(ltarget="${meta.rack}", operand="=", rtarget="r2", weight=100)
    placed = put(spread_job(4, spread(), affinities=(liked,)), table)
    assert by(placed, table) == {"dc1": 2, "dc2": 2}
    assert by(placed, table, "rack") == {"r2": 4}
    hated = Affinity(ltarget="${meta.rack}", operand="in", rtarget="r0,r1,r2", weight=-100)
    placed = put(spread_job(2, affinities=(hated,)), table_of(fleet({"dc1": 4})))
    assert {one.node_id for one in placed.allocs} == {"dc1-3"}
