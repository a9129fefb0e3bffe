"""Nomad's command line, and drover's with the same words, lead a job through its whole life."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.clients.nomad_cli import Cli, drive
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

NOMAD = shutil.which("nomad")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "program",
    [
        pytest.param([sys.executable, "-m", "cli.main"], id="drover"),
        pytest.param([NOMAD or "nomad"], id="nomad", marks=pytest.mark.skipif(NOMAD is None, reason="no nomad on PATH: it is not free to hand out")),
    ],
)
def test_a_job_lives_its_whole_life_through_the_command_line(program: list[str], tmp_path: Path) -> None:
    with or_skip(lambda: ConsulServer().__enter__()) as consul, Drover(consul) as one:
        one.wait_ready()
        drive(Cli(program, one.address, tmp_path))
