"""How does the journal survive a kill -9 and a power cut, without costing an fsync per alloc?

One SQLite file (WAL, synchronous=FULL), written by one thread. Rows gather in memory while a
transaction is under way and go into the next one together: 300 allocs that start at once share a
handful of fsyncs, and a row written twice in between is written once.

    put()/note() -> _pending {key: bytes} --(writer idle?)--> thread: BEGIN, upserts, COMMIT --> waiters
"""

import asyncio
import errno
import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agent.journal import AllocRow, Contents, Row, TaskRow, job_key
from model.alloc import AllocId
from model.job import Job
from model.wire import decode, encode

log = logging.getLogger(__name__)

# How long a note may wait for company before it is written by itself. A note lost in a power cut is
# found out again from the running task; longer would only make that search more frequent.
NOTE_WAIT_S = 0.25

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (kind TEXT, key TEXT, value BLOB, PRIMARY KEY (kind, key)) WITHOUT ROWID
"""

_Key = tuple[str, str]


class SqliteJournal:
    """Use from one event loop. A disk that refuses (full) fails the put that waits for it, not the agent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._database: sqlite3.Connection | None = None
        self._pending: dict[_Key, bytes | None] = {}  # None: delete
        self._waiters: list[asyncio.Future[None]] = []
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None

    async def load(self) -> Contents:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def put(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._add(row)
        await self._flushed()

    def note(self, row: Row) -> None:
        self._add(row)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTE_WAIT_S, self._write)

    async def forget(self, allocs: Mapping[AllocId, Sequence[str]], jobs: Sequence[str]) -> None:
        for alloc_id, names in allocs.items():
            self._pending["alloc", alloc_id] = None
            for name in names:
                self._pending["task", f"{alloc_id}/{name}"] = None
        for key in jobs:
            self._pending["job", key] = None
        await self._flushed()

    async def close(self) -> None:
        try:
            await self._flushed()
        except OSError as error:
            log.warning("the last notes are lost, and will be found again from what runs: %s", error)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _add(self, row: Row) -> None:
        match row:
            case AllocRow():
                self._pending["alloc", row.key] = encode(row)
            case TaskRow():
                self._pending["task", row.key] = encode(row)
            case Job():
                self._pending["job", job_key(row)] = encode(row)

    async def _flushed(self) -> None:
        """Returns when all that is pending now has been committed."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._write()
        await waiter

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing or not (self._pending or self._waiters):
            return
        batch, self._pending = self._pending, {}
        waiters, self._waiters = self._waiters, []
        self._writing = True
        future = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, batch)
        future.add_done_callback(lambda done: self._written(done, batch, waiters))

    def _written(
        self,
        done: asyncio.Future[None],
        batch: dict[_Key, bytes | None],
        waiters: list[asyncio.Future[None]],
    ) -> None:
        self._writing = False
        error = None if done.cancelled() else done.exception()
        if error is not None:
            # Notes of this batch go with the next; whoever waits is told and decides.
            self._pending = batch | self._pending
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(_translated(error, self._path))
        if self._waiters:
            self._write()
        elif self._pending and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NOTE_WAIT_S, self._write)

    # In the thread.

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # isolation_level None: we say BEGIN and COMMIT ourselves.
            self._database = sqlite3.connect(self._path, isolation_level=None, timeout=1.0)
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.execute(_SCHEMA)
        return self._database

    def _load(self) -> Contents:
        rows: dict[str, list[bytes]] = {"alloc": [], "task": [], "job": []}
        for kind, value in self._open().execute("SELECT kind, value FROM rows ORDER BY kind, key"):
            rows[kind].append(value)
        jobs = [decode(value, Job) for value in rows["job"]]
        return Contents(
            allocs=tuple(decode(value, AllocRow) for value in rows["alloc"]),
            tasks=tuple(decode(value, TaskRow) for value in rows["task"]),
            jobs={job_key(job): job for job in jobs},
        )

    def _commit(self, batch: Mapping[_Key, bytes | None]) -> None:
        database = self._open()
        written: list[tuple[Any, ...]] = [(*key, value) for key, value in batch.items() if value is not None]
        deleted = [key for key, value in batch.items() if value is None]
        database.execute("BEGIN IMMEDIATE")
        try:
            database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", written)
            database.executemany("DELETE FROM rows WHERE kind = ? AND key = ?", deleted)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _translated(error: BaseException, path: Path) -> OSError:
    """A full disk by its own number, so that it can be told to who waits for the task."""
    if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode == sqlite3.SQLITE_FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    return OSError(f"journal {path}: {error}")
