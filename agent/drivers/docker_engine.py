"""How is a Docker Engine asked, and what do its errors mean to a task?

The only importer of aiodocker; its own request method is used, so that the connection pool, API version
and credentials are its business. Answers are translated here, once:

    no connection, 5xx while it restarts, timeout   DriverBusy: nobody knows, try again
    404                                             None from inspect(); StartFailed elsewhere
    anything else on a start                        StartFailed with the engine's own words

aiodocker is imported at the first call: an agent without Docker never pays for it.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.drivers.base import StartFailed
from model.errors import DriverBusy

if TYPE_CHECKING:
    import aiodocker

SOCKET = "unix:///var/run/docker.sock"
# A call that starts nothing and follows nothing answers in milliseconds; a disk that writes back may
# hold a create or a remove for many seconds.
CALL_S_MAX = 60.0
_HEADER_BYTES = 8
_NO_CONNECTION = 900  # aiodocker's own status
_RESTARTING = (502, 503, 504)


class NotThere(StartFailed):
    """The engine has no such container or image."""


class Engine:
    """One Docker Engine. endpoint: unix:///path, tcp://host:port; empty: DOCKER_HOST or the usual socket."""

    def __init__(self, endpoint: str = "") -> None:
        self.endpoint = endpoint or os.environ.get("DOCKER_HOST", "") or SOCKET
        self._client: aiodocker.Docker | None = None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s_max: float | None = CALL_S_MAX,
    ) -> Any:
        """The parsed answer; None for an empty one. Raises DriverBusy, NotThere, StartFailed."""
        try:
            async with (
                asyncio.timeout(wait_s_max),
                self.stream(method, path, params=params, body=body, headers=headers) as response,
            ):
                text = await response.read()
        except TimeoutError as error:
            raise DriverBusy(f"Docker: {method} {path}: no answer in {wait_s_max} s") from error
        if not text.strip():
            return None
        return json.loads(text) if text[:1] in b"{[" else text

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Any]:
        """The response, to be read as it comes; without a timeout of its own."""
        import aiohttp
        from aiodocker.exceptions import DockerError

        try:
            async with self._connected()._query(
                path,
                method,
                params=dict(params or {}),
                data=None if body is None else json.dumps(body),
                headers=dict(headers or {}),
                timeout=None,
            ) as response:
                yield response
        except DockerError as error:
            raise _translated(error, f"{method} {path}") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise DriverBusy(f"Docker: {method} {path}: {error}") from error

    async def inspect(self, container: str) -> Mapping[str, Any] | None:
        """None when there is no such container."""
        with suppress(NotThere):
            found: Mapping[str, Any] = await self.call("GET", f"containers/{container}/json")
            return found
        return None

    async def has_image(self, image: str) -> bool:
        with suppress(NotThere):
            await self.call("GET", f"images/{image}/json")
            return True
        return False

    async def pull(self, image: str, auth: Mapping[str, str], wait_s_max: float) -> None:
        """Raises StartFailed with the registry's own words."""
        import base64

        name, tag = split_image(image)
        headers = {}
        if auth:
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(json.dumps(dict(auth)).encode()).decode()
        try:
            async with (
                asyncio.timeout(wait_s_max),
                self.stream(
                    "POST", "images/create", params={"fromImage": name, "tag": tag}, headers=headers
                ) as response,
            ):
                last = b""
                async for line in response.content:
                    last = line.strip() or last
                    if b'"error"' in line:
                        raise StartFailed(f"cannot pull {image}: {json.loads(line).get('error')}")
        except TimeoutError as error:
            raise StartFailed(f"cannot pull {image}: not done after {wait_s_max:.0f} s") from error

    async def execute(self, container: str, argv: Sequence[str], output_bytes_max: int) -> tuple[int, bytes]:
        """Runs a command in a running container: (exit code, both streams)."""
        made = await self.call(
            "POST",
            f"containers/{container}/exec",
            body={"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True},
        )
        output = bytearray()
        async with self.stream(
            "POST", f"exec/{made['Id']}/start", body={"Detach": False, "Tty": False}
        ) as response:
            async for group in frames(response.content):
                for _, payload in group:
                    output += payload[: output_bytes_max - len(output)]
        done = await self.call("GET", f"exec/{made['Id']}/json")
        return int(done["ExitCode"] or 0), bytes(output)

    @asynccontextmanager
    async def attached(self, exec_id: str, *, is_tty: bool) -> AsyncIterator[Any]:
        """Starts an exec that was made: aiodocker's stream of its input and output."""
        import aiohttp
        from aiodocker.exceptions import DockerError
        from aiodocker.execs import Exec

        what = f"POST exec/{exec_id}/start"
        try:
            async with Exec(self._connected(), exec_id, is_tty).start() as stream:
                yield stream
        except DockerError as error:
            raise _translated(error, what) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise DriverBusy(f"Docker: {what}: {error}") from error

    def _connected(self) -> "aiodocker.Docker":
        if self._client is None:
            import aiodocker
            import aiohttp

            # Each running container holds two connections for good; the usual limit of 100 would stop all.
            if self.endpoint.startswith("unix://"):
                path = self.endpoint.removeprefix("unix://")
                if not Path(path).exists():
                    raise DriverBusy(f"Docker: {path} is not there")
                connector: aiohttp.BaseConnector = aiohttp.UnixConnector(path, limit=0)
                url = "unix://localhost"
            else:
                connector = aiohttp.TCPConnector(limit=0)
                url = self.endpoint.replace("tcp://", "http://", 1)
            session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout())
            self._client = aiodocker.Docker(url=url, session=session, connector=connector)
            self._client._owns_session = True  # closed with the client
        return self._client


async def frames(content: Any) -> AsyncIterator[list[tuple[int, bytes]]]:
    """The engine's multiplexed stream, in groups as they arrive: (1 for stdout or 2 for stderr, payload)."""
    buffered = b""
    async for chunk in content.iter_any():
        buffered = buffered + chunk if buffered else chunk
        at = 0
        group = []
        while len(buffered) - at >= _HEADER_BYTES:
            end = at + _HEADER_BYTES + int.from_bytes(buffered[at + 4 : at + 8], "big")
            if len(buffered) < end:
                break
            group.append((buffered[at], buffered[at + _HEADER_BYTES : end]))
            at = end
        buffered = buffered[at:]
        if group:
            yield group


def split_image(image: str) -> tuple[str, str]:
    """(name, tag or digest) as the engine wants them: "latest" when there is none."""
    name, at, digest = image.partition("@")
    if at:
        return name, digest
    path, colon, tag = name.rpartition(":")
    if colon and "/" not in tag:
        return path, tag
    return name, "latest"


def _translated(error: Any, what: str) -> Exception:
    message = f"Docker: {error.message}"
    if error.status == _NO_CONNECTION or error.status in _RESTARTING:
        return DriverBusy(f"{message} ({what})")
    return NotThere(message) if error.status == 404 else StartFailed(message)
