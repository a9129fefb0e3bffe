"""The UI's allocations, of the whole cluster, a job or a node."""

from aiohttp import web

from api.context import CONTEXT
from api.query import BadRequest, read
from api.rights import jobs_in
from api.ui.lists import Row, asked, kept, ordered, shown
from leader.leading import Leading
from leader.view import View, job_key
from model.alloc import Alloc, ClientStatus, TaskStatus
from model.job import JobId
from model.node import NodeId


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


async def list_allocs(request: web.Request, leading: Leading) -> web.Response:
    """`?job=&node=&group=&status=`; status `live`: what is wanted or has not ended."""
    view, query, wanted = leading.view, read(request), asked(request, _SORTS)
    job_id, node_id, group, status = (request.query.get(name, "") for name in ("job", "node", "group", "status"))
    if status not in ("", "live", *ClientStatus):
        raise BadRequest("status is no status of an allocation")

    def keeps(alloc: Alloc) -> bool:
        desired = alloc.desired
        if not query.has_namespace(desired.namespace) or (job_id and desired.job_id != job_id) or (group and desired.task_group != group):
            return False
        if status == "live":
            if alloc.is_terminal or alloc.client_status is ClientStatus.LOST:
                return False
        elif status and alloc.client_status.value != status:
            return False
        text = wanted.text
        return not text or text in desired.name.lower() or desired.id.startswith(text) or text in desired.node_name.lower()

    if node_id:
        among = list(view.allocs_by_node.get(NodeId(node_id), {}).values())
    elif job_id and query.namespace != "*":
        among = list(view.allocs_by_job.get((query.namespace, JobId(job_id)), {}).values())
    else:
        among = list(view.allocs.values())
    sees = await request.app[CONTEXT].rights.readable(request, jobs_in(view, query.namespace))
    found = await kept(among, lambda alloc: keeps(alloc) and sees(job_key(alloc)))
    ordered(found, wanted, _SORTS, "newest")
    return shown(request, view, ("allocs",), [row(view, alloc) for alloc in wanted.page(found)], len(found))
