"""A task that plants things where root will write, read, mount or start something: nothing of the machine is touched, and
nothing of the task's runs as root."""

import asyncio
import os
import re
import shutil
import stat as modes
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agent import logs
from agent.alloc_dir import DiskDirs
from agent.drivers.base import Bind, Handle, SeenDirs, StartFailed, TaskDirs, TaskStart
from agent.drivers.docker import Docker
from agent.drivers.exec import Exec
from agent.drivers.raw_exec import RawExec
from agent.env import TaskEnv
from agent.hooks.base import TaskContext
from agent.hooks.payload import PayloadHook
from agent.logs import current, rotate, stream_of
from model.alloc import AllocId
from model.errors import TaskRefused
from model.job import DispatchPayload, Resources
from model.node import NodeId
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.components import debian
from tests.components.docker import IMAGE, engine
from tests.conftest import or_skip

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="only root has anything to lose")]

NOBODY = 65534
WORDS = "root's own\n"


class Stage:
    """One alloc with one task, and a file of root's outside of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("run", "allocs", "outside"):
            (home / name).mkdir()
        self.secret = home / "outside" / "file"
        self.secret.write_text(WORDS)
        self.secret.chmod(0o600)
        self.alloc_id = AllocId(str(uuid.uuid4()))
        self.disk = DiskDirs(home / "allocs")
        self.build()
        self.handles: list[tuple[RawExec, Handle]] = []

    def build(self, user: str = "nobody") -> None:
        self.disk.build_alloc(self.alloc_id)
        self.disk.build_task(self.alloc_id, "main", user, is_contained=False, has_secrets=False)

    @property
    def dirs(self) -> TaskDirs:
        return self.disk.task(self.alloc_id, "main")

    @property
    def log(self) -> Path:
        return self.dirs.logs / "main.stdout.0"

    def said(self, stream: str = "stdout") -> str:
        return (self.dirs.logs / f"main.{stream}.0").read_text(errors="replace")

    def task(self, script: str, **more: Any) -> TaskStart:
        fields: dict[str, Any] = {
            "alloc_id": self.alloc_id,
            "task_name": "main",
            "attempt": len(self.handles) + 1,
            "config": {"command": "/bin/sh", "args": ["-c", script]},
            "env": {},
            "dirs": self.dirs,
            "stdout": self.log,
            "stderr": self.dirs.logs / "main.stderr.0",
            "resources": Resources(cpu=100, memory_mb=64),
            "user": "nobody",
        }
        return TaskStart(**(fields | more))

    async def start(self, driver: RawExec, script: str, **more: Any) -> Handle:
        handle = await driver.start(self.task(script, **more))
        self.handles.append((driver, handle))
        return handle

    def is_untouched(self) -> bool:
        status = self.secret.stat()
        is_same = (status.st_uid, modes.S_IMODE(status.st_mode), self.secret.read_text()) == (0, 0o600, WORDS)
        return is_same and os.listdir(self.home / "outside") == ["file"]


@pytest.fixture
def stage() -> Iterator[Stage]:
    home = Path(tempfile.mkdtemp(prefix="drover-hostile-"))
    home.chmod(0o755)
    try:
        yield Stage(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def cleaned(stage: Stage) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for driver, handle in stage.handles:
            await driver.destroy(handle)
    assert list((stage.home / "run").iterdir()) == []


@pytest.fixture(params=[RawExec, Exec], ids=["raw_exec", "exec"])
def driver(request: pytest.FixtureRequest, stage: Stage) -> RawExec:
    if request.param is Exec:
        or_skip(lambda: debian.command("bwrap", "bubblewrap"))
    made: RawExec = request.param(stage.home / "run", dict(os.environ))
    return made


# ---- in place of a log


def _directory(path: Path, _: Path) -> None:
    path.mkdir()


PLANTS: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda path, target: path.symlink_to(target),
    "a link to nothing": lambda path, target: path.symlink_to(target.with_name("new")),
    "a second name": lambda path, target: path.hardlink_to(target),
    "a fifo": lambda path, _: os.mkfifo(path),
    "a device": lambda path, _: os.mknod(path, 0o666 | modes.S_IFCHR, os.makedev(1, 3)),
    "a directory": _directory,
}


@pytest.fixture(params=PLANTS)
def plant(request: pytest.FixtureRequest, stage: Stage) -> Callable[[Path], object]:
    return lambda path: PLANTS[request.param](path, stage.secret)


async def test_nothing_is_written_to_what_lies_in_a_logs_place(stage: Stage, plant: Callable[[Path], object]) -> None:
    plant(stage.log)
    driver = RawExec(stage.home / "run", dict(os.environ))
    async with cleaned(stage):
        with pytest.raises(StartFailed, match=r"cannot write to .*main\.stdout\.0"):
            await stage.start(driver, "echo taken")
        if stage.log.is_dir():
            stage.log.rmdir()
        else:
            stage.log.unlink()
        handle = await stage.start(driver, "echo held")
        assert (await driver.wait(handle)).code == 0
        assert stage.said() == "held\n"
    assert stage.is_untouched()


def test_what_lies_in_a_logs_place_is_not_read_for_anybody(stage: Stage, plant: Callable[[Path], object]) -> None:
    stem = stage.log.with_name("main.stdout")
    stage.log.write_text("before\n")
    plant(stage.log.with_name("main.stdout.1"))
    stream = stream_of(stem)
    piece = stream.read(0, 1000)
    assert piece is not None
    assert piece.data == b"before\n"
    assert stream.read(piece.position, 1000) is None
    assert stream.bounds() == (0, len("before\n"))


def test_a_cut_writes_into_no_planted_head(stage: Stage) -> None:
    stem = stage.log.with_name("main.stdout")
    stage.log.write_bytes(b"x" * 20_000)
    (stage.dirs.logs / ".main.stdout.head").symlink_to(stage.secret)
    (stage.dirs.logs / f".probe.{os.getpid()}").symlink_to(stage.secret)
    logs._collapsible.pop(os.stat(stage.dirs.logs).st_dev, None)
    rotate(stream_of(stem), 10, 4096)
    assert current(stem).stat().st_size <= 4096
    assert stage.is_untouched()


def test_a_link_in_place_of_the_log_directory_leads_nowhere(stage: Stage) -> None:
    (stage.home / "outside" / "main.stdout.0").write_bytes(b"x" * 20_000)
    stage.dirs.logs.rmdir()
    stage.dirs.logs.symlink_to(stage.home / "outside")
    stem = stage.dirs.logs / "main.stdout"
    assert stream_of(stem).read(0, 1000) is None
    with pytest.raises(OSError, match="is no directory"):
        rotate(stream_of(stem), 1, 4096)
    assert (stage.home / "outside" / "main.stdout.0").stat().st_size == 20_000
    with pytest.raises(StartFailed, match="is no directory"):
        stage.build()


@pytest.mark.docker
async def test_a_containers_output_goes_into_no_link_of_its_own(stage: Stage) -> None:
    or_skip(engine)
    driver = Docker(NodeId("hostile"), stage.home / "run")
    script = f"ln -s {stage.secret} /alloc/logs/main.stdout.0; echo taken; rm /alloc/data/go; while [ ! -e /alloc/data/go ]; do sleep 0.05; done"
    task = stage.task(script, config={"image": IMAGE, "command": "/bin/sh", "args": ["-c", script]}, user="")
    (stage.dirs.shared / "data" / "go").touch()
    handle = await driver.start(task)
    try:
        async with asyncio.timeout(60.0), asyncio.TaskGroup() as group:
            waiting = group.create_task(driver.wait(handle), name="wait")
            while (stage.dirs.shared / "data" / "go").exists():
                await asyncio.sleep(0.02)
            (stage.dirs.shared / "data" / "go").touch()
            assert (await waiting).code == 0
        assert stage.is_untouched()
    finally:
        await driver.destroy(handle)
        await driver.close()


# ---- the environment on the way to the task

ODD = {"OPTIND": "none", "UID": "7", "NOMAD_META_a.b": "it's $x", "1c": "y", "IFS": "/", "PS4": "$(id)", "LONG": "x" * 100_000}


async def test_no_program_on_the_way_minds_the_jobs_environment(stage: Stage, driver: RawExec) -> None:
    async with cleaned(stage):
        config = {"command": "/usr/bin/env"}
        handle = await stage.start(driver, "", config=config, env={"LD_DEBUG": "libs", **ODD})
        assert (await driver.wait(handle)).code == 0, stage.said("stderr")
        assert {Path(one).name for one in _loaded(stage.said("stderr"))} == {"env"}
        assert {f"{name}={value}" for name, value in ODD.items()} <= set(stage.said().splitlines())
        assert "DROVER_BECOMING" not in stage.said()


async def test_nor_does_one_on_the_way_to_a_command_beside_it(stage: Stage, driver: RawExec) -> None:
    async with cleaned(stage):
        config = {"command": "/bin/sleep", "args": ["1000"]}
        handle = await stage.start(driver, "", config=config, env={"LD_DEBUG": "libs", "BASH_ENV": "/nonexistent", "A.b": "c"})
        code, said = await driver.execute(handle, ["/usr/bin/env"], 30.0)
        assert code == 0
        # The odd name goes through an `env` of its own.
        assert {Path(one).name for one in _loaded(said.decode())} == {"env"}
        assert b"\nA.b=c\n" in said
        async with driver.session(handle, ["/usr/bin/id", "-u"], is_tty=False) as session:
            said = b"".join([data async for _, data in session.output()])
            assert await session.ended() == 0
        assert {Path(one).name for one in _loaded(said.decode())} == {"env", "id"}


def _loaded(said: str) -> list[str]:
    """What told, by LD_DEBUG, that it was loaded with the job's environment."""
    return re.findall(r"initialize program: (\S+)", said)


# ---- in place of a directory


@pytest.mark.parametrize("name", ["local", "secrets", "tmp"])
def test_a_directory_of_the_task_that_became_a_link_is_not_built_on(stage: Stage, name: str) -> None:
    place = stage.dirs.task / name
    place.rmdir()
    for target in (stage.home / "outside", stage.secret, stage.home / "outside" / "new"):
        place.symlink_to(target)
        with pytest.raises(StartFailed, match=f"/{name} is no directory"):
            stage.build()
        place.unlink()
    assert stage.is_untouched()
    assert (stage.home / "outside").stat().st_uid == 0


@pytest.mark.parametrize("name", ["usr", "proc", "alloc", "etc", "local/volume"])
async def test_nothing_is_mounted_where_a_link_leads(stage: Stage, name: str) -> None:
    or_skip(lambda: debian.command("bwrap", "bubblewrap"))
    driver = Exec(stage.home / "run", dict(os.environ))
    place = stage.dirs.task / name
    place.symlink_to(stage.home / "outside" / "new")
    bind = Bind(source=str(stage.dirs.shared), target="/local/volume/below")
    async with cleaned(stage):
        with pytest.raises(StartFailed, match=f"/{name} is no directory"):
            await stage.start(driver, "true", binds=(bind,))
        place.unlink()
        handle = await stage.start(driver, "test -d /local/volume/below/data", binds=(bind,))
        assert (await driver.wait(handle)).code == 0
    assert stage.is_untouched()


async def test_a_payload_is_written_through_no_link(stage: Stage) -> None:
    task = a_task(driver="exec", user="nobody", dispatch_payload=DispatchPayload(file="in/put"))
    job = a_job(task)
    seen = SeenDirs(alloc="/alloc", local="/local", secrets="/secrets")
    variables = {"NOMAD_ALLOC_DIR": seen.alloc, "NOMAD_TASK_DIR": seen.local, "NOMAD_SECRETS_DIR": seen.secrets}
    context = TaskContext(
        desired=an_alloc(0, job),
        job=_dispatched(job),
        group=job.task_groups[0],
        task=task,
        dirs=stage.dirs,
        env=lambda: TaskEnv(variables=variables, values=variables),
        say=lambda *_: None,
        waits=lambda _: None,
    )
    (stage.dirs.local / "in").symlink_to(stage.home / "outside")
    with pytest.raises(TaskRefused):
        await PayloadHook().prepare(context)
    (stage.dirs.local / "in").unlink()
    (stage.dirs.local / "in").mkdir()
    (stage.dirs.local / "in" / "put").symlink_to(stage.secret)
    await PayloadHook().prepare(context)
    assert (stage.dirs.local / "in" / "put").read_text() == "hello"
    assert (stage.dirs.local / "in" / "put").stat().st_uid == NOBODY
    assert stage.is_untouched()


def _dispatched(job: Any) -> Any:
    from msgspec.structs import replace

    return replace(job, dispatched=True, payload="aGVsbG8=")


# ---- commands beside a task


async def test_a_command_beside_a_task_that_has_only_just_started_is_its_users(stage: Stage, driver: RawExec) -> None:
    async with cleaned(stage):
        for _ in range(8):
            handle = await stage.start(driver, "exec sleep 1000")
            code, said = await driver.execute(handle, ["/usr/bin/id", "-u"], 30.0)
            assert (code, said) == (0, b"65534\n")


async def test_a_command_beside_a_task_that_cannot_be_traced_is_its_users(stage: Stage, driver: RawExec) -> None:
    script = "import ctypes, time; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print('ready', flush=True); time.sleep(1000)"
    async with cleaned(stage):
        handle = await stage.start(driver, "", config={"command": "/usr/bin/python3", "args": ["-c", script]})
        await _until(lambda: "ready" in stage.said())
        code, said = await driver.execute(handle, ["/usr/bin/id", "-u"], 30.0)
        assert (code, said) == (0, b"65534\n")
        async with driver.session(handle, ["/usr/bin/id", "-u"], is_tty=True) as session:
            said = b"".join([data async for _, data in session.output()])
        assert said.strip() == b"65534"


async def test_programs_that_a_task_put_in_the_systems_place_run_as_nobody_else(stage: Stage) -> None:
    """In a mount namespace of its own, which `alloc exec` enters as root."""
    or_skip(lambda: debian.command("bwrap", "bubblewrap"))
    driver = Exec(stage.home / "run", dict(os.environ))
    evil = '#!/bin/busybox sh\\nbusybox id -u >> /alloc/data/who\\n'
    script = (
        f"printf '{evil}' > /local/evil; chmod 755 /local/evil; exec unshare -Urm sh -c '"
        "for one in /usr/bin/setpriv /usr/bin/env /usr/bin/id /usr/bin/nsenter; do mount --bind /local/evil $one; done; "
        "echo ready; exec sleep 1000'"
    )
    async with cleaned(stage):
        handle = await stage.start(driver, script)
        with suppress(TimeoutError):
            async with asyncio.timeout(20.0):
                await _until(lambda: "ready" in stage.said())
        if "ready" not in stage.said():
            pytest.skip(f"no user namespaces here: {stage.said('stderr')}")
        code, said = await driver.execute(handle, ["/usr/bin/id", "-u"], 30.0)
        who = stage.dirs.shared / "data" / "who"
        assert set(who.read_text().split()) == {str(NOBODY)}, (code, said)


async def _until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(60.0):
        while not fact():
            await asyncio.sleep(0.02)
