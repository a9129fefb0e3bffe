"""What is an allocation, and who says what about it?

An allocation is two documents with one writer each:

    DesiredAlloc   leader -> agent   what should run on which node, naming a job version
    ObservedAlloc  agent -> leader   what does run, task by task

`Alloc` holds both beside each other, as read from Consul. Times are integer nanoseconds since the
epoch, as in Nomad's JSON; task times are RFC 3339 strings there and so here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

import msgspec

from model.job import JobId, Namespace
from model.node import NodeId
from model.wire import Document

AllocId = NewType("AllocId", str)
EvalId = NewType("EvalId", str)

# Nomad keeps the last 10 events of a task; more would only fill Consul.
TASK_EVENTS_MAX = 10


class DesiredStatus(StrEnum):
    RUN = "run"
    STOP = "stop"
    EVICT = "evict"


class ClientStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    LOST = "lost"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        return self in (ClientStatus.COMPLETE, ClientStatus.FAILED, ClientStatus.LOST)


class Apart(StrEnum):
    """Why an alloc runs that its job does not count any more; only `alloc stop` or the end of a drain ends it.

    RELEASED: taken out by `alloc release`, without its services. ORPHANED: left by `job stop -orphan`, services and all.
    """

    NONE = ""
    RELEASED = "released"
    ORPHANED = "orphaned"


class Verdict(StrEnum):
    """What the leader holds of an alloc whose node it cannot hear; the agent alone says what really runs.

    An agent that reads a verdict other than NONE keeps what still runs and starts nothing.
    """

    NONE = ""
    LOST = "lost"
    UNKNOWN = "unknown"


class TaskStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    DEAD = "dead"


class AllocatedPort(Document):
    """One port an alloc holds: `value` on the host at `host_ip`, `to` inside the task (0: the same)."""

    label: str
    value: int
    to: int = 0
    host_ip: str = ""


class TaskCores(Document):
    """The cores of its node, by their ids, that a task has to itself."""

    task: str
    ids: tuple[int, ...]


class RescheduleEvent(Document):
    reschedule_time: int  # ns since the epoch
    prev_alloc_id: AllocId
    prev_node_id: NodeId
    delay: int = 0  # ns


class RescheduleTracker(Document):
    events: tuple[RescheduleEvent, ...] = ()


class DesiredAlloc(Document):
    """What the leader wants. Never deleted before the agent has reported a terminal state."""

    id: AllocId
    name: str  # job.group[index]
    namespace: Namespace
    job_id: JobId
    job_version: int
    task_group: str
    node_id: NodeId
    node_name: str = ""
    eval_id: EvalId = EvalId("")
    desired_status: DesiredStatus = DesiredStatus.RUN
    desired_description: str = ""
    verdict: Verdict = Verdict.NONE
    apart: Apart = Apart.NONE
    unknown_at: int = 0  # when its node was last found out of reach while its group could wait; ns since the epoch
    ports: tuple[AllocatedPort, ...] = ()
    cores: tuple[TaskCores, ...] = ()
    deployment_id: str = ""
    canary: bool = False  # of a deployment that was not promoted yet
    migrate_to: NodeId = NodeId("")  # where rebalancing wants it: its replacement there is healthy before it stops
    health: bool | None = None  # an operator's word, where the group's health_check is manual
    previous_allocation: AllocId = AllocId("")
    next_allocation: AllocId = AllocId("")
    reschedule_tracker: RescheduleTracker | None = None
    preempted_allocations: tuple[AllocId, ...] = ()  # what had to go for it
    preempted_by_allocation: AllocId = AllocId("")
    scores: Mapping[str, float] = {}  # the parts of the node's score when the alloc was placed
    create_time: int = 0
    modify_time: int = 0
    epoch: int = 0  # the epoch of the leader that wrote this; effects carry it, a lower one is refused

    def cores_of(self, task: str) -> tuple[int, ...]:
        """Ids of the cores that the task has to itself."""
        return next((given.ids for given in self.cores if given.task == task), ())

    @property
    def index(self) -> int:
        """The number in `name`: which of the group's `count` places this alloc fills."""
        return index_of(self.name)

    @property
    def is_stopping(self) -> bool:
        return self.desired_status is not DesiredStatus.RUN


def alloc_name(job_id: str, group: str, index: int) -> str:
    return f"{job_id}.{group}[{index}]"


def index_of(alloc_name: str) -> int:
    """The number in an alloc's name."""
    return int(alloc_name[alloc_name.rindex("[") + 1 : -1])


class TaskEvent(Document, omit_defaults=True):
    """One line in a task's history. `type` is one of Nomad's names ("Started", "Terminated", …)."""

    type: str
    time: int  # ns since the epoch
    message: str = ""
    display_message: str = ""
    details: Mapping[str, str] = {}
    exit_code: int = 0
    signal: int = 0


class TaskState(Document):
    state: TaskStatus = TaskStatus.PENDING
    failed: bool = False
    restarts: int = 0
    last_restart: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    events: tuple[TaskEvent, ...] = ()

    def with_event(self, event: TaskEvent) -> "TaskState":
        return msgspec.structs.replace(self, events=(*self.events, event)[-TASK_EVENTS_MAX:])


class DeploymentHealth(Document):
    """Whether the alloc passed its deployment's health rule; None while it is not yet decided."""

    healthy: bool | None = None
    timestamp: str | None = None
    canary: bool = False


class ObservedAlloc(Document):
    """What the agent sees. `boot_id` tells a later reader whether the machine was rebooted since."""

    id: AllocId
    node_id: NodeId
    client_status: ClientStatus
    client_description: str = ""
    task_states: Mapping[str, TaskState] = {}
    deployment_status: DeploymentHealth | None = None
    failed_runs: int = 0  # of a group with a completion block: failed tasks that were started again in place
    job_version: int = 0
    boot_id: str = ""
    modify_time: int = 0
    sequence: int = 0  # counts this node's reports: equal values would be no write to Consul
    # By which the Vault tokens of its tasks can be revoked, with the Vault namespace of each; they open nothing.
    vault_accessors: Mapping[str, str] = {}
    orphan: DesiredAlloc | None = None  # what the agent still runs though nothing desired names it


@dataclass(frozen=True, slots=True, kw_only=True)
class Alloc:
    """One allocation as Consul knows it: the leader's wish and, once there, the agent's report.

    create_index and modify_index are Consul's; modify_index is the larger of the two documents'.
    """

    desired: DesiredAlloc
    observed: ObservedAlloc | None = None
    create_index: int = 0
    desired_index: int = 0
    observed_index: int = 0

    @property
    def id(self) -> AllocId:
        return self.desired.id

    @property
    def modify_index(self) -> int:
        return max(self.desired_index, self.observed_index)

    @property
    def client_status(self) -> ClientStatus:
        """The agent's word, unless the leader holds the node to be out of reach and the work not ended."""
        reported = self.observed.client_status if self.observed else ClientStatus.PENDING
        if reported.is_terminal or self.desired.verdict is Verdict.NONE:
            return reported
        return ClientStatus(self.desired.verdict.value)

    @property
    def is_terminal(self) -> bool:
        """Nothing of it runs any more, by the agent's own word."""
        return self.observed is not None and self.observed.client_status.is_terminal

    @property
    def is_live(self) -> bool:
        """Counts towards its group: wanted, not ended, and its node not given up."""
        is_wanted = not self.desired.is_stopping and not self.desired.apart
        return is_wanted and not self.is_terminal and self.desired.verdict is Verdict.NONE
