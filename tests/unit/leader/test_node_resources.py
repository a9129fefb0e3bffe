"""Whole cores, host networks and host volumes: where an alloc that asks for them goes, and what is said when nowhere."""

import random
from typing import Any

import pytest

from leader.decide.explain import Filter, Question, answers
from leader.decide.feasible import FeasibleCache
from leader.decide.place import place
from leader.decide.preempt import Victim
from leader.decide.remedies import remedies
from leader.decide.table import NodeTable, ask_of
from model.alloc import AllocatedPort, AllocId, EvalId, TaskCores
from model.job import Job, JobId, Network, Port, Resources, TaskGroup, VolumeRequest
from model.node import HostNetwork, HostVolume, NodeId, NodeResources, ReservedResources
from model.plan import Placed, PlaceRequest
from model.snapshot import NodeView
from tests.build import alloc, group, job, task, view
from tests.unit.leader.test_place import put, requests, table_of, where, why


def cores_view(name: str, cores: tuple[int, ...] = (0, 1, 2, 3), **more: Any) -> NodeView:
    """1000 MHz a core."""
    offer = NodeResources(cpu_mhz=4000, memory_mb=4000, disk_mb=4000, total_cores=4, reservable_cores=cores)
    return view(name, resources=offer, **more)


def cores_job(count: int, *cores: int, **more: Any) -> Job:
    tasks = tuple(
        task(name=f"t{number}", resources=Resources(cpu=0, cores=wanted, memory_mb=10)) for number, wanted in enumerate(cores)
    )
    return job(groups=(group(count, tasks=tasks),), **more)


def given(placed: Placed) -> list[dict[str, tuple[int, ...]]]:
    return [{one.task: one.ids for one in alloc.cores} for alloc in placed.allocs]


# -- cores


def test_each_task_gets_cores_that_no_other_has() -> None:
    table = table_of(cores_view("n1"))
    placed = put(requests(cores_job(2, 1, 1)), table)
    assert given(placed) == [{"t0": (0,), "t1": (1,)}, {"t0": (2,), "t1": (3,)}]
    assert table.used[0].tolist() == [4000.0, 40.0, 20.0, 4.0]
    for one in placed.allocs:
        table.free(one.id)
    assert (table.used[0].tolist(), dict(table.cores_used(0))) == ([0.0] * 4, {})


def test_cores_that_the_node_keeps_or_does_not_offer_are_not_given() -> None:
    keeps = ReservedResources(cpu_mhz=1000, cores=(1,))
    placed = put(requests(cores_job(3, 1)), table_of(cores_view("n1", (1, 2, 7), reserved=keeps)))
    assert given(placed) == [{"t0": (2,)}, {"t0": (7,)}]
    assert why(placed).dimension_exhausted == {"cores": 1}


def test_a_node_without_enough_cores_says_cores_and_nothing_of_their_mhz() -> None:
    placed = put(requests(cores_job(1, 5)), table_of(cores_view("n1"), view("n2")))
    assert why(placed).dimension_exhausted == {"cores": 2}


def test_the_mhz_of_whole_cores_are_gone_for_those_that_share_and_the_other_way_round() -> None:
    table = table_of(cores_view("n1"))
    put(requests(cores_job(1, 3)), table)
    shares = job(groups=(group(2, tasks=(task(resources=Resources(cpu=700, memory_mb=10)),)),))
    placed = put(requests(shares), table, seed=2)
    assert (len(placed.allocs), why(placed).dimension_exhausted) == (1, {"cpu": 1})
    # One core is free, but its MHz are shared already.
    placed = put(requests(cores_job(1, 1)), table, seed=3)
    assert why(placed).dimension_exhausted == {"cpu": 1}


def test_cores_count_for_the_mhz_that_they_are_on_each_node() -> None:
    slow = NodeResources(cpu_mhz=4000, memory_mb=4000, disk_mb=4000, total_cores=8, reservable_cores=tuple(range(8)))
    table = table_of(cores_view("n1"), view("n2", resources=slow))
    placed = put(requests(cores_job(4, 2)), table)
    used = {one.node_id: table.used[table.rows[one.node_id]].tolist()[0::3] for one in placed.allocs}
    assert used["n1"][0] == 1000 * used["n1"][1]
    assert used["n2"][0] == 500 * used["n2"][1]


def test_an_alloc_keeps_its_cores_in_the_table_of_a_leader_that_only_reads_them() -> None:
    table = table_of(cores_view("n1"))
    of = cores_job(1, 2)
    table.hold(AllocId("a"), NodeId("n1"), ask_of(of.task_groups[0]), (), (TaskCores(task="t0", ids=(0, 2)),))
    assert given(put(requests(cores_job(1, 2)), table)) == [{"t0": (1, 3)}]


def test_an_update_takes_the_cores_of_the_alloc_that_it_replaces() -> None:
    table = table_of(cores_view("n1"))
    of = cores_job(1, 4)
    old = alloc(of=of)
    table.hold(old.id, NodeId("n1"), ask_of(of.task_groups[0]), (), (TaskCores(task="t0", ids=(0, 1, 2, 3)),))
    again = PlaceRequest(job=of, group=of.task_groups[0], name="j.g[0]", previous=old, stops=old.desired)
    assert given(put([again], table)) == [{"t0": (0, 1, 2, 3)}]


def test_who_has_the_cores_is_pushed_away_for_a_job_of_higher_priority() -> None:
    table, low = table_of(cores_view("n1")), cores_job(1, 3, id=JobId("low"), priority=20)
    holder = alloc(of=low, cores=(TaskCores(task="t0", ids=(0, 1, 2)),))
    ask = ask_of(low.task_groups[0])
    table.hold(holder.id, NodeId("n1"), ask, (), holder.desired.cores)
    high = cores_job(1, 2, priority=80)
    placed = place(
        requests(high), table=table, cache=FeasibleCache(), held={}, rng=random.Random(1), eval_id=EvalId("e"), now_ns=1, epoch=1,
        victims=lambda _: [Victim(holder.desired, 20, ask)],
    )  # fmt: skip
    assert ([one.id for one in placed.preempted], given(placed)) == ([holder.id], [{"t0": (0, 1)}])


# -- host networks

PUBLIC = HostNetwork(name="public", address="203.0.113.1", reserved_ports=(443,))


def port_job(*ports: Port, count: int = 1) -> Job:
    network = Network(
        reserved_ports=tuple(port for port in ports if port.value), dynamic_ports=tuple(port for port in ports if not port.value)
    )
    return job(groups=(group(count, networks=(network,)),))


def on(network: str, value: int = 0, label: str = "http") -> Port:
    return Port(label=label, value=value, host_network=network)


def test_a_port_is_on_the_address_of_the_network_that_it_names() -> None:
    table = table_of(view("n1"), view("n2", host_networks=(PUBLIC,)))
    placed = put(requests(port_job(on("public", 80), on("default", 80, "admin"))), table)
    assert [(one.node_id, one.ports) for one in placed.allocs] == [
        ("n2", (
            AllocatedPort(label="http", value=80, host_ip="203.0.113.1"),
            AllocatedPort(label="admin", value=80, host_ip="10.0.0.1"),
        ))
    ]  # fmt: skip


def test_a_node_without_the_network_says_so_in_nomads_words() -> None:
    placed = put(requests(port_job(on("public", 80))), table_of(view("n1")))
    assert why(placed).constraint_filtered == {'missing host network "public" for port "http"': 1}


def test_a_networks_name_may_come_from_the_node() -> None:
    table = table_of(view("n1"), view("n2", meta={"edge": "public"}, host_networks=(PUBLIC,)))
    placed = put(requests(port_job(on("${meta.edge}", 80))), table)
    assert [one.ports[0].host_ip for one in placed.allocs] == ["203.0.113.1"]
    placed = put(requests(port_job(on("${meta.edge}", 80))), table_of(view("n1")))
    assert why(placed).constraint_filtered == {'invalid host network "${meta.edge}" template for port "http"': 1}
    placed = put(requests(port_job(on("${attr.unique.net}", 80))), table_of(view("n1", attributes={"unique.net": "other"})))
    assert why(placed).constraint_filtered == {'missing host network "other" for port "http"': 1}


@pytest.mark.parametrize(("number", "is_free"), [(443, False), (22, False), (8443, True)])
def test_ports_that_a_network_or_the_node_keeps_are_not_given_there(number: int, is_free: bool) -> None:
    table = table_of(view("n1", host_networks=(PUBLIC,), reserved=ReservedResources(ports=(22,))))
    assert bool(where(put(requests(port_job(on("public", number))), table))) is is_free


def test_a_port_kept_on_one_network_is_free_on_the_others_unless_they_share_the_address() -> None:
    assert where(put(requests(port_job(on("", 443))), table_of(view("n1", host_networks=(PUBLIC,)))))
    same = HostNetwork(name="public", address="10.0.0.1", reserved_ports=(443,))
    assert not where(put(requests(port_job(on("", 443))), table_of(view("n1", host_networks=(same,)))))


def test_a_taken_port_is_taken_under_every_name_of_its_address() -> None:
    names = tuple(HostNetwork(name=name, address="203.0.113.1") for name in ("public", "outside"))
    table = table_of(view("n1", host_networks=names))
    put(requests(port_job(on("public", 80))), table)
    placed = put(requests(port_job(on("outside", 80))), table)
    assert why(placed).dimension_exhausted == {"network: reserved port collision http=80": 1}
    assert where(put(requests(port_job(on("", 80))), table)) == ["n1"]


def test_a_network_with_no_dynamic_port_left_says_so_though_another_has_some() -> None:
    narrow = NodeResources(cpu_mhz=1000, memory_mb=1000, disk_mb=1000, min_dynamic_port=20000, max_dynamic_port=20000)
    table = table_of(view("n1", host_networks=(PUBLIC,), resources=narrow))
    placed = put(requests(port_job(on("public"), count=2)), table)
    assert (len(placed.allocs), why(placed).dimension_exhausted) == (1, {"network: dynamic port selection failed": 1})
    assert len(put(requests(port_job(on(""))), table).allocs) == 1


def test_ports_of_a_node_that_has_another_address_now_still_count() -> None:
    table = table_of(view("n1", host_networks=(PUBLIC,)))
    put(requests(port_job(on("public", 80))), table)
    table.set_node(view("n1", address="10.0.0.9"))
    assert dict(table.ports_used(0)) == {("10.0.0.9", 80): 1}
    assert not where(put(requests(port_job(on("", 80))), table))


# -- host volumes


def volumes(*names: str, read_only: bool = False) -> dict[str, HostVolume]:
    return {name: HostVolume(name=name, path=f"/srv/{name}", read_only=read_only) for name in names}


def volume_group(count: int = 1, **more: Any) -> TaskGroup:
    request = VolumeRequest(**{"name": "v", "type": "host", "source": "data", **more})
    return group(count, volumes={"v": request})


MISSING = {"missing compatible host volumes": 1}


@pytest.mark.parametrize(
    ("offered", "read_only", "is_placed"),
    [
        (volumes("data"), False, True),
        (volumes("data"), True, True),
        (volumes("data", read_only=True), True, True),
        (volumes("data", read_only=True), False, False),
        (volumes("other"), True, False),
        ({}, True, False),
    ],
    ids=["to write", "to read", "read-only to read", "read-only to write", "another", "none"],
)
def test_a_volume_is_found_on_nodes_that_have_it_and_let_it_be_used_so(
    offered: dict[str, HostVolume], read_only: bool, is_placed: bool
) -> None:
    of = job(groups=(volume_group(read_only=read_only),))
    placed = put(requests(of), table_of(view("n1", host_volumes=offered)))
    assert bool(placed.allocs) is is_placed
    if not is_placed:
        assert why(placed).constraint_filtered == MISSING


def test_with_per_alloc_each_alloc_goes_where_its_own_volume_is() -> None:
    table = table_of(
        view("n1", host_volumes=volumes("data[1]")), view("n2", host_volumes=volumes("data[0]")), view("n3", host_volumes=volumes("data"))
    )
    placed = put(requests(job(groups=(volume_group(3, per_alloc=True),))), table)
    assert [(one.name, one.node_id) for one in placed.allocs] == [("j.g[0]", "n2"), ("j.g[1]", "n1")]
    assert why(placed).constraint_filtered == {"missing compatible host volumes": 3}
    # What one of them does not find another may.
    placed = put(list(reversed(requests(job(groups=(volume_group(3, per_alloc=True),))))), table)
    assert [one.name for one in placed.allocs] == ["j.g[1]", "j.g[0]"]


def test_nodes_that_only_their_volumes_or_networks_tell_apart_are_not_taken_for_one_another() -> None:
    table = table_of(
        view("n1"), view("n2", host_volumes=volumes("data", read_only=True)), view("n3", host_volumes=volumes("data")),
        view("n4", host_networks=(PUBLIC,)),
    )  # fmt: skip
    assert len(set(table.class_of[:4].tolist())) == 4
    assert where(put(requests(job(groups=(volume_group(),))), table)) == ["n3"]


def test_a_node_that_gets_the_volume_later_is_used_then() -> None:
    table, cache, of = table_of(view("n1")), FeasibleCache(), job(groups=(volume_group(),))
    assert not where(put(requests(of), table, cache=cache))
    table.set_node(view("n1", host_volumes=volumes("data")))
    assert where(put(requests(of), table, cache=cache)) == ["n1"]


# -- what would help


def told(of: Job, *views: NodeView, table: NodeTable | None = None) -> tuple[list[tuple[Filter, str]], tuple[str, ...]]:
    question = Question(
        job=of, group=of.task_groups[0], nodes={one.id: one for one in views}, table=table or table_of(*views), held={},
        algorithm="binpack", index=0,
    )  # fmt: skip
    found = answers(question, random.Random(1))
    return [(one.filter, one.reason) for one in found], remedies(question, found, 1, lambda node, port: f"{port[0]}'s")


def test_too_few_cores_are_told_with_how_many_there_are() -> None:
    table = table_of(cores_view("n1"), cores_view("n2", (0, 1)))
    holder = cores_job(1, 1)
    table.hold(AllocId("a"), NodeId("n1"), ask_of(holder.task_groups[0]), (), (TaskCores(task="t0", ids=(3,)),))
    found, sentences = told(cores_job(1, 4), cores_view("n1"), cores_view("n2", (0, 1)), table=table)
    assert found == [(Filter.ROOM, "cores"), (Filter.ROOM, "cores")]
    assert sentences == (
        "cores: 1 short on the best node (n1): 4 asked for, 3 of 4 free",
        "cores: too small even when empty: n2 (4 asked for, at most 2 there)",
    )


def test_a_missing_volume_and_a_read_only_one_are_told_apart() -> None:
    found, sentences = told(
        job(groups=(volume_group(per_alloc=True),)), view("n1"), view("n2", host_volumes=volumes("data[0]", read_only=True))
    )
    assert found == [(Filter.VOLUME, "missing compatible host volumes")] * 2
    assert sentences == (
        "host volume data[0]: not on n1",
        "host volume data[0]: asked for to write, read-only on n2",
    )


def test_a_missing_network_and_a_port_that_is_held_on_one_are_told() -> None:
    of, has = port_job(on("public", 80)), view("n2", host_networks=(PUBLIC,))
    table = table_of(view("n1"), has)
    put(requests(of), table)
    found, sentences = told(of, view("n1"), has, table=table)
    missing = 'missing host network "public" for port "http"'
    assert found == [(Filter.NETWORK, missing), (Filter.PORTS, "network: reserved port collision http=80")]
    assert sentences == ('port 80 (http) is held by job "203.0.113.1\'s" on n2', f"{missing}: n1")
