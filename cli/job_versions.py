"""`drover job history|revert|deployments|promote|scale|restart|eval`: a job's versions, and what is done with them."""

import argparse
import json
from typing import Any

from cli.client import Api, clock, fields, is_data, print_data, segment, table
from cli.deployment import described, listed
from cli.failure import CommandFailed, fail
from cli.job_children import recent
from cli.job_plan import job_diff, plain
from cli.job_status import find_job
from cli.monitor import follow


def history(args: argparse.Namespace) -> int:
    try:
        api, job = _job(args)
        answer = api.get(f"/v1/job/{segment(job['ID'])}/versions", namespace=job["Namespace"], diffs=args.p)
        is_parent = (job["Periodic"] or job["ParameterizedJob"]) and args.version is None and not is_data(args)
        children = recent(api, job) if is_parent else ""
    except CommandFailed as error:
        return fail(error)
    versions, diffs = answer["Versions"], answer["Diffs"] or []
    if args.version is not None:
        versions = [one for one in versions if one["Version"] == args.version]
        if not versions:
            return fail(CommandFailed(f'job "{job["ID"]}" has no version {args.version} any more'))
    if is_data(args):
        return print_data(args, versions)
    if args.full:
        print(json.dumps(versions, indent=4))
        return 0
    for number, version in enumerate(versions):
        if number:
            print()
        print(
            fields(
                [
                    ("Version", version["Version"]),
                    ("Stable", str(version["Stable"]).lower()),
                    ("Submit Date", clock(version["SubmitTime"])),
                ]
            )
        )
        if number < len(diffs) and diffs[number]:
            print(f"Diff         =\n{job_diff(diffs[number], plain, is_verbose=False)}")
    if children:
        print(f"\n{children}")
    return 0


def revert(args: argparse.Namespace) -> int:
    more = {"AllowVaultCycle": True} if args.allow_vault_cycle else {}
    return _changed(args, "revert", lambda job: {"JobID": job["ID"], "JobVersion": args.version, **more})


def scale(args: argparse.Namespace) -> int:
    """`scale JOB COUNT` for a job of one group, else `scale JOB GROUP COUNT`."""
    group, count = (args.group_or_count, args.count) if args.count is not None else (None, args.group_or_count)
    if not str(count).isdecimal():
        return fail(CommandFailed(f"expected a count, found {count!r}"))

    def body(job: dict[str, Any]) -> dict[str, Any]:
        name = group
        if name is None:
            groups = sorted(job["JobSummary"]["Summary"])
            if len(groups) != 1:
                raise CommandFailed(f"the job has several groups, name one: {', '.join(groups)}")
            name = groups[0]
        return {"Count": int(count), "Target": {"Job": job["ID"], "Group": name}}

    return _changed(args, "scale", body)


def start(args: argparse.Namespace) -> int:
    """Submits what a stopped job was."""
    try:
        api, job = _job(args)
        if not job["Stop"]:
            raise CommandFailed(f'job "{job["ID"]}" is not stopped')
        path = f"/v1/job/{segment(job['ID'])}"
        body = {"Job": api.get(path, namespace=job["Namespace"]) | {"Stop": False}}
        if args.allow_vault_cycle:
            body["AllowVaultCycle"] = True
        answer = api.put(path, body, namespace=job["Namespace"])
        if args.detach:
            print(f"Evaluation ID: {answer['EvalID']}")
            return 0
        return follow(api, answer["EvalID"], is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)


def scaling_events(args: argparse.Namespace) -> int:
    try:
        api, job = _job(args)
        found = api.get(f"/v1/job/{segment(job['ID'])}/scale", namespace=job["Namespace"])
    except CommandFailed as error:
        return fail(error)
    events = [(group, event) for group, one in found["TaskGroups"].items() for event in one["Events"] or []]
    events.sort(key=lambda one: -one[1]["Time"])
    if is_data(args):
        return print_data(args, {group: one["Events"] for group, one in found["TaskGroups"].items()})
    if not events:
        print("No events found")
    else:
        rows: list[tuple[object, ...]] = [("Task Group", "Count", "PrevCount", "Error", "Message", "Date")]
        for group, event in events:
            count = "<nil>" if event["Count"] is None else event["Count"]
            rows.append((group, count, event["PreviousCount"], str(event["Error"]).lower(), event["Message"], clock(event["Time"])))
        print(table(rows))
    return 0


def restart(args: argparse.Namespace) -> int:
    return _changed(args, "restart", lambda job: {"JobID": job["ID"]})


def evaluate(args: argparse.Namespace) -> int:
    return _changed(args, "evaluate", lambda job: {"JobID": job["ID"], "EvalOptions": {"ForceReschedule": args.force_reschedule}})


def _changed(args: argparse.Namespace, suffix: str, body: Any) -> int:
    try:
        api, job = _job(args)
        answer = api.put(f"/v1/job/{segment(job['ID'])}/{suffix}", body(job), namespace=job["Namespace"])
        if answer.get("Warnings"):
            print(f"Job Warnings:\n{answer['Warnings']}\n")
        if args.detach:
            print(f"Evaluation ID: {answer['EvalID']}")
            return 0
        return follow(api, answer["EvalID"], is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)


def deployments(args: argparse.Namespace) -> int:
    try:
        api, job = _job(args)
        found = api.get(f"/v1/job/{segment(job['ID'])}/deployments", namespace=job["Namespace"])
    except CommandFailed as error:
        return fail(error)
    found = found[:1] if args.latest else found
    if is_data(args):
        return print_data(args, found)
    if args.latest and found:
        print(described(found[0], is_verbose=args.verbose))
    else:
        print(listed(found, is_verbose=args.verbose))
    return 0


def promote(args: argparse.Namespace) -> int:
    """Of the job's newest deployment."""
    try:
        api, job = _job(args)
        found = api.get(f"/v1/job/{segment(job['ID'])}/deployment", namespace=job["Namespace"])
        if not found:
            raise CommandFailed(f'job "{job["ID"]}" has no deployment')
        body = {"DeploymentID": found["ID"], **({"Groups": args.group} if args.group else {"All": True})}
        answer = api.put(f"/v1/deployment/promote/{found['ID']}", body)
        if args.detach:
            print(f"Evaluation ID: {answer['EvalID']}")
            return 0
        return follow(api, answer["EvalID"], is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)


def _job(args: argparse.Namespace) -> tuple[Api, dict[str, Any]]:
    api = Api(args)
    return api, find_job(api, args.job)
