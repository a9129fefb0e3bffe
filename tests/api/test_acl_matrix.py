"""Six roles and what each may do: docs/security.md says it, a real Consul with default-deny decides it."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.api.conftest import Guarded
from tests.api.http import Reply, ask
from tests.e2e.drover import job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
Action = Callable[[Guarded, str], bool]


def _table() -> dict[str, dict[str, bool]]:
    """{action: {role: allowed}}, as documented."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in SECURITY.read_text().partition("## Who may what")[2].partition("\n## ")[0].splitlines()
        if line.startswith("|")
    ]
    _, *roles = rows[0]
    assert all(cell in ("yes", "") for row in rows[2:] for cell in row[1:])
    return {row[0]: {role: cell == "yes" for role, cell in zip(roles, row[1:], strict=True)} for row in rows[2:]}


TABLE = _table()


def _is_allowed(reply: Reply) -> bool:
    """A no is 403, and nothing else; what is allowed also works."""
    if reply.status == 403:
        assert reply.body == b"Permission denied"
        return False
    assert reply.status == 200, (reply.status, reply.body)
    return True


def _call(method: str, path: str, body: object = None, *, on: str = "one") -> Action:
    def act(cluster: Guarded, token: str) -> bool:
        filled = path.replace("{node}", cluster.two.node_id)
        if "{alloc}" in filled:
            filled = filled.replace("{alloc}", cluster.alloc("web-used"))
        headers = {"X-Nomad-Token": token} if token else {}
        return _is_allowed(ask(getattr(cluster, on).address, method, filled, body=body, headers=headers))

    return act


def _sees(path: str, name: str, wanted: str) -> Action:
    def act(cluster: Guarded, token: str) -> bool:
        reply = ask(cluster.two.address, "GET", path, headers={"X-Nomad-Token": token} if token else {})
        assert reply.status == 200
        return wanted in {one[name] for one in reply.json}

    return act


def _submits(job_id: str, **more: object) -> Action:
    group: dict[str, object] = {"Services": [{"Name": more.pop("service", "web-new")}]}
    document = job(job_id, "/bin/true", [], count=0, group=group, **{"Driver": "docker", "Config": {"image": "busybox"}, **more})
    return _call("PUT", "/v1/jobs", {"Job": document}, on="two")


def _writes_kv(key: str) -> Action:
    def act(cluster: Guarded, token: str) -> bool:
        step = {"Verb": "set", "Key": key, "Value": "e30="}
        status, answer = cluster.consul.call("PUT", "/v1/txn", [{"KV": step}], token=token)
        if status == 200:
            cluster.consul.call("DELETE", f"/v1/kv/{quote(step['Key'])}")
            return True
        assert "Permission denied" in str(answer)
        return False

    return act


def _executes(cluster: Guarded, token: str) -> bool:
    """As far as it goes without a websocket: tests/api/test_rights.py opens one."""
    path, headers = f"/v1/client/allocation/{cluster.alloc('web-used')}/exec?task=t", {"X-Nomad-Token": token} if token else {}
    reply = ask(cluster.one.address, "GET", path, headers=headers)
    if reply.error == (400, "websocket: the client is not using the websocket protocol"):
        return True
    return _is_allowed(reply)


def _asks_for_a_token(cluster: Guarded, token: str) -> bool:
    """As far as it goes without a Vault: tests/e2e/test_vault.py has one."""
    path, headers = f"/v1/allocation/{cluster.alloc('web-used')}/vault-token", {"X-Nomad-Token": token} if token else {}
    reply = ask(cluster.two.address, "PUT", path, body={"Task": "t"}, headers=headers)
    if reply.error == (500, "the leader has no Vault: it has no vault block in its configuration"):
        return True
    return _is_allowed(reply)


PLANNED = {"Job": job("web-used", "/bin/true", [], count=0), "Diff": True}
ACTIONS: dict[str, Action] = {
    "parse a job file": _call("PUT", "/v1/jobs/parse", {"JobHCL": 'job "a" {}'}),
    "ask who leads": _call("GET", "/v1/status/leader", on="two"),
    "see its own token": _call("GET", "/v1/acl/token/self", on="two"),
    "see a job in the list": _sees("/v1/jobs", "ID", "web-used"),
    "see an allocation in the list": _sees("/v1/allocations", "JobID", "web-used"),
    "read a job": _call("GET", "/v1/job/web-used", on="two"),
    "read an allocation": _call("GET", "/v1/allocation/{alloc}"),
    "read a task's logs": _call("GET", "/v1/client/fs/logs/{alloc}?task=t&type=stdout", on="two"),
    "plan a job": _call("PUT", "/v1/job/web-used/plan", PLANNED),
    "submit a job": _submits("web-new"),
    "submit a job with another's service name": _submits("web-new", service="payments"),
    "submit a job without isolation": _submits("web-raw", Driver="raw_exec", Config={"command": "/bin/true"}),
    "scale a job": _call("PUT", "/v1/job/web-used/scale", {"Target": {"Group": "g"}, "Count": 1}, on="two"),
    "stop a job": _call("DELETE", "/v1/job/web-stopped", on="two"),
    "restart an allocation": _call("PUT", "/v1/client/allocation/{alloc}/restart", {}, on="two"),
    "stop an allocation": _call("PUT", "/v1/allocation/{alloc}/stop", on="two"),
    "run a command beside a task": _executes,
    "list nodes": _call("GET", "/v1/nodes", on="two"),
    "make a node ineligible": _call("PUT", "/v1/node/{node}/eligibility", {"Eligibility": "eligible"}),
    "set a node's metadata": _call("PUT", "/v1/client/metadata", {"Meta": {"a": "b"}}, on="two"),
    "see the agent's configuration": _call("GET", "/v1/agent/self", on="two"),
    "see the scheduler's configuration": _call("GET", "/v1/operator/scheduler/configuration"),
    "change the scheduler's configuration": _call("PUT", "/v1/operator/scheduler/configuration", {}, on="two"),
    "save a snapshot": _call("GET", "/v1/operator/snapshot", on="two"),
    "collect garbage": _call("PUT", "/v1/system/gc", on="two"),
    "ask for a restart permit": _call("PUT", "/v1/allocation/{alloc}/restart-permit", {"MaxParallel": 100}, on="two"),
    "ask for a task's Vault token": _asks_for_a_token,
    "write a desired document into Consul": _writes_kv("drover/state/desired/77777777-0000-4000-8000-000000000000/66666666-0000-4000-8000-000000000000"),
    "write a job into Consul": _writes_kv("drover/state/jobs/default/forged"),
}


def test_the_documented_actions_are_the_tested_ones() -> None:
    assert list(TABLE) == list(ACTIONS)
    assert len(TABLE) >= 20


@pytest.mark.parametrize("role", ["anonymous", "read-only", "submitter", "agent", "leader", "operator"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_role_may_do_what_is_documented(guarded: Guarded, action: str, role: str) -> None:
    assert ACTIONS[action](guarded, guarded.tokens[role]) == TABLE[action][role]


@pytest.mark.parametrize("action", [a for a in ACTIONS if "Consul" not in a and not all(TABLE[a].values())])
def test_a_token_that_consul_does_not_know_may_do_nothing(guarded: Guarded, action: str) -> None:
    with pytest.raises(AssertionError, match=r"ACL token not found|403"):
        ACTIONS[action](guarded, "99999999-2222-4333-8444-555555555555")
