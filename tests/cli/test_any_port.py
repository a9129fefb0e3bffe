"""`ports { http = 0 }`: the port that the kernel gave is the one that everybody is told."""

import re
from collections.abc import Iterator

import pytest

from tests.components.consul import ConsulServer
from tests.conftest import or_skip
from tests.e2e.drover import Drover, call, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


@pytest.fixture(scope="module")
def consul() -> Iterator[ConsulServer]:
    """Its own: it would stay a member, or a node, of the one that all others use."""
    with or_skip(lambda: ConsulServer().__enter__()) as server:
        yield server


@pytest.mark.parametrize(
    ("settings", "host"),
    [("", "127.0.0.1"), ('advertise { http = "localhost" }', "localhost"), ('advertise { http = "localhost:0" }', "localhost")],
    ids=["", "host advertised", "host:0 advertised"],
)
def test_an_agent_on_any_free_port_tells_which(settings: str, host: str, consul: ConsulServer) -> None:
    drover = Drover(consul, name="any", settings=settings)
    text = drover.config.read_text()
    drover.config.write_text(re.sub(r"ports \{ http = \d+ \}", "ports { http = 0 }", text))
    with_port = re.compile(rf"API on http://{host}:(\d+),")
    try:
        drover.start(is_ready=False)
        port = wait("its first line", lambda: (found := with_port.search(drover.log)) and found[1])
        assert int(port) > 0
        shown = call(f"127.0.0.1:{port}", "GET", "/v1/agent/self")
        assert (shown["member"]["Addr"], shown["member"]["Port"]) == (host, int(port))
        assert shown["config"]["Ports"] == {"HTTP": int(port)}
        node = shown["stats"]["client"]["node_id"]
        told = wait("its node", lambda: call(f"127.0.0.1:{port}", "GET", f"/v1/node/{node}"))["HTTPAddr"]
        assert told == f"{host}:{port}"
    finally:
        drover.close()
