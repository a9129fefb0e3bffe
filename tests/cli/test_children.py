"""`job dispatch`, `job periodic force`, and what is shown of periodic and parameterized jobs and their children."""

import re
from pathlib import Path

import pytest

from tests.cli.command import Run, masked
from tests.e2e.drover import Drover, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

JOB = """job "NAME" {
  datacenters = ["dc1"]
  type        = "batch"
  BLOCK
  group "g" {
    restart {
      attempts = 0
      mode     = "fail"
    }
    reschedule {
      attempts  = 0
      unlimited = false
    }
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "SCRIPT"]
      }
      MORE
      resources {
        cpu    = 10
        memory = 16
      }
    }
  }
}
"""
YEARLY = 'periodic {\n    cron             = "0 0 1 1 * 2099"\n    prohibit_overlap = true\n  }'


def file(folder: Path, name: str, block: str, script: str = "true", task: str = "") -> str:
    path = folder / f"{name}.hcl"
    text = JOB.replace("NAME", name).replace("BLOCK", block).replace("SCRIPT", script).replace("MORE", task)
    path.write_text(text)
    return path.name


def shown(lines: list[str]) -> list[str]:
    """With what differs from run to run replaced, and columns as wide as they need be."""
    found = [re.sub(r"(periodic-|dispatch-(?:\w+-)?)\d+(-\S+)?", r"\1<id>", line) for line in masked(lines)]
    return [re.sub(r"\b[\d.]+m?s$|\b[\d.]+m?s(?=  )", "<span>", re.sub(r" {2,}", "  ", line)) for line in found]


def outcomes(one: Drover, job_id: str) -> list[str]:
    return [child["Outcome"] for child in one.get(f"/v1/job/{job_id}/launches")["Children"]]


def test_a_periodic_job_is_run_forced_shown_and_stopped(run: Run, one: Drover, tmp_path: Path) -> None:
    name = file(tmp_path, "cron", YEARLY, "exit 3")
    assert "- If submitted now, next periodic launch would be at 2099-01-01T00:00:00Z" in run("job", "plan", name).out
    done = run("job", "run", name)
    assert (done.code, masked(done.out)) == (0, ["Job registration successful", "Approximate next launch time: <moment>"])
    forced = run("job", "periodic", "force", "cron")
    assert (forced.code, forced.err) == (0, [])
    assert shown(forced.out)[:2] == ['==> Monitoring evaluation "<id>"', '  Evaluation triggered by job "cron/periodic-<id>"']
    wait("it failed", lambda: outcomes(one, "cron") == ["failed"])
    assert shown(run("job", "status", "cron").out) == [
        "ID  = cron",
        "Name  = cron",
        "Submit Date = <moment>",
        "Type  = batch",
        "Priority  = 50",
        "Datacenters = dc1",
        "Namespace  = default",
        "Status  = running",
        "Version  = 0",
        "Periodic  = true",
        "",
        "Periodic Job",
        "Schedule  = 0 0 1 1 * 2099",
        "Time Zone  = UTC",
        "Next Launch  = <moment>",
        'Last Run  = <moment> failed: task "t" ended with exit code 3',
        "Last Success = none",
        "Missed Runs  = 0",
        'Check  = critical: the run of <moment> failed: task "t" ended with exit code 3',
        "",
        "Children Job Summary",
        "Pending  Running  Dead",
        "0  0  1",
        "",
        "Previously Launched Jobs",
        "ID  Status  Started  Took  Reason",
        'cron/periodic-<id>  failed  <ago>  <span>  task "t" ended with exit code 3',
    ]
    run("job", "run", file(tmp_path, "cron2", YEARLY))
    assert shown(run("job", "status").out) == [
        "ID  Type  Priority  Status  Submit Date",
        "cron  batch/periodic  50  running  <moment>",
        "cron2  batch/periodic  50  running  <moment>",
        "",
        "1 more of cron: drover job status cron",
    ]
    assert shown(run("job", "status", "-verbose").out)[1:3] == [
        "cron  batch/periodic  50  running  <moment>",
        "cron/periodic-<id>  batch  50  dead  <moment>",
    ]
    assert "cron/periodic-<id>" in shown(run("job", "status", "cron/").out)[0]
    stopped = run("job", "stop", "cron")
    assert (stopped.code, stopped.out, stopped.err) == (0, [], [])
    assert "dead (stopped)" in "\n".join(run("job", "status", "cron").out)
    refused = run("job", "periodic", "force", "cron")
    assert (refused.code, "can't force launch a stopped job" in refused.err[0]) == (1, True)


def test_history_tells_of_children_also_of_those_that_were_removed(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "cron", YEARLY))
    run("job", "periodic", "force", "-detach", "cron")
    wait("it ran", lambda: outcomes(one, "cron") == ["succeeded"])
    assert shown(run("job", "history", "cron").out)[-3:] == [
        "Children",
        "ID  Status  Started  Took  Reason",
        "cron/periodic-<id>  succeeded  <ago>  <span>",
    ]
    run("system", "gc")
    wait("it is gone", lambda: one.get("/v1/job/cron/launches")["Children"][0]["Removed"])
    assert shown(run("job", "history", "cron").out)[-3:] == [
        "Removed children, the newest",
        "ID  Status  Started  Took  Reason",
        "cron/periodic-<id>  succeeded  <ago>  <span>",
    ]


PARAMETERS = 'parameterized {\n    payload       = "optional"\n    meta_required = ["who"]\n    max_running   = 1\n  }'
PAYLOAD = 'dispatch_payload {\n        file = "in"\n      }'


def test_a_parameterized_job_is_dispatched_with_payload_and_metadata(run: Run, one: Drover, tmp_path: Path) -> None:
    ran = run("job", "run", file(tmp_path, "par", PARAMETERS, "cat $NOMAD_TASK_DIR/in; echo $NOMAD_META_who", PAYLOAD))
    assert (ran.out, ran.err) == (["Job registration successful"], [])
    (tmp_path / "input").write_text("hello\n")
    done = run("job", "dispatch", "-meta", "who=me", "-id-prefix-template", "nightly", "par", "input")
    assert (done.code, done.err) == (0, [])
    assert shown(done.out)[:2] == ["Dispatched Job ID = par/dispatch-nightly-<id>", "Evaluation ID  = <id>"]
    child = done.out[0].split()[-1]
    wait("it ran", lambda: outcomes(one, "par") == ["succeeded"])
    (alloc,) = one.allocs(child.replace("/", "%2F"))
    assert run("alloc", "logs", alloc["ID"]).out == ["hello", "me"]
    piped = run("job", "dispatch", "-detach", "-meta=who=you", "par", "-", stdin=b"from a pipe")
    assert piped.code == 0
    wait("both ran", lambda: outcomes(one, "par") == ["succeeded"] * 2)
    status = shown(run("job", "status", "par").out)
    assert status[status.index("Parameterized Job") :][:5] == [
        "Parameterized Job",
        "Payload  = optional",
        "Required Metadata = who",
        "Optional Metadata = none",
        "Max Running  = 1",
    ]
    assert status[status.index("Dispatched Jobs") + 1] == "ID  Status  Started  Took  Reason"


def test_a_child_that_waits_says_so(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "par", PARAMETERS, "sleep 1000"))
    first = run("job", "dispatch", "-meta", "who=a", "par").out[0].split()[-1]
    second = run("job", "dispatch", "-meta", "who=b", "par").out[0].split()[-1]
    wait("the first runs", lambda: one.get(f"/v1/job/{first.replace('/', '%2F')}")["Status"] == "running")
    assert "Status      = pending (waits for max_running (1 before it))" in run("job", "status", second).out
    assert "Nothing of it is placed yet: it waits for max_running (1 before it)." in run("job", "why", second).out
    again = run("job", "dispatch", "-meta", "who=c", "-idempotency-token", "x", "-detach", "par")
    once_more = run("job", "dispatch", "-meta", "who=c", "-idempotency-token", "x", "-detach", "par")
    assert again.out[0] == once_more.out[0]


WRONG = {
    "no metadata": (("par",), "Dispatch did not provide required meta keys: [who]"),
    "other metadata": (("-meta", "who=a", "-meta", "x=y", "par"), "Dispatch request included unpermitted metadata keys: [x]"),
    "no pair": (("-meta", "who", "par"), "-meta 'who': expected KEY=VALUE"),
    "no such file": (("-meta", "who=a", "par", "nothing"), "nothing: No such file or directory"),
    "no such job": (("unknown",), "job not found"),
    "too large": (("-meta", "who=a", "par", "large"), "large: a payload has 16384 bytes at most"),
}


@pytest.mark.parametrize(("argv", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_dispatch_is_one_line_and_exit_1(argv: tuple[str, ...], words: str, run: Run, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "par", PARAMETERS))
    (tmp_path / "large").write_bytes(b"x" * 16385)
    done = run("job", "dispatch", *argv)
    assert (done.code, len(done.err), words in done.err[0]) == (1, 1, True), done.err
