"""Real processes over the death of the agent that started them."""

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from model.alloc import AllocId, ClientStatus, DesiredAlloc, DesiredStatus
from model.job import JobType, RestartPolicy, Task
from model.wire import nanoseconds
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.agent.life import AgentProcess, wait_for

# Each start of the task adds its pid to the file; nothing can start twice unseen.
LOGGING = 'echo $$ >> "$NOMAD_ALLOC_DIR/data/pids"; '


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
                wait_for(lambda cgroup=cgroup: removed(cgroup) or None, f"{cgroup} to be empty")


def removed(cgroup: Path) -> bool:
    try:
        cgroup.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def shell(script: str, **fields: object) -> Task:
    policy = RestartPolicy(attempts=3, delay=nanoseconds(0.01), interval=nanoseconds(60))
    return a_task(
        driver="raw_exec",
        config={"command": "/bin/sh", "args": ["-c", LOGGING + script]},
        **{"restart_policy": policy, **fields},
    )


def wanted(
    life: AgentProcess, task: Task, count: int = 1, job_type: JobType = JobType.SERVICE
) -> list[DesiredAlloc]:
    job = a_job(task, job_type=job_type)
    life.store.add_job(job)
    allocs = [an_alloc(number, job, id=AllocId(str(uuid.uuid4()))) for number in range(count)]
    life.store.want(*allocs)
    return allocs


def pids(life: AgentProcess, alloc: DesiredAlloc) -> list[int]:
    path = life.data_dir / "alloc" / alloc.id / "alloc" / "data" / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def started(life: AgentProcess, alloc: DesiredAlloc) -> int:
    """The pid of the one start there was; an agent says "running" a moment before the task's first line."""
    (pid,) = wait_for(lambda: pids(life, alloc) or None, "the task's first line")
    return pid


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_killed_agent_leaves_its_tasks_and_the_next_finds_the_same_processes(life: AgentProcess) -> None:
    life.start()
    allocs = wanted(life, shell("exec sleep 1000"), count=5)
    for alloc in allocs:
        life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    before = [[started(life, alloc)] for alloc in allocs]
    for _ in range(3):
        life.kill()
        assert all(is_running(pid) for (pid,) in before)
        life.store.set_away(True)
        for alloc in allocs:
            (life.store.folder / "observed" / f"{alloc.id}.json").unlink()
        life.start()
        life.store.set_away(False)
        for alloc in allocs:
            life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    assert [pids(life, alloc) for alloc in allocs] == before
    life.store.want(*(replace(alloc, desired_status=DesiredStatus.STOP) for alloc in allocs))
    for alloc in allocs:
        life.store.wait_observed(alloc.id, ClientStatus.COMPLETE)
    assert not any(is_running(pid) for (pid,) in before)


def test_a_task_that_ended_while_no_agent_ran_is_told_with_its_true_exit_code(life: AgentProcess) -> None:
    life.start()
    script = 'while [ ! -e "$NOMAD_ALLOC_DIR/data/go" ]; do sleep 0.02; done; exit 7'
    (alloc,) = wanted(life, shell(script, restart_policy=RestartPolicy(attempts=0)), job_type=JobType.BATCH)
    life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    pid = started(life, alloc)
    life.kill()
    (life.data_dir / "alloc" / alloc.id / "alloc/data/go").touch()
    wait_for(lambda: None if is_running(pid) else True, "the task's end")
    life.start()
    seen = life.store.wait_observed(alloc.id, ClientStatus.FAILED)
    (end,) = [event for event in seen.task_states["main"].events if event.type == "Terminated"]
    assert end.exit_code == 7
    assert pids(life, alloc) == [pid]


def test_a_task_killed_while_no_agent_ran_is_started_once_more(life: AgentProcess) -> None:
    life.start()
    (alloc,) = wanted(life, shell("exec sleep 1000"))
    life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    first = started(life, alloc)
    life.kill()
    os.kill(first, signal.SIGKILL)
    life.start()
    wait_for(lambda: len(pids(life, alloc)) == 2 or None, "a second start")
    seen = life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    (end,) = [event for event in seen.task_states["main"].events if event.type == "Terminated"]
    assert (end.exit_code, end.signal) == (137, 9)


def test_an_agent_killed_at_any_moment_of_many_starts_starts_nothing_twice(life: AgentProcess) -> None:
    allocs = wanted(life, shell("exec sleep 1000"), count=60)
    for wait_for_starts in (1, 10, 25, 40, 59):
        life.start()
        wait_for(
            lambda wanted=wait_for_starts: sum(bool(pids(life, a)) for a in allocs) >= wanted or None,
            "some starts",
        )
        life.kill()
    life.start()
    for alloc in allocs:
        life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    assert [len(pids(life, alloc)) for alloc in allocs] == [1] * len(allocs)


def test_a_batch_that_has_ended_leaves_no_zombie_to_its_agent_nor_to_the_one_after_a_kill(
    life: AgentProcess,
) -> None:
    allocs = wanted(life, shell("true"), count=100, job_type=JobType.BATCH)
    life.start()
    wait_for(lambda: sum(bool(pids(life, alloc)) for alloc in allocs) >= 30 or None, "some starts")
    life.kill()
    agent = psutil.Process(life.start())
    for alloc in allocs:
        life.store.wait_observed(alloc.id, ClientStatus.COMPLETE)
    wait_for(lambda: agent.children() == [] or None, "its children to be reaped, though no alloc is collected")


def test_a_plain_stop_of_drover_leaves_the_tasks_running(life: AgentProcess) -> None:
    life.start()
    (alloc,) = wanted(life, shell("exec sleep 1000"))
    life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    pid = started(life, alloc)
    assert life.terminate() == 0
    assert is_running(pid)


def test_a_supervisor_that_was_killed_takes_no_task_with_it(life: AgentProcess) -> None:
    life.start()
    (alloc,) = wanted(life, shell("exec sleep 1000"))
    life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    pid = started(life, alloc)
    supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    life.kill()
    life.start()
    (life.store.folder / "observed" / f"{alloc.id}.json").unlink()
    life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    assert pids(life, alloc) == [pid]
    assert is_running(pid)


def test_two_agents_never_share_a_data_dir(life: AgentProcess) -> None:
    life.start()
    (alloc,) = wanted(life, shell("exec sleep 1000"))
    life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    other = AgentProcess(life.data_dir.parent)
    other.start()
    assert other._process is not None
    assert other._process.wait(10) != 0


@pytest.mark.root
def test_what_left_the_session_is_ended_with_the_task_and_nothing_is_left_behind(life: AgentProcess) -> None:
    life.start()
    script = "setsid sh -c 'echo $$ >> \"$NOMAD_ALLOC_DIR/data/pids\"; exec sleep 1000' & exec sleep 1000"
    (alloc,) = wanted(life, shell(script))
    found = wait_for(lambda: p if len(p := pids(life, alloc)) == 2 else None, "both processes")
    life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    life.store.want(replace(alloc, desired_status=DesiredStatus.STOP))
    life.store.wait_observed(alloc.id, ClientStatus.COMPLETE)
    assert not any(map(is_running, found))
    life.store.remove(alloc.id)
    wait_for(lambda: None if life.store.observed(alloc.id) else True, "the alloc to be forgotten")
    wait_for(lambda: None if list((life.data_dir / "alloc").iterdir()) else True, "no directories")
    assert list((life.data_dir / "run").iterdir()) == []
    assert not list(Path("/sys/fs/cgroup").glob(f"*/drover/{alloc.id}*"))
