"""What a leader does with Vault: whom it lets submit, whose tokens it ends, and which way it finds to it."""

import asyncio
from collections.abc import Sequence
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
from model.alloc import ClientStatus, ObservedAlloc, Verdict
from model.cluster import JobRecord
from model.errors import TaskRefused, VaultRefused, VaultUnavailable
from model.job import Job, Service, Vault
from model.node import NodeControl, NodeStatus
from model.secret import Secret
from tests import clock
from tests.build import alloc, job, node
from vault.client import TokenFacts, VaultClient, Wrapped
from vault.guard import Wanted
from vault.login import Login

ADDRESS = "https://vault.service.consul:8200"


@dataclass
class FakeVault:
    """Client and login in one."""

    is_away: bool = False
    revoked: list[tuple[str, str]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    policies: tuple[str, ...] = ()

    def token(self) -> Secret:
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
            fake.is_away = False
            await asyncio.sleep(20)
            assert sorted(fake.revoked) == [("acc", "team"), ("bcc", "")]
            running.cancel()

    clock.run(story())


class FakeConsul:
    """Of the catalog: services and prepared queries."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def call(self, method: str, path: str) -> Any:
        self.asked.append(path)
        body = b'[{"Name": "near", "Service": {"Service": "vault"}}]' if path == "/v1/query" else b"[]"
        return SimpleNamespace(body=body)


def serving(name: str, of: Job) -> Job:
    group = of.task_groups[0]
    return replace(of, task_groups=(replace(group, services=(Service(name=name),)),))


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
    found = await vault_path.find(view_of(serving("vault", job()), address="http://near.query.consul"), cast(Client, consul))
    assert consul.asked == ["/v1/query", "/v1/catalog/service/vault"]
    assert {job_id for _, job_id in found.bootstrap} == {"j"}
    assert vault_path.warnings(found) == [
        'Vault at http://near.query.consul is reached through job "j": they are placed first, and must never need Vault'
    ]


async def test_without_vault_nothing_is_looked_up() -> None:
    consul, view = FakeConsul(), view_of(address="")
    assert await vault_path.admit(view, cast(Client, consul), serving("vault", needing(job(), "a")), allows_cycle=False) == ()
    assert (consul.asked, vault_path.known(view)) == ([], frozenset())


async def test_a_consul_that_does_not_answer_refuses_nobody() -> None:
    class Away:
        async def call(self, method: str, path: str) -> Any:
            await asyncio.sleep(3600)

    facts = vault_path.facts_of(view_of(address="http://lb.service.consul"))
    assert vault_path.examine(facts).wanted == {Wanted("service", "lb")}
    # The lookup is given up; what is known remains.
    bad = serving("lb", needing(job(), "a"))
    with pytest.raises(vault_path.VaultCycle):
        await vault_path.admit(view_of(address="http://lb.service.consul"), cast(Client, Away()), bad, allows_cycle=False)
