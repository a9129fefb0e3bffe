"""How is an http or tcp check probed, and what does its output say?

Statuses and words are Consul 1.8.7's: 2xx passes, 429 warns, all else is critical; the output of an
http check starts with `HTTP GET <url>: 200 OK Output: `; a timeout ends in Go's words, which drover's
check_restart looks for.
"""

import asyncio
import errno
import os
import socket
from http import HTTPStatus
from types import TracebackType
from typing import Self, assert_never
from urllib.parse import urlsplit

import aiohttp

from catalog.embedded.checks import OUTPUT_BYTES_MAX, HttpSpec, ProbeResult, TcpSpec
from catalog.embedded.records import Status

_TIMED_OUT = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"


class HttpProber:
    """The Prober of a real agent; owns one HTTP session, so enter it first."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A check asks for a fresh connection each time, as Consul's does: a kept one would hide a dead listener.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def probe(self, spec: HttpSpec | TcpSpec) -> ProbeResult:
        match spec:
            case HttpSpec():
                return await self._http(spec)
            case TcpSpec():
                return await _tcp(spec)
        assert_never(spec)

    async def _http(self, spec: HttpSpec) -> ProbeResult:
        if self._session is None:
            return ProbeResult(status=Status.CRITICAL, output="the prober is closed")
        scheme = urlsplit(spec.url).scheme
        if scheme not in ("http", "https"):
            return _critical(f'{_verb(spec)} "{spec.url}": unsupported protocol scheme "{scheme}"')
        defaults = {"User-Agent": "Consul Health Check", "Accept": "text/plain, text/*, */*"}
        named = {name.lower() for name in spec.header}
        headers = [(name, value) for name, value in defaults.items() if name.lower() not in named]
        headers += [(name, value) for name, values in spec.header.items() for value in values]
        try:
            async with (
                asyncio.timeout(spec.timeout_s),
                self._session.request(
                    spec.method,
                    spec.url,
                    headers=headers,
                    data=spec.body or None,
                    ssl=spec.is_verified,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as answer,
            ):
                body = await answer.content.read(OUTPUT_BYTES_MAX)
                return _from_answer(spec, answer, body)
        except TimeoutError:
            return _critical(f'{_verb(spec)} "{spec.url}": {_TIMED_OUT}')
        except (aiohttp.ClientError, OSError) as error:
            return _critical(f'{_verb(spec)} "{spec.url}": {_go_words(error, urlsplit(spec.url).netloc)}')


async def _tcp(spec: TcpSpec) -> ProbeResult:
    host, _, port = spec.address.rpartition(":")
    try:
        async with asyncio.timeout(spec.timeout_s):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            writer.close()
    except TimeoutError:
        return _critical(f"dial tcp {spec.address}: i/o timeout")
    except (OSError, ValueError) as error:
        return _critical(_go_words(error, spec.address))
    return ProbeResult(status=Status.PASSING, output=f"TCP connect {spec.address}: Success")


def _from_answer(spec: HttpSpec, answer: aiohttp.ClientResponse, body: bytes) -> ProbeResult:
    reason = answer.reason or _reason(answer.status)
    text = body.decode("utf-8", "replace")
    output = f"HTTP {spec.method} {spec.url}: {answer.status} {reason} Output: {text}"
    if 200 <= answer.status < 300:
        return ProbeResult(status=Status.PASSING, output=output)
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return ProbeResult(status=Status.WARNING, output=output)
    return ProbeResult(status=Status.CRITICAL, output=output)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _critical(output: str) -> ProbeResult:
    return ProbeResult(status=Status.CRITICAL, output=output)


def _verb(spec: HttpSpec) -> str:
    """Go's http client writes the method so in its errors: Get, Post."""
    return spec.method.capitalize()


def _go_words(error: Exception, address: str) -> str:
    """A failed dial as Go says it."""
    os_error = getattr(error, "os_error", error)
    if isinstance(os_error, socket.gaierror):
        return f"dial tcp: lookup {address.rpartition(':')[0] or address}: no such host"
    if isinstance(os_error, ConnectionRefusedError) or getattr(os_error, "errno", None) == errno.ECONNREFUSED:
        return f"dial tcp {address}: connect: connection refused"
    number = getattr(os_error, "errno", None)
    if isinstance(number, int):
        return f"dial tcp {address}: connect: {os.strerror(number).lower()}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "EOF"
    return str(error)
