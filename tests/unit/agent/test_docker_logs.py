import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent import logs
from agent.drivers.docker_logs import ContainerLogs
from agent.log_files import LogFolder
from agent.logs import numbers, rotate, stream_of


def can_collapse(path: Path) -> bool:
    with LogFolder(path) as folder:
        return logs._can_collapse(folder)


BATCHES, LINES = 400, 500  # a batch is large enough not to be waited after


class Engine:
    """Hands out numbered lines, all of stdout, as fast as they are taken. Its own `content`."""

    @asynccontextmanager
    async def stream(self, method: str, path: str, params: dict[str, Any]) -> AsyncIterator["Engine"]:
        yield self

    @property
    def content(self) -> "Engine":
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        for batch in range(BATCHES):
            at = f"2026-01-01T00:00:{batch // 60 % 60:02d}.{batch:09d}Z "
            messages = [f"{at}{line}".encode() for line in text(batch).splitlines(keepends=True)]
            yield b"".join(b"\1\0\0\0" + len(m).to_bytes(4, "big") + m for m in messages)


def whole() -> str:
    return "".join(text(batch) for batch in range(BATCHES))


def text(batch: int) -> str:
    return "".join(f"line {number:07d}\n" for number in range(batch * LINES, (batch + 1) * LINES))


async def test_nothing_is_appended_while_a_cut_is_under_way(tmp_path: Path) -> None:
    stem = tmp_path / "t.stdout"
    followed = ContainerLogs({"stdout": stem, "stderr": tmp_path / "t.stderr"}, tmp_path / "record")
    async with asyncio.TaskGroup() as group:
        with stream_of(stem).lock:
            group.create_task(followed.follow(Engine(), "c"))  # type: ignore[arg-type]  # all that it asks of an engine
            for _ in range(100):
                await asyncio.sleep(0)
            assert numbers(stem) == []
    assert stem.with_name("t.stdout.0").read_text() == whole()


@pytest.mark.parametrize("way", ["collapse", "truncate"])
async def test_no_line_of_a_container_is_lost_or_out_of_order_while_its_log_is_cut(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "truncate":
        monkeypatch.setitem(logs._collapsible, tmp_path.stat().st_dev, False)
    elif not can_collapse(tmp_path):
        pytest.skip("this file system cannot collapse")
    stem, is_over = tmp_path / "t.stdout", threading.Event()
    stream = stream_of(stem)

    def cut() -> None:
        while not is_over.is_set():
            rotate(stream, 10_000, 4 * 4096)

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        followed = ContainerLogs({"stdout": stem, "stderr": tmp_path / "t.stderr"}, tmp_path / "record")
        await followed.follow(Engine(), "c")  # type: ignore[arg-type]  # all that it asks of an engine
    finally:
        is_over.set()
        cutter.join()
    found = b"".join(stem.with_name(f"{stem.name}.{number}").read_bytes() for number in numbers(stem))
    assert len(numbers(stem)) > 10
    assert found.decode() == whole()
