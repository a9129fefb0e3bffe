"""What the agent itself has to remember of its tasks' Vault tokens, and where that is.

A file for each task, in a directory that is in memory and that only the agent can enter: a token outlives the agent, as
its task does, but not the machine. A reboot takes both.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent import tmpfs
from model.alloc import AllocId
from model.errors import TaskRefused

log = logging.getLogger(__name__)

# Of all tasks' records; one has some hundred bytes and its dynamic secrets.
_SIZE_MB_MAX = 64


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A dynamic secret that was issued. secret: the answer as Vault gave it. expires_at: seconds since the epoch."""

    secret: Mapping[str, Any]
    lease_id: str
    duration_s: float
    expires_at: float
    renewable: bool

    def __repr__(self) -> str:
        return f"Lease(expires_at={self.expires_at:.0f})"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The token of one task. expires_at: seconds since the epoch, 0: never. is_over: the task has ended, the token has not."""

    alloc_id: AllocId
    task: str
    token: str
    accessor: str
    namespace: str
    ttl_s: float
    expires_at: float
    renewable: bool
    is_over: bool = False
    leases: Mapping[str, Lease] = {}

    def __repr__(self) -> str:
        return f"Record({self.alloc_id}/{self.task}, expires_at={self.expires_at:.0f})"

    def is_valid(self, now_s: float) -> bool:
        return not self.expires_at or now_s < self.expires_at


class VaultRecords:
    """path: made and mounted at the first record."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[Record]:
        """All of them; one that cannot be read is left out and said."""
        found = []
        for path in sorted(self._path.glob("*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=Record))
            except (OSError, msgspec.DecodeError) as error:
                log.warning("%s: not read: %s", path, type(error).__name__)
        return found

    def put(self, record: Record) -> None:
        """Whole or not at all. Raises as open()."""
        self.open()
        path = self._of(record.alloc_id, record.task)
        new = path.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(record))
        new.rename(path)

    def remove(self, alloc_id: AllocId, task: str) -> None:
        self._of(alloc_id, task).unlink(missing_ok=True)

    def _of(self, alloc_id: AllocId, task: str) -> Path:
        return self._path / f"{hashlib.sha256(f'{alloc_id}/{task}'.encode()).hexdigest()[:32]}.json"

    def open(self) -> None:
        """Raises TaskRefused where a record would be on a disk, OSError."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            tmpfs.mount(self._path, mode=0o700, size_mb=_SIZE_MB_MAX)
        in_memory(self._path)


def in_memory(path: Path) -> None:
    """Raises TaskRefused for a directory that is on a disk."""
    if not tmpfs.is_in_memory(path):
        raise TaskRefused(f"{path} is on a disk, where no secret may be: run the agent as root, or put its data_dir on a tmpfs")
