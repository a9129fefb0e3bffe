"""Blocking queries: woken by what they ask about, by nothing else, never going back."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.api.http import Asked, ask
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# From the change's answer to the waiting call's; a busy machine included.
WAKE_S_MAX = 0.7
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(params=["leader", "another"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover) -> str:
    """Every query here is asked of the leader, and through an agent that passes it on."""
    return one.address if request.param == "leader" else two.address


@pytest.fixture(scope="module")
def still(one: Drover, two: Drover) -> Iterator[dict[str, str]]:
    """A job that runs on node one and does not change: its ids."""
    name = one.get("/v1/agent/self")["stats"]["client"]["node_id"]
    here = {"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "one", "Operand": "="}]}
    one.submit(marking_job("still", group=here))
    alloc = one.wait_running("still", 1)[0]
    yield {"job": "still", "alloc": alloc["ID"], "eval": alloc["EvalID"], "node": name}
    one.stop_job("still", purge=True)


def waiting(address: str, path: str, wait: str = "60s") -> Asked:
    """A call that waits for the next change of what the path shows."""
    mark = "&" if "?" in path else "?"
    return Asked(address, "GET", f"{path}{mark}index={ask(address, 'GET', path).index}&wait={wait}")


def wakes(asked: Asked, change: Callable[[], object]) -> None:
    """The change wakes the call, soon, and its index has moved."""
    before = int(asked.path.partition("index=")[2].partition("&")[0])
    change()
    done_s = time.monotonic()
    reply = asked.reply(5.0)
    assert asked.ended_s - done_s < WAKE_S_MAX
    assert reply.index > before


def submit(one: Drover, name: str = "moves", **more: object) -> None:
    one.submit(marking_job(name, **more))


def set_eligible(one: Drover, node: str, word: str) -> None:
    assert ask(one.address, "PUT", f"/v1/node/{node}/eligibility", body={"Eligibility": word}).status == 200


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs", "/v1/job/moves", "/v1/job/moves/evaluations", "/v1/job/moves/deployment", "/v1/job/moves/deployments",
        "/v1/deployments", "/v1/evaluations",
    ],
)  # fmt: skip
def test_a_submission_wakes_who_waits_for_it(path: str, address: str, one: Drover) -> None:
    wakes(waiting(address, path), lambda: submit(one, count=1))
    wakes(waiting(address, path), lambda: submit(one, count=2))


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("path", ["/v1/allocations", "/v1/job/moves/allocations", "/v1/job/moves/summary", "/v1/jobs"])
def test_who_waits_for_allocations_sees_them_run_in_the_end(path: str, address: str, one: Drover) -> None:
    submit(one, count=2)
    deadline = time.monotonic() + 20.0
    reply = ask(address, "GET", path)
    while time.monotonic() < deadline:
        if path.endswith("allocations"):
            shown = [a["ClientStatus"] for a in reply.json if a["JobID"] == "moves"] == ["running"] * 2
        elif path.endswith("summary"):
            shown = reply.json["Summary"]["g"]["Running"] == 2
        else:
            stub = next(j for j in reply.json if j["ID"] == "moves")
            shown = (stub["Status"], stub["JobSummary"]["Summary"]["g"]["Running"]) == ("running", 2)
        if shown:
            return
        # Only what wakes us is looked at: a change that moved no index would never be seen.
        reply = Asked(address, "GET", f"{path}?index={reply.index}&wait=20s").reply()
    pytest.fail(f"never shown: {reply.body.decode()}")


@pytest.mark.usefixtures("clean")
def test_what_happens_to_one_alloc_wakes_who_waits_for_it(address: str, one: Drover) -> None:
    submit(one)
    alloc = one.wait_running("moves", 1)[0]
    wait("its process", lambda: one.pids(alloc["ID"]) or alloc["NodeName"] == "two")
    for path in (
        f"/v1/allocation/{alloc['ID']}",
        f"/v1/node/{alloc['NodeID']}/allocations",
        f"/v1/evaluation/{alloc['EvalID']}/allocations",
    ):
        restart = f"/v1/client/allocation/{alloc['ID']}/restart"
        wakes(waiting(address, path), lambda restart=restart: ask(address, "PUT", restart, body={}))
        one.wait_running("moves", 1)


def test_a_nodes_eligibility_wakes_who_waits_for_the_node_or_all(
    address: str, one: Drover, still: dict[str, str]
) -> None:
    for path in ("/v1/nodes", f"/v1/node/{still['node']}"):
        wakes(waiting(address, path), lambda: set_eligible(one, still["node"], "ineligible"))
        wakes(waiting(address, path), lambda: set_eligible(one, still["node"], "eligible"))


@pytest.mark.usefixtures("clean")
def test_what_is_unknown_can_be_waited_for(address: str, one: Drover) -> None:
    missing = ask(address, "GET", "/v1/job/moves")
    assert missing.status == 404
    asked = Asked(address, "GET", f"/v1/job/moves?index={missing.index}&wait=60s")
    wakes(asked, lambda: submit(one, count=0))
    assert asked.reply().json["ID"] == "moves"


@pytest.mark.usefixtures("clean")
def test_a_purge_wakes_who_waits_and_tells_them_that_it_is_gone(address: str, one: Drover) -> None:
    submit(one, count=0)
    asked = waiting(address, "/v1/job/moves")
    wakes(asked, lambda: one.stop_job("moves", purge=True))
    assert asked.reply().error == (404, "job not found")


@pytest.mark.usefixtures("clean")
def test_nobody_is_woken_by_what_happens_to_others(one: Drover, two: Drover, still: dict[str, str]) -> None:
    paths = [
        path.format(**still)
        for path in (
            "/v1/job/{job}",
            "/v1/job/{job}/allocations",
            "/v1/job/{job}/summary",
            "/v1/job/{job}/evaluations",
            "/v1/job/{job}/versions",
            "/v1/job/{job}/deployment",
            "/v1/allocation/{alloc}",
            "/v1/evaluation/{eval}",
            "/v1/evaluation/{eval}/allocations",
            "/v1/node/{node}",
            "/v1/node/{node}/allocations",
            "/v1/nodes",
            "/v1/job/unknown",
        )
    ] + [f"/v1/allocation/{UNKNOWN}"]
    asked = [waiting(drover.address, path) for path in paths for drover in (one, two)]
    there = {"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "two", "Operand": "="}]}
    submit(one, group=there, count=2)
    one.wait_running("moves", 2)
    submit(one, group=there, count=1)
    one.stop_job("moves")
    wait("its end", lambda: {a["ClientStatus"] for a in one.allocs("moves")} == {"complete"})
    assert [a.path for a in asked if a.is_answered] == []
    # Let go: a changed node wakes some, the job's stop the others.
    one.submit(marking_job("still", group={"Count": 0}))
    for call in asked:
        if "unknown" not in call.path and "/v1/node" not in call.path and UNKNOWN not in call.path and "/v1/evaluation/" not in call.path:
            call.reply(5.0)
    one.submit(marking_job("still", group={"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "one", "Operand": "="}]}))
    one.wait_running("still", 1)


@pytest.mark.parametrize("path", ["/v1/job/still", "/v1/nodes", "/v1/job/unknown", f"/v1/allocation/{UNKNOWN}"])
def test_without_a_change_the_same_comes_after_the_wait(path: str, address: str, still: dict[str, str]) -> None:
    before = ask(address, "GET", path)
    after = ask(address, "GET", f"{path}?index={before.index}&wait=400ms")
    assert (after.status, after.body, after.index) == (before.status, before.body, before.index)
    assert 0.4 <= after.took_s < 0.4 * 17 / 16 + 0.5


@pytest.mark.parametrize("query", ["", "?index=0", "?index=0&wait=60s", "?index=1&wait=60s", "?wait=60s", "?stale", "?index="])
def test_who_asks_for_nothing_new_is_answered_at_once(query: str, address: str, still: dict[str, str]) -> None:
    assert ask(address, "GET", f"/v1/job/still{query}").took_s < WAKE_S_MAX


@pytest.mark.parametrize("wait", ["1500us", "0.4s", "1ms", "400000000ns", "0h0m0.3s"])
def test_waits_are_gos_durations(wait: str, address: str, still: dict[str, str]) -> None:
    index = ask(address, "GET", "/v1/job/still").index
    assert ask(address, "GET", f"/v1/job/still?index={index}&wait={wait}").took_s < 1.5


@pytest.mark.parametrize("wait", ["5", "x", "s", "-5s", "5 s", "5s5", "1d", "５s"])
def test_a_wait_that_is_none_is_a_bad_request(wait: str, address: str, still: dict[str, str]) -> None:
    assert ask(address, "GET", "/v1/jobs?index=1&wait={}", wait).error == (400, "Invalid wait time")


@pytest.mark.parametrize("index", ["x", "-1", "1.5", "1_000", " 1", "１", "0x10", "9" * 30])
def test_an_index_that_is_none_is_a_bad_request(index: str, address: str, still: dict[str, str]) -> None:
    for path in ("/v1/jobs", "/v1/job/still", "/v1/nodes", f"/v1/allocation/{UNKNOWN}"):
        assert ask(address, "GET", path + "?index={}", index).error == (400, "Invalid index")


@pytest.mark.usefixtures("clean")
def test_no_index_goes_back_over_register_stop_purge_and_gc(one: Drover, two: Drover, still: dict[str, str]) -> None:
    paths = [
        "/v1/jobs", "/v1/allocations", "/v1/evaluations", "/v1/nodes", "/v1/job/moves", "/v1/job/moves/summary",
        "/v1/job/moves/allocations", "/v1/job/moves/evaluations", "/v1/job/still", f"/v1/node/{still['node']}/allocations",
    ]
    highest = dict.fromkeys(paths, 0)

    def look() -> None:
        for path in paths:
            for drover in (one, two):
                index = ask(drover.address, "GET", path).index
                assert index >= highest[path], path
                highest[path] = index

    def wait_looking(what: str, fact: Callable[[], object]) -> None:
        wait(what, lambda: (look(), fact())[1])

    for _ in range(2):
        submit(one, count=2)
        wait_looking("it runs", lambda: len(one.running("moves")) == 2)
        submit(one, count=1)
        wait_looking("one runs", lambda: len(one.running("moves")) == 1)
        one.stop_job("moves")
        wait_looking("it ended", lambda: not one.running("moves"))
        one.stop_job("moves", purge=True)
        look()
        ask(one.address, "PUT", "/v1/system/gc")
        wait_looking("all is forgotten", lambda: not one.allocs("moves"))
