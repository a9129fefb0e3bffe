"""Each action once, as an operator does it, and its effect as the API tells it."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.components.consul import ConsulServer
from tests.e2e.drover import NS, Drover, job, marking_job, wait
from tests.ui.conftest import Ui, job_of

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

ROLLING = {"MaxParallel": 1, "HealthCheck": "task_states", "MinHealthyTime": NS // 10, "HealthyDeadline": 60 * NS, "ProgressDeadline": 120 * NS}


def rollout(one: Drover, job_id: str) -> dict[str, Any]:
    """The job's newest deployment; empty before there is one."""
    return one.get(f"/v1/job/{job_id}/deployment") or {}


@pytest.fixture
def made(ui: Ui, one: Drover, request: pytest.FixtureRequest) -> Iterator[str]:
    """A job's id of the test's own; the job is purged afterwards, when no page shows it any more."""
    name = re.sub(r"[^a-z]+", "-", request.node.name.removeprefix("test_"))[:40].strip("-")
    yield name
    ui.page.goto("about:blank")
    one.stop_job(name, purge=True)
    wait("the end of its allocs", lambda: all(alloc["ClientStatus"] != "running" for alloc in one.allocs(name)))


def test_a_job_file_is_planned_and_then_run(ui: Ui, one: Drover, made: str) -> None:
    text = f"""
job "{made}" {{
  datacenters = ["dc1"]
  group "g" {{
    task "t" {{
      driver = "raw_exec"
      config {{
        command = "/bin/sleep"
        args    = ["1000"]
      }}
      resources {{
        cpu    = 10
        memory = 16
      }}
    }}
  }}
}}
"""
    page = ui.open("run")
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    page.get_by_label("Job file").fill(text)
    page.get_by_role("button", name="Plan", exact=True).click()
    expect(page.get_by_role("region", name="What would happen")).to_contain_text("1 placed")
    expect(page.get_by_role("region", name="What differs")).to_contain_text(made)
    assert [one_job for one_job in one.get("/v1/jobs") if one_job["ID"] == made] == []
    ui.confirm("Run")
    expect(page.locator("h1")).to_have_text(made)
    one.wait_running(made, 1)
    assert one.get(f"/v1/job/{made}/submission")["Source"] == text.strip("\n").join(("\n", "\n"))


def test_a_job_is_edited_planned_and_reverted(ui: Ui, one: Drover, made: str) -> None:
    one.submit(marking_job(made, count=1, job={"Meta": {"colour": "red"}}))
    one.wait_running(made, 1)
    page = ui.open(f"job/default/{made}")
    page.get_by_role("link", name="Edit", exact=True).click()
    field = page.get_by_label("Job file")
    expect(field).to_have_value(re.compile('"colour": "red"'))
    field.fill(field.input_value().replace('"red"', '"blue"'))
    page.get_by_role("button", name="Plan", exact=True).click()
    differs = page.get_by_role("region", name="What differs")
    expect(differs.locator("del")).to_contain_text("red")
    expect(differs.locator("ins")).to_contain_text("blue")
    ui.confirm("Run")
    wait("the new version", lambda: job_of(one, made)["Meta"] == {"colour": "blue"})
    page = ui.open(f"job/default/{made}/versions", shows="blue")
    ui.confirm("Revert to it")
    wait("the old version anew", lambda: (job_of(one, made)["Meta"], job_of(one, made)["Version"]) == ({"colour": "red"}, 2))
    expect(page.locator("h2").first).to_have_text("Version 2")


def test_what_is_wrong_with_a_job_file_is_told(ui: Ui, one: Drover) -> None:
    page = ui.open("run")
    page.get_by_label("Job file").fill('job "x" {\n  group "g" {\n    count = -1\n  }\n')
    page.get_by_role("button", name="Plan", exact=True).click()
    expect(page.locator("main .fault")).to_contain_text("input.hcl")
    ui.answered(400)


def test_a_job_is_scaled_stopped_and_started(ui: Ui, one: Drover, made: str) -> None:
    one.submit(marking_job(made, count=1, group={"Update": ROLLING}))
    wait("its deployment", lambda: rollout(one, made).get("Status") == "successful")  # or it cannot be scaled
    page = ui.open(f"job/default/{made}", shows="1 running")
    ui.confirm("Scale", count="2")
    one.wait_running(made, 2)
    expect(page.get_by_role("region", name="Groups", exact=True)).to_contain_text("2 running")
    ui.confirm("Stop")
    wait("its end", lambda: not one.running(made))
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_visible()
    ui.confirm("Start")
    one.wait_running(made, 2)


def test_a_job_is_restarted_in_the_rolling_manner_and_evaluated(ui: Ui, one: Drover, made: str) -> None:
    one.submit(marking_job(made, count=1, group={"Update": ROLLING}))
    before = one.wait_running(made, 1)[0]["ID"]
    wait("its deployment", lambda: rollout(one, made).get("Status") == "successful")
    ui.open(f"job/default/{made}", shows="1 running")
    ui.confirm("Restart")
    wait("another alloc", lambda: [alloc for alloc in one.running(made) if alloc["ID"] != before])
    known = len(one.get(f"/v1/job/{made}/evaluations"))
    ui.confirm("Evaluate")
    wait("another evaluation", lambda: len(one.get(f"/v1/job/{made}/evaluations")) > known)


def test_canaries_are_promoted_and_a_deployment_is_paused_and_failed(ui: Ui, one: Drover, made: str) -> None:
    def version(text: str) -> None:
        one.submit(job(made, "/bin/sh", ["-c", f"echo {text}; exec sleep 1000"], group={"Update": ROLLING | {"Canary": 1}}))

    version("first")
    one.wait_running(made, 1)
    wait("the first deployment", lambda: rollout(one, made).get("Status") == "successful")
    version("second")
    page = ui.open(f"job/default/{made}/deployments", shows="Canaries")
    expect(page.locator("section.panel").first).to_contain_text("1 of 1")
    wait("a healthy canary", lambda: rollout(one, made)["TaskGroups"]["g"]["HealthyAllocs"] == 1)
    ui.confirm("Promote")
    wait("its success", lambda: rollout(one, made).get("Status") == "successful")
    expect(page.locator("section.panel").first).to_contain_text("promoted")
    version("third")
    wait("another deployment", lambda: rollout(one, made).get("Status") == "running")
    expect(page.locator("section.panel h2").first).to_have_text("Version 2")
    page.get_by_role("button", name="Pause", exact=True).click()
    wait("the pause", lambda: rollout(one, made).get("Status") == "paused")
    expect(page.get_by_role("button", name="Resume", exact=True)).to_be_visible()
    ui.confirm("Fail")
    wait("the failure", lambda: rollout(one, made).get("Status") == "failed")


def test_an_instance_is_dispatched(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open("job/default/import")
    ui.confirm("Dispatch", **{"meta.day": "monday", "payload": "päylöad"})
    expect(page).to_have_url(re.compile("import%2Fdispatch"))
    name = page.locator("h1").inner_text()
    child = job_of(one, name)
    assert (child["Meta"]["day"], child["Payload"], child["ParentID"]) == ("monday", "cMOkeWzDtmFk", "import")
    page.get_by_role("link", name="import", exact=True).first.click()
    expect(page.get_by_role("region", name="Children", exact=True)).to_contain_text(name)
    ui.page.goto("about:blank")
    one.stop_job(quote(name, safe=""), purge=True)


def test_a_periodic_job_is_run_now(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open("job/default/nightly", shows="0 3 * * *")
    ui.confirm("Run now")
    child = wait("its child", lambda: next((one_job["ID"] for one_job in one.get("/v1/jobs?prefix=nightly/")), None))
    expect(page.get_by_role("region", name="Children", exact=True)).to_contain_text(child)
    ui.page.goto("about:blank")
    one.stop_job(quote(child, safe=""), purge=True)


def test_an_allocation_is_signalled_restarted_and_stopped(ui: Ui, one: Drover, made: str) -> None:
    one.submit(job(made, "/bin/sh", ["-c", "trap 'echo got a hup >> heard' HUP; while :; do sleep 0.1; done"], job={"Datacenters": ["dc1"]}))
    alloc = one.wait_running(made, 1)[0]["ID"]
    ui.open(f"alloc/{alloc}", shows="Started")
    heard = one.task_dir(alloc) / "heard"

    def send() -> bool:
        ui.confirm("Signal", task="t", signal="SIGHUP")
        ui.told("done")
        return True

    send()
    wait("the signal", heard.exists)
    ui.confirm("Restart")
    wait("the restart", lambda: one.alloc(alloc)["TaskStates"]["t"]["Restarts"] == 1)
    expect(ui.page.get_by_role("list", name="What happened to t")).to_contain_text("Restart Signaled")
    wait("it to run", lambda: one.alloc(alloc)["TaskStates"]["t"]["State"] == "running")
    ui.confirm("Stop")
    wait("its end", lambda: one.alloc(alloc)["ClientStatus"] == "complete")
    wait("another in its place", lambda: [found for found in one.running(made) if found["ID"] != alloc])


def test_a_log_is_followed_searched_and_saved(ui: Ui, one: Drover, made: str) -> None:
    one.submit(job(made, "/bin/sh", ["-c", "echo one; echo two; while [ ! -e go ]; do sleep 0.1; done; echo three; sleep 1000"], job={"Datacenters": ["dc1"]}))
    alloc = one.wait_running(made, 1)[0]["ID"]
    page = ui.open(f"job/default/{made}")
    page.get_by_role("link", name="Logs of").click()  # two clicks from a list of jobs
    log = page.get_by_role("log")
    expect(log).to_have_text(re.compile(r"^one\ntwo\n?$"))
    (one.task_dir(alloc) / "go").touch()
    expect(log).to_contain_text("three")
    page.get_by_role("searchbox").fill("TW")
    expect(log).to_have_text(re.compile(r"^two\n?$"))
    expect(log.locator("mark")).to_have_text("tw")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download all").click()
    assert saved.value.path().read_text() == "one\ntwo\nthree\n"
    expect(page.locator("[data-log-state]")).to_contain_text("Live")


def test_files_are_looked_at_and_saved(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open(f"alloc/{jobs['crash']}/files", shows="alloc/")
    for name in ("alloc/", "logs/", "t.stdout.0"):
        page.get_by_role("link", name=name, exact=True).click()
    expect(page.locator("pre.log")).to_contain_text("to stdout")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download", exact=True).click()
    assert saved.value.path().read_text() == "to stdout\nto stdout\n"


def test_a_terminal_runs_beside_a_task(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open(f"alloc/{jobs['sleepy']}")
    page.get_by_role("link", name="Terminal").click()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("[data-exec-state]")).to_have_text("Connected")
    page.locator(".xterm").click()
    page.keyboard.type("echo sum $((20+22)); printf '\\033[38;2;10;200;30mgreen\\033[0m\\n'; exit 7\n")
    expect(page.locator(".xterm-rows")).to_contain_text("sum 42")
    expect(page.locator(".xterm-rows")).to_contain_text("green")
    expect(page.locator("[data-exec-state]")).to_have_text("Ended with exit code 7")


def test_a_chart_shows_what_a_task_uses(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    where = f"/v1/client/allocation/{jobs['web']}/samples"
    wait("a sample", lambda: one.get(where)["Tasks"].get("t", {}).get("Times"))
    page = ui.open(f"alloc/{jobs['web']}")
    use = page.get_by_role("region", name="Use", exact=True)
    expect(use.locator("canvas")).to_have_count(2)
    expect(use).to_contain_text("MHz now")
    page = ui.open("job/default/web")
    expect(page.get_by_role("region", name="Use", exact=True).locator("canvas")).to_have_count(2)


def test_a_node_is_made_ineligible_drained_and_given_work_again(ui: Ui, one: Drover, consul: ConsulServer, made: str) -> None:
    """One of its own: what runs on the others stays there."""
    with Drover(consul, name="three", server=False, settings='client { virtual_datacenter = "spare" }'):
        node_id = wait("its node", lambda: next((each["ID"] for each in one.get("/v1/nodes") if (each["Name"], each["Status"]) == ("three", "ready")), None))

        def node() -> dict[str, Any]:
            found: dict[str, Any] = one.get(f"/v1/node/{node_id}")
            return found

        one.submit(marking_job(made, job={"Datacenters": ["spare"]}, group={"Update": {"MaxParallel": 0}}))
        one.wait_running(made, 1)
        page = ui.open(f"node/{node_id}", shows=f"{made}.g[0]")
        ui.confirm("Make ineligible")
        wait("ineligible", lambda: node()["SchedulingEligibility"] == "ineligible")
        ui.confirm("Make eligible")
        wait("eligible", lambda: node()["SchedulingEligibility"] == "eligible")
        ui.confirm("Drain", deadline="0", ignore="on")
        wait("the drain's end", lambda: (node()["LastDrain"] or {}).get("Status") == "complete")
        assert one.running(made) == []
        expect(page.get_by_role("region", name="This node")).to_contain_text("complete")
        expect(page.get_by_role("region", name="Live allocations", exact=True)).to_contain_text("Nothing runs here")
        ui.confirm("Make eligible")
        wait("eligible again", lambda: node()["SchedulingEligibility"] == "eligible")
        page.goto("about:blank")
        one.stop_job(made, purge=True)
        wait("the end of its allocs, by its node's own word", lambda: all(alloc["ClientStatus"] in ("complete", "failed") for alloc in one.allocs(made)))


def test_a_page_that_is_read_only_offers_nothing_that_changes_something(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open("job/default/web", shows="2 running")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    page.get_by_role("button", name="Read and write").click()
    expect(page.get_by_role("button", name="Read-only")).to_be_visible()
    expect(page.locator("main h1")).to_have_text("web")
    for path in ("job/default/web", "job/default/web/versions", f"alloc/{jobs['web']}", "nodes"):
        ui.open(path)
        for name in ("Stop", "Scale", "Restart", "Revert to it", "Signal", "Evaluate"):
            expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    expect(page.get_by_role("link", name="Terminal")).to_have_count(0)


def test_what_is_asked_back_and_not_confirmed_does_not_happen(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open("job/default/web", shows="2 running")
    page.get_by_role("button", name="Stop", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    assert json.dumps(job_of(one, "web")["Stop"]) == "false"
