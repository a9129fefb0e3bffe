"""One real Consul and one real drover for all commands; each test leaves no job behind."""

from collections.abc import Iterator

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover


@pytest.fixture(scope="package")
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="package")
def one(consul: ConsulServer) -> Iterator[Drover]:
    with Drover(consul) as drover:
        drover.wait_ready()
        yield drover
