"""How fast is the web UI on a large cluster, and does it keep up with what happens there?

    python -m benchmarks.ui [--nodes 5000] [--jobs 2000] [--allocs 100000] [--events-s 20]

A leader's view of that size, made up, is served by the real API and looked at with a real Chromium. Prints one JSON line, in
milliseconds: the first page until it can be used, cold (a browser that knows nothing, a leader that was asked nothing) and
warm; a filter from the key that was pressed until the rows are there, in the jobs and in the allocations; then, with 200 events
a second, how long after the last one the page has heard it, and by how much its heap has grown (MiB, collected before and after).
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiohttp import web
from playwright.sync_api import Page, sync_playwright

from api.context import Context
from api.rights import Rights
from api.server import application
from catalog.keys import Keys
from configs import Acl, AgentConfig
from configs.tls import Contexts
from leader.leading import Leading
from leader.lives import NodeLives
from leader.view import View
from model.alloc import (
    AllocId,
    ClientStatus,
    DesiredAlloc,
    EvalId,
    ObservedAlloc,
    TaskEvent,
    TaskState,
    TaskStatus,
    alloc_name,
)
from model.cluster import JobRecord, Leader
from model.job import EphemeralDisk, Job, JobId, Resources, Task, TaskGroup
from model.node import DriverInfo, Node, NodeControl, NodeId, NodeResources, NodeStatus
from model.snapshot import Reach, Settings
from tests.components.chromium import ARGUMENTS, chromium
from web.serving import pages

EVENTS_PER_S = 200
_BEGIN = 1_000_000


def a_view(nodes: int, jobs: int, allocs: int) -> View:
    rng = random.Random(1)

    def new_id() -> str:
        return str(uuid.UUID(int=rng.getrandbits(128), version=4))

    view, node_ids = View(), [NodeId(new_id()) for _ in range(nodes)]
    for number, node_id in enumerate(node_ids):
        node = Node(
            id=node_id, name=f"node-{number:05}", datacenter=f"dc{number % 3}", virtual_datacenter=("", "red", "blue")[number % 3],
            http_addr="127.0.0.1:1", address="127.0.0.1", attributes={f"attr.{i}": f"value {i}" for i in range(20)},
            drivers={"docker": DriverInfo(detected=True, healthy=True)}, resources=NodeResources(cpu_mhz=20000, memory_mb=64000, disk_mb=100000),
        )  # fmt: skip
        view.put_node(node, 10)
        view.put_control(NodeControl(node_id=node_id, status=NodeStatus.READY), 10)
        view.put_reach(node_id, Reach.PASSING, 1.0)
    per_job = allocs // jobs
    for number in range(jobs):
        task = Task(name="t", driver="docker", resources=Resources(cpu=100, memory_mb=100))
        group = TaskGroup(name="g", count=per_job, ephemeral_disk=EphemeralDisk(size_mb=10), tasks=(task,))
        job = Job(id=JobId(f"job-{number:04}"), name=f"job-{number:04}", datacenters=("*",), task_groups=(group,))
        view.put_version(job, 10, 10)
        view.put_record(JobRecord(namespace=job.namespace, job_id=job.id, version=0), 10, 10)
        for index in range(per_job):
            alloc_id, row = AllocId(new_id()), rng.randrange(nodes)
            desired = DesiredAlloc(
                id=alloc_id, name=alloc_name(job.id, "g", index), namespace=job.namespace, job_id=job.id, job_version=0, task_group="g",
                node_id=node_ids[row], node_name=f"node-{row:05}", eval_id=EvalId(new_id()), create_time=1,
            )  # fmt: skip
            view.put_desired(desired, 11 + index, 11 + index)
            status = ClientStatus.FAILED if number % 100 == 0 and index == 0 else ClientStatus.RUNNING
            view.put_observed(_report(desired, status, 0), 100_000 + number)
    view.events.begin(_BEGIN)
    view.index = _BEGIN
    return view


def _report(desired: DesiredAlloc, status: ClientStatus, sequence: int) -> ObservedAlloc:
    events = tuple(TaskEvent(type=kind, time=time.time_ns(), display_message="Exit Code: 1") for kind in ("Terminated", "Restarting", "Started"))
    state = TaskState(state=TaskStatus.RUNNING, restarts=1, started_at="2026-01-01T00:00:00Z", events=events)
    return ObservedAlloc(id=desired.id, node_id=desired.node_id, client_status=status, task_states={"t": state}, sequence=sequence)


async def _parse(*_: object, **__: object) -> Any:
    return None


class _Fenced(SimpleNamespace):
    @property
    def now_ns(self) -> int:
        return time.time_ns()


def a_context(view: View) -> Context:
    """Of a leader that nobody elected: no Consul is asked."""
    me = Leader(node_id=next(iter(view.nodes)), name="synthetic", http_addr="127.0.0.1:1", epoch=1, since=1, nonce="")
    loop = asyncio.get_running_loop()
    # Its deadline is always ahead.
    lease = SimpleNamespace(candidate=SimpleNamespace(leader=me, ttl_s=3.0), deadline_s=float("inf"))
    fenced: Any = _Fenced(kv=None, lease=lease, term=SimpleNamespace(fence=None), epoch=1, rng=random.Random(1), now=lambda: datetime.now(UTC))
    keys = Keys("drover/state")
    client: Any = None
    leading = Leading(client=client, keys=keys, fenced=fenced, settings=Settings(), probe=_parse)  # type: ignore[arg-type]
    leading.view = view
    leading.lives = NodeLives(fenced=fenced, store=leading.store, view=view, settings=Settings(), probe=_parse, doubt=lambda _: None)  # type: ignore[arg-type]
    leading.is_ready, leading.since_s = True, loop.time()
    nothing: Any = SimpleNamespace(close=_parse)
    rights = Rights(authority=nothing, keys=keys, acl=Acl(enabled=False), node_id=me.node_id, consul_node="", fleet=_parse)
    tls: Contexts = nothing
    return Context(
        node_id=me.node_id, name="synthetic", region="global", datacenter="dc0", http_addr="127.0.0.1:1", version="0", config={},
        lookup=nothing, election=SimpleNamespace(leading=leading), is_candidate=lambda: True, lock=nothing, rights=rights, tls=tls,  # type: ignore[arg-type]
        agent=None, members=_parse, forget_member=_parse, heartbeat=lambda: None, contact=nothing, check_results=nothing,
    )  # fmt: skip


def serve(nodes: int, jobs: int, allocs: int, ready: Any, told: Any) -> None:
    """A process of its own. ready: gets the port. told: gets how long events shall come, gives the index of the last one."""
    asyncio.run(_serve(nodes, jobs, allocs, ready, told))


async def _serve(nodes: int, jobs: int, allocs: int, ready: Any, told: Any) -> None:
    view = a_view(nodes, jobs, allocs)
    runner = web.AppRunner(application(a_context(view), AgentConfig(name="synthetic", data_dir=Path("/nonexistent")), pages()))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ready.send(runner.addresses[0][1])
    index, some = _BEGIN, list(view.allocs.values())
    while (span_s := await asyncio.to_thread(told.recv)) is not None:
        loop, rng = asyncio.get_running_loop(), random.Random(2)
        began_s = loop.time()
        for number in range(int(span_s * EVENTS_PER_S)):
            index += 1
            desired = some[rng.randrange(len(some))].desired
            status = ClientStatus.PENDING if number % 2 else ClientStatus.RUNNING
            view.put_observed(_report(desired, status, index), index)
            await asyncio.sleep(max(0.0, began_s + number / EVENTS_PER_S - loop.time()))
        told.send(index)
    await runner.cleanup()


def _first_page(page: Page, base: str) -> float:
    began = time.perf_counter()
    page.goto(f"{base}/ui/")
    page.get_by_role("region", name="Failing jobs").wait_for()
    return (time.perf_counter() - began) * 1000


_FILTER = """([text, count]) => new Promise(done => {
  const field = document.querySelector("[data-search]"), began = performance.now();
  const look = () => document.querySelector(".total").textContent.startsWith(count + " ") ? done(performance.now() - began) : requestAnimationFrame(look);
  field.value = text;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  look();
})"""


def _filter(page: Page, url: str, texts: dict[str, int]) -> float:
    page.goto(url)
    page.locator("[data-row]").first.wait_for()
    return max(float(page.evaluate(_FILTER, [text, count])) for text, count in texts.items())


def _heap_mib(page: Page) -> float:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"]) / 1048576


def measure(nodes: int, jobs: int, allocs: int, events_s: float) -> dict[str, float]:
    spawn = multiprocessing.get_context("spawn")
    (ready, ready_end), (told, told_end) = spawn.Pipe(False), spawn.Pipe()
    process = spawn.Process(target=serve, args=(nodes, jobs, allocs, ready_end, told_end))
    process.start()
    ready_end.close()  # a server that fails is no reason to wait for ever
    base = f"http://127.0.0.1:{ready.recv()}"
    per_job = allocs // jobs
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium()), args=list(ARGUMENTS))
        page = browser.new_page()
        page.goto("about:blank")
        found = {"first_page_cold_ms": _first_page(page, base), "first_page_warm_ms": min(_first_page(page, base) for _ in range(3))}
        found["filter_jobs_ms"] = _filter(page, f"{base}/ui/jobs", {"job-01": 100, "job-0123": 1, "job-1": 1000 if jobs > 1999 else 0})
        found["filter_allocations_ms"] = _filter(page, f"{base}/ui/allocations", {"job-0123": per_job, "job-01": 100 * per_job})
        page.goto(f"{base}/ui/")
        page.locator("[data-fresh=live]").wait_for()
        told.send(events_s / 4)  # the page has what it needs for such a pace
        told.recv()
        before = _heap_mib(page)
        told.send(events_s)
        last = told.recv()
        began = time.perf_counter()
        page.evaluate(
            """last => new Promise(done => {
              const script = document.querySelector("script[type=module]").src.replace("app.js", "api.js");
              import(script).then(api => { const look = () => api.heardUntil() > last ? done() : setTimeout(look, 5); look(); });
            })""",
            last,
        )
        found["heard_after_ms"] = (time.perf_counter() - began) * 1000
        page.wait_for_timeout(2000)
        found["heap_grown_mib"], found["heap_mib"] = _heap_mib(page) - before, before
        browser.close()
    told.send(None)
    process.join()
    return {name: round(value, 1) for name, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--allocs", type=int, default=100_000)
    parser.add_argument("--events-s", type=float, default=20.0)
    args = parser.parse_args()
    print(json.dumps(measure(args.nodes, args.jobs, args.allocs, args.events_s)))


if __name__ == "__main__":
    main()
