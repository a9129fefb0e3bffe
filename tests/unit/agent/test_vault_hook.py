"""A task's Vault token over its whole life, in virtual time: with Vault away, sealed, refusing, and the agent killed."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from msgspec.structs import replace

from agent import tmpfs
from agent.alloc_dir import DiskDirs, remove_tree
from agent.hooks.base import TaskContext, TaskHook
from agent.hooks.dirs import DirsHook
from agent.hooks.vault import VaultHook
from agent.secrets import Answer
from agent.vault_records import VaultRecords
from model.alloc import AllocId, ClientStatus
from model.errors import VaultRefused, VaultUnavailable
from model.job import Job, JobType, Template, Vault
from model.secret import Secret
from model.wire import nanoseconds
from template.lookups import Read, What
from template.lookups import Secret as VaultSecret
from tests import clock
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.unit.agent.world import World, kinds
from vault.client import TaskToken, TokenFacts, VaultClient

TTL_S = 3600.0


@dataclass
class FakeVault:
    """As much of VaultClient as the hook asks, on the loop's clock. tokens: until when each lives.

    is_bare: tokens come without the policy `default`, and may do nothing with themselves. fails: it answers, and makes none.
    """

    tokens: dict[str, float] = field(default_factory=dict)
    leases: dict[str, float] = field(default_factory=dict)
    is_away: bool = False
    refuses: bool = False
    refuses_renewals: bool = False
    is_bare: bool = False
    fails: bool = False
    makes: int = 0
    lease_s: int = 600
    are_leases_renewable: bool = True
    renewals: int = 0
    issued: int = 0
    age_max_s: float = 1e9
    born_s: dict[str, float] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    _back: asyncio.Event = field(default_factory=asyncio.Event)

    def _check(self, token: str | None = None) -> None:
        if self.is_away:
            raise VaultUnavailable("no route to Vault")
        if token is not None and self.tokens.get(token, 0.0) <= now_s():
            raise VaultRefused("permission denied")

    async def make(self, context: TaskContext) -> TaskToken:
        self._check()
        self.makes += 1
        if self.refuses:
            raise VaultRefused("token policies must be subset")
        if self.fails:
            raise VaultUnavailable("took longer than 5 s")
        name = f"s.{len(self.tokens)}"
        self.tokens[name], self.born_s[name] = now_s() + TTL_S, now_s()
        return TaskToken(secret=Secret(name), accessor=f"a.{name}", ttl_s=TTL_S, renewable=True, policies=("p",) if self.is_bare else ("default", "p"))

    async def renew_self(self, token: Secret, increment_s: float = 0.0, namespace: str = "") -> float:
        self._check(token.reveal())
        if self.is_bare or self.refuses_renewals:
            raise VaultRefused("permission denied")
        self.renewals += 1
        ttl_s = min(TTL_S, self.born_s[token.reveal()] + self.age_max_s - now_s())
        self.tokens[token.reveal()] = now_s() + ttl_s
        return ttl_s

    async def revoke_self(self, token: Secret, namespace: str = "") -> None:
        self._check(token.reveal())
        if self.is_bare:
            raise VaultRefused("permission denied")
        self.revoked.append(token.reveal())
        self.tokens[token.reveal()] = 0.0

    async def read(self, token: Secret, path: str, arguments: Sequence[str] = (), namespace: str = "") -> VaultSecret | None:
        self._check(token.reveal())
        if not path.startswith("database/"):
            return VaultSecret(data={"path": path}, lease_duration=2764800)
        self.issued += 1
        lease_id = f"{path}/{self.issued}"
        self.leases[lease_id] = now_s() + self.lease_s
        return VaultSecret(
            data={"user": f"u{self.issued}"}, lease_id=lease_id, lease_duration=self.lease_s, renewable=self.are_leases_renewable
        )

    async def renew_lease(self, token: Secret, lease_id: str, namespace: str = "") -> tuple[float, bool]:
        self._check(token.reveal())
        if self.leases[lease_id] <= now_s():
            raise VaultRefused("lease not found")
        self.leases[lease_id] = now_s() + 600
        return 600.0, True

    async def lookup_self(self, token: Secret, namespace: str = "") -> TokenFacts:
        self._check(token.reveal())
        if self.is_bare:
            raise VaultRefused("permission denied")
        name = token.reveal()
        return TokenFacts(
            accessor=f"a.{name}",
            ttl_s=self.tokens[name] - now_s(),
            renewable=True,
            policies=("default",),
            creation_ttl_s=TTL_S,
            is_endless=False,
            is_orphan=True,
            display_name="",
        )

    async def revoke(self, accessor: str, namespace: str) -> None:
        self._check()
        self.revoked.append(accessor.removeprefix("a."))
        self.tokens[accessor.removeprefix("a.")] = 0.0

    async def usable(self) -> None:
        while self.is_away:
            await asyncio.sleep(1.0)

    async def returned(self) -> None:
        while not self.is_away:
            await asyncio.sleep(1.0)
        await self.usable()

    def doubt(self) -> None:
        pass

    def living(self) -> list[str]:
        return [name for name, until_s in self.tokens.items() if until_s > now_s()]


def now_s() -> float:
    return clock.now().timestamp()


@pytest.fixture
def memory() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm") as name:
        path = Path(name) / "secrets"
        yield path
        with suppress(OSError):
            tmpfs.unmount(path)


def _hook(vault: FakeVault, memory: Path) -> VaultHook:
    return VaultHook(
        client=cast(VaultClient, vault),
        reach=vault,
        tokens=vault,
        records=VaultRecords(memory),
        now_s=now_s,
        rng=random.Random(3),
    )


@asynccontextmanager
async def _living(world: World, hook: VaultHook, *others: TaskHook) -> AsyncIterator[None]:
    """One life of an agent with this hook, after the others."""
    world.accessors = hook.accessors
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(hook.run(), name="vault tokens")
        async with world.running(hooks=(*others, hook)):
            yield
        keeping.cancel()


def _job(count: int = 1, **vault: Any) -> Job:
    asked = Vault(policies=("p",), disable_file=True, **vault)
    return a_job(*(a_task(name=f"t{n}" if n else "main", vault=asked) for n in range(count)))


def test_an_outage_of_ten_minutes_and_an_agent_killed_in_it_restart_none_of_twenty_tasks(memory: Path) -> None:
    async def story() -> None:
        job = _job(20)
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault()
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            vault.is_away = True
            await asyncio.sleep(300)
        async with _living(world, _hook(vault, memory)):
            await asyncio.sleep(300)
            vault.is_away = False
            await asyncio.sleep(2 * TTL_S)
        assert (len(world.driver.starts), len(vault.tokens), vault.revoked) == (20, 20, [])
        assert vault.renewals >= 20 * 3
        assert all(until > now_s() for until in vault.tokens.values())

    clock.run(story())


def test_a_first_start_waits_says_why_and_begins_within_two_seconds_of_the_return(memory: Path) -> None:
    async def story() -> None:
        job = _job()
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault(is_away=True)
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await asyncio.sleep(3600)
            observed = world.store.observed[alloc.id]
            assert observed.client_status is ClientStatus.PENDING
            assert observed.client_description == "Waiting for Vault: no route to Vault"
            assert kinds(world.store, alloc.id).count("Vault") == 1
            vault.is_away, back_s = False, now_s()
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            assert now_s() - back_s < 2.0

    clock.run(story())


def test_a_refusal_is_waited_out_too(memory: Path) -> None:
    async def story() -> None:
        job = _job()
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault(refuses=True)
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await asyncio.sleep(120)
            assert world.store.observed[alloc.id].client_description == "Vault refuses: token policies must be subset"
            vault.refuses = False
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            assert world.store.observed[alloc.id].vault_accessors == {"a.s.0": ""}

    clock.run(story())


@pytest.mark.parametrize(("mode", "starts", "signals"), [("restart", 2, 0), ("signal", 1, 1), ("noop", 1, 0)])
def test_a_token_that_ended_during_an_outage_is_replaced_and_the_task_told_by_its_mode(
    memory: Path, mode: str, starts: int, signals: int
) -> None:
    async def story() -> None:
        job = _job(change_mode=mode, change_signal="SIGUSR1" if mode == "signal" else "")
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault()
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            vault.is_away = True
            await asyncio.sleep(2 * TTL_S)
            assert (len(world.driver.starts), len(vault.tokens)) == (1, 1)
            vault.is_away = False
            await asyncio.sleep(60)
            assert (len(world.driver.starts), len(vault.tokens)) == (starts, 2)
            assert sum(kind == "Signaling" for kind in kinds(world.store, alloc.id)) == signals
            state = world.store.observed[alloc.id].task_states["main"]
            assert (world.store.observed[alloc.id].client_status, state.failed) == (ClientStatus.RUNNING, False)

    clock.run(story())


def test_a_token_at_its_greatest_age_is_replaced_before_it_ends(memory: Path) -> None:
    async def story() -> None:
        job = _job(change_mode="noop")
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault(age_max_s=2 * TTL_S)
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            for _ in range(300):
                await asyncio.sleep(60)
                assert any(until > now_s() for until in vault.tokens.values())
            assert len(vault.tokens) > 1

    clock.run(story())


@pytest.mark.parametrize("is_bare", [False, True], ids=["refused", "without the policy default"])
def test_a_token_that_vault_does_not_renew_is_replaced_once_and_near_its_end_only(memory: Path, is_bare: bool) -> None:
    async def story() -> None:
        job = _job(change_mode="restart")
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault(refuses_renewals=True, is_bare=is_bare)
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            await asyncio.sleep(TTL_S * 0.79)
            assert (len(world.driver.starts), len(vault.tokens)) == (1, 1)
            await asyncio.sleep(TTL_S * 0.03)
            assert (len(world.driver.starts), vault.living()) == (2, ["s.0", "s.1"])
            await asyncio.sleep(8 * 60)
            assert vault.revoked == []
            await asyncio.sleep(100)
            assert (vault.revoked, vault.living()) == (["s.0"], ["s.1"])
            assert len(list(memory.iterdir())) == 1

    clock.run(story())


def test_a_refusal_that_passes_costs_nothing(memory: Path) -> None:
    async def story() -> None:
        job = _job(change_mode="restart")
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault(refuses_renewals=True)
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            await asyncio.sleep(TTL_S * 0.6)
            vault.refuses_renewals = False
            await asyncio.sleep(3 * TTL_S)
            assert (len(world.driver.starts), vault.living(), vault.revoked) == (1, ["s.0"], [])

    clock.run(story())


def test_a_token_that_vault_has_ended_is_replaced_at_its_next_renewal(memory: Path) -> None:
    async def story() -> None:
        job = _job(change_mode="restart")
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault()
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            vault.tokens["s.0"] = 0.0
            await asyncio.sleep(TTL_S * 0.6)
            assert (len(world.driver.starts), vault.living(), vault.revoked) == (2, ["s.1"], [])

    clock.run(story())


def test_a_replaced_token_ends_with_its_task_also_after_the_agent_was_killed(memory: Path) -> None:
    async def story() -> None:
        job = replace(_job(change_mode="noop"), type=JobType.BATCH)
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault(refuses_renewals=True)
        hook = _hook(vault, memory)
        async with _living(world, hook):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            await asyncio.sleep(TTL_S * 0.82)
            assert hook.accessors(alloc.id) == {"a.s.0": "", "a.s.1": ""}
        again = _hook(vault, memory)
        async with _living(world, again):
            await asyncio.sleep(10)
            assert again.accessors(alloc.id) == {"a.s.0": "", "a.s.1": ""}
            world.driver.end(alloc.id)
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
            await asyncio.sleep(10)
            assert (sorted(vault.revoked), list(memory.iterdir())) == (["s.0", "s.1"], [])

    clock.run(story())


def test_secrets_are_read_with_a_new_token_at_once(memory: Path) -> None:
    read = Read(what=What.SECRET, name="database/creds/app")

    async def story() -> None:
        job = _job(change_mode="noop")
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault(refuses_renewals=True)
        hook = _hook(vault, memory)
        async with _living(world, hook):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            await asyncio.sleep(TTL_S * 0.78)
            first = await hook.read(_context(hook, alloc.id), read)
            assert first.stale is not None
            async with asyncio.timeout(TTL_S * 0.03):
                await first.stale.wait()
            second = await hook.read(_context(hook, alloc.id), read)
            assert (_data(first), _data(second)) == ({"user": "u1"}, {"user": "u2"})
            assert "s.0" in vault.living()

    clock.run(story())


@pytest.mark.parametrize("is_shown", [True, False], ids=["in its file", "without a file"])
def test_a_running_task_whose_record_is_lost_keeps_its_token_or_gets_another(memory: Path, tmp_path: Path, is_shown: bool) -> None:
    async def story() -> None:
        job = a_job(a_task(name="main", vault=Vault(policies=("p",), disable_file=not is_shown, change_mode="restart")))
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault()
        world.dirs = dirs = DiskDirs(tmp_path)
        dirs_hook = DirsHook(dirs)
        async with _living(world, _hook(vault, memory), dirs_hook):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
        tmpfs.unmount(memory)
        hook = _hook(vault, memory)
        vault.is_away = True
        async with _living(world, hook, dirs_hook):
            await asyncio.sleep(60)
            vault.is_away = False
            await asyncio.sleep(60)
            wanted = (1, ["s.0"], "goes on with the one in secrets/vault_token") if is_shown else (2, ["s.0", "s.1"], "it gets a new one")
            assert (len(world.driver.starts), vault.living()) == wanted[:2]
            told = [one.display_message for one in world.store.observed[alloc.id].task_states["main"].events if one.type == "Vault"]
            assert any(wanted[2] in one for one in told)
            assert hook.accessors(alloc.id) == {f"a.{wanted[1][-1]}": ""}
            await asyncio.sleep(3 * TTL_S)
            assert wanted[1][-1] in vault.living()
        remove_tree(dirs.path(alloc.id))

    clock.run(story())


def test_a_token_is_not_written_where_the_tmpfs_is_gone_and_the_task_runs_on(memory: Path, tmp_path: Path) -> None:
    async def story() -> None:
        job = a_job(a_task(name="main", vault=Vault(policies=("p",), change_mode="restart")))
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault(refuses_renewals=True)
        world.dirs = dirs = DiskDirs(tmp_path)
        secrets = dirs.task(alloc.id, "main").secrets
        async with _living(world, _hook(vault, memory), DirsHook(dirs)):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            assert (secrets / "vault_token").read_text() == "s.0"
            tmpfs.unmount(secrets)
            await asyncio.sleep(TTL_S * 0.85)
            assert (len(world.driver.starts), list(secrets.iterdir())) == (1, [])
            told = [one.display_message for one in world.store.observed[alloc.id].task_states["main"].events if one.type == "Vault"]
            assert told == ["New Vault token acquired, and not written: main/secrets is not in memory; it is again with the task's next start"]
        remove_tree(dirs.path(alloc.id))

    clock.run(story())


def test_a_vault_that_answers_and_makes_no_token_is_asked_less_and_less_often(memory: Path) -> None:
    async def story() -> None:
        job = _job()
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault(fails=True)
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await asyncio.sleep(60)
            assert 5 <= vault.makes <= 8
            await asyncio.sleep(3600)
            assert vault.makes <= 8 + 3600 / 30
            vault.is_away = True
            await asyncio.sleep(90)
            vault.is_away = vault.fails = False
            back_s = now_s()
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            assert now_s() - back_s < 2.0

    clock.run(story())


def test_the_token_is_revoked_when_the_task_has_ended_for_good(memory: Path) -> None:
    async def story() -> None:
        job = replace(_job(), type=JobType.BATCH)
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault()
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            vault.is_away = True
            world.driver.end(alloc.id)
            await world.store.until_observed(alloc.id, ClientStatus.COMPLETE)
            await asyncio.sleep(30)
            assert vault.revoked == []
        async with _living(world, _hook(vault, memory)):  # it is not forgotten by an agent that dies meanwhile
            vault.is_away = False
            await asyncio.sleep(10)
            assert vault.revoked == ["s.0"]
            assert list(memory.iterdir()) == []
            assert world.store.observed[alloc.id].vault_accessors == {}

    clock.run(story())


def test_a_dynamic_secret_is_issued_once_however_often_it_is_asked_for(memory: Path) -> None:
    read = Read(what=What.SECRET, name="database/creds/app")

    async def story() -> None:
        job = _job()
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault()
        hook = _hook(vault, memory)
        async with _living(world, hook):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            context = _context(hook, alloc.id)
            both = await asyncio.gather(hook.read(context, read), hook.read(context, read))
            assert vault.issued == 1
            assert [_data(one) for one in both] == [{"user": "u1"}] * 2
            await _follow(hook, context, read, 1800)
            assert vault.issued == 1
        again = _hook(vault, memory)
        async with _living(world, again):
            await asyncio.sleep(5)
            vault.is_away = True
            answer = await again.read(_context(again, alloc.id), read)  # known, for its lease is young
            assert _data(answer) == {"user": "u1"}
            vault.is_away = False
            await asyncio.sleep(700)  # nobody renewed it
            fresh = await again.read(_context(again, alloc.id), read)
            assert _data(fresh) == {"user": "u2"}

    clock.run(story())


@pytest.mark.parametrize(
    ("lease_s", "splay_s", "left_s"), [(600, 5.0, 120.0), (30, 5.0, 8.0), (10, 5.0, 5.0), (600, 300.0, 300.0)]
)
def test_the_successor_of_a_lease_comes_while_there_is_time_to_tell_the_task(
    memory: Path, lease_s: int, splay_s: float, left_s: float
) -> None:
    """left_s: of the lease, when its secret is read again."""
    read = Read(what=What.SECRET, name="database/creds/app")

    async def story() -> None:
        vault = FakeVault(lease_s=lease_s, are_leases_renewable=False)
        job = a_job(a_task(name="main", vault=Vault(policies=("p",), disable_file=True), templates=(Template(splay=nanoseconds(splay_s)),)))
        world, alloc = World(job), an_alloc(job=job)
        hook = _hook(vault, memory)
        async with _living(world, hook):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            context = _context(hook, alloc.id)
            answer = await hook.read(context, read)
            assert lease_s - answer.again_s == pytest.approx(left_s)
            await asyncio.sleep(answer.again_s)
            assert _data(await hook.read(context, read)) == {"user": "u2"}
            assert vault.leases["database/creds/app/1"] - now_s() == pytest.approx(left_s)

    clock.run(story())


def test_a_static_secret_is_read_again_after_five_minutes(memory: Path) -> None:
    async def story() -> None:
        job = _job()
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault()
        hook = _hook(vault, memory)
        async with _living(world, hook):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            answer = await hook.read(_context(hook, alloc.id), Read(what=What.SECRET, name="kv/app"))
            assert answer.again_s == 300.0
            vault.is_away = True
            with pytest.raises(VaultUnavailable):
                await hook.read(_context(hook, alloc.id), Read(what=What.SECRET, name="kv/app"))

    clock.run(story())


def test_what_the_agent_keeps_is_in_memory_and_its_own(memory: Path) -> None:
    async def story() -> None:
        job = _job()
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault()
        async with _living(world, _hook(vault, memory)):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.RUNNING)
            (kept,) = memory.iterdir()
            assert tmpfs.is_in_memory(memory)
            assert (memory.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o600)

    clock.run(story())


def test_a_token_is_never_asked_for_where_it_would_lie_on_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    async def story() -> None:
        job = _job()
        world, alloc, vault = World(job), an_alloc(job=job), FakeVault()
        async with _living(world, _hook(vault, tmp_path / "secrets")):
            world.store.want(alloc)
            await world.store.until_observed(alloc.id, ClientStatus.FAILED)
            assert vault.tokens == {}

    clock.run(story())


def _data(answer: Answer) -> dict[str, object]:
    assert isinstance(answer.value, VaultSecret)
    return dict(answer.value.data)


async def _follow(hook: VaultHook, context: TaskContext, read: Read, span_s: float) -> Answer:
    """As a template does: asks again when it is told to."""
    until_s = now_s() + span_s
    while True:
        answer = await hook.read(context, read)
        if now_s() + answer.again_s > until_s:
            return answer
        await asyncio.sleep(answer.again_s)


def _context(hook: VaultHook, alloc_id: AllocId) -> TaskContext:
    context = hook._kept[alloc_id, "main"].context
    assert context is not None
    return context
