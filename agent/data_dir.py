"""Where does an agent keep what must outlive it, and how do two never share it?

<data_dir>/
  lock            held (fcntl) as long as the agent lives
  node-id         made once, by rename
  journal.db      journal_sqlite.py
  run/            drivers: pid files, exit codes
  secrets/        in memory: what the agent itself has to know of the tasks' Vault tokens (vault_records.py)
  allocs/<id>/    alloc_dir.py
"""

import fcntl
import logging
import os
import shutil
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from agent import tmpfs
from agent.alloc_dir import remove_tree
from model.errors import ConfigError, Fault
from model.node import NodeId

log = logging.getLogger(__name__)


class DataDir:
    """An agent's data_dir, held while the object is open. Raises ConfigError when another agent holds it."""

    def __init__(self, path: Path, alloc_dir: Path | None = None) -> None:
        self.path = path.absolute()
        self.allocs = (alloc_dir or self.path / "alloc").absolute()
        self._lock: int | None = None

    @property
    def journal(self) -> Path:
        return self.path / "journal.db"

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    def __enter__(self) -> Self:
        try:
            # Tasks that run as other users must be able to reach their directories below.
            self.path.mkdir(parents=True, exist_ok=True)
            self.run.mkdir(mode=0o711, exist_ok=True)
            self._make_allocs()
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _fault(f"cannot be used: {error.strerror}", self.path) from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise _fault("is in use by another drover agent", self.path) from error
        self._lock = descriptor
        return self

    def _make_allocs(self) -> None:
        try:
            self.allocs.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            name = "data_dir" if self.allocs.is_relative_to(self.path) else "client.alloc_dir"
            raise _fault(f"cannot be used: {error.strerror}", self.allocs, name) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def node_id(self) -> NodeId:
        """This node's id; made at the first call, complete or not there at all."""
        path = self.path / "node-id"
        if path.exists():
            return NodeId(path.read_text().strip())
        node_id = str(uuid.uuid4())
        partial = path.with_suffix(".partial")
        with partial.open("w") as file:
            file.write(node_id + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        return NodeId(node_id)


def remove_data_dir(path: Path) -> None:
    """A whole data_dir whose agent is gone and that holds its allocs."""
    data = DataDir(path)
    try:
        tmpfs.unmount(data.secrets)
    except OSError as error:
        log.warning("%s stays: %s", path, error)
        return
    for alloc in data.allocs.glob("*"):
        remove_tree(alloc)
    shutil.rmtree(path, ignore_errors=True)


def _fault(message: str, path: Path, setting: str = "data_dir") -> ConfigError:
    return ConfigError((Fault(message=f"{path} {message}", path=setting),))
