"""Which directories of the host does a container get to see?"""

from pathlib import Path

import pytest

from agent.drivers.base import TaskDirs, TaskStart
from agent.drivers.docker_config import DockerRules, container, parse_config
from model.alloc import AllocId
from model.errors import TaskRefused
from model.job import Resources


@pytest.fixture
def alloc(tmp_path: Path) -> Path:
    for name in ("alloc/logs", "t/local/conf", "t/secrets"):
        (tmp_path / "a" / name).mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return tmp_path / "a"


def binds(alloc: Path, *volumes: str, enabled: bool = False) -> list[str]:
    config = {"image": "x", "volumes": list(volumes)}
    task = TaskStart(
        alloc_id=AllocId("a"), task_name="t", attempt=1, config=config, env={},
        dirs=TaskDirs(shared=alloc / "alloc", task=alloc / "t", local=alloc / "t/local", secrets=alloc / "t/secrets"),
        stdout=alloc / "out", stderr=alloc / "err", resources=Resources(),
    )  # fmt: skip
    made = container(task, parse_config(config), DockerRules(volumes_enabled=enabled), {})
    found: list[str] = made["HostConfig"]["Binds"]
    return found


@pytest.mark.parametrize("enabled", [False, True])
def test_directories_of_the_alloc_are_shown(alloc: Path, enabled: bool) -> None:
    found = binds(alloc, "local/conf:/conf", "../alloc/logs:/logs", "local:/local", enabled=enabled)
    assert {f"{alloc}/t/local/conf:/conf", f"{alloc}/alloc/logs:/logs", f"{alloc}/t/local:/local"} <= set(found)


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("source", ["x", "./x", "local/x/etc", "local/x"])
def test_a_link_that_the_task_made_leads_nowhere(alloc: Path, source: str, enabled: bool) -> None:
    for link in ("t/x", "t/local/x"):
        (alloc / link).symlink_to("/")
    with pytest.raises(TaskRefused, match="symbolic link"):
        binds(alloc, f"{source}:/host", enabled=enabled)


def test_what_is_outside_needs_the_operators_leave(alloc: Path) -> None:
    for source in ("/etc", "../../outside"):
        with pytest.raises(TaskRefused, match="outside the alloc"):
            binds(alloc, f"{source}:/x")
        assert any(bind.endswith(":/x") for bind in binds(alloc, f"{source}:/x", enabled=True))
