"""`drover rebalance`: says what moves, and stays until it has."""

import argparse
import time
from typing import Any

from cli.client import Api, ApiError, is_data, print_data, segment, short, table
from cli.failure import CommandFailed, fail
from cli.job_status import find_job

_POLL_S = 0.5


def run(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        body: dict[str, Any] = {"DryRun": args.dry_run}
        namespace = api.namespace
        if args.job:
            job = find_job(api, args.job)
            body["JobID"], namespace = job["ID"], job["Namespace"]
        jobs = api.put("/v1/operator/rebalance", body, namespace=namespace)["Jobs"]
        if is_data(args):
            if code := print_data(args, jobs):
                return code
        else:
            _print(jobs, is_one=bool(args.job), is_verbose=args.verbose)
        moves = [(job, move) for job in jobs for move in job["Moves"]]
        if args.dry_run or args.detach or not moves:
            return 0
        return _follow(api, moves, is_quiet=is_data(args), is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)


def _print(jobs: list[dict[str, Any]], *, is_one: bool, is_verbose: bool) -> None:
    shown = [job for job in jobs if is_one or job["Moves"]]
    if not shown:
        print("Nothing to move: every service is as even as its rules allow")
    for job in shown:
        if job["Skipped"]:
            print(f'Job "{job["JobID"]}": nothing moves, {job["Skipped"]}')
            continue
        print(f'Job "{job["JobID"]}": {len(job["Moves"])} to move')
        rows = [("Group", "Attribute", "Skew before", "after")]
        rows += [(s["Group"], _attribute(s["Attribute"]), f"{s['Before']:.1f}", f"{s['After']:.1f}") for s in job["Skews"]]
        print(_indented(table(rows)))
        if job["Moves"]:
            moves = [("Alloc", "Name", "From", "To")]
            moves += [
                (short(m["AllocID"], is_verbose=is_verbose), m["Name"], m["FromName"], m["ToName"]) for m in job["Moves"]
            ]
            print(_indented(table(moves)))


def _attribute(text: str) -> str:
    """What is evened out behind every spread is how many allocs of the group a node has."""
    return "allocs per node" if text == "${node.unique.id}" else text


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _follow(
    api: Api, moves: list[tuple[dict[str, Any], dict[str, Any]]], *, is_quiet: bool, is_verbose: bool
) -> int:
    """Until each has moved, or stays. 0 when all moved, else 2."""
    waiting = {move["AllocID"]: (job, move) for job, move in moves}
    stayed = 0
    while waiting:
        for alloc_id, (job, move) in list(waiting.items()):
            outcome = _outcome(api, job, alloc_id)
            if not outcome:
                continue
            del waiting[alloc_id]
            stayed += outcome != "moved"
            if not is_quiet:
                print(f'==> {move["Name"]} ({short(alloc_id, is_verbose=is_verbose)}) {outcome}: {move["FromName"]} -> {move["ToName"]}')
        if waiting:
            time.sleep(_POLL_S)
    return 2 if stayed else 0


def _outcome(api: Api, job: dict[str, Any], alloc_id: str) -> str:
    """"" while it is under way."""
    try:
        alloc = api.get(f"/v1/allocation/{segment(alloc_id)}", namespace=job["Namespace"])
    except ApiError as error:
        if error.status == 404:
            return "moved"  # and forgotten already
        raise
    if alloc["DesiredStatus"] != "run":
        return "moved" if alloc["DesiredDescription"] == "alloc is being migrated" else "stopped for another reason"
    if alloc["ClientStatus"] in ("complete", "failed", "lost"):
        return f"is {alloc['ClientStatus']}"
    return "" if alloc["DesiredTransition"]["Migrate"] else "stays"
