"""Who keeps Consul's picture of this node's services true, and restarts what its checks find ill?

    publish/withdraw ──> wanted ──reconcile each 30 s and after a Consul restart──> local Consul agent
    script and ttl checks ──fed──> local Consul agent
    local checks ──polled while a check_restart is wanted──> Tally ──due, and still failing──> restart

Only what carries this node's id in its meta is drover's own. An unreachable Consul changes nothing here:
what is wanted stays wanted and is registered, with its last known status, when Consul is back.
"""

import asyncio
import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agent.task_run import TaskRun
from catalog.services import LocalAgent, LocalCheck, LocalService
from checks.check_restart import CheckStatus, Rule, Tally, begin, count, is_due, see
from checks.registration import META_NODE, CheckRegistration, Registration, is_fed, kept_tags, register
from jobspec.interpolate import interpolate
from model.alloc import AllocId
from model.errors import StoreRefused, StoreUnavailable, TaskRefused
from model.job import Service
from model.node import NodeId
from model.wire import seconds

log = logging.getLogger("drover.services")

RECONCILE_S = 30.0
RETRY_S = 2.0
# A failing check must be seen soon after it failed, or the restart comes late: 0.25 s keeps the kill
# within half a second of the limit-th result (Nomad polls each second). Costs 0.3 s of cpu a minute with
# 300 checks, and nothing where no check_restart is wanted.
POLL_S = 0.25
# Services that nobody here wants are removed only when the agent has had time to re-attach to its tasks.
PROBATION_S = 60.0
NOT_REGISTERED = "Service Registration Failed"


@dataclass(slots=True)
class _Watched:
    """One check of one running task."""

    check: CheckRegistration
    run: TaskRun
    tally: Tally | None


@dataclass(slots=True)
class _Wanted:
    """tags: the job's own, as they were registered last; None: not by this agent."""

    registration: Registration
    run: TaskRun
    is_registered: bool = False
    tags: Sequence[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """task: empty for a service of the group. found: None where Consul does not know the check (yet)."""

    service: str
    task: str
    check: CheckRegistration
    found: LocalCheck | None


@dataclass(slots=True)
class NodeServices:
    """All services of this node's tasks. Run `run()` beside the NodeAgent; publish and withdraw from it."""

    consul: LocalAgent
    node_id: NodeId
    address: str
    _wanted: dict[str, _Wanted] = field(default_factory=dict)
    _watched: dict[str, _Watched] = field(default_factory=dict)
    _status: dict[str, str] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: asyncio.TaskGroup | None = None
    _feeders: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for watched in self._watched.values():
                self._start_feeder(watched)
            tasks.create_task(self._reconcile_for_ever(), name="services reconcile")
            tasks.create_task(self._poll_for_ever(), name="checks poll")

    # -- TaskServices

    async def publish(self, run: TaskRun) -> None:
        """A task's process started, or its job changed in place: its services are wanted, its checks are
        counted anew, and what it no longer has goes."""
        services = [(service, run.task.name) for service in run.task.services]
        services += [(service, "") for service in run.group.services if service.task_name in ("", run.task.name)]
        wanted = [made for service, name in services if (made := self._registration(run, service, task_name=name)) is not None]
        ids = {registration.id for registration in wanted}
        await self._withdraw([key for key in self._of(run.alloc.id, run.task.name) if key not in ids])
        for registration in wanted:
            await self._want(run, registration)

    async def withdraw(self, alloc_id: AllocId, task_name: str) -> None:
        """The task is about to be stopped: what it published goes first."""
        await self._withdraw(self._of(alloc_id, task_name))

    def _of(self, alloc_id: AllocId, task_name: str) -> list[str]:
        return [
            key
            for key, wanted in self._wanted.items()
            if wanted.registration.alloc_id == alloc_id and wanted.run.task.name == task_name
        ]

    async def _withdraw(self, keys: list[str]) -> None:
        for key in keys:
            self._forget(self._wanted.pop(key))
        for key in keys:
            try:
                await self.consul.deregister(key)
            except (StoreUnavailable, StoreRefused) as error:
                log.warning("service %s stays registered until Consul answers: %s", key, error)
                self._changed.set()

    # -- AllocChecks

    async def passing(self) -> dict[AllocId, bool]:
        """For each alloc with published checks, whether all of them pass. Raises StoreUnavailable, StoreRefused."""
        failing = await self.consul.checks(failing_only=True)
        found: dict[AllocId, bool] = {}
        for wanted in self._wanted.values():
            if wanted.registration.checks:
                alloc_id = wanted.run.alloc.id
                is_passing = wanted.is_registered and not any(c.id in failing for c in wanted.registration.checks)
                found[alloc_id] = found.get(alloc_id, True) and is_passing
        return found

    async def results(self, alloc_id: AllocId) -> list[CheckResult]:
        """What Consul knows of each published check of the alloc, by service and check. Raises StoreUnavailable,
        StoreRefused."""
        known = await self.consul.checks()
        return [
            CheckResult(
                service=str(wanted.registration.document["Name"]),
                task=wanted.registration.task_name,
                check=check,
                found=known.get(check.id),
            )
            for wanted in self._wanted.values()
            if wanted.registration.alloc_id == alloc_id
            for check in wanted.registration.checks
        ]

    # -- wanted

    def _registration(self, run: TaskRun, service: Service, *, task_name: str) -> Registration | None:
        """None: it cannot be registered, and the task's history says why."""
        try:
            return register(
                run.alloc,
                service,
                task_name=task_name,
                node_id=self.node_id,
                address=self.address,
                interpolate=lambda text: interpolate(text, run.env),
                network=run.network,
            )
        except TaskRefused as refusal:
            run.tell(NOT_REGISTERED, f'Service "{service.name}" is not registered: {refusal}')
            return None

    async def _want(self, run: TaskRun, registration: Registration) -> None:
        known = self._wanted.get(registration.id)
        is_same = (
            known is not None and known.is_registered and known.registration.document == registration.document
        )
        wanted = _Wanted(registration, run, is_registered=is_same, tags=known.tags if known is not None else None)
        if known is not None:
            self._forget(known)
        self._wanted[registration.id] = wanted
        for check in registration.checks:
            watched = _Watched(check, run, begin(check.rule, run.started_s) if check.rule else None)
            self._watched[check.id] = watched
            self._start_feeder(watched)
        self._changed.set()
        if not is_same:
            with suppress(StoreUnavailable, StoreRefused):
                await self._register(wanted)

    def _forget(self, wanted: _Wanted) -> None:
        for check in wanted.registration.checks:
            self._watched.pop(check.id, None)
            feeder = self._feeders.pop(check.id, None)
            if feeder is not None:
                feeder.cancel()

    async def _register(self, wanted: _Wanted, there: Mapping[str, LocalService] | None = None) -> None:
        """there: what the local agent has, if that is known."""
        document = dict(wanted.registration.document)
        own = document["Tags"]
        if document["EnableTagOverride"]:
            there = await self.consul.services(META_NODE, self.node_id) if there is None else there
            if (known := there.get(wanted.registration.id)) is not None:
                document["Tags"] = kept_tags(known.tags or (), wanted.tags, own)
        # A check that Consul forgot comes back as it last was, not critical.
        document["Checks"] = [
            {**check, "Status": self._status.get(check["CheckID"], check["Status"])}
            for check in document["Checks"]
        ]
        await self.consul.register(document)
        wanted.is_registered, wanted.tags = True, own

    async def _reconcile_for_ever(self) -> None:
        started_s = asyncio.get_running_loop().time()
        while True:
            self._changed.clear()
            try:
                await self._reconcile(may_remove=asyncio.get_running_loop().time() - started_s >= PROBATION_S)
                wait_s = RECONCILE_S
            except (StoreUnavailable, StoreRefused) as error:
                log.debug("services not reconciled: %s", error)
                wait_s = RETRY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
                    # A burst of starting tasks is one reconciliation.
                    await asyncio.sleep(RETRY_S)

    async def _reconcile(self, *, may_remove: bool) -> None:
        """Brings the local agent to what is wanted. Raises StoreUnavailable; then it is tried again soon."""
        there = await self.consul.services(META_NODE, self.node_id)
        checks = await self.consul.checks() if self._watched else {}
        for check_id in self._watched.keys() & checks.keys():
            self._status[check_id] = checks[check_id].status
        self._status = {c: s for c, s in self._status.items() if c in self._watched}
        for key, wanted in list(self._wanted.items()):
            has_checks = all(check.id in checks for check in wanted.registration.checks)
            if key not in there or not has_checks or not wanted.is_registered:
                await self._register(wanted, there)
        for key in sorted(there.keys() - self._wanted.keys()):
            if may_remove and key.startswith("_drover-task-"):
                await self.consul.deregister(key)

    # -- script and ttl checks

    def _start_feeder(self, watched: _Watched) -> None:
        if self._tasks is not None and is_fed(watched.check.spec) and watched.check.id not in self._feeders:
            self._feeders[watched.check.id] = self._tasks.create_task(
                self._feed_for_ever(watched.check.id), name=f"check {watched.check.name}"
            )

    async def _feed_for_ever(self, check_id: str) -> None:
        while (watched := self._watched.get(check_id)) is not None:
            status, output = await self._result(watched)
            if self._watched.get(check_id) is not watched:
                continue  # the task was restarted meanwhile: that was the old process' result
            rule = watched.check.rule
            now_s = asyncio.get_running_loop().time()
            if rule is not None and watched.tally is not None:
                watched.tally = count(rule, watched.tally, status, now_s)
                if is_due(watched.tally, now_s):
                    self._restart(watched, rule)
            self._status[check_id] = status.value
            with suppress(StoreUnavailable, StoreRefused):
                await self.consul.feed(check_id, status.value, output)
            await asyncio.sleep(seconds(watched.check.spec.interval))

    async def _result(self, watched: _Watched) -> tuple[CheckStatus, str]:
        """Runs a script check once; a ttl check passes as long as its task's process runs."""
        spec = watched.check.spec
        if spec.type == "ttl":
            return CheckStatus.PASSING, "the task is running"
        values = watched.run.env
        argv = [interpolate(word, values) for word in (spec.command, *spec.args)]
        try:
            code, output = await watched.run.execute(argv, seconds(spec.timeout))
        except TimeoutError:
            return CheckStatus.CRITICAL, f"{shlex.join(argv)} timed out after {seconds(spec.timeout):g}s"
        except Exception as error:  # a script that cannot run is a failed check, whatever the reason
            return CheckStatus.CRITICAL, f"{shlex.join(argv)}: {error}"
        status = {0: CheckStatus.PASSING, 1: CheckStatus.WARNING}.get(code, CheckStatus.CRITICAL)
        return status, output.decode("utf-8", "replace")

    # -- check_restart of checks that Consul runs

    async def _poll_for_ever(self) -> None:
        while True:
            polled = [w for w in self._watched.values() if w.check.rule and not w.check.rule.is_counted]
            if not polled:
                await self._changed.wait()
                await asyncio.sleep(POLL_S)
                continue
            with suppress(StoreUnavailable, StoreRefused):
                await self._poll()
            await asyncio.sleep(POLL_S)

    async def _poll(self) -> None:
        asked_s = asyncio.get_running_loop().time()
        failing = await self.consul.checks(failing_only=True)
        now_s = asyncio.get_running_loop().time()
        for check_id, watched in list(self._watched.items()):
            rule = watched.check.rule
            if rule is None or rule.is_counted or watched.tally is None:
                continue
            watched.tally = _seen(rule, watched.tally, failing.get(check_id), now_s)
            if is_due(watched.tally, asked_s):
                # The read just made was asked for after the reckoned result (its answer may have been slow), so it
                # is the second look as well.
                self._restart(watched, rule)

    def _restart(self, watched: _Watched, rule: Rule) -> None:
        # Nothing counts until the new process publishes; should it never start, nothing is left to count.
        watched.tally = None
        watched.run.restart(f'check "{watched.check.name}" failed {rule.limit} times in a row')


def _seen(rule: Rule, tally: Tally, check: LocalCheck | None, now_s: float) -> Tally:
    if check is None:
        # Passing, or unknown to Consul: neither is a failure.
        return Tally(armed_s=tally.armed_s)
    return see(rule, tally, CheckStatus(check.status), check.output, now_s)
