"""Each fault that `drover doctor` is there for, made for real, and what it says of it."""

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from agent import tmpfs
from cli.doctor import machine
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, drover, marking_job, wait
from tests.vault.double import Double

pytestmark = [pytest.mark.consul]


@pytest.fixture(scope="module")
def consul() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[ConsulServer]:
    with or_skip(lambda: ConsulServer(acl=True).__enter__()) as server:
        yield server


def found(tmp_path: Path, address: str, more: str = "", *, is_candidate: bool = True) -> dict[str, dict[str, Any]]:
    """The findings by name; of several of a name the worst."""
    path = tmp_path / "agent.hcl"
    path.write_text(
        f"""
name = "n"
data_dir = "{tmp_path}/data"
bind_addr = "127.0.0.1"
ports {{ http = {_free()} }}
consul {{ address = "{address}" }}
server {{ enabled = {str(is_candidate).lower()} }}
client {{ enabled = true }}
{more}
"""
    )
    said = drover("doctor", "-config", str(path), "-json")
    shown = json.loads(said.stdout)
    assert said.returncode == {"ok": 0, "warning": 1, "failed": 2}[shown["Status"]]
    order = ["ok", "warning", "failed"]
    findings = sorted(shown["Findings"], key=lambda f: order.index(f["Status"]))
    assert all(bool(f["Remedy"]) == (f["Status"] != "ok") for f in findings)
    return {f["Name"]: f for f in findings} | {"policy": {"Text": shown["Policy"]}}


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_no_consul(tmp_path: Path) -> None:
    one = found(tmp_path, f"127.0.0.1:{_free()}")["consul"]
    assert one["Status"] == "failed"
    assert "no Consul agent answers" in one["Text"]
    assert "start Consul's agent" in one["Remedy"]


def test_a_consul_without_a_leader(tmp_path: Path) -> None:
    lonely = ConsulServer(servers=3)
    try:
        lonely.start(wait=False)
        wait("its agent", lambda: lonely.call("GET", "/v1/agent/self")[0] == 200)
        one = found(tmp_path, lonely.http_addr)["consul leader"]
        assert (one["Status"], "has no leader" in one["Text"]) == ("failed", True)
    finally:
        lonely.close()


def test_all_is_well_with_a_consul_without_acls(tmp_path: Path, consul: ConsulServer) -> None:
    said = found(tmp_path, consul.http_addr)
    for name in ("consul", "consul leader", "consul acl", "consul anti-entropy", "dns", "kernel", "data_dir", "port"):
        assert said[name]["Status"] == "ok", said[name]
    # This machine asks another resolver; what to do is said with Consul's port.
    assert said["dns forwarding"]["Status"] == "warning"
    assert f"127.0.0.1:{consul.dns_port}" in said["dns forwarding"]["Remedy"]


RIGHTS = {
    "kv": ('key_prefix "drover/state/" { policy = "write" }', 'key_prefix "drover/state/observed/n1/" { policy = "write" }'),
    "service": ('service_prefix "" { policy = "write" }', 'service "drover-agent" { policy = "write" }'),
    "session": ('session_prefix "" { policy = "write" }', 'session "server-1" { policy = "write" }'),
}
REST = 'node_prefix "" { policy = "read" } agent_prefix "" { policy = "read" }'


@pytest.mark.parametrize("missing", RIGHTS)
def test_a_token_without_a_right(tmp_path: Path, guarded: ConsulServer, missing: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "node-id").write_text("n1\n")
    token = guarded.make_token(f"without-{missing}", REST, *(rule for name, (rule, _) in RIGHTS.items() if name != missing))
    said = found(tmp_path, guarded.http_addr, f'consul {{ token = "{token}" }}')
    assert said["consul acl"]["Status"] == "failed"
    assert RIGHTS[missing][1] in said["policy"]["Text"]
    assert not any(rule in said["policy"]["Text"] for name, (_, rule) in RIGHTS.items() if name != missing)


def test_a_token_with_all_rights_and_one_that_is_none(tmp_path: Path, guarded: ConsulServer) -> None:
    token = guarded.make_token("all", REST, *(rule for rule, _ in RIGHTS.values()))
    assert found(tmp_path, guarded.http_addr, f'consul {{ token = "{token}" }}')["consul acl"]["Status"] == "ok"
    said = found(tmp_path, guarded.http_addr, 'consul { token = "99999999-2222-4333-8444-555555555555" }')
    assert (said["consul acl"]["Status"], "does not know drover's token" in said["consul acl"]["Text"]) == ("failed", True)


def test_an_agent_that_leaves_when_it_is_restarted(tmp_path: Path, consul: ConsulServer) -> None:
    with ConsulServer.client(consul, config={"leave_on_terminate": True}) as client:
        one = found(tmp_path, client.http_addr)["consul leave_on_terminate"]
        assert (one["Status"], '"leave_on_terminate": false' in one["Remedy"]) == ("warning", True)
    with ConsulServer.client(consul, node_name="client-2", config={"leave_on_terminate": False}) as client:
        assert found(tmp_path, client.http_addr)["consul leave_on_terminate"]["Status"] == "ok"


def test_docker_is_down(tmp_path: Path, consul: ConsulServer) -> None:
    endpoint = f'plugin "docker" {{\n config {{ endpoint = "unix://{tmp_path}/none.sock" }}\n}}'
    one = found(tmp_path, consul.http_addr, endpoint)["docker"]
    assert (one["Status"], "systemctl start docker" in one["Remedy"]) == ("warning", True)


def test_cgroups_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "find_hierarchy", lambda: None)
    (one,) = machine._cgroups()
    assert (one.outcome, "none can be made" in one.text, bool(one.remedy)) == ("failed", True, True)


def test_a_clock_that_is_off_by_a_minute(tmp_path: Path, consul: ConsulServer) -> None:
    class Late(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", formatdate(time.time() - 60, usegmt=True))
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Late)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    consul.call("PUT", "/v1/agent/service/register", {"Name": "drover-agent", "Address": "127.0.0.1", "Port": server.server_port})
    try:
        one = found(tmp_path, consul.http_addr)["clock"]
        assert one["Status"] == "failed"
        assert re.fullmatch(r"this machine's clock differs by \+6[01] s from 1 of 1 agents", one["Text"])
    finally:
        consul.call("PUT", "/v1/agent/service/deregister/drover-agent")
        server.shutdown()
        server.server_close()


def test_a_port_that_is_taken_and_one_that_drover_has(tmp_path: Path, consul: ConsulServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = found(tmp_path, consul.http_addr, f"ports {{ http = {port} }}")["port"]
        assert (one["Status"], f":{port}" in one["Remedy"]) == ("failed", True)
    with Drover(consul) as agent:
        agent.wait_ready()
        port = agent.address.rpartition(":")[2]
        said = found(tmp_path, consul.http_addr, f"ports {{ http = {port} }}")
        assert (said["port"]["Status"], said["fleet"]["Status"], said["clock"]["Status"]) == ("ok", "ok", "ok")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_data_dir_without_exec(tmp_path: Path, consul: ConsulServer) -> None:
    (tmp_path / "data").mkdir()
    tmpfs.mount(tmp_path / "data", mode=0o755, size_mb=8)
    try:
        one = found(tmp_path, consul.http_addr)["data_dir"]
        assert (one["Status"], "mounted noexec" in one["Text"]) == ("failed", True)
    finally:
        tmpfs.unmount(tmp_path / "data")


def test_vault_through_a_job_of_drovers(tmp_path: Path, consul: ConsulServer) -> None:
    with Double() as vault:
        block = f'vault {{ enabled = true address = "{vault.address}" token = "{vault.root}" }}'
        with Drover(consul, settings=block) as agent:
            agent.wait_ready()
            networks = [{"ReservedPorts": [{"Label": "v", "Value": vault.port}]}]
            agent.submit(marking_job("proxy", group={"Networks": networks}))
            port = agent.address.rpartition(":")[2]
            said = found(tmp_path, consul.http_addr, f"ports {{ http = {port} }}\n{block}")
            assert said["vault vault"]["Status"] == "ok"
            assert said["vault path"]["Status"] == "failed"
            assert 'is reached through job "proxy"' in said["vault path"]["Text"]
            agent.stop_job("proxy", purge=True)


def test_it_is_told_in_lines_and_leaves_nothing(tmp_path: Path) -> None:
    before = set(Path("/tmp").glob("drover-dev-*"))
    said = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m cli.main doctor', sys.executable],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert said.returncode in (1, 2)
    assert "      -> " in said.stdout
    assert set(Path("/tmp").glob("drover-dev-*")) <= before


def test_a_wrong_configuration_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "bad.hcl"
    path.write_text("datacentre = 1\n")
    said = drover("doctor", "-config", str(path))
    assert said.returncode == 2
    assert "FAIL  config: " in said.stdout
    with suppress(FileNotFoundError):
        path.unlink()
