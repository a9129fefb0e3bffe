"""Builders: a valid object each, so that a test states only what matters to it."""

from typing import Any

from model.alloc import (
    Alloc,
    AllocatedPort,
    AllocId,
    ClientStatus,
    DesiredAlloc,
    DesiredStatus,
    ObservedAlloc,
    Verdict,
    alloc_name,
)
from model.job import (
    EphemeralDisk,
    Job,
    JobId,
    JobType,
    Network,
    Port,
    ReschedulePolicy,
    Resources,
    Task,
    TaskGroup,
    UpdateStrategy,
)
from model.node import DriverInfo, Eligibility, Node, NodeControl, NodeId, NodeResources, NodeStatus
from model.snapshot import NodeView, Reach
from model.wire import Nanoseconds

SECOND = 1_000_000_000


def task(**more: Any) -> Task:
    return Task(**{"name": "t", "driver": "raw_exec", "resources": Resources(cpu=100, memory_mb=100), **more})


def group(count: int = 1, **more: Any) -> TaskGroup:
    defaults = {
        "name": "g",
        "count": count,
        "ephemeral_disk": EphemeralDisk(size_mb=10),
        "reschedule_policy": ReschedulePolicy(delay=Nanoseconds(30 * SECOND)),
        "tasks": (task(),),
    }
    return TaskGroup(**{**defaults, **more})


def job(count: int = 1, *, version: int = 0, groups: tuple[TaskGroup, ...] | None = None, **more: Any) -> Job:
    defaults: dict[str, Any] = {
        "id": JobId("j"),
        "name": "j",
        "datacenters": ("dc1",),
        "task_groups": groups if groups is not None else (group(count),),
        "version": version,
    }
    return Job(**{**defaults, **more})


def batch(count: int = 1, **more: Any) -> Job:
    policy = ReschedulePolicy(
        attempts=1, interval=Nanoseconds(86400 * SECOND), delay=Nanoseconds(5 * SECOND),
        delay_function="constant", unlimited=False,
    )
    return job(groups=(group(count, reschedule_policy=policy),), type=JobType.BATCH, **more)


def rolling(count: int, max_parallel: int, *, version: int = 0, command: str = "a") -> Job:
    update = UpdateStrategy(max_parallel=max_parallel)
    return job(groups=(group(count, update=update, tasks=(task(config={"command": command}),)),), version=version)


def port_group(count: int = 1, *, static: int = 0, label: str = "http") -> TaskGroup:
    if static:
        network = Network(reserved_ports=(Port(label=label, value=static),))
    else:
        network = Network(dynamic_ports=(Port(label=label),))
    return group(count, networks=(network,))


def node(name: str = "n1", **more: Any) -> Node:
    defaults: dict[str, Any] = {
        "id": NodeId(name),
        "name": name,
        "address": "10.0.0.1",
        "attributes": {"kernel.name": "linux"},
        "drivers": {"raw_exec": DriverInfo(detected=True, healthy=True)},
        "resources": NodeResources(cpu_mhz=1000, memory_mb=1000, disk_mb=1000),
        "boot_id": "boot-1",
    }
    return Node(**{**defaults, **more})


def view(
    name: str = "n1",
    *,
    reach: Reach = Reach.PASSING,
    status: NodeStatus = NodeStatus.READY,
    eligibility: Eligibility = Eligibility.ELIGIBLE,
    since_s: float = 0.0,
    **more: Any,
) -> NodeView:
    control = NodeControl(node_id=NodeId(name), status=status, scheduling_eligibility=eligibility)
    return NodeView(node=node(name, **more), control=control, reach=reach, reach_since_s=since_s)


def lost(name: str = "n1") -> NodeView:
    return view(name, reach=Reach.SILENT, status=NodeStatus.DOWN)


def nodes(*views: NodeView) -> dict[NodeId, NodeView]:
    return {v.id: v for v in views}


_created = iter(range(1, 1_000_000))


def alloc(
    index: int = 0,
    *,
    of: Job | None = None,
    on: str = "n1",
    status: ClientStatus | None = ClientStatus.RUNNING,
    desired: DesiredStatus = DesiredStatus.RUN,
    verdict: Verdict = Verdict.NONE,
    boot_id: str = "boot-1",
    reported_ns: int = 0,
    identity: str = "",
    ports: tuple[AllocatedPort, ...] = (),
    created: int = 0,
    group: str = "g",
    is_stale: bool = False,
    **more: Any,
) -> Alloc:
    """An alloc of `of` (a job of version 0); status None: its agent has not reported yet."""
    of = of or job()
    created = created or next(_created)
    alloc_id = AllocId(identity or f"alloc-{created:06}")
    wanted = DesiredAlloc(
        id=alloc_id,
        name=alloc_name(of.id, group, index),
        namespace=of.namespace,
        job_id=of.id,
        job_version=of.version,
        task_group=group,
        node_id=NodeId(on),
        desired_status=desired,
        verdict=verdict,
        ports=ports,
        **more,
    )
    seen = (
        ObservedAlloc(
            id=alloc_id, node_id=NodeId(on), client_status=status, boot_id=boot_id, modify_time=reported_ns
        )
        if status
        else None
    )
    # Reported after it was wanted, as a rule; `is_stale`: before what is wanted now was written.
    return Alloc(
        desired=wanted,
        observed=seen,
        create_index=created,
        desired_index=created,
        observed_index=created + (-1 if is_stale else 1) if seen else 0,
    )
