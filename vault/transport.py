"""How does one request reach Vault and come back, however ill Vault is?

hvac's adapter sends it, in one of a few threads of the client's own: a Vault that hangs holds up those and nobody else.
All attempts together have one deadline, counted from the call.

    call ──> await a thread ──> hvac ──> 2xx, 404            the answer
                                    ──> other 4xx            VaultRefused, in Vault's words
                                    ──> none, 429, 5xx       again while there is time, then VaultUnavailable

What may have had an effect is not sent twice, unless Vault said that it did nothing (429, 503, no connection).
Redirects (a standby names the active one) are followed here, never from https to http: the token goes along.
"""

import asyncio
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from model.errors import VaultRefused, VaultUnavailable
from model.secret import Secret
from vault import telemetry
from vault.threads import Threads

# Requests that are under way at once. Each costs a thread while it lasts; Vault answers within milliseconds, so that
# eight serve hundreds of tasks, and eight that hang for their five seconds hurt nobody else.
THREADS_MAX = 8
# Attempts at one call; more often a caller's own turn comes again.
_ATTEMPTS_MAX = 3
_REDIRECTS_MAX = 2
# Of Vault's own words in a message; a balancer may answer with a page of HTML.
_WORDS_MAX = 300
# Vault answered without having done anything.
_UNTOUCHED = (412, 429, 473, 503)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where Vault is, and how it is spoken to.

    address: `https://host:8200`. ca_file, ca_path: who vouches for its certificate; neither: those the system trusts.
    server_name: the name in its certificate, where that is not the address'. timeout_s: of one call, all attempts.
    """

    address: str
    namespace: str = ""
    ca_file: Path | None = None
    ca_path: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""
    is_verified: bool = True
    timeout_s: float = 5.0


class TooSlow(VaultUnavailable):
    """Vault took longer than the call may take."""


class NotTrusted(VaultUnavailable):
    """The two ends could not agree on TLS: another CA, another name, an expired certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """path: below /v1, as people write it. is_idempotent: to send it twice is to send it once.
    hidden: texts that no message may show, besides the token."""

    method: str
    path: str
    token: Secret | None = None
    namespace: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] | None = field(default=None, repr=False)
    wrap_ttl_s: float = 0.0
    is_idempotent: bool = True
    hidden: tuple[str, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = field(repr=False)


class _Again(Exception):
    """This attempt failed; another one may be made."""

    def __init__(self, error: VaultUnavailable) -> None:
        super().__init__(str(error))
        self.error = error


class Transport:
    def __init__(self, endpoint: Endpoint, threads_max: int = THREADS_MAX) -> None:
        self.endpoint = endpoint
        self._threads = Threads(threads_max)
        self._local = threading.local()
        self._is_closed = False
        self.contact_s: float | None = None  # monotonic: when Vault last answered something of use

    def close(self) -> None:
        """Nothing more is asked; threads that wait for Vault end with their own time limits."""
        self._is_closed = True
        self._threads.close()

    async def call(self, request: Request) -> Response:
        """2xx and 404 are answers. Raises VaultUnavailable, VaultRefused."""
        response = await self._within_deadline(request)
        if response.status == 404 or response.status < 300:
            return response
        raise VaultRefused(f"Vault refused {request}: {_words(response, request)} ({response.status})")

    async def ask(self, request: Request) -> Response:
        """One attempt, whatever it answers. Raises VaultUnavailable when there is no answer."""
        try:
            return await self._in_thread(request, time.monotonic() + self.endpoint.timeout_s)
        except _Again as again:
            raise again.error from again

    async def _within_deadline(self, request: Request) -> Response:
        from tenacity import (
            AsyncRetrying,
            retry_if_exception_type,
            stop_after_attempt,
            wait_random_exponential,
        )

        deadline_s = time.monotonic() + self.endpoint.timeout_s
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_Again),
            stop=stop_after_attempt(_ATTEMPTS_MAX),
            wait=wait_random_exponential(multiplier=0.1, max=1.0),
            reraise=True,
        )
        try:
            return await attempts(self._attempt, request, deadline_s)
        except _Again as again:
            telemetry.FAILURES.labels(type(again.error).__name__).inc()
            raise again.error from again.error.__cause__
        except VaultUnavailable as error:
            telemetry.FAILURES.labels(type(error).__name__).inc()
            raise

    async def _attempt(self, request: Request, deadline_s: float) -> Response:
        """Raises _Again for what may be sent once more, VaultUnavailable for what may not."""
        response = await self._in_thread(request, deadline_s)
        if response.status < 500 and response.status not in _UNTOUCHED:
            return response
        error = VaultUnavailable(f"Vault cannot serve {request}: {_words(response, request)} ({response.status})")
        if request.is_idempotent or response.status in _UNTOUCHED:
            raise _Again(error)
        raise error

    async def _in_thread(self, request: Request, deadline_s: float) -> Response:
        if self._is_closed:
            raise VaultUnavailable("Vault is not asked any more: drover is stopping")
        remaining_s = deadline_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.001, remaining_s)):
                response = await self._threads.run(partial(self._send, request, deadline_s))
        except TimeoutError as error:
            raise TooSlow(f"Vault at {self.endpoint.address} took longer than {self.endpoint.timeout_s:g} s") from error
        if response.status < 500:
            self.contact_s = time.monotonic()
        return response

    # ---- in a thread

    def _send(self, request: Request, deadline_s: float) -> Response:
        """Raises _Again, VaultUnavailable, VaultRefused (an address or path that cannot be)."""
        base, path, query = self.endpoint.address, "/v1/" + _escaped(request.path), dict(request.query)
        for _ in range(_REDIRECTS_MAX + 1):
            response = self._once(request, base, path, query, deadline_s)
            if response.status_code not in (301, 302, 307, 308):
                return Response(response.status_code, response.content)
            target = urlsplit(urljoin(f"{base}{path}", response.headers.get("Location", "")))
            if base.startswith("https:") and target.scheme != "https":
                raise VaultUnavailable(f"Vault at {base} points to {target.scheme}://{target.netloc}: a token is not sent in the clear")
            base, path = f"{target.scheme}://{target.netloc}", target.path
        raise VaultUnavailable(f"Vault at {self.endpoint.address} sends from one address to the next")

    def _once(self, request: Request, base: str, path: str, query: dict[str, str], deadline_s: float) -> Any:
        from requests import exceptions

        remaining_s = max(0.001, deadline_s - time.monotonic())
        arguments: dict[str, Any] = {"timeout": remaining_s, "raise_exception": False, "params": query}
        if request.body is not None:
            arguments["json"] = dict(request.body)
        if request.wrap_ttl_s:
            arguments["wrap_ttl"] = f"{max(1, round(request.wrap_ttl_s))}s"
        try:
            adapter = self._adapter()
            adapter.base_uri = base
            adapter.token = request.token.reveal() if request.token else None
            adapter.namespace = request.namespace or None
            return adapter.request(request.method.lower(), path, **arguments)
        except exceptions.SSLError as error:
            raise NotTrusted(f"no TLS with Vault at {base}: {_reason(error)}") from error
        except exceptions.ConnectTimeout as error:
            raise TooSlow(f"Vault at {base} did not take the connection in time") from error
        except exceptions.Timeout as error:
            raise TooSlow(f"Vault at {base} took longer than {self.endpoint.timeout_s:g} s") from error
        except exceptions.ConnectionError as error:
            unavailable = VaultUnavailable(f"Vault at {base} was not reached: {_reason(error)}")
            unavailable.__cause__ = error
            if request.is_idempotent or not _was_sent(error):
                raise _Again(unavailable) from error
            raise unavailable from error
        except ssl.SSLError as error:
            raise NotTrusted(f"the TLS files for Vault cannot be used: {_reason(error)}") from error
        except (OSError, ValueError) as error:  # what requests has besides, a file that is gone
            raise VaultUnavailable(f"Vault at {base} cannot be asked: {_reason(error)}") from error

    def _adapter(self) -> Any:
        """This thread's own; a new one when a file of TLS changed since."""
        from vault.adapter import adapter, files_state

        state = files_state(self.endpoint)
        known: tuple[object, Any] | None = getattr(self._local, "adapter", None)
        if known is not None and known[0] == state:
            return known[1]
        if known is not None:
            known[1].close()
        made = adapter(self.endpoint)
        self._local.adapter = (state, made)
        return made


def _escaped(path: str) -> str:
    """The path for a URL. Raises VaultRefused for one that would lead elsewhere."""
    segments = [segment for segment in path.split("/") if segment]
    if any(segment in (".", "..") for segment in segments):
        raise VaultRefused("a path in Vault has no . or ..")
    return "/".join(quote(segment, safe="+:@=,~!$&'()*;") for segment in segments)


def _was_sent(error: BaseException) -> bool:
    """Whether the request may have arrived: no, if there was no connection to send it on."""
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return not isinstance(reason, NewConnectionError | NameResolutionError)


def _reason(error: BaseException) -> str:
    """The innermost reason, in few words: requests and urllib3 wrap one another's."""
    inner: object = error
    for _ in range(6):
        following = getattr(inner, "reason", None) or (inner.args[0] if isinstance(inner, Exception) and inner.args else None)
        if not isinstance(following, BaseException):
            break
        inner = following
    if isinstance(inner, ssl.SSLCertVerificationError):
        return inner.verify_message
    words = getattr(inner, "strerror", None) or str(inner)
    return words.rpartition(": ")[2][:_WORDS_MAX] if "object at 0x" in words else words[:_WORDS_MAX]


def _words(response: Response, request: Request) -> str:
    """What Vault says is wrong, without what must not be shown."""
    import msgspec

    try:
        found = msgspec.json.decode(response.body)
        errors = found.get("errors") if isinstance(found, dict) else None
        text = ", ".join(str(one) for one in errors) if isinstance(errors, list) else ""
    except msgspec.DecodeError:
        text = ""
    if not text:
        text = "it is sealed or not initialised" if response.status == 503 else "no reason given"
    text = " ".join(text.split())
    for hidden in (request.token.reveal() if request.token else "", *request.hidden):
        if hidden:
            text = text.replace(hidden, "••••••••")
    return text[:_WORDS_MAX]
