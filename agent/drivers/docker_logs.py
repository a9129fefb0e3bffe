"""How does a container's output get into the task's log files, once and whole?

The engine keeps the output (json-file, bounded) and hands it out with a timestamp for each message; one
connection for each container follows it. After each batch that was appended, a small record says how
far it came:

    <run>/<name>.log   {"at": last timestamp, "count": messages with it, "files": {stream: [number, bytes]}}

A new agent cuts off what was appended after the record was written (nobody else writes these files),
asks the engine from that timestamp on, and skips what it had. So nothing is lost or doubled over a kill
of the agent, and `docker logs` still works. What was refused: docs/design/003-docker-logs.md.
"""

import asyncio
import os
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from agent.drivers.docker_engine import Engine, frames
from agent.log_files import LogFolder, append
from agent.logs import current, numbers, stream_of
from model.wire import Document, decode, encode

_STREAMS = {1: "stdout", 2: "stderr"}
# A container that writes a line each millisecond would cost a batch (0.1 ms) for each; waiting this long
# after a small one bounds that to 20 a second, and nobody who reads a log notices.
_TRICKLE_BYTES = 1 << 14
_TRICKLE_S = 0.05
_STAMP_BYTES = len("2006-01-02T15:04:05.000000000Z")


class _Record(Document):
    at: str = ""
    count: int = 0
    files: dict[str, tuple[int, int]] = {}


class ContainerLogs:
    """stems: logs/<task>.stdout and .stderr. record: a file of the driver's own."""

    def __init__(self, stems: dict[str, Path], record: Path) -> None:
        self._stems = stems
        self._files = {stream: stream_of(stem) for stream, stem in stems.items()}
        self._path = record
        self._record = _Record()

    async def follow(self, engine: Engine, container: str) -> None:
        """Appends all there is and will be; returns when the container has ended. Raises DriverBusy."""
        async with self._files["stdout"].held(), self._files["stderr"].held():
            self._resume()
        since = self._record.at or "0"
        params = {"stdout": 1, "stderr": 1, "follow": 1, "timestamps": 1, "since": _unix(since)}
        skip = self._record.count
        async with engine.stream("GET", f"containers/{container}/logs", params=params) as response:
            batch: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
            async for group in frames(response.content):
                for stream, message in group:
                    at = message[:_STAMP_BYTES].decode("ascii", "replace")
                    if skip and at <= since:
                        skip -= at == since
                        continue
                    batch[_STREAMS.get(stream, "stdout")].append(message[_STAMP_BYTES + 1 :])
                    self._count(at)
                # A cut between the choice of the file and the write would take the file away, or bury it.
                async with self._files["stdout"].held(), self._files["stderr"].held():
                    self._append(batch)
                is_trickle = sum(len(m) for messages in batch.values() for m in messages) < _TRICKLE_BYTES
                batch = {"stdout": [], "stderr": []}
                if is_trickle:
                    await asyncio.sleep(_TRICKLE_S)

    def _count(self, at: str) -> None:
        count = self._record.count + 1 if at == self._record.at else 1
        self._record = _Record(at=at, count=count, files=self._record.files)

    def _append(self, batch: dict[str, list[bytes]]) -> None:
        """One write for each stream, then the record: what lies between is cut off by _resume()."""
        files = dict(self._record.files)
        with ExitStack() as stack:
            for stream, messages in batch.items():
                path = current(self._stems[stream])
                file = stack.enter_context(open(append(path), "ab", buffering=0))
                _write_all(file, b"".join(messages))
                files[stream] = (int(path.suffix[1:]), os.fstat(file.fileno()).st_size)
        self._record = _Record(at=self._record.at, count=self._record.count, files=files)
        with open(self._path, "r+b" if self._path.exists() else "wb", buffering=0) as file:
            # One line of a fixed length, written over the one before: whole or not at all.
            _write_all(file, encode(self._record).ljust(255) + b"\n")

    def _resume(self) -> None:
        """Takes up the record of the life before, and cuts the files back to it."""
        try:
            self._record = decode(self._path.read_bytes(), _Record)
        except FileNotFoundError:
            return
        for stream, (number, size) in self._record.files.items():
            stem = self._stems[stream]
            # Rotation since then only moved bytes from one file into the next.
            kept = [f"{stem.name}.{n}" for n in numbers(stem) if n >= number]
            if not kept:
                continue
            with LogFolder(stem.parent) as folder:
                excess = sum(map(folder.size, kept)) - size
                if excess > 0:
                    with open(folder.open(kept[-1], os.O_RDWR), "r+b") as last:
                        last.truncate(max(folder.size(kept[-1]) - excess, 0))


def _write_all(file: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _unix(stamp: str) -> str:
    """The engine's form of a moment: seconds since the epoch and nanoseconds."""
    if stamp == "0":
        return stamp
    from datetime import UTC, datetime

    whole, _, fraction = stamp.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return f"{seconds}.{fraction or '0'}"
