"""Who tells Consul how periodic jobs do?

    view ──decide/watch.py──> what each check should say ──only what differs──> catalog node `drover-periodic`

For every periodic job a service `drover-periodic-<job>` with one check. They are on a node of the catalog that has no
Consul agent, so that nothing takes them away when a machine or a leader dies. What is written carries the term's epoch; a
write of an earlier leader that came late, or one that was lost, is found and mended within half a minute.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec

from catalog.keys import DEV_ROOT
from catalog.services import OutsideNode, Outsider
from leader import children
from leader.decide.children import ChildRun, Outcome
from leader.decide.watch import Watch, judge
from leader.events import EventTopic
from leader.families import Changes
from leader.fenced import log
from leader.leading import Leading
from leader.view import View
from model.cluster import ChildLine, Launches
from model.errors import StoreForbidden, StoreRefused
from model.job import DEFAULT_NAMESPACE, Job, JobId
from model.snapshot import JobKey

_COMPARE_S = 30.0
# What a DNS label cannot hold; and two hyphens, which stand between namespace and job.
_ODD = re.compile(r"[^A-Za-z0-9-]+")
_UNCLEAR = re.compile(r"[^A-Za-z0-9-]|--")
_EPOCH = "drover_epoch"
# Consul takes as much of one value of a service's meta.
_META_BYTES_MAX = 512
_NAME_MAX = 128


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
    """wanted: by job; until: when time alone changes that."""

    leading: Leading
    _changes: Changes = field(default_factory=Changes)
    _wanted: dict[JobKey, Outsider] = field(default_factory=dict)
    _until_s: dict[JobKey, int] = field(default_factory=dict)
    _shown: dict[str, Outsider] = field(default_factory=dict)
    _refused: dict[str, str] = field(default_factory=dict)  # by service; told once
    _has_node: bool = True
    _compare_s: float = 0.0  # loop time at which what Consul shows is read again

    async def run(self) -> None:
        families = self.leading.view.families
        families.listen(self._changes)
        self._changes.add(*families.periodic)
        await self.leading.fenced.keep_on("periodic checks", self._cycle)

    async def _cycle(self) -> None:
        await self._wait()
        now_s = self.leading.fenced.now_ns // 1_000_000_000
        keys = sorted({*self._changes.take(), *(key for key, at_s in self._until_s.items() if at_s <= now_s)})
        try:
            root = self.leading.keys.root
            node = OutsideNode(self.leading.client, node_name(root), root)
            is_anew = await self._compare(node)
            for key in keys:
                self._look(key, now_s)
                await asyncio.sleep(0)
            await self._write(node, self._wanted.keys() if is_anew else keys)
        except BaseException:
            self._changes.add(*keys)
            self._compare_s = 0.0
            raise

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = max(0.0, self._compare_s - loop.time())
        until_s = min(self._until_s.values(), default=None)
        if until_s is not None:
            wait_s = min(wait_s, max(0.0, until_s - self.leading.fenced.now_ns / 1e9))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._changes.event.wait()

    def _look(self, key: JobKey, now_s: int) -> None:
        job = self.leading.view.jobs.get(key)
        found = watch(self.leading.view, key, job, now_s) if job is not None else None
        self._wanted.pop(key, None)
        self._until_s.pop(key, None)
        if found is None:
            return
        self._wanted[key] = _outsider(key, found, self.leading.fenced.epoch, self.leading.keys.root)
        if found.until_s is not None:
            self._until_s[key] = found.until_s

    async def _compare(self, node: OutsideNode) -> bool:
        """Whether what Consul shows was read."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._compare_s:
            return False
        shown = await node.read()
        self._shown, self._has_node = shown or {}, shown is not None
        self._compare_s = loop.time() + _COMPARE_S
        return True

    async def _write(self, node: OutsideNode, keys: Iterable[JobKey]) -> None:
        """What differs of these jobs, and what nobody wants any more."""
        for key in sorted(keys):
            outsider = self._wanted.get(key)
            if outsider is None or _is_same(known := self._shown.get(outsider.id), outsider):
                continue
            try:
                await node.put(outsider)
            except StoreForbidden:
                raise
            except StoreRefused as error:
                # One job's must not keep the others' from being told. Tried again with all of them.
                self._refuse(outsider, str(error))
                continue
            self._refused.pop(outsider.id, None)
            self._tell(key, outsider, known)
            self._shown[outsider.id], self._has_node = outsider, True
        for service_id in sorted(self._shown.keys() - {outsider.id for outsider in self._wanted.values()}):
            await node.drop(service_id)
            del self._shown[service_id]
        if self._has_node and not self._shown:
            await node.drop_all()
            self._has_node = False

    def _refuse(self, outsider: Outsider, reason: str) -> None:
        if self._refused.get(outsider.id) != reason:
            self._refused[outsider.id] = reason
            log.warning("the check of service %s is not written: %s", outsider.service, reason)

    def _tell(self, key: JobKey, outsider: Outsider, before: Outsider | None) -> None:
        """An event of the job, when it does otherwise than before."""
        view = self.leading.view
        job = view.jobs.get(key)
        if job is not None and before is not None and before.status != outsider.status:
            shown = msgspec.structs.replace(job, status_description=outsider.output)
            view.note(0, EventTopic.JOB, f"Periodic{outsider.status.capitalize()}", shown)


def _outsider(key: JobKey, found: Watch, epoch: int, root: str) -> Outsider:
    namespace, job_id = key
    name = service_name(key, root)
    return Outsider(
        # Consul's ids are the same in capitals, and every job's is its own.
        id=f"_{name}-{_digest(key, 16)}",
        service=name,
        meta={"drover_job": _cut(job_id), "drover_namespace": _cut(namespace), _EPOCH: str(epoch)},
        status=found.status,
        output=found.output,
    )


def service_name(key: JobKey, root: str) -> str:
    """Of the job's service: `drover-periodic-<job>`, of other namespaces `drover-periodic-<namespace>--<job>`. Where that is no
    name that DNS knows, or could be another job's, with a digest of both at its end. A -dev agent's are named apart."""
    namespace, job_id = key
    name = _ODD.sub("-", job_id if namespace == DEFAULT_NAMESPACE else f"{namespace}--{job_id}")
    is_clear = not (_UNCLEAR.search(namespace) or _UNCLEAR.search(job_id) or namespace.endswith("-") or job_id.startswith("-"))
    if not is_clear or len(name) > _NAME_MAX:
        name = f"{name[:_NAME_MAX]}-{_digest(key, 8)}"
    return f"{service_prefix(root)}{name}"


def service_prefix(root: str) -> str:
    return "drover-dev-periodic-" if root.startswith(f"{DEV_ROOT}/") else "drover-periodic-"


def _digest(key: JobKey, digits: int) -> str:
    return hashlib.sha256("\0".join(key).encode(errors="surrogatepass")).hexdigest()[:digits]


def _cut(text: str) -> str:
    return text.encode(errors="replace")[:_META_BYTES_MAX].decode(errors="ignore")


def _is_same(shown: Outsider | None, wanted: Outsider) -> bool:
    """A term of its own is no reason to write it anew."""
    return shown is not None and replace(shown, meta={**shown.meta, _EPOCH: ""}) == replace(
        wanted, meta={**wanted.meta, _EPOCH: ""}
    )
