"""Saving a real cluster's state, and asking offline where jobs would run."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, drover, marking_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

JOB = """job "{name}" {{
  datacenters = ["dc1"]
  group "g" {{
    count = {count}
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/true"
      }}
      resources {{
        cpu    = 10
        memory = {memory}
      }}
    }}
  }}
}}
"""


@pytest.fixture(scope="module")
def one() -> Iterator[Drover]:
    room = "client { memory_total_mb = 1000 }"
    with or_skip(lambda: ConsulServer().__enter__()) as consul, Drover(consul, settings=room) as started:
        started.wait_ready()
        yield started


def file(folder: Path, name: str, *, count: int = 1, memory: int = 100) -> str:
    path = folder / f"{name}.hcl"
    path.write_text(JOB.format(name=name, count=count, memory=memory))
    return str(path)


def test_a_saved_cluster_tells_offline_what_fits_beside_what_runs(one: Drover, tmp_path: Path) -> None:
    one.submit(marking_job("runs", count=2, Resources={"CPU": 10, "MemoryMB": 300}))
    one.wait_running("runs", 2)
    target = tmp_path / "state.snap"
    done = one.run("operator", "snapshot", "save", str(target))
    assert (done.returncode, done.stderr) == (0, "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.snap"]
    shown = drover("operator", "snapshot", "inspect", str(target))
    assert shown.returncode == 0
    assert [line.split() for line in shown.stdout.splitlines() if "desired" in line] == [["desired", "3"]]  # two and a sentinel
    # 600 of 1000 MB are taken.
    fits = drover("simulate", "-snapshot", str(target), file(tmp_path, "small", count=4))
    assert (fits.returncode, "4 of 4 placed" in fits.stdout) == (0, True)
    both = drover("simulate", "-json", "-snapshot", str(target), file(tmp_path, "small", count=4), file(tmp_path, "next"))
    assert both.returncode == 2
    small, more = json.loads(both.stdout)["Jobs"]
    assert (small["Groups"][0]["Placed"], more["Groups"][0]["Missing"]) == (4, 1)
    assert any("memory" in remedy for remedy in more["Why"]["Groups"][0]["Remedies"])
    with_more = drover("simulate", "-snapshot", str(target), "-nodes", "1", file(tmp_path, "small", count=4), file(tmp_path, "next"))
    assert with_more.returncode == 0
    one.stop_job("runs", purge=True)


def test_a_made_up_fleet_of_thousands_answers_in_seconds(tmp_path: Path) -> None:
    done = drover("simulate", "-nodes", "5000", "-datacenters", "dc1,dc2", file(tmp_path, "wide", count=3000))
    assert (done.returncode, "3000 of 3000 placed" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["FILE"], "expected -snapshot FILE, -nodes N or both"),
        (["-nodes", "0", "FILE"], "expected 1 to"),
        (["-nodes", "5", "-datacenters", ",", "FILE"], "at least one name"),
        (["-snapshot", "nowhere.snap", "FILE"], "nowhere.snap: No such file"),
        (["-snapshot", "FILE", "FILE"], "no snapshot of drover"),
        (["-nodes", "5", "nowhere.hcl"], "nowhere.hcl"),
    ],
    ids=["nothing", "no nodes", "no datacenter", "no file", "another file", "no job"],
)
def test_what_is_wrong_is_said_in_one_line(argv: list[str], words: str, tmp_path: Path) -> None:
    path = file(tmp_path, "web")
    done = drover("simulate", *(path if word == "FILE" else word for word in argv))
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_snapshot_that_cannot_be_written_leaves_nothing(one: Drover, tmp_path: Path) -> None:
    done = one.run("operator", "snapshot", "save", str(tmp_path / "no" / "such" / "folder"))
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert not list(tmp_path.iterdir())
