"""Which file is a command, and when is one made executable?"""

import os
from pathlib import Path

import pytest

from agent.drivers.command import lookup
from model.errors import TaskRefused


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Its alloc's directory is `alloc`; beside it lies what is not its own."""
    made = tmp_path / "alloc/t"
    (made / "local").mkdir(parents=True)
    (made / "local/run").write_text("#!/bin/sh\n")
    (made / "local/run").chmod(0o640)
    (tmp_path / "other").write_text("#!/bin/sh\n")
    (tmp_path / "other").chmod(0o600)
    return made


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("command", ["run", "local/run", "./local/run", "{task}/local/run", "{task}/../t/local/run", "link"])
def test_a_file_of_the_alloc_is_made_executable(command: str, task: Path) -> None:
    (task / "link").symlink_to("local/run")
    found = lookup(command.format(task=task), task, "/usr/bin:/bin", alloc=task.parent)
    assert os.path.samefile(found, task / "local/run")
    assert _mode(task / "local/run") == 0o755


def test_only_at_a_start(task: Path) -> None:
    with pytest.raises(TaskRefused, match="is not executable"):
        lookup("run", task, "/usr/bin:/bin")
    assert _mode(task / "local/run") == 0o640


@pytest.mark.parametrize("kind", ["link", "relative link", "link above", "second name", "absolute"])
def test_what_is_not_the_allocs_alone_stays_as_it_is(kind: str, task: Path, tmp_path: Path) -> None:
    other, command = tmp_path / "other", "bad"
    if kind == "link":
        (task / "bad").symlink_to(other)
    elif kind == "relative link":
        (task / "bad").symlink_to("../../other")
    elif kind == "link above":
        (task / "d").symlink_to(tmp_path)
        command = "d/other"
    elif kind == "second name":
        os.link(other, task / "bad")
    else:
        command = f"{task}/../../other"
    with pytest.raises(TaskRefused, match="is not executable"):
        lookup(command, task, "/usr/bin:/bin", alloc=task.parent)
    assert _mode(other) == 0o600
