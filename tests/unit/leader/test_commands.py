"""What becomes of a submitted job before it is written."""

import msgspec

from leader.commands import admitted, as_current, claims_to_be_child
from model.cluster import SchedulerConfiguration
from model.job import JobId, Resources
from tests.build import group, job, task


def test_memory_max_counts_only_where_memory_is_oversubscribed() -> None:
    of = job(groups=(group(1, tasks=(task(resources=Resources(memory_mb=100, memory_max_mb=200)),)),))
    assert admitted(of, SchedulerConfiguration()) == of
    (kept,) = admitted(of, SchedulerConfiguration(memory_oversubscription_enabled=False)).task_groups[0].tasks
    assert (kept.resources.memory_mb, kept.resources.memory_max_mb) == (100, 0)


def test_nobody_submits_a_child_but_who_changes_one_keeps_what_it_is() -> None:
    forged = job(parent_id=JobId("p"), dispatched=True, payload="aGk=", dispatch_idempotency_token="t")
    plain = job()
    assert (as_current(None, forged, 1), claims_to_be_child(None, forged)) == (plain, True)
    assert (as_current(plain, forged, 1), claims_to_be_child(plain, forged)) == (plain, True)
    child = msgspec.structs.replace(forged, payload="b3RoZXI=")
    changed = msgspec.structs.replace(forged, priority=70)
    assert as_current(child, changed, 1) == msgspec.structs.replace(child, priority=70)
    assert not claims_to_be_child(child, changed)
    assert as_current(child, msgspec.structs.replace(forged, parent_id=JobId("q")), 1) == plain
    assert not claims_to_be_child(None, plain)
