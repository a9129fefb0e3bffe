"""What does this machine offer, and how is it reached?

Nomad's attribute names, for job files name them in constraints. Found once at the agent's start;
drivers are looked at again while it runs (node_agent.py). What Consul says of the machine is passed in
and kept from before when Consul blinks: a fingerprint that flaps would make every system job look again.
"""

import os
import platform
import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from agent.drivers.process import boot_id
from model.node import HostNetwork, HostVolume, Node, NodeId, NodeResources, ReservedResources

# Nomad's name for what Python's platform says.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
# What Nomad assumes of a processor that does not tell its speed.
_MHZ_UNKNOWN = 1000
# The Nomad version whose behaviour and API drover follows; jobs constrain on it.
NOMAD_VERSION = "1.10.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What the agent's configuration says of its node; 0: found out.

    address: IP that services are published on. http_addr: host:port of the agent's API. reserved: its cpu_mhz is
    without that of its cores.
    """

    name: str
    address: str
    datacenter: str = "dc1"
    virtual_datacenter: str = ""
    node_class: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)
    http_addr: str = ""
    tls_enabled: bool = False
    cpu_mhz: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    min_dynamic_port: int = 20000
    max_dynamic_port: int = 32000
    reserved: ReservedResources = field(default_factory=ReservedResources)
    reservable_cores: tuple[int, ...] = ()
    host_volumes: Mapping[str, HostVolume] = field(default_factory=dict)
    host_networks: tuple[HostNetwork, ...] = ()
    vault_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsulFacts:
    """What the local Consul agent says of itself."""

    node: str = ""
    datacenter: str = ""
    version: str = ""


def fingerprint(
    settings: NodeSettings,
    node_id: NodeId,
    data_dir: Path,
    version: str,
    started_ns: int,
    consul: ConsulFacts | None = None,
) -> Node:
    """The node without its drivers. version: drover's. started_ns: now, since the epoch."""
    consul = consul or ConsulFacts()
    cores = psutil.cpu_count() or 1
    mhz = _core_mhz()
    cpu_mhz = settings.cpu_mhz or cores * mhz
    memory_bytes = psutil.virtual_memory().total
    memory_mb = settings.memory_mb or memory_bytes >> 20
    core_mhz = cpu_mhz // cores
    reservable = settings.reservable_cores or machine_cores()
    disk = shutil.disk_usage(data_dir)
    disk_mb = settings.disk_mb or disk.free >> 20
    attributes = {
        **_system(),
        "cpu.arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "cpu.numcores": str(cores),
        "cpu.frequency": str(mhz),
        "cpu.totalcompute": str(cpu_mhz),
        "cpu.reservablecores": str(len(set(reservable) - set(settings.reserved.cores))),
        "memory.totalbytes": str(memory_bytes),
        "unique.hostname": socket.gethostname(),
        "unique.network.ip-address": settings.address,
        "unique.storage.volume": str(data_dir),
        "unique.storage.bytestotal": str(disk.total),
        "unique.storage.bytesfree": str(disk.free),
        "nomad.version": NOMAD_VERSION,
        "drover.version": version,
        **_consul(consul),
        # How it is configured, never how Vault is: a Vault that blinks changes no node.
        **({"vault.address": settings.vault_address} if settings.vault_address else {}),
    }
    return Node(
        id=node_id,
        name=settings.name,
        datacenter=settings.datacenter,
        virtual_datacenter=settings.virtual_datacenter,
        node_class=settings.node_class,
        http_addr=settings.http_addr,
        tls_enabled=settings.tls_enabled,
        address=settings.address,
        attributes=attributes,
        meta=settings.meta,
        resources=NodeResources(
            cpu_mhz=cpu_mhz,
            memory_mb=memory_mb,
            disk_mb=disk_mb,
            min_dynamic_port=settings.min_dynamic_port,
            max_dynamic_port=settings.max_dynamic_port,
            total_cores=cores,
            reservable_cores=reservable,
        ),
        reserved=msgspec.structs.replace(
            settings.reserved, cpu_mhz=settings.reserved.cpu_mhz + len(settings.reserved.cores) * core_mhz
        ),
        host_volumes=settings.host_volumes,
        host_networks=settings.host_networks,
        consul_node=consul.node,
        consul_datacenter=consul.datacenter,
        boot_id=boot_id(),
        version=version,
        started_time=started_ns,
    )


def machine_cores() -> tuple[int, ...]:
    """Ids of the cores that this process, and so what it starts, may run on."""
    return tuple(sorted(os.sched_getaffinity(0)))


def default_address() -> str:
    """The IP of the interface with the default route; loopback on a machine without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET; a datagram socket sends nothing at connect
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def _system() -> dict[str, str]:
    release = os_release(Path("/etc/os-release"))
    return {
        "kernel.name": platform.system().lower(),
        "kernel.version": platform.release(),
        "kernel.arch": platform.machine(),
        "arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os.name": release.get("ID", platform.system().lower()),
        "os.version": release.get("VERSION_ID", ""),
    }


def os_release(path: Path) -> dict[str, str]:
    """The fields of an os-release file, unquoted; empty without one."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    return dict(re.findall(r'^(\w+)=["\']?(.*?)["\']?$', text, re.MULTILINE))


def _consul(consul: ConsulFacts) -> dict[str, str]:
    if not consul.node:
        return {}
    return {
        "unique.consul.name": consul.node,
        "consul.datacenter": consul.datacenter,
        "consul.version": consul.version,
    }


def _core_mhz() -> int:
    """Of one core: the highest it can do, else what it does now."""
    try:
        found = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):
        found = None
    if found is None:
        return _MHZ_UNKNOWN
    return round(found.max or found.current) or _MHZ_UNKNOWN


def raise_file_limit() -> None:
    """Lets this process hold as many descriptors as it may: two for each running task."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
