"""An alloc's directory through the API: from any agent, as its node sees it, and nothing else of that machine."""

import base64
import io
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.http import ask
from tests.api.test_forwarding import Stream, data, frames
from tests.components.consul import ConsulServer
from tests.e2e.drover import Drover, job, marking_job, stays, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

THERE = {"Constraints": [{"LTarget": "${node.unique.name}", "RTarget": "two", "Operand": "="}]}


@pytest.fixture(params=["of the node", "of the leader", "of a third"])
def address(request: pytest.FixtureRequest, one: Drover, two: Drover, three: Drover) -> str:
    return {"of the node": two, "of the leader": one, "of a third": three}[request.param].address


@pytest.fixture(scope="module")
def three(one: Drover, two: Drover, consul: ConsulServer) -> Iterator[Drover]:
    with Drover(consul, name="three", server=False) as drover:
        one.wait_ready(3)
        yield drover


@pytest.fixture(scope="module")
def alloc(one: Drover, two: Drover) -> Iterator[str]:
    one.submit(marking_job("files", group=THERE))
    found: str = one.wait_running("files", 1)[0]["ID"]
    wait("its process", lambda: two.pids(found))
    yield found
    one.stop_job("files", purge=True)


@pytest.fixture
def local(alloc: str, two: Drover) -> Path:
    """The task's own directory, empty."""
    folder = two.task_dir(alloc) / "local"
    for path in folder.iterdir():
        path.unlink()
    return folder


def test_a_directory_is_listed(address: str, alloc: str, local: Path) -> None:
    (local / "b").write_bytes(b"12345")
    (local / "a").symlink_to("b")
    os.chmod(local / "b", 0o640)
    reply = ask(address, "GET", f"/v1/client/fs/ls/{alloc}?path=t/local")
    assert (reply.status, reply.kind, reply.state) == (200, "application/json", {})
    shown = [{name: value for name, value in info.items() if name != "ModTime"} for info in reply.json]
    assert shown == [
        {"FileMode": "Lrwxrwxrwx", "IsDir": False, "Name": "a", "Size": 1},
        {"FileMode": "-rw-r-----", "IsDir": False, "Name": "b", "Size": 5},
    ]
    assert all(info["ModTime"].endswith("Z") and info["ModTime"][10] == "T" for info in reply.json)
    root = ask(address, "GET", f"/v1/client/fs/ls/{alloc}").json
    assert [(info["Name"], info["IsDir"]) for info in root] == [("alloc", True), ("t", True)]
    (local / "b").unlink()
    (local / "a").unlink()
    assert ask(address, "GET", f"/v1/client/fs/ls/{alloc}?path=/t/local/").body == b"[]"


def test_a_file_is_described(address: str, alloc: str, local: Path) -> None:
    (local / "notes").write_text("text")
    found = ask(address, "GET", f"/v1/client/fs/stat/{alloc}?path=t/local/notes").json
    assert (found["Name"], found["Size"], found["IsDir"], found["ContentType"]) == ("notes", 4, False, "text/plain; charset=utf-8")
    assert ask(address, "GET", f"/v1/client/fs/stat/{alloc}?path=t/local").json["IsDir"] is True


def test_a_file_is_read_whole_and_in_parts(address: str, alloc: str, local: Path) -> None:
    content = os.urandom(300_000)
    (local / "file").write_bytes(content)
    reply = ask(address, "GET", f"/v1/client/fs/cat/{alloc}?path=/t/local/file")
    assert (reply.status, reply.kind, reply.body == content) == (200, "text/plain", True)
    assert reply.headers["X-Content-Type-Options"] == "nosniff"  # whatever a task writes is no web page of ours
    for offset, limit in ((0, 10), (299_990, 10), (299_990, 100), (100_000, 150_000), (300_000, 1), (400_000, 1), (5, 0)):
        query = f"path=t/local/file&offset={offset}&limit={limit}"
        assert ask(address, "GET", f"/v1/client/fs/readat/{alloc}?{query}").body == content[offset : offset + limit]
    assert ask(address, "GET", f"/v1/client/fs/readat/{alloc}?path=t/local/file&offset=299999").body == content[-1:]


@pytest.mark.parametrize("verb", ["cat", "readat"])
@pytest.mark.parametrize("path", ["../../../etc/passwd", "/../..", "t/local/link"])
def test_a_path_outside_is_answered_as_nomad_does(verb: str, path: str, address: str, alloc: str, local: Path) -> None:
    (local / "link").symlink_to("/etc/passwd")
    reply = ask(address, "GET", f"/v1/client/fs/{verb}/{alloc}?path={path}&offset=0&limit=100")
    assert (reply.status, reply.body) == (200, b"Path escapes the alloc directory")
    for other in ("ls", "stat", "stream"):
        assert ask(address, "GET", f"/v1/client/fs/{other}/{alloc}?path={path}").error == (400, "Path escapes the alloc directory")


@pytest.mark.parametrize("verb", ["cat", "readat"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none", b"stat none: no such file or directory"),
        ("t", b'file "t" is a directory'),
        ("t/local/fifo", b'file "t/local/fifo" is no regular file'),
    ],
)
def test_what_has_no_bytes_is_answered_in_words_at_once(
    verb: str, path: str, words: bytes, address: str, alloc: str, local: Path
) -> None:
    os.mkfifo(local / "fifo")
    reply = ask(address, "GET", f"/v1/client/fs/{verb}/{alloc}?path={path}&offset=0&limit=100")
    assert (reply.status, reply.body) == (200, words)
    assert reply.took_s < 5


def test_secrets_are_refused(address: str, alloc: str, local: Path) -> None:
    (local.parent / "secrets/key").write_text("secret")
    (local / "link").symlink_to("../secrets/key")
    for path in ("t/secrets/key", "t/local/../secrets/key", "t/local/link"):
        for verb in ("cat", "readat", "stream", "stat"):
            reply = ask(address, "GET", f"/v1/client/fs/{verb}/{alloc}?path={path}&offset=0&limit=9")
            assert reply.error == (403, f"Reading secret file prohibited: {path}")
    assert ask(address, "GET", f"/v1/client/fs/ls/{alloc}?path=t/secrets").error[0] == 403


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("stream/{}?path=none", (400, "stat none: no such file or directory")),
        ("stream/{}?path=t", (400, 'file "t" is a directory')),
        ("stream/{}?path=t/local/fifo", (400, 'file "t/local/fifo" is no regular file')),
        ("stat/{}?path=none", (404, "stat none: no such file or directory")),
        ("ls/{}?path=none", (404, "open none: no such file or directory")),
        ("ls/{}?path=t/starts", (400, "readdirent t/starts: not a directory")),
        ("stat/{}", (400, "must provide a file name")),
        ("cat/{}", (400, "must provide a file name")),
        ("stream/{}?path=t/starts&origin=middle", (400, "origin must be start or end")),
        ("readat/{}?path=t/starts&offset=x&limit=1", (400, "error parsing offset: not a number")),
        ("readat/{}?path=t/starts&offset=0&limit=1e3", (400, "error parsing limit: not a number")),
        ("ls/00000000-0000-4000-8000-000000000000", (404, 'Unknown allocation "00000000-0000-4000-8000-000000000000"')),
    ],
)
def test_a_wrong_question_is_refused_at_once(path: str, error: tuple[int, str], address: str, alloc: str, local: Path) -> None:
    os.mkfifo(local / "fifo")
    reply = ask(address, "GET", "/v1/client/fs/" + path.format(alloc))
    assert reply.error == error
    assert reply.took_s < 5


def test_a_streams_frames_name_file_and_offset(address: str, alloc: str, local: Path) -> None:
    (local / "file").write_bytes(b"0123456789")
    path = f"/v1/client/fs/stream/{alloc}?path=t/local/file&follow=false"
    for query, part in (("", b"0123456789"), ("&offset=4", b"456789"), ("&origin=end&offset=3", b"789"), ("&origin=end&offset=99", b"0123456789")):
        reply = ask(address, "GET", path + query)
        assert (reply.status, reply.kind) == (200, "application/json")
        assert frames(reply.body) == [{"Data": base64.b64encode(part).decode(), "File": "t/local/file", "Offset": 10}]
    assert ask(address, "GET", path + "&offset=10").body == b""


def test_a_follower_is_told_of_growth_truncation_and_the_end(address: str, alloc: str, local: Path) -> None:
    path = local / "grows"
    path.write_bytes(b"one\n")
    with Stream(address, f"/v1/client/fs/stream/{alloc}?path=t/local/grows") as stream:
        stream.until(lambda body: data(frames(body)) == b"one\n")
        stream.until(lambda body: body.endswith(b"{}"))
        with path.open("ab") as file:
            file.write(b"two\n")
        stream.until(lambda body: data(frames(body)) == b"one\ntwo\n")
        os.truncate(path, 0)
        stream.until(lambda body: b"file truncated" in body)
        with path.open("ab") as file:
            file.write(b"new\n")
        stream.until(lambda body: data(frames(body)) == b"one\ntwo\nnew\n")
        path.unlink()
        stream.body += stream.answer.read()  # raises unless the last chunk was sent
        events = [frame["FileEvent"] for frame in frames(stream.body) if "FileEvent" in frame]
        assert events == ["file truncated", "file deleted"]


def test_a_file_that_another_takes_the_place_of_is_told_as_deleted(address: str, alloc: str, local: Path) -> None:
    (local / "rotated").write_bytes(b"old")
    with Stream(address, f"/v1/client/fs/stream/{alloc}?path=t/local/rotated") as stream:
        stream.until(lambda body: data(frames(body)) == b"old")
        (local / "new").write_bytes(b"new")
        (local / "new").rename(local / "rotated")
        stream.body += stream.answer.read()
        assert (data(frames(stream.body)), frames(stream.body)[-1]["FileEvent"]) == (b"old", "file deleted")


def test_a_large_file_goes_to_a_slow_reader_in_little_memory(address: str, alloc: str, local: Path, two: Drover) -> None:
    with (local / "large").open("wb") as file:
        file.truncate(1 << 30)

    def memory_kb() -> int:
        text = Path(f"/proc/{two.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0])

    before = memory_kb()
    with Stream(address, f"/v1/client/fs/cat/{alloc}?path=t/local/large") as stream:
        stream.until(lambda body: len(body) > 1 << 20)
        stays("it waits", lambda: memory_kb() - before < 20_000, 1.0)
    with Stream(address, f"/v1/client/allocation/{alloc}/snapshot") as stream:
        stream.until(lambda body: len(body) > 1 << 20)
        stays("it waits", lambda: memory_kb() - before < 20_000, 1.0)
    (local / "large").unlink()
    begun = time.monotonic()
    assert ask(two.address, "GET", f"/v1/client/fs/stat/{alloc}?path=t").status == 200
    assert time.monotonic() - begun < 2


def test_a_snapshot_is_a_tar_of_what_the_alloc_would_take_along(address: str, alloc: str, local: Path, two: Drover) -> None:
    (local / "kept").write_text("mine")
    (local.parent / "secrets/key").write_text("secret")
    reply = ask(address, "GET", f"/v1/client/allocation/{alloc}/snapshot")
    assert (reply.status, reply.kind) == (200, "application/x-tar")
    with tarfile.open(fileobj=io.BytesIO(reply.body)) as tar:
        assert tar.getnames() == ["alloc/data", "t/local", "t/local/kept"]
        kept = tar.extractfile("t/local/kept")
        assert kept is not None
        assert kept.read() == b"mine"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_what_an_ended_alloc_left_is_removed_when_asked_for(method: str, address: str, alloc: str, one: Drover, two: Drover) -> None:
    one.submit(job("short", "/bin/true", [], group=THERE, job={"Type": "batch"}))
    ended = wait("its end", lambda: [a for a in one.allocs("short") if a["ClientStatus"] == "complete"])[0]["ID"]
    folder = two.data_dir / "alloc" / ended
    assert folder.exists()
    unfit = (409, "no such allocation on client, or allocation not eligible for GC")
    assert ask(address, method, f"/v1/client/allocation/{alloc}/gc").error == unfit
    reply = ask(address, method, f"/v1/client/allocation/{ended}/gc")
    assert (reply.status, reply.body) == (200, b"")
    assert not folder.exists()
    assert one.alloc(ended)["ClientStatus"] == "complete"
    one.stop_job("short", purge=True)
    wait("it is forgotten", lambda: not one.get("/v1/job/short/allocations"))


def test_a_node_removes_what_all_ended_allocs_left(address: str, alloc: str, one: Drover, two: Drover) -> None:
    one.submit(job("several", "/bin/true", [], count=3, group={**THERE, "Count": 3}, job={"Type": "batch"}))
    wait("their end", lambda: [a["ClientStatus"] for a in one.allocs("several")] == ["complete"] * 3)
    folders = [two.data_dir / "alloc" / a["ID"] for a in one.allocs("several")]
    node = one.allocs("several")[0]["NodeID"]
    assert all(folder.exists() for folder in folders)
    reply = ask(address, "PUT", f"/v1/client/gc?node_id={node}")
    assert (reply.status, reply.body) == (200, b"")
    assert not any(folder.exists() for folder in folders)
    assert (two.data_dir / "alloc" / alloc).exists()
    one.stop_job("several", purge=True)
    wait("they are forgotten", lambda: not one.get("/v1/job/several/allocations"))
