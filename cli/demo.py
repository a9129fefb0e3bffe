"""`make demo`: the whole way of a job on this machine, in half a minute.

Starts `drover agent -dev` (with the Consul that answers at CONSUL_HTTP_ADDR or 127.0.0.1:8500, else with
the embedded one), submits configs/jobs/demo.hcl, shows it healthy and found through Consul DNS, lets one
instance's check fail and kills another, and shows drover healing both. On a terminal it then keeps
running; otherwise it ends by itself and leaves nothing behind.
"""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import configs
from cli import local_consul
from model.errors import ConfigError

JOB = Path(__file__).parent.parent / "configs" / "jobs" / "demo.hcl"
SERVICE = "demo-web"
API = "127.0.0.1:4646"
# Far above what any step takes on a busy machine; the whole demo must stay under two minutes.
STEP_S_MAX = 40.0

T = TypeVar("T")


class DemoFailed(Exception):
    """A step did not happen."""


def say(text: str) -> None:
    print(text, flush=True)


def wait(what: str, look: Callable[[], T | None], wait_s_max: float = STEP_S_MAX) -> T:
    """Looks again until there is something to see."""
    deadline = time.monotonic() + wait_s_max
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, KeyError):
            found = look()
            if found:
                return found
        time.sleep(0.1)
    raise DemoFailed(f"{what}: not seen within {wait_s_max:.0f} s")


def get(address: str, path: str) -> Any:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status} {body[:200]!r}")
        return json.loads(body) if body[:1] in (b"{", b"[", b'"', b"n") else body.decode("utf-8", "replace")
    finally:
        connection.close()


class Agent:
    """The `drover agent -dev` process. Its output goes to a file, shown when it fails."""

    def __init__(self, data_dir: Path, environ: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self._log = data_dir / "agent.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "agent", "-dev", "-data-dir", str(data_dir / "data")],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=dict(environ),
            )

    def output(self) -> str:
        return self._log.read_text()

    def started(self) -> str | None:
        """The line with which it says where it listens."""
        if self.process.poll() is not None:
            raise DemoFailed(f"drover agent ended with {self.process.returncode}:\n{self.output()}")
        return next((line for line in self.output().splitlines() if line.startswith("==>")), None)

    def stop(self) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(5)


def healthy(consul: str) -> list[dict[str, Any]] | None:
    """The three instances, once all pass."""
    found: list[dict[str, Any]] = get(consul, f"/v1/health/service/{SERVICE}?passing=1")
    return found if len(found) == 3 else None


def dns(consul: str) -> None:
    """Asks Consul DNS for the service's SRV and A records."""
    from dnslib import DNSRecord

    own = get(consul, "/v1/agent/self")
    port = own.get("DebugConfig", {}).get("DNSPort", 8600)
    if not isinstance(port, int) or port <= 0:
        say("    this Consul's DNS is switched off")
        return
    host = consul.rpartition(":")[0]
    for kind in ("SRV", "A"):
        question = DNSRecord.question(f"{SERVICE}.service.consul", kind)

        def ask(question: Any = question) -> list[str] | None:
            answer = DNSRecord.parse(question.send(host, port, timeout=3))
            return [str(record.rdata) for record in answer.rr] or None

        for text in wait(f"{kind} records from Consul DNS", ask):
            say(f"    {SERVICE}.service.consul {kind:3} {text}")


def allocations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = get(API, "/v1/job/demo/allocations")
    return sorted((a for a in found if a["ClientStatus"] == "running"), key=lambda a: a["Name"])


def task(alloc_id: str) -> dict[str, Any]:
    state: dict[str, Any] = get(API, f"/v1/allocation/{alloc_id}")["TaskStates"]["web"]
    return state


def restarted(alloc_id: str, before: int) -> dict[str, Any] | None:
    state = task(alloc_id)
    return state if state["Restarts"] > before and state["State"] == "running" else None


def events(state: dict[str, Any], last: int) -> None:
    for event in state["Events"][-last:]:
        say(f"    {event['Type']:17} {event.get('DisplayMessage', '')}")


def age_s(state: dict[str, Any]) -> float:
    """How long the task's process has been running."""
    return (datetime.now(UTC) - datetime.fromisoformat(state["StartedAt"])).total_seconds()


def failing_answers(alloc_id: str) -> int:
    """How many checks the instance answered with 500, as its own log tells."""
    log: str = get(API, f"/v1/client/fs/logs/{alloc_id}?task=web&type=stderr&plain=true")
    return log.count('" 500 ')


def pid_of(alloc_id: str) -> int:
    """The task's process, found by its environment."""
    mark = f"NOMAD_ALLOC_ID={alloc_id}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                is_python = b"python" in (folder / "cmdline").read_bytes().split(b"\0")[0]
                if is_python and mark in (folder / "environ").read_bytes().split(b"\0"):
                    return int(folder.name)
    raise DemoFailed(f"no process of allocation {alloc_id}")


def play(agent: Agent) -> None:
    say(wait("the agent's start", agent.started))
    consul = agent.started() or ""
    consul = consul.rpartition(" ")[2]
    wait("a leader", lambda: get(API, "/v1/status/leader"))
    wait("this node", lambda: [n for n in get(API, "/v1/nodes") if n["Status"] == "ready"])

    say(f"\n--> drover job run {os.path.relpath(JOB)}")
    ran = subprocess.run([sys.executable, "-m", "cli.main", "job", "run", str(JOB)], check=False)
    if ran.returncode:
        raise DemoFailed(f"job run exited with {ran.returncode}")

    say("\n--> healthy in Consul")
    for one in wait("three healthy instances", lambda: healthy(consul)):
        service = one["Service"]
        say(f"    {service['ID'][-40:]:40}  {service['Address']}:{service['Port']}  passing")

    say("\n--> found through Consul DNS")
    dns(consul)

    first, second, _ = allocations()
    say(f"\n--> the check of {first['Name']} begins to fail (check_restart: limit 3)")
    before = task(first["ID"])["Restarts"]
    # Results within the check's grace (2 s from the process' start) do not count.
    wait("the grace to pass", lambda: age_s(task(first["ID"])) > 3.0)
    (agent.data_dir / "data" / "alloc" / first["ID"] / "web" / "local" / "fail").touch()
    state = wait("the restart by check_restart", lambda: restarted(first["ID"], before))
    events(state, 5)
    failures = failing_answers(first["ID"])
    say(f"    restarted after exactly {failures} failing checks")
    if failures != 3:
        raise DemoFailed(f"expected 3 failing checks, the instance answered {failures}")

    say(f"\n--> kill -9 the process of {second['Name']}")
    before = task(second["ID"])["Restarts"]
    os.kill(pid_of(second["ID"]), signal.SIGKILL)
    events(wait("the restart after the kill", lambda: restarted(second["ID"], before)), 3)

    wait("three healthy instances again", lambda: healthy(consul))
    say("\n--> all three healthy again")
    say(f"    API and `drover` commands: http://{API}   (try: drover job status demo)")


def environ() -> dict[str, str]:
    """This process' own, without a CONSUL_HTTP_ADDR at which nobody answers: to an agent that would be a mistake."""
    named = os.environ.get("CONSUL_HTTP_ADDR", "")
    if not named or asyncio.run(is_consul_there()):
        return dict(os.environ)
    say(f"    no Consul answers at CONSUL_HTTP_ADDR ({named})")
    return {name: value for name, value in os.environ.items() if name != "CONSUL_HTTP_ADDR"}


async def is_consul_there() -> bool:
    try:
        config = configs.load([], dev=True, overrides={"data_dir": tempfile.gettempdir()})
        return bool(await local_consul.found_at(local_consul.endpoint(config)))
    except ConfigError:
        return True  # for the agent to say what is wrong with it


def main() -> int:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 4646)) == 0:
            sys.stderr.write("something already listens on 127.0.0.1:4646: stop it and try again\n")
            return 1
    with tempfile.TemporaryDirectory(prefix="drover-demo-") as folder:
        agent = Agent(Path(folder), environ())
        code = 0
        try:
            play(agent)
            if sys.stdin.isatty() and sys.stdout.isatty():
                say("    Ctrl-C ends it.")
                agent.process.wait()
        except KeyboardInterrupt:
            say("")
        except DemoFailed as error:
            sys.stderr.write(f"demo failed: {error}\n--- agent's log ---\n{agent.output()[-4000:]}\n")
            code = 1
        except BrokenPipeError:  # whoever read along has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        finally:
            ended = agent.stop()
        return ended or code


if __name__ == "__main__":
    sys.exit(main())
