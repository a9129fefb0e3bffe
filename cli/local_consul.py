"""Which Consul does this process speak to, and who does it say that it is?

The local agent at `consul.address`; with `-dev` on a machine without one, the embedded Consul inside this
process. A Consul that is away is no reason not to start: tasks are to be watched all the same.
"""

import asyncio
import errno
import json
import os
import random
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from agent.data_dir import DataDir
from agent.fingerprint import ConsulFacts
from catalog.services import LocalAgent
from catalog.transport import Endpoint, HttpTransport
from configs import AgentConfig
from configs.tls import Contexts, contexts
from model.errors import ConfigError, Fault, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from catalog.embedded import DnsServer, HttpServer

# How long the start waits for the local Consul agent to say who it is; without an answer drover starts anyway.
CONSUL_FACTS_S = 2.0
# Consul's own ports, so that `dig` and everything else that looks for a Consul finds the embedded one.
EMBEDDED_HTTP_PORT = 8500
EMBEDDED_DNS_PORT = 8600
ANOTHERS = "another drover's embedded"


async def reach(config: AgentConfig, named: Endpoint, stack: AsyncExitStack) -> tuple[Endpoint, str]:
    """The local Consul agent at `named`, or, with -dev on a machine without one, the embedded Consul; and what it is to be
    called. Raises ConfigError when nobody answers at an address that was named."""
    kind = await found_at(named)
    # One that lives in another drover's process ends with it: who may have one of its own does not lean on that.
    if kind and not (kind == ANOTHERS and config.is_dev and not config.consul.is_address_named):
        return named, kind
    # A Consul that is away at this moment must not keep drover from watching its tasks: only an
    # address at which nothing of drover's ever ran is a mistake that must be told.
    if not config.is_dev and (config.data_dir / "consul.json").exists():
        return named, "absent"
    if not config.is_dev or config.consul.is_address_named:
        raise ConfigError(
            (Fault(path="consul.address", message=f"no Consul agent answers at {named.url} (is it running?)"),)
        )
    return Endpoint(address=await _embedded(stack)), "embedded"


def endpoint(config: AgentConfig, tls: Contexts | None = None) -> Endpoint:
    """The Consul agent that the configuration names. Raises ConfigError."""
    found = tls or contexts(config.tls, config.consul)
    return Endpoint(address=config.consul.address, tls=found.consul, token=config.consul.token)


async def _embedded(stack: AsyncExitStack) -> str:
    """Starts a Consul inside this process, on Consul's own ports; returns its address. Raises ConfigError."""
    from catalog.embedded import ConsulAgent, ConsulState, DnsServer, HttpProber, HttpServer

    prober = await stack.enter_async_context(HttpProber())
    state = ConsulState(loop=asyncio.get_running_loop(), rng=random.SystemRandom())
    consul = ConsulAgent(state, socket.gethostname(), "127.0.0.1", prober=prober, is_server=True)
    await stack.enter_async_context(consul)
    try:
        http_port = await _listening(stack, lambda port: HttpServer(consul, "127.0.0.1", port), EMBEDDED_HTTP_PORT)
        await _listening(stack, lambda port: DnsServer(consul, "127.0.0.1", port), EMBEDDED_DNS_PORT)
    except OSError as error:
        raise ConfigError(
            (
                Fault(
                    path="consul.address",
                    message=f"no Consul answers, and the embedded one cannot listen on 127.0.0.1: {os.strerror(error.errno or 0)}",
                ),
            )
        ) from error
    return f"127.0.0.1:{http_port}"


async def _listening(stack: AsyncExitStack, server: "Callable[[int], HttpServer | DnsServer]", port: int) -> int:
    """On this port, or, where it is taken, on a free one; returns which."""
    listening = server(port)
    try:
        await stack.enter_async_context(listening)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        listening = server(0)
        await stack.enter_async_context(listening)
    return listening.port


async def found_at(place: Endpoint) -> str:
    """Which kind of Consul answers there; empty when none does."""
    transport = HttpTransport(place)
    try:
        response = await transport.request("GET", "/v1/agent/self", timeout_s=CONSUL_FACTS_S)
        if response.status == 403:
            return "real"  # which does not know our token: said by the first call that needs it
        if response.status != 200 or not isinstance(itself := json.loads(response.body), dict):
            return ""
    except (StoreUnavailable, ValueError):
        return ""
    finally:
        await transport.close()
    return ANOTHERS if itself.get("DroverEmbedded") else "real"


async def facts(local: LocalAgent, data_dir: DataDir) -> ConsulFacts:
    """What the local Consul agent says of itself, or said last time: a node must not change when it blinks."""
    kept = data_dir.path / "consul.json"
    try:
        async with asyncio.timeout(CONSUL_FACTS_S):
            itself = await local.itself()
    except (StoreUnavailable, StoreRefused, TimeoutError):
        with suppress(OSError, ValueError, TypeError):
            return ConsulFacts(**json.loads(kept.read_text()))
        return ConsulFacts()
    found = ConsulFacts(node=itself.node, datacenter=itself.datacenter, version=itself.version)
    with suppress(OSError):
        kept.write_text(json.dumps(asdict(found)))
    return found
