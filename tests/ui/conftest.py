"""One real Consul, a leader and a second agent in a virtual datacenter, a handful of jobs, and one Chromium for all tests."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.components.chromium import ARGUMENTS, chromium
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, job, marking_job, restart, wait, web_job

# What a step may take on a busy machine.
WAIT_MS = 30_000
ARTIFACTS = Path(__file__).parents[2] / ".artifacts" / "ui"
# Says that a call was answered with an error: tests of such answers name them.
_ANSWERED = re.compile(r"^Failed to load resource: the server responded with a status of (\d+)")

expect.set_options(timeout=WAIT_MS)


@dataclass
class Ui:
    """A tab. faults: errors of scripts and of the console, and requests that left the host."""

    page: Page
    address: str
    context: BrowserContext
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        where = urlsplit(request.url)
        if where.scheme not in ("data", "blob") and where.netloc != self.address:
            self.faults.append(f"left the host: {request.url}")

    def open(self, path: str, *, shows: str = "") -> Page:
        """Goes to the page below /ui/ and waits until it shows its title (or `shows`, anywhere in it)."""
        self.page.goto(f"http://{self.address}/ui/{path}")
        expect(self.page.locator("main h1")).to_be_visible()
        expect(self.page.locator("main .loading")).to_have_count(0)
        if shows:
            expect(self.page.locator("main")).to_contain_text(shows)
        return self.page

    def confirm(self, button: str, **fields: str) -> None:
        """Presses a button of the page's head or a panel, fills in what is asked back, and confirms."""
        self.page.locator("main").get_by_role("button", name=button, exact=True).first.click()
        dialog = self.page.locator("dialog[open]")
        expect(dialog).to_be_visible()
        for name, value in fields.items():
            found = dialog.locator(f"[name='{name}']")
            if found.evaluate("one => one.tagName") == "SELECT":
                found.select_option(value)
            elif value in ("on", "off"):
                found.set_checked(value == "on")
            else:
                found.fill(value)
        dialog.locator("button[type=submit]").click()

    def told(self, text: str) -> None:
        """The note about what came of an action."""
        expect(self.page.locator(".notes")).to_contain_text(text)

    def answered(self, *statuses: int) -> None:
        """These errors of calls were meant."""
        self.faults[:] = [fault for fault in self.faults if not ((found := _ANSWERED.match(fault.removeprefix("console: "))) and int(found[1]) in statuses)]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    path = or_skip(chromium)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(path), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="package")
def one(consul: ConsulServer) -> Iterator[Drover]:
    """Leads, and runs tasks."""
    with Drover(consul, log_level="DEBUG") as drover:
        drover.wait_ready()
        yield drover
        if "Traceback" in drover.log:
            pytest.fail(drover.log[drover.log.index("Traceback") :][:4000])


@pytest.fixture(scope="package")
def two(one: Drover, consul: ConsulServer) -> Iterator[Drover]:
    """Runs tasks in the virtual datacenter `shop`, and is no candidate."""
    with Drover(consul, name="two", server=False, settings='client { virtual_datacenter = "shop" }') as drover:
        one.wait_ready(2)
        yield drover


def crashing(job_id: str) -> dict[str, Any]:
    """Says something on both streams and fails, twice, and then no more."""
    script = "echo to stdout; echo to stderr >&2; exit 3"
    group = {"RestartPolicy": restart(1, 0.2, "fail"), "ReschedulePolicy": {"Attempts": 0, "Unlimited": False}, "Update": {"MaxParallel": 0}}
    return job(job_id, "/bin/sh", ["-c", script], group=group)


@pytest.fixture(scope="package")
def jobs(one: Drover, two: Drover) -> dict[str, str]:
    """What the pages have to show: {job: a live alloc of it, the newest one of what has none}."""
    anywhere = {"Datacenters": ["dc1", "shop"]}
    spread = [{"Attribute": "${node.datacenter}", "Weight": 100, "SpreadTarget": [{"Value": "dc1", "Percent": 50}, {"Value": "shop", "Percent": 50}]}]
    one.submit(web_job("web", count=2, job={**anywhere, "Spreads": spread, "Meta": {"team": "red"}}))
    one.submit(marking_job("sleepy", count=1, job={"Datacenters": ["dc1"]}))
    one.submit(crashing("crash"))
    too_big = marking_job("toobig", count=2, group={"Update": {"MaxParallel": 0}})
    too_big["TaskGroups"][0]["Tasks"][0]["Resources"] = {"CPU": 9_999_999, "MemoryMB": 16}
    one.submit(too_big)
    periodic = job("nightly", "/bin/true", [], job={"Type": "batch", "Periodic": {"Enabled": True, "Spec": "0 3 * * *", "SpecType": "cron"}})
    one.submit(periodic)
    one.submit(job("import", "/bin/sh", ["-c", "echo done"], job={"Type": "batch", "ParameterizedJob": {"Payload": "optional", "MetaRequired": ["day"]}}))
    found = {name: one.wait_running(name, count)[0]["ID"] for name, count in (("web", 2), ("sleepy", 1))}
    wait("the crash", lambda: any(alloc["ClientStatus"] == "failed" for alloc in one.allocs("crash")))
    found["crash"] = one.allocs("crash")[0]["ID"]
    wait("web's checks", lambda: [i["Status"] for i in one.get("/v1/job/web/checks")] == ["passing"] * 2)
    return found


def tab(browser: Browser, address: str, **how: Any) -> Ui:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **how) if "viewport" not in how else browser.new_context(**how)
    context.set_default_timeout(WAIT_MS)
    return Ui(context.new_page(), address, context)


@pytest.fixture
def ui(browser: Browser, one: Drover) -> Iterator[Ui]:
    """A tab of the leader's; nothing may go wrong in it that the test did not mean."""
    found = tab(browser, one.address)
    yield found
    found.context.close()
    assert found.faults == []


def job_of(one: Drover, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = one.get(f"/v1/job/{quote(job_id, safe='')}")
    return found


