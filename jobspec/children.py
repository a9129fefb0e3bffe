"""May a job start children: on time (periodic), or when it is dispatched (parameterized)?"""

import posixpath
from collections.abc import Iterator

from jobspec.cron import CronFault, parse, time_zone
from model.errors import Fault
from model.job import History, Job, ParameterizedConfig, PeriodicConfig, Task

Faults = Iterator[Fault]

# Each look at the job asks every one of them when its next run is.
CRONS_MAX = 100
# What a file system takes as a name.
_SEGMENT_BYTES_MAX = 255


def parent_faults(job: Job, path: str) -> Faults:
    if job.periodic is not None and job.periodic.enabled:
        yield from _periodic(job, job.periodic, f"{path}.periodic")
    if job.parameterized_job is not None:
        yield from _parameterized(job, job.parameterized_job, f"{path}.parameterized")


def dispatch_payload_faults(task: Task, path: str) -> Faults:
    if task.dispatch_payload is None:
        return
    file = task.dispatch_payload.file
    inside = posixpath.normpath(posixpath.join("/local", file.lstrip("/")))
    if not file or "\0" in file:
        yield _fault(f"{path}.dispatch_payload", "the file to write the payload to is missing")
    elif not inside.startswith("/local/") or file.endswith("/"):
        yield _fault(f"{path}.dispatch_payload.file", "must name a file inside the task's local directory")
    elif any(len(part.encode(errors="replace")) > _SEGMENT_BYTES_MAX for part in inside.split("/")):
        yield _fault(f"{path}.dispatch_payload.file", f"a file's name has {_SEGMENT_BYTES_MAX} bytes at most")


def _periodic(job: Job, settings: PeriodicConfig, path: str) -> Faults:
    if not job.is_batch:
        yield _fault(path, "only batch and sysbatch jobs can be periodic")
    if settings.spec and settings.specs:
        yield _fault(path, "cron and crons cannot both be set")
    if not settings.all_specs:
        yield _fault(path, 'a cron expression is needed (as cron = "*/15 * * * *")')
    if settings.spec_type != "cron":
        yield _fault(path, f'the type of a schedule is cron, found "{settings.spec_type[:40]}"')
    if (number := len(settings.all_specs)) > CRONS_MAX:
        yield _fault(f"{path}.crons", f"at most {CRONS_MAX} of them, found {number}")
        return
    for spec in settings.all_specs:
        try:
            parse(spec)
        except CronFault as fault:
            yield _fault(f"{path}.cron", f'"{spec[:60]}": {fault}')
    try:
        time_zone(settings.time_zone)
    except CronFault as fault:
        yield _fault(f"{path}.time_zone", str(fault))
    if settings.missed_run not in ("once", "skip"):
        yield _fault(f"{path}.missed_run", f'must be once or skip, found "{settings.missed_run[:40]}"')
    for name, span in (("starting_deadline", settings.starting_deadline), ("expect_within", settings.expect_within)):
        if span is not None and span <= 0:
            yield _fault(f"{path}.{name}", "must be above 0")
    yield from _history(settings.history, path)


def _parameterized(job: Job, settings: ParameterizedConfig, path: str) -> Faults:
    if not job.is_batch:
        yield _fault(path, "only batch and sysbatch jobs can be parameterized")
    if settings.payload not in ("optional", "required", "forbidden"):
        yield _fault(f"{path}.payload", f'must be optional, required or forbidden, found "{settings.payload}"')
    if both := sorted(set(settings.meta_required) & set(settings.meta_optional)):
        yield _fault(path, f"required and optional at once: {', '.join(both)}")
    if settings.max_running < 0:
        yield _fault(f"{path}.max_running", f"must not be negative, found {settings.max_running}")
    yield from _history(settings.history, path)


def _history(history: History, path: str) -> Faults:
    if history.successful < 0 or history.failed < 0:
        yield _fault(f"{path}.history", "must not be negative")


def _fault(path: str, message: str) -> Fault:
    return Fault(path=path, message=message)
