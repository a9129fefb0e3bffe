"""May a task have this `template` block? What its text says is the template package's to judge."""

import posixpath
from collections.abc import Iterator

from jobspec.interpolate import interpolate, without_references
from jobspec.signals import signal_fault
from model.errors import Fault
from model.job import Task, Template

CHANGE_MODES = ("restart", "signal", "script", "noop")
# From a task's directory.
_DIRECTORIES = {"NOMAD_ALLOC_DIR": "../alloc", "NOMAD_TASK_DIR": "local", "NOMAD_SECRETS_DIR": "secrets"}


def template_faults(template: Template, task: Task, path: str) -> Iterator[Fault]:
    if not template.dest_path:
        yield Fault(path=path, message="a destination is needed")
    elif template.dest_path.endswith("/"):
        yield Fault(path=f"{path}.destination", message="must name a file, found a directory")
    if bool(template.source_path) == bool(template.embedded_tmpl):
        yield Fault(path=path, message="either source or data is needed, and not both")
    for name, place in (("destination", template.dest_path), ("source", template.source_path)):
        if escapes(place):
            yield Fault(path=f"{path}.{name}", message="must not lead out of the allocation's directory")
    yield from _change_faults(template, task, path)
    if not is_octal(template.perms):
        yield Fault(path=f"{path}.perms", message=f'must be octal, as "0644", found "{template.perms[:60]}"')
    for name, span in (("splay", template.splay), ("vault_grace", template.vault_grace)):
        if span < 0:
            yield Fault(path=f"{path}.{name}", message="must not be negative")
    yield from _wait_faults(template, path)
    for name, number in (("left_delimiter", template.left_delim), ("right_delimiter", template.right_delim)):
        if any(letter.isspace() for letter in number):
            yield Fault(path=f"{path}.{name}", message="must not hold a space")


def _change_faults(template: Template, task: Task, path: str) -> Iterator[Fault]:
    mode, script = template.change_mode, template.change_script
    if mode not in CHANGE_MODES:
        known = ", ".join(CHANGE_MODES[:-1])
        yield Fault(path=f"{path}.change_mode", message=f'must be {known} or {CHANGE_MODES[-1]}, found "{mode[:60]}"')
    if mode == "signal" and not template.change_signal:
        yield Fault(path=f"{path}.change_signal", message='change_mode "signal" needs one')
    if reason := signal_fault(template.change_signal, task.driver):
        yield Fault(path=f"{path}.change_signal", message=reason)
    if (mode == "script") != (script is not None):
        yield Fault(path=f"{path}.change_script", message='change_mode "script" and a change_script need each other')
    if script is not None and not script.get("Command"):
        yield Fault(path=f"{path}.change_script.command", message="a command is needed")
    if script is not None and (script.get("Timeout") or 0) < 0:
        yield Fault(path=f"{path}.change_script.timeout", message="must not be negative")


def _wait_faults(template: Template, path: str) -> Iterator[Fault]:
    low, high = (template.wait or {}).get("Min"), (template.wait or {}).get("Max")
    for name, span in (("min", low), ("max", high)):
        if span is not None and span < 0:
            yield Fault(path=f"{path}.wait.{name}", message="must not be negative")
    if low is not None and high is not None and low > high:
        yield Fault(path=f"{path}.wait", message="min must not be larger than max")


def escapes(place: str) -> bool:
    """Whether a path from the task's directory leads out of the allocation's, as far as it is known before it runs."""
    known = without_references(interpolate(place, _DIRECTORIES))
    if known.startswith("/"):
        return False  # the agent takes it from the task's directory, or knows it as the allocation's
    return posixpath.normpath(posixpath.join("task", known)).split("/")[0] in ("..", ".")


def is_octal(perms: str) -> bool:
    """As chmod takes it; empty for the usual."""
    return len(perms) <= 6 and all(letter in "01234567" for letter in perms.removeprefix("0o"))
