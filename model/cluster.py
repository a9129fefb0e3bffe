"""Who leads, and what does drover keep about itself in Consul?"""

from collections.abc import Mapping
from typing import Any

import msgspec

from model.node import NodeId
from model.wire import Document


class Leader(Document):
    """The value of the leader lock. `nonce` makes every take-over a real write."""

    node_id: NodeId
    name: str
    http_addr: str  # host:port of the leader's API
    epoch: int
    since: int  # ns since the epoch
    nonce: str
    tls_enabled: bool = msgspec.field(name="TLSEnabled", default=False)  # whether http_addr is HTTPS


class Epoch(Document):
    """Counts the terms of leadership; compare-and-set in the transaction that takes the lock."""

    epoch: int
    nonce: str


class Inbox(Document):
    """What a node's agent changed since the leader last looked.

    names: alloc ids, or "node" for the fingerprint; `is_all` when there were too many to name.
    """

    names: tuple[str, ...] = ()
    is_all: bool = False
    nonce: str = ""


# The name in an Inbox that stands for the node's own document.
NODE_FACT = "node"
# Above this many names the leader reads the whole node instead: it costs about as much as 4 reads of 64.
INBOX_NAMES_MAX = 256


class Submission(Document):
    """The job file that a version was made of. format: hcl2, hcl1 or json; variables: a file of them in HCL."""

    source: str = ""
    format: str = ""
    variable_flags: Mapping[str, str] | None = None
    variables: str = ""


class ScalingEvent(Document):
    """That a group was scaled, or that an autoscaler had something to say about it (count None)."""

    time: int  # ns since the epoch
    count: int | None = None
    previous_count: int = 0
    error: bool = False
    message: str = ""
    meta: Mapping[str, Any] = {}
    eval_id: str | None = None


class JobRecord(Document):
    """Which version of a job is current. The version itself is a key of its own, written once. scaling_events: by group,
    the newest first."""

    namespace: str
    job_id: str
    version: int
    stable: tuple[int, ...] = ()  # versions that a deployment brought to success, or an operator called so
    scaling_events: Mapping[str, tuple[ScalingEvent, ...]] = {}
    modify_time: int = 0
    epoch: int = 0


class ChildLine(Document):
    """What is remembered of a child that was removed. due: the moment it was launched for, seconds since 1970, 0 if it
    was dispatched; started, ended: ns since the epoch."""

    id: str
    due: int = 0
    outcome: str = ""
    started: int = 0
    ended: int = 0
    reason: str = ""


class Launches(Document):
    """What is kept of a periodic or parameterized job beside its versions. dealt: every run up to this moment (seconds
    since 1970) was started or given up. missed: how many were given up. last_success, last_duration: of the children
    that were removed, ns. removed: the newest of those."""

    namespace: str
    job_id: str
    dealt: int = 0
    missed: int = 0
    last_success: int = 0
    last_duration: int = 0
    removed: tuple[ChildLine, ...] = ()
    epoch: int = 0


class PreemptionConfig(Document):
    """The job types that may push away what is of lower priority."""

    system_scheduler_enabled: bool = True
    sys_batch_scheduler_enabled: bool = False
    batch_scheduler_enabled: bool = False
    service_scheduler_enabled: bool = False

    def allows(self, job_type: str) -> bool:
        name = "sys_batch" if job_type == "sysbatch" else job_type
        allowed: bool = getattr(self, f"{name}_scheduler_enabled")
        return allowed


class SchedulerConfiguration(Document):
    """How the whole cluster places, whoever leads; names are Nomad's.

    scheduler_algorithm: binpack or spread, where a job does not say. memory_oversubscription_enabled: whether
    memory_max counts; off, a job is taken without it. reject_job_registration: no job is submitted or scaled.
    """

    scheduler_algorithm: str = "binpack"
    preemption_config: PreemptionConfig = PreemptionConfig()
    memory_oversubscription_enabled: bool = True
    reject_job_registration: bool = False
    epoch: int = 0


class NamespaceCapabilities(Document):
    """Drivers that jobs of the namespace may use; None and (): all, or none that is forbidden."""

    enabled_task_drivers: tuple[str, ...] | None = None
    disabled_task_drivers: tuple[str, ...] | None = None

    def allows(self, driver: str) -> bool:
        is_enabled = not self.enabled_task_drivers or driver in self.enabled_task_drivers
        return is_enabled and driver not in (self.disabled_task_drivers or ())


class NamespaceSpec(Document):
    """A namespace: jobs, allocs and rights apart from those of others. virtual_datacenters: drover's own; its jobs run
    only there, () for anywhere."""

    name: str
    description: str = ""
    meta: Mapping[str, str] | None = None
    capabilities: NamespaceCapabilities | None = None
    virtual_datacenters: tuple[str, ...] = ()
    epoch: int = 0


class BrakeRelease(Document):
    """The nodes that an operator gave up although so many were silent: they may be held lost."""

    nodes: tuple[NodeId, ...] = ()
    released_at: int = 0  # ns since the epoch
    epoch: int = 0


class IndexBase(Document):
    """What is added to Consul's index to make the API's, so that it never goes back after a restore."""

    base: int = 0
    nonce: str = ""


class Sentinel(Document):
    """Keeps a watched prefix from ever being empty; a new nonce wakes its watchers."""

    nonce: str
