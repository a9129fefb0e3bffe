"""With `rebalance_interval` the spread comes back by itself after a node joined; without, nothing moves unasked."""

from collections import Counter
from contextlib import ExitStack

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, marking_job, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

SPREAD = [{"Attribute": "${node.unique.name}", "Weight": 100}]


def split(one: Drover) -> Counter[str]:
    return Counter(alloc["NodeName"] for alloc in one.running("web"))


@pytest.mark.parametrize("interval", ["", 'rebalance_interval = "1s"'], ids=["off", "on"])
def test_a_node_that_joins_gets_its_share_only_where_it_was_asked_for(interval: str) -> None:
    with ExitStack() as stack:
        consul = or_skip(lambda: stack.enter_context(ConsulServer()))
        one = stack.enter_context(Drover(consul, name="one", server_settings=interval))
        one.wait_ready()
        one.submit(marking_job("web", count=4, group={"Spreads": SPREAD}))
        one.wait_running("web", 4)
        stack.enter_context(Drover(consul, name="two", server=False))
        one.wait_ready(2)
        if not interval:
            stays("nothing moves", lambda: split(one) == {"one": 4}, 4.0)
            return
        least = []

        def even() -> bool:
            now = split(one)
            least.append(now.total())
            return now == {"one": 2, "two": 2}

        wait("an even split", even, 60.0)
        stays("it stays", lambda: split(one) == {"one": 2, "two": 2}, 3.0)
        assert min(least) >= 3  # one at a time
