"""How does a task get its environment, and nobody else on the way to it?

    supervisor (root) ──> bwrap, setpriv, nsenter (root) ──> sh ENVIRONMENT (the task's user) ──> command

A dynamic linker, a shell and an interpreter do what LD_PRELOAD, BASH_ENV or PYTHONPATH say. So root's programs run in the
agent's own environment, and the job's comes as a shell script in a file in memory, which the last shell of the chain reads
once it is the task's user: no argument and no file of the machine ever shows a value. DROVER_BECOMING marks whoever is still on
the way, so that nobody takes its environment or its user for the task's.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from agent.env import SHELL_NAME
from model.errors import TaskRefused

# The descriptor that the last shell finds the script at; below it are the three of every process, a guard and two logs.
FD = 5
LAUNCHER = ("/bin/sh", f"/dev/fd/{FD}")
MARK = "DROVER_BECOMING"
# What some shell keeps for itself: refused to be set, or minded at once.
_KEPT = frozenset(("BASHOPTS", "BASH_VERSINFO", "EUID", "LINENO", "OPTIND", "PPID", "SHELLOPTS", "UID"))
# The agent's unit may keep the kernel from ending it when memory is short; what it starts is not meant.
_USUAL_SCORE = (
    "{ IFS= read -r drover_score </proc/self/oom_score_adj && [ \"$drover_score\" -ge 0 ] || echo 0 >/proc/self/oom_score_adj; } "
    "2>/dev/null; unset drover_score"
)
# Beyond what a chain of programs is given, so that no descriptor is written over before it is used.
_ABOVE = 16


def on_the_way(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of root's programs. environ: the agent's own."""
    return {**environ, MARK: "1"}


@contextmanager
def handed(env: Mapping[str, str]) -> Iterator[int]:
    """The descriptor to be given as FD. Raises TaskRefused."""
    script = _script(env)
    found = above(os.memfd_create("drover-environment", os.MFD_CLOEXEC))
    try:
        with open(found, "wb", closefd=False) as file:
            file.write(script)
        yield found
    finally:
        os.close(found)


def above(descriptor: int) -> int:
    """The same one by a high number, instead of the one given."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    finally:
        os.close(descriptor)


def _script(env: Mapping[str, str]) -> bytes:
    for name, value in env.items():
        if "\0" in name or "\0" in value or not name or "=" in name:
            raise TaskRefused(f"env: {name!a} cannot be a variable: embedded null byte or no name")
    odd = [f"{name}={value}" for name, value in env.items() if not _is_plain(name)]
    lines = [f"exec {FD}<&-", _USUAL_SCORE]
    lines += [f"export {name}={_quoted(value)}" for name, value in env.items() if _is_plain(name)]
    if odd:
        lines.append(" ".join(["exec", "/usr/bin/env", "-u", MARK, "--", *map(_quoted, odd), '"$@"']))
    else:
        lines += [f"unset {MARK}", 'exec "$@"']
    return os.fsencode("\n".join(lines) + "\n")


def _is_plain(name: str) -> bool:
    """Whether every shell takes it; the others (NOMAD_META_a.b) are for env."""
    return bool(SHELL_NAME.fullmatch(name)) and name not in _KEPT


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\"'\"'") + "'"
