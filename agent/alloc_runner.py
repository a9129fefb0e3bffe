"""Who keeps one alloc as it should be, and what is reported of it?

One TaskRunner for each task of the group; this is what they share: the desired document, the job
version, and the wish made of both. run() returns when every task is dead for good; the object stays,
and is reported, until nothing desired names the alloc any more.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from agent.decide import events, lifecycle
from agent.decide.status import client_status
from agent.decide.step import Phase, Wish
from agent.drivers.base import TaskStats
from agent.journal import AllocRow, TaskRow
from agent.task_runner import TaskRunner
from agent.tools import Tools
from checks.restart import Cause, runs_for_ever
from model.alloc import (
    AllocId,
    ClientStatus,
    DeploymentHealth,
    DesiredAlloc,
    ObservedAlloc,
    TaskState,
    Verdict,
)
from model.errors import TaskRefused
from model.job import Job, Task, TaskGroup
from model.wire import seconds

log = logging.getLogger(__name__)

CUT_OFF = "stop_after_client_disconnect has passed without contact"


def _nobody(_: DesiredAlloc) -> None:
    return None


class AllocRunner:
    """changed: called with urgent=True when what the leader decides by has changed.

    rows: the journal's rows of its tasks when the agent found it there; empty for a new alloc.
    blocker: who has to end before this alloc may start (turf.py).
    is_read, is_present: see decide/step.py; they are the node agent's to set, with wake().
    """

    def __init__(
        self,
        row: AllocRow,
        job: Job,
        group: TaskGroup,
        tools: Tools,
        changed: Callable[[AllocId, bool], None],
        rows: Mapping[str, TaskRow] | None = None,
        blocker: Callable[[DesiredAlloc], tuple[AllocId, str] | None] = _nobody,
    ) -> None:
        self.row = row
        self._blocker = blocker
        self.waits_for: str | None = None  # why it does not start though it is wanted
        self.job = job
        self.group = group
        self.is_read = rows is None
        self.is_present = True
        self.stop_reason: str | None = None  # an end that is not in desired, poststop tasks included: -dev stops
        self._delay_until_s: float | None = None  # loop time: see shutdown_delay_s()
        self._tools = tools
        self._changed = changed
        self.tasks = {
            task.name: TaskRunner(self, task, (rows or {}).get(task.name) or self._new_row(task), tools)
            for task in group.tasks
        }

    # What the task runners ask.

    @property
    def desired(self) -> DesiredAlloc:
        return self.row.desired

    def wish(self, task: Task) -> Wish:
        return Wish(
            is_read=self.is_read,
            is_present=self.is_present,
            verdict=self.desired.verdict if self.is_present else Verdict.NONE,
            stop=self._stop(task),
        )

    def may_start(self, task: Task) -> bool:
        blocker = None if self.is_running else self._blocker(self.desired)
        waits_for = blocker[1] if blocker else None
        if waits_for != self.waits_for:
            self.waits_for = waits_for
            self._changed(self.desired.id, False)
        return blocker is None and lifecycle.may_start(task, self.group.tasks, self.states())

    def stop_cause(self, task: Task) -> lifecycle.StopCause | None:
        return lifecycle.must_stop(task, self.group.tasks, self.states())

    def must_wait_to_stop(self, task: Task) -> bool:
        return lifecycle.stops_after(task, self.group.tasks, self.states())

    def shutdown_delay_s(self) -> float:
        """What is left of the group's delay: it is one for all tasks, and begins with the first that is stopped."""
        now_s = asyncio.get_running_loop().time()
        if self._delay_until_s is None:
            self._delay_until_s = now_s + seconds(self.group.shutdown_delay)
        return max(self._delay_until_s - now_s, 0.0)

    def task_changed(self, *, urgent: bool) -> None:
        self._changed(self.desired.id, urgent)
        if urgent and len(self.tasks) > 1:
            self.wake()

    # What the node agent asks.

    async def run(self) -> None:
        """Cancelled, it leaves the tasks running."""
        tries = 0
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    for name, runner in self.tasks.items():
                        group.create_task(runner.run(), name=f"task {self.desired.id[:8]}/{name}")
                break
            except Exception:
                me = asyncio.current_task()
                if me is not None and me.cancelling():
                    # A TaskGroup that is failing already eats a cancellation (CPython 3.11 and 3.12).
                    raise asyncio.CancelledError from None
                # A bug, or a machine in trouble. What runs is found again from the rows.
                log.exception("alloc %s: going round again", self.desired.id)
                await asyncio.sleep(self._tools.backoff_s(tries))
                tries += 1
        if any(runner.is_lost for runner in self.tasks.values()):
            self._ended_lost("Given up by the leader while nothing of it ran here")
        elif self.row.is_cut_off and not self.desired.is_stopping:
            # Not complete: a batch job's work was not done.
            self._ended_lost(CUT_OFF)
        self._changed(self.desired.id, True)

    def _ended_lost(self, why: str) -> None:
        self.row = replace(self.row, ended_as=ClientStatus.LOST, description=why)
        self._tools.journal.note(self.row)

    def wake(self) -> None:
        for runner in self.tasks.values():
            runner.wake()

    def desire(self, desired: DesiredAlloc) -> None:
        """A newly read document. Its job version is taken up by update(), which may come later."""
        if desired == self.desired:
            return
        # Its services have other tags now, or it has none any more.
        is_shown_otherwise = (desired.canary, desired.apart) != (self.desired.canary, self.desired.apart)
        self.row = replace(self.row, desired=desired)
        self._tools.journal.note(self.row)
        for runner in self.tasks.values():
            if is_shown_otherwise:
                runner.update(runner.task)
            else:
                runner.wake()

    def update(self, job: Job, group: TaskGroup) -> None:
        """A job version that the leader found to need no restart of this alloc."""
        self.job, self.group = job, group
        self.row = replace(self.row, job_version=job.version)
        self._tools.journal.note(self.row)
        for task in group.tasks:
            if task.name in self.tasks:
                self.tasks[task.name].update(task)
        self._changed(self.desired.id, True)

    @property
    def may_be_cut_off(self) -> bool:
        """Whether anything but poststop tasks is left to stop, and has not been told to."""
        is_told = self.row.is_cut_off or self._is_ordered_to_stop
        return not is_told and any(
            runner.row.phase is not Phase.DEAD
            for runner in self.tasks.values()
            if lifecycle.hook_of(runner.task) != "poststop"
        )

    def cut_off(self) -> None:
        """Stops it for want of contact; for good, whether or not Consul answers the next moment."""
        self.row = replace(self.row, is_cut_off=True)
        self._tools.journal.note(self.row)
        self.wake()

    @property
    def status(self) -> ClientStatus:
        return self.row.ended_as or client_status(self.states().values())[0]

    @property
    def is_dead(self) -> bool:
        return all(runner.row.phase is Phase.DEAD for runner in self.tasks.values())

    def states(self) -> Mapping[str, TaskState]:
        return {name: runner.row.state for name, runner in self.tasks.items()}

    def observed(self, boot_id: str) -> ObservedAlloc:
        """What is to be reported now; sequence and time are the reporter's to fill in."""
        states = self.states()
        status, description = client_status(states.values())
        return ObservedAlloc(
            id=self.desired.id,
            node_id=self.desired.node_id,
            client_status=self.row.ended_as or status,
            client_description=self.row.description or self.waits_for or self._start_waits_for() or description,
            task_states=states,
            deployment_status=self._health(),
            failed_runs=self._failed_runs(),
            job_version=self.row.job_version,
            boot_id=boot_id,
            vault_accessors=self._tools.accessors(self.desired.id),
            orphan=None if self.is_present else self.desired,
        )

    def _start_waits_for(self) -> str | None:
        return next((runner.waits_for for runner in self.tasks.values() if runner.waits_for is not None), None)

    @property
    def is_running(self) -> bool:
        return any(runner.row.phase is Phase.RUNNING for runner in self.tasks.values())

    @property
    def has_failed(self) -> bool:
        return any(state.failed for state in self.states().values())

    def _failed_runs(self) -> int:
        """Failed tasks that were started again in place; a sidecar's ends are no failed runs."""
        if self.group.completion is None:
            return 0
        return sum(
            runner.row.restart_count
            for runner in self.tasks.values()
            if not runs_for_ever(self.job.type, runner.task.lifecycle)
        )

    def _health(self) -> DeploymentHealth | None:
        """Of the deployment that it belongs to now."""
        return self.row.deployment_status if self.row.health_of == self.desired.deployment_id else None

    def set_health(self, healthy: bool) -> None:
        """Decided once for each deployment that the alloc is part of."""
        health = DeploymentHealth(healthy=healthy, timestamp=self._tools.now().isoformat())
        self.row = replace(self.row, deployment_status=health, health_of=self.desired.deployment_id)
        self._tools.journal.note(self.row)
        self._changed(self.desired.id, True)

    def restart(self, task_name: str | None, reason: str = events.RESTARTED_BY_USER) -> None:
        """An operator's restart: at once, not counted. Raises TaskRefused for a task that does not run."""
        for runner in self._named(task_name):
            runner.ask_restart(Cause.ASKED, reason)

    async def signal(self, task_name: str | None, signal: str) -> None:
        for runner in self._named(task_name):
            await runner.signal(signal)

    async def stats(self) -> Mapping[str, TaskStats]:
        """Of its running tasks. Raises DriverBusy."""
        found = {name: await runner.stats() for name, runner in self.tasks.items()}
        return {name: stats for name, stats in found.items() if stats is not None}

    async def dispose(self) -> None:
        """Leaves nothing of a dead alloc. Raises DriverBusy."""
        for runner in reversed(self.tasks.values()):
            await runner.dispose()

    def _named(self, task_name: str | None) -> tuple[TaskRunner, ...]:
        """The running tasks that are meant. Raises TaskRefused when there are none."""
        if task_name is not None and task_name not in self.tasks:
            raise TaskRefused(f"alloc {self.desired.id} has no task {task_name!r}")
        found = tuple(
            runner
            for name, runner in self.tasks.items()
            if task_name in (None, name) and runner.row.phase is Phase.RUNNING
        )
        if not found:
            raise TaskRefused("Task not running")
        return found

    @property
    def _is_ordered_to_stop(self) -> bool:
        return self.desired.is_stopping or self.stop_reason is not None

    def _stop(self, task: Task) -> str | None:
        if lifecycle.hook_of(task) == "poststop" and self.tasks_ran():
            return self.stop_reason
        if self.desired.is_stopping:
            return ""
        if self.stop_reason is not None:
            return self.stop_reason
        if self.row.is_cut_off:
            return CUT_OFF
        return None if self.stop_cause(task) is None else ""

    def tasks_ran(self) -> bool:
        """Whether anything has ever started: only then is there something to clean up after."""
        return any(runner.row.state.started_at is not None for runner in self.tasks.values())

    def _new_row(self, task: Task) -> TaskRow:
        at = self._tools.now_ns()
        state = TaskState().with_event(events.received(at)).with_event(events.task_setup(at))
        return TaskRow(alloc_id=self.desired.id, task_name=task.name, state=state)


def never_begun(
    desired: DesiredAlloc,
    ended_as: ClientStatus,
    description: str,
    tools: Tools,
    changed: Callable[[AllocId, bool], None],
) -> AllocRunner:
    """An alloc that never ran here and will not: no tasks, only its report and its row."""
    row = AllocRow(
        desired=desired, job_version=desired.job_version, ended_as=ended_as, description=description
    )
    job = Job(id=desired.job_id, name=desired.job_id, namespace=desired.namespace)
    return AllocRunner(row, job, TaskGroup(name=desired.task_group), tools, changed)
