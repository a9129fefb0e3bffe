"""What happens when there is no job file to read?"""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobspec
import jobspec.files
from model.errors import JobspecError
from tests.unit.jobspec.builders import job_text


def refusal(path: object, *, accepts_pipe: bool = False) -> str:
    with pytest.raises(JobspecError) as caught:
        jobspec.read_file(path, accepts_pipe=accepts_pipe)  # type: ignore[arg-type]
    assert len(caught.value.faults) == 1
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.hcl"
    path.write_bytes(b"x")
    assert jobspec.read_file(path) == b"x"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.hcl").endswith("none.hcl: cannot be read: No such file or directory")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).endswith(": a directory (a file was expected)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.hcl"
    path.touch(mode=0o000)
    assert "Permission denied" in refusal(path)


def test_a_fifo_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    started = time.perf_counter()
    assert "not a regular file" in refusal(path)
    assert time.perf_counter() - started < 1


def piped(data: bytes, *, is_closed: bool = True) -> Iterator[str]:
    """The name of a pipe that holds the data, and whose writer has left or stays."""
    reader, writer = os.pipe()
    os.write(writer, data)
    if is_closed:
        os.close(writer)
    yield f"/dev/fd/{reader}"
    os.close(reader)
    if not is_closed:
        os.close(writer)


def test_a_pipe_is_read_to_its_end_where_it_is_accepted() -> None:
    for path in piped(b"x" * 50_000):
        assert "not a regular file" in refusal(path)
        assert jobspec.read_file(path, accepts_pipe=True) == b"x" * 50_000


def test_the_writer_of_a_fifo_may_come_later_and_write_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as stream:
            for _ in range(100):
                stream.write(b"y" * 5_000)

    writer = threading.Thread(target=write)
    writer.start()
    assert jobspec.read_file(path, accepts_pipe=True) == b"y" * 500_000
    writer.join()


def test_a_pipe_that_stays_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobspec.files, "PIPE_WAIT_S", 0.1)
    os.mkfifo(tmp_path / "fifo")
    silent = "a pipe that nobody has written to for 0.1 s"
    assert refusal(tmp_path / "fifo", accepts_pipe=True) == f"{tmp_path}/fifo: {silent}"
    for path in piped(b"begun", is_closed=False):
        assert refusal(path, accepts_pipe=True) == f"{path}: {silent}"


def test_a_pipe_without_end_is_refused() -> None:
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        assert endless.stdout is not None
        assert refusal(f"/dev/fd/{endless.stdout.fileno()}", accepts_pipe=True).endswith(": larger than 10 MB")
        endless.kill()


def test_a_socket_and_a_device_are_refused(tmp_path: Path) -> None:
    assert "not a regular file" in refusal("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "cannot be read" in refusal(tmp_path / "s")
    assert "not a regular file" in refusal("/dev/null", accepts_pipe=True)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.hcl"
    with path.open("wb") as stream:
        stream.truncate(11_000_000)
    assert refusal(path).endswith("larger than 10 MB")


def test_a_name_that_no_file_can_have_is_refused() -> None:
    assert "null byte" in refusal("a\0b")
    assert "File name too long" in refusal("a" * 5000)


EXAMPLES = {
    "abspath": [('abspath("/a/../b")', "/b")],
    "file": [('file("hello.txt")', "Hello World"), ('file("sub/../sub/a.md")', "a")],
    "filebase64": [('filebase64("hello.txt")', "SGVsbG8gV29ybGQ="), ('filebase64("sub/binary")', "/w==")],
    "fileexists": [('fileexists("hello.txt")', True), ('fileexists("nothing")', False)],
    "fileset": [
        ('fileset(".", "*.txt")', ["hello.txt"]),
        ('fileset("sub", "*")', ["a.md", "b.txt", "binary"]),
        ('fileset(".", "**/*.{md,txt}")', ["hello.txt", "sub/a.md", "sub/b.txt"]),
        ('fileset(".", "sub/[a-b].*")', ["sub/a.md", "sub/b.txt"]),
        ('fileset(".", "sub/?.*")', ["sub/a.md", "sub/b.txt"]),
        ('fileset(".", "**")', ["hello.txt", "sub/a.md", "sub/b.txt", "sub/binary"]),
        ('fileset("nowhere", "*")', []),
    ],
    "pathexpand": [('pathexpand("~/.ssh/id")', "/home/someone/.ssh/id"), ('pathexpand("/a")', "/a")],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job file's directory, with a neighbour outside of it."""
    inside = tmp_path / "jobs"
    (inside / "sub").mkdir(parents=True)
    (inside / "hello.txt").write_text("Hello World")
    (inside / "sub" / "a.md").write_text("a")
    (inside / "sub" / "b.txt").write_text("b")
    (inside / "sub" / "binary").write_bytes(b"\xff")
    (tmp_path / "secret").write_text("s")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "folder-link").symlink_to(tmp_path)
    (inside / "sub" / "inner-link").symlink_to(inside / "hello.txt")
    return inside


def read(folder: Path, expression: str, **how: object) -> object:
    text = job_text(config=f"v = {expression}")
    document = jobspec.parse(text, file=str(folder / "web.hcl"), **how)  # type: ignore[arg-type]
    return document["TaskGroups"][0]["Tasks"][0]["Config"].get("v")


@pytest.mark.parametrize(("expression", "expected"), [case for cases in EXAMPLES.values() for case in cases])
def test_a_file_function_answers_from_the_job_files_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, expression: str, expected: object
) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    (folder / "link").unlink()
    (folder / "folder-link").unlink()
    (folder / "sub" / "inner-link").unlink()
    assert read(folder, expression) == expected


OUTSIDE = [
    'file("../secret")',
    'file("/etc/passwd")',
    'file("~/.ssh/id_rsa")',
    'file("link")',
    'file("folder-link/secret")',
    'filebase64("link")',
    'fileexists("../secret")',
    'fileset("..", "*")',
    'fileset(".", "../*")',
    'fileset("folder-link", "*")',
]


@pytest.mark.parametrize("expression", OUTSIDE)
def test_what_is_outside_of_the_job_files_directory_is_refused(folder: Path, expression: str) -> None:
    with pytest.raises(JobspecError, match="outside of the job file's directory") as caught:
        read(folder, expression)
    assert "-allow-outside-files" in str(caught.value)


def test_what_is_outside_can_be_allowed(folder: Path) -> None:
    assert read(folder, 'file("../secret")', allows_any_file=True) == "s"
    assert read(folder, 'file("link")', allows_any_file=True) == "s"
    assert read(folder, 'fileset("..", "*")', allows_any_file=True) == ["secret"]


def test_a_link_within_the_directory_is_followed(folder: Path) -> None:
    assert read(folder, 'file("sub/inner-link")') == "Hello World"


FAULTS = {
    'file("nothing")': "No such file",
    'file("sub")': "a directory",
    'file("sub/binary")': "filebase64 reads any file",
    'fileexists("sub")': "not a regular file",
    'pathexpand("~other/x")': "another user",
    'fileset(".", "[z-a]")': "bad pattern",
}


@pytest.mark.parametrize(("expression", "expected"), FAULTS.items())
def test_a_file_function_says_what_is_wrong(folder: Path, expression: str, expected: str) -> None:
    with pytest.raises(JobspecError, match=expected):
        read(folder, expression)
