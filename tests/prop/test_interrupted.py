"""A plan that was cut off after any of its writes: the next decision, of whichever leader, ends in the same."""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as changed

import pytest
from msgspec.structs import replace

from leader.decide.feasible import FeasibleCache
from leader.decide.place import as_changed, held_by, leaving, place
from leader.decide.reconcile import reconcile
from leader.decide.rollout import with_placed
from leader.decide.table import NodeTable, ask_of
from model.alloc import Alloc, ClientStatus, DeploymentHealth, DesiredAlloc, EvalId, ObservedAlloc
from model.deployment import Deployment
from model.job import Job, MigrateStrategy, UpdateStrategy
from model.node import Drain, NodeId
from model.snapshot import NodeView
from model.wire import Nanoseconds
from tests.build import SECOND, alloc, group, job, task, view

HOUR = 3600 * SECOND
NODES = ("n1", "n2", "n3")


@dataclass(frozen=True)
class World:
    job: Job
    versions: dict[int, Job]
    allocs: tuple[Alloc, ...]
    nodes: dict[NodeId, NodeView]
    deployments: tuple[Deployment, ...] = ()
    stable: frozenset[int] = frozenset({0})
    now_ns: int = HOUR


Step = Deployment | tuple[DesiredAlloc, ...]


def decide(world: World) -> list[Step]:
    """The writes, in their order: deployments, then changes, then each new alloc with the stop of what it replaces."""
    table = NodeTable()
    for node in world.nodes.values():
        table.set_node(node)
    for one in world.allocs:
        of = world.versions[one.desired.job_version].group("g")
        if not one.is_terminal and of is not None:
            table.hold(one.id, one.desired.node_id, ask_of(of), one.desired.ports)
    needed = reconcile(
        world.job,
        world.allocs,
        versions=world.versions,
        nodes=world.nodes,
        now_ns=world.now_ns,
        gc_after_ns=100 * HOUR,
        deployment=world.deployments[-1] if world.deployments else None,
        stable=world.stable,
        new_deployment_id=f"d{len(world.deployments)}",
    )
    allocs, placed = as_changed(world.allocs, needed), []
    stops: dict[str, DesiredAlloc] = {}
    for _, requests in itertools.groupby(sorted(needed.place, key=lambda r: r.job.version), key=lambda r: r.job.version):
        found = place(
            list(requests),
            table=table,
            cache=FeasibleCache(),
            held=held_by(allocs),
            staying=held_by(a for a in allocs if a.id not in needed.moving),
            leaving=leaving(allocs),
            rng=random.Random(len(world.allocs) + world.now_ns),
            eval_id=EvalId("e"),
            now_ns=world.now_ns,
            epoch=1,
        )
        placed += found.allocs
        stops |= {one.id: one for one in found.stopped}
    known = {one.id: one for one in (*world.deployments, *needed.deployments)}
    steps: list[Step] = [
        after for one in known.values() if (after := with_placed(one, placed)) not in world.deployments
    ]
    steps += [(one,) for one in needed.change]
    steps += [(*((stops[a.previous_allocation],) if a.previous_allocation in stops else ()), a) for a in placed]
    return steps


def written(world: World, steps: Sequence[Step]) -> World:
    deployments = {one.id: one for one in world.deployments}
    allocs = {one.id: one for one in world.allocs}
    for step in steps:
        if isinstance(step, Deployment):
            deployments[step.id] = step
            continue
        for desired in step:
            old = allocs.get(desired.id)
            created = old.create_index if old else 1000 + len(allocs)
            allocs[desired.id] = Alloc(
                desired=desired, observed=old.observed if old else None, create_index=created, desired_index=world.now_ns
            )
    return changed(world, allocs=tuple(allocs.values()), deployments=tuple(deployments.values()))


def obeyed(world: World) -> World:
    """Every agent did as it was told, and what runs passed its health rule."""

    def report(one: Alloc) -> Alloc:
        status = ClientStatus.COMPLETE if one.desired.is_stopping else ClientStatus.RUNNING
        if one.is_terminal or (one.observed is not None and one.observed.client_status is status):
            return one
        seen = ObservedAlloc(
            id=one.id, node_id=one.desired.node_id, client_status=status, boot_id="boot-1",
            deployment_status=DeploymentHealth(healthy=True), modify_time=world.now_ns,
        )  # fmt: skip
        return changed(one, observed=seen, observed_index=world.now_ns + 1)

    return changed(world, allocs=tuple(report(one) for one in world.allocs), now_ns=world.now_ns + SECOND)


def settled(world: World) -> dict[str, object]:
    """Goes on until nothing changes; what is left, without what chance chose."""
    for _ in range(40):
        steps = decide(world)
        after = obeyed(written(world, steps))
        if not steps and after.allocs == world.allocs:
            break
        world = after
    else:
        raise AssertionError("it never settles")
    live = [one for one in world.allocs if one.is_live]
    return {
        "places": sorted(one.desired.name for one in live),
        "versions": {one.desired.job_version for one in live},
        "drained": all(world.nodes[one.desired.node_id].takes_work for one in live),
        "canaries": sum(one.desired.canary for one in live),
        "deployments": [(one.job_version, one.status) for one in world.deployments][-1:],
    }


def versioned(count: int, version: int, **update: object) -> Job:
    strategy = UpdateStrategy(**{"max_parallel": 1, "progress_deadline": Nanoseconds(0), **update})  # type: ignore[arg-type]
    of = group(count, update=strategy, migrate=MigrateStrategy(), tasks=(task(config={"command": f"v{version}"}),))
    return job(groups=(of,), version=version)


def running(of: Job, on: Sequence[str]) -> tuple[Alloc, ...]:
    made = (alloc(index, of=of, on=name, identity=f"a{index}", created=index + 1) for index, name in enumerate(on))
    return tuple(
        changed(one, observed=replace(one.observed, deployment_status=DeploymentHealth(healthy=True)))
        for one in made
        if one.observed is not None
    )


def draining(name: str, now_ns: int) -> NodeView:
    known = view(name)
    return changed(known, control=replace(known.control, drain=Drain(deadline_at=now_ns + HOUR)))


def world(**more: object) -> World:
    old, new = versioned(3, 0), versioned(3, 1)
    base = World(
        job=new,
        versions={0: old, 1: new},
        allocs=running(old, ("n1", "n2", "n3")),
        nodes={NodeId(name): view(name) for name in NODES},
    )
    return changed(base, **more)


def of_versions(**update: object) -> dict[str, object]:
    old, new = versioned(3, 0, **update), versioned(3, 1, **update)
    return {"job": new, "versions": {0: old, 1: new}, "allocs": running(old, ("n1", "n2", "n3"))}


ONE = versioned(1, 0)
WORLDS = {
    "a first version": world(job=versioned(3, 0), versions={0: versioned(3, 0)}, allocs=()),
    "a rolling update": world(),
    "an update of two at a time": world(**of_versions(max_parallel=2)),
    "canaries that are promoted by themselves": world(**of_versions(canary=1, auto_promote=True)),
    "blue and green": world(**of_versions(canary=3, auto_promote=True, max_parallel=3)),
    "a drain": world(job=versioned(3, 0), nodes={NodeId("n1"): draining("n1", HOUR), NodeId("n2"): view("n2"), NodeId("n3"): view("n3")}),
    "a drain amid an update": world(nodes={NodeId("n1"): draining("n1", HOUR), NodeId("n2"): view("n2"), NodeId("n3"): view("n3")}),
    "a drain of a group of one": world(
        job=ONE, versions={0: ONE}, allocs=running(ONE, ("n1",)),
        nodes={NodeId("n1"): draining("n1", HOUR), NodeId("n2"): view("n2")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WORLDS)
def test_cut_off_after_any_write_it_ends_the_same(name: str) -> None:
    whole = settled(WORLDS[name])
    assert whole["drained"]
    assert whole["canaries"] == 0
    seen = WORLDS[name]
    cuts = 0
    for _ in range(12):
        steps = decide(seen)
        for size in range(len(steps) + 1):
            cuts += 1
            # A leader ends here; the next one reads what was written, whether or not agents have acted meanwhile.
            cut_off = written(seen, steps[:size])
            assert settled(cut_off) == whole, f"cut off after {size} of {len(steps)} writes"
            assert settled(obeyed(cut_off)) == whole, f"cut off after {size} of {len(steps)} writes that were obeyed"
        if not steps and obeyed(seen).allocs == seen.allocs:
            break
        seen = obeyed(written(seen, steps))
    assert cuts >= 3
