"""What is done to jobs and allocations: stop, restart, signal."""

from pathlib import Path

import pytest

from tests.cli.command import Run, file, masked, on_terminal, placed, without_progress
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def test_job_stop_follows_its_evaluation_and_keeps_the_job_until_it_is_purged(
    run: Run, one: Drover, tmp_path: Path
) -> None:
    run("job", "run", file(tmp_path, "web"))
    one.wait_running("web", 2)
    done = run("job", "stop", "web")
    assert (done.code, without_progress(masked(done.out)), done.err) == (0, without_progress(placed(0)), [])
    wait("the end", lambda: one.get("/v1/job/web")["Status"] == "dead")
    assert masked(run("job", "status").out)[1] == "web  service  50        dead (stopped)  <moment>"
    purged = run("job", "stop", "-purge", "-detach", "web")
    assert (purged.code, masked(purged.out), purged.err) == (0, ["<uuid>"], [])
    assert run("job", "status", "web").shown == (1, [], ["Error: No job(s) with prefix or ID 'web' found"])


def test_a_job_that_is_named_by_its_first_letters_is_stopped_only_when_the_user_says_so(
    run: Run, one: Drover, tmp_path: Path
) -> None:
    one.submit(marking_job("web-of-many", count=0))
    refusal = "Error: 'web' is only the beginning of job \"web-of-many\" (name it whole, or confirm with -yes)"
    assert run("job", "stop", "web").shown == (1, [], [refusal])
    question = 'Are you sure you want to stop job "web-of-many"? [y/N] '
    for answer in (b"\n", b"n\n", b"\x04"):
        shown = on_terminal("job", "stop", "web", cwd=tmp_path, typed=answer, address=one.address)
        assert question in shown
        assert shown.endswith("Cancelling job stop\n")
    assert one.get("/v1/job/web-of-many")["Stop"] is False
    assert question in on_terminal("job", "stop", "-detach", "web", cwd=tmp_path, typed=b"y\n", address=one.address)
    assert one.get("/v1/job/web-of-many")["Stop"] is True
    for flag in ("-yes", "-y"):
        one.submit(marking_job("web-of-many", count=0))
        assert run("job", "stop", "-detach", flag, "web").code == 0
        assert one.get("/v1/job/web-of-many")["Stop"] is True


def test_restart_and_signal_reach_the_task(run: Run, one: Drover) -> None:
    one.submit(marking_job("web"))
    alloc = one.wait_running("web", 1)[0]["ID"]
    first = wait("its process", lambda: one.pids(alloc))
    assert run("alloc", "restart", alloc[:8]).shown == (0, [], [])
    second = wait("the next process", lambda: len(one.pids(alloc)) == 2 and one.pids(alloc))
    assert second[:1] == first
    one.wait_running("web", 1)
    assert run("alloc", "signal", "-s", "SIGKILL", alloc, "t").shown == (0, [], [])
    wait("a third process", lambda: len(one.pids(alloc)) == 3)


def test_an_unknown_signal_is_refused(run: Run, one: Drover) -> None:
    one.submit(marking_job("web"))
    alloc = one.wait_running("web", 1)[0]["ID"]
    assert run("alloc", "signal", "-s", "SIGFOO", alloc).shown == (
        1,
        [],
        ['Error: Unexpected response code: 400 (Invalid signal "SIGFOO")'],
    )


@pytest.mark.parametrize(
    ("argv", "environ", "words"),
    [
        (("job", "status", "-region=mars"), {}, "No path to region"),
        (("job", "status"), {"NOMAD_REGION": "mars"}, "No path to region"),
        (("alloc", "logs", "-region", "mars", "zz"), {}, "No path to region"),
        (("job", "run", "-region=mars", "web.hcl"), {}, "No path to region"),
        (("job", "run", "-namespace=other", "web.hcl"), {}, 'job "web" is in nonexistent namespace "other"'),
        (("job", "run", "web.hcl"), {"NOMAD_NAMESPACE": "other"}, 'job "web" is in nonexistent namespace "other"'),
    ],
)
def test_another_region_or_namespace_is_refused(
    argv: tuple[str, ...], environ: dict[str, str], words: str, run: Run, tmp_path: Path
) -> None:
    file(tmp_path, "web")
    assert run(*argv, **environ).shown == (1, [], [f"Error: Unexpected response code: 500 ({words})"])
    assert run("job", "status", "-namespace=other").shown == (0, ["No running jobs"], [])
