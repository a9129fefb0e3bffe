"""How do one task's templates come to be files, and what happens when they say something else?

    prepare   before a start: renders all, waits for what is missing; what was rendered before need not wait
    follow    beside the running process: renders what has changed, then one change_mode for all that came of it

    a watch's answer ──> dirty ──> quiet for wait.min ──> look (render, write) ──> splay ──> restart | signal, script

What a running task has is never taken from it: without an answer, with a refusal or a fault in the text its files stay.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from msgspec.structs import replace

from agent.hooks.base import TaskContext
from agent.secrets import TaskSecrets
from agent.task_files import TaskFiles, files_of
from agent.task_run import TaskRun
from agent.templates import memory
from agent.templates.answers import Source, digest
from agent.templates.blocks import Block, read_blocks
from agent.templates.memory import Memory
from agent.templates.rounds import Failed, Lacking, Rendered, Used, last_env, look
from agent.templates.watching import Watch, Watches
from model.errors import DriverBusy, TaskRefused
from template import Read, What

T = TypeVar("T")
Aside = Callable[..., Awaitable[Any]]

log = logging.getLogger(__name__)

EVENT = "Template"
RESTARTED = "Template with change_mode restart re-rendered"
SIGNALLED = "Template re-rendered"
# How long a task that was rendered before waits for Consul and Vault at its start; after so long, what is missing is told. A
# first answer takes some milliseconds.
PATIENCE_S = 1.0
# How often files that a template reads are looked at; consul-template: 2 s.
FILES_S = 5.0
_SHOWN_MAX = 3
# Distinct messages in one life of a process: its history shows the last ten of all.
_TOLD_MAX = 100

_CONSULS = {
    What.KEY: "kv.block",
    What.PAIRS: "kv.list",
    What.SERVICE: "health.service",
    What.SERVICES: "catalog.services",
    What.NODE: "catalog.node",
    What.NODES: "catalog.nodes",
    What.DATACENTERS: "catalog.datacenters",
    What.SECRET: "vault.read",
    What.SECRETS: "vault.list",
    What.FILE: "file",
}


class Subscription:
    """The watches that one task wants just now. changed: set when any of them has another answer."""

    def __init__(self, watches: Watches, owner: str, fetch: Callable[[Read], Awaitable[Any]] | None) -> None:
        self._watches, self._owner, self._fetch = watches, owner, fetch
        self.held: dict[Read, Watch] = {}
        self.changed = asyncio.Event()

    def want(self, reads: "Iterator[Read] | frozenset[Read] | Mapping[Read, int]") -> None:
        for read in reads:
            if read not in self.held and read.what is not What.FILE:
                owner, fetch = self._of(read)
                self.held[read] = self._watches.want(read, self.changed.set, owner=owner, fetch=fetch)

    def keep_only(self, reads: frozenset[Read]) -> None:
        for read in [read for read in self.held if read not in reads]:
            self._watches.release(self.held.pop(read), self.changed.set, owner=self._of(read)[0])

    def _of(self, read: Read) -> tuple[str, Callable[[Read], Awaitable[Any]] | None]:
        is_vaults = read.what in (What.SECRET, What.SECRETS)
        return (self._owner, self._fetch) if is_vaults else ("", None)


class TaskTemplates:
    """One task's, over all its starts in this life of the agent. aside: runs what blocks in a thread."""

    def __init__(
        self, watches: Watches, secrets: TaskSecrets | None, *, now: Callable[[], datetime], rng: random.Random, aside: Aside
    ) -> None:
        self._watches, self._secrets, self._now, self._rng, self._aside = watches, secrets, now, rng, aside
        self._used: dict[str, Used] = {}  # by digest, of blocks that were looked at in this life
        self._memory = Memory()
        self._told: set[str] = set()
        self._first: set[str] = set()  # rendered for the first time ever at the last start

    # Before a start.

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        """The environment of its `env` templates, once all are rendered. Raises TaskRefused for one that cannot be."""
        blocks = await self._aside(read_blocks, context)
        self._used.clear()
        self._first.clear()
        self._told.clear()
        await self._remember(context, blocks)
        with self._subscribed(context) as subscription:
            source = self._source(context, subscription)
            known = await self._aside(self._known, blocks, source.files)
            try:
                env = await self._settled(context, blocks, known, source, subscription)
            finally:
                context.waits(None)
        self._first = {block.digest for block in blocks} - known
        # Its next process reads the files as they are now.
        await self._note(context, replace(self._memory, owed=()))
        return env

    def _known(self, blocks: Sequence[Block], files: TaskFiles) -> frozenset[str]:
        """Of blocks that were rendered before, and whose files are there still (a tmpfs is empty after a reboot)."""
        return frozenset(
            block.digest
            for block in blocks
            if block.digest in self._memory.rendered and files.mode(block.parts) is not None
        )

    async def _settled(
        self, context: TaskContext, blocks: Sequence[Block], known: frozenset[str], source: Source, subscription: Subscription
    ) -> dict[str, str]:
        """Renders until each block has a file; the environment of all, in the order of the blocks."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        env: dict[str, Mapping[str, str]] = {}
        left, is_new, has_waited = list(blocks), True, False
        while True:
            subscription.changed.clear()
            lacking: set[Read] = set()
            for block in tuple(left):
                match await self._look(context, block, source):
                    case Rendered() as rendered:
                        env[block.digest] = rendered.env
                        left.remove(block)
                    case Failed(words=words) if block.digest in known:
                        self._tell_once(context, f"Template failed: {words}")
                        env[block.digest] = await self._aside(last_env, block, source)
                        left.remove(block)
                    case Failed(words=words):
                        raise TaskRefused(f"Template failed: {words}")
                    case Lacking(reads=reads):
                        subscription.want(reads)
                        lacking |= reads
            is_hopeless = all(self._has_said_no(subscription, read) for read in lacking)
            if is_hopeless or has_waited:
                for block in [block for block in left if block.digest in known]:
                    env[block.digest] = await self._aside(last_env, block, source)
                    left.remove(block)
            if not left and is_new:
                # While one was waited for, others may have come to say something else.
                is_new, left = False, [block for block in blocks if self._is_stale(block, subscription)]
                if left:
                    continue
            if not left:
                return {name: value for block in blocks for name, value in env[block.digest].items()}
            if has_waited:
                why = _missing(lacking, subscription)
                context.waits(why)
                self._tell_once(context, why)
            # Not by a look at the clock: a timer may fire a moment early.
            if not await self._until_changed(subscription, None if has_waited else began_s + PATIENCE_S, lacking):
                has_waited = True

    def _has_said_no(self, subscription: Subscription, read: Read) -> bool:
        """Whether waiting for it now is in vain: it was answered, or could not be."""
        watch = subscription.held.get(read)
        return watch is None or watch.is_answered or bool(watch.trouble)

    async def _until_changed(self, subscription: Subscription, at_s: float | None, reads: "set[Read] | frozenset[Read]") -> bool:
        """False: the time has come, and no answer. Files that are read are looked at now and then."""
        loop = asyncio.get_running_loop()
        if any(read.what is What.FILE for read in reads):
            at_s = min(at_s or loop.time() + FILES_S, loop.time() + FILES_S)
        try:
            async with asyncio.timeout_at(at_s):
                return await subscription.changed.wait()
        except TimeoutError:
            return False

    # Beside the process.

    async def follow(self, context: TaskContext, run: TaskRun) -> None:
        """Until cancelled. In the life of another agent it may have been rendered: then its files are what was said."""
        all_blocks = await self._aside(read_blocks, context)
        await self._remember(context, all_blocks)
        blocks = tuple(block for block in all_blocks if not block.document.once)
        with self._subscribed(context) as subscription:
            source = self._source(context, subscription)
            owed = [block for block in blocks if block.digest in self._memory.owed]
            firsts = [block for block in blocks if block.digest in self._first and block.script and block.script.is_run_first]
            self._first.clear()
            await self._run_scripts(context, run, firsts)
            subscription.want(self._reads(blocks))
            while True:
                subscription.changed.clear()
                dirty = await self._dirty(blocks, subscription, source)
                if not dirty and not owed:
                    files = {read for block in blocks for read in self._used[block.digest].files}
                    await self._until_changed(subscription, None, files)
                    continue
                await self._quiet(blocks, dirty, subscription, source)
                changed = owed + [block for block in await self._rendered(context, dirty, source, subscription) if block not in owed]
                owed = []
                subscription.keep_only(self._reads(blocks))
                if changed:
                    await self._act(context, run, changed)

    def _reads(self, blocks: Sequence[Block]) -> frozenset[Read]:
        """All that they used last."""
        return frozenset(read for block in blocks if (used := self._used.get(block.digest)) for read in used.versions)

    async def _dirty(self, blocks: Sequence[Block], subscription: Subscription, source: Source) -> list[Block]:
        """Those that may say something else."""
        found = []
        for block in blocks:
            used = self._used.get(block.digest)
            is_dirty = used is None or self._is_stale(block, subscription)
            if is_dirty or (used and used.files and await self._aside(_have_files_changed, used, source)):
                found.append(block)
        return found

    def _is_stale(self, block: Block, subscription: Subscription) -> bool:
        """Whether an answer that it used is another now."""
        used, held = self._used[block.digest], subscription.held
        return any(read in held and held[read].version != version for read, version in used.versions.items())

    async def _quiet(
        self, blocks: Sequence[Block], dirty: list[Block], subscription: Subscription, source: Source
    ) -> None:
        """Waits until nothing has changed for each one's wait.min, or for its wait.max; `dirty` grows meanwhile."""
        loop = asyncio.get_running_loop()
        began_s = {block.digest: loop.time() for block in dirty}
        last_s = dict(began_s)
        seen = {block.digest: self._versions(block, subscription) for block in dirty}
        while True:
            due_s = max(
                (
                    min(last_s[block.digest] + block.wait_s[0], began_s[block.digest] + block.wait_s[1])
                    for block in dirty
                    if block.digest in self._used  # what was not looked at in this life changes nothing by waiting
                ),
                default=0.0,
            )
            if due_s <= loop.time():
                return
            subscription.changed.clear()
            if not await self._until_changed(subscription, due_s, frozenset()):
                return
            for block in await self._dirty(blocks, subscription, source):
                versions = self._versions(block, subscription)
                if block.digest not in began_s:
                    dirty.append(block)
                    began_s[block.digest] = loop.time()
                if seen.get(block.digest) != versions:
                    seen[block.digest], last_s[block.digest] = versions, loop.time()

    def _versions(self, block: Block, subscription: Subscription) -> tuple[int, ...]:
        used = self._used.get(block.digest)
        return tuple(subscription.held[read].version for read in used.versions if read in subscription.held) if used else ()

    async def _rendered(
        self, context: TaskContext, dirty: Sequence[Block], source: Source, subscription: Subscription
    ) -> list[Block]:
        """Of those, the ones whose files say something else now; it is noted first that the task is to be told."""
        changed = []
        for block in dirty:
            match await self._look(context, block, source, is_running=True):
                case Rendered(has_changed=True):
                    changed.append(block)
                case Failed(words=words):
                    self._tell_once(context, f"Template failed: {words}")
                case Lacking(reads=reads):
                    subscription.want(reads)
                case _:
                    pass
            subscription.want(self._used[block.digest].versions)
        return changed

    async def _act(self, context: TaskContext, run: TaskRun, changed: Sequence[Block]) -> None:
        """One restart, or the signals and scripts that the changed ones ask for."""
        active = [block for block in changed if block.document.change_mode != "noop"]
        if active:
            await asyncio.sleep(self._rng.random() * max(block.splay_s for block in active))
        if any(block.document.change_mode == "restart" for block in active):
            run.bounce(RESTARTED)
            return  # what is owed is paid with the next start
        for signal in sorted({block.document.change_signal for block in active if block.document.change_mode == "signal"}):
            await self._signal(context, run, signal)
        await self._run_scripts(context, run, [block for block in active if block.document.change_mode == "script"])
        await self._note(context, replace(self._memory, owed=()))

    async def _signal(self, context: TaskContext, run: TaskRun, signal: str) -> None:
        """As long as this process lives: follow() is cancelled with its end."""
        while True:
            try:
                return await run.signal(signal, SIGNALLED)
            except DriverBusy:
                await asyncio.sleep(1.0)
            except TaskRefused as error:
                return context.say(EVENT, f"Template re-rendered, and {signal} was not sent: {error}")

    async def _run_scripts(self, context: TaskContext, run: TaskRun, blocks: Sequence[Block]) -> None:
        for block in blocks:
            if block.script is None:
                continue
            try:
                code, _ = await run.execute(block.script.argv, block.script.timeout_s)
                why = f"exit code {code}" if code else ""
            except (TaskRefused, DriverBusy, TimeoutError) as error:
                why = str(error) or "it took too long"
            if why:
                message = f"Template failed to run script {block.script.argv[0]!r} on change: {why}"
                context.say(EVENT, message)
                if block.script.is_fatal:
                    run.fail(message)

    # Of both.

    async def _look(
        self, context: TaskContext, block: Block, source: Source, *, is_running: bool = False
    ) -> Rendered | Lacking | Failed:
        at = self._memory.rendered.get(block.digest)
        before_change = None
        if is_running and block.document.change_mode != "noop":
            # Before the file: an agent that is killed in between leaves it to its next life to tell the task.
            owing = replace(self._memory, owed=(*self._memory.owed, block.digest))
            before_change = partial(memory.store, context.dirs.task, owing)
        found: Rendered | Lacking | Failed = await self._aside(look, block, source, at, self._now(), before_change)
        self._used[block.digest] = found.used
        if isinstance(found, Rendered):
            rendered = {**self._memory.rendered, block.digest: found.at}
            is_owed = found.has_changed and before_change is not None
            owed = (*self._memory.owed, block.digest) if is_owed else self._memory.owed
            await self._note(context, Memory(rendered=rendered, owed=owed))
        return found

    @contextmanager
    def _subscribed(self, context: TaskContext) -> Iterator[Subscription]:
        owner = f"{context.desired.id}/{context.task.name}"
        fetch = None if self._secrets is None or context.task.vault is None else partial(self._secrets.read, context)
        subscription = Subscription(self._watches, owner, fetch)
        try:
            yield subscription
        finally:
            subscription.keep_only(frozenset())

    def _source(self, context: TaskContext, subscription: Subscription) -> Source:
        env = context.env()
        return Source(
            env=env.variables,
            values=env.values,
            files=files_of(context, env.variables),
            watches=subscription.held,
            is_hidden=self._watches.is_hidden,
            has_vault=self._secrets is not None and context.task.vault is not None,
        )

    async def _remember(self, context: TaskContext, blocks: Sequence[Block]) -> None:
        """What is known of these blocks; others are of an earlier version of the job."""
        found: Memory = await self._aside(memory.load, context.dirs.task)
        digests = {block.digest for block in blocks}
        self._memory = Memory(
            rendered={one: at for one, at in found.rendered.items() if one in digests},
            owed=tuple(one for one in found.owed if one in digests),
        )

    async def _note(self, context: TaskContext, known: Memory) -> None:
        if known != self._memory:
            self._memory = known
            await self._aside(memory.store, context.dirs.task, known)

    def _tell_once(self, context: TaskContext, message: str) -> None:
        if message not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(message)
            context.say(EVENT, message)


def _have_files_changed(used: Used, source: Source) -> bool:
    for read, known in used.files.items():
        try:
            if digest(source.files.read(source.files.parts(read.name, source.values))) != known:
                return True
        except (TaskRefused, OSError):
            continue
    return False


def _missing(reads: set[Read], subscription: Subscription) -> str:
    """As Nomad says it, and why."""
    named = sorted(f"{_CONSULS.get(read.what, read.what)}({read.name})" for read in reads)
    more = f" and {len(named) - _SHOWN_MAX} more" if len(named) > _SHOWN_MAX else ""
    held = subscription.held
    troubles = sorted({held[read].trouble for read in reads if read in held and not held[read].is_answered} - {""})
    return f"Missing: {', '.join(named[:_SHOWN_MAX])}{more}" + (f" ({'; '.join(troubles)})" if troubles else "")
