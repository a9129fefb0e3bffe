"""A new leader takes over a large cluster without losing its lease on the way."""

import asyncio

import pytest

from benchmarks.takeover import measure
from tests.components.consul import ConsulServer
from tests.conftest import or_skip

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.mark.timeout(300)
def test_ten_thousand_nodes_and_a_hundred_thousand_allocs_are_taken_over_in_one_term() -> None:
    with or_skip(lambda: ConsulServer(config={"log_level": "warn"}).__enter__()) as consul:
        try:
            found = asyncio.run(measure(consul.http_addr, nodes=10_000, allocs=100_000, jobs=1_000))
        finally:
            consul.close()
    print(found)
    assert (found["nodes"], found["allocs"], found["epoch"]) == (10_000, 100_000, 1)
