"""What does a docker task's config ask of the engine?

parse_config() reads and checks the options that drover knows, container() makes the body of the
engine's "create container" of them. Option names and defaults are Nomad's. An unknown option is refused
by name: a setting that silently does nothing is worse than one that is missing.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from agent import folders
from agent.cpuset import cpuset
from agent.drivers import docker_values as values
from agent.drivers.base import Bind, SeenDirs, TaskStart
from jobspec.suggest import did_you_mean
from model.errors import TaskRefused

SEEN_DIRS = SeenDirs(alloc="/alloc", local="/local", secrets="/secrets")

# While no agent runs the engine keeps this much of each container's output for it.
_LOG_BOUNDS = {"max-size": "10m", "max-file": "2"}
READABLE_LOGS = ("json-file", "local", "journald")
# The engine's own, for containers that ask for nothing.
_DEFAULT_CAPS = (
    *("audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "mknod", "net_bind_service", "net_raw"),
    *("setfcap", "setgid", "setpcap", "setuid", "sys_chroot"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerRules:
    """What an operator allows, by Nomad's plugin options. allow_devices, which is drover's own: patterns of paths."""

    allow_privileged: bool = False
    volumes_enabled: bool = False
    allow_caps: tuple[str, ...] = (
        *("audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "mknod"),
        *("net_bind_service", "setfcap", "setgid", "setpcap", "setuid", "sys_chroot"),
    )
    allow_runtimes: tuple[str, ...] = ("runc", "nvidia")
    allow_devices: tuple[str, ...] = ()
    pull_s_max: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerConfig:
    """Options as written, checked for type. auth_soft_fail, advertise_ipv6_address: taken, without effect."""

    image: str
    command: str = ""
    args: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    port_map: Mapping[str, int] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    mounts: tuple[Mapping[str, Any], ...] = ()
    network_mode: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    dns_servers: tuple[str, ...] = ()
    dns_search_domains: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    hostname: str = ""
    work_dir: str = ""
    init: bool = False
    interactive: bool = False
    privileged: bool = False
    readonly_rootfs: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    ulimit: Mapping[str, str] = field(default_factory=dict)
    sysctl: Mapping[str, str] = field(default_factory=dict)
    security_opt: tuple[str, ...] = ()
    devices: tuple[Mapping[str, Any], ...] = ()
    shm_size: int = 0
    pids_limit: int = 0
    cpu_hard_limit: bool = False
    cpu_cfs_period: int = 0
    memory_hard_limit: int = 0
    ipc_mode: str = ""
    pid_mode: str = ""
    userns_mode: str = ""
    force_pull: bool = False
    image_pull_timeout: str = ""
    runtime: str = ""
    uts_mode: str = ""
    volume_driver: str = ""
    storage_opt: Mapping[str, str] = field(default_factory=dict)
    group_add: tuple[str, ...] = ()
    mac_address: str = ""
    ipv4_address: str = ""
    ipv6_address: str = ""
    network_aliases: tuple[str, ...] = ()
    auth_soft_fail: bool = False
    advertise_ipv6_address: bool = False
    auth: Mapping[str, str] = field(default_factory=dict)
    logging: Mapping[str, Any] = field(default_factory=dict)
    healthchecks: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log_config(self) -> Mapping[str, Any]:
        options = {key: str(value) for key, value in _one(self.logging.get("config") or {}).items()}
        kind = str(self.logging.get("type") or self.logging.get("driver") or "json-file")
        # Without a bound they fill the disk.
        bounded = _LOG_BOUNDS if kind in ("json-file", "local") else {}
        return {"Type": kind, "Config": {**bounded, **options}}

    @property
    def healthcheck(self) -> Mapping[str, Any] | None:
        """The image's own is off: drover goes by Consul's checks, and nobody would hear of it."""
        is_kept = str(self.healthchecks.get("disable", True)).lower() in ("false", "0")
        return None if is_kept else {"Test": ["NONE"]}


def parse_config(config: Mapping[str, Any]) -> DockerConfig:
    """Raises TaskRefused naming the option that is unknown or of the wrong type."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        read = _READERS.get(name)
        if read is None:
            raise TaskRefused(f"config: docker has no option {name!r}{did_you_mean(name, _READERS)}")
        try:
            found[_NAMES.get(name, name)] = read(value)
        except (TypeError, ValueError, AttributeError) as error:
            raise TaskRefused(f"config: {name}: {value!r} is not what docker expects") from error
    if not found.get("image"):
        raise TaskRefused("config: image is missing")
    return DockerConfig(**found)


def container(
    task: TaskStart, config: DockerConfig, rules: DockerRules, labels: Mapping[str, str]
) -> dict[str, Any]:
    """The body of "create container". Raises TaskRefused for what the operator does not allow."""
    _check_rules(config, rules)
    exposed, bindings = _ports(task, config)
    return {
        "Image": config.image,
        "Cmd": [config.command, *config.args] if config.command else list(config.args) or None,
        "Entrypoint": list(config.entrypoint) or None,
        "Env": [f"{name}={value}" for name, value in sorted(task.env.items())],
        "User": task.user,
        "Hostname": config.hostname,
        "WorkingDir": config.work_dir,
        "OpenStdin": config.interactive,
        "MacAddress": values.mac_address(config.mac_address),
        "Healthcheck": config.healthcheck,
        "Labels": {**config.labels, **labels},
        "ExposedPorts": exposed,
        "NetworkingConfig": _endpoint(config),
        "HostConfig": {
            "Binds": [*_alloc_binds(task), *_volumes(task, config, rules)],
            "Mounts": [*(_mount(task, mount, rules) for mount in config.mounts), *map(_bind, task.binds)],
            "PortBindings": bindings,
            "NetworkMode": config.network_mode or "default",
            "RestartPolicy": {"Name": "no"},  # restarts are drover's
            "LogConfig": config.log_config,
            "Dns": list(map(values.dns_server, config.dns_servers)),
            "DnsSearch": list(config.dns_search_domains),
            "DnsOptions": list(config.dns_options),
            "ExtraHosts": list(map(values.extra_host, config.extra_hosts)),
            "Init": config.init or None,
            "Privileged": config.privileged,
            "ReadonlyRootfs": config.readonly_rootfs,
            "CapAdd": list(map(values.capability, config.cap_add)),
            "CapDrop": _dropped(config, rules),
            "Ulimits": [values.ulimit(name, text) for name, text in config.ulimit.items()],
            "Sysctls": dict(config.sysctl),
            "SecurityOpt": list(config.security_opt),
            "Devices": [_device(device, rules) for device in config.devices],
            "ShmSize": config.shm_size,
            "PidsLimit": config.pids_limit or None,
            "IpcMode": config.ipc_mode,
            "PidMode": config.pid_mode,
            "UsernsMode": config.userns_mode,
            "UTSMode": config.uts_mode,
            "Runtime": config.runtime,
            "VolumeDriver": config.volume_driver,
            "StorageOpt": dict(config.storage_opt),
            "GroupAdd": list(config.group_add),
            **_limits(task, config),
        },
    }


def _check_rules(config: DockerConfig, rules: DockerRules) -> None:
    if config.privileged and not rules.allow_privileged:
        raise TaskRefused("config: privileged is not allowed on this node (plugin option allow_privileged)")
    if config.runtime and config.runtime not in rules.allow_runtimes:
        raise TaskRefused(f"config: runtime {config.runtime!r} is not allowed on this node (allow_runtimes)")
    if "all" not in rules.allow_caps:
        refused = [cap for cap in config.cap_add if cap.lower().removeprefix("cap_") not in rules.allow_caps]
        if refused:
            raise TaskRefused(f"config: cap_add: {', '.join(refused)} not allowed on this node (allow_caps)")
    if config.volume_driver and not rules.volumes_enabled:
        raise TaskRefused("config: volume_driver is not allowed on this node (plugin option volumes.enabled)")
    modes = {"pid_mode": config.pid_mode, "ipc_mode": config.ipc_mode, "userns_mode": config.userns_mode, "uts_mode": config.uts_mode}
    for name, mode in modes.items():
        if (mode == "host" or mode.startswith("container:")) and not rules.allow_privileged:
            raise TaskRefused(f"config: {name} {mode!r} is not allowed on this node (plugin option allow_privileged)")
    for name in ("shm_size", "memory_hard_limit"):
        if getattr(config, name) < 0:
            raise TaskRefused(f"config: {name} must not be negative, found {getattr(config, name)}")


def _dropped(config: DockerConfig, rules: DockerRules) -> list[str]:
    """What the engine would give and the operator does not allow goes too; as with Nomad, by default that is net_raw."""
    dropped = list(map(values.capability, config.cap_drop))
    if config.privileged or "all" in rules.allow_caps or "ALL" in dropped:
        return dropped
    return list(dict.fromkeys([*dropped, *(cap.upper() for cap in _DEFAULT_CAPS if cap not in rules.allow_caps)]))


def _device(block: Mapping[str, Any], rules: DockerRules) -> dict[str, str]:
    made = values.device(block)
    path = os.path.normpath(made["PathOnHost"])
    if not rules.allow_privileged and not any(fnmatchcase(path, one) for one in rules.allow_devices):
        raise TaskRefused(f"config: devices: {path} is not allowed on this node (plugin option allow_devices)")
    return made


def _limits(task: TaskStart, config: DockerConfig) -> dict[str, Any]:
    """cpu: a share, or with cpu_hard_limit the most it gets. memory: the most, or with memory_max a reservation."""
    if 0 < config.memory_hard_limit < task.resources.memory_mb:
        raise TaskRefused(
            f"config: memory_hard_limit {config.memory_hard_limit} is below what the task asks for, {task.resources.memory_mb} MB"
        )
    reserved = task.resources.memory_mb << 20
    most = (task.resources.memory_max_mb or config.memory_hard_limit) << 20
    limits: dict[str, Any] = {
        "CpuShares": max(task.resources.cpu, 2),
        "Memory": most or reserved,
        "MemorySwap": most or reserved,  # the same as Memory: no swap
    }
    if most:
        limits["MemoryReservation"] = reserved
    if task.cores:
        limits["CpusetCpus"] = cpuset(task.cores)
    if config.cpu_hard_limit:
        # So much of each period as its MHz are of a core's; a thousandth of a second is the least that the kernel takes.
        period_us = values.cfs_period_us(config.cpu_cfs_period)
        quota_us = max(task.resources.cpu * period_us // (task.core_mhz or 1000), 1000)
        limits |= {"CpuPeriod": period_us, "CpuQuota": quota_us}
    return limits


def _endpoint(config: DockerConfig) -> dict[str, Any] | None:
    """Its place in a network of the engine's; None for whatever the engine gives it."""
    addresses = {
        "IPv4Address": values.address("ipv4_address", config.ipv4_address),
        "IPv6Address": values.address("ipv6_address", config.ipv6_address),
    }
    given = {name: address for name, address in addresses.items() if address}
    if not given and not config.network_aliases:
        return None
    settings = {"Aliases": list(config.network_aliases), "IPAMConfig": given or None}
    return {"EndpointsConfig": {config.network_mode or "default": settings}}


def _alloc_binds(task: TaskStart) -> list[str]:
    dirs = task.dirs
    return [
        f"{dirs.shared}:{SEEN_DIRS.alloc}",
        f"{dirs.local}:{SEEN_DIRS.local}",
        f"{dirs.secrets}:{SEEN_DIRS.secrets}",
    ]


def _volumes(task: TaskStart, config: DockerConfig, rules: DockerRules) -> list[str]:
    binds = []
    for volume in config.volumes:
        source, colon, rest = volume.partition(":")
        if not colon:
            raise TaskRefused(f"config: volumes: {volume!r} is not source:target")
        values.target("volumes", rest.partition(":")[0])
        binds.append(f"{_source(task, source, rules)}:{rest}")
    return binds


def _source(task: TaskStart, source: str, rules: DockerRules) -> str:
    """A path on the host: relative ones are the task's own, others need the operator's leave."""
    is_name = "/" not in source and not source.startswith(".")
    if is_name and rules.volumes_enabled and not (task.dirs.task / source).exists():
        return source  # a volume by name
    path, alloc = Path(os.path.normpath(task.dirs.task / source)), task.dirs.shared.parent
    if not path.is_relative_to(alloc):
        if rules.volumes_enabled:
            return str(path)
        raise TaskRefused(f"config: volumes: {source!r} is outside the alloc (plugin option volumes.enabled)")
    # What the task itself put there: Docker would follow it, as root, to wherever it leads.
    if any(part.is_symlink() for part in (path, *path.parents) if part != alloc and part.is_relative_to(alloc)):
        raise TaskRefused(f"config: volumes: {source!r} leads through a symbolic link")
    return str(path)


def _mount(task: TaskStart, mount: Mapping[str, Any], rules: DockerRules) -> dict[str, Any]:
    kind = str(mount.get("type", "volume"))
    made: dict[str, Any] = {
        "Type": kind,
        "Target": values.target("mounts", str(mount.get("target", ""))),
        "ReadOnly": _flag(mount.get("readonly", False)),
    }
    source = str(mount.get("source", ""))
    match kind:
        case "bind":
            made["Source"] = _bind_source(task, source, rules)
            made["BindOptions"] = values.bind_options(_one(mount.get("bind_options") or {}))
        case "volume":
            options = _one(mount.get("volume_options") or {})
            driver = _one(options.get("driver_config") or {})
            if driver and not rules.volumes_enabled:
                # The local driver's options can name any directory of the machine.
                raise TaskRefused("config: mounts: driver_config is not allowed on this node (plugin option volumes.enabled)")
            made["Source"] = source
            made["VolumeOptions"] = values.volume_options(options, driver)
        case "tmpfs":
            made["TmpfsOptions"] = values.tmpfs_options(_one(mount.get("tmpfs_options") or {}))
        case _:
            raise TaskRefused(f"config: mounts: no type {kind!r} (bind, volume, tmpfs)")
    return made


def _bind_source(task: TaskStart, source: str, rules: DockerRules) -> str:
    """The engine makes no directory for a mount, as it does for a volume: one of the alloc's is made here."""
    path = Path(_source(task, source if "/" in source else f"./{source}", rules))
    alloc = task.dirs.shared.parent
    if path.is_relative_to(alloc) and not path.exists():
        folders.make(alloc, path.relative_to(alloc).parts)
    return str(path)


def _bind(bind: Bind) -> dict[str, Any]:
    """A host volume: its operator has offered it, so volumes.enabled is not asked for; it is never made here."""
    return {
        "Type": "bind",
        "Source": bind.source,
        "Target": bind.target,
        "ReadOnly": bind.is_read_only,
        "BindOptions": {"Propagation": bind.propagation},
    }


def inside_ports(task: TaskStart, config: DockerConfig) -> dict[str, int]:
    """The number that each of the group's ports has inside, published or not."""
    return {port.label: config.port_map.get(port.label) or port.to or port.value for port in task.ports}


def _ports(task: TaskStart, config: DockerConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each named port published for tcp and udp. A label that the group does not have is a mistake."""
    by_label = {port.label: port for port in task.ports}
    published = dict.fromkeys((*config.ports, *config.port_map))
    inside = {label: number for label, number in inside_ports(task, config).items() if label in published}
    unknown = [label for label in (*config.ports, *config.port_map) if label not in by_label]
    if unknown:
        raise TaskRefused(
            f"config: ports: the group has no port {unknown[0]!r}{did_you_mean(unknown[0], by_label)}"
        )
    bindings: dict[str, Any] = {}
    for label, number in inside.items():
        port = by_label[label]
        for protocol in ("tcp", "udp"):
            bindings.setdefault(f"{number}/{protocol}", []).append(
                {"HostIp": port.host_ip, "HostPort": str(port.value)}
            )
    return {name: {} for name in bindings}, bindings


# Reading values: HCL gives a block as a list of one mapping.


def _text(value: Any) -> str:
    if isinstance(value, Mapping | list):
        raise TypeError("not a text")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flag(value: Any) -> bool:
    if isinstance(value, str):
        if value.lower() not in ("true", "false", "1", "0"):
            raise ValueError("not true or false")
        return value.lower() in ("true", "1")
    return bool(value)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(_text(item) for item in value)


def _one(value: Any) -> dict[str, Any]:
    """A block, or several that are merged."""
    if isinstance(value, Mapping):
        return dict(value)
    merged: dict[str, Any] = {}
    for item in value:
        merged |= item
    return merged


def _text_map(value: Any) -> dict[str, str]:
    return {str(key): _text(item) for key, item in _one(value).items()}


def _number_map(value: Any) -> dict[str, int]:
    return {str(key): int(item) for key, item in _one(value).items()}


def _blocks(value: Any) -> tuple[Mapping[str, Any], ...]:
    return (value,) if isinstance(value, Mapping) else tuple(dict(item) for item in value)


# HCL's name of a repeated block, and ours.
_NAMES = {"mount": "mounts"}

_READERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        (
            *("image", "command", "network_mode", "hostname", "work_dir", "ipc_mode", "pid_mode", "userns_mode"),
            *("image_pull_timeout", "runtime", "uts_mode", "volume_driver", "mac_address", "ipv4_address"),
            "ipv6_address",
        ),
        _text,
    ),
    **dict.fromkeys(
        (
            *("args", "entrypoint", "ports", "volumes", "dns_servers", "dns_search_domains", "dns_options"),
            *("extra_hosts", "cap_add", "cap_drop", "security_opt", "group_add", "network_aliases"),
        ),
        _texts,
    ),
    **dict.fromkeys(
        (
            *("init", "interactive", "privileged", "readonly_rootfs", "force_pull", "cpu_hard_limit"),
            *("auth_soft_fail", "advertise_ipv6_address"),
        ),
        _flag,
    ),
    **dict.fromkeys(("labels", "ulimit", "sysctl", "auth", "storage_opt"), _text_map),
    **dict.fromkeys(("shm_size", "pids_limit", "memory_hard_limit", "cpu_cfs_period"), int),
    **dict.fromkeys(("mounts", "mount", "devices"), _blocks),
    "port_map": _number_map,
    "logging": _one,
    "healthchecks": _one,
}


def options() -> Sequence[str]:
    """The names of all options, for documentation and tests."""
    return tuple(_READERS)
