"""Do a group's volumes and its tasks' mounts fit together?"""

from collections.abc import Iterator

from jobspec.suggest import did_you_mean
from model.errors import Fault
from model.job import Job, TaskGroup, VolumeMount, VolumeRequest

Faults = Iterator[Fault]

_PROPAGATION_MODES = ("private", "host-to-task", "bidirectional")


def volume_faults(job: Job, group: TaskGroup, path: str) -> Faults:
    """path: the group's."""
    for name, volume in group.volumes.items():
        yield from _request(job, group, volume, f"{path}.volume.{name}")
    for task in group.tasks:
        for number, mount in enumerate(task.volume_mounts):
            yield from _mount(group, mount, f"{path}.task.{task.name}.volume_mount[{number}]")


def _request(job: Job, group: TaskGroup, volume: VolumeRequest, path: str) -> Faults:
    if volume.type not in ("host", "csi"):
        yield Fault(path=f"{path}.type", message=f'must be host or csi, found "{volume.type[:60]}"')
    if not volume.source:
        yield Fault(path=f"{path}.source", message="is needed: the name of the volume on the nodes")
    if volume.per_alloc:
        if job.is_system:
            yield Fault(path=f"{path}.per_alloc", message=f"a {job.type} job cannot have a volume for each of its allocs")
        if group.update is not None and group.update.canary:
            yield Fault(path=f"{path}.per_alloc", message="cannot be had with canaries: they would need the same volume")
    if volume.type == "host":
        for name, value in (("access_mode", volume.access_mode), ("attachment_mode", volume.attachment_mode)):
            if value:
                yield Fault(path=f"{path}.{name}", message="a host volume cannot have one")
        if volume.mount_options is not None:
            yield Fault(path=f"{path}.mount_options", message="a host volume cannot have any")


def _mount(group: TaskGroup, mount: VolumeMount, path: str) -> Faults:
    if mount.volume not in group.volumes:
        hint = did_you_mean(mount.volume, group.volumes)
        yield Fault(path=f"{path}.volume", message=f'the group has no volume "{mount.volume[:60]}"{hint}')
    if not mount.destination:
        yield Fault(path=f"{path}.destination", message="is needed: where the task sees the volume")
    if mount.propagation_mode not in _PROPAGATION_MODES:
        modes, found = ", ".join(_PROPAGATION_MODES), mount.propagation_mode[:60]
        yield Fault(path=f"{path}.propagation_mode", message=f'must be one of {modes}, found "{found}"')
