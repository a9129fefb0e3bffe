"""Hosts of a fleet with a Consul of their own, and Ansible as an operator runs it against them.

    three Consul servers and a client, ACLs default-deny ── one Docker network ── ansible-playbook by ssh
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.ansible.image import KEY, PROJECT, WHEELS, image
from tests.components import TOOLS
from tests.components.consul import MANAGEMENT
from tests.components.debian import only_one
from tests.e2e.drover import call, wait

# By what systemd as PID 1 runs with its own cgroups below a namespace of its own.
_BOOTS = (
    *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--security-opt", "seccomp=unconfined", "--cgroupns", "private"),
    *("--tmpfs", "/sys/fs/cgroup", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "-e", "container=docker"),
)
# Newer than what `make lint` has is not needed; these run with the Python that runs the tests.
_REQUIREMENTS = ("ansible-core>=2.15,<2.18", "ansible-lint>=24,<25")
PLAY_S = 1200


@dataclass(frozen=True, slots=True)
class Host:
    name: str
    container: str
    address: str

    def run(self, *command: str, check: bool = True, timeout_s: float = 120.0) -> str:
        """As root there; what it printed."""
        done = subprocess.run(["docker", "exec", self.container, *command], capture_output=True, text=True, timeout=timeout_s)
        assert not check or done.returncode == 0, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        subprocess.run(
            ["docker", "exec", "-i", self.container, "sh", "-c", f"mkdir -p $(dirname {path}) && cat > {path}"],
            input=text, text=True, check=True, timeout=60,
        )  # fmt: skip

    def consul(self, method: str, path: str, body: object = None) -> Any:
        token = f"{'&' if '?' in path else '?'}token={MANAGEMENT}"
        return call(f"{self.address}:8500", method, path + token, body)

    def drover(self, method: str, path: str, body: object = None) -> Any:
        return call(f"{self.address}:4646", method, path, body, token=MANAGEMENT)

    def pids(self, pattern: str) -> set[int]:
        """Processes there whose command line has it, with when each began."""
        return {int(pid) for pid in self.run("pgrep", "-f", pattern, check=False).split()}


@dataclass(frozen=True, slots=True)
class Played:
    """changed: tasks that changed something, by host. took_s: for all of it."""

    code: int
    output: str
    changed: Mapping[str, int]
    failed: Mapping[str, int]
    took_s: float

    def ok(self) -> Self:
        assert self.code == 0, self.output[-6000:]
        return self


@dataclass(slots=True)
class Fleet:
    """servers: how many of the hosts run a Consul server; the others a client agent. consul: more configuration for all."""

    home: Path
    names: tuple[str, ...] = ("one", "two", "three", "four")
    servers: int = 3
    consul: Mapping[str, Any] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    _mark: str = field(default_factory=lambda: f"drover-hosts-{uuid.uuid4().hex[:8]}")
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        docker("network", "create", self._mark)
        self._stack.callback(docker, "network", "rm", self._mark)
        for name in self.names:
            container = f"{self._mark}-{name}"
            docker("run", "-d", "-t", "--name", container, "--hostname", name, "--network", self._mark, *_BOOTS, "-v", f"{WHEELS}:/wheels:ro", image())
            self._stack.callback(docker, "rm", "-f", "-v", container)
            found = json.loads(docker("inspect", container))[0]
            self.hosts[name] = Host(name, container, found["NetworkSettings"]["Networks"][self._mark]["IPAddress"])
        servers = [host.address for host in [*self.hosts.values()][: self.servers]]
        for number, host in enumerate(self.hosts.values()):
            self._configure(host, servers, is_server=number < self.servers)
        for host in self.hosts.values():
            wait(f"Consul on {host.name}", lambda h=host: h.consul("GET", "/v1/status/leader"), 120.0)  # type: ignore[misc]
        first = next(iter(self.hosts.values()))
        wait("all of Consul", lambda: len(first.consul("GET", "/v1/catalog/nodes")) == len(self.hosts), 120.0)

    def _configure(self, host: Host, servers: list[str], *, is_server: bool) -> None:
        document = {
            "data_dir": "/var/lib/consul",
            "node_name": host.name,
            "bind_addr": host.address,
            "client_addr": "0.0.0.0",
            "retry_join": servers,
            "retry_interval": "1s",
            "leave_on_terminate": False,
            "server": is_server,
            "acl": {
                "enabled": True,
                "default_policy": "deny",
                "down_policy": "extend-cache",
                "tokens": {"agent": MANAGEMENT} | ({"master": MANAGEMENT} if is_server else {}),
            },
            **({"bootstrap_expect": self.servers} if is_server else {}),
            **self.consul,
        }
        wait(f"{host.name} to boot", lambda: host.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"), 120.0)
        host.write("/etc/consul.d/consul.json", json.dumps(document))
        host.run("systemctl", "reset-failed", "consul", check=False)
        host.run("systemctl", "restart", "consul")

    def play(self, playbook: str, *arguments: str, variables: Mapping[str, Any] | None = None) -> Played:
        """Runs one of the collection's playbooks on all hosts. A failure is told, not raised."""
        inventory = self.home / "inventory.json"
        of_all = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(KEY),
            "ansible_python_interpreter": "/usr/bin/python3",
            "drover_consul_management_token": MANAGEMENT,
            "drover_raw_exec_enable": True,
            **(variables or {}),
        }
        servers = {name: {"ansible_host": host.address, "drover_advertise_address": host.address} for name, host in self.hosts.items()}
        groups = {
            "drover_servers": {"vars": {"drover_node_role": "both"}, "hosts": dict([*servers.items()][: self.servers])},
            "drover_clients": {"hosts": dict([*servers.items()][self.servers :])},
        }
        inventory.write_text(json.dumps({"drover": {"vars": of_all, "children": groups}}))
        since = time.monotonic()
        done = subprocess.run(
            [tool("ansible-playbook"), "-i", inventory, f"drover.drover.{playbook}", *arguments],
            env=environment(), cwd=self.home, capture_output=True, text=True, timeout=PLAY_S,
        )  # fmt: skip
        output = done.stdout + done.stderr
        recap = re.findall(r"^(\w+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", output, re.MULTILINE)
        played = Played(
            code=done.returncode,
            output=output,
            changed={name: int(changed) for name, changed, _, _ in recap},
            failed={name: int(lost) + int(failed) for name, _, lost, failed in recap},
            took_s=time.monotonic() - since,
        )
        print(f"{playbook} {' '.join(arguments)}: {played.took_s:.0f} s, changed {dict(played.changed)}")
        return played


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def tool(name: str) -> Path:
    """ansible-playbook or ansible-lint, in a virtualenv of their own: no part of drover needs them."""
    home = TOOLS / "ansible"
    with only_one("ansible"):
        if not (home / "bin" / "ansible-lint").exists():
            subprocess.run([sys.executable, "-m", "venv", home], check=True, timeout=120)
            subprocess.run([home / "bin" / "pip", "install", "--quiet", *_REQUIREMENTS], check=True, timeout=900)
    return home / "bin" / name


def environment() -> dict[str, str]:
    """The collection as it stands here, and no trace of the user's own configuration of Ansible."""
    place = TOOLS / "collections" / "ansible_collections" / "drover"
    place.mkdir(parents=True, exist_ok=True)
    link = place / "drover"
    with suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(PROJECT / "ansible")
    config = TOOLS / "ansible.cfg"
    config.write_text("[defaults]\n")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PYTHONPATH"))},
        "ANSIBLE_COLLECTIONS_PATH": str(TOOLS / "collections"),
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_FORKS": "4",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_HOME": str(TOOLS / "ansible-home"),
        "PATH": f"{TOOLS / 'ansible' / 'bin'}:{os.environ['PATH']}",
    }


def wheel(version: str, into: Path, change: Callable[[Path], None] = lambda _: None) -> Path:
    """drover as it stands here, built under that version; change: what is done to its sources before."""
    sources = into / f"sources-{version}"
    shutil.copytree(PROJECT, sources, ignore=shutil.ignore_patterns(".*", "tests", "dist", "*.egg-info"))
    for name in ("pyproject.toml", "cli/main.py"):
        text = (sources / name).read_text()
        replaced = re.sub(r'^(version|VERSION) = "[^"]+"', rf'\1 = "{version}"', text, count=1, flags=re.MULTILINE)
        (sources / name).write_text(replaced)
    change(sources)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", into, sources], check=True, timeout=300)
    return next(into.glob(f"drover-{version}-*.whl"))
