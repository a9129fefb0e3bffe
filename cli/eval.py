"""`drover eval status`."""

import argparse

from cli.client import Api, CommandFailed, fail, fields, is_data, print_data, short
from cli.monitor import print_placement_failure


def status(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        found = api.find("evaluation", "/v1/evaluations", args.eval)
        evaluation = api.get(f"/v1/evaluation/{found['ID']}")
        if is_data(args):
            return print_data(args, evaluation)
        print(
            fields(
                [
                    ("ID", short(evaluation["ID"], is_verbose=args.verbose)),
                    ("Status", evaluation["Status"]),
                    ("Status Description", evaluation["StatusDescription"] or evaluation["Status"]),
                    ("Type", evaluation["Type"]),
                    ("TriggeredBy", evaluation["TriggeredBy"]),
                    ("Job ID", evaluation["JobID"]),
                    ("Priority", evaluation["Priority"]),
                    ("Placement Failures", str(bool(evaluation["FailedTGAllocs"])).lower()),
                ]
            )
        )
        if evaluation["FailedTGAllocs"]:
            print("\nFailed Placements")
            for group, metric in sorted(evaluation["FailedTGAllocs"].items()):
                print_placement_failure(group, metric)
        return 0
    except CommandFailed as error:
        return fail(error)
