"""Batch groups that come to an end: real agents, a real Consul, a queue in a real Redis."""

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.components.consul import ConsulServer
from tests.components.redis import Redis
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

Fleet = tuple[ConsulServer, Drover, Drover]

GRACE = 'heartbeat_grace = "2s"'


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two machines with a Consul agent each; both stand for election and run tasks."""
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        consuls = [stack.enter_context(ConsulServer.client(server, node_name=name)) for name in ("one", "two")]
        one, two = (stack.enter_context(Drover(consul, name=consul.node_name, server_settings=GRACE)) for consul in consuls)
        one.wait_ready(2)
        yield server, one, two


def completing(job_id: str, command: str, args: list[str], *, count: int = 1, **rule: Any) -> dict[str, Any]:
    block = {"RestartPolicy": "never", **rule}
    resources = {"CPU": 1, "MemoryMB": 10}
    return job(job_id, command, args, count=count, job={"Type": "batch"}, group={"Completion": block}, Resources=resources)


def progress(drover: Drover, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = drover.get(f"/v1/job/{job_id}/summary")["Completions"]["g"]
    return found


def finished(drover: Drover, job_id: str, wait_s_max: float = 60.0) -> dict[str, Any]:
    """Its progress, once the job is dead."""
    wait(f"the end of {job_id}", lambda: drover.get(f"/v1/job/{job_id}")["Status"] == "dead", wait_s_max)
    return progress(drover, job_id)


def test_two_hundred_completions_twenty_at_a_time(fleet: Fleet) -> None:
    _, one, _ = fleet
    began_s = time.monotonic()
    one.submit(completing("many", "/bin/true", [], count=20, Completions=200))
    done = finished(one, "many")
    took_s = time.monotonic() - began_s
    print(f"200 completions, 20 at a time: {took_s:.2f} s")
    assert (done["Succeeded"], done["Failed"], done["Status"]) == (200, 0, "complete")
    assert Counter(a["Name"] for a in one.allocs("many")) == {f"many.g[{i}]": 1 for i in range(200)}
    one.stop_job("many", purge=True)
    assert took_s < 20.0


# Takes one item after the other until there is none; each is counted in Redis itself.
WORKER = """
while item=$({cli} LPOP queue) && [ -n "$item" ]; do
  {cli} HINCRBY done "$item" 1 >/dev/null || exit 1
done
"""


def test_a_work_queue_does_each_of_two_hundred_items_once(fleet: Fleet) -> None:
    _, one, _ = fleet
    with or_skip(Redis) as redis:
        redis.command("RPUSH", "queue", *(f"item-{number}" for number in range(200)))
        began_s = time.monotonic()
        one.submit(completing("queue", "/bin/sh", ["-c", WORKER.format(cli=f"{redis.cli} -p {redis.port}")], count=4))
        done = finished(one, "queue")
        print(f"200 items, 4 workers: {time.monotonic() - began_s:.2f} s")
        counts = redis.command("HVALS", "done")
    assert (len(counts), set(counts)) == (200, {"1"})
    assert (done["Wanted"], done["Status"], done["Failed"]) == (None, "complete", 0)
    assert 1 <= done["Succeeded"] <= 4
    one.stop_job("queue", purge=True)


# Each index that has come through is a line in the file; one that is cut short is none.
SLOW = 'sleep 0.3; echo "$DROVER_COMPLETION_INDEX $NOMAD_ALLOC_INDEX" >> {file}'


def test_all_completions_are_reached_though_a_node_and_the_leader_are_killed_midway(
    fleet: Fleet, tmp_path: Path
) -> None:
    """The leader's machine runs tasks too: all of it is gone at once."""
    _, one, two = fleet
    lines = tmp_path / "lines"
    script = SLOW.format(file=lines)
    one.submit(completing("killed", "/bin/sh", ["-c", script], count=10, Completions=60, Indexed=True))
    wait("some of it", lambda: lines.exists() and len(lines.read_text().splitlines()) >= 15)
    leader, other = (one, two) if one.get("/v1/operator/lock")["Leader"]["Name"] == "one" else (two, one)
    leader.consul.pause()
    leader.kill()
    for pid in leader.task_pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    try:
        done = finished(other, "killed", 90.0)
    finally:
        leader.consul.resume()
    assert (done["Wanted"], done["Succeeded"], done["Status"]) == (60, 60, "complete")
    indexes = Counter(line.split()[0] for line in lines.read_text().splitlines())
    assert set(indexes) == {str(index) for index in range(60)}
    assert all(line.split()[0] == line.split()[1] for line in lines.read_text().splitlines())
    results = [a for a in other.allocs("killed") if a["ClientStatus"] == "complete" and a["DesiredStatus"] == "run"]
    assert Counter(a["Name"] for a in results) == {f"killed.g[{index}]": 1 for index in range(60)}
    leader.start()
    other.wait_ready(2)
    other.stop_job("killed", purge=True)


def gated(job_id: str, gate: Path, **more: Any) -> dict[str, Any]:
    """Its runs last until there is a file."""
    return completing(job_id, "/bin/sh", ["-c", f"while [ ! -e {gate} ]; do sleep 0.05; done"], **more)


def scale(drover: Drover, job_id: str, count: int) -> None:
    drover.call("PUT", f"/v1/job/{job_id}/scale", {"Count": count, "Target": {"Group": "g"}})


def test_parallelism_is_scaled_while_it_runs(fleet: Fleet, tmp_path: Path) -> None:
    _, one, _ = fleet
    gate = tmp_path / "gate"
    one.submit(gated("scaled", gate, count=2, Completions=7, Indexed=True))
    one.wait_running("scaled", 2)
    scale(one, "scaled", 5)
    before = {a["ID"] for a in one.wait_running("scaled", 5)}
    scale(one, "scaled", 1)
    (left,) = one.wait_running("scaled", 1)
    assert left["ID"] in before
    scale(one, "scaled", 3)
    one.wait_running("scaled", 3)
    gate.touch()
    done = finished(one, "scaled")
    assert (done["Succeeded"], done["Failed"], done["Status"]) == (7, 0, "complete")
    one.stop_job("scaled", purge=True)


def test_runs_go_on_while_consul_restarts(fleet: Fleet, tmp_path: Path) -> None:
    consul, one, _ = fleet
    gate = tmp_path / "gate"
    one.submit(gated("outage", gate, count=3, Completions=6))
    before = {a["ID"] for a in one.wait_running("outage", 3)}
    consul.stop(kill=True)
    gate.touch()  # the first three end while nobody can be told
    consul.start()
    done = finished(one, "outage")
    assert (done["Succeeded"], done["Failed"]) == (6, 0)
    assert before <= {a["ID"] for a in one.allocs("outage") if a["ClientStatus"] == "complete"}
    one.stop_job("outage", purge=True)


def test_a_group_that_fails_too_often_says_so(fleet: Fleet) -> None:
    _, one, _ = fleet
    one.submit(completing("failing", "/bin/sh", ["-c", "exit 3"], Completions=1, BackoffLimit=1, BackoffBase=2 * NS))
    wait("its first failure", lambda: progress(one, "failing")["Failed"] == 1)
    assert one.get("/v1/job/failing")["Status"] == "running", "it waits for its next try"
    done = finished(one, "failing")
    assert (done["Failed"], done["Status"], done["Reason"]) == (2, "failed", "2 runs have failed, backoff_limit is 1")
    assert one.get("/v1/job/failing")["StatusDescription"] == "group g: 2 runs have failed, backoff_limit is 1"
    shown = one.run("job", "status", "failing").stdout.splitlines()
    assert ["Status", "=", "dead", "(group", "g:", "2", "runs", "have", "failed,", "backoff_limit", "is", "1)"] in [line.split() for line in shown]
    (row,) = (line.split() for line in shown[shown.index("Completions") + 2 :][:1])
    assert row[:6] == ["g", "1", "0", "2", "0", "failed"]
    header, *runs = (line.split() for line in shown[shown.index("Runs") + 1 :])
    assert header[3:] == ["Task", "Group", "Index", "Version", "Desired", "Status", "Exit", "Code", "Created", "Modified"]
    assert [run[2:8] for run in runs] == 2 * [["g", "0", "0", "run", "failed", "3"]]
    one.stop_job("failing", purge=True)


def test_a_failed_task_is_started_again_in_place(fleet: Fleet) -> None:
    """Fails twice; the third start of the same alloc succeeds."""
    _, one, _ = fleet
    script = 'echo x >> "$NOMAD_ALLOC_DIR/tries"; [ "$(wc -l < "$NOMAD_ALLOC_DIR/tries")" -ge 3 ]'
    one.submit(completing("again", "/bin/sh", ["-c", script], Completions=1, RestartPolicy="on_failure", BackoffBase=NS))
    done = finished(one, "again")
    assert (done["Succeeded"], done["Failed"], done["Status"], len(one.allocs("again"))) == (1, 2, "complete", 1)
    one.stop_job("again", purge=True)


def test_after_its_active_deadline_a_group_is_killed_and_has_failed(fleet: Fleet, tmp_path: Path) -> None:
    _, one, _ = fleet
    one.submit(gated("late", tmp_path / "never", count=2, Completions=4, ActiveDeadline=2 * NS))
    done = finished(one, "late")
    assert (done["Succeeded"], done["Active"], done["Status"], done["Reason"]) == (
        0, 0, "failed", "active_deadline of 2s has passed",
    )  # fmt: skip
    assert 2.0 <= (done["FinishedAt"] - done["StartedAt"]) / NS < 12.0
    one.stop_job("late", purge=True)


def test_a_finished_job_is_kept_for_looking_at_until_somebody_collects(fleet: Fleet) -> None:
    _, one, _ = fleet
    one.submit(completing("kept", "/bin/true", [], Completions=1))
    finished(one, "kept")
    one.call("PUT", "/v1/system/gc")
    wait("its end", lambda: "kept" not in {j["ID"] for j in one.get("/v1/jobs")})
