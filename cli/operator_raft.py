"""`drover operator raft`, `operator autopilot` and `license get`: what Nomad's operators ask about servers."""

import argparse

from cli.client import Api, is_data, print_data, table
from cli.failure import CommandFailed, fail


def list_peers(args: argparse.Namespace) -> int:
    try:
        found = Api(args).get("/v1/operator/raft/configuration")
        if is_data(args):
            return print_data(args, found)
        rows: list[tuple[object, ...]] = [("Node", "ID", "Address", "State", "Voter", "RaftProtocol")]
        for one in found["Servers"]:
            state = "leader" if one["Leader"] else "follower"
            rows.append((one["Node"], one["ID"], one["Address"], state, str(one["Voter"]).lower(), one["RaftProtocol"]))
        print(table(rows))
        return 0
    except CommandFailed as error:
        return fail(error)


def autopilot_config(args: argparse.Namespace) -> int:
    try:
        found = Api(args).get("/v1/operator/autopilot/configuration")
        if is_data(args):
            return print_data(args, found)
        for name, value in found.items():
            if not name.endswith("Index"):
                print(f"{name} = {str(value).lower() if isinstance(value, bool) else value}")
        return 0
    except CommandFailed as error:
        return fail(error)


def autopilot_health(args: argparse.Namespace) -> int:
    """1 when nobody leads, so that a script can tell."""
    try:
        found = Api(args).get("/v1/operator/autopilot/health")
        if is_data(args):
            return print_data(args, found)
        print(f"Healthy = {str(found['Healthy']).lower()}\nFailureTolerance = {found['FailureTolerance']}\n")
        rows: list[tuple[object, ...]] = [("Name", "Address", "SerfStatus", "Leader", "Healthy", "Version")]
        rows += [
            (o["Name"], o["Address"], o["SerfStatus"], str(o["Leader"]).lower(), str(o["Healthy"]).lower(), o["Version"])
            for o in found["Servers"]
        ]
        print(table(rows))
        return 0
    except CommandFailed as error:
        return fail(error)


def license_get(args: argparse.Namespace) -> int:
    try:
        Api(args).get("/v1/operator/license")
        raise CommandFailed("there is no license: drover needs none")
    except CommandFailed as error:
        return fail(error)


def remove_peer(args: argparse.Namespace) -> int:
    try:
        Api(args).call("DELETE", "/v1/operator/raft/peer", None, address=args.peer_address, id=args.peer_id)
    except CommandFailed as error:
        return fail(error)
    return 0
