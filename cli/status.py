"""`drover status [ID]`: what is this the id of, and how is it?"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from cli.client import Api
from cli.failure import CommandFailed, fail

# The context of a search -> the command that shows one of its kind, and what that calls its argument.
_SHOWN_BY: Mapping[str, tuple[str, str]] = {
    "jobs": ("cli.job_status:run", "job"),
    "allocs": ("cli.alloc:status", "alloc"),
    "nodes": ("cli.node:status", "node"),
    "evals": ("cli.eval:status", "eval"),
    "deployment": ("cli.deployment:status", "deployment"),
    "namespaces": ("cli.namespace:status", "name"),
    "scaling_policy": ("cli.scaling:policy_info", "policy"),
}


def run(args: argparse.Namespace) -> int:
    try:
        context, identity = ("jobs", None) if args.id is None else _resolved(Api(args), args.id)
    except CommandFailed as error:
        return fail(error)
    handler, name = _SHOWN_BY[context]
    flags = {"stats": False, "allocs": False, "self": False, "monitor": False, "os": False, "quiet": False}
    shown = argparse.Namespace()
    vars(shown).update({**flags, **vars(args), name: identity})
    return _loaded(handler)(shown)


def _resolved(api: Api, identity: str) -> tuple[str, str]:
    """Raises CommandFailed when nothing or several things begin so."""
    matches = api.put("/v1/search", {"Prefix": identity, "Context": "all"})["Matches"]
    found = {context: ids for context, ids in matches.items() if ids and context in _SHOWN_BY}
    if not found:
        raise CommandFailed(f"Unable to resolve ID: {identity!r}")
    for context in _SHOWN_BY:  # a job named `a` beside one named `ab`
        if identity in found.get(context, ()):
            return context, identity
    if len(found) == 1 and len(ids := next(iter(found.values()))) == 1:
        return next(iter(found)), ids[0]
    lines = [f"{context}: {', '.join(ids)}" for context, ids in sorted(found.items())]
    raise CommandFailed("\n  ".join((f"Multiple matches found for id {identity!r}:", *lines)))


def _loaded(handler: str) -> Callable[[argparse.Namespace], int]:
    import importlib

    module, _, name = handler.partition(":")
    found: Any = getattr(importlib.import_module(module), name)
    return lambda args: int(found(args))
