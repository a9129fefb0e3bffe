"""Each page shows what the API says, in words."""

import re

import pytest
from playwright.sync_api import expect

from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, marking_job
from tests.ui.conftest import Ui, crashing

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def test_the_front_page_tells_who_leads_and_what_fails_first(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open("", shows="Failing jobs")
    failing = page.get_by_role("region", name="Failing jobs")
    expect(failing).to_contain_text("crash")
    expect(failing).to_contain_text("2 not placed")
    cluster = page.get_by_role("region", name="Cluster")
    expect(cluster).to_contain_text("one")
    expect(cluster).to_contain_text("reachable")
    expect(cluster).to_contain_text("off")
    expect(page.get_by_role("region", name="Nodes")).to_contain_text("dc1 / shop")
    expect(page.locator("[data-fresh]")).to_have_attribute("data-fresh", "live")
    one.submit(crashing("told"))
    line = page.get_by_role("region", name="Activity").locator("li").filter(has_text="told.g[0]").filter(has_text="Exit Code: 3")
    expect(line.first).to_contain_text("Terminated")
    page.goto("about:blank")
    one.stop_job("told", purge=True)


def test_the_root_leads_to_the_ui(ui: Ui, one: Drover) -> None:
    ui.page.goto(f"http://{one.address}/")
    expect(ui.page).to_have_url(f"http://{one.address}/ui/")


def test_jobs_are_filtered_sorted_and_kept_in_the_address(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open("jobs", shows="nightly")
    rows = page.locator("[data-row]")
    expect(rows.first).to_contain_text("crash")
    page.get_by_role("searchbox").fill("slee")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("sleepy")
    expect(page).to_have_url(re.compile(r"q=slee"))
    page.reload()
    expect(rows).to_have_count(1)
    page.get_by_role("searchbox").fill("")
    expect(page.locator("main")).to_contain_text("nightly")
    page.get_by_label("Type").select_option("periodic")
    expect(rows).to_have_count(1)
    expect(rows.first).to_contain_text("nightly")
    expect(rows.first).to_contain_text("next")


def test_a_list_follows_what_happens_without_a_reload(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open("jobs?q=appears", shows="No jobs match")
    one.submit(marking_job("appears", count=1))
    expect(page.locator("[data-row]")).to_contain_text("1 running")
    one.stop_job("appears", purge=True)
    expect(page.locator("main")).to_contain_text("No jobs match")


def test_a_job_shows_its_groups_spread_allocations_and_versions(ui: Ui, one: Drover, jobs: dict[str, str]) -> None:
    page = ui.open("jobs")
    page.get_by_role("link", name="web", exact=True).click()
    expect(page.get_by_role("region", name="Groups", exact=True)).to_contain_text("2 running")
    spread = page.get_by_role("region", name="Spread")
    expect(spread).to_contain_text("1 of 1")
    expect(spread).to_contain_text("shop")
    expect(page.locator("[data-row]").filter(has_text="web.g[")).to_have_count(2)
    page.get_by_role("link", name="Deployments").click()
    expect(page.locator("main")).to_contain_text("successful")
    page.get_by_role("link", name="Services and checks").click()
    expect(page.locator(".output").first).to_contain_text("200 OK")
    page.get_by_role("link", name="Evaluations").click()
    expect(page.locator("main")).to_contain_text("job-register")
    page.get_by_role("link", name="Definition").click()
    expect(page.locator("pre.code").last).to_contain_text('"team": "red"')


def test_a_job_that_finds_no_place_tells_why(ui: Ui, jobs: dict[str, str]) -> None:
    page = ui.open("job/default/toobig", shows="Why not all of it runs")
    why = page.get_by_role("region", name="Why not all of it runs")
    expect(why).to_contain_text("2 of 2 find no place")
    expect(why).to_contain_text("cpu")
    expect(why).to_contain_text("What would make it fit")


def test_an_allocation_shows_each_restart_with_its_reason(ui: Ui, jobs: dict[str, str]) -> None:
    page = ui.open(f"alloc/{jobs['crash']}", shows="Task t")
    timeline = page.get_by_role("list", name="What happened to t")
    expect(timeline).to_contain_text("Restarting")
    expect(timeline).to_contain_text("exit code 3")
    expect(timeline).to_contain_text("Not Restarting")


def test_allocations_are_found_by_status_and_text(ui: Ui, jobs: dict[str, str]) -> None:
    page = ui.open("allocations", shows="web.g[")
    page.get_by_label("Status").select_option("failed")
    expect(page.locator("[data-row]")).to_have_count(1)
    expect(page.locator("[data-row]")).to_contain_text("crash.g[0]")


def test_nodes_and_a_node_show_what_they_offer_and_run(ui: Ui, one: Drover, two: Drover, jobs: dict[str, str]) -> None:
    page = ui.open("nodes", shows="dc1 / shop")
    page.get_by_role("link", name="two", exact=True).click()
    expect(page.locator("h1")).to_have_text("two")
    expect(page.get_by_role("region", name="This node")).to_contain_text("raw_exec")
    expect(page.get_by_role("region", name="Live allocations", exact=True)).to_contain_text("web.g[")
    page.get_by_role("link", name="Attributes").click()
    expect(page.locator("main")).to_contain_text("kernel.name")


def test_the_topology_has_each_virtual_datacenter_apart(ui: Ui, jobs: dict[str, str]) -> None:
    page = ui.open("topology", shows="dc1 / shop")
    shop = page.get_by_role("region", name="dc1 / shop")
    expect(shop).to_contain_text("1 ready")
    shop.get_by_role("link", name=re.compile("^two: ready")).click()
    expect(page.locator("h1")).to_have_text("two")


def test_services_have_dns_names_to_copy_and_their_instances(ui: Ui, jobs: dict[str, str]) -> None:
    page = ui.open("services", shows="web.service.consul")
    page.get_by_role("button", name="Copy web.service.consul").click()
    expect(page.get_by_role("button", name="Copy web.service.consul")).to_have_text("Copied")
    page.get_by_role("link", name="web", exact=True).first.click()
    expect(page.get_by_role("region", name="Instances", exact=True)).to_contain_text("passing")


def test_any_agent_serves_the_pages(ui: Ui, one: Drover, two: Drover, jobs: dict[str, str]) -> None:
    ui.address = two.address
    page = ui.open("", shows="crash")
    expect(page.get_by_role("region", name="Cluster")).to_contain_text("one")
    expect(page.locator("[data-fresh]")).to_have_attribute("data-fresh", "live")


def test_what_is_not_there_is_told(ui: Ui, one: Drover) -> None:
    page = ui.page
    page.goto(f"http://{one.address}/ui/job/default/no-such-job")
    expect(page.get_by_role("alert")).to_contain_text("There is no such thing")
    page.goto(f"http://{one.address}/ui/nothing/of/the/kind")
    expect(page.locator("h1")).to_contain_text("There is no such page")
    ui.answered(404)


def test_keys_lead_to_the_first_row_and_to_the_search(ui: Ui, jobs: dict[str, str]) -> None:
    page = ui.open("jobs", shows="crash")
    page.keyboard.press("j")
    expect(page.locator("[data-row]").first.locator("a").first).to_be_focused()
    page.keyboard.press("j")
    expect(page.locator("[data-row]").nth(1).locator("a").first).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("n")
    expect(page.locator("h1")).to_have_text("Nodes")
    page.reload()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_be_focused()


def test_a_consul_that_is_frozen_is_told_on_the_page(ui: Ui) -> None:
    with ConsulServer() as consul, Drover(consul, name="alone") as alone:
        alone.wait_ready()
        ui.address = alone.address
        page = ui.open("", shows="Cluster")
        consul.pause()
        try:
            expect(page.locator(".banner.bad")).to_contain_text("What is shown may be out of date")
            expect(page.locator("[data-fresh]")).to_have_attribute("data-fresh", "stale")
            # A page that is opened meanwhile says so, too, and does not only load.
            page.evaluate("history.pushState(null, '', '/ui/jobs'); dispatchEvent(new PopStateEvent('popstate'))")
            expect(page.locator("main")).to_contain_text(re.compile("Waiting for jobs|cannot be read"))
        finally:
            consul.resume()
        expect(page.locator("[data-fresh]")).to_have_attribute("data-fresh", "live")
        expect(page.locator("main")).to_contain_text("There are no jobs yet")
        page.goto("about:blank")
    ui.answered(500)
    ui.faults[:] = [fault for fault in ui.faults if "net::ERR" not in fault]
