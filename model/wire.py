"""What do drover's documents look like on the wire?

Every document that Consul stores or the API returns is a frozen msgspec struct: snake_case in
Python, Nomad's own JSON names outside (`memory_mb` <-> `MemoryMB`). There is one representation,
so nothing has to be kept in step. Unknown keys are ignored when reading, as Nomad ignores them.
"""

from typing import Any, NewType, TypeVar, dataclass_transform

import msgspec

# Nomad's durations: integer nanoseconds in every document (JSON API, "Durations").
Nanoseconds = NewType("Nanoseconds", int)
SECOND = Nanoseconds(1_000_000_000)

# Nomad's spelling of the parts of a name that are not simply capitalised.
_ACRONYMS = {
    "id": "ID",
    "cpu": "CPU",
    "mb": "MB",
    "ip": "IP",
    "ttl": "TTL",
    "dns": "DNS",
    "http": "HTTP",
    "tls": "TLS",
    "grpc": "GRPC",
    "cidr": "CIDR",
    "hcl": "HCL",
    "csi": "CSI",
    "mbits": "MBits",
    "iops": "IOPS",
    "ltarget": "LTarget",
    "rtarget": "RTarget",
    "tg": "TG",
    "oom": "OOM",
}


def wire_name(field: str) -> str:
    """Nomad's JSON name of a field: `job_modify_index` -> `JobModifyIndex`, `node_id` -> `NodeID`."""
    return "".join(_ACRONYMS.get(part, part.capitalize()) for part in field.split("_"))


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Document(msgspec.Struct, frozen=True, kw_only=True, rename=wire_name):
    """Base of all documents: frozen, keyword-only, Nomad's names on the wire."""


D = TypeVar("D")

_encoder = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(document: object) -> bytes:
    """The document as compact JSON."""
    return _encoder.encode(document)


def decode(data: bytes | str, kind: type[D]) -> D:
    """Reads one document of `kind`. Raises msgspec.ValidationError or DecodeError with the path that is wrong."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    return decoder.decode(data)  # type: ignore[no-any-return]  # the decoder was made for `kind` two lines up


def seconds(ns: int) -> float:
    """A document's duration as float seconds, the unit of every span and wait in drover."""
    return ns / 1e9


def nanoseconds(span_s: float) -> Nanoseconds:
    """Float seconds as a document's duration."""
    return Nanoseconds(round(span_s * 1e9))
