"""The task's artifacts: fetched once for an alloc, before its first start (agent/artifacts/).

    <allocs>/.fetching/<alloc>/<task>/tries/…    one artifact while it is fetched and unpacked
                                     /done       what has been fetched and is in place, as a digest

A directory of its own for each try: what an agent that was killed left running (git) writes into nobody's.
"""

import asyncio
import hashlib
import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from agent.alloc_dir import fetching_dir
from agent.artifacts import checksum, placing
from agent.artifacts.fetch import Fetcher, Order, name_of
from agent.artifacts.tree import check, chown, only_file, remove
from agent.artifacts.unpack import unpack
from agent.artifacts.work import Work
from agent.drivers.base import StartFailed
from agent.drivers.process import boot_id
from agent.hooks.base import TaskContext, TaskHook
from agent.task_files import TaskFiles, files_of
from agent.users import of_task
from configs.settings import Artifact as Limits
from jobspec.artifacts import SINGLE, BadSource, Source, source_of
from jobspec.interpolate import interpolate, interpolate_strings
from model.errors import TaskRefused
from model.job import Artifact, Task

# At a time, of all tasks of a node.
_AT_ONCE = 8
# For what blocks of it: writing, hashing, unpacking.
_THREADS = 4
# How often a long one says how far it is.
_SAY_S = 5.0
_CHECKSUMS_BYTES_MAX = 4 << 20
_NUMBER = re.compile(r"[0-9]{1,9}")

STARTED, FAILED = "Downloading Artifacts", "Failed Artifact Download"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One artifact, its references resolved. parts: where to, below the alloc's directory."""

    order: Order
    mode: str
    parts: tuple[str, ...]
    owner: tuple[int, int] | None  # (user, group) whose it is to be; None: the agent's


class ArtifactsHook(TaskHook):
    name = "artifacts"

    def __init__(self, limits: Limits, fetcher: Fetcher | None = None) -> None:
        self._limits = limits
        self._fetcher = fetcher or Fetcher(limits=limits)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="artifacts")

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        if not context.task.artifacts:
            return {}
        files, wanted = _wanted(context)
        alloc = context.dirs.task.parent
        place = fetching_dir(alloc) / context.task.name
        done, tries = place / "done", place / "tries"
        digest = _digest(context, wanted)
        with suppress(OSError):
            if done.read_text() == digest:
                return {}
        context.say(STARTED, "Client is downloading artifacts")
        try:
            await self._work().run(_empty, place, tries)
            for one in wanted:
                context.waits(f"Downloading {one.order.source.shown}: waits for other downloads of this node")
                async with self._turns:
                    await self._get(context, files, one, tries)
            done.write_text(digest)
        except TaskRefused as error:
            context.say(FAILED, f"Failed to download artifact: {error}")
            raise
        except OSError as error:
            context.say(FAILED, f"Failed to download artifact: {error.strerror}")
            raise StartFailed(f"cannot keep the artifact: {error.strerror}: {error.filename}") from error
        finally:
            context.waits(None)
            await self._work().run(shutil.rmtree, tries, ignore_errors=True)
        return {}

    def _work(self) -> Work:
        return Work(self._threads, self._limits.decompression_size_limit, self._limits.decompression_file_count_limit)

    async def _get(self, context: TaskContext, files: TaskFiles, one: Wanted, tries: Path) -> None:
        staging, source, work = Path(tempfile.mkdtemp(dir=tries)), one.order.source, self._work()
        context.waits(f"Downloading {source.shown}")
        fetched = await self._fetcher.fetch(one.order, staging, work, _Told(context, source))
        if source.checksum:
            if fetched.is_dir():
                raise StartFailed(f"{source.shown}: only a file has a checksum")
            kind, digits = await checksum.expected(
                source.checksum, name_of(source), lambda url: self._fetcher.text(url, one.order, _CHECKSUMS_BYTES_MAX)
            )
            await work.run(checksum.check, fetched, kind, digits, work)
        await work.run(_settle, fetched, one, staging / "out", work)
        await work.run(placing.place, staging / "out", files, _parts(one, staging / "out"))
        await work.run(remove, staging)


def _empty(place: Path, tries: Path) -> None:
    """Removes what an agent that was killed has left."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.parent.parent.chmod(0o700)
    shutil.rmtree(tries, ignore_errors=True)
    tries.mkdir(0o700)


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


def _settle(fetched: Path, one: Wanted, out: Path, work: Work) -> None:
    """Unpacks what is packed, cuts down to what is wanted and judges it; leaves it in `out`. Blocks."""
    source = one.order.source
    if fetched.is_dir() or not source.archive:
        fetched.rename(out)
    else:
        unpack(fetched, source.archive, out, work)
        fetched.unlink()
    if source.subdirectory:
        _replace(out, _below(out, source))
    if one.mode == "file" and out.is_dir():
        only = only_file(out) if source.archive else None
        if only is None:
            raise StartFailed(f'{source.shown} is a directory, and mode is "file"')
        _replace(out, only)
    if one.mode == "dir" and not out.is_dir():
        raise StartFailed(f'{source.shown} is a file, and mode is "dir"')
    check(out, work)
    if one.owner is not None:
        chown(out, *one.owner)


def _below(out: Path, source: Source) -> Path:
    below = out
    for name in source.subdirectory.split("/"):
        below /= name
        if below.is_symlink() or not below.exists():
            raise StartFailed(f"{source.shown} has no {source.subdirectory!r}")
    return below


def _replace(out: Path, part: Path) -> None:
    chosen = out.with_name("chosen")
    part.rename(chosen)
    remove(out)
    chosen.rename(out)


def _parts(one: Wanted, out: Path) -> tuple[str, ...]:
    """Where `out` is to be put: a file into the directory that is named, unless its own name is."""
    if out.is_dir() or one.mode == "file":
        return one.parts
    source = one.order.source
    name = source.filename or Path(source.subdirectory).name or name_of(source)
    if source.archive in SINGLE and not source.filename:
        name = name.removesuffix(f".{source.archive}")
    return (*one.parts, name)


def _wanted(context: TaskContext) -> tuple[TaskFiles, list[Wanted]]:
    """Raises TaskRefused for what can never be fetched."""
    env = context.env()
    files = files_of(context, env.variables)
    return files, [_one(context, files, env.values, artifact) for artifact in context.task.artifacts]


def _one(context: TaskContext, files: TaskFiles, values: Mapping[str, str], artifact: Artifact) -> Wanted:
    try:
        source = source_of(interpolate(artifact.getter_source, values), interpolate_strings(artifact.getter_options, values))
    except BadSource as error:
        raise TaskRefused(f"artifact {artifact.getter_source!r}: {error}") from error
    headers = interpolate_strings(artifact.getter_headers, values)
    return Wanted(
        order=Order(source=source, headers=headers, is_insecure=artifact.getter_insecure),
        mode=artifact.getter_mode,
        parts=files.parts(artifact.relative_dest, values),
        owner=_owner(context.task, values) if artifact.chown and os.geteuid() == 0 else None,
    )


def _owner(task: Task, values: Mapping[str, str]) -> tuple[int, int] | None:
    """The task's user: a name of this machine, or numbers, as a container may have them."""
    user = of_task(interpolate(task.user, values), task.driver)
    name, _, group = user.partition(":")
    if not name:
        return None
    if _NUMBER.fullmatch(name):
        return int(name), int(group if _NUMBER.fullmatch(group) else name)
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise TaskRefused(f"user {user!r} does not exist on this machine") from error
    return found.pw_uid, int(group) if _NUMBER.fullmatch(group) else found.pw_gid


def _digest(context: TaskContext, wanted: list[Wanted]) -> str:
    """Another one when anything that is fetched is another one, or when what was put there may be gone: with a directory that was
    removed, and with the secrets in memory after a reboot."""
    facts: list[object] = [context.dirs.task.stat().st_ino, *map(astuple, wanted)]
    if any(one.parts[1:2] == ("secrets",) for one in wanted):
        facts.append(boot_id())
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()
