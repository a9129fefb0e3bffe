"""What does a crash of `drover agent -dev` leave, and who removes it?

-dev stops its tasks when it ends. When it was killed instead, the next -dev start on the same data_dir ends
what the journal names before anything else. Never called outside -dev: everywhere else a task that
outlived its agent is the point.
"""

import logging
from collections.abc import Sequence

from agent.alloc_dir import AllocDirs
from agent.drivers.base import Driver
from agent.journal import Journal
from model.alloc import AllocId
from model.errors import DriverBusy, TaskRefused

log = logging.getLogger(__name__)


async def sweep(journal: Journal, drivers: Sequence[Driver], dirs: AllocDirs) -> int:
    """Ends and forgets every task of the life before; returns how many there were. The journal stays open."""
    contents = await journal.load()
    by_name = {driver.name: driver for driver in drivers}
    for row in contents.tasks:
        if row.handle is None or row.handle.driver not in by_name:
            continue
        try:
            await by_name[row.handle.driver].destroy(row.handle)
        except (DriverBusy, TaskRefused, OSError) as error:
            log.warning("%s is left behind: %s", row.key, error)
    for alloc in contents.allocs:
        await dirs.remove(alloc.desired.id)
    tasks: dict[AllocId, list[str]] = {alloc.desired.id: [] for alloc in contents.allocs}
    for row in contents.tasks:
        tasks.setdefault(row.alloc_id, []).append(row.task_name)
    await journal.forget(tasks, tuple(contents.jobs))
    return len(contents.tasks)
