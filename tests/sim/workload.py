"""What do the users of a simulated cluster ask for?

Service, batch and system jobs, of one or several tasks, with and without ports, checks, restarts and
disconnect rules: registered, changed, scaled, stopped and purged through whoever leads.
"""

import random
from typing import Any

from model.job import (
    CheckRestart,
    Completion,
    Constraint,
    Job,
    JobId,
    JobType,
    Lifecycle,
    MigrateStrategy,
    Network,
    Port,
    ReschedulePolicy,
    Resources,
    RestartPolicy,
    Service,
    ServiceCheck,
    Task,
    TaskGroup,
    UpdateStrategy,
)
from model.wire import nanoseconds

NAMES = ("api", "web", "db", "queue", "load", "etl", "logs", "items")


def a_job(name: str, *, kind: JobType = JobType.SERVICE, revision: int = 0, **group: Any) -> Job:
    """A job of one group of one task; a scenario names what matters."""
    return Job(
        id=JobId(name),
        name=name,
        type=kind,
        datacenters=("dc1",),
        task_groups=(TaskGroup(**{"name": "app", **_defaults(kind, revision), **group}),),
    )


def _defaults(kind: JobType, revision: int) -> dict[str, Any]:
    return {
        "restart_policy": _restart(),
        "reschedule_policy": None
        if kind is JobType.SYSTEM
        else ReschedulePolicy(delay=nanoseconds(1.0), delay_function="constant", unlimited=True),
        "update": an_update(max_parallel=1),
        "migrate": MigrateStrategy(min_healthy_time=nanoseconds(1.0), healthy_deadline=nanoseconds(20.0)),
        "tasks": (a_task("main", kind, revision),),
    }


def an_update(**fields: Any) -> UpdateStrategy:
    """In the hurry of a simulation."""
    times = {"min_healthy_time": 1.0, "healthy_deadline": 20.0, "progress_deadline": 60.0, "stagger": 1.0}
    return UpdateStrategy(**{**{name: nanoseconds(span_s) for name, span_s in times.items()}, **fields})


def a_task(name: str, kind: JobType = JobType.SERVICE, revision: int = 0, **fields: Any) -> Task:
    life = "batch" if kind in (JobType.BATCH, JobType.SYSBATCH) else "service"
    return Task(
        **{
            "name": name,
            "driver": "fake",
            "config": {"life": life},
            "env": {"REVISION": str(revision)},
            "restart_policy": _restart(),
            "resources": Resources(cpu=100, memory_mb=100),
            "kill_timeout": nanoseconds(5.0),
            **fields,
        }
    )


def _restart() -> RestartPolicy:
    return RestartPolicy(attempts=2, interval=nanoseconds(30.0), delay=nanoseconds(0.5), mode="fail")


def random_job(name: str, rng: random.Random, nodes: int) -> Job:
    """The job of that name as somebody might submit it now."""
    batch = dict.fromkeys(("load", "etl", "items"), JobType.BATCH)
    kind = {**batch, "logs": JobType.SYSTEM}.get(name, JobType.SERVICE)
    revision = rng.randint(0, 2)
    group: dict[str, Any] = {"count": 1 if kind is JobType.SYSTEM else rng.randint(1, 2 * nodes)}
    group["update"] = an_update(
        max_parallel=rng.randint(1, 3), canary=(canary := rng.choice((0, 0, 1, 2))), auto_promote=canary > 0, auto_revert=rng.random() < 0.3
    )
    if name == "web":  # ports and checks
        group["networks"] = (Network(dynamic_ports=(Port(label="http"),)),)
        group["services"] = (_service(rng.random() < 0.7),)
    elif name == "db":  # one fixed port: at most one on a node
        group["count"] = rng.randint(1, max(1, nodes - 1))
        group["networks"] = (Network(reserved_ports=(Port(label="sql", value=5432),)),)
        group["tasks"] = (a_task("main", kind, revision, shutdown_delay=nanoseconds(rng.choice((0.0, 1.0)))),)
    elif name == "queue":  # at most once, on different machines
        group["count"] = rng.randint(1, max(1, nodes - 1))
        group["constraints"] = (Constraint(operand="distinct_hosts"),)
        group["stop_after_client_disconnect"] = nanoseconds(rng.choice((4.0, 12.0)))
    elif name == "etl":  # several tasks, in order
        prestart = a_task("prepare", JobType.BATCH, 0, config={"life": "prestart"}, lifecycle=Lifecycle(hook="prestart"))
        sidecar = a_task("proxy", lifecycle=Lifecycle(hook="prestart", sidecar=True))
        group["tasks"] = (prestart, sidecar, a_task("main", kind, revision))
    elif name == "items":  # each once
        group["completion"] = Completion(
            completions=rng.randint(1, 4 * nodes),
            backoff_limit=1000,
            backoff_base=nanoseconds(1.0),
            backoff_max=nanoseconds(4.0),
            restart_policy=rng.choice(("never", "on_failure")),
            indexed=True,
        )
    elif name == "logs":
        group["networks"] = (Network(dynamic_ports=(Port(label="in"),)),)
    return a_job(name, kind=kind, revision=revision, **group)


def _service(is_restarted: bool) -> Service:
    restart = CheckRestart(limit=2, grace=nanoseconds(1.0)) if is_restarted else None
    check = ServiceCheck(
        name="alive",
        type="http",
        path="/",
        interval=nanoseconds(2.0),
        timeout=nanoseconds(1.0),
        check_restart=restart,
    )
    return Service(name="web", port_label="http", checks=(check,))
