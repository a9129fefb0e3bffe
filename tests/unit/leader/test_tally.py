"""How many allocs of a job are how, as they change, are replaced and go."""

from typing import Any

import pytest
from msgspec.structs import replace

from leader.tally import Counts
from leader.view import View
from model.alloc import (
    AllocId,
    ClientStatus,
    DeploymentHealth,
    DesiredStatus,
    ObservedAlloc,
    TaskState,
    TaskStatus,
    Verdict,
)
from model.cluster import JobRecord
from model.job import JobId, Namespace
from tests.build import alloc, job

ALLOCS = [alloc(0), alloc(1)]
KEY = (Namespace("default"), JobId("j"))


def a_view() -> View:
    view, one = View(), job()
    view.put_version(one, 2, 2)
    view.put_record(JobRecord(namespace=one.namespace, job_id=one.id, version=0), 2, 2)
    return view


def put(view: View, number: int, status: ClientStatus | None, index: int, *, observed: dict[str, Any] | None = None, **desired: Any) -> AllocId:
    one = ALLOCS[number]
    view.put_desired(replace(one.desired, **desired), index, index)
    if status is not None:
        view.put_observed(ObservedAlloc(id=one.id, node_id=one.desired.node_id, client_status=status, sequence=index, **observed or {}), index)
    return one.id


@pytest.mark.parametrize(
    ("status", "desired", "expected"),
    [
        (None, {}, Counts(starting=1)),
        (ClientStatus.PENDING, {}, Counts(starting=1)),
        (ClientStatus.RUNNING, {}, Counts(running=1)),
        (ClientStatus.RUNNING, {"desired_status": DesiredStatus.STOP}, Counts(stopping=1)),
        (ClientStatus.COMPLETE, {}, Counts(complete=1)),
        (ClientStatus.COMPLETE, {"desired_status": DesiredStatus.STOP}, Counts()),
        (ClientStatus.FAILED, {}, Counts(failed=1)),
        (ClientStatus.RUNNING, {"verdict": Verdict.LOST}, Counts(lost=1)),
        (ClientStatus.RUNNING, {"verdict": Verdict.UNKNOWN}, Counts(unknown=1)),
    ],
)
def test_each_alloc_is_counted_once_by_how_it_is(status: ClientStatus | None, desired: dict[str, Any], expected: Counts) -> None:
    view = a_view()
    put(view, 0, status, 10, **desired)
    assert view.tally.of(KEY) == expected


def test_what_is_ill_is_counted_beside_how_it_is() -> None:
    view = a_view()
    ill = {"deployment_status": DeploymentHealth(healthy=False), "task_states": {"t": TaskState(state=TaskStatus.PENDING, restarts=2)}}
    put(view, 0, ClientStatus.PENDING, 10, observed=ill)
    assert view.tally.of(KEY) == Counts(starting=1, unhealthy=1, restarting=1)


@pytest.mark.parametrize("is_read_first", [True, False], ids=["the failed one is read first", "its replacement is read first"])
def test_what_was_replaced_counts_no_more(is_read_first: bool) -> None:
    view = a_view()
    failed = ALLOCS[0].id
    if is_read_first:
        put(view, 0, ClientStatus.FAILED, 10)
        assert view.tally.of(KEY) == Counts(failed=1)
    put(view, 1, ClientStatus.RUNNING, 11, previous_allocation=failed)
    if not is_read_first:
        put(view, 0, ClientStatus.FAILED, 12)
    assert view.tally.of(KEY) == Counts(running=1)


def test_an_original_that_comes_back_counts_again() -> None:
    view = a_view()
    original = put(view, 0, ClientStatus.RUNNING, 10, verdict=Verdict.LOST)
    put(view, 1, ClientStatus.RUNNING, 11, previous_allocation=original)
    assert view.tally.of(KEY) == Counts(running=1)
    put(view, 0, None, 12)
    assert view.tally.of(KEY) == Counts(running=2)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_nothing_is_left_of_what_is_gone(order: tuple[int, int]) -> None:
    view = a_view()
    put(view, 0, ClientStatus.FAILED, 10)
    put(view, 1, ClientStatus.RUNNING, 11, previous_allocation=ALLOCS[0].id)
    for number in order:
        view.drop_alloc(ALLOCS[number].id, 20)
    assert (view.tally.of(KEY), view.tally._counts, view.tally._replaced) == (Counts(), {}, set())
