"""The other agents, their clocks, and Vault."""

import asyncio
import http.client
import json
import ssl
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from api.context import ALIVE_PATH
from catalog.transport import HttpTransport
from cli import local_consul
from cli.vault_login import vault_login
from configs import AgentConfig
from configs.tls import Contexts, contexts
from model.errors import ConfigError, StoreRefused, StoreUnavailable
from model.finding import Finding, failed, ok, warning
from vault import check
from vault.login import NoToken

# Of a large fleet a few tell as much.
_ASKED_MAX = 30
_CALL_S_MAX = 5.0
# HTTP tells whole seconds; leases and deadlines go wrong from a few on.
_CLOCK_S_MAX = 5.0
_LOGIN_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class Other:
    name: str
    url: str


async def look(config: AgentConfig) -> list[Finding]:
    try:
        tls = contexts(config.tls, config.consul)
        others = await _others(config, tls)
    except (ConfigError, StoreUnavailable, StoreRefused, ValueError):
        return [*await _vault(config)]  # said already
    return [*await _asked(others, tls), *await _vault(config)]


async def _others(config: AgentConfig, tls: Contexts) -> list[Other]:
    transport = HttpTransport(local_consul.endpoint(config, tls))
    try:
        response = await transport.request("GET", "/v1/health/service/drover-agent", timeout_s=_CALL_S_MAX)
    finally:
        await transport.close()
    if response.status != 200:
        raise StoreRefused("the catalog is not read")
    scheme = "https" if config.tls.http else "http"
    found = [(one["Node"]["Node"], one["Service"]) for one in json.loads(response.body)]
    return [Other(name, f"{scheme}://{service['Address']}:{service['Port']}") for name, service in found][:_ASKED_MAX]


async def _asked(others: list[Other], tls: Contexts) -> list[Finding]:
    if not others:
        return [ok("fleet", "no agent is registered in this datacenter yet")]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CALL_S_MAX)) as session:
        answers = await asyncio.gather(*(_date(session, one, tls) for one in others))
    silent = [one.name for one, answer in zip(others, answers, strict=True) if answer is None]
    ahead = {one.name: answer - time.time() for one, answer in zip(others, answers, strict=True) if answer is not None}
    found = []
    if silent:
        text = f"{len(silent)} of {len(others)} agents do not answer from here ({', '.join(silent[:3])})"
        found.append(failed("fleet", text, "agents pass calls on to each other: let their API port through, and mend `advertise`"))
    else:
        found.append(ok("fleet", f"{len(others)} agents answer"))
    off = {name: span_s for name, span_s in ahead.items() if abs(span_s) > _CLOCK_S_MAX}
    if off and 2 * len(off) > len(ahead):
        text = f"this machine's clock differs by {-sorted(off.values())[len(off) // 2]:+.0f} s from {len(off)} of {len(ahead)} agents"
        found.append(failed("clock", text, "run chrony or systemd-timesyncd here"))
    elif off:
        name, span_s = next(iter(off.items()))
        text = f"the clocks of {len(off)} agents are off ({name}: {span_s:+.0f} s)"
        found.append(warning("clock", text, "run chrony or systemd-timesyncd there"))
    elif ahead:
        found.append(ok("clock", f"agrees with those of {len(ahead)} agents within {_CLOCK_S_MAX:.0f} s"))
    return found


async def _date(session: aiohttp.ClientSession, one: Other, tls: Contexts) -> float | None:
    """Its clock, seconds since the epoch; None: it does not answer."""
    with suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError):
        async with session.get(f"{one.url}{ALIVE_PATH}", ssl=tls.peers or True) as answer:
            return parsedate_to_datetime(answer.headers["Date"]).timestamp()
    return None


def is_drover(address: str) -> bool:
    """Whether an agent's API answers there, encrypted or not. Blocks."""
    untrusting = ssl.create_default_context()
    untrusting.check_hostname, untrusting.verify_mode = False, ssl.CERT_NONE
    for connection in (
        http.client.HTTPConnection(address, timeout=2.0),
        http.client.HTTPSConnection(address, timeout=2.0, context=untrusting),
    ):
        try:
            connection.request("GET", ALIVE_PATH)
            answer = connection.getresponse()
            if answer.status == 200 and isinstance(json.loads(answer.read()), list):
                return True
        except (OSError, http.client.HTTPException, ValueError):
            continue
        finally:
            connection.close()
    return False


async def _vault(config: AgentConfig) -> list[Finding]:
    if not config.vault.enabled:
        return []
    async with AsyncExitStack() as stack:
        login = vault_login(config.vault, stack)
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(login.run(), name="vault login")
            if not isinstance(login.way, NoToken):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOGIN_S_MAX):
                        await login.ready()
            report = await check.check(login, config.vault.create_from_role, may_lead=config.server.enabled)
            keeping.cancel()
    found = [Finding(name=f"vault {one.name}", outcome=one.outcome, text=one.text, remedy=one.remedy) for one in report.findings]
    return [*found, *await _path(config)]


async def _path(config: AgentConfig) -> list[Finding]:
    """Whether Vault is reached through jobs of drover's own: the leader knows, asked through the agent that runs here."""
    host = config.http_host if config.http_host not in ("", "0.0.0.0", "::") else "127.0.0.1"
    url = f"{'https' if config.tls.http else 'http'}://{host}:{config.ports.http}/v1/operator/vault/path"
    headers = {"X-Nomad-Token": config.consul.token.reveal()} if config.consul.token else {}
    try:
        tls = contexts(config.tls, config.consul)
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_CALL_S_MAX)) as session,
            session.get(url, headers=headers, ssl=tls.peers or True) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"{answer.status}")
            shown: Mapping[str, Any] = await answer.json()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, ConfigError):
        return [warning("vault path", "whether Vault is reached through jobs is not known: no agent answers here", "start the agent")]
    if lines := shown["Warnings"]:
        remedy = "give agents an address of Vault that leads past drover's jobs; until then none of these may need Vault"
        return [failed("vault path", "; ".join(lines), remedy)]
    return [ok("vault path", "Vault is reached through no job of drover's")]
