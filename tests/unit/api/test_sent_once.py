"""A call that changes something is sent to another agent once, whatever becomes of the connection."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from yarl import URL

from api.context import BrokenOff, asked

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def against_one_that_dies(calls: Callable[[aiohttp.ClientSession, URL], Awaitable[None]]) -> list[str]:
    """Runs calls against a server that answers the first request and takes each further one without an answer, as an
    agent that dies. The methods of the requests that it took."""
    taken: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next((int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-length")), 0)
                await reader.readexactly(length)
                taken.append(head.split()[0])
                if len(taken) > 1:
                    break
                writer.write(ANSWER)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, aiohttp.ClientSession() as session:
            url = URL(f"http://127.0.0.1:{port}/v1/job/x/dispatch")
            async with await asked(session, "GET", url) as answer:
                assert await answer.read() == b"ok"
            await calls(session, url)

    asyncio.run(main())
    return taken


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_a_write_whose_connection_breaks_is_not_sent_again(method: str) -> None:
    async def write(session: aiohttp.ClientSession, url: URL) -> None:
        with pytest.raises(BrokenOff):
            await asked(session, method, url, data=b"{}")

    assert against_one_that_dies(write) == ["GET", method]


def test_a_read_is_asked_again() -> None:
    async def read(session: aiohttp.ClientSession, url: URL) -> None:
        with pytest.raises(aiohttp.ClientError):
            await asked(session, "GET", url)

    assert against_one_that_dies(read) == ["GET", "GET", "GET"]


def test_a_write_that_found_nobody_is_told_as_such() -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await asked(session, "PUT", URL("http://127.0.0.1:1/"), data=b"{}")

    asyncio.run(main())
