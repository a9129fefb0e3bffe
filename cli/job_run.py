"""`drover job run`: from a job file to an evaluation."""

import argparse
import json
import os
from contextlib import suppress
from typing import Any

import jobspec
from cli.client import Api, clock, segment
from cli.failure import CommandFailed, fail
from cli.job_file import parsed, print_faults, text_of
from cli.monitor import follow
from jobspec.durations import DurationFault, parse_duration
from model.errors import JobspecError
from model.job import Job
from model.wire import seconds

# A longer job file is not kept (api/submissions.py), and would double what is sent.
_SOURCE_BYTES_MAX = 256 * 1024


def run(args: argparse.Namespace) -> int:
    try:
        text = text_of(args)
        document, checked = parsed(args, text)
        if args.output:
            print(json.dumps({"Job": document}, indent=4))
            return 0
        job = checked()
        api = Api(args)
        body: dict[str, Any] = {"Job": _with_token(document, job, args.vault_token)}
        if len(text) <= _SOURCE_BYTES_MAX:
            body["Submission"] = _submission(args, text)
        if args.preserve_counts:
            body["PreserveCounts"] = True
        if args.adopt:
            body["Adopt"] = True
        if args.allow_vault_cycle:
            body["AllowVaultCycle"] = True
        if args.check_index is not None:
            body |= {"EnforceIndex": True, "JobModifyIndex": args.check_index}
        answer = api.put("/v1/jobs", body, namespace=api.namespace or job.namespace)
        if answer.get("Warnings"):
            print(f"Job Warnings:\n{answer['Warnings']}\n")
        if not answer["EvalID"]:
            print("Job registration successful")
            if job.is_scheduled:
                found = api.get(f"/v1/job/{segment(job.id)}/launches", namespace=api.namespace or job.namespace)
                print(f"Approximate next launch time: {clock(found['NextLaunch']) if found['NextLaunch'] else 'none'}")
            return 0
        if args.detach:
            print(f"Job registration successful\nEvaluation ID: {answer['EvalID']}")
            return 0
        return follow(api, answer["EvalID"], is_verbose=args.verbose, timeout_s=_timeout_s(args))
    except JobspecError as error:
        return print_faults(error)
    except CommandFailed as error:
        return fail(error)


def _with_token(document: dict[str, Any], job: Job, given: str | None) -> dict[str, Any]:
    """With the submitter's Vault token, for a cluster that asks for it; only where the job wants something of Vault."""
    token = given or os.environ.get("VAULT_TOKEN")
    is_wanted = any(task.vault is not None for group in job.task_groups for task in group.tasks)
    return document | {"VaultToken": token} if token and is_wanted else document


def _submission(args: argparse.Namespace, text: bytes) -> dict[str, Any]:
    """The job file, for whoever wants to see it later. What a variable file from a pipe held cannot be read again."""
    variables = []
    for path in args.var_file:
        with suppress(JobspecError):
            variables.append(jobspec.read_file(path).decode("utf-8", "replace"))
    return {
        "Source": text.decode("utf-8", "replace"),
        "Format": "json" if args.json else "hcl1" if args.hcl1 else "hcl2",
        "VariableFlags": dict(pair.split("=", 1) for pair in args.var),
        "Variables": "\n".join(variables),
    }


def _timeout_s(args: argparse.Namespace) -> float | None:
    """How long the deployment is followed. Raises CommandFailed."""
    if args.timeout is None:
        return None
    try:
        return seconds(parse_duration(args.timeout))
    except DurationFault as error:
        raise CommandFailed(f"-timeout: {error}") from error
