"""What happened lately, in lines for people?

Taken from the leader's ring of events as they come: roll-outs, tasks that failed and were started again, with the reason,
allocs that were placed anew, nodes that came and went. A new leader begins with what the documents remember. Bounded; each
line names the job that it is of, for only who may read that may see it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from heapq import nlargest
from typing import Any

from leader.events import Event, EventTopic, Overrun
from leader.view import Indexed, View, job_key
from model.alloc import Alloc, TaskEvent
from model.deployment import Deployment
from model.snapshot import JobKey, NodeView

# Lines that are kept: several pages of a front page.
_LINES_MAX = 200
# Of a new leader's documents.
_FIRST_MAX = 60
# What is worth telling of a task's history; that it starts and is set up is not.
_TOLD = frozenset(
    {
        "Terminated", "Restarting", "Not Restarting", "Driver Failure", "Restart Signaled", "Signaling", "Killing", "Setup Failure",
        "Sibling Task Failed", "Failed Artifact Download", "Template failed", "Validation Failure", "Vault",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """at_ns: since the epoch. kind: deployment, task, alloc or node. job: None of a node. link: the id of what it is of."""

    at_ns: int
    kind: str
    level: str  # good, bad or plain
    text: str
    link: str
    name: str
    job: JobKey | None

    def document(self) -> dict[str, Any]:
        return {
            "Time": self.at_ns,
            "Kind": self.kind,
            "Level": self.level,
            "Text": self.text,
            "ID": self.link,
            "Name": self.name,
            "Namespace": self.job[0] if self.job else "",
            "JobID": self.job[1] if self.job else "",
        }


@dataclass(slots=True)
class Activity:
    """Of one term. failing: jobs in trouble when it was first looked at, whose allocs have something to tell."""

    view: View
    failing: tuple[JobKey, ...] = ()
    _lines: deque[Line] = field(default_factory=lambda: deque(maxlen=_LINES_MAX))
    _position: int | None = None
    _told: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=2 * _LINES_MAX))

    def lines(self, now_ns: int) -> list[Line]:
        """The newest first."""
        if self._position is None:
            self._begin()
        self._follow(now_ns)
        return sorted(self._lines, key=lambda line: -line.at_ns)

    def _begin(self) -> None:
        view = self.view
        self._position = view.events.first_position
        found: list[Line] = []
        for key in self.failing[:_FIRST_MAX]:
            for alloc in nlargest(3, view.allocs_by_job.get(key, {}).values(), key=lambda alloc: alloc.modify_index):
                found += self._of_alloc(alloc)
        found += [line for line in map(_of_deployment, (indexed.document for indexed in nlargest(_FIRST_MAX, view.deployments.values(), key=lambda one: one.modify_index))) if self._is_new(line.link, line.text)]
        for line in sorted(found, key=lambda line: line.at_ns)[-_FIRST_MAX:]:
            self._lines.append(line)

    def _follow(self, now_ns: int) -> None:
        events = self.view.events
        while True:
            try:
                taken = events.take(self._position or 0)
            except Overrun:
                self._position = events.first_position
                continue
            if not taken:
                return
            self._position = taken[-1][0] + 1
            for _, event in taken:
                self._lines.extend(self._of_event(event, now_ns))

    def _of_event(self, event: Event, now_ns: int) -> Iterator[Line]:
        document = event.document
        match event.topic:
            case EventTopic.ALLOCATION:
                if event.type == "PlanResult":
                    yield from _of_placement(document)
                else:
                    yield from self._of_alloc(document)
            case EventTopic.DEPLOYMENT:
                line = _of_deployment(document.document if isinstance(document, Indexed) else document)
                if self._is_new(line.link, line.text):
                    yield line
            case EventTopic.NODE:
                yield _of_node(document, event.type, now_ns)
            case EventTopic.JOB:
                word = "stopped" if event.type == "JobDeregistered" else f"submitted, version {document.version}"
                key = (document.namespace, document.id)
                if not document.parent_id and self._is_new(f"{document.namespace}/{document.id}", word):
                    yield Line(at_ns=document.submit_time if word != "stopped" else now_ns, kind="job", level="plain", text=word, link=document.id, name=document.id, job=key)

    def _is_new(self, link: str, what: str) -> bool:
        """Whether this was not told yet; an object changes for more reasons than are told."""
        if (link, what) in self._told:
            return False
        self._told.append((link, what))
        return True

    def _of_alloc(self, alloc: Alloc) -> Iterator[Line]:
        """Its tasks' events that were not told yet."""
        for task, state in (alloc.observed.task_states if alloc.observed else {}).items():
            for event in state.events[-3:]:
                if event.type in _TOLD and self._is_new(alloc.id, f"{task} {event.time}"):
                    yield Line(
                        at_ns=event.time, kind="task", level=_level(event), text=f"task {task}: {event.type}" + (f": {event.display_message}" if event.display_message else ""),
                        link=alloc.id, name=alloc.desired.name, job=job_key(alloc),
                    )  # fmt: skip


def _level(event: TaskEvent) -> str:
    is_end = event.type == "Terminated" and not event.exit_code and not event.signal
    return "plain" if is_end or event.type in ("Killing", "Signaling", "Restart Signaled") else "bad"


def _of_placement(alloc: Alloc) -> Iterator[Line]:
    desired = alloc.desired
    told = partial(Line, kind="alloc", link=alloc.id, name=desired.name, job=job_key(alloc))
    if desired.is_stopping:
        if desired.desired_description:
            yield told(at_ns=desired.modify_time, level="plain", text=f"stops: {desired.desired_description}")
    elif desired.verdict:
        yield told(at_ns=desired.modify_time, level="bad", text=f"{desired.verdict.value}: {desired.node_name} is not heard")
    elif desired.previous_allocation and alloc.create_index == alloc.desired_index:
        yield told(at_ns=desired.create_time, level="plain", text=f"placed on {desired.node_name} in place of {desired.previous_allocation[:8]}")


def _of_deployment(deployment: Deployment) -> Line:
    level = {"failed": "bad", "cancelled": "bad", "successful": "good"}.get(deployment.status.value, "plain")
    text = f"version {deployment.job_version} {deployment.status.value}: {deployment.status_description}"
    key = (deployment.namespace, deployment.job_id)
    return Line(at_ns=deployment.modify_time or deployment.create_time, kind="deployment", level=level, text=text, link=deployment.id, name=deployment.job_id, job=key)


def _of_node(node: NodeView, kind: str, now_ns: int) -> Line:
    words = {"NodeRegistration": "registered", "NodeDeregistration": "is forgotten", "NodeDrain": "drain changed", "NodeEligibility": f"is {node.control.scheduling_eligibility.value}"}
    text = words.get(kind, f"is {node.control.status.value}, {node.reach.value.replace('_', ' ')}")
    is_bad = kind == "NodeStreamEvent" and (node.reach.value != "passing" or node.control.status.value != "ready")
    return Line(at_ns=now_ns, kind="node", level="bad" if is_bad else "plain", text=text, link=node.id, name=node.node.name, job=None)
