"""The UI's allocations, of the whole cluster, a job or a node."""

import asyncio
import re
from collections.abc import Callable, Mapping

from aiohttp import web

from api.context import CONTEXT
from api.query import BadRequest, read
from api.rights import jobs_in
from api.ui.lists import SLICE, Row, asked, page_of, shown
from leader.leading import Leading
from leader.view import View, job_key
from model.alloc import Alloc, AllocId, ClientStatus, DesiredAlloc, TaskStatus
from model.node import NodeId
from model.snapshot import JobKey


def row(view: View, alloc: Alloc) -> Row:
    """Times in ns since the epoch. Said: the newest event of a task that ended or fails."""
    desired, observed = alloc.desired, alloc.observed
    states = observed.task_states if observed else {}
    healthy = observed.deployment_status.healthy if observed and observed.deployment_status else None
    return {
        "ID": desired.id,
        "Name": desired.name,
        "Namespace": desired.namespace,
        "JobID": desired.job_id,
        "JobVersion": desired.job_version,
        "TaskGroup": desired.task_group,
        "NodeID": desired.node_id,
        "NodeName": desired.node_name,
        "DesiredStatus": desired.desired_status.value,
        "DesiredDescription": desired.desired_description,
        "ClientStatus": alloc.client_status.value,
        "Apart": desired.apart.value,
        "Canary": desired.canary,
        "Healthy": desired.health if desired.health is not None else healthy,
        "Restarts": sum(state.restarts for state in states.values()),
        "Tasks": {name: state.state.value for name, state in states.items()},
        "Said": said(alloc),
        "CreateTime": desired.create_time,
        "ModifyTime": max(desired.modify_time, observed.modify_time if observed else 0),
    }


def said(alloc: Alloc) -> str:
    """Why it is not well, in the words of its tasks' newest event; empty where it is."""
    observed = alloc.observed
    if observed is None:
        return ""
    ill = [state for state in observed.task_states.values() if state.failed or state.state is not TaskStatus.RUNNING]
    newest = max((event for state in ill for event in state.events), key=lambda event: event.time, default=None)
    if newest is None:
        return observed.client_description if alloc.client_status is not ClientStatus.RUNNING else ""
    return f"{newest.type}: {newest.display_message}" if newest.display_message else newest.type


_SORTS = {
    "newest": lambda alloc: (-alloc.create_index, alloc.id),
    "id": lambda alloc: alloc.id,
    "name": lambda alloc: (alloc.desired.name, -alloc.create_index),
    "status": lambda alloc: (alloc.client_status.value, -alloc.create_index),
    "node": lambda alloc: (alloc.desired.node_name, -alloc.create_index),
    "modified": lambda alloc: (-alloc.modify_index, alloc.id),
}


def _matcher(view: View, text: str) -> Callable[[DesiredAlloc], bool]:
    """Whether an alloc whose job's id does not hold the text does so itself: in its id, its node's name or the rest of its own
    name, `group[index]`. Asked of 100,000 for each key that is pressed, so what can be is found out before."""
    if re.search(r"[.\[\]]", text) or text.isdigit():
        return lambda desired: text in desired.name.lower() or desired.id.startswith(text) or text in desired.node_name.lower()
    nodes = {node.id for node in view.nodes.values() if text in node.node.name.lower()}
    groups: dict[str, bool] = {}

    def in_group(name: str) -> bool:
        known = groups.get(name)
        if known is None:
            known = groups[name] = text in name.lower()
        return known

    if re.fullmatch(r"[0-9a-f-]+", text):
        return lambda desired: desired.id.startswith(text) or desired.node_id in nodes or in_group(desired.task_group)
    return lambda desired: desired.node_id in nodes or in_group(desired.task_group)


async def list_allocs(request: web.Request, leading: Leading) -> web.Response:
    """`?job=&node=&group=&status=`; status `live`: what is wanted or has not ended."""
    view, query, wanted = leading.view, read(request), asked(request, _SORTS)
    job_id, node_id, group, status = (request.query.get(name, "") for name in ("job", "node", "group", "status"))
    if status not in ("", "live", *ClientStatus):
        raise BadRequest("status is no status of an allocation")

    text, namespace = wanted.text, query.namespace
    matches = _matcher(view, text)

    def keeps(alloc: Alloc, *, is_named: bool) -> bool:
        desired = alloc.desired
        if group and desired.task_group != group:
            return False
        if status == "live":
            if alloc.is_terminal or alloc.client_status is ClientStatus.LOST:
                return False
        elif status and alloc.client_status.value != status:
            return False
        return is_named or matches(desired)

    by_job: Mapping[JobKey, Mapping[AllocId, Alloc]] = view.allocs_by_job
    if node_id:
        here: dict[JobKey, dict[AllocId, Alloc]] = {}
        for alloc in view.allocs_by_node.get(NodeId(node_id), {}).values():
            here.setdefault(job_key(alloc), {})[alloc.id] = alloc
        by_job = here
    sees = await request.app[CONTEXT].rights.readable(request, jobs_in(view, namespace))
    found: list[Alloc] = []
    looked, is_plain = 0, not group and not status
    for key, allocs in list(by_job.items()):
        if namespace not in ("*", key[0]) or (job_id and key[1] != job_id) or not sees(key):
            continue
        is_named = text in key[1].lower()  # as each of its allocs is
        if is_named and is_plain:
            found.extend(allocs.values())
        else:
            found.extend([alloc for alloc in allocs.values() if (matches(alloc.desired) if is_plain else keeps(alloc, is_named=is_named))])
        looked += len(allocs)
        if looked > SLICE:
            looked, is_plain = 0, not group and not status
            await asyncio.sleep(0)
    page = page_of(found, wanted, _SORTS, "newest")
    return shown(request, view, ("allocs",), [row(view, alloc) for alloc in page], len(found))
