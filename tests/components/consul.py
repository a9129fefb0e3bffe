"""Where does a real Consul come from, and how does a test run one?

The binary: $DROVER_TEST_CONSUL, else `consul` on PATH, else Debian's 1.8.7 (the oldest version that
drover supports, so what passes here passes on later ones). A ConsulServer is one process, server or
client agent, on loopback with ports of its own; it keeps its data over stop() and start(), and ends
only the process it started.

    with ConsulServer() as consul: ...                          one server, its own leader
    with ConsulServer() as a, ConsulServer.client(a) as b: ...  a client agent joined to it
    with consul_cluster() as (a, b, c): ...                     three servers
"""

import atexit
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.components import ComponentMissing
from tests.components.debian import unpack

START_WAIT_S_MAX = 30.0  # a lone server has a leader after 1.5-3 s, three servers after 3-6 s
STOP_WAIT_S_MAX = 10.0
POLL_S = 0.03
# The token that may do everything, of a Consul with ACLs.
MANAGEMENT = "6d616e61-6765-4d65-8e74-000000000000"
# Below Linux's ephemeral range (from 32768), or an outgoing connection could take a port between its
# choice and Consul's bind, and below what drover gives to tasks.
PORTS = range(12_000, 20_000)
# Those that free_port() has told this process: the next one is another, though nothing is bound yet.
_told: set[int] = set()


def consul_binary() -> Path:
    """The consul to run; downloaded at the first call. Raises ComponentMissing."""
    named = os.environ.get("DROVER_TEST_CONSUL") or shutil.which("consul")
    if named:
        return Path(named)
    return unpack("consul", "bullseye") / "usr" / "bin" / "consul"


def free_port(address: str = "127.0.0.1") -> int:
    """A port that is free for TCP and UDP on `address` just now, and that it told nobody in this process before."""
    for _ in range(200):
        port = random.SystemRandom().choice(PORTS)
        if port in _told:
            continue
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
                tcp.bind((address, port))
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                    udp.bind((address, port))
        except OSError:
            continue
        _told.add(port)
        return port
    raise ComponentMissing(f"no free port on {address}")


class ConsulServer:
    """One Consul process (server, or client agent with server=False) on loopback.

    join: processes whose gossip pool it joins. join_wan: servers of another datacenter.
    servers: how many servers the cluster starts with. acl: default-deny, and MANAGEMENT may do everything. config: more Consul configuration, merged last.
    start() and stop() block: call them through asyncio.to_thread from an async test.
    """

    def __init__(
        self,
        *,
        node_name: str = "server-1",
        server: bool = True,
        servers: int = 1,
        datacenter: str = "dc1",
        join: Sequence["ConsulServer"] = (),
        join_wan: Sequence["ConsulServer"] = (),
        address: str = "127.0.0.1",
        acl: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.node_name = node_name
        self.datacenter = datacenter
        self.address = address
        self.is_server = server
        self._servers = servers
        self._join = tuple(join)
        self._join_wan = tuple(join_wan)
        self._config = dict(config or {})
        self.token = MANAGEMENT if acl else ""
        self._process: subprocess.Popen[bytes] | None = None
        self._home = Path(tempfile.mkdtemp(prefix="drover-consul-"))
        self.ports = {name: free_port(address) for name in ("http", "server", "serf_lan", "serf_wan", "dns")}

    @classmethod
    def client(cls, *servers: "ConsulServer", node_name: str = "client-1", **more: Any) -> Self:
        """A client agent joined to `servers`, in their datacenter."""
        return cls(node_name=node_name, server=False, join=servers, datacenter=servers[0].datacenter, **more)

    @property
    def http_addr(self) -> str:
        """host:port of the HTTP API, as in CONSUL_HTTP_ADDR."""
        return f"{self.address}:{self.ports['http']}"

    @property
    def url(self) -> str:
        return f"http://{self.http_addr}"

    @property
    def dns_port(self) -> int:
        """DNS over UDP and TCP, on self.address."""
        return self.ports["dns"]

    @property
    def serf_addr(self) -> str:
        return f"{self.address}:{self.ports['serf_lan']}"

    @property
    def serf_wan_addr(self) -> str:
        return f"{self.address}:{self.ports['serf_wan']}"

    @property
    def pid(self) -> int | None:
        """None when stopped."""
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        """What the process wrote so far, over all its starts."""
        path = self._home / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def data_dir(self) -> Path:
        """All that it would know after a restart."""
        return self._home / "data"

    def start(self, *, wait: bool = True) -> None:
        """Starts the process on the same data and ports; returns once it sees a leader (unless wait=False)."""
        if self._process is not None:
            return
        (self._home / "config.json").write_text(json.dumps(self._configuration()))
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [consul_binary(), "agent", f"-config-file={self._home / 'config.json'}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._home,
                start_new_session=True,  # Ctrl-C in the terminal is for pytest, which then stops us
            )
        atexit.register(self.close)
        if wait:
            self.wait_ready()

    def stop(self, *, kill: bool = False) -> None:
        """Ends the process, keeping its data: SIGTERM (a client leaves the cluster), or SIGKILL as a crash."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        process.send_signal(signal.SIGCONT)  # a paused process could not end
        try:
            process.wait(STOP_WAIT_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Freezes the process (SIGSTOP): its connections stay open and nothing answers once this returns."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)
            _, status = os.waitpid(self._process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status), "Consul ended instead"

    def resume(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends the process and removes its data."""
        self.stop(kill=True)
        atexit.unregister(self.close)
        shutil.rmtree(self._home, ignore_errors=True)

    def wait_ready(self, wait_s_max: float = START_WAIT_S_MAX) -> None:
        """Returns once a leader answers through this agent and its own node is in the catalog."""
        give_up_at = time.monotonic() + wait_s_max
        poll = threading.Event()
        while not self._is_ready():
            if self._process is None or self._process.poll() is not None:
                raise ComponentMissing(f"consul {self.node_name} ended:\n{self.log[-2000:]}")
            if time.monotonic() > give_up_at:
                raise ComponentMissing(f"consul {self.node_name} saw no leader:\n{self.log[-2000:]}")
            poll.wait(POLL_S)

    def _is_ready(self) -> bool:
        """`?consistent` asks the leader itself; serfHealth of our own node is what sessions bind to."""
        try:
            checks = self.call("GET", f"/v1/health/node/{self.node_name}?consistent", timeout_s=2.0)[1] or ()
        except (OSError, ValueError):
            return False
        return isinstance(checks, list) and any(check["CheckID"] == "serfHealth" and check["Status"] == "passing" for check in checks)

    def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None, timeout_s: float = 10.0
    ) -> tuple[int, Any]:
        """Status and answer (decoded where it is JSON, else its text). token: else the one that may do everything."""
        chosen = self.token if token is None else token
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Consul-Token": chosen} if chosen else {},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, raw = error.code, error.read()
        try:
            return status, json.loads(raw)
        except ValueError:
            return status, raw.decode(errors="replace")

    def make_token(self, name: str, *policies: str) -> str:
        """A new token with these rules (HCL)."""
        names = [f"{name}-{number}" for number in range(len(policies))]
        for policy, rules in zip(names, policies, strict=True):
            status, answer = self.call("PUT", "/v1/acl/policy", {"Name": policy, "Rules": rules})
            assert status == 200, answer
        document = {"Description": name, "Policies": [{"Name": policy} for policy in names]}
        status, answer = self.call("PUT", "/v1/acl/token", document)
        assert status == 200, answer
        return str(answer["SecretID"])

    def _configuration(self) -> dict[str, Any]:
        ports = dict(self.ports, grpc=-1)
        role: dict[str, Any] = {"server": self.is_server}
        if self.is_server:
            role["bootstrap_expect"] = self._servers
        else:
            ports["serf_wan"] = -1
        if self.token:
            role["acl"] = {
                "enabled": True,
                "default_policy": "deny",
                "down_policy": "extend-cache",
                "tokens": {"agent": self.token} | ({"master": self.token} if self.is_server else {}),
            }
        return {
            **role,
            "data_dir": str(self._home / "data"),
            "datacenter": self.datacenter,
            "node_name": self.node_name,
            "bind_addr": self.address,
            "client_addr": self.address,
            "advertise_addr": self.address,
            "retry_join": [peer.serf_addr for peer in self._join if peer is not self],
            "retry_join_wan": [peer.serf_wan_addr for peer in self._join_wan],
            "retry_interval": "1s",
            "retry_interval_wan": "1s",
            "performance": {"raft_multiplier": 1},
            "disable_update_check": True,
            "log_level": "info",
            "ports": ports,
            **self._config,
        }


@contextmanager
def consul_cluster(size: int = 3, datacenter: str = "dc1", **more: Any) -> Iterator[tuple[ConsulServer, ...]]:
    """`size` servers of one datacenter, all of which see the leader."""
    servers: list[ConsulServer] = []
    with ExitStack() as stack:
        for number in range(size):
            server = ConsulServer(
                node_name=f"server-{number + 1}",
                servers=size,
                datacenter=datacenter,
                join=tuple(servers),
                **more,
            )
            stack.callback(server.close)
            servers.append(server)
        for server in servers:
            server.start(wait=False)
        for server in servers:
            server.wait_ready()
        yield tuple(servers)
