"""May this job run?

The rules are those of Nomad's server, and all of them are asked: a user gets every fault of a job at
once. Each function looks at one part and yields what is wrong with it; paths are those of the job file.
Policies and constraints are in `rules.py`, services in `services.py`, drivers' options in
`driver_config.py`, what drover cannot do yet in `unsupported.py`.
"""

from collections.abc import Iterable, Iterator, Sequence

from jobspec.artifacts import artifact_faults
from jobspec.children import dispatch_payload_faults, parent_faults
from jobspec.driver_config import config_faults
from jobspec.rules import (
    affinity_faults,
    completion_faults,
    constraint_faults,
    disconnect_faults,
    migrate_faults,
    reschedule_faults,
    restart_faults,
    spread_faults,
    update_faults,
)
from jobspec.services import service_faults
from jobspec.signals import signal_fault
from jobspec.syntax.source import one_line
from jobspec.templates import template_faults
from jobspec.unsupported import unsupported_faults
from jobspec.upstreams import upstream_faults
from jobspec.volumes import volume_faults
from model.errors import Fault
from model.job import (
    CHILD_ID_BYTES,
    COUNT_MAX,
    JOB_ID_BYTES_MAX,
    Job,
    JobType,
    Network,
    Resources,
    Task,
    TaskGroup,
    has_control,
)

Faults = Iterator[Fault]

# Nomad's limits (structs.Resources.MinResources, structs.DefaultPriority).
CPU_MIN_MHZ = 1
MEMORY_MIN_MB = 10
PORT_MAX = 65535
HOOKS = ("prestart", "poststart", "poststop")


def job_faults(job: Job) -> tuple[Fault, ...]:
    """Everything wrong with a canonical job, in the order of the document."""
    path = f"job.{job.id[:JOB_ID_BYTES_MAX]}" if job.id else "job"
    faults = [*_job(job, path), *unsupported_faults(job, path)]
    return tuple(dict.fromkeys(map(one_line, faults)))


def _fault(path: str, message: str) -> Fault:
    return Fault(path=path, message=message)


def _job(job: Job, path: str) -> Faults:
    yield from _names(job, path)
    if job.scheduler_algorithm not in ("", "binpack", "spread"):
        yield _fault(
            f"{path}.scheduler_algorithm", f'must be binpack or spread, found "{job.scheduler_algorithm[:60]}"'
        )
    if not 1 <= job.priority <= 100:
        yield _fault(f"{path}.priority", f"must be between 1 and 100, found {job.priority}")
    if not job.datacenters:
        yield _fault(f"{path}.datacenters", 'at least one datacenter is needed (as datacenters = ["dc1"])')
    for name in job.datacenters:
        if not name or "\0" in name:
            yield _fault(f"{path}.datacenters", "a datacenter's name is empty or holds a NUL")
    yield from constraint_faults(job.constraints, path)
    yield from affinity_faults(job.affinities, path, is_system=job.type is JobType.SYSTEM)
    yield from spread_faults(job.spreads, path, is_system=job.type is JobType.SYSTEM)
    yield from parent_faults(job, path)
    yield from upstream_faults(job.meta, path)
    if not job.task_groups:
        yield _fault(path, "a job needs at least one group")
    wanted = sum(max(group.count, group.places, 0) for group in job.task_groups)
    if wanted > COUNT_MAX:
        yield _fault(path, f"asks for {wanted} instances in all (at most {COUNT_MAX})")
    yield from _doubles((group.name for group in job.task_groups), "group", path)
    for group in job.task_groups:
        yield from _group(job, group, f"{path}.group.{group.name}")


def _names(job: Job, path: str) -> Faults:
    if not job.id:
        yield _fault(path, "a job needs an ID")
    if " " in job.id:
        yield _fault(f"{path}.id", "a job's ID cannot hold a space")
    if has_control(job.id):
        yield _fault(f"{path}.id", "a job's ID cannot hold a control character")
    if "\0" in job.name:
        yield _fault(path, "the job's name holds a NUL character")
    limit = JOB_ID_BYTES_MAX - (CHILD_ID_BYTES if job.is_parent else 0)
    if (size := len(job.id.encode(errors="replace"))) > limit:
        why = ", so that its children's can be longer" if job.is_parent else ""
        yield _fault("job.id", f"a job's ID has {limit} bytes at most{why}, found {size}")


def _doubles(names: Iterable[str], kind: str, path: str) -> Faults:
    seen: set[str] = set()
    for name in names:
        if not name:
            yield _fault(path, f"a {kind} has no name")
        elif name in seen:
            yield _fault(f"{path}.{kind}.{name}", f'there are two {kind}s named "{name}"')
        seen.add(name)


# ---- groups


def _group(job: Job, group: TaskGroup, path: str) -> Faults:
    if "\0" in group.name:
        yield _fault(path, "the group's name holds a NUL character")
    if group.count < 0:
        yield _fault(f"{path}.count", f"must not be negative, found {group.count}")
    if job.type is JobType.SYSTEM and group.count > 1:
        yield _fault(f"{path}.count", f"a system job runs once on every node: count cannot be {group.count}")
    yield from _policies(job, group, path)
    if group.ephemeral_disk.size_mb < 10:
        yield _fault(
            f"{path}.ephemeral_disk.size", f"must be at least 10 MB, found {group.ephemeral_disk.size_mb}"
        )
    for name, span in (
        ("shutdown_delay", group.shutdown_delay),
        ("stop_after_client_disconnect", group.stop_after_client_disconnect or 0),
    ):
        if span < 0:
            yield _fault(f"{path}.{name}", "must not be negative")
    yield from disconnect_faults(group, path)
    if group.completion is not None:
        yield from completion_faults(group, group.completion, f"{path}.completion", job.type)
    yield from _scaling(group, path)
    yield from _networks(group.networks, path)
    yield from service_faults(group.services, group, None, path)
    yield from upstream_faults(group.meta, path)
    if not group.tasks and not any(service.connect for service in group.services):  # a gateway has none of its own
        yield _fault(path, "a group needs at least one task")
    yield from _doubles((task.name for task in group.tasks), "task", path)
    leaders = [task.name for task in group.tasks if task.leader]
    if len(leaders) > 1:
        yield _fault(path, f"only one task can be the leader, found {', '.join(leaders)}")
    for task in group.tasks:
        yield from _task(job, group, task, f"{path}.task.{task.name}")
    yield from _static_ports(group, path)
    yield from volume_faults(job, group, path)


def _policies(job: Job, group: TaskGroup, path: str) -> Faults:
    is_system = job.type is JobType.SYSTEM
    yield from constraint_faults(group.constraints, path)
    yield from affinity_faults(group.affinities, path, is_system=is_system)
    yield from spread_faults(group.spreads, path, is_system=is_system)
    yield from restart_faults(group.restart_policy, f"{path}.restart")
    if group.reschedule_policy is not None:
        if is_system:
            yield _fault(f"{path}.reschedule", "a system job cannot have a reschedule policy")
        else:
            yield from reschedule_faults(group.reschedule_policy, f"{path}.reschedule")
    if group.update is not None:
        if job.is_batch:
            yield _fault(f"{path}.update", f"a {job.type} job cannot have an update block")
        yield from update_faults(group.update, f"{path}.update")
    if group.migrate is not None:
        if job.type is not JobType.SERVICE:
            yield _fault(f"{path}.migrate", f"a {job.type} job cannot have a migrate block")
        yield from migrate_faults(group.migrate, f"{path}.migrate")


def _scaling(group: TaskGroup, path: str) -> Faults:
    if group.scaling is None:
        return
    low, high = group.scaling.get("Min", 0), group.scaling.get("Max")
    if high is None:
        yield _fault(f"{path}.scaling", "max is needed")
        return
    if low < 0 or high < low:
        yield _fault(f"{path}.scaling", f"min ({low}) must be between 0 and max ({high})")
    elif not low <= group.count <= high:
        yield _fault(f"{path}.scaling", f"count ({group.count}) must be between min ({low}) and max ({high})")


def _networks(networks: Sequence[Network], path: str) -> Faults:
    labels: set[str] = set()
    for number, network in enumerate(networks):
        here = f"{path}.network[{number}]"
        for port in (*network.reserved_ports, *network.dynamic_ports):
            where = f"{here}.port.{port.label}"
            if not port.label:
                yield _fault(here, "a port has no label")
            elif port.label in labels:
                yield _fault(where, f'there are two ports labelled "{port.label}"')
            labels.add(port.label)
            if not 0 <= port.value <= PORT_MAX:
                yield _fault(f"{where}.static", f"must be between 1 and {PORT_MAX}, found {port.value}")
            if not -1 <= port.to <= PORT_MAX:
                yield _fault(f"{where}.to", f"must be between -1 and {PORT_MAX}, found {port.to}")


def _static_ports(group: TaskGroup, path: str) -> Faults:
    """Two tasks of one group run on one node: a static port can be taken once."""
    taken: dict[tuple[int, str], str] = {}
    places = [(f"{path}.network[{number}]", network) for number, network in enumerate(group.networks)]
    for task in group.tasks:
        here = f"{path}.task.{task.name}.resources.network"
        places += [(f"{here}[{number}]", network) for number, network in enumerate(task.resources.networks)]
    for here, network in places:
        for port in network.reserved_ports:
            earlier = taken.setdefault((port.value, port.host_network), port.label)
            if earlier != port.label:
                yield _fault(
                    f"{here}.port.{port.label}.static", f'port {port.value} is already taken by "{earlier}"'
                )


# ---- tasks


def _task(job: Job, group: TaskGroup, task: Task, path: str) -> Faults:
    if "/" in task.name or "\\" in task.name or "\0" in task.name:
        yield _fault(path, "a task's name cannot hold a slash, a backslash or a NUL")
    if not task.driver:
        yield _fault(f"{path}.driver", "a driver is needed (docker, exec, java or raw_exec)")
    if task.kill_timeout < 0:
        yield _fault(f"{path}.kill_timeout", "must not be negative")
    if task.shutdown_delay < 0:
        yield _fault(f"{path}.shutdown_delay", "must not be negative")
    if reason := signal_fault(task.kill_signal, task.driver):
        yield _fault(f"{path}.kill_signal", reason)
    if task.lifecycle is not None and task.lifecycle.hook not in HOOKS:
        known = ", ".join(HOOKS[:-1])
        yield _fault(f"{path}.lifecycle.hook", f'must be {known} or {HOOKS[-1]}, found "{task.lifecycle.hook}"')
    yield from dispatch_payload_faults(task, path)
    yield from _resources(task.resources, f"{path}.resources")
    yield from _logs(group, task, path)
    yield from config_faults(task.driver, task.config, f"{path}.config")
    yield from constraint_faults(task.constraints, path, is_task=True)
    yield from affinity_faults(task.affinities, path, is_system=job.type is JobType.SYSTEM)
    if task.restart_policy != group.restart_policy:  # else it is the group's, and said there
        yield from restart_faults(task.restart_policy, f"{path}.restart")
    yield from service_faults(task.services, group, task, path)
    yield from upstream_faults(task.meta, path)
    yield from _files(task, path)


def _resources(resources: Resources, path: str) -> Faults:
    if resources.cpu and resources.cores:
        yield _fault(f"{path}.cores", "either cpu or cores can be asked for, not both")
    if resources.cpu < CPU_MIN_MHZ and not resources.cores:
        yield _fault(f"{path}.cpu", f"must be at least {CPU_MIN_MHZ} MHz, found {resources.cpu}")
    if resources.memory_mb < MEMORY_MIN_MB:
        yield _fault(f"{path}.memory", f"must be at least {MEMORY_MIN_MB} MB, found {resources.memory_mb}")
    if resources.memory_max_mb and resources.memory_max_mb < resources.memory_mb:
        yield _fault(
            f"{path}.memory_max",
            f"({resources.memory_max_mb} MB) must be larger than memory ({resources.memory_mb} MB)",
        )
    for name, value in (("disk", resources.disk_mb), ("cores", resources.cores)):
        if value < 0:
            yield _fault(f"{path}.{name}", f"must not be negative, found {value}")
    yield from _networks(resources.networks, path)


def _logs(group: TaskGroup, task: Task, path: str) -> Faults:
    logs = task.log_config
    for name, value in (("max_files", logs.max_files), ("max_file_size", logs.max_file_size_mb)):
        if value < 1:
            yield _fault(f"{path}.logs.{name}", f"must be at least 1, found {value}")
    needed, offered = logs.max_files * logs.max_file_size_mb, group.ephemeral_disk.size_mb
    if needed >= offered > 0:
        yield _fault(
            f"{path}.logs",
            f"log files of {needed} MB must be smaller than the group's ephemeral_disk of {offered} MB",
        )


def _files(task: Task, path: str) -> Faults:
    for number, template in enumerate(task.templates):
        yield from template_faults(template, task, f"{path}.template[{number}]")
    for number, artifact in enumerate(task.artifacts):
        yield from artifact_faults(artifact, f"{path}.artifact[{number}]")
    if task.vault is not None:
        if not task.vault.policies and not task.vault.role:
            yield _fault(f"{path}.vault", "at least one policy is needed, or a role that has some")
        if "root" in task.vault.policies:
            yield _fault(f"{path}.vault.policies", 'no task gets "root"')
        if task.vault.change_mode not in ("noop", "signal", "restart"):
            yield _fault(
                f"{path}.vault.change_mode",
                f'must be noop, signal or restart, found "{task.vault.change_mode}"',
            )
        elif task.vault.change_mode == "signal" and (reason := signal_fault(task.vault.change_signal, task.driver)):
            yield _fault(f"{path}.vault.change_signal", reason)
