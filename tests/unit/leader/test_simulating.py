"""Jobs on a made-up fleet: what a leader would decide, and each job on top of those before it."""

from collections import Counter

from msgspec.structs import replace

from leader.simulating import Simulation
from model.job import Constraint, Job, JobId, JobType, Resources, Spread, SpreadTarget
from model.snapshot import Settings
from tests.build import group, job, task

NOW_NS = 1_000


def fleet(nodes: int, *datacenters: str) -> Simulation:
    simulation = Simulation(Settings(), NOW_NS)
    simulation.add_nodes(nodes, datacenters or ("dc1",))
    return simulation


def sized(name: str, count: int, memory_mb: int, **more: object) -> Job:
    tasks = (task(resources=Resources(cpu=100, memory_mb=memory_mb)),)
    return job(id=JobId(name), groups=(group(count, tasks=tasks),), **more)


def test_a_spread_is_shown_against_its_targets() -> None:
    targets = tuple(SpreadTarget(value=name, percent=percent) for name, percent in (("a", 50), ("b", 30), ("c", 20)))
    of = sized("web", 10, 100, datacenters=("a", "b", "c"), spreads=(Spread(attribute="${node.datacenter}", spread_target=targets),))
    found = fleet(9, "a", "b", "c").run(of)
    assert found.is_placed
    (spread,) = found.groups[0].spreads
    assert [(one.value, one.target, one.actual) for one in spread.values] == [("a", 5.0, 5), ("b", 3.0, 3), ("c", 2.0, 2)]
    held = Counter[str]()
    for one in found.groups[0].nodes:
        held[one.datacenter] += one.allocs
    assert held == {"a": 5, "b": 3, "c": 2}


def test_what_finds_no_place_says_why() -> None:
    found = fleet(4).run(sized("large", 2, 1_000_000))
    assert (found.is_placed, found.groups[0].missing) == (False, 2)
    assert found.why is not None
    assert "memory" in " ".join(found.why.groups[0].remedies)


def test_each_job_finds_what_those_before_it_left() -> None:
    simulation = fleet(1)  # 8192 MB
    assert simulation.run(sized("first", 1, 8_000)).is_placed
    assert not simulation.run(sized("second", 1, 8_000)).is_placed
    assert simulation.run(sized("third", 1, 100)).is_placed


def test_a_job_that_was_there_is_replaced_in_one_go() -> None:
    simulation = fleet(2)
    simulation.run(sized("web", 4, 100))
    found = simulation.run(replace(sized("web", 6, 200), update=None))
    assert (found.groups[0].placed, found.groups[0].missing) == (6, 0)
    (key,) = simulation.view.allocs_by_job
    assert {alloc.desired.job_version for alloc in simulation.view.allocs_by_job[key].values()} == {1}


def test_a_system_job_runs_on_every_node_that_fits() -> None:
    only = (Constraint(ltarget="${node.class}", operand="=", rtarget="kind-1"),)
    found = fleet(8).run(job(id=JobId("agent"), groups=(group(1),), type=JobType.SYSTEM, constraints=only))
    assert (found.groups[0].wanted, found.groups[0].placed) == (2, 2)
    assert {one.node_class for one in found.groups[0].nodes} == {"kind-1"}


def test_twice_is_the_same() -> None:
    assert fleet(50, "a", "b").run(sized("web", 30, 100, datacenters=("*",))) == fleet(50, "a", "b").run(
        sized("web", 30, 100, datacenters=("*",))
    )
