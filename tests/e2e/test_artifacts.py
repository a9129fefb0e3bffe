"""Artifacts on real processes: a program that was fetched runs, and a killed agent leaves nothing half done."""

import hashlib
import io
import os
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.components import debian
from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Answer, Drover, job, restart, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

PROGRAM = b"#!/bin/sh\necho $$ >> starts\nread -r greeting < local/greeting; echo $greeting >> seen\nwhile :; do sleep 0.05; done\n"


@contextmanager
def served(files: dict[str, bytes], slow: Callable[[str], bool] = lambda path: False) -> Iterator[tuple[str, list[str]]]:
    """(address, paths that were asked for). slow: of these paths the second half does not come."""
    seen: list[str] = []
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            data = files.get(self.path)
            self.send_response(200 if data is not None else 404)
            self.send_header("Content-Length", f"{len(data or b'')}")
            self.end_headers()
            half = len(data or b"") // 2 if slow(self.path) else None
            self.wfile.write((data or b"")[:half])
            if half is not None:
                self.wfile.flush()
                is_over.wait(60)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="artifacts", args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        is_over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def archive() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in {"bin/program": PROGRAM, "conf/greeting.tpl": b'hello {{ env "NOMAD_TASK_NAME" }}\n'}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def artifact(source: str, **more: Any) -> dict[str, Any]:
    return {"GetterSource": source, **more}


def events(one: Drover, alloc: str) -> list[str]:
    state = (one.alloc(alloc).get("TaskStates") or {}).get("t") or {}
    return [f"{event['Type']}: {event['DisplayMessage']}" for event in state.get("Events") or ()]


def _alloc(one: Drover, job_id: str) -> str:
    return str(wait("its alloc", lambda: one.allocs(job_id))[0]["ID"])


def test_a_program_of_an_archive_runs_with_a_template_of_it(one: Drover) -> None:
    data = archive()
    template = {"SourcePath": "local/app/conf/greeting.tpl", "DestPath": "local/greeting"}
    with served({"/app.tgz": data}) as (url, seen):
        options = {"checksum": f"sha256:{hashlib.sha256(data).hexdigest()}"}
        fetched = artifact(f"{url}/app.tgz", RelativeDest="local/app", GetterOptions=options)
        one.submit(job("app", "app/bin/program", [], group={"RestartPolicy": restart()}, Artifacts=[fetched], Templates=[template]))
        alloc = one.wait_running("app", 1)[0]["ID"]
        wait("its start", lambda: one.pids(alloc))
        assert (one.task_dir(alloc) / "local/app/bin/program").stat().st_mode & 0o777 == 0o755
        wait("what it saw", lambda: (one.task_dir(alloc) / "seen").exists())
        assert (one.task_dir(alloc) / "seen").read_text() == "hello t\n"
        assert any("Client is downloading artifacts" in line for line in events(one, alloc))
        os.kill(one.pids(alloc)[0], 9)
        wait("its second start", lambda: len(one.pids(alloc)) == 2)
        one.kill()
        one.start()
        one.wait_running("app", 1)
        assert (len(one.pids(alloc)), seen) == (2, ["/app.tgz"])
    one.stop_job("app")


def test_an_agent_killed_amid_a_download_leaves_nothing_half_done_and_the_next_does_it_again(one: Drover) -> None:
    is_slow = True
    large = os.urandom(1 << 20)
    files = {"/large": large, "/program": PROGRAM, "/greeting": b"hello\n"}
    with served(files, lambda path: is_slow and path == "/large") as (url, seen):
        one.submit(job("killed", "program", [], group={"RestartPolicy": restart()}, Artifacts=[artifact(f"{url}{path}") for path in files]))
        alloc = _alloc(one, "killed")
        fetching = one.data_dir / "alloc/.fetching" / alloc / "t"
        wait("half of it", lambda: any(path.stat().st_size > 100_000 for path in fetching.glob("tries/*/file")))
        one.kill()
        assert list((one.task_dir(alloc) / "local").iterdir()) == []
        is_slow = False
        one.start()
        one.wait_running("killed", 1)
        wait("its start", lambda: one.pids(alloc))
        assert (one.task_dir(alloc) / "local/large").read_bytes() == large
        assert [path.name for path in fetching.iterdir()] == ["done"]
        assert seen.count("/large") == 2
    one.stop_job("killed")


def test_a_job_that_is_stopped_while_it_downloads_is_dead_at_once(one: Drover) -> None:
    with served({"/large": os.urandom(1 << 20)}, lambda path: True) as (url, seen):
        one.submit(job("stopped", "large", [], Artifacts=[artifact(f"{url}/large")]))
        alloc = _alloc(one, "stopped")
        wait("the question", lambda: seen)
        begun_s = time.monotonic()
        one.stop_job("stopped")
        wait("its end", lambda: one.alloc(alloc)["ClientStatus"] == "complete")
        assert time.monotonic() - begun_s < 5.0
        assert not list((one.data_dir / "alloc/.fetching" / alloc / "t").glob("tries/*"))


def test_what_cannot_be_fetched_is_told_where_one_looks_for_it(one: Drover) -> None:
    policy = restart(attempts=0, mode="fail")
    with served({"/file": b"it"}) as (url, seen):
        for name, source, words in (
            ("missing", f"{url}/none", "bad response code: 404"),
            ("broken", f"{url}/file?checksum=md5:{'0' * 32}", "Checksums did not match"),
        ):
            made = job(name, "/bin/true", [], job={"Type": "batch"}, group={"RestartPolicy": policy, "ReschedulePolicy": {"Attempts": 0}}, Artifacts=[artifact(source)])
            one.submit(made)
            alloc = _alloc(one, name)
            wait("its end", lambda alloc=alloc: one.alloc(alloc)["ClientStatus"] == "failed")
            assert any(line.startswith("Failed Artifact Download") and words in line for line in events(one, alloc)), events(one, alloc)
        assert seen == ["/none", "/file"]
    with pytest.raises(Answer, match="S3 is not supported by drover yet"):
        one.submit(job("bucket", "/bin/true", [], Artifacts=[artifact("s3::https://s3.amazonaws.com/b/k")]))


@pytest.mark.skipif(os.geteuid() != 0, reason="the exec driver needs root")
def test_a_program_runs_apart_from_the_machine(consul: ConsulServer) -> None:
    or_skip(lambda: debian.command("bwrap", "bubblewrap"))
    with Drover(consul, name="apart") as one, served({"/app.tgz": archive()}) as (url, _):
        one.wait_ready()
        fetched = artifact(f"{url}/app.tgz", RelativeDest="local/app", Chown=True)
        script = "#!/bin/sh\nstat -c %U /local/app/conf /local/app/bin/program\nsleep 600\n"
        template = {"EmbeddedTmpl": script, "DestPath": "local/start", "Perms": "644"}
        one.submit(job("apart", "start", [], group={"RestartPolicy": restart()}, Driver="exec", Artifacts=[fetched], Templates=[template]))
        alloc = one.wait_running("apart", 1)[0]["ID"]
        wait("what it saw", lambda: one.get(f"/v1/client/fs/logs/{alloc}?task=t&type=stdout&plain=true") == "nobody\nnobody\n")


@pytest.mark.docker
def test_a_container_sees_its_artifacts(one: Drover, docker_image: str) -> None:
    with served({"/app.tgz": archive()}) as (url, _):
        made = job("contained", "", [], group={"RestartPolicy": restart()}, Artifacts=[artifact(f"{url}/app.tgz", RelativeDest="/local/app"), artifact(f"{url}/app.tgz//conf", RelativeDest="${NOMAD_SECRETS_DIR}/conf")])
        task = made["TaskGroups"][0]["Tasks"][0]
        task["Driver"], task["Config"] = "docker", {"image": docker_image, "command": "/bin/sh", "args": ["-c", "cat /local/app/conf/* /secrets/conf/*; sleep 600"]}
        one.submit(made)
        alloc = one.wait_running("contained", 1, 60.0)[0]["ID"]
        line = 'hello {{ env "NOMAD_TASK_NAME" }}\n'
        wait("what it saw", lambda: one.get(f"/v1/client/fs/logs/{alloc}?task=t&type=stdout&plain=true") == line * 2)
    one.stop_job("contained")
    wait("its end", lambda: one.alloc(alloc)["ClientStatus"] == "complete")
