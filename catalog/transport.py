"""How do drover's calls reach Consul?

One pooled aiohttp session per process, instead of python-consul2's connection per call: the token goes
in a header, never in the query string; TLS with own CA and client certificate; a timeout per call,
chosen by the caller; failures translated here into drover's errors and nowhere else.

A failed read is StoreUnavailable. A failed write is StoreUnclear: a timeout or a 500 may have been
committed (hashicorp/consul#2893).
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode

import aiohttp
from prometheus_client import Counter, Histogram
from yarl import URL

from model.errors import StoreForbidden, StoreRefused, StoreUnavailable, StoreUnclear
from model.secret import Secret

# Consul's http_max_conns_per_client is 200 and counts idle connections; 20 leaves room for the other
# processes of the machine (consul-facts: pool <= 20 per process).
CONNECTIONS_MAX = 20

# By the endpoint's first word. Blocking queries wait on purpose, so they are only counted, in BLOCKED.
CALL_S = Histogram(
    "drover_consul_call_seconds",
    "Calls to the local Consul agent that got an answer, by endpoint",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
BLOCKED = Counter("drover_consul_blocking_calls", "Blocking queries that got an answer, by endpoint", ["kind"])
ERRORS = Counter("drover_consul_errors", "Calls to the local Consul agent without a usable answer, by endpoint", ["kind"])
# A series that begins with its first increase hides that increase from rate().
for _kind in ("agent", "catalog", "health", "kv", "session", "txn"):
    ERRORS.labels(_kind)
for _kind in ("catalog", "health", "kv"):
    BLOCKED.labels(_kind)


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def index(self) -> int:
        """X-Consul-Index; 0 when the endpoint has none."""
        return int(self.headers.get("X-Consul-Index") or 0)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").strip()


class Transport(Protocol):
    """One Consul agent's HTTP API. Two implementations: HttpTransport, and the simulator's, without sockets."""

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = 10.0,
    ) -> Response:
        """Any answer below 500 is returned. Raises StoreUnavailable, or StoreUnclear for a write."""
        ...

    def stream(
        self, path: str, *, params: Mapping[str, str], timeout_s: float
    ) -> AbstractAsyncContextManager[tuple[Response, AsyncIterator[bytes]]]:
        """A GET whose body comes in pieces (the Response has none). Raises StoreUnavailable, also amid the body."""
        ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where the local Consul agent listens and how to speak to it. address: host:port."""

    address: str = "127.0.0.1:8500"
    tls: ssl.SSLContext | None = None
    token: Secret | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Consul-Token": self.token.reveal()} if self.token else {}


class HttpTransport:
    """Production's Transport. Made inside a running loop; close() it there. connections_max: others wait for one that
    is free."""

    def __init__(self, endpoint: Endpoint, connections_max: int = CONNECTIONS_MAX) -> None:
        self._endpoint, self._connections_max = endpoint, connections_max
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=self._connections_max,
                ssl=self._endpoint.tls if self._endpoint.tls else True,
                keepalive_timeout=60,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=self._endpoint.headers,
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=True,
                skip_auto_headers=("User-Agent",),
            )
        return self._session

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes = b"",
        timeout_s: float = 10.0,
        token: Secret | None = None,
    ) -> Response:
        """token: asks with this one instead of the process' own."""
        url = self._endpoint.url + quote(path, safe="/:")
        headers = {"X-Consul-Token": token.reveal()} if token else None
        if params:
            url += "?" + urlencode(params)
        began_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(timeout_s):
                async with self._open().request(
                    method, URL(url, encoded=True), data=body or None, allow_redirects=False, headers=headers
                ) as answer:
                    response = Response(answer.status, answer.headers, await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unreachable(method, path, f"{type(error).__name__}: {error}".rstrip(": ")) from error
        if response.status >= 500 or response.status == 429:
            raise unreachable(method, path, f"{response.status} {response.text[:200]}")
        if params and params.get("index"):
            BLOCKED.labels(_kind_of(path)).inc()
        else:
            CALL_S.labels(_kind_of(path)).observe(asyncio.get_running_loop().time() - began_s)
        return response

    @asynccontextmanager
    async def stream(
        self, path: str, *, params: Mapping[str, str], timeout_s: float
    ) -> AsyncIterator[tuple[Response, AsyncIterator[bytes]]]:
        url = f"{self._endpoint.url}{quote(path, safe='/:')}?{urlencode(params)}"

        async def pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
            try:
                async for piece in answer.content.iter_any():
                    yield piece
            except (aiohttp.ClientError, OSError) as error:
                raise unreachable("GET", path, str(error)) from error

        try:
            async with asyncio.timeout(timeout_s), self._open().get(URL(url, encoded=True)) as answer:
                response = Response(answer.status, answer.headers, b"" if answer.status == 200 else await answer.read())
                if response.status >= 500 or response.status == 429:
                    raise unreachable("GET", path, f"{response.status} {response.text[:200]}")
                yield response, pieces(answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise unreachable("GET", path, f"{type(error).__name__}: {error}".rstrip(": ")) from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def unreachable(method: str, path: str, why: str) -> StoreUnavailable:
    """The right error for a call that got no usable answer; never holds the query string or a token. Counts it."""
    ERRORS.labels(_kind_of(path)).inc()
    kind = StoreUnavailable if method == "GET" else StoreUnclear
    return kind(f"Consul: {method} {path}: {why}")


def _kind_of(path: str) -> str:
    """`/v1/kv/drover/state/…` is a call of kind `kv`."""
    return path.split("/", 3)[2]


def checked(response: Response, what: str) -> Response:
    """The response itself when it is a success. Raises StoreRefused for what Consul refuses for good."""
    if response.status < 300:
        return response
    if response.status == 403:
        raise StoreForbidden(f"Consul refused {what}: {response.text or 'Permission denied'}")
    raise StoreRefused(f"Consul refused {what}: {response.status} {response.text[:300]}")
