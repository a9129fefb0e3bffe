"""What does the leader know when it decides?

A Snapshot is read-only and complete: decisions take it, the time and the settings, and nothing else.
Its mappings may be the leader's own, for no decision lasts over an await.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from model.alloc import Alloc, AllocId
from model.cluster import SchedulerConfiguration
from model.job import Job, JobId, Namespace
from model.node import Eligibility, Node, NodeControl, NodeId, NodeStatus

JobKey = tuple[Namespace, JobId]


class Reach(StrEnum):
    """How well the leader hears a node right now, from Consul's health alone.

    passing: Consul's gossip and the agent's own check pass. agent_down: only the agent's check fails, so
    its tasks run on. silent: gossip lost the machine, or the agent is not registered at all.
    """

    PASSING = "passing"
    AGENT_DOWN = "agent_down"
    SILENT = "silent"


class Life(StrEnum):
    """What may be done with a node: place on it, count on it, or replace its work.

    ready: takes work. suspect: keeps its work, gets none. lost: its work is replaced.
    """

    READY = "ready"
    SUSPECT = "suspect"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """node: with its effective meta; what its agent's configuration says of it is in static_meta."""

    node: Node
    control: NodeControl
    reach: Reach
    reach_since_s: float  # loop time at which `reach` was first seen as it is now
    control_index: int = 0  # Consul's, of `control`
    # The candidate for leader that runs in the same process has missed its check, which lapses sooner.
    is_stalled: bool = False
    static_meta: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> NodeId:
        return self.node.id

    @property
    def life(self) -> Life:
        if self.control.status in (NodeStatus.DOWN, NodeStatus.DISCONNECTED):
            return Life.LOST
        if self.reach is Reach.PASSING and self.control.status is NodeStatus.READY:
            return Life.READY
        return Life.SUSPECT

    @property
    def takes_work(self) -> bool:
        is_sound = self.life is Life.READY and not self.is_stalled
        is_wanted = not self.control.drain and not self.control.penalized_until and self.control.scheduling_eligibility is Eligibility.ELIGIBLE
        return is_sound and is_wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """versions holds at least the current version of each job and each version an alloc names."""

    jobs: Mapping[JobKey, Job]
    versions: Mapping[tuple[JobKey, int], Job]
    allocs: Mapping[AllocId, Alloc]
    allocs_by_job: Mapping[JobKey, Mapping[AllocId, Alloc]]
    nodes: Mapping[NodeId, NodeView]


@dataclass(frozen=True, slots=True, kw_only=True)
class BrakeSettings:
    """When are so many nodes unheard that none of them may be held lost?

    cluster_percent: of all nodes. datacenter_percent: of one (virtual) datacenter's, unless all of it is unheard and
    others are not (55 and that exception are Kubernetes' for a zone). nodes_min: fewer are no mass failure.
    window_s: a node that was lost so recently counts as unheard. hold_s: for how long no node at all is held lost after
    a new leader and after an outage of Consul. lost_nodes_per_second, lost_nodes_burst: how many nodes may be held
    lost in the long run (Kubernetes: 0.1) and in a row. flaps_max: a node that came back more often within 10
    minutes gets no new work for 30 s, doubling to 10 minutes.
    """

    cluster_percent: float = 50.0
    datacenter_percent: float = 55.0
    nodes_min: int = 2
    window_s: float = 600.0
    hold_s: float = 10.0
    lost_nodes_per_second: float = 0.1
    lost_nodes_burst: int = 3
    flaps_max: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may set about the leader's decisions. Spans in seconds; names are Nomad's where it has them.

    heartbeat_grace_s: how long a silent node stays suspect before its work is replaced.
    min_heartbeat_ttl_s, max_heartbeats_per_second: TTL of the agents' checks = max(min, nodes / per second).
    lost_after_s: how much longer than the grace a node is given before its work is replaced.
    agent_down_after_s: how long tasks count whose machine is alive but whose drover is not.
    gc_after_s: how long ended allocs that were replaced are kept for looking at. job_gc_after_s: how long jobs that are
    stopped or done; node_gc_after_s: how long nodes that are down and hold nothing.
    scheduler: how a cluster places that was never told otherwise: see leader/scheduling.py.
    rebalance_interval_s: how often one alloc may move to where it would be placed today; 0: only when asked.
    """

    heartbeat_grace_s: float = 10.0
    min_heartbeat_ttl_s: float = 10.0
    max_heartbeats_per_second: float = 50.0
    lost_after_s: float = 0.0
    agent_down_after_s: float = 300.0
    brake: BrakeSettings = BrakeSettings()
    gc_after_s: float = 3600.0
    job_gc_after_s: float = 14_400.0
    node_gc_after_s: float = 86_400.0
    scheduler: SchedulerConfiguration = field(default_factory=SchedulerConfiguration)
    rebalance_interval_s: float = 0.0
