"""`drover job stop`."""

import argparse
import sys

from cli.client import Api, segment
from cli.failure import CommandFailed, fail
from cli.job_status import find_job
from cli.monitor import follow


def run(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        job = find_job(api, args.job)
        if job["ID"] != args.job and not (args.yes or args.y) and not _is_meant(job["ID"], args.job):
            print("Cancelling job stop")
            return 0
        path, orphan = f"/v1/job/{segment(job['ID'])}", args.orphan or None
        answer, _ = api.call("DELETE", path, None, purge=args.purge, orphan=orphan, namespace=job["Namespace"])
        if args.detach or not answer["EvalID"]:
            if answer["EvalID"]:
                print(answer["EvalID"])
            return 0
        return follow(api, answer["EvalID"], is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)


def _is_meant(job_id: str, prefix: str) -> bool:
    """Whether the user wants to stop a job that was named by its first letters. Raises CommandFailed without a terminal."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise CommandFailed(f'{prefix!r} is only the beginning of job "{job_id}" (name it whole, or confirm with -yes)')
    try:
        answer = input(f'Are you sure you want to stop job "{job_id}"? [y/N] ')
    except EOFError:
        print()
        return False
    return answer.strip().lower() in ("y", "yes")
