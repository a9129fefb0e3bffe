"""The docker driver on a real engine."""

import asyncio
import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.alloc_dir import DiskDirs
from agent.drivers.base import Bind, ExitResult, Handle, TaskStart
from agent.drivers.docker import Docker
from agent.drivers.docker_config import DockerRules
from agent.drivers.process import boot_id
from model.alloc import AllocatedPort, AllocId, ClientStatus
from model.errors import DriverBusy, TaskRefused
from model.job import JobType, Resources, RestartPolicy
from model.node import NodeId
from model.wire import nanoseconds
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.agent.life import AgentProcess, wait_for
from tests.components.consul import free_port
from tests.components.docker import IMAGE, engine

pytestmark = pytest.mark.docker

NODE = NodeId("node-of-tests")


@pytest.fixture(scope="module", autouse=True)
def running_engine() -> None:
    engine()


class Place:
    """One alloc's directories and one driver on them."""

    def __init__(self, home: Path, **rules: Any) -> None:
        self.home = home
        self.alloc_id = AllocId(str(uuid.uuid4()))
        self.dirs = DiskDirs(home / "allocs")
        (home / "allocs").mkdir(exist_ok=True)
        (home / "run").mkdir(exist_ok=True)
        self.dirs.build_alloc(self.alloc_id)
        self.dirs.build_task(self.alloc_id, "main", "", is_contained=True, has_secrets=False)
        self.driver = Docker(NODE, home / "run", rules=DockerRules(**rules))

    def task(
        self, *command: str, attempt: int = 1, config: dict[str, Any] | None = None, **more: Any
    ) -> TaskStart:
        dirs = self.dirs.task(self.alloc_id, "main")
        start = (
            {"image": IMAGE, "command": command[0], "args": list(command[1:])}
            if command
            else {"image": IMAGE}
        )
        fields: dict[str, Any] = {
            "alloc_id": self.alloc_id,
            "task_name": "main",
            "attempt": attempt,
            "config": {**start, **(config or {})},
            "env": {},
            "dirs": dirs,
            "stdout": dirs.logs / "main.stdout.0",
            "stderr": dirs.logs / "main.stderr.0",
            "resources": Resources(memory_mb=64),
        }
        return TaskStart(**(fields | more))

    def read(self, stream: str) -> str:
        path = self.dirs.task(self.alloc_id, "main").logs / f"main.{stream}.0"
        return path.read_text() if path.exists() else ""

    def remove(self) -> None:
        subprocess.run(["docker", "rm", "-fv", f"main-{self.alloc_id}"], capture_output=True)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.remove()


@asynccontextmanager
async def closing(driver: Docker) -> AsyncIterator[Docker]:
    try:
        yield driver
    finally:
        await driver.close()


def inspect(place: Place, template: str) -> str:
    command = ["docker", "inspect", "-f", template, f"main-{place.alloc_id}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def test_output_exit_code_and_directories_are_the_tasks_own(place: Place) -> None:
    script = "echo out; echo err >&2; pwd; echo $FOO > /alloc/data/seen; echo x > /local/l; echo y > /secrets/s; exit 3"
    async with closing(place.driver) as driver:
        handle = await driver.start(
            place.task("/bin/sh", "-c", script, env={"FOO": "bar"}, config={"work_dir": "/tmp"})
        )
        result = await driver.wait(handle)
        assert (result.code, result.signal, result.oom_killed) == (3, 0, False)
        assert result.ended_at > 0
        assert (place.read("stdout"), place.read("stderr")) == ("out\n/tmp\n", "err\n")
        dirs = place.dirs.task(place.alloc_id, "main")
        assert (dirs.shared / "data" / "seen").read_text() == "bar\n"
        assert (dirs.local / "l").exists()
        assert (dirs.secrets / "s").exists()
        await driver.destroy(handle)
        assert await driver.recover(handle) is False


async def test_a_second_start_of_an_attempt_finds_the_same_container(place: Place) -> None:
    async with closing(place.driver) as driver:
        task = place.task("/bin/sleep", "1000")
        handle = await driver.start(task)
        first = inspect(place, "{{.Id}} {{.State.StartedAt}}")
        assert await driver.start(task) == handle
        assert inspect(place, "{{.Id}} {{.State.StartedAt}}") == first
        later = await driver.start(place.task("/bin/sleep", "1000", attempt=2))
        assert inspect(place, "{{.Id}}") not in first
        assert await driver.recover(handle) is False
        assert await driver.recover(later) is True


async def test_a_stop_signals_first_and_kills_what_does_not_listen(place: Place) -> None:
    async with closing(place.driver) as driver:
        script = "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done"
        handle = await driver.start(place.task("/bin/sh", "-c", script))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(driver.wait(handle), name="wait")
            while "ready" not in place.read("stdout"):
                await asyncio.sleep(0.05)
            await driver.stop(handle, "", 1.0)
        assert waiting.result().code == 137
        assert "told" in place.read("stdout")


async def test_limits_reach_the_engine_and_a_task_over_them_is_oom_killed(place: Place) -> None:
    async with closing(place.driver) as driver:
        script = "x=0123456789abcdef; while :; do x=$x$x; done"
        resources = Resources(cpu=200, memory_mb=16)
        handle = await driver.start(place.task("/bin/sh", "-c", script, resources=resources))
        assert inspect(place, "{{.HostConfig.CpuShares}} {{.HostConfig.Memory}}") == f"200 {16 << 20}"
        result = await driver.wait(handle)
        assert result.oom_killed or result.code != 0


async def test_memory_max_is_the_limit_and_memory_what_is_kept_for_it(place: Place) -> None:
    async with closing(place.driver) as driver:
        resources = Resources(cpu=200, memory_mb=16, memory_max_mb=64)
        script = "x=$(head -c 25000000 /dev/zero | tr '\\0' x); echo ${#x}"
        handle = await driver.start(place.task("/bin/sh", "-c", script, resources=resources))
        limits = inspect(place, "{{.HostConfig.Memory}} {{.HostConfig.MemoryReservation}}")
        assert limits == f"{64 << 20} {16 << 20}"
        assert (await driver.wait(handle)).code == 0
        assert place.read("stdout").split() == ["25000000"]


async def test_a_task_with_cores_of_its_own_runs_on_no_others(place: Place) -> None:
    (*_, core) = sorted(os.sched_getaffinity(0))
    async with closing(place.driver) as driver:
        task = place.task("/bin/grep", "Cpus_allowed_list", "/proc/self/status", cores=(core,))
        handle = await driver.start(task)
        assert inspect(place, "{{.HostConfig.CpusetCpus}}") == str(core)
        assert (await driver.wait(handle)).code == 0
        assert place.read("stdout").split() == ["Cpus_allowed_list:", str(core)]


async def test_a_host_volume_is_seen_and_written_to_unless_it_is_read_only(place: Place) -> None:
    volume = place.home / "volume"
    volume.mkdir()
    (volume / "here").write_text("kept")
    binds = (
        Bind(source=str(volume), target="/data"),
        Bind(source=str(volume), target="/ro", is_read_only=True),
    )
    script = "cat /ro/here; echo new > /data/written; echo no > /ro/refused || exit 7"
    async with closing(place.driver) as driver:
        handle = await driver.start(place.task("/bin/sh", "-c", script, binds=binds))
        propagation = inspect(place, "{{range .Mounts}}{{.Destination}}={{.Propagation}} {{end}}").split()
        assert {"/data=rprivate", "/ro=rprivate"} <= set(propagation)
        assert (await driver.wait(handle)).code == 7
    assert (place.read("stdout"), (volume / "written").read_text()) == ("kept", "new\n")
    assert not (volume / "refused").exists()


async def test_what_is_mounted_below_a_host_volume_later_is_seen_as_its_mount_says(place: Place) -> None:
    bind = Bind(source=str(place.home), target="/data", propagation="rslave")
    async with closing(place.driver) as driver:
        with suppress(TaskRefused):  # the engine refuses it where the directory's own mount is private to its namespace
            await driver.start(place.task("/bin/true", binds=(bind,)))
        assert inspect(place, "{{range .HostConfig.Mounts}}{{.BindOptions.Propagation}}{{end}}") == "rslave"


async def test_a_host_volume_whose_directory_is_gone_is_told_and_not_made(place: Place) -> None:
    gone = place.home / "gone"
    async with closing(place.driver) as driver:
        with pytest.raises(TaskRefused, match=str(gone)):
            await driver.start(place.task("/bin/true", binds=(Bind(source=str(gone), target="/data"),)))
    assert not gone.exists()


async def test_one_number_is_published_on_two_addresses(place: Place) -> None:
    number = free_port()
    ports = tuple(AllocatedPort(label=label, value=number, to=8080, host_ip=ip) for label, ip in (("a", "127.0.0.1"), ("b", "127.0.0.2")))
    async with closing(place.driver) as driver:
        task = place.task("/bin/httpd", "-f", "-p", "8080", ports=ports, config={"ports": ["a", "b"]})
        await driver.start(task)
        bound = inspect(place, '{{range index .NetworkSettings.Ports "8080/tcp"}}{{.HostIp}}:{{.HostPort}} {{end}}').split()
        assert sorted(bound) == [f"127.0.0.1:{number}", f"127.0.0.2:{number}"]


async def test_a_named_port_is_published_and_an_unknown_one_is_refused(place: Place) -> None:
    port = AllocatedPort(label="http", value=free_port(), to=8080, host_ip="127.0.0.1")
    async with closing(place.driver) as driver:
        config = {"ports": ["http"]}
        await driver.start(place.task("/bin/httpd", "-f", "-p", "8080", ports=(port,), config=config))
        assert inspect(place, "{{json .HostConfig.PortBindings}}").count(str(port.value)) == 2
        with pytest.raises(TaskRefused, match="did you mean"):
            await driver.start(place.task("/bin/true", attempt=2, ports=(port,), config={"ports": ["htp"]}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"comand": "x"}, 'did you mean "command"'),
        ({"privileged": True}, "allow_privileged"),
        ({"cap_add": ["sys_admin"]}, "allow_caps"),
        ({"volumes": ["/etc:/x"]}, "volumes.enabled"),
        ({"mounts": [{"type": "nfs", "target": "/x"}]}, "no type 'nfs'"),
        ({"init": "perhaps"}, "init"),
        ({"image": ""}, "image is missing"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_is_wrong_or_not_allowed_is_refused_by_name(
    place: Place, config: dict[str, Any], message: str
) -> None:
    async with closing(place.driver) as driver:
        with pytest.raises(TaskRefused, match=message):
            await driver.start(place.task("/bin/true", config=config))


async def test_an_image_that_cannot_be_pulled_is_told_in_the_engines_words(place: Place) -> None:
    said: list[str] = []
    async with closing(place.driver) as driver:
        with pytest.raises(TaskRefused, match="no-such-registry"):
            await driver.start(
                place.task("/bin/true", config={"image": "no-such-registry.invalid/x:1"}, say=said.append)
            )
        assert said == ["Downloading image no-such-registry.invalid/x:1"]


async def test_a_download_is_told_of_only_when_there_is_one(place: Place) -> None:
    said: list[str] = []
    async with closing(place.driver) as driver:  # :latest is asked for at its registry; the one that is here does
        await driver.start(place.task("/bin/true", say=said.append))
    assert said == []


async def test_options_of_the_network_and_the_host_reach_the_engine(place: Place) -> None:
    async with closing(place.driver) as driver:
        config = {"mac_address": "02:42:ac:11:00:99", "runtime": "runc", "group_add": ["12"]}
        await driver.start(place.task("/bin/sleep", "1000", config=config))
        assert inspect(place, "{{.Config.MacAddress}} {{.HostConfig.Runtime}}") == "02:42:ac:11:00:99 runc"
        assert inspect(place, "{{.HostConfig.GroupAdd}}") == "[12]"
        with pytest.raises(TaskRefused, match="allow_runtimes"):
            await driver.start(place.task("/bin/true", attempt=2, config={"runtime": "kata"}))


async def test_a_command_runs_inside_the_container_and_stats_are_read(place: Place) -> None:
    async with closing(place.driver) as driver:
        handle = await driver.start(place.task("/bin/sleep", "1000", env={"FOO": "bar"}))
        assert await driver.execute(handle, ["/bin/sh", "-c", "echo $FOO; exit 4"], 10.0) == (4, b"bar\n")
        code, _ = await driver.execute(handle, ["/bin/sleep", "100"], 0.3)
        assert code == 124
        assert (await driver.stats(handle)).memory_bytes > 0
        assert [found["Labels"]["drover.task"] for found in await driver.leftovers()].count("main") >= 1


async def test_an_engine_that_is_away_is_busy_and_no_end(tmp_path: Path) -> None:
    driver = Docker(NODE, tmp_path, endpoint=f"unix://{tmp_path}/nobody.sock")
    handle = Handle(driver="docker", alloc_id=AllocId("a"), task_name="t", attempt=1, boot_id=boot_id())
    async with closing(driver):
        assert (await driver.fingerprint()).healthy is False
        for call in (driver.recover(handle), driver.wait(handle), driver.stop(handle, "", 1.0)):
            with pytest.raises(DriverBusy):
                await call


async def test_output_is_taken_up_where_a_killed_agent_left_it(place: Place) -> None:
    """Followers are cancelled at odd moments, and one as if between the write and its record."""
    count = 3000
    script = f"i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); done"
    async with closing(place.driver) as driver:
        handle = await driver.start(place.task("/bin/sh", "-c", script))
        for wait_s in (0.05, 0.1, 0.02):
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await driver.wait(handle)
            path = place.dirs.task(place.alloc_id, "main").logs / "main.stdout.0"
            if path.exists():
                with path.open("ab") as file:
                    file.write(b"appended without a record\n")
        assert await driver.wait(handle) == await driver.wait(handle)
        assert place.read("stdout") == "".join(f"line {number}\n" for number in range(count))


@pytest.fixture
def life(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path)
    yield process
    process.kill()
    for path in tmp_path.glob("data/alloc*/*"):
        subprocess.run(["docker", "rm", "-fv", f"main-{path.name}"], capture_output=True)


def test_a_killed_agent_finds_its_containers_again_and_tells_true_exit_codes(life: AgentProcess) -> None:
    once = RestartPolicy(attempts=0, interval=nanoseconds(60))
    script = "echo begun; while [ ! -e /alloc/data/go ]; do sleep 0.05; done; echo done; exit 5"
    task = a_task(
        driver="docker",
        restart_policy=once,
        config={"image": IMAGE, "command": "/bin/sh", "args": ["-c", script]},
    )
    job = a_job(task, job_type=JobType.BATCH)
    allocs = [an_alloc(number, job, id=AllocId(str(uuid.uuid4()))) for number in range(3)]
    life.store.add_job(job)
    life.start("--docker")
    life.store.want(*allocs)
    for alloc in allocs:
        life.store.wait_observed(alloc.id, ClientStatus.RUNNING)
    template = "{{.Id}} {{.State.StartedAt}} {{.RestartCount}}"

    def containers() -> list[str]:
        names = [f"main-{alloc.id}" for alloc in allocs]
        return subprocess.run(
            ["docker", "inspect", "-f", template, *names], capture_output=True, text=True, check=True
        ).stdout.split("\n")

    before = containers()
    life.kill()
    (life.data_dir.glob(f"alloc*/{allocs[0].id}/alloc/data").__next__() / "go").touch()
    wait_for(
        lambda: (
            None
            if subprocess.run(
                ["docker", "inspect", "-f", "{{.State.Running}}", f"main-{allocs[0].id}"], capture_output=True
            ).stdout.startswith(b"true")
            else True
        ),
        "the container's end",
    )
    life.start("--docker")
    seen = life.store.wait_observed(allocs[0].id, ClientStatus.FAILED)
    (end,) = [event for event in seen.task_states["main"].events if event.type == "Terminated"]
    assert end.exit_code == 5
    logs = next(life.data_dir.glob(f"alloc*/{allocs[0].id}/alloc/logs"))
    assert (logs / "main.stdout.0").read_text() == "begun\ndone\n"
    assert containers() == before
    assert ExitResult(code=0).is_success
