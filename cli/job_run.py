"""`drover job run` and `drover job validate`: from a job file to an evaluation."""

import argparse
import json
import os
import sys
from typing import Any

import jobspec
from cli.client import Api, CommandFailed, fail
from cli.monitor import follow
from model.errors import JobspecError
from model.job import Job


def read(args: argparse.Namespace) -> tuple[dict[str, Any], Job]:
    """The submission document and the job. Raises JobspecError with every fault."""
    text = sys.stdin.buffer.read() if args.file == "-" else jobspec.read_file(args.file)
    name = "-" if args.file == "-" else args.file
    variables = {}
    for pair in args.var:
        key, equals, value = pair.partition("=")
        if not equals:
            raise CommandFailed(f"-var {pair!r}: expected NAME=VALUE")
        variables[key] = value
    var_files = [(path, jobspec.read_file(path)) for path in args.var_file]
    environ = dict(os.environ)
    document = jobspec.parse(text, file=name, variables=variables, var_files=var_files, environ=environ)
    job = jobspec.read_job(text, file=name, variables=variables, var_files=var_files, environ=environ)
    return document, job


def print_faults(error: JobspecError) -> int:
    for fault in error.faults:
        sys.stderr.write(f"{fault}\n")
    return 1


def validate(args: argparse.Namespace) -> int:
    try:
        _, job = read(args)
    except JobspecError as error:
        return print_faults(error)
    except CommandFailed as error:
        return fail(error)
    for warning in jobspec.warnings(job):
        print(f"Warning: {warning}")
    print("Job validation successful")
    return 0


def run(args: argparse.Namespace) -> int:
    try:
        if args.output:
            text = sys.stdin.buffer.read() if args.file == "-" else jobspec.read_file(args.file)
            variables = dict(pair.partition("=")[::2] for pair in args.var)
            files = [(path, jobspec.read_file(path)) for path in args.var_file]
            document = jobspec.parse(
                text, file=args.file, variables=variables, var_files=files, environ=dict(os.environ)
            )
            print(json.dumps({"Job": document}, indent=4))
            return 0
        document, job = read(args)
        api = Api(args)
        body: dict[str, Any] = {"Job": document}
        if args.check_index is not None:
            body |= {"EnforceIndex": True, "JobModifyIndex": args.check_index}
        answer = api.put("/v1/jobs", body, namespace=job.namespace)
        if answer.get("Warnings"):
            print(f"Job Warnings:\n{answer['Warnings']}\n")
        if not answer["EvalID"]:
            print("Job registration successful")
            return 0
        if args.detach:
            print(f"Job registration successful\nEvaluation ID: {answer['EvalID']}")
            return 0
        return follow(api, answer["EvalID"], is_verbose=args.verbose)
    except JobspecError as error:
        return print_faults(error)
    except CommandFailed as error:
        return fail(error)


