"""Which configuration does an agent start with?

In rising order: built-in defaults, -dev, the environment (CONSUL_HTTP_ADDR, CONSUL_HTTP_TOKEN, …), the files
of -config as given, the command line. Every fault of all of them is reported at once, and nothing but a probe
for writing has been touched by then.
"""

import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from configs.reading import Given, Key, Reader, config_files
from configs.settings import (
    DEV_DIR_PREFIX,
    Acl,
    Addresses,
    Advertise,
    AgentConfig,
    Artifact,
    Client,
    Consul,
    Docker,
    HostNetwork,
    HostVolume,
    Limits,
    Plugins,
    Ports,
    RawExec,
    Reserved,
    Server,
    Telemetry,
    Tls,
    Vault,
)
from model.cluster import PreemptionConfig, SchedulerConfiguration
from model.errors import ConfigError, Fault
from model.node import DEFAULT_NETWORK
from model.secret import Secret
from model.snapshot import BrakeSettings

_ENABLE_RAW_EXEC = "driver.raw_exec.enable"
_DEV: Mapping[Key, object] = {
    ("bind_addr",): "127.0.0.1",
    ("server", "enabled"): True,
    ("client", "enabled"): True,
    ("plugin", "raw_exec", "config", "enabled"): True,
}


def load_config(
    paths: Sequence[Path], *, dev: bool, overrides: Mapping[str, Any], environ: Mapping[str, str]
) -> AgentConfig:
    reader = Reader()
    if dev:
        reader.given |= {key: Given(value=value, where="-dev") for key, value in _DEV.items()}
    _read_environment(reader, environ)
    for path in config_files(paths):
        reader.file(path)
    for name, value in overrides.items():
        if value is not None:
            reader.override(name, value)
    if dev:
        _keep_roles(reader)
    config = _build(reader, dev=dev) if reader.is_readable else None
    if config is None or reader.faults:
        raise ConfigError(tuple(dict.fromkeys(reader.faults)))
    return config


def _keep_roles(reader: Reader) -> None:
    """-dev is both halves whatever a file says, as with Nomad, whose own tests start it with the client switched off."""
    for role in ("server", "client"):
        key = (role, "enabled")
        given = reader.given.get(key)
        if given is not None and given.value is False:
            reader.warnings.append(f"{given.where}: {role}.enabled = false has no effect: -dev is leader and client in one")
            reader.given[key] = Given(value=True, where="-dev")


def _read_environment(reader: Reader, environ: Mapping[str, str]) -> None:
    """Consul's and Vault's own variables, as their other clients read them."""
    names = {
        "CONSUL_HTTP_ADDR": "consul.address",
        "CONSUL_HTTP_TOKEN": "consul.token",
        "CONSUL_HTTP_TOKEN_FILE": "consul.token_file",
        "CONSUL_HTTP_SSL": "consul.ssl",
        "CONSUL_HTTP_SSL_VERIFY": "consul.verify_ssl",
        "CONSUL_CACERT": "consul.ca_file",
        "CONSUL_CLIENT_CERT": "consul.cert_file",
        "CONSUL_CLIENT_KEY": "consul.key_file",
        "VAULT_ADDR": "vault.address",
        "VAULT_TOKEN": "vault.token",
        "VAULT_NAMESPACE": "vault.namespace",
        "VAULT_CACERT": "vault.ca_file",
    }
    for variable, name in names.items():
        if environ.get(variable):
            reader.override(name, environ[variable], where=variable)


class _Settings:
    """The given values by section: what is absent keeps the default of its class."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def get(self, *key: str) -> Any:
        given = self._reader.given.get(key)
        return None if given is None else given.value

    def section(self, prefix: Key, names: str, spans: str = "") -> dict[str, Any]:
        """The given ones of `names` as keyword arguments; those of `spans` get their unit's suffix."""
        found = {name: self.get(*prefix, name) for name in names.split()}
        found |= {f"{name}_s": self.get(*prefix, name) for name in spans.split()}
        return {name: value for name, value in found.items() if value is not None}

    def is_in_file(self, *key: str) -> bool:
        """Whether it is set, and not by the environment."""
        given = self._reader.given.get(key)
        return given is not None and bool(given.value) and not given.where.startswith("VAULT_")

    def below(self, prefix: Key) -> Mapping[str, Any]:
        """The values right below a section, by name."""
        size = len(prefix)
        return {key[size]: item.value for key, item in self._reader.given.items() if key[:size] == prefix}

    def names(self, *prefix: str) -> list[str]:
        """What the operator called the blocks right below."""
        return [key[-1] for key in self._reader.named if key[:-1] == prefix]

    def has_fault(self, *sections: str) -> bool:
        """Whether something given there was refused: then its absence is no news."""
        return any(fault.path.split(".")[0] in sections for fault in self._reader.faults)

    def has_fault_at(self, *key: str) -> bool:
        """Whether something given there or below was refused."""
        path = ".".join(key)
        return any(fault.path == path or fault.path.startswith(f"{path}.") for fault in self._reader.faults)

    def ignored(self, key: Key, what: str) -> None:
        given = self._reader.given.get(key)
        self._reader.ignored(given.where if given else "", what)

    def refuse(self, key: Key, message: str) -> None:
        given = self._reader.given.get(key)
        where = given.where if given else self._reader.named.get(key, "")
        self._reader.faults.append(Fault(message=message, where=where, path=".".join(key)))


def _build(reader: Reader, *, dev: bool) -> AgentConfig | None:
    settings = _Settings(reader)
    server = _server(settings)
    client = _client(settings)
    consul = _consul(settings)
    plugins = _plugins(settings, client)
    if not server.enabled and not client.enabled and not settings.has_fault("server", "client"):
        settings.refuse(
            (),
            "neither server nor client is enabled (set server { enabled = true } or client { enabled = true })",
        )
    for name in ("region", "datacenter", "name", "bind_addr"):
        if settings.get(name) == "":
            settings.refuse((name,), "must not be empty")
    ports = Ports(**settings.section(("ports",), "http"))
    advertise = _advertise(settings, ports)
    data_dir = _data_dir(settings, dev=dev, is_sound=not reader.faults)
    if data_dir is None:
        return None
    return AgentConfig(
        name=settings.get("name") or socket.gethostname(),
        data_dir=data_dir,
        addresses=Addresses(**settings.section(("addresses",), "http")),
        advertise=advertise,
        ports=ports,
        plugins=plugins,
        server=server,
        client=client,
        consul=consul,
        vault=_vault(settings),
        acl=Acl(**settings.section(("acl",), "enabled open_to")),
        tls=_tls(settings),
        limits=Limits(
            **settings.section(
                ("limits",),
                "http_max_conns_per_client",
                "https_handshake_timeout http_header_timeout http_stall_timeout",
            )
        ),
        telemetry=Telemetry(
            **settings.section(
                ("telemetry",),
                "prometheus_metrics publish_allocation_metrics publish_node_metrics disable_hostname use_node_name",
                "collection_interval",
            )
        ),
        is_dev=dev,
        is_data_dir_temporary=settings.get("data_dir") is None,
        warnings=tuple(reader.warnings),
        **settings.section(
            (),
            "region datacenter bind_addr log_level log_json log_file log_rotate_bytes log_rotate_max_files"
            " log_include_location enable_syslog syslog_facility enable_debug disable_update_check"
            " leave_on_terminate leave_on_interrupt http_hosts",
            "log_rotate_duration",
        ),
    )


def _advertise(settings: _Settings, ports: Ports) -> Advertise:
    """`host` or `host:port`, an IPv6 address in brackets if a port follows; the port is the API's own unless said."""
    key = ("advertise", "http")
    text = settings.get(*key)
    if not text:
        return Advertise()
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.endswith("]")):
        host, port = text, str(ports.http)
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    port_min = 1 if ports.http else 0  # 0: the one that is bound at start
    if not host or "/" in host or not (port.isascii() and port.isdigit() and port_min <= int(port[:6]) <= 65535):
        settings.refuse(key, f'"{text[:80]}" is no address (expected host or host:port)')
    return Advertise(http=f"{host}:{port}")


def _server(settings: _Settings) -> Server:
    server = Server(
        **settings.section(
            ("server",),
            "enabled max_heartbeats_per_second",
            "heartbeat_grace min_heartbeat_ttl lease_ttl agent_down_after lost_after rebalance_interval job_gc_threshold node_gc_threshold",
        ),
        brake=_brake(settings),
        scheduler=_scheduler(settings),
    )
    # Consul's smallest TTL that survives a busy agent; below it a lease would be lost by itself.
    if server.lease_ttl_s < 1:
        settings.refuse(("server", "lease_ttl"), f"must be at least 1s, found {server.lease_ttl_s:g}s")
    if server.min_heartbeat_ttl_s < 1:
        settings.refuse(
            ("server", "min_heartbeat_ttl"), f"must be at least 1s, found {server.min_heartbeat_ttl_s:g}s"
        )
    if server.max_heartbeats_per_second <= 0:
        settings.refuse(("server", "max_heartbeats_per_second"), "must be greater than zero")
    return server


def _brake(settings: _Settings) -> BrakeSettings:
    prefix = ("server", "brake")
    brake = BrakeSettings(
        **settings.section(
            prefix,
            "cluster_percent datacenter_percent nodes_min lost_nodes_per_second lost_nodes_burst flaps_max",
            "window hold",
        )
    )
    for name in ("cluster_percent", "datacenter_percent"):
        if not 0 <= getattr(brake, name) <= 100:
            settings.refuse((*prefix, name), f"must be between 0 and 100, found {getattr(brake, name):g}")
    if brake.lost_nodes_per_second <= 0:
        settings.refuse((*prefix, "lost_nodes_per_second"), "must be greater than zero")
    for name in ("nodes_min", "lost_nodes_burst", "flaps_max"):
        if getattr(brake, name) < 1:
            settings.refuse((*prefix, name), f"must be at least 1, found {getattr(brake, name)}")
    return brake


def _scheduler(settings: _Settings) -> SchedulerConfiguration:
    prefix = ("server", "default_scheduler_config")
    algorithm = settings.get(*prefix, "scheduler_algorithm") or "binpack"
    if algorithm not in ("binpack", "spread"):
        settings.refuse((*prefix, "scheduler_algorithm"), f'must be binpack or spread, found "{algorithm[:60]}"')
    preempts = {
        f"{name}_scheduler_enabled": _or(
            settings.get(*prefix, "preemption_config", f"{kind}_scheduler_enabled"), kind == "system"
        )
        for kind, name in (("system", "system"), ("sysbatch", "sys_batch"), ("batch", "batch"), ("service", "service"))
    }
    return SchedulerConfiguration(
        scheduler_algorithm=algorithm,
        memory_oversubscription_enabled=_or(settings.get(*prefix, "memory_oversubscription_enabled"), True),
        preemption_config=PreemptionConfig(**preempts),
        reject_job_registration=_or(settings.get(*prefix, "reject_job_registration"), False),
    )


def _or(given: bool | None, default: bool) -> bool:
    return default if given is None else given


def _client(settings: _Settings) -> Client:
    prefix = ("client",)
    reserved = settings.section((*prefix, "reserved"), "cpu memory disk cores")
    ports = settings.get(*prefix, "reserved", "reserved_ports")
    client = Client(
        reserved=Reserved(ports=ports or (), **reserved),
        host_volumes=_host_volumes(settings),
        host_networks=_host_networks(settings),
        artifact=Artifact(
            **settings.section(
                (*prefix, "artifact"),
                "http_max_size decompression_size_limit decompression_file_count_limit",
                "http_read_timeout git_timeout",
            )
        ),
        **settings.section(
            prefix,
            "enabled disable_remote_exec node_class meta options network_interface virtual_datacenter min_dynamic_port max_dynamic_port"
            " reservable_cores cpu_total_compute memory_total_mb disk_total_mb alloc_dir state_dir gc_disk_usage_threshold"
            " gc_inode_usage_threshold gc_max_allocs gc_parallel_destroys",
            "gc_interval max_kill_timeout",
        ),
    )
    if client.alloc_dir is not None and (reason := _why_not_writable(client.alloc_dir)):
        settings.refuse((*prefix, "alloc_dir"), f"{client.alloc_dir} is not writable: {reason}")
    low, high = client.min_dynamic_port, client.max_dynamic_port
    if not 1 <= low <= high:
        key = (
            "min_dynamic_port"
            if settings.get(*prefix, "min_dynamic_port") is not None
            else "max_dynamic_port"
        )
        settings.refuse(
            (*prefix, key), f"min_dynamic_port ({low}) must be between 1 and max_dynamic_port ({high})"
        )
    for name in ("gc_disk_usage_threshold", "gc_inode_usage_threshold"):
        if getattr(client, name) > 100:
            settings.refuse((*prefix, name), "is a percentage (at most 100)")
    return client


def _host_volumes(settings: _Settings) -> dict[str, HostVolume]:
    found: dict[str, HostVolume] = {}
    for name in settings.names("client", "host_volume"):
        key = ("client", "host_volume", name)
        given = settings.section(key, "path read_only")
        path = given.get("path")
        if path is None:
            if not settings.has_fault_at(*key):
                settings.refuse(key, "path is needed (the directory that tasks shall see)")
        elif not path.is_dir():
            settings.refuse((*key, "path"), f"{path} is no directory" if path.exists() else f"{path} does not exist")
        else:
            found[name] = HostVolume(**given)
    return found


def _host_networks(settings: _Settings) -> dict[str, HostNetwork]:
    found: dict[str, HostNetwork] = {}
    for name in settings.names("client", "host_network"):
        key = ("client", "host_network", name)
        given = settings.section(key, "cidr interface reserved_ports")
        if name == DEFAULT_NETWORK:
            settings.refuse(key, "is the name of the network that all nodes have (its interface is network_interface)")
        elif not given.get("cidr") and not given.get("interface"):
            if not settings.has_fault_at(*key):
                settings.refuse(key, "cidr or interface is needed (which of the machine's addresses it is)")
        else:
            found[name] = HostNetwork(**given)
    return found


def _plugins(settings: _Settings, client: Client) -> Plugins:
    prefix = ("plugin", "docker", "config")
    given = settings.get("plugin", "raw_exec", "config", "enabled")
    if given is None:  # the way it was set before there were plugin blocks
        given = client.options.get(_ENABLE_RAW_EXEC, "").lower() in ("1", "true")
    for name in sorted(client.options.keys() - {_ENABLE_RAW_EXEC}):
        settings.ignored(("client", "options"), f'client.options "{name[:60]}"')
    return Plugins(raw_exec=RawExec(enabled=given), docker=Docker(config=settings.below(prefix)))


def _tls(settings: _Settings) -> Tls:
    prefix = ("tls",)
    tls = Tls(**settings.section(prefix, "http ca_file cert_file key_file verify_https_client verify_server_hostname"))
    if tls.http and (tls.cert_file is None or tls.key_file is None):
        settings.refuse((*prefix, "http"), "needs cert_file and key_file")
    elif (tls.cert_file is None) != (tls.key_file is None):
        settings.refuse((*prefix, "key_file" if tls.cert_file is None else "cert_file"), "needs key_file and cert_file both")
    if tls.verify_https_client and not (tls.http and tls.ca_file is not None):
        settings.refuse((*prefix, "verify_https_client"), "needs http = true, and ca_file (who vouches for the clients)")
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(tls, name)
        if path is not None and not path.is_file():
            settings.refuse((*prefix, name), f"no such file: {path}")
    return tls


def _consul(settings: _Settings) -> Consul:
    prefix = ("consul",)
    found = settings.section(
        prefix, "address token token_file ssl ca_file cert_file key_file verify_ssl home_datacenter kv_path"
    )
    if "address" in found:
        address, is_tls = _consul_address(settings, found["address"])
        found["address"] = address
        found["is_address_named"] = True
        if is_tls is not None:
            found.setdefault("ssl", is_tls)
    if "kv_path" in found:
        found["is_kv_path_named"] = True
        found["kv_path"] = found["kv_path"].strip("/")
        if not found["kv_path"]:
            settings.refuse((*prefix, "kv_path"), "must not be empty")
        elif any(part in ("", ".", "..") for part in found["kv_path"].split("/")):
            # Consul answers such a path with a redirect to another one.
            settings.refuse((*prefix, "kv_path"), f'"{found["kv_path"][:80]}" is no path of names')
    if not found.get("token") and "token_file" in found:
        found["token"] = _token(settings, found["token_file"])
    for name in ("ca_file", "cert_file", "key_file"):
        if name in found and not found[name].is_file():
            settings.refuse((*prefix, name), f"no such file: {found[name]}")
    return Consul(**found)


def _consul_address(settings: _Settings, text: str) -> tuple[str, bool | None]:
    """`https://host:port` as (`host:port`, whether TLS); None: the address does not say."""
    key = ("consul", "address")
    scheme, separator, rest = text.partition("://")
    if separator and scheme not in ("http", "https"):
        settings.refuse(key, f"{scheme[:20]}:// is not supported by drover yet (expected host:port)")
        return text, None
    address = (rest if separator else text).rstrip("/")
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):  # no port, perhaps [an IPv6 address]
        host, port = address, "8500"
    if not host or "/" in host or not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        settings.refuse(key, f'"{text[:80]}" is no address (expected host:port)')
    return f"{host}:{port}", scheme == "https" if separator else None


def _vault(settings: _Settings) -> Vault:
    prefix = ("vault",)
    vault = Vault(
        **settings.section(
            prefix,
            "enabled address namespace token token_file role_id secret_id_file approle_mount create_from_role ca_file ca_path"
            " cert_file key_file tls_server_name tls_skip_verify allow_unauthenticated",
            "task_token_ttl timeout",
        )
    )
    if settings.get(*prefix, "name") not in (None, "", "default"):
        settings.refuse((*prefix, "name"), 'drover knows one Vault, called "default"')
    if not vault.enabled:
        return vault
    if not _is_url(vault.address):
        settings.refuse((*prefix, "address"), f'"{vault.address[:80]}" is no address (expected https://host:port)')
    if (vault.cert_file is None) != (vault.key_file is None):
        settings.refuse((*prefix, "key_file" if vault.cert_file is None else "cert_file"), "needs key_file and cert_file both")
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(vault, name)
        if path is not None and not path.is_file():
            settings.refuse((*prefix, name), f"no such file: {path}")
    if vault.ca_path is not None and not vault.ca_path.is_dir():
        settings.refuse((*prefix, "ca_path"), f"no such directory: {vault.ca_path}")
    if not 0 < vault.timeout_s <= 60:
        settings.refuse((*prefix, "timeout"), "must be above 0 and at most 60 s")
    if vault.secret_id_file is not None and not vault.role_id:
        settings.refuse((*prefix, "secret_id_file"), "needs role_id")
    # Of token_file and secret_id_file nothing is asked yet: who keeps them may start after drover.
    ways = [name for name in ("token_file", "role_id", "token") if settings.is_in_file(*prefix, name)]
    if len(ways) > 1:
        settings.refuse((*prefix, ways[1]), f"is one way too many to a token of drover's own (there is {ways[0]} already)")
    return replace(vault, address=vault.address.rstrip("/"))


def _is_url(text: str) -> bool:
    """Whether it is scheme, host and perhaps a port."""
    try:
        url = urlsplit(text)
        has_port = url.port is None or url.port > 0
    except ValueError:  # a bracket that is not closed, a port above 65535
        return False
    is_bare = not (url.path.strip("/") or url.query or url.fragment or "@" in url.netloc)
    return url.scheme in ("http", "https") and bool(url.hostname) and has_port and is_bare


def _token(settings: _Settings, path: Path) -> Secret:
    try:
        return Secret(path.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        settings.refuse(
            ("consul", "token_file"), f"cannot be read: {getattr(error, 'strerror', None) or 'not text'}"
        )
        return Secret("")


def _data_dir(settings: _Settings, *, dev: bool, is_sound: bool) -> Path | None:
    """The data directory, if it can be written; for -dev a new temporary one."""
    given = settings.get("data_dir")
    if given is None:
        if not dev and not settings.has_fault("data_dir"):
            settings.refuse((), "data_dir is needed (an absolute path that drover may write to)")
            return None
        return _temporary() if dev and is_sound else None
    path = Path(given)
    reason = _why_not_writable(path)
    if reason:
        settings.refuse(("data_dir",), f"{path} is not writable: {reason}")
        return None
    return path


def _temporary() -> Path:
    """A new directory; tasks that run as other users can reach what is theirs below."""
    path = Path(tempfile.mkdtemp(prefix=DEV_DIR_PREFIX))
    path.chmod(0o711)
    return path


def _why_not_writable(path: Path) -> str:
    """Probes the directory, or the nearest one above that exists, and leaves no trace there."""
    try:
        probe = path
        while not probe.exists() and probe != probe.parent:
            probe = probe.parent
        if not probe.is_dir():
            return f"{probe} is no directory"
        if not os.access(probe, os.W_OK | os.X_OK):
            return "Permission denied"
        with tempfile.TemporaryDirectory(prefix=".drover-probe-", dir=probe):
            return ""
    except OSError as error:
        return error.strerror or str(error)
