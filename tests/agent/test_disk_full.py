"""A data_dir without room: running tasks do not notice, nothing is called killed that was not, all goes on with room."""

import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.drivers.base import StartFailed
from model.alloc import AllocId, ClientStatus, DesiredAlloc
from model.job import JobId, JobType, RestartPolicy
from tests.agent.doubles import a_job, an_alloc
from tests.agent.life import AgentProcess, wait_for
from tests.agent.test_raw_exec import Place, cleaned
from tests.agent.test_survival import is_running, shell, started
from tests.e2e.drover import remove_cgroups

pytestmark = pytest.mark.root

PAGE = os.sysconf("SC_PAGE_SIZE")


class Disk:
    """A file system of 4 MiB."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, *, but_pages: int = 0) -> None:
        with (self.path / "fill").open("ab", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(b"x" * size)
                except OSError:
                    size //= 2
            file.truncate((file.tell() // PAGE - but_pages) * PAGE)

    def free(self) -> None:
        (self.path / "fill").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a file system")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def life(disk: Disk, tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path, disk.path / "data")
    try:
        yield process
    finally:
        process.kill()
        allocs = {path.name for path in disk.path.glob("data/alloc/*")}
        for path in disk.path.glob("data/alloc/*/alloc/data/pids"):
            for line in path.read_text().split():
                with suppress(ProcessLookupError):
                    os.killpg(int(line), signal.SIGKILL)
        remove_cgroups(allocs)


def test_running_tasks_end_with_their_codes_and_new_ones_wait_for_room(
    disk: Disk, life: AgentProcess, tmp_path: Path
) -> None:
    going = tmp_path / "going"
    going.touch()
    steady = want(life, "steady", "exec sleep 1000")
    ending = want(life, "ending", f"while [ -e {going} ]; do sleep 0.02; done; exit 7")
    life.start()
    pid = started(life, steady)
    started(life, ending)
    disk.fill()

    waiting = want(life, "waiting", "true")
    going.unlink()
    assert exit_code(life, ending) == 7
    words = wait_for(lambda: no_room(life, waiting), "the event")
    assert words == f"Waiting to note the intent: No space left on device: {life.data_dir}/journal.db"
    assert is_running(pid)
    life.terminate()  # and an agent that stops and starts without room keeps what runs
    disk.fill()
    life.start()
    wait_for(lambda: no_room(life, waiting), "the event of the new agent")
    assert is_running(pid)

    disk.free()
    assert exit_code(life, waiting) == 0
    assert is_running(pid)
    life.store.wait_observed(steady.id, ClientStatus.RUNNING)


def want(life: AgentProcess, name: str, script: str) -> DesiredAlloc:
    policy = RestartPolicy(attempts=0, mode="fail")
    job = replace(a_job(shell(script, restart_policy=policy), job_type=JobType.BATCH), id=JobId(name), name=name)
    life.store.add_job(job)
    alloc = an_alloc(1, job, id=AllocId(str(uuid.uuid4())))
    life.store.want(alloc)
    return alloc


def exit_code(life: AgentProcess, alloc: DesiredAlloc) -> int:
    def look() -> int | None:
        seen = life.store.observed(alloc.id)
        codes = [e.exit_code for e in seen.task_states["main"].events if e.type == "Terminated"] if seen else []
        return codes[0] if codes else None

    return wait_for(look, "its end")


def no_room(life: AgentProcess, alloc: DesiredAlloc) -> str | None:
    seen = life.store.observed(alloc.id)
    messages = [e.display_message for e in seen.task_states["main"].events if e.type == "Driver"] if seen else []
    return messages[-1] if messages else None


@pytest.fixture
def place(disk: Disk) -> Place:
    return Place(disk.path, use_cgroups=True)


async def test_a_start_without_room_fails_in_words_and_the_same_attempt_starts_with_room(
    disk: Disk, place: Place
) -> None:
    async with cleaned(place) as driver:
        disk.fill()
        with pytest.raises(StartFailed, match=r"cannot write below .*/run: No space left on device"):
            await place.start("/bin/sh", "-c", "exit 3")
        assert list((place.home / "run").iterdir()) == []
        disk.free()
        assert (await driver.wait(await place.start("/bin/sh", "-c", "exit 3"))).code == 3


async def test_a_supervisor_without_room_starts_nothing_and_says_so(disk: Disk, place: Place) -> None:
    async with cleaned(place) as driver:
        disk.fill(but_pages=2)  # enough for what the agent reserves, and not for the supervisor's own file
        handle = await place.start("/bin/sh", "-c", "echo ran; exit 3")
        result = await driver.wait(handle)
        assert result.error == f"not started: cannot write below {place.home}/run: No space left on device"
        assert not await driver.recover(handle)
        disk.free()
        assert place.read("out") == ""
        assert (await driver.wait(await place.start("/bin/sh", "-c", "echo ran; exit 3"))).code == 3
        assert place.read("out") == "ran\n"
