"""What becomes of an evaluation? Follows it until it is complete, as `job run` and `job stop` print it."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from cli import deployment
from cli.client import Api, ApiError, short

PLACEMENT_FAILED = 2
_POLL_S = 0.2


def follow(api: Api, eval_id: str, *, is_verbose: bool, timeout_s: float | None = None) -> int:
    """Prints what happens, and then what becomes of the deployment that it belongs to; returns 0, or 2 when not
    everything could be placed or the deployment failed. timeout_s: of following the deployment, None: until it ends."""
    print(f'==> Monitoring evaluation "{short(eval_id, is_verbose=is_verbose)}"')
    seen: dict[str, str] = {}
    status = ""
    while True:
        try:
            evaluation = api.get(f"/v1/evaluation/{eval_id}")
        except ApiError as error:
            if error.status != 404:
                raise
            evaluation = {"Status": "pending", "JobID": ""}
        if not status and evaluation["JobID"]:
            print(f'    Evaluation triggered by job "{evaluation["JobID"]}"')
        for alloc in api.get(f"/v1/evaluation/{eval_id}/allocations"):
            _print_alloc(alloc, seen, is_verbose=is_verbose)
        if evaluation["Status"] != status:
            if status:
                print(f'    Evaluation status changed: "{status}" -> "{evaluation["Status"]}"')
            status = evaluation["Status"]
        if status in ("complete", "failed", "canceled", "blocked"):
            break
        time.sleep(_POLL_S)
    print(f'==> Evaluation "{short(eval_id, is_verbose=is_verbose)}" finished with status "{status}"')
    failed = evaluation.get("FailedTGAllocs") or {}
    for group, metric in sorted(failed.items()):
        print_placement_failure(group, metric)
    if evaluation.get("BlockedEval"):
        print(f'    Evaluation "{short(evaluation["BlockedEval"], is_verbose=is_verbose)}" waiting for additional capacity')
    if failed:
        return PLACEMENT_FAILED
    if not evaluation.get("DeploymentID"):
        return 0
    return deployment.follow(api, evaluation["DeploymentID"], is_verbose=is_verbose, timeout_s=timeout_s)


def _print_alloc(alloc: dict[str, Any], seen: dict[str, str], *, is_verbose: bool) -> None:
    identity, status = alloc["ID"], alloc["ClientStatus"]
    known = seen.get(identity)
    seen[identity] = status
    name = short(identity, is_verbose=is_verbose)
    if known is None:
        node = short(alloc["NodeID"], is_verbose=is_verbose)
        print(f'    Allocation "{name}" created: node "{node}", group "{alloc["TaskGroup"]}"')
    elif known != status:
        print(f'    Allocation "{name}" status changed: "{known}" -> "{status}"')


def print_placement_failure(group: str, metric: dict[str, Any]) -> None:
    """Why a group found no node, each reason with its number of nodes."""
    count = metric.get("CoalescedFailures", 0) + 1
    print(f'    Task Group "{group}" (failed to place {count} allocation{"s" if count > 1 else ""}):')
    for line in refusals(metric):
        print(f"      {line}")


def refusals(metric: Mapping[str, Any]) -> Iterator[str]:
    """What took how many nodes away, a line each."""
    if not metric["NodesEvaluated"]:
        yield "* No nodes were eligible for evaluation"
    if not metric["NodesAvailable"]:
        yield "* No nodes are available in the job's datacenters"
    for name, count in sorted((metric.get("ClassFiltered") or {}).items()):
        yield f'* Class "{name}": {count} nodes excluded by filter'
    for reason, count in sorted((metric.get("ConstraintFiltered") or {}).items()):
        yield f'* Constraint "{reason}": {count} nodes excluded by filter'
    if metric["NodesExhausted"]:
        yield f"* Resources exhausted on {metric['NodesExhausted']} nodes"
    for name, count in sorted((metric.get("ClassExhausted") or {}).items()):
        yield f'* Class "{name}" exhausted on {count} nodes'
    for dimension, count in sorted((metric.get("DimensionExhausted") or {}).items()):
        yield f'* Dimension "{dimension}" exhausted on {count} nodes'
