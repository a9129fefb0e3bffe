"""`drover alloc logs`: whole, from the end, or as they grow."""

import argparse
import io
import sys
from contextlib import closing
from typing import BinaryIO

from cli.alloc import chosen_alloc, chosen_task
from cli.client import Api, frames
from cli.failure import CommandFailed, fail

# `-tail -n 10` asks for this many bytes a line, for twice as many when that was too little, and cuts the lines itself.
_BYTES_PER_LINE = 120
_TAIL_LINES = 10


def logs(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        alloc = chosen_alloc(api, args.alloc, is_job=args.job)
        how = how_much(args)
        params: dict[str, object] = {
            "task": chosen_task(alloc, args.task or args.task_name),
            "type": "stderr" if args.stderr else "stdout",
            "follow": bool(args.f),
        }
        path, out = f"/v1/client/fs/logs/{alloc['ID']}", sys.stdout.buffer
        if how is not None and how[1]:
            print_tail(api, path, params, *how, out)
            return 0
        end = {"origin": "end", "offset": how[0]} if how else {}
        for chunk in api.stream(path, plain=True, **params, **end):
            out.write(chunk)
            out.flush()
        return 0
    except CommandFailed as error:
        return fail(error)


def how_much(args: argparse.Namespace) -> tuple[int, int] | None:
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


def print_tail(api: Api, path: str, params: dict[str, object], asked: int, lines: int, out: BinaryIO) -> None:
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
