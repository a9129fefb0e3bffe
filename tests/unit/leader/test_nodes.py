"""When a node is ready, when it is down, and how often it must be heard."""

import itertools

import pytest

from leader.decide.nodes import heartbeat_ttl_ns, judge, lost_at_s
from model.node import NodeEvent, NodeStatus
from model.snapshot import Life, NodeView, Reach, Settings
from tests.build import view

SETTINGS = Settings(heartbeat_grace_s=10.0, agent_down_after_s=300.0, lost_after_s=5.0)
READY, DOWN, NEW, AWAY = NodeStatus.READY, NodeStatus.DOWN, NodeStatus.INITIALIZING, NodeStatus.DISCONNECTED


def becomes(seen: NodeView, now_s: float, *, is_answering: bool = False) -> NodeStatus | None:
    control = judge(
        seen, now_s=now_s, now_ns=7_000_000_000, stamp="then", settings=SETTINGS, is_answering=is_answering
    )
    return control.status if control else None


# {(status, reach, answers a direct call): what it becomes after 0, 14.9, 15, 299.9 and 300 s; "" if it stays}
TABLE: dict[tuple[NodeStatus, Reach, bool], tuple[str, ...]] = {
    (NEW, Reach.PASSING, False): ("ready",) * 5,
    (NEW, Reach.AGENT_DOWN, False): ("",) * 5,
    (NEW, Reach.SILENT, False): ("",) * 5,
    (READY, Reach.PASSING, False): ("",) * 5,
    (READY, Reach.AGENT_DOWN, False): ("", "", "", "", "down"),
    (READY, Reach.SILENT, False): ("", "", "down", "down", "down"),
    (READY, Reach.SILENT, True): ("", "", "", "", "down"),
    (AWAY, Reach.PASSING, False): ("ready",) * 5,
    (AWAY, Reach.SILENT, False): ("", "", "down", "down", "down"),
    (DOWN, Reach.PASSING, False): ("ready",) * 5,
    (DOWN, Reach.AGENT_DOWN, False): ("",) * 5,
    (DOWN, Reach.SILENT, False): ("",) * 5,
    (DOWN, Reach.SILENT, True): ("",) * 5,
}


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case[0]} {case[1]}{' answers' * case[2]}")
def test_a_node_becomes(case: tuple[NodeStatus, Reach, bool]) -> None:
    status, reach, is_answering = case
    seen = view("n1", reach=reach, status=status, since_s=100.0)
    found = tuple(
        becomes(seen, 100.0 + after_s, is_answering=is_answering) or "" for after_s in (0.0, 14.9, 15.0, 299.9, 300.0)
    )
    assert found == TABLE[case]


def test_a_status_that_changes_is_dated_and_told() -> None:
    seen = view("n1", status=NEW)
    control = judge(seen, now_s=0.0, now_ns=7_900_000_000, stamp="then", settings=SETTINGS, is_answering=False)
    assert control is not None
    assert (control.status_description, control.status_updated_at, control.events) == (
        "Node registered",
        7,
        (NodeEvent(message="Node registered", timestamp="then"),),
    )
    back = judge(view("n1", status=DOWN), now_s=0.0, now_ns=0, stamp="s", settings=SETTINGS, is_answering=False)
    assert back is not None
    assert back.status_description == "Node re-registered"


def test_only_the_last_ten_events_are_kept() -> None:
    control = view("n1", status=NEW).control
    for number in range(25):
        seen = NodeView(node=view("n1").node, control=control, reach=Reach.PASSING, reach_since_s=0.0)
        made = judge(seen, now_s=0.0, now_ns=0, stamp=str(number), settings=SETTINGS, is_answering=False)
        assert made is not None
        control = view("n1", status=DOWN).control
        control = type(control)(node_id=control.node_id, status=DOWN, events=made.events)
    assert [event.timestamp for event in control.events] == [str(number) for number in range(15, 25)]


def test_what_will_be_lost_is_known_beforehand() -> None:
    since = 100.0
    assert lost_at_s(view(reach=Reach.SILENT, since_s=since), SETTINGS, is_answering=False) == 115.0
    assert lost_at_s(view(reach=Reach.SILENT, since_s=since), SETTINGS, is_answering=True) == 400.0
    assert lost_at_s(view(reach=Reach.AGENT_DOWN, since_s=since), SETTINGS, is_answering=False) == 400.0


def test_a_node_takes_work_only_while_it_is_ready_and_heard() -> None:
    lives = {
        (status, reach): view(status=status, reach=reach).life
        for status, reach in itertools.product(NodeStatus, Reach)
    }
    assert {case for case, life in lives.items() if life is Life.READY} == {(READY, Reach.PASSING)}
    assert {case for case, life in lives.items() if life is Life.LOST} == set(itertools.product((DOWN, AWAY), Reach))


@pytest.mark.parametrize(("nodes", "ttl_s"), [(0, 10), (1, 10), (500, 10), (501, 10.02), (5000, 100), (10_000, 200)])
def test_all_agents_together_stay_below_the_wanted_rate(nodes: int, ttl_s: float) -> None:
    assert heartbeat_ttl_ns(nodes, Settings()) == round(ttl_s * 1e9)
