"""What a leader does with Vault: whom it lets submit, whose tokens it ends, and which way it finds to it."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from catalog.client import Client
from leader import vault_path
from leader.vaulting import LeaderVault, Revocations
from leader.view import View
from model.alloc import (
    Alloc,
    AllocatedPort,
    AllocId,
    Apart,
    ClientStatus,
    DesiredStatus,
    ObservedAlloc,
    Verdict,
)
from model.cluster import JobRecord
from model.errors import TaskRefused, VaultRefused, VaultUnavailable
from model.job import Job, JobId, Service, Vault
from model.node import NodeControl, NodeId, NodeStatus
from model.secret import Secret
from tests import clock
from tests.build import alloc, job, node
from vault.client import TokenFacts, VaultClient, Wrapped
from vault.login import Login

ADDRESS = "https://vault.service.consul:8200"


@dataclass
class FakeVault:
    """Client and login in one."""

    is_away: bool = False
    has_token: bool = True
    revoked: list[tuple[str, str]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    policies: tuple[str, ...] = ()

    def token(self) -> Secret:
        if not self.has_token:
            raise VaultRefused("drover has no Vault token")
        return Secret("s.leader")

    async def revoke_accessor(self, token: Secret, accessor: str, namespace: str = "") -> None:
        if self.is_away:
            raise VaultUnavailable("away")
        self.revoked.append((accessor, namespace))

    async def lookup_self(self, token: Secret) -> TokenFacts:
        return TokenFacts(
            accessor="a",
            ttl_s=1,
            renewable=True,
            policies=self.policies,
            creation_ttl_s=1,
            is_endless=False,
            is_orphan=False,
            display_name="",
        )

    async def create_wrapped(self, token: Secret, **asked: Any) -> Wrapped:
        self.asked.append(asked)
        return Wrapped(secret=Secret("s.wrapped"), accessor="a", ttl_s=60.0)


def leader_vault(fake: FakeVault, role: str = "") -> LeaderVault:
    return LeaderVault(client=cast(VaultClient, fake), login=cast(Login, fake), role=role, ttl_s=100.0, asks_submitters=True)


def needing(of: Job, *policies: str) -> Job:
    group = of.task_groups[0]
    task = replace(group.tasks[0], vault=Vault(policies=policies))
    return replace(of, task_groups=(replace(group, tasks=(task,)),))


def view_of(*jobs: Job, address: str = ADDRESS) -> View:
    view = View()
    view.put_node(replace(node(), attributes={"vault.address": address}), 1)
    for one in jobs:
        view.put_version(one, 2, 2)
        view.put_record(JobRecord(namespace=one.namespace, job_id=one.id, version=one.version), 2, 2)
    return view


@pytest.mark.parametrize(
    ("policies", "held", "words"),
    [
        (("a", "b"), ("a",), "Passed Vault Token doesn't allow access to the following policies: b"),
        (("a", "b"), ("b", "a", "default"), ""),
        (("a", "b"), ("root",), ""),
        ((), (), ""),
    ],
)
async def test_who_submits_has_to_have_what_the_job_asks_for(policies: Sequence[str], held: tuple[str, ...], words: str) -> None:
    asking = leader_vault(FakeVault(policies=held)).require_policies(needing(job(), *policies), Secret("s.mine"))
    with pytest.raises(VaultRefused, match=words) if words else nullcontext():
        await asking


async def test_who_submits_without_a_token_is_refused_where_policies_are_asked_for() -> None:
    with pytest.raises(VaultRefused, match="missing Vault Token"):
        await leader_vault(FakeVault()).require_policies(needing(job(), "a"), Secret(""))


async def test_a_token_is_made_for_a_live_alloc_of_the_task_alone() -> None:
    fake, of = FakeVault(), needing(job(), "a")
    vault, task, one = leader_vault(fake, role="drover"), of.task_groups[0].tasks[0].name, alloc(0)
    wrapped = await vault.wrapped(one, of, task)
    assert wrapped.secret.reveal() == "s.wrapped"
    assert (fake.asked[0]["policies"], fake.asked[0]["role"], fake.asked[0]["ttl_s"]) == (("a",), "drover", 100.0)
    assert fake.asked[0]["metadata"]["AllocationID"] == one.id
    for given, named in ((one, "none"), (alloc(0, status=ClientStatus.COMPLETE), task)):
        with pytest.raises(TaskRefused):
            await vault.wrapped(given, of, named)
    with pytest.raises(TaskRefused):
        await vault.wrapped(one, job(), task)
    assert len(fake.asked) == 1


def test_tokens_of_a_lost_node_are_ended_once_and_as_soon_as_vault_is_there() -> None:
    async def story() -> None:
        view, fake, one = view_of(), FakeVault(is_away=True), alloc(0)
        view.put_desired(one.desired, 3, 3)
        reported = ObservedAlloc(
            id=one.id, node_id=one.desired.node_id, client_status=ClientStatus.RUNNING, vault_accessors={"acc": "team", "bcc": ""}
        )
        view.put_observed(reported, 4)
        part = Revocations(SimpleNamespace(view=view, vault=leader_vault(fake)))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(part.run(), name="revocations")
            await asyncio.sleep(20)
            view.put_control(NodeControl(node_id=one.desired.node_id, status=NodeStatus.DOWN), 5)
            await asyncio.sleep(20)
            view.put_desired(replace(one.desired, verdict=Verdict.LOST), 3, 5)
            await asyncio.sleep(20)
            assert fake.revoked == []
            fake.is_away, fake.has_token = False, False
            await asyncio.sleep(20)
            assert fake.revoked == []
            fake.has_token = True
            await asyncio.sleep(20)
            assert sorted(fake.revoked) == [("acc", "team"), ("bcc", "")]
            running.cancel()

    clock.run(story())


class FakeConsul:
    """Of the catalog: services and prepared queries."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.asked: list[str] = []
        self.delay_s = delay_s

    async def call(self, method: str, path: str, *, params: dict[str, str] | None = None) -> Any:
        self.asked.append(path + (f"?dc={params['dc']}" if params else ""))
        await asyncio.sleep(self.delay_s)
        body = b'[{"Name": "Near", "Service": {"Service": "vault"}}]' if path == "/v1/query" else b"[]"
        return SimpleNamespace(body=body)


def serving(name: str, of: Job) -> Job:
    group = of.task_groups[0]
    return replace(of, task_groups=(replace(group, services=(Service(name=name),)),))


def leading_to(of: Job, *upstreams: str) -> Job:
    return replace(of, meta={"drover_upstreams": ",".join(upstreams)})


async def test_a_job_that_closes_a_circle_is_refused_and_others_are_not() -> None:
    consul = FakeConsul()
    client, bad = cast(Client, consul), serving("vault", needing(job(), "a"))
    with pytest.raises(vault_path.VaultCycle, match='service "vault" is registered by job "j"'):
        await vault_path.admit(view_of(), client, bad, allows_cycle=False)
    (told,) = await vault_path.admit(view_of(), client, bad, allows_cycle=True)
    assert told.startswith("Vault could not be reached without Vault:")
    assert await vault_path.admit(view_of(), client, serving("vault", job()), allows_cycle=False) == ()
    assert consul.asked == ["/v1/catalog/service/vault"] * 3


async def test_what_the_way_leads_to_is_looked_up_as_it_is_wanted() -> None:
    consul = FakeConsul()
    found = await vault_path.find(view_of(serving("vault", job()), address="http://NEAR.query.consul"), cast(Client, consul))
    assert consul.asked == ["/v1/query", "/v1/catalog/service/vault"]
    assert {job_id for _, job_id in found.bootstrap} == {"j"}
    assert vault_path.warnings(found) == [
        'Vault at http://NEAR.query.consul is reached through job "j": they are placed first, and must never need Vault'
    ]


async def test_a_service_is_looked_up_in_the_datacenter_that_its_name_has() -> None:
    consul = FakeConsul()
    await vault_path.find(view_of(address="http://vault.service.dc2.consul"), cast(Client, consul))
    assert consul.asked == ["/v1/catalog/service/vault?dc=dc2"]


async def test_without_vault_nothing_is_looked_up() -> None:
    consul, view = FakeConsul(), view_of(address="")
    view.put_node(node(), 3)
    assert await vault_path.admit(view, cast(Client, consul), serving("vault", needing(job(), "a")), allows_cycle=False) == ()
    assert (consul.asked, await vault_path.known(view)) == ([], frozenset())


async def test_look_ups_are_made_together_and_not_without_end() -> None:
    """A balancer names 100 services; each takes 0.3 s."""
    consul = FakeConsul(delay_s=0.3)
    view = view_of(leading_to(serving("vault", job()), *(f"s{number}" for number in range(100))))
    began_s = time.monotonic()
    found = await vault_path.find(view, cast(Client, consul))
    assert time.monotonic() - began_s < 1.5
    assert len(consul.asked) == 64
    assert {job_id for _, job_id in found.bootstrap} == {"j"}


async def test_a_consul_that_does_not_answer_refuses_nobody_and_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds want something; what is known without it remains."""
    monkeypatch.setattr(vault_path, "_FIND_S_MAX", 0.3)
    view = view_of(leading_to(serving("lb", job()), "next"), address="http://lb.service.consul")
    client = cast(Client, FakeConsul(delay_s=3600))
    bad = replace(serving("next", needing(job(), "a")), id=JobId("bad"))
    began_s = time.monotonic()
    with pytest.raises(vault_path.VaultCycle):
        await vault_path.admit(view, client, bad, allows_cycle=False)
    assert time.monotonic() - began_s < 0.6


async def test_a_resolver_that_hangs_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()
    monkeypatch.setattr(vault_path, "_FIND_S_MAX", 0.2)
    monkeypatch.setattr(vault_path.socket, "getaddrinfo", lambda *_, **__: end.wait(10) and [])
    view = view_of(leading_to(serving("vault", job()), *(f"vault-{number}.example.com" for number in range(50))))
    found = await vault_path.find(view, cast(Client, FakeConsul()))
    assert {job_id for _, job_id in found.bootstrap} == {"j"}
    threads = [one for one in threading.enumerate() if one.name.startswith("vault ")]
    assert 0 < len(threads) <= 4
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 1) == 1
    end.set()


def holding(name: str, view: View, of: Job, **more: Any) -> Alloc:
    """Of the job, running, with port 8200."""
    one = alloc(0)
    desired = replace(
        one.desired, id=AllocId(name), namespace=of.namespace, job_id=of.id, job_version=of.version, node_id=NodeId("n1"),
        ports=(AllocatedPort(label="p", value=8200),), **more,
    )  # fmt: skip
    view.put_desired(desired, 3, 3)
    view.put_observed(ObservedAlloc(id=desired.id, node_id=desired.node_id, client_status=ClientStatus.RUNNING), 4)
    return view.allocs[desired.id]


@pytest.mark.parametrize("how", ["stopped", "purged"])
@pytest.mark.parametrize("apart", [Apart.NONE, Apart.ORPHANED])
async def test_what_runs_of_a_job_that_is_gone_counts_only_where_it_was_left(how: str, apart: Apart) -> None:
    edge = leading_to(job(), "inner")
    view = view_of(edge, address="http://10.0.0.1:8200")
    holding("a", view, edge, apart=apart)
    key = edge.namespace, edge.id
    if how == "purged":
        view.drop_job(key, 9)
    else:
        stopped = replace(edge, stop=True, version=1, orphans="leave" if apart else "")
        view.put_version(stopped, 9, 9)
        view.put_record(JobRecord(namespace=edge.namespace, job_id=edge.id, version=1), 9, 9)
    assert await vault_path.known(view) == frozenset(), "the view is not asked for ports yet"
    inner = replace(serving("inner", needing(job(), "a")), id=JobId("inner"))
    asking = vault_path.admit(view, cast(Client, FakeConsul()), inner, allows_cycle=False)
    with pytest.raises(vault_path.VaultCycle) if apart else nullcontext():
        await asking


async def test_a_port_of_what_is_told_to_end_counts_no_more() -> None:
    needy = needing(job(), "a")
    view = view_of(needy, address="http://10.0.0.1:8200")
    holding("a", view, needy, desired_status=DesiredStatus.STOP)
    assert (await vault_path.find(view, cast(Client, FakeConsul()))).bootstrap == frozenset()
    holding("b", view, needy)
    assert (await vault_path.find(view, cast(Client, FakeConsul()))).bootstrap == {(needy.namespace, needy.id)}


class Broken:
    """A Consul whose answers are none."""

    async def call(self, method: str, path: str, *, params: dict[str, str] | None = None) -> Any:
        return SimpleNamespace(body=b'[{"Unexpected": 1}]')


async def test_an_answer_that_cannot_be_read_leads_nowhere_and_what_is_known_remains() -> None:
    found = await vault_path.find(view_of(serving("vault", job())), cast(Client, Broken()))
    assert {job_id for _, job_id in found.bootstrap} == {"j"}


async def test_a_fault_in_here_refuses_nobody(caplog: pytest.LogCaptureFixture) -> None:
    view = view_of()
    view.directory = cast(Any, None)
    client, bad = cast(Client, FakeConsul()), serving("vault", needing(job(), "a"))
    assert await vault_path.admit(view, client, bad, allows_cycle=False) == ()
    assert "job j closes a Vault cycle could not be found out" in caplog.text


async def test_a_fault_in_here_ends_no_term(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_path, "_LOOK_S", 0.01)
    view = view_of(serving("vault", job()))
    sound, view.directory = view.directory, cast(Any, None)
    part = vault_path.VaultPath(SimpleNamespace(view=view, client=cast(Client, FakeConsul())))
    async with asyncio.TaskGroup() as term:
        running = term.create_task(part.run(), name="vault path")
        await until(lambda: caplog.text.count("the way to Vault could not be looked at") > 1)
        view.directory = sound
        await until(lambda: {job_id for _, job_id in view.bootstrap} == {"j"})
        running.cancel()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_known_at_a_take_over_survives_what_it_cannot_read() -> None:
    view = view_of(serving("vault", job()))
    assert {job_id for _, job_id in await vault_path.known(view)} == {"j"}
    view.directory = cast(Any, None)
    assert await vault_path.known(view) == frozenset()


def test_a_circle_that_was_allowed_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    view = view_of(job())
    view.events.begin(1)
    vault_path.allowed(view, (job().namespace, job().id), 7, ())
    assert "audit" not in caplog.text
    vault_path.allowed(view, (job().namespace, job().id), 7, ("Vault could\n  -> not",))
    assert "audit: job j is allowed to close a Vault cycle: Vault could -> not" in caplog.text
