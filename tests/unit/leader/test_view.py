"""What the leader's view tells those who wait: which index, and when."""

import asyncio

import pytest
from msgspec.structs import replace

from leader.view import Topic, View
from model.alloc import Alloc, ClientStatus, EvalId, ObservedAlloc
from model.cluster import JobRecord
from model.errors import SessionLost
from model.evaluation import EvalStatus, Evaluation
from model.job import Job, JobId, Namespace
from model.node import NodeControl, NodeId, NodeStatus
from model.snapshot import JobKey, Reach
from tests.build import alloc, batch, job, node

KEY: JobKey = (Namespace("default"), JobId("j"))
SUMMARY: tuple[Topic, ...] = (("jobs",), ("summary", KEY))


def of(alloc: Alloc) -> tuple[Topic, ...]:
    """Everything that shows this alloc itself."""
    return (
        ("allocs",),
        ("alloc", alloc.id),
        ("job-allocs", KEY),
        ("node-allocs", alloc.desired.node_id),
        ("eval-allocs", alloc.desired.eval_id),
    )


def indexes(view: View, *topics: Topic) -> dict[Topic, int]:
    return {topic: view.topic_index(topic) for topic in topics}


def with_job(of: Job, index: int = 10) -> View:
    view = View()
    view.put_version(of, index, index)
    view.put_record(JobRecord(namespace=of.namespace, job_id=of.id, version=0, modify_time=0, epoch=1), index, index)
    return view


def with_alloc(alloc: Alloc, index: int = 20, of: Job | None = None) -> View:
    view = with_job(of or job())
    view.put_desired(alloc.desired, index, index)
    return view


def seen(alloc: Alloc, status: ClientStatus) -> ObservedAlloc:
    return ObservedAlloc(id=alloc.id, node_id=alloc.desired.node_id, client_status=status)


def test_a_topic_nobody_touched_is_at_1_and_never_at_0() -> None:
    assert View().topic_index(("jobs",)) == 1
    assert View(index_base=100).topic_index(("jobs",)) == 101


def test_no_topic_is_below_the_index_at_which_the_term_began() -> None:
    view = View(floor=500)
    view.touch(30, ("jobs",))
    assert indexes(view, ("jobs",), ("nodes",)) == {("jobs",): 500, ("nodes",): 500}


def test_a_job_moves_itself_and_the_list_of_jobs_and_nothing_else() -> None:
    view = with_job(job())
    others = (("allocs",), ("nodes",), ("evals",), ("job", (Namespace("default"), JobId("other"))))
    assert indexes(view, ("jobs",), ("job", KEY), *others) == {
        ("jobs",): 10,
        ("job", KEY): 10,
        **dict.fromkeys(others, 1),
    }


def test_a_new_alloc_moves_all_that_shows_it_and_its_jobs_summary_and_status() -> None:
    one = alloc(status=None)
    view = with_alloc(one)
    topics = (*of(one), *SUMMARY, ("job", KEY))
    assert indexes(view, *topics) == dict.fromkeys(topics, 20)


def test_an_alloc_that_runs_moves_the_summary_but_not_the_job_whose_status_stays() -> None:
    one = alloc(status=None)
    view = with_alloc(one)
    view.put_observed(seen(one, ClientStatus.RUNNING), 30)
    topics = (*of(one), *SUMMARY)
    assert indexes(view, *topics, ("job", KEY)) == {**dict.fromkeys(topics, 30), ("job", KEY): 20}


def test_a_report_that_changes_no_count_moves_only_what_shows_the_alloc() -> None:
    one = alloc(status=None)
    view = with_alloc(one)
    view.put_observed(seen(one, ClientStatus.RUNNING), 30)
    view.put_observed(replace(seen(one, ClientStatus.RUNNING), client_description="more"), 40)
    assert indexes(view, *of(one), *SUMMARY) == {**dict.fromkeys(of(one), 40), **dict.fromkeys(SUMMARY, 30)}


@pytest.mark.parametrize("end", [ClientStatus.COMPLETE, ClientStatus.FAILED, ClientStatus.LOST])
def test_the_last_alloc_that_ends_moves_its_job_whose_status_changes_with_it(end: ClientStatus) -> None:
    one, two = alloc(0, status=None), alloc(1, status=None)
    view = with_alloc(one, of=batch(2))
    view.put_desired(two.desired, 21, 21)
    view.put_observed(seen(one, end), 30)
    assert view.topic_index(("job", KEY)) == 20
    view.put_observed(seen(two, end), 40)
    assert view.topic_index(("job", KEY)) == 40


def test_an_alloc_that_is_forgotten_moves_what_showed_it() -> None:
    one = alloc(status=None)
    view = with_alloc(one)
    view.drop_alloc(one.id, 50)
    topics = (*of(one), *SUMMARY, ("job", KEY))
    assert indexes(view, *topics) == dict.fromkeys(topics, 50)


def test_an_alloc_moves_only_its_own_node() -> None:
    one = alloc(on="n1", status=None)
    view = with_alloc(one)
    topics = (("nodes",), ("node", NodeId("n1")), ("node-allocs", NodeId("n2")))
    assert indexes(view, *topics) == dict.fromkeys(topics, 1)


def test_a_blocked_evaluation_moves_the_summary_when_it_comes_and_when_it_goes() -> None:
    view = with_job(job())
    pending = Evaluation(
        id=EvalId("e1"), namespace=KEY[0], job_id=KEY[1], type="service", triggered_by="", status=EvalStatus.PENDING
    )
    view.put_eval(pending, 20, 20)
    assert indexes(view, *SUMMARY) == {("jobs",): 10, ("summary", KEY): 1}
    for index, status in ((30, EvalStatus.BLOCKED), (40, EvalStatus.COMPLETE)):
        view.put_eval(replace(pending, status=status), index, index)
        assert indexes(view, *SUMMARY) == dict.fromkeys(SUMMARY, index)


def test_how_well_a_node_is_heard_is_no_document_and_moves_nothing() -> None:
    view = View()
    view.put_node(node(), 10)
    view.put_reach(NodeId("n1"), Reach.PASSING, 5.0)
    assert indexes(view, ("nodes",), ("node", NodeId("n1"))) == {("nodes",): 10, ("node", NodeId("n1")): 10}


# -- late facts


def test_a_fact_that_comes_late_gets_an_index_of_its_own_if_the_higher_one_was_shown() -> None:
    one, two = alloc(0, status=None), alloc(1, status=None)
    view = with_alloc(one, 20)
    view.put_desired(two.desired, 30, 30)
    assert view.topic_index(("allocs",)) == 30
    view.put_observed(seen(one, ClientStatus.RUNNING), 25)
    assert indexes(view, ("allocs",), ("alloc", one.id)) == {("allocs",): 31, ("alloc", one.id): 25}


def test_facts_that_come_together_share_the_highest_index_if_nobody_looked_in_between() -> None:
    view = View()
    for index in (30, 25, 28, 30):
        view.touch(index, ("allocs",))
    assert view.topic_index(("allocs",)) == 30


def test_the_index_moves_on_with_consul_after_a_late_fact() -> None:
    view = View()
    shown = []
    for index in (30, 25, 25, 31, 40):
        view.touch(index, ("allocs",))
        shown.append(view.topic_index(("allocs",)))
    assert shown == [30, 31, 32, 33, 40]
    assert view.index == 40


# -- waiting


async def asked(view: View, topic: Topic, index: int) -> asyncio.Future[list[None]]:
    """A call that waits; it has begun to."""
    waiting = asyncio.gather(view.wait(topic, index, 30.0))
    await asyncio.sleep(0)
    return waiting


async def test_who_waits_is_woken_by_its_own_topic_only() -> None:
    view = with_job(job())
    waiting = await asked(view, ("job", KEY), 10)
    view.touch(99, ("nodes",), ("allocs",), ("job", (Namespace("other"), JobId("j"))))
    await asyncio.sleep(0)
    assert not waiting.done()
    view.touch(100, ("job", KEY))
    await waiting


async def test_who_asks_below_the_index_is_answered_at_once() -> None:
    await with_job(job()).wait(("job", KEY), 9, 30.0)


async def test_who_waits_is_woken_by_a_late_fact_too() -> None:
    view = View()
    view.touch(30, ("allocs",))
    waiting = await asked(view, ("allocs",), view.topic_index(("allocs",)))
    view.touch(25, ("allocs",))
    await waiting


async def test_nobody_waits_longer_than_asked() -> None:
    view = View()
    await view.wait(("jobs",), 10, 0.01)
    assert view.topic_index(("jobs",)) == 1


async def test_who_waits_at_the_end_of_the_term_must_ask_the_next_leader() -> None:
    view = View()
    waiting = await asked(view, ("jobs",), 10)
    view.end()
    with pytest.raises(SessionLost):
        await waiting
    with pytest.raises(SessionLost):
        await view.wait(("jobs",), 10, 30.0)


# -- a node's metadata


def test_what_was_set_at_run_time_lies_over_what_the_agent_says_whichever_is_read_first() -> None:
    control = NodeControl(node_id=NodeId("n1"), meta={"role": "web", "rack": None})
    for is_late in (False, True):
        view = View()
        view.put_node(node(meta={"role": "idle", "rack": "r1", "zone": "a"}), 1)
        if is_late:
            view.put_control(NodeControl(node_id=NodeId("n1")), 2)
        view.put_control(control, 3)
        view.put_node(node(meta={"role": "idle", "rack": "r2", "zone": "a"}), 4)
        found = view.nodes[NodeId("n1")]
        assert found.node.meta == {"role": "web", "zone": "a"} == view.table.views[0].node.meta
        assert found.static_meta == {"role": "idle", "rack": "r2", "zone": "a"}
        view.put_control(NodeControl(node_id=NodeId("n1")), 5)
        assert view.nodes[NodeId("n1")].node.meta == found.static_meta


def test_metadata_that_changes_makes_the_masks_of_before_worthless_and_what_waits_is_tried_again() -> None:
    view = View()
    view.put_node(node(meta={"role": "idle"}), 1)
    view.put_control(NodeControl(node_id=NodeId("n1"), status=NodeStatus.READY), 1)
    view.put_reach(NodeId("n1"), Reach.PASSING, 0.0)
    view.freed.clear()
    before = view.table.generation
    view.put_control(NodeControl(node_id=NodeId("n1"), status=NodeStatus.READY, meta={"role": "web"}), 2)
    assert view.table.generation > before
    assert view.freed == {NodeId("n1")}


def test_a_node_that_was_silent_when_the_term_began_is_silent_since_then() -> None:
    known = View()
    known.put_node(node("n1"), 1)
    known.put_reach(NodeId("n1"), Reach.SILENT, 500.0)
    known.put_reach(NodeId("n1"), Reach.SILENT, 600.0)
    assert known.nodes[NodeId("n1")].reach_since_s == 500.0


def test_an_orphan_takes_its_room_until_it_has_ended() -> None:
    one = alloc(on="n1")
    view = with_job(job())
    view.put_node(node("n1"), 5)
    row = view.table.rows[NodeId("n1")]
    empty = view.table.used[row].tolist()

    def tell(status: ClientStatus) -> None:
        view.put_observed(replace(seen(one, status), orphan=one.desired), 20)

    view.put_desired(one.desired, 10, 10)
    taken = view.table.used[row].tolist()
    assert taken != empty
    view.drop_alloc(one.id, 11)
    tell(ClientStatus.RUNNING)
    assert (view.table.used[row].tolist(), list(view.orphans)) == (taken, [one.id])
    tell(ClientStatus.COMPLETE)
    assert (view.table.used[row].tolist(), list(view.orphans)) == (empty, [])
    tell(ClientStatus.RUNNING)
    view.put_desired(one.desired, 30, 30)  # adopted
    assert (view.table.used[row].tolist(), list(view.orphans)) == (taken, [])


async def test_topics_of_what_is_gone_are_forgotten_and_none_goes_back() -> None:
    one = alloc(status=ClientStatus.COMPLETE)
    view = with_alloc(one)
    view.drop_job(KEY, 30)
    view.drop_alloc(one.id, 31)
    before = indexes(view, *of(one), *SUMMARY, ("job", KEY))
    view.forget_topics()
    assert {("alloc", one.id), ("job", KEY), ("summary", KEY)}.isdisjoint(view._topic_indexes)
    after = indexes(view, *of(one), *SUMMARY, ("job", KEY))
    assert all(after[topic] >= index for topic, index in before.items())
    # Who was shown that, and waits for the job to come, is woken by it though the fact is older.
    waiting = view.wait(("job", KEY), after["job", KEY], 5.0)
    async with asyncio.timeout(1.0), asyncio.TaskGroup() as tasks:
        tasks.create_task(waiting, name="waiting")
        await asyncio.sleep(0)
        view.put_version(job(), 20, 20)
        view.put_record(JobRecord(namespace=KEY[0], job_id=KEY[1], version=0, modify_time=0, epoch=1), 20, 20)
