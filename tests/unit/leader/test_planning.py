"""A trial leaves no trace, says what deciding would do, and explains each "no" as the evaluation's metrics count it."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.plans import why_document
from cli import job_why
from jobspec.diff import job_diff
from leader import explaining, planning
from leader.decide.explain import Filter, NodeAnswer, Question, answers
from leader.decide.feasible import FeasibleCache
from leader.decide.forecast import GroupUpdates, annotated
from leader.decide.place import held_by, place
from leader.decide.table import NodeTable, ask_of
from leader.deciding import Deciding
from leader.explaining import JobWhy
from leader.leading import Leading
from leader.planning import Forecast
from leader.view import View
from model.alloc import Alloc, ClientStatus, DesiredStatus, EvalId
from model.cluster import JobRecord, PreemptionConfig, SchedulerConfiguration
from model.job import (
    Constraint,
    Job,
    JobId,
    JobType,
    Network,
    Port,
    ReschedulePolicy,
    Resources,
    Spread,
    UpdateStrategy,
    VolumeRequest,
)
from model.node import Eligibility, HostNetwork, HostVolume, NodeResources
from model.plan import PlaceRequest
from model.snapshot import NodeView, Reach, Settings
from model.wire import Nanoseconds
from tests.build import SECOND, alloc, group, job, port_group, rolling, task, view

NOW_NS = 1_000 * SECOND


def leading(*nodes: NodeView, jobs: tuple[Job, ...] = (), allocs: tuple[Alloc, ...] = (), **how: Any) -> Leading:
    """As much of a term as a trial looks at."""
    known = View()
    for node in nodes:
        known.put_node(node.node, 1)
        known.put_control(node.control, 1)
        known.put_reach(node.id, node.reach, 0.0)
    for one in jobs:
        known.put_version(one, 5, 7)
        known.put_record(JobRecord(namespace=one.namespace, job_id=one.id, version=one.version, modify_time=0, epoch=1), 5, 7)
    for held in allocs:
        known.put_desired(held.desired, held.create_index, held.desired_index)
        if held.observed:
            known.put_observed(held.observed, held.observed_index)
    fenced = cast(Any, SimpleNamespace(now_ns=NOW_NS, epoch=1, new_id=lambda: "d1"))
    known.put_scheduler(SchedulerConfiguration(**how), 1, 1)
    knobs = Settings()
    deciding = Deciding(fenced=fenced, store=cast(Any, None), view=known, settings=knobs)
    return cast(Leading, SimpleNamespace(view=known, settings=knobs, fenced=fenced, deciding=deciding))


async def forecast(of: Leading, wanted: Job) -> Forecast:
    return planning.forecast(of, wanted, has_diff=True)


async def why(of: Leading, wanted: Job) -> JobWhy:
    return explaining.why(of, wanted)


def traces(table: NodeTable) -> object:
    """Everything that a table holds, to be compared."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else repr(value) for name, value in vars(table).items()
    }


# -- no trace


async def test_a_trial_leaves_the_table_as_it_was() -> None:
    running = alloc(of=job(2), on="n1")
    of = leading(view("n1"), view("n2"), jobs=(job(2),), allocs=(running,))
    before = traces(of.view.table)
    await forecast(of, job(5, groups=(port_group(5),), version=0))
    await why(of, job(50))
    assert (traces(of.view.table), of.view.dirty) == (before, of.view.dirty)


async def test_a_trial_that_fails_half_way_leaves_the_table_as_it_was() -> None:
    broken = group(1, name="z", tasks=(task(resources=Resources(cpu=cast(Any, None))),))
    of = leading(view("n1"), view("n2"))
    before = traces(of.view.table)
    with pytest.raises(TypeError):
        await forecast(of, job(groups=(group(5), broken)))
    assert traces(of.view.table) == before


# -- what would happen


async def test_a_new_job_is_created() -> None:
    found = await forecast(leading(view("n1")), job(2))
    assert (found.updates, found.failed, found.job_modify_index) == ({"g": GroupUpdates(place=2)}, {}, None)
    assert found.diff is not None
    assert (found.diff["Type"], found.diff["TaskGroups"][0]["Updates"]) == ("Added", {"create": 2})
    assert found.diff["TaskGroups"][0]["Tasks"][0]["Annotations"] == ["forces create"]


CHANGES = {
    "nothing": (rolling(3, 1), GroupUpdates(ignore=3)),
    "the count up": (job(groups=(msgspec.structs.replace(rolling(3, 1).task_groups[0], count=5),)), GroupUpdates(in_place_update=3, place=2)),
    "the count down": (job(groups=(msgspec.structs.replace(rolling(3, 1).task_groups[0], count=1),)), GroupUpdates(in_place_update=1, stop=2)),
    "the command": (rolling(3, 1, command="b"), GroupUpdates(destructive_update=1, ignore=2)),
    "the command, all at once": (
        job(groups=(msgspec.structs.replace(rolling(3, 1, command="b").task_groups[0], update=UpdateStrategy(max_parallel=0)),)),
        GroupUpdates(destructive_update=3),
    ),
    "the priority": (rolling(3, 1), GroupUpdates(in_place_update=3)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_is_counted_by_what_it_does(name: str) -> None:
    old = rolling(3, 1)
    new, updates = CHANGES[name]
    if name == "the priority":
        new = msgspec.structs.replace(new, priority=70)
    running = tuple(alloc(index, of=old) for index in range(3))
    found = await forecast(leading(view("n1"), jobs=(old,), allocs=running), new)
    assert (found.updates, found.failed, found.job_modify_index) == ({"g": updates}, {}, 7)


async def test_what_a_job_no_longer_has_is_stopped_and_so_is_all_of_a_stopped_job() -> None:
    old = job(groups=(group(1), group(1, name="gone")))
    running = (alloc(of=old), alloc(of=old, group="gone"))
    of = leading(view("n1"), jobs=(old,), allocs=running)
    assert (await forecast(of, job(groups=(group(1),)))).updates == {
        "g": GroupUpdates(in_place_update=1),
        "gone": GroupUpdates(stop=1),
    }
    stopped = msgspec.structs.replace(old, stop=True)
    assert (await forecast(of, stopped)).updates == {"g": GroupUpdates(stop=1), "gone": GroupUpdates(stop=1)}


async def test_what_would_be_pushed_away_is_named() -> None:
    low = job(1, id=JobId("low"), priority=20, groups=(group(1, tasks=(task(resources=Resources(cpu=100, memory_mb=900)),)),))
    victim = alloc(of=low)
    wanted = job(1, priority=80)
    wanted = msgspec.structs.replace(wanted, task_groups=low.task_groups)
    of = leading(view("n1"), jobs=(low,), allocs=(victim,), preemption_config=PreemptionConfig(service_scheduler_enabled=True))
    found = await forecast(of, wanted)
    assert ([one.id for one in found.preempted], found.updates) == ([victim.id], {"g": GroupUpdates(place=1, preemptions=1)})
    off = leading(view("n1"), jobs=(low,), allocs=(victim,))
    (told,) = (await why(off, wanted)).groups
    assert told.remedies == (
        "memory: 800 MB short on the best node (n1): 900 MB asked for, 100 of 1000 MB free",
        'preemption would make room for one (ending 1 of job "low"), but is off for service jobs',
    )


TASK_EDITS = {
    "config": (task(config={"command": "b"}), ["forces create/destroy update"]),
    "constraint": (task(constraints=(Constraint(ltarget="a", rtarget="a"),)), ["forces in-place update"]),
    "nothing": (task(), None),
}


@pytest.mark.parametrize("name", TASK_EDITS)
def test_an_edited_task_is_annotated_by_what_reconcile_would_do(name: str) -> None:
    new, expected = TASK_EDITS[name]
    one, other = job(groups=(group(1, tasks=(task(),)),)), job(groups=(group(1, tasks=(new,)),))
    shown = annotated(job_diff(one, other), {}, one, other)
    assert shown["TaskGroups"][0]["Tasks"][0]["Annotations"] == expected


def test_counts_and_tasks_that_come_and_go_are_annotated() -> None:
    two = (task(), task(name="second"))
    one, other = job(groups=(group(3, tasks=two), group(1, name="old"))), job(groups=(group(1), group(1, name="new")))
    shown = {g["Name"]: g for g in annotated(job_diff(one, other), {}, one, other)["TaskGroups"]}
    count = next(field for field in shown["g"]["Fields"] if field["Name"] == "Count")
    assert count["Annotations"] == ["forces destroy"]
    assert [t["Annotations"] for t in shown["g"]["Tasks"]] == [["forces create/destroy update"], None]
    assert shown["old"]["Tasks"][0]["Annotations"] == ["forces destroy"]
    assert shown["new"]["Tasks"][0]["Annotations"] == ["forces create"]


# -- why


async def test_a_failed_alloc_that_waits_is_not_missing() -> None:
    policy = ReschedulePolicy(delay=Nanoseconds(60 * SECOND), delay_function="constant", unlimited=True)
    of = job(groups=(group(2, reschedule_policy=policy),))
    failed = alloc(1, of=of, status=ClientStatus.FAILED, reported_ns=NOW_NS)
    found = await why(leading(view("n1"), jobs=(of,), allocs=(alloc(0, of=of), failed)), of)
    assert (found.groups[0].missing, found.groups[0].failed, found.retry_at) == (0, 1, NOW_NS + 60 * SECOND)


async def test_of_an_update_without_room_the_older_version_is_told_to_run_on() -> None:
    old = rolling(3, 1)
    running = tuple(alloc(index, of=old) for index in range(3))
    large = job(groups=(group(3, update=UpdateStrategy(max_parallel=1), tasks=(task(resources=Resources(cpu=1, memory_mb=1200)),)),))
    of = leading(view("n1"), jobs=(old,), allocs=running)
    (told,) = (await why(of, large)).groups
    assert (told.wanted, told.missing, told.updating) == (3, 1, 1)
    assert told.remedies == ("memory: too small even when empty: n1 (1200 MB asked for, at most 1000 there)",)
    found = await forecast(of, large)
    assert (found.updates, set(found.failed)) == ({"g": GroupUpdates(destructive_update=1, ignore=2)}, {"g"})


async def test_a_system_job_that_fits_no_node_says_so() -> None:
    of = job(1, type=JobType.SYSTEM, datacenters=("dc9",))
    (told,) = (await why(leading(view("n1")), of)).groups
    assert (told.wanted, told.missing, told.nodes_asked) == (0, 0, 1)
    assert told.remedies == ("no node is in datacenter dc9 (known: dc1)",)


async def test_nodes_of_a_datacenter_that_are_all_in_virtual_ones_are_told_as_such() -> None:
    virtuals = ("red", "green", "red")
    nodes = [view(f"n{number}", datacenter="south", virtual_datacenter=one) for number, one in enumerate(virtuals)]
    of = leading(*nodes, view("n4"))

    async def remedies(*datacenters: str) -> tuple[str, ...]:
        return (await why(of, job(99, datacenters=datacenters))).groups[0].remedies[-1:]

    take = "take only jobs that name their virtual datacenter"
    assert await remedies("south") == (f"3 nodes in datacenter south {take}: green, red",)
    assert await remedies("s*", "red") == ("1 node in datacenter s* takes only jobs that name its virtual datacenter: green",)
    assert await remedies("dc1", "*") == (f"3 nodes in datacenter * {take}: green, red",)
    assert await remedies("west") == ("no node is in datacenter west (known: dc1; virtual: green, red)",)


@pytest.mark.parametrize("algorithm", ["binpack", "spread"])
async def test_a_score_has_the_names_of_the_placements_metrics(algorithm: str) -> None:
    of = leading(view("n1"), scheduler_algorithm=algorithm)
    (told,) = (await why(of, job(1))).groups
    (alloc,) = planning.attempt(of, job(1)).placed.allocs
    assert (set(alloc.scores), set(told.nodes[0].scores)) == ({"binpack"}, {"binpack", "job-anti-affinity"})


async def test_what_was_pushed_away_is_told_with_who_did_it() -> None:
    low, high = job(2, id=JobId("low"), groups=(group(2, tasks=(task(resources=Resources(cpu=600, memory_mb=1)),)),)), job(1)
    winner = alloc(of=high, identity="winner00-1")
    gone = alloc(of=low, identity="loser000-1", desired=DesiredStatus.EVICT, status=ClientStatus.COMPLETE)
    gone = replace(gone, desired=msgspec.structs.replace(gone.desired, preempted_by_allocation=winner.id))
    stays = alloc(1, of=low, identity="stays000-1")
    of = leading(view("n1"), jobs=(low, high), allocs=(gone, stays, winner))
    found = await why(of, low)
    told = list(job_why.lines(why_document(found, has_nodes=False), is_verbose=False))
    assert told[2:4] == [
        'Task Group "g": 1 of 2 allocations not placed',
        f'  Allocation loser000 was preempted by allocation winner00 of job "{high.id}"',
    ]
    forgotten = await why(leading(view("n1"), jobs=(low,), allocs=(gone, stays)), low)
    assert [one.by_job for one in forgotten.groups[0].preempted] == [""]


async def test_an_empty_cluster_says_so() -> None:
    (told,) = (await why(leading(), job(1))).groups
    assert (told.missing, told.filters, told.remedies) == (1, (), ("the cluster has no node yet",))


async def test_of_an_all_at_once_job_what_stands_in_the_way_of_the_last_is_told() -> None:
    of = job(20, all_at_once=True)
    (told,) = (await why(leading(view("n1")), of)).groups
    assert (told.missing, told.withheld) == (10, 10)
    assert (told.missing, told.remedies[0]) == (10, "cpu: 100 MHz short on the best node (n1): 100 MHz asked for, 0 of 1000 MHz free")


async def test_of_an_all_at_once_job_groups_that_find_room_are_not_told_as_placed() -> None:
    of = job(groups=(group(20), group(2, name="h")), all_at_once=True)
    found = await why(leading(view("n1")), of)
    assert [(one.wanted, one.missing, one.withheld) for one in found.groups] == [(20, 10, 10), (2, 2, 0)]
    told = [line for line in job_why.lines(why_document(found, has_nodes=False), is_verbose=False) if "Task Group" in line]
    assert told == [
        'Task Group "g": 0 of 20 allocations placed; all_at_once, and there is room for 10 of 20',
        'Task Group "h": 0 of 2 allocations placed; all_at_once, and there is room for 0 of 2',
    ]


# -- the same reasons as the metrics'

RACK = "${meta.rack}"
VOLUMES = tuple(
    {} if is_read_only is None else {"data": HostVolume(name="data", path="/srv/data", read_only=is_read_only)}
    for is_read_only in (None, False, True)
)
CONSTRAINTS = (
    (),
    (Constraint(ltarget="${attr.kernel.name}", operand="=", rtarget="linux"),),
    (Constraint(operand="distinct_hosts"),),
    (Constraint(ltarget=RACK, operand="distinct_property", rtarget="2"),),
    (Constraint(ltarget="${node.unique.name}", operand="!=", rtarget="n1"),),
)


@st.composite
def node_views(draw: st.DrawFn) -> tuple[NodeView, ...]:
    def one(number: int) -> NodeView:
        rack = draw(st.sampled_from(("r1", "r2", "")))
        return view(
            f"n{number}",
            reach=draw(st.sampled_from((Reach.PASSING, Reach.PASSING, Reach.PASSING, Reach.SILENT))),
            eligibility=draw(st.sampled_from((Eligibility.ELIGIBLE, Eligibility.ELIGIBLE, Eligibility.INELIGIBLE))),
            datacenter=draw(st.sampled_from(("dc1", "dc1", "dc2"))),
            virtual_datacenter=draw(st.sampled_from(("", "", "edge"))),
            meta={"rack": rack} if rack else {},
            attributes={"kernel.name": draw(st.sampled_from(("linux", "linux", "plan9")))},
            resources=NodeResources(
                cpu_mhz=1000,
                memory_mb=draw(st.sampled_from((90, 250, 1000))),
                disk_mb=1000,
                total_cores=4,
                reservable_cores=draw(st.sampled_from(((), (0, 1, 2)))),
            ),
            host_volumes=draw(st.sampled_from(VOLUMES)),
            host_networks=draw(st.sampled_from(((), (HostNetwork(name="public", address="203.0.113.1"),)))),
            **({"drivers": {}} if draw(st.integers(0, 5)) == 0 else {}),
        )

    return tuple(one(number) for number in range(draw(st.integers(0, 6))))


def jobs_wanted() -> Iterator[Job]:
    port = Port(label="http", value=8080, host_network="public")
    public = group(9, networks=(Network(reserved_ports=(port,)),))
    cores = group(9, tasks=(task(resources=Resources(cpu=0, cores=1, memory_mb=10)),))
    volume = group(9, volumes={"v": VolumeRequest(name="v", type="host", source="data")})
    for constraints in CONSTRAINTS:
        for plain in (group(9), port_group(9), port_group(9, static=8080), public, cores, volume):
            for spreads in ((), (Spread(attribute=RACK, max_skew=1),)):
                wanted = msgspec.structs.replace(plain, spreads=spreads)
                yield job(groups=(wanted,), constraints=constraints, datacenters=("dc1",))


JOBS = tuple(jobs_wanted())


@settings(max_examples=300, deadline=None)
@given(views=node_views(), wanted=st.sampled_from(JOBS))
def test_the_nodes_answers_counted_are_the_metric(views: tuple[NodeView, ...], wanted: Job) -> None:
    of, table = wanted.task_groups[0], NodeTable()
    for one in views:
        table.set_node(one)
    requests = [PlaceRequest(job=wanted, group=of, name=f"j.g[{index}]") for index in range(of.count)]
    placed = place(
        requests, table=table, cache=FeasibleCache(), held={}, rng=random.Random(1), eval_id=EvalId(""), now_ns=0, epoch=1
    )
    held = held_by([Alloc(desired=desired) for desired in placed.allocs])
    question = Question(
        job=wanted, group=of, nodes={one.id: one for one in views}, table=table, held=held, algorithm="binpack"
    )
    found = answers(question, random.Random(1))
    if not placed.failed:
        return
    metric = placed.failed["g"]
    assert metric.constraint_filtered == Counter(
        one.reason for one in found if one.filter in _FILTERED
    ), [(one.name, one.filter, one.reason) for one in found]
    exhausted = [one for one in found if one.filter in (Filter.ROOM, Filter.PORTS)]
    assert metric.nodes_exhausted == len(exhausted)
    assert metric.nodes_evaluated == sum(one.filter not in (Filter.NOT_READY, Filter.DATACENTER) for one in found)
    assert not [one for one in found if one.filter is Filter.NONE]
    assert set(metric.dimension_exhausted) == {reason for one in exhausted for reason in _reasons(one)}


_FILTERED = (
    *(Filter.DRIVER, Filter.CONSTRAINT, Filter.VOLUME, Filter.NETWORK),
    *(Filter.DISTINCT_HOSTS, Filter.DISTINCT_PROPERTY, Filter.MAX_SKEW),
)


def _reasons(one: NodeAnswer) -> list[str]:
    return list(one.short) if one.filter is Filter.ROOM else [one.reason]


def test_the_room_that_is_short_is_told() -> None:
    table = NodeTable()
    table.set_node(view("n1"))
    wanted = job(groups=(group(1, tasks=(task(resources=Resources(cpu=1300, memory_mb=1)),)),))
    question = Question(
        job=wanted, group=wanted.task_groups[0], nodes={one.id: one for one in (view("n1"),)}, table=table, held={}, algorithm="binpack"
    )
    (one,) = answers(question, random.Random(1))
    assert (one.filter, one.reason, one.short) == (Filter.ROOM, "cpu", {"cpu": 300})
    assert ask_of(wanted.task_groups[0]).cpu_mhz == 1300
