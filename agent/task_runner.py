"""Who keeps one task as it should be?

    look (phase, timers) + wish (the alloc runner's) -> decide/step.py -> act, then look again

The runner sleeps until something wakes it: the task ended, the wish changed, a time has come. Between
two looks nothing is remembered but the row that the journal keeps, so a new agent goes on where a
killed one was. The order at a start: hooks, intent durable, driver; at a stop: services withdrawn,
shutdown_delay, kill signal, kill_timeout, kill.

A start may take minutes (an image is pulled). It runs under a timeout without a deadline, which a wish
to stop makes due at once.
"""

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar, assert_never

from msgspec.structs import replace

from agent import telemetry
from agent.decide import events
from agent.decide.lifecycle import LeaderDead, MainTasksDead, SiblingFailed, StopCause
from agent.decide.step import Phase, Sight, Step, Wish, next_step
from agent.drivers.base import Driver, ExecSession, ExitResult, Handle, StartFailed, TaskStats
from agent.hooks.base import TaskContext, prepare_all, tell_all, undo_all
from agent.journal import TaskRow
from agent.task_run import TaskRun
from agent.task_setup import Setup
from agent.tools import Tools
from checks.check_restart import max_parallel_restarts
from checks.registration import TaskNetwork
from checks.restart import Again, Cause, Finished, GivenUp, History, after, after_run, runs_for_ever
from jobspec.signals import signal_fault
from model.alloc import DesiredAlloc, TaskEvent, TaskStatus
from model.errors import DriverBusy, StoreUnavailable, TaskRefused, ensure
from model.job import Job, Task, TaskGroup
from model.wire import nanoseconds, seconds

T = TypeVar("T")

# What an operator has to make room for, and is told so in the task's history.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

log = logging.getLogger(__name__)


class SignalRefused(TaskRefused):
    """There is no such signal."""


class AllocOfTask(Protocol):
    """What a task runner asks its alloc runner."""

    @property
    def desired(self) -> DesiredAlloc: ...

    @property
    def job(self) -> Job: ...

    @property
    def group(self) -> TaskGroup: ...

    def wish(self, task: Task) -> Wish: ...

    @property
    def is_running(self) -> bool: ...

    def may_start(self, task: Task) -> bool: ...

    def stop_cause(self, task: Task) -> StopCause | None:
        """What became of its siblings, when that is why it has to stop."""

    def must_wait_to_stop(self, task: Task) -> bool: ...

    def shutdown_delay_s(self) -> float:
        """What is left of the group's own."""

    def task_changed(self, *, urgent: bool) -> None: ...


class TaskRunner:
    """run() returns when the task is dead for good; cancelled, it leaves the task running."""

    def __init__(self, alloc: AllocOfTask, task: Task, row: TaskRow, tools: Tools) -> None:
        self.task = task
        self.row = row
        self._alloc = alloc
        self._tools = tools
        self._wake = asyncio.Event()
        self._hooks_turn = asyncio.Lock()  # a publish and a withdraw never overlap; first come, first served
        self._starting: asyncio.Timeout | None = None  # of the start under way
        self._exit: ExitResult | None = None  # of a task in phase EXITED
        self._refusal: TaskRefused | None = None  # of a start that failed, in phase EXITED
        self._restart: tuple[Cause, str] | None = None  # asked for, with the reason
        self._withdrawn: Handle | None = None  # the process start whose services were taken back
        self._is_lost_trace = False
        self._may_reuse_attempt = False
        self._due_s = 0.0  # loop time at which a backoff is over
        self._seen_due = True  # whether it was over when the next step was decided
        self._is_updated = False
        self.waits_for: str | None = None  # why its start takes so long
        self.is_lost = False

    # What others ask of it.

    def wake(self) -> None:
        """Something that the wish is made of has changed."""
        self._wake.set()
        if self._starting is not None and self._wish().stop is not None and not self._starting.expired():
            self._starting.reschedule(asyncio.get_running_loop().time())

    def ask_restart(self, cause: Cause, reason: str) -> None:
        """A running task is ended and started again by policy; one that does not run needs no restart."""
        if self.row.phase is Phase.RUNNING and self._restart is None:
            self._restart = (cause, reason)
            self.wake()

    def update(self, task: Task) -> None:
        """The job has a new version that needs no restart."""
        self.task = task
        self._is_updated = True
        self.wake()

    async def signal(self, signal: str, reason: str = "") -> None:
        """Raises TaskRefused when it does not run, SignalRefused when there is no such signal."""
        if self.row.phase is not Phase.RUNNING or self.row.handle is None:
            raise TaskRefused(f"task {self.task.name!r} is not running")
        if "${" in signal or signal_fault(signal, self.task.driver):
            raise SignalRefused(f'Invalid signal "{signal}"')  # before anybody reads that it was sent
        self._set(event=events.signaling(self._tools.now_ns(), signal, reason))
        await self._driver().signal(self.row.handle, signal)

    async def stats(self) -> TaskStats | None:
        """None when it does not run."""
        if self.row.phase is not Phase.RUNNING or self.row.handle is None:
            return None
        return await self._driver().stats(self.row.handle)

    async def execute(self, argv: tuple[str, ...], timeout_s: float) -> tuple[int, bytes]:
        if self.row.phase is not Phase.RUNNING or self.row.handle is None:
            raise TaskRefused(f"task {self.task.name!r} is not running")
        return await self._driver().execute(self.row.handle, argv, timeout_s)

    def session(self, argv: tuple[str, ...], *, is_tty: bool) -> AbstractAsyncContextManager[ExecSession]:
        """A command beside the task; raises TaskRefused when it does not run, as entering it may."""
        if self.row.phase is not Phase.RUNNING or self.row.handle is None:
            raise TaskRefused(f'task "{self.task.name}" is not running.')
        return self._driver().session(self.row.handle, argv, is_tty=is_tty)

    async def dispose(self) -> None:
        """Leaves nothing of a dead task. Raises DriverBusy."""
        if self.row.handle is not None and self.row.handle.driver in self._tools.drivers:
            await self._tools.drivers[self.row.handle.driver].destroy(self.row.handle)
        await undo_all(self._tools.hooks, self._context(), lambda hook: hook.dispose(self._context()))

    # The loop.

    async def run(self) -> None:
        async with asyncio.TaskGroup() as watchers:
            await self._recover(watchers)
            while (step := next_step(self._sight(), self._wish())) is not Step.DONE:
                await self._act(step, watchers)
        async with self._hooks_turn:
            await undo_all(self._tools.hooks, self._context(), lambda hook: hook.over(self._context()))

    async def _act(self, step: Step, watchers: asyncio.TaskGroup) -> None:
        match step:
            case Step.START:
                await self._start(watchers)
            case Step.STOP:
                await self._stop()
            case Step.BOUNCE:
                await self._bounce()
            case Step.JUDGE:
                self._judge()
            case Step.FINISH:
                self._finish()
            case Step.GIVE_UP:
                self.is_lost = True
                self._set(phase=Phase.DEAD, state=TaskStatus.DEAD)
            case Step.REST | Step.HOLD:
                await self._rest()
            case Step.DONE:
                pass
            case _:
                assert_never(step)

    def _sight(self) -> Sight:
        self._seen_due = asyncio.get_running_loop().time() >= self._due_s
        return Sight(
            phase=self.row.phase,
            is_lost_trace=self._is_lost_trace,
            is_due=self._seen_due,
            may_start=self._has_begun or self._alloc.may_start(self.task),
            siblings_run=self._alloc.is_running,
        )

    @property
    def _has_begun(self) -> bool:
        """Its turn in the lifecycle has come before; after a reboot it comes anew."""
        return self.row.attempt > 0 and not self._is_lost_trace

    def _wish(self) -> Wish:
        wish = self._alloc.wish(self.task)
        if self._restart is None:
            return wish
        return Wish(
            is_read=wish.is_read,
            is_present=wish.is_present,
            verdict=wish.verdict,
            stop=wish.stop,
            restart=self._restart[1],
        )

    async def _rest(self) -> None:
        """Returns when woken, or when a backoff is over."""
        if self._is_updated and self.row.phase is Phase.RUNNING:
            await self._tell_updated()
        # A timer may fire a moment early, or the backoff end between the look and this wait: what was not over when
        # it was looked at is waited for by its moment, also when that has just passed.
        try:
            async with asyncio.timeout_at(None if self._seen_due else self._due_s):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    # Finding a task again.

    async def _recover(self, watchers: asyncio.TaskGroup) -> None:
        """Re-attaches what the journal says may run. Decides nothing: next_step() does."""
        row = self.row
        if row.phase is Phase.BACKOFF:
            # Of an earlier boot: the leader may long have placed it elsewhere.
            self._is_lost_trace = row.handle is not None and row.handle.boot_id != self._tools.node().boot_id
            left_s = row.restart_at / 1e9 - self._tools.now().timestamp()
            self._due_s = asyncio.get_running_loop().time() + max(left_s, 0.0)
            return
        if row.phase is Phase.DEAD or row.attempt == 0 or row.handle is None:
            self._is_lost_trace = row.phase is Phase.RUNNING
            return
        handle = row.handle
        if row.phase is Phase.WAITING and row.attempt > 1:
            # Killed between the intent and the removal of the attempt before.
            before = replace(handle, attempt=row.attempt - 1)
            await self._retrying("remove", lambda: self._driver().destroy(before))
        if await self._retrying("find", lambda: self._driver().recover(handle)):
            self._running(handle, watchers, is_new=row.phase is Phase.WAITING)
            return
        self._is_lost_trace = True
        # An intended start that left nothing: the same attempt again, so that a start which is only
        # slow to show itself is found and not doubled.
        is_same_boot = handle.boot_id == self._tools.node().boot_id
        self._may_reuse_attempt = row.phase is Phase.WAITING and is_same_boot
        if row.phase is Phase.RUNNING:
            self._set(
                phase=Phase.WAITING,
                state=TaskStatus.PENDING,
                event=events.not_reattached(self._tools.now_ns()),
            )

    # Starting.

    async def _start(self, watchers: asyncio.TaskGroup) -> None:
        try:
            async with asyncio.timeout(None) as self._starting:
                handle = await self._started()
        except TimeoutError:
            # Stopped while starting: something of it may be there.
            if self.row.handle is not None:
                left = self.row.handle
                await self._retrying("remove", lambda: self._driver().destroy(left))
            return
        except TaskRefused as error:
            self._refused(error)
            return
        finally:
            self._starting = None
            self._waits(None)
        self._running(handle, watchers, is_new=True)

    async def _started(self) -> Handle:
        """Hooks, intent, start; whatever is only busy is tried again for as long as the task is wanted."""
        if self.task.driver not in self._tools.drivers:
            raise TaskRefused(f"this node has no driver {self.task.driver!r}")
        driver = self._driver()
        await self._tools.turns.take()
        extra = await self._retrying("prepare", partial(prepare_all, self._tools.hooks, self._context()))
        before = self.row.handle
        attempt = self.row.attempt if self._may_reuse_attempt else self.row.attempt + 1
        self._may_reuse_attempt = False
        handle = Handle(
            driver=self.task.driver,
            alloc_id=self._alloc.desired.id,
            task_name=self.task.name,
            attempt=attempt,
            boot_id=self._tools.node().boot_id,
        )
        start = self._setup().start(driver, attempt, extra, self._say)
        self.row = replace(self.row, phase=Phase.WAITING, attempt=attempt, handle=handle)
        await self._retrying("note the intent", self._put_row)
        if before is not None and before.attempt != attempt and before.driver == driver.name:
            await self._retrying("remove", partial(driver.destroy, before))
        return await self._retrying("start", partial(driver.start, start))

    async def _put_row(self) -> None:
        await self._tools.journal.put([self.row])

    def _refused(self, error: TaskRefused) -> None:
        self._refusal = error
        at = self._tools.now_ns()
        self.row = replace(self.row, phase=Phase.EXITED)
        self._set(event=events.driver_failure(at, str(error)))

    def _running(self, handle: Handle, watchers: asyncio.TaskGroup, *, is_new: bool) -> None:
        """The process is there: note it, watch it, tell the hooks."""
        self._is_lost_trace = False
        self._exit = None
        self.row = replace(self.row, handle=handle)
        if is_new:
            telemetry.STARTS.inc()
            at = self._tools.now_ns()
            state = replace(self.row.state, started_at=_rfc3339(self._tools.now()), failed=False)
            self.row = replace(self.row, state=state)
            self._set(phase=Phase.RUNNING, state=TaskStatus.RUNNING, event=events.started(at))
        name = f"{self._alloc.desired.id[:8]}/{self.task.name}"
        watchers.create_task(self._watch(handle), name=f"watch {name}")
        watchers.create_task(self._tell_started(handle), name=f"publish {name}")

    async def _watch(self, handle: Handle) -> None:
        result = await self._retrying("watch", lambda: self._driver().wait(handle))
        self._exit = result
        if result.oom_killed:
            telemetry.OOM_KILLS.inc()
        self.row = replace(self.row, phase=Phase.EXITED)
        self._set(event=events.terminated(self._tools.now_ns(), result))
        self.wake()
        async with self._hooks_turn:
            await undo_all(self._tools.hooks, self._context(), lambda hook: hook.ended(self._context()))

    async def _tell_started(self, handle: Handle) -> None:
        network = await self._network(handle)
        async with self._hooks_turn:
            if self._is_current(handle):
                run = self._task_run(handle, network)
                await tell_all(
                    self._tools.hooks, self._context(), lambda hook: hook.started(self._context(), run)
                )

    async def _tell_updated(self) -> None:
        self._is_updated = False
        handle = self.row.handle
        if handle is None:
            return
        network = await self._network(handle)
        async with self._hooks_turn:
            if self._is_current(handle):
                run = self._task_run(handle, network)
                await tell_all(
                    self._tools.hooks, self._context(), lambda hook: hook.updated(self._context(), run)
                )

    async def _network(self, handle: Handle) -> TaskNetwork | None:
        """Asked for only where a service may be at the task's own address. Of a task that ended meanwhile it is nobody's."""
        if not (self.task.services or self._alloc.group.services):
            return None
        return await self._retrying("ask for its address", lambda: self._driver().network(handle))

    def _is_current(self, handle: Handle) -> bool:
        return self.row.phase is Phase.RUNNING and self.row.handle == handle

    # Ending.

    async def _stop(self) -> None:
        """Ends a running task by wish; returns when it is dead."""
        if self._alloc.must_wait_to_stop(self.task):
            # The group's services may be this task's: who is led out of service must be before the leader's end.
            await self._withdraw()
            await self._rest()
            return
        cause = self._alloc.stop_cause(self.task)
        self._say_why(cause)
        delay_s = self._alloc.shutdown_delay_s() + seconds(self.task.shutdown_delay)
        reason = self._wish().stop or ""
        await self._end(reason="" if cause else reason, delay_s=delay_s)
        self._set(event=events.killed(self._tools.now_ns()))
        self._finish()

    def _say_why(self, cause: StopCause | None) -> None:
        at = self._tools.now_ns()
        match cause:
            case None:
                return
            case SiblingFailed(sibling=sibling):
                event = events.sibling_failed(at, sibling)
            case LeaderDead():
                event = events.leader_dead(at)
            case MainTasksDead():
                event = events.main_tasks_dead(at)
            case _:
                assert_never(cause)
        self._set(event=event)

    async def _bounce(self) -> None:
        """Ends a running task that is to be started again; the restart policy then says when."""
        ensure(self._restart is not None, "a bounce was asked for", task=self.task.name)
        cause, reason = self._restart or (Cause.ASKED, "")
        if cause is Cause.UNHEALTHY and not await self._permitted():
            return  # it is to be stopped, or has ended: another step
        if cause is not Cause.REFUSED:  # which is not started again
            self._set(event=events.restart_signaled(self._tools.now_ns(), reason))
        await self._end(reason=reason, delay_s=0.0)

    async def _permitted(self) -> bool:
        """Waits for the permit that its group asks for; False when something else is to be done meanwhile."""
        limit = max_parallel_restarts(self._alloc.group)
        if limit is None:
            return True
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(
                self._tools.permit(self._alloc.desired.id, limit), name=f"permit {self._alloc.desired.id[:8]}"
            )
            asking.add_done_callback(lambda _: self._wake.set())
            while not asking.done():
                await self._wake.wait()
                self._wake.clear()
                if self._wish().stop is not None or self.row.phase is not Phase.RUNNING:
                    asking.cancel()
                    return False
        return True

    async def _end(self, *, reason: str, delay_s: float) -> None:
        """Withdraws, waits, signals, kills. Returns in phase EXITED."""
        handle = self.row.handle
        ensure(handle is not None, "a running task has a handle", task=self.task.name)
        if handle is None:
            return
        await self._withdraw()
        if delay_s > 0:
            await self._wait_exited(delay_s)
        timeout_s = min(seconds(self.task.kill_timeout), self._tools.kill_timeout_s_max)
        self._set(event=events.killing(self._tools.now_ns(), nanoseconds(timeout_s), reason))
        signal = self.task.kill_signal
        await self._retrying("stop", lambda: self._driver().stop(handle, signal, timeout_s))
        while self.row.phase is Phase.RUNNING:  # the watcher is about to say so
            await self._wait_exited(None)

    async def _withdraw(self) -> None:
        """Out of service, once for each process start."""
        if self._withdrawn != self.row.handle:
            context = self._context()
            async with self._hooks_turn:
                await undo_all(self._tools.hooks, context, lambda hook: hook.stopping(context))
            self._withdrawn = self.row.handle

    async def _wait_exited(self, wait_s: float | None) -> None:
        """Returns when the task has ended by itself, or after the wait."""
        try:
            async with asyncio.timeout(wait_s):
                while self.row.phase is Phase.RUNNING:
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass

    def _finish(self) -> None:
        """Dead by wish: not a failure."""
        telemetry.ENDS.labels("complete").inc()
        self._set(phase=Phase.DEAD, state=TaskStatus.DEAD)

    def _judge(self) -> None:
        """The task ended or did not start: what the restart policy makes of it."""
        cause = self._cause()
        self._restart = self._refusal = None
        history = History(count=self.row.restart_count, since_s=self.row.restart_since_s)
        is_for_ever = runs_for_ever(self._alloc.job.type, self.task.lifecycle)
        now_s = self._tools.now().timestamp()
        policy = self.task.restart_policy
        completion = self._alloc.group.completion
        if completion is not None and not is_for_ever:
            verdict, history = after_run(cause, completion, history, now_s)
        else:
            verdict, history = after(cause, policy, history, now_s, self._tools.rng, for_ever=is_for_ever)
        self.row = replace(self.row, restart_count=history.count, restart_since_s=history.since_s)
        at = self._tools.now_ns()
        match verdict:
            case Finished():
                telemetry.ENDS.labels("complete").inc()
                self._set(phase=Phase.DEAD, state=TaskStatus.DEAD)
            case GivenUp(reason=reason):
                has_failed = cause is not Cause.SUCCEEDED
                telemetry.ENDS.labels("failed" if has_failed else "complete").inc()
                event = events.not_restarting(at, reason)
                self._set(phase=Phase.DEAD, state=TaskStatus.DEAD, failed=has_failed, event=event)
            case Again(delay_s=delay_s, reason=reason):
                telemetry.RESTARTS.labels(cause.value).inc()
                self._due_s = asyncio.get_running_loop().time() + delay_s
                restarts = self.row.state.restarts + 1
                state = replace(self.row.state, restarts=restarts, last_restart=_rfc3339(self._tools.now()))
                self.row = replace(self.row, state=state, restart_at=at + int(delay_s * 1e9))
                event = events.restarting(at, delay_s, reason)
                self._set(phase=Phase.BACKOFF, state=TaskStatus.PENDING, event=event)
            case _:
                assert_never(verdict)

    def _cause(self) -> Cause:
        if self._refusal is not None:
            return Cause.START_FAILED if isinstance(self._refusal, StartFailed) else Cause.REFUSED
        if self._restart is not None:
            return self._restart[0]
        return Cause.SUCCEEDED if self._exit is not None and self._exit.is_success else Cause.FAILED

    # Helpers of all.

    def _set(
        self,
        *,
        phase: Phase | None = None,
        state: TaskStatus | None = None,
        failed: bool = False,
        event: TaskEvent | None = None,
    ) -> None:
        """Changes the row, notes it in the journal and lets it be reported."""
        task_state = self.row.state
        if event is not None:
            task_state = task_state.with_event(event)
        if state is not None:
            finished = _rfc3339(self._tools.now()) if state is TaskStatus.DEAD else None
            task_state = replace(task_state, state=state, failed=failed, finished_at=finished)
        self.row = replace(self.row, state=task_state, phase=self.row.phase if phase is None else phase)
        if self.row.phase is not Phase.EXITED:  # judged in this same turn: nobody need see it
            self._tools.journal.note(self.row)
        self._alloc.task_changed(urgent=state is not None)

    async def _retrying(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """The call's answer, however long its outside is away: that is no failure of the task."""
        tries = 0
        while True:
            try:
                return await call()
            except (DriverBusy, StoreUnavailable, OSError) as error:
                if tries == 0:
                    name = f"{self._alloc.desired.id[:8]}/{self.task.name}"
                    log.warning("%s: cannot %s just now, trying on: %s", name, what, error)
                    if isinstance(error, OSError) and error.errno in _NO_ROOM:
                        self._say(f"Waiting to {what}: {error.strerror}: {error.filename}")
                await asyncio.sleep(self._tools.backoff_s(tries))
                tries += 1

    def _driver(self) -> Driver:
        """Raises DriverBusy when this agent was started without it: nobody knows what its tasks do."""
        driver = self._tools.drivers.get(self.task.driver)
        if driver is None:
            raise DriverBusy(f"the driver {self.task.driver!r} is not configured here")
        return driver

    def _setup(self) -> Setup:
        alloc = self._alloc
        return Setup(
            desired=alloc.desired, job=alloc.job, group=alloc.group, task=self.task, tools=self._tools
        )

    def _context(self) -> TaskContext:
        return self._setup().context(self._tools.drivers.get(self.task.driver), self._tell, self._waits)

    def _tell(self, kind: str, message: str) -> None:
        self._set(event=events.of_hook(self._tools.now_ns(), kind, message))

    def _waits(self, reason: str | None) -> None:
        if reason != self.waits_for:
            self.waits_for = reason
            self._alloc.task_changed(urgent=False)

    def _say(self, message: str) -> None:
        self._set(event=events.driver_message(self._tools.now_ns(), message))

    def _task_run(self, handle: Handle, network: TaskNetwork | None) -> TaskRun:
        driver = self._driver()
        started_s = asyncio.get_running_loop().time() - self._age_s()
        return self._setup().run(
            driver,
            started_s,
            partial(driver.execute, handle),
            partial(self._asked_to_end, handle),
            partial(self._asked_to_signal, handle),
            network,
            self._tell,
        )

    def _asked_to_end(self, handle: Handle, cause: Cause, reason: str) -> None:
        """Of this very process start; a later one has its own checks, and its own renderings."""
        if self._is_current(handle):
            self.ask_restart(cause, reason)

    async def _asked_to_signal(self, handle: Handle, signal: str, reason: str) -> None:
        if not self._is_current(handle):
            raise TaskRefused(f"task {self.task.name!r} is not running")
        await self.signal(signal, reason)

    def _age_s(self) -> float:
        started_at = self.row.state.started_at
        if started_at is None:
            return 0.0
        return max((self._tools.now() - datetime.fromisoformat(started_at)).total_seconds(), 0.0)


def _rfc3339(moment: datetime) -> str:
    """As Go writes it: 2026-01-02T03:04:05.678901Z."""
    return moment.isoformat().replace("+00:00", "Z")
