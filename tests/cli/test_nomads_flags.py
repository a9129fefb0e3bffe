"""Flags that Nomad's users type and that mean the same here, against a real drover."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.command import Run, drover, file, masked
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def test_counts_are_preserved_and_a_version_is_inspected(run: Run, one: Drover, tmp_path: Path) -> None:
    assert run("job", "run", "-detach=true", "-eval-priority", "70", file(tmp_path, "web")).code == 0
    # No count is changed while a deployment is under way.
    wait("its deployment", lambda: (one.get("/v1/job/web/deployment") or {}).get("Status") == "successful")
    assert run("job", "scale", "-detach", "web", "1").code == 0
    changed = (tmp_path / "web.hcl").read_text().replace("echo two", "echo 2")
    (tmp_path / "web.hcl").write_text(changed)
    assert run("run", "-detach", "-preserve-counts", "web.hcl").code == 0
    assert [group["Count"] for group in one.get("/v1/job/web")["TaskGroups"]] == [1]
    first = json.loads("\n".join(run("job", "inspect", "-version", "0", "web").out))["Job"]
    assert (first["Version"], first["TaskGroups"][0]["Count"]) == (0, 2)
    assert run("inspect", "-version", "9", "web").err == ['Error: job "web" has no version 9 any more']
    full = json.loads("\n".join(run("job", "history", "-full", "web").out))
    assert [version["Version"] for version in full] == [2, 1, 0]


def test_an_allocation_is_shown_in_short_and_its_tasks_are_named_by_flag(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    alloc = one.wait_running("web", 2)[0]["ID"]
    shown = masked(run("alloc", "status", "-short", alloc).out)
    assert shown[0] == "ID                  = <id>"
    assert [line.split() for line in shown[-2:]] == [["Name", "State", "Last", "Event", "Time"], ["t", "running", "Started", "<moment>"]]
    assert run("alloc", "signal", "-s", "SIGCONT", "-task", "t", alloc).code == 0
    assert run("alloc", "restart", "-all-tasks", "-task", "t", alloc).code == 0
    wait("it was restarted", lambda: one.alloc(alloc)["TaskStates"]["t"]["Restarts"] == 1)
    assert run("alloc", "checks", alloc).out == [f'Status of 0 checks of allocation "{alloc[:8]}"']
    assert run("alloc", "checks", "-json", alloc).out == ["{}"]
    deployment = one.get("/v1/job/web/deployment")["ID"]
    assert run("deployment", "list", "-filter", 'JobID == "none"').out == ["No deployments found"]
    assert run("deployment", "list", "-per-page", "1").out[1].split()[0] == deployment[:8]


def test_an_evaluation_is_followed(run: Run, one: Drover, tmp_path: Path) -> None:
    run("job", "run", file(tmp_path, "web"))
    evaluation = one.wait_running("web", 2)[0]["EvalID"]
    shown = run("eval", "status", "-monitor", evaluation)
    assert (shown.code, masked(shown.out)[0]) == (0, '==> Monitoring evaluation "<id>"')
    assert masked(shown.out)[-1] == '==> Deployment "<id>" successful'


def test_nodes_are_listed_by_id_or_with_their_systems_and_drained_for_a_reason(run: Run, one: Drover) -> None:
    (node,) = one.get("/v1/nodes")
    assert run("node", "status", "-quiet").out == [node["ID"][:8]]
    assert run("node", "status", "-quiet", "-verbose").out == [node["ID"]]
    system = one.get(f"/v1/node/{node['ID']}")["Attributes"]["os.name"]
    head, row = run("node", "status", "-os").out
    assert (head.split()[-1], row.split()[-1]) == ("OS", system)
    short = run("node", "status", "-short", "-self").out
    assert short[0].startswith("ID ")
    assert "Meta" not in short
    assert short[-1] == "No allocations placed"
    assert run("node", "eligibility", "-disable", "-self", "-yes").out == [f'Node "{node["ID"]}" scheduling eligibility set: ineligible']
    assert run("node", "eligibility", "-enable").err == ["Error: expected a node, or -self"]
    assert run("node", "drain", "-enable", "-self", "-yes", "-detach", "-m", "new disk", "-meta", "who=ann").code == 0
    wait("it is empty", lambda: one.get(f"/v1/node/{node['ID']}")["LastDrain"]["Status"] == "complete")
    assert one.get(f"/v1/node/{node['ID']}")["LastDrain"]["Meta"] == {"message": "new disk", "who": "ann"}
    assert run("node", "drain", "-enable", "-self", "-meta", "who").err == ["Error: -meta 'who': expected KEY=VALUE"]
    assert run("node", "eligibility", "-enable", "-self").code == 0


def test_candidates_are_listed_with_their_tags(run: Run, one: Drover) -> None:
    head, row = run("server", "members", "-detailed").out
    assert head.split() == ["Name", "Address", "Port", "Tags"]
    assert re.search(r"\bbuild=1\.1\.0\+drover\.[^,]+,dc=dc1,id=", row)
    assert run("operator", "raft", "list-peers", "-stale=true").code == 0


def test_colours_may_be_wanted_in_what_is_no_terminal(run: Run, one: Drover) -> None:
    plain, coloured = run("node", "status"), run("node", "status", "-force-color")
    assert "\x1b[" not in "".join(plain.out)
    assert "\x1b[" in "".join(coloured.out)
    bare = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in coloured.out]
    assert [line.split() for line in bare] == [line.split() for line in plain.out]


def test_an_agents_flags_are_part_of_its_configuration(consul: ConsulServer, tmp_path: Path) -> None:
    refused = drover("agent", "-dev", "-meta", "novalue", cwd=tmp_path)
    assert (refused.code, refused.err) == (1, ["-meta: expected KEY=VALUE, found 'novalue'"])
    wrong = drover("agent", "-dev", "-consul-ca-file", "/nowhere/ca.pem", "-consul-ssl", cwd=tmp_path)
    assert wrong.code == 1
    assert "/nowhere/ca.pem" in "".join(wrong.err)
