"""The API's /v1/search and /v1/search/fuzzy: which things have an id that begins so, or a name that holds this?

Answers out of the leader's view. Each kind of thing (Nomad calls it a context) shows 20 at most, and says whether there
were more.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from aiohttp import web

from api.context import CONTEXT
from api.query import BadRequest, answer, decode, member, read
from api.rights import jobs_in, whole_of
from api.scaling import job_of, policies
from leader.leading import Leading
from leader.view import Indexed, View, job_key
from model.job import Job, Namespace, TaskGroup
from model.snapshot import JobKey

_SHOWN_MAX = 20
_TEXT_MIN = 2

@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the caller asked for and may read."""

    has: Callable[[JobKey], bool]
    has_namespace: Callable[[Namespace], bool]
    has_nodes: bool


# A context's ids.
_IDS: Mapping[str, Callable[[View, Sight], Iterable[str]]] = {
    "allocs": lambda view, of: (a.id for a in view.allocs.values() if of.has(job_key(a))),
    "deployment": lambda view, of: (d.document.id for d in view.deployments.values() if of.has(_key(d))),
    "evals": lambda view, of: (e.document.id for e in view.evals.values() if of.has(_key(e))),
    "jobs": lambda view, of: (key[1] for key in view.jobs if of.has(key)),
    "nodes": lambda view, of: view.nodes if of.has_nodes else (),
    "namespaces": lambda view, of: (name for name in view.namespaces if of.has_namespace(name)),
    "scaling_policy": lambda view, of: (p["ID"] for p in policies(view) if of.has(job_of(p))),
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
    view, of = leading.view, await _sight(request, leading.view)
    matches, truncations = {}, {}
    for context in _chosen(body, tuple(_IDS)):
        begin = prefix.lower() if context in _UUIDS else prefix
        found = nsmallest(_SHOWN_MAX + 1, (one for one in _IDS[context](view, of) if one.startswith(begin)))
        matches[context], truncations[context] = found[:_SHOWN_MAX], len(found) > _SHOWN_MAX
    return _found(request, view, matches, truncations)


async def fuzzy(request: web.Request, leading: Leading) -> web.Response:
    """`{Text, Context}`: names that hold the text, whatever its case, those that begin with it first."""
    body = decode(await request.read())
    text = (member(body, "Text", str) or "").lower()
    if len(text) < _TEXT_MIN:
        raise BadRequest(f"fuzzy search query must be at least {_TEXT_MIN} characters, got {len(text)}")
    view, of = leading.view, await _sight(request, leading.view)
    matches: dict[str, list[dict[str, Any]]] = {}
    truncations = {}
    chosen = _chosen(body, (*_NAMED, *_PREFIXED))
    names: dict[str, list[tuple[str, Sequence[str]]]] = {context: [] for context in chosen if context in _NAMED}
    for context, name, scope in _names(view, of):
        if context in names and text in name.lower():
            names[context].append((name, scope))
    for context, of_context in names.items():
        found = nsmallest(_SHOWN_MAX + 1, of_context, key=lambda one: (one[0].lower().index(text), one))
        matches[context] = [{"ID": name, "Scope": list(scope) or None} for name, scope in found[:_SHOWN_MAX]]
        truncations[context] = len(found) > _SHOWN_MAX
    for context in (one for one in chosen if one in _PREFIXED):
        ids = nsmallest(_SHOWN_MAX + 1, (one for one in _IDS[context](view, of) if one.startswith(text)))
        matches[context] = [{"ID": one, "Scope": None} for one in ids[:_SHOWN_MAX]]
        truncations[context] = len(ids) > _SHOWN_MAX
    return _found(request, view, {name: found for name, found in matches.items() if found}, truncations)


async def _sight(request: web.Request, view: View) -> Sight:
    query, rights = read(request), request.app[CONTEXT].rights
    sees = await rights.readable(request, jobs_in(view, query.namespace) | {whole_of(name) for name in view.namespaces})
    return Sight(
        has=lambda key: query.has_namespace(key[0]) and sees(key),
        has_namespace=lambda name: sees(whole_of(name)),
        has_nodes=await rights.sees_nodes(request),
    )


def _key(indexed: Indexed) -> JobKey:
    return indexed.document.namespace, indexed.document.job_id


def _chosen(body: dict[str, Any], known: Sequence[str]) -> Sequence[str]:
    context = member(body, "Context", str) or "all"
    if context == "all":
        return known
    if context not in known:
        raise BadRequest(f"context must be one of [{' '.join(known)}] or 'all' for all contexts; got {context[:60]!r}")
    return (context,)


def _names(view: View, of: Sight) -> Iterable[tuple[str, str, Sequence[str]]]:
    """Everything that has a name: its context, the name, its scope."""
    for alloc in view.allocs.values():
        if of.has(job_key(alloc)):
            yield "allocs", alloc.desired.name, (alloc.desired.namespace, alloc.id)
    for node in view.nodes.values() if of.has_nodes else ():
        yield "nodes", node.node.name, (node.id,)
        if node.node.node_class:
            yield "classes", node.node.node_class, (node.id,)
    for name in filter(of.has_namespace, view.namespaces):
        yield "namespaces", name, ()
    for (namespace, job_id), job in view.jobs.items():
        if of.has((namespace, job_id)):
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
