"""Does the double answer as the published API documentation of Vault says?

Each endpoint against the shape of its documented sample response (names and kinds of members, written down here as facts,
not copied), its documented request, and the status codes and words of refusals. Only the double is asked.
"""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.vault.conftest import Answered, Vault
from tests.vault.double import Double

# Kinds: a type, a tuple of types, [kind] a list of that, {…} a document with at least these members.
TEXT, INT, BOOL, NONE = str, int, bool, type(None)
TEXTS = [TEXT]

ENVELOPE = {
    "request_id": TEXT,
    "lease_id": TEXT,
    "renewable": BOOL,
    "lease_duration": INT,
    "wrap_info": (dict, NONE),
    "warnings": (list, NONE),
    "auth": (dict, NONE),
    "data": (dict, NONE),
}
AUTH = {
    "client_token": TEXT,
    "accessor": TEXT,
    "policies": TEXTS,
    "token_policies": TEXTS,
    "metadata": (dict, NONE),
    "lease_duration": INT,
    "renewable": BOOL,
    "entity_id": TEXT,
    "token_type": TEXT,
    "orphan": BOOL,
}
LOOKUP = {
    "accessor": TEXT,
    "creation_time": INT,
    "creation_ttl": INT,
    "display_name": TEXT,
    "entity_id": TEXT,
    "expire_time": (TEXT, NONE),
    "explicit_max_ttl": INT,
    "id": TEXT,
    "meta": (dict, NONE),
    "num_uses": INT,
    "orphan": BOOL,
    "path": TEXT,
    "policies": TEXTS,
    "ttl": INT,
}
WRAP_INFO = {"token": TEXT, "accessor": TEXT, "ttl": INT, "creation_time": TEXT, "creation_path": TEXT, "wrapped_accessor": TEXT}
KV2_METADATA = {"created_time": TEXT, "custom_metadata": (dict, NONE), "deletion_time": TEXT, "destroyed": BOOL, "version": INT}


def check(found: Any, shape: Any, where: str = "") -> None:
    """Fails where a member is missing or of another kind."""
    if isinstance(shape, Mapping):
        assert isinstance(found, dict), f"{where}: {found!r} is no document"
        for name, inner in shape.items():
            assert name in found, f"{where}: {name} is missing in {sorted(found)}"
            check(found[name], inner, f"{where}.{name}")
    elif isinstance(shape, list):
        assert isinstance(found, list), f"{where}: {found!r} is no list"
        for one in found:
            check(one, shape[0], where)
    else:
        kinds = shape if isinstance(shape, tuple) else (shape,)
        assert isinstance(found, kinds), f"{where}: {found!r} is none of {kinds}"
        assert not (isinstance(found, bool) and bool not in kinds), f"{where}: {found!r} is a truth value"


@pytest.fixture
def wrapping(doubled: Vault) -> str:
    made = doubled.ask("POST", "auth/token/create", {"policies": ["default"]}, headers={"X-Vault-Wrap-TTL": "60s"})
    return str(made["wrap_info"]["token"])


CREATE = {"policies": ["web", "stage"], "meta": {"user": "armon"}, "ttl": "1h", "renewable": True}
CREATED = ENVELOPE | {"auth": AUTH, "data": NONE, "wrap_info": NONE, "warnings": TEXTS}


@pytest.mark.parametrize("path", ["auth/token/create", "auth/token/create-orphan", "auth/token/create/nomad"])
def test_create_token(doubled: Vault, path: str) -> None:
    doubled.ask("POST", "auth/token/roles/nomad", {"allowed_policies": ["web", "stage"]})
    found = doubled.ask("POST", path, CREATE)
    check(found, CREATED)
    assert found["auth"]["policies"] == ["default", "stage", "web"]
    assert found["auth"]["metadata"] == {"user": "armon"}
    assert (found["auth"]["lease_duration"], found["auth"]["renewable"]) == (3600, True)
    assert found["auth"]["orphan"] is (path == "auth/token/create-orphan")
    assert found["warnings"] == ['Policy "stage" does not exist', 'Policy "web" does not exist']


def test_lookup_and_lookup_self_and_by_accessor(doubled: Vault) -> None:
    auth = doubled.ask("POST", "auth/token/create", {"policies": ["default"], "ttl": "1h"})["auth"]
    of_self = doubled.ask("GET", "auth/token/lookup-self", token=auth["client_token"])
    of_token = doubled.ask("POST", "auth/token/lookup", {"token": auth["client_token"]})
    of_accessor = doubled.ask("POST", "auth/token/lookup-accessor", {"accessor": auth["accessor"]})
    for found in (of_self, of_token, of_accessor):
        check(found, {"data": LOOKUP | {"issue_time": TEXT, "renewable": BOOL, "expire_time": TEXT}})
    assert of_self["data"]["id"] == auth["client_token"]
    assert of_accessor["data"]["id"] == ""
    root = doubled.ask("GET", "auth/token/lookup-self")["data"]
    check(root, LOOKUP)
    assert (root["ttl"], root["expire_time"], root["policies"]) == (0, None, ["root"])


def test_renew_self(doubled: Vault) -> None:
    token = doubled.token("default", ttl="1h").reveal()
    found = doubled.ask("POST", "auth/token/renew-self", {"increment": "1h"}, token=token)
    check(found, {"auth": {name: AUTH[name] for name in ("client_token", "policies", "metadata", "lease_duration", "renewable")}})
    assert found["auth"]["client_token"] == token


def test_revoke_self_and_by_accessor_answer_nothing(doubled: Vault) -> None:
    token = doubled.token("default").reveal()
    assert doubled.ask("POST", "auth/token/revoke-self", token=token) is None
    with pytest.raises(Answered) as refused:
        doubled.ask("GET", "auth/token/lookup-self", token=token)
    assert refused.value.status == 403
    auth = doubled.ask("POST", "auth/token/create", {})["auth"]
    assert doubled.ask("POST", "auth/token/revoke-accessor", {"accessor": auth["accessor"]}) is None
    with pytest.raises(Answered) as refused:
        doubled.ask("POST", "auth/token/revoke-accessor", {"accessor": auth["accessor"]})
    assert (refused.value.status, refused.value.document) == (400, {"errors": ["invalid accessor"]})


def test_token_role(doubled: Vault) -> None:
    assert doubled.ask("POST", "auth/token/roles/nomad", {"allowed_policies": ["dev"], "orphan": False, "token_period": "1h"}) is None
    found = doubled.ask("GET", "auth/token/roles/nomad")
    check(
        found,
        ENVELOPE
        | {
            "data": {
                "allowed_entity_aliases": list,
                "allowed_policies": TEXTS,
                "disallowed_policies": TEXTS,
                "explicit_max_ttl": INT,
                "name": TEXT,
                "orphan": BOOL,
                "path_suffix": TEXT,
                "period": INT,
                "renewable": BOOL,
                "token_explicit_max_ttl": INT,
                "token_period": INT,
                "token_type": TEXT,
            }
        },
    )
    assert found["data"]["token_period"] == 3600


def test_wrapping_and_unwrap_by_either_token(doubled: Vault, wrapping: str) -> None:
    made = doubled.ask("POST", "auth/token/create", {"policies": ["default"]}, headers={"X-Vault-Wrap-TTL": "60"})
    check(made, ENVELOPE | {"wrap_info": WRAP_INFO, "data": NONE, "auth": NONE})
    assert (made["wrap_info"]["ttl"], made["wrap_info"]["creation_path"]) == (60, "auth/token/create")
    as_body = doubled.ask("POST", "sys/wrapping/unwrap", {"token": made["wrap_info"]["token"]})
    check(as_body, ENVELOPE | {"auth": AUTH})
    assert as_body["auth"]["accessor"] == made["wrap_info"]["wrapped_accessor"]
    check(doubled.ask("POST", "sys/wrapping/unwrap", token=wrapping), ENVELOPE | {"auth": AUTH})
    with pytest.raises(Answered) as refused:
        doubled.ask("POST", "sys/wrapping/unwrap", token=wrapping)
    assert (refused.value.status, refused.value.document) == (400, {"errors": ["wrapping token is not valid or does not exist"]})


def test_kv_version_1(doubled: Vault) -> None:
    assert doubled.ask("POST", "kv/my-secret", {"foo": "bar", "ttl": "1h"}) is None
    found = doubled.ask("GET", "kv/my-secret")
    check(found, ENVELOPE | {"data": dict, "auth": NONE})
    assert (found["data"], found["lease_duration"], found["lease_id"]) == ({"foo": "bar", "ttl": "1h"}, 3600, "")
    doubled.ask("PUT", "kv/dir/inner", {"a": "b"})
    assert doubled.ask("LIST", "kv")["data"] == {"keys": ["dir/", "my-secret"]}
    assert doubled.ask("GET", "kv/?list=true")["data"] == {"keys": ["dir/", "my-secret"]}
    assert doubled.ask("DELETE", "kv/my-secret") is None
    with pytest.raises(Answered) as gone:
        doubled.ask("GET", "kv/my-secret")
    assert (gone.value.status, gone.value.document) == (404, {"errors": []})


def test_kv_version_2(doubled: Vault) -> None:
    check(doubled.ask("POST", "secret/data/my-secret", {"options": {"cas": 0}, "data": {"foo": "bar"}}), {"data": KV2_METADATA})
    with pytest.raises(Answered) as refused:
        doubled.ask("POST", "secret/data/my-secret", {"options": {"cas": 0}, "data": {"foo": "no"}})
    assert refused.value.status == 400
    doubled.ask("POST", "secret/data/my-secret", {"data": {"foo": "baz"}})
    found = doubled.ask("GET", "secret/data/my-secret?version=2")
    check(found, {"data": {"data": dict, "metadata": KV2_METADATA}})
    assert (found["data"]["data"], found["data"]["metadata"]["version"]) == ({"foo": "baz"}, 2)
    doubled.ask("POST", "secret/data/my-secret/inner", {"data": {}})
    assert doubled.ask("LIST", "secret/metadata/")["data"] == {"keys": ["my-secret", "my-secret/"]}
    of_version = {"created_time": TEXT, "deletion_time": TEXT, "destroyed": BOOL}
    check(
        doubled.ask("GET", "secret/metadata/my-secret"),
        {
            "data": {
                "cas_required": BOOL,
                "created_time": TEXT,
                "current_version": INT,
                "delete_version_after": TEXT,
                "max_versions": INT,
                "oldest_version": INT,
                "updated_time": TEXT,
                "custom_metadata": (dict, NONE),
                "versions": {"1": of_version, "2": of_version},
            }
        },
    )
    assert doubled.ask("DELETE", "secret/data/my-secret") is None
    with pytest.raises(Answered) as gone:
        doubled.ask("GET", "secret/data/my-secret")
    assert gone.value.status == 404
    check(gone.value.document, {"data": {"data": NONE, "metadata": KV2_METADATA}})


def test_credentials_of_a_database_and_their_lease(doubled: Vault) -> None:
    assert doubled.ask("POST", "database/roles/readonly", {"db_name": "mysql", "default_ttl": "1h", "max_ttl": "2h"}) is None
    found = doubled.ask("GET", "database/creds/readonly")
    check(found, ENVELOPE | {"data": {"username": TEXT, "password": TEXT}})
    assert found["lease_id"].startswith("database/creds/readonly/")
    assert (found["lease_duration"], found["renewable"]) == (3600, True)
    for method in ("POST", "PUT"):
        renewed = doubled.ask(method, "sys/leases/renew", {"lease_id": found["lease_id"], "increment": 1800})
        check(renewed, {"lease_id": TEXT, "renewable": BOOL, "lease_duration": INT})
        assert (renewed["lease_id"], renewed["lease_duration"]) == (found["lease_id"], 1800)
    looked_up = doubled.ask("POST", "sys/leases/lookup", {"lease_id": found["lease_id"]})["data"]
    check(looked_up, {"id": TEXT, "issue_time": TEXT, "expire_time": TEXT, "last_renewal_time": (TEXT, NONE), "renewable": BOOL, "ttl": INT})
    assert doubled.ask("POST", "sys/leases/revoke", {"lease_id": found["lease_id"]}) is None
    with pytest.raises(Answered) as gone:
        doubled.ask("POST", "sys/leases/renew", {"lease_id": found["lease_id"]})
    assert (gone.value.status, gone.value.document) == (400, {"errors": ["lease not found"]})


def test_login_by_approle(doubled: Vault) -> None:
    doubled.ask("POST", "auth/approle/role/drover", {"token_policies": ["web"], "token_ttl": "20m", "token_max_ttl": "30m"})
    role_id = doubled.ask("GET", "auth/approle/role/drover/role-id")["data"]["role_id"]
    made = doubled.ask("POST", "auth/approle/role/drover/secret-id", {})["data"]
    check(made, {"secret_id": TEXT, "secret_id_accessor": TEXT, "secret_id_ttl": INT, "secret_id_num_uses": INT})
    found = doubled.ask("POST", "auth/approle/login", {"role_id": role_id, "secret_id": made["secret_id"]}, token="")
    check(found, ENVELOPE | {"auth": AUTH, "data": NONE})
    assert (found["auth"]["lease_duration"], found["auth"]["policies"]) == (1200, ["default", "web"])
    with pytest.raises(Answered) as refused:
        doubled.ask("POST", "auth/approle/login", {"role_id": role_id, "secret_id": "wrong"}, token="")
    assert (refused.value.status, refused.value.document) == (400, {"errors": ["invalid secret id"]})


@pytest.mark.parametrize(
    ("how", "status"), [("active", 200), ("standby", 429), ("uninitialised", 501), ("sealed", 503)], ids=lambda v: str(v)
)
def test_health(double: Double, doubled: Vault, how: str, status: int) -> None:
    double.is_sealed = how == "sealed"
    double.is_initialised = how != "uninitialised"
    double.standby_of = "http://127.0.0.1:1" if how == "standby" else ""
    if status == 200:
        found = doubled.ask("GET", "sys/health", token="")
    else:
        with pytest.raises(Answered) as answered:
            doubled.ask("GET", "sys/health", token="")
        assert answered.value.status == status
        found = answered.value.document
    check(
        found,
        {
            "initialized": BOOL,
            "sealed": BOOL,
            "standby": BOOL,
            "performance_standby": BOOL,
            "replication_performance_mode": TEXT,
            "replication_dr_mode": TEXT,
            "server_time_utc": INT,
            "version": TEXT,
        },
    )
    if how in ("active", "standby"):
        check(found, {"cluster_name": TEXT, "cluster_id": TEXT})


def test_a_sealed_one_answers_nothing_else_until_it_is_unsealed(double: Double, doubled: Vault) -> None:
    assert doubled.ask("PUT", "sys/seal") is None
    with pytest.raises(Answered) as refused:
        doubled.ask("GET", "auth/token/lookup-self")
    assert (refused.value.status, refused.value.document) == (503, {"errors": ["Vault is sealed"]})
    found = doubled.ask("PUT", "sys/unseal", {"key": double.unseal_key}, token="")
    check(found, {"sealed": BOOL, "t": INT, "n": INT, "progress": INT, "version": TEXT, "nonce": TEXT, "initialized": BOOL})
    assert found["sealed"] is False
    assert doubled.ask("GET", "auth/token/lookup-self")["data"]["policies"] == ["root"]


def test_capabilities_of_the_own_token(doubled: Vault) -> None:
    doubled.policy("p", 'path "secret/foo" { capabilities = ["delete", "list", "read", "update"] }')
    found = doubled.ask("POST", "sys/capabilities-self", {"paths": ["secret/foo"]}, token=doubled.token("p").reveal())
    expected = ["delete", "list", "read", "update"]
    assert (found["capabilities"], found["secret/foo"]) == (expected, expected)
    denied = doubled.ask("POST", "sys/capabilities-self", {"paths": ["other", "secret/foo"]}, token=doubled.token("p").reveal())
    assert (denied["other"], denied["secret/foo"]) == (["deny"], expected)


def test_what_is_mounted_at_a_path(doubled: Vault) -> None:
    found = doubled.ask("GET", "sys/internal/ui/mounts/secret/some/path")
    check(found, ENVELOPE | {"data": {"path": TEXT, "type": TEXT, "options": (dict, NONE), "accessor": TEXT, "config": dict, "local": BOOL}})
    assert (found["data"]["path"], found["data"]["options"]) == ("secret/", {"version": "2"})
    assert doubled.ask("GET", "sys/internal/ui/mounts/database/creds/x")["data"]["options"] is None
    with pytest.raises(Answered) as refused:
        doubled.ask("GET", "sys/internal/ui/mounts/secret/x", token=doubled.token("default").reveal())
    assert refused.value.status == 403
    assert refused.value.document["errors"][0].startswith("preflight capability check returned 403")


@pytest.mark.parametrize(
    ("rules", "path", "expected"),
    [
        ('path "secret/*" { capabilities = ["read"] }', "secret/a/b", {"read"}),
        ('path "secret/*" { capabilities = ["read"] } path "secret/a" { capabilities = ["deny"] }', "secret/a", {"deny"}),
        ('path "secret/+/x" { capabilities = ["read"] }', "secret/a/x", {"read"}),
        ('path "secret/+/x" { capabilities = ["read"] }', "secret/a/b/x", {"deny"}),
        ('path "secret/*" { capabilities = ["read"] } path "secret/a/*" { capabilities = ["list"] }', "secret/a/b", {"list"}),
        ('path "secret/a*" { capabilities = ["read"] }', "secret/abc", {"read"}),
        ('path "secret/+/+/c" { capabilities = ["read"] } path "secret/a/*" { capabilities = ["list"] }', "secret/a/b/c", {"list"}),
        ('{"path": {"kv/x": {"capabilities": ["read"]}}}', "kv/x", {"read"}),
        ('# path "kv/x" { capabilities = ["read"] }', "kv/x", {"deny"}),
    ],
)
def test_policies_by_their_documented_rules(doubled: Vault, rules: str, path: str, expected: set[str]) -> None:
    doubled.policy("p", rules)
    found = doubled.ask("POST", "sys/capabilities-self", {"paths": [path]}, token=doubled.token("p").reveal())
    assert set(found[path]) == expected


def test_refusals(doubled: Vault) -> None:
    weak = doubled.token("default").reveal()
    for method, path, body, token, status, words in (
        ("GET", "secret/data/x", None, weak, 403, "permission denied"),
        ("GET", "secret/data/x", None, "", 400, "missing client token"),
        ("GET", "secret/data/x", None, "hvs.none", 403, "permission denied"),
        ("GET", "nowhere/x", None, None, 404, "no handler for route"),
        ("POST", "auth/token/create/none", {}, None, 400, "unknown role none"),
        ("GET", "database/creds/none", None, None, 400, "unknown role"),
        ("POST", "secret/data/x", {}, None, 400, "no data provided"),
    ):
        with pytest.raises(Answered) as refused:
            doubled.ask(method, path, body, token=token)
        assert refused.value.status == status
        assert words in refused.value.document["errors"][0]
