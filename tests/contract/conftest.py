"""The two Consuls under test, and raw HTTP to them.

`consul` is the target, embedded or real; `api` speaks to it. Both Consuls live for the whole run, so each
test keeps to names of its own: `api.name` is one that nobody else uses.
"""

import asyncio
import json
import random
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp
import pytest
from dnslib import DNSRecord

from catalog.embedded import ConsulAgent, ConsulState, DnsServer, HttpProber, HttpServer
from tests.components.consul import ConsulServer

WAIT_S_MAX = 8.0  # a real agent's anti-entropy takes some 10 ms; this only bounds a failing test


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a Consul answers."""

    kind: str
    url: str
    dns_port: int
    node_name: str


@pytest.fixture(scope="session")
def embedded_consul() -> Iterator[Target]:
    """The embedded Consul on a loop of its own thread: it outlives the loops of single tests."""
    ready = threading.Event()
    found: list[Target] = []
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(stopped.set))
        state = ConsulState(loop=loop, rng=random.Random(1))
        async with (
            HttpProber() as prober,
            ConsulAgent(state, "server-1", "127.0.0.1", prober=prober, is_server=True) as agent,
            HttpServer(agent, port=0) as http,
            DnsServer(agent, port=0) as dns,
        ):
            url = f"http://127.0.0.1:{http.port}"
            found.append(Target(kind="embedded", url=url, dns_port=dns.port, node_name="server-1"))
            ready.set()
            await stopped.wait()
        state.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="embedded consul")
    thread.start()
    ready.wait(WAIT_S_MAX)
    yield found[0]
    stop[0]()
    thread.join()


@pytest.fixture(scope="session", params=["embedded", pytest.param("real", marks=pytest.mark.consul)])
def consul(request: pytest.FixtureRequest) -> Target:
    if request.param == "embedded":
        target: Target = request.getfixturevalue("embedded_consul")
        return target
    return real_target(request.getfixturevalue("real_consul"))


def real_target(server: ConsulServer) -> Target:
    return Target(kind="real", url=server.url, dns_port=server.dns_port, node_name=server.node_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def index(self) -> int:
        return int(self.headers["X-Consul-Index"])


class Api:
    """Raw HTTP and DNS to one target."""

    is_entered_by_test = True

    def __init__(self, target: Target) -> None:
        self.target = target
        self.name = f"t{uuid.uuid4().hex[:12]}"
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def key(self) -> str:
        """A path in the KV store that is this test's own."""
        return f"/v1/kv/{self.name}"

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """path may hold a query; body: bytes and text as they are, anything else as JSON."""
        assert self._session is not None
        data = body if isinstance(body, str | bytes) or body is None else json.dumps(body)
        async with self._session.request(
            method, self.target.url + path, data=data, headers=headers, allow_redirects=False
        ) as answer:
            return Answer(status=answer.status, headers=answer.headers.copy(), body=await answer.read())

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.call("GET", path, headers=headers)

    async def put(self, path: str, body: object = None) -> Answer:
        return await self.call("PUT", path, body)

    async def delete(self, path: str) -> Answer:
        return await self.call("DELETE", path)

    async def txn(self, *ops: Mapping[str, Any]) -> Answer:
        return await self.put("/v1/txn", [{"KV": op} for op in ops])

    async def session(self, **fields: Any) -> str:
        answer = await self.put("/v1/session/create", fields)
        assert answer.status == 200, answer.text
        return str(answer.json["ID"])

    async def service(self, **fields: Any) -> None:
        """Registers on the agent and waits until the catalog has it, with its tags and checks."""
        answer = await self.put("/v1/agent/service/register", fields)
        assert answer.status == 200, answer.text
        await eventually(lambda: self._is_synced(fields))

    async def node(self, **fields: Any) -> None:
        """Registers in the catalog a node that has no agent."""
        answer = await self.put("/v1/catalog/register", fields)
        assert answer.status == 200, answer.text

    async def dns(self, name: str, qtype: str = "A", *, is_tcp: bool = False) -> DNSRecord:
        question = DNSRecord.question(name, qtype)
        packet = await asyncio.to_thread(
            question.send, "127.0.0.1", self.target.dns_port, tcp=is_tcp, timeout=5.0
        )
        return DNSRecord.parse(packet)

    async def _is_synced(self, fields: Mapping[str, Any]) -> bool:
        local = (await self.get(f"/v1/agent/service/{fields.get('ID', fields['Name'])}")).json
        own = f'/v1/agent/checks?filter=ServiceID=="{local["ID"]}"'
        checks = (await self.get(own)).json
        entries = (await self.get(f"/v1/health/service/{local['Service']}")).json
        for entry in entries:
            if entry["Service"]["ID"] == local["ID"]:
                synced = {check["CheckID"]: check["Status"] for check in entry["Checks"]}
                return entry["Service"]["Tags"] == local["Tags"] and all(
                    synced.get(id) == check["Status"] for id, check in checks.items()
                )
        return False


@pytest.fixture
def api(consul: Target) -> Api:
    return Api(consul)


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Returns once it holds; fails when it does not within WAIT_S_MAX."""
    async with asyncio.timeout(WAIT_S_MAX):
        while not await holds():
            await asyncio.sleep(0.02)
