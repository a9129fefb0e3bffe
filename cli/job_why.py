"""`drover job why`: why is not all of a job placed, and what would help?

A group's nodes pass through filters; the table tells what each took away and what was left.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from cli.client import Api, clock, is_data, print_data, segment, short, table
from cli.failure import CommandFailed, fail
from cli.job_file import print_faults, read
from cli.job_status import find_job
from model.errors import JobspecError

Json = Mapping[str, Any]

_PREEMPTED_SHOWN = 5
_UNITS = {"cpu": " MHz", "memory": " MB", "disk": " MB", "cores": ""}


def run(args: argparse.Namespace) -> int:
    try:
        found = _ask(args)
    except JobspecError as error:
        return print_faults(error)
    except CommandFailed as error:
        return fail(error)
    if is_data(args):
        return print_data(args, found)
    print("\n".join(lines(found, is_verbose=args.verbose)))
    return 0


def _ask(args: argparse.Namespace) -> Json:
    """Of a job that was submitted, or of the one in -file."""
    nodes = True if args.verbose or is_data(args) else None
    if args.file is None:
        if args.job is None:
            raise CommandFailed("expected a job, or -file with a job file")
        api = Api(args)
        job = find_job(api, args.job)
        known: Json = api.get(f"/v1/job/{segment(job['ID'])}/why", namespace=job["Namespace"], nodes=nodes)
        return known
    if args.job is not None:
        raise CommandFailed("a job and -file exclude each other")
    # -json is about what is printed, not about what is read.
    document, checked = read(argparse.Namespace(**{**vars(args), "json": False}))
    new = checked()
    api = Api(args)
    path = f"/v1/job/{segment(new.id)}/why"
    found: Json = api.put(path, {"Job": document}, namespace=api.namespace or new.namespace, nodes=nodes)
    return found


def lines(found: Json, *, is_verbose: bool) -> Iterator[str]:
    yield f'Job "{found["JobID"]}" ({found["Type"]}, priority {found["Priority"]})'
    if found["Stop"]:
        yield "The job is stopped: nothing of it is to be placed."
    if found["Waits"]:
        yield f"Nothing of it is placed yet: it {found['Waits']}."
    if found["AllAtOnce"] and any(group["Missing"] for group in found["Groups"]):
        yield "all_at_once: nothing is placed before all of it finds a place."
    for group in found["Groups"]:
        yield ""
        yield from _group(group, found, is_verbose=is_verbose)


def _group(group: Json, found: Json, *, is_verbose: bool) -> Iterator[str]:
    yield f'Task Group "{group["Name"]}": {_state(group, found)}'
    if group["Updating"]:
        yield f"  {_allocations(group['Updating'])} of an older version {'runs' if group['Updating'] == 1 else 'run'} on until then"
    if group["Failed"]:
        when = f"the next try is at {clock(found['RetryAt'])}" if found["RetryAt"] else "its attempts are used up"
        yield f"  {_allocations(group['Failed'])} failed and is not placed again: {when}"
    preempted = group["Preempted"]
    for one in preempted[:_PREEMPTED_SHOWN]:
        alloc, by = (short(one[key], is_verbose=is_verbose) for key in ("AllocID", "ByAlloc"))
        of = f'of job "{one["ByJob"]}"' if one["ByJob"] else "that is forgotten since"
        yield f"  Allocation {alloc} was preempted by allocation {by} {of}"
    if len(preempted) > _PREEMPTED_SHOWN:
        yield f"  {len(preempted) - _PREEMPTED_SHOWN} more were preempted"
    if group["Filters"]:
        yield f"  Each asks for {', '.join(f'{name} {count}{_UNITS[name]}' for name, count in group['Asks'].items())}"
    if group["Filters"]:
        yield ""
        yield from (f"  {line}" for line in _funnel(group["Filters"], group["NodesAsked"]).splitlines())
    if group["Remedies"]:
        yield ""
        yield "  What stands in the way"
        yield from (f"  * {remedy}" for remedy in group["Remedies"])
    if is_verbose and group["Nodes"]:
        yield ""
        yield from (f"  {line}" for line in _nodes(group["Nodes"]).splitlines())


def _state(group: Json, found: Json) -> str:
    if found["AllAtOnce"] and (group["Missing"] or group["Withheld"]):
        room = group["Wanted"] - group["Missing"] - group["Failed"]
        placed = f"{room - group['Withheld']} of {_allocations(group['Wanted'])} placed"
        return f"{placed}; all_at_once, and there is room for {room} of {group['Wanted']}"
    if group["Missing"]:
        return f"{group['Missing']} of {_allocations(group['Wanted'])} not placed"
    if group["Filters"] or (not group["Wanted"] and found["Type"] in ("system", "sysbatch")):
        return "no node is one that it belongs on"
    if group["Failed"]:
        return f"{group['Wanted'] - group['Failed']} of {_allocations(group['Wanted'])} placed"
    return f"all placed ({_allocations(group['Wanted'])})"


def _allocations(count: int) -> str:
    return "1 allocation" if count == 1 else f"{count} allocations"


def _funnel(filters: list[Json], left: int) -> str:
    """What each filter took away of the nodes that were asked."""
    rows: list[tuple[object, ...]] = [("Filter", "Nodes", "Left", "Reason"), ("", "", left, "")]
    for one in filters:
        left -= one["Nodes"]
        classes = ", ".join(f"{name} {count}" for name, count in one["Classes"].items())
        has_classes = classes and one["Filter"] not in ("not ready", "datacenter")
        rows.append((one["Filter"], f"-{one['Nodes']}", left, one["Reason"] + (f" (class {classes})" if has_classes else "")))
    return table(rows)


def _nodes(nodes: list[Json]) -> str:
    rows: list[tuple[object, ...]] = [("Node", "Datacenter", "Class", "Filter", "Reason or score")]
    for one in nodes:
        scores = one["Scores"]
        score = sum(scores.values()) / len(scores) if scores else 0.0
        parts = ", ".join(f"{name} {value:.3f}" for name, value in sorted(scores.items()))
        short = ", ".join(f"{count}{_UNITS[name]} of {name}" for name, count in one["Short"].items())
        why = f"{short} short" if short else one["Reason"] or f"{score:.3f} ({parts})"
        rows.append(
            (one["Name"], one["VirtualDatacenter"] or one["Datacenter"], one["NodeClass"] or "-", one["Filter"] or "fits", why)
        )
    return table(rows)
