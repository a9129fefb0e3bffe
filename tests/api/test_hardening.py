"""What keeps one client from harming the others, and a web page of somebody else's from acting through a browser."""

import contextlib
import http.client
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping

import psutil
import pytest

from model.secret import Secret
from tests.api.conftest import Guarded
from tests.api.http import ask
from tests.components.consul import MANAGEMENT, ConsulServer
from tests.e2e.drover import Drover, job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

LIMITS = """
limits {
  http_max_conns_per_client = 10
  http_header_timeout = "1s"
  http_stall_timeout = "1s"
}
http_hosts = ["drover.example.org"]
"""


@pytest.fixture(scope="module")
def tight(consul: ConsulServer) -> Iterator[Drover]:
    """With limits that a test can wait for. Its state is its own, so that it leads."""
    with Drover(consul, name="tight", settings=f'{LIMITS}\nconsul {{ kv_path = "tight" }}') as drover:
        drover.wait_ready()
        yield drover


@contextlib.contextmanager
def _open(agent: Drover) -> Iterator[socket.socket]:
    host, _, port = agent.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=15) as connection:
        yield connection


def _is_ended(connection: socket.socket, within_s: float = 15.0) -> bool:
    """Whether the other side ends it, whatever it may say first."""
    connection.settimeout(within_s)
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


# -- slow clients


def test_headers_that_trickle_in_are_not_waited_for(tight: Drover) -> None:
    with _open(tight) as slow:
        begun_s = time.monotonic()
        slow.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError, TimeoutError):
            for _ in range(60):
                slow.settimeout(0.2)
                slow.sendall(b"X-A: b\r\n")
                with contextlib.suppress(TimeoutError):
                    if not slow.recv(1):
                        break
        assert 0.8 < time.monotonic() - begun_s < 5.0


def test_a_connection_that_says_nothing_is_closed(tight: Drover) -> None:
    with _open(tight) as silent:
        assert _is_ended(silent)


def test_a_body_that_does_not_come_is_not_waited_for(tight: Drover) -> None:
    with _open(tight) as slow:
        slow.sendall(b"PUT /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{")
        assert _is_ended(slow)


def test_a_slow_body_that_does_come_is_taken(tight: Drover) -> None:
    """Longer in all than the limit, which is for standing still."""
    body = b'{"JobHCL": "job \\"a\\" { datacenters = [\\"dc1\\"] }"}'
    with _open(tight) as slow:
        slow.sendall(f"PUT /v1/jobs/parse HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for at in range(0, len(body), 10):
            slow.sendall(body[at : at + 10])
            threading.Event().wait(0.5)
        slow.settimeout(5)
        assert slow.recv(12) == b"HTTP/1.1 200"


def test_a_waiting_call_outlives_the_limits(tight: Drover) -> None:
    index = ask(tight.address, "GET", "/v1/jobs").index
    reply = ask(tight.address, "GET", f"/v1/jobs?index={index}&wait=3s")
    assert (reply.status, reply.took_s > 2.9) == (200, True)


def test_a_reader_that_does_not_read_is_cut_off_in_bounded_time_and_memory(tight: Drover) -> None:
    """200 MB of a task's output, asked for and not read."""
    writes = ["-c", "head -c 200000000 /dev/zero; exec sleep 1000"]
    more = {"LogConfig": {"MaxFiles": 10, "MaxFileSizeMB": 100}, "job": {"Datacenters": ["dc1"]}, "group": {"EphemeralDisk": {"SizeMB": 2000}}}
    tight.submit(job("talks", "/bin/sh", writes, **more))
    (alloc,) = tight.wait_running("talks", 1)
    logs = tight.data_dir / "alloc" / alloc["ID"] / "alloc" / "logs"
    wait("its output", lambda: sum(path.stat().st_size for path in logs.glob("t.stdout.*")) >= 190_000_000)
    path = f"/v1/client/fs/logs/{alloc['ID']}?task=t&type=stdout&follow=true&origin=start"
    process = psutil.Process(tight.pid)
    before = process.memory_info().rss
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(_open(tight)) for _ in range(5)]
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait("their connections", lambda: _established(process, readers) == len(readers))
        wait("their end", lambda: _established(process, readers) == 0, 15.0)
        assert process.memory_info().rss - before < 30_000_000
    tight.stop_job("talks", purge=True)


def _established(process: psutil.Process, clients: list[socket.socket]) -> int:
    ports = {client.getsockname()[1] for client in clients}
    return sum(c.raddr != () and c.raddr.port in ports and c.status == psutil.CONN_ESTABLISHED for c in process.net_connections())


def test_connections_of_one_address_are_limited_and_freed(tight: Drover) -> None:
    def are_free() -> bool:
        with _open(tight) as one:
            one.sendall(b"GET /v1/agent/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return one.recv(12) == b"HTTP/1.1 200"

    with contextlib.ExitStack() as stack:
        # Idle ones that were of use once are not closed for a while.
        held = [stack.enter_context(_open(tight)) for _ in range(10)]
        for connection in held:
            connection.sendall(b"GET /v1/agent/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        with _open(tight) as one_more:
            one_more.sendall(b"GET /v1/agent/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one_more.recv(12) == b"HTTP/1.1 429"
            assert _is_ended(one_more)
    wait("room again", are_free)


def test_a_body_that_is_too_large_is_refused(tight: Drover) -> None:
    assert ask(tight.address, "PUT", "/v1/jobs", raw=b'{"Job": "' + b"x" * (9 << 20) + b'"}').status == 413


# -- browsers

HOSTS = {
    "": 200,
    "localhost": 200,
    "localhost:4646": 200,
    "127.0.0.1": 200,
    "[::1]:4646": 200,
    "[::1]": 200,
    "192.0.2.1:4646": 200,
    "tight": 200,
    "DROVER.example.org:80": 200,
    "drover.example.org.": 200,
    "drover-server.service.consul:4646": 200,
    "evil.example": 403,
    "evil.example:4646": 403,
    "drover.example.org.evil.example": 403,
    "evil-drover.example.org": 403,
    "127.0.0.1.evil.example": 403,
    "localhost.evil.example": 403,
    "consul.evil": 403,
    "evil.notconsul": 403,
    "evil.example.": 403,
    "node-7": 200,
}


@pytest.mark.parametrize(("host", "status"), HOSTS.items(), ids=HOSTS.keys())
def test_the_api_answers_under_its_own_names_only(tight: Drover, host: str, status: int) -> None:
    reply = ask(tight.address, "GET", "/v1/agent/health", headers={"Host": host})
    assert reply.status == status
    if status == 403:
        assert "http_hosts" in reply.error[1]


WRITES: dict[str, tuple[int, Mapping[str, str]]] = {
    "no page": (200, {}),
    "the same origin": (200, {"Origin": "http://{host}"}),
    "behind a proxy": (200, {"Origin": "https://drover.example.org", "Host": "drover.example.org"}),
    "a proxy that changes the host": (200, {"Origin": "https://drover.example.org"}),
    "another page": (403, {"Origin": "https://evil.example"}),
    "another port": (403, {"Origin": "http://127.0.0.1:1"}),
    "a page without an origin": (403, {"Origin": "null"}),
    "no origin told": (403, {"Sec-Fetch-Site": "cross-site"}),
    "its own script": (200, {"Sec-Fetch-Site": "same-origin", "X-Drover-UI": "1"}),
    "a form of its own": (403, {"Sec-Fetch-Site": "same-origin"}),
    "a name that looks alike": (403, {"Origin": "https://drover.example.org.evil.example"}),
    "a page on localhost": (403, {"Origin": "http://localhost:8080"}),
}


@pytest.mark.parametrize("case", WRITES)
def test_a_page_of_another_origin_changes_nothing(tight: Drover, case: str) -> None:
    status, headers = WRITES[case]
    sent = {name: value.format(host=tight.address) for name, value in headers.items()}
    for method in ("PUT", "POST"):
        assert ask(tight.address, method, "/v1/validate/job", body={"Job": {"ID": "a"}}, headers=sent).status == status
    assert ask(tight.address, "DELETE", "/v1/job/none", headers=sent).status == status
    assert ask(tight.address, "GET", "/v1/jobs", headers=sent).status == 200


def test_a_page_of_another_origin_opens_no_websocket(tight: Drover) -> None:
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Origin": "https://evil.example"}
    assert ask(tight.address, "GET", "/v1/jobs", headers=upgrade).status == 403


# -- guesses


def test_who_guesses_tokens_is_slowed_down_and_others_are_not(guarded: Guarded) -> None:
    good = {"X-Nomad-Token": MANAGEMENT}
    assert ask(guarded.two.address, "GET", "/v1/agent/self", headers=good).status == 200
    replies = [ask(guarded.two.address, "GET", "/v1/agent/self", headers={"X-Nomad-Token": str(uuid.uuid4())}) for _ in range(150)]
    assert {reply.status for reply in replies[:40]} == {403}
    assert 429 in {reply.status for reply in replies}
    assert next(r for r in replies if r.status == 429).error[1].startswith("too many calls")
    # What Consul said of a token lately holds, so whoever has a good one does not notice.
    assert ask(guarded.two.address, "GET", "/v1/agent/self", headers=good).status == 200
    wait("patience", lambda: ask(guarded.two.address, "GET", "/v1/agent/self", headers={"X-Nomad-Token": str(uuid.uuid4())}).status == 403)


def test_secrets_are_compared_and_shown_safely() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("ü\udcff") == Secret("ü\udcff")
    assert "hidden" not in f"{Secret('hidden')} {Secret('hidden')!r}"


def test_an_error_never_shows_what_was_sent_along(guarded: Guarded) -> None:
    """A call that fails on its way to a node."""
    connection = http.client.HTTPConnection(guarded.two.address, timeout=30)
    secret = "sesame-0000-1111"
    connection.request("PUT", "/v1/jobs", b'{"Job": 7}', {"Authorization": f"Bearer {secret}", "X-Consul-Token": secret})
    answer = connection.getresponse().read().decode()
    connection.close()
    for text in (answer, guarded.one.log, guarded.two.log):
        assert secret not in text
