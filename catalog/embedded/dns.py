"""Which addresses does a name under `.consul` have, and how is that asked?

    [tag.]<service>.service[.<dc>].consul      A, SRV: instances with no critical check, shuffled
    _<service>._<tag|tcp>.service[.<dc>].consul the same, by RFC 2782
    <node>.node[.<dc>].consul                  A, TXT
    <8 hex digits>.addr[.<dc>].consul          A: what SRV targets point at

Anything else under .consul is NXDOMAIN with the SOA, a name elsewhere is REFUSED. Over UDP without
EDNS at most three answers fit, as with Consul's defaults, and without the TC bit (enable_truncate is off
there); over TCP all. Not here: AAAA addresses, PTR, prepared queries, TXT records beside SRV targets.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from types import TracebackType
from typing import Self, cast

from dnslib import CNAME, EDNS0, NS, QTYPE, RCODE, RR, SOA, SRV, TXT, A, DNSError, DNSRecord

from catalog.embedded.answers import Refused
from catalog.embedded.local import LocalAgent
from catalog.embedded.records import Node, Service, ServiceEntry, Status
from catalog.embedded.state import ConsulState

DOMAIN = "consul"
TTL_S = 0  # consul's default: nobody may cache
UDP_ANSWERS_MAX = 3  # udp_answer_limit
UDP_BYTES_MAX = 512
TCP_BYTES_MAX = 65_535


class DnsServer:
    """Serves one agent's DNS over UDP and TCP. port 0: a free one; `port` holds it once entered."""

    def __init__(self, agent: LocalAgent, host: str = "127.0.0.1", port: int = 8600) -> None:
        self.host = host
        self.port = port
        self._agent = agent
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: dict[asyncio.Transport, None] = {}

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tcp = await loop.create_server(
            lambda: _TcpProtocol(self._answer_tcp, self._connections), self.host, self.port
        )
        self.port = self._tcp.sockets[0].getsockname()[1]
        try:
            self._udp, _ = await loop.create_datagram_endpoint(
                lambda: _UdpProtocol(self._answer_udp), local_addr=(self.host, self.port)
            )
        except OSError:
            self._tcp.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
            for connection in list(self._connections):
                connection.abort()
            await self._tcp.wait_closed()

    def _answer_udp(self, packet: bytes) -> bytes | None:
        return answer_packet(self._agent, packet, is_udp=True)

    def _answer_tcp(self, packet: bytes) -> bytes | None:
        return answer_packet(self._agent, packet, is_udp=False)


class _UdpProtocol(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # cast: asyncio's own datagram transport does not derive from the class that it is documented as
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | object, int]) -> None:
        reply = self._answer(data)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


class _TcpProtocol(asyncio.Protocol):
    """Length-prefixed questions, any number on one connection."""

    def __init__(
        self, answer: Callable[[bytes], bytes | None], connections: dict[asyncio.Transport, None]
    ) -> None:
        self._answer = answer
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections[self._transport] = None

    def connection_lost(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._connections.pop(self._transport, None)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2 and self._transport is not None:
            end = 2 + int.from_bytes(self._buffer[:2])
            if len(self._buffer) < end:
                return
            reply = self._answer(self._buffer[2:end])
            self._buffer = self._buffer[end:]
            if reply is not None:
                self._transport.write(len(reply).to_bytes(2) + reply)


def answer_packet(agent: LocalAgent, packet: bytes, *, is_udp: bool) -> bytes | None:
    """The reply to one DNS message; None for what is no question."""
    try:
        question = DNSRecord.parse(packet)
    except DNSError:
        return None
    if question.header.qr or not question.questions:
        return None
    reply = _answer(agent, question)
    sizes = [record.edns_len for record in question.ar if record.rtype == QTYPE.OPT]
    if sizes:
        reply.add_ar(EDNS0(udp_len=sizes[0]))
    if is_udp:
        return _fit(reply, max(UDP_BYTES_MAX, *sizes, 0), None if sizes else UDP_ANSWERS_MAX)
    return _fit(reply, TCP_BYTES_MAX, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Name:
    """A name under .consul, taken apart. kind: service, node, addr or, for the domain itself, ""."""

    kind: str
    labels: tuple[str, ...]  # left of the kind
    datacenter: str


def _answer(agent: LocalAgent, question: DNSRecord) -> DNSRecord:
    reply = question.reply(ra=0, aa=1)
    qname = str(question.q.qname).rstrip(".").lower()
    if qname != DOMAIN and not qname.endswith(f".{DOMAIN}"):
        reply.header.rcode, reply.header.aa = RCODE.REFUSED, 0
        return reply
    if not agent.is_connected:
        reply.header.rcode = RCODE.SERVFAIL
        return reply
    name = _parse(qname)
    qtype = QTYPE[question.q.qtype]
    if qtype in ("SOA", "NS"):
        _about_domain(agent.state, reply, qtype)
        return reply
    try:
        found = name is not None and _look_up(agent, name, reply, qtype)
    except Refused:
        found = False  # no path to that datacenter
    if not found:
        reply.header.rcode = RCODE.NXDOMAIN
    if not reply.rr:
        reply.add_auth(_soa(agent.state))
    return reply


def _parse(qname: str) -> _Name | None:
    labels = qname.removesuffix(DOMAIN).rstrip(".").split(".")
    for datacenter, rest in (("", labels), (labels[-1], labels[:-1])):
        if rest and rest[-1] in ("service", "node", "addr"):
            return _Name(kind=rest[-1], labels=tuple(rest[:-1]), datacenter=datacenter)
    return None


def _look_up(agent: LocalAgent, name: _Name, reply: DNSRecord, qtype: str) -> bool:
    """Adds the answers; False when there is nothing of that name."""
    state = agent.state.in_datacenter(name.datacenter)
    if name.kind == "service":
        entries = _instances(state, name.labels)
        _service_answers(state, reply, entries, qtype)
        return bool(entries)
    if name.kind == "node":
        node = state.registry.node(".".join(name.labels))
        if node is not None:
            _node_answers(reply, node, qtype)
        return node is not None
    if len(name.labels) == 1 and re.fullmatch(r"[0-9a-f]{8}", name.labels[0]):
        if qtype in ("A", "ANY"):
            address = IPv4Address(int(name.labels[0], 16))
            reply.add_answer(_record(str(reply.q.qname), QTYPE.A, A(str(address))))
        return True
    return False


def _instances(state: ConsulState, labels: tuple[str, ...]) -> list[ServiceEntry]:
    """Instances without a critical check of their own or of their node, in random order."""
    if not labels:
        return []
    service, tag = labels[-1], ".".join(labels[:-1])
    if len(labels) == 2 and labels[0].startswith("_") and labels[1].startswith("_"):
        service, tag = labels[0][1:], "" if labels[1] == "_tcp" else labels[1][1:]
    entries = [
        entry
        for entry in state.registry.entries(service)
        if (not tag or tag in (known.lower() for known in entry.service.tags))
        and not any(check.status == Status.CRITICAL for check in entry.checks)
    ]
    state.rng.shuffle(entries)
    return entries


def _service_answers(state: ConsulState, reply: DNSRecord, entries: list[ServiceEntry], qtype: str) -> None:
    """One answer per address, or for SRV per target and port."""
    seen: dict[tuple[str, int], None] = {}
    for entry in entries:
        address = entry.service.address or entry.node.address
        if qtype == "SRV":
            target = _target(state, entry.node, entry.service)
            if (target, entry.service.port) in seen:
                continue
            seen[(target, entry.service.port)] = None
            srv = SRV(1, _weight(entry), entry.service.port, target)
            reply.add_answer(_record(str(reply.q.qname), QTYPE.SRV, srv))
            if _is_ip(address):
                reply.add_ar(_record(target, QTYPE.A, A(address)))
        elif qtype in ("A", "ANY", "TXT") and (address, 0) not in seen:
            seen[(address, 0)] = None
            kind, data = (QTYPE.A, A(address)) if _is_ip(address) else (QTYPE.CNAME, CNAME(address))
            reply.add_answer(_record(str(reply.q.qname), kind, data))


def _node_answers(reply: DNSRecord, node: Node, qtype: str) -> None:
    name = str(reply.q.qname)
    if qtype in ("A", "ANY"):
        kind, data = (
            (QTYPE.A, A(node.address)) if _is_ip(node.address) else (QTYPE.CNAME, CNAME(node.address))
        )
        reply.add_answer(_record(name, kind, data))
    if qtype in ("TXT", "ANY"):
        for key, value in sorted((node.meta or {}).items()):
            reply.add_answer(_record(name, QTYPE.TXT, TXT(f"{key}={value}")))


def _about_domain(state: ConsulState, reply: DNSRecord, qtype: str) -> None:
    if qtype == "SOA":
        reply.add_answer(_soa(state))
    add = reply.add_auth if qtype == "SOA" else reply.add_answer
    for node, _ in state.registry.instances("consul"):
        target = f"{node.node}.node.{state.datacenter}.{DOMAIN}."
        add(_record(DOMAIN, QTYPE.NS, NS(target)))
        if _is_ip(node.address):
            reply.add_ar(_record(target, QTYPE.A, A(node.address)))


def _fit(reply: DNSRecord, bytes_max: int, answers_max: int | None) -> bytes:
    """Drops answers, and what belongs to them, until the packet is small enough."""
    extra = [record for record in reply.ar if record.rtype != QTYPE.OPT]
    options = [record for record in reply.ar if record.rtype == QTYPE.OPT]
    if answers_max is not None:
        reply.rr = reply.rr[:answers_max]
    while True:
        targets = {str(record.rdata.target) for record in reply.rr if record.rtype == QTYPE.SRV}
        if any(record.rtype == QTYPE.SRV for record in reply.rr):
            extra = [record for record in extra if str(record.rname) in targets]
        reply.ar = extra + options
        packet = reply.pack()
        if len(packet) <= bytes_max or not reply.rr:
            return packet
        excess = len(packet) - bytes_max
        per_answer = max(1, len(packet) // len(reply.rr))
        reply.rr = reply.rr[: -max(1, excess // per_answer)]


def _target(state: ConsulState, node: Node, service: Service) -> str:
    """Where an SRV record points: the node, the instance's own address as a name, or its host name."""
    if not service.address:
        return f"{node.node}.node.{state.datacenter}.{DOMAIN}."
    if _is_ip(service.address):
        return f"{int(IPv4Address(service.address)):08x}.addr.{state.datacenter}.{DOMAIN}."
    return service.address.rstrip(".") + "."


def _weight(entry: ServiceEntry) -> int:
    is_warning = any(check.status == Status.WARNING for check in entry.checks)
    return entry.service.weights.warning if is_warning else entry.service.weights.passing


def _is_ip(address: str) -> bool:
    try:
        IPv4Address(address)
    except AddressValueError:
        return False
    return True


def _record(name: str, rtype: int, data: object) -> RR:
    return RR(name, rtype, rdata=data, ttl=TTL_S)


def _soa(state: ConsulState) -> RR:
    times = (int(state.loop.time()), 3600, 600, 86_400, 0)
    return _record(DOMAIN, QTYPE.SOA, SOA(f"ns.{DOMAIN}.", f"hostmaster.{DOMAIN}.", times))
