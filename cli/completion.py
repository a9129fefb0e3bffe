"""How does a shell complete a command line? `source <(drover completion bash)`; the work is argcomplete's.

Ids of jobs, allocations and so on are asked of the agent that NOMAD_ADDR names; without an answer within a second
there are none.
"""

import argparse
import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import argcomplete
from argcomplete.shell_integration import shellcode

from cli.client import DEFAULT_ADDRESS

# Where the ids of an argument are listed, and what an id is called there.
_LISTS = {
    "job": ("/v1/jobs", "ID"),
    "alloc": ("/v1/allocations", "ID"),
    "node": ("/v1/nodes", "ID"),
    "deployment": ("/v1/deployments", "ID"),
    "eval": ("/v1/evaluations", "ID"),
    "name": ("/v1/namespaces", "Name"),
}
_ASK_S_MAX = 1.0


def script(args: argparse.Namespace) -> int:
    print(shellcode(["drover"], shell=args.shell))
    return 0


def complete(parser: Any) -> None:
    """Prints what may come next, for the shell, and ends the process."""
    for action in _actions(parser):
        if action.dest in _LISTS and not action.option_strings:
            action.completer = _ids_of(action.dest)  # type: ignore[attr-defined]  # argcomplete's convention
    # Flags here have one dash; the same with two are no news.
    argcomplete.autocomplete(parser, always_complete_options=False, exclude=_doubled(parser))


def _actions(parser: Any) -> Iterator[argparse.Action]:
    for action in parser.whole()._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in dict.fromkeys(action.choices.values()):
                yield from _actions(sub)


def _doubled(parser: Any) -> list[str]:
    return [flag for action in _actions(parser) for flag in action.option_strings if flag.startswith("--")]


def _ids_of(what: str) -> Callable[..., list[str]]:
    def ids(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
        path, key = _LISTS[what]
        address = getattr(parsed_args, "address", None) or os.environ.get("NOMAD_ADDR") or DEFAULT_ADDRESS
        asked = prefix if what in ("job", "name") or len(prefix.replace("-", "")) % 2 == 0 else prefix[:-1]
        request = urllib.request.Request(f"{address}{path}?prefix={quote(asked)}")
        if token := os.environ.get("NOMAD_TOKEN"):
            request.add_header("X-Nomad-Token", token)
        try:
            with urllib.request.urlopen(request, timeout=_ASK_S_MAX) as answer:
                return [one[key] for one in json.load(answer)]
        except (OSError, ValueError):
            return []

    return ids
