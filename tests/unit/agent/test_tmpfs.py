"""Secrets are in memory: mounted before anything is written, gone with the alloc, and back after a reboot."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agent import tmpfs
from agent.alloc_dir import DiskDirs
from agent.data_dir import DataDir, remove_data_dir
from model.alloc import AllocId
from model.errors import TaskRefused

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")

ALLOC = AllocId("a1")


@pytest.fixture
def dirs(tmp_path: Path) -> DiskDirs:
    found = DiskDirs(tmp_path)
    found.build_alloc(ALLOC)
    return found


def _mounted(root: Path) -> list[str]:
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{root}/" in line]


async def test_a_task_with_secrets_has_them_in_memory(dirs: DiskDirs, tmp_path: Path) -> None:
    dirs.build_task(ALLOC, "web", "nobody", is_contained=False, has_secrets=True)
    dirs.build_task(ALLOC, "other", "", is_contained=False, has_secrets=False)
    secrets = dirs.task(ALLOC, "web").secrets
    assert tmpfs.is_in_memory(secrets)
    assert not tmpfs.is_in_memory(dirs.task(ALLOC, "other").secrets)
    assert (secrets.stat().st_mode & 0o777, secrets.owner()) == (0o700, "nobody")
    (secrets / "token").write_text("s")
    dirs.build_task(ALLOC, "web", "nobody", is_contained=False, has_secrets=True)
    assert (secrets / "token").read_text() == "s"
    assert _mounted(tmp_path) == [str(secrets)]
    await dirs.remove(ALLOC)
    assert (_mounted(tmp_path), list(tmp_path.iterdir())) == ([], [])


def test_who_is_contained_has_secrets_that_only_the_container_sees(dirs: DiskDirs) -> None:
    dirs.build_task(ALLOC, "web", "1234", is_contained=True, has_secrets=True)
    found = dirs.task(ALLOC, "web")
    assert (found.task.stat().st_mode & 0o777, found.secrets.stat().st_mode & 0o777) == (0o700, 0o777)
    tmpfs.unmount(found.secrets)


async def test_a_reboot_takes_the_secrets_and_the_next_start_mounts_anew(dirs: DiskDirs) -> None:
    dirs.build_task(ALLOC, "web", "", is_contained=False, has_secrets=True)
    secrets = dirs.task(ALLOC, "web").secrets
    (secrets / "token").write_text("s")
    tmpfs.unmount(secrets)
    assert list(secrets.iterdir()) == []
    dirs.build_task(ALLOC, "web", "", is_contained=False, has_secrets=True)
    assert tmpfs.is_in_memory(secrets)
    await dirs.remove(ALLOC)


async def test_secrets_that_a_process_holds_open_are_unmounted_all_the_same(dirs: DiskDirs, tmp_path: Path) -> None:
    dirs.build_task(ALLOC, "web", "", is_contained=False, has_secrets=True)
    with (dirs.task(ALLOC, "web").secrets / "token").open("w"):
        await dirs.remove(ALLOC)
    assert (_mounted(tmp_path), list(tmp_path.iterdir())) == ([], [])


def test_a_data_dir_goes_with_all_that_is_mounted_in_it(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with DataDir(path) as data:
        data.secrets.mkdir()
        tmpfs.mount(data.secrets, mode=0o700, size_mb=1)
        dirs = DiskDirs(data.allocs)
        dirs.build_alloc(ALLOC)
        dirs.build_task(ALLOC, "web", "", is_contained=False, has_secrets=True)
        assert len(_mounted(path)) == 2
    remove_data_dir(path)
    assert (_mounted(path), path.exists()) == ([], False)


def test_only_an_existing_directory_can_be_mounted_over(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        tmpfs.mount(tmp_path / "none", mode=0o700, size_mb=1)
    (tmp_path / "link").symlink_to("/srv")
    with pytest.raises(OSError, match="Not a directory"):
        tmpfs.mount(tmp_path / "link", mode=0o700, size_mb=1)
    tmpfs.unmount(tmp_path)


def test_what_is_in_memory_of_a_dead_task_goes_and_the_rest_stays(dirs: DiskDirs) -> None:
    dirs.build_task(ALLOC, "web", "", is_contained=False, has_secrets=True)
    found = dirs.task(ALLOC, "web")
    (found.secrets / "token").write_text("s")
    (found.local / "out").write_text("x")
    for _ in range(2):
        dirs.forget_secrets(ALLOC, "web")
    assert (os.path.ismount(found.secrets), list(found.secrets.iterdir()), (found.local / "out").read_text()) == (False, [], "x")
    dirs.forget_secrets(ALLOC, "never built")


def test_the_directory_that_is_written_through_is_looked_at(dirs: DiskDirs) -> None:
    dirs.build_task(ALLOC, "web", "", is_contained=False, has_secrets=True)
    secrets = dirs.task(ALLOC, "web").secrets
    held = os.open(secrets, os.O_PATH | os.O_DIRECTORY)
    try:
        assert (tmpfs.is_in_memory(held), tmpfs.is_in_memory(secrets)) == (True, True)
        tmpfs.unmount(secrets)
        assert (tmpfs.is_in_memory(held), tmpfs.is_in_memory(secrets)) == (True, False)
    finally:
        os.close(held)


@pytest.mark.parametrize("is_root", [True, False], ids=["root without CAP_SYS_ADMIN", "not root"])
def test_who_may_not_mount_has_secrets_only_where_the_data_dir_is_in_memory(
    dirs: DiskDirs, is_root: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(tmpfs, "mount", refused)
    if not is_root:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    dirs.build_task(ALLOC, "web", "", is_contained=False, has_secrets=True)
    with pytest.raises(TaskRefused, match="on a disk, where no secret may be: run the agent as root with CAP_SYS_ADMIN"):
        dirs.check_memory(ALLOC, "web")
    with TemporaryDirectory(dir="/dev/shm") as name:
        in_memory = DiskDirs(Path(name))
        in_memory.build_alloc(ALLOC)
        in_memory.build_task(ALLOC, "web", "", is_contained=False, has_secrets=True)
        in_memory.check_memory(ALLOC, "web")
        (in_memory.task(ALLOC, "web").secrets / "token").write_text("s")
        in_memory.forget_secrets(ALLOC, "web")
        assert list(in_memory.task(ALLOC, "web").secrets.iterdir()) == []


@pytest.mark.parametrize("propagation", ["private", "slave"])
def test_an_agent_in_a_mount_namespace_of_its_own_is_told_apart(propagation: str, tmp_path: Path) -> None:
    init = Path(f"/proc/{os.getpid()}")
    text = f"from pathlib import Path; from agent import tmpfs; print(tmpfs.is_apart(Path({str(tmp_path)!r}), Path({str(init)!r})))"
    ran = subprocess.run(
        ["unshare", "-m", "--propagation", propagation, sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False
    )
    if ran.returncode != 0:
        pytest.skip(f"no namespaces here: {ran.stderr.strip()[-200:]}")
    assert (ran.stdout.strip(), tmpfs.is_apart(tmp_path, init)) == ("True", False)
