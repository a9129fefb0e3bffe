"""What does it take to dispatch a parameterized job?

One dispatch is one child, and one transaction. The same idempotency token names the same child for as long as that is
there, whoever leads: it is in the child's document. What waits for max_running is decided later (deciding.py).
"""

import base64
import hashlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

from leader import children, namespaces, scheduling
from leader.decide.children import DISPATCH_INFIX
from leader.leading import Leading
from model.errors import DroverError, StoreUnclear, WriteConflict
from model.job import CHILD_ID_BYTES, JOB_ID_BYTES_MAX, Job, JobId, Namespace, has_control
from model.snapshot import JobKey

# As much as Nomad takes.
PAYLOAD_BYTES_MAX = 16 * 1024
# Keys and values together: they are in the child's document, and in its tasks' environment.
META_BYTES_MAX = 64 * 1024


class DispatchRefused(DroverError):
    """Not this job, or not so. The words are Nomad's: clients match them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """prefix: put before the moment in the child's id. token: "" for none."""

    payload: bytes = b""
    meta: Mapping[str, str]
    prefix: str = ""
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """eval_id: "" where the child was there already and its first evaluation is gone. Indexes are Consul's."""

    job_id: JobId
    eval_id: str
    eval_index: int
    job_index: int


async def dispatch(leading: Leading, namespace: Namespace, job_id: JobId, asked: Dispatch) -> Dispatched | None:
    """None: there is no such job. Raises DispatchRefused, and as every write."""
    parent: JobKey = (namespace, job_id)
    job = leading.view.jobs.get(parent)
    if job is None:
        return None
    scheduling.check_registration(leading)
    _check(job, asked)
    # Those that must be one come one after the other; others need not wait.
    async with AsyncExitStack() as stack:
        for turn in _turns(job, asked):
            await stack.enter_async_context(leading.turn((namespace, JobId(f"{job_id}{DISPATCH_INFIX}{turn}"))))
        namespaces.check(leading, job)
        if (known := await _known(leading, parent, job, asked)) is not None:
            return _dispatched(leading, known)
        child = _child(leading, job, asked)
        try:
            await children.start(leading, child, "job-register")
        except (WriteConflict, StoreUnclear):
            # It may be there: who asks again without a token must not get a second one for a first that was lost.
            await leading.deciding.read_doubted()
            if (namespace, child.id) not in leading.view.jobs:
                raise
        return _dispatched(leading, (namespace, child.id))


def _turns(job: Job, asked: Dispatch) -> list[str]:
    """In one order for all, so that nobody waits for who waits for him."""
    like = [f"like {_digest(asked)}"] if _is_deduped(job) else []
    return [*like, *([f"token {asked.token}"] if asked.token else [])]


def _dispatched(leading: Leading, key: JobKey) -> Dispatched:
    eval_id = children.first_eval(leading.view, key)
    evaluation = leading.view.evals.get(eval_id)
    record = leading.view.records[key]
    return Dispatched(
        job_id=key[1],
        eval_id=eval_id,
        eval_index=evaluation.create_index if evaluation else record.create_index,
        job_index=record.create_index,
    )


def _check(job: Job, asked: Dispatch) -> None:
    settings = job.parameterized_job
    if settings is None or not job.is_parameterized:
        raise DispatchRefused(f'Specified job "{job.id}" is not a parameterized job')
    if job.stop:
        raise DispatchRefused(f'Specified job "{job.id}" is stopped')
    if len(asked.payload) > PAYLOAD_BYTES_MAX:
        raise DispatchRefused(f"Payload exceeds maximum size; {len(asked.payload)} > {PAYLOAD_BYTES_MAX}")
    if settings.payload == "required" and not asked.payload:
        raise DispatchRefused(f'Payload is not provided but required by parameterized job "{job.id}"')
    if settings.payload == "forbidden" and asked.payload:
        raise DispatchRefused(f'Payload provided but forbidden by parameterized job "{job.id}"')
    allowed = {*settings.meta_required, *settings.meta_optional}
    if unpermitted := sorted(asked.meta.keys() - allowed):
        raise DispatchRefused(f"Dispatch request included unpermitted metadata keys: [{' '.join(unpermitted)}]")
    if missing := [key for key in settings.meta_required if key not in asked.meta]:
        raise DispatchRefused(f"Dispatch did not provide required meta keys: [{' '.join(missing)}]")
    if any(has_control(value, but="\t\n\r") for value in asked.meta.values()):
        raise DispatchRefused("Dispatch metadata cannot hold control characters but tabs and line breaks")
    if (size := sum(len(f"{key}{value}".encode(errors="replace")) for key, value in asked.meta.items())) > META_BYTES_MAX:
        raise DispatchRefused(f"Dispatch metadata exceeds maximum size; {size} > {META_BYTES_MAX}")
    if " " in asked.prefix or has_control(asked.prefix):
        raise DispatchRefused("a job's ID cannot hold a space or a control character")
    if (room := JOB_ID_BYTES_MAX - CHILD_ID_BYTES - len(job.id.encode())) < len(asked.prefix.encode(errors="replace")):
        raise DispatchRefused(f"the prefix of the child's ID is too long: {max(0, room)} bytes at most, so that the ID has {JOB_ID_BYTES_MAX}")


async def _known(leading: Leading, parent: JobKey, job: Job, asked: Dispatch) -> JobKey | None:
    """The child that this dispatch already is."""
    view = leading.view
    if not asked.token and not _is_deduped(job):
        return None
    await leading.deciding.read_doubted()
    if asked.token and (found := view.families.dispatched_by(parent, asked.token)) is not None:
        return found
    if not _is_deduped(job):
        return None
    payload, meta = _encoded(asked.payload), {**job.meta, **asked.meta}
    for key in view.families.open(parent):
        child = view.jobs[key]
        is_alike = child.payload == payload and dict(child.meta) == meta
        if is_alike and not children.run_of_child(view, key).outcome.is_over:
            return key
    return None


def _is_deduped(job: Job) -> bool:
    return job.parameterized_job is not None and job.parameterized_job.dedupe


def _child(leading: Leading, job: Job, asked: Dispatch) -> Job:
    now_ns = leading.fenced.now_ns
    prefix = f"{asked.prefix}-" if asked.prefix else ""
    child_id = f"{job.id}{DISPATCH_INFIX}{prefix}{now_ns // 1_000_000_000}-{leading.fenced.new_id()[:8]}"
    return children.child_of(
        job,
        child_id,
        now_ns,
        dispatched=True,
        dispatch_idempotency_token=asked.token,
        payload=_encoded(asked.payload),
        meta={**job.meta, **asked.meta},
    )


def _encoded(payload: bytes) -> str | None:
    return base64.b64encode(payload).decode() if payload else None


def _digest(asked: Dispatch) -> str:
    known = hashlib.sha256(asked.payload)
    for name, value in sorted(asked.meta.items()):
        known.update(f"\0{name}\0{value}".encode())
    return known.hexdigest()
