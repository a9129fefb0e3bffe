"""Which jobs may need Vault: topologies of every kind, and what is told of those that may not."""

import time
from collections.abc import Mapping
from dataclasses import replace as with_

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from leader.vault_path import may_run
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
from model.node import HostNetwork, Node, NodeId
from model.snapshot import JobKey
from vault.directory import Directory
from vault.guard import Facts, Found, Instance, Wanted, examine
from vault.hops import written

SECRET = '{{ with secret "kv/app" }}{{ .Data.password }}{{ end }}'
ADDRESS = "https://vault.service.consul:8200"


# Of what addresses and names are made of, more often than chance has it.
TEXTS = st.lists(
    st.sampled_from(
        [
            *("http://", "https://", "[", "]", ":", "::", "8200", "10.0.0.1", "fd00::1", "%eth0", "@", "/", ".", "-", "_", "vault"),
            *("_tcp", ".service", ".query", ".node", ".addr", "0a000001", ".dc2", ".dc", ".consul", "one", "DB-1", "localhost"),
            *(" ", ",", "{{", "}}", 'service "vault"', "${", "}", "\0", "\u0130", "\u0663"),
        ]
    )
    | st.text(max_size=3),
    max_size=8,
).map("".join)


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


def node(name: str, address: str, datacenter: str = "dc1", *, more: tuple[str, ...] = (), vault: str = "") -> Node:
    """more: its further addresses. vault: which one its agent uses."""
    return Node(
        id=NodeId(name),
        name=name,
        datacenter=datacenter,
        address=address,
        host_networks=tuple(HostNetwork(name=one, address=one) for one in more),
        attributes={"vault.address": vault} if vault else {},
        consul_node=f"{name}-in-consul",
        consul_datacenter=datacenter,
    )


ONE, TWO, FAR = node("one", "10.0.0.1", more=("fd00::1",)), node("two", "10.0.0.2"), node("far", "10.9.0.1", "dc2")


def facts(*jobs: Job, at: str = ADDRESS, far: str = "", nodes: tuple[Node, ...] = (ONE, TWO, FAR)) -> Facts:
    """at: the address that agents have; far: those of dc2, where it is another one."""
    with_vault = tuple(
        replace(one, attributes={**one.attributes, "vault.address": far if far and one.datacenter == "dc2" else at}) for one in nodes
    )
    return Facts(
        jobs=Directory({(one.namespace, one.id): one for one in jobs}),
        nodes=with_vault,
        may_run=may_run({}),
        services={("vault", ""): frozenset()},
    )


def found(*jobs: Job, at: str = ADDRESS) -> Found:
    return examine(facts(*jobs, at=at))


VAULT = job("vault", registers="vault")
NEEDY_VAULT = job("vault", registers="vault", needs=True)
APP = job("app", needs=True)
BALANCER = '{{ range service "vault" }}server {{ .Address }}:{{ .Port }}{{ end }}'

EDGE = "https://edge.service.consul"
HOST_ONE = replace(ONE, meta={"role": "vault"}, attributes={"unique.hostname": "one"})


def edge(template: str) -> Job:
    return job("edge", registers="edge", template=template)


def constrained(job_id: str, left: str, operand: str, right: str) -> Job:
    """Holds port 8200, and needs Vault."""
    return replace(job(job_id, port=8200, needs=True), constraints=(Constraint(ltarget=left, operand=operand, rtarget=right),))


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
        with_(facts(APP, at="http://10.0.0.1:23456"), held={("10.0.0.1", 23456): frozenset({key("app")})}),
        {"app"},
    ),
    "a proxy on every node": (facts(job("proxy", port=8200, needs=True), at="http://127.0.0.1:8200"), {"proxy"}),
    "the port that https has": (facts(job("v", port=443, on="one", needs=True), at="https://10.0.0.1"), {"v"}),
    "IPv6": (
        with_(facts(APP, at="http://[fd00::1]:8200"), held={("fd00::1", 8200): frozenset({key("app")})}),
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
        with_(facts(NEEDY_VAULT, at="http://nearest.query.consul:8200"), queries={"nearest": "vault"}),
        {"vault"},
    ),
    "by a prepared query that is not there": (
        with_(facts(NEEDY_VAULT, at="http://nearest.query.consul:8200"), queries={"nearest": ""}),
        set(),
    ),
    "by an outside DNS name": (
        with_(
            facts(job("v", port=8200, on="one", needs=True), at="https://vault.example.com:8200"),
            hosts={"vault.example.com": frozenset({"10.0.0.1"})},
        ),
        {"v"},
    ),
    "a service registered by hand, at a port that a job holds": (
        with_(facts(job("v", port=8200, on="one", needs=True)), services={("vault", ""): frozenset({Instance("10.0.0.1", 8200)})}),
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
            far="http://big-vault.service.consul:8200",
        ),
        set(),
    ),
    "two Vaults that need one another": (
        facts(
            job("small", registers="vault", datacenters=("dc2",), needs=True),
            job("big", registers="big-vault", datacenters=("dc1",), needs=True),
            far="http://big-vault.service.consul:8200",
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
    "two Vaults by address, of nodes that a constraint keeps apart": (
        facts(job("v", port=8200, on="one", needs=True), at="http://10.0.0.2:8200", far="http://10.0.0.1:8200"),
        set(),
    ),
    "a name without a port in a balancer's template": (
        facts(edge("proxy_pass https://vault.service.consul;"), NEEDY_VAULT, at=EDGE),
        {"edge", "vault"},
    ),
    "an SRV name in a balancer's template": (
        facts(edge("server-template v 3 _vault._tcp.service.consul resolvers consul"), NEEDY_VAULT, at=EDGE),
        {"edge", "vault"},
    ),
    "an IPv6 address in a balancer's template": (
        facts(edge("server v [FD00:0:0::0001]:8200 check"), job("v", port=8200, on="one", needs=True), at=EDGE),
        {"edge", "v"},
    ),
    "an outside name in a balancer's template, that of another Vault": (
        with_(
            facts(edge("server v vault.example.com"), job("v", port=8200, on="one", needs=True), at=EDGE, far="https://Vault.example.com:8200"),
            hosts={"vault.example.com": frozenset({"10.0.0.1"})},
        ),
        {"edge", "v"},
    ),
    "an outside name in a balancer's template, nobody's Vault": (
        facts(edge("server v www.example.com:8200"), job("v", port=8200, on="one", needs=True), at=EDGE),
        set(),
    ),
    "where a balancer listens leads nowhere": (
        facts(edge("bind 0.0.0.0:8200\n" + BALANCER.replace("vault", "inner")), job("inner", registers="inner", needs=True), at=EDGE),
        {"edge", "inner"},
    ),
    "an IPv6 address in another spelling": (
        facts(job("v", port=8200, on="one", needs=True), at="http://[fd00:0:0:0:0:0:0:1]:8200"),
        {"v"},
    ),
    "an IPv4 address in IPv6's spelling": (
        facts(job("v", port=8200, on="one", needs=True), at="http://[::ffff:10.0.0.1]:8200"),
        {"v"},
    ),
    "an address as a name of Consul's": (
        facts(job("v", port=8200, on="one", needs=True), at="http://0A000001.addr.dc1.consul:8200"),
        {"v"},
    ),
    "a node's name in other letters": (facts(job("v", port=8200, on="two", needs=True), at="http://TWO.node.consul:8200"), {"v"}),
    "a node's name with other letters in it": (
        facts(job("v", port=8200, on="DB-1", needs=True), at="http://DB-1.node.consul:8200", nodes=(node("DB-1", "10.0.0.3"),)),
        {"v"},
    ),
    "a node's name in another of Consul's datacenters": (
        facts(job("v", port=8200, on="two", needs=True), at="http://two.node.dc2.consul:8200"),
        set(),
    ),
    "a prepared query in other letters": (
        with_(facts(NEEDY_VAULT, at="http://Nearest-Vault.query.consul:8200"), queries={"nearest-vault": "Vault"}),
        {"vault"},
    ),
    "a service's name with the datacenter that the job runs in": (facts(NEEDY_VAULT, at="http://vault.service.dc1.consul:8200"), {"vault"}),
    "a service's name with another datacenter": (facts(NEEDY_VAULT, at="http://vault.service.dc2.consul:8200"), set()),
    "a service's name in the long form with another datacenter": (
        facts(NEEDY_VAULT, at="http://vault.service.default.ns.dc2.dc.consul:8200"),
        set(),
    ),
    "a service's name of a mesh": (facts(NEEDY_VAULT, at="http://vault.virtual.consul:8200"), {"vault"}),
    "a service called like its job": (facts(job("vault", registers="${NOMAD_JOB_NAME}", needs=True)), {"vault"}),
    "a service whose name only its node knows": (facts(job("vault", registers="${attr.x}", needs=True)), set()),
    "an exporter of that name beside a tag of Vault's own": (
        with_(
            facts(job("exporter", registers="vault", tags=("metrics",), port=9100, needs=True), at="http://active.vault.service.consul:8200"),
            services={("vault", ""): frozenset({Instance("10.0.0.1", 9100, frozenset({"metrics"}))})},
        ),
        set(),
    ),
    "an exporter of that name without a tag in the address": (
        facts(job("exporter", registers="vault", tags=("metrics",), needs=True)),
        {"exporter"},
    ),
    "a tag of Vault's own that a job file has": (
        facts(job("vault", registers="vault", tags=("active",), needs=True), at="http://active.vault.service.consul:8200"),
        {"vault"},
    ),
    "a service that Vault registers itself, at a port that a job holds": (
        with_(
            facts(job("v", port=8200, on="one", needs=True), at="http://active.vault.service.consul:8200"),
            services={("vault", ""): frozenset({Instance("10.0.0.1", 8200, frozenset({"standby"}))})},
        ),
        {"v"},
    ),
    "an edge before an outside Vault and a shop that needs it": (
        facts(edge("server v 10.99.0.5:8200" + BALANCER.replace("vault", "shop")), job("shop", registers="shop", needs=True), at=EDGE),
        set(),
    ),
    "an edge before Vault and its user interface that needs it": (
        facts(edge(BALANCER + BALANCER.replace("vault", "vault-ui")), VAULT, job("vault-ui", registers="vault-ui", needs=True), at=EDGE),
        set(),
    ),
    "an edge that looks itself up": (
        facts(edge(BALANCER.replace("vault", "edge") + BALANCER.replace("vault", "vault-inside")), job("v", registers="vault-inside", needs=True), at=EDGE),
        {"edge", "v"},
    ),
    "that port, by a constraint on another node": (
        facts(constrained("v", "${attr.unique.hostname}", "=", "two"), at="http://10.0.0.1:8200", nodes=(HOST_ONE,)),
        set(),
    ),
    "that port, by a constraint on this node": (
        facts(constrained("v", "${attr.unique.hostname}", "=", "one"), at="http://10.0.0.1:8200", nodes=(HOST_ONE,)),
        {"v"},
    ),
    "that port, by a constraint on any node but this": (
        facts(constrained("v", "${node.unique.name}", "!=", "one"), at="http://10.0.0.1:8200"),
        set(),
    ),
    "that port, by a constraint on a role": (
        facts(constrained("v", "${meta.role}", "=", "web"), at="http://10.0.0.1:8200", nodes=(HOST_ONE,)),
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
        '  job "small" needs Vault: its task "t" has a vault block\n'
        "  -> Vault is reached at http://big-vault.service.consul:8200\n"
        '  -> service "big-vault" is registered by job "big"\n'
        '  -> job "big" needs Vault: its task "t" has a vault block\n'
        "  -> Vault is reached at https://vault.service.consul:8200\n"
        '  -> service "vault" is registered by job "small"'
    )


@pytest.mark.parametrize(
    "address",
    ["http://[10.0.0.1]:8200", "http://[bad", "http://a[b]c", "http://10.0.0.1:99999", "http://:8200", "unix:///run/vault.sock", "http://", "\0", "a b", "http://x:0"],
)
def test_an_address_that_is_none_leads_nowhere(address: str) -> None:
    assert found(NEEDY_VAULT, at=address) == Found(servers={address: ()})
    balancer = job("edge", registers="edge", meta={"drover_upstreams": f"{address},vault"})
    assert found(balancer, NEEDY_VAULT, at=EDGE).cycle_of(key("edge")) is not None, "what can be read of it counts"


def test_what_runs_of_a_job_that_is_gone_leads_nowhere() -> None:
    gone = with_(facts(APP, at="http://10.0.0.1:8200"), held={("10.0.0.1", 8200): frozenset({key("gone"), key("app")})})
    (cycle,) = examine(gone).cycles
    assert cycle.jobs == {key("app")}
    left = job("gone", meta={"drover_upstreams": "inner"})
    inner = job("inner", registers="inner", needs=True)
    held = with_(facts(inner, at="http://10.0.0.1:8200"), held={("10.0.0.1", 8200): frozenset({key("gone")})})
    assert examine(held).cycles == ()
    assert examine(with_(held, left={key("gone"): left})).cycle_of(key("inner")) is not None


def test_the_job_that_is_asked_about_stands_in_for_its_current_version() -> None:
    before = facts(NEEDY_VAULT)
    assert examine(with_(before, instead=Directory({key("vault"): VAULT}))).cycles == ()
    assert examine(with_(facts(VAULT), instead=Directory({key("vault"): NEEDY_VAULT}))).cycle_of(key("vault")) is not None


def test_each_agent_with_an_address_of_its_own_is_decided_in_no_time() -> None:
    """200 addresses that one system job serves, and that it needs every one of."""
    nodes = tuple(node(f"n{number}", f"10.1.0.{number}", vault=f"https://10.1.0.{number}:8200") for number in range(200))
    system = job("proxy", port=8200, needs=True)
    given = Facts(jobs=Directory({key("proxy"): system}), nodes=nodes, may_run=may_run({}))
    began_s = time.process_time()
    cycles = examine(given).cycles
    assert time.process_time() - began_s < 0.1
    assert [cycle.jobs for cycle in cycles] == [{key("proxy")}]


def test_vaults_that_need_one_another_in_a_long_row_are_decided_in_no_time() -> None:
    """Each of 200 Vaults is run by a job that needs the next one; only the last one's needs the first."""
    count = 200
    nodes = tuple(
        replace(node(f"n{number}", f"10.1.0.{number}", vault=f"https://v{(number + 1) % count}.service.consul"), node_class=str(number))
        for number in range(count)
    )
    jobs = {key(f"v{number}"): job(f"v{number}", registers=f"v{number}", needs=True, on=f"n{number}") for number in range(count)}
    given = Facts(
        jobs=Directory(jobs), nodes=nodes, may_run=may_run({}), services={(f"v{number}", ""): frozenset() for number in range(count)}
    )
    began_s = time.process_time()
    cycles = examine(given).cycles
    assert time.process_time() - began_s < 2.0
    assert [cycle.jobs for cycle in cycles] == [frozenset(jobs)]
    opened = {of: one for of, one in jobs.items() if of != key("v0")}
    assert examine(with_(given, jobs=Directory(opened))).cycles == ()


def test_a_balancer_in_a_second_circle_of_a_job_is_part_of_it() -> None:
    """`v` needs the Vault that it holds; `edge` leads to it too, by another address."""
    v = job("v", port=8200, on="one", needs=True)
    both = facts(v, job("edge", registers="edge", meta={"drover_upstreams": "10.0.0.1:8200"}), at="http://10.0.0.1:8200", far=EDGE)
    both = with_(both, may_run=lambda *_: True)
    assert examine(both).cycle_of(key("edge")) is not None


def test_a_long_row_of_balancers_ends_somewhere() -> None:
    row = [job(f"b{number}", registers=f"b{number}", meta={"drover_upstreams": f"b{number + 1}"}) for number in range(2000)]
    servers = found(*row, at="http://b0.service.consul").servers["http://b0.service.consul"]
    assert len(servers) == 32
    assert len(servers[-1].way) == 63


def test_a_directory_that_is_brought_up_to_date_is_as_one_made_anew() -> None:
    directory = Directory({key("vault"): VAULT, key("app"): APP, key("v"): job("v", port=8200)})
    now = {key("vault"): job("vault", registers="other", port=8201), key("app"): APP}
    directory.update(now)
    assert [of for of, *_ in directory.registering("vault")] == []
    assert [of for of, *_ in directory.registering("other")] == [key("vault")]
    assert ([of for of, *_ in directory.asking_for(8200)], [of for of, *_ in directory.asking_for(8201)]) == ([], [key("vault")])
    assert (directory.get(key("app")), directory.get(key("v"))) == (APP, None)


@given(address=TEXTS, upstream=TEXTS, template=TEXTS, service=TEXTS)
def test_nothing_that_can_be_written_raises(address: str, upstream: str, template: str, service: str) -> None:
    jobs = (
        job("vault", registers="vault", template=template, needs=True),
        job("edge", registers=service, meta={"drover_upstreams": upstream}, port=8200),
    )
    first = facts(*jobs, at=address)
    wanted = examine(first).wanted
    assert {one.kind for one in wanted} <= {"service", "query", "host", "address"}
    answered = with_(
        first,
        services={**first.services, **{(one.name, one.datacenter): frozenset({Instance(service, 8200)}) for one in wanted if one.kind == "service"}},
        queries={one.name: service for one in wanted if one.kind == "query"},
        hosts={one.name: frozenset({service, "10.0.0.1"}) for one in wanted if one.kind == "host"},
        held={(one.name, one.port): frozenset({key("gone"), key("edge")}) for one in wanted if one.kind == "address"},
    )
    for cycle in examine(answered).cycles:
        assert cycle.jobs <= {key("vault"), key("edge")}
        assert str(cycle)


def test_a_long_text_is_read_in_time_of_its_length() -> None:
    began_s = time.process_time()
    for text in ("a." * 200_000, "1:" * 200_000, "[::" * 100_000, "https://" * 50_000, "_a._" * 100_000):
        written(text)
    assert time.process_time() - began_s < 3.0
