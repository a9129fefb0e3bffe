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
from agent.alloc_dir import in_memory
from model.alloc import AllocId

log = logging.getLogger(__name__)

# What is left of the life of a token or a lease when it is replaced because it cannot be renewed any longer.
LAST_PART = 0.2
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
    """The token of one task.

    expires_at: seconds since the epoch, 0: never. may_look: it has the policy that lets it look at itself. is_over: the
    task has ended, the token has not. replaced_at: when another one took its place, 0: none did.
    """

    alloc_id: AllocId
    task: str
    token: str
    accessor: str
    namespace: str
    ttl_s: float
    expires_at: float
    renewable: bool
    may_look: bool = True
    is_over: bool = False
    replaced_at: float = 0.0
    leases: Mapping[str, Lease] = {}

    def __repr__(self) -> str:
        return f"Record({self.alloc_id}/{self.task}, expires_at={self.expires_at:.0f})"

    def is_valid(self, now_s: float) -> bool:
        return not self.expires_at or now_s < self.expires_at

    def is_ending(self, now_s: float) -> bool:
        """Whether the last part of its life has begun."""
        return bool(self.expires_at) and now_s >= self.expires_at - self.ttl_s * LAST_PART


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
        path = self._of(record)
        new = path.with_suffix(".new")
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(msgspec.json.encode(record))
        new.rename(path)

    def remove(self, record: Record) -> None:
        self._of(record).unlink(missing_ok=True)

    def _of(self, record: Record) -> Path:
        name = f"{record.alloc_id}/{record.task}" + (f"/{record.accessor}" if record.replaced_at else "")
        return self._path / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"

    def open(self) -> None:
        """Raises TaskRefused where a record would be on a disk, OSError."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        tmpfs.secure(self._path, mode=0o700, size_mb=_SIZE_MB_MAX)
        in_memory(self._path)
