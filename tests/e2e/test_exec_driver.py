"""exec and java: what a task sees of the machine and of other tasks, what it may use, and what it cannot do."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.components import debian
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, is_alive, job, marking_job, restart, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.skipif(os.geteuid() != 0, reason="the exec driver needs root")]

# What a task tries, and what it prints when that worked. Each has to fail.
ATTEMPTS = {
    "read another alloc's secrets": "cat {data_dir}/alloc/{other}/t/secrets/* {data_dir}/alloc/{other}/t/local/*",
    "list data_dir": "ls {data_dir}",
    "read the agent's configuration": "cat {config}",
    "read the shadow file": "cat /etc/shadow",
    "see another process": "kill -0 {pid}; ls /proc/{pid}/ && grep -q . /proc/{pid}/cmdline",
    "see its supervisor": "ps axo args | grep -q '[s]upervisor'",
    "write to the system": "touch /usr/bin/drover-was-here",
    "write to /etc": "echo x > /etc/drover-was-here",
    "write to /sys": "echo 1 > /sys/kernel/uevent_seqnum || mkdir /sys/fs/cgroup/memory/drover-was-here",
    "leave by /proc/1/root": "ls /proc/1/root/home /proc/1/root/root/.. && test -d /proc/1/root{data_dir}",
    "mount something": "mount -t tmpfs none /mnt 2>/dev/null || mount --bind / /tmp",
    "make a device": "mknod /tmp/disk b 8 0 || mknod /tmp/mem c 1 1",
    "become root": "setpriv --reuid=0 id || su -c id",
    "enter another namespace": "nsenter -t 1 -m -p true && nsenter --mount=/proc/1/ns/mnt ls {data_dir}",
    "use a setuid program": "grep -q 'NoNewPrivs:.*0$' /proc/self/status",
    "change the host's name": "hostname drover-was-here",
    "load a kernel module": "insmod /dev/null || modprobe dummy",
    "trace a process of the machine": "python3 -c 'import ctypes; import sys; sys.exit(ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) != 0)'",
    "leave its cgroup": "echo $$ > /sys/fs/cgroup/memory/cgroup.procs || echo $$ > /sys/fs/cgroup/cgroup.procs",
    "turn a link of its own into the machine's": "ln -s {data_dir} /local/out && ls /local/out/alloc",
}


@pytest.fixture(scope="module")
def consul() -> Iterator[ConsulServer]:
    or_skip(lambda: debian.command("bwrap", "bubblewrap"))
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


def isolated(job_id: str, script: str, **more: Any) -> dict[str, Any]:
    group = {"RestartPolicy": restart(attempts=0, mode="fail"), "ReschedulePolicy": {"Attempts": 0, "Unlimited": False}}
    more.setdefault("job", {"Type": "batch"})
    resources = more.pop("Resources", {"CPU": 100, "MemoryMB": 64})
    return job(job_id, "/bin/sh", ["-c", script], group=group, Driver="exec", Resources=resources, **more)


def ended(one: Drover, document: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Its alloc once it has ended, and what it printed."""
    one.submit(document)
    job_id = document["ID"]
    alloc = wait("its end", lambda: [a for a in one.allocs(job_id) if a["ClientStatus"] in ("complete", "failed")])[0]
    logs = one.data_dir / "alloc" / alloc["ID"] / "alloc" / "logs"
    return alloc, "".join(path.read_text() for stream in ("stdout", "stderr") if (path := logs / f"t.{stream}.0").exists())


def test_it_runs_as_nobody_in_directories_of_its_own(one: Drover) -> None:
    script = "id -un; pwd; ls /; echo $NOMAD_TASK_DIR $NOMAD_SECRETS_DIR $NOMAD_ALLOC_DIR; touch /local/a /alloc/b /tmp/c d; grep Cap /proc/self/status; ps ax"
    alloc, said = ended(one, isolated("plain", script))
    assert alloc["ClientStatus"] == "complete", said
    assert said.startswith("nobody\n/\n")
    assert "/local /secrets /alloc\n" in said
    assert "CapEff:\t0000000000000000" in said
    assert "supervisor" not in said
    task = one.task_dir(alloc["ID"])
    assert all(path.exists() for path in (task / "local/a", task.parent / "alloc/b", task / "tmp/c", task / "d"))


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_way_leads_out(one: Drover, attempt: str) -> None:
    one.submit(marking_job("other"))
    other = one.wait_running("other", 1)[0]["ID"]
    wait("its process", lambda: one.pids(other))
    (one.task_dir(other) / "secrets" / "password").write_text("hunter2")
    filled = ATTEMPTS[attempt].format(data_dir=one.data_dir, other=other, config=one.config, pid=one.pids(other)[0])
    name = attempt.replace(" ", "-").replace("'", "").replace("/", "-")
    alloc, said = ended(one, isolated(name, f"if {{ {filled}; }} >/tmp/said 2>&1; then echo OUT; cat /tmp/said; else echo HELD; fi"))
    assert said == "HELD\n", (alloc["ID"], said)
    assert not Path("/usr/bin/drover-was-here").exists()
    assert is_alive(one.pids(other)[0])


def test_memory_beyond_its_limit_is_the_end_and_is_told_so(one: Drover) -> None:
    eat = "python3 -c 'import time; data = []\nwhile True: data.append(bytearray(1 << 20)); time.sleep(0.001)'"
    alloc, _ = ended(one, isolated("eats", eat, Resources={"CPU": 100, "MemoryMB": 32}))
    assert alloc["ClientStatus"] == "failed"
    events = one.alloc(alloc["ID"])["TaskStates"]["t"]["Events"]
    terminated = next(event for event in events if event["Type"] == "Terminated")
    assert "OOM Killed" in terminated["DisplayMessage"]
    assert terminated["Details"]["oom_killed"] == "true"


def test_memory_max_may_be_used_where_it_is_given(one: Drover) -> None:
    one.call("PUT", "/v1/operator/scheduler/configuration", {**one.get("/v1/operator/scheduler/configuration")["SchedulerConfig"], "MemoryOversubscriptionEnabled": True})
    eat = "python3 -c 'data = bytearray(80 << 20); print(len(data))'"
    alloc, said = ended(one, isolated("spares", eat, Resources={"CPU": 100, "MemoryMB": 32, "MemoryMaxMB": 256}))
    assert (alloc["ClientStatus"], said) == ("complete", f"{80 << 20}\n")


def test_signals_commands_beside_it_and_its_stop_reach_the_task_itself(one: Drover) -> None:
    script = "trap 'echo USR1' USR1; trap 'echo TERM; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    one.submit(isolated("talks", script, KillSignal="SIGTERM", job={"Type": "service"}))
    alloc = one.wait_running("talks", 1)[0]["ID"]
    log = one.data_dir / "alloc" / alloc / "alloc" / "logs" / "t.stdout.0"
    wait("its word", lambda: "ready" in log.read_text())
    one.call("PUT", f"/v1/client/allocation/{alloc}/signal", {"Signal": "SIGUSR1", "Task": "t"})
    wait("its answer", lambda: "USR1" in log.read_text())
    shown = one.run("alloc", "exec", alloc, "sh", "-c", "id -un; pwd; ps axo args; echo $NOMAD_TASK_NAME")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("nobody\n/\n")
    assert "supervisor" not in shown.stdout
    assert shown.stdout.endswith("\nt\n")
    one.stop_job("talks")
    wait("its end", lambda: one.alloc(alloc)["ClientStatus"] == "complete")
    assert "TERM" in log.read_text()


def test_it_outlives_the_agent_and_its_exit_code_is_not_lost(one: Drover) -> None:
    one.submit(isolated("lives", "echo $$ >> /starts; while [ ! -e /local/go ]; do sleep 0.05; done; exit 7"))
    alloc = one.wait_running("lives", 1)[0]["ID"]
    wait("its start", lambda: one.pids(alloc))
    one.kill()
    (one.task_dir(alloc) / "local" / "go").touch()
    wait("its exit code", lambda: list(one.data_dir.glob(f"run/{alloc}.*.exit")))
    one.start()
    wait("its end", lambda: one.alloc(alloc)["ClientStatus"] == "failed")
    terminated = next(e for e in one.alloc(alloc)["TaskStates"]["t"]["Events"] if e["Type"] == "Terminated")
    assert terminated["Details"]["exit_code"] == "7"
    assert len(one.pids(alloc)) == 1


def test_nothing_of_it_is_left_once_it_was_stopped(one: Drover) -> None:
    script = "setsid sleep 54321 & echo $$ >> /starts; sleep 100000"
    one.submit(isolated("leaves", script, job={"Type": "service"}))
    alloc = one.wait_running("leaves", 1)[0]["ID"]
    wait("its start", lambda: one.pids(alloc))
    one.stop_job("leaves", purge=True)
    wait("its end", lambda: not one.allocs("leaves"))
    one.call("PUT", "/v1/system/gc")
    wait("no directory", lambda: not one.task_dir(alloc).exists())
    assert subprocess.run(["pgrep", "-f", "sleep 54321"], check=False, capture_output=True).stdout == b""
    assert not [path for path in Path("/sys/fs/cgroup").glob("*/drover/*") if alloc in path.name]


def test_root_and_whom_nobody_knows_are_refused(one: Drover) -> None:
    for user, words in (("root", "running as root is not allowed"), ("nosuchuser", "does not exist on this machine")):
        alloc, _ = ended(one, isolated(f"as-{user}", "true", User=user))
        assert words in str(one.alloc(alloc["ID"])["TaskStates"]["t"]["Events"])


@pytest.mark.skipif(shutil.which("java") is None or shutil.which("javac") is None, reason="there is no JDK on this machine")
def test_a_java_program_runs_in_the_same_way(one: Drover, tmp_path: Path) -> None:
    (tmp_path / "Hello.java").write_text(
        'public class Hello { public static void main(String[] a) { System.out.println("hello " + a[0] + " " + System.getProperty("user.name")); } }'
    )
    subprocess.run(["javac", "Hello.java"], cwd=tmp_path, check=True)
    document = job("java", "", [], job={"Type": "batch"}, group={"RestartPolicy": restart(attempts=0, mode="fail")})
    task = document["TaskGroups"][0]["Tasks"][0]
    task |= {"Driver": "java", "Config": {"class": "Hello", "class_path": "/alloc/data", "args": ["you"], "jvm_options": ["-Xmx32m"]}}
    task["Resources"] = {"CPU": 100, "MemoryMB": 256}
    feed = {"Name": "feed", "Driver": "raw_exec", "Config": {"command": "/bin/cp", "args": [f"{tmp_path}/Hello.class", "${NOMAD_ALLOC_DIR}/data/"]}}
    document["TaskGroups"][0]["Tasks"].append(feed | {"Lifecycle": {"Hook": "prestart"}, "Resources": {"CPU": 10, "MemoryMB": 16}})
    alloc, said = ended(one, document)
    assert (alloc["ClientStatus"], said) == ("complete", "hello you nobody\n")
