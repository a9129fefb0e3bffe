"""`drover job plan`: what would submitting this job change?

Prints what Nomad's command prints, for scripts read it. Exit codes are its as well: 0 nothing would be created or
destroyed, 1 something would, 255 the plan failed.
"""

import argparse
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cli.client import Api, segment, short, table
from cli.failure import CommandFailed, fail
from cli.job_file import print_faults, read
from cli.monitor import refusals
from model.errors import JobspecError

Json = Mapping[str, Any]
# (style, text) -> the text as it is shown
Paint = Callable[[str, str], str]

CHANGES, FAILED = 1, 255

_MARKERS = {"Added": "+ ", "Deleted": "- ", "Edited": "+/- "}
_STYLES = {"Added": "green", "Deleted": "red", "Edited": "yellow"}
_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}
_UPDATE_STYLES = {
    "create": "green",
    "destroy": "red",
    "migrate": "blue",
    "in-place update": "cyan",
    "create/destroy update": "yellow",
    "canary": "yellow",
}
# What changes allocs that run, or makes new ones.
_CHANGING = ("Stop", "Place", "Migrate", "DestructiveUpdate", "Canary")

# What of it asks for a place.
_PLACING = ("Place", "Migrate", "DestructiveUpdate", "Canary")

# As many as Nomad lists one by one.
_PREEMPTIONS_SHOWN = 10

_HINT = """To submit the job with version verification run:

drover job run -check-index {index} {words}

With -check-index the job is only taken if its modify index is still the one above.
If it is not, somebody changed the job since, and this plan may no longer hold."""


def run(args: argparse.Namespace) -> int:
    try:
        document, checked = read(args)
        job = checked()
        api = Api(args)
        body = {"Job": document, "Diff": args.diff, "PolicyOverride": args.policy_override}
        if args.allow_vault_cycle:
            body["AllowVaultCycle"] = True
        answer = api.put(f"/v1/job/{segment(job.id)}/plan", body, namespace=api.namespace or job.namespace)
    except JobspecError as error:
        print_faults(error)
        return FAILED
    except CommandFailed as error:
        fail(error)
        return FAILED
    paint = _paint(args)
    if args.diff:
        print(job_diff(answer["Diff"], paint, is_verbose=args.verbose))
    print(paint("bold", "Scheduler dry-run:"))
    failed = answer["FailedTGAllocs"] or {}
    withheld = _asked(answer) if failed and job.all_at_once else {}
    print(dry_run(failed, paint, is_system=job.is_system, withheld=withheld))
    if job.is_scheduled:
        print(f"- If submitted now, next periodic launch would be at {answer['NextPeriodicLaunch']}\n")
    if preempted := answer["Annotations"]["PreemptedAllocs"]:
        print(paint("bold", "Preemptions:"))
        print(preemptions(preempted, is_verbose=args.verbose) + "\n")
    if answer["Warnings"]:
        print(f"{paint('bold', 'Job Warnings:')}\n{answer['Warnings']}\n")
    index = answer["JobModifyIndex"]
    print(paint("bold", f"Job Modify Index: {index}"))
    print(_HINT.format(index=index, words=_words(args)))
    return exit_code(answer)


def exit_code(answer: Json) -> int:
    """Whether anything would be created or destroyed."""
    return CHANGES if any(group[what] for group in _updates(answer).values() for what in _CHANGING) else 0


def _updates(answer: Json) -> Mapping[str, Json]:
    return (answer["Annotations"] or {}).get("DesiredTGUpdates") or {}


def _asked(answer: Json) -> dict[str, int]:
    """{group: allocs that are to be placed}, of those with any."""
    asked = {name: sum(group[what] for what in _PLACING) for name, group in _updates(answer).items()}
    return {name: count for name, count in asked.items() if count}


def _paint(args: argparse.Namespace) -> Paint:
    """Colours on a terminal, unless they are not wanted."""
    is_plain = args.no_color or os.environ.get("NO_COLOR") or os.environ.get("NOMAD_CLI_NO_COLOR")
    has_colours = sys.stdout.isatty() or os.environ.get("NOMAD_CLI_FORCE_COLOR")
    return plain if is_plain or not has_colours else coloured


def plain(style: str, text: str) -> str:
    return text


def coloured(style: str, text: str) -> str:
    return f"\033[{_CODES[style]}m{text}\033[0m" if style and text else text


def _words(args: argparse.Namespace) -> str:
    """What `job run` needs to read the same job."""
    words = [word for pair in args.var for word in ("-var", pair)]
    words += [word for path in args.var_file for word in ("-var-file", path)]
    words += [f"-{flag}" for flag in ("json", "hcl1") if getattr(args, flag)]
    return shlex.join([*words, args.file])


# -- the forecast


def dry_run(failed: Mapping[str, Json], paint: Paint, *, is_system: bool, withheld: Mapping[str, int]) -> str:
    """Whether all finds a place, and for each group that does not, why. withheld: {group: allocs} of an all_at_once job,
    none of which is placed though some find room."""
    if not failed:
        return paint("green", "- All tasks successfully allocated.") + "\n"
    what = "Failed to place allocations on all nodes." if is_system else "Failed to place all allocations."
    lines = [paint("yellow", f"- WARNING: {what}")]
    for name in sorted({*failed, *withheld}):
        metric = failed.get(name)
        homeless = metric["CoalescedFailures"] + 1 if metric else 0
        count = withheld.get(name, homeless)
        noun = "allocation" if count == 1 else "allocations"
        room = f"; all_at_once, and there is room for {count - homeless} of {count}" if withheld else ""
        lines.append(paint("yellow", f'  Task Group "{name}" (failed to place {count} {noun}{room}){":" if metric else ""}'))
        lines += [paint("yellow", f"    {line}") for line in (refusals(metric) if metric else ())]
        lines.append("")
    return "\n".join(lines)


def preemptions(allocs: Sequence[Json], *, is_verbose: bool) -> str:
    """What of other jobs would have to go; of many, only how many of which job."""
    if len(allocs) <= _PREEMPTIONS_SHOWN or is_verbose:
        rows = [(short(one["ID"], is_verbose=is_verbose), one["JobID"], one["TaskGroup"]) for one in allocs]
        return table([("Alloc ID", "Job ID", "Task Group"), *rows])
    return table([("Job ID", "Allocs"), *sorted(Counter(one["JobID"] for one in allocs).items())])


# -- the difference
#
# Markers of one block stand in one column, names and values behind them in theirs; a block inside is two deeper.


def job_diff(diff: Json, paint: Paint, *, is_verbose: bool) -> str:
    """The whole difference. What is added or deleted as a whole shows its fields only when is_verbose."""
    lines = [_marker(diff, paint) + paint("bold", f'Job: "{diff["ID"]}"')]
    inside = [*diff["Fields"], *diff["Objects"]]
    width = _width([*inside, *diff["TaskGroups"]])
    if diff["Type"] == "Edited" or is_verbose:
        lines += _aligned(inside, 0, width, paint)
    for group in diff["TaskGroups"]:
        lines += _group(group, width - len(_marker(group, plain)), paint, is_verbose=is_verbose)
    return "\n".join(lines)


def _group(diff: Json, pad: int, paint: Paint, *, is_verbose: bool) -> Iterator[str]:
    head = _marker(diff, paint) + " " * pad + paint("bold", f'Task Group: "{diff["Name"]}"')
    updates = [paint(_UPDATE_STYLES.get(name, ""), f"{count} {name}") for name, count in sorted((diff["Updates"] or {}).items())]
    yield head + (f" ({', '.join(updates)})" if updates else "")
    inside = [*diff["Fields"], *diff["Objects"]]
    width = _width([*inside, *diff["Tasks"]])
    if diff["Type"] == "Edited" or is_verbose:
        yield from _aligned(inside, pad + 2, width, paint)
    for task in diff["Tasks"]:
        yield from _task(task, pad + 2, width - len(_marker(task, plain)), paint, is_verbose=is_verbose)
    yield ""


def _task(diff: Json, start: int, pad: int, paint: Paint, *, is_verbose: bool) -> Iterator[str]:
    head = " " * start + _marker(diff, paint) + " " * pad + paint("bold", f'Task: "{diff["Name"]}"')
    yield head + _annotations(diff, paint)
    if diff["Type"] == "Edited" or (is_verbose and diff["Type"] != "None"):
        inside = [*diff["Fields"], *diff["Objects"]]
        yield from _aligned(inside, start + 2, _width(inside), paint)


def _aligned(parts: Sequence[Json], start: int, width: int, paint: Paint) -> Iterator[str]:
    """Fields and blocks of one block. width: of its widest marker."""
    names = max((len(part["Name"]) for part in parts if "Old" in part), default=0)
    for part in parts:
        pad = " " * (width - len(_marker(part, plain)))
        head = " " * start + _marker(part, paint) + pad
        if "Old" in part:
            yield f"{head}{part['Name']}: {' ' * (names - len(part['Name']))}{_value(part)}{_annotations(part, paint)}"
            continue
        yield f"{head}{part['Name']} {{"
        inside = [*(part["Fields"] or ()), *(part["Objects"] or ())]
        yield from _aligned(inside, start + len(pad) + 2, _width(inside), paint)
        yield " " * (start + width) + "}"


def _width(parts: Sequence[Json]) -> int:
    return max((len(_marker(part, plain)) for part in parts), default=0)


def _marker(part: Json, paint: Paint) -> str:
    marker = _MARKERS.get(part["Type"], "")
    return paint(_STYLES[part["Type"]], marker.rstrip()) + " " if marker else ""


def _value(field: Json) -> str:
    if field["Type"] == "Edited":
        return f"{_quoted(field['Old'])} => {_quoted(field['New'])}"
    return _quoted(field["Old"] if field["Type"] == "Deleted" else field["New"])


def _quoted(text: str) -> str:
    """In double quotes, what does not print as its escape."""
    shown = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown) + '"'


def _annotations(part: Json, paint: Paint) -> str:
    known = part["Annotations"] or []
    return f" ({', '.join(paint(_annotation_style(one), one) for one in known)})" if known else ""


def _annotation_style(annotation: str) -> str:
    return _UPDATE_STYLES.get(annotation.removeprefix("forces "), "")
