"""The agent's own log: as it is written, from whichever agent, in the form that is asked for, and without secrets."""

import json
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.api.http import ask
from tests.api.test_forwarding import Stream, data, frames
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \[(DEBUG|INFO|WARN|ERROR)\] +[\w.]+: .+")


@pytest.fixture(scope="module")
def quiet(one: Drover, consul: ConsulServer) -> Iterator[Drover]:
    """An agent that logs at WARN, in JSON, and neither leads nor runs tasks of others' tests."""
    with Drover(consul, name="quiet", server=False, log_level="WARN", settings="log_json = true") as drover:
        wait("its node", lambda: "quiet" in {n["Name"] for n in one.get("/v1/nodes") if n["Status"] == "ready"})
        yield drover


def make_noise(agent: Drover) -> None:
    """Something that the agent tells at DEBUG."""
    host, _, port = agent.address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"no HTTP at all\r\n\r\n")
        connection.recv(1000)


def test_a_log_is_streamed_at_the_level_that_is_asked_for(quiet: Drover) -> None:
    before = quiet.log
    with Stream(quiet.address, "/v1/agent/monitor?log_level=debug") as debug, Stream(quiet.address, "/v1/agent/monitor") as info:
        assert (debug.answer.status, debug.answer.getheader("Content-Type")) == (200, "application/json")
        make_noise(quiet)
        debug.until(lambda body: b"drover.http" in data(frames(body)))
        debug.until(lambda body: body.endswith(b"{}"))  # quiet for a second
        for line in data(frames(debug.body)).decode().splitlines():
            assert LINE.fullmatch(line), line
        info.until(lambda body: body.endswith(b"{}"))
        assert b"DEBUG" not in data(frames(info.body))
    assert quiet.log == before  # its own log says no more than it was told to


def test_the_agents_own_log_is_in_json_when_asked_for(one: Drover, consul: ConsulServer) -> None:
    with Drover(consul, name="json", server=False, settings="log_json = true") as agent:
        agent.terminate()
        lines = [json.loads(line) for line in agent.log.splitlines() if not line.startswith("==> ")]
        assert lines
        assert all({"@level", "@message", "@module", "@timestamp"} <= set(line) for line in lines)


def test_plain_lines_and_json_lines(quiet: Drover) -> None:
    with Stream(quiet.address, "/v1/agent/monitor?log_level=DEBUG&plain=true&log_json=true") as stream:
        assert stream.answer.getheader("Content-Type").startswith("text/plain")
        make_noise(quiet)
        stream.until(lambda body: b"drover.http" in body and body.endswith(b"\n"))
        for line in stream.body.decode().splitlines():
            assert set(json.loads(line)) == {"@level", "@message", "@module", "@timestamp"}


@pytest.mark.parametrize("asked", ["of itself", "of the leader", "of another"])
def test_another_agents_log_is_streamed_by_way_of_any(asked: str, one: Drover, two: Drover, quiet: Drover) -> None:
    address = {"of itself": quiet, "of the leader": one, "of another": two}[asked].address
    node = quiet.get("/v1/agent/self")["stats"]["client"]["node_id"]
    with Stream(address, f"/v1/agent/monitor?log_level=debug&log_json=true&node_id={node}") as stream:
        # Not before it listens: the stream has begun at its first heartbeat.
        stream.until(lambda body: b"{}" in body)
        make_noise(quiet)
        stream.until(lambda body: b"drover.http" in data(frames(body)))


@pytest.mark.parametrize("server", ["one", "one.global", "leader", "id"])
def test_a_servers_log_is_streamed_by_its_name(server: str, one: Drover, two: Drover) -> None:
    name = one.get("/v1/agent/members")["Members"][0]["Tags"]["id"] if server == "id" else server
    with Stream(two.address, f"/v1/agent/monitor?log_level=DEBUG&server_id={name}") as stream:
        stream.until(lambda body: b"{}" in body)
        make_noise(one)
        stream.until(lambda body: b"drover.http" in data(frames(body)))


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("log_level=loud", (400, "Unknown log level: loud")),
        ("node_id=x&server_id=y", (400, "Cannot target node and server simultaneously")),
        ("node_id=none", (404, 'Unknown node "none"')),
        ("server_id=none", (404, 'Unknown server "none"')),
    ],
)
def test_a_wrong_question_about_the_log_is_refused(query: str, error: tuple[int, str], one: Drover, two: Drover) -> None:
    for agent in (one, two):
        assert ask(agent.address, "GET", f"/v1/agent/monitor?{query}").error == error


def test_a_reader_that_takes_nothing_holds_nobody_up(quiet: Drover) -> None:
    with Stream(quiet.address, "/v1/agent/monitor?log_level=debug&plain=true") as stream:
        threads = [threading.Thread(target=lambda: [make_noise(quiet) for _ in range(150)]) for _ in range(10)]
        for thread in threads:
            thread.start()
        assert ask(quiet.address, "GET", "/v1/agent/health").took_s < 5
        for thread in threads:
            thread.join()
        stream.until(lambda body: body.count(b"drover.http") > 100)


SECRET = "0f1e2d3c-secret-token-of-the-test"


def test_no_token_ever_comes_into_a_log(one: Drover, two: Drover, consul: ConsulServer) -> None:
    before = {agent: len(agent.log) for agent in (one, two)}
    headers = {"X-Nomad-Token": SECRET, "X-Consul-Token": SECRET, "Authorization": f"Bearer {SECRET}"}
    with Stream(one.address, "/v1/agent/monitor?log_level=debug&plain=true") as stream:
        for agent in (one, two):
            for path in ("/v1/jobs", f"/v1/jobs?token={SECRET}", "/v1/none", "/v1/node/none", "/v1/client/fs/ls/none"):
                ask(agent.address, "GET", path, headers=headers)
            job = marking_job("secret", count=0) | {"ConsulToken": SECRET, "VaultToken": SECRET}
            ask(agent.address, "PUT", "/v1/jobs", body={"Job": job}, headers=headers)
            ask(agent.address, "PUT", "/v1/jobs", raw=b'{"Job": ' + SECRET.encode(), headers=headers)
            host, _, port = agent.address.rpartition(":")
            for sent in (
                f"GET /v1/jobs HTTP/1.1\r\nX-Nomad-Token {SECRET}\r\n\r\n",
                f"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Nomad-Token: {SECRET}\x00\r\n\r\n",
                f"X-Nomad-Token: {SECRET}\r\n\r\n",
                f"GET /v1/jobs?token={SECRET} HTTP/9.9\r\n\r\n",
            ):
                with socket.create_connection((host, int(port))) as connection:
                    connection.sendall(sent.encode())
                    connection.recv(1000)
        stream.until(lambda body: body.count(b"drover.http") >= 3)
        assert SECRET not in stream.body.decode()
    one.stop_job("secret", purge=True)
    wait("it is forgotten", lambda: "secret" not in [job["ID"] for job in one.get("/v1/jobs")])
    for agent, start in before.items():
        assert SECRET not in agent.log[start:]


def test_a_log_file_is_rotated_and_says_where_each_line_comes_from(consul: ConsulServer, one: Drover) -> None:
    with Drover(consul, name="files", server=False, client=True, log_level="DEBUG") as agent:
        agent.kill()
        log = agent.home / "agent.log"
        agent.config.write_text(
            agent.config.read_text()
            + f'log_file = "{log}"\nlog_rotate_bytes = 2000\nlog_rotate_max_files = 2\nlog_include_location = true\n'
        )
        agent.start()
        for _ in range(100):
            make_noise(agent)
        rotated = wait("rotated files", lambda: len(found := list(agent.home.glob("agent-*.log"))) == 2 and found)
        assert all(2000 <= path.stat().st_size < 3000 for path in rotated)
        assert re.search(r" \[DEBUG\] server\.py:\d+: drover\.http: ", rotated[0].read_text())
