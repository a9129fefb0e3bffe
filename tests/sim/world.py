"""How is a whole cluster put together, driven, healed and watched?

    async with a_world(seed) as world:      machines boot, somebody leads
        await world.register(job)           as a user would, through whoever leads
        ...                                 faults.py breaks things
        await world.heal()                  and then everything must converge

One seed decides everything: each machine, engine and wire draws from its own stream, so that a
scenario's change in one place leaves the others as they were. The trace holds what happened; its digest
tells whether two runs were the same.
"""

import asyncio
import contextvars
import hashlib
import logging
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from catalog.embedded import ConsulState
from leader import commands, draining, rollouts
from leader.leading import Leading
from model.deployment import DeploymentStatus
from model.errors import DroverError
from model.job import Job, JobId, Namespace
from model.node import Eligibility, NodeId
from tests.sim.checkers import Checkers
from tests.sim.clock import OWNER, SimLoop
from tests.sim.converged import pending
from tests.sim.machine import Machine, Process
from tests.sim.wire import CALM, Net, Weather

TRACE_LINES = 60
# From the last repair to a cluster that is as wanted. A restarted agent's services have 60 s of
# probation, blocking reads and full reads take up to 30 s, back-offs 10 s.
CONVERGE_S = 150.0
# Looks, a second apart, at which all must be as wanted.
_STABLE = 5
# A killed process has no more effect and nothing to wait for.
_END_S = 60.0


class Violation(AssertionError):
    """A checker saw what must never happen."""


class World:
    def __init__(self, seed: int, tasks: asyncio.TaskGroup, *, is_fencing: bool = True) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.seed = seed
        self.loop = loop
        self.tasks = tasks
        self.is_fencing = is_fencing
        self.state = ConsulState(loop=loop, rng=self.rng("consul"))
        self.checkers = Checkers(self, self.broke)
        self.net = Net(tasks, contextvars.copy_context(), self.rng("net"), self.checkers.applied)
        self.weather: Weather = CALM
        self.machines: list[Machine] = []
        self.violations: list[str] = []
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self.events = 0
        self._digest = hashlib.sha256()
        self._is_over = False

    # Told.

    def say(self, text: str) -> None:
        line = f"{self.loop.time():9.3f} {text}"
        self.events += 1
        self._digest.update(line.encode())
        self.trace.append(line)

    def broke(self, what: str) -> None:
        self.say(f"VIOLATION {what}")
        self.violations.append(what)

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def rng(self, name: str) -> random.Random:
        """A stream of chance for one purpose."""
        return random.Random(f"{self.seed}/{name}")

    # The cluster.

    def add_machine(self, *, is_candidate: bool) -> Machine:
        machine = Machine(self, len(self.machines), is_candidate=is_candidate, observer=self.checkers)
        self.machines.append(machine)
        self.checkers.engines[machine.name] = machine.engine
        machine.boot()
        return machine

    def machine_of(self, node_id: NodeId) -> Machine | None:
        return next((m for m in self.machines if m.node_id == node_id), None)

    def ended(self, process: Process, error: BaseException | None) -> None:
        """A process is over; its machine may start the next one."""
        if process.machine.process is process:
            process.machine.away_before_s = process.note_away()
            process.machine.process = None
        if error is not None and not process.is_dead and not self._is_over:
            self.broke(f"{process.name} crashed: {error!r}: {_causes(error)}")

    @property
    def leader(self) -> Process | None:
        """Who leads by its own account and has read everything; of several the latest epoch's."""
        leading = [m.process for m in self.machines if m.process is not None and m.process.is_leading]
        return max(leading, key=_epoch, default=None)

    # Users.

    async def ask(self, what: str, command: Callable[[Leading], Awaitable[object]]) -> bool:
        """Gives a command to whoever leads; True once it was acknowledged."""
        process = self.leader
        leading = process.election.leading if process and process.election else None
        if process is None or leading is None:
            self.say(f"user: {what}: nobody leads")
            return False
        answer: asyncio.Future[bool] = self.loop.create_future()

        async def call() -> None:
            try:
                await command(leading)
            except DroverError as error:
                self.say(f"user: {what}: {type(error).__name__}")
                _tell(answer, False)
            else:
                self.say(f"user: {what}: done")
                _tell(answer, True)
            finally:
                _tell(answer, False)

        if not process.spawn(call(), what):
            return False
        try:
            async with asyncio.timeout(12.0):
                return await answer
        except TimeoutError:
            return False

    async def register(self, job: Job) -> bool:
        count = job.task_groups[0].count
        return await self.ask(f"register {job.id} x{count}", lambda leading: commands.register(leading, job))

    async def deregister(self, name: str, *, purge: bool = False) -> bool:
        verb = "purge" if purge else "stop"
        return await self.ask(
            f"{verb} {name}",
            lambda leading: commands.deregister(leading, Namespace("default"), JobId(name), purge=purge),
        )

    async def until(self, fact: Callable[[], object], what: str, within_s: float = 60.0) -> None:
        """Returns once the fact holds; a scenario's wait."""
        give_up_s = self.loop.time() + within_s
        while not fact():
            self.raise_broken()
            if self.loop.time() >= give_up_s:
                raise AssertionError(f"waited {within_s} s for {what}\n" + "\n".join(self.trace))
            await asyncio.sleep(0.1)

    # The end.

    async def heal(self, within_s: float = CONVERGE_S) -> None:
        """Repairs everything and waits until the cluster is as wanted. Raises Violation if it never is."""
        self.say("heal")
        self.weather = CALM
        self.state.is_leaderless = False
        for machine in self.machines:
            machine.engine.calm()
            if machine.process is not None and machine.process.is_frozen:
                self.loop.thaw(machine.process)
            if not machine.is_on:
                machine.boot()
            machine.start_consul()
            machine.uncut()
        give_up_s = self.loop.time() + within_s
        good = 0
        while good < _STABLE:
            self.raise_broken()
            await asyncio.sleep(1.0)
            for machine in self.machines:
                machine.start_drover()
            await self._undo_orders()
            left = pending(self)
            good = 0 if left else good + 1
            if self.loop.time() >= give_up_s and left:
                self.broke(f"not converged after {within_s:.0f} s: {'; '.join(left)}")
                self.raise_broken()
        self.say("converged")

    async def _undo_orders(self) -> None:
        """What operators ordered and nobody took back, for its own user was told that nobody led."""
        for control in list(self.checkers.controls.values()):
            if control.drain is not None or control.scheduling_eligibility is not Eligibility.ELIGIBLE:
                command = partial(draining.set_drain, node_id=control.node_id, drain=None, mark_eligible=True)
                await self.ask(f"use {control.node_id[:8]} again", command)
        for deployment in list(self.checkers.deployments.values()):
            if deployment.status is DeploymentStatus.PAUSED:
                command = partial(rollouts.pause, deployment_id=deployment.id, is_paused=False)
                await self.ask(f"resume {deployment.job_id}", command)

    def raise_broken(self) -> None:
        if self.violations:
            raise Violation("\n".join(self.violations[:5]) + "\n\n" + "\n".join(self.trace))

    async def close(self) -> None:
        self._is_over = True
        for machine in self.machines:
            if machine.process is not None:
                machine.process.kill()
            if machine.consul is not None:
                machine.consul.stop()
        give_up_s = self.loop.time() + _END_S
        while left := [m.process.name for m in self.machines if m.process is not None]:
            if self.loop.time() > give_up_s:
                self.broke(f"{left} never ended")
                break
            await asyncio.sleep(0.1)
        self.state.close()
        self.raise_broken()


@asynccontextmanager
async def a_world(
    seed: int, *, nodes: int = 3, candidates: int = 2, is_fencing: bool = True
) -> AsyncIterator[World]:
    """A cluster that has just booted, with somebody leading. Inside the body all of it is alive."""
    assert OWNER.get() is None
    async with asyncio.TaskGroup() as tasks:
        world = World(seed, tasks, is_fencing=is_fencing)
        listener = _Listener(world)
        world.loop.set_exception_handler(lambda _, facts: world.broke(f"{facts.get('message')}: {facts.get('exception')!r}"))
        logger = logging.getLogger()
        logger.addHandler(listener)
        try:
            for number in range(nodes):
                world.add_machine(is_candidate=number < candidates)
            await world.until(lambda: world.leader, "somebody leads")
            yield world
        finally:
            logger.removeHandler(listener)
            await world.close()
            _end_all(tasks)


def _end_all(tasks: asyncio.TaskGroup) -> None:
    for task in list(tasks._tasks):  # type: ignore[attr-defined]  # calls on their way have nobody to answer
        task.cancel()


class _Listener(logging.Handler):
    """An unexpected exception that production code logged and went on from is a bug all the same."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        owner = OWNER.get()
        if record.exc_info and not (isinstance(owner, Process) and owner.is_dead):
            error = record.exc_info[1]
            self._world.broke(f"{record.getMessage()}: {error!r}: {_causes(error)}")


def _causes(error: BaseException | None) -> str:
    """Where it was raised, innermost exceptions of groups first."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(f"{inner!r} {_causes(inner)}" for inner in error.exceptions)
    frames = []
    trace = error.__traceback__ if error else None
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename.rsplit('/', 2)[-1]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " > ".join(frames[-4:])


def _epoch(process: Process) -> int:
    leading = process.election.leading if process.election else None
    return leading.fenced.epoch if leading else 0


def _tell(answer: "asyncio.Future[bool]", value: bool) -> None:
    if not answer.done():
        answer.set_result(value)
