"""A node's metadata is changed without a restart, and everything that goes by it follows."""

from collections.abc import Iterator

import pytest

from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

STATIC = 'client { meta { role = "idle"\n rack = "r1" } }'


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Drover, Drover]]:
    """The first leads and runs tasks, the second only runs tasks."""
    with (
        or_skip(lambda: ConsulServer().__enter__()) as consul,
        Drover(consul, settings=STATIC) as one,
        Drover(consul, name="two", server=False, settings=STATIC) as two,
    ):
        one.wait_ready(2)
        yield one, two


def node_of(drover: Drover) -> str:
    found: str = drover.get("/v1/agent/self")["stats"]["client"]["node_id"]
    return found


def on_nodes(drover: Drover, job_id: str) -> set[str]:
    return {alloc["NodeID"] for alloc in drover.running(job_id)}


def role_is(role: str) -> dict[str, object]:
    rule = {"LTarget": "${meta.role}", "Operand": "=", "RTarget": role}
    return {"Type": "system", "Constraints": [rule]}


def test_a_system_job_follows_the_metadata_and_its_task_sees_it(pair: tuple[Drover, Drover]) -> None:
    one, two = pair
    one.submit(marking_job("web", Env={"ROLE": "${meta.role} in ${meta.rack}"}, job=role_is("web")))
    done = two.run("node", "meta", "apply", "role=web")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wait("an alloc on the node that matches now", lambda: on_nodes(one, "web") == {node_of(two)})
    (alloc,) = one.running("web")
    (pid,) = wait("its process", lambda: two.pids(alloc["ID"]))
    with open(f"/proc/{pid}/environ", "rb") as environ:
        assert b"ROLE=web in r1" in environ.read().split(b"\0")
    assert one.run("node", "meta", "apply", "-node-id", node_of(one)[:8], "role=web").returncode == 0
    wait("one on each", lambda: on_nodes(one, "web") == {node_of(one), node_of(two)})
    assert one.run("node", "meta", "apply", "-node-id", node_of(two), "-unset", "role").returncode == 0
    wait("none where the role was taken away", lambda: on_nodes(one, "web") == {node_of(one)})
    assert two.run("node", "meta", "read").stdout.splitlines() == [
        "All Meta", "rack = r1", "", "Dynamic Meta", "role = <unset>", "", "Static Meta", "rack = r1", "role = idle",
    ]  # fmt: skip
    one.stop_job("web", purge=True)


def test_it_outlives_the_agent_and_the_leader(pair: tuple[Drover, Drover]) -> None:
    one, two = pair
    # By the agent that does not lead, without a node: its own.
    applied = ask(two.address, "POST", "/v1/client/metadata", body={"Meta": {"role": "db", "tier.name": ""}}).json
    assert applied == {
        "Meta": {"rack": "r1", "role": "db", "tier.name": ""},
        "Dynamic": {"role": "db", "tier.name": ""},
        "Static": {"rack": "r1", "role": "idle"},
    }
    for drover in (two, one):
        drover.kill()
        drover.start()
    one.wait_ready(2)
    assert wait("a leader", lambda: two.get("/v1/client/metadata")) == applied
    assert one.get(f"/v1/node/{node_of(two)}")["Meta"] == applied["Meta"]
    one.submit(marking_job("db", Env={"ROLE": "${meta.role}"}, job=role_is("db")))
    wait("an alloc where it matches", lambda: on_nodes(one, "db") == {node_of(two)})
    (alloc,) = one.running("db")
    (pid,) = wait("its process", lambda: two.pids(alloc["ID"]))
    with open(f"/proc/{pid}/environ", "rb") as environ:
        assert b"ROLE=db" in environ.read().split(b"\0")
    one.stop_job("db", purge=True)


def test_a_key_that_is_of_no_configuration_is_forgotten_when_it_is_unset(pair: tuple[Drover, Drover]) -> None:
    one, _ = pair
    node = node_of(one)
    path = f"/v1/client/metadata?node_id={node}"
    ask(one.address, "PUT", path, body={"Meta": {"once": "1"}})
    assert one.get(path)["Dynamic"]["once"] == "1"
    assert "once" not in ask(one.address, "PUT", path, body={"NodeID": node, "Meta": {"once": None}}).json["Dynamic"]


def test_what_is_no_metadata_is_refused(pair: tuple[Drover, Drover]) -> None:
    one, two = pair
    for body, why in (
        ({"Meta": {}}, "missing required Meta object"),
        ({"Meta": {"a b": "1"}}, "metadata key 'a b' is no name (letters, digits, _ and -, parts joined by dots)"),
        ({"Meta": {"a": 1}}, "Meta.a must be a string or null"),
        ({"Meta": {"a": "x" * 9000}}, "the node's run-time metadata would have "),
    ):
        status, text = ask(two.address, "PUT", "/v1/client/metadata", body=body).error
        assert (status, text.startswith(why)) == (400, True), text
    assert ask(two.address, "GET", "/v1/client/metadata?node_id=nobody").error == (404, 'Unknown node "nobody"')
    for argv, why in (
        (("role",), "Error: 'role': expected key=value"),
        ((), "Error: nothing to change: expected key=value, or -unset with keys"),
        (("-unset", "role", "role=1"), "Error: 'role' is both set and unset"),
    ):
        done = one.run("node", "meta", "apply", *argv)
        assert (done.returncode, done.stderr.strip()) == (1, why)
