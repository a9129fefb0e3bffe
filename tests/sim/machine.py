"""What is one machine, and what can be done to it?

    Machine   Consul agent, engine with its tasks, disk; boot id
      └─ Process   one life of drover: what cli/process.py puts together, on doubles of the outside

Power, network, the Consul agent and the drover process each fail by themselves. kill() lets no effect out
any more, then cancels: clean-up code runs in vain, as after a SIGKILL. freeze() parks every callback.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import Any, Protocol

from agent.alloc_dir import NoDirs
from agent.node_agent import NodeAgent, Pace
from agent.presence import Presence
from agent.services import NodeServices
from catalog.agent_store import AgentStore, DesiredView
from catalog.client import Client
from catalog.embedded import ConsulAgent, ConsulState, HttpSpec, ProbeResult, Status, TcpSpec
from catalog.keys import Keys
from catalog.kv import Kv
from catalog.lease import Candidate, Lease
from catalog.services import LocalAgent
from leader.election import Election
from model.alloc import AllocId, ObservedAlloc
from model.cluster import Leader
from model.job import Job, JobId, Namespace
from model.node import Node, NodeId, NodeResources
from model.snapshot import Settings
from tests.sim.clock import OWNER, Freezable, SimLoop
from tests.sim.disk import Disk, DiskJournal
from tests.sim.driver import Engine, EngineDriver
from tests.sim.wire import Net, SimPulse, SimTransport, Weather

LEASE_TTL_S = 3.0
# Shorter than production's, so that a run of a minute holds many lives.
SETTINGS = Settings(
    heartbeat_grace_s=5.0, min_heartbeat_ttl_s=4.0, agent_down_after_s=15.0, gc_after_s=30.0
)
PACE = Pace(watch_s=20.0, fingerprint_s=30.0, collect_s=2.0, orphan_keep_s=20.0)
# Gossip needs this long to find a machine gone (measured: 6.1 s).
GOSSIP_S = 5.0


class World(Protocol):
    """What a machine needs of the world around."""

    loop: SimLoop
    state: ConsulState
    net: Net
    tasks: asyncio.TaskGroup
    weather: Weather
    is_fencing: bool

    def say(self, text: str) -> None: ...
    def rng(self, name: str) -> random.Random: ...
    def machine_of(self, node_id: NodeId) -> "Machine | None": ...
    def broke(self, what: str) -> None: ...
    def ended(self, process: "Process", error: BaseException | None) -> None: ...


class Process(Freezable):
    """One life of drover on a machine."""

    def __init__(self, world: World, machine: "Machine", life: int) -> None:
        super().__init__()
        self.world = world
        self.machine = machine
        self.name = f"{machine.name}.{life}"
        self.is_dead = False
        self.away_s_max = 0.0  # the longest time that its agent was without contact
        self._contact_s = world.loop.time()
        self._group: asyncio.TaskGroup | None = None
        self._main: asyncio.Task[None] | None = None
        self._context = copy_context()
        self._context.run(OWNER.set, self)
        self._context.run(self._compose, world.rng(f"process {self.name}"))

    # What the wire asks.

    @property
    def consul(self) -> ConsulAgent | None:
        return self.machine.consul

    @property
    def weather(self) -> Weather:
        return self.world.weather

    # Its life.

    def _compose(self, rng: random.Random) -> None:
        """As cli/process.py does."""
        world, machine = self.world, self.machine
        transport = SimTransport(world.net, self)
        client, keys, kv = Client(transport), Keys(), Kv(transport)
        store = AgentStore(kv, keys, rng)
        self.kv_contact = _Contact(store, self._contact)
        local = LocalAgent(client)
        self.pulse = SimPulse(world.net, self, lambda check_id: self.presence.forgotten(check_id))
        self.presence = Presence(
            consul=local,
            pulse=self.pulse,
            node_id=machine.node_id,
            name=machine.name,
            http_addr=machine.http_addr,
            boot_id=machine.boot_id,
            read_control=store.read_control,
            ttl_s=SETTINGS.min_heartbeat_ttl_s,
        )
        self.services = NodeServices(local, machine.node_id, machine.address)
        self.journal = DiskJournal(machine.disk, self._is_over)
        self.agent = NodeAgent(
            node=machine.node(),
            store=self.kv_contact,
            journal=self.journal,
            drivers=[EngineDriver(machine.engine, machine.boot_id, self._is_over)],
            dirs=NoDirs(),
            now=world.loop.now,
            rng=rng,
            services=self.services,
            pace=PACE,
        )
        self.election = self._election(client, kv, keys, rng) if machine.is_candidate else None

    def _election(self, client: Client, kv: Kv, keys: Keys, rng: random.Random) -> Election:
        from tests.sim.broken import UnfencedKv, UnfencedLease

        machine, loop = self.machine, self.world.loop
        is_fencing = self.world.is_fencing
        if not is_fencing:
            kv = UnfencedKv(kv)
        lease = (Lease if is_fencing else UnfencedLease)(
            client=client,
            kv=kv,
            keys=keys,
            pulse=self.pulse,
            candidate=Candidate(
                leader=Leader(
                    node_id=machine.node_id, name=machine.name, http_addr=machine.http_addr, epoch=0, since=0, nonce=""
                ),
                ttl_s=LEASE_TTL_S,
            ),
            now_ns=lambda: int(loop.now().timestamp() * 1e9),
            rng=rng,
        )
        return Election(
            client=client,
            kv=kv,
            keys=keys,
            lease=lease,
            settings=SETTINGS,
            now=loop.now,
            rng=rng,
            probe=self._probe,
        )

    def start(self) -> None:
        self._main = self.world.tasks.create_task(self._run(), name=self.name, context=self._context)
        # Killed before its first step, it never gets to say so itself.
        self._main.add_done_callback(lambda _: self.world.ended(self, None))

    async def _run(self) -> None:
        error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self.spawn(self.pulse.run(), "pulse")
                if self.election is not None:
                    self.spawn(self.election.run(), "server")
                self.spawn(self.presence.run(), "presence")
                self.spawn(self.services.run(), "services")
                self.spawn(self.agent.run(), "node agent")
        except Exception as caught:  # a crash of the whole process: for the observers
            error = caught
        finally:
            self._group = None
            self.world.ended(self, error)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> bool:
        """Runs something as part of this process; False when there is none any more."""
        if self._group is None or self.is_dead:
            work.close()
            return False
        self._group.create_task(work, name=f"{self.name} {name}", context=self._context)
        return True

    def _is_over(self) -> bool:
        return self.is_dead

    def _contact(self, is_made: bool) -> None:
        now_s = self.world.loop.time()
        self.away_s_max = max(self.away_s_max, now_s - self._contact_s)
        if is_made:
            self._contact_s = now_s

    def note_away(self) -> float:
        """The longest time so far that its agent was without contact with Consul's KV."""
        self._contact(False)
        return self.away_s_max

    def kill(self) -> None:
        self.is_dead = True
        self.journal.cut()
        self.world.loop.thaw(self)
        self._cancel()

    def terminate(self) -> None:
        """SIGTERM: it tidies up, and hands over the lead."""
        self.world.loop.thaw(self)
        self._cancel()

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()

    def freeze(self) -> None:
        self.is_frozen = True

    @property
    def is_leading(self) -> bool:
        leading = self.election.leading if self.election and not self.is_dead else None
        return leading is not None and leading.is_ready

    async def _probe(self, node: Node) -> bool:
        """Calls another agent's own address."""
        await asyncio.sleep(0.002)
        machine = self.world.machine_of(node.id)
        if self.is_dead or machine is None or machine.is_off_net or self.machine.is_off_net:
            await asyncio.sleep(1.0)
            return False
        process = machine.process
        if process is not None and process.is_frozen:
            await asyncio.sleep(1.0)
            return False
        return process is not None and not process.is_dead


class _Contact:
    """An AgentStore that tells when it reached Consul, as the agent itself counts it."""

    def __init__(self, store: AgentStore, told: Callable[[bool], None]) -> None:
        self._store = store
        self._told = told

    async def watch_desired(self, node_id: NodeId, index: int, wait_s: float) -> DesiredView:
        view = await self._store.watch_desired(node_id, index, wait_s)
        self._told(True)
        return view

    async def read_job(self, namespace: Namespace, job_id: JobId, version: int) -> Job | None:
        return await self._store.read_job(namespace, job_id, version)

    async def reach(self, timeout_s: float) -> None:
        await self._store.reach(timeout_s)
        self._told(True)

    async def report(self, node_id: NodeId, allocs: Sequence[ObservedAlloc], node: Node | None) -> None:
        await self._store.report(node_id, allocs, node)
        self._told(True)

    async def delete_observed(self, node_id: NodeId, alloc_ids: Sequence[AllocId]) -> None:
        await self._store.delete_observed(node_id, alloc_ids)


class Machine:
    """consul: None while its Consul agent is down. process: None while no drover runs."""

    def __init__(
        self, world: World, number: int, *, is_candidate: bool, observer: Any
    ) -> None:
        self.world = world
        self.name = f"m{number}"
        self.address = f"10.0.0.{number + 1}"
        self.http_addr = f"{self.address}:4646"
        rng = world.rng(f"machine {self.name}")
        self.node_id = NodeId(f"{rng.getrandbits(32):08x}-0000-4000-8000-{number:012x}")
        self.is_candidate = is_candidate
        self.engine = Engine(self.name, world.rng(f"engine {self.name}"), observer)
        self.disk = Disk(rng)
        self.consul: ConsulAgent | None = None
        self.process: Process | None = None
        self.away_before_s = 0.0  # note_away() of the process before: what it began to cut off, this one goes on with
        self.is_off_net = False
        self.is_on = False
        self.boots = 0
        self.lives = 0
        self._gossip: asyncio.TimerHandle | None = None

    @property
    def boot_id(self) -> str:
        return f"{self.name}-boot-{self.boots}"

    def node(self) -> Node:
        return Node(
            id=self.node_id,
            name=self.name,
            http_addr=self.http_addr,
            address=self.address,
            resources=NodeResources(
                cpu_mhz=8000, memory_mb=16000, disk_mb=100_000, min_dynamic_port=20_000, max_dynamic_port=20_030
            ),
            consul_node=self.name,
            consul_datacenter="dc1",
            boot_id=self.boot_id,
            started_time=int(self.world.loop.now().timestamp() * 1e9),
        )

    # Power.

    def boot(self) -> None:
        self.is_on = True
        self.boots += 1
        self.world.say(f"{self.name} boots: {self.boot_id}")
        self.start_consul()
        self.start_drover()

    def power_off(self) -> None:
        self.world.say(f"{self.name} loses power")
        self.kill_drover()
        self.engine.reboot()
        self.stop_consul(is_leaving=False)
        self.is_on = False

    # drover.

    def start_drover(self) -> None:
        """Once the life before has wholly ended: data_dir is locked."""
        if self.is_on and self.process is None:
            self.lives += 1
            self.process = Process(self.world, self, self.lives)
            self.world.say(f"{self.name} starts drover {self.process.name}")
            self.process.start()

    def kill_drover(self) -> None:
        if self.process is not None and not self.process.is_dead:
            self.world.say(f"{self.name} drover is killed{' while leading' if self.process.is_leading else ''}")
            self.process.kill()

    def terminate_drover(self) -> None:
        if self.process is not None and not self.process.is_dead:
            self.world.say(f"{self.name} drover is asked to end")
            self.process.terminate()

    # Consul.

    def start_consul(self) -> None:
        if not self.is_on or self.consul is not None:
            return
        self.consul = ConsulAgent(self.world.state, self.name, self.address, prober=_Prober(self.engine))
        self.consul.is_connected = not self.is_off_net
        self.consul.start_probing(self.world.tasks)
        self.consul.join()
        self._gossip_says(is_alive=not self.is_off_net)

    def stop_consul(self, *, is_leaving: bool) -> None:
        consul, self.consul = self.consul, None
        if consul is None:
            return
        self.world.say(f"{self.name} Consul agent ends{' and leaves' if is_leaving else ''}")
        if is_leaving:
            consul.leave()
        consul.stop()
        self.world.net.drop(consul)
        self._gossip_says(is_alive=False)

    def cut(self, *, is_off_net: bool) -> None:
        """Its Consul agent reaches no server; is_off_net: and nobody reaches the machine."""
        self.world.say(f"{self.name} is cut off{' from everything' if is_off_net else ''}")
        self.is_off_net = is_off_net
        if self.consul is not None:
            self.consul.is_connected = False
        self._gossip_says(is_alive=False)

    def uncut(self) -> None:
        self.world.say(f"{self.name} is connected")
        self.is_off_net = False
        if self.consul is not None:
            self.consul.is_connected = True
            self._gossip_says(is_alive=True)

    def _gossip_says(self, *, is_alive: bool) -> None:
        if self._gossip is not None:
            self._gossip.cancel()
        state = self.world.state
        tell: Callable[[str], None] = state.node_recovered if is_alive else state.node_failed
        self._gossip = self.world.loop.call_later(0.5 if is_alive else GOSSIP_S, self._told, tell)

    def _told(self, tell: Callable[[str], None]) -> None:
        """Gossip needs a leader among the servers to write down what it found."""
        if self.world.state.is_leaderless:
            self._gossip = self.world.loop.call_later(1.0, self._told, tell)
        else:
            tell(self.name)


class _Prober:
    """A task's http check passes while it runs and is not sick."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def probe(self, spec: HttpSpec | TcpSpec) -> ProbeResult:
        await asyncio.sleep(0.002)
        target = spec.url.split("/")[2] if isinstance(spec, HttpSpec) else spec.address
        port = int(target.rpartition(":")[2])
        for thing in self._engine.alive:
            if any(held.value == port for held in thing.start.ports):
                if thing.is_sick:
                    return ProbeResult(status=Status.CRITICAL, output="HTTP GET: 503 Service Unavailable")
                return ProbeResult(status=Status.PASSING, output="HTTP GET: 200 OK")
        return ProbeResult(status=Status.CRITICAL, output="connection refused")
