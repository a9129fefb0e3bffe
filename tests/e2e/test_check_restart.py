"""check_restart on real Consul and real processes: consecutive failing results, grace, warnings, no servers."""

import time
from itertools import pairwise

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, is_alive, job, restart, served, stays, wait, web_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def run_web(one: Drover, name: str, check_restart: dict[str, object], **more: object) -> tuple[str, int]:
    """Submits a web_job and waits until its first process serves; (alloc id, pid)."""
    one.submit(web_job(name, check_restart, **more))
    alloc = one.wait_running(name, 1)[0]["ID"]
    return alloc, wait("its file", lambda: one.pids(alloc))[0]


def answers(one: Drover, alloc: str, pid: int) -> str:
    """What this process answered its checks: P, W or F each."""
    letters = {200: "P", 429: "W", 500: "F"}
    return "".join(letters[code] for _, who, code in served(one.task_dir(alloc)) if who == pid)


def switch(one: Drover, alloc: str, mode: str) -> None:
    (one.task_dir(alloc) / "mode").write_text(mode)


def passed(one: Drover, alloc: str, pid: int, count: int) -> bool:
    return answers(one, alloc, pid).count("P") >= count


def test_two_failures_a_pass_and_two_failures_do_not_restart_but_three_in_a_row_do(one: Drover) -> None:
    alloc, pid = run_web(one, "three", {"Limit": 3, "Grace": NS})
    wait("passing checks after the grace", lambda: passed(one, alloc, pid, 3))
    switch(one, alloc, "FFPFFP")
    wait("the sequence", lambda: "FFPFFPP" in answers(one, alloc, pid))
    stays("two in a row never restart", lambda: one.pids(alloc) == [pid], 1.0)
    switch(one, alloc, "F")
    wait("the kill", lambda: not is_alive(pid))
    died = time.time()
    failing = [moment for moment, who, code in served(one.task_dir(alloc)) if who == pid and code == 500][-3:]
    assert answers(one, alloc, pid).endswith("PFFF")
    late_s = died - failing[-1]
    print(f"third failing result to the kill: {late_s:.2f} s")
    assert late_s < 1.5  # the benchmark's figure is 0.35 s; the rest is for a busy machine
    switch(one, alloc, "P")
    wait("the new process", lambda: len(one.pids(alloc)) == 2)
    one.stop_job("three", purge=True)


def test_nothing_counts_before_the_grace_is_over_and_grace_begins_again_with_each_process(one: Drover) -> None:
    grace_s, limit = 4.0, 2
    one.submit(web_job("grace", {"Limit": limit, "Grace": int(grace_s * NS)}, Env={"START": "failing"}))
    alloc = one.wait_running("grace", 1)[0]["ID"]
    switch(one, alloc, "F")
    starts: list[float] = []
    for number in range(3):
        pid = wait("the next process", lambda n=number: len(one.pids(alloc)) > n and one.pids(alloc)[n])
        starts.append(time.time())
        if number:
            lived_s = starts[number] - starts[number - 1]
            # grace, then (limit - 1) intervals of 1 s, then the stop; never sooner, for a check that fails from birth.
            assert grace_s + (limit - 1) <= lived_s < grace_s + limit + 3.0, f"{lived_s:.2f} s"
        assert is_alive(pid)
    one.stop_job("grace", purge=True)


def test_warnings_count_unless_they_are_to_be_ignored(one: Drover) -> None:
    counting, pid = run_web(one, "warns", {"Limit": 2, "Grace": NS})
    ignoring, other = run_web(one, "ignores", {"Limit": 2, "Grace": NS, "IgnoreWarnings": True})
    wait("both pass", lambda: passed(one, counting, pid, 2) and passed(one, ignoring, other, 2))
    switch(one, counting, "W")
    switch(one, ignoring, "W")
    wait("the restart by warnings", lambda: len(one.pids(counting)) == 2)
    switch(one, counting, "P")
    wait("as many ignored ones", lambda: answers(one, ignoring, other).count("W") >= 4)
    assert one.pids(ignoring) == [other]
    for name in ("warns", "ignores"):
        one.stop_job(name, purge=True)


def test_a_slow_failing_probe_is_not_counted_too_early(one: Drover) -> None:
    """Each result takes interval + timeout; three of them are 3 probes of 1 s and 2 intervals apart."""
    alloc, pid = run_web(one, "slow", {"Limit": 3, "Grace": NS})
    wait("passing checks", lambda: passed(one, alloc, pid, 3))
    begun = time.time()
    switch(one, alloc, "S")
    wait("the kill", lambda: not is_alive(pid))
    took_s = time.time() - begun
    assert took_s >= 3 * 1.0 + 2 * 1.0, f"killed after {took_s:.2f} s, before the third probe timed out"
    assert took_s < 9.0
    switch(one, alloc, "P")
    one.stop_job("slow", purge=True)


def test_script_checks_are_run_in_the_task_and_counted_one_by_one(one: Drover) -> None:
    check = {"Name": "file", "Type": "script", "Command": "/bin/sh", "Args": ["-c", "echo x >> ran; test ! -e bad"]}
    check |= {"Interval": NS, "Timeout": NS, "CheckRestart": {"Limit": 2, "Grace": NS}}
    one.submit(
        job(
            "script",
            "/bin/sh",
            ["-c", "echo $$ >> starts; rm -f bad; exec sleep 1000"],
            Services=[{"Name": "script", "Checks": [check]}],
            group={"RestartPolicy": restart()},
        )
    )
    alloc = one.wait_running("script", 1)[0]["ID"]
    home = one.task_dir(alloc)
    wait("the script ran", lambda: (home / "ran").exists() and len((home / "ran").read_text().split()) >= 3)
    (home / "bad").touch()
    wait("the restart", lambda: len(one.pids(alloc)) == 2)
    one.stop_job("script", purge=True)


def test_it_works_the_same_while_consul_has_no_servers() -> None:
    with (
        or_skip(lambda: ConsulServer().__enter__()) as server,
        ConsulServer.client(server) as local,
        Drover(local) as one,
    ):
        one.wait_ready()
        alloc, pid = run_web(one, "alone", {"Limit": 3, "Grace": NS})
        wait("passing checks", lambda: passed(one, alloc, pid, 3))
        server.stop(kill=True)
        switch(one, alloc, "F")
        wait("the restart without any Consul server", lambda: len(one.pids(alloc)) == 2)
        assert answers(one, alloc, pid).endswith("PFFF")
        switch(one, alloc, "P")


def test_a_group_that_fails_as_one_is_restarted_one_after_the_other(one: Drover) -> None:
    one.submit(web_job("braked", {"Limit": 2, "Grace": NS, "MaxParallel": 1}, count=3))
    allocs = [alloc["ID"] for alloc in one.wait_running("braked", 3)]
    pids = {alloc: wait("its file", lambda alloc=alloc: one.pids(alloc))[0] for alloc in allocs}
    for alloc, pid in pids.items():
        wait("passing checks", lambda alloc=alloc, pid=pid: passed(one, alloc, pid, 2))
    for alloc in allocs:
        switch(one, alloc, "F")

    def all_restarted() -> bool:
        alive = [alloc for alloc in allocs if is_alive(one.pids(alloc)[-1])]
        for alloc in alive:
            if one.pids(alloc)[-1] != pids[alloc]:
                switch(one, alloc, "P")
        return all(one.pids(alloc)[-1] != pids[alloc] for alloc in alive) and len(alive) == 3

    wait("each is another process", all_restarted, 40.0)
    # By drover's own clock: on a starved machine a process has long been started before it says so itself.
    spans = sorted(restarted(one, alloc) for alloc in allocs)
    assert all(ended <= begun for (_, ended), (begun, _) in pairwise(spans)), spans
    one.stop_job("braked")


def restarted(one: Drover, alloc: str) -> tuple[int, int]:
    """When the first restart of its task was decided, and when the task had been started again."""
    events = one.alloc(alloc)["TaskStates"]["t"]["Events"]
    decided = next(event["Time"] for event in events if event["Type"] == "Restart Signaled")
    return decided, next(event["Time"] for event in events if event["Type"] == "Started" and event["Time"] > decided)
