"""`drover job stop`."""

import argparse

from cli.client import Api, CommandFailed, fail, segment
from cli.job_status import find_job
from cli.monitor import follow


def run(args: argparse.Namespace) -> int:
    try:
        api = Api(args)
        job = find_job(api, args.job)
        answer, _ = api.call("DELETE", f"/v1/job/{segment(job['ID'])}", None, purge=args.purge, namespace=job["Namespace"])
        if args.detach or not answer["EvalID"]:
            print(answer["EvalID"])
            return 0
        return follow(api, answer["EvalID"], is_verbose=args.verbose)
    except CommandFailed as error:
        return fail(error)
