"""Hooks, sidecars, leaders and the end of a task, as a user sees them: real Consul, real processes, real containers."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, call, is_alive, job, restart, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# Says in the alloc's log when it starts, waits for a file of its name, and ends with the code in it.
SCRIPT = """
d=$NOMAD_ALLOC_DIR/data; echo "$NOMAD_TASK_NAME starts" >> $d/log
trap 'echo "$NOMAD_TASK_NAME killed" >> $d/log; exit 0' TERM
while [ ! -e $d/$NOMAD_TASK_NAME ]; do sleep 0.1; done
echo "$NOMAD_TASK_NAME ends" >> $d/log; exit $(cat $d/$NOMAD_TASK_NAME)
"""


@pytest.fixture(scope="module")
def one() -> Iterator[Drover]:
    settings = 'client { max_kill_timeout = "2s" }'
    with or_skip(lambda: ConsulServer().__enter__()) as consul, Drover(consul, settings=settings) as drover:
        drover.wait_ready()
        yield drover


def task(name: str, hook: str = "", *, sidecar: bool = False, **more: Any) -> dict[str, Any]:
    return {
        "Name": name,
        "Driver": "raw_exec",
        "Config": {"command": "/bin/sh", "args": ["-c", SCRIPT]},
        "Resources": {"CPU": 10, "MemoryMB": 16},
        "KillSignal": "SIGTERM",
        "RestartPolicy": restart(0, mode="fail"),
        "Lifecycle": {"Hook": hook, "Sidecar": sidecar} if hook else None,
        **more,
    }


def of_tasks(job_id: str, *tasks: dict[str, Any], group: dict[str, Any] | None = None, **of_job: Any) -> dict[str, Any]:
    policy = {"Attempts": 0, "Unlimited": False, "Interval": 0}
    return job(job_id, "", [], group={"Tasks": list(tasks), "ReschedulePolicy": policy, **(group or {})}, job=of_job)


def full(**of_all: Any) -> tuple[dict[str, Any], ...]:
    return (
        task("zz-main", **of_all),
        task("init", "prestart", **of_all),
        task("proxy", "prestart", sidecar=True, **of_all),
        task("tell", "poststart", **of_all),
        task("clean", "poststop", **of_all),
    )


class Story:
    """One alloc, and what its tasks said."""

    def __init__(self, one: Drover, made: dict[str, Any]) -> None:
        self.one, self.job_id = one, made["ID"]
        one.submit(made)
        self.id: str = wait("its alloc", lambda: one.allocs(self.job_id))[0]["ID"]

    @property
    def data(self) -> Path:
        return self.one.data_dir / "alloc" / self.id / "alloc" / "data"

    def said(self) -> list[str]:
        path = self.data / "log"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, line: str) -> None:
        wait(line, lambda: line in self.said())

    def end(self, name: str, code: int = 0) -> None:
        (self.data / f".{name}").write_text(str(code))
        (self.data / f".{name}").rename(self.data / name)

    def status(self, status: str) -> dict[str, Any]:
        return wait(f"it is {status}", lambda: (a := self.one.alloc(self.id))["ClientStatus"] == status and a)

    def states(self) -> dict[str, str]:
        return {name: state["State"] for name, state in self.one.alloc(self.id)["TaskStates"].items()}


def shown(one: Drover, alloc_id: str) -> list[str]:
    done = one.run("alloc", "status", alloc_id)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("Task ")]


def walk(one: Drover, story: Story) -> None:
    """Through all stages, with drover killed in each."""
    beginning = [
        'Task "init" (prestart) is "running"',
        'Task "proxy" (prestart sidecar) is "running"',
        'Task "zz-main" is "pending"',
    ]
    wait("both prestart tasks are shown to run", lambda: shown(one, story.id)[:3] == beginning)
    for ending, next_line in (("init", "zz-main starts"), ("zz-main", "clean starts")):
        story.until(f"{ending} starts")
        one.kill()
        one.start()
        if ending == "zz-main":
            story.until("tell starts")
            story.end("tell")
        story.end(ending)
        story.until(next_line)
    one.kill()
    one.start()
    story.end("clean")
    story.status("complete")
    said = story.said()
    starts = [line.split()[0] for line in said if line.endswith(" starts")]
    assert sorted(starts[:2]) == ["init", "proxy"]
    assert sorted(starts[2:4]) == ["tell", "zz-main"]
    assert starts[4:] == ["clean"], "nothing begins twice"
    assert said.index("init ends") < said.index("zz-main starts")
    assert said.index("zz-main ends") < said.index("proxy killed")
    assert shown(one, story.id) == [
        'Task "init" (prestart) is "dead"',
        'Task "proxy" (prestart sidecar) is "dead"',
        'Task "zz-main" is "dead"',
        'Task "tell" (poststart) is "dead"',
        'Task "clean" (poststop) is "dead"',
    ]
    seen = one.alloc(story.id)
    assert seen["AllocatedResources"]["TaskLifecycles"]["proxy"] == {"Hook": "prestart", "Sidecar": True}
    assert seen["AllocatedResources"]["TaskLifecycles"]["zz-main"] is None
    events = {name: [e["Type"] for e in state["Events"]] for name, state in seen["TaskStates"].items()}
    assert events["proxy"][-4:] == ["Main Tasks Dead", "Killing", "Terminated", "Killed"]


def test_each_task_has_its_turn_over_the_deaths_of_drover(one: Drover) -> None:
    walk(one, Story(one, of_tasks("stages", *full(), Type="batch")))
    one.stop_job("stages", purge=True)


@pytest.mark.docker
def test_containers_have_theirs_in_the_same_way(one: Drover, docker_image: str) -> None:
    config = {"image": docker_image, "command": "/bin/sh", "args": ["-c", SCRIPT]}
    story = Story(one, of_tasks("boxes", *full(Driver="docker", Config=config), Type="batch"))
    try:
        walk(one, story)
    finally:
        one.stop_job("boxes")
        # Containers outlive drover by design, and the poststop one begins when a failed test's others are removed.
        wait("nothing of it is left", lambda: not removed(story.id) and not one.running("boxes") and ended(one, "boxes"))
        one.stop_job("boxes", purge=True)


def removed(alloc_id: str) -> list[str]:
    """The alloc's containers, which are now removed."""
    listed = subprocess.run(
        ["docker", "ps", "-aq", "--filter", f"label=drover.alloc={alloc_id}"], capture_output=True, text=True, check=True
    )
    found = listed.stdout.split()
    if found:
        subprocess.run(["docker", "rm", "-f", *found], capture_output=True, check=False)
    return found


def ended(one: Drover, job_id: str) -> bool:
    return all(a["ClientStatus"] in ("complete", "failed", "lost") for a in one.allocs(job_id))


def test_a_prestart_that_fails_fails_the_alloc_and_main_never_starts(one: Drover) -> None:
    init = task("init", "prestart", RestartPolicy=restart(1, 0.1, mode="fail"))
    story = Story(one, of_tasks("unready", init, task("main"), task("clean", "poststop")))
    story.until("init starts")
    story.end("init", 1)
    story.until("clean starts")
    story.end("clean")
    seen = story.status("failed")
    assert story.said() == ["init starts", "init ends"] * 2 + ["clean starts", "clean ends"]
    assert [seen["TaskStates"][name]["Failed"] for name in ("init", "main", "clean")] == [True, False, False]
    assert seen["TaskStates"]["main"]["StartedAt"] is None
    one.stop_job("unready", purge=True)


def test_a_stopped_job_ends_its_leader_first_and_cleans_up(one: Drover) -> None:
    tasks = (task("main", Leader=True, ShutdownDelay=NS), task("side", "poststart", sidecar=True), task("clean", "poststop"))
    story = Story(one, of_tasks("led", *tasks))
    story.until("side starts")
    one.stop_job("led")
    story.until("clean starts")
    one.kill()
    one.start()
    story.end("clean")
    story.status("complete")
    said = story.said()
    assert sorted(said[:2]) == ["main starts", "side starts"]  # side's process after main's; either may speak first
    assert said[2] == "main killed"
    # These wait for main alone, and for nobody else.
    assert sorted(said[3:5]) == ["clean starts", "side killed"]
    assert said[5:] == ["clean ends"]
    one.stop_job("led", purge=True)


def test_a_service_leaves_consul_before_the_delays_and_its_task_is_told_after_them(one: Drover) -> None:
    service = {"Name": "leaves", "PortLabel": "http"}
    main = task("main", ShutdownDelay=NS, Services=[{**service, "Name": "leaves-too"}])
    group = {"ShutdownDelay": 2 * NS, "Services": [service], "Networks": [{"DynamicPorts": [{"Label": "http"}]}]}
    story = Story(one, of_tasks("leaves", main, group=group))
    story.until("main starts")

    def known(name: str) -> bool:
        return bool(call(one.consul.http_addr, "GET", f"/v1/catalog/service/{name}"))

    wait("both are registered", lambda: known("leaves") and known("leaves-too"))
    one.stop_job("leaves")
    wait("both are gone", lambda: not known("leaves") and not known("leaves-too"))
    gone_s = time.monotonic()
    assert "main killed" not in story.said()
    story.until("main killed")
    assert 2.0 < time.monotonic() - gone_s < 5.0
    one.stop_job("leaves", purge=True)


def test_a_task_that_does_not_heed_its_signal_is_killed_after_the_operators_limit(one: Drover) -> None:
    script = "trap 'echo heard >> $NOMAD_ALLOC_DIR/data/log' HUP; echo $$ > $NOMAD_ALLOC_DIR/data/pid; while :; do sleep 0.1; done"
    deaf = task("main", Config={"command": "/bin/sh", "args": ["-c", script]}, KillSignal="SIGHUP", KillTimeout=60 * NS)
    story = Story(one, of_tasks("deaf", deaf))
    pid = int(wait("its pid", lambda: (story.data / "pid").exists() and (story.data / "pid").read_text()))
    one.stop_job("deaf")
    seen = story.status("complete")
    assert story.said() == ["heard"]
    assert not is_alive(pid)
    events = {e["Type"]: e for e in seen["TaskStates"]["main"]["Events"]}
    assert events["Killing"]["Details"]["kill_timeout"] == "2s"
    assert events["Terminated"]["Details"]["signal"] == "9"
    assert 1.9 < (events["Terminated"]["Time"] - events["Killing"]["Time"]) / NS < 4.0
    one.stop_job("deaf", purge=True)


def test_only_the_group_that_asks_is_stopped_without_consuls_servers_and_it_runs_elsewhere() -> None:
    """Its Consul agent hangs: connections stay open and nothing is answered, while its drover can still be called."""
    soon = 'heartbeat_grace = "2s"\n  agent_down_after = "8s"'
    with ExitStack() as stack:
        server = or_skip(lambda: stack.enter_context(ConsulServer()))
        far = stack.enter_context(ConsulServer.client(server, node_name="far"))
        leader = stack.enter_context(Drover(server, name="leader", client=False, server_settings=soon))
        two = stack.enter_context(Drover(far, name="two", server=False))
        leader.wait_ready(1)
        asking = Story(two, of_tasks("asks", task("main"), group={"StopAfterClientDisconnect": 3 * NS}))
        staying = Story(two, of_tasks("stays", task("main")))
        for story in (asking, staying):
            story.until("main starts")
        leader.wait_running("asks", 1)
        far.pause()
        began_s = time.monotonic()
        wait("the one that asks is stopped", lambda: "main killed" in asking.said())
        assert 2.5 < time.monotonic() - began_s < 6.0
        near = stack.enter_context(Drover(server, name="near", server=False))
        wait("its job runs elsewhere", lambda: [a["NodeName"] for a in leader.running("asks")] == ["near"], 60.0)
        stays("the other one runs on", lambda: staying.said() == ["main starts"], 2.0)
        far.resume()
        wait("the leader learns it", lambda: leader.alloc(asking.id)["ClientStatus"] == "lost", 60.0)
        wait("in the agent's own words", lambda: "stop_after" in leader.alloc(asking.id)["ClientDescription"], 60.0)
        stays("and nothing of it begins again", lambda: len(leader.running("asks")) == 1, 3.0)
        assert asking.said() == ["main starts", "main killed"]
        assert near.running("asks")
