"""An agent with Vault: it lives without it, sees it come and go, and tells what to do. The Vault is the test double."""

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import drover
from tests.components.consul import ConsulServer, free_port
from tests.e2e.drover import Drover, marking_job, stays, wait
from tests.vault.double import Double
from tests.vault.test_check import POLICY, ROLE

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

SECRET_ID_FILE = "secret-id"


@pytest.fixture
def agent(real_consul: ConsulServer, tmp_path: Path) -> Iterator[tuple[Drover, Double]]:
    """An agent that logs in by AppRole to a Vault that is not there yet."""
    vault = Double(port=free_port())
    vault.close()
    vault.policy("drover-agent", POLICY)
    vault.tokens.roles["drover-tasks"] = ROLE
    vault._approle("POST", "approle", "role", "drover", body={"token_policies": ["drover-agent"], "token_period": "1h"})
    role_id = vault.approles["approle"]["drover"].role_id
    made = vault._approle("POST", "approle", "role", "drover", "secret-id", body={})
    assert made.data is not None
    (tmp_path / SECRET_ID_FILE).write_text(made.data["secret_id"])
    settings = f"""
vault {{
  enabled          = true
  address          = "{vault.address}"
  role_id          = "{role_id}"
  secret_id_file   = "{tmp_path}/{SECRET_ID_FILE}"
  create_from_role = "drover-tasks"
  timeout          = "1s"
}}
"""
    with Drover(real_consul, name="with-vault", settings=settings) as one:
        yield one, vault


def test_an_agent_elects_places_and_runs_without_vault_and_sees_it_come_and_go(agent: tuple[Drover, Double]) -> None:
    one, vault = agent
    one.wait_ready()
    one.submit(marking_job("without-vault"))
    running = one.wait_running("without-vault", 1)
    status = wait("it is noticed", lambda: (s := one.get("/v1/agent/vault"))["Message"] and s["Token"]["Error"] and s)
    assert (status["State"], status["Usable"], status["Token"]["Valid"]) == ("unreachable", False, False)
    assert "was not reached" in status["Token"]["Error"]
    node = one.get("/v1/nodes")[0]
    checked = drover("vault", "check", address=one.address)
    assert checked.code == 2
    assert checked.out[0].startswith("FAIL  vault: Vault at http://127.0.0.1:")
    with vault.reopened() as back:
        wait("it is back", lambda: (s := one.get("/v1/agent/vault"))["Token"]["Valid"] and s["Usable"], 5.0)
        status = one.get("/v1/agent/vault")
        assert (status["State"], status["Usable"], status["Version"]) == ("active", True, back.version)
        assert (status["Token"]["Way"], status["Token"]["Policies"]) == ("approle", ["default", "drover-agent"])
        assert 3000 < status["Token"]["TTLSeconds"] <= 3600
        good = drover("vault", "check", address=one.address)
        assert (good.code, [line for line in good.out if not line.startswith("ok ")]) == (0, [])
        shown = drover("vault", "status", address=one.address)
        assert any("Token from" in line and "approle" in line for line in shown.out)
        assert drover("vault", "status", "-t", "{{ .State }}", address=one.address).shown == (0, ["active"], [])
        back.seal()
        wait("it is sealed", lambda: one.get("/v1/agent/vault")["State"] == "sealed")
        assert one.get("/v1/agent/vault")["Token"]["Valid"]
        token_id = next(t.id for t in back.tokens.by_id.values() if t.path == "auth/approle/login")
        for path in ("/v1/agent/vault", "/v1/agent/self", "/v1/nodes"):
            assert token_id not in str(one.get(path))
        assert token_id not in one.log
    assert one.get("/v1/agent/self")["config"]["Vault"]["Enabled"] is True
    # Vault's coming and going is nothing that the node's document, and so Consul, ever hears of.
    assert one.get("/v1/nodes")[0]["ModifyIndex"] == node["ModifyIndex"]
    assert one.wait_running("without-vault", 1)[0]["ID"] == running[0]["ID"]
    stays("the task runs", lambda: one.running("without-vault")[0]["ID"] == running[0]["ID"], 0.5)


@pytest.mark.parametrize("ill", ["sealed", "slow", "failing", "refusing"])
def test_an_agent_starts_and_places_whatever_ails_vault(agent: tuple[Drover, Double], ill: str, tmp_path: Path) -> None:
    one, vault = agent
    assert one.terminate() == 0
    with vault.reopened() as back:
        match ill:
            case "sealed":
                back.seal()
            case "slow":
                back.slow_s = 10.0
            case "failing":
                back.failing = 500
            case "refusing":
                (tmp_path / SECRET_ID_FILE).write_text("of another role")
        one.start()
        one.wait_ready()
        one.submit(marking_job("ailing"))
        one.wait_running("ailing", 1)
        status = wait("the reason", lambda: (s := one.get("/v1/agent/vault"))["Token"]["Error"] and s)
        assert not status["Token"]["Valid"]
        assert status["State"] == {"sealed": "sealed", "slow": "slow", "failing": "unreachable", "refusing": "active"}[ill]
        assert "of another role" not in one.log
        assert one.terminate() == 0


def test_metrics_tell_of_vault(agent: tuple[Drover, Double]) -> None:
    one, vault = agent
    with vault.reopened():
        wait("it is used", lambda: one.get("/v1/agent/vault")["Usable"])
        wait("a token", lambda: one.get("/v1/agent/vault")["Token"]["Valid"])
        text = _metrics(one)
        assert 'drover_vault_up{host="' in text
        values = {line.split("{")[0]: float(line.split()[-1]) for line in text.splitlines() if line.startswith("drover_vault_")}
        assert values["drover_vault_up"] == 1.0
        assert 3000 < values["drover_vault_token_ttl_seconds"] <= 3600
        assert values["drover_vault_contact_age_seconds"] < 30
        assert "drover_vault_logins_total 1.0" in text
        assert one.terminate() == 0


def _metrics(one: Drover) -> str:
    host, _, port = one.address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request("GET", "/v1/metrics?format=prometheus")
    with connection.getresponse() as answer:
        text = answer.read().decode()
    connection.close()
    return text
