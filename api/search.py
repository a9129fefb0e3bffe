"""The API's /v1/search and /v1/search/fuzzy: which things have an id that begins so, or a name that holds this?

Answers out of the leader's view. Each kind of thing (Nomad calls it a context) shows 20 at most, and says whether there
were more.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Any

from aiohttp import web

from api.query import BadRequest, answer, decode, member, read
from api.scaling import policies
from leader.leading import Leading
from leader.view import View
from model.job import Job, TaskGroup

_SHOWN_MAX = 20
_TEXT_MIN = 2

Has = Callable[[str], bool]

# A context's ids, of a namespace.
_IDS: Mapping[str, Callable[[View, Has], Iterable[str]]] = {
    "allocs": lambda view, has: (a.id for a in view.allocs.values() if has(a.desired.namespace)),
    "deployment": lambda view, has: (d.document.id for d in view.deployments.values() if has(d.document.namespace)),
    "evals": lambda view, has: (e.document.id for e in view.evals.values() if has(e.document.namespace)),
    "jobs": lambda view, has: (job_id for namespace, job_id in view.jobs if has(namespace)),
    "nodes": lambda view, _: view.nodes,
    "namespaces": lambda view, _: view.namespaces,
    "scaling_policy": lambda view, has: (p["ID"] for p in policies(view) if has(p["Target"]["Namespace"])),
    "plugins": lambda view, _: (),
    "volumes": lambda view, _: (),
}
_UUIDS = ("allocs", "deployment", "evals", "nodes", "scaling_policy")
# Those that are found by their names, with what else tells which one is meant.
_NAMED = ("allocs", "classes", "commands", "groups", "images", "jobs", "namespaces", "nodes", "services", "tasks")
# Those of the fuzzy search that have no name: found by the beginning of their id.
_PREFIXED = ("deployment", "evals", "scaling_policy", "plugins", "volumes")


async def search(request: web.Request, leading: Leading) -> web.Response:
    """`{Prefix, Context}`."""
    body = decode(await request.read())
    prefix = member(body, "Prefix", str) or ""
    view, has = leading.view, read(request).has_namespace
    matches, truncations = {}, {}
    for context in _chosen(body, tuple(_IDS)):
        begin = prefix.lower() if context in _UUIDS else prefix
        found = nsmallest(_SHOWN_MAX + 1, (one for one in _IDS[context](view, has) if one.startswith(begin)))
        matches[context], truncations[context] = found[:_SHOWN_MAX], len(found) > _SHOWN_MAX
    return _found(request, view, matches, truncations)


async def fuzzy(request: web.Request, leading: Leading) -> web.Response:
    """`{Text, Context}`: names that hold the text, whatever its case, those that begin with it first."""
    body = decode(await request.read())
    text = (member(body, "Text", str) or "").lower()
    if len(text) < _TEXT_MIN:
        raise BadRequest(f"fuzzy search query must be at least {_TEXT_MIN} characters, got {len(text)}")
    view, has = leading.view, read(request).has_namespace
    matches: dict[str, list[dict[str, Any]]] = {}
    truncations = {}
    chosen = _chosen(body, (*_NAMED, *_PREFIXED))
    names: dict[str, list[tuple[str, Sequence[str]]]] = {context: [] for context in chosen if context in _NAMED}
    for context, name, scope in _names(view, has):
        if context in names and text in name.lower():
            names[context].append((name, scope))
    for context, of_context in names.items():
        found = nsmallest(_SHOWN_MAX + 1, of_context, key=lambda one: (one[0].lower().index(text), one))
        matches[context] = [{"ID": name, "Scope": list(scope) or None} for name, scope in found[:_SHOWN_MAX]]
        truncations[context] = len(found) > _SHOWN_MAX
    for context in (one for one in chosen if one in _PREFIXED):
        ids = nsmallest(_SHOWN_MAX + 1, (one for one in _IDS[context](view, has) if one.startswith(text)))
        matches[context] = [{"ID": one, "Scope": None} for one in ids[:_SHOWN_MAX]]
        truncations[context] = len(ids) > _SHOWN_MAX
    return _found(request, view, {name: found for name, found in matches.items() if found}, truncations)


def _chosen(body: dict[str, Any], known: Sequence[str]) -> Sequence[str]:
    context = member(body, "Context", str) or "all"
    if context == "all":
        return known
    if context not in known:
        raise BadRequest(f"context must be one of [{' '.join(known)}] or 'all' for all contexts; got {context[:60]!r}")
    return (context,)


def _names(view: View, has: Has) -> Iterable[tuple[str, str, Sequence[str]]]:
    """Everything that has a name: its context, the name, its scope."""
    for alloc in view.allocs.values():
        if has(alloc.desired.namespace):
            yield "allocs", alloc.desired.name, (alloc.desired.namespace, alloc.id)
    for node in view.nodes.values():
        yield "nodes", node.node.name, (node.id,)
        if node.node.node_class:
            yield "classes", node.node.node_class, (node.id,)
    for name in view.namespaces:
        yield "namespaces", name, ()
    for (namespace, job_id), job in view.jobs.items():
        if has(namespace):
            yield "jobs", job.name, (namespace, job_id)
            for group in job.task_groups:
                yield from _of_group(job, group)


def _of_group(job: Job, group: TaskGroup) -> Iterable[tuple[str, str, Sequence[str]]]:
    of_job = (job.namespace, job.id)
    yield "groups", group.name, of_job
    for service in group.services:
        yield "services", service.name, (*of_job, group.name)
    for task in group.tasks:
        scope = (*of_job, group.name, task.name)
        yield "tasks", task.name, (*of_job, group.name)
        for service in task.services:
            yield "services", service.name, scope
        for context, option in (("images", "image"), ("commands", "command")):
            if isinstance(value := task.config.get(option), str):
                yield context, value, scope


def _found(request: web.Request, view: View, matches: Mapping[str, Any], truncations: Mapping[str, bool]) -> web.Response:
    index = view.api_index(view.index)
    shown = {"Matches": matches, "Truncations": truncations, "Index": index, "LastContact": 0, "KnownLeader": True}
    return answer(request, shown, index=index)
