"""Every fleet of up to 4 nodes for up to 4 allocs under each rule: what is placed may be there, what is not finds no
place, and every reason that is given is true.

The judge below knows nothing of leader/decide: it looks at one node at a time, in plain words, with what earlier
allocs of the same plan already took. So a rule that placement forgets, or counts wrongly in its reasons, shows.
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from leader.decide.feasible import FeasibleCache
from leader.decide.place import place
from leader.decide.preempt import Victim
from leader.decide.table import Ask, NodeTable, ask_of
from model.alloc import AllocatedPort, AllocId, DesiredAlloc, EvalId
from model.evaluation import PlacementMetric
from model.job import Constraint, Job, JobId, Network, Port, Resources, Spread, TaskGroup
from model.node import Eligibility, NodeId, NodeResources
from model.plan import Placed, PlaceRequest
from model.snapshot import NodeView
from tests.build import alloc, group, job, task, view

PORT = 8080
ASK = Ask(cpu_mhz=100, memory_mb=100, disk_mb=10)
RACK = "${meta.rack}"


@dataclass(frozen=True)
class Machine:
    """One node in plain words. cpu, memory: what is free for new allocs. own: allocs of the job that it holds."""

    kind: str
    datacenter: str = "dc1"
    virtual: str = ""
    rack: str = "a"
    is_linux: bool = True
    is_eligible: bool = True
    has_driver: bool = True
    cpu: int = 1000
    memory: int = 1000
    is_port_taken: bool = False
    own: int = 0

    @property
    def is_asked_for(self) -> bool:
        return self.is_eligible and self.datacenter == "dc1" and not self.virtual


MACHINES = (
    Machine("plain"),
    Machine("other rack", rack="b"),
    Machine("no rack", rack=""),
    Machine("room for one", cpu=150, rack="b"),
    Machine("no memory", cpu=100, memory=50),
    Machine("plan9", is_linux=False),
    Machine("ineligible", is_eligible=False),
    Machine("elsewhere", datacenter="dc2"),
    Machine("virtual", virtual="edge"),
    Machine("port taken", is_port_taken=True),
    Machine("holds one", own=1, rack="b"),
    Machine("no driver", has_driver=False),
)


@dataclass(frozen=True)
class Rules:
    """What the job asks for. property_max: allocs per rack. skew: how far racks may be apart."""

    name: str
    port: bool = False
    linux: bool = False
    distinct_hosts: bool = False
    property_max: int = 0
    skew: int = 0
    spread: bool = False

    def group(self, count: int) -> TaskGroup:
        constraints: list[Constraint] = []
        if self.linux:
            constraints.append(Constraint(ltarget="${attr.kernel.name}", operand="=", rtarget="linux"))
        if self.distinct_hosts:
            constraints.append(Constraint(operand="distinct_hosts"))
        if self.property_max:
            limit = str(self.property_max) if self.property_max > 1 else ""
            constraints.append(Constraint(ltarget=RACK, operand="distinct_property", rtarget=limit))
        spreads = (Spread(attribute=RACK, max_skew=self.skew or None),) if self.skew or self.spread else ()
        networks = (Network(reserved_ports=(Port(label="http", value=PORT),)),) if self.port else ()
        return group(count, constraints=tuple(constraints), spreads=spreads, networks=networks)


RULES = (
    Rules("nothing"),
    Rules("spread", spread=True),
    Rules("port", port=True),
    Rules("linux", linux=True),
    Rules("distinct_hosts", distinct_hosts=True),
    Rules("distinct_property", property_max=1),
    Rules("distinct_property 2", property_max=2),
    Rules("max_skew", skew=1),
    Rules("all", port=True, linux=True, distinct_hosts=True, property_max=2, skew=2),
)


def fleets(size: int) -> Iterator[tuple[Machine, ...]]:
    """Each fleet once: the order of its nodes is chance's, and prop/test_placement.py's to vary."""
    yield from itertools.combinations_with_replacement(MACHINES, size)


# -- the judge


@dataclass
class World:
    """What stands where: of the job by node, and whether its port is taken there."""

    fleet: Sequence[Machine]
    rules: Rules
    here: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.here.update({number: one.own for number, one in enumerate(self.fleet) if one.own})

    def put(self, number: int) -> None:
        self.here[number] += 1

    def new_on(self, number: int) -> int:
        return self.here[number] - self.fleet[number].own

    def short_of(self, number: int) -> list[str]:
        """The dimensions that one more would not find."""
        one, taken = self.fleet[number], self.new_on(number)
        found = []
        if one.cpu < (taken + 1) * ASK.cpu_mhz:
            found.append("cpu")
        if one.memory < (taken + 1) * ASK.memory_mb:
            found.append("memory")
        if not found and self.rules.port and (one.is_port_taken or self.here[number]):
            found.append(f"network: reserved port collision http={PORT}")
        return found

    def in_rack(self, rack: str) -> int:
        return sum(count for number, count in self.here.items() if self.fleet[number].rack == rack)

    def may_ever(self, number: int) -> bool:
        one = self.fleet[number]
        return one.is_asked_for and one.has_driver and (one.is_linux or not self.rules.linux)

    def broken_by(self, number: int) -> list[str]:
        """The rules that one more alloc on this node would break, by the names that users read."""
        one, rules, found = self.fleet[number], self.rules, []
        if not one.has_driver:
            found.append("missing drivers: raw_exec")
        if rules.linux and not one.is_linux:
            found.append("${attr.kernel.name} = linux")
        if rules.distinct_hosts and self.here[number]:
            found.append("distinct_hosts")
        if rules.property_max and (not one.rack or self.in_rack(one.rack) >= rules.property_max):
            found.append(f"{RACK} distinct_property {rules.property_max if rules.property_max > 1 else ''}".strip())
        if rules.skew:
            racks = {m.rack for n, m in enumerate(self.fleet) if m.rack and self.may_ever(n)}
            least = min((self.in_rack(rack) for rack in racks), default=0)
            if not one.rack or self.in_rack(one.rack) + 1 - least > rules.skew:
                found.append(f"max_skew {rules.skew}")
        return found

    def takes(self, number: int) -> bool:
        return self.fleet[number].is_asked_for and not self.broken_by(number) and not self.short_of(number)


def judge_reasons(world: World, metric: PlacementMetric) -> None:
    """Every count of a failure, against the world in which it happened."""
    asked = [n for n, one in enumerate(world.fleet) if one.is_asked_for]
    broken = {n: why for n in asked if (why := world.broken_by(n))}
    left = [n for n in asked if n not in broken]
    assert metric.nodes_evaluated == len(asked)
    assert metric.nodes_available == ({"dc1": len(asked)} if asked else {})
    assert metric.nodes_filtered == sum(metric.constraint_filtered.values()) == len(broken)
    for why, count in metric.constraint_filtered.items():
        assert 0 < count <= sum(why in one for one in broken.values()), why
    # A node with one fault is counted under that fault and no other.
    alone = Counter(why[0] for why in broken.values() if len(why) == 1)
    for why, count in alone.items():
        assert metric.constraint_filtered.get(why, 0) >= count, why
    assert metric.nodes_exhausted == len(left) == metric.nodes_evaluated - metric.nodes_filtered
    assert metric.dimension_exhausted == dict(Counter(why for n in left for why in world.short_of(n)))
    assert all(world.short_of(n) for n in left)


# -- the placement under test


def views_of(fleet: Sequence[Machine]) -> list[NodeView]:
    return [
        view(
            f"n{number}",
            eligibility=Eligibility.ELIGIBLE if one.is_eligible else Eligibility.INELIGIBLE,
            datacenter=one.datacenter,
            virtual_datacenter=one.virtual,
            meta={"rack": one.rack} if one.rack else {},
            attributes={"kernel.name": "linux" if one.is_linux else "plan9"},
            resources=NodeResources(
                cpu_mhz=one.cpu + one.own * ASK.cpu_mhz, memory_mb=one.memory + one.own * ASK.memory_mb, disk_mb=1000
            ),
            **({} if one.has_driver else {"drivers": {}}),
        )
        for number, one in enumerate(fleet)
    ]


def table_of(fleet: Sequence[Machine], views: Sequence[NodeView], rules: Rules) -> NodeTable:
    table = NodeTable()
    for one in views:
        table.set_node(one)
    port = (AllocatedPort(label="http", value=PORT),)
    for number, machine in enumerate(fleet):
        if machine.is_port_taken:
            table.hold(AllocId(f"other-{number}"), NodeId(f"n{number}"), Ask(0, 0, 0), port)
        for index in range(machine.own):
            table.hold(AllocId(f"own-{number}-{index}"), NodeId(f"n{number}"), ASK, port if rules.port else ())
    return table


def placed_on(fleet: Sequence[Machine], views: Sequence[NodeView], rules: Rules, count: int) -> Placed:
    group_of = rules.group(count)
    assert ask_of(group_of) == ASK
    of = job(groups=(group_of,))
    held = {"g": {NodeId(f"n{number}"): one.own for number, one in enumerate(fleet) if one.own}}
    return place(
        [PlaceRequest(job=of, group=group_of, name=f"j.g[{index}]") for index in range(count)],
        table=table_of(fleet, views, rules),
        cache=FeasibleCache(),
        held=held,
        rng=random.Random(1),
        eval_id=EvalId("e"),
        now_ns=7,
        epoch=1,
    )


def judge(fleet: Sequence[Machine], rules: Rules, count: int, placed: Placed) -> None:
    world = World(fleet, rules)
    for one in placed.allocs:
        number = int(one.node_id[1:])
        assert world.takes(number), (fleet, rules, count, one.node_id)
        assert [port.value for port in one.ports] == ([PORT] if rules.port else [])
        world.put(number)
    assert len(placed.allocs) + placed.queued["g"] == count
    assert bool(placed.queued["g"]) == ("g" in placed.failed)
    if "g" in placed.failed:
        assert not any(world.takes(number) for number in range(len(fleet))), (fleet, rules, count)
        judge_reasons(world, placed.failed["g"])
        assert placed.failed["g"].coalesced_failures == placed.queued["g"] - 1


@pytest.mark.parametrize("rules", RULES, ids=lambda rules: rules.name)
def test_every_small_fleet_is_filled_as_far_as_its_rules_allow_and_every_reason_is_true(rules: Rules) -> None:
    failed = 0
    for size in range(5):
        for number, fleet in enumerate(fleets(size)):
            views = views_of(fleet)
            # Of the fleets of four all counts are tried in turn: all of all would take a minute.
            for count in (1, 2, 3, 4) if size < 4 else (4, 1 + number % 3):
                placed = placed_on(fleet, views, rules, count)
                judge(fleet, rules, count, placed)
                failed += bool(placed.failed)
    assert failed > 100, "hardly anything failed: the reasons were not tried"


# -- pushing others away


@dataclass(frozen=True)
class Tenant:
    """What somebody else runs on a node. size: in hundreds of MHz and MB."""

    priority: int
    size: int
    has_port: bool = False
    is_own: bool = False


TENANTS = (
    Tenant(20, 1),
    Tenant(20, 2),
    Tenant(70, 1, has_port=True),
    Tenant(71, 2),
    Tenant(71, 1, has_port=True),
    Tenant(20, 2, is_own=True),
)
ROOM = 4  # of a node, in the same hundreds


def tenancies() -> Iterator[tuple[Tenant, ...]]:
    """All that may stand on one node: no more than it has room for, and the port once."""
    for size in range(4):
        for here in itertools.combinations_with_replacement(TENANTS, size):
            if sum(one.size for one in here) <= ROOM and sum(one.has_port for one in here) <= 1:
                yield here


def makes_room(here: Sequence[Tenant], going: Sequence[int], size: int, *, port: bool) -> bool:
    stays = [one for number, one in enumerate(here) if number not in going]
    is_port_free = not (port and any(one.has_port for one in stays))
    return is_port_free and sum(one.size for one in stays) + size <= ROOM


def may_go(one: Tenant) -> bool:
    return one.priority <= 70 and not one.is_own


def ways(here: Sequence[Tenant], size: int, *, port: bool) -> list[tuple[int, ...]]:
    """Every set of tenants that may be pushed away and whose going makes room."""
    eligible = [number for number, one in enumerate(here) if may_go(one)]
    sets = (going for count in range(len(eligible) + 1) for going in itertools.combinations(eligible, count))
    return [going for going in sets if makes_room(here, going, size, port=port)]


def preempting(nodes: Sequence[Sequence[Tenant]], size: int, *, port: bool) -> tuple[Placed, Mapping[AllocId, tuple[int, int]]]:
    """What an alloc of priority 80 does there, and {victim's id: (node, number)}."""
    table, where, victims = NodeTable(), dict[AllocId, tuple[int, int]](), dict[NodeId, list[Victim]]()
    for number, here in enumerate(nodes):
        resources = NodeResources(cpu_mhz=ROOM * 100, memory_mb=ROOM * 100, disk_mb=1000)
        table.set_node(view(f"n{number}", resources=resources))
        for at, one in enumerate(here):
            ports = (AllocatedPort(label="http", value=PORT, host_ip="10.0.0.1"),) if one.has_port else ()
            other = job(id=JobId("j" if one.is_own else f"other-{number}-{at}"), priority=one.priority)
            desired: DesiredAlloc = alloc(of=other, on=f"n{number}", identity=f"v{number}-{at}", ports=ports).desired
            ask = Ask(one.size * 100, one.size * 100, 10)
            table.hold(desired.id, NodeId(f"n{number}"), ask, ports)
            victims.setdefault(NodeId(f"n{number}"), []).append(Victim(desired, one.priority, ask))
            where[desired.id] = (number, at)
    networks = (Network(reserved_ports=(Port(label="http", value=PORT),)),) if port else ()
    resources_of = Resources(cpu=size * 100, memory_mb=size * 100)
    group_of = group(tasks=(task(resources=resources_of),), networks=networks)
    of: Job = job(groups=(group_of,), priority=80)
    placed = place(
        [PlaceRequest(job=of, group=group_of, name="j.g[0]")],
        table=table,
        cache=FeasibleCache(),
        held={},
        rng=random.Random(1),
        eval_id=EvalId("e"),
        now_ns=7,
        epoch=1,
        victims=lambda node: victims.get(node, ()),
    )
    return placed, where


@pytest.mark.parametrize("port", [False, True], ids=["no port", "port"])
@pytest.mark.parametrize("size", [1, 3])
def test_others_are_pushed_away_only_where_it_is_allowed_helps_and_is_needed(size: int, port: bool) -> None:
    pushed = 0
    for nodes in itertools.combinations_with_replacement(list(tenancies()), 2):
        placed, where = preempting(nodes, size, port=port)
        possible = {number: ways(here, size, port=port) for number, here in enumerate(nodes)}
        if not placed.allocs:
            assert not any(possible.values()), nodes
            assert not placed.preempted
            continue
        (one,) = placed.allocs
        number = int(one.node_id[1:])
        going = tuple(sorted(where[victim.id][1] for victim in placed.preempted))
        assert all(where[victim.id][0] == number for victim in placed.preempted), "somebody of another node went"
        assert going in possible[number], nodes
        assert set(one.preempted_allocations) == {victim.id for victim in placed.preempted}
        if any(() in sets for sets in possible.values()):
            assert not going, "there was room without"
            continue
        assert not any(set(other) < set(going) for other in possible[number]), "somebody went in vain"
        # Of the nodes, one where the highest that goes is as low as can be.
        lowest = min(max(nodes[n][at].priority for at in sets) for n, all_sets in possible.items() for sets in all_sets)
        assert max(nodes[number][at].priority for at in going) == lowest, nodes
        pushed += 1
    assert pushed > 50
