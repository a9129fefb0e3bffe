"""What in a job is allowed and yet probably not what its author meant?"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec

from jobspec.canonical import BATCH_RESCHEDULE, BATCH_RESTART
from jobspec.cron import CronFault, next_launch
from jobspec.interpolate import interpolate, without_references
from model.job import Affinity, Constraint, Job, Network, PeriodicConfig, Service, Task, TaskGroup

# What placement knows of a node, beside its attributes and metadata.
NODE_NAMES = (
    "node.unique.id",
    "node.unique.name",
    "node.datacenter",
    "node.physical_datacenter",
    "node.virtual_datacenter",
    "node.class",
)
_KNOWN = re.compile(rf"{'|'.join(map(re.escape, NODE_NAMES))}|(attr|meta|unique)\..+")


def job_warnings(job: Job) -> tuple[str, ...]:
    """One sentence per finding, with the path it is about."""
    return tuple(dict.fromkeys(_job(job)))


def _job(job: Job) -> Iterator[str]:
    path = f"job.{job.id}"
    if job.update is not None and job.update.auto_promote:
        without = [group.name for group in job.task_groups if group.update and not group.update.canary]
        if without and len(without) < len(job.task_groups):
            yield f"{path}.update: auto_promote without canaries in group {', '.join(without)}"
    yield from _targets(job, path)
    if job.periodic is not None:
        yield from _periodic(job.periodic, f"{path}.periodic")
    for group in job.task_groups:
        yield from _group(job, group, f"{path}.group.{group.name}")


def _periodic(settings: PeriodicConfig, path: str) -> Iterator[str]:
    for name, span in (("starting_deadline", settings.starting_deadline), ("expect_within", settings.expect_within)):
        if span is not None and 0 < span < 1_000_000_000:
            yield f"{path}.{name}: below a second, which is the finest that runs are timed by: it counts as 1s"
    for spec in settings.all_specs if settings.enabled else ():
        with suppress(CronFault):
            if next_launch((spec,), settings.time_zone, int(time.time())) is None:
                yield f'{path}.cron: "{spec[:60]}" names no moment of the next 50 years: nothing starts by it'


def _completion(group: TaskGroup, path: str) -> Iterator[str]:
    """Of blocks that have no effect beside it. What is as the default was perhaps written by nobody."""
    if group.completion is None:
        return
    if group.reschedule_policy is not None and group.reschedule_policy != BATCH_RESCHEDULE:
        yield f"{path}.reschedule: has no effect beside completion, whose backoff_limit and backoff_* say how often and when"
    policies = (group.restart_policy, *(task.restart_policy for task in group.tasks if not task.lifecycle))
    if any(msgspec.structs.replace(policy, render_templates=False) != BATCH_RESTART for policy in policies):
        yield f"{path}.restart: attempts and delay have no effect beside completion, whose backoff_limit and backoff_* say how often and when"


def _group(job: Job, group: TaskGroup, path: str) -> Iterator[str]:
    known = {
        "NOMAD_GROUP_NAME": group.name,
        "NOMAD_JOB_ID": job.id,
        "NOMAD_JOB_NAME": job.name,
        "NOMAD_NAMESPACE": job.namespace,
        "NOMAD_REGION": job.region,
    }
    yield from _targets(group, path)
    yield from _completion(group, path)
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
    yield from _targets(task, path)
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


def _targets(of: Job | TaskGroup | Task, path: str) -> Iterator[str]:
    """References in constraints, affinities and spreads that no node has a value for."""
    texts: list[tuple[str, str]] = []
    asked: dict[str, Sequence[Constraint | Affinity]] = {"constraint": of.constraints, "affinity": of.affinities}
    for kind, rules in asked.items():
        for number, rule in enumerate(rules):
            here = f"{path}.{kind}[{number}]"
            texts.append((f"{here}.attribute", rule.ltarget))
            if rule.operand != "regexp":  # a pattern may hold "${" of its own
                texts.append((f"{here}.value", rule.rtarget))
    spreads = () if isinstance(of, Task) else of.spreads
    texts += [(f"{path}.spread[{number}].attribute", spread.attribute) for number, spread in enumerate(spreads)]
    for where, text in texts:
        whole = re.fullmatch(r"\$\{([^{}]+)\}", text)
        if "${" in text and whole is None:
            yield f'{where}: "{text[:60]}" is compared as it is written: only a whole ${{name}} stands for a node\'s value'
        elif whole is not None and not _KNOWN.fullmatch(whole[1]):
            yield (
                f'{where}: no node has a value for "{text[:60]}"'
                f" (known: {', '.join(NODE_NAMES)}, attr.NAME as in drover node status -verbose, meta.KEY)"
            )


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
