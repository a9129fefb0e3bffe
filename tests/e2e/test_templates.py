"""Templates on real Consul and real processes: rendered, followed, and never a reason to hurt what runs."""

import base64
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.policies import agent_with_policies
from tests.components.consul import MANAGEMENT, ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Answer, Drover, is_alive, job, restart, stays, wait
from tests.e2e.test_dev import Dev

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# Each start and each signal leave a line; the environment, too.
SCRIPT = """
trap 'echo HUP >> local/seen' HUP
echo $$ >> starts; echo "env=$GREETING" >> local/seen
while :; do sleep 0.05; done
"""


@pytest.fixture
def own_consul() -> Iterator[ConsulServer]:
    """One that the test may stop."""
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


def template(data: str, destination: str = "local/out", **more: Any) -> dict[str, Any]:
    return {"EmbeddedTmpl": data, "DestPath": destination, "Splay": 0, "Wait": {"Min": 0, "Max": 0}, **more}


def templated(job_id: str, *templates: dict[str, Any], **more: Any) -> dict[str, Any]:
    group = {"RestartPolicy": restart()}
    return job(job_id, "/bin/sh", ["-c", SCRIPT], group=group, Templates=list(templates), **more)


def put(consul: ConsulServer, key: str, value: str) -> None:
    encoded = base64.b64encode(value.encode()).decode()
    status, answer = consul.call("PUT", "/v1/txn", [{"KV": {"Verb": "set", "Key": key, "Value": encoded}}])
    assert status == 200, answer


def events(one: Drover, alloc: str) -> list[str]:
    state = (one.alloc(alloc).get("TaskStates") or {}).get("t") or {}
    return [event["DisplayMessage"] for event in state.get("Events") or ()]


def started(one: Drover, job_id: str) -> tuple[str, Path]:
    """(alloc id, its task's directory), once its process has said so."""
    alloc = one.wait_running(job_id, 1)[0]["ID"]
    wait("its file", lambda: one.pids(alloc))
    return alloc, one.task_dir(alloc)


def says(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def test_keys_services_and_the_environment_are_rendered_and_a_change_restarts_the_task(
    consul: ConsulServer, one: Drover
) -> None:
    put(consul, "e2e/color", "blue")
    consul.call("PUT", "/v1/agent/service/register", {"Name": "db", "Port": 5432, "Address": "10.1.2.3"})
    data = (
        '{{ key "e2e/color" }} {{ range service "db" }}{{ .Address }}:{{ .Port }}{{ end }} '
        '{{ env "NOMAD_TASK_NAME" }} {{ keyOrDefault "e2e/none" "none" }}\n'
    )
    env = template('# said by a template\nexport GREETING="hello {{ key "e2e/color" }}" # friendly\n', "secrets/env", Envvars=True, Perms="600")
    one.submit(templated("restarts", template(data), env))
    alloc, task = started(one, "restarts")
    assert (task / "local/out").read_text() == "blue 10.1.2.3:5432 t none\n"
    assert ((task / "local/out").stat().st_mode & 0o777, (task / "secrets/env").stat().st_mode & 0o777) == (0o644, 0o600)
    wait("its environment", lambda: says(task / "local/seen", "env=hello blue\n"))
    put(consul, "e2e/color", "red")
    wait("a second process", lambda: len(one.pids(alloc)) == 2)
    wait("its environment", lambda: says(task / "local/seen", "env=hello blue\nenv=hello red\n"))
    assert (task / "local/out").read_text() == "red 10.1.2.3:5432 t none\n"
    wait("the event", lambda: "Template with change_mode restart re-rendered" in events(one, alloc))
    state = one.alloc(alloc)["TaskStates"]["t"]
    assert (state["Restarts"], state["Failed"]) == (1, False)


def test_signal_script_and_noop_leave_the_process_alone(consul: ConsulServer, one: Drover) -> None:
    for name in ("sig", "scr", "noop"):
        put(consul, f"e2e/{name}", "1")
    one.submit(
        templated(
            "quiet",
            template('{{ key "e2e/sig" }}', "local/sig", ChangeMode="signal", ChangeSignal="SIGHUP"),
            template(
                '{{ key "e2e/scr" }}',
                "local/scr",
                ChangeMode="script",
                ChangeScript={"Command": "/bin/sh", "Args": ["-c", "cat ${NOMAD_TASK_DIR}/scr >> ${NOMAD_TASK_DIR}/ran"], "Timeout": 5 * NS},
            ),
            template('{{ key "e2e/noop" }}', "local/noop", ChangeMode="noop"),
        )
    )
    alloc, task = started(one, "quiet")
    wait("its line", lambda: says(task / "local/seen", "env=\n"))
    put(consul, "e2e/noop", "2")
    wait("noop's file", lambda: says(task / "local/noop", "2"))
    put(consul, "e2e/scr", "2")
    wait("the script", lambda: says(task / "local/ran", "2"))
    assert says(task / "local/seen", "env=\n")
    put(consul, "e2e/sig", "2")
    wait("the signal", lambda: says(task / "local/seen", "env=\nHUP\n"))
    assert says(task / "local/sig", "2")
    wait("the event", lambda: "Task being sent signal SIGHUP: Template re-rendered" in events(one, alloc))
    assert len(one.pids(alloc)) == 1


def test_a_script_that_fails_ends_the_task_where_it_was_asked_to(consul: ConsulServer, one: Drover) -> None:
    put(consul, "e2e/fatal", "1")
    script = {"Command": "/bin/false", "FailOnError": True}
    one.submit(templated("fatal", template('{{ key "e2e/fatal" }}', ChangeMode="script", ChangeScript=script)))
    alloc, _ = started(one, "fatal")
    put(consul, "e2e/fatal", "2")
    wait("its end", lambda: one.alloc(alloc)["ClientStatus"] == "failed")
    assert "Template failed to run script '/bin/false' on change: exit code 1" in events(one, alloc)
    assert len(one.pids(alloc)) == 1
    one.stop_job("fatal")


def test_a_first_start_waits_for_a_key_with_its_reason_and_starts_once_it_is_there(
    consul: ConsulServer, one: Drover
) -> None:
    one.submit(templated("waits", template('{{ key "e2e/late" }}')))
    alloc = wait("its alloc", lambda: one.allocs("waits"))[0]["ID"]
    wait("its reason", lambda: one.alloc(alloc)["ClientDescription"] == "Missing: kv.block(e2e/late)")
    assert "Missing: kv.block(e2e/late)" in events(one, alloc)
    assert one.alloc(alloc)["ClientStatus"] == "pending"
    put(consul, "e2e/late", "here")
    began = time.monotonic()
    _, task = started(one, "waits")
    assert says(task / "local/out", "here")
    assert time.monotonic() - began < 5
    assert events(one, alloc).count("Missing: kv.block(e2e/late)") == 1
    assert "Missing" not in one.alloc(alloc)["ClientDescription"]


def test_what_escapes_and_what_cannot_be_parsed_is_refused_at_submit_by_place(one: Drover) -> None:
    bad = templated("bad", template("ok\n{{ if }}"), template("{{ nomadVar \"x\" }}", "../../out"), template("x", Perms="9"))
    with pytest.raises(Answer) as refused:
        one.submit(bad)
    where = "job.bad.group.g.task.t.template"
    for words in (
        f"{where}[0].data: line 2, column",
        f"{where}[1].destination: must not lead out",
        f"{where}[1].data: line 1, column 4: <nomadVar>: nomadVar: drover has no variables",
        f'{where}[2].perms: must be octal, as "0644", found "9"',
    ):
        assert words in refused.value.text, refused.value.text


def test_a_link_that_a_task_planted_leads_a_template_nowhere(consul: ConsulServer, one: Drover, tmp_path: Path) -> None:
    put(consul, "e2e/link", "1")
    plant = f"rm -rf local; ln -s {tmp_path} local; echo $$ >> starts; exec sleep 1000"
    planted = job("planted", "/bin/sh", ["-c", plant], group={"RestartPolicy": restart()}, Templates=[template('{{ key "e2e/link" }}', ChangeMode="noop")])
    one.submit(planted)
    alloc, _ = started(one, "planted")
    put(consul, "e2e/link", "2")
    wait("its event", lambda: any("leads out of the allocation's directory" in told for told in events(one, alloc)))
    assert list(tmp_path.iterdir()) == []
    assert len(one.pids(alloc)) == 1
    one.stop_job("planted")


def test_neither_a_killed_agent_nor_consul_away_changes_anything_for_a_running_task(own_consul: ConsulServer) -> None:
    put(own_consul, "e2e/kept", "1")
    with Drover(own_consul, name="kept") as kept:
        kept.wait_ready()
        kept.submit(
            templated(
                "kept",
                template('{{ key "e2e/kept" }} {{ timestamp }}'),
                template('GREETING={{ key "e2e/kept" }}', "local/env", Envvars=True),
            )
        )
        alloc, task = started(kept, "kept")
        before = [(path.stat().st_mtime_ns, path.read_text()) for path in (task / "local/out", task / "local/env")]

        def is_untouched() -> bool:
            now = [(path.stat().st_mtime_ns, path.read_text()) for path in (task / "local/out", task / "local/env")]
            return now == before and len(kept.pids(alloc)) == 1 and is_alive(kept.pids(alloc)[0])

        kept.kill()
        kept.start()
        kept.wait_ready()
        stays("the agent's second life", is_untouched, 2.0)
        own_consul.stop()
        try:
            stays("Consul away", is_untouched, 2.0)
            kept.kill()
            kept.start()
            stays("Consul away, and another life", is_untouched, 2.0)
            os.kill(kept.pids(alloc)[0], signal.SIGKILL)
            # It is started again though nobody can be asked: with what was said last.
            wait("its second process", lambda: len(kept.pids(alloc)) == 2)
            wait("its environment", lambda: says(task / "local/seen", "env=1\nenv=1\n"))
        finally:
            own_consul.start()
        put(own_consul, "e2e/kept", "2")
        wait("its third process", lambda: len(kept.pids(alloc)) == 3)
        wait("its environment", lambda: says(task / "local/seen", "env=1\nenv=1\nenv=2\n"))
        assert before[0][1] != (task / "local/out").read_text()



def test_the_development_agent_with_its_own_consul_renders_too(tmp_path: Path) -> None:
    """Nothing but drover: the embedded Consul answers."""
    with Dev(None, tmp_path) as dev:
        data = '{{ range service "late" }}{{ .Port }}{{ end }} {{ keyOrDefault "none" "d" }} {{ len nodes }}'
        dev.submit(templated("reads", template(data, ChangeMode="noop")))
        (alloc,) = wait("its alloc", lambda: dev.running("reads"))
        (file,) = dev.temporary.glob(f"drover-dev-*/alloc/{alloc}/t/local/out")
        assert says(file, " d 1")
        dev.submit(job("late", "/bin/sleep", ["1000"], group={"Services": [{"Name": "late", "PortLabel": "4321"}]}))
        wait("the service", lambda: says(file, "4321 d 1"))


def test_with_the_policies_that_drover_brings_services_are_seen_and_a_key_needs_a_line_of_its_own() -> None:
    with or_skip(lambda: ConsulServer(acl=True).__enter__()) as consul:
        put(consul, "other/unseen", "1")
        with agent_with_policies(consul, "poor", server=True, token=MANAGEMENT) as poor:
            poor.wait_ready()
            poor.submit(templated("sees", template('{{ range service "consul" }}{{ .Name }}{{ end }} {{ len services }}')))
            poor.wait_running("sees", 1)
            poor.submit(templated("blind", template('{{ key "other/unseen" }}')))
            alloc = wait("its alloc", lambda: poor.allocs("blind"))[0]["ID"]
            told = wait("its reason", lambda: [one for one in events(poor, alloc) if "Missing" in one])
            assert told == ["Missing: kv.block(other/unseen) (Consul refused GET /v1/kv/other/unseen: Permission denied)"]
