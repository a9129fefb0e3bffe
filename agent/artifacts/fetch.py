"""How does an artifact get onto this machine? By HTTP, by git, or from a directory of the machine itself.

Everything lands below a directory that only the agent can enter.
"""

import asyncio
import base64
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from agent.drivers.base import StartFailed
from jobspec.artifacts import Kind, Source

# Nomad's defaults of `client { artifact {} }`.
READ_S_MAX = 30 * 60.0
GIT_S_MAX = 30 * 60.0
BYTES_MAX = 100 << 30
_CONNECT_S = 10.0
# A connection over which nothing comes is given up before the whole time is.
_STALL_S = 60.0
_TRIES = 4
_CHUNK_BYTES = 256 * 1024
_WORDS_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted: headers of the requests; is_insecure: whatever certificate the other end has."""

    source: Source
    headers: Mapping[str, str]
    is_insecure: bool = False


# Told now and then: bytes so far, and how many there will be, if that is known.
Progress = Callable[[int, int | None], None]


async def fetch(order: Order, where: Path, progress: Progress) -> Path:
    """What was fetched: a file or a directory in `where`. Raises StartFailed with what went wrong."""
    match order.source.kind:
        case Kind.HTTP:
            return await _over_http(order, where, progress)
        case Kind.GIT:
            return await _by_git(order.source, where)
        case Kind.FILE:
            return await asyncio.to_thread(_of_machine, order.source, where)


def name_of(source: Source) -> str:
    """What a file is called where nothing else is said."""
    return source.filename or Path(unquote(urlsplit(source.url).path)).name or "artifact"


async def _over_http(order: Order, where: Path, progress: Progress) -> Path:
    path = where / "file"
    timeout = aiohttp.ClientTimeout(total=READ_S_MAX, sock_connect=_CONNECT_S, sock_read=_STALL_S)
    async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False, trust_env=True) as session:
        for tries in range(_TRIES):
            try:
                await _download(session, order, path, progress)
                return path
            except (aiohttp.ClientError, OSError, TimeoutError, _Again) as error:
                if tries == _TRIES - 1:
                    raise StartFailed(f"{order.source.shown}: {_words(error)}") from error
                await asyncio.sleep(1.0 * 2**tries)
    raise AssertionError("the last try returns or raises")


async def _download(session: aiohttp.ClientSession, order: Order, path: Path, progress: Progress) -> None:
    async with session.get(order.source.url, headers=order.headers, ssl=not order.is_insecure) as answer:
        if answer.status >= 500 or answer.status in (408, 429):
            raise _Again(f"bad response code: {answer.status}")
        if answer.status != 200:
            raise StartFailed(f"{order.source.shown}: bad response code: {answer.status}")
        done = 0
        with path.open("wb") as file:
            async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                done += len(chunk)
                if done > BYTES_MAX:
                    raise StartFailed(f"{order.source.shown}: more than {BYTES_MAX >> 30} GiB")
                await asyncio.to_thread(file.write, chunk)
                progress(done, answer.content_length)


class _Again(Exception):
    """The other end is in trouble, perhaps not for long."""


async def _by_git(source: Source, where: Path) -> Path:
    if shutil.which("git") is None:
        raise StartFailed("there is no git on this machine")
    tree = where / "tree"
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY") if name in os.environ},
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        # Never `ext::`, which runs a command; a submodule may name any of these.
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git",
        "GIT_SSH_COMMAND": _ssh_command(source, where),
    }
    if source.ref:
        steps = [
            ("init", "--quiet", str(tree)),
            ("-C", str(tree), "fetch", "--quiet", *_depth(source), "--", source.url, source.ref),
            ("-C", str(tree), "checkout", "--quiet", "FETCH_HEAD"),
        ]
    else:
        steps = [("clone", "--quiet", *_depth(source), "--", source.url, str(tree))]
    steps.append(("-C", str(tree), "submodule", "--quiet", "update", "--init", "--recursive", *_depth(source)))
    try:
        async with asyncio.timeout(GIT_S_MAX):
            for step in steps:
                await _git(step, environment, source)
    except TimeoutError as error:
        raise StartFailed(f"{source.shown}: git took longer than {GIT_S_MAX:.0f} s") from error
    await asyncio.to_thread(shutil.rmtree, tree / ".git", ignore_errors=True)
    return tree


def _depth(source: Source) -> tuple[str, ...]:
    return (f"--depth={source.depth}",) if source.depth else ()


def _ssh_command(source: Source, where: Path) -> str:
    # An unknown host is taken as it is, as go-getter does where a key is given.
    base = "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null"
    if not source.ssh_key:
        return base
    path = where / "key"
    try:
        data = base64.b64decode(source.ssh_key, validate=True)
    except ValueError as error:
        raise StartFailed("sshkey is not base64") from error
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return f"{base} -o IdentitiesOnly=yes -i {path}"


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
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode:
        words = said.decode("utf-8", "replace").strip().splitlines()
        raise StartFailed(f"{source.shown}: git: {(words or ['failed'])[-1][:_WORDS_MAX]}")


def _of_machine(source: Source, where: Path) -> Path:
    """A copy: what the task does with it changes nothing on the machine."""
    path = Path(unquote(source.url))
    try:
        if path.is_dir():
            return Path(shutil.copytree(path, where / "tree", symlinks=True))
        return Path(shutil.copyfile(path, where / "file"))
    except (OSError, shutil.Error) as error:
        raise StartFailed(f"{path}: {_words(error)}") from error


def _words(error: BaseException) -> str:
    return (getattr(error, "strerror", None) or f"{error}" or type(error).__name__)[:_WORDS_MAX]


async def text(url: str, order: Order, bytes_max: int) -> str:
    """A small text over HTTP, asked for as the artifact is. Raises StartFailed."""
    timeout = aiohttp.ClientTimeout(total=_STALL_S, sock_connect=_CONNECT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
            session.get(url, headers=order.headers, ssl=not order.is_insecure) as answer,
        ):
            if answer.status != 200:
                raise StartFailed(f"{url}: bad response code: {answer.status}")
            return (await answer.content.read(bytes_max)).decode("utf-8", "replace")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise StartFailed(f"{url}: {_words(error)}") from error
