"""`drover job dispatch` and `drover job periodic force`; and what other commands show of periodic and parameterized jobs."""

import argparse
import base64
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cli.client import Api, ago, clock, fields, segment, table
from cli.failure import CommandFailed, fail
from cli.job_status import find_job
from cli.monitor import follow

# As much as a dispatch may bring; one byte more tells that there was more.
_PAYLOAD_BYTES_MAX = 16 * 1024
# Children in a list of all jobs: what runs or waits, and no more than these of one parent.
_LISTED_MAX = 10
# Of those that are there, in a history.
_RECENT_MAX = 20


def dispatch(args: argparse.Namespace) -> int:
    try:
        body: dict[str, Any] = {"Payload": _payload(args.input), "Meta": _meta(args.meta)}
        for name, value in (("IdPrefixTemplate", args.id_prefix_template), ("IdempotencyToken", args.idempotency_token)):
            if value:
                body[name] = value
        api = Api(args)
        answer = api.put(f"/v1/job/{segment(args.job)}/dispatch", {"JobID": args.job, **body})
        shown = [("Dispatched Job ID", answer["DispatchedJobID"])]
        if answer["EvalID"]:
            shown.append(("Evaluation ID", answer["EvalID"] if args.verbose else answer["EvalID"][:8]))
        print(fields(shown))
        if args.detach or not answer["EvalID"]:
            return 0
        print()
        return follow(api, answer["EvalID"], is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)


def _payload(name: str | None) -> str | None:
    """base64. Raises CommandFailed."""
    if not name:
        return None
    try:
        if name == "-":
            if sys.stdin is None:
                raise CommandFailed("standard input is closed (a payload was expected there)")
            data = sys.stdin.buffer.read(_PAYLOAD_BYTES_MAX + 1)
        else:
            with open(name, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode) and not stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
                    raise CommandFailed(f"{name}: no regular file")
                data = file.read(_PAYLOAD_BYTES_MAX + 1)
    except OSError as error:
        raise CommandFailed(f"{name}: {error.strerror}") from error
    if len(data) > _PAYLOAD_BYTES_MAX:
        raise CommandFailed(f"{name}: a payload has {_PAYLOAD_BYTES_MAX} bytes at most")
    return base64.b64encode(data).decode()


def _meta(pairs: Sequence[str]) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CommandFailed(f"-meta {pair!r}: expected KEY=VALUE")
        found[key] = value
    return found


def force(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        job = find_job(api, args.job)
        answer = api.put(f"/v1/job/{segment(job['ID'])}/periodic/force", namespace=job["Namespace"])
        if args.detach:
            print(f"Force periodic successful\nEvaluation ID: {answer['EvalID']}")
            return 0
        return follow(api, answer["EvalID"], is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)


def kind(job: Mapping[str, Any]) -> str:
    """The type as lists show it: `batch/periodic`."""
    more = "/periodic" if job["Periodic"] else "/parameterized" if job["ParameterizedJob"] and not job["ParentID"] else ""
    return f"{job['Type']}{more}"


def grouped(jobs: Sequence[dict[str, Any]], *, has_all: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """The jobs with children below their parents, and a line for each parent of whose children not all are among them:
    those that ended, unless has_all. What has no parent any more stands alone."""
    known = {(job["Namespace"], job["ID"]) for job in jobs}
    children: dict[tuple[str, str], list[dict[str, Any]]] = {}
    tops = []
    for job in jobs:
        parent = (job["Namespace"], job["ParentID"])
        if job["ParentID"] and parent in known:
            children.setdefault(parent, []).append(job)
        else:
            tops.append(job)
    shown: list[dict[str, Any]] = []
    notes: list[str] = []

    def add(job: dict[str, Any]) -> None:
        shown.append(job)
        below = children.get((job["Namespace"], job["ID"]), [])
        listed = below if has_all else [child for child in below if child["Status"] != "dead"][:_LISTED_MAX]
        for child in listed:
            add(child)
        if hidden := len(below) - len(listed):
            notes.append(f"{hidden} more of {job['ID']}: drover job status {job['ID']}")

    for job in tops:
        add(job)
    return shown, notes


def basics(job: Mapping[str, Any]) -> list[tuple[str, object]]:
    """What is told of such jobs at the head; nothing of others."""
    if job["Periodic"] is not None:
        return [("Periodic", "true")]
    if job["ParameterizedJob"] is not None and not job["Dispatched"]:
        return [("Parameterized", "true")]
    return [("Parent", job["ParentID"])] if job["ParentID"] else []


def show_parent(api: Api, job: Mapping[str, Any], path: str) -> None:
    """The rest of `job status` of a job that has children instead of allocations."""
    namespace = job["Namespace"]
    found = api.get(f"{path}/launches", namespace=namespace)
    counts = api.get(f"{path}/summary", namespace=namespace)["Children"]
    periodic, settings = job["Periodic"], job["ParameterizedJob"]
    if periodic is not None:
        last = next((child for child in found["Children"] if child["Outcome"] not in ("pending", "running")), None)
        shown: list[tuple[str, object]] = [
            ("Schedule", "; ".join([periodic["Spec"], *periodic["Specs"]] if periodic["Spec"] else periodic["Specs"])),
            ("Time Zone", periodic["TimeZone"]),
            ("Next Launch", clock(found["NextLaunch"]) if found["NextLaunch"] else "none"),
            ("Last Run", _run(last) if last else "none"),
            ("Last Success", f"{clock(found['LastSuccess'])} (took {_span(found['LastDuration'])})" if found["LastSuccess"] else "none"),
            ("Missed Runs", found["Missed"]),
        ]
        if found["Status"]:
            shown.append(("Check", f"{found['Status']}: {found['Output']}"))
        print(f"\nPeriodic Job\n{fields(shown)}")
    elif settings is not None:
        limit = [("Max Running", settings["MaxRunning"])] if settings["MaxRunning"] else []
        print(
            "\nParameterized Job\n"
            + fields(
                [
                    ("Payload", settings["Payload"]),
                    ("Required Metadata", ", ".join(settings["MetaRequired"]) or "none"),
                    ("Optional Metadata", ", ".join(settings["MetaOptional"]) or "none"),
                    *limit,
                ]
            )
        )
    print("\nChildren Job Summary")
    columns = ("Pending", "Running", "Dead")
    print(table([columns, tuple(counts[name] for name in columns)]))
    there = [child for child in found["Children"] if not child["Removed"]]
    print(f"\n{'Previously Launched Jobs' if periodic is not None else 'Dispatched Jobs'}")
    print(_children(there) if there else "No instances of the job")


def recent(api: Api, job: Mapping[str, Any]) -> str:
    """What `job history` tells of children: of the newest that are there, and of those that are gone; "" where there are
    none."""
    found = api.get(f"/v1/job/{segment(job['ID'])}/launches", namespace=job["Namespace"])["Children"]
    there = [child for child in found if not child["Removed"]]
    gone = [child for child in found if child["Removed"]]
    parts = [("Children", there[:_RECENT_MAX]), ("Removed children, the newest", gone)]
    return "\n\n".join(f"{title}\n{_children(some)}" for title, some in parts if some)


def _children(children: Sequence[Mapping[str, Any]]) -> str:
    rows: list[tuple[object, ...]] = [("ID", "Status", "Started", "Took", "Reason")]
    rows += [
        (
            child["ID"],
            child["Outcome"],
            ago(child["Started"]),
            _span(child["Ended"] - child["Started"]) if child["Ended"] and child["Started"] else "-",
            child["Reason"],
        )
        for child in children
    ]
    return table(rows)


def _run(child: Mapping[str, Any]) -> str:
    because = f": {child['Reason']}" if child["Reason"] else ""
    return f"{clock(child['Due'] or child['Started'])} {child['Outcome']}{because}"


def _span(ns: int) -> str:
    from jobspec.durations import duration_text

    return duration_text(max(0, ns) // 100_000_000 * 100_000_000)
