"""What does the leader hold in memory of what Consul says?

Filled at take-over, then kept up to date from inboxes and from the leader's own accepted writes: only
facts that are in Consul are ever here. It hands out read-only Snapshots to decisions, remembers which
jobs something happened to, and tells waiting API calls what changed, each topic by its own index.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import msgspec

from leader.decide.table import Ask, NodeTable, ask_of
from leader.events import Events, EventTopic
from leader.families import Families
from leader.tally import Tally
from model.alloc import Alloc, AllocId, DesiredAlloc, EvalId, ObservedAlloc, Verdict
from model.cluster import BrakeRelease, JobRecord, Launches, NamespaceSpec, SchedulerConfiguration
from model.deployment import Deployment, DeploymentId
from model.errors import SessionLost
from model.evaluation import EvalStatus, Evaluation
from model.job import DEFAULT_NAMESPACE, Job, JobId, Namespace
from model.node import Node, NodeControl, NodeId, overlaid
from model.snapshot import JobKey, Life, NodeView, Reach, Snapshot
from vault.directory import Directory

# A topic names what an API call waits for: ("jobs",), ("job", key), ("alloc", id), ("nodes",), …
Topic = tuple[Any, ...]


@dataclass(slots=True)
class Indexed:
    """A document and the Consul indexes of the key that holds it."""

    document: Any
    create_index: int
    modify_index: int


def _default_namespace() -> dict[Namespace, Indexed]:
    default = NamespaceSpec(name=DEFAULT_NAMESPACE, description="Default shared namespace")
    return {DEFAULT_NAMESPACE: Indexed(default, 1, 1)}


@dataclass(slots=True)
class View:
    """All of drover's state, by the kind of fact. Change it only through its methods."""

    # The leader's clock, ns since the epoch: what is over by a deadline alone is no fact of Consul's.
    clock: Callable[[], int] = time.time_ns
    index_base: int = 0
    # Consul's index at which the term began. No topic's index is below it: what was deleted under the leader
    # before has left no trace, and an index that went back would be worse than one needless wake.
    floor: int = 1
    index: int = 1  # the highest Consul index seen
    records: dict[JobKey, Indexed] = field(default_factory=dict)
    jobs: dict[JobKey, Job] = field(default_factory=dict)
    versions: dict[tuple[JobKey, int], Job] = field(default_factory=dict)
    version_indexes: dict[tuple[JobKey, int], Indexed] = field(default_factory=dict)
    allocs: dict[AllocId, Alloc] = field(default_factory=dict)
    allocs_by_job: dict[JobKey, dict[AllocId, Alloc]] = field(default_factory=dict)
    allocs_by_node: dict[NodeId, dict[AllocId, Alloc]] = field(default_factory=dict)
    nodes: dict[NodeId, NodeView] = field(default_factory=dict)
    node_indexes: dict[NodeId, int] = field(default_factory=dict)
    evals: dict[EvalId, Indexed] = field(default_factory=dict)
    evals_by_job: dict[JobKey, dict[EvalId, Indexed]] = field(default_factory=dict)
    deployments: dict[DeploymentId, Indexed] = field(default_factory=dict)
    deployments_by_job: dict[JobKey, dict[DeploymentId, Indexed]] = field(default_factory=dict)
    launches: dict[JobKey, Indexed] = field(default_factory=dict)
    # Jobs that Vault is reached through (vault_path.py): they come first, for others wait for it.
    bootstrap: frozenset[JobKey] = frozenset()
    # What vault_path.py keeps of the jobs, and whose turn at it is.
    directory: Directory = field(default_factory=Directory)
    directory_turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    families: Families = field(default_factory=Families)
    tally: Tally = field(default_factory=Tally)
    released: BrakeRelease = field(default_factory=BrakeRelease)
    scheduler: Indexed = field(default_factory=lambda: Indexed(SchedulerConfiguration(), 0, 0))
    # "default" is there though nobody made it.
    namespaces: dict[Namespace, Indexed] = field(default_factory=_default_namespace)
    orphans: dict[AllocId, ObservedAlloc] = field(default_factory=dict)
    table: NodeTable = field(default_factory=NodeTable)
    dirty: set[JobKey] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    # Set when a node's reach may have changed, and when something about a node did change.
    unheard: asyncio.Event = field(default_factory=asyncio.Event)
    nodes_changed: asyncio.Event = field(default_factory=asyncio.Event)
    # Nodes with more room than before: what found none may be tried again.
    freed: set[NodeId] = field(default_factory=set)
    heard_at_s: float = 0.0  # loop time of the last full read of Consul's health
    is_over: bool = False
    events: Events = field(default_factory=Events)
    # By node too: an agent may speak of its own node's allocs only.
    _observed: dict[tuple[NodeId, AllocId], tuple[ObservedAlloc, int]] = field(default_factory=dict)
    _topic_indexes: dict[Topic, int] = field(default_factory=dict)
    _gone: int = 1  # the highest index of a topic that was forgotten
    # Topics whose index was told to somebody since it last moved.
    _shown: set[Topic] = field(default_factory=set)
    _running: dict[JobKey, int] = field(default_factory=dict)  # allocs that have not ended
    _system_jobs: set[JobKey] = field(default_factory=set)
    _version_numbers: dict[JobKey, set[int]] = field(default_factory=dict)
    _waiters: dict[Topic, set[asyncio.Future[None]]] = field(default_factory=dict)

    # -- reading

    def snapshot(self) -> Snapshot:
        return Snapshot(
            jobs=self.jobs,
            versions=self.versions,
            allocs=self.allocs,
            allocs_by_job=self.allocs_by_job,
            nodes=self.nodes,
        )

    def api_index(self, consul_index: int) -> int:
        """The index that the API shows for one of Consul's: never 0, never going back."""
        return max(1, self.index_base + consul_index)

    def topic_index(self, topic: Topic) -> int:
        """The API index at which the topic last changed."""
        if topic in self._topic_indexes or self._gone > self.floor:
            self._shown.add(topic)
        return self.api_index(self._consul_index(topic))

    def _consul_index(self, topic: Topic) -> int:
        return max(self.floor, self._topic_indexes.get(topic, self._gone))

    def forget_topics(self) -> None:
        """Those of what is gone: else memory would grow with all that ever was. What has no index of its own any more
        shows the highest of theirs: it never goes back, and at worst wakes somebody once in vain."""
        for topic, index in list(self._topic_indexes.items()):
            if topic not in self._waiters and not self._is_there(topic):
                self._gone = max(self._gone, index)
                del self._topic_indexes[topic]
        self._shown = {topic for topic in self._shown if topic in self._waiters or self._is_there(topic)}

    def _is_there(self, topic: Topic) -> bool:
        match topic:
            case ("job" | "summary" | "job-allocs" | "job-evals" | "job-deployments" | "job-scale", key):
                return key in self.jobs or key in self.allocs_by_job or key in self.evals_by_job
            case ("alloc", alloc_id):
                return alloc_id in self.allocs
            case ("eval" | "eval-allocs", eval_id):
                return eval_id in self.evals
        return True

    def version_numbers(self, key: JobKey) -> list[int]:
        """Of the job's versions that are known, in order."""
        return sorted(self._version_numbers.get(key, ()))

    def end(self) -> None:
        """The term is over: nothing here moves any more, and who waits must ask the next leader."""
        self.is_over = True
        self.events.end()
        for waiting in self._waiters.values():
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def wait(self, topic: Topic, index: int, timeout_s: float) -> None:
        """Returns once the topic's index is above `index`, or after the timeout. Raises SessionLost at the term's end."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.topic_index(topic) <= index:
                    if self.is_over:
                        raise SessionLost("the term ended while a call waited")
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    waiting = self._waiters.setdefault(topic, set())
                    waiting.add(future)
                    try:
                        await future
                    finally:
                        waiting.discard(future)
                        if not waiting:
                            self._waiters.pop(topic, None)
        except TimeoutError:
            return

    # -- changing

    def touch(self, consul_index: int, *topics: Topic) -> None:
        """Raises the topics' indexes and wakes who waits for them.

        A fact may come here later than one with a higher index. Who has seen that one waits above it, so the
        late one gets the next index of all, one of its own: a gap in Consul's that nobody else shows.
        """
        self.index = max(self.index, consul_index)
        for topic in topics:
            if consul_index > self._consul_index(topic):
                self._topic_indexes[topic] = consul_index
            elif topic in self._shown:
                self._topic_indexes[topic] = self._consul_index(topic) + 1
                self.index = max(self.index, self._topic_indexes[topic])
            self._shown.discard(topic)
            for future in self._waiters.get(topic, ()):
                if not future.done():
                    future.set_result(None)

    def mark(self, keys: Iterable[JobKey]) -> None:
        """Something happened to these jobs: decide about them again."""
        self.dirty.update(keys)
        if self.dirty:
            self.wake.set()

    def put_scheduler(self, configuration: SchedulerConfiguration, create_index: int, modify_index: int) -> None:
        self.scheduler = Indexed(configuration, create_index, modify_index)
        self.touch(modify_index, ("scheduler",))
        self.freed.update(self.nodes)  # what found no room may find some now

    def put_namespace(self, spec: NamespaceSpec, create_index: int, modify_index: int) -> None:
        name = Namespace(spec.name)
        self.namespaces[name] = Indexed(spec, create_index, modify_index)
        self.table.bind(name, spec.virtual_datacenters)
        self.touch(modify_index, ("namespaces",), ("namespace", name))
        self.freed.update(self.nodes)  # what found no room may find some now

    def drop_namespace(self, name: Namespace, consul_index: int) -> None:
        self.namespaces.pop(name, None)
        self.table.bind(name, ())
        self.touch(consul_index, ("namespaces",), ("namespace", name))

    def put_version(self, job: Job, create_index: int, modify_index: int) -> None:
        key = (job.namespace, job.id)
        self.versions[key, job.version] = job
        self.version_indexes[key, job.version] = Indexed(job, create_index, modify_index)
        self._version_numbers.setdefault(key, set()).add(job.version)
        self.families.put_version(key, job.parent_id)

    def put_record(self, record: JobRecord, create_index: int, modify_index: int) -> None:
        """The job's current version; that version's document must be here already."""
        key = (Namespace(record.namespace), JobId(record.job_id))
        known, scaled = self.records.get(key), _scaling_of(self.jobs.get(key))
        self.records[key] = Indexed(record, create_index, modify_index)
        self.jobs[key] = self.versions[key, record.version]
        if _scaling_of(self.jobs[key]) != scaled:
            self.touch(modify_index, ("scaling",), ("scaling", *key))
        if known is None or known.modify_index != modify_index:
            self._note_job(self.jobs[key], modify_index)
        if self.jobs[key].is_system:
            self._system_jobs.add(key)
        else:
            self._system_jobs.discard(key)
        self.families.put(key, self.jobs[key], create_index)
        self.touch(modify_index, ("jobs",), ("job", key), ("job-scale", key), *self._parent_topics(key))
        self.mark([key])

    def put_launches(self, launches: Launches, create_index: int, modify_index: int) -> None:
        key = (Namespace(launches.namespace), JobId(launches.job_id))
        self.launches[key] = Indexed(launches, create_index, modify_index)
        self.families.changed(key)
        self.touch(modify_index, ("summary", key))

    def drop_launches(self, key: JobKey) -> None:
        self.launches.pop(key, None)
        self.families.changed(key)

    def drop_job(self, key: JobKey, consul_index: int) -> None:
        """The job was purged; versions stay while allocs name them."""
        topics = self._parent_topics(key)
        self.mark([parent for parent in [self.families.parent(key)] if parent])
        self.families.drop(key)
        self.records.pop(key, None)
        job = self.jobs.pop(key, None)
        if job is not None:
            self.note(consul_index, EventTopic.JOB, "JobDeregistered", job)
            if _scaling_of(job):
                self.touch(consul_index, ("scaling",), ("scaling", *key))
        self._system_jobs.discard(key)
        self.touch(consul_index, ("jobs",), ("job", key), *topics)
        self.mark([key])

    def drop_versions(self, key: JobKey, versions: Iterable[int]) -> None:
        for version in versions:
            self.versions.pop((key, version), None)
            self.version_indexes.pop((key, version), None)
            self._version_numbers.get(key, set()).discard(version)
        if not self._version_numbers.get(key):
            self._version_numbers.pop(key, None)
            self.families.drop_versions(key)

    def latest_deployment(self, key: JobKey) -> Deployment | None:
        """The job's newest, of whatever version."""
        known = self.deployments_by_job.get(key)
        if not known:
            return None
        newest: Deployment = max(known.values(), key=lambda indexed: indexed.create_index).document
        return newest

    def put_deployment(self, deployment: Deployment, create_index: int, modify_index: int) -> None:
        known = self.deployments.get(deployment.id)
        indexed = Indexed(deployment, known.create_index if known else create_index, modify_index)
        key = (deployment.namespace, deployment.job_id)
        self.deployments[deployment.id] = indexed
        self.deployments_by_job.setdefault(key, {})[deployment.id] = indexed
        if known is None or known.modify_index != modify_index:
            self.note(modify_index, EventTopic.DEPLOYMENT, _happened_to(known.document if known else None, deployment), indexed)
        self.touch(modify_index, ("deployments",), ("deployment", deployment.id), ("job-deployments", key))

    def drop_deployment(self, deployment_id: DeploymentId, consul_index: int) -> None:
        indexed = self.deployments.pop(deployment_id, None)
        if indexed is not None:
            key = (indexed.document.namespace, indexed.document.job_id)
            self.deployments_by_job[key].pop(deployment_id, None)
            if not self.deployments_by_job[key]:
                del self.deployments_by_job[key]
            self.touch(consul_index, ("deployments",), ("deployment", deployment_id), ("job-deployments", key))

    def put_node(self, node: Node, modify_index: int) -> None:
        """As its agent says; everything that decides or shows meta sees what was set at run time over it."""
        known = self.nodes.get(node.id)
        view = (
            replace(known, node=_with_meta(node, node.meta, known.control), static_meta=node.meta)
            if known
            else NodeView(
                node=node,
                control=NodeControl(node_id=node.id),
                reach=Reach.SILENT,
                reach_since_s=0.0,
                static_meta=node.meta,
            )
        )
        if known is None or modify_index > self.node_indexes.get(node.id, 0):
            self.note(modify_index, EventTopic.NODE, "NodeRegistration", view)
        self._set_node(view, modify_index)
        if view.reach is not Reach.PASSING:
            self.unheard.set()

    def put_control(self, control: NodeControl, modify_index: int) -> None:
        known = self.nodes.get(control.node_id)
        if known is not None:
            node = _with_meta(known.node, known.static_meta, control)
            view = replace(known, node=node, control=control, control_index=modify_index)
            if known.control_index != modify_index:
                self.note(modify_index, EventTopic.NODE, _happened_to_node(known.control, control), view)
            self._set_node(view, modify_index)

    def put_reach(self, node_id: NodeId, reach: Reach, now_s: float, *, is_stalled: bool = False) -> None:
        """What Consul's health says of the node. No document; but the node is shown otherwise when its life changes."""
        known = self.nodes.get(node_id)
        if known is None or (known.reach is reach and known.is_stalled == is_stalled and known.reach_since_s):
            return
        # A node of which nothing was known yet (0) is silent since now: it has its whole grace under each leader.
        since_s = known.reach_since_s if known.reach is reach and known.reach_since_s else now_s
        view = replace(known, reach=reach, reach_since_s=since_s, is_stalled=is_stalled)
        is_shown_otherwise = view.life is not known.life
        if is_shown_otherwise:
            self.note(0, EventTopic.NODE, "NodeStreamEvent", view)  # no write: the newest index so far
        self._set_node(view, self.index if is_shown_otherwise else 0)

    def drop_node(self, node_id: NodeId, consul_index: int) -> None:
        known = self.nodes.pop(node_id, None)
        if known is not None:
            self.note(consul_index, EventTopic.NODE, "NodeDeregistration", known)
            self.node_indexes.pop(node_id, None)
            if not self.tally.live[node_id]:
                del self.tally.live[node_id]
            self.table.drop_node(node_id)
            self.touch(consul_index, ("nodes",), ("node", node_id))
            self.mark(self._jobs_on(node_id))

    def put_desired(self, desired: DesiredAlloc, create_index: int, modify_index: int) -> None:
        known = self.allocs.get(desired.id)
        observed, observed_index = self._observed.get((desired.node_id, desired.id), (None, 0))
        alloc = Alloc(
            desired=desired,
            observed=observed,
            create_index=known.create_index if known else create_index,
            desired_index=modify_index,
            observed_index=observed_index,
        )
        if known is None or known.desired_index != modify_index:
            self.note(modify_index, EventTopic.ALLOCATION, "PlanResult", alloc)
        self._set_alloc(alloc, modify_index)

    def put_observed(self, observed: ObservedAlloc, modify_index: int) -> None:
        self._observed[observed.node_id, observed.id] = (observed, modify_index)
        known = self.allocs.get(observed.id)
        if known is not None and known.desired.node_id != observed.node_id:
            return
        if known is None:
            self._put_orphan(observed)
            return
        alloc = replace(known, observed=observed, observed_index=modify_index)
        if modify_index != known.observed_index or modify_index <= self.floor:
            # What an inbox names that the leader before has not emptied: perhaps it told nobody.
            self.note(modify_index, EventTopic.ALLOCATION, "AllocationUpdated", alloc)
        self._set_alloc(alloc, modify_index)
        self._put_orphan(observed)  # its desired document is gone, though we did not delete it
        if (
            known.client_status is not alloc.client_status
            or alloc.desired.verdict is not Verdict.NONE
            or _health(known) is not _health(alloc)
            or (known.observed is not None and known.observed.failed_runs != observed.failed_runs)
        ):
            self.mark([job_key(alloc)])

    def _put_orphan(self, observed: ObservedAlloc) -> None:
        """It takes room like any other; of a job that is not known any more only its ports and cores are."""
        held = self.orphans.get(observed.id)
        if held is not None and held.node_id != observed.node_id:
            return  # another node's
        orphan = observed.orphan
        if orphan is None or observed.client_status.is_terminal:
            self._drop_orphan(observed.id)
            return
        self.orphans[observed.id] = observed
        key = (orphan.namespace, orphan.job_id)
        job = self.versions.get((key, orphan.job_version))
        group = job.group(orphan.task_group) if job else None
        ask = ask_of(group) if group else Ask(cpu_mhz=0, memory_mb=0, disk_mb=0)
        self.table.hold(orphan.id, orphan.node_id, ask, orphan.ports, orphan.cores)
        self.mark([key])

    def _drop_orphan(self, alloc_id: AllocId) -> None:
        if self.orphans.pop(alloc_id, None) is not None and alloc_id not in self.allocs:
            self.table.free(alloc_id)

    def drop_observed(self, node_id: NodeId, alloc_id: AllocId) -> None:
        self._observed.pop((node_id, alloc_id), None)
        held = self.orphans.get(alloc_id)
        if held is not None and held.node_id == node_id:
            self._drop_orphan(alloc_id)

    def drop_alloc(self, alloc_id: AllocId, consul_index: int) -> None:
        """The leader deleted the desired document."""
        alloc = self.allocs.pop(alloc_id, None)
        if alloc is None:
            return
        self.table.free(alloc_id)
        key = job_key(alloc)
        self.tally.moved(key, alloc, None, self.allocs)
        _remove(self.allocs_by_job, key, alloc_id)
        _remove(self.allocs_by_node, alloc.desired.node_id, alloc_id)
        self.touch(consul_index, *self._alloc_topics(alloc), *self._summary_topics(alloc, None))

    def put_eval(self, evaluation: Evaluation, create_index: int, modify_index: int) -> None:
        known = self.evals.get(evaluation.id)
        indexed = Indexed(evaluation, known.create_index if known else create_index, modify_index)
        key = (evaluation.namespace, evaluation.job_id)
        self.evals[evaluation.id] = indexed
        self.evals_by_job.setdefault(key, {})[evaluation.id] = indexed
        if known is None or known.modify_index != modify_index:
            self.note(modify_index, EventTopic.EVALUATION, _happened_to_eval(evaluation), indexed)
        self.touch(modify_index, ("evals",), ("eval", evaluation.id), ("job-evals", key))
        if EvalStatus.BLOCKED in (evaluation.status, known.document.status if known else None):
            self.touch(modify_index, ("jobs",), ("summary", key))  # what is queued
            self.families.moved(key)

    def drop_eval(self, eval_id: EvalId, consul_index: int) -> None:
        indexed = self.evals.pop(eval_id, None)
        if indexed is not None:
            key = (indexed.document.namespace, indexed.document.job_id)
            self.evals_by_job.get(key, {}).pop(eval_id, None)
            if not self.evals_by_job.get(key):
                self.evals_by_job.pop(key, None)
            self.touch(consul_index, ("evals",), ("job-evals", key))

    # -- telling

    def note(self, consul_index: int, topic: EventTopic, type_: str, document: Job | Alloc | Indexed | NodeView) -> None:
        """Adds an event about a document of this view."""
        if self.events.is_open:
            key, others, namespace = names_of(document)
            self.events.add(consul_index, topic, type_, key, others, namespace, document)

    def _note_job(self, job: Job, consul_index: int) -> None:
        self.note(consul_index, EventTopic.JOB, "JobDeregistered" if job.stop else "JobRegistered", job)

    # -- inside

    def _set_node(self, view: NodeView, consul_index: int) -> None:
        known = self.nodes.get(view.id)
        self.nodes[view.id] = view
        self.table.set_node(view)
        self.nodes_changed.set()
        if consul_index:
            self.node_indexes[view.id] = max(consul_index, self.node_indexes.get(view.id, 0))
            self.touch(consul_index, ("nodes",), ("node", view.id))
        if known is None:
            # Allocs may have been read before their node.
            for alloc in self.allocs_by_node.get(view.id, {}).values():
                self._hold(alloc)
        if known is None or known.life is not view.life or known.takes_work != view.takes_work or known.node != view.node or known.control.drain != view.control.drain:
            self.mark(self._jobs_on(view.id))
            if view.life is Life.READY:
                self.freed.add(view.id)
                # Or a node that a system job belongs on.
                self.mark(self._system_jobs)
                self.wake.set()

    def _set_alloc(self, alloc: Alloc, consul_index: int) -> None:
        self._drop_orphan(alloc.id)
        known = self.allocs.get(alloc.id)
        self.allocs[alloc.id] = alloc
        self.tally.moved(job_key(alloc), known, alloc, self.allocs)
        self.allocs_by_job.setdefault(job_key(alloc), {})[alloc.id] = alloc
        self.allocs_by_node.setdefault(alloc.desired.node_id, {})[alloc.id] = alloc
        if alloc.is_terminal:
            self.table.free(alloc.id)
            self.freed.add(alloc.desired.node_id)
            node = self.nodes.get(alloc.desired.node_id)
            if node is not None and node.control.drain is not None:
                # Perhaps the last one there: then the drain is done, or system jobs' turn has come.
                self.nodes_changed.set()
                self.mark(self._jobs_on(node.id))
        else:
            self._hold(alloc)
        self.families.reopened(job_key(alloc))
        self.touch(consul_index, *self._alloc_topics(alloc), *self._summary_topics(known, alloc))

    def _hold(self, alloc: Alloc) -> None:
        job = self.versions.get((job_key(alloc), alloc.desired.job_version))
        group = job.group(alloc.desired.task_group) if job else None
        if group is not None and not alloc.is_terminal:
            desired = alloc.desired
            self.table.hold(alloc.id, desired.node_id, ask_of(group), desired.ports, desired.cores)

    def emptied(self) -> frozenset[NodeId]:
        """Draining nodes on which nothing but system jobs' allocs is left."""
        return frozenset(
            node_id
            for node_id, node in self.nodes.items()
            if node.control.drain is not None
            and all(alloc.is_terminal or self._is_of_system_job(alloc) for alloc in self.allocs_by_node.get(node_id, {}).values())
        )

    def is_drained(self, node: NodeView) -> bool:
        """Whether nothing that has to leave it is there any more, by its agent's own word."""
        drain = node.control.drain
        return drain is not None and all(
            alloc.is_terminal or (drain.ignores_system and self._is_of_system_job(alloc))
            for alloc in self.allocs_by_node.get(node.id, {}).values()
        )

    def _is_of_system_job(self, alloc: Alloc) -> bool:
        job = self.versions.get((job_key(alloc), alloc.desired.job_version))
        return job is not None and job.is_system

    def jobs_of_node(self, node_id: NodeId) -> set[JobKey]:
        """That have something there, or belong on every node."""
        return self._jobs_on(node_id) | self._system_jobs

    def _jobs_on(self, node_id: NodeId) -> set[JobKey]:
        return {job_key(alloc) for alloc in self.allocs_by_node.get(node_id, {}).values()}

    def _summary_topics(self, before: Alloc | None, after: Alloc | None) -> tuple[Topic, ...]:
        """What shows how many of a job's allocs are how: its summary, the list of jobs, and its own status."""
        if before is not None and after is not None and _counted_as(before) == _counted_as(after):
            return ()
        alloc = after or before
        if alloc is None:
            return ()
        key = job_key(alloc)
        was = self._running.get(key, 0)
        now = was + _is_running(after) - _is_running(before)
        self._running[key] = now
        if not now:
            del self._running[key]
        parent = self._parent_topics(key)
        self.families.moved(key)
        return (("jobs",), ("summary", key), *((("job", key),) if bool(was) != bool(now) else ()), *parent)

    def _parent_topics(self, key: JobKey) -> tuple[Topic, ...]:
        """What shows how many of a job's children are how."""
        parent = self.families.parent(key)
        return () if parent is None else (("summary", parent),)

    @staticmethod
    def _alloc_topics(alloc: Alloc) -> tuple[Topic, ...]:
        return (
            ("allocs",),
            ("alloc", alloc.id),
            ("job-allocs", job_key(alloc)),
            ("job-scale", job_key(alloc)),
            ("node-allocs", alloc.desired.node_id),
            ("eval-allocs", alloc.desired.eval_id),
        )


def _with_meta(node: Node, static: Mapping[str, str], control: NodeControl) -> Node:
    meta = overlaid(static, control.meta)
    return node if node.meta == meta else msgspec.structs.replace(node, meta=meta)


def job_key(alloc: Alloc) -> JobKey:
    return (alloc.desired.namespace, alloc.desired.job_id)


def _scaling_of(job: Job | None) -> tuple[Any, ...]:
    """What an autoscaler may do with the job; empty where that is nothing."""
    if job is None or job.stop:
        return ()
    asked = ((group.name, group.scaling, [(task.name, task.scaling_policies) for task in group.tasks]) for group in job.task_groups)
    return tuple(one for one in asked if one[1] is not None or any(policies for _, policies in one[2]))


def names_of(document: Job | Alloc | Indexed | NodeView) -> tuple[str, tuple[str, ...], str]:
    """By what an event about it is found: its key, further keys, and the namespace (empty for nodes)."""
    match document:
        case Job():
            return document.id, (), document.namespace
        case Alloc():
            desired = document.desired
            return desired.id, (desired.job_id, desired.deployment_id), desired.namespace
        case NodeView():
            return document.id, (), ""
        case Indexed(document=Evaluation() as one):
            return one.id, (one.job_id, one.deployment_id), one.namespace
        case Indexed(document=one):
            return one.id, (one.job_id,), one.namespace


def _happened_to(before: Deployment | None, after: Deployment) -> str:
    """Nomad's word."""
    if before is None:
        return "PlanResult"
    if (before.status, before.status_description) != (after.status, after.status_description):
        return "DeploymentStatusUpdate"
    promoted = (tuple(group.promoted for group in one.task_groups.values()) for one in (before, after))
    return "DeploymentPromotion" if len(set(promoted)) > 1 else "DeploymentAllocHealth"


def _happened_to_node(before: NodeControl, after: NodeControl) -> str:
    if (before.drain is None) != (after.drain is None):
        return "NodeDrain"
    if before.scheduling_eligibility is not after.scheduling_eligibility:
        return "NodeEligibility"
    return "NodeStreamEvent"


def _happened_to_eval(evaluation: Evaluation) -> str:
    if evaluation.status is EvalStatus.PENDING and evaluation.triggered_by == "job-register":
        return "JobRegistered"
    if evaluation.status is EvalStatus.PENDING and evaluation.triggered_by == "job-deregister":
        return "JobDeregistered"
    return "EvaluationUpdated"


def _health(alloc: Alloc) -> bool | None:
    status = alloc.observed.deployment_status if alloc.observed else None
    return status.healthy if status is not None else None


def _counted_as(alloc: Alloc) -> tuple[object, ...]:
    return alloc.client_status, alloc.is_terminal, alloc.desired.task_group


def _is_running(alloc: Alloc | None) -> int:
    return int(alloc is not None and not alloc.is_terminal)


K = TypeVar("K")


def _remove(index: dict[K, dict[AllocId, Alloc]], name: K, alloc_id: AllocId) -> None:
    of_name = index.get(name, {})
    of_name.pop(alloc_id, None)
    if not of_name:
        index.pop(name, None)
