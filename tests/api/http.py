"""How does a test ask the API, with everything that an answer has, and how does it wait for one that blocks?"""

import http.client
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

STATE_HEADERS = ("X-Nomad-Index", "X-Nomad-LastContact", "X-Nomad-KnownLeader")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
    took_s: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def index(self) -> int:
        return int(self.headers["X-Nomad-Index"])

    @property
    def kind(self) -> str:
        return self.headers.get("Content-Type", "")

    @property
    def state(self) -> dict[str, str]:
        """Nomad's headers that it has."""
        return {name: self.headers[name] for name in STATE_HEADERS if name in self.headers}

    @property
    def error(self) -> tuple[int, str]:
        """Status and text of an error, which is plain text always."""
        assert self.kind == "text/plain; charset=utf-8"
        return self.status, self.body.decode()


@dataclass(slots=True)
class Asked:
    """A call under way in a thread of its own. path: with `{}` for each of `parts`, which are quoted."""

    address: str
    method: str
    path: str
    parts: tuple[str, ...]
    begun_s: float
    ended_s: float = 0.0
    _thread: threading.Thread = field(init=False)
    _reply: Reply | None = None
    _error: Exception | None = None

    def __init__(
        self,
        address: str,
        method: str,
        path: str,
        *parts: str,
        body: object = None,
        raw: bytes | None = None,
        headers: Mapping[str, str] = {},
    ) -> None:
        self.address, self.method, self.parts = address, method, parts
        self.path = path.format(*(quote(part, safe="") for part in parts))
        self._reply, self._error, self.ended_s = None, None, 0.0
        self.begun_s = time.monotonic()
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        self._thread = threading.Thread(target=self._run, args=(data, headers), daemon=True)
        self._thread.start()

    def _run(self, data: bytes | None, headers: Mapping[str, str]) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(self.method, self.path, data, dict(headers))
            answer = connection.getresponse()
            body = answer.read()
            self.ended_s = time.monotonic()
            shown = {name.title().replace("Lastcontact", "LastContact").replace("Knownleader", "KnownLeader"): value
                       for name, value in answer.getheaders()}
            self._reply = Reply(
                status=answer.status, headers=shown, body=body, took_s=self.ended_s - self.begun_s
            )
        except (OSError, http.client.HTTPException) as error:
            self._error = error
        finally:
            connection.close()

    @property
    def is_answered(self) -> bool:
        return not self._thread.is_alive()

    def reply(self, within_s: float = 60.0) -> Reply:
        """The answer, waited for. Raises what the connection raised."""
        self._thread.join(within_s)
        assert self.is_answered, f"{self.path}: no answer within {within_s} s"
        if self._reply is None:
            assert self._error is not None
            raise self._error
        return self._reply


def ask(
    address: str,
    method: str,
    path: str,
    *parts: str,
    body: object = None,
    raw: bytes | None = None,
    headers: Mapping[str, str] = {},
) -> Reply:
    return Asked(address, method, path, *parts, body=body, raw=raw, headers=headers).reply()
