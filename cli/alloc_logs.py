"""`drover alloc logs`: whole, from the end, or as they grow."""

import argparse
import base64
import codecs
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from cli.alloc import find_alloc
from cli.client import Api, CommandFailed, fail, segment

# `-tail -n 10` asks for this many bytes a line and cuts the lines itself, as Nomad's client does.
_BYTES_PER_LINE = 120
_TAIL_LINES = 10


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
            alloc = find_alloc(api, args.alloc)
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


def _task(alloc: dict[str, Any], name: str | None) -> str:
    tasks: list[str] = sorted(t["Name"] for g in alloc["Job"]["TaskGroups"] if g["Name"] == alloc["TaskGroup"] for t in g["Tasks"])
    if name is not None:
        if name not in tasks:
            raise CommandFailed(f"allocation {alloc['ID'][:8]} has no task {name!r} (it has {', '.join(tasks)})")
        return name
    if len(tasks) != 1:
        raise CommandFailed(f"allocation {alloc['ID'][:8]} has several tasks, name one: {', '.join(tasks)}")
    return tasks[0]
