"""What becomes of a submitted job before it is written."""

from leader.commands import admitted
from model.cluster import SchedulerConfiguration
from model.job import Resources
from tests.build import group, job, task


def test_memory_max_counts_only_where_memory_is_oversubscribed() -> None:
    of = job(groups=(group(1, tasks=(task(resources=Resources(memory_mb=100, memory_max_mb=200)),)),))
    assert admitted(of, SchedulerConfiguration()) == of
    (kept,) = admitted(of, SchedulerConfiguration(memory_oversubscription_enabled=False)).task_groups[0].tasks
    assert (kept.resources.memory_mb, kept.resources.memory_max_mb) == (100, 0)
