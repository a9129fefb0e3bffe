"""With ACLs in Consul: nothing without a token, and what a token does not allow is not offered."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.api.policies import agent_with_policies, policy
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, marking_job
from tests.ui.conftest import Ui, tab

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[Drover, dict[str, str]]]:
    """A drover with a job, and tokens by role."""
    with or_skip(lambda: ConsulServer(acl=True).__enter__()) as consul:
        tokens = {role: consul.make_token(role, policy(role)) for role in ("read-only", "operator", "leader")}
        with agent_with_policies(consul, "one", server=True, token=tokens["operator"]) as drover:
            drover.wait_ready()
            drover.submit(marking_job("web-guarded", group={"Services": [{"Name": "web-guarded"}], "Update": {"MaxParallel": 0}}))
            drover.wait_running("web-guarded", 1)
            yield drover, tokens


def log_in(ui: Ui, token: str) -> None:
    page = ui.open("login")
    page.get_by_label("Consul token").fill(token)
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.locator("h1")).to_have_text("Overview")


def test_each_sees_and_is_offered_what_the_token_allows(browser: Browser, guarded: tuple[Drover, dict[str, str]]) -> None:
    drover, tokens = guarded
    ui = tab(browser, drover.address)
    page = ui.open("jobs", shows="There are no jobs yet")
    page = ui.open("login")
    page.get_by_label("Consul token").fill("99999999-2222-4333-8444-555555555555")
    page.get_by_role("button", name="Log in", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Consul does not know this token")
    log_in(ui, tokens["read-only"])
    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_role("link", name="web-guarded").click()
    expect(page.get_by_role("region", name="Groups", exact=True)).to_contain_text("1 running")
    for name in ("Stop", "Scale", "Restart"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)
    log_in(ui, tokens["operator"])
    ui.open("job/default/web-guarded")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    ui.confirm("Scale", count="2")
    ui.told("Scale g: done")
    drover.wait_running("web-guarded", 2)
    assert tokens["operator"] not in page.content()
    assert page.evaluate("JSON.stringify(localStorage)").find(tokens["operator"]) < 0
    alloc = drover.running("web-guarded")[0]["ID"]
    ui.open(f"alloc/{alloc}/exec")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("[data-exec-state]")).to_have_text("Connected")
    page.locator(".xterm").click()
    page.keyboard.type("echo sum $((40+2))\n")
    expect(page.locator(".xterm-rows")).to_contain_text("sum 42")
    page.goto("about:blank")
    other = tab(browser, drover.address)
    other.open("jobs", shows="There are no jobs yet")  # a token is its tab's
    other.context.close()
    ui.context.close()
    ui.answered(403)
    assert ui.faults == []
