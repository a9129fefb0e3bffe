"""Logs as `alloc logs` and the API give them: the end, a follower, and both while files are rotated."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.http import ask
from tests.cli.command import ROOT, Run, environ, file
from tests.e2e.drover import Drover, job, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# Writes lines of 100 bytes up to the number that the file `until` names; `end` ends it.
WRITER = """
import pathlib, sys, time
n = 0
while True:
    until = pathlib.Path("until").read_text() if pathlib.Path("until").exists() else "0"
    if until == "end": break
    sys.stdout.write("".join(f"{i:099d}\\n" for i in range(n, int(until))))
    sys.stdout.flush()
    n = int(until)
    time.sleep(0.01)
"""
STEP, STEPS = 4_000, 13  # 400 kB thirteen times: 5 MB through two files of 1 MiB


def lines(first: int, last: int) -> bytes:
    return b"".join(b"%099d\n" % number for number in range(first, last))


def say(one: Drover, alloc: str, text: str) -> None:
    path = one.task_dir(alloc) / "until"
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


class Follower:
    """`drover alloc logs -f` with more flags, its output in a file."""

    def __init__(self, one: Drover, out: Path, *argv: str) -> None:
        self._out = out
        with out.open("wb") as stdout:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "alloc", "logs", "-f", *argv],
                cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, env=environ(NOMAD_ADDR=f"http://{one.address}"),
            )  # fmt: skip

    @property
    def text(self) -> bytes:
        return self._out.read_bytes()

    def end(self) -> tuple[int, bytes]:
        """Exit code and stderr of a follower that ends by itself."""
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


Follow = Callable[..., Follower]


@pytest.fixture
def follow(one: Drover, tmp_path: Path) -> Iterator[Follow]:
    followers: list[Follower] = []

    def start(*argv: str) -> Follower:
        followers.append(Follower(one, tmp_path / f"out{len(followers)}", *argv))
        return followers[-1]

    yield start
    for follower in followers:
        follower.close()


def writer(one: Drover, job_id: str) -> str:
    """The alloc of a task that writes what it is told to."""
    logs = {"MaxFiles": 2, "MaxFileSizeMB": 1}
    one.submit(job(job_id, sys.executable, ["-c", WRITER], LogConfig=logs, job={"Type": "batch"}))
    alloc: str = one.wait_running(job_id, 1)[0]["ID"]
    return alloc


def files(one: Drover, alloc: str) -> list[Path]:
    folder = one.data_dir / "alloc" / alloc / "alloc" / "logs"
    return sorted(folder.glob("t.stdout.*"), key=lambda path: int(path.suffix[1:]))


def test_logs_are_printed_whole_by_task_and_from_the_end(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    alloc = one.wait_running("web", 2)[0]["ID"]
    wait("its lines", lambda: run("alloc", "logs", alloc).out == ["one", "two"])
    assert run("logs", alloc[:8], "t").shown == (0, ["one", "two"], [])
    assert run("alloc", "logs", "-stderr", alloc).shown == (0, ["three"], [])
    assert run("alloc", "logs", "-tail", "-n", "1", alloc).shown == (0, ["two"], [])
    assert run("alloc", "logs", "-tail", alloc).shown == (0, ["one", "two"], [])
    assert run("alloc", "logs", "-tail", "-c", "6", alloc).shown == (0, ["e", "two"], [])
    assert run("alloc", "logs", "-c", "2", alloc).shown == (0, ["o"], [])
    assert run("alloc", "logs", "-n", "0", alloc).shown == (0, [], [])
    assert run("alloc", "logs", "-job", "web").shown == (0, ["one", "two"], [])
    assert run("alloc", "logs", alloc, "other").shown == (
        1,
        [],
        [f"Error: allocation {alloc[:8]} has no task 'other' (it has t)"],
    )
    assert run("alloc", "logs", "-tail", "-n", "1", "-c", "1", alloc).shown == (1, [], ["Error: Both -n and -c set"])
    assert run("alloc", "logs", "-c", "-1", alloc).shown == (1, [], ["Error: -c must not be negative, found -1"])


def test_a_follower_of_a_rotated_log_gets_each_line_once_and_ends_with_the_task(
    run: Run, one: Drover, follow: Follow
) -> None:
    alloc = writer(one, "rotated")
    whole = follow(alloc)
    for step in range(1, STEPS + 1):
        say(one, alloc, str(step * STEP))
        wait("the follower has it all", lambda step=step: len(whole.text) == step * STEP * 100)
    last = STEPS * STEP
    wait("rotated files", lambda: len(files(one, alloc)) == 2 and files(one, alloc)[-1].stat().st_size < 1 << 20)
    assert files(one, alloc)[0].stat().st_size == 1 << 20

    late = follow("-tail", "-n", "3", alloc)
    wait("the last lines", lambda: late.text == lines(last - 3, last))
    kept = b"".join(path.read_bytes() for path in files(one, alloc))
    assert lines(0, last).endswith(kept)
    assert_consistent(run, one, alloc, kept)

    say(one, alloc, str(last + 1))
    wait("one more", lambda: late.text == lines(last - 3, last + 1))
    say(one, alloc, "end")
    assert (whole.end(), late.end()) == ((0, b""), (0, b""))
    assert whole.text == lines(0, last + 1)
    assert late.text == lines(last - 3, last + 1)
    assert_consistent(run, one, alloc, kept + lines(last, last + 1))
    again = follow(alloc)  # of a task that is dead: what there is, and the end
    assert (again.end(), again.text) == ((0, b""), kept + lines(last, last + 1))


def assert_consistent(run: Run, one: Drover, alloc: str, kept: bytes) -> None:
    """Every way to ask gives a part of the same bytes."""
    shown = kept.decode().splitlines()
    assert run("alloc", "logs", alloc).shown == (0, shown, [])
    assert run("alloc", "logs", "-tail", alloc).shown == (0, shown[-10:], [])
    assert run("alloc", "logs", "-tail", "-n", "11000", alloc).shown == (0, shown[-11000:], [])
    assert run("alloc", "logs", "-c", "250", alloc).shown == (0, kept[-250:].decode().splitlines(), [])
    path = f"/v1/client/fs/logs/{alloc}?task=t&type=stdout&plain=true"
    for offset in (0, 1, 100, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, len(kept) - 1, len(kept), len(kept) + 1):
        assert ask(one.address, "GET", f"{path}&offset={offset}").body == kept[offset:], offset
        end = ask(one.address, "GET", f"{path}&origin=end&offset={offset}").body
        assert end == kept[max(len(kept) - offset, 0) :], offset


def test_the_last_lines_are_as_many_as_asked_for_however_long_they_are(run: Run, one: Drover, follow: Follow) -> None:
    script = "import time\nfor i in range(40): print(f'{i:02d}' + 'x' * 5000)\nprint('end', end='', flush=True)\ntime.sleep(100000)"
    one.submit(job("long", sys.executable, ["-c", script]))
    alloc = one.wait_running("long", 1)[0]["ID"]
    shown = [*(f"{i:02d}" + "x" * 5000 for i in range(40)), "end"]
    wait("its lines", lambda: run("alloc", "logs", alloc).out == shown)
    for count in (1, 2, 10, 40, 41, 42):
        assert run("alloc", "logs", "-tail", "-n", str(count), alloc).shown == (0, shown[-count:], [])
    followers = {count: follow("-tail", "-n", str(count), alloc) for count in (3, 41, 42)}
    for count, follower in followers.items():
        wait("the last lines", lambda f=follower, n=count: f.text.decode().split("\n") == shown[-n:])


def test_a_follower_of_a_job_that_is_purged_ends_without_complaint(one: Drover, follow: Follow) -> None:
    before = len(one.log)
    alloc = writer(one, "purged")
    follower = follow(alloc)
    say(one, alloc, "3")
    wait("its lines", lambda: follower.text == lines(0, 3))
    one.stop_job("purged", purge=True)
    assert (follower.end(), follower.text) == ((0, b""), lines(0, 3))
    assert "Traceback" not in one.log[before:]


def test_a_follower_goes_on_over_a_restart_of_its_task(one: Drover, follow: Follow) -> None:
    one.submit(marking_job("again"))
    alloc = one.wait_running("again", 1)[0]["ID"]
    follower = follow(alloc)
    for count in (2, 3):
        wait("its process", lambda count=count: len(one.pids(alloc)) == count - 1)
        one.wait_running("again", 1)
        assert one.run("alloc", "restart", alloc).returncode == 0
        wait("the next process", lambda count=count: len(one.pids(alloc)) == count)
    assert follower.process.poll() is None
    one.stop_job("again", purge=True)
    assert follower.end() == (0, b"")
