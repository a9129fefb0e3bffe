"""For each file one real Consul and one real drover; each test leaves no job behind."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.cli.command import Run, drover
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, wait


@pytest.fixture(scope="module")
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="module")
def one(consul: ConsulServer) -> Iterator[Drover]:
    with Drover(consul) as drover:
        drover.wait_ready()
        yield drover


@pytest.fixture
def run(one: Drover, tmp_path: Path) -> Iterator[Run]:
    """One command in tmp_path against the agent; its jobs are purged afterwards."""
    yield lambda *argv, **more: drover(*argv, cwd=tmp_path, **{"address": one.address, **more})
    for job in one.get("/v1/jobs"):
        one.stop_job(quote(job["ID"]), purge=True)
    ended = ("complete", "failed", "lost")
    wait("an empty cluster", lambda: all(a["ClientStatus"] in ended for a in one.get("/v1/allocations")))
