"""How does a test run drover as its users do: real processes, a real Consul, the HTTP API and the command?

    with Drover(consul) as one, Drover(consul, server=False) as two:
        one.submit(sleep_job("web", count=3)); one.wait_running("web", 3)

A Drover is one `drover agent` process with a data_dir of its own that it keeps over kill() and start().
Closing it ends the process, then every task that it left running.
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from agent.data_dir import remove_data_dir
from tests.components.consul import ConsulServer, free_port

T = TypeVar("T")
NS = 1_000_000_000
# What any step may take on a busy machine before the test gives up.
WAIT_S_MAX = 30.0

_pause = threading.Event()


def wait(what: str, look: Callable[[], T | None], wait_s_max: float = WAIT_S_MAX) -> T:
    """Looks again every 20 ms until there is something; a test never sleeps for a guessed time."""
    deadline = time.monotonic() + wait_s_max
    last: object = None
    while time.monotonic() < deadline:
        try:
            found = look()
            if found:
                return found
            last = found
        except (OSError, http.client.HTTPException) as error:
            last = error
        _pause.wait(0.02)
    raise AssertionError(f"{what}: not seen within {wait_s_max} s; last: {last!r}")


def stays(what: str, look: Callable[[], bool], for_s: float) -> None:
    """Asserts that it holds for the whole span."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert look(), what
        _pause.wait(0.05)


def _dynamic_ports() -> range:
    """What tasks may get: of files that are tested at a time each process has a share, or two fleets on one machine would
    now and then choose the same."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = 12_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(20_000 + number * share, 20_000 + (number + 1) * share)


DYNAMIC_PORTS = _dynamic_ports()


class Answer(OSError):
    """The API answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status, self.text = status, text


def call(
    address: str,
    method: str,
    path: str,
    body: object = None,
    timeout_s: float = 30.0,
    *,
    token: str = "",
    tls: ssl.SSLContext | None = None,
) -> Any:
    """One HTTP call; the decoded answer."""
    connection = (
        http.client.HTTPConnection(address, timeout=timeout_s)
        if tls is None
        else http.client.HTTPSConnection(address, timeout=timeout_s, context=tls)
    )
    headers = {"X-Nomad-Token": token} if token else {}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        raw = answer.read()
    finally:
        connection.close()
    if answer.status >= 400:
        raise Answer(answer.status, raw.decode("utf-8", "replace"))
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode("utf-8", "replace")


class Drover:
    """One agent process. server, client: its roles. settings: more HCL for its configuration file. token, tls: how the
    test asks its API."""

    def __init__(
        self,
        consul: ConsulServer,
        *,
        name: str = "one",
        server: bool = True,
        client: bool = True,
        settings: str = "",
        server_settings: str = "",
        log_level: str = "INFO",
        token: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.consul = consul
        self.token, self.tls = token, tls
        self.node_id = self.own_token = ""  # where the test chose them
        self.name = name
        self.home = Path(tempfile.mkdtemp(prefix=f"drover-{name}-"))
        self.data_dir = self.home / "data"
        self.address = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None
        self.config = self.home / "agent.hcl"
        self.config.write_text(
            f"""
name = "{name}"
data_dir = "{self.data_dir}"
bind_addr = "127.0.0.1"
log_level = "{log_level}"
ports {{ http = {self.address.rpartition(":")[2]} }}
consul {{ address = "{consul.http_addr}" }}
server {{
  enabled = {str(server).lower()}
  {server_settings}
}}
client {{
  enabled = {str(client).lower()}
  min_dynamic_port = {DYNAMIC_PORTS[0]}
  max_dynamic_port = {DYNAMIC_PORTS[-1]}
}}
plugin "raw_exec" {{
  config {{ enabled = true }}
}}
{settings}
"""
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the process

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        path = self.home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self, *, is_ready: bool = True) -> None:
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "agent", "-config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        if is_ready:
            wait(f"{self.name}'s API", self._is_up)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"drover {self.name} ended with {self._process.returncode}:\n{self.log[-4000:]}")
        return bool(self.call("GET", "/v1/regions"))

    def kill(self) -> None:
        """SIGKILL, as a crash; its tasks live on."""
        self._end(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM, as an upgrade; returns the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(20)

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._end(signal.SIGKILL)
        for pid in self.task_pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        allocs = self.data_dir / "alloc"
        remove_cgroups({path.name for path in allocs.iterdir()} if allocs.is_dir() else set())
        remove_data_dir(self.data_dir)
        shutil.rmtree(self.home, ignore_errors=True)

    def task_pids(self) -> list[int]:
        """Every process below this agent's data_dir: tasks and their supervisors, however they came to be."""
        mark = str(self.data_dir).encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                with contextlib.suppress(OSError):
                    known = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
                    if mark in known and str(self.config).encode() not in known:
                        found.append(int(folder.name))
        return found

    # -- its API

    def call(self, method: str, path: str, body: object = None) -> Any:
        return call(self.address, method, path, body, token=self.token, tls=self.tls)

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def submit(self, job: Mapping[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.call("PUT", "/v1/jobs", {"Job": job})
        return answer

    def stop_job(self, job_id: str, *, purge: bool = False) -> None:
        self.call("DELETE", f"/v1/job/{job_id}?purge={str(purge).lower()}")

    def allocs(self, job_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/v1/job/{job_id}/allocations")
        return found

    def alloc(self, alloc_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/v1/allocation/{alloc_id}")
        return found

    def wait_ready(self, nodes: int = 1) -> None:
        wait(
            f"{nodes} ready nodes",
            lambda: sum(n["Status"] == "ready" for n in self.get("/v1/nodes")) >= nodes,
        )

    def running(self, job_id: str) -> list[dict[str, Any]]:
        return [
            a for a in self.allocs(job_id) if a["ClientStatus"] == "running" and a["DesiredStatus"] == "run"
        ]

    def wait_running(self, job_id: str, count: int, wait_s_max: float = WAIT_S_MAX) -> list[dict[str, Any]]:
        """The running allocs by name, once there are exactly `count`."""

        def look() -> list[dict[str, Any]] | None:
            found = self.running(job_id)
            return sorted(found, key=lambda a: str(a["Name"])) if len(found) == count else None

        return wait(f"{count} running allocs of {job_id}", look, wait_s_max)

    def task_dir(self, alloc_id: str, task: str = "t") -> Path:
        return self.data_dir / "alloc" / alloc_id / task

    def pids(self, alloc_id: str) -> list[int]:
        """The processes that a `marking` task of this alloc started as, in order."""
        path = self.task_dir(alloc_id) / "starts"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def run(self, *argv: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """One `drover` command against this agent."""
        token = {"NOMAD_TOKEN": self.token} if self.token else {}
        return drover(*argv, address=f"http{'s' if self.tls else ''}://{self.address}", environ=token)


def drover(
    *argv: str, address: str = "", cwd: Path | None = None, environ: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("NOMAD_", "CONSUL_"))} | dict(environ)
    if address:
        environ["NOMAD_ADDR"] = address
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *argv],
        capture_output=True,
        text=True,
        timeout=60,
        env=environ,
        cwd=cwd,
        check=False,
    )


def cgroups(allocs: set[str]) -> list[Path]:
    """The cgroups of these allocs' tasks, in whichever hierarchy."""
    mount = Path("/sys/fs/cgroup")
    found = [*mount.glob("drover/*.*.*"), *mount.glob("*/drover/*.*.*")]
    return [path for path in found if path.is_dir() and path.name.partition(".")[0] in allocs]


def remove_cgroups(allocs: set[str]) -> None:
    """Ends what still runs in them and removes them; a process in the kernel's hands is waited for."""
    for path in cgroups(allocs):

        def is_removed(path: Path = path) -> bool:
            for pid in (path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            path.rmdir()
            return True

        with contextlib.suppress(FileNotFoundError, AssertionError):
            wait(f"the end of {path.name}", is_removed, 10.0)


def is_alive(pid: int) -> bool:
    """Runs, and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rindex(")") + 2] not in "ZX"


# -- jobs


def job(job_id: str, command: str, args: Sequence[str], *, count: int = 1, **more: Any) -> dict[str, Any]:
    """A raw_exec job of one group `g` with one task `t`. more: fields of the task; `job`, `group`: of those."""
    of_job, of_group = more.pop("job", {}), more.pop("group", {})
    task = {
        "Name": "t",
        "Driver": "raw_exec",
        "Config": {"command": command, "args": list(args)},
        "Resources": {"CPU": 10, "MemoryMB": 16},
        "KillTimeout": 2 * NS,
        **more,
    }
    group = {"Name": "g", "Count": count, "Tasks": [task], **of_group}
    return {
        "ID": job_id,
        "Name": job_id,
        "Type": "service",
        "Datacenters": ["dc1"],
        "TaskGroups": [group],
        **of_job,
    }


def restart(attempts: int = 100, delay_s: float = 0.0, mode: str = "delay") -> dict[str, Any]:
    return {"Attempts": attempts, "Delay": int(delay_s * NS), "Interval": 3600 * NS, "Mode": mode}


def marking_job(job_id: str, *, count: int = 1, **more: Any) -> dict[str, Any]:
    """Sleeps for ever; each process start appends its pid to the file `starts` in the task's directory."""
    more.setdefault("group", {}).setdefault("RestartPolicy", restart())
    return job(job_id, "/bin/sh", ["-c", 'echo $$ >> starts; exec sleep 100000'], count=count, **more)


WEB = """
import http.server, os, pathlib, sys, time
with open("starts", "a") as f: f.write(f"{os.getpid()}\\n")
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        mode = pathlib.Path("mode")
        letters = mode.read_text().strip() if mode.exists() else "P"
        letter = letters[0]
        if len(letters) > 1: mode.write_text(letters[1:])
        if letter == "S": time.sleep(5)
        code = {"P": 200, "W": 429}.get(letter, 500)
        with open("served", "a") as f: f.write(f"{time.time():.4f} {os.getpid()} {code}\\n")
        self.send_response(code); self.send_header("Content-Length", "2"); self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["NOMAD_PORT_http"])), H).serve_forever()
"""


def web_job(
    job_id: str, check_restart: Mapping[str, Any] | None = None, *, count: int = 1, **more: Any
) -> dict[str, Any]:
    """Serves HTTP on its port `http`, with a Consul check each second. What it answers is told by the file
    `mode` in the task's directory: one letter a request, P passing, W warning, F failing, S slow; the last
    letter stays. Each answer is a line `time pid status` in `served`."""
    check = {
        "Name": "alive",
        "Type": "http",
        "Path": "/",
        "Interval": NS,
        "Timeout": NS,
        "CheckRestart": dict(check_restart) if check_restart else None,
        **more.pop("check", {}),
    }
    group = {
        "Networks": [{"DynamicPorts": [{"Label": "http"}]}],
        "RestartPolicy": restart(),
        "Services": [{"Name": job_id, "PortLabel": "http", "Checks": [check]}],
    }
    return job(job_id, sys.executable, ["-c", WEB], count=count, group=group, **more)


def served(task_dir: Path) -> list[tuple[float, int, int]]:
    """(moment, pid, status) of each request a web_job's task answered."""
    path = task_dir / "served"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(float(a), int(b), int(c)) for a, b, c in (line.split() for line in lines)]
