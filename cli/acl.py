"""`drover acl`: what Consul knows of the caller's token. Tokens and policies are made with `consul acl`."""

import argparse

from cli.client import Api, fields, is_data, print_data
from cli.failure import CommandFailed, fail


def token_self(args: argparse.Namespace) -> int:
    try:
        token = Api(args).get("/v1/acl/token/self")
    except CommandFailed as error:
        return fail(error)
    if is_data(args):
        return print_data(args, token)
    print(
        fields(
            [
                ("Accessor ID", token["AccessorID"]),
                ("Name", token["Name"] or "<none>"),
                ("Type", token["Type"]),
                ("Global", str(token["Global"]).lower()),
                ("Create Time", token["CreateTime"]),
                ("Policies", ", ".join(token["Policies"] or []) or "<none>"),
            ]
        )
    )
    return 0
