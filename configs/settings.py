"""What can be set for an agent, and what holds when it is not?

Frozen; made by `configs.load` only. Names are Nomad's; spans are float seconds (`_s`). Settings of
drover's own are marked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from model.cluster import SchedulerConfiguration
from model.secret import Secret
from model.snapshot import BrakeSettings

# What the temporary data_dir of a -dev agent is called, before its random part.
DEV_DIR_PREFIX = "drover-dev-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    http: int = 4646  # 0: any free port


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    http: str = ""  # empty: bind_addr


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertise:
    http: str = ""  # host:port that others reach the API under; empty: found out at start


@dataclass(frozen=True, slots=True, kw_only=True)
class RawExec:
    enabled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Docker:
    """config: the plugin's own settings; blocks in it are mappings."""

    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    raw_exec: RawExec = RawExec()
    docker: Docker = Docker()


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    enabled: bool = False
    heartbeat_grace_s: float = 10.0
    min_heartbeat_ttl_s: float = 10.0
    max_heartbeats_per_second: float = 50.0
    lease_ttl_s: float = 3.0  # drover's: TTL of the check that a candidate's lease hangs on
    agent_down_after_s: float = 300.0  # drover's: a node unheard for so long is down
    lost_after_s: float = 0.0  # drover's: how much later its allocs count as lost
    rebalance_interval_s: float = 0.0  # drover's: evens out one alloc at a time so often; 0: only when asked
    job_gc_threshold_s: float = 14_400.0
    node_gc_threshold_s: float = 86_400.0
    brake: BrakeSettings = field(default_factory=BrakeSettings)  # drover's
    scheduler: SchedulerConfiguration = field(default_factory=SchedulerConfiguration)  # of a cluster that has none yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """What the node keeps for itself."""

    cpu: int = 0  # MHz
    memory: int = 0  # MB
    disk: int = 0  # MB
    ports: tuple[int, ...] = ()
    cores: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostVolume:
    """A directory that tasks may ask for by name."""

    path: Path
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HostNetwork:
    """Addresses that ports may ask for by name; cidr, interface: where they are, empty for any, never both empty."""

    cidr: str = ""
    interface: str = ""
    reserved_ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """What fetching an artifact may take, of one of them. 0: no limit."""

    http_read_timeout_s: float = 1800.0
    http_max_size: int = 100_000_000_000  # bytes
    git_timeout_s: float = 1800.0
    decompression_size_limit: int = 100_000_000_000  # bytes
    decompression_file_count_limit: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    enabled: bool = False
    node_class: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    network_interface: str = ""
    virtual_datacenter: str = ""  # drover's: a datacenter of the scheduler's that Consul does not know
    reserved: Reserved = Reserved()
    reservable_cores: tuple[int, ...] = ()  # empty: all that the agent may run on
    host_volumes: Mapping[str, HostVolume] = field(default_factory=dict)
    host_networks: Mapping[str, HostNetwork] = field(default_factory=dict)
    min_dynamic_port: int = 20000
    max_dynamic_port: int = 32000
    cpu_total_compute: int = 0  # MHz; 0: as found
    memory_total_mb: int = 0  # 0: as found
    disk_total_mb: int = 0  # 0: as found
    alloc_dir: Path | None = None  # None: data_dir/alloc
    state_dir: Path | None = None  # None: data_dir/client
    gc_interval_s: float = 60.0
    gc_disk_usage_threshold: float = 80.0
    gc_inode_usage_threshold: float = 70.0
    gc_max_allocs: int = 50
    gc_parallel_destroys: int = 2
    max_kill_timeout_s: float = 30.0
    disable_remote_exec: bool = False
    artifact: Artifact = Artifact()


@dataclass(frozen=True, slots=True, kw_only=True)
class Consul:
    address: str = "127.0.0.1:8500"  # host:port, without a scheme
    is_address_named: bool = False  # by a file, the environment or a flag: then no other Consul will do
    token: Secret = field(default_factory=lambda: Secret(""))
    token_file: Path | None = None
    ssl: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    verify_ssl: bool = True
    home_datacenter: str = ""  # Consul datacenter that holds drover's state; empty: the local agent's
    kv_path: str = "drover"  # drover's: the root of all its keys
    is_kv_path_named: bool = False  # else -dev uses keys of its own, and removes them


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """How secrets are fetched. The agent's own token is one of token, token_file, or what role_id gets; none: it has none.

    task_token_ttl_s: what a task's token is asked for. create_from_role: the token role that they are made by.
    """

    enabled: bool = False
    address: str = "https://vault.service.consul:8200"
    namespace: str = ""
    token: Secret = field(default_factory=lambda: Secret(""))
    token_file: Path | None = None  # drover's: kept fresh by somebody else; read again when it changes
    role_id: str = ""  # drover's: AppRole
    secret_id_file: Path | None = None  # drover's
    approle_mount: str = "approle"  # drover's
    create_from_role: str = ""
    task_token_ttl_s: float = 259_200.0
    ca_file: Path | None = None
    ca_path: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    tls_server_name: str = ""
    tls_skip_verify: bool = False
    timeout_s: float = 5.0  # drover's: of one call, all attempts at it
    allow_unauthenticated: bool = True  # false: who submits a job has to have the policies that it asks for


@dataclass(frozen=True, slots=True, kw_only=True)
class Acl:
    """enabled: whether Consul's ACLs decide what a caller may do; None: if they are on in Consul. open_to: drover's:
    other machines that may do everything where they do not decide."""

    enabled: bool | None = None
    open_to: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Of the API, and of calls to other agents. http: whether there is any; then cert_file and key_file are set.
    verify_https_client: callers need a certificate that ca_file vouches for. verify_server_hostname: the leader's has
    to be for server.<region>.nomad."""

    http: bool = False
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    verify_https_client: bool = False
    verify_server_hostname: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of the API. 0: no limit."""

    http_max_conns_per_client: int = 1000  # Nomad's is 100; here one agent passes on the calls of all of its clients
    https_handshake_timeout_s: float = 5.0
    http_header_timeout_s: float = 15.0  # drover's: from the connection to the end of the first request's headers
    http_stall_timeout_s: float = 60.0  # drover's: how long a peer may neither send what it began nor read


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What /v1/metrics serves. All of it unless said otherwise: drover collects nothing before somebody asks, so what
    Nomad leaves out by default costs nothing here either (docs/metrics.md)."""

    prometheus_metrics: bool = True
    publish_allocation_metrics: bool = True
    publish_node_metrics: bool = True
    disable_hostname: bool = False  # true: gauges have no label `host`
    use_node_name: bool = False  # that label is the agent's name, not the machine's
    collection_interval_s: float = 1.0  # who asks again within it gets what was found before


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything an agent is told. warnings: what was accepted and has no effect, one sentence each."""

    name: str
    data_dir: Path
    region: str = "global"
    datacenter: str = "dc1"
    bind_addr: str = "0.0.0.0"
    addresses: Addresses = Addresses()
    advertise: Advertise = Advertise()
    ports: Ports = Ports()
    log_level: str = "INFO"
    log_json: bool = False
    log_file: str = ""
    log_rotate_bytes: int = 0  # of a log_file; 0: however large
    log_rotate_duration_s: float = 86_400.0  # of a log_file; 0: however old
    log_rotate_max_files: int = 0  # how many rotated ones are kept; 0: all
    log_include_location: bool = False
    enable_syslog: bool = False
    syslog_facility: str = "LOCAL0"
    enable_debug: bool = False
    disable_update_check: bool = False
    leave_on_terminate: bool = False
    leave_on_interrupt: bool = False
    plugins: Plugins = Plugins()
    server: Server = Server()
    client: Client = Client()
    consul: Consul = Consul()
    vault: Vault = Vault()
    acl: Acl = Acl()
    tls: Tls = Tls()
    limits: Limits = Limits()
    http_hosts: tuple[str, ...] = ()  # drover's: further names that the API is called by; "*": any
    telemetry: Telemetry = Telemetry()
    is_dev: bool = False
    is_data_dir_temporary: bool = False  # made for this one run
    warnings: tuple[str, ...] = ()

    @property
    def http_host(self) -> str:
        """The address that the API listens on."""
        return self.addresses.http or self.bind_addr
