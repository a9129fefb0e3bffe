"""Which jobs register a service, and which ask for a port?

Kept from one submit to the next: made anew for 10,000 jobs it takes a tenth of a second, brought up to date a
thousandth.
"""

from collections.abc import Iterator, Mapping
from threading import Lock

from model.job import Job, Service, Task, TaskGroup
from model.snapshot import JobKey


class Directory:
    """jobs: those that count: their services and ports are there, or are to be. lock: for whoever uses it in a thread."""

    def __init__(self, jobs: Mapping[JobKey, Job] | None = None) -> None:
        self.lock = Lock()
        self._jobs: dict[JobKey, Job] = {}
        self._registering: dict[str, dict[JobKey, list[tuple[TaskGroup, Service]]]] = {}
        self._static: dict[int, dict[JobKey, list[TaskGroup]]] = {}
        self.update(jobs or {})

    def update(self, jobs: Mapping[JobKey, Job]) -> None:
        """From now on these. What is the same object as before is not looked at again."""
        for key, job in jobs.items():
            known = self._jobs.get(key)
            if known is not job:
                if known is not None:
                    self._drop(key, known)
                self._put(key, job)
        for key in self._jobs.keys() - jobs.keys():
            self._drop(key, self._jobs[key])

    def get(self, key: JobKey) -> Job | None:
        return self._jobs.get(key)

    def __contains__(self, key: JobKey) -> bool:
        return key in self._jobs

    def registering(self, service: str) -> Iterator[tuple[JobKey, Job, TaskGroup, Service]]:
        """service: in lower case, as Consul's DNS takes names."""
        for key, found in self._registering.get(service, {}).items():
            for group, one in found:
                yield key, self._jobs[key], group, one

    def asking_for(self, port: int) -> Iterator[tuple[JobKey, Job, TaskGroup]]:
        """Jobs with that static port."""
        for key, groups in self._static.get(port, {}).items():
            for group in groups:
                yield key, self._jobs[key], group

    def _put(self, key: JobKey, job: Job) -> None:
        self._jobs[key] = job
        for name, group, service in _services(job):
            self._registering.setdefault(name, {}).setdefault(key, []).append((group, service))
        for group in job.task_groups:
            for port in _static_ports(group):
                self._static.setdefault(port, {}).setdefault(key, []).append(group)

    def _drop(self, key: JobKey, job: Job) -> None:
        del self._jobs[key]
        for name, _, _ in _services(job):
            self._registering.get(name, {}).pop(key, None)
            if not self._registering.get(name, True):
                del self._registering[name]
        for port in {port for group in job.task_groups for port in _static_ports(group)}:
            self._static.get(port, {}).pop(key, None)
            if not self._static.get(port, True):
                del self._static[port]


def service_names(job: Job) -> frozenset[str]:
    """Those that it registers, in lower case."""
    return frozenset(name for name, _, _ in _services(job))


def tasks_of(job: Job) -> Iterator[Task]:
    for group in job.task_groups:
        yield from group.tasks


def _services(job: Job) -> Iterator[tuple[str, TaskGroup, Service]]:
    for group in job.task_groups:
        for service in group.services:
            yield _name(service, job, group, ""), group, service
        for task in group.tasks:
            for service in task.services:
                yield _name(service, job, group, task.name), group, service


def _name(service: Service, job: Job, group: TaskGroup, task: str) -> str:
    """With what is known before the job has a node; a name with anything else in it is no name yet."""
    name = service.name
    if "${" in name:
        for variable, value in (("JOB_NAME", job.name), ("JOB_ID", job.id), ("GROUP_NAME", group.name), ("TASK_NAME", task)):
            name = name.replace(f"${{NOMAD_{variable}}}", value)
    return name.lower()


def _static_ports(group: TaskGroup) -> set[int]:
    networks = (*group.networks, *(n for task in group.tasks for n in task.resources.networks))
    return {port.value for network in networks for port in network.reserved_ports}
