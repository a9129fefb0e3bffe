"""`drover alloc …`: status, logs, restart, signal."""

import argparse
import base64
import codecs
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from cli.client import Api, CommandFailed, ago, clock, fail, fields, print_json, segment, short, table

# `-tail -n 10` asks for this many bytes a line and cuts the lines itself, as Nomad's client does.
_BYTES_PER_LINE = 120
_TAIL_LINES = 10


def _alloc(api: Api, prefix: str) -> dict[str, Any]:
    found = api.find("allocation", "/v1/allocations", prefix)
    alloc: dict[str, Any] = api.get(f"/v1/allocation/{found['ID']}", namespace=found["Namespace"])
    return alloc


def status(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        if not args.alloc:
            allocs = api.get("/v1/allocations")
            if args.json:
                print_json(allocs)
                return 0
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
        alloc = _alloc(api, args.alloc)
        if args.json:
            print_json(alloc)
            return 0
        _show(alloc, is_verbose=args.verbose)
        return 0
    except CommandFailed as error:
        return fail(error)


def _show(alloc: dict[str, Any], *, is_verbose: bool) -> None:
    print(
        fields(
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
                ("Created", ago(alloc["CreateTime"])),
                ("Modified", ago(alloc["ModifyTime"])),
            ]
        )
    )
    ports = alloc["AllocatedResources"]["Shared"]["Ports"]
    if ports:
        print("\nAllocation Addresses")
        print(table([("Label", "Address"), *((p["Label"], f"{p['HostIP']}:{p['Value']}") for p in ports)]))
    for name, task in sorted((alloc["TaskStates"] or {}).items()):
        print(f'\nTask "{name}" is "{task["State"]}"')
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


def _task(alloc: dict[str, Any], name: str | None) -> str:
    tasks: list[str] = sorted(t["Name"] for g in alloc["Job"]["TaskGroups"] if g["Name"] == alloc["TaskGroup"] for t in g["Tasks"])
    if name is not None:
        if name not in tasks:
            raise CommandFailed(f"allocation {alloc['ID'][:8]} has no task {name!r} (it has {', '.join(tasks)})")
        return name
    if len(tasks) != 1:
        raise CommandFailed(f"allocation {alloc['ID'][:8]} has several tasks, name one: {', '.join(tasks)}")
    return tasks[0]


def logs(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        if args.job:
            stubs = api.get(f"/v1/job/{segment(args.alloc)}/allocations")
            if not stubs:
                raise CommandFailed(f"job {args.alloc!r} has no allocations")
            stubs.sort(key=lambda a: (a["ClientStatus"] != "running", -a["CreateTime"]))
            alloc = api.get(f"/v1/allocation/{stubs[0]['ID']}", namespace=stubs[0]["Namespace"])
        else:
            alloc = _alloc(api, args.alloc)
        how = _how_much(args)
        params: dict[str, object] = {
            "task": _task(alloc, args.task),
            "type": "stderr" if args.stderr else "stdout",
            "follow": bool(args.f),
            **({"origin": "end", "offset": how[0]} if how else {}),
        }
        _print_logs(api, f"/v1/client/fs/logs/{alloc['ID']}", params, how[1] if how else 0)
        return 0
    except CommandFailed as error:
        return fail(error)


def _how_much(args: argparse.Namespace) -> tuple[int, int] | None:
    """How many bytes of the end to ask for, and how many lines of them to print (0: all); None for the whole log."""
    if args.n is not None and args.c is not None:
        raise CommandFailed("Both -n and -c set")
    for flag, value in (("-n", args.n), ("-c", args.c)):
        if value is not None and value < 0:
            raise CommandFailed(f"{flag} must not be negative, found {value}")
    if args.c is not None:
        return args.c, 0
    if not args.tail and args.n is None:
        return None
    lines = _TAIL_LINES if args.n is None else args.n
    return (lines * _BYTES_PER_LINE, lines) if lines else (0, 0)


def _print_logs(api: Api, path: str, params: dict[str, object], lines: int) -> None:
    """lines: so many of what there is so far; what a follower gets after that is printed as it comes."""
    out = sys.stdout.buffer
    if not lines:
        for chunk in api.stream(path, plain=True, **params):
            out.write(chunk)
            out.flush()
        return
    so_far: list[bytes] | None = []
    for data in frames(api.stream(path, **params)):
        if so_far is None:
            out.write(data)
        elif data:
            so_far.append(data)
        else:  # a heartbeat: that was all for now
            out.write(_last_lines(so_far, lines))
            so_far = None
        out.flush()
    out.write(_last_lines(so_far or [], lines))
    out.flush()


def frames(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The data of each frame of a log's stream; empty for a heartbeat."""
    decoder, text = json.JSONDecoder(), ""
    characters = codecs.getincrementaldecoder("utf-8")()
    for chunk in chunks:
        text += characters.decode(chunk)
        while text:
            try:
                frame, end = decoder.raw_decode(text)
            except ValueError:
                break  # the rest of it is still to come
            text = text[end:].lstrip()
            yield base64.b64decode(frame.get("Data", ""))


def _last_lines(pieces: list[bytes], lines: int) -> bytes:
    return b"".join(io.BytesIO(b"".join(pieces)).readlines()[-lines:])


def restart(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        alloc = _alloc(api, args.alloc)
        api.put(f"/v1/client/allocation/{alloc['ID']}/restart", {"TaskName": args.task or ""})
        return 0
    except CommandFailed as error:
        return fail(error)


def signal(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        alloc = _alloc(api, args.alloc)
        api.put(f"/v1/client/allocation/{alloc['ID']}/signal", {"Task": args.task or "", "Signal": args.s})
        return 0
    except CommandFailed as error:
        return fail(error)
