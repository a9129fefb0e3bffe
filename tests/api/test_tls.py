"""The API over TLS: who is believed, between agents and by the command, and how certificates are renewed."""

import http.client
import os
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.components.certificates import Authority, Pair
from tests.components.consul import ConsulServer, free_port
from tests.conftest import or_skip
from tests.e2e.drover import Answer, Drover, call, drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

ROLE = "server.global.nomad"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def _trusting(ca: Authority, client: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca.path)
    context.check_hostname = False  # as an agent does: the CA is the proof
    if client is not None:
        context.load_cert_chain(client.cert, client.key)
    return context


def _tls(ca: Authority, pair: Pair, more: str = "") -> str:
    return f'tls {{\n http = true\n ca_file = "{ca.path}"\n cert_file = "{pair.cert}"\n key_file = "{pair.key}"\n {more}\n}}'


@pytest.fixture(scope="module")
def own_consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as consul:
        yield consul


@pytest.fixture(scope="module")
def mutual(own_consul: ConsulServer, ca: Authority) -> Iterator[tuple[Drover, Drover, Pair]]:
    """`one` leads, `two` only runs tasks; certificates name roles as Nomad's do; clients need one."""
    one_pair, two_pair = ca.sign("one", [ROLE]), ca.sign("two", ["client.global.nomad"])
    person = ca.sign("person", [])
    how = "verify_https_client = true\n verify_server_hostname = true"
    asking = _trusting(ca, person)
    with (
        Drover(own_consul, settings=_tls(ca, one_pair, how), tls=asking) as one,
        Drover(own_consul, name="two", server=False, settings=_tls(ca, two_pair, how), tls=asking) as two,
    ):
        one.wait_ready(2)
        yield one, two, person


def test_agents_pass_calls_on_with_certificates_of_their_own(mutual: tuple[Drover, Drover, Pair], ca: Authority) -> None:
    one, two, person = mutual
    here = [{"LTarget": "${node.unique.name}", "Operand": "=", "RTarget": "two"}]
    two.submit(marking_job("far", group={"Constraints": here}))
    (alloc,) = one.wait_running("far", 1)
    assert one.get(f"/v1/client/fs/logs/{alloc['ID']}?task=t&type=stdout&plain=true") is None
    one.call("PUT", f"/v1/client/allocation/{alloc['ID']}/restart", {})
    environ = {"NOMAD_CACERT": str(ca.path), "NOMAD_CLIENT_CERT": str(person.cert), "NOMAD_CLIENT_KEY": str(person.key)}
    done = drover(
        "alloc", "exec", "-t=false", "-tls-server-name", ROLE, alloc["ID"], "echo", "over tls",
        address=f"https://{one.address}", environ=environ,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "over tls\n"), done.stderr
    assert {one.get(f"/v1/node/{node['ID']}")["TLSEnabled"] for node in two.get("/v1/nodes")} == {True}
    assert two.get("/v1/operator/lock")["Answers"] is True


def test_without_a_certificate_nobody_is_let_in(mutual: tuple[Drover, Drover, Pair], ca: Authority, tmp_path: Path) -> None:
    one, _, person = mutual
    with pytest.raises((ssl.SSLError, ConnectionError)):
        call(one.address, "GET", "/v1/jobs", tls=_trusting(ca))
    stranger = Authority(tmp_path, "stranger").sign("stranger", [])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        call(one.address, "GET", "/v1/jobs", tls=_trusting(ca, stranger))
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        call(one.address, "GET", "/v1/jobs")
    assert isinstance(call(one.address, "GET", "/v1/jobs", tls=_trusting(ca, person)), list)


def test_the_command_takes_flags_and_nomads_variables(mutual: tuple[Drover, Drover, Pair], ca: Authority) -> None:
    one, _, person = mutual
    address = f"https://{one.address}"
    flags = ["-ca-cert", str(ca.path), "-client-cert", str(person.cert), "-client-key", str(person.key)]
    done = drover("node", "status", *flags, "-tls-server-name", ROLE, address=address)
    assert (done.returncode, done.stderr) == (0, "")
    environ = {
        "NOMAD_CACERT": str(ca.path),
        "NOMAD_CLIENT_CERT": str(person.cert),
        "NOMAD_CLIENT_KEY": str(person.key),
        "NOMAD_TLS_SERVER_NAME": ROLE,
    }
    assert drover("node", "status", address=address, environ=environ).returncode == 0
    unverified = {name: value for name, value in environ.items() if "CLIENT" in name} | {"NOMAD_SKIP_VERIFY": "true"}
    assert drover("node", "status", address=address, environ=unverified).returncode == 0
    for wrong, words in (
        ({**environ, "NOMAD_TLS_SERVER_NAME": ""}, "certificate"),
        ({**environ, "NOMAD_TLS_SERVER_NAME": "client.global.nomad"}, "certificate"),
        ({**environ, "NOMAD_CACERT": ""}, "certificate"),
        ({**environ, "NOMAD_CACERT": "/nowhere"}, "TLS files cannot be used: No such file or directory"),
        ({**environ, "NOMAD_CLIENT_KEY": ""}, "-client-cert and -client-key belong together"),
    ):
        failed = drover("node", "status", address=address, environ=wrong)
        assert failed.returncode == 1
        assert words in failed.stderr.lower() or words in failed.stderr
        assert failed.stderr.count("\n") == 1


def test_who_leads_without_the_servers_name_is_not_believed(ca: Authority) -> None:
    """Its CA is the right one, and its certificate a client's."""
    pair = ca.sign("impostor", ["client.global.nomad", "127.0.0.1"])
    strict = _tls(ca, pair, "verify_server_hostname = true")
    with (
        or_skip(lambda: ConsulServer().__enter__()) as consul,
        Drover(consul, settings=_tls(ca, pair), tls=_trusting(ca)) as one,
        Drover(consul, name="two", server=False, settings=strict, tls=_trusting(ca)) as two,
    ):
        wait("a leader", lambda: one.get("/v1/status/leader"))
        assert isinstance(wait("its view", lambda: one.get("/v1/nodes")), list)
        with pytest.raises(Answer, match=r"500: agent at https://.* does not answer"):
            two.get("/v1/jobs")


def test_a_fleet_goes_over_to_tls_one_agent_at_a_time(own_consul: ConsulServer, mutual: tuple[Drover, Drover, Pair], ca: Authority) -> None:
    """An agent in the clear, which only knows the CA and has a certificate to show, asks the leader over TLS."""
    pair = ca.sign("old", ["client.global.nomad"])
    files = f'tls {{\n ca_file = "{ca.path}"\n cert_file = "{pair.cert}"\n key_file = "{pair.key}"\n}}'
    with Drover(own_consul, name="old", server=False, client=True, settings=files) as old:
        assert isinstance(old.get("/v1/jobs"), list)
        node = wait("its node", lambda: next((n for n in old.get("/v1/nodes") if n["Name"] == "old"), None))
        assert old.get(f"/v1/node/{node['ID']}")["TLSEnabled"] is False


def _serial(address: str) -> int:
    host, _, port = address.partition(":")
    text = ssl.get_server_certificate((host, int(port)))
    return x509.load_pem_x509_certificate(text.encode()).serial_number


def test_certificates_are_renewed_by_sighup_and_open_connections_live_on(own_consul: ConsulServer, ca: Authority, tmp_path: Path) -> None:
    old, new = ca.sign("before", ["127.0.0.1"]), ca.sign("after", ["127.0.0.1"])
    used = Pair(tmp_path / "cert.pem", tmp_path / "key.pem", old.serial)

    def put(pair: Pair) -> None:
        shutil.copy(pair.cert, used.cert)
        shutil.copy(pair.key, used.key)

    put(old)
    with Drover(own_consul, name="renewed", server=False, client=True, settings=_tls(ca, used), tls=_trusting(ca)) as agent:
        assert _serial(agent.address) == old.serial
        kept = http.client.HTTPSConnection(agent.address, context=_trusting(ca), timeout=10)
        kept.request("GET", "/v1/agent/health")
        assert kept.getresponse().read()
        put(new)
        os.kill(agent.pid, signal.SIGHUP)
        wait("the new certificate", lambda: _serial(agent.address) == new.serial)
        assert "TLS files read again" in agent.log
        used.key.write_text("no key at all")
        os.kill(agent.pid, signal.SIGHUP)
        wait("the refusal", lambda: "TLS files are as before" in agent.log)
        assert _serial(agent.address) == new.serial
        kept.request("GET", "/v1/agent/health")
        assert kept.getresponse().status == 200
        kept.close()


def test_a_handshake_that_does_not_come_is_given_up(own_consul: ConsulServer, ca: Authority) -> None:
    settings = _tls(ca, ca.sign("hasty", ["127.0.0.1"])) + '\nlimits { https_handshake_timeout = "1s" }'
    with Drover(own_consul, name="hasty", server=False, settings=settings, tls=_trusting(ca)) as agent:
        host, _, port = agent.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as silent:
            assert silent.recv(1) == b""


def test_files_that_cannot_be_used_are_told_at_the_start(own_consul: ConsulServer, ca: Authority, tmp_path: Path) -> None:
    pair, other = ca.sign("a", []), ca.sign("b", [])
    mixed = Pair(pair.cert, other.key, 0)
    with pytest.raises(AssertionError, match=r"tls: files cannot be used: (key values mismatch|.*MISMATCH)"):
        Drover(own_consul, name="broken", settings=_tls(ca, mixed)).__enter__()


def test_consul_is_spoken_to_over_tls_with_a_certificate_of_ones_own(ca: Authority) -> None:
    server, client = ca.sign("consul", ["127.0.0.1", "localhost"]), ca.sign("drover", [])
    files = {"ca_file": str(ca.path), "cert_file": str(server.cert), "key_file": str(server.key)}
    consul = ConsulServer(config={**files, "verify_incoming_https": True})
    consul.ports["https"] = free_port()
    with or_skip(consul.__enter__):
        more = (
            f'consul {{\n address = "127.0.0.1:{consul.ports["https"]}"\n ssl = true\n ca_file = "{ca.path}"\n'
            f' cert_file = "{client.cert}"\n key_file = "{client.key}"\n}}'
        )
        with Drover(consul, settings=more) as agent:
            agent.wait_ready()
            assert f"real Consul at 127.0.0.1:{consul.ports['https']}" in agent.log
            # The heartbeats go through it too: the lease outlives its TTL.
            agent.submit(marking_job("over-tls"))
            agent.wait_running("over-tls", 1)
