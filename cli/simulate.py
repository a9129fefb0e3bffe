"""`drover simulate`: where would these jobs run? Offline: no agent and no Consul is asked.

Exit codes: 0 all of it is placed, 2 not all, 1 a wrong file or flag.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from catalog.saved import Saved, SnapshotFault, read
from cli.client import is_data, print_data, table
from cli.failure import CommandFailed, fail
from cli.job_file import print_faults
from cli.job_file import read as read_job
from cli.job_why import lines
from leader.simulating import GroupResult, JobResult, Simulation, SpreadResult
from model.cluster import SchedulerConfiguration
from model.errors import JobspecError
from model.job import Job
from model.snapshot import Settings

NOT_ALL = 2
# Nodes that are listed one by one; of more, what their datacenters hold.
_NODES_SHOWN = 20
_NODES_MAX = 100_000


def run(args: argparse.Namespace) -> int:
    try:
        if args.snapshot is None and args.nodes is None:
            raise CommandFailed("expected -snapshot FILE, -nodes N or both")
        if args.nodes is not None and not 0 < args.nodes <= _NODES_MAX:
            raise CommandFailed(f"-nodes {args.nodes}: expected 1 to {_NODES_MAX}")
        datacenters = tuple(name for name in args.datacenters.split(",") if name)
        if not datacenters:
            raise CommandFailed("-datacenters: expected at least one name")
        saved = read(Path(args.snapshot)) if args.snapshot is not None else None
        jobs = [_job(args, file) for file in args.files]
        found = asyncio.run(_simulate(saved, args.nodes or 0, datacenters, args.algorithm, jobs))
    except JobspecError as error:
        return print_faults(error)
    except (CommandFailed, SnapshotFault) as error:
        return fail(error)
    if is_data(args):
        if code := print_data(args, {"Jobs": msgspec.to_builtins(found)}):
            return code
    else:
        print("\n\n".join("\n".join(_told(one, is_verbose=args.verbose)) for one in found))
    return 0 if all(one.is_placed for one in found) else NOT_ALL


def _job(args: argparse.Namespace, file: str) -> Job:
    # -json is about what is printed, not about what is read.
    return read_job(argparse.Namespace(**{**vars(args), "file": file, "json": False}))[1]()


async def _simulate(
    saved: Saved | None, nodes: int, datacenters: Sequence[str], algorithm: str, jobs: Sequence[Job]
) -> list[JobResult]:
    simulation = Simulation(Settings(scheduler=SchedulerConfiguration(scheduler_algorithm=algorithm)), time.time_ns())
    if saved is not None:
        await simulation.load(saved)
    simulation.add_nodes(nodes, datacenters)
    return [simulation.run(job) for job in jobs]


def _told(job: JobResult, *, is_verbose: bool) -> Iterator[str]:
    yield f'Job "{job.job_id}" ({job.type})'
    for group in job.groups:
        yield ""
        yield f'Task Group "{group.name}": {group.placed} of {group.wanted} placed on {len(group.nodes)} nodes'
        if group.nodes:
            rows = _nodes(group) if is_verbose or len(group.nodes) <= _NODES_SHOWN else _datacenters(group)
            yield from (f"  {line}" for line in table(rows).splitlines())
        for spread in group.spreads:
            yield ""
            yield f"  Spread over {spread.attribute}"
            yield from (f"  {line}" for line in table(_shares(spread)).splitlines())
    if job.why is not None:
        yield from list(lines(msgspec.to_builtins(job.why), is_verbose=is_verbose))[1:]


def _nodes(group: GroupResult) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [("Node", "Datacenter", "Virtual", "Class", "Allocs")]
    return rows + [
        (one.name, one.datacenter, one.virtual_datacenter or "-", one.node_class or "-", one.allocs) for one in group.nodes
    ]


def _datacenters(group: GroupResult) -> list[tuple[object, ...]]:
    nodes, allocs = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for one in group.nodes:
        nodes[one.datacenter, one.virtual_datacenter] += 1
        allocs[one.datacenter, one.virtual_datacenter] += one.allocs
    rows: list[tuple[object, ...]] = [("Datacenter", "Virtual", "Nodes", "Allocs")]
    return rows + [(*key[:1], key[1] or "-", nodes[key], allocs[key]) for key in sorted(nodes)]


def _shares(spread: SpreadResult) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [("Value", "Target", "Actual")]
    return rows + [(one.value, f"{one.target:.1f}", one.actual) for one in spread.values]
