"""Every page in light, dark and at a phone's width: a picture of each, nothing that axe finds, nothing that sticks out."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.drover import Drover, wait
from tests.ui.conftest import ARTIFACTS, tab
from tests.ui.pages import pages

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
_RUN_AXE = """async rules => {
  const how = {resultTypes: ["violations"], runOnly: rules || ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]};
  const found = await axe.run(document, how);
  return found.violations.map(one => ({id: one.id, impact: one.impact, nodes: one.nodes.slice(0, 3).map(node => node.html.slice(0, 160) + " " + (node.any[0]?.message || node.failureSummary))}));
}"""


@pytest.mark.timeout(300)
def test_every_page_can_be_read_by_everybody(browser: Browser, one: Drover, two: Drover, jobs: dict[str, str]) -> None:
    """Whole in light; in dark the contrast, which alone is another there; what sticks out at a phone's width."""
    wait("a sample", lambda: one.get(f"/v1/client/allocation/{jobs['web']}/samples")["Tasks"].get("t", {}).get("Times"))
    node_id = next(node["ID"] for node in one.get("/v1/nodes") if node["Name"] == "two")
    ui, faults = tab(browser, one.address), []
    for look in ("light", "dark", "phone"):
        (ARTIFACTS / look).mkdir(parents=True, exist_ok=True)

    def look_at(page: Page, name: str, look: str, rules: object) -> None:
        page.screenshot(path=ARTIFACTS / look / f"{name}.png", full_page=True)
        if (wide := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
            faults.append(f"{name}: {wide} pixels wider than the screen ({look})")
        if rules is not False:
            faults.extend(f"{name} ({look}): {found}" for found in page.evaluate(_RUN_AXE, rules) if found["impact"] in ("serious", "critical"))

    for name, path in pages(jobs, node_id).items():
        page = ui.open(path)
        expect(page.locator("main .lead")).to_have_count(1)
        if name == "terminal":
            page.get_by_role("button", name="Run", exact=True).click()
            expect(page.locator("[data-exec-state]")).to_have_text("Connected")
        if name == "run":
            page.get_by_role("button", name="Plan", exact=True).click()
            expect(page.get_by_role("region", name="What differs")).to_be_visible()
        page.evaluate(AXE)
        look_at(page, name, "light", None)
        page.emulate_media(color_scheme="dark")
        look_at(page, name, "dark", {"type": "rule", "values": ["color-contrast"]})
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]  # the two members of its typed dictionary
        look_at(page, name, "phone", False)
        page.set_viewport_size(DESK)  # type: ignore[arg-type]
    ui.context.close()
    assert faults + ui.faults == []
