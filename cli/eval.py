"""`drover eval list` and `drover eval status`."""

import argparse

from cli.client import Api, fields, is_data, print_data, short, table
from cli.failure import CommandFailed, fail
from cli.monitor import follow, print_placement_failure


def list_all(args: argparse.Namespace) -> int:
    try:
        found = Api(args).listed("/v1/evaluations", args)
        found = [e for e in found if args.job in (None, e["JobID"]) and args.status in (None, e["Status"])]
        if is_data(args):
            return print_data(args, found)
        if not found:
            print("No evals found")
            return 0
        rows: list[tuple[object, ...]] = [("ID", "Priority", "Triggered By", "Job ID", "Namespace", "Status", "Placement Failures")]
        for one in found:
            failures = "N/A - In Progress" if one["Status"] in ("blocked", "pending") else str(bool(one["FailedTGAllocs"])).lower()
            identity = short(one["ID"], is_verbose=args.verbose)
            rows.append((identity, one["Priority"], one["TriggeredBy"], one["JobID"], one["Namespace"], one["Status"], failures))
        print(table(rows))
        return 0
    except CommandFailed as error:
        return fail(error)


def status(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        found = api.find("evaluation", "/v1/evaluations", args.eval)
        if args.monitor:
            return follow(api, found["ID"], is_verbose=args.verbose)
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
