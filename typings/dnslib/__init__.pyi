"""The part of dnslib that drover calls (dnslib itself has no types)."""

from typing import Any

class DNSError(Exception): ...

class _Bimap:
    def __getitem__(self, number: int) -> str: ...
    def __getattr__(self, name: str) -> int: ...

QTYPE: _Bimap
RCODE: _Bimap

class DNSLabel: ...

class DNSHeader:
    id: int
    qr: int
    aa: int
    ra: int
    tc: int
    rcode: int

class DNSQuestion:
    qname: DNSLabel
    qtype: int

class RR:
    rname: DNSLabel
    rtype: int
    ttl: int
    rdata: Any
    edns_len: int
    def __init__(
        self, rname: str = ..., rtype: int = ..., rclass: int = ..., ttl: int = ..., rdata: object = ...
    ) -> None: ...
    def toZone(self) -> str: ...

class EDNS0(RR):
    def __init__(
        self,
        rname: str = ...,
        rtype: int = ...,
        ext_rcode: int = ...,
        version: int = ...,
        flags: str = ...,
        udp_len: int = ...,
    ) -> None: ...

class DNSRecord:
    header: DNSHeader
    questions: list[DNSQuestion]
    rr: list[RR]
    auth: list[RR]
    ar: list[RR]
    q: DNSQuestion
    @classmethod
    def parse(cls, packet: bytes) -> DNSRecord: ...
    @classmethod
    def question(cls, qname: str, qtype: str = ..., qclass: str = ...) -> DNSRecord: ...
    def reply(self, ra: int = ..., aa: int = ...) -> DNSRecord: ...
    def add_answer(self, *rr: RR) -> None: ...
    def add_auth(self, *auth: RR) -> None: ...
    def add_ar(self, *ar: RR) -> None: ...
    def pack(self) -> bytes: ...
    def send(
        self, dest: str, port: int = ..., tcp: bool = ..., timeout: float | None = ..., ipv6: bool = ...
    ) -> bytes: ...

class A:
    def __init__(self, data: str) -> None: ...

class CNAME:
    def __init__(self, label: str) -> None: ...

class NS:
    def __init__(self, label: str) -> None: ...

class TXT:
    def __init__(self, data: str) -> None: ...

class SRV:
    target: DNSLabel
    def __init__(self, priority: int = ..., weight: int = ..., port: int = ..., target: str = ...) -> None: ...

class SOA:
    def __init__(self, mname: str = ..., rname: str = ..., times: tuple[int, ...] = ...) -> None: ...
