"""How many of a group are ended at once for failing checks."""

from msgspec.structs import replace

from leader.permits import PERMIT_S_MAX, Permits
from leader.view import View
from model.alloc import Alloc, ClientStatus, ObservedAlloc, TaskState
from model.cluster import JobRecord
from tests.build import alloc, job


def running(*allocs: Alloc) -> View:
    view, of = View(), job(len(allocs))
    view.put_version(of, 1, 1)
    view.put_record(JobRecord(namespace=of.namespace, job_id=of.id, version=0), 1, 1)
    for one in allocs:
        view.put_desired(one.desired, 2, 2)
        tell(view, one, restarts=0)
    return view


def tell(view: View, one: Alloc, *, restarts: int, status: ClientStatus = ClientStatus.RUNNING) -> None:
    states = {"t": replace(TaskState(), restarts=restarts)}
    view.put_observed(
        ObservedAlloc(id=one.id, node_id=one.desired.node_id, client_status=status, task_states=states, modify_time=1), 3
    )


def test_a_permit_is_free_again_once_its_alloc_runs_after_its_restart() -> None:
    first, second = alloc(0), alloc(1)
    view, permits = running(first, second), Permits()
    assert permits.take(view, first, 1, 0.0)
    assert permits.take(view, first, 1, 1.0)  # asked again: the same one
    assert not permits.take(view, second, 1, 1.0)
    tell(view, first, restarts=1, status=ClientStatus.PENDING)
    assert not permits.take(view, second, 1, 2.0)
    tell(view, first, restarts=1)
    assert permits.take(view, second, 1, 3.0)


def test_a_permit_ends_with_its_alloc_or_by_itself() -> None:
    first, second = alloc(0), alloc(1)
    view, permits = running(first, second), Permits()
    assert permits.take(view, first, 1, 0.0)
    assert not permits.take(view, second, 1, PERMIT_S_MAX - 0.1)
    assert permits.take(view, second, 1, PERMIT_S_MAX)
    tell(view, second, restarts=0, status=ClientStatus.FAILED)
    assert permits.take(view, first, 1, PERMIT_S_MAX + 1)


def test_groups_have_permits_of_their_own_and_as_many_as_they_say() -> None:
    first, second, third = alloc(0), alloc(1), alloc(2)
    view, permits = running(first, second, third), Permits()
    assert [permits.take(view, one, 2, 0.0) for one in (first, second, third)] == [True, True, False]
