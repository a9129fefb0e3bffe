"""Which jobs may need Vault: topologies of every kind, and what is told of those that may not."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from model.job import (
    Constraint,
    Job,
    JobId,
    Namespace,
    Network,
    Port,
    Service,
    Task,
    TaskGroup,
    Template,
    Vault,
)
from model.snapshot import JobKey
from vault.guard import Facts, Found, Machine, VaultAt, Wanted, examine

SECRET = '{{ with secret "kv/app" }}{{ .Data.password }}{{ end }}'
ADDRESS = "https://vault.service.consul:8200"


def job(
    job_id: str,
    *,
    registers: str = "",
    tags: tuple[str, ...] = (),
    port: int = 0,
    needs: bool = False,
    template: str = "",
    meta: Mapping[str, str] | None = None,
    datacenters: tuple[str, ...] = ("dc1",),
    on: str = "",
) -> Job:
    """needs: a vault block. on: the name of the one node that it may run on."""
    return Job(
        id=JobId(job_id),
        name=job_id,
        datacenters=datacenters,
        meta=meta or {},
        constraints=(Constraint(ltarget="${node.unique.name}", rtarget=on),) if on else (),
        task_groups=(
            TaskGroup(
                name="g",
                networks=(Network(reserved_ports=(Port(label="p", value=port),)),) if port else (),
                services=(Service(name=registers, tags=tags),) if registers else (),
                tasks=(
                    Task(
                        name="t",
                        driver="docker",
                        vault=Vault(policies=("p",)) if needs else None,
                        templates=(Template(embedded_tmpl=template),) if template else (),
                    ),
                ),
            ),
        ),
    )


def key(job_id: str) -> JobKey:
    return Namespace("default"), JobId(job_id)


ONE = Machine(names=frozenset({"one"}), addresses=frozenset({"10.0.0.1"}), datacenters=frozenset({"dc1"}))
TWO = Machine(names=frozenset({"two"}), addresses=frozenset({"10.0.0.2"}), datacenters=frozenset({"dc1"}))
FAR = Machine(names=frozenset({"far"}), addresses=frozenset({"10.9.0.1"}), datacenters=frozenset({"dc2"}))


def facts(*jobs: Job, at: str = ADDRESS, others: tuple[VaultAt, ...] = ()) -> Facts:
    return Facts(
        vaults=(VaultAt(address=at, datacenters=frozenset({"dc1"} if others else ())), *others),
        jobs={(one.namespace, one.id): one for one in jobs},
        machines=(ONE, TWO, FAR),
        services={"vault": frozenset()},
    )


def found(*jobs: Job, at: str = ADDRESS) -> Found:
    return examine(facts(*jobs, at=at))


VAULT = job("vault", registers="vault")
NEEDY_VAULT = job("vault", registers="vault", needs=True)
APP = job("app", needs=True)
BALANCER = '{{ range service "vault" }}server {{ .Address }}:{{ .Port }}{{ end }}'

# name: (facts, the jobs of the cycle; none: there is no cycle)
TOPOLOGIES: dict[str, tuple[Facts, set[str]]] = {
    "nothing runs": (facts(), set()),
    "an application needs an outside Vault": (facts(APP), set()),
    "Vault itself, needing nothing": (facts(VAULT, APP), set()),
    "direct: Vault has a vault block": (facts(NEEDY_VAULT), {"vault"}),
    "direct: Vault's own template reads a secret": (facts(job("vault", registers="vault", template=SECRET)), {"vault"}),
    "the service name in other letters": (facts(job("vault", registers="Vault", needs=True)), {"vault"}),
    "an application looks Vault up and needs it": (facts(VAULT, job("app", needs=True, template=BALANCER)), set()),
    "one balancer that needs a certificate from Vault": (
        facts(VAULT, job("lb", registers="vault-lb", template=SECRET + BALANCER), at="https://vault-lb.service.consul"),
        {"lb"},
    ),
    "one balancer without needs": (
        facts(VAULT, APP, job("lb", registers="vault-lb", template=BALANCER), at="https://vault-lb.service.consul"),
        set(),
    ),
    "one balancer before a Vault that needs itself": (
        facts(NEEDY_VAULT, job("lb", registers="vault-lb", template=BALANCER), at="https://vault-lb.service.consul"),
        {"lb", "vault"},
    ),
    "two balancers, the inner one needs Vault": (
        facts(
            job("edge", registers="edge", template='{{ range service "inner" }}{{ .Address }}{{ end }}'),
            job("inner", registers="inner", needs=True, template=BALANCER),
            VAULT,
            at="https://edge.service.consul",
        ),
        {"edge", "inner"},
    ),
    "two balancers, the outer one needs Vault": (
        facts(
            job("edge", registers="edge", needs=True, template='{{ range service "inner" }}{{ .Address }}{{ end }}'),
            job("inner", registers="inner", template=BALANCER),
            VAULT,
            at="https://edge.service.consul",
        ),
        {"edge"},
    ),
    "a balancer of many services leads to Vault by its name": (
        facts(
            job("edge", registers="edge", template=BALANCER + '{{ range service "shop" }}{{ .Address }}{{ end }}'),
            job("shop", registers="shop", needs=True),
            VAULT,
            at="https://edge.service.consul",
        ),
        set(),
    ),
    "meta says what a balancer leads on to": (
        facts(
            job("edge", registers="edge", meta={"drover_upstreams": "secrets-1, 10.0.0.2:8200"}),
            job("secrets", port=8200, on="two", needs=True),
            at="https://edge.service.consul",
        ),
        {"edge", "secrets"},
    ),
    "meta overrules the templates": (
        facts(
            job("edge", registers="edge", meta={"drover_upstreams": "10.7.7.7:8200"}, template=BALANCER),
            NEEDY_VAULT,
            at="https://edge.service.consul",
        ),
        set(),
    ),
    "a balancer's template has an address written out": (
        facts(
            job("edge", registers="edge", template="server v 10.0.0.2:8200 check"),
            job("v", port=8200, on="two", needs=True),
            at="https://edge.service.consul",
        ),
        {"edge", "v"},
    ),
    "a balancer's template has a name written out": (
        facts(
            job("edge", registers="edge", template="server v active.vault.service.consul:8200"),
            NEEDY_VAULT,
            at="https://edge.service.consul",
        ),
        {"edge", "vault"},
    ),
    "by address and port, static on that node": (facts(job("v", port=8200, on="one", needs=True), at="http://10.0.0.1:8200"), {"v"}),
    "by address, another port": (facts(job("v", port=8201, on="one", needs=True), at="http://10.0.0.1:8200"), set()),
    "that port on another node": (facts(job("v", port=8200, on="two", needs=True), at="http://10.0.0.1:8200"), set()),
    "that port in another datacenter": (
        facts(job("v", port=8200, datacenters=("dc2",), needs=True), at="http://10.0.0.1:8200"),
        set(),
    ),
    "an address that is no node's": (facts(job("v", port=8200, needs=True), at="http://10.7.7.7:8200"), set()),
    "a dynamic port that runs there": (
        replace(facts(APP, at="http://10.0.0.1:23456"), held={("10.0.0.1", 23456): frozenset({key("app")})}),
        {"app"},
    ),
    "a proxy on every node": (facts(job("proxy", port=8200, needs=True), at="http://127.0.0.1:8200"), {"proxy"}),
    "the port that https has": (facts(job("v", port=443, on="one", needs=True), at="https://10.0.0.1"), {"v"}),
    "IPv6": (
        replace(facts(APP, at="http://[fd00::1]:8200"), held={("fd00::1", 8200): frozenset({key("app")})}),
        {"app"},
    ),
    "by a node's name in Consul's DNS": (facts(job("v", port=8200, on="two", needs=True), at="http://two.node.consul:8200"), {"v"}),
    "by a node's name with a datacenter": (
        facts(job("v", port=8200, on="two", needs=True), at="http://two.node.dc1.consul:8200"),
        {"v"},
    ),
    "by a service's name with a tag of Vault's own": (facts(NEEDY_VAULT, at="http://active.vault.service.consul:8200"), {"vault"}),
    "by a service's name with a tag": (
        facts(job("v", registers="vault", tags=("blue",), needs=True), at="http://blue.vault.service.consul:8200"),
        {"v"},
    ),
    "another tag": (
        facts(job("v", registers="vault", tags=("green",), needs=True), at="http://blue.vault.service.consul:8200"),
        set(),
    ),
    "by an SRV name": (facts(NEEDY_VAULT, at="http://_vault._tcp.service.consul:8200"), {"vault"}),
    "by a prepared query": (
        replace(facts(NEEDY_VAULT, at="http://nearest.query.consul:8200"), queries={"nearest": "vault"}),
        {"vault"},
    ),
    "by a prepared query that is not there": (
        replace(facts(NEEDY_VAULT, at="http://nearest.query.consul:8200"), queries={"nearest": ""}),
        set(),
    ),
    "by an outside DNS name": (
        replace(
            facts(job("v", port=8200, on="one", needs=True), at="https://vault.example.com:8200"),
            hosts={"vault.example.com": frozenset({"10.0.0.1"})},
        ),
        {"v"},
    ),
    "a service registered by hand, at a port that a job holds": (
        replace(facts(job("v", port=8200, on="one", needs=True)), services={"vault": frozenset({("10.0.0.1", 8200)})}),
        {"v"},
    ),
    "HA: a pair on two nodes, none needs Vault": (
        facts(job("v1", registers="vault", on="one"), job("v2", registers="vault", on="two"), APP),
        set(),
    ),
    "HA: one of a pair needs the other": (
        facts(job("v1", registers="vault", on="one"), job("v2", registers="vault", on="two", needs=True)),
        {"v2"},
    ),
    "two Vaults: one is unsealed by the other": (
        facts(
            job("small", registers="vault", datacenters=("dc1",)),
            job("big", registers="big-vault", datacenters=("dc1",), needs=True),
            others=(VaultAt(address="http://big-vault.service.consul:8200", datacenters=frozenset({"dc2"})),),
        ),
        set(),
    ),
    "two Vaults that need one another": (
        facts(
            job("small", registers="vault", datacenters=("dc2",), needs=True),
            job("big", registers="big-vault", datacenters=("dc1",), needs=True),
            others=(VaultAt(address="http://big-vault.service.consul:8200", datacenters=frozenset({"dc2"})),),
        ),
        {"small", "big"},
    ),
    "balancers that lead to one another end": (
        facts(
            job("a", registers="a", meta={"drover_upstreams": "b"}),
            job("b", registers="b", meta={"drover_upstreams": "a"}),
            at="http://a.service.consul",
        ),
        set(),
    ),
    "a template that cannot be parsed needs nothing": (facts(job("vault", registers="vault", template='{{ secret "a')), set()),
}


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_topology_is_decided(name: str) -> None:
    given, expected = TOPOLOGIES[name]
    cycles = examine(given).cycles
    assert {job_id for cycle in cycles for _, job_id in cycle.jobs} == expected


def test_a_job_update_closes_a_cycle() -> None:
    """`inner` has needed Vault all along; the refusal is of the update that leads the way over it."""
    inner = job("inner", registers="inner", needs=True)
    before = job("edge", registers="edge", meta={"drover_upstreams": "10.7.7.7:8200"})
    after = job("edge", registers="edge", meta={"drover_upstreams": "inner"})
    assert found(inner, before, at="https://edge.service.consul").cycles == ()
    assert found(inner, after, at="https://edge.service.consul").cycle_of(key("edge")) is not None


def test_a_change_of_configuration_closes_a_cycle() -> None:
    lb = job("lb", registers="vault-lb", needs=True)
    assert found(lb).cycles == ()
    assert found(lb, at="https://vault-lb.service.consul").cycle_of(key("lb")) is not None


def test_a_job_that_is_no_part_of_a_cycle_is_not_held_against_it() -> None:
    assert found(NEEDY_VAULT, APP).cycle_of(key("app")) is None


def test_what_serves_vault_is_told_for_its_start() -> None:
    edge = job("edge", registers="edge", template=BALANCER)
    assert found(edge, VAULT, APP, at="https://edge.service.consul").bootstrap == {key("edge"), key("vault")}


def test_what_has_to_be_looked_up_is_asked_for() -> None:
    def wanted(given: Facts) -> frozenset[Wanted]:
        return examine(given).wanted

    assert wanted(facts(VAULT)) == frozenset()
    assert wanted(facts(at="http://lb.service.consul")) == {Wanted("service", "lb")}
    assert wanted(facts(at="http://near.query.dc1.consul:8200")) == {Wanted("query", "near")}
    assert wanted(facts(at="http://10.0.0.1:8200")) == {Wanted("address", "10.0.0.1", 8200)}
    assert wanted(facts(at="http://vault.example.com:8200")) == {Wanted("host", "vault.example.com")}


def test_the_words_of_a_direct_cycle() -> None:
    assert str(found(NEEDY_VAULT).cycles[0]) == (
        "Vault could not be reached without Vault:\n"
        '  job "vault" needs Vault: its task "t" has a vault block\n'
        "  -> Vault is reached at https://vault.service.consul:8200\n"
        '  -> service "vault" is registered by job "vault"'
    )


def test_the_words_of_a_cycle_over_two_balancers() -> None:
    given, _ = TOPOLOGIES["two balancers, the inner one needs Vault"]
    assert str(examine(given).cycles[0]) == (
        "Vault could not be reached without Vault:\n"
        '  job "inner" needs Vault: its task "t" has a vault block\n'
        "  -> Vault is reached at https://edge.service.consul\n"
        '  -> service "edge" is registered by job "edge"\n'
        '  -> job "edge" leads on to service "inner" (template 1 of its task "t")\n'
        '  -> service "inner" is registered by job "inner"'
    )


def test_the_words_of_a_cycle_by_address() -> None:
    given, _ = TOPOLOGIES["a service registered by hand, at a port that a job holds"]
    assert str(examine(given).cycles[0]) == (
        "Vault could not be reached without Vault:\n"
        '  job "v" needs Vault: its task "t" has a vault block\n'
        "  -> Vault is reached at https://vault.service.consul:8200\n"
        '  -> service "vault" is at 10.0.0.1:8200, which is held by job "v"'
    )


def test_the_words_of_two_vaults_that_need_one_another() -> None:
    given, _ = TOPOLOGIES["two Vaults that need one another"]
    cycles = examine(given).cycles
    assert len(cycles) == 1
    assert str(cycles[0]) == (
        "Vault could not be reached without Vault:\n"
        '  job "big" needs Vault: its task "t" has a vault block\n'
        "  -> Vault is reached at https://vault.service.consul:8200\n"
        '  -> service "vault" is registered by job "small"\n'
        '  -> job "small" needs Vault: its task "t" has a vault block\n'
        "  -> Vault is reached at http://big-vault.service.consul:8200\n"
        '  -> service "big-vault" is registered by job "big"'
    )
