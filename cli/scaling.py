"""`drover scaling policy list|info`."""

import argparse
import json

from cli.client import Api, fields, is_data, print_data, short, table
from cli.failure import CommandFailed, fail


def policy_list(args: argparse.Namespace) -> int:
    try:
        found = Api(args).get("/v1/scaling/policies", job=args.job, type=args.type)
        if is_data(args):
            return print_data(args, found)
        if not found:
            print("No policies found")
        else:
            rows: list[tuple[object, ...]] = [("ID", "Enabled", "Type", "Target")]
            for one in found:
                target = ",".join(f"{name}:{value}" for name, value in one["Target"].items())
                rows.append((short(one["ID"], is_verbose=args.verbose), str(one["Enabled"]).lower(), one["Type"], target))
            print(table(rows))
        return 0
    except CommandFailed as error:
        return fail(error)


def policy_info(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        policy = api.get(f"/v1/scaling/policy/{api.find('scaling policy', '/v1/scaling/policies', args.policy)['ID']}")
        if is_data(args):
            return print_data(args, policy)
        target = ",".join(f"{name}:{value}" for name, value in policy["Target"].items())
        print(
            fields(
                [
                    ("ID", short(policy["ID"], is_verbose=args.verbose)),
                    ("Enabled", str(policy["Enabled"]).lower()),
                    ("Type", policy["Type"]),
                    ("Target", target),
                    ("Min", policy["Min"]),
                    ("Max", policy["Max"]),
                ]
            )
        )
        print(f"\nPolicy:\n{json.dumps(policy['Policy'], indent=4)}")
        return 0
    except CommandFailed as error:
        return fail(error)
