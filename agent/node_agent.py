"""Who keeps a node's allocs as desired, and lets them be when nobody can be asked?

    NodeAgent.run()  owns the TaskGroup
      ├─ watch desired   a view wakes the runners; a missing document makes an orphan, stops nothing
      ├─ report          reporter.py
      ├─ health          health.py
      ├─ contact         contact.py: stops the groups that asked for it, when Consul is away for long
      ├─ fingerprint     drivers come and go
      ├─ collect         dead allocs that nothing desired names any more
      └─ alloc <id>      one for each: AllocRunner, and below it its tasks

Cancelled (drover is stopped or upgraded), it leaves every task running; the journal knows them.
No step here stops a task because Consul, Vault or the leader is out of reach, save for a group that
asked for it (`stop_after_client_disconnect`).
"""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agent.alloc_dir import AllocDirs
from agent.alloc_runner import AllocRunner, never_begun
from agent.contact import Contact
from agent.drivers.base import Driver, ExecSession, TaskStats
from agent.health import AllocChecks, HealthWatch
from agent.hooks.base import TaskHook
from agent.hooks.dirs import DirsHook
from agent.hooks.payload import PayloadHook
from agent.hooks.services import ServicesHook
from agent.journal import AllocRow, Contents, Journal, TaskRow, job_key
from agent.permit import without_asking
from agent.reporter import Reporter
from agent.store import AgentStore, DesiredView
from agent.task_run import TaskServices
from agent.tools import Tools, without_tokens
from agent.turf import Turf
from catalog.outage import Outage
from model.alloc import AllocId, ClientStatus, DesiredAlloc, ObservedAlloc, Verdict
from model.errors import DriverBusy, StoreRefused, StoreUnavailable, TaskRefused, WriteConflict
from model.job import Job
from model.node import DriverInfo, Node, overlaid

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often an agent looks, in seconds.

    watch_s: longest blocking query on desired. fingerprint_s: drivers. collect_s: dead allocs. orphan_keep_s: how
    long a dead orphan is still reported before it is forgotten: a leader that lost its state must have
    time to read it, and double that only keeps a directory longer.
    """

    watch_s: float = 60.0
    fingerprint_s: float = 30.0
    collect_s: float = 5.0
    orphan_keep_s: float = 300.0
    recover_s_max: float = 10.0


class NodeAgent:
    """node: the machine's fingerprint, without drivers. hooks: in the order of prepare, after the directories.

    services: publishes what runs. checks: what Consul says of it, for health; without it no deployment that
    goes by checks ever becomes healthy.
    """

    def __init__(
        self,
        *,
        node: Node,
        store: AgentStore,
        journal: Journal,
        drivers: Sequence[Driver],
        dirs: AllocDirs,
        now: Callable[[], datetime],
        rng: random.Random,
        services: TaskServices | None = None,
        checks: AllocChecks | None = None,
        hooks: Sequence[TaskHook] = (),
        pace: Pace | None = None,
        permit: Callable[[AllocId, int], Coroutine[Any, Any, None]] = without_asking,
        accessors: Callable[[AllocId], Mapping[str, str]] = without_tokens,
        kill_timeout_s_max: float = math.inf,
    ) -> None:
        self._node = node
        # Set at run time. The leader's fact: tasks see it, and it is never part of what the agent reports.
        self._meta: Mapping[str, str | None] = {}
        self._store = store
        self._journal = journal
        self._dirs = dirs
        self._pace = pace or Pace()
        all_hooks: list[TaskHook] = [DirsHook(dirs), PayloadHook(), *hooks]
        if services is not None:
            all_hooks.append(ServicesHook(services))
        self._tools = Tools(
            node=lambda: replace(self._node, meta=overlaid(self._node.meta, self._meta)),
            drivers={driver.name: driver for driver in drivers},
            journal=journal,
            dirs=dirs,
            hooks=tuple(all_hooks),
            now=now,
            rng=rng,
            permit=permit,
            accessors=accessors,
            kill_timeout_s_max=kill_timeout_s_max,
        )
        self._runners: dict[AllocId, AllocRunner] = {}
        self._contact = Contact(store, lambda: list(self._runners.values()))
        self._reporter = Reporter(store, node.id, self._observed, self._tools, self._contact.told)
        self._turf = Turf(self._is_dead, self._is_running)
        self._health = HealthWatch(lambda: list(self._runners.values()), checks)
        self._hosts: dict[AllocId, asyncio.Task[None]] = {}
        self._arriving: set[AllocId] = set()  # named by desired, and without a runner yet
        self._wanted: Mapping[AllocId, DesiredAlloc] = {}
        self._is_read = False
        self._is_stopping = False
        self._is_fingerprinted = False
        self._jobs: dict[str, Job] = {}
        # Those of _jobs to read again before they are used for another alloc: see _doubt.
        self._doubtful: set[str] = set()
        self._fetching: dict[str, asyncio.Future[Job | None]] = {}
        self._collecting: set[AllocId] = set()  # whose reports are being deleted just now
        self._settled: set[AllocId] = set()  # dead before their document went
        self._ended_s: dict[AllocId, float] = {}  # loop time at which a dead orphan was first seen
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Runs until cancelled; the tasks run on. To be called once."""
        try:
            await self._run(await self._journal.load())
        finally:
            self._group = None
            await asyncio.shield(self._journal.close())

    @property
    def node(self) -> Node:
        return self._node

    @property
    def allocs(self) -> Mapping[AllocId, AllocRunner]:
        """All allocs that the agent holds, dead ones included."""
        return self._runners

    # What operators ask, through the API.

    def restart(self, alloc_id: AllocId, task: str | None = None) -> None:
        """Ends and starts the task, or all running tasks; uncounted. Raises TaskRefused."""
        self._runner(alloc_id).restart(task)

    async def signal(self, alloc_id: AllocId, task: str | None, signal: str) -> None:
        """Raises TaskRefused for a task that does not run or an unknown signal; DriverBusy."""
        await self._runner(alloc_id).signal(task, signal)

    async def stats(self, alloc_id: AllocId) -> Mapping[str, TaskStats]:
        """By task name, running tasks only. Raises TaskRefused, DriverBusy."""
        return await self._runner(alloc_id).stats()

    async def execute(
        self, alloc_id: AllocId, task: str, argv: Sequence[str], timeout_s: float
    ) -> tuple[int, bytes]:
        runner = self._runner(alloc_id)
        if task not in runner.tasks:
            raise TaskRefused(f"alloc {alloc_id} has no task {task!r}")
        return await runner.tasks[task].execute(tuple(argv), timeout_s)

    def session(
        self, alloc_id: AllocId, task: str, argv: Sequence[str], *, is_tty: bool
    ) -> AbstractAsyncContextManager[ExecSession]:
        """A command beside a running task. Raises TaskRefused; entering it StartFailed and DriverBusy, too."""
        runner = self._runner(alloc_id)
        if task not in runner.tasks:
            raise TaskRefused(f'unknown task name "{task}"')
        return runner.tasks[task].session(tuple(argv), is_tty=is_tty)

    async def collect(self, alloc_id: AllocId | None = None) -> bool:
        """Removes what dead allocs have left on this machine (their directories, their containers), or one of them;
        they are still told of. False: that one is not dead. Raises TaskRefused for an unknown one, DriverBusy."""
        if alloc_id is not None and not self._runner(alloc_id).is_dead:
            return False
        for runner in [runner for runner in self._runners.values() if alloc_id in (None, runner.desired.id)]:
            if runner.is_dead:
                await runner.dispose()
        return True

    def alloc_dir(self, alloc_id: AllocId) -> Path:
        """The alloc's directory on this machine. Raises TaskRefused."""
        return self._dirs.path(self._runner(alloc_id).desired.id)

    def set_health(self, alloc_id: AllocId, healthy: bool) -> None:
        """Whether the alloc passed its deployment's health rule; reported to the leader."""
        self._runner(alloc_id).set_health(healthy)

    async def stop_all(self) -> None:
        """Stops every task, waits until all are dead and leaves nothing of them: for `-dev`, never on a plain
        stop of drover."""
        self._is_stopping = True
        for runner in self._runners.values():
            runner.stop_reason = "drover -dev is stopping"
            runner.wake()
        if self._hosts:
            await asyncio.wait(self._hosts.values())
        for runner in self._runners.values():
            try:
                await runner.dispose()
            except (DriverBusy, TaskRefused, OSError) as error:
                log.warning("alloc %s: something of it is left behind: %s", runner.desired.id, error)

    def _runner(self, alloc_id: AllocId) -> AllocRunner:
        runner = self._runners.get(alloc_id)
        if runner is None:
            raise TaskRefused(f'Unknown allocation "{alloc_id}"')
        return runner

    # The tree of tasks.

    async def _run(self, contents: Contents) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._recover(contents, group)
            await asyncio.sleep(0)  # each runner finds its tasks again before Consul is asked anything
            group.create_task(self._reporter.run(), name="report")
            group.create_task(self._watch_desired(group), name="watch desired")
            group.create_task(self._health.run(), name="health")
            group.create_task(self._contact.run(), name="contact")
            group.create_task(self._fingerprint(), name="fingerprint drivers")
            group.create_task(self._collect(), name="collect garbage")

    def _recover(self, contents: Contents, group: asyncio.TaskGroup) -> None:
        """Takes up the allocs of the life before."""
        self._jobs |= contents.jobs
        rows: dict[AllocId, dict[str, TaskRow]] = {}
        for row in contents.tasks:
            rows.setdefault(row.alloc_id, {})[row.task_name] = row
        for alloc in contents.allocs:
            desired = alloc.desired
            job = contents.jobs.get(_job_key(desired, alloc.job_version))
            group_of = job.group(desired.task_group) if job else None
            if job is None or group_of is None:
                runner = never_begun(
                    desired,
                    alloc.ended_as or ClientStatus.LOST,
                    alloc.description,
                    self._tools,
                    self._changed,
                )
            else:
                rows_of = rows.get(desired.id, {})
                runner = AllocRunner(
                    alloc, job, group_of, self._tools, self._changed, rows_of, self._turf.blocker
                )
            self._take(runner, group)

    def _take(self, runner: AllocRunner, group: asyncio.TaskGroup) -> None:
        alloc_id = runner.desired.id
        self._runners[alloc_id] = runner
        self._turf.add(runner.desired)
        if not runner.is_dead or runner.row.is_cut_off:  # killed before it was noted how that one ended
            self._hosts[alloc_id] = group.create_task(runner.run(), name=f"alloc {alloc_id[:8]}")
        self._reporter.mark(alloc_id, runner.is_dead)
        self._health.wake()
        self._contact.wake()

    def _changed(self, alloc_id: AllocId, urgent: bool) -> None:
        """Told by a runner: something of it is to be reported, and somebody may have waited for its end."""
        self._reporter.mark(alloc_id, urgent)
        if urgent and self._is_dead(alloc_id):
            for runner in self._runners.values():
                if runner.waits_for is not None:
                    runner.wake()

    def _is_dead(self, alloc_id: AllocId) -> bool:
        runner = self._runners.get(alloc_id)
        return runner is None or runner.is_dead

    def _is_running(self, alloc_id: AllocId) -> bool:
        runner = self._runners.get(alloc_id)
        return runner is not None and runner.is_running

    # Desired.

    async def _watch_desired(self, group: asyncio.TaskGroup) -> None:
        index = tries = 0
        outage = Outage(log)
        while True:
            try:
                view = await self._store.watch_desired(self._node.id, index, self._pace.watch_s)
            except (StoreUnavailable, StoreRefused) as error:
                outage.failed("desired cannot be read, everything runs on", error)
                await asyncio.sleep(self._tools.backoff_s(tries))
                # From the start again: a Consul that was away may be another one.
                index, tries = 0, tries + 1
                continue
            outage.passed("desired can be read again")
            self._contact.told()
            if tries or view.index < index:
                # What was reported may be gone with a Consul that was restored.
                self._report_all()
            self._apply(view, group)
            index, tries = view.index, 0

    def _apply(self, view: DesiredView, group: asyncio.TaskGroup) -> None:
        """Hands each runner its document. No await: the view is taken up whole."""
        self._doubt(view)
        self._meta = view.meta
        self._wanted = view.allocs
        self._is_read = True
        for alloc_id, desired in view.allocs.items():
            runner = self._runners.get(alloc_id)
            if runner is None:
                self._arrive(alloc_id, group)
                continue
            self._present(runner, True)
            if desired != runner.desired:
                if desired.verdict is not Verdict.NONE:
                    # Given up while we were out of reach: only a newer report says that it lives.
                    self._reporter.mark(alloc_id, True)
                runner.desire(desired)
                self._health.wake()
            if desired.job_version != runner.row.job_version and not runner.is_dead:
                group.create_task(self._update(alloc_id), name=f"update {alloc_id[:8]}")
        for alloc_id, runner in self._runners.items():
            if alloc_id not in view.allocs:
                self._present(runner, False)

    def _doubt(self, view: DesiredView) -> None:
        """Doubts every known job version that nothing has named all along: a job that was purged and submitted
        again begins with version 0 once more, which the leader writes only when no document names the old one."""
        known = self._wanted if self._is_read else {a: r.desired for a, r in self._runners.items()}
        named = {
            _job_key(desired, desired.job_version)
            for alloc_id, desired in view.allocs.items()
            if alloc_id in known and known[alloc_id].job_version == desired.job_version
        }
        self._doubtful |= self._jobs.keys() - named

    def _present(self, runner: AllocRunner, is_present: bool) -> None:
        if runner.is_read and runner.is_present == is_present:
            return
        if not is_present and not runner.is_dead:
            log.warning("alloc %s: nothing desired names it any more; kept as an orphan", runner.desired.id)
        if not is_present and runner.is_dead:
            self._settled.add(runner.desired.id)
        was_present, runner.is_present, runner.is_read = runner.is_present, is_present, True
        runner.wake()
        if was_present != is_present:
            self._reporter.mark(runner.desired.id, True)

    def _arrive(self, alloc_id: AllocId, group: asyncio.TaskGroup) -> None:
        if alloc_id not in self._arriving and not self._is_stopping:
            self._arriving.add(alloc_id)
            group.create_task(self._host(alloc_id, group), name=f"host {alloc_id[:8]}")

    async def _host(self, alloc_id: AllocId, group: asyncio.TaskGroup) -> None:
        """Makes the runner of a new alloc, once its job version is there."""
        try:
            tries = 0
            while (desired := self._wanted.get(alloc_id)) is not None and not self._is_stopping:
                runner = self._refused(desired)
                if runner is None:
                    try:
                        runner = self._admitted(desired, await self._job(desired))
                    except (StoreUnavailable, StoreRefused) as error:
                        log.warning("alloc %s: its job cannot be read: %s", alloc_id, error)
                        await asyncio.sleep(self._tools.backoff_s(tries))
                        tries += 1
                        continue
                    if self._wanted.get(alloc_id) != desired:
                        continue  # while the job was read, the wish has changed
                self._journal.note(runner.row)
                self._take(runner, group)
                return
        finally:
            self._arriving.discard(alloc_id)

    def _refused(self, desired: DesiredAlloc) -> AllocRunner | None:
        """For an alloc that must not begin."""
        if desired.is_stopping:
            status, why = ClientStatus.COMPLETE, "Stopped before it was started"
        elif desired.verdict is not Verdict.NONE:
            status, why = ClientStatus.LOST, "Given up by the leader while nothing of it ran here"
        else:
            return None
        return never_begun(desired, status, why, self._tools, self._changed)

    def _admitted(self, desired: DesiredAlloc, job: Job | None) -> AllocRunner:
        group = job.group(desired.task_group) if job else None
        if job is None or group is None:
            why = f"version {desired.job_version} of job {desired.job_id!r} with group {desired.task_group!r} is not in Consul"
            return never_begun(desired, ClientStatus.FAILED, why, self._tools, self._changed)
        row = AllocRow(desired=desired, job_version=desired.job_version)
        return AllocRunner(row, job, group, self._tools, self._changed, blocker=self._turf.blocker)

    async def _update(self, alloc_id: AllocId) -> None:
        """Gives a running alloc the job version that desired names now."""
        tries = 0
        while (runner := self._runners.get(alloc_id)) is not None and not runner.is_dead:
            desired = runner.desired
            if desired.job_version == runner.row.job_version:
                return
            try:
                job = await self._job(desired)
            except (StoreUnavailable, StoreRefused):
                await asyncio.sleep(self._tools.backoff_s(tries))
                tries += 1
                continue
            group = job.group(desired.task_group) if job else None
            if job is None or group is None:
                log.error("alloc %s: job version %d is gone", alloc_id, desired.job_version)
                return
            if desired.job_version == runner.desired.job_version:
                runner.update(job, group)
                self._contact.wake()

    async def _job(self, desired: DesiredAlloc) -> Job | None:
        """The version that desired names, read once however many allocs ask. Raises StoreUnavailable."""
        key = _job_key(desired, desired.job_version)
        if key in self._jobs and key not in self._doubtful:
            return self._jobs[key]
        if key in self._fetching:
            return await asyncio.shield(self._fetching[key])
        future = self._fetching[key] = asyncio.get_running_loop().create_future()
        try:
            job = await self._store.read_job(desired.namespace, desired.job_id, desired.job_version)
        except BaseException as error:
            future.set_exception(
                error if isinstance(error, Exception) else StoreUnavailable("the read was cancelled")
            )
            future.exception()  # looked at, whether or not anybody else waits
            raise
        else:
            if job is not None:
                self._jobs[key] = job
                self._doubtful.discard(key)
                self._journal.note(job)
            future.set_result(job)
            return job
        finally:
            del self._fetching[key]

    # Reports.

    def _report_all(self) -> None:
        if self._is_fingerprinted:
            self._reporter.mark_node(self._node)
        for alloc_id in self._runners:
            self._reporter.mark(alloc_id, True)

    def _observed(self, alloc_id: AllocId) -> ObservedAlloc | None:
        runner = self._runners.get(alloc_id)
        # A report behind the deletion of its own document would stay in Consul for ever.
        is_told = runner is not None and alloc_id not in self._collecting
        return runner.observed(self._node.boot_id) if runner and is_told else None

    # Drivers.

    async def _fingerprint(self) -> None:
        """Reports the node once its drivers are known: a hanging engine holds up no running task."""
        while True:
            before = self._node
            await self._refresh_drivers()
            if self._node != before or not self._is_fingerprinted:
                self._is_fingerprinted = True
                self._reporter.mark_node(self._node)
            await asyncio.sleep(self._pace.fingerprint_s * (0.9 + 0.2 * self._tools.rng.random()))

    async def _refresh_drivers(self) -> None:
        found: dict[str, DriverInfo] = {}
        for name, driver in self._tools.drivers.items():
            found[name] = await driver.fingerprint()
        known = {name for info in self._node.drivers.values() for name in info.attributes}
        plain = {name: value for name, value in self._node.attributes.items() if name not in known}
        of_drivers = {name: value for info in found.values() for name, value in info.attributes.items()}
        self._node = replace(self._node, drivers=found, attributes=plain | of_drivers)

    # Garbage.

    async def _collect(self) -> None:
        while True:
            await asyncio.sleep(self._pace.collect_s)
            try:
                await self._collect_once()
            except (StoreUnavailable, StoreRefused, WriteConflict, DriverBusy, OSError) as error:
                log.info("dead allocs are collected later: %s", error)

    async def _collect_once(self) -> None:
        """Forgets dead allocs that nothing desired names. A crash in between is taken up by the next round."""
        heirless = self._runners.keys() - self._to_be_inherited()
        dead = [runner for runner in self._runners.values() if runner.desired.id in heirless and self._is_garbage(runner)]
        if not dead:
            return
        for runner in dead:
            await runner.dispose()
        dead = [runner for runner in dead if self._is_garbage(runner)]  # still, and all of it told
        ids = [runner.desired.id for runner in dead]
        self._collecting = set(ids)
        try:
            await self._store.delete_observed(self._node.id, ids)
        finally:
            self._collecting = set()
        for alloc_id in ids:
            self._ended_s.pop(alloc_id, None)
            self._settled.discard(alloc_id)
            self._turf.discard(self._runners[alloc_id].desired)
            self._hosts.pop(alloc_id, None)
            del self._runners[alloc_id]
        used = {_job_key(runner.desired, runner.row.job_version) for runner in self._runners.values()}
        used |= {_job_key(desired, desired.job_version) for desired in self._wanted.values()}
        unused = [key for key in self._jobs if key not in used]
        for key in unused:
            del self._jobs[key]
            self._doubtful.discard(key)
        await self._journal.forget({runner.desired.id: tuple(runner.tasks) for runner in dead}, unused)

    def _to_be_inherited(self) -> set[AllocId]:
        """Whose files are waited for by an alloc with a sticky disk."""
        return {
            runner.desired.previous_allocation
            for runner in self._runners.values()
            if runner.group.ephemeral_disk.sticky and not runner.is_dead and not runner.tasks_ran()
        }

    def _is_garbage(self, runner: AllocRunner) -> bool:
        alloc_id = runner.desired.id
        is_wanted = alloc_id in self._wanted or not self._is_read
        if is_wanted or not runner.is_dead or not self._reporter.is_reported(alloc_id):
            return False
        if runner.desired.is_stopping or alloc_id in self._settled:
            return True
        # Its document went while it ran: perhaps a Consul that lost it.
        now_s = asyncio.get_running_loop().time()
        return now_s - self._ended_s.setdefault(alloc_id, now_s) >= self._pace.orphan_keep_s


def _job_key(desired: DesiredAlloc, version: int) -> str:
    return job_key(Job(id=desired.job_id, name="", namespace=desired.namespace, version=version))
