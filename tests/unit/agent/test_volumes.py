"""What a task sees of its node's host volumes."""

import pytest

from agent.drivers.base import Bind
from agent.volumes import binds
from model.errors import TaskRefused
from model.job import TaskGroup, VolumeMount, VolumeRequest
from model.node import HostVolume, Node
from tests.build import group, node, task


def on_node(**volumes: bool) -> Node:
    """Volumes by name, and whether they are read-only."""
    return node(host_volumes={name: HostVolume(name=name, path=f"/srv/{name}", read_only=only) for name, only in volumes.items()})


def a_group(mount: VolumeMount, **request: object) -> TaskGroup:
    asked = VolumeRequest(**{"name": "v", "type": "host", "source": "data", **request})  # type: ignore[arg-type]
    return group(volumes={"v": asked}, tasks=(task(volume_mounts=(mount,)),))


def seen(of: TaskGroup, where: Node, index: int = 0) -> tuple[Bind, ...]:
    return binds(of, of.tasks[0], index, where, {"NOMAD_TASK_NAME": "t"})


MOUNT = VolumeMount(volume="v", destination="/data/${NOMAD_TASK_NAME}")


@pytest.mark.parametrize("volume", [False, True])
@pytest.mark.parametrize("request_", [False, True])
@pytest.mark.parametrize("mount", [False, True])
def test_a_mount_is_read_only_if_the_node_the_group_or_the_task_says_so(volume: bool, request_: bool, mount: bool) -> None:
    of = a_group(VolumeMount(volume="v", destination="/d", read_only=mount), read_only=request_)
    if volume and not request_:
        with pytest.raises(TaskRefused, match="'data' is read-only on this node"):
            seen(of, on_node(data=volume))
    else:
        (bind,) = seen(of, on_node(data=volume))
        assert bind.is_read_only is (volume or request_ or mount)


def test_the_destination_is_interpolated_and_each_alloc_has_its_own_with_per_alloc() -> None:
    of = a_group(MOUNT, per_alloc=True)
    where = on_node(**{"data[0]": False, "data[1]": False})
    assert seen(of, where, 1) == (Bind(source="/srv/data[1]", target="/data/t"),)


@pytest.mark.parametrize(
    ("mode", "kernels"), [("private", "rprivate"), ("host-to-task", "rslave"), ("bidirectional", "rshared")]
)
def test_propagation_modes_are_the_kernels(mode: str, kernels: str) -> None:
    of = a_group(VolumeMount(volume="v", destination="/d", propagation_mode=mode))
    assert seen(of, on_node(data=False))[0].propagation == kernels


def test_a_volume_that_the_node_no_longer_has_is_told() -> None:
    with pytest.raises(TaskRefused, match="this node has no host volume 'data'"):
        seen(a_group(MOUNT), on_node(other=False))
