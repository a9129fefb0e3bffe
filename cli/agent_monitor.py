"""`drover monitor`: an agent's log as it is written."""

import argparse
import sys

from cli.client import Api, frames
from cli.failure import CommandFailed, fail


def run(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        if args.node_id and args.server_id:
            raise CommandFailed("Cannot target node and server simultaneously")
        params: dict[str, object] = {"log_level": args.log_level, "log_json": args.json}
        if args.node_id:
            params["node_id"] = _node(api, args.node_id)
        if args.server_id:
            params["server_id"] = args.server_id
        for data in frames(api.stream("/v1/agent/monitor", **params)):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        return 0
    except CommandFailed as error:
        return fail(error)
    except KeyboardInterrupt:
        return 0  # the only way to end it


def _node(api: Api, prefix: str) -> str:
    """`local` is the node of the agent that is asked."""
    if prefix == "local":
        return str(api.get("/v1/agent/self")["stats"].get("client", {}).get("node_id", ""))
    return str(api.find("node", "/v1/nodes", prefix)["ID"])
