"""A real Consul and one real agent on it, for the tests of a file that need no more than that."""

from collections.abc import Iterator

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover


@pytest.fixture(scope="module")
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="module")
def one(consul: ConsulServer) -> Iterator[Drover]:
    with Drover(consul) as drover:
        drover.wait_ready()
        yield drover
