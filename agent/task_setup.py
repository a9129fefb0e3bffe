"""What do drivers, hooks and services get to know of a task?

Plain functions from an alloc, a task and the node to the values that are handed out: the context of a
hook, the environment, a driver's start, a TaskRun. task_runner.py says when each is asked for.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from agent.drivers.base import Driver, TaskDirs, TaskStart, same_dirs
from agent.env import TaskEnv, cpu_mhz, task_env
from agent.hooks.base import TaskContext
from agent.logs import current
from agent.task_run import TaskRun
from agent.tools import Tools
from agent.volumes import binds
from checks.registration import TaskNetwork
from checks.restart import Cause
from jobspec.interpolate import interpolate, interpolate_document
from model.alloc import Apart, DesiredAlloc
from model.job import Job, Task, TaskGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One task of one alloc, under the job version that it runs now."""

    desired: DesiredAlloc
    job: Job
    group: TaskGroup
    task: Task
    tools: Tools

    def context(self, driver: Driver | None, say: Callable[[str, str], None], waits: Callable[[str | None], None]) -> TaskContext:
        """driver: None for one that this agent does not have."""
        return TaskContext(
            desired=self.desired,
            job=self.job,
            group=self.group,
            task=self.task,
            dirs=self._task_dirs(),
            env=lambda: self.env(driver, {}),
            say=say,
            waits=waits,
        )

    def _task_dirs(self) -> TaskDirs:
        return self.tools.dirs.task(self.desired.id, self.task.name)

    def env(self, driver: Driver | None, extra: Mapping[str, str]) -> TaskEnv:
        """extra: what the hooks' prepare() found."""
        return task_env(
            desired=self.desired,
            job=self.job,
            group=self.group,
            task=self.task,
            node=self.tools.node(),
            dirs=same_dirs(self._task_dirs()) if driver is None else driver.seen_dirs(self._task_dirs()),
            extra=extra,
        )

    def start(
        self, driver: Driver, attempt: int, extra: Mapping[str, str], say: Callable[[str], None]
    ) -> TaskStart:
        dirs, env, node = self._task_dirs(), self.env(driver, extra), self.tools.node()
        return TaskStart(
            alloc_id=self.desired.id,
            task_name=self.task.name,
            attempt=attempt,
            config=interpolate_document(self.task.config, env.values),
            env=env.variables,
            dirs=dirs,
            stdout=_log_file(dirs, self.task, "stdout", attempt),
            stderr=_log_file(dirs, self.task, "stderr", attempt),
            resources=msgspec.structs.replace(self.task.resources, cpu=cpu_mhz(self.task, node)),
            user=interpolate(self.task.user, env.values),
            ports=self.desired.ports,
            cores=self.desired.cores_of(self.task.name),
            core_mhz=node.resources.core_mhz,
            binds=binds(self.group, self.task, self.desired.index, node, env.values),
            labels={
                "job": self.desired.job_id,
                "namespace": self.desired.namespace,
                "group": self.desired.task_group,
                "node": self.desired.node_id,
            },
            say=say,
        )

    def run(
        self,
        driver: Driver,
        started_s: float,
        execute: Callable[[Sequence[str], float], Awaitable[tuple[int, bytes]]],
        end: Callable[[Cause, str], None],
        signal: Callable[[str, str], Awaitable[None]],
        network: TaskNetwork | None,
        tell: Callable[[str, str], None],
    ) -> TaskRun:
        """end: asks for the end of this process start, and for what follows by its cause."""
        # Who was taken out of its job is not led to any more, nor checked.
        is_shown = self.desired.apart is not Apart.RELEASED
        return TaskRun(
            alloc=self.desired,
            job=self.job,
            group=self.group if is_shown else msgspec.structs.replace(self.group, services=()),
            task=self.task if is_shown else msgspec.structs.replace(self.task, services=()),
            env=self.env(driver, {}).variables,
            started_s=started_s,
            execute=execute,
            restart=partial(end, Cause.UNHEALTHY),
            bounce=partial(end, Cause.ASKED),
            fail=partial(end, Cause.REFUSED),
            signal=signal,
            network=network,
            tell=tell,
        )


def _log_file(dirs: TaskDirs, task: Task, stream: str, attempt: int) -> Path:
    """The file to append to; only a task that ran before can have a later one than the first."""
    stem = dirs.logs / f"{task.name}.{stream}"
    return current(stem) if attempt > 1 else stem.with_name(f"{stem.name}.0")
