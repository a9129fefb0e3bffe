"""`drover node meta`: what jobs may ask of a node as ${meta.…}, and setting it without a restart."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from cli.client import Api, fields, is_data, print_data
from cli.failure import CommandFailed, fail


def apply(args: argparse.Namespace) -> int:
    """Prints nothing on stdout when it is done, as Nomad's."""
    try:
        changes = _changes(args)
        api = Api(args)
        node = _node(api, args.node_id)
        api.put("/v1/client/metadata", {"NodeID": node["ID"] if node else "", "Meta": changes})
    except CommandFailed as error:
        return fail(error)
    if node and node["Status"] == "down":
        print(f"Warning: node {node['Name']} is down, the change takes effect when it returns", file=sys.stderr)
    return 0


def read(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        node = _node(api, args.node_id)
        found = api.get("/v1/client/metadata", node_id=node["ID"] if node else None)
    except CommandFailed as error:
        return fail(error)
    if is_data(args):
        return print_data(args, found)
    parts = (("All Meta", found["Meta"]), ("Dynamic Meta", found["Dynamic"]), ("Static Meta", found["Static"]))
    print("\n\n".join(f"{title}\n{_listed(meta)}".rstrip() for title, meta in parts))
    return 0


def _changes(args: argparse.Namespace) -> dict[str, str | None]:
    changes: dict[str, str | None] = {key: None for key in args.unset.split(",") if key}
    for pair in args.pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise CommandFailed(f"{pair!r}: expected key=value")
        if key in changes and changes[key] is None:
            raise CommandFailed(f"{key!r} is both set and unset")
        changes[key] = value
    if not changes:
        raise CommandFailed("nothing to change: expected key=value, or -unset with keys")
    return changes


def _node(api: Api, prefix: str | None) -> Mapping[str, Any] | None:
    """None: the node of the agent that is asked."""
    return api.find("node", "/v1/nodes", prefix) if prefix else None


def _listed(meta: Mapping[str, str | None]) -> str:
    rows = [(key, "<unset>" if value is None else value) for key, value in sorted(meta.items())]
    return fields(rows) if rows else ""
