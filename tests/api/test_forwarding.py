"""What only a node itself can tell comes from that node, whoever is asked: logs, whole and as they grow."""

import base64
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.http import ask
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

# Prints numbered lines of ten bytes as the file `until` in its directory asks for; stops at none.
COUNTING = """
n=0
while :; do
  until=$(cat until 2>/dev/null || echo 3)
  while [ $n -lt $until ]; do printf 'line %04d\\n' $n; printf 'oops %04d\\n' $n >&2; n=$((n + 1)); done
  sleep 0.05
done
"""


def lines(first: int, last: int, word: str = "line") -> bytes:
    return b"".join(b"%s %04d\n" % (word.encode(), number) for number in range(first, last))


@pytest.fixture(params=["of the leader", "of another", "of a third"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover, three: Drover) -> str:
    return {"of the leader": one, "of another": two, "of a third": three}[request.param].address


@pytest.fixture(scope="module")
def three(one: Drover, two: Drover, consul: ConsulServer) -> Iterator[Drover]:
    """Neither leads nor runs tasks of these tests."""
    with Drover(consul, name="three", server=False) as drover:
        one.wait_ready(3)
        yield drover


@pytest.fixture(scope="module")
def talks(one: Drover, two: Drover) -> Iterator[str]:
    """An alloc on node two that has printed three lines; `say` makes it print more."""
    there = {"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "two", "Operand": "="}]}
    one.submit(job("talks", "/bin/sh", ["-c", COUNTING], group=there))
    alloc: str = one.wait_running("talks", 1)[0]["ID"]
    wait("its lines", lambda: log(two, alloc).exists() and log(two, alloc).read_bytes() == lines(0, 3))
    yield alloc
    one.stop_job("talks", purge=True)


def log(two: Drover, alloc: str, kind: str = "stdout") -> Path:
    return two.data_dir / "alloc" / alloc / "alloc" / "logs" / f"t.{kind}.0"


@pytest.fixture
def printed(talks: str, two: Drover) -> int:
    """How many lines there are."""
    path = two.task_dir(talks) / "until"
    return int(path.read_text()) if path.exists() else 3


def say(two: Drover, alloc: str, until: int) -> None:
    path = two.task_dir(alloc) / "until"
    path.with_suffix(".new").write_text(str(until))
    path.with_suffix(".new").rename(path)


def frames(body: bytes) -> list[dict[str, Any]]:
    """Concatenated JSON objects without anything in between."""
    found, text, at = [], body.decode(), 0
    while at < len(text):
        frame, at = json.JSONDecoder().raw_decode(text, at)
        found.append(frame)
    return found


def data(framed: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(frame.get("Data", "")) for frame in framed)


class Stream:
    """A log that is followed; `until` reads on until what has come satisfies."""

    def __init__(self, address: str, path: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=15)
        self._connection.request("GET", path)
        self.answer = self._connection.getresponse()
        self.body = b""

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def until(self, fact: Callable[[bytes], bool]) -> bytes:
        while not fact(self.body):
            chunk = self.answer.read1(65536)
            assert chunk, f"the stream ended after {self.body!r}"
            self.body += chunk
        return self.body


def test_logs_come_in_frames_that_name_file_and_offset(address: str, talks: str, printed: int) -> None:
    reply = ask(address, "GET", f"/v1/client/fs/logs/{talks}?task=t&type=stdout")
    assert (reply.status, reply.kind, reply.state) == (200, "application/json", {})
    assert frames(reply.body) == [
        {
            "Data": base64.b64encode(lines(0, printed)).decode(),
            "File": "alloc/logs/t.stdout.0",
            "Offset": 10 * printed,
        }
    ]


@pytest.mark.parametrize(("kind", "word"), [("stdout", "line"), ("stderr", "oops")])
def test_plain_logs_are_the_bytes_themselves(kind: str, word: str, address: str, talks: str, printed: int) -> None:
    reply = ask(address, "GET", f"/v1/client/fs/logs/{talks}?task=t&type={kind}&plain=true")
    assert (reply.status, reply.kind, reply.body) == (200, "text/plain", lines(0, printed, word))


@pytest.mark.parametrize(
    ("query", "skipped"),
    [
        ("origin=start&offset=0", 0),
        ("origin=start&offset=10", 10),
        ("offset=15", 15),
        ("origin=start&offset=100000", None),
        ("origin=end&offset=10", -10),
        ("origin=end&offset=25", -25),
        ("origin=end&offset=0", None),
        ("origin=end&offset=100000", 0),
    ],
)
def test_an_offset_counts_from_the_start_or_back_from_the_end(
    query: str, skipped: int | None, address: str, talks: str, printed: int
) -> None:
    whole = lines(0, printed)
    reply = ask(address, "GET", f"/v1/client/fs/logs/{talks}?task=t&type=stdout&plain=true&{query}")
    assert (reply.status, reply.body) == (200, b"" if skipped is None else whole[skipped:])


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("type=stdout", (400, "must provide task name")),
        ("task=t", (400, "must provide log type (stdout/stderr)")),
        ("task=t&type=both", (400, "must provide log type (stdout/stderr)")),
        ("task=t&type=stdout&origin=middle", (400, "origin must be start or end")),
        ("task=t&type=stdout&offset=x", (400, "error parsing offset: not a number")),
        ("task=u&type=stdout", (400, 'unknown task name "u"')),
        ("task=../../x&type=stdout", (400, 'unknown task name "../../x"')),
    ],
)
def test_a_wrong_question_about_logs_is_refused(query: str, error: tuple[int, str], address: str, talks: str) -> None:
    assert ask(address, "GET", f"/v1/client/fs/logs/{talks}?{query}").error == error


def test_a_follower_sees_each_line_soon_after_it_was_written_and_hears_that_it_is_connected(
    address: str, talks: str, printed: int, two: Drover
) -> None:
    with Stream(address, f"/v1/client/fs/logs/{talks}?task=t&type=stdout&follow=true") as stream:
        stream.until(lambda body: data(frames(body)) == lines(0, printed))
        stream.until(lambda body: body.endswith(b"{}"))  # quiet for a second
        say(two, talks, printed + 2)
        begun = time.monotonic()
        stream.until(lambda body: data(frames(body)) == lines(0, printed + 2))
        assert time.monotonic() - begun < 1.5
        newest = [frame for frame in frames(stream.body) if frame][-1]
        assert (newest["File"], newest["Offset"]) == ("alloc/logs/t.stdout.0", 10 * (printed + 2))


def test_a_plain_follower_sees_only_bytes(address: str, talks: str, printed: int, two: Drover) -> None:
    path = f"/v1/client/fs/logs/{talks}?task=t&type=stdout&follow=true&plain=true&origin=end&offset=10"
    with Stream(address, path) as stream:
        stream.until(lambda body: body == lines(printed - 1, printed))
        say(two, talks, printed + 1)
        stream.until(lambda body: body == lines(printed - 1, printed + 1))


def test_a_follower_of_a_job_that_is_purged_gets_a_whole_answer(address: str, one: Drover) -> None:
    there = {"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "two", "Operand": "="}]}
    one.submit(job("ends", "/bin/sh", ["-c", COUNTING], group=there))
    alloc = one.wait_running("ends", 1)[0]["ID"]
    with Stream(address, f"/v1/client/fs/logs/{alloc}?task=t&type=stdout&follow=true") as stream:
        stream.until(lambda body: data(frames(body)) == lines(0, 3))
        one.stop_job("ends", purge=True)
        stream.body += stream.answer.read()  # raises unless the last chunk was sent
        assert data(frames(stream.body)) == lines(0, 3)


def test_a_follower_whose_node_dies_is_told_by_the_end_of_its_connection(
    one: Drover, two: Drover, consul: ConsulServer
) -> None:
    with Drover(consul, name="dies", server=False) as dies:
        there = {"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "dies", "Operand": "="}]}
        one.submit(job("dies", "/bin/sh", ["-c", COUNTING], group=there))
        alloc = one.wait_running("dies", 1)[0]["ID"]
        with Stream(two.address, f"/v1/client/fs/logs/{alloc}?task=t&type=stdout&follow=true") as stream:
            stream.until(lambda body: data(frames(body)) == lines(0, 3))
            dies.kill()
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                stream.answer.read()
        one.stop_job("dies", purge=True)


def test_readers_who_left_a_quiet_log_leave_nothing_behind(talks: str, one: Drover, two: Drover, three: Drover) -> None:
    def connections() -> int:
        """Connections between the third agent, which is asked, and others: each open stream holds some."""
        folder = Path(f"/proc/{three.pid}/fd")
        return sum(1 for fd in folder.iterdir() if str(fd.readlink() if fd.is_symlink() else "").startswith("socket:"))

    path = f"/v1/client/fs/logs/{talks}?task=t&type=stdout&follow=true&plain=true&origin=end"
    before = connections()
    streams = [Stream(three.address, path) for _ in range(10)]
    assert connections() >= before + 15  # there and on to the next agent, over pooled connections if there are some
    for stream in streams:
        stream.__exit__()
    wait("all are gone", lambda: connections() <= before + 2)  # a pooled connection may be kept


def test_stats_come_from_the_node(address: str, talks: str) -> None:
    reply = ask(address, "GET", f"/v1/client/allocation/{talks}/stats")
    assert (reply.status, set(reply.json["Tasks"])) == (200, {"t"})
    assert reply.json["Tasks"]["t"]["ResourceUsage"]["MemoryStats"]["RSS"] > 0
    assert reply.json["ResourceUsage"] == reply.json["Tasks"]["t"]["ResourceUsage"]
    assert ask(address, "GET", f"/v1/client/allocation/{talks}/stats?task=other").json["Tasks"] == {}


def test_stats_of_the_machine_come_from_the_node_that_is_named(address: str, two: Drover) -> None:
    node = ask(two.address, "GET", "/v1/agent/self").json["stats"]["client"]["node_id"]
    for query in (f"?node_id={node}", ""):
        stats = ask(address, "GET", f"/v1/client/stats{query}").json
        assert len(stats["CPU"]) == os.cpu_count()
        assert all(0 <= cpu[kind] <= 100 for cpu in stats["CPU"] for kind in ("Idle", "System", "User", "Total"))
        assert stats["Memory"]["Total"] > stats["Memory"]["Available"] > 0
        assert stats["AllocDirStats"]["Size"] > stats["AllocDirStats"]["Used"] > 0
        assert stats["Uptime"] > 0
    assert ask(address, "GET", "/v1/client/stats?node_id=none").error == (404, 'Unknown node "none"')
