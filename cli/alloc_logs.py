"""`drover alloc logs`: whole, from the end, or as they grow."""

import argparse
import base64
import codecs
import io
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any, BinaryIO

from cli.alloc import find_alloc
from cli.client import Api, CommandFailed, fail, segment

# `-tail -n 10` asks for this many bytes a line, for twice as many when that was too little, and cuts the lines itself.
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
        }
        path, out = f"/v1/client/fs/logs/{alloc['ID']}", sys.stdout.buffer
        if how is not None and how[1]:
            _print_tail(api, path, params, *how, out)
            return 0
        end = {"origin": "end", "offset": how[0]} if how else {}
        for chunk in api.stream(path, plain=True, **params, **end):
            out.write(chunk)
            out.flush()
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


def _print_tail(api: Api, path: str, params: dict[str, object], asked: int, lines: int, out: BinaryIO) -> None:
    """The last lines of what there is so far, each of them whole; what a follower gets after that as it comes.

    asked: bytes of the end to begin with.
    """
    while True:
        with closing(api.stream(path, **params, origin="end", offset=asked)) as stream:
            found = frames(stream)
            so_far = bytearray()
            for data in found:
                so_far += data
                # A heartbeat says that this was all for now.
                if params["follow"] and (not data or len(so_far) >= asked):
                    break
            cut = io.BytesIO(so_far).readlines()
            # The first line is whole only when another comes before it, or when the log begins with it.
            if len(cut) > lines or len(so_far) < asked:
                out.write(b"".join(cut[-lines:]))
                out.flush()
                for data in found:
                    out.write(data)
                    out.flush()
                return
        asked *= 2


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
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


def _task(alloc: dict[str, Any], name: str | None) -> str:
    tasks: list[str] = sorted(t["Name"] for g in alloc["Job"]["TaskGroups"] if g["Name"] == alloc["TaskGroup"] for t in g["Tasks"])
    if name is not None:
        if name not in tasks:
            raise CommandFailed(f"allocation {alloc['ID'][:8]} has no task {name!r} (it has {', '.join(tasks)})")
        return name
    if len(tasks) != 1:
        raise CommandFailed(f"allocation {alloc['ID'][:8]} has several tasks, name one: {', '.join(tasks)}")
    return tasks[0]
