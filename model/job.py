"""What is a job, in full?

The canonical form: every default is filled in (jobspec/canonical.py does that), so no reader has to
know one. Field names and meanings are those of Nomad's JSON job specification; drover's own
extensions are marked. Durations are integer nanoseconds.
"""

import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NewType

import msgspec

from model.wire import Document, Nanoseconds

JobId = NewType("JobId", str)
Namespace = NewType("Namespace", str)

DEFAULT_NAMESPACE = Namespace("default")
DEFAULT_REGION = "global"

# Instances of all groups of a job, as in Nomad (job_max_count): a mistyped count must not fill a cluster.
COUNT_MAX = 50_000


class JobType(StrEnum):
    SERVICE = "service"
    BATCH = "batch"
    SYSTEM = "system"
    SYSBATCH = "sysbatch"


class JobStatus(StrEnum):
    """pending: nothing placed yet; running: something wanted or running; dead: stopped or all done."""

    PENDING = "pending"
    RUNNING = "running"
    DEAD = "dead"


class Constraint(Document):
    """`ltarget operand rtarget`; ltarget is usually an interpolation as `${attr.kernel.name}`."""

    ltarget: str = msgspec.field(name="LTarget", default="")
    rtarget: str = msgspec.field(name="RTarget", default="")
    operand: str = "="


class Affinity(Document):
    ltarget: str = msgspec.field(name="LTarget", default="")
    rtarget: str = msgspec.field(name="RTarget", default="")
    operand: str = "="
    weight: int = 50  # -100..100, never 0


class SpreadTarget(Document):
    value: str
    percent: int = 0


class Spread(Document):
    attribute: str
    weight: int = 50
    spread_target: tuple[SpreadTarget, ...] = ()
    max_skew: int | None = None  # drover's: how many allocs apart the fullest and the emptiest value may be


class Port(Document):
    """One port label. `value` is the host port: asked for when reserved, 0 when drover chooses."""

    label: str
    value: int = 0
    to: int = 0  # port inside the task's network namespace; 0: same as the host's
    host_network: str = "default"
    ignore_collision: bool = False


class DnsConfig(Document):
    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Network(Document):
    """A group's network request, and, with `ip` and port values filled in, what an alloc was given."""

    mode: str = "host"
    device: str = ""
    cidr: str = ""
    ip: str = ""
    mbits: int = 0
    dns: DnsConfig | None = None
    reserved_ports: tuple[Port, ...] = ()
    dynamic_ports: tuple[Port, ...] = ()
    hostname: str = ""
    cni: Mapping[str, Any] | None = msgspec.field(name="CNI", default=None)


class Resources(Document):
    cpu: int = 100  # MHz
    cores: int = 0
    memory_mb: int = 300
    memory_max_mb: int = 0
    disk_mb: int = 0
    iops: int = 0
    networks: tuple[Network, ...] = ()
    devices: tuple[Mapping[str, Any], ...] = ()
    secrets_mb: int = 0
    numa: Mapping[str, Any] | None = msgspec.field(name="NUMA", default=None)


class RestartPolicy(Document):
    attempts: int = 2
    interval: Nanoseconds = Nanoseconds(1800_000_000_000)
    delay: Nanoseconds = Nanoseconds(15_000_000_000)
    mode: str = "fail"  # fail | delay
    render_templates: bool = False


class ReschedulePolicy(Document):
    attempts: int = 0
    interval: Nanoseconds = Nanoseconds(0)
    delay: Nanoseconds = Nanoseconds(30_000_000_000)
    delay_function: str = "exponential"  # constant | exponential | fibonacci
    max_delay: Nanoseconds = Nanoseconds(3600_000_000_000)
    unlimited: bool = True


class UpdateStrategy(Document):
    stagger: Nanoseconds = Nanoseconds(30_000_000_000)
    max_parallel: int = 1
    health_check: str = "checks"  # checks | task_states | manual
    min_healthy_time: Nanoseconds = Nanoseconds(10_000_000_000)
    healthy_deadline: Nanoseconds = Nanoseconds(300_000_000_000)
    progress_deadline: Nanoseconds = Nanoseconds(600_000_000_000)
    auto_revert: bool = False
    auto_promote: bool = False
    canary: int = 0
    on_change: str = ""  # drover's: roll (as ""), or new_only: what runs keeps its version until it is replaced


class MigrateStrategy(Document):
    """surge: drover's, the replacement is healthy before the old alloc stops; None: for a group of one."""

    max_parallel: int = 1
    health_check: str = "checks"
    min_healthy_time: Nanoseconds = Nanoseconds(10_000_000_000)
    healthy_deadline: Nanoseconds = Nanoseconds(300_000_000_000)
    surge: bool | None = None


class EphemeralDisk(Document):
    size_mb: int = 300
    sticky: bool = False
    migrate: bool = False


class LogConfig(Document):
    max_files: int = 10
    max_file_size_mb: int = 10
    disabled: bool = False


class CheckRestart(Document):
    """Restart the task after `limit` consecutive failing results, counted from `grace` after its process started.

    max_parallel: drover's. How many of the group's tasks may be ended by it at the same time, as far as the leader can
    be asked; 0: any number.
    """

    limit: int = 0  # 0: off
    grace: Nanoseconds = Nanoseconds(1_000_000_000)
    ignore_warnings: bool = False
    max_parallel: int = 0


class ServiceCheck(Document):
    name: str = ""
    type: str = ""  # http | tcp | grpc | script | ttl
    command: str = ""
    args: tuple[str, ...] = ()
    path: str = ""
    protocol: str = ""
    method: str = ""
    body: str = ""
    header: Mapping[str, tuple[str, ...]] = {}
    port_label: str = ""
    address_mode: str = ""
    initial_status: str = ""
    interval: Nanoseconds = Nanoseconds(0)
    timeout: Nanoseconds = Nanoseconds(0)
    tls_skip_verify: bool = False
    grpc_service: str = ""
    grpc_use_tls: bool = msgspec.field(name="GRPCUseTLS", default=False)
    task_name: str = ""
    success_before_passing: int = 0
    failures_before_critical: int = 0
    check_restart: CheckRestart | None = None
    expose: bool = False
    on_update: str = "require_healthy"
    notes: str = ""
    advertise: str = ""
    tls_server_name: str = ""
    failures_before_warning: int = 0
    deregister_critical_service_after: Nanoseconds = Nanoseconds(0)  # drover's own; 0: never


class ServiceWeights(Document):
    """How often Consul's DNS names an instance, compared with the others."""

    passing: int = 1
    warning: int = 1


class Service(Document):
    """A Consul service of a group (`task_name` empty) or of a task."""

    name: str
    port_label: str = ""
    address_mode: str = "auto"
    tags: tuple[str, ...] = ()
    canary_tags: tuple[str, ...] = ()
    enable_tag_override: bool = False
    meta: Mapping[str, str] = {}
    canary_meta: Mapping[str, str] = {}
    task_name: str = ""
    checks: tuple[ServiceCheck, ...] = ()
    on_update: str = "require_healthy"
    connect: Mapping[str, Any] | None = None
    provider: str = "consul"
    address: str = ""  # what is registered, instead of what address_mode would give
    tagged_addresses: Mapping[str, str] = {}
    weights: ServiceWeights | None = None
    cluster: str = ""
    kind: str = ""
    identity: Mapping[str, Any] | None = None


class Lifecycle(Document):
    hook: str = ""  # prestart | poststart | poststop
    sidecar: bool = False


class Template(Document):
    source_path: str = ""
    dest_path: str = ""
    embedded_tmpl: str = ""
    change_mode: str = "restart"
    change_signal: str = ""
    splay: Nanoseconds = Nanoseconds(5_000_000_000)
    perms: str = "0644"
    left_delim: str = "{{"
    right_delim: str = "}}"
    envvars: bool = False
    vault_grace: Nanoseconds = Nanoseconds(0)
    change_script: Mapping[str, Any] | None = None
    wait: Mapping[str, Any] | None = None
    err_missing_key: bool = False
    once: bool = False
    uid: int | None = None
    gid: int | None = None


class Artifact(Document):
    getter_source: str = ""
    getter_options: Mapping[str, str] = {}
    getter_headers: Mapping[str, str] = {}
    getter_mode: str = "any"
    relative_dest: str = "local/"
    getter_insecure: bool = False
    chown: bool = False


class Vault(Document):
    policies: tuple[str, ...] = ()
    namespace: str = ""
    env: bool = True
    change_mode: str = "restart"
    change_signal: str = ""
    role: str = ""
    cluster: str = ""
    disable_file: bool = False
    allow_token_expiration: bool = False


class DispatchPayload(Document):
    file: str = ""


class VolumeMount(Document):
    volume: str = ""
    destination: str = ""
    read_only: bool = False
    propagation_mode: str = "private"
    selinux_label: str = msgspec.field(name="SELinuxLabel", default="")


class VolumeRequest(Document):
    name: str = ""
    type: str = ""
    source: str = ""
    read_only: bool = False
    access_mode: str = ""
    attachment_mode: str = ""
    mount_options: Mapping[str, Any] | None = None
    per_alloc: bool = False
    sticky: bool = False

    def source_of(self, index: int) -> str:
        """The name of the volume that the alloc of that number has: with per_alloc each has its own."""
        return f"{self.source}[{index}]" if self.per_alloc else self.source


class Task(Document):
    name: str
    driver: str
    user: str = ""
    config: Mapping[str, Any] = {}
    env: Mapping[str, str] = {}
    services: tuple[Service, ...] = ()
    vault: Vault | None = None
    templates: tuple[Template, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    resources: Resources = Resources()
    restart_policy: RestartPolicy = RestartPolicy()
    dispatch_payload: DispatchPayload | None = None
    lifecycle: Lifecycle | None = None
    meta: Mapping[str, str] = {}
    kill_timeout: Nanoseconds = Nanoseconds(5_000_000_000)
    kill_signal: str = ""
    log_config: LogConfig = LogConfig()
    artifacts: tuple[Artifact, ...] = ()
    leader: bool = False
    shutdown_delay: Nanoseconds = Nanoseconds(0)
    volume_mounts: tuple[VolumeMount, ...] = ()
    kind: str = ""
    scaling_policies: tuple[Mapping[str, Any], ...] = ()
    csi_plugin_config: Mapping[str, Any] | None = None
    actions: tuple[Mapping[str, Any], ...] = ()
    consul: Mapping[str, Any] | None = None
    identity: Mapping[str, Any] | None = None
    identities: tuple[Mapping[str, Any], ...] = ()
    schedule: Mapping[str, Any] | None = None
    secrets: tuple[Mapping[str, Any], ...] = ()


class DisconnectStrategy(Document):
    """What happens to a group's allocs while their node is out of reach, and when it is back."""

    lost_after: Nanoseconds | None = None
    replace: bool = True
    reconcile: str = "best_score"  # keep_original | keep_replacement | best_score | longest_running
    stop_on_client_after: Nanoseconds | None = None


class Completion(Document):
    """drover's: when a batch group is done, and how often it may fail before.

    The group's count is the parallelism. completions: successful runs wanted; None: a work queue, done when one
    instance has succeeded and all have ended. backoff_limit: failed runs after which the group may fail no more.
    active_deadline: for the whole group, from its first alloc on; where none finds a place, from the submission on. restart_policy: on_failure (in place) or never (each
    retry is a new alloc). ttl_after_finished: after which the finished job is purged, None: never.
    """

    completions: int | None = None
    parallelism: int | None = None  # only where it contradicts the group's count, which is a fault
    backoff_limit: int = 6
    backoff_base: Nanoseconds = Nanoseconds(10_000_000_000)
    backoff_max: Nanoseconds = Nanoseconds(360_000_000_000)
    active_deadline: Nanoseconds | None = None
    restart_policy: str = ""
    indexed: bool = False
    ttl_after_finished: Nanoseconds | None = None

    def backoff(self, failures: int) -> int:
        """How long to wait (ns) after so many failures, of which the last has just happened."""
        # 2^62 ns is 146 years: larger shifts only make large numbers.
        return min(self.backoff_base << min(max(failures - 1, 0), 62), self.backoff_max)


class TaskGroup(Document):
    name: str
    count: int = 1
    update: UpdateStrategy | None = None
    migrate: MigrateStrategy | None = None
    constraints: tuple[Constraint, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    spreads: tuple[Spread, ...] = ()
    restart_policy: RestartPolicy = RestartPolicy()
    reschedule_policy: ReschedulePolicy | None = None
    ephemeral_disk: EphemeralDisk = EphemeralDisk()
    tasks: tuple[Task, ...] = ()
    networks: tuple[Network, ...] = ()
    services: tuple[Service, ...] = ()
    volumes: Mapping[str, VolumeRequest] = {}
    meta: Mapping[str, str] = {}
    shutdown_delay: Nanoseconds = Nanoseconds(0)
    stop_after_client_disconnect: Nanoseconds | None = None
    scaling: Mapping[str, Any] | None = None
    consul: Mapping[str, Any] | None = None
    disconnect: DisconnectStrategy | None = None
    max_client_disconnect: Nanoseconds | None = None
    max_run_duration: Nanoseconds | None = None
    prevent_reschedule_on_lost: bool = False
    completion: Completion | None = None

    @property
    def places(self) -> int:
        """How many allocs of it are wanted in all, be it one after the other."""
        done = self.completion.completions if self.completion is not None else None
        return self.count if done is None else done


class History(Document):
    """drover's: how many ended children of a job are kept, by how they ended."""

    successful: int = 3
    failed: int = 1


class PeriodicConfig(Document):
    """When a job runs. The last four are drover's own: how late a run may start, what becomes of the last one that was
    missed, how soon after its time a run has to have succeeded, and how many that ended are kept."""

    enabled: bool = True
    spec: str = ""
    specs: tuple[str, ...] = ()
    spec_type: str = "cron"
    prohibit_overlap: bool = False
    time_zone: str = "UTC"
    starting_deadline: Nanoseconds | None = None
    missed_run: str = "once"  # once | skip
    expect_within: Nanoseconds | None = None
    history: History = History()

    @property
    def all_specs(self) -> tuple[str, ...]:
        return (self.spec,) if self.spec else self.specs


class ParameterizedConfig(Document):
    """What a dispatch may bring. The last three are drover's own: how many children run at once (0: all), whether a
    dispatch like one that is not done yet is that one, and how many that ended are kept."""

    payload: str = "optional"
    meta_required: tuple[str, ...] = ()
    meta_optional: tuple[str, ...] = ()
    max_running: int = 0
    dedupe: bool = False
    history: History = History(successful=100, failed=100)


class JobUiLink(Document):
    label: str = ""
    url: str = msgspec.field(name="URL", default="")


class JobUi(Document):
    """What a UI shows beside the job."""

    description: str = ""
    links: tuple[JobUiLink, ...] = ()


class Job(Document):
    """One version of a job, canonical. The three index fields are filled in at encoding, never stored."""

    id: JobId
    name: str
    namespace: Namespace = DEFAULT_NAMESPACE
    region: str = DEFAULT_REGION
    type: JobType = JobType.SERVICE
    priority: int = 50
    all_at_once: bool = False
    datacenters: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    affinities: tuple[Affinity, ...] = ()
    spreads: tuple[Spread, ...] = ()
    task_groups: tuple[TaskGroup, ...] = ()
    update: UpdateStrategy | None = None
    periodic: PeriodicConfig | None = None
    parameterized_job: ParameterizedConfig | None = None
    multiregion: Mapping[str, Any] | None = None
    node_pool: str = "default"
    ui: JobUi | None = msgspec.field(name="UI", default=None)
    orphans: str = ""  # drover's: "leave" when stopped with -orphan, "adopt" when run with -adopt
    restarted_at: int = 0  # drover's: when `job restart` last had all of it replaced (ns since the epoch)
    scheduler_algorithm: str = ""  # drover's: binpack or spread for this job, whatever the cluster does
    parent_id: JobId = JobId("")
    dispatched: bool = False
    dispatch_idempotency_token: str = ""
    payload: str | None = None  # base64, as Go's []byte
    meta: Mapping[str, str] = {}
    stop: bool = False
    stable: bool = False
    status: JobStatus = JobStatus.PENDING
    status_description: str = ""
    version: int = 0
    submit_time: int = 0  # ns since the epoch
    create_index: int = 0
    modify_index: int = 0
    job_modify_index: int = 0

    def group(self, name: str) -> TaskGroup | None:
        """The task group of that name."""
        return next((g for g in self.task_groups if g.name == name), None)

    @property
    def is_parent(self) -> bool:
        """Has no allocs of its own: its children have."""
        return self.periodic is not None or self.is_parameterized

    @property
    def is_parameterized(self) -> bool:
        return self.parameterized_job is not None and not self.dispatched

    @property
    def wants_nothing(self) -> bool:
        """Whether it is a batch job of which no group is to run even once. One with a completion block is only paused."""
        return self.type == JobType.BATCH and all(not group.count and group.completion is None for group in self.task_groups)

    @property
    def is_scheduled(self) -> bool:
        """Whether time alone starts children of it."""
        return self.periodic is not None and self.periodic.enabled and not self.stop and not self.is_parameterized

    @property
    def is_batch(self) -> bool:
        return self.type in (JobType.BATCH, JobType.SYSBATCH)

    @property
    def is_system(self) -> bool:
        return self.type in (JobType.SYSTEM, JobType.SYSBATCH)


# Of a job's id, in bytes: what Consul takes as a value of a service's meta.
JOB_ID_BYTES_MAX = 512
# What a child's id has more than its parent's: "/dispatch-", ten digits of a moment, eight of chance.
CHILD_ID_BYTES = 32


def has_control(text: str, *, but: str = "") -> bool:
    """Whether it holds a control character, or another that ends a line, beside those."""
    return any((unicodedata.category(one) in ("Cc", "Zl", "Zp")) and one not in but for one in text)


def spec_of(job: Job) -> Job:
    """The job without what drover fills in: equal specs are the same version."""
    return msgspec.structs.replace(
        job,
        version=0,
        submit_time=0,
        status=JobStatus.PENDING,
        status_description="",
        stable=False,
        create_index=0,
        modify_index=0,
        job_modify_index=0,
    )


def disconnect_of(group: TaskGroup) -> DisconnectStrategy | None:
    """What the group wants when its node is out of reach, by whichever of Nomad's names it says so; None: nothing."""
    if group.disconnect is not None:
        return group.disconnect
    lost_after, stop_after = group.max_client_disconnect, group.stop_after_client_disconnect
    if lost_after is None and stop_after is None and not group.prevent_reschedule_on_lost:
        return None
    return DisconnectStrategy(
        lost_after=lost_after, replace=not group.prevent_reschedule_on_lost, stop_on_client_after=stop_after
    )
