"""`node meta apply`: what it says of a node that cannot follow at once."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.cli.command import drover

NODES = [{"ID": f"{digit * 8}-node", "Name": name, "Status": name} for digit, name in (("a", "ready"), ("b", "down"))]


class Answers(BaseHTTPRequestHandler):
    """Two nodes, and a yes to whatever is written."""

    def do_GET(self) -> None:
        self._answer(NODES)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"Meta": {}})

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, name="answers")
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (("-node-id", "bbbb"), ["Warning: node down is down, the change takes effect when it returns"]),
        (("-node-id", "aaaa"), []),
        ((), []),
    ],
    ids=["down", "ready", "the asked agent's own"],
)
def test_a_node_that_is_down_is_told_to_follow_when_it_returns(argv: tuple[str, ...], told: list[str], address: str) -> None:
    assert drover("node", "meta", "apply", *argv, "role=web", address=address).shown == (0, [], told)
