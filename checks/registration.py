"""What does Consul's local agent get to know of an alloc's services?

Pure: an alloc, its job's service and a task's interpolation in, the registration document of
`PUT /v1/agent/service/register` out, with all its checks in the same call and initially critical, so
that nothing is found through DNS before its first passing check. Ids are deterministic: registering
again changes nothing.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from checks.check_restart import Rule
from jobspec.dns_label import label_fault
from model.alloc import AllocatedPort, DesiredAlloc
from model.errors import TaskRefused
from model.job import Service, ServiceCheck
from model.node import NodeId
from model.wire import seconds

# Everything of drover's on a Consul agent carries its node's id in this meta; the id prefix alone proves nothing.
META_NODE = "drover_node"
META_ALLOC = "drover_alloc"
# And on a node's own service the boot of its machine.
META_BOOT = "drover_boot"
# A TTL check lapses this long after its next result was due: a starved machine is no failed check.
TTL_SLACK_S = 30.0

Interpolate = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckRegistration:
    """One check: Consul's id for it, its name there, what it asks, and when it restarts a task (None: never)."""

    id: str
    name: str
    spec: ServiceCheck
    rule: Rule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskNetwork:
    """A task's own address, as a container has one. ports: {label: the number inside}. is_advertised: whether services
    with address_mode auto are found there rather than at the machine's."""

    address: str
    ports: Mapping[str, int]
    is_advertised: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One service as drover wants it on the local Consul agent. `document` is the body to PUT."""

    id: str
    alloc_id: str
    task_name: str
    document: Mapping[str, Any]
    checks: tuple[CheckRegistration, ...]


def service_id(desired: DesiredAlloc, owner: str, service: Service, name: str) -> str:
    """owner: the task's name, or `group-<group>` for a service of the group."""
    return f"_drover-task-{desired.id}-{owner}-{name}-{service.port_label}"


def register(
    desired: DesiredAlloc,
    service: Service,
    *,
    task_name: str,
    node_id: NodeId,
    address: str,
    interpolate: Interpolate,
    network: TaskNetwork | None = None,
) -> Registration:
    """The registration of one service. task_name: empty for a service of the group.

    address: the node's own. network: the task's own, for address_mode driver, and for auto where it is advertised. Raises
    TaskRefused for a name that DNS cannot hold, and for address_mode driver without such a network.
    """
    owner = task_name or f"group-{desired.task_group}"
    name = interpolate(service.name)
    if fault := label_fault(name):
        raise TaskRefused(f"service {fault}")
    registration_id = service_id(desired, owner, service, name)
    ports = {port.label: port for port in desired.ports}
    host, number = endpoint(service.port_label, service.address_mode, ports, address, network)
    checks: list[CheckRegistration] = []
    documents: list[dict[str, Any]] = []
    for position, check in enumerate(service.checks):
        digest = hashlib.sha256(f"{registration_id}\0{position}\0{check.type}\0{check.name}".encode()).hexdigest()
        check_id = f"_drover-check-{digest[:40]}"
        # As in Nomad a check goes by the machine's address, where Consul's agent is, unless it is told otherwise.
        mode = check.address_mode or ("driver" if service.address_mode == "driver" else "host")
        target = endpoint(check.port_label or service.port_label, mode, ports, address, network)
        documents.append(check_document(check, check_id, target, interpolate))
        checks.append(
            CheckRegistration(id=check_id, name=interpolate(check.name), spec=check, rule=rule_of(check))
        )
    # As in Nomad: a canary has its own tags and meta where there are some, until it is promoted.
    tags = (service.canary_tags if desired.canary else ()) or service.tags
    meta = (service.canary_meta if desired.canary else {}) or service.meta
    document: dict[str, Any] = {
        "ID": registration_id,
        "Name": name,
        "Tags": [interpolate(tag) for tag in tags],
        "Address": interpolate(service.address) or host,
        "Port": number,
        "Meta": {
            **{key: interpolate(value) for key, value in meta.items()},
            "external-source": "drover",
            META_NODE: node_id,
            META_ALLOC: desired.id,
        },
        "EnableTagOverride": service.enable_tag_override,
        "Checks": documents,
    }
    if service.tagged_addresses:
        document["TaggedAddresses"] = {
            tag: _tagged(interpolate(value), number) for tag, value in service.tagged_addresses.items()
        }
    if service.weights is not None:
        document["Weights"] = {"Passing": service.weights.passing, "Warning": service.weights.warning}
    return Registration(
        id=registration_id, alloc_id=desired.id, task_name=task_name, document=document, checks=tuple(checks)
    )


def kept_tags(there: Sequence[str], before: Sequence[str] | None, now: Sequence[str]) -> list[str]:
    """The tags of a service that others may tag (enable_tag_override): theirs stay, and what they took away stays away.

    there: what Consul has. before: the job's when they were last registered, None: not known any more. now: the job's.
    """
    if before is None:
        return list(there)
    kept = [tag for tag in there if tag in now or tag not in before]
    return [*kept, *(tag for tag in now if tag not in before and tag not in kept)]


def _tagged(text: str, number: int) -> dict[str, Any]:
    """`host` or `host:port`; without a port, the service's."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or (":" in host and not host.endswith("]")):
        host, port = text, str(number)
    return {"Address": host.strip("[]"), "Port": int(port)}


def endpoint(
    label: str, mode: str, ports: Mapping[str, AllocatedPort], address: str, network: TaskNetwork | None
) -> tuple[str, int]:
    """Host and port that a label means. A number is itself; no label: the address without a port. Raises TaskRefused.

    mode alloc is host: an alloc has the machine's network.
    """
    port = ports.get(label)
    if mode == "driver" and network is None:
        raise TaskRefused('address_mode "driver": the task has no address of its own')
    if network is not None and (mode == "driver" or (mode == "auto" and network.is_advertised)):
        inside = network.ports.get(label) or (port and (port.to or port.value))
        return network.address, inside or (int(label) if label.isdigit() else 0)
    if port is not None:
        return port.host_ip or address, port.value
    return address, int(label) if label.isdigit() else 0


def check_document(
    check: ServiceCheck, check_id: str, target: tuple[str, int], interpolate: Interpolate
) -> dict[str, Any]:
    """One entry of `Checks`. Script and ttl checks become TTL checks that the agent feeds."""
    host, number = target
    at = f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
    interval, timeout = f"{seconds(check.interval)}s", f"{seconds(check.timeout)}s"
    document: dict[str, Any] = {
        "CheckID": check_id,
        "Name": interpolate(check.name),
        "Status": check.initial_status or "critical",
    }
    if check.notes:
        document["Notes"] = interpolate(check.notes)
    if check.success_before_passing:
        document["SuccessBeforePassing"] = check.success_before_passing
    if check.deregister_critical_service_after:
        document["DeregisterCriticalServiceAfter"] = f"{seconds(check.deregister_critical_service_after)}s"
    if check.failures_before_critical:
        document["FailuresBeforeCritical"] = check.failures_before_critical
    match check.type:
        case "http":
            path = interpolate(check.path)
            document |= {
                "HTTP": f"{check.protocol or 'http'}://{at}/{path.removeprefix('/')}",
                "Method": check.method or "GET",
                "Header": {key: [interpolate(v) for v in values] for key, values in check.header.items()},
                "Body": interpolate(check.body),
                "TLSSkipVerify": check.tls_skip_verify,
                "Interval": interval,
                "Timeout": timeout,
            }
        case "tcp":
            document |= {"TCP": at, "Interval": interval, "Timeout": timeout}
        case "grpc":
            document |= {
                "GRPC": f"{at}/{check.grpc_service}" if check.grpc_service else at,
                "GRPCUseTLS": check.grpc_use_tls,
                "TLSSkipVerify": check.tls_skip_verify,
                "Interval": interval,
                "Timeout": timeout,
            }
        case _:
            document["TTL"] = f"{seconds(check.interval) + seconds(check.timeout) + TTL_SLACK_S}s"
    return document


def rule_of(check: ServiceCheck) -> Rule | None:
    """The check's check_restart, None when it has none or its limit is 0."""
    restart = check.check_restart
    if restart is None or restart.limit <= 0:
        return None
    return Rule(
        limit=restart.limit,
        grace_s=seconds(restart.grace),
        ignore_warnings=restart.ignore_warnings,
        interval_s=seconds(check.interval),
        timeout_s=seconds(check.timeout),
        is_counted=is_fed(check),
    )


def is_fed(check: ServiceCheck) -> bool:
    """Whether drover itself feeds the check's results to Consul."""
    return check.type in ("script", "ttl")
