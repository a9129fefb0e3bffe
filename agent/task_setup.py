"""What do drivers, hooks and services get to know of a task?

Plain functions from an alloc, a task and the node to the values that are handed out: the context of a
hook, the environment, a driver's start, a TaskRun. task_runner.py says when each is asked for.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.drivers.base import Driver, TaskStart
from agent.env import TaskEnv, cpu_mhz, task_env
from agent.hooks.base import TaskContext
from agent.logs import current
from agent.task_run import TaskRun
from agent.tools import Tools
from agent.volumes import binds
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

    def context(self) -> TaskContext:
        return TaskContext(
            desired=self.desired,
            job=self.job,
            group=self.group,
            task=self.task,
            dirs=self.tools.dirs.task(self.desired.id, self.task.name),
        )

    def env(self, driver: Driver, extra: Mapping[str, str]) -> TaskEnv:
        """extra: what the hooks' prepare() found."""
        return task_env(
            desired=self.desired,
            job=self.job,
            group=self.group,
            task=self.task,
            node=self.tools.node(),
            dirs=driver.seen_dirs(self.context().dirs),
            extra=extra,
        )

    def start(
        self, driver: Driver, attempt: int, extra: Mapping[str, str], say: Callable[[str], None]
    ) -> TaskStart:
        context, env, node = self.context(), self.env(driver, extra), self.tools.node()
        return TaskStart(
            alloc_id=self.desired.id,
            task_name=self.task.name,
            attempt=attempt,
            config=interpolate_document(self.task.config, env.values),
            env=env.variables,
            dirs=context.dirs,
            stdout=_log_file(context, "stdout", attempt),
            stderr=_log_file(context, "stderr", attempt),
            resources=msgspec.structs.replace(self.task.resources, cpu=cpu_mhz(self.task, node)),
            user=interpolate(self.task.user, env.values),
            ports=self.desired.ports,
            cores=self.desired.cores_of(self.task.name),
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
        restart: Callable[[str], None],
    ) -> TaskRun:
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
            restart=restart,
        )


def _log_file(context: TaskContext, stream: str, attempt: int) -> Path:
    """The file to append to; only a task that ran before can have a later one than the first."""
    stem = context.dirs.logs / f"{context.task.name}.{stream}"
    return current(stem) if attempt > 1 else stem.with_name(f"{stem.name}.0")
