"""How does a job file become a job, and what is wrong with it? `drover job validate` asks nothing else."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import jobspec
from cli.failure import CommandFailed, fail
from jobspec.files import SIZE_MAX
from model.errors import Fault, JobspecError
from model.job import Job


def read(args: argparse.Namespace) -> tuple[dict[str, Any], Callable[[], Job]]:
    """The submission document, and how to get the valid job that it means. Both raise JobspecError with every fault."""
    return parsed(args, text_of(args))


def text_of(args: argparse.Namespace) -> bytes:
    return _standard_input() if args.file == "-" else jobspec.read_file(args.file, accepts_pipe=True)


def parsed(args: argparse.Namespace, text: bytes) -> tuple[dict[str, Any], Callable[[], Job]]:
    if args.json:
        if args.var or args.var_file or args.hcl1:
            raise CommandFailed("a job of the JSON API has no variables and is no HCL (-json with -var, -var-file or -hcl1)")
        document = _json(text, args.file)
        return document, lambda: _valid(document, args)
    if args.hcl1 and (args.var or args.var_file):
        raise CommandFailed("HCL1 has no variables (-hcl1 with -var or -var-file)")
    variables = {}
    for pair in args.var:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CommandFailed(f"-var {pair!r}: expected NAME=VALUE")
        variables[key] = value
    document = jobspec.parse(
        text,
        file=args.file,
        variables=variables,
        var_files=[(path, jobspec.read_file(path, accepts_pipe=True)) for path in args.var_file],
        environ=dict(os.environ),
        allows_any_file=args.allow_outside_files,
        is_hcl1=args.hcl1,
    )
    return document, lambda: _valid(document, args)


def _valid(document: dict[str, Any], args: argparse.Namespace) -> Job:
    from template.of_job import template_faults

    return jobspec.valid_job(document, is_strict=args.nomad_strict, further=template_faults)


def _json(text: bytes, file: str) -> dict[str, Any]:
    """A job of the JSON API, with or without its `Job` wrapper."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        where, message = file, str(error) if isinstance(error, ValueError) else "nested too deeply"
        if isinstance(error, json.JSONDecodeError):
            where, message = f"{file}:{error.lineno}:{error.colno}", error.msg
        raise JobspecError((Fault(where=where, message=f"not JSON: {message}"),)) from error
    found = document.get("Job") or document if isinstance(document, dict) else None
    if not isinstance(found, dict):
        raise JobspecError((Fault(where=file, message='expected an object, as {"Job": {…}}'),))
    return found


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise CommandFailed("standard input is closed (a job file was expected there)")
    data = sys.stdin.buffer.read(SIZE_MAX + 1)
    if len(data) > SIZE_MAX:
        raise JobspecError((Fault(where="-", message=f"larger than {SIZE_MAX // 1_000_000} MB"),))
    return data


def print_faults(error: JobspecError) -> int:
    """One line for each fault; on a terminal with the line of the file that it is about."""
    is_terminal = sys.stderr.isatty()
    for fault in error.faults:
        sys.stderr.write(f"{fault}\n")
        if is_terminal:
            sys.stderr.write(_excerpt(fault))
    return 1


def _excerpt(fault: Fault) -> str:
    """The line of the file and a caret below what is wrong; nothing where there is no such line (standard input)."""
    file, _, place = fault.where.partition(":") if fault.where.count(":") == 2 else ("", "", "")
    line, _, column = place.partition(":")
    if not (line.isdigit() and column.isdigit()):
        return ""
    try:
        text = jobspec.read_file(file).decode("utf-8-sig", "replace").split("\n")[int(line) - 1]
    except (JobspecError, IndexError):
        return ""
    width, at = max(shutil.get_terminal_size().columns - 8, 20), int(column) - 1
    start = max(0, at - width // 2) if len(text) > width else 0
    shown = "".join(c if c.isprintable() else " " for c in text[start : start + width])
    return f"    {shown}\n    {' ' * (at - start)}^\n"


def validate(args: argparse.Namespace) -> int:
    try:
        job = read(args)[1]()
    except JobspecError as error:
        return print_faults(error)
    except CommandFailed as error:
        return fail(error)
    for warning in jobspec.warnings(job):
        print(f"Warning: {warning}")
    print("Job validation successful")
    return 0
