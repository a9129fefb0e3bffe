"""How does a test run one `drover` command and judge what came of it?"""

import http.client
import json
import os
import pty
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.components.consul import ConsulServer

ROOT = Path(__file__).parents[2]
# What of a processor a command may take to refuse its input; how long that is depends on what else the machine does.
REFUSAL_CPU_S_MAX = 5.0
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that ended. out, err: its lines. cpu_s: what of a processor it took."""

    code: int
    out: list[str]
    err: list[str]
    cpu_s: float

    @property
    def shown(self) -> tuple[int, list[str], list[str]]:
        return self.code, self.out, self.err


# One command in the test's directory against the package's agent.
Run = Callable[..., Done]


def environ(**more: str) -> dict[str, str]:
    """This process' environment without anything that speaks to drover, Nomad or Consul."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NOMAD_", "CONSUL_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TZ": "UTC", "COLUMNS": "200", **more}


def drover(*argv: str, cwd: Path | None = None, stdin: bytes = b"", address: str = "", **env: str) -> Done:
    """Runs `drover argv`. address: host:port for NOMAD_ADDR."""
    if address:
        env["NOMAD_ADDR"] = f"http://{address}"
    before_s = _children_cpu_s()
    ended = subprocess.run(
        [sys.executable, "-m", "cli.main", *argv],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=environ(**env),
        timeout=60,
        check=False,
    )
    return Done(
        code=ended.returncode,
        out=ended.stdout.decode().splitlines(),
        err=ended.stderr.decode().splitlines(),
        cpu_s=_children_cpu_s() - before_s,
    )


def _children_cpu_s() -> float:
    """Of all that this process has waited for the end of."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def on_terminal(*argv: str, cwd: Path, typed: bytes = b"", address: str = "", **more: str) -> str:
    """What the command writes to a terminal, what is typed there included."""
    env = environ(**({"NOMAD_ADDR": f"http://{address}"} if address else {}), **more)
    parent, child = pty.openpty()
    os.write(parent, typed)
    with subprocess.Popen([sys.executable, "-m", "cli.main", *argv], cwd=cwd, env=env, stdin=child, stdout=child, stderr=child) as process:
        os.close(child)
        read = b""
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:  # EIO: the last one closed it
                break
            if not part:
                break
            read += part
        process.wait(10)
    os.close(parent)
    return read.decode().replace("\r\n", "\n")


def refused(done: Done, *lines: str) -> None:
    """Exit 1, exactly these lines on stderr, nothing on stdout, soon."""
    assert (done.code, done.err, done.out) == (1, list(lines), [])
    assert done.cpu_s < REFUSAL_CPU_S_MAX


def keys(consul: ConsulServer) -> dict[str, int]:
    """{key: its ModifyIndex} of everything in Consul's KV."""
    connection = http.client.HTTPConnection(consul.http_addr, timeout=10)
    try:
        connection.request("GET", "/v1/kv/?recurse&consistent")
        raw = connection.getresponse().read()
    finally:
        connection.close()
    return {entry["Key"]: entry["ModifyIndex"] for entry in json.loads(raw)} if raw else {}


def masked(lines: list[str]) -> list[str]:
    """The lines with what differs from run to run replaced: ids, moments, spans."""
    return [mask(line) for line in lines]


def mask(line: str) -> str:
    line = _UUID.sub("<uuid>", line)
    line = re.sub(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d{4})", "<moment>", line)
    line = re.sub(r"\b(?:\d+[dhms]){1,2} ago\b( +(?=\S))?", lambda found: "<ago>  " if found[1] else "<ago>", line)
    return re.sub(r"(?<![0-9a-f-])[0-9a-f]{8}(?![0-9a-f-])", "<id>", line)


JOB = """job "NAME" {
  datacenters = ["dc1"]
  CONSTRAINT
  update {
    min_healthy_time = "300ms"
  }
  group "g" {
    count = 2
    task "t" {
      driver = "raw_exec"
      config {
        command = "/bin/sh"
        args    = ["-c", "echo one; echo two; echo three >&2; exec sleep 100000"]
      }
      resources {
        cpu    = 10
        memory = 16
      }
    }
  }
}
"""
NOWHERE = 'constraint {\n    attribute = "${attr.kernel.name}"\n    value     = "plan9"\n  }'


def file(folder: Path, name: str, constraint: str = "") -> str:
    path = folder / f"{name}.hcl"
    path.write_text(JOB.replace("NAME", name).replace("CONSTRAINT", constraint))
    return path.name


def placed(count: int = 2) -> list[str]:
    """What `job run` prints for `count` new allocs."""
    return [
        '==> Monitoring evaluation "<id>"',
        '    Evaluation triggered by job "web"',
        *['    Allocation "<id>" created: node "<id>", group "g"'] * count,
        '    Evaluation status changed: "pending" -> "complete"',
        '==> Evaluation "<id>" finished with status "complete"',
        *(['==> Monitoring deployment "<id>"', '==> Deployment "<id>" successful'] if count else []),
    ]


def without_progress(lines: list[str]) -> list[str]:
    """How far an evaluation, alloc or deployment was when it was looked at differs from run to run."""
    return [line for line in lines if " changed: " not in line and not _DEPLOYED.match(line)]


_DEPLOYED = re.compile(r"    (Deployment (is|completed) |Task Group +Desired |g +\d+ )")
