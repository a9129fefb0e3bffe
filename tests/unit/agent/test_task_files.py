"""Where a template may read and write, whatever the task plants there; and what an `env` file says."""

import contextlib
import itertools
import os
import threading
from pathlib import Path

import pytest

from agent.drivers.base import SeenDirs, TaskDirs
from agent.task_files import Owner, TaskFiles
from agent.templates.env_file import EnvFault, parse_env
from model.errors import TaskRefused


@pytest.fixture
def files(tmp_path: Path) -> TaskFiles:
    alloc = tmp_path / "alloc-id"
    for name in ("alloc/data", "web/local", "web/secrets", "other/secrets"):
        (alloc / name).mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    dirs = TaskDirs(shared=alloc / "alloc", task=alloc / "web", local=alloc / "web/local", secrets=alloc / "web/secrets")
    return TaskFiles(dirs=dirs, seen=SeenDirs(alloc="/alloc", local="/local", secrets="/secrets"))


PLACES = {
    "local/x": "web/local/x",
    "./x": "web/x",
    "${NOMAD_TASK_DIR}/x": "web/local/x",
    "${NOMAD_SECRETS_DIR}/a/../x": "web/secrets/x",
    "${NOMAD_ALLOC_DIR}/data/x": "alloc/data/x",
    "../alloc/data/x": "alloc/data/x",
    "/secrets/x": "web/secrets/x",
    "/alloc/data/x": "alloc/data/x",
    "/etc/x": "web/etc/x",
    "local/${env.NAME}": "web/local/it",
}


@pytest.mark.parametrize(("path", "place"), PLACES.items(), ids=PLACES.keys())
def test_a_path_of_a_job_is_a_place_below_the_allocs_directory(path: str, place: str, files: TaskFiles) -> None:
    # A container's own names for them, which the agent's take the place of.
    assert files.parts(path, {"NAME": "it", "NOMAD_TASK_DIR": "/local"}) == tuple(place.split("/"))


@pytest.mark.parametrize("path", ["..", "../..", "../../x", "local/../../../x", "/../../../x/../../../../y\0", ""], ids=repr)
def test_a_path_that_leads_out_is_refused(path: str, files: TaskFiles) -> None:
    if path == "":
        assert files.parts(path, {}) == ("web",)
        return
    with pytest.raises(TaskRefused, match="outside"):
        files.parts(path, {})


def test_links_are_followed_within_the_allocs_directory_and_nowhere_else(files: TaskFiles, tmp_path: Path) -> None:
    (files.dirs.task / "in").symlink_to("../alloc/data")
    (files.dirs.task / "out").symlink_to("../../outside")
    (files.dirs.task / "away").symlink_to(tmp_path / "outside")
    (files.dirs.task / "sly").symlink_to("../other/secrets")
    files.write(("web", "in", "x"), b"1", 0o640, Owner())
    assert ((files.dirs.shared / "data/x").read_bytes(), files.mode(("web", "in", "x"))) == (b"1", 0o640)
    for name in ("out", "away", "sly"):
        with pytest.raises(TaskRefused):
            files.write(("web", name, "x"), b"1", 0o640, Owner())
        with pytest.raises(TaskRefused):
            files.read(("web", name))
    (tmp_path / "outside/x").write_text("kept")
    (files.dirs.local / "x").symlink_to(tmp_path / "outside/x")
    files.write(("web", "local", "x"), b"1", 0o600, Owner())
    assert ((tmp_path / "outside/x").read_text(), (files.dirs.local / "x").read_bytes()) == ("kept", b"1")
    assert not (files.dirs.local / "x").is_symlink()


def test_what_is_no_regular_file_is_not_read_and_not_waited_for(files: TaskFiles) -> None:
    os.mkfifo(files.dirs.local / "fifo")
    with pytest.raises(TaskRefused, match="no regular file"):
        files.read(("web", "local", "fifo"))
    with pytest.raises(TaskRefused, match="is a directory"):
        files.write(("web", "local"), b"1", 0o644, Owner())
    assert files.read(("web", "local", "none")) is None


def test_a_link_that_comes_and_goes_while_files_are_written_leads_nowhere(files: TaskFiles, tmp_path: Path) -> None:
    """As a hostile task would: it swaps its directory for a link out, over and over."""
    local, is_over = files.dirs.local, threading.Event()

    def swap() -> None:
        for number in itertools.count():
            if is_over.is_set():
                return
            for step in (
                lambda number=number: local.rename(files.dirs.task / f"kept-{number}"),
                lambda: local.symlink_to(tmp_path / "outside"),
                local.unlink,
                local.mkdir,
            ):
                with contextlib.suppress(OSError):  # what is written meanwhile makes directories, too
                    step()

    hostile = threading.Thread(target=swap)
    hostile.start()
    written = 0
    try:
        for _ in range(2000):
            try:
                files.write(("web", "local", "x"), b"1", 0o644, Owner())
                written += 1
            except (TaskRefused, FileNotFoundError):
                continue
    finally:
        is_over.set()
        hostile.join()
    assert list((tmp_path / "outside").iterdir()) == []
    assert written > 0


ENV = {
    "plain": ("A=1", {"A": "1"}),
    "spaces": ("  A = a value  ", {"A": "a value"}),
    "export": ("export A=1\nexport  B=2", {"A": "1", "B": "2"}),
    "comments": ("# one\n\n   # two\nA=1 # three\nB=a#b\nC=#none", {"A": "1", "B": "a", "C": ""}),
    "double": (r'A="a # b\n\t\"\\é" # c', {"A": 'a # b\n\t"\\é'}),
    "single": (r"A='a # \n'", {"A": r"a # \n"}),
    "mixed": ("A=a\"b c\"'d e' f", {"A": "ab cd e f"}),
    "quoted spaces": ('A=" x "', {"A": " x "}),
    "quoted space before a comment": ('A=" x " # c', {"A": " x "}),
    "empty": ("A=\nB=''", {"A": "", "B": ""}),
    "equals": ("A=b=c", {"A": "b=c"}),
    "the last counts": ("A=1\nA=2", {"A": "2"}),
    "windows": ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
}


@pytest.mark.parametrize(("text", "expected"), ENV.values(), ids=ENV.keys())
def test_an_env_file_is_read_as_nomad_reads_it(text: str, expected: dict[str, str]) -> None:
    assert parse_env(text) == expected


BROKEN = {
    "no equals": ("A=1\nB", 2, '"="'),
    "no name": ("=1", 1, "name"),
    "digit": ("1A=1", 1, "name"),
    "space in a name": ("A B=1", 1, "name"),
    "double": ('A="secret', 1, 'a "'),
    "single": ("A='secret", 1, "a '"),
    "escape": (r'A="\x"', 1, "escape"),
    "control": ("A=a\x01", 1, "control"),
}


@pytest.mark.parametrize(("text", "line", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_env_file_is_told_by_its_line_and_without_its_value(text: str, line: int, words: str) -> None:
    with pytest.raises(EnvFault) as fault:
        parse_env(text)
    assert (fault.value.line, words in str(fault.value), "secret" in str(fault.value)) == (line, True, False)
