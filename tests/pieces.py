"""For transports without sockets: an answer in pieces is the whole answer in one."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from catalog.transport import Response


class OnePiece:
    """Gives a transport with `request` its `stream`."""

    @asynccontextmanager
    async def stream(
        self: Any, path: str, *, params: Mapping[str, str], timeout_s: float
    ) -> AsyncIterator[tuple[Response, AsyncIterator[bytes]]]:
        answer: Response = await self.request("GET", path, params=params, timeout_s=timeout_s)

        async def pieces() -> AsyncIterator[bytes]:
            yield answer.body

        yield answer, pieces()
