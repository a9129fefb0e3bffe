"""`drover job status`, `job allocs` and `job inspect`."""

import argparse
from typing import Any

from cli.client import Api, ago, clock, fields, is_data, print_data, segment, short, table
from cli.deployment import described
from cli.failure import CommandFailed, fail
from cli.monitor import print_placement_failure


def find_job(api: Api, name: str) -> dict[str, Any]:
    """The job of that id, or the only one whose id begins so. Raises CommandFailed."""
    found = api.get("/v1/jobs", prefix=name)
    exact: dict[str, Any] | None = next((job for job in found if job["ID"] == name), None)
    if exact is not None:
        return exact
    if not found:
        raise CommandFailed(f"No job(s) with prefix or ID {name!r} found")
    # The children of one that is meant are not meant.
    known = {(job["Namespace"], job["ID"]) for job in found}
    found = [job for job in found if (job["Namespace"], job["ParentID"]) not in known]
    if len(found) > 1:
        raise CommandFailed(f"Prefix {name!r} matched several jobs: {', '.join(job['ID'] for job in found)}")
    only: dict[str, Any] = found[0]
    return only


def run(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        if not args.job:
            return _list(api, args)
        job = find_job(api, args.job)
        return _show(api, job["ID"], job["Namespace"], args)
    except CommandFailed as error:
        return fail(error)


def inspect(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        job = find_job(api, args.job)
        path = f"/v1/job/{segment(job['ID'])}"
        if args.version is None:
            found = api.get(path, namespace=job["Namespace"])
        else:
            versions = api.get(f"{path}/versions", namespace=job["Namespace"])["Versions"]
            found = next((one for one in versions if one["Version"] == args.version), None)
            if found is None:
                raise CommandFailed(f'job "{job["ID"]}" has no version {args.version} any more')
        # A template is given the job itself; the JSON can be submitted again.
        return print_data(args, found if args.template is not None else {"Job": found})
    except CommandFailed as error:
        return fail(error)


def _list(api: Api, args: argparse.Namespace) -> int:
    jobs = api.listed("/v1/jobs", args)
    if is_data(args):
        return print_data(args, jobs)
    if not jobs:
        print("No running jobs")
    else:
        from cli.job_children import grouped, kind

        jobs, notes = grouped(jobs, has_all=args.verbose)
        rows = [("ID", "Type", "Priority", "Status", "Submit Date")]
        rows += [(j["ID"], kind(j), j["Priority"], _status(j), clock(j["SubmitTime"])) for j in jobs]
        print(table(rows))
        if notes:
            print("\n" + "\n".join(notes))
    return 0


def _status(job: dict[str, Any]) -> str:
    return f"{job['Status']} (stopped)" if job["Stop"] else str(job["Status"])


def _show(api: Api, job_id: str, namespace: str, args: argparse.Namespace) -> int:
    path = f"/v1/job/{segment(job_id)}"
    job = api.get(path, namespace=namespace)
    if is_data(args):
        return print_data(args, job)
    from cli import job_children

    print(fields([*_basics(job), *job_children.basics(job)]))
    if args.short:
        return 0
    if job["Periodic"] is not None or (job["ParameterizedJob"] is not None and not job["Dispatched"]):
        job_children.show_parent(api, job, path)
        return 0
    allocs = api.get(f"{path}/allocations", namespace=namespace)
    evaluations = api.get(f"{path}/evaluations", namespace=namespace)
    told = api.get(f"{path}/summary", namespace=namespace)
    summary, completions = told["Summary"], told.get("Completions", {})
    print("\nSummary")
    columns = ("Queued", "Starting", "Running", "Failed", "Complete", "Lost")
    print(table([("Task Group", *columns), *((g, *(s[c] for c in columns)) for g, s in sorted(summary.items()))]))
    if completions:
        print(f"\nCompletions\n{_completions(completions)}")
    if args.evals or args.verbose:
        print("\nEvaluations")
        print(_evaluations(evaluations, is_verbose=args.verbose))
    blocked = next((e for e in evaluations if e["Status"] == "blocked"), None)
    if blocked and blocked.get("FailedTGAllocs"):
        print("\nPlacement Failure")
        for group, metric in sorted(blocked["FailedTGAllocs"].items()):
            print_placement_failure(group, metric)
    deployment = api.get(f"{path}/deployment", namespace=namespace)
    if deployment:
        print(f"\nLatest Deployment\n{described(deployment, is_verbose=args.verbose)}")
    if completions:
        print("\nRuns")
        _print_runs([alloc for alloc in allocs if alloc["TaskGroup"] in completions], args)
        allocs = [alloc for alloc in allocs if alloc["TaskGroup"] not in completions]
        if not allocs:
            return 0
    print("\nAllocations")
    _print_allocations(allocs, args)
    return 0


def allocs(args: argparse.Namespace) -> int:
    """`drover job allocs`: also those of earlier versions of a job of this id."""
    try:
        api = Api(args)
        job = find_job(api, args.job)
        found = api.get(f"/v1/job/{segment(job['ID'])}/allocations", namespace=job["Namespace"], all=args.all)
        if is_data(args):
            return print_data(args, found)
        _print_allocations(found, args)
        return 0
    except CommandFailed as error:
        return fail(error)


def _print_allocations(allocs: list[dict[str, Any]], args: argparse.Namespace) -> None:
    if not allocs:
        print("No allocations placed")
        return
    rows = [("ID", "Node ID", "Task Group", "Version", "Desired", "Status", "Created", "Modified")]
    for alloc in sorted(allocs, key=lambda a: -a["CreateTime"]):
        rows.append(
            (
                short(alloc["ID"], is_verbose=args.verbose),
                short(alloc["NodeID"], is_verbose=args.verbose),
                alloc["TaskGroup"],
                alloc["JobVersion"],
                alloc["DesiredStatus"],
                alloc["ClientStatus"],
                ago(alloc["CreateTime"]),
                ago(alloc["ModifyTime"]),
            )
        )
    print(table(rows))


def _completions(completions: dict[str, Any]) -> str:
    """How far each group with a completion block is, and why it failed."""
    rows = [("Task Group", "Wanted", "Succeeded", "Failed", "Active", "Status", "Started", "Finished")]
    for name, one in sorted(completions.items()):
        wanted = "any" if one["Wanted"] is None else one["Wanted"]
        started, finished = (clock(one[at]) if one[at] else "N/A" for at in ("StartedAt", "FinishedAt"))
        rows.append((name, wanted, one["Succeeded"], one["Failed"], one["Active"], one["Status"], started, finished))
    reasons = [f"{name}: {one['Reason']}" for name, one in sorted(completions.items()) if one["Reason"]]
    return "\n".join([table(rows), *reasons])


# Runs that are shown of a job that has had thousands; -verbose shows all.
_RUNS_SHOWN = 50


def _print_runs(allocs: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """The newest first, with what each task of theirs ended with."""
    if not allocs:
        print("No allocations placed")
        return
    rows = [("ID", "Node ID", "Task Group", "Index", "Version", "Desired", "Status", "Exit Code", "Created", "Modified")]
    newest = sorted(allocs, key=lambda a: -a["CreateTime"])
    for alloc in newest if args.verbose else newest[:_RUNS_SHOWN]:
        rows.append(
            (
                short(alloc["ID"], is_verbose=args.verbose),
                short(alloc["NodeID"], is_verbose=args.verbose),
                alloc["TaskGroup"],
                alloc["Name"][alloc["Name"].rindex("[") + 1 : -1],
                alloc["JobVersion"],
                alloc["DesiredStatus"],
                alloc["ClientStatus"],
                _exit_codes(alloc),
                clock(alloc["CreateTime"]),
                clock(alloc["ModifyTime"]),
            )
        )
    print(table(rows))
    if not args.verbose and len(newest) > _RUNS_SHOWN:
        print(f"… and {len(newest) - _RUNS_SHOWN} more: -verbose shows all")


def _exit_codes(alloc: dict[str, Any]) -> str:
    """Of each task the last end that is remembered; with its name where there are several."""
    codes = {}
    for name, state in sorted((alloc["TaskStates"] or {}).items()):
        ends = [event.get("ExitCode", 0) for event in state["Events"] or () if event["Type"] == "Terminated"]
        if ends:
            codes[name] = ends[-1]
    if len(alloc["TaskStates"] or {}) == 1:
        return str(next(iter(codes.values()), "-"))
    return ",".join(f"{name}={code}" for name, code in codes.items()) or "-"


def _basics(job: dict[str, Any]) -> list[tuple[str, object]]:
    said = f" ({job['StatusDescription']})" if job.get("StatusDescription") else ""
    return [
        ("ID", job["ID"]),
        ("Name", job["Name"]),
        ("Submit Date", clock(job["SubmitTime"])),
        ("Type", job["Type"]),
        ("Priority", job["Priority"]),
        ("Datacenters", ",".join(job["Datacenters"])),
        ("Namespace", job["Namespace"]),
        ("Status", f"{_status(job)}{said}"),
        ("Version", job["Version"]),
    ]


def _evaluations(evaluations: list[dict[str, Any]], *, is_verbose: bool) -> str:
    rows = [("ID", "Priority", "Triggered By", "Status", "Placement Failures")]
    for one in evaluations:
        failures = "N/A - In Progress" if one["Status"] == "blocked" else str(bool(one["FailedTGAllocs"])).lower()
        rows.append(
            (short(one["ID"], is_verbose=is_verbose), one["Priority"], one["TriggeredBy"], one["Status"], failures)
        )
    return table(rows)
