"""Who tells Consul how periodic jobs do?

    view ──decide/watch.py──> what each check should say ──only what differs──> catalog node `drover-periodic`

For every periodic job a service `drover-periodic-<job>` with one check. They are on a node of the catalog that has no
Consul agent, so that nothing takes them away when a machine or a leader dies. What is written carries the term's epoch; a
write of an earlier leader that came late, or one that was lost, is found and mended within half a minute.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec

from catalog.services import OutsideNode, Outsider
from leader import children
from leader.decide.children import ChildRun, Outcome
from leader.decide.watch import Watch, judge
from leader.events import EventTopic
from leader.leading import Leading
from leader.view import View
from model.cluster import ChildLine, Launches
from model.job import DEFAULT_NAMESPACE, Job, JobId, Namespace
from model.snapshot import JobKey

_COMPARE_S = 30.0
_ODD = re.compile(r"[^A-Za-z0-9-]+")
_EPOCH = "drover_epoch"


def node_name(root: str) -> str:
    """Of the catalog node: `drover-periodic`, for other roots of keys by their own name."""
    return f"{_ODD.sub('-', root).strip('-') or 'drover'}-periodic"


def watch(view: View, key: JobKey, job: Job, now_s: int) -> Watch | None:
    """None: the job starts nothing by itself."""
    if job.periodic is None or job.stop or job.is_parameterized:
        return None
    return judge(job.periodic, all_runs(view, key), since_s=job.submit_time // 1_000_000_000, now_s=now_s)


def all_runs(view: View, key: JobKey) -> list[ChildRun]:
    """Of the children that are there, and of those that were removed, as far as they are remembered."""
    known = view.launches.get(key)
    launches: Launches | None = known.document if known else None
    removed = [of_line(line) for line in launches.removed] if launches else []
    return [*removed, *children.runs(view, key)]


def of_line(line: ChildLine) -> ChildRun:
    return ChildRun(
        job_id=JobId(line.id),
        due_s=line.due,
        outcome=Outcome(line.outcome),
        started_ns=line.started,
        ended_ns=line.ended,
        reason=line.reason,
    )


@dataclass(slots=True)
class Watched:
    leading: Leading
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _shown: dict[str, Outsider] = field(default_factory=dict)
    _has_node: bool = True
    _until_s: int | None = None
    _compare_s: float = 0.0  # loop time at which what Consul shows is read again

    async def run(self) -> None:
        self._changed.set()
        self.leading.view.families.listeners.add(self._changed)
        await self.leading.fenced.keep_on("periodic checks", self._cycle)

    async def _cycle(self) -> None:
        await self._wait()
        self._changed.clear()
        try:
            node = OutsideNode(self.leading.client, node_name(self.leading.keys.root), self.leading.keys.root)
            await self._compare(node)
            await self._write(node)
        except BaseException:
            self._changed.set()
            self._compare_s = 0.0
            raise

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = max(0.0, self._compare_s - loop.time())
        if self._until_s is not None:
            wait_s = min(wait_s, max(0.0, self._until_s - self.leading.fenced.now_ns / 1e9))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changed.wait()

    async def _compare(self, node: OutsideNode) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._compare_s:
            return
        shown = await node.read()
        self._shown, self._has_node = shown or {}, shown is not None
        self._compare_s = loop.time() + _COMPARE_S

    async def _write(self, node: OutsideNode) -> None:
        wanted = self._wanted()
        for service_id, outsider in wanted.items():
            known = self._shown.get(service_id)
            if not _is_same(known, outsider):
                await node.put(outsider)
                self._tell(outsider, known)
                self._shown[service_id], self._has_node = outsider, True
        for service_id in sorted(self._shown.keys() - wanted.keys()):
            await node.drop(service_id)
            del self._shown[service_id]
        if self._has_node and not self._shown:
            await node.drop_all()
            self._has_node = False

    def _tell(self, outsider: Outsider, before: Outsider | None) -> None:
        """An event of the job, when it does otherwise than before."""
        view = self.leading.view
        job = view.jobs.get((Namespace(outsider.meta["drover_namespace"]), JobId(outsider.meta["drover_job"])))
        if job is not None and before is not None and before.status != outsider.status:
            shown = msgspec.structs.replace(job, status_description=outsider.output)
            view.note(0, EventTopic.JOB, f"Periodic{outsider.status.capitalize()}", shown)

    def _wanted(self) -> dict[str, Outsider]:
        view, now_s = self.leading.view, self.leading.fenced.now_ns // 1_000_000_000
        wanted, self._until_s = {}, None
        for key in sorted(view.families.periodic):
            found = watch(view, key, view.jobs[key], now_s)
            if found is None:
                continue
            outsider = _outsider(key, found, self.leading.fenced.epoch)
            wanted[outsider.id] = outsider
            if found.until_s is not None:
                self._until_s = min(self._until_s or found.until_s, found.until_s)
        return wanted


def _outsider(key: JobKey, found: Watch, epoch: int) -> Outsider:
    namespace, job_id = key
    name = job_id if namespace == DEFAULT_NAMESPACE else f"{namespace}-{job_id}"
    return Outsider(
        id=f"_drover-periodic-{namespace}-{job_id}",
        service=f"drover-periodic-{_ODD.sub('-', name)}",
        meta={"drover_job": job_id, "drover_namespace": namespace, _EPOCH: str(epoch)},
        status=found.status,
        output=found.output,
    )


def _is_same(shown: Outsider | None, wanted: Outsider) -> bool:
    """A term of its own is no reason to write it anew."""
    return shown is not None and replace(shown, meta={**shown.meta, _EPOCH: ""}) == replace(
        wanted, meta={**wanted.meta, _EPOCH: ""}
    )
