"""`drover brake status` and `drover brake release`."""

import argparse
from typing import Any

from cli.client import Api, ago, is_data, print_data, short, table
from cli.failure import CommandFailed, fail


def status(args: argparse.Namespace) -> int:
    return _run(args, lambda api: api.get("/v1/operator/brake"))


def release(args: argparse.Namespace) -> int:
    return _run(args, lambda api: api.put("/v1/operator/brake/release"))


def _run(args: argparse.Namespace, call: Any) -> int:
    try:
        found = call(Api(args))
    except CommandFailed as error:
        return fail(error)
    if is_data(args):
        return print_data(args, found)
    if found["Engaged"]:
        print("The brake is engaged: unheard nodes keep their work until they are heard, or `drover brake release`")
    else:
        print("The brake is not engaged")
    if found["HeldS"]:
        print(f"No node is held lost for another {found['HeldS']:.0f} s: a new leader leads, or Consul was away")
    if found["Scopes"]:
        rows = [("Scope", "Unheard", "Nodes", "Limit", "Brake")]
        rows += [
            (s["Name"], s["Unheard"], s["Total"], f"{s['LimitPercent']:g} %", "engaged" if s["IsEngaged"] else "-")
            for s in found["Scopes"]
        ]
        print(table(rows))
    if found["Released"]:
        names = ", ".join(short(node, is_verbose=args.verbose) for node in found["Released"])
        print(f"Given up {ago(found['ReleasedAt'])}: {names}")
    return 0
