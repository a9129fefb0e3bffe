"""Are the services of a group or task, and their checks, sound?"""

import re
from collections.abc import Iterator, Sequence

from jobspec.dns_label import is_dns_label, label_fault
from jobspec.durations import duration_text
from jobspec.suggest import did_you_mean
from model.errors import Fault
from model.job import Service, ServiceCheck, Task, TaskGroup
from model.wire import SECOND

Faults = Iterator[Fault]

CHECK_TYPES = ("http", "tcp", "grpc", "script", "ttl")
_INTERPOLATION = re.compile(r"\$\{[^}]*\}")
_METHOD = re.compile(r"[A-Za-z!#$%&'*+.^_`|~-]+")
_ON_UPDATE = ("require_healthy", "ignore_warnings", "ignore")
_SPAN_MIN = SECOND
_DEREGISTER_MIN = 60 * SECOND  # Consul's


def _fault(path: str, message: str) -> Fault:
    return Fault(path=path, message=message)


def service_faults(services: Sequence[Service], group: TaskGroup, task: Task | None, path: str) -> Faults:
    """task: whose services these are; None when they are the group's own."""
    labels = _port_labels(group, task)
    seen: set[tuple[str, str]] = set()
    for number, service in enumerate(services):
        here = f"{path}.service[{number}]"
        key = (service.name, service.port_label)
        if key in seen:
            yield _fault(here, f'there are two services "{service.name}" on the same port')
        seen.add(key)
        yield from _service(service, group, task, labels, here)
        if service.task_name and task is None:
            yield from _task_name(service.task_name, group, f"{here}.task")
        names = [check.name for check in service.checks]
        for at, check in enumerate(service.checks):
            place = f"{here}.check[{at}]"
            if check.name in names[:at] and names[:at]:
                yield _fault(place, f"there are two checks named {check.name!r}")
            yield from _check(check, service, group, task, labels, place)
            if check.task_name:
                yield from _task_name(check.task_name, group, f"{place}.task")
            elif check.type == "script" and task is None and not service.task_name:
                yield _fault(
                    place, "a script check of a group's service names the task it runs in (task = …)"
                )


def _port_labels(group: TaskGroup, task: Task | None) -> frozenset[str]:
    networks = [*group.networks, *(task.resources.networks if task else ())]
    return frozenset(
        port.label for network in networks for port in (*network.reserved_ports, *network.dynamic_ports)
    )


def _task_name(name: str, group: TaskGroup, path: str) -> Faults:
    names = [task.name for task in group.tasks]
    if name not in names:
        yield _fault(path, f'the group has no task "{name}"{did_you_mean(name, names)}')


def _service(service: Service, group: TaskGroup, task: Task | None, labels: frozenset[str], path: str) -> Faults:
    if not service.name:
        yield _fault(path, "a service needs a name")
    elif "${" not in service.name:
        if fault := label_fault(service.name):
            yield _fault(f"{path}.name", fault)
    elif not is_dns_label(_INTERPOLATION.sub("x", service.name)):
        yield _fault(f"{path}.name", f'"{service.name[:80]}" cannot become a DNS label (letters, digits and dashes)')
    if service.address_mode not in ("auto", "host", "driver", "alloc"):
        yield _fault(
            f"{path}.address_mode", f'must be auto, host, driver or alloc, found "{service.address_mode}"'
        )
    if service.address_mode == "driver":
        yield from _driver_address(group, task, service.task_name, f"{path}.address_mode")
    if service.address and service.address_mode != "auto":
        yield _fault(f"{path}.address", f'needs address_mode "auto", found "{service.address_mode}"')
    if service.weights is not None and min(service.weights.passing, service.weights.warning) < 1:
        yield _fault(f"{path}.weights", "weights are at least 1")
    if service.on_update not in _ON_UPDATE:
        yield _fault(f"{path}.on_update", f'must be {", ".join(_ON_UPDATE)}, found "{service.on_update}"')
    yield from _port(service.port_label, labels, f"{path}.port")


def _driver_address(group: TaskGroup, task: Task | None, name: str, path: str) -> Faults:
    """Only a container has an address of its own, and only one that does not use the machine's network."""
    if task is None and name:
        task = next((one for one in group.tasks if one.name == name), None)
        if task is None:
            return  # told already
    if task is None:
        yield _fault(path, '"driver" is for a task\'s service: move it into the task, or name the task (task = …)')
    elif task.driver != "docker":
        yield _fault(path, f'"driver" needs a task with an address of its own, which {task.driver} does not give')
    elif str(task.config.get("network_mode") or "") in ("host", "none"):
        mode = task.config["network_mode"]
        yield _fault(path, f'"driver" needs a task with an address of its own, and network_mode "{mode}" gives none')


_RUNTIME = re.compile(r"\$\{\s*(?:NOMAD_|(?:attr|meta|node)\.|env\[)")


def _port(label: str, labels: frozenset[str], path: str) -> Faults:
    """A port is a label of the networks, a number, or something of the run time, only known there."""
    if not label or label in labels or _RUNTIME.match(label):
        return
    if label.isdigit() and 1 <= int(label[:6]) <= 65535:
        return
    known = f" (known: {', '.join(sorted(labels))})" if labels else " (the group has no ports)"
    yield _fault(path, f'there is no port labelled "{label[:60]}"{did_you_mean(label, labels) or known}')


def _check(
    check: ServiceCheck, service: Service, group: TaskGroup, task: Task | None, labels: frozenset[str], path: str
) -> Faults:
    if check.type not in CHECK_TYPES:
        found = f'found "{check.type[:60]}"' if check.type else "found none"
        yield _fault(
            f"{path}.type" if check.type else path,
            f"a check's type is one of {', '.join(CHECK_TYPES)}, {found}{did_you_mean(check.type, CHECK_TYPES)}",
        )
    if check.type == "http" and not check.path:
        yield _fault(path, "an http check needs a path")
    if check.type == "http" and "://" in check.path:
        yield _fault(f"{path}.path", "must be a path, not a whole URL")
    if check.type == "script" and not check.command:
        yield _fault(path, "a script check needs a command")
    if check.type in ("http", "tcp", "grpc") and not (check.port_label or service.port_label):
        yield _fault(path, f"a {check.type} check needs a port, of its own or of its service")
    yield from _check_times(check, path)
    yield from _check_words(check, path)
    yield from _port(check.port_label, labels, f"{path}.port")
    if 0 < check.deregister_critical_service_after < _DEREGISTER_MIN or check.deregister_critical_service_after < 0:
        found = duration_text(check.deregister_critical_service_after)
        yield _fault(f"{path}.deregister_critical_service_after", f"Consul waits a minute at least, found {found}")
    if check.address_mode == "driver":
        yield from _driver_address(group, task, check.task_name or service.task_name, f"{path}.address_mode")
    if check.check_restart is not None:
        if check.check_restart.limit < 0:
            yield _fault(
                f"{path}.check_restart.limit", f"must not be negative, found {check.check_restart.limit}"
            )
        if check.check_restart.max_parallel < 0:
            yield _fault(
                f"{path}.check_restart.max_parallel", f"must not be negative, found {check.check_restart.max_parallel}"
            )
        if check.check_restart.grace < 0:
            yield _fault(f"{path}.check_restart.grace", "must not be negative")


def _check_times(check: ServiceCheck, path: str) -> Faults:
    spans = (
        [("interval", check.interval)]
        if check.type == "ttl"
        else [("interval", check.interval), ("timeout", check.timeout)]
    )
    for name, span in spans:
        if span == 0:
            yield _fault(path, f'a check needs "{name}" (at least 1s)')
        elif span < _SPAN_MIN:
            yield _fault(f"{path}.{name}", f"must be at least 1s, found {duration_text(span)}")


def _check_words(check: ServiceCheck, path: str) -> Faults:
    if check.initial_status not in ("", "passing", "warning", "critical"):
        yield _fault(
            f"{path}.initial_status", f'must be passing, warning or critical, found "{check.initial_status}"'
        )
    if check.address_mode not in ("", "host", "driver", "alloc"):
        yield _fault(f"{path}.address_mode", f'must be host, driver or alloc, found "{check.address_mode}"')
    if check.on_update not in _ON_UPDATE:
        yield _fault(f"{path}.on_update", f'must be {", ".join(_ON_UPDATE)}, found "{check.on_update}"')
    if check.type == "http" and check.protocol not in ("", "http", "https"):
        yield _fault(f"{path}.protocol", f'must be http or https, found "{check.protocol}"')
    if check.method and not _METHOD.fullmatch(check.method):
        yield _fault(f"{path}.method", f'"{check.method[:40]}" is no HTTP method')
    if check.type in ("script", "ttl") and (check.success_before_passing or check.failures_before_critical):
        yield _fault(
            path, f"success_before_passing and failures_before_critical do not exist for {check.type} checks"
        )
