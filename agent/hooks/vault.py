"""A task's Vault token, from before its first start until it has ended for good.

    prepare   the token that it has, if that still lives; else a new one, waited for as long as it takes
    started   of a task that runs and whose record is lost: taken up again from its file, else a new one
    running   renewed at half of its life; replaced when it cannot live on, and the task told by its change_mode
    over      revoked, as soon as Vault is there to do it

Nothing here ends a task for want of Vault. A token that Vault has ended while nobody reached it is replaced when Vault is
back; until then the task keeps what it has. A refusal is no end either: as long as the token lives it is tried again.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from enum import Enum
from functools import partial
from typing import Any, TypeVar

import msgspec

from agent import telemetry
from agent.alloc_dir import in_memory
from agent.hooks.base import TaskContext, TaskHook
from agent.secrets import Answer
from agent.task_files import TaskFiles, files_of, owner_of
from agent.task_run import TaskRun
from agent.vault_kept import Kept, Pauses, Reach, TaskKey
from agent.vault_records import LAST_PART, Record, VaultRecords
from agent.vault_secrets import VaultSecrets
from agent.vault_tokens import TaskTokens
from jobspec.interpolate import interpolate
from model.alloc import AllocId
from model.errors import DriverBusy, TaskRefused, VaultRefused, VaultUnavailable
from model.secret import Secret
from template.lookups import Read
from vault.client import VaultClient

log = logging.getLogger(__name__)

T = TypeVar("T")

# What Vault refuses, an operator has to allow first. A renewal is tried again after this, doubled each time.
REFUSED_S, REFUSED_S_MAX = 10.0, 600.0
# What a replaced token that could live on is left: its secrets end with it, and by then a task has rendered those of the new
# one (a template's `wait` has four minutes at most, unless it says otherwise) and was told.
REPLACED_S = 600.0
# So long the file with a token may be.
_TOKEN_MAX = 8192
# How Vault refuses a token that is none any more, where it says more than that permission is denied.
_NO_TOKEN = ("invalid token", "bad token")

TOKEN_FILE = "vault_token"
EVENT = "Vault"


class _Renewal(Enum):
    """What became of a try: the token lives on, lives although it was refused, or ends."""

    DONE = "done"
    REFUSED = "refused"
    ENDS = "ends"


class VaultHook(TaskHook):
    """For tasks with a `vault` block; also what their templates read secrets by (agent/secrets.py).

    run() has to run for as long as tasks do. now_s: seconds since the epoch.
    """

    name = "vault"

    def __init__(
        self,
        *,
        client: VaultClient,
        reach: Reach,
        tokens: TaskTokens,
        records: VaultRecords,
        now_s: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._client, self._tokens, self._records = client, tokens, records
        self._reach, self._now_s, self._rng = reach, now_s, rng
        self._secrets = VaultSecrets(client, self._set, now_s)
        self._kept: dict[TaskKey, Kept] = {}
        self._replaced: dict[str, tuple[Record, asyncio.Task[None] | None]] = {}  # by accessor: what lives on for a while
        self._group: asyncio.TaskGroup | None = None
        self._is_loaded = False

    async def run(self) -> None:
        """Renews and revokes until it is cancelled. What outlived an agent is taken up again."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._load()
            for kept in self._kept.values():
                self._look_after(kept)
            for record, _ in tuple(self._replaced.values()):
                self._end_later(record)
            await asyncio.Event().wait()

    def _load(self) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            for record in self._records.load():
                if record.replaced_at:
                    self._replaced[record.accessor] = (record, None)
                else:
                    self._of((record.alloc_id, record.task)).record = record

    def _of(self, key: TaskKey) -> Kept:
        return self._kept.setdefault(key, Kept(key=key))

    def _start(self, kept: Kept, work: Coroutine[Any, Any, None]) -> None:
        kept.stop()
        if self._group is None:  # before run(), or after: it begins with what is kept then
            work.close()
            return
        kept.worker = self._group.create_task(_guarded(kept.name, work), name=f"vault {kept.name}")

    def _look_after(self, kept: Kept) -> None:
        if kept.record is not None and kept.record.is_over:
            self._start(kept, self._revoke(kept))
        elif kept.record is None and kept.context is not None:
            self._start(kept, self._adopting(kept, kept.context))
        elif kept.context is not None:
            self._keep(kept)

    # ---- the task's life

    async def prepare(self, context: TaskContext) -> Mapping[str, str]:
        vault = context.task.vault
        if vault is None:
            return {}
        if not vault.disable_file:
            in_memory(context.dirs.secrets)
        self._load()
        kept = self._of(_key(context))
        record = kept.record
        if record is None or record.is_over or not record.is_valid(self._now_s()):
            self._records.open()
            kept.stop()
            if record is not None and record.is_over:
                self._end_later(msgspec.structs.replace(record, replaced_at=self._now_s()))
            record = await self._made(kept, context, _Waiting(context))
            context.waits(None)
        self._write(context, record)
        kept.context = context
        self._keep(kept)
        env = {"VAULT_TOKEN": record.token} if vault.env else {}
        return env | ({"VAULT_NAMESPACE": record.namespace} if vault.env and record.namespace else {})

    async def started(self, context: TaskContext, run: TaskRun) -> None:
        if context.task.vault is None:
            return
        self._load()
        kept = self._of(_key(context))
        kept.context, kept.task_run = context, run
        if kept.worker is None or kept.worker.done():
            self._look_after(kept)

    async def updated(self, context: TaskContext, run: TaskRun) -> None:
        await self.started(context, run)

    async def ended(self, context: TaskContext) -> None:
        if (kept := self._kept.get(_key(context))) is not None:
            kept.task_run = None

    async def over(self, context: TaskContext) -> None:
        self._load()
        for record, _ in tuple(self._replaced.values()):
            if (record.alloc_id, record.task) == _key(context) and not record.is_over:
                self._end_later(msgspec.structs.replace(record, is_over=True))
        kept = self._kept.get(_key(context))
        if kept is None:
            return
        kept.context = kept.task_run = None
        if kept.record is None:
            kept.stop()
            del self._kept[kept.key]
        elif not kept.record.is_over:
            self._set(kept, msgspec.structs.replace(kept.record, is_over=True, leases={}))
            self._start(kept, self._revoke(kept))

    async def dispose(self, context: TaskContext) -> None:
        await self.over(context)

    def accessors(self, alloc_id: AllocId) -> dict[str, str]:
        """Of the tokens of its tasks, by which the leader ends them when this node is lost; with the Vault namespace of each."""
        current = (kept.record for kept in self._kept.values() if kept.record is not None)
        records = (*current, *(record for record, _ in self._replaced.values()))
        return {one.accessor: one.namespace for one in records if one.alloc_id == alloc_id and not one.is_over}

    # ---- its token

    async def _made(self, kept: Kept, context: TaskContext, waits: Callable[[str], None]) -> Record:
        """A new token, waited for."""
        made = await self._until(lambda: self._tokens.make(context), waits)
        vault = context.task.vault
        record = Record(
            alloc_id=kept.key[0],
            task=kept.key[1],
            token=made.secret.reveal(),
            accessor=made.accessor,
            namespace=vault.namespace if vault is not None else "",
            ttl_s=made.ttl_s,
            expires_at=self._now_s() + made.ttl_s if made.ttl_s else 0.0,
            renewable=made.renewable,
            may_look=_may_look(made.policies),
        )
        telemetry.VAULT_TOKENS.inc()
        self._set(kept, record)
        return record

    async def _until(self, call: Callable[[], Awaitable[T]], waits: Callable[[str], None]) -> T:
        """The call's answer, however long Vault is away or refuses it."""
        pauses = self._pauses()
        while True:
            try:
                return await call()
            except VaultUnavailable as error:
                waits(f"Waiting for Vault: {error}")
                await pauses.wait()
            except VaultRefused as error:
                waits(f"Vault refuses: {error}")
                await asyncio.sleep(REFUSED_S * (0.5 + self._rng.random()))

    def _pauses(self) -> Pauses:
        return Pauses(self._reach, self._rng)

    def _set(self, kept: Kept, record: Record) -> None:
        kept.record = record
        self._put(record, kept.name)

    def _put(self, record: Record, name: str) -> None:
        try:
            self._records.put(record)
        except (OSError, TaskRefused) as error:  # until the agent is restarted, it is known all the same
            log.error("%s: its Vault token is not kept for an agent after this one: %s", name, error)

    def _write(self, context: TaskContext, record: Record) -> None:
        """The file that the task reads it from; its owner's alone. Raises TaskRefused, OSError."""
        task = context.task
        if task.vault is None or task.vault.disable_file:
            return
        files, values = _files(context)
        # In a container: whoever the image runs as; nobody else on the machine gets into the directory.
        mode = 0o644 if task.driver == "docker" else 0o600
        owner = owner_of(interpolate(task.user, values), task.driver, None, None)
        files.write(_token_parts(context), record.token.encode(), mode, owner)

    # ---- a task that runs, and of whose token nothing is known

    async def _adopting(self, kept: Kept, context: TaskContext) -> None:
        """The records are gone: unmounted, or an earlier agent's alone, whose mounts nobody else saw."""
        record = await self._left(kept, context)
        if record is not None:
            context.say(EVENT, "What drover knew of the task's Vault token was lost: it goes on with the one in secrets/vault_token")
            self._set(kept, record)
        else:
            context.say(EVENT, "What drover knew of the task's Vault token was lost: it gets a new one")
            await self._replace(kept)
        if context.task.vault is not None and not context.task.vault.allow_token_expiration:
            await self._renewing(kept)

    async def _left(self, kept: Kept, context: TaskContext) -> Record | None:
        """What its file says, if that still is a token. Raises nothing: Vault is waited for."""
        vault, pauses = context.task.vault, self._pauses()
        try:
            text = (_files(context)[0].read(_token_parts(context)) or b"").decode("ascii").strip()
        except (OSError, TaskRefused, UnicodeDecodeError):
            return None
        if vault is None or not text or len(text) > _TOKEN_MAX:
            return None
        while True:
            try:
                facts = await self._client.lookup_self(Secret(text), vault.namespace)
            except VaultUnavailable:
                await pauses.wait()
                continue
            except VaultRefused:
                return None
            return Record(
                alloc_id=kept.key[0],
                task=kept.key[1],
                token=text,
                accessor=facts.accessor,
                namespace=vault.namespace,
                ttl_s=facts.creation_ttl_s,
                expires_at=0.0 if facts.is_endless else self._now_s() + facts.ttl_s,
                renewable=facts.renewable,
            )

    # ---- keeping it

    def _keep(self, kept: Kept) -> None:
        assert kept.context is not None
        vault = kept.context.task.vault
        if kept.record is not None and not kept.record.is_over and vault and not vault.allow_token_expiration:
            self._start(kept, self._renewing(kept))

    async def _renewing(self, kept: Kept) -> None:
        refusals, pauses = 0, self._pauses()
        is_told = False
        while (record := kept.record) is not None and record.expires_at:
            await asyncio.sleep(self._rng.random() if is_told else self._rest_s(record, refusals))
            try:
                renewal = await self._renewed(kept, record)
                if renewal is _Renewal.ENDS and not await self._replace(kept):
                    return
            except VaultUnavailable as error:
                if not is_told:
                    log.warning("%s: its Vault token is not renewed for now: %s", kept.name, error)
                is_told = True
                await pauses.wait()
                continue
            refusals = refusals + 1 if renewal is _Renewal.REFUSED else 0
            is_told, pauses = False, self._pauses()

    def _rest_s(self, record: Record, refusals: int) -> float:
        """Until half of what is left; a while after a refusal; until the last part of one that cannot be renewed."""
        left_s = record.expires_at - self._now_s()
        last_s = max(left_s - record.ttl_s * LAST_PART, 0.0)
        spread = 0.9 + 0.2 * self._rng.random()
        if left_s <= 0:
            return self._rng.random()
        if not record.renewable:
            return last_s
        if refusals:
            return min(min(REFUSED_S * 2.0 ** min(refusals - 1, 16), REFUSED_S_MAX) * spread, last_s)
        return left_s / 2 * spread

    async def _renewed(self, kept: Kept, record: Record) -> _Renewal:
        """Raises VaultUnavailable."""
        if not record.renewable:
            return _Renewal.ENDS if record.is_ending(self._now_s()) else _Renewal.DONE
        try:
            ttl_s = await self._client.renew_self(Secret(record.token), record.ttl_s, record.namespace)
        except VaultRefused as error:
            is_dead = await self._is_dead(kept, record)
            ends = is_dead or (kept.record or record).is_ending(self._now_s())
            log.warning("%s: its Vault token %s: %s", kept.name, "is replaced" if ends else "lives, and is not renewed", error)
            return _Renewal.ENDS if ends else _Renewal.REFUSED
        telemetry.VAULT_RENEWALS.inc()
        expires_at = self._now_s() + ttl_s if ttl_s else 0.0
        self._set(kept, msgspec.structs.replace(kept.record or record, expires_at=expires_at))
        return _Renewal.ENDS if ttl_s and ttl_s <= record.ttl_s * LAST_PART else _Renewal.DONE

    async def _is_dead(self, kept: Kept, record: Record) -> bool:
        """Whether Vault has ended a token that it does not renew; what it says of one that lives is noted. Raises
        VaultUnavailable."""
        current = kept.record or record
        try:
            facts = await self._client.lookup_self(Secret(record.token), record.namespace)
        except VaultRefused as error:
            # Without the policy `default` it may not look at itself, and this says nothing: it lives as long as it was given.
            is_dead = record.may_look or any(words in str(error) for words in _NO_TOKEN)
            if is_dead:
                self._set(kept, msgspec.structs.replace(current, expires_at=self._now_s()))
            return is_dead
        expires_at = 0.0 if facts.is_endless else self._now_s() + facts.ttl_s
        self._set(kept, msgspec.structs.replace(current, expires_at=expires_at, renewable=facts.renewable))
        return False

    async def _replace(self, kept: Kept) -> bool:
        """A new token in place of one that ends; False when the task is gone meanwhile. The old one has some time left, in
        which the task comes to the secrets of the new one."""
        context = kept.context
        if context is None or context.task.vault is None:
            return False
        await self._made_again(kept, context)
        kept.wake_reads()
        record = kept.record
        assert record is not None
        try:
            self._write(context, record)
        except (OSError, TaskRefused) as error:
            log.error("%s: its new Vault token cannot be written: %s", kept.name, error)
            context.say(EVENT, f"New Vault token acquired, and not written: {error}")
            return True  # its next start has it
        await self._tell(kept, context)
        return True

    async def _made_again(self, kept: Kept, context: TaskContext) -> None:
        said = ""

        def waits(reason: str) -> None:
            nonlocal said
            if reason != said:
                said = reason
                log.warning("%s: %s", kept.name, reason)

        before = kept.record
        await self._made(kept, context, waits)
        if before is not None and before.is_valid(now_s := self._now_s()):
            self._end_later(msgspec.structs.replace(before, replaced_at=now_s, leases={}))

    async def _tell(self, kept: Kept, context: TaskContext) -> None:
        """A running task of its new token, by its change_mode."""
        vault, run = context.task.vault, kept.task_run
        if vault is None or run is None:
            return
        context.say(EVENT, "New Vault token acquired")
        if vault.change_mode == "restart":
            run.bounce("Vault: new Vault token acquired")
        elif vault.change_mode == "signal":
            try:
                await run.signal(vault.change_signal or "SIGHUP", "Vault: new Vault token acquired")
            except (TaskRefused, DriverBusy) as error:
                log.warning("%s: not told of its new Vault token: %s", kept.name, error)

    # ---- its end

    async def _revoke(self, kept: Kept) -> None:
        record = kept.record
        assert record is not None
        await self._revoked(record)
        self._records.remove(record)
        if kept.record is record:
            self._kept.pop(kept.key, None)

    def _end_later(self, record: Record) -> None:
        """A replaced token: revoked after a while, or at once when its task is over; one that ends before that is left to."""
        _, before = self._replaced.get(record.accessor, (record, None))
        if before is not None:
            before.cancel()
        self._put(record, record.task)
        ending = None
        if self._group is not None:
            name = f"{record.alloc_id[:8]}/{record.task}"
            ending = self._group.create_task(_guarded(name, self._ended_later(record)), name=f"vault {name}, replaced")
        self._replaced[record.accessor] = (record, ending)

    async def _ended_later(self, record: Record) -> None:
        if not record.is_over:
            await asyncio.sleep(max(record.replaced_at + REPLACED_S - self._now_s(), 0.0))
        await self._revoked(record)
        self._records.remove(record)
        self._replaced.pop(record.accessor, None)

    async def _revoked(self, record: Record) -> None:
        """Returns when it has ended, however long Vault is away."""
        pauses = self._pauses()
        ways = [
            partial(self._client.revoke_self, Secret(record.token), record.namespace),
            partial(self._tokens.revoke, record.accessor, record.namespace),  # without `default` it may not end itself
        ]
        while ways and record.is_valid(self._now_s()):
            try:
                await ways[0]()
                telemetry.VAULT_REVOCATIONS.inc()
                return
            except VaultUnavailable:
                await pauses.wait()
            except VaultRefused as error:
                ways.pop(0)
                log.debug("%s/%s: its Vault token was not revoked: %s", record.alloc_id[:8], record.task, error)

    # ---- secrets, for its templates

    async def read(self, context: TaskContext, read: Read) -> Answer:
        self._load()
        return await self._secrets.read(self._of(_key(context)), context, read)


class _Waiting:
    """Says in the task's history what its start waits for, each reason once."""

    def __init__(self, context: TaskContext) -> None:
        self._context, self._said = context, ""

    def __call__(self, reason: str) -> None:
        self._context.waits(reason)
        if reason != self._said:
            self._said = reason
            self._context.say(EVENT, reason)


async def _guarded(name: str, work: Coroutine[Any, Any, None]) -> None:
    """A bug with one task's token is not every task's."""
    try:
        await work
    except Exception:
        log.exception("%s: its Vault token is not looked after any more", name)


def _may_look(policies: tuple[str, ...]) -> bool:
    return not {"default", "root"}.isdisjoint(policies)


def _files(context: TaskContext) -> tuple[TaskFiles, Mapping[str, str]]:
    env = context.env()
    return files_of(context, env.variables), env.values


def _token_parts(context: TaskContext) -> tuple[str, ...]:
    return context.dirs.task.name, context.dirs.secrets.name, TOKEN_FILE


def _key(context: TaskContext) -> TaskKey:
    return context.desired.id, context.task.name
