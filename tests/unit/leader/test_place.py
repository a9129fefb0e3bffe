"""Where a missing alloc goes, and what is said when it goes nowhere: checked against brute force on small worlds."""

import dataclasses
import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from leader.decide.constraints import violated
from leader.decide.feasible import FeasibleCache, in_datacenters
from leader.decide.place import place
from leader.decide.table import NodeTable, ask_of
from model.alloc import Alloc, AllocatedPort, AllocId, ClientStatus, DesiredAlloc, DesiredStatus, EvalId
from model.evaluation import PlacementMetric
from model.job import Constraint, EphemeralDisk, Job, Lifecycle, Network, Port, Resources, TaskGroup
from model.node import DriverInfo, Eligibility, NodeId, NodeResources, ReservedResources
from model.plan import Placed, PlaceRequest
from model.snapshot import NodeView, Reach
from tests.build import alloc, group, job, port_group, task, view

LINUX = Constraint(ltarget="${attr.kernel.name}", operand="=", rtarget="linux")
DISTINCT = Constraint(operand="distinct_hosts")


def by_rack(limit: str = "") -> Constraint:
    return Constraint(ltarget="${meta.rack}", operand="distinct_property", rtarget=limit)


def table_of(*views: NodeView) -> NodeTable:
    table = NodeTable()
    for one in views:
        table.set_node(one)
    return table


def requests(of: Job, count: int = 0, group_name: str = "g") -> list[PlaceRequest]:
    wanted = of.group(group_name)
    assert wanted is not None
    return [
        PlaceRequest(job=of, group=wanted, name=f"{of.id}.{group_name}[{index}]") for index in range(count or wanted.count)
    ]


def put(
    wanted: Sequence[PlaceRequest],
    table: NodeTable,
    held: Mapping[str, Mapping[NodeId, int]] = {},
    seed: int = 1,
    cache: FeasibleCache | None = None,
    leaving: Sequence[AllocId] = (),
) -> Placed:
    return place(
        wanted,
        table=table,
        cache=cache or FeasibleCache(),
        held=held,
        leaving=leaving,
        rng=random.Random(seed),
        eval_id=EvalId("e"),
        now_ns=7,
        epoch=3,
    )


def where(placed: Placed) -> list[str]:
    return [one.node_id for one in placed.allocs]


def why(placed: Placed, group_name: str = "g") -> PlacementMetric:
    return placed.failed[group_name]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ({"": 100}, 100),
        ({"": 100, "prestart": 60}, 100),
        ({"": 100, "prestart": 160}, 160),
        ({"": 100, "prestart": 60, "prestart sidecar": 50}, 150),
        ({"": 100, "prestart": 120, "prestart sidecar": 50}, 170),
        ({"": 100, "poststart": 20, "poststart sidecar": 30, "poststop": 40}, 150),
        ({"": 100, "poststop": 140}, 140),
    ],
    ids=str,
)
def test_an_alloc_takes_what_its_tasks_take_at_the_fullest_moment(sizes: Mapping[str, int], expected: int) -> None:
    tasks = tuple(
        task(
            name=f"t{number}",
            resources=Resources(cpu=size, memory_mb=2 * size),
            lifecycle=Lifecycle(hook=kind.split()[0], sidecar=kind.endswith("sidecar")) if kind else None,
        )
        for number, (kind, size) in enumerate(sizes.items())
    )
    ask = ask_of(group(tasks=tasks))
    assert (ask.cpu_mhz, ask.memory_mb, ask.disk_mb) == (expected, 2 * expected, 10)


# -- one alloc


def test_an_alloc_is_placed_as_a_whole_document() -> None:
    of = job(1)
    placed = put(requests(of), table_of(view("n1")))
    (one,) = placed.allocs
    assert one == DesiredAlloc(
        id=one.id, name="j.g[0]", namespace=of.namespace, job_id=of.id, job_version=0, task_group="g",
        node_id=NodeId("n1"), node_name="n1", eval_id=EvalId("e"), create_time=7, modify_time=7, epoch=3,
        scores={"binpack": 0.2285},
    )
    assert len(one.id) == 36
    assert (placed.failed, placed.queued) == ({}, {"g": 0})


def test_the_fuller_node_is_taken_and_a_node_with_one_of_the_group_is_left_for_the_next() -> None:
    table = table_of(view("n1"), view("n2"))
    other = alloc(of=job(1), on="n2")
    table.hold(other.id, NodeId("n2"), ask_of(group()), ())
    assert where(put(requests(job(1)), table)) == ["n2"]
    assert sorted(where(put(requests(job(2)), table_of(view("n1"), view("n2"))))) == ["n1", "n2"]


def test_a_node_where_it_failed_is_tried_last_but_is_tried() -> None:
    before = alloc(on="n1", status=ClientStatus.FAILED)
    of = job(1)
    again = PlaceRequest(job=of, group=of.task_groups[0], name="j.g[0]", previous=before)
    placed = put([again], table_of(view("n1"), view("n2")))
    assert (where(placed), placed.allocs[0].previous_allocation) == (["n2"], before.id)
    assert where(put([again], table_of(view("n1")))) == ["n1"]


def test_a_request_for_one_node_is_placed_there_or_nowhere() -> None:
    of = job(1)
    wanted = PlaceRequest(job=of, group=of.task_groups[0], name="j.g[0]", node_id="n2")
    assert where(put([wanted], table_of(view("n1"), view("n2")))) == ["n2"]
    assert where(put([wanted], table_of(view("n1")))) == []


@pytest.mark.parametrize(
    "refusing",
    [
        view("n2", eligibility=Eligibility.INELIGIBLE),
        view("n2", reach=Reach.SILENT),
        view("n2", reach=Reach.AGENT_DOWN),
        view("n2", drivers={}),
        view("n2", drivers={"raw_exec": DriverInfo(detected=True, healthy=False)}),
        view("n2", datacenter="dc2"),
        view("n2", virtual_datacenter="edge"),
        view("n2", attributes={"kernel.name": "plan9"}),
        view("n2", resources=NodeResources(cpu_mhz=99, memory_mb=1000, disk_mb=1000)),
        view("n2", reserved=ReservedResources(memory_mb=950)),
    ],
    ids=["ineligible", "silent", "agent down", "no driver", "ill driver", "elsewhere", "virtual", "constraint", "cpu", "reserved"],
)
def test_a_node_that_refuses_gets_nothing(refusing: NodeView) -> None:
    of = job(1, constraints=(LINUX,))
    assert where(put(requests(of), table_of(refusing))) == []
    assert where(put(requests(of), table_of(refusing, view("n1")))) == ["n1"]


@pytest.mark.parametrize(
    ("names", "datacenter", "virtual", "fits"),
    [
        (("dc1",), "dc1", "", True), (("dc2",), "dc1", "", False), (("dc2", "dc1"), "dc1", "", True), (("*",), "dc1", "", True),
        (("dc*",), "dc1", "", True), (("dc1",), "dc1", "edge", False), (("edge",), "dc1", "edge", True), (("*",), "dc1", "edge", False),
        (("ed*",), "dc1", "edge", True), (("edge",), "dc1", "", False), ((), "dc1", "", False),
    ],
)
def test_a_job_enters_the_datacenters_that_it_names(names: tuple[str, ...], datacenter: str, virtual: str, fits: bool) -> None:
    assert in_datacenters(names, datacenter, virtual) is fits


# -- reasons


def test_every_no_is_told_with_its_number_of_nodes() -> None:
    of = job(3, constraints=(LINUX,))
    placed = put(
        requests(of),
        table_of(
            view("n1", attributes={"kernel.name": "plan9"}),
            view("n2", drivers={}),
            view("n3", drivers={}),
            view("n4", resources=NodeResources(cpu_mhz=50, memory_mb=50, disk_mb=1000)),
            view("n5", resources=NodeResources(cpu_mhz=50, memory_mb=500, disk_mb=1000)),
            view("n6", datacenter="dc2"),
            view("n7", eligibility=Eligibility.INELIGIBLE),
        ),
    )
    assert (placed.allocs, placed.queued) == ((), {"g": 3})
    assert why(placed) == PlacementMetric(
        nodes_evaluated=5,
        nodes_filtered=3,
        nodes_exhausted=2,
        nodes_available={"dc1": 5},
        constraint_filtered={"${attr.kernel.name} = linux": 1, "missing drivers: raw_exec": 2},
        dimension_exhausted={"cpu": 2, "memory": 1},
        coalesced_failures=2,
    )


def test_a_cluster_without_nodes_says_so() -> None:
    metric = why(put(requests(job(1)), table_of()))
    assert (metric.nodes_evaluated, metric.nodes_available, metric.constraint_filtered, metric.dimension_exhausted) == (0, {}, {}, {})


def test_what_does_not_fit_keeps_no_other_group_from_its_place() -> None:
    of = job(groups=(group(1, name="big", tasks=(task(resources=Resources(cpu=5000, memory_mb=1)),)), group(1, name="small")))
    placed = put([*requests(of, group_name="big"), *requests(of, group_name="small")], table_of(view("n1")))
    assert ([one.task_group for one in placed.allocs], placed.queued) == (["small"], {"big": 1, "small": 0})


def test_an_all_at_once_job_is_placed_entirely_or_not_at_all() -> None:
    groups = (group(2, name="a"), group(9, name="b"))
    table = table_of(view("n1"))
    both = [*requests(job(groups=groups), group_name="a"), *requests(job(groups=groups), group_name="b")]
    assert len(put(both, table_of(view("n1"))).allocs) == 10
    whole = job(groups=groups, all_at_once=True)
    placed = put([*requests(whole, group_name="a"), *requests(whole, group_name="b")], table)
    assert (placed.allocs, placed.queued, list(placed.failed)) == ((), {"a": 2, "b": 9}, ["b"])
    assert table.used[0].tolist() == [0.0, 0.0, 0.0, 0.0]


# -- distinct


def test_distinct_hosts_of_a_group_is_about_that_group_and_of_the_job_about_all() -> None:
    groups = (group(1, name="a"), group(1, name="b"))
    one_node = table_of(view("n1"))
    of_groups = job(groups=tuple(group(1, name=g.name, constraints=(DISTINCT,)) for g in groups))
    assert where(put([*requests(of_groups, group_name="a"), *requests(of_groups, group_name="b")], one_node)) == ["n1", "n1"]
    of_job = job(groups=groups, constraints=(DISTINCT,))
    placed = put([*requests(of_job, group_name="a"), *requests(of_job, group_name="b")], table_of(view("n1")))
    assert where(placed) == ["n1"]
    assert why(placed, "b").constraint_filtered == {"distinct_hosts": 1}
    assert where(put(requests(of_job, group_name="b"), table_of(view("n1")), {"a": {NodeId("n1"): 1}})) == []


def test_distinct_hosts_false_asks_for_nothing() -> None:
    of = job(2, constraints=(Constraint(operand="distinct_hosts", rtarget="false"),))
    assert where(put(requests(of), table_of(view("n1")))) == ["n1", "n1"]


@pytest.mark.parametrize(("limit", "most"), [("", 1), ("1", 1), ("2", 2), ("3", 3)])
def test_distinct_property_allows_so_many_of_a_value_and_none_without_it(limit: str, most: int) -> None:
    racks = {"n1": "r1", "n2": "r1", "n3": "r2", "n4": None}
    table = table_of(*(view(name, meta={"rack": rack} if rack else {}) for name, rack in racks.items()))
    placed = put(requests(job(8, constraints=(by_rack(limit),))), table)
    counts: dict[str | None, int] = {}
    for name in where(placed):
        counts[racks[name]] = counts.get(racks[name], 0) + 1
    assert counts == {"r1": most, "r2": most}
    assert "${meta.rack} distinct_property" in next(iter(why(placed).constraint_filtered))


# -- ports


def test_a_static_port_is_given_once_a_node() -> None:
    of = job(groups=(port_group(3, static=8080),))
    placed = put(requests(of), table_of(view("n1"), view("n2")))
    assert sorted(where(placed)) == ["n1", "n2"]
    assert [one.ports for one in placed.allocs] == [(AllocatedPort(label="http", value=8080, to=0, host_ip="10.0.0.1"),)] * 2
    assert why(placed).dimension_exhausted == {"network: reserved port collision http=8080": 2}


def test_a_port_that_the_node_keeps_for_itself_is_never_given() -> None:
    keeps = ReservedResources(ports=(8080, 20000))
    assert where(put(requests(job(groups=(port_group(1, static=8080),))), table_of(view("n1", reserved=keeps)))) == []
    narrow = NodeResources(cpu_mhz=1000, memory_mb=1000, disk_mb=1000, min_dynamic_port=20000, max_dynamic_port=20001)
    placed = put(requests(job(groups=(port_group(2),))), table_of(view("n1", reserved=keeps, resources=narrow)))
    assert [[port.value for port in one.ports] for one in placed.allocs] == [[20001]]
    assert why(placed).dimension_exhausted == {"network: dynamic port selection failed": 1}


def test_the_last_free_port_of_a_range_is_found() -> None:
    narrow = NodeResources(cpu_mhz=10**6, memory_mb=10**6, disk_mb=10**6, min_dynamic_port=20000, max_dynamic_port=20099)
    placed = put(requests(job(groups=(port_group(101),))), table_of(view("n1", resources=narrow)))
    assert sorted(one.ports[0].value for one in placed.allocs) == list(range(20000, 20100))


def test_ports_of_tasks_and_of_the_group_are_told_apart() -> None:
    both = group(
        1,
        networks=(Network(dynamic_ports=(Port(label="a", to=-1), Port(label="b", to=80))),),
        tasks=(task(resources=Resources(cpu=1, memory_mb=1, networks=(Network(dynamic_ports=(Port(label="c"),)),))),),
    )
    (one,) = put(requests(job(groups=(both,))), table_of(view("n1"))).allocs
    ports = {port.label: port for port in one.ports}
    assert len({port.value for port in one.ports}) == 3
    assert (ports["a"].to, ports["b"].to, ports["c"].to) == (ports["a"].value, 80, 0)


# -- the cache


def test_a_job_of_the_same_name_and_version_with_other_constraints_is_looked_at_anew() -> None:
    table, cache = table_of(view("n1")), FeasibleCache()
    nowhere = Constraint(ltarget="${attr.kernel.name}", operand="=", rtarget="plan9")
    assert where(put(requests(job(1, constraints=(nowhere,))), table, cache=cache)) == []
    assert where(put(requests(job(1)), table, cache=cache)) == ["n1"]


@pytest.mark.parametrize(
    "after",
    [view("n1", attributes={"kernel.name": "linux"}), view("n1", drivers={"raw_exec": DriverInfo(detected=True, healthy=True)})],
)
def test_a_node_that_changed_is_looked_at_anew(after: NodeView) -> None:
    table, cache = table_of(view("n1", attributes={"kernel.name": "plan9"})), FeasibleCache()
    of = job(1, constraints=(LINUX,))
    assert where(put(requests(of), table, cache=cache)) == []
    table.set_node(after)
    assert where(put(requests(of), table, cache=cache)) == ["n1"]


# -- all small worlds against brute force


@dataclass(frozen=True)
class World:
    views: tuple[NodeView, ...]
    of: Job


def worlds() -> Iterator[World]:
    kinds = (
        {"meta": {"rack": "r1"}},
        {"meta": {"rack": "r2"}, "resources": NodeResources(cpu_mhz=250, memory_mb=120, disk_mb=1000)},
        {"attributes": {"kernel.name": "plan9"}, "meta": {"rack": "r1"}},
        {"eligibility": Eligibility.INELIGIBLE},
    )
    constraint_sets: tuple[tuple[Constraint, ...], ...] = ((), (LINUX,), (DISTINCT,), (by_rack(),), (by_rack("2"), LINUX))
    groups = (group, lambda count: port_group(count, static=8080), port_group)
    for chosen in itertools.combinations_with_replacement(range(len(kinds)), 3):
        views = tuple(view(f"n{number}", **kinds[kind]) for number, kind in enumerate(chosen))  # type: ignore[arg-type]
        for constraints, make, count in itertools.product(constraint_sets, groups, (1, 2, 4)):
            yield World(views=views, of=job(groups=(make(count),), constraints=constraints))


def fits(world: World, chosen: Sequence[NodeView], one: NodeView) -> bool:
    """Whether one more alloc may go to the node, with those chosen before: the rules, written out."""
    wanted: TaskGroup = world.of.task_groups[0]
    ask, offer = ask_of(wanted), one.node.resources
    here = sum(c.id == one.id for c in chosen)
    static = any(network.reserved_ports for network in wanted.networks)
    if not one.takes_work or any(violated(c, one.node) for c in world.of.constraints):
        return False
    if (here + 1) * ask.cpu_mhz > offer.cpu_mhz or (here + 1) * ask.memory_mb > offer.memory_mb or (static and here):
        return False
    for constraint in world.of.constraints:
        if constraint.operand == "distinct_hosts" and here:
            return False
        if constraint.operand == "distinct_property":
            rack = one.node.meta.get("rack")
            if rack is None or sum(c.node.meta.get("rack") == rack for c in chosen) >= int(constraint.rtarget or 1):
                return False
    return True


def test_in_every_small_world_each_placement_is_allowed_and_a_no_means_that_none_was() -> None:
    seen = 0
    for world in worlds():
        seen += 1
        placed = put(requests(world.of), table_of(*world.views))
        by_id = {one.id: one for one in world.views}
        chosen: list[NodeView] = []
        for one in placed.allocs:
            assert fits(world, chosen, by_id[one.node_id]), world
            chosen.append(by_id[one.node_id])
        missing = world.of.task_groups[0].count - len(chosen)
        assert placed.queued == {"g": missing}
        if missing:
            assert not any(fits(world, chosen, one) for one in world.views), world
            metric = why(placed)
            assert metric.coalesced_failures == missing - 1
            assert metric.nodes_evaluated == sum(one.takes_work for one in world.views)
            assert metric.nodes_filtered == sum(metric.constraint_filtered.values())
            # Each node that takes work is filtered by one reason or has no room for one at least.
            assert metric.nodes_filtered + metric.nodes_exhausted == metric.nodes_evaluated
            if metric.nodes_exhausted:
                assert sum(metric.dimension_exhausted.values()) >= metric.nodes_exhausted
        else:
            assert placed.failed == {}
    assert seen > 800


def test_the_same_seed_makes_the_same_plan_and_another_seed_other_ids() -> None:
    def plan(seed: int) -> Placed:
        return put(requests(job(groups=(port_group(10),))), table_of(*(view(f"n{n}") for n in range(5))), seed=seed)

    assert plan(1) == plan(1)
    assert {one.id for one in plan(1).allocs}.isdisjoint(one.id for one in plan(2).allocs)


def test_room_is_taken_once_and_given_back_once() -> None:
    table = table_of(view("n1"))
    ports = (AllocatedPort(label="http", value=20000),)
    for _ in range(2):
        table.hold(AllocId("a"), NodeId("n1"), ask_of(group()), ports)
    assert (table.used[0].tolist(), table.ports_used(0)) == ([100.0, 100.0, 10.0, 0.0], {("10.0.0.1", 20000): 1})
    for _ in range(2):
        table.free(AllocId("a"))
    assert (table.used[0].tolist(), table.ports_used(0)) == ([0.0, 0.0, 0.0, 0.0], {})


# -- replacing what still runs


def replacement(of: Job, old: Alloc) -> PlaceRequest:
    (wanted,) = requests(of, 1)
    return dataclasses.replace(wanted, previous=old, stops=replace(old.desired, desired_status=DesiredStatus.STOP))


def holding(of: Job, *views: NodeView, ports: tuple[AllocatedPort, ...] = ()) -> tuple[NodeTable, Alloc]:
    """One alloc of the job on n1."""
    table, old = table_of(*views), alloc(0, of=of, ports=ports)
    table.hold(old.id, NodeId("n1"), ask_of(of.task_groups[0]), ports)
    return table, old


def test_a_replacement_may_take_the_room_of_what_it_replaces() -> None:
    big = job(groups=(group(1, tasks=(task(resources=Resources(cpu=900, memory_mb=900)),)),))
    table, old = holding(big, view("n1"))
    placed = put([replacement(big, old)], table, {"g": {NodeId("n1"): 1}})
    assert where(placed) == ["n1"]
    assert [one.id for one in placed.stopped] == [old.id]
    # Until the agent says that it ended, nobody else gets that room.
    assert table.used[0][0] == 1800


def test_a_replacement_may_take_the_static_port_of_what_it_replaces() -> None:
    of = job(groups=(port_group(1, static=8080),))
    table, old = holding(of, view("n1"), ports=(AllocatedPort(label="http", value=8080, host_ip="10.0.0.1"),))
    placed = put([replacement(of, old)], table, {"g": {NodeId("n1"): 1}})
    assert [port.value for port in placed.allocs[0].ports] == [8080]


def test_a_replacement_may_take_the_host_of_what_it_replaces_though_hosts_are_distinct() -> None:
    of = job(1, constraints=(DISTINCT,))
    table, old = holding(of, view("n1"))
    held = {"g": {NodeId("n1"): 1}}
    assert where(put([replacement(of, old)], table, held)) == ["n1"]
    assert put(requests(of), table, held).failed


def test_without_a_place_for_the_replacement_nothing_stops_and_nothing_is_given_away() -> None:
    table, old = holding(job(1), view("n1"))
    huge = job(groups=(group(1, tasks=(task(resources=Resources(cpu=99_999)),)),), version=1)
    held = {"g": {NodeId("n1"): 1}}
    placed = put([replacement(huge, old)], table, held)
    assert (placed.allocs, placed.stopped, placed.queued) == ((), (), {"g": 1})
    assert table.used[0][0] == 100
    assert held == {"g": {NodeId("n1"): 1}}


def test_what_the_job_leaves_is_free_for_the_job_alone() -> None:
    of = job(groups=(port_group(1, static=8080),))
    table, old = holding(of, view("n1"), ports=(AllocatedPort(label="http", value=8080, host_ip="10.0.0.1"),))
    assert put(requests(of), table).failed
    assert where(put(requests(of), table, leaving=[old.id])) == ["n1"]
    assert table.ports_used(0) == {("10.0.0.1", 8080): 2}


@pytest.mark.parametrize("is_sticky", [True, False])
def test_a_sticky_disk_goes_before_what_other_nodes_have_for_them(is_sticky: bool) -> None:
    of = job(groups=(group(ephemeral_disk=EphemeralDisk(size_mb=10, sticky=is_sticky)),))
    # Bin packing prefers the fuller node, n1.
    table = table_of(*(view(name) for name in ("n1", "n2")))
    other = put(requests(job(groups=(group(name="o"),)), group_name="o"), table).allocs[0]
    home = NodeId({"n1": "n2", "n2": "n1"}[other.node_id])
    old = alloc(of=of, on=home, status=ClientStatus.COMPLETE)
    (request,) = requests(of)
    (placed,) = put([dataclasses.replace(request, previous=old)], table).allocs
    assert placed.node_id == (home if is_sticky else other.node_id)
    assert placed.previous_allocation == old.id


def test_a_sticky_disk_holds_nobody_where_there_is_no_room_or_what_it_must_leave() -> None:
    of = job(groups=(group(ephemeral_disk=EphemeralDisk(size_mb=10, sticky=True)),))
    table = table_of(view("n1", eligibility=Eligibility.INELIGIBLE), view("n2"))
    (request,) = requests(of)
    old = alloc(of=of, on="n1", status=ClientStatus.COMPLETE)
    (placed,) = put([dataclasses.replace(request, previous=old)], table).allocs
    assert placed.node_id == "n2"
    table = table_of(view("n1"), view("n2"))
    (placed,) = put([dataclasses.replace(request, previous=old, avoid=NodeId("n1"))], table).allocs
    assert placed.node_id == "n2"
