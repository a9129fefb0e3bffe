"""A task's Vault token, from before its first start until it has ended for good.

    prepare   the token that it has, if that still lives; else a new one, waited for as long as it takes
    running   renewed at half of its life; replaced when it cannot live on, and the task told by its change_mode
    over      revoked, as soon as Vault is there to do it

Nothing here ends a task for want of Vault. A token that Vault has ended while nobody reached it is replaced when Vault is
back; until then the task keeps what it has.
"""

import asyncio
import logging
import os
import random
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from agent import telemetry
from agent.hooks.base import TaskContext, TaskHook
from agent.secrets import Answer
from agent.task_run import TaskRun
from agent.vault_records import Lease, Record, VaultRecords, in_memory
from agent.vault_tokens import TaskTokens
from model.alloc import AllocId
from model.errors import DriverBusy, TaskRefused, VaultRefused, VaultUnavailable
from model.secret import Secret
from template.lookups import Read, What
from template.lookups import Secret as VaultSecret
from vault.client import VaultClient

log = logging.getLogger(__name__)

T = TypeVar("T")
TaskKey = tuple[AllocId, str]

# Between tries of a task while Vault answers, and what was asked of it fails all the same.
LOOK_S = 1.0
# What Vault refuses, an operator has to allow first.
REFUSED_S = 10.0
# What is left of a token's life when it is replaced because it cannot be renewed any longer.
LAST_PART = 0.2
# Secrets without a lease are read again after this; what consul-template does.
STATIC_S = 300.0
# However short a lease is.
AGAIN_S_MIN = 1.0

TOKEN_FILE = "vault_token"
EVENT = "Vault"


class VaultHook(TaskHook):
    """For tasks with a `vault` block; also what their templates read secrets by (agent/secrets.py).

    run() has to run for as long as tasks do. usable: returns when Vault answers. now_s: seconds since the epoch.
    """

    name = "vault"

    def __init__(
        self,
        *,
        client: VaultClient,
        usable: Callable[[], Awaitable[None]],
        tokens: TaskTokens,
        records: VaultRecords,
        now_s: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._client, self._tokens, self._records = client, tokens, records
        self._now_s, self._rng = now_s, rng
        self._usable = usable
        self._kept: dict[TaskKey, _Kept] = {}
        self._group: asyncio.TaskGroup | None = None
        self._is_loaded = False

    async def run(self) -> None:
        """Renews and revokes until it is cancelled. What outlived an agent is taken up again."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._load()
            for kept in self._kept.values():
                if kept.record is not None and kept.record.is_over:
                    self._start(kept, self._revoke(kept))
            await asyncio.Event().wait()

    def _load(self) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            for record in self._records.load():
                self._of((record.alloc_id, record.task)).record = record

    def _of(self, key: TaskKey) -> "_Kept":
        return self._kept.setdefault(key, _Kept(key=key))

    def _start(self, kept: "_Kept", work: Coroutine[Any, Any, None]) -> None:
        kept.stop()
        if self._group is None:  # before run(), or after: it begins with what is kept then
            work.close()
            return
        kept.worker = self._group.create_task(_guarded(kept, work), name=f"vault {kept.name}")

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
            self._keep(kept)

    async def updated(self, context: TaskContext, run: TaskRun) -> None:
        await self.started(context, run)

    async def ended(self, context: TaskContext) -> None:
        if (kept := self._kept.get(_key(context))) is not None:
            kept.task_run = None

    async def over(self, context: TaskContext) -> None:
        self._load()
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
        of_alloc = (kept.record for key, kept in self._kept.items() if key[0] == alloc_id)
        return {record.accessor: record.namespace for record in of_alloc if record is not None and not record.is_over}

    # ---- its token

    async def _made(self, kept: "_Kept", context: TaskContext, waits: Callable[[str], None]) -> Record:
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
        )
        telemetry.VAULT_TOKENS.inc()
        self._set(kept, record)
        return record

    async def _until(self, call: Callable[[], Awaitable[T]], waits: Callable[[str], None]) -> T:
        """The call's answer, however long Vault is away or refuses it."""
        while True:
            try:
                return await call()
            except VaultUnavailable as error:
                waits(f"Waiting for Vault: {error}")
                await self._vault_back()
            except VaultRefused as error:
                waits(f"Vault refuses: {error}")
                await asyncio.sleep(REFUSED_S * (0.5 + self._rng.random()))

    async def _vault_back(self) -> None:
        """Returns when it may be worth another try."""
        await asyncio.sleep(LOOK_S * (0.5 + self._rng.random() / 2))
        await self._usable()

    def _set(self, kept: "_Kept", record: Record) -> None:
        kept.record = record
        try:
            self._records.put(record)
        except (OSError, TaskRefused) as error:  # until the agent is restarted, it is known all the same
            log.error("%s: its Vault token is not kept for an agent after this one: %s", kept.name, error)

    def _write(self, context: TaskContext, record: Record) -> None:
        """The file that the task reads it from; its owner's alone."""
        vault, path = context.task.vault, context.dirs.secrets / TOKEN_FILE
        if vault is None or vault.disable_file:
            return
        in_memory(context.dirs.secrets)
        new = path.with_name(f".{TOKEN_FILE}.new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(record.token)
        if context.task.driver == "docker":
            new.chmod(0o644)  # whoever the image runs as; nobody else on the machine gets into the directory
        elif context.task.user and os.geteuid() == 0:
            shutil.chown(new, context.task.user)
        new.rename(path)

    # ---- keeping it

    def _keep(self, kept: "_Kept") -> None:
        assert kept.context is not None
        vault = kept.context.task.vault
        if kept.record is not None and not kept.record.is_over and vault and not vault.allow_token_expiration:
            self._start(kept, self._renewing(kept))

    async def _renewing(self, kept: "_Kept") -> None:
        tries = 0
        while (record := kept.record) is not None and record.expires_at:
            await asyncio.sleep(self._rest_s(record, tries))
            try:
                is_last = not record.renewable or not await self._renewed(kept, record)
            except VaultUnavailable as error:
                if tries == 0:
                    log.warning("%s: its Vault token is not renewed for now: %s", kept.name, error)
                tries += 1
                await self._vault_back()
                continue
            except VaultRefused as error:
                log.warning("%s: its Vault token is replaced: %s", kept.name, error)
                is_last = True
            tries = 0
            if is_last and not await self._replaced(kept):
                return

    def _rest_s(self, record: Record, tries: int) -> float:
        """Until half of what is left; until near the end of one that cannot be renewed."""
        left_s = record.expires_at - self._now_s()
        if tries or left_s <= 0:
            return self._rng.random() * LOOK_S
        part = 0.5 if record.renewable else 1.0 - LAST_PART
        return left_s * part * (0.9 + 0.2 * self._rng.random())

    async def _renewed(self, kept: "_Kept", record: Record) -> bool:
        """False: it cannot live much longer."""
        ttl_s = await self._client.renew_self(Secret(record.token), record.ttl_s, record.namespace)
        telemetry.VAULT_RENEWALS.inc()
        expires_at = self._now_s() + ttl_s if ttl_s else 0.0
        self._set(kept, msgspec.structs.replace(kept.record or record, expires_at=expires_at))
        return not ttl_s or ttl_s > record.ttl_s * LAST_PART

    async def _replaced(self, kept: "_Kept") -> bool:
        """A new token in place of one that ends; False when the task is gone meanwhile."""
        context = kept.context
        if context is None or context.task.vault is None:
            return False
        record = await self._made(kept, context, lambda reason: log.warning("%s: %s", kept.name, reason))
        try:
            self._write(context, record)
        except (OSError, TaskRefused) as error:
            log.error("%s: its new Vault token cannot be written: %s", kept.name, error)
        await self._tell(kept, context)
        return True

    async def _tell(self, kept: "_Kept", context: TaskContext) -> None:
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

    async def _revoke(self, kept: "_Kept") -> None:
        record = kept.record
        assert record is not None
        while record.is_valid(self._now_s()):
            try:
                await self._client.revoke_self(Secret(record.token), record.namespace)
                telemetry.VAULT_REVOCATIONS.inc()
                break
            except VaultUnavailable:
                await self._vault_back()
            except VaultRefused as error:
                log.debug("%s: its Vault token was not revoked: %s", kept.name, error)
                break
        self._records.remove(*kept.key)
        if kept.record is record:
            self._kept.pop(kept.key, None)

    # ---- secrets, for its templates

    async def read(self, context: TaskContext, read: Read) -> Answer:
        self._load()
        kept = self._of(_key(context))
        record = kept.record
        if record is None or not record.is_valid(self._now_s()):
            raise VaultUnavailable("the task's Vault token has ended, and a new one is not there yet")
        token = Secret(record.token)
        if read.what is What.SECRETS:
            return Answer(await self._client.list(token, read.name, record.namespace) or (), STATIC_S)
        async with kept.turn:  # two templates of a task that want the same dynamic secret get one
            return await self._secret(kept, record, token, read)

    async def _secret(self, kept: "_Kept", record: Record, token: Secret, read: Read) -> Answer:
        key = msgspec.json.encode((read.name, read.arguments)).decode()
        lease = (kept.record or record).leases.get(key)
        if lease is not None and (left := await self._leased(kept, token, key, lease)) is not None:
            return left
        found = await self._client.read(token, read.name, read.arguments, record.namespace)
        if found is None or not found.lease_id:
            duration_s = float(found.lease_duration) if found is not None else 0.0
            return Answer(found, self._bounded(record, min(duration_s / 2 or STATIC_S, STATIC_S)))
        lease = Lease(
            secret=msgspec.to_builtins(found),
            lease_id=found.lease_id,
            duration_s=float(found.lease_duration),
            expires_at=self._now_s() + found.lease_duration,
            renewable=found.renewable,
        )
        self._remember(kept, record, key, lease)
        return Answer(found, self._bounded(record, self._lease_s(lease)))

    async def _leased(self, kept: "_Kept", token: Secret, key: str, lease: Lease) -> Answer | None:
        """The secret that was issued, its lease renewed when half of it is over; None: a new one is needed."""
        record = kept.record
        assert record is not None
        left_s = lease.expires_at - self._now_s()
        if left_s <= 0:
            return None
        if left_s <= lease.duration_s / 2:
            if not lease.renewable:
                # The last part of its life is what its successor is fetched in.
                return None if left_s <= lease.duration_s * LAST_PART else self._answer(record, lease)
            try:
                duration_s, renewable = await self._client.renew_lease(token, lease.lease_id, record.namespace)
            except VaultRefused:
                return None
            if duration_s <= lease.duration_s * LAST_PART:
                return None
            lease = msgspec.structs.replace(lease, expires_at=self._now_s() + duration_s, renewable=renewable)
            self._remember(kept, record, key, lease)
        return self._answer(record, lease)

    def _answer(self, record: Record, lease: Lease) -> Answer:
        return Answer(msgspec.convert(lease.secret, VaultSecret), self._bounded(record, self._lease_s(lease)))

    def _lease_s(self, lease: Lease) -> float:
        left_s = lease.expires_at - self._now_s()
        part = 0.5 if lease.renewable and left_s > lease.duration_s / 2 else 1.0 - LAST_PART
        return max(left_s * part, 0.0)

    def _bounded(self, record: Record, again_s: float) -> float:
        """Not after the token, with which its secrets end."""
        left_s = (record.expires_at - self._now_s()) * (1.0 - LAST_PART / 2) if record.expires_at else again_s
        return max(min(again_s, left_s), AGAIN_S_MIN)

    def _remember(self, kept: "_Kept", record: Record, key: str, lease: Lease) -> None:
        current = kept.record
        if current is not None and current.accessor == record.accessor:  # of a token that was replaced meanwhile: no use
            self._set(kept, msgspec.structs.replace(current, leases={**current.leases, key: lease}))


@dataclass(slots=True, eq=False)
class _Kept:
    """What is known of one task's token."""

    key: TaskKey
    record: Record | None = None
    context: TaskContext | None = None
    task_run: TaskRun | None = None
    worker: asyncio.Task[None] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return f"{self.key[0][:8]}/{self.key[1]}"

    def stop(self) -> None:
        if self.worker is not None and self.worker is not asyncio.current_task():
            self.worker.cancel()
        self.worker = None


class _Waiting:
    """Says in the task's history what its start waits for, each reason once."""

    def __init__(self, context: TaskContext) -> None:
        self._context, self._said = context, ""

    def __call__(self, reason: str) -> None:
        self._context.waits(reason)
        if reason != self._said:
            self._said = reason
            self._context.say(EVENT, reason)


async def _guarded(kept: _Kept, work: Coroutine[Any, Any, None]) -> None:
    """A bug with one task's token is not every task's."""
    try:
        await work
    except Exception:
        log.exception("%s: its Vault token is not looked after any more", kept.name)


def _key(context: TaskContext) -> TaskKey:
    return context.desired.id, context.task.name
