"""The raw_exec driver on real processes, by cgroup and, as without root, by session."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.drivers.base import Bind, Handle, TaskDirs, TaskStart
from agent.drivers.cgroup import MOUNT
from agent.drivers.command import lookup
from agent.drivers.process import parse_stat, stat_of
from agent.drivers.raw_exec import RawExec
from model.alloc import AllocId
from model.errors import TaskRefused
from model.job import Resources


class Place:
    def __init__(self, home: Path, *, use_cgroups: bool) -> None:
        self.home = home
        (home / "run").mkdir()
        (home / "task" / "local").mkdir(parents=True)
        self.use_cgroups = use_cgroups
        self.driver = RawExec(home / "run", dict(os.environ), use_cgroups=use_cgroups)
        self.handles: list[Handle] = []

    def task(self, *argv: str, attempt: int = 1, **more: Any) -> TaskStart:
        task = self.home / "task"
        fields: dict[str, Any] = {
            "alloc_id": AllocId(f"alloc-{os.getpid()}-{self.home.name}"),
            "task_name": "main",
            "attempt": attempt,
            "config": {"command": argv[0], "args": list(argv[1:])},
            "env": {},
            "dirs": TaskDirs(shared=self.home, task=task, local=task / "local", secrets=task),
            "stdout": self.home / "out",
            "stderr": self.home / "err",
            "resources": Resources(),
        }
        return TaskStart(**(fields | more))

    async def start(self, *argv: str, **more: Any) -> Handle:
        handle = await self.driver.start(self.task(*argv, **more))
        self.handles.append(handle)
        return handle

    def read(self, name: str) -> str:
        path = self.home / name
        return path.read_text() if path.exists() else ""


@pytest.fixture(params=["cgroup", "session"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "cgroup" and os.geteuid() != 0:
        pytest.skip("only root makes cgroups")
    return Place(tmp_path, use_cgroups=request.param == "cgroup")


@asynccontextmanager
async def cleaned(place: Place) -> AsyncIterator[RawExec]:
    try:
        yield place.driver
    finally:
        for handle in place.handles:
            await place.driver.destroy(handle)
        assert list((place.home / "run").iterdir()) == []


async def test_output_environment_and_exit_code_are_the_tasks_own(place: Place) -> None:
    environ = dict(os.environ) | {"VAULT_TOKEN": "s", "DROVER_SEEN": "inherited"}
    place.driver = RawExec(place.home / "run", environ, use_cgroups=place.use_cgroups)
    script = 'echo "$FOO $DROVER_SEEN ${VAULT_TOKEN-none}"; pwd; echo bad >&2; exit 3'
    async with cleaned(place) as driver:
        handle = await place.start("/bin/sh", "-c", script, env={"FOO": 'it\'s "x"\n$y'})
        result = await driver.wait(handle)
        assert (result.code, result.signal, result.error) == (3, 0, "")
        assert result.ended_at > 0
        assert place.read("out") == f'it\'s "x"\n$y inherited none\n{place.home}/task\n'
        assert place.read("err") == "bad\n"


async def test_a_name_that_no_shell_can_hold_reaches_the_task_too(place: Place) -> None:
    async with cleaned(place) as driver:
        handle = await place.start("/usr/bin/env", env={"NOMAD_META_a.b": "it's $x", "1c": "y"})
        assert (await driver.wait(handle)).code == 0
        assert {"NOMAD_META_a.b=it's $x", "1c=y"} <= set(place.read("out").split("\n"))
        assert "DROVER_ODD" not in place.read("out")


async def test_a_task_keeps_to_its_own_cores_and_so_does_what_it_starts(place: Place) -> None:
    (*_, core) = sorted(os.sched_getaffinity(0))
    async with cleaned(place) as driver:
        script = "grep Cpus_allowed_list /proc/self/status; (sh -c 'grep Cpus_allowed_list /proc/self/status')"
        handle = await place.start("/bin/sh", "-c", script, cores=(core,))
        assert (await driver.wait(handle)).code == 0
        assert place.read("out").split() == ["Cpus_allowed_list:", str(core)] * 2


async def test_a_task_of_a_cgroup_cannot_leave_its_cores(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes cgroups")
    place, cores = Place(tmp_path, use_cgroups=True), sorted(os.sched_getaffinity(0))
    async with cleaned(place) as driver:
        script = f"taskset -p -c {cores[0]}-{cores[-1]} $$ >/dev/null 2>&1; grep Cpus_allowed_list /proc/self/status"
        handle = await place.start("/bin/sh", "-c", script, cores=(cores[-1],))
        assert (await driver.wait(handle)).code == 0
        assert place.read("out").split() == ["Cpus_allowed_list:", str(cores[-1])]
    assert not list(MOUNT.glob(f"cpuset/drover/{place.handles[0].alloc_id}*"))


async def test_cores_that_the_machine_does_not_have_are_told(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes cgroups")
    place = Place(tmp_path, use_cgroups=True)
    async with cleaned(place):
        with pytest.raises(TaskRefused, match="cannot give it cores 4000: "):
            await place.driver.start(place.task("/bin/true", cores=(4000,)))
        place.handles.append(Handle(driver="raw_exec", alloc_id=place.task("x").alloc_id, task_name="main", attempt=1))


async def test_a_host_volume_is_refused_in_nomads_words(place: Place) -> None:
    bind = Bind(source="/srv", target="/data")
    with pytest.raises(TaskRefused, match='task driver "raw_exec" for "main" does not support host volumes'):
        await place.start("/bin/true", binds=(bind,))


@pytest.mark.parametrize("name", ["INT", "QUIT", "TERM", "HUP", "USR1"])
async def test_every_signal_reaches_the_task_as_if_nobody_stood_between(place: Place, name: str) -> None:
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.02; done"
    async with cleaned(place) as driver:
        handle = await place.start("/bin/sh", "-c", script)
        while "ready" not in place.read("out"):
            await asyncio.sleep(0.005)
        await driver.signal(handle, f"SIG{name}")
        assert (await driver.wait(handle)).code == 9
        assert f"got {name}" in place.read("out")


async def test_a_killed_task_is_told_by_its_signal_and_its_log_stays_its_own(place: Place) -> None:
    async with cleaned(place) as driver:
        handle = await place.start("/bin/sh", "-c", "kill -SEGV $$")
        result = await driver.wait(handle)
        assert (result.code, result.signal) == (139, 11)
        assert place.read("err") == ""


async def test_a_stop_ends_what_does_not_listen_and_all_that_it_started(place: Place) -> None:
    script = "trap '' INT TERM; sleep 1000 & echo $!; echo $$; while :; do sleep 0.02; done"
    async with cleaned(place) as driver:
        handle = await place.start("/bin/sh", "-c", script)
        while place.read("out").count("\n") < 2:
            await asyncio.sleep(0.005)
        pids = [int(line) for line in place.read("out").split()]
        await driver.stop(handle, "SIGTERM", 0.1)
        assert (await driver.wait(handle)).signal == 9
        assert all((found := stat_of(pid)) is None or found.has_ended for pid in pids)


async def test_a_second_start_of_an_attempt_starts_nothing_whoever_asks(place: Place) -> None:
    async with cleaned(place) as driver:
        first = await place.start("/bin/sh", "-c", "echo begun; exec sleep 1000")
        others = [
            RawExec(place.home / "run", dict(os.environ), use_cgroups=place.use_cgroups) for _ in range(3)
        ]
        for other in others:
            assert await other.start(place.task("/bin/sh", "-c", "echo begun; exec sleep 1000")) == first
        while "begun" not in place.read("out"):
            await asyncio.sleep(0.005)
        await driver.stop(first, "", 5.0)
        assert place.read("out") == "begun\n"


async def test_supervisors_that_race_for_an_attempt_start_it_once(place: Place) -> None:
    async with cleaned(place) as driver:
        task = place.task("/bin/sh", "-c", "echo begun; exec sleep 1000")
        handle = await place.start("/bin/sh", "-c", "echo begun; exec sleep 1000")
        for _ in range(5):
            driver._spawn(task, handle)
        while "begun" not in place.read("out"):
            await asyncio.sleep(0.005)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(driver.wait(handle), name="wait")
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await driver.stop(handle, "SIGTERM", 5.0)
        assert waiting.result().signal == 15
        assert place.read("out") == "begun\n"


async def test_another_agent_finds_the_task_and_its_end(place: Place) -> None:
    async with cleaned(place):
        handle = await place.start(
            "/bin/sh",
            "-c",
            "read x < go; exit 7",
            config={"command": "/bin/sh", "args": ["-c", "while [ ! -e go ]; do sleep 0.02; done; exit 7"]},
        )
        other = RawExec(place.home / "run", dict(os.environ), use_cgroups=place.use_cgroups)
        while not await other.recover(handle):
            await asyncio.sleep(0.005)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(other.wait(handle), name="wait")
            (place.home / "task" / "go").touch()
        assert waiting.result().code == 7
        assert await other.recover(handle) is True


async def test_a_task_of_another_boot_is_not_found_and_no_stranger_is_touched(place: Place) -> None:
    async with cleaned(place) as driver:
        handle = await place.start("/bin/sleep", "1000")
        while not (place.home / "run").glob("*.task"):
            await asyncio.sleep(0.005)
        from msgspec.structs import replace

        stale = replace(handle, boot_id="another boot")
        assert await driver.recover(stale) is False
        await driver.signal(stale, "SIGKILL")
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(driver.wait(handle), name="wait")
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await driver.stop(handle, "SIGTERM", 5.0)


async def test_a_command_runs_in_the_tasks_own_context_and_is_bounded(place: Place) -> None:
    async with cleaned(place) as driver:
        handle = await place.start("/bin/sleep", "1000", env={"FOO": "bar"})
        found = await driver.execute(handle, ["/bin/sh", "-c", "echo $FOO; pwd; echo err >&2; exit 4"], 10.0)
        assert found == (4, f"bar\n{place.home}/task\nerr\n".encode())
        code, _ = await driver.execute(handle, ["sleep", "100"], 0.1)
        assert code == 124
        code, output = await driver.execute(handle, ["/bin/sh", "-c", "yes | head -c 1000000"], 10.0)
        assert (code, len(output)) == (0, 65_536)
        assert (await driver.stats(handle)).memory_bytes > 0


async def test_what_runs_beside_a_task_ends_with_it_and_does_not_hold_up_its_end(place: Place) -> None:
    async with cleaned(place) as driver:
        handle = await place.start("/bin/sleep", "1000")
        script = "trap '' HUP INT TERM; echo $$; while :; do sleep 0.05; done"
        async with driver.session(handle, ["sh", "-c", script], is_tty=False) as session:
            output = session.output()
            name, line = await anext(output)
            begun = asyncio.get_running_loop().time()
            await driver.stop(handle, "SIGTERM", 5.0)
            assert asyncio.get_running_loop().time() - begun < 2
            assert [rest async for rest in output] == []
            assert (name, await session.ended()) == ("stdout", 128 + 9)
        assert stat_of(int(line)) is None


async def test_leaving_ends_what_runs_beside_a_task_and_nothing_else(place: Place) -> None:
    async with cleaned(place) as driver:
        handle = await place.start("/bin/sh", "-c", "echo $$; exec sleep 1000")
        descriptors = len(os.listdir("/proc/self/fd"))
        for is_tty in (False, True):
            script = "trap '' HUP INT TERM; sleep 1001 & echo $! $$; while :; do sleep 0.05; done"
            async with driver.session(handle, ["sh", "-c", script], is_tty=is_tty) as session:
                pids = [int(pid) for pid in (await anext(session.output()))[1].split()]
                assert all(stat_of(pid) for pid in pids)
            assert [stat for pid in pids if (stat := stat_of(pid)) and not stat.has_ended] == []
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert stat_of(int(place.read("out"))) is not None


async def test_a_terminal_can_be_filled_in_both_directions_at_once(place: Place) -> None:
    async with cleaned(place) as driver:
        handle = await place.start("/bin/sleep", "1000")
        async with driver.session(handle, ["sh", "-c", "stty raw -echo; echo go; head -c 500000 | wc -c"], is_tty=True) as session:
            output = session.output()
            got = b""
            while b"go" not in got:
                got += (await anext(output))[1]
            await session.write(b"x" * 500_000)
            async for _, data in output:
                got += data
            assert (got.split()[-1], await session.ended()) == (b"500000", 0)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"command": "no-such-command"}, "was not found in the task's directory or in PATH"),
        ({"command": "/no/such"}, "was not found"),
        ({"command": "/etc"}, "is a directory"),
        ({"command": "/etc/passwd"}, "is not executable"),
        ({"comand": "x"}, 'did you mean "command"'),
        ({"command": "sh", "args": "-c"}, "args must be a list"),
        ({}, "command is missing"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_a_task_that_cannot_run_is_refused_with_the_reason(
    place: Place, config: dict[str, Any], message: str
) -> None:
    async with cleaned(place) as driver:
        with pytest.raises(TaskRefused, match=message):
            await driver.start(place.task("x", config=config))


@pytest.mark.root
async def test_a_task_runs_as_its_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root becomes others")
    place = Place(tmp_path, use_cgroups=True)
    for path in (tmp_path, *tmp_path.parents[:2], tmp_path / "task"):
        path.chmod(0o755)
    async with cleaned(place) as driver:
        handle = await place.start("/usr/bin/id", "-un", user="nobody")
        assert (await driver.wait(handle)).code == 0
        assert place.read("out") == "nobody\n"
        with pytest.raises(TaskRefused, match="does not exist"):
            await driver.start(place.task("/bin/true", attempt=2, user="no-such-user"))


def test_a_command_is_looked_for_near_the_task_first(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    for path in (tmp_path / "tool", tmp_path / "local" / "sh"):
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    assert lookup("tool", tmp_path, "/bin") == str(tmp_path / "tool")
    assert lookup("local/sh", tmp_path, "/bin") == str(tmp_path / "local" / "sh")
    assert lookup("sh", tmp_path, "/bin") == str(tmp_path / "local" / "sh")
    assert lookup("ls", tmp_path, "/bin") == "/bin/ls"


def test_a_process_whose_name_holds_parentheses_is_read_and_half_a_line_is_not() -> None:
    tail = " ".join(["S", "1", "2", "33", *("0",) * 7, "150", "50", *("0",) * 6, "777", "0", "3"])
    stat = parse_stat(f"42 (a) b) {tail}\n")
    assert stat is not None
    assert (stat.process.pid, stat.process.start, stat.session, stat.state) == (42, 777, 33, "S")
    assert parse_stat("42 (a) S 1") is None
    assert parse_stat("") is None
