"""`drover agent`: everything that one process runs, put together here and nowhere else.

    agent()                            owns the data_dir's lock, the embedded Consul and the heartbeat thread
      └─ TaskGroup
          ├─ server
          │   └─ election              acquire the lease, lead while it holds
          └─ client
              ├─ presence              the drover-agent service and its TTL check
              ├─ services              tasks' services, script checks, check_restart
              └─ task host             allocs and tasks, their drivers and logs
    and the API server around them, first up and last down.

SIGTERM and SIGINT end drover and leave the tasks running, save for `-dev`.
"""

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import configs
from agent.data_dir import DataDir
from agent.fingerprint import ConsulFacts, NodeSettings, default_address, fingerprint
from agent.local import TaskHost
from agent.node_agent import NodeAgent
from agent.presence import Presence
from agent.services import NodeServices
from api.context import Context
from api.server import ApiServer
from catalog.agent_store import AgentStore
from catalog.client import Client
from catalog.heartbeat import Heartbeat
from catalog.keys import Keys
from catalog.kv import Kv
from catalog.lease import Candidate, Lease
from catalog.services import Candidates, LocalAgent
from catalog.transport import Endpoint, HttpTransport
from cli.main import VERSION
from configs import AgentConfig
from leader.election import Election
from model.cluster import Leader
from model.errors import ConfigError, Fault, StoreRefused, StoreUnavailable
from model.node import Node, NodeId, ReservedResources
from model.snapshot import Settings

log = logging.getLogger("drover")

# How long the start waits for the local Consul agent to say who it is; without an answer drover starts anyway.
CONSUL_FACTS_S = 2.0
# Consul's own ports, so that `dig` and everything else that looks for a Consul finds the embedded one.
EMBEDDED_HTTP_PORT = 8500
EMBEDDED_DNS_PORT = 8600


def run(args: argparse.Namespace) -> int:
    try:
        config = configs.load([Path(p) for p in args.config], dev=args.dev, overrides=_overrides(args))
        _set_up_logging(config)
    except ConfigError as error:
        return _refused(error)
    for warning in config.warnings:
        log.warning("config: %s", warning)
    try:
        with suppress(ImportError):
            import uvloop

            return uvloop.run(_until_signalled(config))
        return asyncio.run(_until_signalled(config))
    except ConfigError as error:
        return _refused(error)


def _refused(error: ConfigError) -> int:
    for fault in error.faults:
        sys.stderr.write(f"{fault}\n")
    return 1


def _overrides(args: argparse.Namespace) -> dict[str, Any]:
    chosen = {
        "data_dir": args.data_dir,
        "bind_addr": args.bind,
        "name": args.node,
        "datacenter": args.dc,
        "log_level": args.log_level,
        "server.enabled": args.server or None,
        "client.enabled": args.client or None,
        "client.alloc_dir": args.alloc_dir,
        "client.state_dir": args.state_dir,
        "consul.address": args.consul_address,
    }
    return {name: value for name, value in chosen.items() if value is not None}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "@level": record.levelname.lower(),
            "@module": record.name,
            "@message": record.getMessage(),
        }
        if record.exc_info:
            line["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _set_up_logging(config: AgentConfig) -> None:
    """Raises ConfigError when the log file cannot be opened."""
    level = {"TRACE": "DEBUG", "WARN": "WARNING"}.get(config.log_level, config.log_level)
    try:
        handler: logging.Handler = (
            logging.FileHandler(config.log_file) if config.log_file else logging.StreamHandler(sys.stderr)
        )
    except OSError as error:
        message = f"{config.log_file} cannot be opened: {error.strerror}"
        raise ConfigError((Fault(path="log_file", message=message),)) from error
    handler.setFormatter(
        _JsonLines() if config.log_json else logging.Formatter("%(asctime)s [%(levelname)s] %(name)s: %(message)s")
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # The loop's own debug lines say nothing about drover.
    logging.getLogger("asyncio").setLevel(logging.WARNING)


async def _until_signalled(config: AgentConfig) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with agent(config) as running:
        print(
            f"==> drover v{VERSION} agent started: API on http://{running.http_addr}, "
            f"{running.consul_kind} Consul at {running.consul_address}",
            flush=True,
        )
        async with asyncio.TaskGroup() as tasks:
            leading = tasks.create_task(running.lead(), name="server")
            tending = tasks.create_task(running.tend(), name="client")
            await stopped.wait()
            log.info("stopping")
            # Handed over first, so that another candidate takes over at once, and so that in -dev nobody
            # places anew what is about to be stopped.
            leading.cancel()
            await asyncio.wait([leading])
            if config.is_dev and running.host is not None:
                await running.host.agent.stop_all()
            tending.cancel()
    return 0


@dataclass(slots=True, kw_only=True)
class Running:
    """What one process consists of."""

    http_addr: str
    consul_kind: str
    consul_address: str
    presence: Presence | None
    services: NodeServices | None
    host: TaskHost | None
    election: Election | None

    async def lead(self) -> None:
        if self.election:
            await self.election.run()

    async def tend(self) -> None:
        if self.host and self.services and self.presence:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.presence.run(), name="presence")
                tasks.create_task(self.services.run(), name="services")
                tasks.create_task(self.host.run(), name="task host")


@asynccontextmanager
async def agent(config: AgentConfig) -> AsyncIterator[Running]:
    """Puts one process together. Raises ConfigError for a port, directory or Consul that cannot be used."""
    address = _address(config)  # refused before anything is touched
    async with AsyncExitStack() as stack:
        data_dir = stack.enter_context(DataDir(config.data_dir, config.client.alloc_dir))
        node_id = data_dir.node_id()
        endpoint, kind = await _consul(config, stack)
        transport = HttpTransport(endpoint)
        stack.push_async_callback(transport.close)
        rng = random.SystemRandom()
        client, keys = Client(transport), Keys(config.consul.kv_path)
        kv = Kv(transport, dc=config.consul.home_datacenter)
        local = LocalAgent(client)
        facts = await _consul_facts(local, data_dir)
        http_addr = _advertised(config, address)
        node = _node(config, node_id, address, http_addr, facts)
        store = AgentStore(kv, keys, rng)
        presence: Presence | None = None

        def forgotten(check_id: str) -> None:
            if presence is not None:
                presence.forgotten(check_id)

        heartbeat = await stack.enter_async_context(Heartbeat(endpoint, on_unknown=forgotten))
        services: NodeServices | None = None
        host: TaskHost | None = None
        node_agent: NodeAgent | None = None
        if config.client.enabled:
            presence = Presence(
                consul=local,
                pulse=heartbeat,
                node_id=node_id,
                name=node.name,
                http_addr=http_addr,
                read_control=store.read_control,
            )
            if config.is_dev:
                stack.push_async_callback(presence.deregister)
            services = NodeServices(local, node_id, address)
            host = TaskHost(config, data_dir, node, store, services=services, checks=services)
            node_agent = host.agent
        election = (
            Election(
                client=client,
                kv=kv,
                keys=keys,
                lease=Lease(
                    client=client,
                    kv=kv,
                    keys=keys,
                    pulse=heartbeat,
                    candidate=Candidate(
                        leader=Leader(
                            node_id=node_id, name=node.name, http_addr=http_addr, epoch=0, since=0, nonce=""
                        ),
                        ttl_s=config.server.lease_ttl_s,
                    ),
                    now_ns=time.time_ns,
                    rng=rng,
                ),
                settings=Settings(
                    heartbeat_grace_s=config.server.heartbeat_grace_s,
                    min_heartbeat_ttl_s=config.server.min_heartbeat_ttl_s,
                    max_heartbeats_per_second=config.server.max_heartbeats_per_second,
                    lost_after_s=config.server.lost_after_s,
                    agent_down_after_s=config.server.agent_down_after_s,
                ),
                now=_now,
                rng=rng,
                probe=Probe(transport).ask,
            )
            if config.server.enabled
            else None
        )
        context = Context(
            node_id=node_id,
            name=node.name,
            region=config.region,
            datacenter=config.datacenter,
            http_addr=http_addr,
            version=VERSION,
            config=_shown(config),
            lookup=store,
            election=election,
            agent=node_agent,
            members=Candidates(client).read,
        )
        try:
            await stack.enter_async_context(ApiServer(context, config.http_host, config.ports.http))
        except OSError as error:
            where = f"{config.http_host}:{config.ports.http}"
            # A name that does not resolve has numbers of its own, which strerror does not know.
            reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
            raise ConfigError((Fault(path="ports.http", message=f"cannot listen on {where}: {reason}"),)) from error
        yield Running(
            http_addr=http_addr,
            consul_kind=kind,
            consul_address=endpoint.address,
            presence=presence,
            services=services,
            host=host,
            election=election,
        )


def _now() -> datetime:
    return datetime.now(UTC)


# -- Consul


async def _consul(config: AgentConfig, stack: AsyncExitStack) -> tuple[Endpoint, str]:
    """The local Consul agent, or, with -dev on a machine without one, the embedded Consul. Raises ConfigError."""
    endpoint = Endpoint(address=config.consul.address, tls=_tls(config), token=config.consul.token)
    if await _answers(endpoint):
        return endpoint, "real"
    if not config.is_dev:
        # A Consul that is away at this moment must not keep drover from watching its tasks: only an
        # address at which nothing of drover's ever ran is a mistake that must be told.
        if (config.data_dir / "consul.json").exists():
            return endpoint, "absent"
        raise ConfigError(
            (Fault(path="consul.address", message=f"no Consul agent answers at {endpoint.url} (is it running?)"),)
        )
    return Endpoint(address=await _embedded(stack)), "embedded"


async def _embedded(stack: AsyncExitStack) -> str:
    """Starts a Consul inside this process, on Consul's own ports; returns its address. Raises ConfigError."""
    from catalog.embedded import ConsulAgent, ConsulState, DnsServer, HttpProber, HttpServer

    prober = await stack.enter_async_context(HttpProber())
    state = ConsulState(loop=asyncio.get_running_loop(), rng=random.SystemRandom())
    consul = ConsulAgent(state, socket.gethostname(), "127.0.0.1", prober=prober, is_server=True)
    await stack.enter_async_context(consul)
    try:
        await stack.enter_async_context(HttpServer(consul, "127.0.0.1", EMBEDDED_HTTP_PORT))
        await stack.enter_async_context(DnsServer(consul, "127.0.0.1", EMBEDDED_DNS_PORT))
    except OSError as error:
        raise ConfigError(
            (
                Fault(
                    path="consul.address",
                    message=f"no Consul answers, and the embedded one cannot listen on 127.0.0.1:{EMBEDDED_HTTP_PORT} "
                    f"(DNS {EMBEDDED_DNS_PORT}): {os.strerror(error.errno or 0)}",
                ),
            )
        ) from error
    return f"127.0.0.1:{EMBEDDED_HTTP_PORT}"


async def _answers(endpoint: Endpoint) -> bool:
    transport = HttpTransport(endpoint)
    try:
        response = await transport.request("GET", "/v1/agent/self", timeout_s=CONSUL_FACTS_S)
    except StoreUnavailable:
        return False
    finally:
        await transport.close()
    # 403: a Consul that does not know our token, which is said by the first call that needs it.
    return response.status in (200, 403)


def _tls(config: AgentConfig) -> ssl.SSLContext | None:
    if not config.consul.ssl:
        return None
    try:
        context = ssl.create_default_context(cafile=str(config.consul.ca_file) if config.consul.ca_file else None)
        if not config.consul.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if config.consul.cert_file:
            context.load_cert_chain(config.consul.cert_file, config.consul.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError((Fault(path="consul", message=f"TLS files cannot be used: {error}"),)) from error
    return context


async def _consul_facts(local: LocalAgent, data_dir: DataDir) -> ConsulFacts:
    """What the local Consul agent says of itself, or said last time: a node must not change when it blinks."""
    kept = data_dir.path / "consul.json"
    try:
        async with asyncio.timeout(CONSUL_FACTS_S):
            name, datacenter = await local.node_name()
    except (StoreUnavailable, StoreRefused, TimeoutError):
        with suppress(OSError, ValueError, TypeError):
            return ConsulFacts(**json.loads(kept.read_text()))
        return ConsulFacts()
    with suppress(OSError):
        kept.write_text(json.dumps({"node": name, "datacenter": datacenter}))
    return ConsulFacts(node=name, datacenter=datacenter)


class Probe:
    """Asks an agent's own address whether it is alive though gossip lost its machine."""

    def __init__(self, transport: HttpTransport) -> None:
        self._transport = transport

    async def ask(self, node: Node) -> bool:
        other = HttpTransport(Endpoint(address=node.http_addr))
        try:
            return (await other.request("GET", "/v1/agent/health", timeout_s=1.0)).status == 200
        except StoreUnavailable:
            return False
        finally:
            await other.close()


# -- this node


def _address(config: AgentConfig) -> str:
    """The IP that tasks' ports and services are published on."""
    if config.client.network_interface:
        import psutil

        for found in psutil.net_if_addrs().get(config.client.network_interface, ()):
            if found.family.name == "AF_INET":
                return found.address
        raise ConfigError(
            (
                Fault(
                    path="client.network_interface",
                    message=f"{config.client.network_interface!r} has no IPv4 address on this machine",
                ),
            )
        )
    return default_address() if config.bind_addr in ("0.0.0.0", "::", "") else config.bind_addr


def _advertised(config: AgentConfig, address: str) -> str:
    if config.advertise.http:
        return config.advertise.http
    host = address if config.http_host in ("0.0.0.0", "::", "") else config.http_host
    return f"[{host}]:{config.ports.http}" if ":" in host else f"{host}:{config.ports.http}"


def _node(config: AgentConfig, node_id: NodeId, address: str, http_addr: str, facts: ConsulFacts) -> Node:
    client = config.client
    settings = NodeSettings(
        name=config.name,
        datacenter=config.datacenter,
        virtual_datacenter=client.virtual_datacenter,
        node_class=client.node_class,
        meta=client.meta,
        address=address,
        http_addr=http_addr,
        cpu_mhz=client.cpu_total_compute,
        memory_mb=client.memory_total_mb,
        disk_mb=client.disk_total_mb,
        min_dynamic_port=client.min_dynamic_port,
        max_dynamic_port=client.max_dynamic_port,
        reserved=ReservedResources(
            cpu_mhz=client.reserved.cpu,
            memory_mb=client.reserved.memory,
            disk_mb=client.reserved.disk,
            ports=client.reserved.ports,
        ),
    )
    return fingerprint(settings, node_id, config.data_dir, VERSION, time.time_ns(), facts)


def _shown(config: AgentConfig) -> dict[str, Any]:
    """The part of the configuration that `agent/self` shows: no token, no path of a key."""
    return {
        "Version": {"Version": VERSION, "Revision": "", "VersionPrerelease": "", "VersionMetadata": ""},
        "Region": config.region,
        "Datacenter": config.datacenter,
        "NodeName": config.name,
        "BindAddr": config.bind_addr,
        "DevMode": config.is_dev,
        "LogLevel": config.log_level,
        "Ports": {"HTTP": config.ports.http},
        "Server": {"Enabled": config.server.enabled},
        "Client": {"Enabled": config.client.enabled},
        "Consul": {"Addr": config.consul.address},
        "ACL": {"Enabled": False},
        "Vault": {"Enabled": False},
    }


