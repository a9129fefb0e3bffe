"""What is kept of how allocs were placed: the reasons and the best nodes once, its own node's score with each."""

import pytest
from msgspec.structs import replace

from leader.decide.ranking import BINPACK
from leader.metrics import alloc_metric, score_documents, timed, with_placements
from leader.view import View
from model.alloc import Alloc, EvalId
from model.evaluation import Evaluation, norm_score
from model.job import Constraint, JobId, Namespace, Spread
from model.plan import Placed
from tests.build import group, job, view
from tests.unit.leader.test_place import put, requests, table_of


def linux() -> Constraint:
    return Constraint(ltarget="${attr.kernel.name}", operand="=", rtarget="linux")


def placed_on(*nodes: str, count: int = 1, **more: object) -> Placed:
    of = job(groups=(group(count, **more),), constraints=(linux(),))
    plan9 = view("odd", attributes={"kernel.name": "plan9"})
    return put(requests(of), table_of(*(view(name) for name in nodes), plan9))


def test_the_group_has_what_ruled_nodes_out_and_the_best_of_the_others() -> None:
    metric = placed_on("n1", "n2").metrics["g"]
    assert (metric.nodes_evaluated, metric.nodes_filtered, metric.nodes_exhausted) == (3, 1, 0)
    assert metric.constraint_filtered == {"${attr.kernel.name} = linux": 1}
    assert {one.node_id for one in metric.score_meta_data} == {"n1", "n2"}
    assert all(one.norm_score == pytest.approx(one.scores[BINPACK]) for one in metric.score_meta_data)


def test_no_more_than_five_nodes_are_told_of() -> None:
    assert len(placed_on(*(f"n{number}" for number in range(9))).metrics["g"].score_meta_data) == 5


def test_each_alloc_has_the_parts_of_its_own_nodes_score() -> None:
    first, second = placed_on("n1", count=2).allocs
    assert first.scores.keys() == {BINPACK}
    assert second.scores.keys() == {BINPACK, "job-anti-affinity"}
    assert second.scores["job-anti-affinity"] == -1.0


def test_how_far_its_value_was_behind_is_told_and_no_part_of_the_mean() -> None:
    (alloc, *_) = placed_on("n1", "n2", count=2, spreads=(Spread(attribute="${node.unique.name}"),)).allocs
    assert alloc.scores["allocation-spread"] > 0
    assert norm_score(alloc.scores) == pytest.approx(alloc.scores[BINPACK])


def test_an_alloc_is_shown_with_its_groups_picture_and_its_own_node_in_it() -> None:
    known, placed = View(), placed_on("n1", "n2")
    evaluation = Evaluation(id=EvalId("e"), namespace=Namespace("default"), job_id=JobId("j"))
    (written,) = with_placements([evaluation], evaluation, timed(placed, 5_000), known)
    known.put_eval(written, 1, 1)
    metric = alloc_metric(known, Alloc(desired=placed.allocs[0]))
    assert (metric.nodes_evaluated, metric.allocation_time) == (3, 5_000)
    shown = score_documents(metric)
    assert shown is not None
    assert {"NodeID": placed.allocs[0].node_id, "NormScore": metric.score_meta_data[0].norm_score}.items() <= shown[0].items()
    assert shown[0]["Scores"].keys() == {BINPACK, "job-anti-affinity", "node-affinity", "node-reschedule-penalty"}


def test_without_its_evaluation_an_alloc_still_has_its_own_score() -> None:
    desired = replace(placed_on("n1").allocs[0], eval_id=EvalId("gone"))
    metric = alloc_metric(View(), Alloc(desired=desired))
    assert [one.node_id for one in metric.score_meta_data] == ["n1"]
