"""The whole agent but for drivers and disk: fake driver, journal in memory, virtual time."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from agent.alloc_dir import AllocDirs, NoDirs
from agent.hooks.base import TaskHook
from agent.journal import MemoryJournal
from agent.node_agent import NodeAgent, Pace
from agent.permit import without_asking
from agent.task_run import TaskRun
from agent.tools import without_tokens
from model.alloc import AllocId
from model.job import Job, RestartPolicy
from model.node import Node
from model.wire import nanoseconds
from tests import clock
from tests.agent.doubles import NODE, FakeDriver, MemoryStore


@dataclass
class RecordedServices:
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    runs: list[TaskRun] = field(default_factory=list)

    async def publish(self, run: TaskRun) -> None:
        self.calls.append(("publish", run.alloc.id, run.task.name))
        self.runs.append(run)

    checks_pass: bool = True

    async def passing(self) -> Mapping[AllocId, bool]:
        return {run.alloc.id: self.checks_pass for run in self.runs}

    async def withdraw(self, alloc_id: AllocId, task_name: str) -> None:
        self.calls.append(("withdraw", alloc_id, task_name))


class World:
    """A Consul, a driver and a journal that outlive the agents of a test."""

    def __init__(self, *jobs: Job) -> None:
        self.store = MemoryStore(*jobs)
        self.driver = FakeDriver()
        self.journal = MemoryJournal()
        self.services = RecordedServices()
        self.dirs: AllocDirs = NoDirs()
        self.node: Node = NODE
        self.permit: Callable[[AllocId, int], Coroutine[Any, Any, None]] = without_asking
        self.accessors: Callable[[AllocId], Mapping[str, str]] = without_tokens
        self.agent: NodeAgent

    @asynccontextmanager
    async def running(
        self, hooks: Sequence[TaskHook] = (), pace: Pace | None = None
    ) -> AsyncIterator[NodeAgent]:
        """One life of the agent; killed at the end of the block."""
        self.agent = NodeAgent(
            node=self.node,
            store=self.store,
            journal=self.journal,
            drivers=[self.driver],
            dirs=self.dirs,
            now=clock.now,
            rng=random.Random(7),
            services=self.services,
            checks=self.services,
            hooks=hooks,
            pace=pace,
            permit=self.permit,
            accessors=self.accessors,
        )
        async with asyncio.TaskGroup() as group:
            life = group.create_task(self.agent.run(), name="agent")
            try:
                yield self.agent
            finally:
                life.cancel()

    def reboot(self) -> None:
        self.driver.reboot()
        self.node = replace(self.node, boot_id=self.node.boot_id + "+")


def kinds(store: MemoryStore, alloc_id: AllocId, task: str = "main") -> list[str]:
    return [event.type for event in store.observed[alloc_id].task_states[task].events]


def restart_policy(**fields: Any) -> RestartPolicy:
    spans = {
        key: nanoseconds(value) if key in ("delay", "interval") else value for key, value in fields.items()
    }
    return RestartPolicy(**spans)
