"""How does an operator stop one alloc? It ends, and its job gets another in its place."""

import msgspec

from leader.commands import Registered
from leader.deciding import new_evaluation
from leader.errands import Written
from leader.leading import Leading
from leader.view import job_key
from model.alloc import AllocId, DesiredStatus
from model.errors import DroverError
from model.evaluation import Evaluation

STOPPED_BY_USER = "alloc is being stopped by a user"


class UnknownAlloc(DroverError):
    """No alloc has that id."""


async def stop(leading: Leading, alloc_id: AllocId) -> Registered:
    """Also of one that is to stop or has ended already: then its job is only looked at again."""
    view = leading.view
    if alloc_id not in view.allocs:
        raise UnknownAlloc("alloc not found")
    key = job_key(view.allocs[alloc_id])
    evaluation: Evaluation | None = None

    def work() -> list[Written]:
        nonlocal evaluation
        if evaluation is not None and evaluation.id in view.evals:
            return []  # it is done, though the answer was lost
        alloc, job = view.allocs.get(alloc_id), view.jobs.get(key)
        if alloc is None or job is None:
            raise UnknownAlloc("alloc not found")
        evaluation = new_evaluation(leading.fenced, job, "alloc-stop")
        if alloc.desired.is_stopping or alloc.is_terminal:
            return [evaluation]
        stopped = msgspec.structs.replace(
            alloc.desired,
            desired_status=DesiredStatus.STOP,
            desired_description=STOPPED_BY_USER,
            modify_time=leading.fenced.now_ns,
            epoch=leading.fenced.epoch,
        )
        return [stopped, evaluation]

    await leading.deciding.errand(key, work)
    if evaluation is None:
        raise UnknownAlloc("alloc not found")
    index = view.evals[evaluation.id].create_index
    return Registered(evaluation, index, index)
