"""Which flags of Nomad's commands do people type that drover means little or nothing by?

Three kinds: what is so anyway is taken in silence; what has no effect here is taken with a note on standard error;
and what would mean something that drover does not do is refused with the reason, never taken for something else.
Flags that mean the same in both stand with their commands in cli/main.py.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_PRIORITY = "a job's evaluations go in the order in which they came up, whatever their priority"
_IN_CONSUL = "agents find one another in Consul"
_NO_ENTERPRISE = "is a matter of Nomad Enterprise, and drover has none of it"
_NO_CONNECT = "Consul Connect is not supported by drover"
_NO_TEMPLATES = "drover keeps no templates of jobs"
_NO_POOLS = "drover has no node pools"
_DELAYED = "drover always waits for a task's shutdown_delay"
_ROLLING = "all of the job is replaced, as its update block says (`alloc restart` restarts one allocation in place)"
_UNSENT = "nothing is submitted"

# {command: flags that say what is so anyway}; a flag with a value has it behind `=`.
_SILENT: Mapping[str, Sequence[str]] = {
    "job status": ("all-allocs",),
    "status": ("all-allocs",),
    "job restart": ("yes", "reschedule"),
    "job stop": ("global",),
    "stop": ("global",),
    "operator raft list-peers": ("stale=BOOL",),
    "operator snapshot save": ("stale=BOOL",),
    "node eligibility": ("yes",),
    "alloc restart": ("all-tasks",),
    "ui": ("show-url",),
    "monitor": ("log-include-location",),
    "deployment unblock": ("detach", "verbose"),
}
Words = Mapping[str, str]


def _each(commands: Sequence[str], flags: Words) -> dict[str, Words]:
    return dict.fromkeys(commands, flags)


# {command: {flag: why it has no effect}}
_NOTED: Mapping[str, Words] = {
    **_each(("job run", "run", "job stop", "stop"), {"eval-priority=N": _PRIORITY}),
    **_each(("job plan", "plan", "job validate", "validate"), {"vault-token=TOKEN": _UNSENT, "consul-token=TOKEN": _UNSENT}),
    "job revert": {"vault-token=TOKEN": "the version was submitted by somebody who had the policies"},
    "agent": {
        "servers=ADDRESS": _IN_CONSUL,
        "join=ADDRESS": _IN_CONSUL,
        "retry-join=ADDRESS": _IN_CONSUL,
        "retry-max=N": _IN_CONSUL,
        "retry-interval=SPAN": _IN_CONSUL,
        "rejoin": _IN_CONSUL,
        "bootstrap-expect=N": _IN_CONSUL,
        "encrypt=KEY": "drover has no gossip of its own: Consul has",
        "network-speed=N": "bandwidth is not shared out",
        "plugin-dir=DIR": "drivers are part of drover",
    },
}
# {command: {flag: why it is refused}}
_REFUSED: Mapping[str, Words] = {
    **_each(
        ("job run", "run", "job plan", "plan", "job validate", "validate"),
        {
            "vault-namespace": "is written into the job file (vault { namespace = … })",
            "consul-namespace": "Consul's namespaces are a matter of Consul Enterprise",
        },
    ),
    **_each(("job stop", "stop", "alloc stop"), {"no-shutdown-delay": _DELAYED}),
    "job restart": {
        "all-tasks": _ROLLING,
        "batch-size": _ROLLING,
        "batch-wait": _ROLLING,
        "group": _ROLLING,
        "on-error": _ROLLING,
        "task": _ROLLING,
        "no-shutdown-delay": _DELAYED,
    },
    **_each(("job init", "init"), {"connect": _NO_CONNECT, "template": _NO_TEMPLATES, "list-templates": _NO_TEMPLATES}),
    "namespace apply": {"quota": _NO_ENTERPRISE, "default-node-pool": _NO_POOLS, "allowed-node-pools": _NO_POOLS},
    "operator scheduler set-config": {
        "pause-eval-broker": "drover has no evaluation broker (-reject-job-registration holds what is submitted)"
    },
    "ui": {"authenticate": "the web UI asks for the token itself"},
    "agent": {
        "dev-connect": _NO_CONNECT,
        "dev-consul": "-dev uses a Consul that is named (-dev -consul-address 127.0.0.1:8500)",
        "dev-vault": "name Vault instead (-vault-enabled -vault-address URL)",
        "acl-replication-token": "tokens are Consul's, and are replicated by it",
    },
}


def add(commands: Any) -> None:
    """To the commands that are there. commands: the subparsers of `drover`."""
    for path, flags in _SILENT.items():
        for flag in flags:
            _add(_parser(commands, path), flag, _Taken, "")
    for path, noted in _NOTED.items():
        for flag, why in noted.items():
            _add(_parser(commands, path), flag, _Taken, why)
    for path, refused in _REFUSED.items():
        for flag, why in refused.items():
            _add(_parser(commands, path), flag, _Refused, why)


def _parser(commands: Any, path: str) -> argparse.ArgumentParser:
    *groups, last = path.split()
    for group in groups:
        commands = commands._name_parser_map[group]._subparsers._group_actions[0]
    found: argparse.ArgumentParser = commands._name_parser_map[last]
    return found


def _add(parser: argparse.ArgumentParser, flag: str, action: type[argparse.Action], why: str) -> None:
    name, equals, value = flag.partition("=")
    nargs: Any = None if equals else 0
    if action is _Refused:
        nargs = "?"  # whatever is given with it
    parser.add_argument(
        f"-{name}", f"--{name}", dest=argparse.SUPPRESS, action=action, nargs=nargs, metavar=value or None, const=why, help=argparse.SUPPRESS
    )


class _Taken(argparse.Action):
    """Changes nothing; const: why, where that is to be told."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        if self.metavar == "N" and not str(values).isdecimal():
            parser.error(f"argument {option_string}: expected a number, found {values!r}")
        if self.const:
            sys.stderr.write(f"Note: {option_string} has no effect: {self.const}\n")


class _Refused(argparse.Action):
    """const: why."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option_string: str | None = None) -> None:
        parser.error(f"{option_string}: {self.const}")
