"""How a task is kept to its cores, on a folder that stands for the kernel's; tests/agent does it on the real one."""

from pathlib import Path

from agent.drivers.cgroup import Hierarchy, make_cpuset, remove_cpuset


def test_with_cgroup_v1_it_is_a_cgroup_in_a_hierarchy_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cpuset").mkdir()
    (tmp_path / "cpuset" / "cpuset.cpus").write_text("0-7\n")
    (tmp_path / "cpuset" / "cpuset.mems").write_text("0-1\n")
    hierarchy = Hierarchy(root=str(tmp_path / "unified" / "drover"), kind="v2")
    for _ in range(2):
        procs = make_cpuset(hierarchy, "task.1", (2, 3, 6), mount=tmp_path)
    ours = tmp_path / "cpuset" / "drover"
    assert procs == str(ours / "task.1" / "cgroup.procs")
    told = [(folder / f"cpuset.{kind}").read_text() for folder in (ours, ours / "task.1") for kind in ("cpus", "mems")]
    assert told == ["0-7\n", "0-1\n", "2-3,6", "0-1\n"]


def test_with_cgroup_v2_it_is_the_tasks_own_and_those_above_pass_the_controller_on(tmp_path: Path) -> None:
    (tmp_path / "drover").mkdir()
    procs = make_cpuset(Hierarchy(root=str(tmp_path / "drover"), kind="v2"), "task.1", (1,), mount=tmp_path)
    assert procs == str(tmp_path / "drover" / "task.1" / "cgroup.procs")
    assert (tmp_path / "drover" / "task.1" / "cpuset.cpus").read_text() == "1"
    assert [(folder / "cgroup.subtree_control").read_text() for folder in (tmp_path, tmp_path / "drover")] == ["+cpuset"] * 2


def test_removing_one_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    remove_cpuset("task.1", mount=tmp_path)
