"""What happens when there is no job file to read?"""

import os
import socket
import time
from pathlib import Path

import pytest

import jobspec
from model.errors import JobspecError


def refusal(path: object) -> str:
    with pytest.raises(JobspecError) as caught:
        jobspec.read_file(path)  # type: ignore[arg-type]
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


def test_a_socket_and_a_device_are_refused(tmp_path: Path) -> None:
    assert "not a regular file" in refusal("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "cannot be read" in refusal(tmp_path / "s")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.hcl"
    with path.open("wb") as stream:
        stream.truncate(11_000_000)
    assert refusal(path).endswith("larger than 10 MB")


def test_a_name_that_no_file_can_have_is_refused() -> None:
    assert "null byte" in refusal("a\0b")
    assert "File name too long" in refusal("a" * 5000)
