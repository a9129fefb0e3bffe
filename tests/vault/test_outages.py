"""What does the client say of a Vault that is ill, and how soon? With the double only: it can be made ill.

Slowness is the double's own (it waits before it answers); its clock and its seals are, too.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.errors import VaultRefused, VaultUnavailable
from model.secret import Secret
from tests.components.certificates import Authority
from tests.vault.conftest import Vault
from tests.vault.double import Double
from vault.client import Endpoint, State, VaultClient


async def test_a_sealed_vault_is_told_apart_and_serves_again_once_unsealed(double: Double, doubled: Vault) -> None:
    double.put("kv/a", {"x": "y"})
    async with doubled.client() as client:
        double.seal()
        health = await client.health()
        assert (health.state, health.is_usable) == (State.SEALED, False)
        assert "vault operator unseal" in health.message
        with pytest.raises(VaultUnavailable, match="sealed"):
            await client.read(doubled.root, "kv/a")
        double.unseal()
        assert (await client.health()).state == State.ACTIVE
        assert await client.read(doubled.root, "kv/a") is not None


async def test_a_vault_that_takes_ten_seconds_is_too_slow_when_the_call_may_take_half_a_second(double: Double, doubled: Vault) -> None:
    double.slow_s = 10.0
    async with doubled.client(timeout_s=0.5) as client:
        began_s = time.monotonic()
        with pytest.raises(VaultUnavailable, match=r"took longer than 0\.5 s"):
            await client.read(doubled.root, "kv/a")
        assert (await client.health()).state == State.SLOW
        assert time.monotonic() - began_s < 2.0


async def test_a_vault_that_hangs_holds_up_nobody_else(double: Double, doubled: Vault) -> None:
    double.slow_s = 10.0
    with Double() as healthy:
        healthy.put("kv/a", {"x": "y"})
        async with doubled.client(timeout_s=1.0) as hanging, Vault(healthy.address, Secret(healthy.root)).client() as other:
            waiting = asyncio.gather(*(hanging.lookup_self(doubled.root) for _ in range(50)), return_exceptions=True)
            await asyncio.sleep(0.1)
            began_s = time.monotonic()
            assert await asyncio.to_thread(lambda: 1) == 1
            assert await other.read(Secret(healthy.root), "kv/a") is not None
            assert time.monotonic() - began_s < 0.8
            found = await waiting
            assert all(isinstance(one, VaultUnavailable) for one in found)
            assert sum(one.name.startswith("vault") for one in threading.enumerate()) <= 16
            assert time.monotonic() - began_s < 3.0


async def _until_revoked(double: Double) -> None:
    """The one token that was made, by whatever way."""
    async with asyncio.timeout(5):
        while not any(call.path.startswith("auth/token/revoke-") for call in double.calls):
            await asyncio.sleep(0.02)
        while len(double.tokens.by_id) > 1:  # the root's
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("wrap_ttl_s", [0.0, 60.0], ids=["plain", "wrapped"])
async def test_a_token_that_comes_too_late_is_revoked(double: Double, doubled: Vault, wrap_ttl_s: float) -> None:
    double.slow_paths["auth/token/create"] = 0.6
    wanted: dict[str, Any] = {"policies": ("default",), "display_name": "late", "metadata": {}, "ttl_s": 3600.0}

    async with doubled.client(timeout_s=0.3) as client:
        making = client.create_wrapped(doubled.root, **wanted, wrap_ttl_s=wrap_ttl_s) if wrap_ttl_s else client.create_token(doubled.root, **wanted)
        with pytest.raises(VaultUnavailable, match="took longer"):
            await making
        await _until_revoked(double)


async def test_a_token_whose_caller_has_gone_is_revoked(double: Double, doubled: Vault) -> None:
    double.slow_paths["auth/token/create"] = 0.3
    async with doubled.client(timeout_s=5.0) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.create_token(doubled.root, policies=("default",), display_name="gone", metadata={}, ttl_s=3600.0)
        await _until_revoked(double)


async def test_a_call_that_is_cancelled_ends_at_once(double: Double, doubled: Vault) -> None:
    double.slow_s = 10.0
    async with doubled.client(timeout_s=5.0) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.lookup_self(doubled.root)


async def test_nobody_there(doubled: Vault, double: Double) -> None:
    double.close()
    async with doubled.client() as client:
        with pytest.raises(VaultUnavailable, match="was not reached"):
            await client.lookup_self(doubled.root)
        health = await client.health()
        assert health.state == State.UNREACHABLE
        assert "Connection refused" in health.message
        assert client.contact_age_s is None


async def test_a_name_that_does_not_resolve() -> None:
    async with VaultClient(Endpoint(address="http://vault.invalid:8200")) as client:
        with pytest.raises(VaultUnavailable, match=r"Vault at http://vault.invalid:8200 was not reached"):
            await client.lookup_self(Secret("x"))


async def test_something_else_answers(double: Double, doubled: Vault) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.recv(65536)
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        async with VaultClient(Endpoint(address=f"http://127.0.0.1:{port}")) as client:
            health = await client.health()
            assert (health.state, "is not Vault" in health.message) == (State.UNREACHABLE, True)
            with pytest.raises(VaultUnavailable, match="with what is not Vault's"):
                await client.lookup_self(Secret("x"))
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


async def test_a_vault_that_fails_is_asked_again_until_it_answers(double: Double, doubled: Vault) -> None:
    double.failing = 503

    def heal() -> None:
        double.failing = 0

    asyncio.get_running_loop().call_later(0.05, heal)
    async with doubled.client() as client:
        assert (await client.lookup_self(doubled.root)).policies == ("root",)
        assert len(double.calls) >= 2


@pytest.mark.parametrize(("status", "calls"), [(500, 1), (502, 1), (503, 3), (429, 3)])
async def test_what_may_have_had_an_effect_is_not_sent_twice(double: Double, doubled: Vault, status: int, calls: int) -> None:
    double.failing = status
    async with doubled.client() as client:
        with pytest.raises(VaultUnavailable):
            await client.unwrap(Secret("hvs.any"))
        assert len(double.calls) == calls


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_what_has_no_effect_is_asked_three_times(double: Double, doubled: Vault, status: int) -> None:
    double.failing = status
    async with doubled.client() as client:
        with pytest.raises(VaultUnavailable, match=str(status)):
            await client.lookup_self(doubled.root)
        assert len(double.calls) == 3


async def test_a_vault_that_comes_back_on_its_port_is_found(double: Double, doubled: Vault) -> None:
    async with doubled.client() as client:
        await client.lookup_self(doubled.root)
        double.close()
        with pytest.raises(VaultUnavailable):
            await client.lookup_self(doubled.root)
        with double.reopened():
            assert (await client.lookup_self(doubled.root)).policies == ("root",)


async def test_an_uninitialised_one(double: Double, doubled: Vault) -> None:
    double.is_initialised = False
    async with doubled.client() as client:
        assert (await client.health()).state == State.UNINITIALISED


async def test_no_message_holds_a_token_or_what_was_written(double: Double, doubled: Vault) -> None:
    async with doubled.client(timeout_s=0.3) as client:
        async def messages() -> list[str]:
            found = []
            for call in (
                client.read(Secret("hvs.S3CRET"), "kv/a", ("password=S3CRET",)),
                client.read(Secret("hvs.S3CRET"), "kv/a"),
                client.login_approle("role", Secret("S3CRET")),
                client.unwrap(Secret("hvs.S3CRET")),
            ):
                with pytest.raises((VaultRefused, VaultUnavailable)) as raised:
                    await call
                error: BaseException | None = raised.value
                while error is not None:
                    found += [str(error), repr(error), repr(error.args)]
                    error = error.__cause__ or error.__context__
            return found

        said = await messages()
        double.failing = 500
        said += await messages()
        double.slow_s = 5.0
        said += await messages()
        double.close()
        said += await messages()
        assert not [text for text in said if "S3CRET" in text]


# ---- TLS


async def test_tls_with_a_ca_and_a_name_of_its_own(tls_double: tuple[Double, Authority]) -> None:
    double, authority = tls_double
    how = {"address": double.address, "ca_file": authority.path}
    async with VaultClient(Endpoint(**how, server_name="vault.internal")) as client:
        assert (await client.health()).state == State.ACTIVE
        assert (await client.lookup_self(Secret(double.root))).policies == ("root",)
    for refused, words in (
        (Endpoint(**how), "IP address mismatch"),
        (Endpoint(address=double.address, server_name="vault.internal"), "self-signed certificate|unable to get local issuer"),
        (Endpoint(**how, server_name="other.internal"), "[Hh]ostname mismatch"),
    ):
        async with VaultClient(refused) as client:
            health = await client.health()
            assert health.state == State.UNTRUSTED
            with pytest.raises(VaultUnavailable, match=words):
                await client.lookup_self(Secret(double.root))
    assert {call.display_name for call in double.calls} == {"", "root"}
    async with VaultClient(Endpoint(address=double.address, is_verified=False)) as client:
        assert (await client.health()).state == State.ACTIVE


async def test_a_ca_directory(tls_double: tuple[Double, Authority], tmp_path: Path) -> None:
    double, authority = tls_double
    folder = tmp_path / "cas"
    folder.mkdir()
    name = _hash(authority.path)
    (folder / f"{name}.0").write_bytes(authority.path.read_bytes())
    async with VaultClient(Endpoint(address=double.address, ca_path=folder, server_name="vault.internal")) as client:
        assert (await client.health()).state == State.ACTIVE


def _hash(certificate: Path) -> str:
    """As `openssl x509 -hash` names it."""
    import subprocess

    found = subprocess.run(["openssl", "x509", "-hash", "-noout", "-in", str(certificate)], check=True, capture_output=True, text=True)
    return found.stdout.strip()


@pytest.fixture
def mutual(tmp_path: Path) -> Iterator[tuple[Double, Authority]]:
    """A double that asks for certificates of its CA's."""
    authority = Authority(tmp_path)
    pair = authority.sign("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(pair.cert, pair.key)
    with Double(context) as made:
        yield made, authority


async def test_a_client_certificate_is_shown_and_renewed_in_place(mutual: tuple[Double, Authority], tmp_path: Path) -> None:
    double, authority = mutual
    theirs = Authority(tmp_path, "other")
    pair = theirs.sign("client")
    how = Endpoint(address=double.address, ca_file=authority.path, cert_file=pair.cert, key_file=pair.key)
    async with VaultClient(how) as client:
        assert not (await client.health()).is_usable
        authority.sign("client")  # the same files
        assert (await client.health()).is_usable


async def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    async with VaultClient(Endpoint(address="https://127.0.0.1:1", ca_file=tmp_path / "ca.pem")) as client:
        with pytest.raises(VaultUnavailable, match="TLS files"):
            await client.lookup_self(Secret("x"))


async def test_a_token_never_goes_from_https_to_http(tls_double: tuple[Double, Authority]) -> None:
    double, authority = tls_double
    with Double() as plain:
        double.standby_of = plain.address
        how = Endpoint(address=double.address, ca_file=authority.path, server_name="vault.internal")
        async with VaultClient(how) as client:
            with pytest.raises(VaultUnavailable, match="not sent in the clear"):
                await client.lookup_self(Secret(double.root))
        assert plain.calls == []


async def test_two_that_point_to_each_other(double: Double, doubled: Vault) -> None:
    with Double() as other:
        other.standby_of, double.standby_of = double.address, other.address
        async with doubled.client() as client:
            with pytest.raises(VaultUnavailable, match="from one address to the next"):
                await client.lookup_self(doubled.root)
