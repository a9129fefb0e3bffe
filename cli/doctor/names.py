"""Consul DNS: does the local agent answer, and does this machine's own resolver ask it?"""

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

from catalog.transport import HttpTransport
from cli import local_consul
from configs import AgentConfig
from configs.tls import contexts
from model.errors import ConfigError, StoreUnavailable
from model.finding import Finding, failed, ok, warning

# Consul's servers register it themselves.
_NAME = "consul.service.consul"
_WAIT_S = 3.0
_FORWARD = (
    "forward .consul to Consul: for systemd-resolved a file /etc/systemd/resolved.conf.d/consul.conf with "
    '"[Resolve]", "DNS=127.0.0.1:{port}", "DNSSEC=false", "Domains=~consul"; for dnsmasq "server=/consul/127.0.0.1#{port}"'
)


async def look(config: AgentConfig) -> list[Finding]:
    try:
        known = await _itself(config)
    except (ConfigError, StoreUnavailable, ValueError):
        return []  # said already
    debug = known.get("DebugConfig", {})
    port = int(debug.get("DNSPort") or -1)
    if port <= 0:
        return [warning("dns", "Consul's DNS is switched off in the local agent", 'set "ports": {"dns": 8600} in Consul\'s configuration')]
    host = config.consul.address.rpartition(":")[0].strip("[]") or "127.0.0.1"
    if not await asyncio.to_thread(_answers, host, port):
        text = f"{host}:{port} does not answer for {_NAME}"
        return [failed("dns", text, "let Consul's agent listen for DNS on an address of this machine (client_addr, addresses.dns)")]
    found = [ok("dns", f"{host}:{port} answers for {_NAME}")]
    try:
        async with asyncio.timeout(_WAIT_S):
            await asyncio.get_running_loop().getaddrinfo(_NAME, None)
    except (OSError, TimeoutError):
        text = f"this machine's resolver does not find {_NAME}: tasks that look services up by name will not either"
        return [*found, warning("dns forwarding", text, _FORWARD.format(port=port))]
    return [*found, ok("dns forwarding", f"this machine's resolver finds {_NAME}")]


async def _itself(config: AgentConfig) -> Mapping[str, Any]:
    transport = HttpTransport(local_consul.endpoint(config, contexts(config.tls, config.consul)))
    try:
        response = await transport.request("GET", "/v1/agent/self", timeout_s=_WAIT_S)
        if response.status != 200:
            raise StoreUnavailable("refused")
        found: Mapping[str, Any] = json.loads(response.body)
        return found
    finally:
        await transport.close()


def _answers(host: str, port: int) -> bool:
    """Blocks."""
    from dnslib import DNSRecord
    from dnslib.dns import DNSError  # type: ignore[import-untyped]

    question = DNSRecord.question(_NAME)
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(_WAIT_S)
            asking.sendto(question.pack(), (host, port))
            answer = DNSRecord.parse(asking.recv(4096))
    except (OSError, DNSError):
        return False
    return bool(answer.header.id == question.header.id and answer.rr)
