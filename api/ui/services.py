"""The UI's services: what drover's jobs register in Consul, and what Consul's checks say of it.

The names come from the jobs, instances and checks from Consul: by service for a job, by node for one alloc. An instance is
drover's by its id, which names the alloc (checks/registration.py).
"""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from api.context import CONTEXT
from api.query import BadRequest, NotFound, answer, read
from api.rights import service_names
from api.ui.lists import Row, asked, page_of, shown
from catalog.lookups import Asking, Check, Entry, Lookups
from catalog.lookups import Service as Registered
from leader.leading import Leading
from leader.view import View, job_key
from model.alloc import Alloc, AllocId
from model.errors import StoreRefused, StoreUnavailable
from model.job import Job, JobId, Service
from model.snapshot import JobKey

_ALLOC = re.compile(r"^_drover-task-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-")
# Questions to Consul for one call, and how long they may take together.
_QUESTIONS_MAX = 32
_WAIT_S = 3.0
_WORST = ("critical", "warning", "passing")


def _services(job: Job) -> Iterable[tuple[str, Service]]:
    """Each with its group."""
    for group in job.task_groups:
        for service in (*group.services, *(one for task in group.tasks for one in task.services)):
            yield group.name, service


_SORTS = {
    "name": lambda row: (row["Name"], row["JobID"]),
    "job": lambda row: (row["JobID"], row["Name"]),
    "live": lambda row: (row["Live"], row["Name"]),
}


async def list_services(request: web.Request, leading: Leading) -> web.Response:
    """What running jobs register. DNS: the names under which Consul answers for it."""
    view, query, wanted = leading.view, read(request), asked(request, _SORTS)
    sees = await request.app[CONTEXT].rights.readable(request, view.jobs)
    found: list[Row] = []
    for key, job in view.jobs.items():
        if job.stop or not query.has_namespace(key[0]) or not sees(key):
            continue
        for group, service in _services(job):
            if wanted.text and wanted.text not in service.name.lower() and wanted.text not in job.id.lower() and wanted.text not in service.tags:
                continue
            found.append(_row(view, key, job, group, service))
    return shown(request, view, ("jobs",), page_of(found, wanted, _SORTS, "name"), len(found))


def _row(view: View, key: JobKey, job: Job, group: str, service: Service) -> Row:
    live = [alloc for alloc in view.allocs_by_job.get(key, {}).values() if alloc.is_live and alloc.desired.task_group == group]
    return {
        "Name": service.name,
        "Namespace": job.namespace,
        "JobID": job.id,
        "TaskGroup": group,
        "TaskName": service.task_name,
        "PortLabel": service.port_label,
        "Tags": service.tags,
        "Checks": [check.name or check.type for check in service.checks],
        "Live": len(live),
        "DNS": [f"{service.name}.service.consul", *(f"{tag}.{service.name}.service.consul" for tag in service.tags if _is_label(tag))],
    }


def _is_label(text: str) -> bool:
    """Whether it can be a part of a DNS name."""
    return re.fullmatch(r"[A-Za-z0-9_-]{1,63}", text) is not None


async def checks_of_job(request: web.Request, leading: Leading) -> web.Response:
    """The job's instances in Consul, each with its checks and their output; `?alloc=ID`: of that one alone."""
    view, key = leading.view, (read(request).namespace, JobId(request.match_info["id"]))
    lookups = Lookups(leading.client.transport)
    if alloc_id := request.query.get("alloc", ""):
        alloc = view.allocs.get(AllocId(alloc_id))
        if alloc is None or job_key(alloc) != key:
            raise NotFound("alloc not found")
        asking = _of_alloc(lookups, view, alloc)
    elif (job := view.jobs.get(key)) is None:
        raise NotFound("job not found")
    else:
        asking = _of_job(lookups, view, key, job)
    try:
        async with asyncio.timeout(_WAIT_S):
            found = await asking
    except TimeoutError:
        raise StoreUnavailable("Consul does not answer") from None
    except StoreRefused as error:
        raise BadRequest(str(error)) from error
    found = [one for one in found if job_key(view.allocs[one["AllocID"]]) == key]
    return answer(request, sorted(found, key=lambda one: (one["Service"], one["Node"], one["AllocID"])), index=view.api_index(view.index))


async def _of_alloc(lookups: Lookups, view: View, alloc: Alloc) -> list[Row]:
    node = view.nodes.get(alloc.desired.node_id)
    if node is None:
        return []
    name, asking = node.node.consul_node or node.node.name, Asking(datacenter=node.node.consul_datacenter)
    of_node = (await lookups.node(name, asking)).value
    if of_node is None:
        return []
    mine = {one.id: one for one in of_node.services.values() if (found := _ALLOC.match(one.id)) and found[1] == alloc.id}
    if not mine:
        return []
    checks = (await lookups.checks(name, asking)).value
    return [_instance(view, alloc, one, [check for check in checks if check.service_id == one.id]) for one in mine.values()]


async def _of_job(lookups: Lookups, view: View, key: JobKey, job: Job) -> list[Row]:
    """A name that only the node knows cannot be asked for."""
    nodes = (view.nodes.get(alloc.desired.node_id) for alloc in view.allocs_by_job.get(key, {}).values() if not alloc.is_terminal)
    datacenters = {node.node.consul_datacenter for node in nodes if node is not None}
    questions = [(name, where) for name in service_names(job) if "$" not in name for where in sorted(datacenters)][:_QUESTIONS_MAX]
    answers: list[tuple[Entry, ...]] = []
    for name, where in questions:
        answers.append((await lookups.service(name, "", Asking(datacenter=where), is_passing=False)).value)
    found: list[Row] = []
    for entry in (entry for entries in answers for entry in entries):
        named = _ALLOC.match(entry.service.id)
        alloc = view.allocs.get(AllocId(named[1])) if named else None
        if alloc is not None:
            found.append(_instance(view, alloc, entry.service, [check for check in entry.checks if check.service_id == entry.service.id]))
    return found


def _instance(view: View, alloc: Alloc, service: Registered, checks: list[Check]) -> dict[str, Any]:
    statuses = {check.status for check in checks}
    return {
        "AllocID": alloc.id,
        "AllocName": alloc.desired.name,
        "NodeID": alloc.desired.node_id,
        "Node": alloc.desired.node_name,
        "Service": service.service,
        "Address": service.address,
        "Port": service.port,
        "Tags": service.tags or (),
        "Status": next((status for status in _WORST if status in statuses), "passing"),
        "Checks": [{"ID": check.check_id, "Name": check.name, "Status": check.status, "Output": check.output} for check in checks],
    }
