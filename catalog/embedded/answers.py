"""What does the embedded Consul send back, and how does it read what it was sent?

Answers carry Consul's own status codes, headers and plain-text messages: clients match on them. A
refusal anywhere below is the exception Refused, turned into an answer in one place (agent.py).
Request bodies are read as Go reads them: field names in any case, durations as "10s" or nanoseconds.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

_encoder = msgspec.json.Encoder()

_GO_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_DURATION = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_GO_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""

    def json(self) -> Any:
        """The body, read as JSON."""
        return msgspec.json.decode(self.body)


class Refused(Exception):
    """The request gets this status and this message, as real Consul would answer it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


NO_LEADER = "No cluster leader"
NO_PATH = "No path to datacenter"


def refusal(error: Refused) -> Response:
    return Response(status=error.status, headers={"Content-Type": TEXT}, body=error.message.encode())


def as_json(value: object, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    return Response(
        status=status, headers={"Content-Type": JSON, **(headers or {})}, body=_encoder.encode(value)
    )


def empty(headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
    return Response(status=status, headers=headers or {})


def go_duration_s(text: str) -> float:
    """Go's time.ParseDuration in seconds. Raises ValueError with Go's words."""
    if text in ("0", "+0", "-0"):
        return 0.0
    if not _GO_DURATION.fullmatch(text):
        problem = "missing unit in duration" if re.fullmatch(r"[+-]?\d+\.?\d*", text) else "invalid duration"
        raise ValueError(f'time: {problem} "{text}"')
    span_s = sum(float(number) * _GO_UNITS_S[unit] for number, unit in _GO_PART.findall(text))
    return -span_s if text.startswith("-") else span_s


def go_unsigned(text: str) -> int:
    """Go's strconv.ParseUint. Raises Refused(500) with Go's words, as the KV endpoints answer."""
    if not re.fullmatch(r"\d+", text):
        raise Refused(500, f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)


def is_flagged(params: Mapping[str, str], name: str) -> bool:
    """A parameter that is there at all; `?recurse=false` counts, as it does for Consul."""
    return name in params


class Fields:
    """A JSON object read by Go's rules: names in any case, also in snake_case, nulls as absent."""

    def __init__(self, document: Mapping[str, Any], label: str = "Request decode failed") -> None:
        self._values = {_plain(name): value for name, value in document.items() if value is not None}
        self._names = {_plain(name): name for name in document}
        self._label = label

    def only(self, *known: str) -> None:
        """Raises Refused(400) when a field is not one of `known`."""
        allowed = {_plain(name) for name in known}
        for plain in self._values:
            if plain not in allowed:
                raise self._fail(f'json: unknown field "{self._names[plain]}"')

    def has(self, name: str) -> bool:
        return _plain(name) in self._values

    def text(self, name: str, default: str = "") -> str:
        return str(self._typed(name, default, str, "string"))

    def number(self, name: str, default: int = 0) -> int:
        return int(self._typed(name, default, int, "int"))

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self._typed(name, default, bool, "bool"))

    def items(self, name: str) -> list[Any]:
        value = self._typed(name, [], list, "[]string")
        return list(value)

    def mapping(self, name: str) -> dict[str, Any]:
        value = self._typed(name, {}, dict, "map[string]string")
        return dict(value)

    def nested(self, name: str) -> "Fields":
        return Fields(self.mapping(name), self._label)

    def nested_items(self, name: str) -> list["Fields"]:
        return [Fields(item if isinstance(item, dict) else {}, self._label) for item in self.items(name)]

    def duration_s(self, name: str) -> float:
        """A duration as Go text, or a number of nanoseconds."""
        value = self._values.get(_plain(name), 0)
        if isinstance(value, str):
            try:
                return go_duration_s(value) if value else 0.0
            except ValueError as error:
                raise self._fail(str(error)) from error
        return float(value) / 1e9

    def raw(self, name: str) -> Any:
        return self._values.get(_plain(name))

    def __bool__(self) -> bool:
        return bool(self._values)

    def _typed(self, name: str, default: object, kind: type, go_kind: str) -> Any:
        value = self._values.get(_plain(name), default)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            was = {str: "string", bool: "bool", list: "array", dict: "object"}.get(type(value), "number")
            raise self._fail(f"json: cannot unmarshal {was} into Go struct field .{name} of type {go_kind}")
        return value

    def _fail(self, why: str) -> Refused:
        return Refused(400, f"{self._label}: {why}")


def read_json(body: bytes, label: str = "Request decode failed") -> Any:
    """The body as JSON. Raises Refused(400) with Go's words for an empty and for a broken one."""
    if not body.strip():
        raise Refused(400, f"{label}: EOF")
    try:
        # One decoder stops after the first value, as Go's does: what follows it is ignored.
        return json.JSONDecoder().raw_decode(body.decode("utf-8", "replace").lstrip())[0]
    except json.JSONDecodeError as error:
        raise Refused(400, f"{label}: unexpected EOF") from error


def read_fields(body: bytes) -> Fields:
    """The body as one JSON object."""
    document = read_json(body)
    if not isinstance(document, dict):
        raise Refused(400, "Request decode failed: json: cannot unmarshal array into Go value")
    return Fields(document)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
