"""Which environment does a task see?

Nomad's variables, exactly by its names; the job file's own `env` over them, interpolated; what hooks
add (rendered templates, a Vault token) last. One function per family, in Nomad's order of precedence.

Directories are passed in as the task sees them: a container sees /alloc, a process the host's paths.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.cpuset import cpuset
from agent.drivers.base import SeenDirs
from jobspec.interpolate import interpolate_strings
from model.alloc import AllocatedPort, DesiredAlloc
from model.job import Job, Task, TaskGroup
from model.node import Node

_ODD = re.compile(r"[^a-zA-Z0-9_.]")

# A name that a shell can hold.
SHELL_NAME = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]*$")

# What an agent holds for itself and no task may inherit.
SECRET_VARIABLES = re.compile(r"^(CONSUL_.*TOKEN.*|VAULT_TOKEN|NOMAD_TOKEN|DROVER_.*TOKEN.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnv:
    """variables: the task's environment. values: these and the node's facts, for ${...} in its config."""

    variables: Mapping[str, str]
    values: Mapping[str, str]


def task_env(
    *,
    desired: DesiredAlloc,
    job: Job,
    group: TaskGroup,
    task: Task,
    node: Node,
    dirs: SeenDirs,
    extra: Mapping[str, str] | None = None,
) -> TaskEnv:
    """extra: what hooks found out, as secrets and rendered templates; it wins over all else."""
    variables = {
        **_names(desired, job, group, task, node),
        **_limits(task, node, desired.cores_of(task.name)),
        **_dirs(dirs),
        **_meta(job, group, task),
        **_ports(desired.ports, group, task),
    }
    facts = node_facts(node)
    # Two rounds: env may name Nomad's variables, config and services may name env too.
    own = interpolate_strings(task.env, {**facts, **variables})
    variables |= {clean_name(name): value for name, value in own.items()}
    variables |= dict(extra or {})
    return TaskEnv(variables=variables, values={**facts, **variables})


def node_facts(node: Node) -> Mapping[str, str]:
    """What ${node...}, ${attr...} and ${meta...} name."""
    return {
        "node.unique.id": node.id,
        "node.datacenter": node.datacenter,
        "node.unique.name": node.name,
        "node.class": node.node_class,
        "node.region": "global",
        **{f"attr.{name}": value for name, value in node.attributes.items()},
        **{f"meta.{name}": value for name, value in node.meta.items()},
    }


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """What a raw_exec task inherits of the agent's own environment: all but its secrets."""
    return {name: value for name, value in environ.items() if not SECRET_VARIABLES.match(name)}


def clean_name(name: str) -> str:
    """An environment variable's name as Nomad writes it: odd characters become underscores."""
    return _ODD.sub("_", name)


def _names(desired: DesiredAlloc, job: Job, group: TaskGroup, task: Task, node: Node) -> dict[str, str]:
    names = {
        "NOMAD_ALLOC_ID": desired.id,
        "NOMAD_SHORT_ALLOC_ID": desired.id[:8],
        "NOMAD_ALLOC_NAME": desired.name,
        "NOMAD_ALLOC_INDEX": str(desired.index),
        "NOMAD_TASK_NAME": task.name,
        "NOMAD_GROUP_NAME": group.name,
        "NOMAD_JOB_ID": job.id,
        "NOMAD_JOB_NAME": job.name,
        "NOMAD_NAMESPACE": job.namespace,
        "NOMAD_DC": node.datacenter,
        "NOMAD_REGION": job.region,
    }
    if job.parent_id:
        names["NOMAD_JOB_PARENT_ID"] = job.parent_id
    if group.completion is not None and group.completion.indexed:
        names["DROVER_COMPLETION_INDEX"] = str(desired.index)
    return names


def cpu_mhz(task: Task, node: Node) -> int:
    """What the task may use: as asked for, or what its own cores count for on this node."""
    resources = task.resources
    return resources.cores * node.resources.core_mhz if resources.cores else resources.cpu


def _limits(task: Task, node: Node, cores: tuple[int, ...]) -> dict[str, str]:
    limits = {
        "NOMAD_CPU_LIMIT": str(cpu_mhz(task, node)),
        "NOMAD_MEMORY_LIMIT": str(task.resources.memory_mb),
    }
    if cores:
        limits["NOMAD_CPU_CORES"] = cpuset(cores)
    if task.resources.memory_max_mb:
        limits["NOMAD_MEMORY_MAX_LIMIT"] = str(task.resources.memory_max_mb)
    return limits


def _dirs(dirs: SeenDirs) -> dict[str, str]:
    return {
        "NOMAD_ALLOC_DIR": dirs.alloc,
        "NOMAD_TASK_DIR": dirs.local,
        "NOMAD_SECRETS_DIR": dirs.secrets,
    }


def _meta(job: Job, group: TaskGroup, task: Task) -> dict[str, str]:
    """Each key as written and in capitals; the task's over the group's over the job's."""
    merged = {**job.meta, **group.meta, **task.meta}
    as_written = {clean_name(f"NOMAD_META_{key}"): value for key, value in merged.items()}
    return {clean_name(f"NOMAD_META_{key.upper()}"): value for key, value in merged.items()} | as_written


def _ports(ports: tuple[AllocatedPort, ...], group: TaskGroup, task: Task) -> dict[str, str]:
    """The group's ports by label; ports that a task asked for by <task>_<label> too, and by label to itself."""
    owners = {
        port.label: owner.name
        for owner in group.tasks
        for network in owner.resources.networks
        for port in (*network.reserved_ports, *network.dynamic_ports)
    }
    variables: dict[str, str] = {}
    for port in ports:
        owner = owners.get(port.label)
        if owner is not None:
            variables |= _port(f"{owner}_{port.label}", port)
        if owner is None or owner == task.name:
            variables |= _port(port.label, port)
    return variables


def _port(label: str, port: AllocatedPort) -> dict[str, str]:
    ip = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
    named = {
        "IP": port.host_ip,
        "PORT": str(port.to or port.value),
        "ADDR": f"{ip}:{port.value}",
        "HOST_IP": port.host_ip,
        "HOST_PORT": str(port.value),
        "HOST_ADDR": f"{ip}:{port.value}",
    }
    return {clean_name(f"NOMAD_{name}_{label}"): value for name, value in named.items()}
