"""Blocking calls wait in a few threads, that nobody waits for."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vault.threads import Threads


async def test_what_comes_of_a_call_is_returned_or_raised() -> None:
    threads = Threads(2)
    assert await threads.run(lambda: 41 + 1) == 42
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    threads.close()


async def test_no_more_threads_than_calls_and_than_allowed() -> None:
    threads, gate, names = Threads(3), threading.Event(), set()

    def work() -> None:
        names.add(threading.current_thread().name)
        gate.wait(5)

    for _ in range(5):
        gate.set()
        await threads.run(work)
    assert len(names) == 1
    gate.clear()
    waiting = asyncio.gather(*(threads.run(work) for _ in range(10)))
    await asyncio.sleep(0.1)
    assert len(names) == 3
    gate.set()
    await waiting
    assert len(names) == 3
    threads.close()


async def test_a_call_that_waits_and_is_cancelled_is_never_made() -> None:
    threads, gate, made = Threads(1), threading.Event(), []
    first = asyncio.gather(threads.run(lambda: gate.wait(5)))
    await asyncio.sleep(0)  # its turn comes first
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await threads.run(lambda: made.append(1))
    gate.set()
    await first
    assert await threads.run(lambda: 2) == 2
    assert made == []
    threads.close()


def test_a_process_ends_while_a_call_hangs() -> None:
    text = """
import asyncio, time
from vault.threads import Threads
async def main():
    try:
        async with asyncio.timeout(0.1):
            await Threads(1).run(lambda: time.sleep(60))
    except TimeoutError:
        pass
asyncio.run(main())
"""
    began_s = time.monotonic()
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", text], check=True, cwd=root, timeout=30, env={**os.environ, "PYTHONPATH": str(root)})
    assert time.monotonic() - began_s < 20
