"""How does an artifact get onto this machine? By HTTP, by git, or from a directory of the machine itself.

Everything lands below a directory that only the agent can enter. What the machine has of keys and passwords (netrc, root's SSH keys,
git's configuration) is lent to nobody: who writes a job says with what to fetch.
"""

import asyncio
import base64
import os
import shutil
import signal
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp
from yarl import URL

from agent.artifacts.tree import copied
from agent.artifacts.work import Work
from agent.drivers.base import StartFailed
from configs.settings import Artifact as Limits
from jobspec.artifacts import Kind, Source, without_secrets

_CONNECT_S = 10.0
# A connection over which nothing comes is given up before the whole time is.
_STALL_S = 60.0
_TRIES = 4
_CHUNK_BYTES = 256 * 1024
_WORDS_MAX = 300
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted: headers of the requests; is_insecure: whatever certificate the other end has."""

    source: Source
    headers: Mapping[str, str]
    is_insecure: bool = False


# Told now and then: bytes so far, and how many there will be, if that is known.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetcher:
    """pause_s: before the second try over HTTP; it doubles with each."""

    limits: Limits
    pause_s: float = 1.0

    async def fetch(self, order: Order, where: Path, work: Work, progress: Progress) -> Path:
        """What was fetched: a file or a directory in `where`. Raises StartFailed with what went wrong."""
        match order.source.kind:
            case Kind.HTTP:
                return await self._over_http(order, where, work, progress)
            case Kind.GIT:
                return await self._by_git(order, where, work)
            case Kind.FILE:
                return await work.run(_of_machine, order.source, where, work)

    async def text(self, url: str, order: Order, bytes_max: int) -> str:
        """A small text over HTTP, asked for as the artifact is. Raises StartFailed."""
        data = bytearray()

        async def read(answer: aiohttp.ClientResponse) -> None:
            data.clear()
            async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                data.extend(chunk)
                if len(data) > bytes_max:
                    raise StartFailed(f"more than {bytes_max} bytes")

        await self._get(url, order, read)
        return data.decode("utf-8", "replace")

    async def _over_http(self, order: Order, where: Path, work: Work, progress: Progress) -> Path:
        path, bytes_max = where / "file", self.limits.http_max_size

        async def read(answer: aiohttp.ClientResponse) -> None:
            done = 0
            with path.open("wb") as file:
                async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                    done += len(chunk)
                    if bytes_max and done > bytes_max:
                        raise StartFailed(f"more than {bytes_max} bytes")
                    await work.run(file.write, chunk)
                    progress(done, answer.content_length)

        await self._get(order.source.url, order, read)
        return path

    async def _get(self, url: str, order: Order, read: Callable[[aiohttp.ClientResponse], Awaitable[None]]) -> None:
        """read: of a whole answer, from its beginning however often it is called."""
        timeout = aiohttp.ClientTimeout(total=self.limits.http_read_timeout_s or None, sock_connect=_CONNECT_S, sock_read=_STALL_S)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            for tries in range(_TRIES):
                try:
                    await _answer(session, url, order, read)
                    return
                except (aiohttp.InvalidURL, aiohttp.TooManyRedirects, ValueError) as error:
                    raise StartFailed(f"{without_secrets(url)}: {type(error).__name__}") from error
                except (aiohttp.ClientError, OSError, TimeoutError, _Again) as error:
                    if tries == _TRIES - 1:
                        raise StartFailed(f"{without_secrets(url)}: {_words(error)}") from error
                except StartFailed as error:
                    raise StartFailed(f"{without_secrets(url)}: {error}") from error
                await asyncio.sleep(self.pause_s * 2**tries)

    async def _by_git(self, order: Order, where: Path, work: Work) -> Path:
        source = order.source
        if shutil.which("git") is None:
            raise StartFailed(f"{source.shown}: there is no git on this machine")
        tree, environment = where / "tree", _git_environment(order, where)
        depth = (f"--depth={source.depth}",) if source.depth else ()
        if source.ref and depth:
            steps = [
                ("init", "--quiet", f"{tree}"),
                ("-C", f"{tree}", "fetch", "--quiet", *depth, "--", source.url, source.ref),
                ("-C", f"{tree}", "checkout", "--quiet", "FETCH_HEAD"),
            ]
        elif source.ref:  # all of it: a server need not give out a commit by its name
            steps = [
                ("clone", "--quiet", "--no-checkout", "--", source.url, f"{tree}"),
                ("-C", f"{tree}", "checkout", "--quiet", source.ref, "--"),
            ]
        else:
            steps = [("clone", "--quiet", *depth, "--", source.url, f"{tree}")]
        steps.append(("-C", f"{tree}", "submodule", "--quiet", "update", "--init", "--recursive", *depth))
        try:
            async with asyncio.timeout(self.limits.git_timeout_s or None):
                for step in steps:
                    await _git(step, environment, source)
        except TimeoutError as error:
            raise StartFailed(f"{source.shown}: git took longer than {self.limits.git_timeout_s:.0f} s") from error
        await work.run(shutil.rmtree, tree / ".git", ignore_errors=True)
        return tree


class _Again(Exception):
    """The other end is in trouble, perhaps not for long."""


async def _answer(
    session: aiohttp.ClientSession, url: str, order: Order, read: Callable[[aiohttp.ClientResponse], Awaitable[None]]
) -> None:
    # As it is written, for it may be signed; and as it lies there, for it may be a checksum's.
    address = URL(url, encoded=url.isascii())
    headers = {"Accept-Encoding": "identity", **order.headers}
    async with session.get(address, headers=headers, ssl=not order.is_insecure, proxy=_proxy(url)) as answer:
        if answer.status >= 500 or answer.status in (408, 429):
            raise _Again(f"bad response code: {answer.status}")
        if not 200 <= answer.status < 300:
            raise StartFailed(f"bad response code: {answer.status}")
        await read(answer)


def _proxy(url: str) -> str | None:
    """As the agent's environment says. aiohttp's own way would read root's netrc as well."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(parts.scheme)


def name_of(source: Source) -> str:
    """What a file is called where nothing else is said."""
    name = Path(unquote(urlsplit(source.url).path)).name
    return source.filename or (name if name not in ("", "..") and "\0" not in name else "artifact")


def _git_environment(order: Order, where: Path) -> dict[str, str]:
    """HOME, where git looks for what it may do and with which password, is the directory of this one download."""
    settings = {"core.hooksPath": "/dev/null", "core.fsmonitor": "false"}
    return {
        **{name: os.environ[name] for name in ("PATH", *_PROXIES) if name in os.environ},
        **({"GIT_SSL_NO_VERIFY": "1"} if order.is_insecure else {}),
        "HOME": f"{where}",
        "LC_ALL": "C",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": f"{len(settings)}",
        **{f"GIT_CONFIG_KEY_{number}": name for number, name in enumerate(settings)},
        **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(settings.values())},
        # Never `ext::`, which runs a command, or `file://`; a submodule may name any of them.
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git",
        "GIT_SSH_COMMAND": _ssh_command(order.source, where),
    }


def _ssh_command(source: Source, where: Path) -> str:
    """With the artifact's key and no other. A host that /etc/ssh/ssh_known_hosts knows has to be that one."""
    key = where / "key"
    try:
        data = base64.b64decode(source.ssh_key, validate=True)
    except ValueError as error:
        raise StartFailed("sshkey is not base64") from error
    if data:
        with open(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data if data.endswith(b"\n") else data + b"\n")
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": f'"{where}/known_hosts"',
        "IdentitiesOnly": "yes",
        "IdentityFile": f'"{key}"' if data else "none",
        "ConnectTimeout": f"{_CONNECT_S:.0f}",
    }
    return " ".join(["ssh", "-F", "/dev/null", *(f"-o '{name}={value}'" for name, value in options.items())])


async def _git(argv: tuple[str, ...], environment: Mapping[str, str], source: Source) -> None:
    process = await asyncio.create_subprocess_exec(
        "git",
        *argv,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    said = b""
    try:
        while process.stderr and (chunk := await process.stderr.read(4096)):
            said = (said + chunk)[-4096:]
        code = await process.wait()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if code:
        # The last lines say what to do about it; what is wrong stands before.
        lines = said.decode("utf-8", "replace").replace(source.url, source.shown).strip().splitlines()
        words = next((line for line in lines if line.startswith(("fatal:", "error:"))), lines[-1] if lines else f"exit code {code}")
        raise StartFailed(f"{source.shown}: git: {words[:_WORDS_MAX]}")


def _of_machine(source: Source, where: Path, work: Work) -> Path:
    """A copy: what the task does with it changes nothing on the machine."""
    path = Path(unquote(source.url))
    try:
        path = path.resolve(strict=True)
        copied(path, where / "copy", work)
    except (OSError, RuntimeError, ValueError) as error:
        raise StartFailed(f"{source.shown}: {_words(error)}") from error
    return where / "copy"


def _words(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or f"{error}" or type(error).__name__)[:_WORDS_MAX]
