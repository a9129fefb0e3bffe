"""What is no proper HTTP is refused, and does not fill the agent's log."""

import socket

import pytest

from tests.e2e.drover import Drover, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul]

PUT = b"PUT /v1/jobs/parse HTTP/1.1\r\nHost: x\r\n"
# {what is wrong: (what is sent, the answer's status; None: the client hangs up without one)}
MALFORMED: dict[str, tuple[bytes, int | None]] = {
    "overlong header": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 400_000 + b"\r\n\r\n", 400),
    "overlong path": (b"GET /" + b"a" * 400_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "content length": (PUT + b"Content-Length: abc\r\n\r\n", 400),
    "negative length": (PUT + b"Content-Length: -1\r\n\r\n", 400),
    "two lengths": (PUT + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 400),
    "version": (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    "chunk": (PUT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", 400),
    "zipped": (PUT + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 400),
    "host": (b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "half a body": (PUT + b"Content-Length: 30\r\n\r\nabc", None),
}


@pytest.mark.parametrize("what", MALFORMED, ids=[what.replace(" ", "-") for what in MALFORMED])
def test_a_malformed_request_is_refused_and_told_at_debug_in_one_line(what: str, one: Drover) -> None:
    sent, status = MALFORMED[what]
    before = len(one.log)
    host, _, port = one.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(sent)
        if status is not None:
            assert client.recv(65536).split()[1] == str(status).encode()
    wait("a line in the log", lambda: "drover.http: " in one.log[before:])
    assert not any(word in one.log[before:] for word in ("Traceback", "[ERROR]", "[WARNING]"))
