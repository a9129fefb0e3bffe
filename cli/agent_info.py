"""`drover agent-info`, `drover check` and `drover server force-leave`: the agent that is asked, and who is gone."""

import argparse
from collections.abc import Mapping

from cli.client import Api, is_data, print_data
from cli.failure import CommandFailed, fail
from jobspec.durations import DurationFault, parse_duration

# Nomad's exit codes of `check`.
_PASSES, _CRITICAL, _UNKNOWN = 0, 2, 3


def info(args: argparse.Namespace) -> int:
    try:
        found = Api(args).get("/v1/agent/self")
        if is_data(args):
            return print_data(args, found)
        for group, values in sorted(found["stats"].items()):
            print(group)
            for name, value in sorted(values.items()):
                print(f"  {name} = {value}")
        return 0
    except CommandFailed as error:
        return fail(error)


def check(args: argparse.Namespace) -> int:
    """For monitoring: 0 well, 2 bad, 3 nobody knows."""
    try:
        stats = Api(args).get("/v1/agent/self")["stats"]
    except CommandFailed as error:
        fail(error)
        return _UNKNOWN
    code = _PASSES
    if stats["nomad"]["server"] == "true":
        code = _of_server(stats["raft"], args.min_peers)
    if code == _PASSES and "client" in stats:
        code = _of_client(stats["client"], args.min_servers)
    return code


def _of_server(raft: Mapping[str, str], peers_min: int) -> int:
    peers = int(raft["num_peers"])
    if peers < peers_min:
        print(f"known peers: {peers}, is less than expected number of peers: {peers_min}")
        return _CRITICAL
    return _PASSES


def _of_client(client: Mapping[str, str], servers_min: int) -> int:
    servers = int(client["known_servers"])
    if servers < servers_min:
        print(f"known servers: {servers}, is less than expected number of servers: {servers_min}")
        return _CRITICAL
    try:
        ttl, last = parse_duration(client["heartbeat_ttl"]), parse_duration(client["last_heartbeat"])
    except DurationFault:
        print(f"last heartbeat: {client['last_heartbeat']}")
        return _UNKNOWN
    if last > ttl:
        print(f"last heartbeat was {client['last_heartbeat']} ago, expected heartbeat ttl: {client['heartbeat_ttl']}")
        return _CRITICAL
    return _PASSES


def force_leave(args: argparse.Namespace) -> int:
    try:
        Api(args).put("/v1/agent/force-leave", node=args.node)
        return 0
    except CommandFailed as error:
        return fail(error)


def reconcile_summaries(args: argparse.Namespace) -> int:
    try:
        Api(args).put("/v1/system/reconcile/summaries")
        return 0
    except CommandFailed as error:
        return fail(error)
