"""What in a job is allowed and yet probably not what its author meant?"""

from collections.abc import Iterator, Mapping

from jobspec.interpolate import interpolate, without_references
from model.job import Job, Network, Service, Task, TaskGroup


def job_warnings(job: Job) -> tuple[str, ...]:
    """One sentence per finding, with the path it is about."""
    return tuple(dict.fromkeys(_job(job)))


def _job(job: Job) -> Iterator[str]:
    path = f"job.{job.id}"
    if job.update is not None and job.update.auto_promote:
        without = [group.name for group in job.task_groups if group.update and not group.update.canary]
        if without and len(without) < len(job.task_groups):
            yield f"{path}.update: auto_promote without canaries in group {', '.join(without)}"
    for group in job.task_groups:
        yield from _group(job, group, f"{path}.group.{group.name}")


def _group(job: Job, group: TaskGroup, path: str) -> Iterator[str]:
    known = {
        "NOMAD_GROUP_NAME": group.name,
        "NOMAD_JOB_ID": job.id,
        "NOMAD_JOB_NAME": job.name,
        "NOMAD_NAMESPACE": job.namespace,
        "NOMAD_REGION": job.region,
    }
    yield from _networks(group.networks, path)
    yield from _services(group.services, path, known)
    if group.count > 1:
        static = [port.label for network in group.networks for port in network.reserved_ports]
        if static:
            yield f"{path}: {group.count} instances with a static port ({', '.join(static)}) each need a node of their own"
    if group.tasks and all(task.lifecycle for task in group.tasks):
        yield f"{path}: every task has a lifecycle block, there is no main task that they belong to"
    for task in group.tasks:
        yield from _task(task, f"{path}.task.{task.name}", {**known, "NOMAD_TASK_NAME": task.name})


def _task(task: Task, path: str, known: Mapping[str, str]) -> Iterator[str]:
    for number, _ in enumerate(task.resources.networks):
        yield f"{path}.resources.network[{number}]: deprecated, write the network block in the group"
    yield from _networks(task.resources.networks, f"{path}.resources")
    yield from _services(task.services, path, known)
    if task.resources.memory_max_mb and task.driver == "raw_exec":
        yield f"{path}.resources.memory_max: raw_exec limits no memory, it has no effect"
    if task.lifecycle and task.lifecycle.hook == "poststop" and task.lifecycle.sidecar:
        yield f"{path}.lifecycle.sidecar: has no effect on a poststop task, which runs once"
    if task.volume_mounts and task.driver == "raw_exec":
        yield f"{path}.volume_mount: raw_exec cannot mount volumes, the task will fail when it starts"
    if task.resources.iops:
        yield f"{path}.resources.iops: deprecated, it has no effect"
    if task.resources.disk_mb:
        yield f"{path}.resources.disk: deprecated, write ephemeral_disk in the group"


def _networks(networks: tuple[Network, ...], path: str) -> Iterator[str]:
    for number, network in enumerate(networks):
        if network.mbits:
            yield f"{path}.network[{number}].mbits: deprecated, it has no effect"


def _services(services: tuple[Service, ...], path: str, known: Mapping[str, str]) -> Iterator[str]:
    """known: what references stand for already; one that only the node knows says nothing of the name."""
    for number, service in enumerate(services):
        here = f"{path}.service[{number}]"
        name = interpolate(service.name, known)
        if "_" in without_references(name):
            yield f'{here}.name: "{name}" cannot be looked up in DNS'
        for at, check in enumerate(service.checks):
            if check.timeout > check.interval > 0:
                yield f"{here}.check[{at}].timeout: longer than the interval"
