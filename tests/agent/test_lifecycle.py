"""A group's order on real processes, with an agent that is killed in the middle of each stage."""

import os
import signal
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from model.alloc import AllocId, ClientStatus, DesiredAlloc, DesiredStatus, ObservedAlloc
from model.job import JobType, Lifecycle, RestartPolicy, Task
from model.wire import nanoseconds
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.agent.life import AgentProcess, wait_for

# Tells its start, waits until a file says that it may end, and tells its end; by SIGTERM it ends and tells that.
SCRIPT = """
log=$NOMAD_ALLOC_DIR/data/log; echo $$ >> $NOMAD_ALLOC_DIR/data/pids
echo "$NOMAD_TASK_NAME starts" >> $log
trap 'echo "$NOMAD_TASK_NAME killed" >> $log; exit 0' TERM
while [ ! -e $NOMAD_ALLOC_DIR/data/$NOMAD_TASK_NAME ]; do sleep 0.05; done
echo "$NOMAD_TASK_NAME ends" >> $log
exit $(cat $NOMAD_ALLOC_DIR/data/$NOMAD_TASK_NAME)
"""


@pytest.fixture
def life(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path)
    try:
        yield process
    finally:
        process.kill()
        for path in tmp_path.glob("data/alloc/*/alloc/data/pids"):
            for line in path.read_text().split():
                with suppress(ProcessLookupError):
                    os.killpg(int(line), signal.SIGKILL)
        for path in tmp_path.glob("data/alloc/*"):
            for cgroup in Path("/sys/fs/cgroup").glob(f"*/drover/{path.name}*"):
                wait_for(lambda cgroup=cgroup: is_removed(cgroup) or None, f"{cgroup} to be empty")


def is_removed(cgroup: Path) -> bool:
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def shell(name: str, when: str = "", *, sidecar: bool = False, **more: object) -> Task:
    lifecycle = Lifecycle(hook=when, sidecar=sidecar) if when else None
    config = {"command": "/bin/sh", "args": ["-c", SCRIPT]}
    fields: dict[str, object] = {"restart_policy": RestartPolicy(attempts=0), "kill_signal": "SIGTERM", **more}
    return a_task(name, driver="raw_exec", config=config, lifecycle=lifecycle, **fields)


FULL = (
    shell("init", "prestart"),
    shell("proxy", "prestart", sidecar=True),
    shell("main"),
    shell("tell", "poststart"),
    shell("clean", "poststop"),
)


class Alloc:
    """One alloc on the agent, and what its tasks told."""

    def __init__(self, life: AgentProcess, tasks: Sequence[Task], job_type: JobType = JobType.BATCH, **group: object) -> None:
        job = a_job(*tasks, job_type=job_type, **group)
        life.store.add_job(job)
        self.life = life
        self.desired: DesiredAlloc = an_alloc(0, job, id=AllocId(str(uuid.uuid4())))
        life.store.want(self.desired)

    @property
    def data(self) -> Path:
        return self.life.data_dir / "alloc" / self.desired.id / "alloc" / "data"

    def told(self) -> list[str]:
        path = self.data / "log"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, *told: str) -> None:
        """Waits until these lines, in any order, are the newest."""
        wait_for(lambda: sorted(self.told()[-len(told) :]) == sorted(told) or None, f"{told}, told: {self.told()}")

    def end(self, name: str, code: int = 0) -> None:
        partial = self.data / f"{name}.partial"
        partial.write_text(str(code))
        partial.rename(self.data / name)

    def stop(self) -> None:
        self.life.store.want(replace(self.desired, desired_status=DesiredStatus.STOP))

    def observed(self, status: ClientStatus) -> ObservedAlloc:
        return self.life.store.wait_observed(self.desired.id, status)


def die(life: AgentProcess) -> None:
    """The agent is killed and comes back."""
    life.kill()
    life.start()


@pytest.mark.parametrize("is_dying", [False, True], ids=["one agent", "killed in each stage"])
def test_each_task_runs_once_and_in_its_turn(life: AgentProcess, is_dying: bool) -> None:
    again = die if is_dying else lambda _: None
    life.start()
    alloc = Alloc(life, FULL)
    alloc.until("init starts", "proxy starts")
    again(life)
    alloc.end("init")
    alloc.until("main starts", "tell starts")
    again(life)
    alloc.end("tell")
    alloc.until("tell ends")
    again(life)
    alloc.end("main")
    wait_for(lambda: {"proxy killed", "clean starts"} <= set(alloc.told()) or None, "the sidecar's end")
    again(life)
    alloc.end("clean")
    seen = alloc.observed(ClientStatus.COMPLETE)
    assert not any(state.failed for state in seen.task_states.values())
    told = alloc.told()
    starts = [line.split()[0] for line in told if line.endswith(" starts")]
    assert sorted(starts[:2]) == ["init", "proxy"]
    assert sorted(starts[2:4]) == ["main", "tell"]
    assert starts[4:] == ["clean"]
    assert told.index("init ends") < told.index("main starts")
    assert told.index("main ends") < min(told.index("proxy killed"), told.index("clean starts"))


def test_tasks_whose_stage_came_while_no_agent_ran_begin_with_the_next_agent(life: AgentProcess) -> None:
    life.start()
    alloc = Alloc(life, FULL)
    for ending, starting in (("init", "main starts"), ("main", "clean starts")):
        wait_for(lambda ending=ending: f"{ending} starts" in alloc.told() or None, f"{ending} to run")
        life.kill()
        alloc.end(ending)
        wait_for(lambda ending=ending: f"{ending} ends" in alloc.told() or None, f"{ending} to end")
        assert starting not in alloc.told()
        life.start()
        wait_for(lambda starting=starting: starting in alloc.told() or None, starting)
        alloc.end("tell")
    alloc.end("clean")
    alloc.observed(ClientStatus.COMPLETE)
    assert len([line for line in alloc.told() if line.endswith(" starts")]) == len(FULL)


def test_a_prestart_that_fails_is_tried_as_its_policy_says_and_main_never_begins(life: AgentProcess) -> None:
    life.start()
    policy = RestartPolicy(attempts=2, delay=nanoseconds(0.1), interval=nanoseconds(60))
    alloc = Alloc(life, (shell("init", "prestart", restart_policy=policy), shell("main"), shell("clean", "poststop")), JobType.SERVICE)
    alloc.until("init starts")
    alloc.end("init", 3)
    wait_for(lambda: "clean starts" in alloc.told() or None, "the cleaning up")
    alloc.end("clean")
    seen = alloc.observed(ClientStatus.FAILED)
    assert alloc.told() == ["init starts", "init ends"] * 3 + ["clean starts", "clean ends"]
    assert [seen.task_states[name].failed for name in ("init", "main", "clean")] == [True, False, False]
    assert seen.task_states["init"].restarts == 2
    assert "Sibling Task Failed" not in [event.type for event in seen.task_states["clean"].events]


@pytest.mark.parametrize("is_dying", [False, True], ids=["one agent", "killed meanwhile"])
def test_a_stop_ends_the_leader_first_then_the_others_and_cleans_up(life: AgentProcess, is_dying: bool) -> None:
    life.start()
    alloc = Alloc(
        life,
        (shell("main", leader=True, shutdown_delay=nanoseconds(1)), shell("side", "prestart", sidecar=True), shell("clean", "poststop")),
        JobType.SERVICE,
    )
    wait_for(lambda: len(alloc.told()) == 2 or None, "both to run")
    alloc.observed(ClientStatus.RUNNING)
    alloc.stop()
    if is_dying:
        die(life)
    wait_for(lambda: "clean starts" in alloc.told() or None, "the cleaning up")
    if is_dying:
        die(life)
    alloc.end("clean")
    alloc.observed(ClientStatus.COMPLETE)
    told = alloc.told()
    assert told.index("main killed") < told.index("side killed")
    assert told.index("main killed") < told.index("clean starts")
    # Of two that may begin at once either may be the first to speak.
    assert sorted(line for line in told if line.endswith("starts")) == ["clean starts", "main starts", "side starts"]


def test_a_task_that_does_not_heed_its_kill_signal_is_killed_after_its_kill_timeout(life: AgentProcess) -> None:
    life.start()
    deaf = "trap 'echo heard >> $NOMAD_ALLOC_DIR/data/log' USR1; echo $$ >> $NOMAD_ALLOC_DIR/data/pids; echo deaf >> $NOMAD_ALLOC_DIR/data/log; while :; do sleep 0.1; done"
    task = a_task(
        driver="raw_exec",
        config={"command": "/bin/sh", "args": ["-c", deaf]},
        kill_signal="SIGUSR1",
        kill_timeout=nanoseconds(1.5),
    )
    alloc = Alloc(life, (task,), JobType.SERVICE)
    alloc.until("deaf")
    alloc.observed(ClientStatus.RUNNING)
    alloc.stop()
    seen = alloc.observed(ClientStatus.COMPLETE)
    assert "heard" in alloc.told()
    events = {event.type: event for event in seen.task_states["main"].events}
    assert events["Terminated"].signal == 9
    assert events["Killing"].details["kill_timeout"] == "1.5s"
    assert 1.4 < (events["Terminated"].time - events["Killing"].time) / 1e9 < 4.0


def test_a_group_that_asks_for_it_is_stopped_without_contact_and_that_is_told_when_there_is_some(
    life: AgentProcess,
) -> None:
    life.start()
    asking = Alloc(life, (shell("main"), shell("clean", "poststop")), JobType.SERVICE, stop_after_client_disconnect=nanoseconds(2))
    asking.until("main starts")
    asking.observed(ClientStatus.RUNNING)
    life.store.set_away(True)
    wait_for(lambda: asking.told()[-2:] == ["main killed", "clean starts"] or None, "the stop and the cleaning up")
    asking.end("clean")
    life.store.set_away(False)
    seen = asking.observed(ClientStatus.LOST)
    assert seen.client_description == "stop_after_client_disconnect has passed without contact"
