"""`drover volume status` and `drover plugin status`: of CSI, of which drover has nothing."""

import argparse

from cli.client import Api, CommandFailed, fail, print_json


def volume_status(args: argparse.Namespace) -> int:
    return _status(args, "volume")


def plugin_status(args: argparse.Namespace) -> int:
    return _status(args, "plugin")


def _status(args: argparse.Namespace, kind: str) -> int:
    try:
        api = Api(args)
        if args.id is not None:
            raise CommandFailed(f"No {kind}(s) with prefix or ID {args.id!r} found")
        found = api.get(f"/v1/{kind}s", type="csi")
        if args.json:
            print_json(found)
        else:
            print(f"Container Storage Interface\nNo CSI {kind}s")
        return 0
    except CommandFailed as error:
        return fail(error)
