"""The task's artifacts: fetched once for an alloc, before its first start (agent/artifacts/)."""

import asyncio
import hashlib
import pwd
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.artifacts import checksum, placing
from agent.artifacts.fetch import Order, fetch, name_of, text
from agent.artifacts.unpack import unpack
from agent.drivers.base import StartFailed
from agent.hooks.base import TaskContext, TaskHook
from agent.templates.blocks import files_of
from jobspec.artifacts import BadSource, Source, source_of
from jobspec.interpolate import interpolate, interpolate_strings
from model.errors import TaskRefused
from model.job import Artifact

# At a time, of all tasks of a node.
_AT_ONCE = 8
# How often a long one says how far it is.
_SAY_S = 5.0
# Of archives that hold one file.
_SINGLE = ("gz", "bz2", "xz")

STARTED, FAILED = "Downloading Artifacts", "Failed Artifact Download"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One artifact, its references resolved. parts: where to, below the alloc's directory."""

    order: Order
    mode: str
    parts: tuple[str, ...]
    owner: str  # whose it is to be; empty: root's


class ArtifactsHook(TaskHook):
    name = "artifacts"

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        if not context.task.artifacts:
            return {}
        wanted = [_wanted(context, one) for one in context.task.artifacts]
        alloc = context.dirs.task.parent
        done, digest = alloc / f".artifacts-{context.task.name}", _digest(wanted)
        # What lies in memory is gone after a reboot, and fetched anew.
        is_kept = not any("secrets" in one.parts for one in wanted)
        if is_kept and done.exists() and done.read_text() == digest:
            return {}
        context.say(STARTED, "Client is downloading artifacts")
        staging = alloc / f".fetching-{context.task.name}"
        try:
            for one in wanted:
                async with self._turns:
                    await self._get(context, one, staging)
        except (StartFailed, TaskRefused) as error:
            context.say(FAILED, f"Failed to download artifact: {error}")
            raise
        except OSError as error:
            raise StartFailed(f"cannot keep the artifact: {error.strerror}: {error.filename}") from error
        finally:
            context.waits(None)
            await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
        done.write_text(digest)
        return {}

    async def _get(self, context: TaskContext, one: Wanted, staging: Path) -> None:
        await asyncio.to_thread(shutil.rmtree, staging, ignore_errors=True)
        await asyncio.to_thread(staging.mkdir, 0o700)
        source = one.order.source
        fetched = await fetch(one.order, staging, _Told(context, source))
        if source.checksum:
            if fetched.is_dir():
                raise StartFailed(f"{source.shown}: only a file has a checksum")
            listed = lambda url: text(url, one.order, checksum.FILE_BYTES_MAX)  # noqa: E731
            kind, digits = await checksum.expected(source.checksum, name_of(source), listed)
            await asyncio.to_thread(checksum.check, fetched, kind, digits)
        await asyncio.to_thread(_settle, fetched, one, staging)
        placed = _place(fetched, one, staging)
        await asyncio.to_thread(placing.place, placed[0], context.dirs.task.parent, placed[1])


class _Told:
    """Says now and then how far a download is."""

    def __init__(self, context: TaskContext, source: Source) -> None:
        self._context, self._source = context, source
        self._said_s = asyncio.get_running_loop().time()

    def __call__(self, done: int, whole: int | None) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._said_s >= _SAY_S:
            self._said_s = now_s
            of = f" of {whole >> 20} MiB" if whole else ""
            self._context.waits(f"Downloading {self._source.shown}: {done >> 20} MiB{of}")


def _settle(fetched: Path, one: Wanted, staging: Path) -> None:
    """Unpacks what is packed and cuts down to what is wanted; leaves it in `staging/out`. Blocks."""
    source, out = one.order.source, staging / "out"
    is_tree = fetched.is_dir()
    if not is_tree and one.mode == "dir" and (not source.archive or source.archive in _SINGLE):
        raise StartFailed(f'{source.shown} is a file, and mode is "dir"')
    if is_tree or not source.archive:
        fetched.rename(out)
    elif one.mode == "file" and source.archive not in _SINGLE:
        raise StartFailed(f'{source.shown} is an archive of many files, and mode is "file"')
    else:
        unpack(fetched, source.archive, out)
    if source.subdirectory:
        below = out
        for name in source.subdirectory.split("/"):
            below /= name
            if below.is_symlink() or not below.exists():
                raise StartFailed(f"{source.shown} has no {source.subdirectory!r}")
        chosen = staging / "chosen"
        below.rename(chosen)
        shutil.rmtree(out, ignore_errors=True)
        out.unlink(missing_ok=True)
        chosen.rename(out)
    if one.mode == "file" and out.is_dir():
        raise StartFailed(f'{source.shown} is a directory, and mode is "file"')
    if not out.is_dir():
        out.chmod(0o644)
    if one.owner:
        found = pwd.getpwnam(one.owner)
        placing.chown(out, found.pw_uid, found.pw_gid)


def _place(fetched: Path, one: Wanted, staging: Path) -> tuple[Path, tuple[str, ...]]:
    """What is to be put where."""
    source, out = one.order.source, staging / "out"
    if out.is_dir() or one.mode == "file":
        return out, one.parts
    name = out.name if source.subdirectory else name_of(source)
    if source.subdirectory:
        name = source.filename or Path(source.subdirectory).name
    if source.archive in _SINGLE and not source.filename:
        name = name.removesuffix(f".{source.archive}")
    return out, (*one.parts, name)


def _wanted(context: TaskContext, artifact: Artifact) -> Wanted:
    env = context.env()
    try:
        source = source_of(interpolate(artifact.getter_source, env.values), interpolate_strings(artifact.getter_options, env.values))
    except (BadSource, ValueError) as error:
        raise TaskRefused(f"artifact {artifact.getter_source!r}: {error}") from error
    files = files_of(context, env.variables)
    user = context.task.user if artifact.chown else ""
    if user:
        try:
            pwd.getpwnam(user)
        except KeyError as error:
            raise TaskRefused(f"user {user!r} does not exist on this machine") from error
    headers = interpolate_strings(artifact.getter_headers, env.values)
    return Wanted(
        order=Order(source=source, headers=headers, is_insecure=artifact.getter_insecure),
        mode=artifact.getter_mode,
        parts=files.parts(artifact.relative_dest, env.values),
        owner=user,
    )


def _digest(wanted: list[Wanted]) -> str:
    """Another one when anything that is fetched is another one."""
    named = [(repr(one), one.order.source.url, dict(one.order.headers), one.order.source.checksum, one.order.source.ref) for one in wanted]
    return hashlib.sha256(msgspec.json.encode(named)).hexdigest()
