"""How do drover's documents look to Nomad's clients?

Most documents are returned as they are stored. Lists return stubs, and an allocation is put together from
its two documents and its job: these shapes are here, with Nomad's key names. Legacy keys (`Resources`,
`TaskResources`, a node's `Reserved`) are filled in, for hashi-ui and exporters read them.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from leader.decide.ports import networks_of
from leader.metrics import alloc_metric, score_documents
from leader.status import description_of, job_status, progress_of
from leader.view import Indexed, View, job_key
from model.alloc import (
    Alloc,
    ClientStatus,
    DeploymentHealth,
    DesiredAlloc,
    EvalId,
    RescheduleTracker,
    TaskState,
    Verdict,
)
from model.evaluation import PlacementMetric
from model.job import Job, Task, TaskGroup
from model.node import DEFAULT_NETWORK, HostNetwork, Node, NodeControl, NodeStatus
from model.snapshot import JobKey, Life, NodeView, Reach
from model.wire import Document, encode

# The release of Nomad whose API this is. Clients compare versions (Terraform's provider does), so that drover's own
# stands where a semantic version has its build.
API_VERSION = "1.1.0"


def api_version(version: str) -> str:
    """drover's version as Nomad's clients read it."""
    return f"{API_VERSION}+drover.{version}"


class DesiredTransition(Document):
    migrate: bool | None = None
    reschedule: bool | None = None
    force_reschedule: bool | None = None


class AllocStub(Document):
    """An allocation in a list."""

    id: str
    eval_id: str
    name: str
    namespace: str
    node_id: str
    node_name: str
    job_id: str
    job_type: str
    job_version: int
    task_group: str
    desired_status: str
    desired_description: str
    client_status: str
    client_description: str
    task_states: Mapping[str, TaskState]
    deployment_status: DeploymentHealth | None
    reschedule_tracker: RescheduleTracker | None
    create_index: int
    modify_index: int
    create_time: int
    modify_time: int
    desired_transition: DesiredTransition = DesiredTransition()
    followup_eval_id: str = ""
    preempted_allocations: tuple[str, ...] | None = None
    preempted_by_allocation: str = ""


def alloc_stub(view: View, alloc: Alloc) -> AllocStub:
    desired, observed = alloc.desired, alloc.observed
    job = view.versions.get((job_key(alloc), desired.job_version))
    # What the leader gave up shows as Nomad shows it, though nothing told the node to stop.
    is_given_up = desired.verdict is Verdict.LOST and not alloc.is_terminal
    return AllocStub(
        id=desired.id,
        eval_id=desired.eval_id,
        name=desired.name,
        namespace=desired.namespace,
        node_id=desired.node_id,
        node_name=desired.node_name,
        job_id=desired.job_id,
        job_type=job.type.value if job else "",
        job_version=desired.job_version,
        task_group=desired.task_group,
        desired_status="stop" if is_given_up else desired.desired_status.value,
        desired_description=desired.desired_description,
        client_status=alloc.client_status.value,
        client_description=observed.client_description if observed else "",
        task_states=observed.task_states if observed else {},
        deployment_status=_deployment_status(alloc),
        reschedule_tracker=desired.reschedule_tracker,
        create_index=view.api_index(alloc.create_index),
        modify_index=view.api_index(alloc.modify_index),
        desired_transition=DesiredTransition(migrate=True) if desired.migrate_to else DesiredTransition(),
        create_time=desired.create_time,
        modify_time=max(desired.modify_time, observed.modify_time if observed else 0),
    )


def _deployment_status(alloc: Alloc) -> DeploymentHealth | None:
    """The agent's word on its health, with the leader's: an operator's, and whether it is a canary."""
    desired, seen = alloc.desired, alloc.observed.deployment_status if alloc.observed else None
    if seen is None and desired.health is None and not desired.canary:
        return None
    healthy = seen.healthy if seen is not None else None
    return DeploymentHealth(
        healthy=healthy if desired.health is None else desired.health,
        timestamp=seen.timestamp if seen is not None else None,
        canary=desired.canary,
    )


class StubCache:
    """Encoded stubs by alloc: a list of 300 that is asked for ten times a second is mostly unchanged."""

    def __init__(self) -> None:
        self._stubs: dict[str, tuple[int, int, int, bytes]] = {}

    def list(self, view: View, allocs: Iterable[Alloc]) -> bytes:
        parts = []
        for alloc in allocs:
            known = self._stubs.get(alloc.id)
            # Both documents' indexes: the agent's may change below the leader's.
            state = (alloc.desired_index, alloc.observed_index, view.index_base)
            if known is None or known[:3] != state:
                known = (*state, encode(alloc_stub(view, alloc)))
                self._stubs[alloc.id] = known
            parts.append(known[3])
        if len(self._stubs) > 2 * len(view.allocs) + 1000:
            self._stubs = {a: s for a, s in self._stubs.items() if a in view.allocs}
        return b"[" + b",".join(parts) + b"]"


def alloc_full(view: View, alloc: Alloc, *, is_whole: bool = True) -> dict[str, Any]:
    """One allocation with its job and resources. is_whole=False: without the job and NextAllocation, which is looked
    for among all of the job's."""
    desired = alloc.desired
    job = view.versions.get((job_key(alloc), desired.job_version))
    group = job.group(desired.task_group) if job else None
    shown = _to_dict(alloc_stub(view, alloc))
    networks = _networks(alloc, group)
    shown |= {
        "Job": job_document(view, job_key(alloc), job) if job and is_whole else None,
        "PreviousAllocation": desired.previous_allocation,
        "PreemptedAllocations": list(desired.preempted_allocations) or None,
        "PreemptedByAllocation": desired.preempted_by_allocation,
        "NextAllocation": _next(view, alloc) if is_whole else "",
        "DeploymentID": desired.deployment_id,
        "Metrics": metric_document(alloc_metric(view, alloc)),
        "AllocModifyIndex": view.api_index(alloc.desired_index),
        "AllocatedResources": allocated_resources(view, alloc),
        "Resources": _legacy_resources(view, desired, group, networks),
        "SharedResources": {"DiskMB": group.ephemeral_disk.size_mb if group else 0, "Networks": networks},
        "TaskResources": {
            t.name: {
                "CPU": _cpu_mhz(view, desired, t),
                "MemoryMB": t.resources.memory_mb,
                "DiskMB": 0,
                "IOPS": 0,
                "Networks": None,
            }
            for t in group.tasks
        }
        if group
        else {},
    }
    return shown


def allocated_resources(view: View, alloc: Alloc) -> dict[str, Any]:
    desired = alloc.desired
    job = view.versions.get((job_key(alloc), desired.job_version))
    group = job.group(desired.task_group) if job else None
    return {
        "Tasks": {t.name: _task_resources(view, desired, t) for t in group.tasks} if group else {},
        "TaskLifecycles": {t.name: _to_dict(t.lifecycle) if t.lifecycle else None for t in group.tasks}
        if group
        else {},
        "Shared": {
            "DiskMB": group.ephemeral_disk.size_mb if group else 0,
            "Networks": _networks(alloc, group),
            "Ports": [_to_dict(port) for port in desired.ports],
        },
    }


def _next(view: View, alloc: Alloc) -> str:
    """What took its place, the newest."""
    followers = [
        other for other in view.allocs_by_job.get(job_key(alloc), {}).values() if other.desired.previous_allocation == alloc.id
    ]
    return max(followers, key=lambda other: other.create_index).id if followers else ""


def _networks(alloc: Alloc, group: TaskGroup | None) -> list[dict[str, Any]]:
    if not alloc.desired.ports:
        return []
    asked = networks_of(group) if group else ()
    names = {p.label: p.host_network for network in asked for p in (*network.reserved_ports, *network.dynamic_ports)}
    shown = [
        {"Label": p.label, "Value": p.value, "To": p.to, "HostNetwork": names.get(p.label) or "default"}
        for p in alloc.desired.ports
    ]
    return [
        {
            "Mode": "host",
            "Device": "",
            "CIDR": "",
            "IP": alloc.desired.ports[0].host_ip,
            "MBits": 0,
            "DNS": None,
            "ReservedPorts": None,
            "DynamicPorts": shown,
        }
    ]


def _cpu_mhz(view: View, desired: DesiredAlloc, task: Task) -> int:
    """What the task was given: cores of its own are so many MHz as they are on its node."""
    if not task.resources.cores:
        return task.resources.cpu
    node = view.nodes.get(desired.node_id)
    return task.resources.cores * node.node.resources.core_mhz if node else 0


def _task_resources(view: View, desired: DesiredAlloc, task: Task) -> dict[str, Any]:
    resources = task.resources
    cores = list(desired.cores_of(task.name)) or None
    return {
        "Cpu": {"CpuShares": _cpu_mhz(view, desired, task), "ReservedCores": cores},
        "Memory": {"MemoryMB": resources.memory_mb, "MemoryMaxMB": resources.memory_max_mb},
        "Networks": None,
        "Devices": None,
    }


def _legacy_resources(
    view: View, desired: DesiredAlloc, group: TaskGroup | None, networks: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "CPU": sum(_cpu_mhz(view, desired, t) for t in group.tasks) if group else 0,
        "MemoryMB": sum(t.resources.memory_mb for t in group.tasks) if group else 0,
        "DiskMB": group.ephemeral_disk.size_mb if group else 0,
        "IOPS": 0,
        "Networks": networks,
    }


def job_document(view: View, key: JobKey, job: Job) -> dict[str, Any]:
    """The canonical job with status and indexes."""
    version = view.version_indexes.get((key, job.version))
    record = view.records.get(key)
    shown = msgspec.structs.replace(
        job,
        status=job_status(view, key, job),
        status_description=description_of(progress_of(view, key, job)) or job.status_description,
        stable=record is not None and job.version in record.document.stable,
        create_index=view.api_index(record.create_index) if record else 0,
        modify_index=view.api_index(record.modify_index) if record else 0,
        job_modify_index=view.api_index(version.modify_index) if version else 0,
    )
    document = _to_dict(shown)
    del document["RestartedAt"], document["Orphans"]  # what the leader needs, and no submitter sets
    return document


def job_stub(view: View, key: JobKey, job: Job, *, has_meta: bool = False) -> dict[str, Any]:
    document = job_document(view, key, job)
    keys = (
        "ID ParentID Name Namespace Datacenters Type Priority Stop Status StatusDescription "
        "CreateIndex ModifyIndex JobModifyIndex SubmitTime"
    )
    return {
        **{name: document[name] for name in keys.split()},
        "Periodic": job.periodic is not None,
        "ParameterizedJob": job.parameterized_job is not None,
        "JobSummary": job_summary(view, key, job),
        **({"Meta": document["Meta"]} if has_meta else {}),
    }


def job_summary(view: View, key: JobKey, job: Job) -> dict[str, Any]:
    groups = {
        group.name: {"Queued": 0, "Complete": 0, "Failed": 0, "Running": 0, "Starting": 0, "Lost": 0, "Unknown": 0}
        for group in job.task_groups
    }
    column = {
        ClientStatus.PENDING: "Starting",
        ClientStatus.RUNNING: "Running",
        ClientStatus.COMPLETE: "Complete",
        ClientStatus.FAILED: "Failed",
        ClientStatus.LOST: "Lost",
        ClientStatus.UNKNOWN: "Unknown",
    }
    for alloc in view.allocs_by_job.get(key, {}).values():
        if alloc.desired.task_group in groups and not (alloc.desired.apart and not alloc.is_terminal):
            groups[alloc.desired.task_group][column[alloc.client_status]] += 1
    for indexed in view.evals_by_job.get(key, {}).values():
        if indexed.document.status.value == "blocked":
            for name, queued in indexed.document.queued_allocations.items():
                if name in groups:
                    groups[name]["Queued"] = queued
    record = view.records.get(key)
    progress = {name: _to_dict(one) for name, one in progress_of(view, key, job).items()}
    return {
        "JobID": job.id,
        "Namespace": job.namespace,
        "Summary": groups,
        "Children": _children(view, key),
        "CreateIndex": view.api_index(record.create_index) if record else 0,
        "ModifyIndex": view.topic_index(("summary", key)),
        **({"Completions": progress} if progress else {}),
    }


def _children(view: View, key: JobKey) -> dict[str, int]:
    """How many of the job's children are in which state."""
    count = {"Pending": 0, "Running": 0, "Dead": 0}
    for child in view.families.children(key):
        count[job_status(view, child, view.jobs[child]).value.capitalize()] += 1
    return count


def job_scale(view: View, key: JobKey, job: Job) -> dict[str, Any]:
    """How many allocs each group should have, and has."""
    groups = {}
    for group in job.task_groups:
        allocs = [a for a in view.allocs_by_job.get(key, {}).values() if a.desired.task_group == group.name and a.is_live]
        healths = [status.healthy for a in allocs if (status := _deployment_status(a)) is not None]
        groups[group.name] = {
            "Desired": group.count,
            "Placed": len(allocs),
            "Running": sum(a.client_status is ClientStatus.RUNNING for a in allocs),
            "Healthy": healths.count(True),
            "Unhealthy": healths.count(False),
            "Events": _scaling_events(view, key, group.name),
        }
    record = view.records.get(key)
    return {
        "JobID": job.id,
        "Namespace": job.namespace,
        "JobCreateIndex": view.api_index(record.create_index) if record else 0,
        "JobModifyIndex": view.api_index(record.modify_index) if record else 0,
        "JobStopped": job.stop,
        "TaskGroups": groups,
    }


def _scaling_events(view: View, key: JobKey, group: str) -> list[dict[str, Any]] | None:
    """The newest first; their index is that of the evaluation that they led to, while it is known."""
    record = view.records.get(key)
    shown = []
    for event in record.document.scaling_events.get(group, ()) if record else ():
        evaluation = view.evals.get(EvalId(event.eval_id or ""))
        index = view.api_index(evaluation.create_index) if evaluation else 0
        shown.append({**_to_dict(event), "CreateIndex": index})
    return shown or None


def evaluation_document(view: View, evaluation: Indexed) -> dict[str, Any]:
    shown = _to_dict(msgspec.structs.replace(evaluation.document, placements={}))
    del shown["Placements"]  # shown with the allocs
    shown |= {
        "CreateIndex": view.api_index(evaluation.create_index),
        "ModifyIndex": view.api_index(evaluation.modify_index),
        "FailedTGAllocs": metrics_document(evaluation.document.failed_tg_allocs),
        "SnapshotIndex": view.api_index(evaluation.create_index),
    }
    return shown


def metrics_document(failed: Mapping[str, PlacementMetric]) -> dict[str, Any] | None:
    """Why groups found no node, by group; None where all did."""
    return {group: metric_document(metric) for group, metric in failed.items()} or None


def metric_document(metric: PlacementMetric) -> dict[str, Any]:
    """With Nomad's members that drover has no use for."""
    unused = {"QuotaExhausted": None, "ResourcesExhausted": None, "Scores": None}
    return {**_to_dict(metric), **unused, "ScoreMetaData": score_documents(metric)}


def node_document(view: View, node: NodeView) -> dict[str, Any]:
    document, control = node.node, node.control
    resources, reserved = document.resources, document.reserved
    return {
        **node_stub(view, node),
        "HTTPAddr": document.http_addr,
        "TLSEnabled": document.tls_enabled,
        "Attributes": dict(document.attributes),
        "Meta": dict(document.meta),
        "Links": {},
        "ComputedClass": "",
        "DrainStrategy": _drain_strategy(control),
        "LastDrain": _to_dict(control.last_drain) if control.last_drain is not None else None,
        "Events": [_to_dict(event) for event in control.events],
        "HostVolumes": {name: _to_dict(volume) for name, volume in sorted(document.host_volumes.items())},
        "CSIControllerPlugins": {},
        "CSINodePlugins": {},
        **_node_resources(document),
        "Resources": {
            "CPU": resources.cpu_mhz,
            "MemoryMB": resources.memory_mb,
            "DiskMB": resources.disk_mb,
            "IOPS": 0,
        },
        "Reserved": {
            "CPU": reserved.cpu_mhz,
            "MemoryMB": reserved.memory_mb,
            "DiskMB": reserved.disk_mb,
            "IOPS": 0,
        },
    }


def _node_resources(document: Node) -> dict[str, Any]:
    resources, reserved = document.resources, document.reserved
    ports = ",".join(str(port) for port in reserved.ports)
    return {
        "NodeResources": {
            "Cpu": {
                "CpuShares": resources.cpu_mhz,
                "TotalCpuCores": resources.total_cores,
                "ReservableCpuCores": list(resources.reservable_cores),
            },
            "Memory": {"MemoryMB": resources.memory_mb},
            "Disk": {"DiskMB": resources.disk_mb},
            "Networks": [{"Mode": "host", "Device": "", "CIDR": f"{document.address}/32", "IP": document.address}],
            "NodeNetworks": _node_networks(document),
            "MinDynamicPort": resources.min_dynamic_port,
            "MaxDynamicPort": resources.max_dynamic_port,
        },
        "ReservedResources": {
            "Cpu": {"CpuShares": reserved.cpu_mhz, "ReservedCpuCores": list(reserved.cores) or None},
            "Memory": {"MemoryMB": reserved.memory_mb},
            "Disk": {"DiskMB": reserved.disk_mb},
            "Networks": {"ReservedHostPorts": ports},
        },
    }


def _node_networks(node: Node) -> list[dict[str, Any]]:
    """Its addresses by interface, each under the name by which ports ask for it."""
    networks = (HostNetwork(name=DEFAULT_NETWORK, address=node.address), *node.host_networks)
    devices = dict.fromkeys(one.device for one in networks)
    return [
        {
            "Mode": "host",
            "Device": device,
            "MacAddress": "",
            "Speed": 0,
            "Addresses": [
                {
                    "Family": "ipv6" if ":" in one.address else "ipv4",
                    "Alias": one.name,
                    "Address": one.address,
                    "Gateway": "",
                    "ReservedPorts": ",".join(str(port) for port in sorted({*node.reserved.ports, *one.reserved_ports})),
                }
                for one in networks
                if one.device == device
            ],
        }
        for device in devices
    ]


def node_stub(view: View, node: NodeView, *, has_resources: bool = False, has_os: bool = False) -> dict[str, Any]:
    document, control = node.node, node.control
    index = view.api_index(view.node_indexes.get(node.id, 1))
    return {
        "Address": document.address,
        "ID": document.id,
        "Datacenter": document.datacenter,
        "VirtualDatacenter": document.virtual_datacenter,
        "Name": document.name,
        "NodeClass": document.node_class,
        "Version": api_version(document.version),
        "Drain": control.drain is not None,
        "LastDrain": _to_dict(control.last_drain) if control.last_drain is not None else None,
        "SchedulingEligibility": control.scheduling_eligibility.value,
        "Status": node_status(node).value,
        "StatusDescription": _status_description(node),
        "StatusUpdatedAt": control.status_updated_at,
        "Drivers": {name: _to_dict(info) for name, info in document.drivers.items()},
        "CreateIndex": index,
        "ModifyIndex": index,
        **(_node_resources(document) if has_resources else {}),
        **({"Attributes": {"os.name": document.attributes.get("os.name", "")}} if has_os else {}),
    }


def _drain_strategy(control: NodeControl) -> dict[str, Any] | None:
    drain = control.drain
    if drain is None:
        return None

    def moment(ns: int) -> str:
        return datetime.fromtimestamp(ns / 1e9, UTC).isoformat().replace("+00:00", "Z")

    left_ns = -1 if drain.is_forced else (drain.deadline_at - drain.started_at if drain.deadline_at else 0)
    return {
        "Deadline": left_ns,
        "IgnoreSystemJobs": drain.ignores_system,
        "ForceDeadline": moment(drain.deadline_at) if drain.deadline_at else "0001-01-01T00:00:00Z",
        "StartedAt": moment(drain.started_at),
    }


def node_status(node: NodeView) -> NodeStatus:
    """Nomad's word for a node that missed its heartbeat while its tasks count on: disconnected."""
    is_suspect = node.life is Life.SUSPECT and node.control.status is NodeStatus.READY
    return NodeStatus.DISCONNECTED if is_suspect else node.control.status


def _status_description(node: NodeView) -> str:
    if node.life is not Life.SUSPECT or node.control.status is not NodeStatus.READY:
        return node.control.status_description
    return "Agent is down, its tasks run on" if node.reach is Reach.AGENT_DOWN else "Not heard, within its grace"


def _to_dict(document: Any) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(document)
    return shown
