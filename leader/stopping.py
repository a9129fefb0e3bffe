"""How does an operator stop one alloc, take it out of its job, or have what failed replaced now? Each time its job gets
another in its place."""

from collections.abc import Callable

import msgspec

from leader.commands import Registered
from leader.decide.counted import replaced
from leader.decide.reconcile import APART
from leader.deciding import new_evaluation
from leader.errands import Written
from leader.leading import Leading
from leader.view import job_key
from model.alloc import AllocId, Apart, ClientStatus, DesiredAlloc, DesiredStatus
from model.errors import DroverError
from model.evaluation import Evaluation
from model.job import Job
from model.node import NodeId
from model.snapshot import JobKey

RESCHEDULED_BY_USER = "alloc was rescheduled because a user asked for it"
# Documents of one errand, which go into one transaction.
_AT_ONCE = 50
STOPPED_BY_USER = "alloc is being stopped by a user"


class UnknownAlloc(DroverError):
    """No alloc has that id."""


async def stop(leading: Leading, alloc_id: AllocId) -> Registered:
    """Also of one that is to stop or has ended already: then its job is only looked at again."""
    return await _change(
        leading,
        alloc_id,
        "alloc-stop",
        lambda desired: msgspec.structs.replace(
            desired, desired_status=DesiredStatus.STOP, desired_description=STOPPED_BY_USER
        ),
    )


async def release(leading: Leading, alloc_id: AllocId) -> Registered:
    """It runs on without its services, apart from its job, until `stop`. One that has ended is left as it is."""
    return await _change(
        leading,
        alloc_id,
        "alloc-release",
        lambda desired: msgspec.structs.replace(
            desired, apart=Apart.RELEASED, desired_description=APART[Apart.RELEASED], migrate_to=NodeId("")
        ),
    )


async def force_reschedule(leading: Leading, key: JobKey) -> None:
    """What failed and nothing has followed is replaced now, whatever its policy says, and its attempts begin anew. A
    failed run of a group with a completion block is a result, and stays one."""
    view = leading.view
    count = _AT_ONCE

    def work() -> list[Written]:
        nonlocal count
        job, allocs = view.jobs.get(key), view.allocs_by_job.get(key, {}).values()
        groups = {group.name for group in job.task_groups if group.completion is None} if job is not None else set()
        followed = replaced([*allocs])
        failed = [
            alloc.desired
            for alloc in allocs
            if alloc.client_status is ClientStatus.FAILED
            and alloc.desired.task_group in groups
            and alloc.id not in followed
            and not alloc.desired.is_stopping
        ][:_AT_ONCE]
        count = len(failed)
        return [
            msgspec.structs.replace(
                desired,
                desired_status=DesiredStatus.STOP,
                desired_description=RESCHEDULED_BY_USER,
                modify_time=leading.fenced.now_ns,
                epoch=leading.fenced.epoch,
            )
            for desired in failed
        ]

    while count == _AT_ONCE:
        await leading.deciding.errand(key, work)


async def _change(
    leading: Leading, alloc_id: AllocId, trigger: str, change: Callable[[DesiredAlloc], DesiredAlloc]
) -> Registered:
    view = leading.view
    if alloc_id not in view.allocs:
        raise UnknownAlloc("alloc not found")
    key = job_key(view.allocs[alloc_id])
    evaluation: Evaluation | None = None

    def work() -> list[Written]:
        nonlocal evaluation
        if evaluation is not None and evaluation.id in view.evals:
            return []  # it is done, though the answer was lost
        alloc = view.allocs.get(alloc_id)
        if alloc is None:
            raise UnknownAlloc("alloc not found")
        # What was left by a job that is forgotten since can be stopped too.
        job = view.jobs.get(key) or Job(id=key[1], name=key[1], namespace=key[0])
        evaluation = new_evaluation(leading.fenced, job, trigger)
        if alloc.desired.is_stopping or alloc.is_terminal:
            return [evaluation]
        changed = msgspec.structs.replace(
            change(alloc.desired), modify_time=leading.fenced.now_ns, epoch=leading.fenced.epoch
        )
        return [changed, evaluation]

    await leading.deciding.errand(key, work)
    if evaluation is None:
        raise UnknownAlloc("alloc not found")
    index = view.evals[evaluation.id].create_index
    return Registered(evaluation, index, index)
