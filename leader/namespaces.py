"""Which namespaces are there, and what may be done in them?

"default" is always there. A namespace goes only when none of its jobs has anything left to do.
"""

import re

import msgspec

from catalog.kv import delete_at, replace
from leader.leading import Leading
from leader.status import is_over
from model.cluster import NamespaceSpec
from model.errors import DroverError, StoreUnclear, WriteConflict
from model.job import DEFAULT_NAMESPACE, Job, JobId, Namespace
from model.wire import decode, encode

# Nomad's rules and limits.
_NAME = re.compile(r"[a-zA-Z0-9-]{1,128}")
_DESCRIPTION_MAX = 256


class UnknownNamespace(DroverError):
    """No namespace has that name."""


class BadNamespace(DroverError):
    """No namespace can be so. The words are Nomad's."""


class NamespaceRefused(DroverError):
    """It cannot be made or forgotten so, or does not let a job in. The words are Nomad's: clients match them."""


async def write(leading: Leading, spec: NamespaceSpec) -> int:
    """Makes or changes one. Returns Consul's index. Raises BadNamespace, StoreUnavailable, WriteConflict."""
    if not _NAME.fullmatch(spec.name):
        raise BadNamespace(f'invalid name "{spec.name[:200]}". Must match regex {_NAME.pattern}')
    if len(spec.description) > _DESCRIPTION_MAX:
        raise BadNamespace(f"description longer than {_DESCRIPTION_MAX}")
    name = Namespace(spec.name)
    async with leading.turn((name, JobId(""))):  # one at a time: no job has this id
        try:
            return await _put(leading, name, spec)
        except (WriteConflict, StoreUnclear):
            await _read_again(leading, name)
            return await _put(leading, name, spec)


async def _put(leading: Leading, name: Namespace, spec: NamespaceSpec) -> int:
    known = leading.view.namespaces.get(name)
    changed = msgspec.structs.replace(spec, epoch=leading.fenced.epoch)
    key = leading.keys.namespace(name)
    # "default" has an index of 1 before it is written the first time.
    index = known.modify_index if known is not None and known.modify_index > 1 else 0
    entry = (await leading.fenced.commit([replace(key, encode(changed), index)]))[key]
    leading.view.put_namespace(changed, entry.create_index, entry.modify_index)
    leading.view.wake.set()
    return entry.modify_index


async def _read_again(leading: Leading, name: Namespace) -> None:
    """After a write without an answer, which may have happened."""
    entry = await leading.fenced.kv.get(leading.keys.namespace(name))
    if entry is not None:
        leading.view.put_namespace(decode(entry.value, NamespaceSpec), entry.create_index, entry.modify_index)
    elif name != DEFAULT_NAMESPACE:
        leading.view.drop_namespace(name, leading.view.index)


async def forget(leading: Leading, name: Namespace) -> int:
    """Returns Consul's index. Raises UnknownNamespace, NamespaceRefused, StoreUnavailable, WriteConflict."""
    view = leading.view
    if name == DEFAULT_NAMESPACE:
        raise NamespaceRefused("can not delete default namespace")
    async with leading.closing(name):
        known = view.namespaces.get(name)
        if known is None:
            raise UnknownNamespace(f'namespace "{name}" does not exist')
        if any(key[0] == name and not is_over(view, key) for key in {*view.jobs, *view.allocs_by_job}):
            raise NamespaceRefused(f'namespace "{name}" has non-terminal jobs in regions: [global]')
        sentinel = leading.store.sentinel(leading.keys.namespaces, leading.fenced.new_id())
        written = await leading.fenced.commit([delete_at(leading.keys.namespace(name), known.modify_index), sentinel])
        index = next(iter(written.values())).modify_index
        view.drop_namespace(name, index)
        return index


def check(leading: Leading, job: Job) -> None:
    """Whether the job may be in its namespace. Raises NamespaceRefused."""
    known = leading.view.namespaces.get(job.namespace)
    if known is None or leading.is_closed(job.namespace):
        raise NamespaceRefused(f'job "{job.id}" is in nonexistent namespace "{job.namespace}"')
    allowed = known.document.capabilities
    for task in (task for group in job.task_groups for task in group.tasks):
        if allowed is not None and not allowed.allows(task.driver):
            raise NamespaceRefused(f'used task driver "{task.driver}" is not allowed in namespace "{job.namespace}"')
