"""How does drover keep its own token, whatever happens to Vault?

Waits are real and short: tokens of seconds. What needs Vault's clock or absence asks for the double.
"""

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from model.errors import VaultRefused, VaultUnavailable
from model.secret import Secret
from tests.vault.conftest import Answered, Vault
from tests.vault.double import Double
from vault.client import VaultClient
from vault.login import AppRole, Given, Login, NoToken, TokenFile, Way

WAIT_S_MAX = 15.0


@asynccontextmanager
async def kept(client: VaultClient, way: Way) -> AsyncIterator[Login]:
    """A Login whose run() runs meanwhile, and is still running at the end."""
    login = Login(client=client, way=way, rng=random.Random(1))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(login.run(), name="login")
        yield login
        assert not running.done()
        running.cancel()


async def until(what: str, look: Callable[[], object]) -> None:
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            while not look():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{what}: not seen within {WAIT_S_MAX} s")


def has_token(login: Login) -> bool:
    try:
        login.token()
    except (VaultUnavailable, VaultRefused):
        return False
    return True


def approle(vault: Vault, folder: Path, **settings: object) -> AppRole:
    """A role `drover-test` and the file with its secret id."""
    with suppress(Answered):  # of an earlier run against the same Vault
        vault.ask("POST", "sys/auth/drover-test-approle", {"type": "approle"})
    vault.ask("POST", "auth/drover-test-approle/role/drover-test", settings)
    role_id = vault.ask("GET", "auth/drover-test-approle/role/drover-test/role-id")["data"]["role_id"]
    secret_id = vault.ask("POST", "auth/drover-test-approle/role/drover-test/secret-id", {})["data"]["secret_id"]
    (folder / "secret-id").write_text(f"{secret_id}\n")
    return AppRole(role_id=role_id, secret_id_file=folder / "secret-id", mount="drover-test-approle")


# ---- also with a real Vault


async def test_a_given_token_is_renewed_at_half_of_its_life(vault: Vault) -> None:
    token = vault.token("default", ttl="4s")
    async with vault.client() as client, kept(client, Given(token=token)) as login:
        assert await asyncio.wait_for(login.ready(), WAIT_S_MAX) == token
        assert 0 < login.ttl_s <= 4
        await asyncio.sleep(6)
        assert login.token() == token
        assert (await client.lookup_self(token)).ttl_s > 0
        assert login.error == ""


async def test_a_token_that_never_ends_is_left_alone(vault: Vault) -> None:
    async with vault.client() as client, kept(client, Given(token=vault.root)) as login:
        await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        assert login.ttl_s == math.inf
        assert login.health is not None
        assert login.health.is_usable
        assert login.version == login.health.version


async def test_a_token_file_is_read_again_when_it_changes(vault: Vault, tmp_path: Path) -> None:
    first, second = vault.token("default", ttl="1h"), vault.token("default", ttl="1h")
    path = tmp_path / "token"
    async with vault.client() as client, kept(client, TokenFile(path=path)) as login:
        await until("the reason", lambda: "No such file" in login.error)
        with pytest.raises(VaultRefused, match="No such file"):
            login.token()
        path.write_text(f"{first.reveal()}\n")
        await until("the first", lambda: has_token(login) and login.token() == first)
        (tmp_path / "next").write_text(second.reveal())
        (tmp_path / "next").rename(path)
        await until("the second", lambda: login.token() == second)
        assert login.error == ""


async def test_approle_logs_in_and_again_at_its_greatest_age(vault: Vault, tmp_path: Path) -> None:
    role = approle(vault, tmp_path, token_policies=["default"], token_ttl="3s", token_max_ttl="5s")
    async with vault.client() as client, kept(client, role) as login:
        first = await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        await until("another login", lambda: login.token() != first)
        assert (await client.lookup_self(login.token())).policies == ("default",)


async def test_approle_logs_in_again_when_its_token_was_revoked(vault: Vault, tmp_path: Path) -> None:
    role = approle(vault, tmp_path, token_policies=["default"], token_ttl="1h")
    async with vault.client() as client, kept(client, role) as login:
        first = await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        await client.revoke_self(first)
        login.doubt()
        await until("another login", lambda: has_token(login) and login.token() != first)


async def test_a_wrong_secret_id_is_told_and_a_right_one_found(vault: Vault, tmp_path: Path) -> None:
    role = approle(vault, tmp_path, token_policies=["default"], token_ttl="1h")
    assert role.secret_id_file is not None
    right = role.secret_id_file.read_text()
    role.secret_id_file.write_text("wrong-s3cret")
    async with vault.client() as client, kept(client, role) as login:
        await until("the reason", lambda: "invalid" in login.error)
        assert "s3cret" not in login.error
        with pytest.raises(VaultRefused, match=r"invalid .*secret"):
            login.token()
        role.secret_id_file.write_text(right)
        login.doubt()
        await asyncio.wait_for(login.ready(), WAIT_S_MAX)


async def test_a_revoked_token_is_given_to_nobody(vault: Vault) -> None:
    token = vault.token("default", ttl="1h")
    async with vault.client() as client, kept(client, Given(token=token)) as login:
        await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        await client.revoke_self(token)
        login.doubt()
        await until("it is noticed", lambda: not has_token(login))
        with pytest.raises(VaultRefused, match="permission denied"):
            login.token()


# ---- with the double only: Vault goes away


async def test_without_a_token_there_is_a_reason_and_health_all_the_same(doubled: Vault) -> None:
    async with doubled.client() as client, kept(client, NoToken()) as login:
        await until("health", lambda: login.health is not None and login.health.is_usable)
        with pytest.raises(VaultRefused, match="set token, token_file or role_id"):
            login.token()


async def test_vault_may_come_later(double: Double, doubled: Vault) -> None:
    double.close()
    async with doubled.client() as client, kept(client, Given(token=doubled.root)) as login:
        await until("the reason", lambda: "was not reached" in login.error)
        with pytest.raises(VaultUnavailable, match="was not reached"):
            login.token()
        with double.reopened():
            began_s = asyncio.get_running_loop().time()
            assert await asyncio.wait_for(login.ready(), WAIT_S_MAX) == doubled.root
            assert asyncio.get_running_loop().time() - began_s < 2.0


async def test_what_tasks_ask_of_a_slow_vault_does_not_hold_up_the_renewal(double: Double, doubled: Vault) -> None:
    token = doubled.token("default", ttl="3s")
    async with doubled.client() as client, doubled.client() as own:
        login = Login(client=client, way=Given(token=token), own_client=own)
        double.slow_s = 0.4
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(login.run(), name="login")
            first = await asyncio.wait_for(login.ready(), WAIT_S_MAX)
            for number in range(100):  # five seconds' work for eight threads
                tasks.create_task(_ask(client, doubled.root), name=f"task {number}")
            await asyncio.sleep(4)
            assert login.token() == first
            assert login.health is not None
            assert login.health.is_usable
            running.cancel()


async def _ask(client: VaultClient, token: Secret) -> None:
    with suppress(VaultUnavailable):
        await client.lookup_self(token)


@pytest.mark.parametrize("ill", ["sealed", "failing", "slow", "away"])
async def test_a_token_is_kept_while_vault_is_ill(double: Double, doubled: Vault, ill: str) -> None:
    token = doubled.token("default", ttl="1h")
    async with doubled.client(timeout_s=0.5) as client, kept(client, Given(token=token)) as login:
        await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        match ill:
            case "sealed":
                double.seal()
            case "failing":
                double.failing = 500
            case "slow":
                double.slow_s = 10.0
            case "away":
                double.close()
        login.doubt()
        await until("it is noticed", lambda: login.error)
        assert login.token() == token


async def test_a_token_that_ended_while_vault_was_away_is_had_again_without_a_restart(
    double: Double, doubled: Vault, tmp_path: Path
) -> None:
    role = approle(doubled, tmp_path, token_policies=["default"], token_ttl="2s")
    async with doubled.client() as client, kept(client, role) as login:
        first = await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        double.close()
        await until("it ended", lambda: not has_token(login))
        with pytest.raises(VaultUnavailable, match="was not reached"):
            login.token()
        with double.reopened():
            second = await asyncio.wait_for(login.ready(), WAIT_S_MAX)
            assert second != first
            assert login.error == ""


async def test_a_token_that_may_not_be_renewed_is_used_until_it_ends(double: Double, doubled: Vault) -> None:
    double.policy("default", 'path "auth/token/lookup-self" { capabilities = ["read"] }')
    token = doubled.token("default", ttl="2s")
    async with doubled.client() as client, kept(client, Given(token=token)) as login:
        await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        await until("a renewal was refused", lambda: any(call.path == "auth/token/renew-self" for call in double.calls))
        assert login.token() == token
        await until("it ended", lambda: not has_token(login))


async def test_a_new_token_file_that_is_refused_leaves_the_old_token_in_use(doubled: Vault, tmp_path: Path) -> None:
    token = doubled.token("default", ttl="1h")
    path = tmp_path / "token"
    path.write_text(token.reveal())
    async with doubled.client() as client, kept(client, TokenFile(path=path)) as login:
        await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        path.write_text("hvs.of-nobody-at-all")
        await until("it is noticed", lambda: login.error)
        assert "of-nobody" not in login.error
        assert login.token() == token
        path.write_text("")
        login.doubt()
        await until("it is noticed", lambda: "is empty" in login.error)
        assert login.token() == token


async def test_looking_costs_little(double: Double, doubled: Vault) -> None:
    async with doubled.client() as client, kept(client, Given(token=doubled.token("default", ttl="1h"))) as login:
        await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        await asyncio.sleep(2)
        paths = [call.path for call in double.calls]
        assert paths.count("sys/health") == 1
        assert paths.count("auth/token/lookup-self") <= 2


async def test_secrets_print_as_dots(doubled: Vault) -> None:
    token = doubled.token("default")
    async with doubled.client() as client, kept(client, Given(token=token)) as login:
        await asyncio.wait_for(login.ready(), WAIT_S_MAX)
        assert token.reveal() not in repr(login)
        assert token.reveal() not in repr(login.held)
        made = await client.create_token(doubled.root, policies=["default"], display_name="x", metadata={}, ttl_s=60)
        assert made.secret.reveal() not in repr(made)
        assert isinstance(made.secret, Secret)
