"""How many allocs does the scheduler place in a second, pure decision, no I/O?

    python -m benchmarks.placement [--nodes 10000] [--count 1000] [--case mixed] [--load 0] [--json]

From the node table to the documents of a plan; the best and the median of five runs, each on the same cluster.
Cases: binpack (nothing asked for), spread (a datacenter spread with targets and an even one over 20 racks, with
distinct_hosts), distinct (distinct_hosts), affinity (one, over racks), mixed (all of these and a dynamic port).
--load: allocs that the cluster holds already. Memory is the process', with the cluster in it.
placed: of the count, those that found room; the rates are theirs.
"""

import argparse
import json
import random
import resource
import statistics
import time
from collections.abc import Callable, Sequence

from leader.decide.feasible import FeasibleCache
from leader.decide.place import place
from leader.decide.table import Ask, NodeTable
from model.alloc import AllocId, EvalId
from model.job import (
    Affinity,
    Constraint,
    EphemeralDisk,
    Job,
    JobId,
    Network,
    Port,
    Resources,
    Spread,
    SpreadTarget,
    Task,
    TaskGroup,
)
from model.node import DriverInfo, Node, NodeControl, NodeId, NodeResources, NodeStatus
from model.plan import PlaceRequest
from model.snapshot import NodeView, Reach

_RUNS = 5
_DISTINCT = Constraint(operand="distinct_hosts")
_TARGETS = tuple(SpreadTarget(value=f"dc{n}", percent=p) for n, p in enumerate((50, 30, 20)))
_SPREADS = (
    Spread(attribute="${node.datacenter}", spread_target=_TARGETS),
    Spread(attribute="${meta.rack}"),
)
_AFFINITY = Affinity(ltarget="${meta.rack}", rtarget="r3", weight=70)


def cluster(nodes: int, load: int) -> NodeTable:
    table = NodeTable()
    for number in range(nodes):
        node = Node(
            id=NodeId(f"node-{number:06}"),
            name=f"n{number}",
            datacenter=f"dc{number % 3}",
            address="10.0.0.1",
            attributes={
                "kernel.name": "linux",
                "unique.hostname": f"n{number}",
                **{f"attr.{n}": f"value {n}" for n in range(20)},
            },
            meta={"rack": f"r{number % 20}"},
            drivers={"docker": DriverInfo(detected=True, healthy=True)},
            resources=NodeResources(cpu_mhz=32000, memory_mb=128000, disk_mb=1000000),
        )
        control = NodeControl(node_id=node.id, status=NodeStatus.READY)
        table.set_node(NodeView(node=node, control=control, reach=Reach.PASSING, reach_since_s=0.0))
    ask = Ask(cpu_mhz=500, memory_mb=256, disk_mb=300)
    for number in range(load):
        table.hold(AllocId(f"held-{number}"), table.ids[number * 7919 % nodes], ask, ())
    return table


def a_job(case: str, count: int) -> Job:
    has = {
        "binpack": "",
        "spread": "spread distinct",
        "distinct": "distinct",
        "affinity": "affinity",
        "mixed": "spread distinct affinity port",
    }[case].split()
    group = TaskGroup(
        name="web",
        count=count,
        ephemeral_disk=EphemeralDisk(size_mb=300),
        spreads=_SPREADS if "spread" in has else (),
        affinities=(_AFFINITY,) if "affinity" in has else (),
        constraints=(_DISTINCT,) if "distinct" in has else (),
        networks=(Network(dynamic_ports=(Port(label="http"),)),) if "port" in has else (),
        tasks=(Task(name="web", driver="docker", resources=Resources(cpu=500, memory_mb=256)),),
    )
    return Job(id=JobId("bench"), name="bench", datacenters=("dc*",), task_groups=(group,))


def measure(table: NodeTable, of: Job) -> tuple[int, list[float]]:
    """How many found a place in every run, and the seconds of each."""
    (group,) = of.task_groups
    requests = [PlaceRequest(job=of, group=group, name=f"bench.web[{n}]") for n in range(group.count)]

    def run(seed: int) -> tuple[int, float]:
        cache, rng = FeasibleCache(), random.Random(seed)
        started = time.perf_counter()
        placed = place(
            requests, table=table, cache=cache, held={}, rng=rng, eval_id=EvalId("e"), now_ns=1, epoch=1
        )
        took = time.perf_counter() - started
        for alloc in placed.allocs:
            table.free(alloc.id)
        return len(placed.allocs), took

    runs = [run(seed) for seed in range(_RUNS)]
    return min(count for count, _ in runs), [took for _, took in runs]


def at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, found {value}")
        return value

    return whole_number


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=at_least(1), default=10000)
    parser.add_argument("--count", type=at_least(1), default=1000)
    parser.add_argument("--load", type=at_least(0), default=0)
    parser.add_argument("--case", choices=("binpack", "spread", "distinct", "affinity", "mixed"), default="mixed")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    started = time.perf_counter()
    table = cluster(args.nodes, args.load)
    built = time.perf_counter() - started
    placed, took = measure(table, a_job(args.case, args.count))
    found = {
        "case": args.case,
        "nodes": args.nodes,
        "count": args.count,
        "load": args.load,
        "placed": placed,
        "best_per_s": round(placed / min(took)),
        "median_per_s": round(placed / statistics.median(took)),
        "table_s": round(built, 2),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(found) if args.json else "  ".join(f"{name}={value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
