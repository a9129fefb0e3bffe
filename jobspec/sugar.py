"""What does HCL spell differently from the JSON document?

Constraints (`distinct_hosts = true`, `regexp = "…"`), tasks that stand directly in a job, vault blocks of
a job or group that its tasks inherit, ports that are reserved when they are static, and the labels of a
task's scaling blocks.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jobspec.values import ConversionFault, Value, to_bool, to_text

Setting = Callable[[dict[str, Any], Value], None]

# Where blocks without a field of their own wait until their parent is complete.
LOOSE_TASKS = "\0tasks"
INHERITED_VAULT = "\0vault"

BLOCKS: Mapping[str, Mapping[str, str]] = {
    "Job": {"task": "Task", "vault": "Vault"},
    "TaskGroup": {"vault": "Vault"},
}

_SECOND = 1_000_000_000
_SCALING_TYPES = {"cpu": "vertical_cpu", "mem": "vertical_mem"}


def _operator(name: str) -> Setting:
    """`regexp = "…"` sets operator and value at once."""

    def apply(document: dict[str, Any], value: Value) -> None:
        document["Operand"] = name
        document["RTarget"] = to_text(value)

    return apply


def _about(name: str) -> Setting:
    """`distinct_property = "…"` names the attribute."""

    def apply(document: dict[str, Any], value: Value) -> None:
        document["Operand"] = name
        document["LTarget"] = to_text(value)

    return apply


def _distinct_hosts(document: dict[str, Any], value: Value) -> None:
    if not to_bool(value):
        raise ConversionFault("distinct_hosts is true or absent")
    document["Operand"] = "distinct_hosts"


_COMPARISONS = ("version", "semver", "regexp", "set_contains", "set_contains_all", "set_contains_any")
_CONSTRAINT: Mapping[str, Setting] = {
    **{name: _operator(name) for name in _COMPARISONS},
    "distinct_hosts": _distinct_hosts,
    "distinct_property": _about("distinct_property"),
    "is_set": _about("is_set"),
    "is_not_set": _about("is_not_set"),
}
SETTINGS: Mapping[str, Mapping[str, Setting]] = {
    "Constraint": _CONSTRAINT,
    "Affinity": {name: _operator(name) for name in _COMPARISONS},
}


def finish(struct: str, document: dict[str, Any]) -> None:
    """What is filled in when a block has been read."""
    if struct in ("Constraint", "Affinity"):
        document["Operand"] = document["Operand"] or "="
    elif struct == "NetworkResource":
        _sort_ports(document)
    elif struct == "Template":
        for name, default in (("ChangeMode", "restart"), ("Perms", "0644"), ("Splay", 5 * _SECOND)):
            if document[name] is None:
                document[name] = default
    elif struct == "Vault":
        for name, default in (("Env", True), ("ChangeMode", "restart")):
            if document[name] is None:
                document[name] = default
    elif struct == "PeriodicConfig" and document["Spec"] is not None:
        document["SpecType"] = "cron"
    elif struct == "ScalingPolicy":
        document["Type"] = document["Type"] or "horizontal"
    elif struct == "Task":
        _default_identity(document)
    elif struct == "TaskGroup":
        _inherit_vault(document.pop(INHERITED_VAULT, None), document["Tasks"])


def _default_identity(task: dict[str, Any]) -> None:
    """The identity without a name of its own is the task's, the others are further ones."""
    for identity in task["Identities"] or ():
        if identity["Name"] in ("", "default"):
            task["Identity"] = identity
    task["Identities"] = [i for i in task["Identities"] or () if i["Name"] not in ("", "default")] or None


def _sort_ports(network: dict[str, Any]) -> None:
    """A port with a static value is reserved, the others are dynamic."""
    ports = network["DynamicPorts"]
    if not ports:
        return
    network["DynamicPorts"] = [port for port in ports if port["Value"] <= 0] or None
    reserved = [port for port in ports if port["Value"] > 0]
    network["ReservedPorts"] = reserved or network["ReservedPorts"]


def _inherit_vault(vault: dict[str, Any] | None, tasks: list[dict[str, Any]] | None) -> None:
    for task in tasks or ():
        if vault is not None and task["Vault"] is None:
            task["Vault"] = dict(vault)


def finish_task_scaling(document: dict[str, Any], label: str, refuse: Callable[[str], None]) -> None:
    """`scaling "cpu"` and `scaling "mem"` are all there is."""
    wanted = _SCALING_TYPES.get(label)
    if wanted is None:
        refuse(f'a task\'s scaling is named "cpu" or "mem", found "{label}"')
    elif document["Type"] not in ("", wanted):
        refuse(f'scaling "{label}" has type "{wanted}", found "{document["Type"]}"')
    document["Type"] = wanted or ""


def normalise_job(document: dict[str, Any], label: str) -> None:
    """The job's name and ID, the groups of its loose tasks, and the vault its tasks inherit."""
    from jobspec.schema import STRUCTS

    for name in ("ID", "Name"):
        if document[name] is None:
            document[name] = label
    loose = document.pop(LOOSE_TASKS, [])
    if loose:
        alone = [{**STRUCTS["TaskGroup"].empty, "Name": task["Name"], "Tasks": [task]} for task in loose]
        document["TaskGroups"] = alone + (document["TaskGroups"] or [])
    vault = document.pop(INHERITED_VAULT, None)
    for group in document["TaskGroups"] or ():
        _inherit_vault(vault, group["Tasks"])
