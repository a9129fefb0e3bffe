"""How does a command speak to an agent's API, and what does it print?

Plain http.client: a command makes a few calls one after the other, and an HTTP library would cost more
time to import than they take.
"""

import argparse
import base64
import codecs
import http.client
import json
import os
import ssl
import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from cli.failure import CommandFailed, fail

DEFAULT_ADDRESS = "http://127.0.0.1:4646"
SHORT_ID = 8
# A blocking answer may take five minutes and a sixteenth; everything else is much sooner.
TIMEOUT_S = 330.0


class ApiError(CommandFailed):
    """The agent answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"Unexpected response code: {status} ({text.strip()})")
        self.status, self.text = status, text.strip()


class Api:
    """One agent's API, as the flags and NOMAD_* say."""

    def __init__(self, args: argparse.Namespace) -> None:
        address = args.address or os.environ.get("NOMAD_ADDR") or DEFAULT_ADDRESS
        parts = urlsplit(address if "//" in address else f"http://{address}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise CommandFailed(f"address {address!r} is not an HTTP URL (expected http://HOST:PORT)")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise CommandFailed(f"address {address!r} has no usable port (expected http://HOST:PORT)") from error
        self.address = address
        self.namespace = args.namespace or os.environ.get("NOMAD_NAMESPACE") or ""
        self.region = args.region or os.environ.get("NOMAD_REGION") or ""
        self._host, self._port = parts.hostname, port
        # There is one kind of token: who is set up for Consul need not say it twice.
        self._token = args.token or os.environ.get("NOMAD_TOKEN") or os.environ.get("CONSUL_HTTP_TOKEN")
        self._tls = _tls(args) if parts.scheme == "https" else None

    def call(
        self, method: str, path: str, body: object = None, /, **params: object
    ) -> tuple[Any, http.client.HTTPMessage]:
        """The decoded answer and its headers. Raises CommandFailed with one line."""
        response = self._send(method, path, body, params)
        try:
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise CommandFailed(f"{self.address} broke off its answer: {_words(error)}") from error
        if response.status == 404 and not raw:
            # What drover's API knows and does not find it names; only an unknown path has an empty answer.
            raise CommandFailed(f"{self.address} is not drover's API: it does not know {path}")
        if response.status >= 400:
            raise ApiError(response.status, raw.decode("utf-8", "replace"))
        try:
            return (json.loads(raw) if raw else None), response.headers
        except ValueError as error:
            raise CommandFailed(f"{self.address} is not drover's API: {error}") from error

    def get(self, path: str, /, **params: object) -> Any:
        return self.call("GET", path, None, **params)[0]

    def listed(self, path: str, args: argparse.Namespace, /, **params: object) -> list[dict[str, Any]]:
        """A list as -filter, -per-page and -page-token ask for; where the next page begins is told on stderr."""
        paging = {"filter": args.filter, "per_page": args.per_page, "next_token": args.page_token}
        found, headers = self.call("GET", path, None, **paging, **params)
        if token := headers.get("X-Nomad-NextToken"):
            sys.stderr.write(f"Results have been paginated. To get the next page run with -page-token {token}\n")
        listed: list[dict[str, Any]] = found
        return listed

    def put(self, path: str, body: object = None, /, **params: object) -> Any:
        return self.call("PUT", path, body, **params)[0]

    def raw(
        self, method: str, path: str, data: bytes | None, params: Mapping[str, object], headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        """The answer as it is, whatever its status; the body is the caller's to read."""
        return self._send(method, path, data, params, headers)

    def upload(self, path: str, data: bytes, **params: object) -> Any:
        """Sends these very bytes; the decoded answer."""
        response = self._send("PUT", path, data, params)
        raw = response.read()
        if response.status >= 400:
            raise ApiError(response.status, raw.decode("utf-8", "replace"))
        return json.loads(raw)

    def stream(self, path: str, /, **params: object) -> Generator[bytes]:
        """The body as it comes."""
        response = self._send("GET", path, None, params)
        if response.status >= 400:
            raise ApiError(response.status, response.read().decode("utf-8", "replace"))
        try:
            with response:
                while chunk := response.read1(65536):
                    yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise CommandFailed(f"{self.address} broke off: {_words(error)}") from error

    def websocket(self, path: str, /, **params: object) -> tuple[str, dict[str, str], dict[str, Any]]:
        """(URL, headers, aiohttp's arguments for TLS) of a call that becomes a websocket."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        url = f"{'https' if self._tls else 'http'}://{host}:{self._port}{self._url(path, params)}"
        how = {} if self._tls is None else {"ssl": self._tls[0], "server_hostname": self._tls[1] or None}
        return url, self._headers(), how

    def _headers(self) -> dict[str, str]:
        return {"X-Nomad-Token": self._token} if self._token else {}

    def _url(self, path: str, params: Mapping[str, object]) -> str:
        query = {k: _in_query(v) for k, v in params.items() if v is not None}
        for name, value in (("namespace", self.namespace), ("region", self.region)):
            if value:
                query.setdefault(name, value)
        return quote(path, safe="/%") + (f"?{urlencode(query, doseq=True)}" if query else "")

    def _send(
        self,
        method: str,
        path: str,
        body: object,
        params: Mapping[str, object],
        more_headers: Mapping[str, str] = {},
    ) -> http.client.HTTPResponse:
        url = self._url(path, params)
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_S)
            if self._tls is None
            else _Https(self._host, self._port, *self._tls)
        )
        headers = {**self._headers(), **more_headers}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            connection.request(method, url, body=data, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise CommandFailed(f"no drover agent answers at {self.address}: {_words(error)}") from error
        except ValueError as error:  # what a header cannot hold
            raise CommandFailed("the token holds characters that no token has") from error

    def find(self, kind: str, listing: str, prefix: str) -> dict[str, Any]:
        """The one object whose id begins with `prefix`. Raises CommandFailed when there is none or several."""
        # Lists of ids want an even number of digits (the index' own grain); the rest is matched here.
        asked = prefix if len(prefix.replace("-", "")) % 2 == 0 else prefix[:-1]
        found = [one for one in self.get(listing, prefix=asked) if one["ID"].startswith(prefix)]
        if not found:
            raise CommandFailed(f"No {kind}(s) with prefix or id {prefix!r} found")
        if len(found) > 1 and not any(one["ID"] == prefix for one in found):
            ids = ", ".join(sorted(one["ID"] for one in found)[:10])
            raise CommandFailed(f"Prefix {prefix!r} matched several {kind}s: {ids}")
        return next((one for one in found if one["ID"] == prefix), found[0])


class _Https(http.client.HTTPSConnection):
    """With the name that the certificate is to have."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S, context=context)
        self._tls_context, self._server_name = context, server_name or host

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls_context.wrap_socket(self.sock, server_hostname=self._server_name)


def _tls(args: argparse.Namespace) -> tuple[ssl.SSLContext, str]:
    """How the agent's certificate is verified, and the name that it is to have. Raises CommandFailed."""

    def given(flag: str, variable: str) -> str | None:
        return getattr(args, flag, None) or os.environ.get(variable) or None

    is_unverified = args.tls_skip_verify or os.environ.get("NOMAD_SKIP_VERIFY", "").lower() in ("1", "t", "true")
    try:
        context = ssl.create_default_context(cafile=given("ca_cert", "NOMAD_CACERT"), capath=given("ca_path", "NOMAD_CAPATH"))
        if is_unverified:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        certificate, key = given("client_cert", "NOMAD_CLIENT_CERT"), given("client_key", "NOMAD_CLIENT_KEY")
        if (certificate is None) != (key is None):
            raise CommandFailed("-client-cert and -client-key belong together")
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CommandFailed(f"TLS files cannot be used: {_words(error)}") from error
    return context, given("tls_server_name", "NOMAD_TLS_SERVER_NAME") or ""


def _in_query(value: object) -> str | list[str]:
    """Lists are named more than once."""
    if isinstance(value, list):
        return [str(one) for one in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def _words(error: Exception) -> str:
    """The error without its number; http.client's are often no more than their name."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def segment(text: str) -> str:
    """A job id as one path segment: it may hold slashes."""
    return quote(text, safe="")


def short(identity: str, *, is_verbose: bool) -> str:
    return identity if is_verbose else identity[:SHORT_ID]


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each frame of a stream; empty for a heartbeat."""
    decoder, text = json.JSONDecoder(), ""
    characters = codecs.getincrementaldecoder("utf-8")()
    for chunk in chunks:
        text += characters.decode(chunk)
        while text:
            try:
                frame, end = decoder.raw_decode(text)
            except ValueError:
                break  # the rest of it is still to come
            text = text[end:].lstrip()
            yield base64.b64decode(frame.get("Data", ""))


def table(rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned, the first row as the head. On a terminal they fit it, and states have colours."""
    if sys.stdout.isatty() or os.environ.get("NOMAD_CLI_FORCE_COLOR"):
        from cli.terminal import fitted

        return fitted(rows)
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in texts)


def fields(pairs: Sequence[tuple[str, object]]) -> str:
    """`Name  = value` lines."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name.ljust(width)} = {value}" for name, value in pairs)


def size(count: float) -> str:
    """Bytes for people: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def is_data(args: argparse.Namespace) -> bool:
    """Whether the API's answer is wanted as it is (-json), or as a template makes it (-t)."""
    return args.json or args.template is not None


def print_data(args: argparse.Namespace, document: object) -> int:
    """Prints the document in JSON, or what the template of -t says of it; the exit code."""
    if args.template is None:
        print(json.dumps(document, indent=4))
        return 0
    from template import TemplateFault, parse

    try:
        print(parse(args.template, name="format").render(document, on_missing_key="default"))
    except TemplateFault as fault:
        return fail(CommandFailed(f"Error formatting the data: template: {fault}"))
    return 0


def clock(ns: int) -> str:
    """A moment in the local time zone."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ns / 1e9, UTC).astimezone().strftime("%Y-%m-%dT%H:%M:%S%z") if ns else "-"


def ago(ns: int) -> str:
    """How long ago a moment was: `3m12s ago`."""
    import time

    if not ns:
        return "-"
    left = max(0, int(time.time() - ns / 1e9))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size or (unit == "s" and not parts):
            parts.append(f"{left // size}{unit}")
            left %= size
    return "".join(parts[:2]) + " ago"
