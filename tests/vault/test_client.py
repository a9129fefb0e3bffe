"""What does the client get out of a Vault that is well? Against a real one where there is one."""

import asyncio
import time

import pytest

from model.errors import VaultRefused
from model.secret import Secret
from tests.vault.conftest import KV1, KV2, Vault
from tests.vault.double import Double
from vault.client import State, TaskToken, VaultClient

APP = f"""
path "{KV1}/app/*" {{ capabilities = ["read", "list"] }}
path "{KV2}/data/app/*" {{ capabilities = ["create", "read", "update"] }}
path "{KV2}/metadata/app/*" {{ capabilities = ["list"] }}
"""


async def made(client: VaultClient, token: Secret, policies: list[str], ttl_s: float = 3600.0, role: str = "") -> TaskToken:
    return await client.create_token(
        token, policies=policies, role=role, display_name="web task", metadata={"alloc": "a1"}, ttl_s=ttl_s
    )


# ---- tokens


async def test_a_token_is_made_looked_up_renewed_and_revoked(vault: Vault) -> None:
    vault.policy("drover-test-app", APP)
    async with vault.client() as client:
        token = await made(client, vault.root, ["drover-test-app"])
        assert (token.ttl_s, token.renewable, token.policies) == (3600.0, True, ("default", "drover-test-app"))
        facts = await client.lookup_self(token.secret)
        assert facts.accessor == token.accessor
        assert 3590 < facts.ttl_s <= 3600
        assert (facts.renewable, facts.policies, facts.is_endless) == (True, ("default", "drover-test-app"), False)
        assert facts.creation_ttl_s == 3600
        await vault.pass_time(2)
        assert (await client.lookup_self(token.secret)).ttl_s < 3600
        assert await client.renew_self(token.secret) == 3600
        await client.revoke_self(token.secret)
        with pytest.raises(VaultRefused, match="403"):
            await client.lookup_self(token.secret)


async def test_a_token_ends_when_its_time_is_over_or_its_greatest_age_reached(vault: Vault) -> None:
    async with vault.client() as client:
        token = await made(client, vault.root, ["default"], ttl_s=2)
        await vault.pass_time(3)
        with pytest.raises(VaultRefused, match="permission denied"):
            await client.renew_self(token.secret)
        aged = vault.token("default", ttl="4s", explicit_max_ttl="5s")
        await vault.pass_time(3)
        assert await client.renew_self(aged) <= 3


async def test_a_token_is_an_orphan_that_outlives_who_made_it(vault: Vault) -> None:
    async with vault.client() as client:
        policy = 'path "auth/token/create-orphan" { capabilities = ["update"] }'
        vault.policy("drover-test-maker", policy)
        maker = vault.token("drover-test-maker")
        token = await made(client, maker, ["default"])
        assert (await client.lookup_self(token.secret)).is_orphan
        await client.revoke_self(maker)
        assert (await client.lookup_self(token.secret)).accessor == token.accessor


async def test_who_may_make_no_orphan_makes_a_child_that_goes_with_it(vault: Vault) -> None:
    async with vault.client() as client:
        vault.policy("drover-test-parent", 'path "auth/token/create" { capabilities = ["update"] }')
        parent = vault.token("drover-test-parent")
        token = await made(client, parent, ["default"])
        assert not (await client.lookup_self(token.secret)).is_orphan
        await client.revoke_self(parent)
        with pytest.raises(VaultRefused):
            await client.lookup_self(token.secret)


async def test_a_role_says_which_policies_a_token_may_have(vault: Vault) -> None:
    async with vault.client() as client:
        vault.ask("POST", "auth/token/roles/drover-test", {"allowed_policies": ["drover-test-app"], "orphan": True, "token_period": "1h"})
        vault.policy("drover-test-app", APP)
        vault.policy("drover-test-user", 'path "auth/token/create/drover-test" { capabilities = ["update"] }')
        user = vault.token("drover-test-user")
        token = await made(client, user, ["drover-test-app"], role="drover-test")
        facts = await client.lookup_self(token.secret)
        assert (facts.is_orphan, facts.period_s, facts.role) == (True, 3600.0, "drover-test")
        with pytest.raises(VaultRefused, match="must be subset of the role's allowed policies"):
            await made(client, user, ["root"], role="drover-test")
        with pytest.raises(VaultRefused, match="permission denied"):
            await made(client, user, ["drover-test-app"], role="another")


async def test_an_accessor_revokes_its_token_and_twice_is_no_fault(vault: Vault) -> None:
    async with vault.client() as client:
        token = await made(client, vault.root, ["default"])
        await client.revoke_accessor(vault.root, token.accessor)
        await client.revoke_accessor(vault.root, token.accessor)
        with pytest.raises(VaultRefused):
            await client.lookup_self(token.secret)
        other = await made(client, vault.root, ["default"])
        with pytest.raises(VaultRefused, match="permission denied"):
            await client.revoke_accessor(other.secret, "any")


async def test_a_wrapped_token_is_unwrapped_once(vault: Vault) -> None:
    async with vault.client() as client:
        wrapped = await client.create_wrapped(
            vault.root, policies=["default"], display_name="web", metadata={}, ttl_s=3600, wrap_ttl_s=60
        )
        assert wrapped.ttl_s == 60
        token = await client.unwrap(wrapped.secret)
        assert token.accessor == wrapped.accessor
        assert (await client.lookup_self(token.secret)).accessor == wrapped.accessor
        with pytest.raises(VaultRefused, match="wrapping token is not valid or does not exist"):
            await client.unwrap(wrapped.secret)


async def test_a_wrapped_token_that_nobody_fetched_in_time_is_gone_but_can_be_revoked(vault: Vault) -> None:
    async with vault.client() as client:
        wrapped = await client.create_wrapped(
            vault.root, policies=["default"], display_name="web", metadata={}, ttl_s=3600, wrap_ttl_s=1
        )
        await vault.pass_time(2)
        with pytest.raises(VaultRefused):
            await client.unwrap(wrapped.secret)
        await client.revoke_accessor(vault.root, wrapped.accessor)


async def test_capabilities_are_told_for_each_path(vault: Vault) -> None:
    vault.policy("drover-test-app", APP)
    async with vault.client() as client:
        found = await client.capabilities(vault.token("drover-test-app"), [f"{KV1}/app/x", f"{KV2}/data/app/x", "sys/seal"])
        assert {path: set(allowed) for path, allowed in found.items()} == {
            f"{KV1}/app/x": {"list", "read"},
            f"{KV2}/data/app/x": {"create", "read", "update"},
            "sys/seal": {"deny"},
        }
        assert await client.capabilities(vault.root, ["sys/seal"]) == {"sys/seal": ("root",)}


# ---- secrets


async def test_the_first_version_of_kv_is_read_and_listed(vault: Vault) -> None:
    vault.ask("PUT", f"{KV1}/app/db", {"password": "x", "port": 5432})
    vault.ask("PUT", f"{KV1}/app/more/deep", {"a": "b"})
    async with vault.client() as client:
        found = await client.read(vault.root, f"{KV1}/app/db")
        assert found is not None
        assert (found.data, found.lease_id, found.renewable) == ({"password": "x", "port": 5432}, "", False)
        assert found.lease_duration > 0
        assert await client.list(vault.root, f"{KV1}/app") == ("db", "more/")
        assert await client.read(vault.root, f"{KV1}/none") is None
        assert await client.list(vault.root, f"{KV1}/none") is None


async def test_the_second_version_of_kv_is_read_by_either_path(vault: Vault) -> None:
    for number in (1, 2):
        vault.ask("POST", f"{KV2}/data/app/db", {"data": {"password": f"x{number}"}})
    async with vault.client() as client:
        for path in (f"{KV2}/app/db", f"{KV2}/data/app/db", f"/{KV2}/app/db/"):
            found = await client.read(vault.root, path)
            assert found is not None
            assert found.data["data"] == {"password": "x2"}
            metadata = found.data["metadata"]
            assert isinstance(metadata, dict)
            assert metadata["version"] == 2
        older = await client.read(vault.root, f"{KV2}/app/db?version=1")
        assert older is not None
        assert older.data["data"] == {"password": "x1"}
        assert await client.list(vault.root, f"{KV2}/app") == ("db",)
        assert await client.list(vault.root, f"{KV2}/metadata/app") == ("db",)
        vault.ask("DELETE", f"{KV2}/data/app/db")
        assert await client.read(vault.root, f"{KV2}/app/db") is None


async def test_arguments_are_written_to_the_path(vault: Vault) -> None:
    async with vault.client() as client:
        assert await client.read(vault.root, f"{KV1}/app/new", ("a=1", "b=x=y")) is None
        found = await client.read(vault.root, f"{KV1}/app/new")
        assert found is not None
        assert found.data == {"a": "1", "b": "x=y"}
        answered = await client.read(vault.root, f"{KV2}/app/new", ("a=1",))
        assert answered is not None
        assert answered.data["version"] == 1
        written = await client.read(vault.root, f"{KV2}/app/new")
        assert written is not None
        assert written.data["data"] == {"a": "1"}
        with pytest.raises(VaultRefused, match="name=value"):
            await client.read(vault.root, f"{KV1}/app/new", ("no value",))


@pytest.mark.parametrize("name", ["a b", "ä/ö", "a?b", "a#b", "a%2fb", "x+y=z"])
async def test_any_name_reaches_vault_as_it_is_written(vault: Vault, name: str) -> None:
    async with vault.client() as client:
        path = f"{KV1}/app/{name}"
        if "?" in name:
            assert await client.read(vault.root, path) is None  # a question, as Vault's own clients have it
            return
        await client.read(vault.root, path, ("a=1",))
        found = await client.read(vault.root, path)
        assert found is not None
        assert found.data == {"a": "1"}
        assert await client.list(vault.root, f"{KV1}/app") == (name if "/" not in name else "ä/",)


@pytest.mark.parametrize("path", [f"{KV1}/../../sys/seal", f"{KV1}/./x", ".."])
async def test_a_path_leads_nowhere_else(vault: Vault, path: str) -> None:
    async with vault.client() as client:
        with pytest.raises(VaultRefused, match=r"no \. or \.\."):
            await client.read(vault.root, path)


async def test_policies_are_what_a_task_can_read(vault: Vault) -> None:
    vault.policy("drover-test-app", APP)
    for path in (f"{KV1}/app/db", f"{KV1}/other/db"):
        vault.ask("PUT", path, {"a": "b"})
    vault.ask("POST", f"{KV2}/data/other/db", {"data": {"a": "b"}})
    async with vault.client() as client:
        token = (await made(client, vault.root, ["drover-test-app"])).secret
        assert await client.read(token, f"{KV1}/app/db") is not None
        assert await client.list(token, f"{KV1}/app") == ("db",)
        assert await client.read(token, f"{KV2}/app/none") is None
        for path in (f"{KV1}/other/db", f"{KV2}/other/db", "sys/policies/acl/drover-test-app", "drover-test-nowhere/x"):
            with pytest.raises(VaultRefused, match="permission denied"):
                await client.read(token, path)


async def test_a_token_that_is_none_is_refused_without_being_told(vault: Vault) -> None:
    async with vault.client() as client:
        with pytest.raises(VaultRefused) as refused:
            await client.read(Secret("hvs.of-nobody"), f"{KV1}/x")
        assert "of-nobody" not in str(refused.value)
        assert "of-nobody" not in repr(refused.value.__cause__)


async def test_health_of_a_vault_that_serves(vault: Vault) -> None:
    async with vault.client() as client:
        health = await client.health()
        assert health.is_usable
        assert health.version
        assert abs(health.time_s - time.time()) < 60
        assert client.contact_age_s is not None


# ---- with the double only: a real Vault issues leases for a database that it reaches


async def test_a_dynamic_secret_lives_on_a_lease_that_is_renewed_until_its_greatest_age(double: Double, doubled: Vault) -> None:
    double.database_role("app", ttl_s=10, ttl_s_max=25)
    doubled.policy("db", 'path "database/creds/app" { capabilities = ["read"] }')
    async with doubled.client() as client:
        token = await made(client, doubled.root, ["db"])
        first = await client.read(token.secret, "database/creds/app")
        second = await client.read(token.secret, "database/creds/app")
        assert first is not None
        assert second is not None
        assert first.data != second.data
        assert (first.lease_duration, first.renewable) == (10, True)
        double.advance(8)
        assert await client.renew_lease(token.secret, first.lease_id) == (10.0, True)
        double.advance(8)
        assert await client.renew_lease(token.secret, first.lease_id) == (9.0, True)
        with pytest.raises(VaultRefused, match="lease not found"):
            await client.renew_lease(token.secret, second.lease_id)
        await client.revoke_self(token.secret)
        assert double.leases == {}


async def test_the_namespace_goes_along(double: Double) -> None:
    vault = Vault(double.address, Secret(double.root), double)
    async with vault.client(namespace="team") as client:
        await client.lookup_self(vault.root)
        await client.lookup_self(vault.root, namespace="other")
        await client.health()
        assert [call.namespace for call in double.calls] == ["team", "other", ""]


async def test_what_is_mounted_is_asked_once(double: Double, doubled: Vault) -> None:
    double.put("secret/data/a", {"data": {"x": "y"}})
    async with doubled.client() as client:
        for _ in range(3):
            await client.read(doubled.root, "secret/a")
        paths = [call.path for call in double.calls]
        assert paths == ["sys/internal/ui/mounts/secret/a", *["secret/data/a"] * 3]


async def test_many_ask_at_once(double: Double, doubled: Vault) -> None:
    double.put("kv/a", {"x": "y"})
    async with doubled.client() as client:
        found = await asyncio.gather(*(client.read(doubled.root, "kv/a") for _ in range(100)))
        assert all(one is not None and one.data == {"x": "y"} for one in found)


async def test_a_standby_names_the_active_one(double: Double, doubled: Vault) -> None:
    double.put("kv/a", {"x": "y"})
    with Double() as standby:
        standby.standby_of = double.address
        async with Vault(standby.address, doubled.root).client() as client:
            assert (await client.health()).state == State.STANDBY
            found = await client.read(doubled.root, "kv/a")
            assert found is not None
            assert found.data == {"x": "y"}
