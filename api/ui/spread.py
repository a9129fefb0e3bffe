"""How do a job's allocs divide over what its spread blocks name, against what was asked?"""

from typing import Any

from aiohttp import web

from api.query import NotFound, answer, read
from leader.decide.constraints import resolve
from leader.leading import Leading
from leader.view import View
from model.job import Job, JobId, Spread, TaskGroup
from model.snapshot import JobKey

# Where no block says anything: still worth a look.
_DATACENTER = "${node.datacenter}"


async def spread(request: web.Request, leading: Leading) -> web.Response:
    """By group and block. Values: allocs that count (Actual) and that should be there (Target, null where nothing is said)."""
    view, key = leading.view, (read(request).namespace, JobId(request.match_info["id"]))
    job = view.jobs.get(key)
    if job is None:
        raise NotFound("job not found")
    shown = [
        {"Group": group.name, "Attribute": block.attribute, "Weight": block.weight, "IsAsked": is_asked, "MaxSkew": block.max_skew, "Values": _values(view, key, group, block, is_asked=is_asked)}
        for group in job.task_groups
        for block, is_asked in _blocks(job, group)
    ]
    return answer(request, shown, index=view.topic_index(("job-allocs", key)))


def _blocks(job: Job, group: TaskGroup) -> list[tuple[Spread, bool]]:
    blocks = [(block, True) for block in (*group.spreads, *job.spreads)]
    if all(block.attribute != _DATACENTER for block, _ in blocks):
        blocks.append((Spread(attribute=_DATACENTER), False))
    return blocks


def _values(view: View, key: JobKey, group: TaskGroup, block: Spread, *, is_asked: bool) -> list[dict[str, Any]]:
    actual: dict[str, int] = {}
    for alloc in view.allocs_by_job.get(key, {}).values():
        node = view.nodes.get(alloc.desired.node_id)
        if alloc.is_live and alloc.desired.task_group == group.name and node is not None:
            value = resolve(block.attribute, node.node) or "(none)"
            actual[value] = actual.get(value, 0) + 1
    total = sum(actual.values())
    named = {target.value: target.percent * total / 100 for target in block.spread_target}
    if is_asked and not named:
        # Evenly over all that nodes ready for work have.
        offered = {resolve(block.attribute, node.node) for node in view.nodes.values() if node.takes_work} - {None}
        named = {str(value): total / len(offered) for value in offered}
    return [
        {"Value": value, "Actual": actual.get(value, 0), "Target": round(named[value], 1) if value in named else None}
        for value in sorted({*actual, *named})
    ]
