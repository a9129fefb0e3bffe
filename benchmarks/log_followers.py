"""What does a follower of a log cost the agent, while nothing is written and while lines come?

    python -m benchmarks.log_followers [--followers 50] [--seconds 10] [--uvloop]

What the API does for each follower but for the socket (api/files.py: read_logs, and a frame made of each piece), on
real log files, one a follower; CPU is this process'. `lines`: each file gets ten lines a second.
"""

import argparse
import asyncio
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from agent.logs import stream_of
from api.files import _frame, read_logs


async def measured(folder: Path, followers: int, span_s: float, lines_per_s: float) -> tuple[float, int]:
    """(CPU seconds, bytes that all followers got)."""
    stems = [folder / f"{number}.stdout" for number in range(followers)]
    for stem in stems:
        stem.with_name(f"{stem.name}.0").write_bytes(b"")
    got = 0

    async def follow(stem: Path) -> None:
        nonlocal got
        stream = stream_of(stem)
        async for piece in read_logs(stream, offset=0, from_end=False, is_over=lambda: False):
            _frame(piece)
            got += len(piece.data) if piece else 0

    async def write() -> None:
        files = [stem.with_name(f"{stem.name}.0").open("ab", buffering=0) for stem in stems]
        try:
            while lines_per_s:
                for file in files:
                    file.write(b"x" * 99 + b"\n")
                await asyncio.sleep(1 / lines_per_s)
        finally:
            for file in files:
                file.close()

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(follow(stem), name="follower") for stem in stems]
        running.append(tasks.create_task(write(), name="writer"))
        await asyncio.sleep(1.0)  # all have begun
        before = time.process_time()
        await asyncio.sleep(span_s)
        used_s = time.process_time() - before
        for each in running:
            each.cancel()
    return used_s, got


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--followers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--uvloop", action="store_true")
    args = parser.parse_args()
    run = asyncio.run
    if args.uvloop:
        import uvloop

        run = uvloop.run
    for what, lines_per_s in (("quiet", 0.0), ("lines", 10.0)):
        with tempfile.TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
            used_s, got = run(measured(Path(folder), args.followers, args.seconds, lines_per_s))
            share = used_s / args.seconds
            print(
                f"{what}: {args.followers} followers use {100 * share:.2f} % of a core, "
                f"{1e3 * share / args.followers:.3f} ms a second each; {got} bytes"
            )


if __name__ == "__main__":
    main()
