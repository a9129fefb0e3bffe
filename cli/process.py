"""What does one `drover agent` process consist of? Everything is put together here and nowhere else.

    process()                          owns the data_dir's lock, the embedded Consul and the heartbeat thread
      └─ TaskGroup
          ├─ vault                     drover's own token, renewed for ever; where Vault is enabled
          ├─ server
          │   └─ election              acquire the lease, lead while it holds
          └─ client
              ├─ presence              the drover-agent service and its TTL check
              ├─ services              tasks' services, script checks, check_restart
              └─ task host             allocs and tasks, their drivers, templates and logs
    and the API server around them, first up and last down.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp

from agent.data_dir import DataDir
from agent.fingerprint import ConsulFacts, NodeSettings, fingerprint
from agent.hooks.templates import TemplatesHook
from agent.hooks.vault import VaultHook
from agent.local import TaskHost
from agent.node_agent import NodeAgent
from agent.permit import RestartPermit
from agent.presence import Presence
from agent.services import CheckResult, NodeServices
from agent.templates.consul import ConsulReads
from agent.templates.watching import CONNECTIONS_MAX, Watches
from agent.vault_records import VaultRecords
from agent.vault_tokens import LeaderTokens, OwnTokens
from api.context import ALIVE_PATH, Context
from api.rights import Rights
from api.server import ApiServer
from api.shapes import API_VERSION
from catalog.agent_store import AgentStore
from catalog.client import Client
from catalog.heartbeat import Heartbeat
from catalog.keys import Keys
from catalog.kv import Kv
from catalog.leader_lock import LeaderLock
from catalog.lease import Candidate, Lease, forget_candidate
from catalog.lookups import Lookups
from catalog.rights import Authority
from catalog.services import Candidates, LocalAgent
from catalog.transport import HttpTransport
from cli import dev, local_consul
from cli.machine import Machine, machine_of
from cli.main import VERSION
from cli.vault_login import vault_login
from configs import Advertise, AgentConfig, Ports, Vault
from configs.tls import Contexts, contexts
from leader.candidacy import Candidacy
from leader.election import Election
from leader.succession import Succession
from leader.vaulting import LeaderVault
from model.alloc import AllocId
from model.cluster import Leader
from model.errors import ConfigError, Fault
from model.node import HostVolume, Node, NodeId, ReservedResources
from model.secret import Secret
from model.snapshot import Settings
from vault.login import Login, NoToken
from web.serving import pages


@dataclass(slots=True, kw_only=True)
class Running:
    """What one process consists of."""

    url: str
    tls: Contexts
    consul_kind: str
    consul_address: str
    presence: Presence | None
    services: NodeServices | None
    host: TaskHost | None
    candidacy: Candidacy
    succession: Succession
    vault: Login | None

    async def log_in(self) -> None:
        """Keeps drover's own Vault token; Vault may be away."""
        if self.vault is not None:
            await self.vault.run()

    async def lead(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.candidacy.run(), name="candidacy")
            tasks.create_task(self.succession.run(), name="succession")

    async def tend(self) -> None:
        if self.host and self.services and self.presence:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.presence.run(), name="presence")
                tasks.create_task(self.services.run(), name="services")
                tasks.create_task(self.host.run(), name="task host")


@asynccontextmanager
async def process(config: AgentConfig) -> AsyncIterator[Running]:
    """Puts one process together. Raises ConfigError for a port, directory or Consul that cannot be used."""
    machine = machine_of(config)  # refused before anything is touched
    async with AsyncExitStack() as stack:
        config, bound = _with_port(config, stack)
        data_dir = stack.enter_context(DataDir(config.data_dir, config.client.alloc_dir))
        node_id = data_dir.node_id()
        tls = contexts(config.tls, config.consul)
        endpoint, kind = await local_consul.reach(config, local_consul.endpoint(config, tls), stack)
        transport = HttpTransport(endpoint)
        stack.push_async_callback(transport.close)
        rng = random.SystemRandom()
        client, keys = Client(transport), Keys(dev.kv_root(config, node_id))
        kv = Kv(transport, dc=config.consul.home_datacenter)
        local = LocalAgent(client)
        if config.is_dev:
            await dev.clear_killed(config, kv, local)
            if not config.consul.is_kv_path_named:
                await dev.forget(kv, local, node_id)
                stack.push_async_callback(dev.forget, kv, local, node_id)
        facts = await local_consul.facts(local, data_dir)
        _refuse_candidate_abroad(config, facts)
        http_addr = _advertised(config, machine.address)
        node = _node(config, node_id, machine, http_addr, facts)
        scheme = "https" if config.tls.http else "http"
        store = AgentStore(kv, keys, rng)
        presence: Presence | None = None

        def forgotten(check_id: str) -> None:
            if presence is not None:
                presence.forgotten(check_id)

        heartbeat = await stack.enter_async_context(Heartbeat(endpoint, on_unknown=forgotten))
        vault = vault_login(config.vault, stack) if config.vault.enabled else None
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
                boot_id=node.boot_id,
                read_control=store.read_control,
            )
            if config.is_dev:
                stack.push_async_callback(presence.deregister)
            services = NodeServices(local, node_id, machine.address)
            permit = RestartPermit(f"{scheme}://{http_addr}", config.consul.token, tls.peers)
            # Of their own: what templates wait for must not take the connections that drover's work needs.
            asking = HttpTransport(endpoint, CONNECTIONS_MAX)
            stack.push_async_callback(asking.close)
            secrets = _task_vault(config.vault, vault, data_dir, f"{scheme}://{http_addr}", config.consul.token, tls)
            host = TaskHost(
                config,
                data_dir,
                node,
                store,
                services=services,
                checks=services,
                vault=secrets,
                templates=_templates(Lookups(asking), facts.node or config.name, keys, secrets),
                permit=permit,
            )
            node_agent = host.agent
        if not config.server.enabled:
            # Of a time when it was one: its check, failing for ever, would keep work from this node.
            await forget_candidate(client, node_id)
        election = Election(
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
                        node_id=node_id,
                        name=node.name,
                        http_addr=http_addr,
                        tls_enabled=config.tls.http,
                        epoch=0,
                        since=0,
                        nonce="",
                    ),
                    datacenter=config.datacenter,
                    version=VERSION,
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
                rebalance_interval_s=config.server.rebalance_interval_s,
                brake=config.server.brake,
                job_gc_after_s=config.server.job_gc_threshold_s,
                node_gc_after_s=config.server.node_gc_threshold_s,
                agent_down_after_s=config.server.agent_down_after_s,
                scheduler=config.server.scheduler,
            ),
            now=_now,
            rng=rng,
            probe=partial(is_answering, tls),
            vault=_leader_vault(config.vault, vault),
        )
        candidacy = Candidacy(
            kv=kv, keys=keys, node_id=node_id, election=election, is_configured=config.server.enabled
        )
        candidates = Candidates(client, keys.root, config.consul.home_datacenter)
        rights = Rights(
            authority=Authority(
                transport=HttpTransport(replace(endpoint, token=None)),
                datacenter=config.consul.home_datacenter,
                root=keys.root,
                now_s=time.monotonic,
            ),
            keys=keys,
            acl=config.acl,
            node_id=node_id,
            consul_node=facts.node or config.name,
            fleet=candidates.read,
        )
        stack.push_async_callback(rights.close)
        lock = LeaderLock(client=client, kv=kv, keys=keys)
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
            is_candidate=lambda: candidacy.is_candidate,
            contact=lambda: succession.contact,
            lock=lock,
            rights=rights,
            tls=tls,
            agent=node_agent,
            members=candidates.read,
            forget_member=candidates.forget,
            heartbeat=lambda: (presence.ttl_s, heartbeat.age_s(presence.check_id)) if presence is not None else None,
            check_results=services.results if services is not None else _no_checks,
            allows_exec=not config.client.disable_remote_exec,
            telemetry=config.telemetry,
            vault=vault,
            vault_role=config.vault.create_from_role,
            samples=host.samples if host is not None else None,
        )
        succession = Succession(
            node_id=node_id,
            candidacy=candidacy,
            lock=lock,
            members=candidates.read,
            ask=context.contact_of,
            rng=rng,
            answer_s=config.server.lease_ttl_s / 3,
        )
        try:
            await stack.enter_async_context(ApiServer(context, config, bound=bound, pages=pages()))
        except OSError as error:
            raise _not_listening(config, error) from error
        await rights.tell()
        yield Running(
            url=f"{scheme}://{http_addr}",
            tls=tls,
            consul_kind=kind,
            consul_address=endpoint.address,
            presence=presence,
            services=services,
            host=host,
            candidacy=candidacy,
            succession=succession,
            vault=vault,
        )


def _templates(lookups: Lookups, consul_node: str, keys: Keys, secrets: VaultHook | None) -> TemplatesHook:
    reads = ConsulReads(lookups, consul_node, keys.root)
    rng = random.Random()
    return TemplatesHook(Watches(reads, rng=rng), secrets, now=_now, rng=rng)


def _task_vault(
    vault: Vault, login: Login | None, data: DataDir, url: str, consul_token: Secret, tls: Contexts
) -> VaultHook | None:
    """For the tasks of this node; None where its agent has no Vault."""
    if login is None:
        return None
    own = OwnTokens(client=login.client, token=login.token, role=vault.create_from_role, ttl_s=vault.task_token_ttl_s)
    return VaultHook(
        client=login.client,
        reach=login,
        tokens=LeaderTokens(login.client, url, consul_token, tls.peers) if isinstance(login.way, NoToken) else own,
        records=VaultRecords(data.secrets),
        now_s=time.time,
        rng=random.Random(),
    )


def _leader_vault(vault: Vault, login: Login | None) -> LeaderVault | None:
    if login is None:
        return None
    return LeaderVault(
        client=login.client,
        login=login,
        role=vault.create_from_role,
        ttl_s=vault.task_token_ttl_s,
        asks_submitters=not vault.allow_unauthenticated,
    )


def _with_port(config: AgentConfig, stack: AsyncExitStack) -> tuple[AgentConfig, socket.socket | None]:
    """With `ports { http = 0 }` the port that the kernel gives, which others are to be told, and who holds it."""
    if config.ports.http:
        return config, None
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            config.http_host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = stack.enter_context(socket.socket(family, kind, protocol))
        bound.bind(where)
    except OSError as error:
        raise _not_listening(config, error) from error
    port = bound.getsockname()[1]
    advertised = config.advertise.http.removesuffix(":0")
    if advertised != config.advertise.http:
        advertised = f"{advertised}:{port}"
    return replace(config, ports=Ports(http=port), advertise=Advertise(http=advertised)), bound


def _refuse_candidate_abroad(config: AgentConfig, facts: ConsulFacts) -> None:
    """A session belongs to the datacenter that it was made in. Raises ConfigError."""
    home = config.consul.home_datacenter
    if config.server.enabled and home and facts.datacenter and facts.datacenter != home:
        where = f"this machine's Consul agent is in {facts.datacenter}"
        raise ConfigError((Fault(path="server.enabled", message=f"candidates for leader live in home_datacenter {home}, and {where}"),))


def _not_listening(config: AgentConfig, error: OSError) -> ConfigError:
    where = f"{config.http_host}:{config.ports.http}"
    # A name that does not resolve has numbers of its own, which strerror does not know.
    reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
    return ConfigError((Fault(path="ports.http", message=f"cannot listen on {where}: {reason}"),))


def _now() -> datetime:
    return datetime.now(UTC)


async def is_answering(tls: Contexts, node: Node) -> bool:
    """Asks an agent's own address whether it is alive though gossip lost its machine. Not for its health, which is bad
    while it is cut off from Consul: its tasks run on."""
    timeout = aiohttp.ClientTimeout(total=1.0)
    url = f"{'https' if node.tls_enabled else 'http'}://{node.http_addr}{ALIVE_PATH}"
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, ssl=tls.peers or True) as found:
            return found.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _advertised(config: AgentConfig, address: str) -> str:
    if config.advertise.http:
        return config.advertise.http
    host = address if config.http_host in ("0.0.0.0", "::", "") else config.http_host
    return f"[{host}]:{config.ports.http}" if ":" in host else f"{host}:{config.ports.http}"


def _node(config: AgentConfig, node_id: NodeId, machine: Machine, http_addr: str, facts: ConsulFacts) -> Node:
    client = config.client
    settings = NodeSettings(
        name=config.name,
        datacenter=config.datacenter,
        virtual_datacenter=client.virtual_datacenter,
        node_class=client.node_class,
        meta=client.meta,
        address=machine.address,
        http_addr=http_addr,
        tls_enabled=config.tls.http,
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
            cores=client.reserved.cores,
        ),
        reservable_cores=client.reservable_cores,
        host_volumes={
            name: HostVolume(name=name, path=str(one.path), read_only=one.read_only)
            for name, one in client.host_volumes.items()
        },
        host_networks=machine.host_networks,
        vault_address=config.vault.address if config.vault.enabled else "",
    )
    return fingerprint(settings, node_id, config.data_dir, VERSION, time.time_ns(), facts)


async def _no_checks(_: AllocId) -> list[CheckResult]:
    return []


def _shown(config: AgentConfig) -> dict[str, Any]:
    """The part of the configuration that `agent/self` shows: no token, no path of a key."""
    return {
        "Version": {"Version": API_VERSION, "Revision": "", "VersionPrerelease": "", "VersionMetadata": f"drover.{VERSION}"},
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
        "TLSConfig": {"EnableHTTP": config.tls.http, "VerifyHTTPSClient": config.tls.verify_https_client},
        "Vault": {
            "Enabled": config.vault.enabled,
            "Addr": config.vault.address,
            "Namespace": config.vault.namespace,
            "Role": config.vault.create_from_role,
        },
    }
