"""Which directories of the machine does a task get to see, and where?"""

from collections.abc import Mapping

from agent.drivers.base import Bind
from jobspec.interpolate import interpolate
from model.errors import TaskRefused
from model.job import Task, TaskGroup
from model.node import Node

# Nomad's words for what the kernel calls otherwise.
_PROPAGATION = {"": "rprivate", "private": "rprivate", "host-to-task": "rslave", "bidirectional": "rshared"}


def binds(group: TaskGroup, task: Task, index: int, node: Node, values: Mapping[str, str]) -> tuple[Bind, ...]:
    """The task's volume_mounts on this node. index: the alloc's number. values: for ${...} in a destination.

    Raises TaskRefused when the node no longer has the volume: its configuration may have changed since it was chosen.
    """
    found: list[Bind] = []
    for mount in task.volume_mounts:
        request = group.volumes.get(mount.volume)
        if request is None or request.type != "host":
            raise TaskRefused(f"volume_mount: the group has no host volume {mount.volume!r}")
        source = request.source_of(index)
        volume = node.host_volumes.get(source)
        if volume is None:
            raise TaskRefused(f"volume_mount: this node has no host volume {source!r}")
        if volume.read_only and not request.read_only:
            raise TaskRefused(f"volume_mount: host volume {source!r} is read-only on this node")
        found.append(
            Bind(
                source=volume.path,
                target=interpolate(mount.destination, values),
                is_read_only=volume.read_only or request.read_only or mount.read_only,
                propagation=_PROPAGATION[mount.propagation_mode],
            )
        )
    return tuple(found)
