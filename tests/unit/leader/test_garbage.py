"""What of the state may go: never what anything still names."""

from typing import Any

import pytest

from leader.decide.garbage import gone_nodes, is_over, kept_ns, old_evals, old_versions
from model.alloc import ClientStatus, EvalId
from model.evaluation import EvalStatus, Evaluation
from model.job import Completion, Job, JobId, JobType
from model.node import NodeStatus
from model.snapshot import Reach
from model.wire import Nanoseconds
from tests.build import SECOND, alloc, batch, group, job, nodes, view

HOUR = Nanoseconds(3600 * SECOND)
NOW = 100 * HOUR


def evaluation(status: EvalStatus = EvalStatus.COMPLETE) -> Evaluation:
    of = job()
    return Evaluation(id=EvalId("e"), namespace=of.namespace, job_id=of.id, status=status, modify_time=NOW - HOUR)


class TestVersions:
    def test_the_newest_six_stay(self) -> None:
        assert old_versions(range(10), 9, (), set()) == [0, 1, 2, 3]

    def test_what_an_alloc_names_and_what_is_gone_back_to_stays(self) -> None:
        assert old_versions(range(10), 9, (0, 2), {1}) == [0, 3]
        assert old_versions(range(10), 3, (), set()) == [0, 1, 2]

    def test_of_few_all_stay(self) -> None:
        assert old_versions([0, 1], 1, (), set()) == []


def completing(*rules: Completion, **more: Any) -> Job:
    groups = tuple(group(1, name=f"g{number}", completion=rule) for number, rule in enumerate(rules))
    return job(groups=groups, type=JobType.BATCH, **more)


class TestKept:
    def test_any_job_is_kept_for_as_long_as_the_cluster_says(self) -> None:
        assert kept_ns(batch(), 4 * HOUR) == 4 * HOUR

    def test_one_with_completions_is_kept_unless_all_of_it_says_how_long(self) -> None:
        short, long, ever = Completion(ttl_after_finished=HOUR), Completion(ttl_after_finished=Nanoseconds(9 * HOUR)), Completion()
        assert kept_ns(completing(short), 4 * HOUR) == HOUR
        assert kept_ns(completing(short, long), 4 * HOUR) == 9 * HOUR
        assert kept_ns(completing(short, ever), 4 * HOUR) is None

    def test_once_stopped_and_as_a_child_it_is_kept_as_any(self) -> None:
        assert kept_ns(completing(Completion(), stop=True), 4 * HOUR) == 4 * HOUR
        assert kept_ns(completing(Completion(), parent_id=JobId("p")), 4 * HOUR) == 4 * HOUR


class TestJobs:
    def test_a_stopped_job_goes_when_it_has_been_quiet_for_long_enough(self) -> None:
        of = job(stop=True)
        ended = [alloc(of=of, status=ClientStatus.COMPLETE, reported_ns=NOW - 4 * HOUR)]
        assert is_over(of, ended, NOW, 4 * HOUR)
        assert not is_over(of, ended, NOW, 4 * HOUR + 1)
        assert is_over(of, (), NOW, HOUR)

    def test_what_still_runs_keeps_it(self) -> None:
        of = job(stop=True)
        assert not is_over(of, [alloc(of=of)], NOW, 0)

    def test_a_batch_job_goes_when_it_is_done_and_a_service_never(self) -> None:
        of = batch()
        assert is_over(of, [alloc(of=of, status=ClientStatus.COMPLETE)], NOW, HOUR)
        assert not is_over(of, (), NOW, 0), "nothing was placed yet"
        assert not is_over(job(), [alloc(of=job(), status=ClientStatus.FAILED)], NOW, 0)

    @pytest.mark.parametrize("kind", [JobType.SYSTEM, JobType.SYSBATCH])
    def test_a_system_job_waits_for_further_nodes(self, kind: JobType) -> None:
        of = job(type=kind)
        assert not is_over(of, [alloc(of=of, status=ClientStatus.COMPLETE)], NOW, 0)


class TestEvaluations:
    OF = evaluation()
    KEY = (OF.namespace, OF.job_id)

    def test_they_go_when_their_job_is_gone_for_long_enough(self) -> None:
        assert old_evals([self.OF], set(), NOW, HOUR) == [self.OF.id]
        assert old_evals([self.OF], set(), NOW, HOUR + 1) == []

    def test_a_job_or_an_alloc_of_it_keeps_them(self) -> None:
        assert old_evals([self.OF], {self.KEY}, NOW, 0) == []
        other = (self.OF.namespace, JobId("other"))
        assert old_evals([self.OF], {other}, NOW, 0) == [self.OF.id]

    @pytest.mark.parametrize("status", EvalStatus)
    def test_only_what_is_decided_goes(self, status: EvalStatus) -> None:
        is_gone = old_evals([evaluation(status=status)], set(), NOW, 0) != []
        assert is_gone == (status is not EvalStatus.PENDING)


class TestNodes:
    def test_one_that_is_down_for_long_and_holds_nothing_goes(self) -> None:
        known = nodes(view("n1"), view("n2", reach=Reach.SILENT, status=NodeStatus.DOWN), view("n3", reach=Reach.SILENT))
        assert gone_nodes(known, set(), NOW, 24 * HOUR) == ["n2"]
        assert gone_nodes(known, {next(n for n in known if n == "n2")}, NOW, 24 * HOUR) == []
        assert gone_nodes(known, set(), HOUR, 24 * HOUR) == []
