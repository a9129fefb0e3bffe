"""Templates in the life of a task, in virtual time: an embedded Consul, a Vault in memory, files on disk."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from msgspec.structs import replace

from agent import tmpfs
from agent.alloc_dir import DiskDirs, remove_tree
from agent.hooks.base import TaskContext
from agent.hooks.templates import TemplatesHook
from agent.secrets import Answer
from agent.templates import watching
from agent.templates.consul import ConsulReads
from agent.templates.watching import Watches
from catalog.kv import Kv, delete, put
from catalog.lookups import Lookups
from model.alloc import AllocId, ClientStatus, DesiredStatus
from model.errors import VaultRefused, VaultUnavailable
from model.job import Template, Vault
from model.wire import nanoseconds
from template import Read, Secret
from tests import clock
from tests.agent.doubles import a_job, a_task, an_alloc
from tests.embedded import Embedded
from tests.unit.agent.world import World, kinds, restart_policy


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: nothing is written into a task's secrets anywhere else."""
    with TemporaryDirectory(dir="/dev/shm") as name:
        Path(name).chmod(0o755)
        yield Path(name)


NOT_IN_MEMORY = "Template failed: secrets/out: main/secrets is not in memory; it is again with the task's next start"


class PlainDirs(DiskDirs):
    """Mounts nothing."""

    def build_task(self, alloc_id: AllocId, task_name: str, user: str, *, is_contained: bool, has_secrets: bool) -> None:
        super().build_task(alloc_id, task_name, user, is_contained=is_contained, has_secrets=False)


class MemoryVault:
    """TaskSecrets. values: by path; a text is why it is refused."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, object] | str] = {}
        self.is_away = False
        self.again_s = 60.0
        self.reads: list[tuple[str, str]] = []

    async def read(self, context: TaskContext, read: Read) -> Answer:
        self.reads.append((context.task.name, read.name))
        await asyncio.sleep(0.01)
        found = self.values.get(read.name)
        if self.is_away:
            raise VaultUnavailable("away")
        if isinstance(found, str):
            raise VaultRefused(found)
        return Answer(None if found is None else Secret(data=found, lease_duration=60), self.again_s)


async def inline(call: Callable[..., Any], *args: Any) -> Any:
    """A thread would be waited for in vain by a clock that jumps."""
    await asyncio.sleep(0)
    return call(*args)


class Stage:
    """One node with its Consul and its Vault; agents come and go."""

    def __init__(self, home: Path, consul: Embedded, *templates: Template, **task: Any) -> None:
        self.task = a_task(templates=templates, **task)
        self.job = a_job(self.task)
        self.alloc = an_alloc(job=self.job)
        self.world = World(self.job)
        self.world.dirs = PlainDirs(home)
        self.consul, self.wire, self.vault = consul, consul.wire(), MemoryVault()
        self.kv = Kv(consul.wire())
        self.dir = home / self.alloc.id / "main"
        self.watches: Watches

    async def put(self, **values: str) -> None:
        await self.kv.commit([put(name, value.encode()) for name, value in values.items()])

    @asynccontextmanager
    async def life(self) -> AsyncIterator[None]:
        """Of one agent, killed at its end."""
        self.watches = Watches(ConsulReads(Lookups(self.wire), "server-1", "drover"), rng=random.Random(3))
        hook = TemplatesHook(self.watches, self.vault, now=clock.now, rng=random.Random(4), aside=inline)
        async with hook, self.world.running(hooks=[hook]):
            self.world.store.want(self.alloc)
            yield

    async def running(self) -> None:
        await self.world.store.until_observed(self.alloc.id, ClientStatus.RUNNING)

    def file(self, path: str = "local/out") -> str | None:
        return (self.dir / path).read_text() if (self.dir / path).exists() else None

    @property
    def starts(self) -> int:
        return len(self.world.driver.starts)

    @property
    def env(self) -> dict[str, str]:
        return dict(self.world.driver.running(self.alloc.id)[0].start.env)

    @property
    def signals(self) -> list[str]:
        return self.world.driver.running(self.alloc.id)[0].signals

    @property
    def told(self) -> list[str]:
        events = self.world.store.observed[self.alloc.id].task_states["main"].events
        return [event.display_message for event in events if event.type == "Template"]


def a_template(text: str, dest_path: str = "local/out", *, wait: float | None = 0.0, splay: float = 0.0, **fields: Any) -> Template:
    """wait: of its min; None: drover's own."""
    span = None if wait is None else {"Min": nanoseconds(wait), "Max": nanoseconds(60.0)}
    return Template(embedded_tmpl=text, dest_path=dest_path, wait=span, splay=nanoseconds(splay), **fields)


def play(story: Callable[..., Awaitable[None]], home: Path, *templates: Template, **task: Any) -> None:
    async def staged() -> None:
        async with Embedded() as consul:
            await story(Stage(home, consul, *templates, **task))

    clock.run(staged())


def test_a_first_start_waits_with_its_reason_and_begins_once_all_is_there(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.life():
            await stage.world.store.until(lambda store: stage.alloc.id in store.observed)
            await asyncio.sleep(3600)
            report = stage.world.store.observed[stage.alloc.id]
            expected = "Missing: kv.block(a), vault.read(kv/db)"
            assert (report.client_status, report.client_description) == (ClientStatus.PENDING, expected)
            await stage.put(a="1")
            await asyncio.sleep(3)
            assert stage.told == [expected, "Missing: vault.read(kv/db)"]
            stage.vault.is_away = True
            await asyncio.sleep(60)
            stage.vault.is_away = False
            stage.vault.values["kv/db"] = {"password": "p"}
            began_s = asyncio.get_running_loop().time()
            await stage.running()
            assert asyncio.get_running_loop().time() - began_s < 62
            assert stage.file() == "1 p"

    play(story, tmp_path, a_template('{{ key "a" }} {{ with secret "kv/db" }}{{ .Data.password }}{{ end }}'), vault=Vault())


def test_what_changed_while_another_was_waited_for_is_in_the_first_start(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        async with stage.life():
            await asyncio.sleep(60)
            assert stage.file() == "1"
            await stage.put(a="2")
            await asyncio.sleep(5)
            await stage.put(b="1")
            async with asyncio.timeout(2.0):
                await stage.running()
            assert (stage.file(), stage.file("local/b")) == ("2", "1")
            await asyncio.sleep(600)
            assert (stage.starts, stage.told) == (1, ["Missing: kv.block(b)"])

    play(story, tmp_path, a_template('{{ key "a" }}'), a_template('{{ key "b" }}', "local/b"))


def test_a_task_starts_within_two_seconds_of_vaults_return(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.vault.values["kv/db"] = {"password": "p"}
        stage.vault.is_away = True
        async with stage.life():
            await asyncio.sleep(600)
            assert stage.told == ["Missing: vault.read(kv/db) (Vault does not answer)"]
            stage.vault.is_away = False
            async with asyncio.timeout(2.0):
                await stage.running()

    play(story, tmp_path, a_template('{{ with secret "kv/db" }}{{ .Data.password }}{{ end }}'), vault=Vault())


def test_a_change_restarts_the_task_without_counting_as_a_failure(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        async with stage.life():
            await stage.running()
            for value in ("2", "3", "4", "5"):  # more than its restart policy would allow
                await stage.put(a=value)
                await stage.world.store.until(lambda _, value=value: stage.file() == value and stage.starts == int(value))
            assert "Not Restarting" not in kinds(stage.world.store, stage.alloc.id)
            assert stage.env["A"] == "5"

    play(story, tmp_path, a_template('{{ key "a" }}'), a_template('A={{ key "a" }}', "secrets/env", envvars=True))


def test_signals_are_sent_once_for_what_changed_together_and_a_restart_beats_them(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1", b="1", c="1")
        async with stage.life():
            await stage.running()
            await stage.put(a="2", b="2")
            await asyncio.sleep(5)
            assert (stage.signals, stage.starts, stage.file(), stage.file("local/b")) == (["SIGHUP"], 1, "2", "2")
            await stage.put(a="3", c="3")
            await asyncio.sleep(30)
            assert (stage.signals, stage.starts, stage.file(), stage.file("local/c")) == ([], 2, "3", "3")
            await stage.put(n="1")
            await asyncio.sleep(30)
            assert (stage.signals, stage.starts, stage.file("local/n")) == ([], 2, "1")

    hup = {"change_mode": "signal", "change_signal": "SIGHUP", "wait": 1.0}
    play(
        story,
        tmp_path,
        a_template('{{ key "a" }}', **hup),
        a_template('{{ key "b" }}', "local/b", **hup),
        a_template('{{ key "c" }}', "local/c", wait=1.0),
        a_template('{{ keyOrDefault "n" "none" }}', "local/n", change_mode="noop"),
    )


def test_equal_bytes_change_nothing(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="x")
        async with stage.life():
            await stage.running()
            before = (stage.dir / "local/out").stat().st_ino
            await stage.put(a="X")
            await asyncio.sleep(60)
            assert (stage.starts, (stage.dir / "local/out").stat().st_ino) == (1, before)

    play(story, tmp_path, a_template('{{ key "a" | toLower }} {{ timestamp }}'))


def test_changes_are_collected_until_it_is_quiet_and_for_no_longer_than_the_longest_wait(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="0")
        async with stage.life():
            await stage.running()
            for value in range(1, 11):
                await stage.put(a=str(value))
                await asyncio.sleep(2)
            await asyncio.sleep(10)
            assert (stage.file(), stage.signals) == ("10", ["SIGHUP"])
            for value in range(200):  # for ever, it seems
                await stage.put(a=f"again {value}")
                await asyncio.sleep(2)
            assert 1 < len(stage.signals) <= 3

    play(story, tmp_path, a_template('{{ key "a" }}', wait=None, change_mode="signal", change_signal="SIGHUP"))


def test_a_template_that_settles_slowly_holds_up_no_other(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1", b="1")
        async with stage.life():
            await stage.running()
            await stage.put(a="2", b="2")
            await asyncio.sleep(2)
            assert (stage.file(), stage.file("local/slow"), stage.signals) == ("2", "1", ["SIGHUP"])
            for value in range(3, 30):  # never quiet
                await stage.put(b=str(value))
                await asyncio.sleep(2)
            await stage.put(a="3")
            await asyncio.sleep(2)
            assert stage.file() == "3"
            await asyncio.sleep(70)
            assert (stage.file("local/slow"), stage.starts) == ("29", 1)

    hup = {"change_mode": "signal", "change_signal": "SIGHUP"}
    play(
        story,
        tmp_path,
        a_template('{{ key "a" }}', wait=1.0, **hup),
        a_template('{{ key "b" }}', "local/slow", wait=50.0, **hup),
    )


def test_the_successor_of_a_secret_is_rendered_at_once(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.vault.values["database/creds/app"] = {"user": "u1"}
        stage.vault.again_s = 10.0
        async with stage.life():
            await stage.running()
            stage.vault.values["database/creds/app"] = {"user": "u2"}
            await asyncio.sleep(11)
            assert (stage.file(), stage.signals) == ("u2", ["SIGHUP"])

    text = '{{ with secret "database/creds/app" }}{{ .Data.user }}{{ end }}'
    play(story, tmp_path, a_template(text, wait=None, change_mode="signal", change_signal="SIGHUP"), vault=Vault())


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("{{ key $pw }}", "Missing: kv.block(…)"),
        ("{{ secret $pw }}", "Missing: vault.read(…)"),
        ("{{ secret (print \"kv/\" $pw) }}", "Missing: vault.read(…) (refused)"),
        ("{{ file $pw }}", "Missing: file(…)"),
        ("{{ file (print \"../../\" $pw) }}", "a file that cannot be read"),
        ("{{ range service $pw }}{{ end }}{{ key \"other\" }}", "Missing: kv.block(other)"),
        ("{{ sprig_fail $pw }}", "…"),
        ("{{ mustEnv $pw }}", "mustEnv: the variable … is not set"),
    ],
)
def test_a_secret_that_is_used_as_a_name_is_shown_nowhere(use: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(stage: Stage) -> None:
        stage.vault.values["kv/db"] = {"password": "LEAK-9"}
        stage.vault.values["kv/LEAK-9"] = "Vault refused GET kv/LEAK-9: permission denied (403)"
        async with stage.life():
            await stage.world.store.until(lambda store: stage.alloc.id in store.observed)
            await asyncio.sleep(60)
            report = str(stage.world.store.observed[stage.alloc.id])
            assert words in report
            assert "LEAK" not in report + caplog.text

    text = '{{ with secret "kv/db" }}{{ $pw := .Data.password }}' + use + "{{ end }}"
    play(story, tmp_path, a_template(text), vault=Vault())


def test_nor_is_it_in_the_log_while_consul_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story(stage: Stage) -> None:
        stage.vault.values["kv/db"] = {"password": "LEAK 9"}
        stage.wire.is_cut = True
        async with stage.life():
            await asyncio.sleep(60)
        assert "their last renderings stay" in caplog.text
        assert "LEAK" not in caplog.text

    play(story, tmp_path, a_template('{{ with secret "kv/db" }}{{ key .Data.password }}{{ end }}'), vault=Vault())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_without_the_tmpfs_a_running_task_keeps_its_rendering_and_nothing_goes_to_disk() -> None:
    async def story(stage: Stage) -> None:
        stage.world.dirs = DiskDirs(stage.dir.parent.parent)
        await stage.put(a="1")
        async with stage.life():
            await stage.running()
            assert stage.file("secrets/out") == "1"
            tmpfs.unmount(stage.dir / "secrets")
            await stage.put(a="2")
            await asyncio.sleep(60)
        async with stage.life():  # and its next agent has nothing to tell the task either
            await asyncio.sleep(60)
            assert (stage.starts, stage.told, stage.file("secrets/out")) == (1, [NOT_IN_MEMORY] * 2, None)
            stage.world.driver.end(stage.alloc.id)
            await stage.world.store.until(lambda _: stage.starts == 2)
            assert stage.file("secrets/out") == "2"
            assert tmpfs.is_in_memory(stage.dir / "secrets")
        remove_tree(stage.dir.parent)

    with TemporaryDirectory(dir="/var/tmp") as disk:
        if tmpfs.is_in_memory(disk):
            pytest.skip("there is no disk")
        play(story, Path(disk), a_template('{{ key "a" }}', "secrets/out"))


@pytest.mark.parametrize(("destination", "status"), [("local/out", ClientStatus.RUNNING), ("secrets/out", ClientStatus.FAILED)])
def test_an_agent_that_may_not_mount_runs_what_writes_no_secret(
    destination: str, status: ClientStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(stage: Stage) -> None:
        stage.world.dirs = DiskDirs(stage.dir.parent.parent)
        async with stage.life():
            report = await stage.world.store.until_observed(stage.alloc.id, status)
            is_told = "on a disk, where no secret may be: run the agent as root" in str(report.task_states["main"].events)
            assert is_told == (status is ClientStatus.FAILED)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(tmpfs, "mount", refused)
    with TemporaryDirectory(dir="/var/tmp") as disk:
        if tmpfs.is_in_memory(disk):
            pytest.skip("there is no disk")
        play(story, Path(disk), a_template("x", destination))


def test_a_task_that_does_not_run_is_not_signalled(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        async with stage.life():
            await stage.running()
            await stage.put(a="2")
            await asyncio.sleep(1)  # within the splay
            first = stage.world.driver.running(stage.alloc.id)[0]
            stage.world.driver.end(stage.alloc.id)
            await asyncio.sleep(60)
            assert (first.signals, stage.signals, stage.starts, stage.file()) == ([], [], 2, "2")
            stage.world.store.stop(stage.alloc.id)
            await stage.world.store.until_observed(stage.alloc.id, ClientStatus.COMPLETE)
            await stage.put(a="3")
            await asyncio.sleep(60)
            assert stage.file() == "2"

    play(story, tmp_path, a_template('{{ key "a" }}', splay=50.0, change_mode="signal", change_signal="SIGHUP"))


def test_an_outage_of_both_and_a_new_agent_in_it_change_nothing_and_keep_no_restart_waiting(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        stage.vault.values["kv/db"] = {"password": "p"}
        stage.vault.again_s = 5.0
        async with stage.life():
            await stage.running()
            before = (stage.dir / "local/out").stat().st_ino
            stage.vault.is_away, stage.wire.is_cut = True, True
            await asyncio.sleep(600)
            assert (stage.starts, stage.file()) == (1, "1 p")
        async with stage.life():
            await asyncio.sleep(600)
            assert (stage.starts, (stage.dir / "local/out").stat().st_ino) == (1, before)
            stage.world.driver.end(stage.alloc.id)
            async with asyncio.timeout(25):  # 15 s of its restart policy, 1 s of ours
                await stage.world.store.until(lambda _: stage.starts == 2)
            assert stage.env["A"] == "1"
        stage.wire.is_cut, stage.vault.is_away = False, False
        async with stage.life():
            await asyncio.sleep(60)
            assert (stage.starts, (stage.dir / "local/out").stat().st_ino) == (2, before)
            stage.vault.values["kv/db"] = {"password": "q"}
            await stage.world.store.until(lambda _: stage.starts == 3)
            assert stage.file() == "1 q"

    play(
        story,
        tmp_path,
        a_template('{{ key "a" }} {{ with secret "kv/db" }}{{ .Data.password }}{{ end }}'),
        a_template('A={{ key "a" }}', "local/env", envvars=True),
        vault=Vault(),
    )


def test_a_change_that_a_killed_agent_wrote_and_did_not_tell_is_told_by_the_next_one(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        async with stage.life():
            await stage.running()
            await stage.put(a="2")
            await asyncio.sleep(0.5)
            assert (stage.file(), stage.signals) == ("2", [])  # killed within the splay
        async with stage.life():
            await asyncio.sleep(60)
            assert stage.signals == ["SIGHUP"]
        async with stage.life():
            await asyncio.sleep(60)
            assert stage.signals == ["SIGHUP"]

    play(story, tmp_path, a_template('{{ key "a" }}', splay=50.0, change_mode="signal", change_signal="SIGHUP"))


def test_a_change_while_no_agent_ran_is_found_by_the_next_one(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        async with stage.life():
            await stage.running()
        await stage.put(a="2")
        async with stage.life():
            await stage.world.store.until(lambda _: stage.starts == 2)
            assert stage.file() == "2"

    play(story, tmp_path, a_template('{{ key "a" }}'))


def test_a_key_that_goes_leaves_the_file_and_lets_the_task_start_again(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        async with stage.life():
            await stage.running()
            await stage.kv.commit([delete("a")])
            await asyncio.sleep(60)
            assert (stage.starts, stage.file()) == (1, "1")
            stage.world.driver.end(stage.alloc.id)
            await stage.world.store.until(lambda _: stage.starts == 2)
            assert stage.file() == "1"

    play(story, tmp_path, a_template('{{ key "a" }}'), restart_policy=restart_policy(attempts=9, delay=1, interval=60))


def test_a_template_that_cannot_be_rendered_fails_a_first_start_and_no_running_task(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        async with stage.life():
            await stage.running()
            for value in ("one", "two"):
                await stage.put(a=value)
                await asyncio.sleep(30)
            assert (stage.starts, stage.file()) == (1, "1")
            assert len(stage.told) == 1
            assert stage.told[0].startswith("Template failed: local/out:1:14: ")
            await stage.put(a="2")
            await stage.world.store.until(lambda _: stage.file() == "2")
        other = an_alloc(1, stage.job)
        async with stage.life():
            await stage.put(a="one")
            stage.world.store.want(other)
            report = await stage.world.store.until_observed(other.id, ClientStatus.FAILED)
            failure = [event for event in report.task_states["main"].events if event.type == "Driver Failure"]
            assert failure[0].display_message.startswith("Template failed: local/out:1:14: ")

    play(story, tmp_path, a_template('{{ key "a" | parseInt }}'))


def test_a_template_that_is_rendered_once_is_not_watched(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        async with stage.life():
            await stage.running()
            await asyncio.sleep(60)
            assert len(stage.watches) == 0
            await stage.put(a="2")
            await asyncio.sleep(60)
            assert (stage.file(), stage.starts) == ("1", 1)

    play(story, tmp_path, a_template('{{ key "a" }}', once=True))


def test_drovers_own_keys_are_not_for_templates(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(**{"drover/state/jobs/default/other": "secret", "other": "o"})
        async with stage.life():
            await stage.running()
            assert stage.file() == "other=o "
            other = a_job(replace(stage.task, templates=(a_template('{{ key "drover/state/jobs/default/other" }}'),)), version=1)
            stage.world.store.add_job(other)
            alloc = an_alloc(1, other)
            stage.world.store.want(alloc)
            report = await stage.world.store.until_observed(alloc.id, ClientStatus.FAILED)
            assert "drover's own" in str(report.task_states["main"].events)

    play(story, tmp_path, a_template('{{ range tree "" }}{{ .Key }}={{ .Value }} {{ end }}'))


def test_nothing_is_watched_for_tasks_that_are_gone(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        waiting = a_job(replace(stage.task, templates=(a_template('{{ key "never" }}'),)), version=1)
        stage.world.store.add_job(waiting)
        second = an_alloc(1, waiting)
        async with stage.life():
            stage.world.store.want(second)
            await stage.running()
            await asyncio.sleep(60)
            assert len(stage.watches) == 2
            stage.world.store.want(replace(second, desired_status=DesiredStatus.STOP))
            stage.world.store.stop(stage.alloc.id)
            await stage.world.store.until_all(ClientStatus.COMPLETE)
            await asyncio.sleep(watching.LINGER_S + 1)
            assert len(stage.watches) == 0

    play(story, tmp_path, a_template('{{ key "a" }}'))


def test_secrets_are_for_tasks_with_a_vault_block(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.vault.values["kv/db"] = {"password": "p"}
        async with stage.life():
            report = await stage.world.store.until_observed(stage.alloc.id, ClientStatus.FAILED)
            assert "the task has no vault block" in str(report.task_states["main"].events)
            assert stage.vault.reads == []

    play(story, tmp_path, a_template('{{ with secret "kv/db" }}{{ .Data.password }}{{ end }}'))


def test_a_refusal_by_vault_is_the_reason_that_is_shown(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.vault.values["kv/db"] = "permission denied"
        async with stage.life():
            await asyncio.sleep(60)
            assert stage.told == ["Missing: vault.read(kv/db) (permission denied)"]
            assert stage.world.store.observed[stage.alloc.id].client_status is ClientStatus.PENDING

    play(story, tmp_path, a_template('{{ with secret "kv/db" }}{{ .Data.password }}{{ end }}'), vault=Vault())


def test_a_secret_is_never_read_more_often_than_once_a_second(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.vault.values["kv/db"] = {"password": "p"}
        stage.vault.again_s = 0.0
        async with stage.life():
            await stage.running()
            read = len(stage.vault.reads)
            await asyncio.sleep(100)
            assert len(stage.vault.reads) - read <= 101

    play(story, tmp_path, a_template('{{ with secret "kv/db" }}{{ .Data.password }}{{ end }}'), vault=Vault())


def test_a_template_from_a_file_reads_files_and_sees_the_tasks_environment(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        stage.world.dirs.build_alloc(stage.alloc.id)
        stage.world.dirs.build_task(stage.alloc.id, "main", "", is_contained=False, has_secrets=False)
        (stage.dir / "local/in.tpl").write_text('[[ file "local/name" ]] [[ env "COLOR" ]] [[ env "NOMAD_ALLOC_INDEX" ]]')
        (stage.dir / "local/name").write_text("Ada")
        async with stage.life():
            await stage.running()
            shared = stage.dir.parent / "alloc/data/out"
            assert (shared.read_text(), shared.stat().st_mode & 0o7777) == ("Ada blue 0", 0o640)
            (stage.dir / "local/name").write_text("Grace")
            await stage.world.store.until(lambda _: stage.starts == 2)
            assert shared.read_text() == "Grace blue 0"

    source = Template(
        source_path="${NOMAD_TASK_DIR}/in.tpl",
        dest_path="${NOMAD_ALLOC_DIR}/data/out",
        left_delim="[[",
        right_delim="]]",
        perms="640",
        splay=nanoseconds(0.0),
        wait={"Min": 0, "Max": 0},
    )
    play(story, tmp_path, source, env={"COLOR": "blue"})


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (a_template("x", "../../out"), "outside of the allocation's directory"),
        (a_template("x", "${meta.missing}/../../../out"), "outside of the allocation's directory"),
        (a_template('{{ file "../../../etc/passwd" }}'), "outside of the allocation's directory"),
        (a_template('{{ file "../other/secrets/key" }}'), "another task's"),
        (a_template("x", "../other/secrets/key"), "another task's"),
        (Template(source_path="local/none", dest_path="local/out"), "there is no local/none"),
        (a_template("A", envvars=True), "no environment: line 1"),
        (a_template("x", "local"), "local is no regular file"),
    ],
    ids=["destination", "interpolated", "file", "other's secrets", "into other's secrets", "no source", "env", "directory"],
)
def test_what_a_template_must_not_do_fails_its_task(template: Template, words: str, tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.life():
            report = await stage.world.store.until_observed(stage.alloc.id, ClientStatus.FAILED)
            assert words in str(report.task_states["main"].events)
        assert not (tmp_path / "out").exists()

    play(story, tmp_path, template)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_is_its_tasks_users_or_who_the_job_says(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        async with stage.life():
            await stage.running()
            assert [(stage.dir / path).stat().st_uid for path in ("secrets/a", "local/b")] == [65534, 12]

    play(story, tmp_path, a_template("x", "secrets/a", perms="400"), a_template("y", "local/b", uid=12), user="nobody")


def test_many_templates_ask_one_question_for_each_key(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(**{f"k{number}": "1" for number in range(3)})
        async with stage.life():
            await stage.running()
            await asyncio.sleep(100)
            assert len(stage.watches) == 3
            asked = [path for _, path in stage.wire.calls]
            assert {path: asked.count(path) <= 3 for path in set(asked)} == {f"/v1/kv/k{n}": True for n in range(3)}

    play(story, tmp_path, *(a_template(f'{{{{ key "k{n % 3}" }}}}', f"local/{n}") for n in range(30)))


def test_beyond_the_connections_keys_are_polled_and_changes_found_all_the_same(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1", b="1")
        stage.watches = Watches(ConsulReads(Lookups(stage.wire), "server-1", "drover"), rng=random.Random(3), blocking_max=1)
        seen = asyncio.Event()
        async with stage.watches as watches:
            both = [watches.want(Read(what=watching.What.KEY, name=name), seen.set) for name in ("a", "b")]
            await asyncio.sleep(5)
            await stage.put(a="2", b="2")
            await asyncio.sleep(20)
            assert [getattr(watch.value, "value", None) for watch in both] == ["2", "2"]

    play(story, tmp_path)


def test_an_index_that_goes_back_is_asked_from_its_start(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.put(a="1")
        for number in range(50):
            await stage.put(other=str(number))
        async with stage.life():
            await stage.running()
            before = stage.consul.state
            async with Embedded() as restored:
                await Kv(restored.wire()).commit([put("a", b"2")])
                stage.wire._agent = restored._agents["server-1"]
                before.close()
                await stage.world.store.until(lambda _: stage.file() == "2")

    play(story, tmp_path, a_template('{{ key "a" }}'))


