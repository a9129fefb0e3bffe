"""How does a forecast look to Nomad's clients?"""

from collections.abc import Iterable
from typing import Any

import msgspec

from api.shapes import alloc_stub, metrics_document
from leader.explaining import JobWhy
from leader.planning import Forecast
from leader.view import View
from model.alloc import DesiredAlloc


def plan_document(view: View, found: Forecast, warnings: Iterable[str], next_launch: str) -> dict[str, Any]:
    """The answer to a plan, in Nomad's shape."""
    index = view.api_index(found.job_modify_index) if found.job_modify_index is not None else 0
    return {
        "Annotations": {
            "DesiredTGUpdates": {group: msgspec.to_builtins(counts) for group, counts in found.updates.items()},
            "PreemptedAllocs": _preempted(view, found.preempted),
        },
        "FailedTGAllocs": metrics_document(found.failed),
        "JobModifyIndex": index,
        "CreatedEvals": None,
        "Diff": found.diff,
        "NextPeriodicLaunch": next_launch,
        "Warnings": "\n".join(warnings),
        "Index": index,
    }


def _preempted(view: View, allocs: Iterable[DesiredAlloc]) -> list[dict[str, Any]] | None:
    found = (view.allocs[one.id] for one in sorted(allocs, key=lambda one: (one.job_id, one.name)) if one.id in view.allocs)
    return [msgspec.to_builtins(alloc_stub(view, alloc)) for alloc in found] or None


def why_document(found: JobWhy, *, has_nodes: bool) -> dict[str, Any]:
    """drover's own: why not all of a job is placed. has_nodes: with every node's answer."""
    shown: dict[str, Any] = msgspec.to_builtins(found)
    if not has_nodes:
        for group in shown["Groups"]:
            del group["Nodes"]
    return shown
