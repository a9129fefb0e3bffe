"""What does `drover vault check` find, and what does it tell to do? The findings themselves; the command is in tests/e2e."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from model.secret import Secret
from tests.components.certificates import Authority
from tests.vault.conftest import Vault
from tests.vault.double import Double
from tests.vault.test_login import until
from vault.check import Outcome, Report, check
from vault.client import Endpoint, VaultClient
from vault.login import Given, Login, NoToken, Way

POLICY = (Path(__file__).parents[2] / "configs" / "policies" / "vault-agent.hcl").read_text()
ROLE = {"allowed_policies": ["web"], "orphan": True, "renewable": True, "token_period": "72h"}


@asynccontextmanager
async def checking(vault: Vault, way: Way, **how: Any) -> AsyncIterator[Login]:
    async with vault.client(**how) as client:
        login = Login(client=client, way=way)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(login.run(), name="login")
            await until("a first look", lambda: login.health is not None and (login.held is not None or login.error))
            yield login
            running.cancel()


async def report(vault: Vault, way: Way, role: str = "", **how: Any) -> Report:
    async with checking(vault, way, **how) as login:
        return await check(login, role)


def outcomes(found: Report) -> dict[str, Outcome]:
    return {one.name: one.outcome for one in found.findings}


def text_of(found: Report, name: str) -> str:
    return next(f"{one.text} -> {one.remedy}" for one in found.findings if one.name == name)


OK = dict.fromkeys(("vault", "clock", "token", "create", "revoke-accessor", "renew-self", "lookup-self"), Outcome.OK)


async def test_the_example_policy_is_all_that_is_needed(doubled: Vault) -> None:
    doubled.policy("drover-agent", POLICY)
    doubled.ask("POST", "auth/token/roles/drover-tasks", ROLE)
    token = doubled.token("drover-agent", period="1h", no_default_policy=True)
    found = await report(doubled, Given(token=token), "drover-tasks")
    assert (outcomes(found), found.policy) == (OK, "")
    assert all(not one.remedy for one in found.findings)


async def test_what_a_policy_lacks_is_written_out_and_is_enough(doubled: Vault) -> None:
    token = doubled.token("default", "more", period="1h")
    found = await report(doubled, Given(token=token), "drover-tasks")
    assert outcomes(found) == OK | {"create": Outcome.FAILED, "revoke-accessor": Outcome.FAILED}
    doubled.policy("more", found.policy)
    doubled.ask("POST", "auth/token/roles/drover-tasks", ROLE)
    again = await report(doubled, Given(token=token), "drover-tasks")
    assert (outcomes(again), again.policy) == (OK, "")
    assert "cannot be read" in text_of(again, "create")


@pytest.mark.parametrize(
    ("settings", "words"),
    [(ROLE | {"orphan": False}, "children of drover's own"), (ROLE | {"renewable": False}, "cannot be renewed")],
)
async def test_a_role_that_hurts_tasks_is_told(doubled: Vault, settings: dict[str, object], words: str) -> None:
    doubled.policy("drover-agent", POLICY)
    doubled.ask("POST", "auth/token/roles/drover-tasks", settings)
    found = await report(doubled, Given(token=doubled.token("drover-agent", period="1h")), "drover-tasks")
    assert outcomes(found) == OK | {"create": Outcome.WARNING}
    assert words in text_of(found, "create")


async def test_a_role_that_is_not_there(doubled: Vault) -> None:
    doubled.policy("drover-agent", POLICY)
    found = await report(doubled, Given(token=doubled.token("drover-agent", period="1h")), "drover-tasks")
    assert outcomes(found)["create"] == Outcome.FAILED
    assert "vault write auth/token/roles/drover-tasks" in text_of(found, "create")


async def test_without_a_role_orphans_are_wanted(doubled: Vault) -> None:
    rules = '{ capabilities = ["update"] }'
    doubled.policy("children", f'path "auth/token/create" {rules} path "auth/token/revoke-accessor" {rules}')
    token = doubled.token("children", period="1h")
    found = await report(doubled, Given(token=token))
    assert outcomes(found) == OK | {"create": Outcome.WARNING}
    assert "they end when it ends" in text_of(found, "create")
    assert "auth/token/create-orphan" in found.policy


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"renewable": False, "ttl": "1h"}, "cannot be renewed"),
        ({"explicit_max_ttl": "2h", "ttl": "1h"}, "at the latest 7200 s"),
        ({"ttl": "5m"}, "ends in"),
    ],
)
async def test_a_token_that_will_end_is_told(doubled: Vault, how: dict[str, object], words: str) -> None:
    doubled.policy("drover-agent", POLICY)
    doubled.ask("POST", "auth/token/roles/drover-tasks", ROLE)
    found = await report(doubled, Given(token=doubled.token("drover-agent", **how)), "drover-tasks")
    assert outcomes(found) == OK | {"token": Outcome.WARNING}
    assert words in text_of(found, "token")


async def test_a_root_token_is_told(doubled: Vault) -> None:
    found = await report(doubled, Given(token=doubled.root))
    assert outcomes(found) == OK | {"token": Outcome.WARNING}
    assert found.policy == ""


async def test_no_token_a_wrong_one_and_none_at_all(doubled: Vault) -> None:
    wrong = await report(doubled, Given(token=Secret("hvs.none")))
    assert (outcomes(wrong)["token"], "permission denied" in text_of(wrong, "token")) == (Outcome.FAILED, True)
    none = await report(doubled, NoToken())
    assert "set token_file" in text_of(none, "token")


async def test_an_agent_that_cannot_lead_needs_no_token(doubled: Vault) -> None:
    async with checking(doubled, NoToken()) as login:
        found = await check(login, "", may_lead=False)
        assert outcomes(found) == {"vault": Outcome.OK, "clock": Outcome.OK, "token": Outcome.OK}


async def test_a_vault_that_is_sealed_slow_or_away(double: Double, doubled: Vault) -> None:
    double.seal()
    sealed = await report(doubled, Given(token=doubled.root))
    assert (outcomes(sealed), "unseal" in text_of(sealed, "vault")) == ({"vault": Outcome.FAILED}, True)
    double.unseal()
    async with checking(doubled, Given(token=doubled.root), timeout_s=1.0) as login:
        double.slow_s = 0.6
        slow = await check(login, "")
        assert outcomes(slow)["pace"] == Outcome.WARNING
        double.slow_s = 5.0
        assert outcomes(await check(login, "")) == {"vault": Outcome.FAILED}
        double.close()
        away = await check(login, "")
        assert (outcomes(away), "was not reached" in text_of(away, "vault")) == ({"vault": Outcome.FAILED}, True)


async def test_a_clock_that_is_off(double: Double, doubled: Vault) -> None:
    double.advance(-120)
    found = await report(doubled, Given(token=doubled.root))
    assert outcomes(found)["clock"] == Outcome.WARNING
    assert "behind" in text_of(found, "clock")


async def test_tls_that_proves_nothing(tls_double: tuple[Double, Authority]) -> None:
    double, authority = tls_double
    for endpoint, expected in (
        (Endpoint(address=double.address, is_verified=False), {"tls": Outcome.WARNING}),
        (Endpoint(address=double.address, ca_file=authority.path, server_name="vault.internal"), {}),
    ):
        async with VaultClient(endpoint) as client:
            found = await check(Login(client=client, way=NoToken()), "")
            assert {name: one for name, one in outcomes(found).items() if name == "tls"} == expected
    async with VaultClient(Endpoint(address=double.address)) as client:
        found = await check(Login(client=client, way=NoToken()), "")
        assert "set vault.ca_file" in text_of(found, "vault")
    async with VaultClient(Endpoint(address="http://vault.invalid:8200")) as client:
        found = await check(Login(client=client, way=NoToken()), "")
        assert "in the clear" in text_of(found, "tls")
