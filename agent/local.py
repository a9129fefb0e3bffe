"""How is a real agent put together from its configuration?

    TaskHost.run()
      ├─ templates       hooks/templates.py: their watches, and one follower for each running task that has any
      ├─ rotate logs     logs.py
      └─ NodeAgent       with the SQLite journal, directories on disk, raw_exec and docker

The simulator puts a NodeAgent together itself, with doubles. Consul's side (store, services, checks)
comes from the caller, for it is shared with the rest of the process.
"""

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

from agent import tmpfs
from agent.alloc_dir import DiskDirs
from agent.data_dir import DataDir
from agent.drivers.base import Driver
from agent.drivers.docker import Docker
from agent.drivers.docker_config import DockerRules
from agent.drivers.exec import Exec
from agent.drivers.java import Java
from agent.drivers.raw_exec import RawExec
from agent.fingerprint import raise_file_limit
from agent.health import AllocChecks
from agent.hooks.artifacts import ArtifactsHook
from agent.hooks.base import TaskHook
from agent.hooks.logs import LogsHook
from agent.hooks.templates import TemplatesHook
from agent.hooks.vault import VaultHook
from agent.journal_sqlite import SqliteJournal
from agent.logs import LogRotation
from agent.node_agent import NodeAgent
from agent.permit import without_asking
from agent.samples import Samples
from agent.store import AgentStore
from agent.sweep import sweep
from agent.task_run import TaskServices
from agent.tools import without_tokens
from configs.settings import AgentConfig
from model.alloc import AllocId
from model.node import Node, NodeId

log = logging.getLogger(__name__)


def docker_rules(config: Mapping[str, Any]) -> DockerRules:
    """Nomad's plugin options of those names; what is absent keeps its default."""
    default = DockerRules()
    volumes = config.get("volumes", {})
    return DockerRules(
        allow_privileged=bool(config.get("allow_privileged", default.allow_privileged)),
        volumes_enabled=bool(volumes.get("enabled", default.volumes_enabled)),
        allow_caps=tuple(str(cap).lower() for cap in config.get("allow_caps", default.allow_caps)),
        allow_runtimes=tuple(map(str, config.get("allow_runtimes", default.allow_runtimes))),
        allow_devices=tuple(map(str, config.get("allow_devices", default.allow_devices))),
        pull_s_max=default.pull_s_max,
    )


def _docker(config: AgentConfig, node_id: NodeId, data: DataDir) -> Docker:
    options = config.plugins.docker.config
    return Docker(node_id, data.run, endpoint=str(options.get("endpoint", "")), rules=docker_rules(options))


async def clear(config: AgentConfig, data: DataDir) -> None:
    """Ends every task of a data_dir whose agent is gone: for what a killed -dev agent left."""
    journal, docker = SqliteJournal(data.journal), _docker(config, data.node_id(), data)
    try:
        processes = [of(data.run, os.environ) for of in (RawExec, Exec, Java)]
        await sweep(journal, [docker, *processes], DiskDirs(data.allocs))
    finally:
        await docker.close()
        await journal.close()


class TaskHost:
    """The NodeAgent of this machine with all that it needs below it. data: entered by the caller, and kept so until run() has returned."""

    def __init__(
        self,
        config: AgentConfig,
        data: DataDir,
        node: Node,
        store: AgentStore,
        *,
        services: TaskServices | None = None,
        checks: AllocChecks | None = None,
        vault: VaultHook | None = None,
        templates: TemplatesHook | None = None,
        hooks: Sequence[TaskHook] = (),
        permit: Callable[[AllocId, int], Coroutine[Any, Any, None]] = without_asking,
    ) -> None:
        self._is_dev, self._data = config.is_dev, data
        self._journal = SqliteJournal(data.journal)
        self._dirs = DiskDirs(data.allocs)
        self._rotation = LogRotation()
        self._vault, self._templates = vault, templates
        self._docker = _docker(config, node.id, data)
        self._drivers: list[Driver] = [self._docker, Exec(data.run, os.environ), Java(data.run, os.environ)]
        if config.plugins.raw_exec.enabled:
            self._drivers.append(RawExec(data.run, os.environ))
        self.agent = NodeAgent(
            node=node,
            store=store,
            journal=self._journal,
            drivers=self._drivers,
            dirs=self._dirs,
            now=lambda: datetime.now(UTC),
            rng=random.Random(),
            services=services,
            checks=checks,
            hooks=(LogsHook(self._rotation), *hooks, *(one for one in (vault, ArtifactsHook(config.client.artifact), templates) if one is not None)),
            permit=permit,
            accessors=vault.accessors if vault is not None else without_tokens,
            kill_timeout_s_max=config.client.max_kill_timeout_s,
        )
        self.samples = Samples(self.agent)

    async def run(self) -> None:
        """Runs until cancelled; tasks run on, except under -dev, where stop_all() is the caller's to call first."""
        raise_file_limit()
        if tmpfs.is_apart(self._data.path):
            log.warning(
                "this agent has a mount namespace of its own (PrivateTmp, ProtectSystem, … in its unit?): neither Docker nor the agent "
                "after this one sees the secrets of its tasks; see docs/vault.md"
            )
        if self._is_dev:
            await sweep(self._journal, self._drivers, self._dirs)
        try:
            async with self._templates or nullcontext(), asyncio.TaskGroup() as group:
                group.create_task(self._rotation.run(), name="rotate logs")
                if self._vault is not None:
                    group.create_task(self._vault.run(), name="vault tokens")
                group.create_task(self.samples.run(), name="samples")
                group.create_task(self.agent.run(), name="node agent")
        finally:
            await self._docker.close()
