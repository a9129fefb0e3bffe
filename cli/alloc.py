"""`drover alloc …`: status, checks, restart, signal."""

import argparse
from typing import Any

from cli.client import Api, ApiError, ago, clock, fields, is_data, print_data, segment, short, size, table
from cli.failure import CommandFailed, fail
from cli.monitor import follow, refusals


def find_alloc(api: Api, prefix: str) -> dict[str, Any]:
    found = api.find("allocation", "/v1/allocations", prefix)
    alloc: dict[str, Any] = api.get(f"/v1/allocation/{found['ID']}", namespace=found["Namespace"])
    return alloc


def chosen_alloc(api: Api, name: str, *, is_job: bool) -> dict[str, Any]:
    """By its id, or of a job: one that runs if there is one, the newest first."""
    if not is_job:
        return find_alloc(api, name)
    stubs = api.get(f"/v1/job/{segment(name)}/allocations")
    if not stubs:
        raise CommandFailed(f"job {name!r} has no allocations")
    stub = min(stubs, key=lambda a: (a["ClientStatus"] != "running", -a["CreateTime"]))
    alloc: dict[str, Any] = api.get(f"/v1/allocation/{stub['ID']}", namespace=stub["Namespace"])
    return alloc


def chosen_task(alloc: dict[str, Any], name: str | None) -> str:
    tasks: list[str] = sorted(t["Name"] for g in alloc["Job"]["TaskGroups"] if g["Name"] == alloc["TaskGroup"] for t in g["Tasks"])
    if name is not None:
        if name not in tasks:
            raise CommandFailed(f"allocation {alloc['ID'][:8]} has no task {name!r} (it has {', '.join(tasks)})")
        return name
    if len(tasks) != 1:
        raise CommandFailed(f"allocation {alloc['ID'][:8]} has several tasks, name one: {', '.join(tasks)}")
    return tasks[0]


def status(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        if not args.alloc:
            allocs = api.listed("/v1/allocations", args)
            if is_data(args):
                return print_data(args, allocs)
            rows = [("ID", "Job", "Task Group", "Node ID", "Desired", "Status")]
            rows += [
                (
                    short(a["ID"], is_verbose=args.verbose),
                    a["JobID"],
                    a["TaskGroup"],
                    short(a["NodeID"], is_verbose=args.verbose),
                    a["DesiredStatus"],
                    a["ClientStatus"],
                )
                for a in allocs
            ]
            print(table(rows) if allocs else "No allocations")
            return 0
        alloc = find_alloc(api, args.alloc)
        if is_data(args):
            return print_data(args, alloc)
        if args.short:
            print(_short(alloc, is_verbose=args.verbose))
            return 0
        _show(alloc, is_verbose=args.verbose)
        if args.verbose:
            print(f"\nPlacement Metrics\n{metrics(alloc['Metrics'])}")
        if args.stats:
            print(_stats(api, alloc))
        return 0
    except CommandFailed as error:
        return fail(error)


def stop(args: argparse.Namespace) -> int:
    return _change(args, "stop")


def release(args: argparse.Namespace) -> int:
    return _change(args, "release")


def _change(args: argparse.Namespace, verb: str) -> int:
    try:
        api = Api(args)
        alloc = find_alloc(api, args.alloc)
        answer = api.put(f"/v1/allocation/{alloc['ID']}/{verb}")
        if args.detach:
            print(answer["EvalID"])
            return 0
        return follow(api, answer["EvalID"], is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)


def _basics(alloc: dict[str, Any], *, is_verbose: bool) -> str:
    return fields(
        [
            ("ID", alloc["ID"] if is_verbose else short(alloc["ID"], is_verbose=False)),
            ("Eval ID", short(alloc["EvalID"], is_verbose=is_verbose)),
            ("Name", alloc["Name"]),
            ("Node ID", short(alloc["NodeID"], is_verbose=is_verbose)),
            ("Node Name", alloc["NodeName"]),
            ("Job ID", alloc["JobID"]),
            ("Job Version", alloc["JobVersion"]),
            ("Client Status", alloc["ClientStatus"]),
            ("Client Description", alloc["ClientDescription"] or "-"),
            ("Desired Status", alloc["DesiredStatus"]),
            ("Desired Description", alloc["DesiredDescription"] or "-"),
            *_rollout(alloc, is_verbose=is_verbose),
            ("Created", ago(alloc["CreateTime"])),
            ("Modified", ago(alloc["ModifyTime"])),
        ]
    )


def _short(alloc: dict[str, Any], *, is_verbose: bool) -> str:
    """What it is, and of each task the state and what happened last."""
    rows = [("Name", "State", "Last Event", "Time")]
    for name, task in sorted((alloc["TaskStates"] or {}).items()):
        last: dict[str, Any] = (task["Events"] or [{"Type": "<none>", "Time": 0}])[-1]
        rows.append((name, task["State"], last["Type"], clock(last["Time"])))
    tasks = f"\n\nTasks\n{table(rows)}" if len(rows) > 1 else ""
    return f"{_basics(alloc, is_verbose=is_verbose)}{tasks}"


def _show(alloc: dict[str, Any], *, is_verbose: bool) -> None:
    print(_basics(alloc, is_verbose=is_verbose))
    ports = alloc["AllocatedResources"]["Shared"]["Ports"]
    if ports:
        print("\nAllocation Addresses")
        print(table([("Label", "Address"), *((p["Label"], f"{p['HostIP']}:{p['Value']}") for p in ports)]))
    lifecycles = _lifecycles(alloc)
    states = alloc["TaskStates"] or {}
    for name in sorted(states, key=lambda name: (_ORDER.get(lifecycles.get(name, ""), len(_ORDER)), name)):
        task, lifecycle = states[name], lifecycles.get(name, "")
        print(f'\nTask "{name}"{f" ({lifecycle})" if lifecycle else ""} is "{task["State"]}"')
        print(
            fields(
                [
                    ("Started At", task["StartedAt"] or "N/A"),
                    ("Finished At", task["FinishedAt"] or "N/A"),
                    ("Total Restarts", task["Restarts"]),
                    ("Last Restart", task["LastRestart"] or "N/A"),
                ]
            )
        )
        events = list(reversed(task["Events"] or []))
        if events:
            print("\nRecent Events:")
            rows = [("Time", "Type", "Description")]
            rows += [(clock(e["Time"]), e["Type"], e.get("DisplayMessage") or e.get("Message") or "") for e in events]
            print(table(rows))


# In the order in which they run.
_ORDER = {
    name: place
    for place, name in enumerate(
        ("prestart", "prestart sidecar", "", "poststart", "poststart sidecar", "poststop", "poststop sidecar")
    )
}


def _lifecycles(alloc: dict[str, Any]) -> dict[str, str]:
    """{task: "prestart sidecar"}, "" for a main task."""
    groups = (alloc["Job"] or {}).get("TaskGroups") or []
    tasks: list[dict[str, Any]] = next((group["Tasks"] for group in groups if group["Name"] == alloc["TaskGroup"]), [])
    found: dict[str, str] = {}
    for task in tasks:
        lifecycle = task.get("Lifecycle")
        found[task["Name"]] = f"{lifecycle['Hook']}{' sidecar' if lifecycle['Sidecar'] else ''}" if lifecycle else ""
    return found


def _rollout(alloc: dict[str, Any], *, is_verbose: bool) -> list[tuple[str, object]]:
    """What it belongs to, and what came before it."""
    found: list[tuple[str, object]] = []
    if alloc["DeploymentID"]:
        health = (alloc["DeploymentStatus"] or {}).get("Healthy")
        words: dict[Any, str] = {True: "healthy", False: "unhealthy"}
        found.append(("Deployment ID", short(alloc["DeploymentID"], is_verbose=is_verbose)))
        found.append(("Deployment Health", words.get(health, "unset")))
        if (alloc["DeploymentStatus"] or {}).get("Canary"):
            found.append(("Canary", "true"))
    if alloc["PreviousAllocation"]:
        found.append(("Replaces", short(alloc["PreviousAllocation"], is_verbose=is_verbose)))
    if alloc["NextAllocation"]:
        found.append(("Replacement Alloc ID", short(alloc["NextAllocation"], is_verbose=is_verbose)))
    events = (alloc["RescheduleTracker"] or {}).get("Events") or []
    if events:
        found.append(("Reschedule Attempts", len(events)))
    return found


def metrics(metric: dict[str, Any]) -> str:
    """What ruled nodes out, and the best nodes with the parts of their scores."""
    lines = [f"  {line}" for line in refusals(metric)]
    scored = metric["ScoreMetaData"] or []
    names = sorted({name for one in scored for name in one["Scores"]})
    if scored:
        rows: list[tuple[object, ...]] = [("Node", *names, "final score")]
        for one in scored:
            parts = (f"{one['Scores'].get(name, 0):.3g}" for name in names)
            rows.append((one["NodeID"], *parts, f"{one['NormScore']:.3g}"))
        lines.append(table(rows))
    return "\n".join(lines)


def _stats(api: Api, alloc: dict[str, Any]) -> str:
    """What each running task uses, and what it asked for."""
    of_tasks: dict[str, Any] = {}
    if alloc["ClientStatus"] == "running":
        try:
            of_tasks = api.get(f"/v1/client/allocation/{alloc['ID']}/stats")["Tasks"]
        except ApiError as error:
            return f"\nCouldn't retrieve stats: {error.text}"
    rows = [("Task", "CPU", "CPU Percent", "Memory")]
    for name, asked in sorted(alloc["TaskResources"].items()):
        if name not in of_tasks:
            rows.append((name, f"-/{asked['CPU']} MHz", "-", f"-/{size(asked['MemoryMB'] << 20)}"))
            continue
        usage = of_tasks[name]["ResourceUsage"]
        cpu, memory = usage["CpuStats"], usage["MemoryStats"]
        rows.append(
            (
                name,
                f"{cpu['TotalTicks']:.0f}/{asked['CPU']} MHz",
                f"{cpu['Percent']:.2f}%",
                f"{size(memory['Usage'])}/{size(asked['MemoryMB'] << 20)}",
            )
        )
    return f"\nTask Resources\n{table(rows)}"


def restart(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        alloc = find_alloc(api, args.alloc)
        api.put(f"/v1/client/allocation/{alloc['ID']}/restart", {"TaskName": args.task or args.task_flag or ""})
        return 0
    except CommandFailed as error:
        return fail(error)


def signal(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        alloc = find_alloc(api, args.alloc)
        api.put(f"/v1/client/allocation/{alloc['ID']}/signal", {"Task": args.task or args.task_flag or "", "Signal": args.s})
        return 0
    except CommandFailed as error:
        return fail(error)


def checks(args: argparse.Namespace) -> int:
    """What Consul knows of the checks of the alloc's services."""
    try:
        api = Api(args)
        alloc = find_alloc(api, args.alloc)
        found = api.get(f"/v1/client/allocation/{alloc['ID']}/checks")
        if is_data(args):
            return print_data(args, found)
        shown = sorted(found.values(), key=lambda check: (check["Service"], check["Check"]))
        print(f'Status of {len(shown)} checks of allocation "{short(alloc["ID"], is_verbose=args.verbose)}"')
        if not shown:
            return 0
        rows = [("Service", "Task", "Check", "Mode", "Status", "Output")]
        for check in shown:
            output = check["Output"].strip().partition("\n")[0] or "<none>"
            rows.append((check["Service"], check["Task"] or "(group)", check["Check"], check["Mode"], check["Status"], output))
        print()
        print(table(rows))
        return 0
    except CommandFailed as error:
        return fail(error)
