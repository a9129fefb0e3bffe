"""`drover node meta`: what jobs may ask of a node as ${meta.…}, and setting it without a restart."""

import argparse
from collections.abc import Mapping

from cli.client import Api, CommandFailed, fail, fields, print_json


def apply(args: argparse.Namespace) -> int:
    """Prints nothing when it is done, as Nomad's."""
    try:
        changes = _changes(args)
        api = Api(args)
        api.put("/v1/client/metadata", {"NodeID": _node_id(api, args.node_id), "Meta": changes})
        return 0
    except CommandFailed as error:
        return fail(error)


def read(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        found = api.get("/v1/client/metadata", node_id=_node_id(api, args.node_id) or None)
    except CommandFailed as error:
        return fail(error)
    if args.json:
        print_json(found)
    else:
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


def _node_id(api: Api, prefix: str | None) -> str:
    """The whole id; "" for the node of the agent that is asked."""
    return str(api.find("node", "/v1/nodes", prefix)["ID"]) if prefix else ""


def _listed(meta: Mapping[str, str | None]) -> str:
    rows = [(key, "<unset>" if value is None else value) for key, value in sorted(meta.items())]
    return fields(rows) if rows else ""
