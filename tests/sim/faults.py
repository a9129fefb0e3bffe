"""What breaks in a simulated cluster, and for how long?

A Storm draws one incident after another from the seed; each is undone by itself after a while, and several overlap.
Half of them go for whoever leads. Everything is announced in the trace.

    Consul        its servers lose their leader; blocking reads answer for nothing; calls lost, late, unclear
    one agent     a Consul client agent restarts (its services are gone), leaving or crashing
    network       a machine cut off from the servers, or from everything
    drover        killed, ended, frozen
    machine       loses power, boots later
    tasks         exit, turn sick; the engine refuses
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from agent.drivers.base import ExitResult
from leader import braking, commands, draining, rollouts, versions
from leader.leading import Leading
from model.cluster import ScalingEvent
from model.job import JobId, Namespace
from model.node import Drain
from tests.sim.machine import Machine, Process
from tests.sim.wire import CALM, Weather
from tests.sim.workload import NAMES, random_job
from tests.sim.world import World

NAMESPACE = Namespace("default")
STEP_S = 1.5
MACHINES_MAX = 6


class Storm:
    """Phase 1: breaks things and asks for things, `steps` times. names: of the jobs that are asked for."""

    def __init__(self, world: World, names: Sequence[str] = NAMES) -> None:
        self._world = world
        self._names = names
        self._rng = world.rng("storm")
        self._incidents: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (4, self._weather),
            (3, self._leaderless),
            (2, self._spurious),
            (4, self._consul_restarts),
            (6, self._cut),
            (5, self._kill),
            (2, self._terminate),
            (5, self._freeze),
            (4, self._power),
            (6, self._exit),
            (4, self._sick),
            (3, self._busy),
            (1, self._join),
        ]

    async def rage(self, steps: int) -> None:
        """Ends with its last incident under way: heal() repairs what is left."""
        rng = self._rng
        async with asyncio.TaskGroup() as tasks:
            for step in range(steps):
                self._world.raise_broken()
                if step < 3 or rng.random() < 0.35:
                    tasks.create_task(self._user(), name=f"user {step}")
                if step >= 2:
                    weights = [weight for weight, _ in self._incidents]
                    incident = rng.choices([one for _, one in self._incidents], weights)[0]
                    tasks.create_task(incident(), name=f"incident {step}")
                await asyncio.sleep(rng.expovariate(1 / STEP_S))

    # Users.

    async def _user(self) -> None:
        rng, world = self._rng, self._world
        name = rng.choice(self._names)
        what = rng.random()
        if what < 0.6:
            await world.register(random_job(name, rng, len(world.machines)))
        elif what < 0.75:
            await self._operator(name)
        elif what < 0.87:
            await world.deregister(name)
        elif what < 0.95:
            await world.deregister(name, purge=True)
        else:
            await world.ask(f"evaluate {name}", partial(_evaluate, name=name))

    async def _operator(self, name: str) -> None:
        """Somebody moves, holds or hurries what is under way."""
        rng, world = self._rng, self._world
        match rng.choice(("drain", "drain", "rebalance", "restart", "scale", "pause", "fail", "revert", "release")):
            case "drain":
                await self._drain()
            case "rebalance":
                await world.ask("rebalance", lambda leading: leading.rebalancer.rebalance(sorted(leading.view.jobs)))
            case "restart":
                await world.ask(f"restart {name}", lambda leading: versions.restart(leading, NAMESPACE, JobId(name)))
            case "scale":
                count = rng.randint(0, len(world.machines))

                async def scale(leading: Leading) -> None:
                    said = ScalingEvent(time=leading.fenced.now_ns)
                    await versions.scale(leading, NAMESPACE, JobId(name), "app", count, said)

                await world.ask(f"scale {name} to {count}", scale)
            case "revert":
                await world.ask(f"revert {name}", lambda leading: versions.revert(leading, NAMESPACE, JobId(name), 0))
            case "release":
                await world.ask("release the brake", braking.release)
            case "pause":
                if (found := world.checkers.newest_deployment(NAMESPACE, name)) is not None:
                    await world.ask(f"pause {name}", partial(rollouts.pause, deployment_id=found.id, is_paused=True))
                    await self._for_a_while(5.0)
                    await world.ask(f"resume {name}", partial(rollouts.pause, deployment_id=found.id, is_paused=False))
            case "fail":
                if (found := world.checkers.newest_deployment(NAMESPACE, name)) is not None:
                    await world.ask(f"fail {name}", partial(rollouts.fail, deployment_id=found.id))

    async def _drain(self) -> None:
        """One machine is emptied, and after a while it may be used again."""
        machine, now_ns = self._machine(), round(self._world.loop.now().timestamp() * 1e9)
        deadline_ns = self._rng.choice((None, 10_000_000_000, 0))
        order = Drain(
            deadline_at=None if deadline_ns is None else now_ns + deadline_ns,
            is_forced=deadline_ns == 0,
            ignores_system=self._rng.random() < 0.3,
        )
        node_id = machine.node_id
        await self._world.ask(
            f"drain {machine.name}", partial(draining.set_drain, node_id=node_id, drain=order, mark_eligible=False)
        )
        await self._for_a_while(10.0)
        await self._world.ask(
            f"use {machine.name} again", partial(draining.set_drain, node_id=node_id, drain=None, mark_eligible=True)
        )

    # Who it hits.

    def _machine(self) -> Machine:
        leader = self._world.leader
        if leader is not None and self._rng.random() < 0.5:
            return leader.machine
        return self._rng.choice(self._world.machines)

    async def _for_a_while(self, mean_s: float) -> None:
        await asyncio.sleep(min(self._rng.expovariate(1 / mean_s), 30.0))

    # Consul.

    async def _weather(self) -> None:
        rng, world = self._rng, self._world
        shares = {name: rng.choice((0.0, 0.03, 0.15)) for name in ("lost", "refused", "unclear", "late", "spurious")}
        world.say("weather: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()))
        world.weather = Weather(**shares)
        await self._for_a_while(10.0)
        world.weather = CALM
        world.say("weather: calm")

    async def _leaderless(self) -> None:
        self._world.say("Consul's servers lose their leader")
        self._world.state.is_leaderless = True
        await self._for_a_while(4.0)
        self._world.state.is_leaderless = False
        self._world.say("Consul's servers have a leader")

    async def _spurious(self) -> None:
        self._world.say("every blocking read answers")
        self._world.state.wake_all()

    async def _consul_restarts(self) -> None:
        machine = self._machine()
        machine.stop_consul(is_leaving=self._rng.random() < 0.5)
        await self._for_a_while(3.0)
        machine.start_consul()

    # Network.

    async def _cut(self) -> None:
        machine = self._machine()
        machine.cut(is_off_net=self._rng.random() < 0.5)
        await self._for_a_while(10.0)
        machine.uncut()

    # drover.

    async def _kill(self) -> None:
        machine = self._machine()
        machine.kill_drover()
        await self._for_a_while(6.0)
        machine.start_drover()

    async def _terminate(self) -> None:
        machine = self._machine()
        machine.terminate_drover()
        await self._for_a_while(4.0)
        machine.start_drover()

    async def _freeze(self) -> None:
        process = self._machine().process
        if process is None or process.is_frozen:
            return
        self._world.say(f"{process.name} is frozen{' while leading' if process.is_leading else ''}")
        process.freeze()
        await self._for_a_while(6.0)
        self._thaw(process)

    def _thaw(self, process: Process) -> None:
        if process.is_frozen:
            self._world.say(f"{process.name} goes on")
            self._world.loop.thaw(process)

    # Machines and what runs on them.

    async def _power(self) -> None:
        machine = self._machine()
        if not machine.is_on:
            return
        machine.power_off()
        await self._for_a_while(8.0)
        if not machine.is_on:
            machine.boot()

    async def _exit(self) -> None:
        machine = self._machine()
        alive = machine.engine.alive
        if alive:
            machine.engine.end(self._rng.choice(alive), ExitResult(code=self._rng.choice((0, 1))))

    async def _sick(self) -> None:
        machine = self._machine()
        served = [thing for thing in machine.engine.alive if thing.start.ports]
        if not served:
            return
        thing = self._rng.choice(served)
        self._world.say(f"{machine.name} {thing.start.alloc_id[:8]} is sick")
        thing.is_sick = thing.was_sick = True
        await self._for_a_while(8.0)
        thing.is_sick = False

    async def _busy(self) -> None:
        engine = self._machine().engine
        self._world.say(f"{engine.name} the engine is busy")
        engine.busy_p = self._rng.choice((0.2, 0.9))
        await self._for_a_while(5.0)
        engine.busy_p = 0.0

    async def _join(self) -> None:
        if len(self._world.machines) < MACHINES_MAX:
            self._world.add_machine(is_candidate=False)


async def _evaluate(leading: object, *, name: str) -> None:
    await commands.evaluate(leading, Namespace("default"), JobId(name))  # type: ignore[arg-type]


def pick(rng: random.Random) -> tuple[int, int]:
    """(machines, candidates) of a seed."""
    nodes = rng.randint(2, 4)
    return nodes, rng.randint(2, min(3, nodes))
