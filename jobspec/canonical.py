"""What does a job say where its author said nothing?

Fills in Nomad's defaults, so that no reader of a job has to know one. A default may depend on the job's
type, or be inherited: job -> group (update, reschedule, migrate), group -> task (restart), service ->
check (check_restart, on_update). Works on the checked document in place, then makes the Job of it.
"""

import posixpath
from collections.abc import Mapping
from typing import Any

import msgspec

from jobspec.document import read_job_document
from jobspec.positions import SourceMap, Submission, sorted_faults
from model.errors import Fault, JobspecError
from model.job import Job, JobType, ReschedulePolicy, RestartPolicy

Json = dict[str, Any]

_S = 1_000_000_000
_UPDATE = {
    "Stagger": 30 * _S,
    "MaxParallel": 1,
    "HealthCheck": "checks",
    "MinHealthyTime": 10 * _S,
    "HealthyDeadline": 300 * _S,
    "ProgressDeadline": 600 * _S,
    "AutoRevert": False,
    "AutoPromote": False,
    "Canary": 0,
}
_MIGRATE = {"MaxParallel": 1, "HealthCheck": "checks", "MinHealthyTime": 10 * _S, "HealthyDeadline": 300 * _S}
_RESTART_SERVICE = {"Attempts": 2, "Interval": 1800 * _S, "Delay": 15 * _S, "Mode": "fail"}
_RESTART_BATCH = {"Attempts": 3, "Interval": 86400 * _S, "Delay": 15 * _S, "Mode": "fail"}
_RESCHEDULE_SERVICE = {
    "Attempts": 0,
    "Interval": 0,
    "Delay": 30 * _S,
    "DelayFunction": "exponential",
    "MaxDelay": 3600 * _S,
    "Unlimited": True,
}
_RESCHEDULE_BATCH = {
    "Attempts": 1,
    "Interval": 86400 * _S,
    "Delay": 5 * _S,
    "DelayFunction": "constant",
    "MaxDelay": 0,
    "Unlimited": False,
}
_RESCHEDULE_NONE = {
    "Attempts": 0,
    "Interval": 0,
    "Delay": 0,
    "DelayFunction": "",
    "MaxDelay": 0,
    "Unlimited": False,
}
_SYSTEM = ("system", "sysbatch")
# What a batch group has of which nobody has written anything.
BATCH_RESTART = msgspec.convert(_RESTART_BATCH, RestartPolicy)
BATCH_RESCHEDULE = msgspec.convert(_RESCHEDULE_BATCH, ReschedulePolicy)


def canonical_job(document: Mapping[str, Any], source: SourceMap | None, *, is_strict: bool) -> Job:
    """The Job of a submission document. Raises JobspecError with every fault found."""
    if not isinstance(document, Mapping):
        raise JobspecError((Fault(message=f"a job is an object, found {type(document).__name__}"),))
    if source is None and isinstance(document, Submission):
        source = document.source
    faults: list[Fault] = []
    job = read_job_document(document, faults, is_strict=is_strict)
    if not isinstance(job.get("ID"), str) and not faults:
        faults.append(Fault(message='not a job: "ID" is missing (a job document was expected)', path="job"))
    job_type = job.get("Type", "service")
    if isinstance(job_type, str) and job_type not in set(JobType):
        known = ", ".join(JobType)
        faults.append(
            Fault(
                message=f'unknown job type "{job_type[:60]}" (known: {known})',
                path=f"job.{job.get('ID', '')}.type",
            )
        )
    if faults:
        raise JobspecError(sorted_faults(source.locate(fault) if source else fault for fault in faults))
    _fill_job(job)
    return msgspec.convert(job, Job)


def _default(document: Json, defaults: Mapping[str, Any]) -> None:
    for name, value in defaults.items():
        document.setdefault(name, value)


def _non_empty(document: Json, name: str, default: str) -> None:
    if not document.get(name):
        document[name] = default


def _fill_job(job: Json) -> None:
    _non_empty(job, "Name", job["ID"])
    _non_empty(job, "Namespace", "default")
    _non_empty(job, "Region", "global")
    _non_empty(job, "NodePool", "default")
    _default(job, {"Type": "service", "Priority": 50})
    job_type = job["Type"]
    if "Update" in job:
        _default(job["Update"], _UPDATE)
    elif job_type == "service":
        job["Update"] = dict(_UPDATE)
    if "Periodic" in job:
        _default(job["Periodic"], {"Enabled": True, "Spec": "", "SpecType": "cron", "ProhibitOverlap": False})
        _non_empty(job["Periodic"], "TimeZone", "UTC")
        _non_empty(job["Periodic"], "MissedRun", "once")
    if "ParameterizedJob" in job:
        _non_empty(job["ParameterizedJob"], "Payload", "optional")
        if "History" in job["ParameterizedJob"]:
            _default(job["ParameterizedJob"]["History"], {"Successful": 100, "Failed": 100})
    reschedule, migrate = job.pop("Reschedule", None), job.pop("Migrate", None)
    for group in job.get("TaskGroups", ()):
        _inherit(group, "Update", job.get("Update"))
        _inherit(group, "ReschedulePolicy", reschedule)
        _inherit(group, "Migrate", migrate)
        _fill_group(group, job)
    _fill_rules(job)


def _inherit(group: Json, name: str, parent: Json | None) -> None:
    """The group's own settings over the job's."""
    if parent is not None:
        group[name] = {**parent, **group.get(name, {})}


def _fill_rules(holder: Json) -> None:
    for kind in ("Affinities", "Spreads"):
        for rule in holder.get(kind, ()):
            _default(rule, {"Weight": 50})
    for kind in ("Constraints", "Affinities"):
        for rule in holder.get(kind, ()):
            _non_empty(rule, "Operand", "=")
    for spread in holder.get("Spreads", ()):
        _default(spread, {"Attribute": ""})
        for target in spread.get("SpreadTarget", ()):
            _default(target, {"Value": ""})


def _fill_group(group: Json, job: Json) -> None:
    job_type = job["Type"]
    _default(group, {"Name": ""})
    scaling = group.get("Scaling")
    parallelism = group.get("Completion", {}).get("Parallelism")
    if parallelism is not None:
        group.setdefault("Count", parallelism)
        if group["Count"] == parallelism:  # else it stays, for validation to refuse
            del group["Completion"]["Parallelism"]
    if "Count" not in group:
        group["Count"] = scaling.get("Min", 1) if scaling else 1
    if scaling is not None:
        _default(scaling, {"Enabled": True, "Min": group["Count"]})
        _non_empty(scaling, "Type", "horizontal")
    if "Update" in group:
        _default(group["Update"], _UPDATE)
    if job_type not in _SYSTEM or "ReschedulePolicy" in group:
        defaults = {"service": _RESCHEDULE_SERVICE, "batch": _RESCHEDULE_BATCH}.get(
            job_type, _RESCHEDULE_NONE
        )
        _default(group.setdefault("ReschedulePolicy", {}), defaults)
    if job_type == "service" or "Migrate" in group:
        _default(group.setdefault("Migrate", {}), _MIGRATE)
    restart = _RESTART_BATCH if job_type in ("batch", "sysbatch") else _RESTART_SERVICE
    _default(group.setdefault("RestartPolicy", {}), restart)
    _default(group.setdefault("EphemeralDisk", {}), {"SizeMB": 300, "Sticky": False, "Migrate": False})
    if group["EphemeralDisk"]["Migrate"]:
        group["EphemeralDisk"]["Sticky"] = True  # data can only be moved to where it would have stayed
    for network in group.get("Networks", ()):
        _fill_network(network)
    for name, volume in group.get("Volumes", {}).items():
        _non_empty(volume, "Name", name)
    for service in group.get("Services", ()):
        _fill_service(service, group, None, job)
    for task in group.get("Tasks", ()):
        _fill_task(task, group, job)
    _fill_rules(group)


def _fill_network(network: Json) -> None:
    _non_empty(network, "Mode", "host")
    for kind in ("ReservedPorts", "DynamicPorts"):
        for port in network.get(kind, ()):
            _default(port, {"Label": ""})
            _non_empty(port, "HostNetwork", "default")


def _fill_task(task: Json, group: Json, job: Json) -> None:
    _default(task, {"Name": "", "Driver": "", "KillTimeout": 5 * _S})
    _fill_resources(task.setdefault("Resources", {}))
    _fill_logs(task.setdefault("LogConfig", {}))
    task["RestartPolicy"] = {**group["RestartPolicy"], **task.get("RestartPolicy", {})}
    if not task.get("Lifecycle", {}).get("Hook"):
        task.pop("Lifecycle", None)
    for service in task.get("Services", ()):
        _fill_service(service, group, task, job)
    for template in task.get("Templates", ()):
        _fill_template(template)
    for artifact in task.get("Artifacts", ()):
        _fill_artifact(artifact)
    if "Vault" in task:
        _default(
            task["Vault"], {"Env": True, "Namespace": "", "ChangeMode": "restart", "ChangeSignal": "SIGHUP"}
        )
    for mount in task.get("VolumeMounts", ()):
        _default(mount, {"PropagationMode": "private", "ReadOnly": False})
    _fill_rules(task)


def _fill_logs(logs: Json) -> None:
    _default(logs, {"MaxFiles": 10, "MaxFileSizeMB": 10})
    if logs.pop("Enabled", True) is False:  # the older name of it
        logs.setdefault("Disabled", True)


def _fill_resources(resources: Json) -> None:
    resources.setdefault("Cores", 0)
    resources.setdefault("CPU", 0 if resources["Cores"] else 100)
    resources.setdefault("MemoryMB", 300)
    for network in resources.get("Networks", ()):
        _fill_network(network)
    for device in resources.get("Devices", ()):
        _default(device, {"Count": 1})


def _fill_template(template: Json) -> None:
    _default(template, {"ChangeMode": "restart", "Splay": 5 * _S, "Perms": "0644"})
    signal = "SIGHUP" if template["ChangeMode"] == "signal" else ""
    template["ChangeSignal"] = template.get("ChangeSignal", signal).upper()


def _fill_artifact(artifact: Json) -> None:
    _default(artifact, {"GetterMode": "any", "GetterSource": ""})
    if "RelativeDest" not in artifact:
        name = posixpath.basename(artifact["GetterSource"].rstrip("/"))
        is_file = artifact["GetterMode"] == "file"
        artifact["RelativeDest"] = posixpath.normpath(f"local/{name}") if is_file else "local/"


def _fill_service(service: Json, group: Json, task: Json | None, job: Json) -> None:
    owner = [job["Name"], group["Name"], *([task["Name"]] if task else [])]
    name = service.get("Name") or "-".join(owner)
    service["Name"] = _own_names(name, job, group, task)
    _non_empty(service, "AddressMode", "auto")
    _non_empty(service, "OnUpdate", "require_healthy")
    _non_empty(service, "Provider", "consul")
    for name in ("Passing", "Warning"):
        if "Weights" in service and not service["Weights"].get(name):
            service["Weights"][name] = 1
    if task is not None:
        _non_empty(service, "TaskName", task["Name"])
    restart = service.pop("CheckRestart", None)
    for check in service.get("Checks", ()):
        _fill_check(check, service, restart)


def _own_names(text: str, job: Json, group: Json, task: Json | None) -> str:
    """`${JOB}`, `${TASKGROUP}`, `${GROUP}`, `${TASK}` and `${BASE}`: the names known before anything runs."""
    if "${" not in text:
        return text
    task_name = task["Name"] if task else ""
    base = "-".join(part for part in (job["Name"], group["Name"], task_name) if part)
    names = {
        "JOB": job["Name"],
        "TASKGROUP": group["Name"],
        "GROUP": group["Name"],
        "TASK": task_name,
        "BASE": base,
    }
    for key, value in names.items():
        text = text.replace(f"${{{key}}}", value)
    return text


def _fill_check(check: Json, service: Json, restart: Json | None) -> None:
    if not check.get("Name"):
        check["Name"] = f'service: "{service["Name"]}" check'
    own = check.get("CheckRestart")
    if restart is not None or own is not None:
        merged = {**(restart or {})}
        for name, value in (own or {}).items():
            if name == "Grace" or value:  # an unset limit or flag does not undo the service's
                merged[name] = value
        merged.setdefault("Grace", _S)
        check["CheckRestart"] = merged
    for name in ("SuccessBeforePassing", "FailuresBeforeCritical"):
        check[name] = max(check.get(name, 0), 0)
    _non_empty(check, "OnUpdate", service["OnUpdate"])
