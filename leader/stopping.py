"""How does an operator stop one alloc, or take it out of its job? Either way its job gets another in its place."""

from collections.abc import Callable

import msgspec

from leader.commands import Registered
from leader.decide.reconcile import APART
from leader.deciding import new_evaluation
from leader.errands import Written
from leader.leading import Leading
from leader.view import job_key
from model.alloc import AllocId, Apart, DesiredAlloc, DesiredStatus
from model.errors import DroverError
from model.evaluation import Evaluation
from model.job import Job
from model.node import NodeId

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
