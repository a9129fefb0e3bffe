"""What is part of a Nomad job and not of drover, yet?

One table: each row finds its feature in a job and says what to do instead. A feature leaves the table in
the change that brings it. Nothing is dropped silently: what drover cannot do, it refuses by name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from model.errors import Fault
from model.job import Job, Network, Service, ServiceCheck, Task, TaskGroup, VolumeRequest

_DRIVERS = ("docker", "exec", "java", "raw_exec")

Paths = Iterator[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsupported:
    """feature: its name in the message. places: the paths below `job.NAME` at which a job uses it."""

    feature: str
    instead: str
    places: Callable[[Job], Paths]


def unsupported_faults(job: Job, path: str) -> Iterator[Fault]:
    """A fault for every use of something drover does not have."""
    for row in TABLE:
        for place in row.places(job):
            message = f"{row.feature} is not supported by drover yet ({row.instead})"
            yield Fault(path=f"{path}.{place}", message=message)
    for place, driver in _drivers(job):
        yield Fault(
            path=f"{path}.{place}",
            message=f'the driver "{driver[:60]}" is not supported by drover yet (use docker, exec, java or raw_exec)',
        )


def _groups(job: Job) -> Iterator[tuple[str, TaskGroup]]:
    for group in job.task_groups:
        yield f"group.{group.name}", group


def _tasks(job: Job) -> Iterator[tuple[str, Task]]:
    for path, group in _groups(job):
        for task in group.tasks:
            yield f"{path}.task.{task.name}", task


def _of_job(name: str, has: Callable[[Job], object]) -> Callable[[Job], Paths]:
    return lambda job: iter((name,) if has(job) else ())


def _of_groups(name: str, has: Callable[[TaskGroup], object]) -> Callable[[Job], Paths]:
    return lambda job: (f"{path}.{name}" for path, group in _groups(job) if has(group))


def _of_tasks(name: str, has: Callable[[Task], object]) -> Callable[[Job], Paths]:
    return lambda job: (f"{path}.{name}" for path, task in _tasks(job) if has(task))


def _volumes(is_wanted: Callable[[VolumeRequest], object]) -> Callable[[Job], Paths]:
    return lambda job: (
        f"{path}.volume.{name}" for path, group in _groups(job) for name, volume in group.volumes.items() if is_wanted(volume)
    )


def _networks(job: Job) -> Iterator[tuple[str, Network]]:
    for path, group in _groups(job):
        for number, network in enumerate(group.networks):
            yield f"{path}.network[{number}]", network
    for path, task in _tasks(job):
        for number, network in enumerate(task.resources.networks):
            yield f"{path}.resources.network[{number}]", network


def _network_modes(is_wanted: Callable[[str], bool]) -> Callable[[Job], Paths]:
    return lambda job: (f"{path}.mode" for path, network in _networks(job) if is_wanted(network.mode))


def _services(job: Job) -> Iterator[tuple[str, Service]]:
    for holder_path, services in (
        *((path, group.services) for path, group in _groups(job)),
        *((path, task.services) for path, task in _tasks(job)),
    ):
        for number, service in enumerate(services):
            yield f"{holder_path}.service[{number}]", service


def _connect(job: Job) -> Paths:
    return (f"{path}.connect" for path, service in _services(job) if service.connect)


def _of_services(name: str, has: Callable[[Service], object]) -> Callable[[Job], Paths]:
    return lambda job: (f"{path}.{name}" for path, service in _services(job) if has(service))


def _of_checks(name: str, has: Callable[[ServiceCheck], object]) -> Callable[[Job], Paths]:
    return lambda job: (
        f"{path}.check[{number}].{name}"
        for path, service in _services(job)
        for number, check in enumerate(service.checks)
        if has(check)
    )


def _of_networks(name: str, has: Callable[[Network], object]) -> Callable[[Job], Paths]:
    return lambda job: (f"{path}.{name}" for path, network in _networks(job) if has(network))


def _expose(job: Job) -> Paths:
    for path, service in _services(job):
        for at, check in enumerate(service.checks):
            if check.expose:
                yield f"{path}.check[{at}].expose"


def _drivers(job: Job) -> Iterator[tuple[str, str]]:
    for path, task in _tasks(job):
        if task.driver and task.driver not in _DRIVERS:
            yield f"{path}.driver", task.driver


TABLE: tuple[Unsupported, ...] = (
    Unsupported(
        feature="multiregion",
        instead="run the job once in each region",
        places=_of_job("multiregion", lambda j: j.multiregion is not None),
    ),
    Unsupported(feature="connect", instead="let the service listen on a port of its own", places=_connect),
    Unsupported(feature="a check with expose", instead="give the check a port of its own", places=_expose),
    Unsupported(
        feature="a CSI volume",
        instead="mount it on the nodes and offer it as a host volume",
        places=_volumes(lambda volume: volume.type == "csi"),
    ),
    Unsupported(
        feature="a sticky volume",
        instead="name a host volume that only one node has",
        places=_volumes(lambda volume: volume.sticky),
    ),
    Unsupported(
        feature="selinux_label",
        instead="label the directory on the nodes",
        places=_of_tasks("volume_mount[0].selinux_label", lambda t: any(mount.selinux_label for mount in t.volume_mounts)),
    ),
    Unsupported(
        feature="csi_plugin",
        instead="run the plugin outside of drover",
        places=_of_tasks("csi_plugin", lambda t: t.csi_plugin_config),
    ),
    Unsupported(
        feature="device",
        instead="choose nodes with a constraint",
        places=_of_tasks("resources.device", lambda t: t.resources.devices),
    ),
    Unsupported(
        feature="a Vault cluster",
        instead='leave cluster out, or "default": an agent knows one Vault',
        places=_of_tasks("vault.cluster", lambda t: t.vault and t.vault.cluster not in ("", "default")),
    ),
    Unsupported(
        feature="a Consul namespace",
        instead="leave the consul block out",
        places=_of_groups("consul", lambda g: g.consul and g.consul.get("Namespace")),
    ),
    Unsupported(
        feature='network mode "bridge"',
        instead='use mode "host"',
        places=_network_modes(lambda mode: mode == "bridge"),
    ),
    Unsupported(
        feature="a CNI network",
        instead='use mode "host"',
        places=_network_modes(lambda mode: mode.startswith("cni/")),
    ),
    Unsupported(
        feature="this network mode",
        instead='use mode "host"',
        places=_network_modes(
            lambda mode: mode not in ("", "host", "bridge") and not mode.startswith("cni/")
        ),
    ),
    Unsupported(
        feature="a node pool",
        instead="name a virtual datacenter in datacenters",
        places=_of_job("node_pool", lambda j: j.node_pool != "default"),
    ),
    Unsupported(
        feature="max_run_duration",
        instead="start the command with timeout(1)",
        places=_of_groups("max_run_duration", lambda g: g.max_run_duration is not None),
    ),
    Unsupported(
        feature="a provider other than Consul",
        instead='services are registered in Consul: provider = "consul"',
        places=_of_services("provider", lambda s: s.provider != "consul"),
    ),
    Unsupported(
        feature="a further Consul cluster",
        instead="services go to the cluster of their node",
        places=_of_services("cluster", lambda s: s.cluster not in ("", "default")),
    ),
    Unsupported(
        feature="a service's kind",
        instead="register a gateway outside of drover",
        places=_of_services("kind", lambda s: s.kind),
    ),
    Unsupported(
        feature="a workload identity",
        instead="give the task a secret from Vault",
        places=_of_services("identity", lambda s: s.identity),
    ),
    Unsupported(
        feature="a workload identity",
        instead="give the task a secret from Vault",
        places=_of_tasks("identity", lambda t: t.identity or t.identities),
    ),
    Unsupported(
        feature="advertise in a check",
        instead="set the service's address_mode",
        places=_of_checks("advertise", lambda c: c.advertise),
    ),
    Unsupported(
        feature="tls_server_name",  # Consul 1.8 refuses the whole service then
        instead="check by the name the certificate has",
        places=_of_checks("tls_server_name", lambda c: c.tls_server_name),
    ),
    Unsupported(
        feature="failures_before_warning",
        instead="use failures_before_critical",
        places=_of_checks("failures_before_warning", lambda c: c.failures_before_warning),
    ),
    Unsupported(
        feature="an action",
        instead="use alloc exec",
        places=_of_tasks("action", lambda t: t.actions),
    ),
    Unsupported(
        feature="a task's consul block",
        instead="leave it out: tasks use the Consul agent of their node",
        places=_of_tasks("consul", lambda t: t.consul),
    ),
    Unsupported(
        feature="schedule",
        instead="let two periodic jobs start and stop it",
        places=_of_tasks("schedule", lambda t: t.schedule),
    ),
    Unsupported(
        feature="secret",
        instead="use a template with a secret from Vault",
        places=_of_tasks("secret", lambda t: t.secrets),
    ),
    Unsupported(
        feature="numa",
        instead="choose nodes with a constraint",
        places=_of_tasks("resources.numa", lambda t: t.resources.numa),
    ),
    Unsupported(
        feature="a size of the secrets directory",
        instead="leave it out",
        places=_of_tasks("resources.secrets", lambda t: t.resources.secrets_mb),
    ),
    Unsupported(
        feature="a task without logs",
        instead="lower max_files and max_file_size",
        places=_of_tasks("logs.disabled", lambda t: t.log_config.disabled),
    ),
    Unsupported(
        feature="render_templates",
        instead="leave it out",
        places=_of_tasks("restart.render_templates", lambda t: t.restart_policy.render_templates),
    ),
    Unsupported(
        feature="a network's hostname",
        instead="set hostname in the docker driver's config",
        places=_of_networks("hostname", lambda n: n.hostname),
    ),
    Unsupported(
        feature="ignore_collision",
        instead="give each job a port of its own",
        places=lambda job: (
            f"{path}.port.{port.label}.ignore_collision"
            for path, network in _networks(job)
            for port in (*network.reserved_ports, *network.dynamic_ports)
            if port.ignore_collision
        ),
    ),
)
