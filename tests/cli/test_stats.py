"""`-stats` and its like: what is used just now, and the other flags that show more or less."""

import re
from pathlib import Path

import pytest

from tests.cli.command import NOWHERE, Run, file, masked
from tests.e2e.drover import Drover, job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def sections(out: list[str]) -> dict[str, list[str]]:
    """The lines below each title; what comes first is below ''."""
    found: dict[str, list[str]] = {}
    parts = "\n".join(out).split("\n\n")
    for number, part in enumerate(parts):
        title, *rest = part.splitlines() if number else ["", *part.splitlines()]
        found[title] = rest
    return found


def shape(line: str) -> str:
    """The line with numbers as 0."""
    return re.sub(r"\d+(\.\d+)?", "0", line)


def test_alloc_status_shows_what_a_task_uses_of_what_it_asked_for(run: Run, one: Drover) -> None:
    one.submit(job("busy", "/bin/sh", ["-c", "while :; do :; done"]))
    alloc = one.wait_running("busy", 1)[0]["ID"]
    assert "Task Resources" not in sections(run("alloc", "status", alloc).out)

    def percent() -> float:
        usage = one.get(f"/v1/client/allocation/{alloc}/stats")["Tasks"]["t"]["ResourceUsage"]
        return float(usage["CpuStats"]["Percent"])

    wait("it is busy", lambda: percent() > 1)  # half a processor and more, on a machine with nothing else to do
    done = run("alloc", "status", "-stats", alloc)
    head, line = sections(done.out)["Task Resources"]
    assert (done.code, head.split()) == (0, ["Task", "CPU", "CPU", "Percent", "Memory"])
    used = re.fullmatch(r"t +(\d+)/10 MHz +([\d.]+)% +([\d.]+) (KiB|MiB)/16\.0 MiB", line)
    assert used, line
    assert float(used[2]) > 0
    assert float(used[3]) > 0


def test_a_task_that_does_not_run_uses_nothing(run: Run, one: Drover) -> None:
    one.submit(job("short", "/bin/true", [], job={"Type": "batch"}))
    alloc = wait("its end", lambda: (a := one.allocs("short")) and a[0]["ClientStatus"] == "complete" and a[0]["ID"])
    assert sections(run("alloc", "status", "-stats", alloc).out)["Task Resources"][1].split() == [
        "t", "-/10", "MHz", "-", "-/16.0", "MiB"
    ]  # fmt: skip


def test_node_status_shows_what_the_machine_uses(run: Run, one: Drover) -> None:
    done = run("node", "status", "-self", "-stats")
    assert (done.code, done.err) == (0, [])
    found = sections(done.out)
    assert [shape(line) for line in found["Host Resource Utilization"][1:]] == [
        shape(line) for line in found["Host Resource Utilization"][1:] if re.fullmatch(
            r"\d+/\d+ MHz +[\d.]+ \w+/[\d.]+ \w+ +[\d.]+ \w+/[\d.]+ \w+", line
        )
    ] != []  # fmt: skip
    assert found["CPU Stats"][0].split() == ["CPU", "User", "System", "Idle"]
    assert [line.split()[0] for line in found["CPU Stats"][1:]] == [f"cpu{n}" for n in range(len(found["CPU Stats"]) - 1)]
    assert [line.split()[0] for line in found["Memory Stats"]] == ["Total", "Available", "Used", "Free"]
    assert found["Disk Stats"][0].split()[:2] == ["Device", "MountPoint"]
    assert "CPU Stats" not in sections(run("node", "status", "-self").out)


def test_the_list_of_nodes_tells_how_many_allocations_run_on_each(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    one.wait_running("web", 2)
    assert masked(run("node", "status", "-allocs").out) == [
        "ID        DC   Name  Class   Drain  Eligibility  Status  Running Allocs",
        "<id>  dc1  one   <none>  false  eligible     ready   2",
    ]


def test_a_job_is_shown_short_or_with_its_evaluations(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "shown", NOWHERE))
    plain = run("job", "status", "shown").out
    assert run("job", "status", "-short", "shown").out == plain[: plain.index("")]
    assert "Evaluations" not in plain
    rows = masked(sections(run("job", "status", "-evals", "shown").out)["Evaluations"])
    assert sorted(rows) == [
        "<id>  50        job-register   complete  true",
        "<id>  50        queued-allocs  blocked   N/A - In Progress",
        "ID        Priority  Triggered By   Status    Placement Failures",
    ]


def test_an_override_of_policies_is_taken_and_changes_nothing(run: Run, tmp_path: Path) -> None:
    assert run("job", "run", "-detach", "-policy-override", file(tmp_path, "web")).code == 0
