import asyncio
import random
from pathlib import Path

from agent.alloc_dir import DiskDirs, NoDirs
from agent.data_dir import DataDir
from agent.journal import MemoryJournal
from agent.node_agent import NodeAgent
from agent.sweep import sweep
from model.alloc import ClientStatus
from model.errors import ConfigError
from tests import clock
from tests.agent.doubles import NODE, FakeDriver, MemoryStore, a_job, an_alloc


def test_a_sweep_ends_what_a_crashed_dev_agent_left_and_the_next_one_starts_from_nothing() -> None:
    async def story() -> None:
        job = a_job()
        store, driver, journal = MemoryStore(job), FakeDriver(), MemoryJournal()
        allocs = [an_alloc(number, job) for number in range(3)]
        agent = NodeAgent(
            node=NODE,
            store=store,
            journal=journal,
            drivers=[driver],
            dirs=NoDirs(),
            now=clock.now,
            rng=random.Random(1),
        )
        async with asyncio.TaskGroup() as group:
            life = group.create_task(agent.run(), name="agent")
            store.want(*allocs)
            await store.until_all(ClientStatus.RUNNING)
            life.cancel()
        assert await sweep(journal, [driver], NoDirs()) == 3
        assert driver.tasks == {}
        assert (journal.allocs, journal.tasks, journal.jobs) == ({}, {}, {})

    clock.run(story())


def test_a_data_dir_belongs_to_one_agent_and_keeps_its_node_id(tmp_path: Path) -> None:
    with DataDir(tmp_path / "data") as data:
        node_id = data.node_id()
        # A lock of this same process would be granted again, so another one asks.
        import subprocess
        import sys

        script = f"from pathlib import Path; from agent.data_dir import DataDir; DataDir(Path({str(data.path)!r})).__enter__()"
        asked = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert ConfigError.__name__ in asked.stderr
        assert "in use by another drover agent" in asked.stderr
    with DataDir(tmp_path / "data") as data:
        assert data.node_id() == node_id


async def test_directories_are_nomads_and_secrets_are_their_owners_alone(tmp_path: Path) -> None:
    dirs, alloc = DiskDirs(tmp_path), an_alloc()
    for _ in range(2):
        dirs.build_alloc(alloc.id)
        dirs.build_task(alloc.id, "main", "", is_contained=False, has_secrets=False)
    found = {str(path.relative_to(tmp_path / alloc.id)) for path in (tmp_path / alloc.id).rglob("*")}
    assert found == {
        "alloc",
        "alloc/data",
        "alloc/logs",
        "alloc/tmp",
        "main",
        "main/local",
        "main/secrets",
        "main/tmp",
    }
    assert (tmp_path / alloc.id / "main" / "secrets").stat().st_mode & 0o777 == 0o700
    await dirs.remove(alloc.id)
    assert not (tmp_path / alloc.id).exists()
