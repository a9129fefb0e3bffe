"""How many silent nodes are too many, when that clears, and how many may go in a row."""

from dataclasses import replace as changed

import pytest
from msgspec.structs import replace

from leader.decide.brake import CLUSTER, Brake, LossBudget, Scope, assess
from model.node import NodeId, NodeStatus
from model.snapshot import BrakeSettings, NodeView, Reach
from tests.build import nodes, view

NOW_S = 100_000
SETTINGS = BrakeSettings()


def heard(name: str, **more: str) -> NodeView:
    return view(name, **more)


def silent(name: str, **more: str) -> NodeView:
    return view(name, reach=Reach.SILENT, **more)


def down(name: str, since_s: float = 0.0, **more: str) -> NodeView:
    """Held lost so long ago, and still unheard."""
    known = view(name, reach=Reach.SILENT, status=NodeStatus.DOWN, **more)
    return changed(known, control=replace(known.control, status_updated_at=int(NOW_S - since_s)))


def fleet(unheard: int, total: int, **more: str) -> list[NodeView]:
    prefix = more.get("datacenter", "n")
    return [(silent if i < unheard else heard)(f"{prefix}-{i:02}", **more) for i in range(total)]


def brake(*views: NodeView, released: tuple[str, ...] = (), mute: tuple[str, ...] = (), now_s: float = NOW_S, **settings: float) -> Brake:
    return assess(
        nodes(*views), {NodeId(n) for n in released}, int(now_s * 1e9), changed(SETTINGS, **settings),
        mute={NodeId(n) for n in mute},
    )  # fmt: skip


def engaged(found: Brake) -> set[str]:
    return {scope.name for scope in found.engaged}


def test_what_it_says_is_counts_limits_and_the_nodes() -> None:
    found = brake(heard("a"), silent("b"), silent("c", virtual_datacenter="blue"))
    unheard = (NodeId("b"), NodeId("c"))
    assert found.scopes == (
        Scope(name="cluster", unheard=2, total=3, limit_percent=50.0, is_engaged=True, nodes=unheard),
        Scope(name="datacenter dc1", unheard=2, total=3, limit_percent=55.0, is_engaged=True, nodes=unheard),
        Scope(name="virtual datacenter blue", unheard=1, total=1, limit_percent=55.0, is_engaged=False, nodes=(NodeId("c"),)),
    )


# (unheard, all) -> the scopes that are engaged; the datacenter holds every node, so that "all of it" is its exception
CLUSTER_ONLY, BOTH = {CLUSTER}, {CLUSTER, "datacenter dc1"}


@pytest.mark.parametrize(
    ("unheard", "total", "expected"),
    [
        (0, 0, set()),
        (0, 10, set()),
        (5, 10, set()),  # half is not more than half
        (11, 20, CLUSTER_ONLY),  # exactly 55 % is not more than 55 %
        (6, 10, BOTH),
        (9, 10, BOTH),
        (10, 10, CLUSTER_ONLY),
        (1, 1, set()),
        (1, 2, set()),  # one alone is no mass
        (2, 2, CLUSTER_ONLY),
        (2, 3, BOTH),
    ],
)
def test_it_engages_above_the_limit(unheard: int, total: int, expected: set[str]) -> None:
    found = brake(*fleet(unheard, total))
    assert engaged(found) == expected
    assert {n.id for n in fleet(unheard, total) if found.holds(n)} == ({n.id for n in fleet(unheard, unheard)} if expected else set())


def test_the_order_of_the_nodes_does_not_matter() -> None:
    views = fleet(6, 10)
    assert brake(*views) == brake(*reversed(views))


def test_the_limits_are_the_operators() -> None:
    assert engaged(brake(*fleet(3, 10), cluster_percent=20.0, datacenter_percent=100.0)) == {CLUSTER}
    assert engaged(brake(*fleet(3, 10), cluster_percent=100.0, datacenter_percent=29.9)) == {"datacenter dc1"}
    assert engaged(brake(*fleet(9, 10), cluster_percent=100.0, datacenter_percent=100.0)) == set()
    assert engaged(brake(*fleet(6, 10), nodes_min=7)) == set()
    assert engaged(brake(*fleet(1, 1), nodes_min=1)) == {CLUSTER}


class TestDatacenters:
    def test_one_that_is_mostly_silent_is_held_and_another_is_not(self) -> None:
        found = brake(*fleet(6, 10, datacenter="far"), *fleet(1, 30, datacenter="near"))
        assert engaged(found) == {"datacenter far"}
        held = {v.id for v in (*fleet(6, 10, datacenter="far"), *fleet(1, 30, datacenter="near")) if found.holds(v)}
        assert held == {NodeId(f"far-{i:02}") for i in range(6)}

    def test_one_that_is_gone_as_a_whole_is_lost(self) -> None:
        views = (*fleet(10, 10, datacenter="far"), *fleet(0, 30, datacenter="near"))
        assert engaged(brake(*views)) == set()

    def test_unless_that_is_most_of_the_cluster(self) -> None:
        views = (*fleet(10, 10, datacenter="far"), *fleet(0, 9, datacenter="near"))
        found = brake(*views)
        assert engaged(found) == {CLUSTER}
        assert all(found.holds(v) for v in views if v.reach is Reach.SILENT)

    def test_a_virtual_one_counts_by_itself(self) -> None:
        views = (*fleet(2, 3, virtual_datacenter="blue"), *fleet(0, 20, datacenter="near"))
        found = brake(*views)
        assert engaged(found) == {"datacenter dc1", "virtual datacenter blue"}


class TestWhoIsUnheard:
    def test_a_silent_machine_a_dead_agent_and_one_that_does_not_answer_all_count(self) -> None:
        views = [heard("a"), heard("b"), silent("c"), view("d", reach=Reach.AGENT_DOWN)]
        assert engaged(brake(*views)) == set()
        found = brake(*views, mute=("b",))
        assert engaged(found) == {CLUSTER, "datacenter dc1"}
        assert found.holds(views[1])

    def test_one_that_is_mute_and_silent_counts_once(self) -> None:
        assert brake(heard("a"), heard("b"), silent("c"), mute=("c",)).scopes[0].unheard == 1

    def test_one_that_never_registered_fully_counts_too(self) -> None:
        new = view("b", reach=Reach.SILENT, status=NodeStatus.INITIALIZING)
        assert brake(heard("a"), new).scopes[0].nodes == (NodeId("b"),)

    def test_one_that_is_down_but_heard_again_counts_until_it_is_ready(self) -> None:
        known = down("b", 5.0)
        back = changed(known, reach=Reach.PASSING)
        assert brake(heard("a"), back).scopes[0].nodes == (NodeId("b"),)
        ready = changed(back, control=replace(back.control, status=NodeStatus.READY))
        assert brake(heard("a"), ready).scopes[0].nodes == ()


class TestWindow:
    def test_a_slow_cascade_engages_it(self) -> None:
        """Two of five each 250 s: the third one is too much."""
        fallen = [down("a", 500.0), down("b", 250.0)]
        assert engaged(brake(*fallen, heard("c"), heard("d"), heard("e"))) == set()
        assert engaged(brake(*fallen, silent("c"), heard("d"), heard("e"))) == {CLUSTER, "datacenter dc1"}

    @pytest.mark.parametrize(("since_s", "total"), [(0.0, 3), (599.0, 3), (600.0, 3), (601.0, 2)])
    def test_what_fell_before_it_is_no_part_of_the_fleet(self, since_s: float, total: int) -> None:
        found = brake(heard("a"), heard("b"), down("c", since_s))
        assert (found.scopes[0].total, found.scopes[0].unheard) == (total, total - 2)

    def test_as_time_goes_by_those_that_fell_are_forgotten(self) -> None:
        views = [down("a", 100.0), silent("b"), heard("c")]
        assert [engaged(brake(*views, now_s=NOW_S + after_s)) != set() for after_s in (0.0, 500.0, 501.0)] == [True, True, False]


class TestClearing:
    def test_it_clears_as_nodes_are_heard_again(self) -> None:
        seen = [engaged(brake(*fleet(unheard, 10))) for unheard in (7, 6, 5, 4)]
        assert seen == [BOTH, BOTH, set(), set()]

    def test_a_release_lets_just_those_go_that_were_unheard_then(self) -> None:
        views = fleet(6, 10)
        gone = tuple(f"n-{i:02}" for i in range(6))
        free = brake(*views, released=gone)
        assert (engaged(free), free.scopes[0].unheard, any(free.holds(v) for v in views)) == (set(), 0, False)

    def test_those_that_fall_silent_later_engage_it_again(self) -> None:
        gone = ("n-00", "n-01")
        again = brake(*fleet(8, 10), released=gone)
        assert engaged(again) == BOTH
        assert {v.id for v in fleet(8, 10) if again.holds(v)} == {NodeId(f"n-{i:02}") for i in range(2, 8)}

    def test_a_release_of_nodes_that_are_gone_or_heard_changes_nothing(self) -> None:
        assert brake(*fleet(6, 10), released=("nobody", "n-09")) == brake(*fleet(6, 10))

    def test_a_new_leader_with_the_same_view_and_the_saved_release_says_the_same(self) -> None:
        """Nothing of it is in the leader's memory."""
        views = [down("a", 300.0), silent("b"), heard("c"), silent("d")]
        assert brake(*views, released=("b",)) == brake(*[changed(v, reach_since_s=9e9) for v in views], released=("b",))


class TestBudget:
    def taken(self, budget: LossBudget, *moments_s: float) -> list[bool]:
        return [budget.take(at) for at in moments_s]

    def test_three_may_go_at_once_and_no_fourth(self) -> None:
        assert self.taken(LossBudget(0.1, 3), *[50.0] * 5) == [True, True, True, False, False]

    def test_then_one_in_ten_seconds(self) -> None:
        budget = LossBudget(0.125, 3)  # one in eight: exact in binary
        self.taken(budget, 0.0, 0.0, 0.0)
        assert self.taken(budget, 7.9, 8.0, 8.0, 15.9, 16.0) == [False, True, False, False, True]

    def test_asking_in_vain_costs_nothing(self) -> None:
        often, seldom = LossBudget(0.125, 1), LossBudget(0.125, 1)
        assert (often.take(0.0), seldom.take(0.0)) == (True, True)
        assert [at for at in range(1, 33) if often.take(float(at))] == [8, 16, 24, 32]
        assert [at for at in (8, 16, 24, 32) if seldom.take(float(at))] == [8, 16, 24, 32]

    def test_it_saves_up_no_more_than_the_burst(self) -> None:
        budget = LossBudget(0.125, 3)
        budget.take(0.0)
        assert self.taken(budget, *[1e6] * 4) == [True, True, True, False]

    def test_over_a_long_time_no_more_go_than_the_rate_and_the_burst(self) -> None:
        budget = LossBudget(0.125, 3)
        assert sum(budget.take(tick * 0.5) for tick in range(2 * 800 + 1)) == 3 + 100

    def test_a_new_leader_begins_with_the_burst_whatever_its_clock_says(self) -> None:
        assert self.taken(LossBudget(0.1, 3), *[1e9] * 4) == [True, True, True, False]
        assert self.taken(LossBudget(0.1, 3), *[0.0] * 4) == [True, True, True, False]

    def test_a_burst_of_nothing_lets_none_go(self) -> None:
        assert not any(self.taken(LossBudget(0.1, 0), 0.0, 100.0, 1e6))

    def test_without_a_rate_only_the_burst_goes(self) -> None:
        assert self.taken(LossBudget(0.0, 2), 0.0, 0.0, 1e6) == [True, True, False]
