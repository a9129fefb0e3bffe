"""What the web UI asks beside Nomad's API: lists that are filtered, sorted and cut, and what they leave out."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Guarded
from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, job, marking_job, restart, wait, web_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture(scope="module")
def made(one: Drover, two: Drover) -> Iterator[None]:
    names = ("ui-web", "ui-many", "ui-crash", "ui-import")
    one.submit(web_job("ui-web"))
    one.submit(marking_job("ui-many", count=3))
    one.submit(job("ui-crash", "/bin/false", [], group={"RestartPolicy": restart(0, 0.1, "fail"), "ReschedulePolicy": {"Attempts": 0, "Unlimited": False}, "Update": {"MaxParallel": 0}}))
    one.submit(job("ui-import", "/bin/true", [], job={"Type": "batch", "ParameterizedJob": {}}))
    one.wait_running("ui-many", 3)
    one.wait_running("ui-web", 1)
    wait("the crash", lambda: any(alloc["ClientStatus"] == "failed" for alloc in one.allocs("ui-crash")))
    yield
    for name in names:
        one.stop_job(name, purge=True)


@pytest.mark.parametrize("of", ["leader", "another"])
def test_a_list_is_cut_and_says_how_much_there_is(of: str, one: Drover, two: Drover, made: None) -> None:
    address = (one if of == "leader" else two).address
    first, second = (ask(address, "GET", f"/v1/ui/allocations?job=ui-many&sort=name&per_page=2&page={page}") for page in (0, 1))
    assert [row["Name"] for reply in (first, second) for row in reply.json] == [f"ui-many.g[{n}]" for n in range(3)]
    assert {reply.headers["X-Total-Count"] for reply in (first, second)} == {"3"}
    assert first.index > 0


def test_a_list_is_filtered_whatever_the_case_and_sorted_both_ways(one: Drover, made: None) -> None:
    found = ask(one.address, "GET", "/v1/ui/jobs?q=UI-&sort=id&reverse=true").json
    assert [row["ID"] for row in found] == ["ui-web", "ui-many", "ui-import", "ui-crash"]
    assert [row["ID"] for row in ask(one.address, "GET", "/v1/ui/jobs?q=ui-&type=parameterized").json] == ["ui-import"]


def test_an_allocation_is_found_by_each_part_of_its_names(one: Drover, made: None) -> None:
    alloc = one.wait_running("ui-many", 3)[0]
    for text, count in (("UI-MAN", 3), ("many.g[", 3), ("many.g[1]", 1), (alloc["ID"][:9], 1), (alloc["NodeName"], 1), ("no such", 0)):
        found = {row["Name"] for row in ask(one.address, "GET", "/v1/ui/allocations?job=ui-many&q={}", text).json}
        assert len(found) == count if text != alloc["NodeName"] else alloc["Name"] in found, text


def test_jobs_in_trouble_come_first_and_say_why(one: Drover, made: None) -> None:
    def look() -> list[dict[str, Any]] | None:
        rows: list[dict[str, Any]] = ask(one.address, "GET", "/v1/ui/jobs?q=ui-").json
        return rows if rows[0]["Troubles"] == ["0 of 1 running", "1 failed"] and rows[1]["Severity"] == 0 else None

    rows = wait("the troubles", look)
    assert (rows[0]["ID"], rows[0]["Severity"]) == ("ui-crash", 2)
    many = next(row for row in rows if row["ID"] == "ui-many")
    assert (many["Counts"]["Running"], many["Wanted"], many["Troubles"]) == (3, 3, [])
    assert [row["ID"] for row in ask(one.address, "GET", "/v1/ui/jobs?q=ui-&failing=true").json] == ["ui-crash"]


def test_a_jobs_children_are_with_their_parent(one: Drover, made: None) -> None:
    child = one.call("PUT", "/v1/job/ui-import/dispatch", {})["DispatchedJobID"]
    parent = wait("the child's end", lambda: next((r for r in ask(one.address, "GET", "/v1/ui/jobs?q=ui-import").json if r["Children"]["dead"]), None))
    assert (parent["ID"], parent["Children"]["LastID"]) == ("ui-import", child)
    assert [row["ID"] for row in ask(one.address, "GET", "/v1/ui/jobs?parent=ui-import").json] == [child]


def test_checks_are_told_by_job_and_by_alloc_with_their_output(one: Drover, made: None) -> None:
    alloc = one.wait_running("ui-web", 1)[0]
    of_job = wait("a passing check", lambda: [row for row in one.get("/v1/job/ui-web/checks") if row["Status"] == "passing"])
    of_alloc = one.get(f"/v1/job/ui-web/checks?alloc={alloc['ID']}")
    for found in (of_job, of_alloc):
        assert [(row["AllocID"], row["Service"], row["Node"]) for row in found] == [(alloc["ID"], "ui-web", alloc["NodeName"])]
        assert "200 OK" in found[0]["Checks"][0]["Output"]
    assert ask(one.address, "GET", f"/v1/job/ui-many/checks?alloc={alloc['ID']}").status == 404
    assert ask(one.address, "GET", "/v1/job/ui-nothing/checks").status == 404


def test_a_tasks_use_is_sampled_soon_after_its_start(one: Drover, two: Drover, made: None) -> None:
    alloc = one.wait_running("ui-web", 1)[0]
    for drover in (one, two):
        task = wait("a sample", lambda at=drover: at.get(f"/v1/client/allocation/{alloc['ID']}/samples")["Tasks"].get("t"))
        task = wait("its first", lambda at=drover: (t := at.get(f"/v1/client/allocation/{alloc['ID']}/samples")["Tasks"]["t"])["Times"] and t)
        assert len(task["Times"]) == len(task["CPU"]) == len(task["Memory"])
        assert task["Memory"][0] > 1_000_000
    machine = one.get(f"/v1/client/samples?node_id={alloc['NodeID']}")
    assert machine["Total"]["CPU"] > 0
    assert machine["Times"]


@pytest.mark.parametrize("query", ["sort=nonsense", "page=x", "per_page=-1", "page=1e9"])
def test_what_a_list_cannot_do_is_refused(query: str, one: Drover) -> None:
    for path in ("jobs", "allocations", "nodes", "services"):
        assert ask(one.address, "GET", f"/v1/ui/{path}?{query}").status == 400


def test_nothing_is_shown_of_jobs_that_the_caller_may_not_read(guarded: Guarded) -> None:
    one_job = guarded.consul.make_token("ui-one-job", 'key "drover/jobs/default/web-used" { policy = "read" }')
    guarded.alloc("web-used")
    for agent in (guarded.one, guarded.two):
        headers = {"X-Nomad-Token": one_job}
        shown = ask(agent.address, "GET", "/v1/ui/overview", headers=headers).json
        assert (sum(shown["Jobs"].values()), shown["Nodes"]) == (1, None)
        assert {line["JobID"] for line in shown["Activity"]} <= {"web-used"}
        assert {row["ID"] for row in ask(agent.address, "GET", "/v1/ui/jobs?namespace=*", headers=headers).json} == {"web-used"}
        assert {row["JobID"] for row in ask(agent.address, "GET", "/v1/ui/allocations?namespace=*", headers=headers).json} == {"web-used"}
        assert ask(agent.address, "GET", "/v1/ui/nodes", headers=headers).status == 403
        assert ask(agent.address, "GET", "/v1/job/web-idle/checks", headers=headers).status == 403


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("anonymous", set()),
        ("read-only", {"ReadJob", "ReadNode"}),
        ("submitter", {"ReadJob", "WriteJob", "ReadNode"}),
        ("operator", {"ReadJob", "WriteJob", "Exec", "ReadNode", "WriteNode", "WriteOperator"}),
    ],
)
def test_the_ui_is_told_what_its_token_may_do(role: str, allowed: set[str], guarded: Guarded) -> None:
    headers = {"X-Nomad-Token": guarded.tokens[role]} if guarded.tokens[role] else {}
    found = ask(guarded.two.address, "GET", f"/v1/ui/may?job=web-used&node={guarded.two.node_id}", headers=headers).json
    assert found.pop("ACL") is True
    assert {name for name, may in found.items() if may} == allowed


def test_a_browsers_change_needs_what_no_other_page_can_send(one: Drover, consul: ConsulServer) -> None:
    def change(**headers: str) -> int:
        return ask(one.address, "PUT", "/v1/system/gc", headers={**{name.replace("_", "-"): value for name, value in headers.items()}}).status

    own = {"Origin": f"http://{one.address}", "Sec_Fetch_Site": "same-origin"}
    assert change(**own) == 403
    assert change(**own, X_Drover_UI="1") == 200
    assert change(**own, Content_Type="application/json") == 200
    assert change(Origin="http://evil.example", Sec_Fetch_Site="cross-site", X_Drover_UI="1") == 403
    assert change() == 200
