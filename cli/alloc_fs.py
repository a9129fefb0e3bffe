"""`drover alloc fs`: an alloc's directory: listed, described, printed, followed."""

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from cli.alloc import chosen_alloc
from cli.alloc_logs import how_much, print_tail
from cli.client import Api, frames, is_data, print_data, size, table
from cli.failure import CommandFailed, fail


def run(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        alloc = chosen_alloc(api, args.alloc, is_job=args.job)
        base, path = "/v1/client/fs", args.path or "/"
        info = api.get(f"{base}/stat/{alloc['ID']}", path=path)
        if args.stat:
            print(_described(info, is_exact=args.H))
            return 0
        if info["IsDir"]:
            files = api.get(f"{base}/ls/{alloc['ID']}", path=path)
            if is_data(args):
                return print_data(args, files)
            print(_listed(files, is_exact=args.H))
            return 0
        how = how_much(args)
        stream, out = f"{base}/stream/{alloc['ID']}", sys.stdout.buffer
        params: dict[str, object] = {"path": path, "follow": bool(args.f)}
        if how is not None and how[1]:
            print_tail(api, stream, params, *how, out)
        elif args.f or how is not None:
            end: dict[str, object] = {"origin": "end", "offset": how[0]} if how else {}
            _print(frames(api.stream(stream, **params, **end)))
        else:
            _print(api.stream(f"{base}/cat/{alloc['ID']}", path=path))
        return 0
    except CommandFailed as error:
        return fail(error)


def _print(chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def _listed(files: list[dict[str, Any]], *, is_exact: bool) -> str:
    rows = [("Mode", "Size", "Modified Time", "Name")]
    rows += [(*_columns(info, is_exact=is_exact), f"{info['Name']}{'/' if info['IsDir'] else ''}") for info in files]
    return table(rows)


def _described(info: dict[str, Any], *, is_exact: bool) -> str:
    name = f"{info['Name']}{'/' if info['IsDir'] else ''}"
    row = (*_columns(info, is_exact=is_exact), info.get("ContentType") or "", name)
    return table([("Mode", "Size", "Modified Time", "Content Type", "Name"), row])


def _columns(info: dict[str, Any], *, is_exact: bool) -> tuple[str, str, str]:
    """The moment without its fraction, in UTC."""
    moment = f"{info['ModTime'].partition('.')[0].removesuffix('Z')}Z"
    return info["FileMode"], str(info["Size"]) if is_exact else size(info["Size"]), moment
