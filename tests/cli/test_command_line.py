"""A wrong command line, an agent that is none, an output that cannot be written: one line each."""

import http.server
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Run, drover, environ, on_terminal
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, marking_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ((), "drover: the following arguments are required: COMMAND"),
        (("job",), "drover job: the following arguments are required: COMMAND"),
        (("job", "run"), "drover job run: the following arguments are required: FILE"),
        (("job", "run", "a", "b"), "drover: unrecognized arguments: b"),
        (("job", "run", "-nope", "a"), "drover: unrecognized arguments: -nope"),
        (("job", "run", "-det", "a"), "drover: unrecognized arguments: -det (did you mean -detach?)"),
        (
            ("job", "run", "-check-index", "x", "a"),
            "drover job run: argument -check-index/--check-index: invalid int value: 'x'",
        ),
        (("job", "status", "-address"), "drover job status: argument -address/--address: expected one argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line_is_one_line_and_where_to_look(argv: tuple[str, ...], line: str) -> None:
    done = drover(*argv)
    assert done.shown == (1, [], [line, f"See '{line.partition(':')[0]} -h'."])


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("jub",), "drover: unknown command 'jub' (did you mean 'job'?)"),
        (("job", "stauts"), "drover job: unknown command 'stauts' (did you mean 'status'?)"),
        (("job", "status", "-verbos"), "drover: unrecognized arguments: -verbos (did you mean -verbose?)"),
        (("leader", "xyz"), "drover leader: unknown command 'xyz' (known: step-down)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_was_mistyped_is_told_with_what_was_meant(argv: tuple[str, ...], line: str) -> None:
    assert drover(*argv).shown == (1, [], [line, f"See '{line.partition(':')[0]} -h'."])


def completed(line: str, address: str = "") -> list[str]:
    """What a shell would offer at the end of the line."""
    with tempfile.NamedTemporaryFile() as out:
        drover(_ARGCOMPLETE="1", _ARGCOMPLETE_STDOUT_FILENAME=out.name, COMP_LINE=line, COMP_POINT=str(len(line)), address=address)
        return sorted(word.strip() for word in out.read().decode().split("\x0b") if word.strip())


def test_a_shell_completes_commands_flags_and_ids(one: Drover, run: Run) -> None:
    one.submit(marking_job("completed", count=0))
    assert completed("drover deployment p") == ["pause", "promote"]
    assert completed("drover job stop -pu") == ["-purge"]
    assert completed("drover job status comp", one.address) == ["completed"]
    assert completed("drover job status comp", "127.0.0.1:1") == []
    assert any("complete " in line and line.endswith("drover") for line in run("completion", "bash").out)


def test_on_a_terminal_a_table_fits_and_states_have_colours(one: Drover, run: Run, tmp_path: Path) -> None:
    one.submit(marking_job("a-job-with-a-name-that-is-longer-than-this-terminal-is-wide", count=1))
    one.wait_running("a-job-with-a-name-that-is-longer-than-this-terminal-is-wide", 1)
    shown = on_terminal("job", "status", cwd=tmp_path, address=one.address, COLUMNS="64", TERM="xterm")
    assert "\x1b[32mrunning\x1b[0m" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(len(line) for line in plain.splitlines()) <= 64
    assert "…" in plain
    assert "\x1b[3" not in on_terminal("job", "status", "-no-color", cwd=tmp_path, address=one.address, TERM="xterm")


@pytest.mark.parametrize("argv", [("-version",), ("--version",), ("version",)], ids=" ".join)
def test_the_version_is_one_line(argv: tuple[str, ...]) -> None:
    assert drover(*argv).shown == (0, ["drover v0.1.0"], [])


# -- who is asked


# -- who is asked


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("http://127.0.0.1:1", "no drover agent answers at http://127.0.0.1:1: Connection refused"),
        ("127.0.0.1:1", "no drover agent answers at 127.0.0.1:1: Connection refused"),
        ("http://127.0.0.1:http", "address 'http://127.0.0.1:http' has no usable port (expected http://HOST:PORT)"),
        ("http://127.0.0.1:99999", "address 'http://127.0.0.1:99999' has no usable port (expected http://HOST:PORT)"),
        ("ftp://127.0.0.1", "address 'ftp://127.0.0.1' is not an HTTP URL (expected http://HOST:PORT)"),
        ("http://", "address 'http://' is not an HTTP URL (expected http://HOST:PORT)"),
    ],
)
def test_an_address_without_an_agent_is_named(address: str, line: str) -> None:
    assert drover("job", "status", "-address", address).shown == (1, [], [f"Error: {line}"])
    assert drover("job", "status", f"--address={address}").shown == (1, [], [f"Error: {line}"])
    assert drover("job", "status", NOMAD_ADDR=address).shown == (1, [], [f"Error: {line}"])


def test_a_flag_wins_over_the_environment(one: Drover) -> None:
    done = drover("server", "members", "-address", f"http://{one.address}", NOMAD_ADDR="http://127.0.0.1:1")
    assert (done.code, done.err) == (0, [])


def test_a_consul_in_place_of_an_agent_is_told_apart(consul: ConsulServer) -> None:
    address = f"http://{consul.http_addr}"
    assert drover("job", "status", "-address", address).shown == (
        1,
        [],
        [f"Error: {address} is not drover's API: it does not know /v1/jobs"],
    )


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000" if "short" in self.path else "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def page() -> Iterator[str]:
    """host:port of a web server that is no drover."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_page_in_place_of_an_agent_is_told_apart(page: str) -> None:
    done = drover("job", "status", address=page)
    assert (done.code, done.out, len(done.err)) == (1, [], 1)
    assert done.err[0].startswith(f"Error: http://{page} is not drover's API: ")


def test_an_answer_that_breaks_off_is_one_line(page: str) -> None:
    done = drover("job", "status", "short", address=page)
    assert (done.code, done.out, len(done.err)) == (1, [], 1)
    assert done.err[0].startswith(f"Error: http://{page} broke off its answer: ")


def test_a_token_that_no_header_can_hold_is_one_line(one: Drover) -> None:
    for token in ("a\nb", "…"):
        done = drover("job", "status", address=one.address, NOMAD_TOKEN=token)
        assert done.shown == (1, [], ["Error: the token holds characters that no token has"])


# -- where the output goes


def piped(argv: list[str], address: str, stdout: Any, **env: str) -> tuple[int | None, str]:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *argv],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environ(NOMAD_ADDR=f"http://{address}", **env),
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("argv", [["job", "status"], ["node", "status", "-json"], ["version"]], ids=" ".join)
def test_a_reader_that_left_is_no_error(argv: list[str], one: Drover) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert piped(argv, one.address, writer) == (0, "")
    finally:
        os.close(writer)


def test_a_full_disk_is_told(one: Drover) -> None:
    with open("/dev/full", "wb") as full:
        assert piped(["node", "status"], one.address, full) == (
            1,
            "Error: the output cannot be written: No space left on device\n",
        )


def test_a_terminal_without_unicode_gets_the_output_all_the_same(one: Drover, run: Run) -> None:
    one.submit({**marking_job("wéb"), "Name": "wéb"})
    done = run("job", "status", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (done.code, done.err) == (0, [])
    assert done.out[1].startswith("w\\xe9b")
