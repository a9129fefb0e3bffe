"""A whole life of jobs through a command line: Nomad's own where one is on PATH, or drover's, which has its words.

    python -m tests.clients.nomad_cli ADDRESS [PROGRAM]

Each step is a command, the exit code that it must have, and a pattern that its output must show. Steps stop at the
first that fails.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.drover import wait

JOB = """job "cli" {
  datacenters = ["dc1"]
  meta { version = "VERSION" }
  update {
    min_healthy_time = "100ms"
    canary           = CANARY
  }
  group "g" {
    count = 2
    task "t" {
      driver = "raw_exec"
      env { NUMBER = "VERSION" }
      config {
        command = "/bin/sh"
        args    = ["-c", "echo version VERSION; echo kept > local/file; exec sleep 100000"]
      }
      resources {
        cpu    = 10
        memory = 16
      }
    }
  }
}
"""
STEP_S_MAX = 60.0


@dataclass(slots=True)
class Cli:
    """One program against one agent. folder: where its files are."""

    program: Sequence[str]
    address: str
    folder: Path
    done: list[str] = field(default_factory=list)

    def __call__(self, *argv: str, code: int = 0, shows: str = "") -> str:
        """Runs one step; its output. Raises AssertionError with all that it said."""
        self.done.append(" ".join(argv))
        ended = subprocess.run(
            [*self.program, *argv],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "NOMAD_ADDR": f"http://{self.address}", "TERM": "dumb", "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_S_MAX,
            check=False,
        )
        said = f"{' '.join(argv)}: exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        assert ended.returncode == code, said
        assert re.search(shows, ended.stdout + ended.stderr, re.MULTILINE), f"{shows!r} not in {said}"
        return ended.stdout

    def job_file(self, version: int, canary: int = 0) -> str:
        name = f"cli-{version}.nomad"
        (self.folder / name).write_text(JOB.replace("VERSION", str(version)).replace("CANARY", str(canary)))
        return name


def drive(cli: Cli) -> None:
    """All steps."""
    first, second, third = cli.job_file(1), cli.job_file(2), cli.job_file(3, canary=1)
    cli("version", shows=r"v\d+\.\d+")
    cli("job", "validate", first, shows="[Vv]alid")
    cli("job", "plan", first, code=1, shows="Job Modify Index: 0")
    cli("job", "run", first, shows="successful|complete")
    cli("job", "plan", first, shows="Job Modify Index")
    cli("status", shows="cli +service")
    cli("job", "status", "cli", shows="running")
    cli("job", "inspect", "cli", shows='"ID": "cli"')
    cli("job", "run", "-check-index", "0", second, code=1, shows="Enforcing job modify index 0: job already exists")
    cli("job", "run", second, shows="successful|complete")
    cli("job", "history", "cli", shows=r"Version +(=|1)")
    cli("job", "revert", "-detach", "cli", "0", shows="Evaluation ID|[0-9a-f]{8}")
    wait("the revert is deployed", lambda: "successful" in cli("job", "deployments", "-latest", "cli"))
    cli("job", "scale", "-detach", "cli", "g", "3", shows="Evaluation ID|[0-9a-f]{8}")
    wait("three run", lambda: cli("job", "status", "cli").count(" running ") >= 3)
    cli("job", "eval", "-detach", "cli")
    cli("job", "nope", "cli", code=127 if cli.program[0].endswith("nomad") else 1)

    allocs = re.findall(r"^([0-9a-f]{8}) .* run +running", cli("job", "status", "cli"), re.MULTILINE)
    alloc = allocs[0]
    cli("alloc", "status", alloc, shows="Client Status += running")
    cli("alloc", "status", "-stats", alloc, shows="Task Resources|Memory")
    cli("alloc", "logs", alloc, shows="^version ")
    cli("alloc", "logs", "-tail", "-n", "1", alloc, "t", shows="^version ")
    cli("alloc", "fs", alloc, shows="alloc/")
    cli("alloc", "fs", alloc, "t/local/file", shows="^kept")
    cli("alloc", "fs", "-stat", alloc, "t/local/file", shows="5 B")
    cli("alloc", "exec", "-i=false", "-t=false", alloc, "/bin/sh", "-c", "echo told; exit 3", code=3, shows="^told")
    cli("alloc", "signal", "-s", "SIGUSR2", alloc)
    wait("it runs again", lambda: "running" in cli("alloc", "status", allocs[1]))
    cli("alloc", "restart", allocs[1])
    cli("alloc", "stop", "-detach", allocs[1])
    cli("alloc", "status", "00000000", code=1, shows="No allocation")

    node = re.findall(r"^([0-9a-f]{8}) ", cli("node", "status"), re.MULTILINE)[0]
    cli("node", "status", node, shows="Status += ready")
    cli("node", "status", "-self", shows="Status += ready")
    cli("node", "eligibility", "-disable", node)
    cli("node", "status", shows="ineligible")
    cli("node", "eligibility", "-enable", node)
    cli("node", "drain", "-enable", "-yes", "-deadline", "1s", node, shows="complete|drain")
    cli("node", "drain", "-disable", "-yes", node)

    cli("job", "run", "-detach", third)
    wait("its canary is healthy", lambda: bool(re.search(r"requires promotion|[Pp]romot", cli("job", "status", "cli"))))
    deployment = re.findall(r"^ID += ([0-9a-f]{8})", cli("job", "deployments", "-latest", "cli"), re.MULTILINE)[0]
    cli("deployment", "list", shows=deployment)
    cli("deployment", "status", deployment, shows="Status +=")
    cli("deployment", "pause", deployment)
    cli("deployment", "resume", "-detach", deployment)
    cli("job", "deployments", "cli", shows=deployment)
    wait("it may be promoted", lambda: _promoted(cli, deployment))
    wait("it is deployed", lambda: "successful" in cli("deployment", "status", deployment))

    evaluation = re.findall(r"^([0-9a-f]{8}) ", cli("job", "status", "-evals", "cli").partition("Evaluations")[2], re.MULTILINE)[0]
    cli("eval", "status", evaluation, shows="Status += complete")
    cli("status", evaluation, shows="complete")
    cli("namespace", "apply", "-description", "theirs", "team", shows="Successfully applied")
    cli("namespace", "list", shows="team +theirs")
    cli("namespace", "delete", "team", shows="Successfully deleted")
    cli("server", "members", shows="alive +true")
    cli("agent-info", shows="node_id|client")
    cli("operator", "raft", "list-peers", shows="leader")
    cli("operator", "snapshot", "save", "state.snap", shows="written|saved|Snapshot|state.snap")
    cli("scaling", "policy", "list")
    cli("operator", "metrics")
    cli("system", "gc")
    cli("system", "reconcile", "summaries")
    cli("job", "stop", "-purge", "-yes", "cli", shows="complete|finished")
    cli("job", "status", "cli", code=1, shows="No job")


def _promoted(cli: Cli, deployment: str) -> bool:
    try:
        cli("deployment", "promote", "-detach", deployment)
    except AssertionError:
        return False
    return True


def main() -> int:
    address, program = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else shutil.which("nomad")
    if program is None:
        sys.stderr.write("no nomad on PATH: name a program\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        cli = Cli([program], address, Path(folder))
        drive(cli)
    print(f"{len(cli.done)} commands went through")
    return 0


if __name__ == "__main__":
    sys.exit(main())
