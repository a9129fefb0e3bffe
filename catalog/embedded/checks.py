"""What is a check, as it was asked for, and who looks after it?

Kinds: ttl (fed by its owner), http and tcp (probed at an interval). gRPC, alias, docker and script
checks are refused with a plain message; so is what real Consul refuses, in its words. As on 1.8.7
(measured), SuccessBeforePassing and FailuresBeforeCritical are accepted over HTTP and change nothing,
and an interval below a second is a second.

The probing itself is a Prober's: production uses HttpProber (prober.py), a simulator passes its own.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, assert_never

from catalog.embedded.answers import Fields, Refused
from catalog.embedded.records import STATUSES, Status

INTERVAL_S_MIN = 1.0
TIMEOUT_S_DEFAULT = 10.0
OUTPUT_BYTES_MAX = 4096
DEREGISTER_S_MIN = 60.0

CHECK_FIELDS = (
    "ID", "CheckID", "Name", "Status", "Notes", "ScriptArgs", "Args", "HTTP", "Header", "Method", "Body",
    "TCP", "Interval", "AliasNode", "AliasService", "DockerContainerID", "Shell", "GRPC", "GRPCUseTLS",
    "TLSServerName", "TLSSkipVerify", "Timeout", "TTL", "SuccessBeforePassing", "FailuresBeforeCritical",
    "ProxyHTTP", "ProxyGRPC", "DeregisterCriticalServiceAfter", "OutputMaxSize", "ServiceID", "Token",
    "Namespace",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TtlSpec:
    ttl_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSpec:
    url: str
    method: str = "GET"
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    body: str = ""
    is_verified: bool = True
    interval_s: float = 10.0
    timeout_s: float = TIMEOUT_S_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpSpec:
    address: str
    interval_s: float = 10.0
    timeout_s: float = TIMEOUT_S_DEFAULT


CheckSpec = TtlSpec | HttpSpec | TcpSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckDefinition:
    """One check as registered; id and name may be empty, service registration fills them in."""

    id: str
    name: str
    notes: str
    status: str  # "" when not given
    service_id: str
    spec: CheckSpec
    deregister_after_s: float = 0.0  # 0: never

    @property
    def type(self) -> str:
        """Consul's word for the kind."""
        match self.spec:
            case TtlSpec():
                return "ttl"
            case HttpSpec():
                return "http"
            case TcpSpec():
                return "tcp"
        assert_never(self.spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    status: Status
    output: str


class Prober(Protocol):
    """Does one probe of an http or tcp check; keeps to spec.timeout_s. May raise: that is critical."""

    async def probe(self, spec: HttpSpec | TcpSpec) -> ProbeResult: ...


DURATION_FIELDS = ("Interval", "TTL", "Timeout", "DeregisterCriticalServiceAfter")


def read_check(fields: Fields, *, bad_status: str) -> CheckDefinition:
    """One check of a registration. Raises Refused with real Consul's words; `bad_status` is one of them."""
    fields.only(*CHECK_FIELDS)
    status = fields.text("Status")
    interval_s, ttl_s = fields.duration_s("Interval"), fields.duration_s("TTL")
    deregister_after_s = fields.duration_s("DeregisterCriticalServiceAfter")
    timeout_s = fields.duration_s("Timeout") or TIMEOUT_S_DEFAULT
    _refuse_unsupported(fields)
    is_probed = fields.has("HTTP") or fields.has("TCP") or fields.has("Args") or fields.has("ScriptArgs")
    if interval_s > 0 and ttl_s > 0:
        raise Refused(400, "Invalid check: Interval and TTL cannot both be specified")
    if is_probed and interval_s <= 0:
        raise Refused(400, "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks")
    if not is_probed and ttl_s <= 0:
        raise Refused(400, "Invalid check: TTL must be > 0 for TTL checks")
    if status and status not in STATUSES:
        raise Refused(400, bad_status)
    spec: CheckSpec
    if fields.has("Args") or fields.has("ScriptArgs"):
        raise Refused(
            500,
            "Scripts are disabled on this agent from remote calls; "
            "to enable, configure 'enable_script_checks' to true",
        )
    if fields.has("HTTP"):
        spec = HttpSpec(
            url=fields.text("HTTP"),
            method=fields.text("Method") or "GET",
            header={name: tuple(values) for name, values in fields.mapping("Header").items()},
            body=fields.text("Body"),
            is_verified=not fields.flag("TLSSkipVerify"),
            interval_s=max(interval_s, INTERVAL_S_MIN),
            timeout_s=timeout_s,
        )
    elif fields.has("TCP"):
        spec = TcpSpec(
            address=fields.text("TCP"), interval_s=max(interval_s, INTERVAL_S_MIN), timeout_s=timeout_s
        )
    else:
        spec = TtlSpec(ttl_s=ttl_s)
    return CheckDefinition(
        id=fields.text("CheckID") or fields.text("ID"),
        name=fields.text("Name"),
        notes=fields.text("Notes"),
        status=status,
        service_id=fields.text("ServiceID"),
        spec=spec,
        deregister_after_s=max(deregister_after_s, DEREGISTER_S_MIN) if deregister_after_s else 0.0,
    )


def _refuse_unsupported(fields: Fields) -> None:
    for name, what in (("GRPC", "gRPC"), ("AliasService", "alias"), ("AliasNode", "alias")):
        if fields.has(name):
            raise Refused(400, f"Invalid check: the embedded Consul has no {what} checks")


def cut_output(output: str) -> str:
    """The first 4 KiB, with Consul's note on what was left out."""
    data = output.encode()
    if len(data) <= OUTPUT_BYTES_MAX:
        return output
    head = data[:OUTPUT_BYTES_MAX].decode("utf-8", "ignore")
    return f"{head} ... (captured {OUTPUT_BYTES_MAX} of {len(data)} bytes)"


class TtlTimer:
    """Turns a ttl check critical when nobody fed it in time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, spec: TtlSpec, on_expiry: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._ttl_s = spec.ttl_s
        self._on_expiry = on_expiry
        self._last_output = ""
        self._timer = loop.call_later(self._ttl_s, self._expire)

    def feed(self, output: str) -> None:
        """Somebody set the status: the time starts again."""
        self._timer.cancel()
        self._last_output = output
        self._timer = self._loop.call_later(self._ttl_s, self._expire)

    def stop(self) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        note = "TTL expired"
        if self._last_output:
            note += f" (last output before timeout follows): {self._last_output}"
        self._on_expiry(note)


async def probe_forever(
    prober: Prober,
    spec: HttpSpec | TcpSpec,
    rng: random.Random,
    on_result: Callable[[ProbeResult], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Probes once an interval, from a random moment in the first; a probe that raises is critical."""
    await sleep(rng.random() * spec.interval_s)
    while True:
        try:
            result = await prober.probe(spec)
        except Exception as error:  # whatever a prober trips over, the check is what must say so
            result = ProbeResult(status=Status.CRITICAL, output=str(error) or type(error).__name__)
        on_result(result)
        await sleep(spec.interval_s)
