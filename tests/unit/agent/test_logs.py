import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import logs
from agent.log_files import LogFolder
from agent.logs import LogRotation, LogStream, current, finish_cut, numbers, rotate, stream_of

BLOCK = 4096


def can_collapse(path: Path) -> bool:
    with LogFolder(path) as folder:
        return logs._can_collapse(folder)


@pytest.fixture(params=["collapse", "truncate"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Both ways on this machine's file system; the answer for a device is known before anybody asks."""
    device = os.stat(tmp_path).st_dev
    before = dict(logs._collapsible)
    if request.param == "truncate":
        logs._collapsible[device] = False
    else:
        logs._collapsible.pop(device, None)
        if not can_collapse(tmp_path):
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
    assert rotate(stream_of(stem), 3, BLOCK) == tmp_path / "main.stdout.0"
    assert numbers(stem) == [0]


def test_a_large_log_is_cut_in_order_and_the_highest_number_is_the_current_one(
    tmp_path: Path, way: str
) -> None:
    stem = tmp_path / "main.stdout"
    (tmp_path / "main.stdout.0").write_bytes(lines(1000))
    latest = rotate(stream_of(stem), 100, BLOCK)
    assert everything(stem) == lines(1000)
    assert latest == current(stem) == tmp_path / f"main.stdout.{numbers(stem)[-1]}"
    assert latest.stat().st_size < BLOCK


def test_only_the_newest_files_are_kept(tmp_path: Path, way: str) -> None:
    stem = tmp_path / "main.stdout"
    (tmp_path / "main.stdout.0").write_bytes(lines(2000))
    rotate(stream_of(stem), 2, BLOCK)
    assert len(numbers(stem)) == 2
    assert lines(2000).endswith(everything(stem))


def test_a_writer_goes_on_in_the_current_file(tmp_path: Path, way: str) -> None:
    stem = tmp_path / "main.stdout"
    with open(tmp_path / "main.stdout.0", "ab", buffering=0) as writer:
        writer.write(lines(1000))
        rotate(stream_of(stem), 100, BLOCK)
        writer.write(lines(500, start=1000))
        rotate(stream_of(stem), 100, BLOCK)
        writer.write(lines(10, start=1500))
    assert everything(stem) == lines(1510)


def test_no_byte_is_lost_or_doubled_under_a_live_writer(tmp_path: Path) -> None:
    if not can_collapse(tmp_path):
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
        rotate(stream_of(stem), 10_000, 8 * BLOCK)
        cuts += numbers(stem) != before
    _, count = writer.communicate(b"enough", timeout=30)
    assert everything(stem) == lines(int(count))


@pytest.mark.parametrize("step", ["copied", "renamed", "collapsed"])
def test_a_cut_that_was_interrupted_is_finished_by_the_next_agent(tmp_path: Path, step: str) -> None:
    if not can_collapse(tmp_path):
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


def read_on(stream: LogStream, position: int, found: list[bytes]) -> int:
    """Reads to the end as a follower does; the position after it."""
    while piece := stream.read(position, 1000):
        found.append(piece.data)
        position = piece.position
    return position


def test_a_follower_that_keeps_up_misses_and_repeats_nothing_though_files_are_cut_and_deleted(
    tmp_path: Path, way: str
) -> None:
    stem = tmp_path / "main.stdout"
    stream, found, position = stream_of(stem), list[bytes](), 0
    with open(tmp_path / "main.stdout.0", "ab", buffering=0) as writer:
        for number in range(40):
            writer.write(lines(700, start=700 * number))
            position = read_on(stream, position, found)
            rotate(stream, 2, BLOCK)
    position = read_on(stream, position, found)
    assert b"".join(found) == lines(40 * 700)
    assert stream.bounds() == (len(lines(40 * 700)) - len(everything(stem)), position)


def test_a_follower_amid_a_file_that_is_cut_goes_on_where_it_was(tmp_path: Path, way: str) -> None:
    stem, text = tmp_path / "main.stdout", lines(1000)
    (tmp_path / "main.stdout.0").write_bytes(text)
    stream = stream_of(stem)
    for position in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, len(text) - 1, len(text)):
        found: list[bytes] = []
        read_on(stream, position, found)
        assert b"".join(found) == text[position:], position
        rotate(stream, 100, BLOCK)


def test_a_follower_whose_bytes_were_deleted_goes_on_with_the_oldest_that_are_left(tmp_path: Path, way: str) -> None:
    stem = tmp_path / "main.stdout"
    (tmp_path / "main.stdout.0").write_bytes(lines(2000))
    stream, found = stream_of(stem), list[bytes]()
    rotate(stream, 2, BLOCK)
    read_on(stream, 5, found)
    assert b"".join(found) == lines(2000)[max(5, stream.dropped) :]


def test_a_task_that_empties_its_log_is_followed_from_its_start(tmp_path: Path) -> None:
    stem, path = tmp_path / "main.stdout", tmp_path / "main.stdout.0"
    path.write_bytes(lines(10))
    stream = stream_of(stem)
    path.write_bytes(b"new")
    piece = stream.read(len(lines(10)), 1000)
    assert piece is not None
    assert (piece.data, piece.file, piece.offset) == (b"new", path, 3)


def test_a_log_that_was_deleted_has_come_to_its_end(tmp_path: Path) -> None:
    stream = stream_of(tmp_path / "gone" / "main.stdout")
    assert (stream.bounds(), stream.read(0, 1000), stream.read(10, 1000)) == ((0, 0), None, None)


def test_a_follower_beside_a_live_writer_and_the_rotation_sees_each_line_once(tmp_path: Path) -> None:
    """All three at once, as fast as they can, in threads and a process of their own."""
    if not can_collapse(tmp_path):
        pytest.skip("this file system cannot collapse")
    stem, size_max = tmp_path / "main.stdout", 64 * BLOCK
    stream, found, is_over = stream_of(stem), list[bytes](), threading.Event()

    def follow() -> None:
        position = 0
        while True:
            was_over = is_over.is_set()
            position = read_on(stream, position, found)
            if was_over:
                return

    follower = threading.Thread(target=follow)
    with open(tmp_path / "main.stdout.0", "ab") as file:
        script = "import os\nfor n in range(200_000): os.write(1, b'line %09d\\n' % n)"
        writer = subprocess.Popen([sys.executable, "-c", script], stdout=file)
    follower.start()
    while writer.poll() is None:
        rotate(stream, 10_000, size_max)
    rotate(stream, 10_000, size_max)
    is_over.set()
    follower.join()
    assert len(numbers(stem)) > 10
    assert b"".join(found) == lines(200_000)


def looks(rotation: LogRotation, stem: Path) -> float:
    return rotation._watched[stem].due_s


async def test_a_quiet_log_is_looked_at_less_often_and_a_growing_one_is_rotated(tmp_path: Path) -> None:
    stem, rotation = tmp_path / "main.stdout", LogRotation()
    rotation.add(stem, 10, BLOCK)
    (tmp_path / "main.stdout.0").write_bytes(b"x")
    now_s, pauses = 0.0, []
    for _ in range(7):
        await rotation.look(now_s)
        pauses.append(looks(rotation, stem) - now_s)
        now_s = looks(rotation, stem)
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    (tmp_path / "main.stdout.0").write_bytes(lines(1000))
    await rotation.look(now_s)
    assert numbers(stem) != [0]


@pytest.mark.parametrize(
    ("grown", "pause_s"), [(10, 1.0), (BLOCK // 4, 1.0), (2 * BLOCK // 3, 0.5), (BLOCK * 9 // 10, 0.25)]
)
async def test_a_growing_log_is_looked_at_again_when_it_should_be_full(
    tmp_path: Path, grown: int, pause_s: float
) -> None:
    stem, rotation = tmp_path / "main.stdout", LogRotation()
    rotation.add(stem, 10, BLOCK)
    (tmp_path / "main.stdout.0").write_bytes(b"")
    await rotation.look(0.0)
    (tmp_path / "main.stdout.0").write_bytes(b"x" * grown)
    await rotation.look(1.0)
    assert looks(rotation, stem) - 1.0 == pytest.approx(pause_s, abs=0.01)
