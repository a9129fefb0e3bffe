import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import logs
from agent.logs import LogRotation, current, finish_cut, numbers, rotate

BLOCK = 4096


@pytest.fixture(params=["collapse", "truncate"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Both ways on this machine's file system; the answer for a device is known before anybody asks."""
    device = os.stat(tmp_path).st_dev
    before = dict(logs._collapsible)
    if request.param == "truncate":
        logs._collapsible[device] = False
    else:
        logs._collapsible.pop(device, None)
        if not logs._can_collapse(tmp_path):
            pytest.skip("this file system cannot collapse")
    yield str(request.param)
    logs._collapsible.clear()
    logs._collapsible.update(before)


def everything(stem: Path) -> bytes:
    return b"".join(stem.with_name(f"{stem.name}.{number}").read_bytes() for number in numbers(stem))


def lines(count: int, start: int = 0) -> bytes:
    return b"".join(b"line %09d\n" % number for number in range(start, start + count))


def test_a_small_log_is_left_alone(tmp_path: Path, way: str) -> None:
    stem = tmp_path / "main.stdout"
    (tmp_path / "main.stdout.0").write_bytes(lines(10))
    assert rotate(stem, 3, BLOCK) == tmp_path / "main.stdout.0"
    assert numbers(stem) == [0]


def test_a_large_log_is_cut_in_order_and_the_highest_number_is_the_current_one(
    tmp_path: Path, way: str
) -> None:
    stem = tmp_path / "main.stdout"
    (tmp_path / "main.stdout.0").write_bytes(lines(1000))
    latest = rotate(stem, 100, BLOCK)
    assert everything(stem) == lines(1000)
    assert latest == current(stem) == tmp_path / f"main.stdout.{numbers(stem)[-1]}"
    assert latest.stat().st_size < BLOCK


def test_only_the_newest_files_are_kept(tmp_path: Path, way: str) -> None:
    stem = tmp_path / "main.stdout"
    (tmp_path / "main.stdout.0").write_bytes(lines(2000))
    rotate(stem, 2, BLOCK)
    assert len(numbers(stem)) == 2
    assert lines(2000).endswith(everything(stem))


def test_a_writer_goes_on_in_the_current_file(tmp_path: Path, way: str) -> None:
    stem = tmp_path / "main.stdout"
    with open(tmp_path / "main.stdout.0", "ab", buffering=0) as writer:
        writer.write(lines(1000))
        rotate(stem, 100, BLOCK)
        writer.write(lines(500, start=1000))
        rotate(stem, 100, BLOCK)
        writer.write(lines(10, start=1500))
    assert everything(stem) == lines(1510)


def test_no_byte_is_lost_or_doubled_under_a_live_writer(tmp_path: Path) -> None:
    if not logs._can_collapse(tmp_path):
        pytest.skip("this file system cannot collapse")
    stem = tmp_path / "main.stdout"
    script = """
import os, select
n = 0
while not select.select([0], [], [], 0)[0]:
    for _ in range(100):
        os.write(1, b"line %09d\\n" % n)
        n += 1
os.write(2, b"%d" % n)
"""
    with open(tmp_path / "main.stdout.0", "ab") as file:
        writer = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=file, stderr=subprocess.PIPE
        )
    cuts = 0
    while cuts < 10:
        assert writer.poll() is None
        before = numbers(stem)
        rotate(stem, 10_000, 8 * BLOCK)
        cuts += numbers(stem) != before
    _, count = writer.communicate(b"enough", timeout=30)
    assert everything(stem) == lines(int(count))


@pytest.mark.parametrize("step", ["copied", "renamed", "collapsed"])
def test_a_cut_that_was_interrupted_is_finished_by_the_next_agent(tmp_path: Path, step: str) -> None:
    if not logs._can_collapse(tmp_path):
        pytest.skip("this file system cannot collapse")
    stem, text = tmp_path / "main.stdout", lines(1000)
    live, head = tmp_path / "main.stdout.0", tmp_path / ".main.stdout.head"
    live.write_bytes(text)
    head.write_bytes(text[:BLOCK])
    if step != "copied":
        live = live.rename(tmp_path / "main.stdout.1")
    if step == "collapsed":
        with live.open("r+b") as file:
            logs._collapse(file.fileno(), BLOCK)
    finish_cut(stem)
    assert everything(stem) == text
    assert not head.exists()


async def test_a_quiet_log_is_looked_at_less_often_and_a_growing_one_is_rotated(tmp_path: Path) -> None:
    stem, rotation = tmp_path / "main.stdout", LogRotation()
    rotation.add(stem, 10, BLOCK)
    (tmp_path / "main.stdout.0").write_bytes(b"x")
    looks = []
    for now_s in range(0, 200, 5):
        before = rotation._watched[stem].due_s
        await rotation.look(float(now_s))
        if rotation._watched[stem].due_s != before:
            looks.append(now_s)
    assert looks[:2] == [0, 5]
    assert looks[-1] - looks[-2] == 20
    (tmp_path / "main.stdout.0").write_bytes(lines(1000))
    await rotation.look(1000.0)
    assert numbers(stem) != [0]
    await asyncio.sleep(0)
