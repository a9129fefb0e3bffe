"""`drover leader step-down`, `drover server promote|demote` and `drover operator break-lock`: who may lead, and who does."""

import argparse
import sys
import time
from typing import Any

from cli.client import Api, ago, fields
from cli.failure import CommandFailed, fail

# What a hand-over may take before the command says that it is not seen.
_WAIT_S = 15.0
_POLL_S = 0.2


def step_down(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        before = api.get("/v1/operator/lock")["Leader"]
        api.put("/v1/operator/leader/step-down", force=args.force or None)
        give_up_s = time.monotonic() + _WAIT_S
        while time.monotonic() < give_up_s:
            now = api.get("/v1/operator/lock")["Leader"]
            if now and before and now["Epoch"] != before["Epoch"]:
                print(f"{now['Name']} leads now ({now['HTTPAddr']})")
                return 0
            time.sleep(_POLL_S)
        raise CommandFailed(f"nobody leads {_WAIT_S:g} s after the leader was asked to step down")
    except CommandFailed as error:
        return fail(error)


def promote(args: argparse.Namespace) -> int:
    return _candidate(args, is_wanted=True)


def demote(args: argparse.Namespace) -> int:
    return _candidate(args, is_wanted=False)


def _candidate(args: argparse.Namespace, *, is_wanted: bool) -> int:
    try:
        api = Api(args)
        node_id, name = _find(api, args.node)
        body = {"NodeID": node_id, "Candidate": is_wanted}
        api.put("/v1/operator/candidate", body, force=(not is_wanted and args.force) or None)
    except CommandFailed as error:
        return fail(error)
    print(f"{name} is {'a candidate' if is_wanted else 'no candidate'} for leader")
    return 0


def _find(api: Api, text: str) -> tuple[str, str]:
    """A node or a candidate, by name, id or the beginning of one. Raises CommandFailed."""
    known = {n["ID"]: n["Name"] for n in api.get("/v1/nodes")}
    for member in api.get("/v1/agent/members")["Members"]:
        known.setdefault(member["Tags"]["id"], member["Name"].rpartition(".")[0])
    found = [one for one in known.items() if text in one] or [one for one in known.items() if one[0].startswith(text)]
    if not found:
        raise CommandFailed(f"no agent has the name or id {text!r}")
    if len(found) > 1:
        raise CommandFailed(f"{text!r} is the name or the beginning of the id of several agents: {', '.join(sorted(i for i, _ in found))}")
    return found[0]


def break_lock(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        found = api.get("/v1/operator/lock")
        if not found["Held"]:
            print("Nobody holds the leader's lock: a candidate takes it by itself")
            return 0
        print(_described(found))
        if found["Answers"] and not args.force:
            raise CommandFailed("the holder answers: `drover leader step-down` asks it to hand over (-force breaks its lock all the same)")
        if not args.yes and not _is_meant():
            print("Cancelling")
            return 0
        api.put("/v1/operator/lock/break", force=args.force or None)
    except CommandFailed as error:
        return fail(error)
    print("The lock is broken: the next candidate takes it")
    return 0


def _described(found: dict[str, Any]) -> str:
    leader = found["Leader"]
    return fields(
        [
            ("Holder", f"{leader['Name']} ({leader['NodeID']})"),
            ("Address", leader["HTTPAddr"]),
            ("Since", ago(leader["Since"])),
            ("Epoch", leader["Epoch"]),
            ("Session", found["Session"]),
            ("Answers", "yes" if found["Answers"] else "no"),
        ]
    )


def _is_meant() -> bool:
    """Raises CommandFailed without a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise CommandFailed("breaking the lock has to be confirmed (-yes)")
    try:
        return input("Break the lock? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False
