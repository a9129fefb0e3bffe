"""The commands that follow, hold and undo roll-outs, and empty nodes, against a real Consul."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

JOB = """job "{name}" {{
  datacenters = ["dc1"]
  group "g" {{
    count = {count}
    update {{
      max_parallel      = 1
      min_healthy_time  = "200ms"
      healthy_deadline  = "5s"
      progress_deadline = "10s"
      {update}
    }}
    migrate {{
      min_healthy_time = "200ms"
    }}
    restart {{
      attempts = 0
      mode     = "fail"
    }}
    reschedule {{
      attempts  = 0
      unlimited = false
    }}
    task "t" {{
      driver       = "raw_exec"
      kill_timeout = "1s"
      config {{
        command = "/bin/sh"
        args    = ["-c", "{script}"]
      }}
      env {{
        VERSION = "{version}"
      }}
      resources {{
        cpu    = 10
        memory = 16
      }}
    }}
  }}
}}
"""
SLEEPS = "exec sleep 100000"
FAILS = "echo it went wrong >&2; exit 3"


@pytest.fixture(scope="module")
def pair() -> Iterator[Drover]:
    """The leader of two nodes."""
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        other = stack.enter_context(ConsulServer.client(server, node_name="other"))
        one = stack.enter_context(Drover(server, name="one"))
        stack.enter_context(Drover(other, name="two", server=False))
        one.wait_ready(2)
        yield one


def job_file(folder: Path, name: str, *, version: int = 0, count: int = 1, script: str = SLEEPS, update: str = "") -> str:
    path = folder / f"{name}.hcl"
    path.write_text(JOB.format(name=name, count=count, script=script, version=version, update=update))
    return str(path)


def test_running_a_job_stays_until_its_deployment_succeeded(pair: Drover, tmp_path: Path) -> None:
    done = pair.run("job", "run", job_file(tmp_path, "good", count=2))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Monitoring deployment" in done.stdout
    assert "successful" in done.stdout.splitlines()[-1]
    shown = pair.run("job", "status", "good").stdout
    assert "Latest Deployment" in shown
    assert "Deployment completed successfully" in shown
    pair.stop_job("good", purge=True)


def test_a_deployment_that_fails_ends_the_command_with_2_and_the_end_of_what_the_task_said(pair: Drover, tmp_path: Path) -> None:
    done = pair.run("job", "run", job_file(tmp_path, "bad", script=FAILS))
    assert done.returncode == 2
    assert "Failed due to unhealthy allocations" in done.stdout
    assert "it went wrong" in done.stdout
    pair.stop_job("bad", purge=True)


def test_a_timeout_ends_the_command_and_not_the_deployment(pair: Drover, tmp_path: Path) -> None:
    slow = job_file(tmp_path, "slow", update="stagger = \"1s\"").replace("200ms", "3s")
    Path(slow).write_text(Path(slow).read_text().replace('min_healthy_time  = "200ms"', 'min_healthy_time  = "3s"'))
    done = pair.run("job", "run", "-timeout", "1s", slow)
    assert (done.returncode, "it goes on" in done.stdout) == (2, True)
    wait("it succeeds", lambda: pair.get("/v1/job/slow/deployment")["Status"] == "successful")
    pair.stop_job("slow", purge=True)


def test_canaries_are_waited_for_promoted_and_undone(pair: Drover, tmp_path: Path) -> None:
    assert pair.run("job", "run", job_file(tmp_path, "bird", count=2, update="canary = 1")).returncode == 0
    done = pair.run("job", "run", job_file(tmp_path, "bird", version=1, count=2, update="canary = 1"))
    assert (done.returncode, "drover deployment promote" in done.stdout) == (0, True)
    (canary,) = [a["ID"] for a in pair.running("bird") if (a["DeploymentStatus"] or {}).get("Canary")]
    assert "Canary" in pair.run("alloc", "status", canary).stdout
    assert pair.run("job", "promote", "bird").returncode == 0
    assert {a["JobVersion"] for a in pair.wait_running("bird", 2)} == {1}
    assert pair.run("job", "revert", "bird", "0").returncode == 0
    history = pair.run("job", "history", "-p", "bird").stdout
    assert [line.split()[-1] for line in history.splitlines() if line.startswith("Version")] == ["2", "1", "0"]
    assert 'Env[VERSION]: "0" => "1"' in history
    listed = json.loads(pair.run("job", "deployments", "-json", "bird").stdout)
    assert [one["JobVersion"] for one in listed][-2:] == [1, 0]
    again = pair.run("job", "revert", "bird", "99")
    assert (again.returncode, "at version 99 not found" in again.stderr) == (1, True)
    pair.stop_job("bird", purge=True)


def test_a_deployment_is_paused_resumed_and_failed(pair: Drover, tmp_path: Path) -> None:
    assert pair.run("job", "run", job_file(tmp_path, "held", count=3)).returncode == 0
    pair.run("job", "run", "-detach", job_file(tmp_path, "held", version=1, count=3))
    deployment = wait(
        "it is under way",
        lambda: (d := pair.get("/v1/job/held/deployment")) and d["JobVersion"] == 1 and d["Status"] == "running" and d["ID"],
    )
    assert pair.run("deployment", "pause", deployment[:8]).returncode == 0
    assert pair.get(f"/v1/deployment/{deployment}")["Status"] == "paused"
    assert pair.run("deployment", "fail", "-detach", deployment[:8]).returncode == 0
    failed = wait("it failed", lambda: (d := pair.get(f"/v1/deployment/{deployment}"))["Status"] == "failed" and d)
    assert failed["StatusDescription"].startswith("Deployment marked as failed")
    refused = pair.run("deployment", "resume", deployment)
    assert (refused.returncode, "can't resume terminal deployment" in refused.stderr) == (1, True)
    pair.stop_job("held", purge=True)


def test_scaling_restarting_and_stopping_one(pair: Drover, tmp_path: Path) -> None:
    assert pair.run("job", "run", job_file(tmp_path, "size")).returncode == 0
    assert pair.run("job", "scale", "size", "2").returncode == 0
    before = {a["ID"] for a in pair.wait_running("size", 2)}
    assert pair.run("job", "restart", "size").returncode == 0
    after = {a["ID"] for a in pair.wait_running("size", 2)}
    assert not before & after
    gone = min(after)
    assert pair.run("alloc", "stop", gone[:8]).returncode == 0
    wait("another took its place", lambda: gone not in {a["ID"] for a in pair.running("size")} and len(pair.running("size")) == 2)
    wrong = pair.run("job", "scale", "size", "nope", "2")
    assert (wrong.returncode, "does not exist in job" in wrong.stderr) == (1, True)
    pair.stop_job("size", purge=True)


def test_a_node_is_drained_and_used_again(pair: Drover, tmp_path: Path) -> None:
    assert pair.run("job", "run", job_file(tmp_path, "moves", count=2)).returncode == 0
    node = pair.running("moves")[0]["NodeID"]
    done = pair.run("node", "drain", "-enable", "-yes", node[:8])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "drain complete" in done.stdout.splitlines()[-1]
    assert node not in {a["NodeID"] for a in pair.wait_running("moves", 2)}
    assert pair.run("node", "drain", "-disable", node).returncode == 0
    for argv, words in (
        (("-enable", "-disable", node), "expected either -enable or -disable"),
        (("-enable", "-deadline", "1hr", node), "did you mean"),
        (("-enable", "-force", "-no-deadline", node), "exclude each other"),
        (("-enable",), "expected a node"),
    ):
        refused = pair.run("node", "drain", *argv)
        assert (refused.returncode, words in refused.stderr) == (1, True), refused.stderr
    pair.run("node", "eligibility", "-enable", node)
    pair.stop_job("moves", purge=True)
