"""The commands that tell how the cluster and its agents are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import NOWHERE, Run, environ, file, masked
from tests.e2e.drover import Drover, job, marking_job, restart, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def test_status_shows_whatever_has_the_id(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", "-detach", file(tmp_path, "web"))
    alloc = one.wait_running("web", 2)[0]
    evaluation, deployment = alloc["EvalID"], one.get("/v1/job/web/deployment")["ID"]
    assert run("scaling", "policy", "list").shown == (0, ["No policies found"], [])
    for identity, first in (
        ("web", "ID          = web"),
        (alloc["ID"][:13], f"ID                  = {alloc['ID'][:8]}"),
        (alloc["NodeID"], None),
        (evaluation, f"ID                 = {evaluation[:8]}"),
        (deployment, None),
    ):
        done = run("status", identity)
        assert (done.code, done.err) == (0, []), identity
        assert first in (None, done.out[0])
    assert run("status", "nothing").shown == (1, [], ["Error: Unable to resolve ID: 'nothing'"])
    run("job", "run", "-detach", file(tmp_path, "web-2", NOWHERE))
    several = run("status", "we")
    assert (several.code, several.err[-1].strip()) == (1, "jobs: web, web-2")
    assert run("status", "web").out[0] == "ID          = web"


def test_evaluations_and_allocations_are_listed(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", "-detach", file(tmp_path, "web"))
    one.wait_running("web", 2)
    allocs = run("job", "allocs", "web")
    assert (allocs.code, len(allocs.out), allocs.out[0].split()[:2]) == (0, 3, ["ID", "Node"])
    assert {a["JobID"] for a in json.loads("".join(run("job", "allocs", "-json", "web").out))} == {"web"}
    evals = run("eval", "list", "-job", "web")
    assert (evals.code, masked(evals.out)[0].split()[0], any("job-register" in line for line in evals.out)) == (0, "ID", True)
    assert run("eval", "list", "-job", "none").shown == (0, ["No evals found"], [])


def test_a_job_file_is_kept_and_its_policies_are_shown(run: Run, one: Drover, tmp_path: Path) -> None:
    text = """
variable "top" { default = 1 }
job "scaled" {
  datacenters = ["dc1"]
  group "g" {
    count = 0
    scaling {
      max = var.top
      policy { cooldown = "1m" }
    }
    task "t" {
      driver = "raw_exec"
      config { command = "/bin/true" }
    }
  }
}
"""
    (tmp_path / "scaled.hcl").write_text(text)
    assert run("job", "run", "-detach", "-var", "top=4", "scaled.hcl").code == 0
    kept = one.get("/v1/job/scaled/submission")
    assert (kept["Source"], kept["Format"], kept["VariableFlags"]) == (text, "hcl2", {"top": "4"})
    listed = run("scaling", "policy", "list", "-verbose")
    policy = listed.out[1].split()[0]
    assert (listed.code, listed.out[1].split()[1:]) == (0, ["true", "horizontal", "Namespace:default,Job:scaled,Group:g"])
    for words in (("scaling", "policy", "info", policy[:8]), ("status", policy)):
        info = run(*words)
        assert (info.code, "Max     = 4" in info.out, '    "cooldown": "1m"' in info.out) == (0, True, True)


def test_the_api_is_called_as_it_is(run: Run, one: Drover, tmp_path: Path) -> None:
    assert json.loads("".join(run("operator", "api", "/v1/jobs?prefix=none").out)) == []
    searched = run("operator", "api", "v1/search", '{"Prefix": "def", "Context": "namespaces"}')
    assert json.loads("".join(searched.out))["Matches"] == {"namespaces": ["default"]}
    (tmp_path / "body").write_text('{"Prefix": "def", "Context": "namespaces"}')
    assert json.loads("".join(run("operator", "api", "-X", "POST", "/v1/search", "@body").out))["Matches"]
    assert run("operator", "api", "/v1/job/none").shown == (0, ["job not found"], [])
    assert run("operator", "api", "-dryrun", "/v1/jobs").out == [f"curl -X GET 'http://{one.address}/v1/jobs'"]
    assert set(json.loads("".join(run("operator", "metrics").out))) == {"Counters", "Gauges", "Points", "Samples", "Timestamp"}
    assert "# TYPE drover_leader_is_leader gauge" in run("operator", "metrics", "-format", "prometheus").out


def test_an_agent_and_the_candidates_are_told_of(run: Run, one: Drover) -> None:
    info = run("agent-info")
    assert (info.code, info.out[0], f"  node_id = {one.get('/v1/agent/self')['stats']['client']['node_id']}" in info.out) == (0, "client", True)
    assert run("check").shown == (0, [], [])
    assert run("check", "-min-peers", "3").shown == (2, ["known peers: 0, is less than expected number of peers: 3"], [])
    assert run("check", address="127.0.0.1:1").code == 3
    peers = run("operator", "raft", "list-peers")
    assert (peers.code, peers.out[0].split()) == (0, ["Node", "ID", "Address", "State", "Voter", "RaftProtocol"])
    assert peers.out[1].split()[2:] == [one.address, "leader", "true", "3"]
    assert "CleanupDeadServers = false" in run("operator", "autopilot", "get-config").out
    assert run("operator", "autopilot", "health").out[0] == "Healthy = true"
    assert run("server", "force-leave", "nobody").shown == (0, [], [])
    assert run("system", "reconcile", "summaries").shown == (0, [], [])
    assert run("license", "get").shown == (1, [], ["Error: there is no license: drover needs none"])


def test_there_are_no_volumes_and_plugins(run: Run, one: Drover) -> None:
    for kind in ("volume", "plugin"):
        assert run(kind, "status").shown == (0, ["Container Storage Interface", f"No CSI {kind}s"], [])
        assert run(kind, "status", "x").shown == (1, [], [f"Error: No {kind}(s) with prefix or ID 'x' found"])


def test_events_are_printed_as_they_come(run: Run, one: Drover, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "event", "stream", "-topic", "Job:told"]
    output = tmp_path / "events"
    with (
        output.open("wb") as out,
        subprocess.Popen(command, stdout=out, env=environ(NOMAD_ADDR=f"http://{one.address}"), cwd=tmp_path) as process,
    ):
        try:
            # The stream begins with what is remembered, so that it does not matter which of the two is first.
            run("job", "run", "-detach", file(tmp_path, "told", NOWHERE))
            lines = wait("the event", lambda: output.read_text().splitlines())
        finally:
            process.kill()
    assert json.loads(lines[0])["Events"][0]["Key"] == "told"


def test_a_stopped_job_is_started_again_and_its_scalings_are_told(run: Run, one: Drover) -> None:
    one.submit(marking_job("again", count=1, group={"Update": {"MinHealthyTime": 1}}))
    assert run("job", "start", "again").shown == (1, [], ['Error: job "again" is not stopped'])
    wait("it is deployed", lambda: one.get("/v1/job/again/deployment")["Status"] == "successful")
    assert run("job", "scale", "-detach", "again", "2").code == 0
    assert run("job", "stop", "-detach", "again").code == 0
    assert run("job", "start", "-detach", "again").code == 0
    assert (one.get("/v1/job/again")["Stop"], len(one.wait_running("again", 2))) == (False, 2)
    told = run("job", "scaling-events", "again").out
    assert [line.split()[:3] for line in told] == [["Task", "Group", "Count"], ["g", "2", "1"]]


def test_lists_are_filtered_and_come_page_by_page(run: Run, one: Drover) -> None:
    for name in ("list-a", "list-b"):
        one.submit(marking_job(name, count=0) | {"Meta": {"team": name}})
    shown = run("job", "status", "-filter", 'Meta.team == "list-b"')
    assert [line.split()[0] for line in shown.out] == ["ID", "list-b"]
    page = run("job", "status", "-per-page", "1")
    assert (len(page.out), "-page-token " in page.err[0]) == (2, True)
    assert run("job", "status", "-page-token", page.err[0].split()[-1]).out[-1].startswith("list-b")
    assert run("node", "status", "-filter", 'Name == "nobody"').out == ["No nodes registered"]
    assert run("alloc", "status", "-filter", "x ==").code == 1


def test_nomads_former_names_and_what_drover_needs_not(run: Run, one: Drover) -> None:
    assert run("node-status").out[0].startswith("ID")
    assert run("server-members").out[1].startswith("one.global")
    assert run("node", "config", "-servers").out == [one.address]
    assert run("ui").out == [f"http://{one.address}/ui/"]
    assert run("server", "join", "10.9.9.9").code == 1
    assert run("node", "config", "-update-servers").code == 1


def test_a_configuration_is_checked_without_an_agent(run: Run, tmp_path: Path) -> None:
    (tmp_path / "good.hcl").write_text('name = "x"\ndata_dir = "/opt/drover"\nclient { enabled = true }\n')
    (tmp_path / "bad.hcl").write_text("nmae = 1\n")
    assert run("config", "validate", "good.hcl").shown == (0, ["Configuration is valid!"], [])
    assert run("config", "validate", "bad.hcl").err[0].startswith("bad.hcl:1: ")


def test_what_failed_for_good_is_replaced_when_a_user_asks(run: Run, one: Drover) -> None:
    never = {"Attempts": 0, "Unlimited": False}
    group = {"RestartPolicy": restart(0, mode="fail"), "ReschedulePolicy": never, "Update": None}
    one.submit(job("fails", "/bin/false", [], group=group))

    def failed() -> set[str]:
        return {a["ID"] for a in one.allocs("fails") if a["ClientStatus"] == "failed"}

    first = wait("it failed for good", failed)
    assert run("job", "eval", "-detach", "fails").code == 0
    stays("nothing follows", lambda: {a["ID"] for a in one.allocs("fails")} == first, 1.0)
    assert run("job", "eval", "-detach", "-force-reschedule", "fails").code == 0
    wait("another was tried", lambda: len(failed()) == 2)
