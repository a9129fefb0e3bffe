"""What a plan says of two versions of a job, in Nomad's words."""

from typing import Any

import pytest
from msgspec.structs import replace

from jobspec.diff import job_diff
from model.job import Constraint, Job, Network, Port, Resources, Service, ServiceCheck, VolumeRequest
from tests.build import group, job, task

Lines = set[tuple[str, ...]]


def lines(diff: dict[str, Any], *, with_none: bool = False) -> Lines:
    """Every changed value: (path …, type, old, new)."""
    found: Lines = set()

    def walk(node: dict[str, Any], path: tuple[str, ...]) -> None:
        for value in node.get("Fields") or ():
            if with_none or value["Type"] != "None":
                found.add((*path, value["Name"], value["Type"], value["Old"], value["New"]))
        for kind in ("Objects", "TaskGroups", "Tasks"):
            for inner in node.get(kind) or ():
                walk(inner, (*path, inner["Name"]))

    walk(diff, ())
    return found


def of_task(**more: Any) -> Job:
    return job(groups=(group(1, tasks=(task(**more),)),))


def of_group(**more: Any) -> Job:
    return job(groups=(group(1, **more),))


CASES: dict[str, tuple[Job, Job, Lines]] = {
    "count": (job(1), job(3), {("g", "Count", "Edited", "1", "3")}),
    "priority": (job(), job(priority=70), {("Priority", "Edited", "50", "70")}),
    "meta": (job(meta={"a": "1"}), job(meta={"b": "2"}), {("Meta[a]", "Deleted", "1", ""), ("Meta[b]", "Added", "", "2")}),
    "datacenters": (
        job(datacenters=("dc1", "dc2")),
        job(datacenters=("dc2", "dc3")),
        {("Datacenters", "Datacenters", "Deleted", "dc1", ""), ("Datacenters", "Datacenters", "Added", "", "dc3")},
    ),
    "env": (of_task(env={"A": "1"}), of_task(env={"A": "2"}), {("g", "t", "Env[A]", "Edited", "1", "2")}),
    "config": (
        of_task(config={"command": "a", "args": ["x", "y"]}),
        of_task(config={"command": "b", "args": ["x"]}),
        {("g", "t", "Config", "command", "Edited", "a", "b"), ("g", "t", "Config", "args[1]", "Deleted", "y", "")},
    ),
    "resources": (
        of_task(resources=Resources(cpu=100)),
        of_task(resources=Resources(cpu=200)),
        {("g", "t", "Resources", "CPU", "Edited", "100", "200")},
    ),
    "constraint": (
        job(constraints=(Constraint(ltarget="a", rtarget="b"),)),
        job(constraints=(Constraint(ltarget="a", rtarget="c"),)),
        {
            ("Constraint", "LTarget", "Deleted", "a", ""),
            ("Constraint", "RTarget", "Deleted", "b", ""),
            ("Constraint", "Operand", "Deleted", "=", ""),
            ("Constraint", "LTarget", "Added", "", "a"),
            ("Constraint", "RTarget", "Added", "", "c"),
            ("Constraint", "Operand", "Added", "", "="),
        },
    ),
    "a check of a service": (
        of_group(services=(Service(name="s", checks=(ServiceCheck(name="c", path="/a"),)),)),
        of_group(services=(Service(name="s", checks=(ServiceCheck(name="c", path="/b"),)),)),
        {("g", "Service", "Check", "Path", "Edited", "/a", "/b")},
    ),
    "tags": (
        of_group(services=(Service(name="s", tags=("a", "b")),)),
        of_group(services=(Service(name="s", tags=("b",)),)),
        {("g", "Service", "Tags", "Tags", "Deleted", "a", "")},
    ),
    "a port": (
        of_group(networks=(Network(dynamic_ports=(Port(label="http"),)),)),
        of_group(networks=(Network(dynamic_ports=(Port(label="http"),), mbits=5),)),
        {("g", "Network", "MBits", kind, *values) for kind, *values in (("Deleted", "0", ""), ("Added", "", "5"))}
        | {
            ("g", "Network", *field, kind, *((value, "") if kind == "Deleted" else ("", value)))
            for kind in ("Deleted", "Added")
            for *field, value in (
                ("Mode", "host"),
                ("Dynamic Port", "Label", "http"),
                ("Dynamic Port", "Value", "0"),
                ("Dynamic Port", "To", "0"),
                ("Dynamic Port", "HostNetwork", "default"),
                ("Dynamic Port", "IgnoreCollision", "false"),
            )
        },
    ),
    "a volume": (
        of_group(volumes={"v": VolumeRequest(name="v", source="a")}),
        of_group(volumes={"v": VolumeRequest(name="v", source="b")}),
        {("g", "Volume", "Source", "Edited", "a", "b")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_just_what_changed_is_told(name: str) -> None:
    old, new, expected = CASES[name]
    diff = job_diff(old, new)
    assert lines(diff) == expected
    assert diff["Type"] == "Edited"


@pytest.mark.parametrize("name", CASES)
def test_the_way_back_is_the_mirror_image(name: str) -> None:
    old, new, expected = CASES[name]
    turned = {"Added": "Deleted", "Deleted": "Added", "Edited": "Edited"}
    mirrored = {(*path, turned[kind], after, before) for *path, kind, before, after in expected}
    assert lines(job_diff(new, old)) == mirrored


@pytest.mark.parametrize("name", CASES)
def test_nothing_differs_from_itself(name: str) -> None:
    for one in CASES[name][:2]:
        filled_in = replace(one, version=7, submit_time=5, stable=True, modify_index=9)
        diff = job_diff(one, filled_in)
        assert (diff["Type"], diff["Fields"], diff["Objects"]) == ("None", [], [])
        assert [(g["Type"], [t["Type"] for t in g["Tasks"]]) for g in diff["TaskGroups"]] == [("None", ["None"])]


def test_a_job_that_is_new_or_goes_is_added_or_deleted_with_all_it_has() -> None:
    for diff, kind in ((job_diff(None, job()), "Added"), (job_diff(job(), None), "Deleted")):
        assert (diff["Type"], diff["ID"]) == (kind, "j")
        assert {line[-3] for line in lines(diff)} == {kind}
        (of_group,) = diff["TaskGroups"]
        assert (of_group["Type"], of_group["Tasks"][0]["Type"]) == (kind, kind)


def test_groups_and_tasks_are_told_by_name() -> None:
    old = job(groups=(group(1, name="a"), group(1, name="b")))
    new = job(groups=(group(1, name="c"), group(2, name="a", tasks=(task(name="t"), task(name="u")))))
    diff = job_diff(old, new)
    assert [(g["Name"], g["Type"]) for g in diff["TaskGroups"]] == [("a", "Edited"), ("b", "Deleted"), ("c", "Added")]
    assert [(t["Name"], t["Type"]) for t in diff["TaskGroups"][0]["Tasks"]] == [("t", "None"), ("u", "Added")]


def test_with_context_an_edited_block_shows_what_stayed() -> None:
    old, new = of_task(resources=Resources(cpu=100)), of_task(resources=Resources(cpu=200))
    stayed = ("g", "t", "Resources", "MemoryMB", "None", "300", "300")
    assert stayed in lines(job_diff(old, new), with_none=True)
    assert stayed not in lines(job_diff(old, new, has_context=False), with_none=True)
