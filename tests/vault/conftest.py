"""Which Vault do these tests speak to? A real one where VAULT_ADDR and VAULT_TOKEN say so, else the test double.

The real one is written to below names that begin with `drover-test` only, and cleaned up; it is never sealed. What needs
more than that (its clock, slowness, seals, leases of a database) asks for `double` instead, and so runs without it only.
"""

import asyncio
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model.secret import Secret
from tests.components.certificates import Authority
from tests.vault.double import Double
from vault.client import Endpoint, VaultClient

KV1, KV2 = "drover-test-kv1", "drover-test-kv2"
REAL = bool(os.environ.get("VAULT_ADDR") and os.environ.get("VAULT_TOKEN"))


@dataclass(slots=True)
class Vault:
    """address, root: of the one under test. double: its controls; None for a real one."""

    address: str
    root: Secret
    double: Double | None = None
    ca_file: Path | None = None

    def client(self, **how: Any) -> VaultClient:
        return VaultClient(Endpoint(address=self.address, ca_file=self.ca_file, **how))

    def ask(self, method: str, path: str, body: object = None, *, token: str | None = None, headers: Mapping[str, str] = {}) -> Any:
        """The answer's document, as an operator gets it; None for an empty one. Raises Answered."""
        return call(self.address, method, path, body, token=self.root.reveal() if token is None else token, headers=headers, ca=self.ca_file)

    def policy(self, name: str, text: str) -> None:
        self.ask("PUT", f"sys/policies/acl/{name}", {"policy": text})

    def token(self, *policies: str, **how: object) -> Secret:
        return Secret(self.ask("POST", "auth/token/create", {"policies": list(policies), **how})["auth"]["client_token"])

    async def pass_time(self, span_s: float) -> None:
        """So long goes by for Vault; for the double without waiting."""
        if self.double is not None:
            self.double.advance(span_s)
        else:
            await asyncio.sleep(span_s)


class Answered(Exception):
    def __init__(self, status: int, document: Any) -> None:
        super().__init__(status, document)
        self.status, self.document = status, document


def call(
    address: str, method: str, path: str, body: object = None, *, token: str, headers: Mapping[str, str] = {}, ca: Path | None = None
) -> Any:
    request = urllib.request.Request(
        f"{address}/v1/{path}",
        None if body is None else json.dumps(body).encode(),
        {"X-Vault-Token": token, **headers} if token else dict(headers),
        method=method,
    )
    try:
        context = ssl.create_default_context(cafile=ca) if ca is not None else None
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            raw = answer.read()
    except urllib.error.HTTPError as error:
        with error:
            raw = error.read()
        raise Answered(error.code, json.loads(raw) if raw else None) from None
    return json.loads(raw) if raw else None


@pytest.fixture
def double() -> Iterator[Double]:
    with Double() as made:
        yield made


@pytest.fixture
def doubled(double: Double) -> Vault:
    """The double, whatever the environment says."""
    return Vault(double.address, Secret(double.root), double)


@pytest.fixture
def vault(request: pytest.FixtureRequest) -> Iterator[Vault]:
    """With both versions of KV mounted at KV1 and KV2, empty."""
    if REAL:
        ca = os.environ.get("VAULT_CACERT")
        made = Vault(os.environ["VAULT_ADDR"].rstrip("/"), Secret(os.environ["VAULT_TOKEN"]), ca_file=Path(ca) if ca else None)
    else:
        made = request.getfixturevalue("doubled")
    for mount, version in ((KV1, "1"), (KV2, "2")):
        made.ask("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": version}})
    yield made
    for mount in (KV1, KV2):
        made.ask("DELETE", f"sys/mounts/{mount}")


@pytest.fixture
def tls_double(tmp_path: Path) -> Iterator[tuple[Double, Authority]]:
    """The double behind a certificate of a CA of its own."""
    authority = Authority(tmp_path)
    pair = authority.sign("vault.internal", ("vault.internal",))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert, pair.key)
    with Double(context) as made:
        yield made, authority
