"""What users write stays text, wherever the pages show it."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, job, restart, wait
from tests.ui.conftest import Ui

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

_numbers = itertools.count(1)


def evil() -> str:
    """Would set window.hacked if it was ever taken for HTML; each is another, so that each can be looked for."""
    return f"<img src=x onerror=hacked={next(_numbers)}>"


@dataclass
class Planted:
    drover: Drover
    texts: dict[str, str] = field(default_factory=dict)  # by the field that holds it
    allocs: dict[str, str] = field(default_factory=dict)

    def plant(self, name: str, text: str = "") -> str:
        self.texts[name] = text or evil()
        return self.texts[name]


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    names = {name: evil() for name in ("node name", "node class", "node meta", "node meta key", "virtual datacenter")}
    settings = f"""
client {{
  node_class         = "{names["node class"]}"
  virtual_datacenter = "{names["virtual datacenter"]}"
  meta {{ "{names["node meta key"]}" = "{names["node meta"]}" }}
}}
"""
    with or_skip(lambda: ConsulServer().__enter__()) as consul, Drover(consul, name=names["node name"], settings=settings) as drover:
        found = Planted(drover, dict(names))
        drover.wait_ready()
        plant = found.plant
        here = {"Datacenters": ["dc1", names["virtual datacenter"]]}
        script = {"Name": plant("check name"), "Type": "script", "Command": "/bin/echo", "Args": [plant("check output")], "Interval": NS, "Timeout": NS, "TaskName": "t"}
        service = {"Name": "shown", "Tags": [plant("service tag")], "Checks": [script], "PortLabel": "http"}
        out, err, inside = plant("line of stdout"), plant("line of stderr"), plant("content of a file")
        plant("name of a file")
        script_text = f"echo '{out}'; echo '{err}' >&2; echo '{inside}' > '{found.texts['name of a file']}'; exec sleep 100000"
        group = {
            "Name": plant("group name", f"g{evil()}"),
            "Networks": [{"DynamicPorts": [{"Label": "http"}]}],
            "Services": [service],
            "RestartPolicy": restart(),
            "Update": {"MaxParallel": 0},
            "Spreads": [{"Attribute": "${node.class}", "Weight": 50, "SpreadTarget": [{"Value": plant("spread target"), "Percent": 100}]}],
            "Meta": {"m": plant("group meta")},
        }
        spec = {**here, "Name": plant("job name"), "Meta": {plant("job meta key"): plant("job meta value")}}
        source = f'job "shown" {{}} # {plant("job file")}'
        body = job("shown", "/bin/sh", ["-c", script_text, plant("argument")], job=spec, group=group, Env={"E": plant("variable of a task")}, Meta={"k": plant("task meta")})
        flags = {plant("name of a variable"): plant("value of a variable")}
        drover.call("PUT", "/v1/jobs", {"Job": body, "Submission": {"Source": source, "Format": "hcl2", "VariableFlags": flags}})
        drover.wait_running("shown", 1)
        body["Meta"] = {**spec["Meta"], "changed": plant("value that was changed")}
        drover.submit(body)
        found.allocs["shown"] = wait("the new version", lambda: next((a["ID"] for a in drover.running("shown") if a["JobVersion"] == 1), None))
        constraint = {"LTarget": "${node.class}", "RTarget": plant("constraint"), "Operand": "="}
        drover.submit(job("unplaced", "/bin/true", [], job={**here, "Constraints": [constraint], "Datacenters": [*here["Datacenters"], plant("datacenter")]}, group={"Update": {"MaxParallel": 0}}))
        never = {"RestartPolicy": restart(0, 0.1, "fail"), "ReschedulePolicy": {"Attempts": 0, "Unlimited": False}, "Update": {"MaxParallel": 0}}
        drover.submit(job("broken", f"/no/such/{plant('task event')}", [], job=here, group=never))
        odd = plant("job id", "odd<img/src=x/onerror=hacked=77>")
        drover.submit(job(odd, "/bin/true", [], job={**here, "Type": "batch", "ParameterizedJob": {"MetaRequired": [plant("meta that is asked for")]}}))
        asked = {found.texts["meta that is asked for"]: plant("meta of a dispatch")}
        child = drover.call("PUT", f"/v1/job/{quote(odd, safe='')}/dispatch", {"Meta": asked})["DispatchedJobID"]
        found.texts["child"] = child
        wait("the failure", lambda: any(alloc["ClientStatus"] == "failed" for alloc in drover.allocs("broken")))
        found.allocs["broken"] = drover.allocs("broken")[0]["ID"]
        wait("the check's output", lambda: found.texts["check output"] in str(drover.get("/v1/job/shown/checks")))
        wait("the file", lambda: (drover.task_dir(found.allocs["shown"]) / found.texts["name of a file"]).exists())
        yield found


def test_thirty_fields_stay_text_on_every_page_that_shows_them(ui: Ui, planted: Planted) -> None:
    texts, drover = planted.texts, planted.drover
    ui.address = drover.address
    node = drover.get("/v1/nodes")[0]["ID"]
    shown, broken, odd = planted.allocs["shown"], planted.allocs["broken"], quote(texts["job id"], safe="")
    at = {
        "": ["node name", "virtual datacenter"],
        "jobs": ["job name", "job id"],
        "job/default/shown": ["job name", "job meta key", "job meta value", "group name", "spread target"],
        "job/default/shown/checks": ["check name", "check output", "node name"],
        "job/default/shown/definition": ["argument", "variable of a task", "task meta", "group meta"],
        "job/default/shown/versions": ["value that was changed"],
        "run?namespace=default&job=shown": [],
        "job/default/unplaced": ["constraint", "datacenter"],
        "job/default/unplaced/evaluations": ["constraint"],
        f"job/default/{odd}": ["job id"],
        f"job/default/{quote(texts['child'], safe='')}": ["meta of a dispatch", "meta that is asked for"],
        "allocations": ["group name", "node name"],
        f"alloc/{shown}": ["group name", "check name", "check output", "node name"],
        f"alloc/{broken}": ["task event"],
        f"alloc/{shown}/logs": ["line of stdout"],
        f"alloc/{shown}/logs?type=stderr": ["line of stderr"],
        f"alloc/{shown}/files?path=/t": ["name of a file"],
        f"alloc/{shown}/files?path=/t/{quote(texts['name of a file'])}": ["content of a file", "name of a file"],
        "nodes": ["node name", "virtual datacenter", "node class"],
        f"node/{node}": ["node name", "node class", "virtual datacenter"],
        f"node/{node}/attributes": ["node meta", "node meta key"],
        "topology": ["virtual datacenter", "node name"],
        "services": ["service tag"],
        f"jobs?q={quote(texts['node name'])}": [],
    }
    seen = set()
    for path, fields in at.items():
        page = ui.open(path)
        for name in fields:
            expect(page.locator("#app"), f"{name} on {path!r}").to_contain_text(texts[name])
            seen.add(name)
        nothing_was_taken_for_html(page)
    page = ui.open("job/default/shown/versions")
    # The first version's file, with its variables.
    first = drover.get("/v1/job/shown/submission?version=0")
    assert texts["job file"] in first["Source"]
    ui.confirm("Revert to it")
    expect(page.locator("h2").first).to_have_text("Version 2")
    page = ui.open("run")
    page.get_by_label("Job file").fill(f"job \"{evil()}\" {{ {evil()} }}")
    page.get_by_role("button", name="Plan", exact=True).click()
    expect(page.locator("main .fault")).to_be_visible()
    nothing_was_taken_for_html(page)
    ui.answered(400)
    seen |= submitted_anew(ui, planted)
    assert len(seen) >= 30, sorted(set(texts) - seen)


def submitted_anew(ui: Ui, planted: Planted) -> set[str]:
    """What only the newest version's submission shows: its text and variables."""
    drover, texts = planted.drover, planted.texts
    flags = {texts["name of a variable"]: texts["value of a variable"]}
    source = {"Source": texts["job file"], "Format": "hcl2", "VariableFlags": flags}
    document = drover.get("/v1/job/shown")
    document["Meta"]["again"] = "yes"
    drover.call("PUT", "/v1/jobs", {"Job": document, "Submission": source})
    page = ui.open("job/default/shown/definition", shows=texts["job file"])
    for name in ("name of a variable", "value of a variable"):
        expect(page.locator("main")).to_contain_text(texts[name])
    nothing_was_taken_for_html(page)
    return {"job file", "name of a variable", "value of a variable"}


def nothing_was_taken_for_html(page: Page) -> None:
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert page.locator("#app img, #app script, #app iframe").count() == 0


def test_a_script_in_the_page_would_not_run_at_all(ui: Ui, one: Drover) -> None:
    """The policy, should a text ever be taken for HTML after all."""
    page = ui.open("jobs")
    page.evaluate("""() => {
      const box = document.createElement("div");
      box.innerHTML = '<img src="data:," onerror="window.hacked=1">';
      document.body.append(box);
      const script = document.createElement("script");
      script.textContent = "window.hacked=2";
      document.body.append(script);
    }""")
    page.wait_for_timeout(300)
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert any("Content Security Policy" in fault for fault in ui.faults)
    ui.faults[:] = [fault for fault in ui.faults if not re.search("Content Security Policy|ERR_|Failed to load", fault)]


def test_a_page_of_another_origin_changes_nothing(ui: Ui, one: Drover) -> None:
    """A form and a fetch from elsewhere, with whatever a browser sends along."""
    ui.page.goto(f"http://localhost:{one.address.rpartition(':')[2]}/v1/regions")
    ui.faults.clear()  # left the host: that is what this test does
    status: Any = ui.page.evaluate(
        """address => fetch(`http://${address}/v1/system/gc`, {method: "PUT", mode: "no-cors", body: "{}"}).then(a => a.status, () => 0)""", one.address
    )
    assert status == 0
    answered = ui.page.evaluate("""() => fetch("/v1/system/gc", {method: "PUT", body: "{}"}).then(a => a.status)""")
    assert answered == 403
    ui.faults.clear()
