"""`drover event stream`: prints what changes, one JSON object a line."""

import argparse
import json
import sys
import time

from cli.client import Api, ApiError
from cli.failure import CommandFailed, fail

# Between the end of a stream (another leads, or nobody does yet) and the next attempt.
_AGAIN_S = 1.0


def stream(args: argparse.Namespace) -> int:
    """Until it is interrupted; goes on where it was when the leader changes."""
    try:
        api, index = Api(args), args.index
        while True:
            index = _follow(api, args, index) or index
            time.sleep(_AGAIN_S)
    except CommandFailed as error:
        return fail(error)


def _follow(api: Api, args: argparse.Namespace, index: int | None) -> int | None:
    """One connection; the last index that was seen. Raises CommandFailed for a stream that there cannot be."""
    last, rest = index, b""
    try:
        for piece in api.stream("/v1/event/stream", topic=args.topic or None, index=index):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line == b"{}":
                    continue
                sys.stdout.write(line.decode("utf-8", "replace") + "\n")
                last = json.loads(line).get("Index", last)
            sys.stdout.flush()
    except ApiError:
        raise
    except CommandFailed as error:
        sys.stderr.write(f"{error}; connecting again\n")
    return last
