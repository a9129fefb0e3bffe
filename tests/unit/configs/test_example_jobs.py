"""The example jobs are sound, and the demo does what it says."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import configs
import jobspec
from model.job import CheckRestart

JOBS = Path(configs.__file__).parent / "jobs"
S = 1_000_000_000


@pytest.mark.parametrize("path", sorted(JOBS.glob("*.hcl")), ids=lambda path: path.stem)
def test_an_example_job_is_sound_and_without_warnings(path: Path) -> None:
    job = jobspec.read_job(jobspec.read_file(path), file=path.name)
    assert jobspec.warnings(job) == ()


def test_the_demo_is_three_instances_restarted_by_their_check() -> None:
    job = jobspec.read_job(jobspec.read_file(JOBS / "demo.hcl"), file="demo.hcl")
    group = job.task_groups[0]
    service = group.services[0]
    assert (group.count, service.name, service.port_label) == (3, "demo-web", "http")
    check = service.checks[0]
    assert (check.type, check.interval, check.timeout) == ("http", S, S)
    assert check.check_restart == CheckRestart(limit=3, grace=2 * S)
    assert group.restart_policy.delay <= S


def test_the_demo_fails_its_check_while_the_file_is_there_and_a_restart_heals_it(tmp_path: Path) -> None:
    task = jobspec.read_job(jobspec.read_file(JOBS / "demo.hcl"), file="demo.hcl").task_groups[0].tasks[0]
    script = task.config["args"][-1].replace(
        'ThreadingHTTPServer(("", int(os.environ["NOMAD_PORT_http"])), Handler).serve_forever()',
        _SERVE_AND_TELL,
    )
    (tmp_path / "fail").touch()
    environ = {
        **os.environ,
        "NOMAD_TASK_DIR": str(tmp_path),
        "NOMAD_ALLOC_NAME": "demo.web[0]",
        "NOMAD_PORT_http": "0",
    }
    with subprocess.Popen(
        [sys.executable, "-u", "-c", script], env=environ, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()
            url = f"http://127.0.0.1:{json.loads(server.stdout.readline())}/"
            assert _status(url) == 200
            (tmp_path / "fail").touch()
            assert _status(url) == 500
            (tmp_path / "fail").unlink()
            assert _status(url) == 200
        finally:
            server.kill()


# On any free port, said on a line of its own.
_SERVE_AND_TELL = (
    's = ThreadingHTTPServer(("127.0.0.1", 0), Handler); print(s.server_port); s.serve_forever()'
)


def _status(url: str) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
