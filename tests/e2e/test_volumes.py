"""What stays of an alloc's files with the next one on its node, and what a task may do with a host volume."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.components import debian
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, job, restart, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# Each life appends a line to what it finds, and tells what it has found.
SCRIPT = "cat $NOMAD_ALLOC_DIR/data/lives local/lives; echo $LIFE >> $NOMAD_ALLOC_DIR/data/lives; echo $LIFE >> local/lives; echo $$ >> starts; exec sleep 100000"


@pytest.fixture(scope="module")
def two(one: Drover, consul: ConsulServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drover]:
    """With a host volume that anybody may write to, and one that is read-only."""
    open_to_all, sealed = tmp_path_factory.mktemp("open"), tmp_path_factory.mktemp("sealed")
    open_to_all.chmod(0o777)
    sealed.chmod(0o755)
    (open_to_all / "private").write_text("root's own\n")
    (open_to_all / "private").chmod(0o600)
    (sealed / "here").write_text("kept\n")
    volumes = f'client {{\n host_volume "open" {{ path = "{open_to_all}" }}\n host_volume "sealed" {{\n path = "{sealed}"\n read_only = true\n }}\n}}'
    with Drover(consul, name="two", server=False, settings=volumes) as drover:
        one.wait_ready(2)
        yield drover


def lives(name: str, number: int, **disk: Any) -> dict[str, Any]:
    group = {"EphemeralDisk": {"SizeMB": 300, **disk}, "RestartPolicy": restart()}
    return job(name, "/bin/sh", ["-c", SCRIPT], group=group, Env={"LIFE": str(number)})


def home_of(one: Drover, two: Drover, alloc: str) -> Drover:
    return two if one.alloc(alloc)["NodeName"] == "two" else one


def found(one: Drover, two: Drover, name: str, version: int) -> tuple[str, str, str]:
    """(node, alloc, what it found) of the alloc of that version, once it runs."""

    def look() -> str | None:
        running = [a["ID"] for a in one.running(name) if one.alloc(a["ID"])["Job"]["Version"] == version]
        return running[0] if len(running) == 1 else None

    alloc = wait(f"version {version}", look)
    home = home_of(one, two, alloc)
    wait("its start", lambda: home.pids(alloc))
    log = home.data_dir / "alloc" / alloc / "alloc" / "logs" / "t.stdout.0"
    return home.name, alloc, log.read_text()


@pytest.mark.parametrize("disk", [{"Sticky": True}, {"Migrate": True}], ids=["sticky", "migrate"])
def test_a_sticky_disk_goes_on_with_the_next_version_on_the_same_node(one: Drover, two: Drover, disk: dict[str, Any]) -> None:
    name = f"keeps-{next(iter(disk)).lower()}"
    one.submit(lives(name, 0, **disk))
    node, before, said = found(one, two, name, 0)
    assert said == ""
    for version in (1, 2, 3):
        one.submit(lives(name, version, **disk))
        now, alloc, said = found(one, two, name, version)
        expected = "".join(f"{life}\n" for life in range(version))
        assert (now, said) == (node, 2 * expected)
        home = two if node == "two" else one
        assert not (home.data_dir / "alloc" / before / "alloc" / "data").exists()
        before = alloc
    one.stop_job(name, purge=True)


def test_without_it_each_version_begins_anew(one: Drover, two: Drover) -> None:
    one.submit(lives("forgets", 0))
    found(one, two, "forgets", 0)
    one.submit(lives("forgets", 1))
    assert found(one, two, "forgets", 1)[2] == ""
    one.stop_job("forgets", purge=True)


def test_a_task_that_put_a_link_there_hands_on_nothing_by_it(one: Drover, two: Drover, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("the machine's\n")

    def version(number: int) -> dict[str, Any]:
        made = lives("links", number, Sticky=True)
        plant = f"rm -rf $NOMAD_ALLOC_DIR/data; ln -s {tmp_path} $NOMAD_ALLOC_DIR/data; ls $NOMAD_ALLOC_DIR/data/; echo $$ >> starts; exec sleep 100000"
        made["TaskGroups"][0]["Tasks"][0]["Config"]["args"] = ["-c", plant if number == 0 else SCRIPT]
        return made

    one.submit(version(0))
    assert found(one, two, "links", 0)[2] == "file\n"
    one.submit(version(1))
    node, alloc, said = found(one, two, "links", 1)
    data = (two if node == "two" else one).data_dir / "alloc" / alloc / "alloc" / "data"
    assert (said, data.is_symlink(), data.is_dir()) == ("", False, True)
    assert (tmp_path / "file").read_text() == "the machine's\n"
    assert os.listdir(tmp_path) == ["file"]
    one.stop_job("links", purge=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="the exec driver needs root")
def test_a_host_volume_is_written_to_by_whom_its_files_let_and_never_when_it_is_read_only(one: Drover, two: Drover) -> None:
    or_skip(lambda: debian.command("bwrap", "bubblewrap"))
    script = (
        "echo new > /open/new && echo wrote; cat /sealed/here; cat /open/private || echo not mine; "
        "echo x > /sealed/new || echo sealed; echo x > /looked/at || echo only looked at; touch /local/done"
    )
    volumes = {
        "open": {"Type": "host", "Source": "open"},
        "sealed": {"Type": "host", "Source": "sealed", "ReadOnly": True},
    }
    mounts = [
        {"Volume": "open", "Destination": "/open"},
        {"Volume": "sealed", "Destination": "/sealed"},
        {"Volume": "open", "Destination": "/looked", "ReadOnly": True},
    ]
    group = {"Volumes": volumes, "RestartPolicy": restart(attempts=0, mode="fail")}
    made = job("volumes", "/bin/sh", ["-c", script], job={"Type": "batch"}, group=group, Driver="exec", VolumeMounts=mounts)
    one.submit(made)
    alloc = wait("its end", lambda: [a for a in one.allocs("volumes") if a["ClientStatus"] in ("complete", "failed")])[0]
    assert alloc["NodeName"] == "two"
    said = (two.data_dir / "alloc" / alloc["ID"] / "alloc" / "logs" / "t.stdout.0").read_text()
    assert said == "wrote\nkept\nnot mine\nsealed\nonly looked at\n"
    one.stop_job("volumes", purge=True)


def test_a_volume_that_may_only_be_read_is_no_place_for_a_task_that_writes(one: Drover, two: Drover) -> None:
    group = {"Volumes": {"sealed": {"Type": "host", "Source": "sealed"}}}
    one.submit(job("writes", "/bin/sleep", ["1000"], group=group))

    def reasons() -> str:
        evaluations = one.get("/v1/job/writes/evaluations")
        return " ".join(str(one["FailedTGAllocs"]) for one in evaluations if one.get("FailedTGAllocs"))

    assert "volumes" in wait("why not", reasons)
    assert one.allocs("writes") == []
    one.stop_job("writes", purge=True)
