"""Which host volumes does a group need of its node?"""

from dataclasses import dataclass

from model.job import TaskGroup
from model.node import Node

# Nomad's words, whichever volume it is.
MISSING_VOLUMES = "missing compatible host volumes"


@dataclass(frozen=True, slots=True, order=True)
class VolumeNeed:
    source: str
    is_written: bool


def is_per_alloc(group: TaskGroup) -> bool:
    """Whether its allocs, told apart by their numbers, need different volumes."""
    return any(volume.per_alloc for volume in group.volumes.values() if volume.type == "host")


def volumes_of(group: TaskGroup, index: int | None) -> tuple[VolumeNeed, ...]:
    """What the group's alloc of that number needs; None: what all of them need."""
    needs = {
        VolumeNeed(volume.source_of(index or 0), not volume.read_only)
        for volume in group.volumes.values()
        if volume.type == "host" and not (volume.per_alloc and index is None)
    }
    return tuple(sorted(needs))


def lacks_volume(node: Node, need: VolumeNeed) -> str:
    """Why the volume there will not do, "" if it will."""
    found = node.host_volumes.get(need.source)
    if found is None:
        return "missing"
    return "read-only" if found.read_only and need.is_written else ""
