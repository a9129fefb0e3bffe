"""The API's /v1/metrics: what does this agent measure, as JSON in Nomad's shape or in Prometheus' text?

Two kinds. Gauges are looked up when somebody asks, out of what is in memory, the drivers and the kernel: Consul is not
asked, and nothing is collected while nobody asks. Counters and timings are counted where things happen (telemetry.py of
`agent/` and `leader/`, catalog/transport.py, below), and only read here.

Only the leader has what is of jobs and nodes; every client has what is of its own allocs and machine.
docs/metrics.md lists every name.
"""

import asyncio
import math
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prometheus_client
from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agent import host_stats
from agent import telemetry as of_tasks
from agent.drivers.base import TaskStats
from agent.host_stats import HostStats
from api.context import CONTEXT, Context
from api.launches import launches_document
from api.query import answer
from api.shapes import job_summary
from api.stats import Meter
from catalog import transport
from leader import telemetry as of_leader
from leader.leading import Leading
from leader.status import job_status
from model.alloc import ClientStatus
from model.errors import DriverBusy, TaskRefused
from model.job import Job, JobStatus
from model.node import NodeStatus
from model.snapshot import JobKey, Reach
from vault import telemetry as of_vault
from vault.login import Login

# A series more for each counter, which nobody charts.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no types there

API_CALLS = Counter("drover_api_calls", "Answers of this agent's API, passed on ones included, by status", ["status"])

# Rates are reckoned from the scrape before; a longer span says little of "just now". Prometheus' usual intervals are
# 15 s to 2 m.
_SPAN_S_MAX = 330.0
# Allocs whose drivers are asked at the same time: 300 containers at once would be 300 connections to the engine.
_ALLOCS_AT_ONCE = 16
# Jobs counted before the loop may do something else: with 100 allocs each some 5 ms.
_JOBS_PER_SLICE = 50

MIB = 1024 * 1024

# Name -> what it is. In Prometheus' text with `_` for each `.`.
GAUGES: Mapping[str, str] = {
    **{f"nomad.client.allocs.{state}": f"Allocations that this client holds, {state}" for state in ("running", "pending", "terminal")},
    **{f"nomad.client.allocations.{state}": f"The same as nomad.client.allocs.{state}" for state in ("running", "pending", "terminal")},
    "nomad.client.allocs.cpu.allocated": "MHz that a task asked for",
    "nomad.client.allocs.cpu.total_percent": "Processor time that a task uses, in percent of one processor",
    "nomad.client.allocs.cpu.total_ticks": "The same in MHz",
    "nomad.client.allocs.memory.allocated": "Bytes that a task asked for",
    "nomad.client.allocs.memory.usage": "Bytes that a task uses",
    "nomad.client.allocs.memory.rss": "The same as nomad.client.allocs.memory.usage",
    "nomad.client.allocs.restarts": "Restarts of a task so far",
    "nomad.client.allocated.cpu": "MHz given to the allocations of this client",
    "nomad.client.allocated.memory": "MB given to the allocations of this client",
    "nomad.client.allocated.disk": "MB given to the allocations of this client",
    "nomad.client.unallocated.cpu": "MHz that can still be given",
    "nomad.client.unallocated.memory": "MB that can still be given",
    "nomad.client.unallocated.disk": "MB that can still be given",
    "nomad.client.host.cpu.user": "Percent of a processor spent in programs",
    "nomad.client.host.cpu.system": "Percent of a processor spent in the kernel",
    "nomad.client.host.cpu.idle": "Percent of a processor spent idle",
    "nomad.client.host.cpu.total": "Percent of a processor that is used",
    "nomad.client.host.memory.total": "Bytes of memory",
    "nomad.client.host.memory.available": "Bytes that programs could still have",
    "nomad.client.host.memory.used": "Bytes in use",
    "nomad.client.host.memory.free": "Bytes in no use at all",
    "nomad.client.host.disk.size": "Bytes of a file system",
    "nomad.client.host.disk.used": "Bytes in use",
    "nomad.client.host.disk.available": "Bytes that can still be written",
    "nomad.client.host.disk.used_percent": "Percent of its bytes in use",
    "nomad.client.host.disk.inodes_percent": "Percent of its inodes in use",
    "nomad.client.uptime": "Seconds since the machine's boot",
    **{
        f"nomad.nomad.job_summary.{state}": f"Allocations of a group, {state}"
        for state in ("queued", "starting", "running", "complete", "failed", "lost", "unknown")
    },
    **{f"nomad.nomad.job_status.{state}": f"Jobs, {state}" for state in JobStatus},
    "nomad.nomad.broker.total_ready": "Jobs to decide about",
    "nomad.nomad.broker.total_unacked": "Jobs that are being decided about just now",
    "nomad.nomad.broker.total_blocked": "Commands that wait for their job's turn",
    "nomad.nomad.broker.total_waiting": "Jobs to decide about at a later moment",
    "nomad.nomad.blocked_evals.total_blocked": "Jobs not all of which finds a place",
    "nomad.nomad.heartbeat.active": "Nodes that are heard",
    "drover.leader.is_leader": "1 on the agent that leads",
    "drover.leader.lock_age_seconds": "For how long the leader has held its lock",
    "drover.leader.epoch": "The number of its term",
    "drover.scheduler.queue_length": "Jobs to decide about now, the ones in hand included",
    "drover.nodes": "Nodes by status",
    "drover.deployments_active": "Deployments under way",
    "drover.brake.engaged": "1 while too many nodes are silent to hold any of them lost",
    "drover.brake.silent_nodes": "Nodes that are not heard and not given up",
    "drover.brake.held_seconds": "For how long no node is held lost yet, after a take-over or an outage of Consul",
    "drover.periodic.status": "How a periodic job does: 0 passing, 1 warning, 2 critical",
    "drover.periodic.last_success": "When a run of a periodic job last succeeded, seconds since 1970; 0: never",
    "drover.periodic.last_duration_seconds": "How long that run took",
    "drover.periodic.next_run": "When a periodic job is due next, seconds since 1970; 0: never",
    "drover.periodic.missed": "Runs of a periodic job that never started, so far",
    "drover.vault.up": "1 while Vault answers and can serve, as this agent sees it",
    "drover.vault.token_ttl_seconds": "Until the agent's own Vault token ends unless it is renewed; 0: it has none, +Inf: never",
    "drover.template.queries": "Distinct lookups that this node's templates watch, by kind",
    "drover.vault.contact_age_seconds": "Since Vault last answered this agent; +Inf: it never did",
}
# Name -> where it is counted. In Prometheus' text counters end in `_total`.
COUNTED: Mapping[str, Counter | Histogram] = {
    "drover.consul.call_seconds": transport.CALL_S,
    "drover.consul.blocking_calls": transport.BLOCKED,
    "drover.consul.errors": transport.ERRORS,
    "drover.scheduler.evaluation_seconds": of_leader.EVALUATION_S,
    "drover.scheduler.decision_seconds": of_leader.DECISION_S,
    "drover.reschedules": of_leader.RESCHEDULES,
    "drover.deployments": of_leader.DEPLOYMENTS,
    "drover.leader.takeovers": of_leader.TAKEOVERS,
    "drover.task.starts": of_tasks.STARTS,
    "drover.task.restarts": of_tasks.RESTARTS,
    "drover.task.ends": of_tasks.ENDS,
    "drover.task.oom_kills": of_tasks.OOM_KILLS,
    "drover.template.answers": of_tasks.TEMPLATE_ANSWERS,
    "drover.vault.failures": of_vault.FAILURES,
    "drover.vault.logins": of_vault.LOGINS,
    "drover.api.calls": API_CALLS,
}

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Gauge:
    name: str
    value: float
    labels: Labels


@dataclass(slots=True)
class Looks:
    """The last look at all gauges; two who ask at once, or within collection_interval, share one."""

    meter: Meter = field(default_factory=lambda: Meter(span_s_max=_SPAN_S_MAX))
    found: list[Gauge] = field(default_factory=list)
    looked_s: float = float("-inf")  # loop time
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


LOOKS: web.AppKey[Looks] = web.AppKey("looks", Looks)


async def metrics(request: web.Request) -> web.Response:
    """`?format=prometheus`: text, 415 where that is switched off."""
    context = request.app[CONTEXT]
    is_text = request.query.get("format") == "prometheus"
    if is_text and not context.telemetry.prometheus_metrics:
        return web.Response(status=415, text="Prometheus is not enabled", content_type="text/plain", charset="utf-8")
    gauges = await _gauges(request.app[LOOKS], context)
    if not is_text:
        return answer(request, _summary(gauges))
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Found(gauges))
    body = prometheus_client.generate_latest(registry) + prometheus_client.generate_latest(REGISTRY)
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


async def count_call(request: web.Request, response: web.StreamResponse) -> None:
    """Of every answer, when its headers are sent."""
    API_CALLS.labels(str(response.status)).inc()


class _Found(Collector):
    """The gauges as the library writes them out."""

    def __init__(self, gauges: Iterable[Gauge]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        families = {name: GaugeMetricFamily(name.replace(".", "_"), text) for name, text in GAUGES.items()}
        for gauge in self._gauges:
            family = families[gauge.name]
            family.add_sample(family.name, dict(gauge.labels), gauge.value)
        return iter(families.values())


def _summary(gauges: Iterable[Gauge]) -> dict[str, Any]:
    """Nomad's shape. Its counters and samples are of the last ten seconds, these from the agent's start; of a sample the
    least, the greatest and the deviation are not known."""
    counters: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    for name, counted in COUNTED.items():
        for family in counted.collect():
            if isinstance(counted, Counter):
                counters += [_aggregate(name, s.labels, s.value, s.value) for s in family.samples]
                continue
            sums = [s for s in family.samples if s.name.endswith("_sum")]
            counts = [s for s in family.samples if s.name.endswith("_count")]
            samples += [_aggregate(name, c.labels, c.value, s.value) for c, s in zip(counts, sums, strict=True)]
    return {
        "Timestamp": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
        "Gauges": [{"Name": g.name, "Value": g.value, "Labels": dict(g.labels)} for g in gauges if math.isfinite(g.value)],
        "Counters": counters,
        "Samples": samples,
        "Points": [],
    }


def _aggregate(name: str, labels: Labels, count: float, total: float) -> dict[str, Any]:
    return {"Name": name, "Labels": dict(labels), "Count": int(count), "Sum": total, "Mean": total / count if count else 0.0}


async def _gauges(looks: Looks, context: Context) -> list[Gauge]:
    async with looks.turn:
        loop = asyncio.get_running_loop()
        if loop.time() - looks.looked_s >= context.telemetry.collection_interval_s:
            looks.found = await _look(looks.meter, context)
            looks.looked_s = loop.time()
        return looks.found


async def _look(meter: Meter, context: Context) -> list[Gauge]:
    found = [Gauge("drover.leader.is_leader", float(context.leading is not None), {})]
    if context.leading is not None:
        found += await _of_leader(context.leading)
    if context.agent is not None:
        found += await _of_client(meter, context)
        found += [Gauge("drover.template.queries", float(n), {"kind": kind}) for kind, n in of_tasks.TEMPLATE_QUERIES.items()]
    if context.vault is not None:
        found += _of_vault(context.vault)
    if context.telemetry.disable_hostname:
        return found
    host = context.name if context.telemetry.use_node_name else socket.gethostname()
    return [Gauge(one.name, one.value, {**one.labels, "host": host}) for one in found]


def _of_vault(login: Login) -> list[Gauge]:
    age_s = login.contact_age_s
    values = {
        "up": float(login.health is not None and login.health.is_usable),
        "token_ttl_seconds": login.ttl_s,
        "contact_age_seconds": math.inf if age_s is None else age_s,
    }
    return [Gauge(f"drover.vault.{name}", value, {}) for name, value in values.items()]


# -- the leader's


async def _of_leader(leading: Leading) -> list[Gauge]:
    view, queue = leading.view, leading.deciding.queue()
    brake, now_s = leading.lives.brake(), asyncio.get_running_loop().time()
    values: dict[str, float] = {
        "nomad.nomad.broker.total_ready": queue.ready,
        "nomad.nomad.broker.total_unacked": queue.in_hand,
        "nomad.nomad.broker.total_blocked": queue.errands,
        "nomad.nomad.broker.total_waiting": queue.later,
        "nomad.nomad.blocked_evals.total_blocked": queue.blocked,
        "nomad.nomad.heartbeat.active": sum(node.reach is Reach.PASSING for node in view.nodes.values()),
        "drover.leader.lock_age_seconds": now_s - leading.since_s,
        "drover.leader.epoch": leading.fenced.epoch,
        "drover.scheduler.queue_length": queue.ready + queue.in_hand,
        "drover.deployments_active": sum(one.document.is_active for one in view.deployments.values()),
        "drover.brake.engaged": bool(brake.engaged),
        "drover.brake.silent_nodes": len({node for scope in brake.scopes for node in scope.nodes}),
        "drover.brake.held_seconds": leading.lives.held_s(now_s),
    }
    found = [Gauge(name, float(value), {}) for name, value in values.items()]
    statuses = [node.control.status for node in view.nodes.values()]
    found += [Gauge("drover.nodes", float(statuses.count(status)), {"status": status.value}) for status in NodeStatus]
    return found + await _of_jobs(leading)


async def _of_jobs(leading: Leading) -> list[Gauge]:
    view, found = leading.view, []
    statuses = dict.fromkeys(JobStatus, 0)
    for number, key in enumerate(list(view.jobs)):
        if number % _JOBS_PER_SLICE == _JOBS_PER_SLICE - 1:
            await asyncio.sleep(0)
        job = view.jobs.get(key)
        if job is None:
            continue
        statuses[job_status(view, key, job)] += 1
        for group, counts in job_summary(view, key, job)["Summary"].items():
            labels = {"job": job.id, "namespace": job.namespace, "task_group": group}
            found += [Gauge(f"nomad.nomad.job_summary.{state.lower()}", float(n), labels) for state, n in counts.items()]
    for number, key in enumerate(sorted(view.families.periodic)):
        if number % _JOBS_PER_SLICE == _JOBS_PER_SLICE - 1:
            await asyncio.sleep(0)
        if key in view.families.periodic:
            found += _of_periodic(leading, key)
    return found + [Gauge(f"nomad.nomad.job_status.{status}", float(n), {}) for status, n in statuses.items()]


def _of_periodic(leading: Leading, key: JobKey) -> Iterator[Gauge]:
    view, now_s = leading.view, leading.fenced.now_ns // 1_000_000_000
    shown = launches_document(view, key, view.jobs[key], now_s)
    labels = {"job": key[1], "namespace": key[0]}
    values = {
        "status": float(("passing", "warning", "critical").index(shown["Status"])),
        "last_success": shown["LastSuccess"] / 1e9,
        "last_duration_seconds": shown["LastDuration"] / 1e9,
        "next_run": shown["NextLaunch"] / 1e9,
        "missed": float(shown["Missed"]),
    }
    yield from (Gauge(f"drover.periodic.{name}", value, labels) for name, value in values.items())


# -- a client's


async def _of_client(meter: Meter, context: Context) -> list[Gauge]:
    agent = context.agent
    node = agent.node
    labels = {"node_id": node.id, "datacenter": node.datacenter, "node_class": node.node_class or "none"}
    states = {"running": 0, "pending": 0, "terminal": 0}
    given = {"cpu": 0, "memory": 0, "disk": 0}
    for runner in list(agent.allocs.values()):
        status = runner.status
        states[status.value if status in (ClientStatus.RUNNING, ClientStatus.PENDING) else "terminal"] += 1
        if not runner.is_dead:
            given["cpu"] += sum(_cpu_mhz(context, task.resources) for task in runner.group.tasks)
            given["memory"] += sum(task.resources.memory_mb for task in runner.group.tasks)
            given["disk"] += runner.group.ephemeral_disk.size_mb
    found = [
        Gauge(f"nomad.client.{word}.{state}", float(n), labels) for word in ("allocs", "allocations") for state, n in states.items()
    ]
    total, kept = node.resources, node.reserved
    usable = {
        "cpu": total.cpu_mhz - kept.cpu_mhz,
        "memory": total.memory_mb - kept.memory_mb,
        "disk": total.disk_mb - kept.disk_mb,
    }
    for what, amount in given.items():
        found.append(Gauge(f"nomad.client.allocated.{what}", float(amount), labels))
        found.append(Gauge(f"nomad.client.unallocated.{what}", float(usable[what] - amount), labels))
    if context.telemetry.publish_node_metrics:
        found += await _of_host(meter, context, labels)
    if context.telemetry.publish_allocation_metrics:
        found += await _of_allocs(meter, context)
    return found


def _cpu_mhz(context: Context, resources: Any) -> int:
    """Cores of its own are so many MHz as they are here."""
    mhz: int = resources.cores * context.agent.node.resources.core_mhz if resources.cores else resources.cpu
    return mhz


async def _of_host(meter: Meter, context: Context, labels: Labels) -> list[Gauge]:
    volume = Path(context.agent.node.attributes["unique.storage.volume"])

    async def look() -> HostStats:
        return await asyncio.to_thread(host_stats.read, volume)

    def counters(host: HostStats) -> Mapping[str, float]:
        return {
            f"{number}/{name}": value
            for number, cpu in enumerate(host.cpus)
            for name, value in (("user", cpu.user_s), ("system", cpu.system_s), ("idle", cpu.idle_s), ("all", cpu.total_s))
        }

    host, per_s = await meter.growth("host", look, counters)
    found = [
        Gauge(f"nomad.client.host.memory.{name}", float(value), labels)
        for name, value in (
            ("total", host.memory_total_bytes),
            ("available", host.memory_available_bytes),
            ("used", host.memory_used_bytes),
            ("free", host.memory_free_bytes),
        )
    ]
    for number in range(len(host.cpus)):
        whole = per_s[f"{number}/all"] or 1.0
        percent = {name: 100 * per_s[f"{number}/{name}"] / whole for name in ("user", "system", "idle")}
        percent["total"] = max(100.0 - percent["idle"], 0.0)
        of_cpu = {**labels, "cpu": f"cpu{number}"}
        found += [Gauge(f"nomad.client.host.cpu.{name}", value, of_cpu) for name, value in percent.items()]
    for disk in host.disks:
        of_disk = {**labels, "disk": disk.device}
        found += [
            Gauge("nomad.client.host.disk.size", float(disk.size_bytes), of_disk),
            Gauge("nomad.client.host.disk.used", float(disk.used_bytes), of_disk),
            Gauge("nomad.client.host.disk.available", float(disk.available_bytes), of_disk),
            Gauge("nomad.client.host.disk.used_percent", disk.used_percent, of_disk),
            Gauge("nomad.client.host.disk.inodes_percent", disk.inodes_used_percent, of_disk),
        ]
    return [*found, Gauge("nomad.client.uptime", float(host.uptime_s), labels)]


async def _of_allocs(meter: Meter, context: Context) -> list[Gauge]:
    """Of the tasks that run."""
    agent = context.agent

    async def look() -> Mapping[tuple[str, str], TaskStats]:
        gate, stats = asyncio.Semaphore(_ALLOCS_AT_ONCE), {}

        async def ask(alloc_id: str) -> None:
            try:
                async with gate:
                    of_alloc = await agent.stats(alloc_id)
            except (TaskRefused, DriverBusy):
                return  # it ended meanwhile, or its driver does not answer
            stats.update({(alloc_id, task): used for task, used in of_alloc.items()})

        async with asyncio.TaskGroup() as tasks:
            for alloc_id, runner in list(agent.allocs.items()):
                if not runner.is_dead:
                    tasks.create_task(ask(alloc_id), name=f"stats {alloc_id[:8]}")
        return stats

    def counters(found: Mapping[tuple[str, str], TaskStats]) -> Mapping[str, float]:
        return {"/".join(key): used.cpu_s for key, used in found.items()}

    stats, per_s = await meter.growth("allocs", look, counters)
    mhz = float(agent.node.attributes["cpu.totalcompute"]) / float(agent.node.attributes["cpu.numcores"])
    found = []
    for (alloc_id, name), used in stats.items():
        runner = agent.allocs.get(alloc_id)
        if runner is None:
            continue
        job: Job = runner.job
        task = runner.tasks[name].task
        labels = {
            "job": job.id,
            "namespace": job.namespace,
            "task_group": runner.group.name,
            "task": name,
            "alloc_id": alloc_id,
            "node_id": agent.node.id,
        }
        cores = per_s[f"{alloc_id}/{name}"]
        values = {
            "cpu.allocated": _cpu_mhz(context, task.resources),
            "cpu.total_percent": 100 * cores,
            "cpu.total_ticks": cores * mhz,
            "memory.allocated": task.resources.memory_mb * MIB,
            "memory.usage": used.memory_bytes,
            "memory.rss": used.memory_bytes,
            "restarts": runner.tasks[name].row.state.restarts,
        }
        found += [Gauge(f"nomad.client.allocs.{what}", float(value), labels) for what, value in values.items()]
    return found
