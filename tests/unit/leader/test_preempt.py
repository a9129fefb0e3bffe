"""Whom an alloc of higher priority pushes away: the least that is enough, never its own, never its equals."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leader.decide.feasible import FeasibleCache
from leader.decide.place import place
from leader.decide.preempt import PRIORITY_DELTA, Victim, least_harm
from leader.decide.table import Ask, NodeTable, ask_of
from model.alloc import AllocatedPort, DesiredStatus, EvalId
from model.job import Constraint, Job, JobId, Resources
from model.node import NodeId
from model.plan import Placed, PlaceRequest
from tests.build import alloc, group, job, port_group, task, view

ME = ("default", JobId("me"))


def victim(name: str, priority: int, cpu: int = 100, memory: int = 100, port: int = 0, of: str = "other") -> Victim:
    ports = (AllocatedPort(label="p", value=port, host_ip="10.0.0.1"),) if port else ()
    desired = alloc(of=job(id=JobId(of)), identity=name, ports=ports).desired
    return Victim(desired, priority, Ask(cpu_mhz=cpu, memory_mb=memory, disk_mb=10))


def lost(need: tuple[float, float], free: tuple[float, float], *here: Victim, priority: int = 80, ports: frozenset[tuple[str, int]] = frozenset()) -> list[str] | None:
    harm = least_harm((*need, 10, 0), (*free, 1000, 0), ports, here, job=ME, priority=priority)  # type: ignore[arg-type]
    return sorted(one.id for one in harm.victims) if harm else None


def test_the_lowest_priority_goes_first_and_only_as_much_as_is_needed() -> None:
    here = (victim("a", 50), victim("b", 20), victim("c", 20))
    assert lost((100, 100), (0, 0), *here) == ["b"]
    assert lost((200, 200), (0, 0), *here) == ["b", "c"]
    assert lost((250, 250), (0, 0), *here) == ["a", "b", "c"]
    assert lost((400, 400), (0, 0), *here) is None


def test_of_one_priority_the_one_closest_in_size_goes() -> None:
    here = (victim("small", 20, cpu=50, memory=50), victim("right", 20, cpu=300, memory=300), victim("huge", 20, cpu=900, memory=900))
    assert lost((300, 300), (0, 0), *here) == ["right"]


def test_what_turns_out_not_to_be_needed_stays() -> None:
    here = (victim("low", 10, cpu=10, memory=10), victim("high", 30, cpu=500, memory=500))
    assert lost((500, 500), (0, 0), *here) == ["high"]


@pytest.mark.parametrize(("mine", "goes"), [(79, False), (80, True), (100, True)])
def test_jobs_close_in_priority_leave_each_other_alone(mine: int, goes: bool) -> None:
    assert (lost((100, 100), (0, 0), victim("a", 70), priority=mine) is not None) is goes


def test_never_its_own_job() -> None:
    assert lost((100, 100), (0, 0), victim("mine", 10, of="me")) is None


def test_a_static_port_makes_its_holder_go_or_nobody() -> None:
    port = frozenset({("10.0.0.1", 8080)})
    assert lost((1, 1), (500, 500), victim("holder", 20, port=8080), victim("b", 10), ports=port) == ["holder"]
    assert lost((1, 1), (500, 500), victim("holder", 75, port=8080), ports=port) is None


@settings(max_examples=300, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.sampled_from((10, 30, 50, 75)), st.integers(1, 5), st.integers(1, 5)), max_size=6),
    need=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    free=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_it_finds_room_whenever_there_is_any_and_nobody_goes_in_vain(
    sizes: list[tuple[int, int, int]], need: tuple[int, int], free: tuple[int, int]
) -> None:
    here = [victim(f"v{n}", priority, cpu, memory) for n, (priority, cpu, memory) in enumerate(sizes)]
    eligible = [one for one in here if one.priority <= 80 - PRIORITY_DELTA]

    def is_enough(going: tuple[Victim, ...] | list[Victim]) -> bool:
        return all(
            need[n] <= free[n] + sum((one.ask.cpu_mhz, one.ask.memory_mb)[n] for one in going) for n in range(2)
        )

    harm = least_harm((*need, 0, 0), (*free, 0, 0), frozenset(), here, job=ME, priority=80)  # type: ignore[arg-type]
    if is_enough([]):
        return  # it was asked though there was room
    assert (harm is not None) == is_enough(eligible)
    if harm is not None:
        assert {one.id for one in harm.victims} <= {one.id for one in eligible}
        assert is_enough(harm.victims)
        assert not any(is_enough(fewer) for fewer in itertools.combinations(harm.victims, harm.count - 1))


# -- as part of placing


def large(cpu: int, **more: object) -> Job:
    tasks = (task(resources=Resources(cpu=cpu, memory_mb=10)),)
    return job(id=JobId("me"), groups=(group(1, tasks=tasks),), priority=80, **more)


def put(of: Job, table: NodeTable, victims: dict[str, list[Victim]], count: int = 1) -> Placed:
    wanted = of.task_groups[0]
    requests = [PlaceRequest(job=of, group=wanted, name=f"me.g[{n}]") for n in range(count)]
    return place(
        requests, table=table, cache=FeasibleCache(), held={}, rng=random.Random(1), eval_id=EvalId("e"), now_ns=1, epoch=1,
        victims=lambda node: victims.get(node, []),
    )  # fmt: skip


def holding(*nodes: str, **victims: tuple[Victim, ...]) -> tuple[NodeTable, dict[str, list[Victim]]]:
    table = NodeTable()
    for name in nodes:
        table.set_node(view(name))
    for name, here in victims.items():
        for one in here:
            table.hold(one.id, NodeId(name), one.ask, one.desired.ports)
    return table, {name: list(here) for name, here in victims.items()}


def test_the_node_where_the_least_is_lost_is_taken_and_who_goes_is_told_why() -> None:
    table, here = holding("n1", "n2", n1=(victim("a", 50, cpu=1000),), n2=(victim("b", 20, cpu=600), victim("c", 20, cpu=400)))
    placed = put(large(500), table, here)
    (one,) = placed.allocs
    assert (one.node_id, one.preempted_allocations) == ("n2", ("b",))
    (gone,) = placed.preempted
    assert (gone.id, gone.desired_status, gone.desired_description) == ("b", DesiredStatus.EVICT, f"Preempted by alloc ID {one.id}")
    assert gone.preempted_by_allocation == one.id
    # Until it has ended, nobody else gets that room.
    assert table.used[1][0] == 600 + 400 + 500


def test_with_room_elsewhere_nobody_goes() -> None:
    table, here = holding("n1", "n2", n1=(victim("a", 10, cpu=900),))
    placed = put(large(500), table, here)
    assert ([one.node_id for one in placed.allocs], placed.preempted) == (["n2"], ())


def test_two_at_once_do_not_count_on_the_same_victim() -> None:
    table, here = holding("n1", n1=(victim("a", 10, cpu=500), victim("b", 20, cpu=500)))
    placed = put(large(500, constraints=()), table, here, count=3)
    assert sorted(one.id for one in placed.preempted) == ["a", "b"]
    assert (len(placed.allocs), placed.queued) == (2, {"g": 1})
    assert table.used[0][0] == 2000


def test_whom_a_constraint_keeps_off_pushes_nobody_away() -> None:
    table, here = holding("n1", n1=(victim("a", 10, cpu=1000),))
    plan9 = Constraint(ltarget="${attr.kernel.name}", operand="=", rtarget="plan9")
    placed = put(large(500, constraints=(plan9,)), table, here)
    assert (placed.allocs, placed.preempted) == ((), ())


def test_when_ports_are_short_all_the_same_everything_is_as_before() -> None:
    of = job(id=JobId("me"), groups=(port_group(1, static=22),), priority=80)
    table, here = holding("n1", "n2", n1=(victim("a", 10, cpu=950, port=8080),))
    table.hold(alloc().id, NodeId("n2"), Ask(cpu_mhz=1000, memory_mb=10, disk_mb=10), ())
    table.hold(alloc().id, NodeId("n1"), ask_of(group(1)), (AllocatedPort(label="x", value=22),))
    before = table.used[0].tolist()
    placed = put(of, table, here)
    assert (placed.allocs, placed.preempted, table.used[0].tolist()) == ((), (), before)
    metric = placed.failed["g"]
    assert (metric.nodes_evaluated, metric.nodes_exhausted) == (2, 2), "both nodes are told of"
