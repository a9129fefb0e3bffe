import asyncio
import os
import sqlite3
from pathlib import Path

import pytest

from agent.decide.step import Phase
from agent.drivers.base import Handle
from agent.journal import AllocRow, Contents, Journal, MemoryJournal, TaskRow
from agent.journal_sqlite import SqliteJournal
from tests.agent.doubles import a_job, an_alloc

JOB = a_job()
ALLOC = AllocRow(desired=an_alloc(1, JOB), job_version=0)
TASK = TaskRow(
    alloc_id=ALLOC.desired.id,
    task_name="main",
    phase=Phase.RUNNING,
    attempt=3,
    handle=Handle(driver="fake", alloc_id=ALLOC.desired.id, task_name="main", attempt=3, boot_id="b"),
)


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    return MemoryJournal() if request.param == "memory" else SqliteJournal(tmp_path / "journal.db")


async def test_what_was_put_is_loaded_and_what_was_forgotten_is_not(journal: Journal) -> None:
    await journal.load()
    await journal.put([JOB, ALLOC, TASK])
    assert await journal.load() == Contents(allocs=(ALLOC,), tasks=(TASK,), jobs={"default/web/0": JOB})
    await journal.forget({ALLOC.desired.id: ["main"]}, ["default/web/0"])
    assert await journal.load() == Contents()
    await journal.close()


async def test_the_last_of_several_rows_wins(journal: Journal) -> None:
    journal.note(TaskRow(alloc_id=ALLOC.desired.id, task_name="main"))
    journal.note(TASK)
    await journal.put([])
    assert (await journal.load()).tasks == (TASK,)
    await journal.close()


async def test_notes_are_durable_after_a_close_and_rows_after_their_put(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first = SqliteJournal(path)
    first.note(ALLOC)
    await first.close()
    second = SqliteJournal(path)
    await second.put([TASK])
    third = SqliteJournal(path)  # as after a kill -9: the second was never closed
    contents = await third.load()
    assert (contents.allocs, contents.tasks) == ((ALLOC,), (TASK,))
    await second.close()
    await third.close()


async def test_many_puts_at_once_share_a_few_transactions(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    commits = 0
    real = journal._commit

    def counted(batch: dict[tuple[str, str], bytes | None]) -> None:
        nonlocal commits
        commits += 1
        real(batch)

    journal._commit = counted  # type: ignore[method-assign,assignment]  # counts fsyncs, changes nothing
    async with asyncio.TaskGroup() as group:
        for number in range(300):
            row = TaskRow(alloc_id=an_alloc(number).id, task_name="main")
            group.create_task(journal.put([row]), name=f"put {number}")
    assert commits <= 3
    assert len((await journal.load()).tasks) == 300
    await journal.close()


async def test_a_disk_that_refuses_fails_the_put_and_not_the_next_one(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.db")
    await journal.load()
    other = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OSError, match="journal"):
        await journal.put([TASK])
    other.execute("ROLLBACK")
    other.close()
    await journal.put([ALLOC])
    contents = await journal.load()
    assert (contents.allocs, contents.tasks) == ((ALLOC,), (TASK,))
    await journal.close()
    assert os.path.exists(tmp_path / "journal.db")
