"""Two thousand calls made from the OpenAPI description: none fails by a bug, none hangs, and the agent goes on."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, marking_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# Streams have no end; taking the lock from who answers is no gentle thing.
LEFT_OUT = "(event/stream|agent/monitor|operator/lock/break)"
CASES_MIN = 2000
# Nomad's own words that its servers say with 500, and its clients look for.
NOMADS = (
    "at version", "enforcing prior version failed", "in nonexistent namespace", "Enforcing job modify index",
    "is not a parameterized job",
    "force launch non-periodic job",
)


@pytest.mark.timeout(300)
def test_no_generated_call_fails_by_a_bug_or_hangs() -> None:
    with or_skip(lambda: ConsulServer().__enter__()) as consul, Drover(consul) as one:
        one.wait_ready()
        one.submit(marking_job("web", count=1))
        one.wait_running("web", 1)
        argv = [
            str(Path(sys.executable).parent / "schemathesis"), "run", f"http://{one.address}/v1/openapi.json",
            "--checks", "not_a_server_error", "--phases", "fuzzing", "--max-examples", "20", "--seed", "7",
            "--request-timeout", "10", "--workers", "2", "--continue-on-failure", "--no-color",
            "--generation-database", "none", "--exclude-path-regex", LEFT_OUT,
        ]  # fmt: skip
        done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
        cases = re.search(r"(\d+) generated", done.stdout)
        assert cases is not None, done.stdout + done.stderr
        assert int(cases[1]) >= CASES_MIN
        failed = re.findall(r"^    `(.*)`?$", done.stdout, re.MULTILINE)
        assert [words for words in failed if not any(known in words for known in NOMADS)] == [], done.stdout
        assert not re.search(r"timed? ?out", done.stdout, re.IGNORECASE), done.stdout
        assert "Traceback" not in one.log
        assert one.get("/v1/status/leader")
