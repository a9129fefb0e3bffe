"""`drover deployment …`, and what every command shows that follows a roll-out.

Exit codes of following: 0 successful or waiting for somebody, 2 failed or not done in time, 1 another error.
"""

import argparse
import time
from typing import Any

from cli.client import Api, ApiError, clock, fields, is_data, print_data, segment, short, table
from cli.failure import CommandFailed, fail

FAILED = 2
_POLL_S = 0.5
# Of an alloc that failed a deployment.
_EVENTS_SHOWN, _LOG_LINES_SHOWN = 5, 20
_LOG_BYTES_ASKED = 64 * 1024  # lines of 3 KB, as stack traces in JSON are


def list_all(args: argparse.Namespace) -> int:
    try:
        found = Api(args).listed("/v1/deployments", args)
    except CommandFailed as error:
        return fail(error)
    if is_data(args):
        return print_data(args, found)
    print(listed(found, is_verbose=args.verbose))
    return 0


def listed(deployments: list[dict[str, Any]], *, is_verbose: bool) -> str:
    if not deployments:
        return "No deployments found"
    rows: list[tuple[object, ...]] = [("ID", "Job ID", "Job Version", "Status", "Description")]
    rows += [
        (short(d["ID"], is_verbose=is_verbose), d["JobID"], d["JobVersion"], d["Status"], d["StatusDescription"])
        for d in deployments
    ]
    return table(rows)


def status(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        if args.deployment is None:
            return list_all(args)
        found = _find(api, args.deployment)
        if is_data(args):
            return print_data(args, found)
        print(described(found, is_verbose=args.verbose))
        if args.monitor:
            return follow(api, found["ID"], is_verbose=args.verbose, timeout_s=None)
        return 0
    except CommandFailed as error:
        return fail(error)


def promote(args: argparse.Namespace) -> int:
    body: dict[str, Any] = {"Groups": args.group} if args.group else {"All": True}
    return _say(args, "promote", body)


def fail_it(args: argparse.Namespace) -> int:
    return _say(args, "fail", {})


def pause(args: argparse.Namespace) -> int:
    return _say(args, "pause", {"Pause": True}, is_followed=False)


def resume(args: argparse.Namespace) -> int:
    return _say(args, "pause", {"Pause": False})


def _say(args: argparse.Namespace, what: str, body: dict[str, Any], *, is_followed: bool = True) -> int:
    try:
        api = Api(args)
        found = _find(api, args.deployment)
        answer = api.put(f"/v1/deployment/{what}/{found['ID']}", {"DeploymentID": found["ID"], **body})
        if args.detach or not is_followed:
            print(f'Deployment "{short(found["ID"], is_verbose=args.verbose)}": done\nEvaluation ID: {answer["EvalID"]}')
            return 0
        code = follow(api, found["ID"], is_verbose=args.verbose, timeout_s=None)
        return 0 if what == "fail" and code == FAILED else code
    except CommandFailed as error:
        return fail(error)


def _find(api: Api, prefix: str) -> dict[str, Any]:
    found = api.find("deployment", "/v1/deployments", prefix)
    one: dict[str, Any] = api.get(f"/v1/deployment/{found['ID']}")
    return one


def described(deployment: dict[str, Any], *, is_verbose: bool) -> str:
    """As `deployment status` and `job status` show it."""
    head = fields(
        [
            ("ID", short(deployment["ID"], is_verbose=is_verbose)),
            ("Job ID", deployment["JobID"]),
            ("Job Version", deployment["JobVersion"]),
            ("Status", deployment["Status"]),
            ("Description", deployment["StatusDescription"]),
        ]
    )
    return f"{head}\n\nDeployed\n{groups(deployment)}" if deployment["TaskGroups"] else head


def groups(deployment: dict[str, Any]) -> str:
    of = sorted(deployment["TaskGroups"].items())
    has_canaries = any(state["DesiredCanaries"] for _, state in of)
    has_revert = any(state["AutoRevert"] for _, state in of)
    head = ["Task Group", *(["Auto Revert"] if has_revert else []), *(["Promoted"] if has_canaries else []), "Desired"]
    head += [*(["Canaries"] if has_canaries else []), "Placed", "Healthy", "Unhealthy", "Progress Deadline"]
    rows: list[list[object]] = [list(head)]
    for name, state in of:
        row: list[object] = [name]
        if has_revert:
            row.append(str(state["AutoRevert"]).lower())
        if has_canaries:
            row.append(str(state["Promoted"]).lower() if state["DesiredCanaries"] else "N/A")
        row.append(state["DesiredTotal"])
        if has_canaries:
            row.append(state["DesiredCanaries"] or "N/A")
        row += [state["PlacedAllocs"], state["HealthyAllocs"], state["UnhealthyAllocs"]]
        row.append("N/A" if state["RequireProgressBy"].startswith("0001") else state["RequireProgressBy"])
        rows.append(row)
    return table(rows)


def follow(api: Api, deployment_id: str, *, is_verbose: bool, timeout_s: float | None) -> int:
    """Prints each change until it ends, or waits for somebody."""
    print(f'==> Monitoring deployment "{short(deployment_id, is_verbose=is_verbose)}"')
    give_up_s = None if timeout_s is None else time.monotonic() + timeout_s
    shown = ""
    while True:
        found = api.get(f"/v1/deployment/{deployment_id}")
        now = "\n".join(f"    {line}" for line in (found["StatusDescription"], *groups(found).splitlines()))
        if now != shown:
            print(now, flush=True)
            shown = now
        if found["Status"] not in ("running", "pending"):
            break
        if _waits_for_promotion(found):
            where = short(deployment_id, is_verbose=is_verbose)
            print(f'==> The canaries are healthy and wait: drover deployment promote {where} (or fail)')
            return 0
        if give_up_s is not None and time.monotonic() >= give_up_s:
            print(f"==> Not done within {timeout_s:g} s; it goes on: drover deployment status {deployment_id[:8]}")
            return FAILED
        time.sleep(_POLL_S)
    print(f'==> Deployment "{short(deployment_id, is_verbose=is_verbose)}" {found["Status"]}')
    if found["Status"] == "failed":
        _print_culprit(api, deployment_id, is_verbose=is_verbose)
        return FAILED
    return 1 if found["Status"] == "cancelled" else 0


def _waits_for_promotion(deployment: dict[str, Any]) -> bool:
    waiting = [s for s in deployment["TaskGroups"].values() if s["DesiredCanaries"] and not s["Promoted"]]
    return bool(waiting) and all(not s["AutoPromote"] and s["HealthyAllocs"] >= s["DesiredCanaries"] for s in waiting)


def _print_culprit(api: Api, deployment_id: str, *, is_verbose: bool) -> None:
    """One alloc that did not become healthy: what happened to its tasks, and the end of what they said."""
    allocs = api.get(f"/v1/deployment/allocations/{deployment_id}")
    sick = [a for a in allocs if a["ClientStatus"] == "failed" or (a["DeploymentStatus"] or {}).get("Healthy") is False]
    sick = sick or [a for a in allocs if not (a["DeploymentStatus"] or {}).get("Healthy")]
    if not sick:
        return
    alloc = max(sick, key=lambda a: int(a["ModifyTime"]))
    print(f'\nAllocation "{short(alloc["ID"], is_verbose=is_verbose)}" ({alloc["Name"]}) is {alloc["ClientStatus"]}')
    for name, state in sorted((alloc["TaskStates"] or {}).items()):
        rows: list[tuple[object, ...]] = [("Time", "Type", "Description")]
        events = (state["Events"] or [])[-_EVENTS_SHOWN:]
        rows += [(clock(e["Time"]), e["Type"], e.get("DisplayMessage") or e.get("Message") or "") for e in events]
        print(f'\nTask "{name}" is {state["State"]}\n{table(rows)}')
        for kind in ("stderr", "stdout"):
            lines = _last_lines(api, alloc["ID"], name, kind)
            if lines:
                print(f"\nThe end of its {kind}\n" + "\n".join(f"    {line}" for line in lines))


def _last_lines(api: Api, alloc_id: str, task: str, kind: str) -> list[str]:
    try:
        pieces = api.stream(
            f"/v1/client/fs/logs/{segment(alloc_id)}", task=task, type=kind, plain=True, origin="end", offset=_LOG_BYTES_ASKED
        )
        text = b"".join(pieces).decode("utf-8", "replace")
    except (ApiError, CommandFailed):
        return []  # it is gone with its node
    lines = text.splitlines()
    # The first may be the rest of a line.
    return lines[1:][-_LOG_LINES_SHOWN:] if len(text) >= _LOG_BYTES_ASKED and len(lines) > 1 else lines[-_LOG_LINES_SHOWN:]


def unblock(args: argparse.Namespace) -> int:
    """Only a deployment over several regions is ever blocked."""
    try:
        api = Api(args)
        found = api.find("deployment", "/v1/deployments", args.deployment)
        api.put(f"/v1/deployment/unblock/{found['ID']}", {"DeploymentID": found["ID"]})
    except CommandFailed as error:
        return fail(error)
    return 0
