"""Which kind of Consul answers at an address?"""

import asyncio
import random
import re
from pathlib import Path

import pytest
from aiohttp import web

from agent.data_dir import DataDir
from agent.fingerprint import ConsulFacts
from catalog.client import Client
from catalog.embedded import ConsulAgent, ConsulState, HttpServer
from catalog.services import LocalAgent
from catalog.transport import Endpoint, HttpTransport
from cli import demo
from cli.local_consul import facts, found_at
from tests.components.consul import ConsulServer, free_port


def at(port: int) -> Endpoint:
    return Endpoint(address=f"127.0.0.1:{port}")


async def test_an_embedded_consul_of_another_drover_is_told_from_a_real_one() -> None:
    port = free_port()
    state = ConsulState(loop=asyncio.get_running_loop(), rng=random.Random(1))
    async with (
        ConsulAgent(state, "n1", "127.0.0.1", is_server=True) as consul,
        HttpServer(consul, "127.0.0.1", port),
    ):
        assert await found_at(at(port)) == "another drover's embedded"
    assert await found_at(at(port)) == ""


async def test_a_real_consul_is_real(consul: ConsulServer) -> None:
    assert await found_at(Endpoint(address=consul.http_addr)) == "real"


async def test_a_web_server_is_no_consul() -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>")

    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        assert await found_at(at(port)) == ""
    finally:
        await runner.cleanup()


def test_the_demo_does_without_a_consul_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], consul: ConsulServer
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", consul.http_addr)
    assert demo.environ()["CONSUL_HTTP_ADDR"] == consul.http_addr
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("CONSUL_HTTP_ADDR", address)
    assert "CONSUL_HTTP_ADDR" not in demo.environ()
    assert capsys.readouterr().out == f"    no Consul answers at CONSUL_HTTP_ADDR ({address})\n"


async def test_a_node_knows_consuls_version_also_while_consul_is_away(consul: ConsulServer, tmp_path: Path) -> None:
    with DataDir(tmp_path) as data:
        there = await asked(Endpoint(address=consul.http_addr), data)
        assert (there.node, there.datacenter) == (consul.node_name, "dc1")
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", there.version)
        assert await asked(at(free_port()), data) == there


async def asked(endpoint: Endpoint, data: DataDir) -> ConsulFacts:
    transport = HttpTransport(endpoint)
    try:
        return await facts(LocalAgent(Client(transport)), data)
    finally:
        await transport.close()
