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

Fleet = list[Drover]

GRACE = 'heartbeat_grace = "2s"'


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Two machines with a Consul agent each; both stand for election and run tasks."""
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        consuls = [stack.enter_context(ConsulServer.client(server, node_name=name)) for name in ("one", "two")]
        found = [
            stack.enter_context(Drover(consul, name=name, server_settings=GRACE))
            for consul, name in zip(consuls, ("one", "two"), strict=True)
        ]
        found[0].wait_ready(2)
        yield found


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
    one = fleet[0]
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
    one = fleet[0]
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
    one, two = fleet
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
