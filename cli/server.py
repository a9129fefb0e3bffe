"""`drover server members|join`, `drover system gc` and `drover ui`."""

import argparse

from cli.client import Api, is_data, print_data, table
from cli.failure import CommandFailed, fail


def members(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        found = api.get("/v1/agent/members")["Members"]
        if is_data(args):
            return print_data(args, found)
        if args.detailed:
            tags = (",".join(f"{k}={v}" for k, v in sorted(m["Tags"].items())) for m in found)
            print(table([("Name", "Address", "Port", "Tags"), *((m["Name"], m["Addr"], m["Port"], t) for m, t in zip(found, tags, strict=True))]))
            return 0
        leader = api.get("/v1/status/leader")
        rows = [("Name", "Address", "Port", "Status", "Leader", "Build", "Datacenter", "Region")]
        rows += [
            (
                m["Name"],
                m["Addr"],
                m["Port"],
                m["Status"],
                str(f"{m['Addr']}:{m['Port']}" == leader).lower(),
                m["Tags"]["build"],
                m["Tags"]["dc"],
                m["Tags"]["region"],
            )
            for m in found
        ]
        print(table(rows))
        return 0
    except CommandFailed as error:
        return fail(error)


def gc(args: argparse.Namespace) -> int:
    try:
        Api(args).put("/v1/system/gc")
        return 0
    except CommandFailed as error:
        return fail(error)


def join(args: argparse.Namespace) -> int:
    try:
        answer = Api(args).put("/v1/agent/join", None, address=args.servers)
    except CommandFailed as error:
        return fail(error)
    if answer.get("error"):
        return fail(CommandFailed(str(answer["error"])))
    print(f"Joined {answer['num_joined']} servers successfully")
    return 0


def ui(args: argparse.Namespace) -> int:
    try:
        print(f"{Api(args).address.rstrip('/')}/ui/")
    except CommandFailed as error:
        return fail(error)
    return 0
