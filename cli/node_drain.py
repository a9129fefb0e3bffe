"""`drover node drain`: empties a node, and stays until it is empty."""

import argparse
import time
from typing import Any

from cli.client import Api, short
from cli.failure import CommandFailed, fail
from cli.node import own
from jobspec.durations import DurationFault, parse_duration

_POLL_S = 0.5
# Nomad's.
_DEADLINE = "1h"


def run(args: argparse.Namespace) -> int:
    try:
        if args.monitor and not (args.enable or args.disable):
            return _monitor(args)
        if args.enable == args.disable:
            raise CommandFailed("expected either -enable or -disable, or -monitor alone")
        if args.disable and (args.force or args.no_deadline or args.deadline or args.ignore_system):
            raise CommandFailed("-disable takes none of -force, -deadline, -no-deadline and -ignore-system")
        if sum((args.force, args.no_deadline, args.deadline is not None)) > 1:
            raise CommandFailed("-force, -deadline and -no-deadline exclude each other")
        api = Api(args)
        node = _node(api, args)
        spec = None
        if args.enable:
            spec = {"Deadline": _deadline_ns(args), "IgnoreSystemJobs": args.ignore_system}
        body = {"NodeID": node["ID"], "DrainSpec": spec, "MarkEligible": args.disable and not args.keep_ineligible}
        if meta := _meta(args):
            body["Meta"] = meta
        api.put(f"/v1/node/{node['ID']}/drain", body)
    except CommandFailed as error:
        return fail(error)
    name = short(node["ID"], is_verbose=args.verbose)
    if args.disable:
        print(f'Node "{name}" drain is off')
        return 0
    print(f'Node "{name}" drain strategy set')
    if args.detach:
        return 0
    try:
        return _follow(api, node["ID"], ignores_system=args.ignore_system, is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)


def _monitor(args: argparse.Namespace) -> int:
    """Follows the drain that is under way. Raises CommandFailed."""
    api = Api(args)
    node = api.get(f"/v1/node/{_node(api, args)['ID']}")
    if not node["DrainStrategy"]:
        print(f'No drain strategy set for node "{short(node["ID"], is_verbose=args.verbose)}"')
        return 0
    ignores_system = node["DrainStrategy"]["IgnoreSystemJobs"]
    return _follow(api, node["ID"], ignores_system=ignores_system, is_verbose=args.verbose)


def _node(api: Api, args: argparse.Namespace) -> dict[str, Any]:
    if args.self:
        return {"ID": own(api)}
    if not args.node:
        raise CommandFailed("expected a node, or -self")
    return api.find("node", "/v1/nodes", args.node)


def _meta(args: argparse.Namespace) -> dict[str, str]:
    """What -meta and -m say, by the names under which Nomad keeps the latter. Raises CommandFailed."""
    found = {}
    for pair in args.meta:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise CommandFailed(f"-meta {pair!r}: expected KEY=VALUE")
        found[key] = value
    if args.message:
        found["message" if args.enable else "cancel_message"] = args.message
    return found


def _deadline_ns(args: argparse.Namespace) -> int:
    """Nomad's numbers: -1 s is at once, 0 never."""
    if args.force:
        return -1_000_000_000
    if args.no_deadline:
        return 0
    try:
        deadline_ns = parse_duration(args.deadline or _DEADLINE)
    except DurationFault as error:
        raise CommandFailed(f"-deadline: {error}") from error
    if deadline_ns <= 0:
        raise CommandFailed("-deadline: must be greater than zero (-force stops all at once)")
    return int(deadline_ns)


def _follow(api: Api, node_id: str, *, ignores_system: bool, is_verbose: bool) -> int:
    """0 once nothing is left, 2 when somebody called it off."""
    seen: dict[str, str] = {}
    while True:
        node = api.get(f"/v1/node/{node_id}")
        for alloc in api.get(f"/v1/node/{node_id}/allocations"):
            state = _state(alloc)
            if seen.get(alloc["ID"]) != state and (alloc["ID"] in seen or state != "complete"):
                print(f'    Alloc "{short(alloc["ID"], is_verbose=is_verbose)}" ({alloc["Name"]}) {state}', flush=True)
            seen[alloc["ID"]] = state
        last = (node["LastDrain"] or {}).get("Status")
        if not node["DrainStrategy"]:
            if last == "complete":
                print(f'==> Node "{short(node_id, is_verbose=is_verbose)}" drain complete')
                return 0
            print(f'==> Node "{short(node_id, is_verbose=is_verbose)}" drain was called off')
            return 2
        time.sleep(_POLL_S)


def _state(alloc: dict[str, Any]) -> str:
    if alloc["ClientStatus"] in ("complete", "failed", "lost"):
        return "complete"
    return "draining" if alloc["DesiredStatus"] != "run" else "waits for its replacement"
