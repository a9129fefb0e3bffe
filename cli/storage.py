"""`drover volume status` and `drover plugin status`: of CSI, of which drover has nothing."""

import argparse

from cli.client import Api, is_data, print_data
from cli.failure import CommandFailed, fail


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
        if is_data(args):
            return print_data(args, found)
        print(f"Container Storage Interface\nNo CSI {kind}s")
        return 0
    except CommandFailed as error:
        return fail(error)
