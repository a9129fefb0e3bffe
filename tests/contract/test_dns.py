"""Names under .consul, over UDP and TCP."""

from typing import Any

from dnslib import QTYPE, RCODE, DNSRecord

from tests.contract.conftest import Api

SERF = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"}


async def instance(
    api: Api, number: int, *, own: str = "passing", serf: str = "passing", **service: Any
) -> None:
    """One node n<number> with one instance of the service api.name."""
    id = f"i{number}"
    await api.node(
        Node=f"{api.name}-{number}",
        Address=f"127.1.0.{number}",
        Service={"Service": api.name, "ID": id, "Port": 8000 + number, **service},
        Checks=[
            {**SERF, "Status": serf},
            {"CheckID": f"c{number}", "Name": "c", "Status": own, "ServiceID": id},
        ],
    )


async def clean(api: Api, *numbers: int) -> None:
    for number in numbers:
        await api.put("/v1/catalog/deregister", {"Node": f"{api.name}-{number}"})


def answers(reply: DNSRecord, kind: str = "A") -> list[str]:
    return sorted(str(record.rdata) for record in reply.rr if record.rtype == getattr(QTYPE, kind))


def code(reply: DNSRecord) -> str:
    return RCODE[reply.header.rcode]


async def test_a_service_resolves_to_its_instances_by_address_or_nodes_address(api: Api) -> None:
    await instance(api, 1)
    await instance(api, 2, Address="127.2.0.2")
    for name in (
        f"{api.name}.service.consul",
        f"{api.name}.service.dc1.consul",
        f"{api.name}.SERVICE.Consul",
    ):
        reply = await api.dns(name)
        assert (code(reply), answers(reply)) == ("NOERROR", ["127.1.0.1", "127.2.0.2"])
        assert {str(record.rname) for record in reply.rr} == {f"{name}."}
        assert {record.ttl for record in reply.rr} == {0}
        assert reply.header.aa == 1
    await clean(api, 1, 2)


async def test_only_critical_instances_and_those_on_failed_nodes_are_left_out(api: Api) -> None:
    await instance(api, 1)
    await instance(api, 2, own="warning")
    await instance(api, 3, own="critical")
    await instance(api, 4, serf="critical")
    assert answers(await api.dns(f"{api.name}.service.consul")) == ["127.1.0.1", "127.1.0.2"]
    await clean(api, 1, 2, 3, 4)


async def test_a_tag_in_front_narrows_down(api: Api) -> None:
    await instance(api, 1, Tags=["http", "v1"])
    await instance(api, 2, Tags=["HTTP"])
    assert answers(await api.dns(f"http.{api.name}.service.consul")) == ["127.1.0.1", "127.1.0.2"]
    assert answers(await api.dns(f"V1.{api.name}.service.dc1.consul")) == ["127.1.0.1"]
    assert code(await api.dns(f"none.{api.name}.service.consul")) == "NXDOMAIN"
    await clean(api, 1, 2)


async def test_srv_answers_carry_ports_and_targets_whose_addresses_come_along(api: Api) -> None:
    await instance(api, 1, Tags=["http"])
    await instance(api, 2, Address="127.2.0.2")
    reply = await api.dns(f"{api.name}.service.consul", "SRV")
    node = f"{api.name}-1.node.dc1.consul."
    assert answers(reply, "SRV") == [f"1 1 8001 {node}", "1 1 8002 7f020002.addr.dc1.consul."]
    extra = {str(one.rname): str(one.rdata) for one in reply.ar if one.rtype == QTYPE.A}
    assert extra == {node: "127.1.0.1", "7f020002.addr.dc1.consul.": "127.2.0.2"}
    for target, address in extra.items():
        assert answers(await api.dns(target)) == [address]
    await clean(api, 1, 2)


async def test_the_rfc_2782_form_names_a_tag_or_tcp_for_any(api: Api) -> None:
    await instance(api, 1, Tags=["http"])
    await instance(api, 2)
    both = ["127.1.0.1", "127.1.0.2"]
    assert answers(await api.dns(f"_{api.name}._tcp.service.consul")) == both
    assert len(answers(await api.dns(f"_{api.name}._tcp.service.dc1.consul", "SRV"), "SRV")) == 2
    assert answers(await api.dns(f"_{api.name}._http.service.consul")) == ["127.1.0.1"]
    assert code(await api.dns(f"_{api.name}._none.service.consul", "SRV")) == "NXDOMAIN"
    await clean(api, 1, 2)


async def test_a_host_name_as_address_is_a_cname_and_an_srv_target(api: Api) -> None:
    await instance(api, 1, Address="db.example.com")
    assert answers(await api.dns(f"{api.name}.service.consul"), "CNAME") == ["db.example.com."]
    assert answers(await api.dns(f"{api.name}.service.consul", "SRV"), "SRV") == ["1 1 8001 db.example.com."]
    await clean(api, 1)


async def test_two_instances_on_one_address_are_one_a_and_two_srv_answers(api: Api) -> None:
    await api.node(
        Node=f"{api.name}-1", Address="127.1.0.1", Service={"Service": api.name, "ID": "a", "Port": 1}
    )
    await api.node(
        Node=f"{api.name}-1", Address="127.1.0.1", Service={"Service": api.name, "ID": "b", "Port": 2}
    )
    assert answers(await api.dns(f"{api.name}.service.consul")) == ["127.1.0.1"]
    assert len(answers(await api.dns(f"{api.name}.service.consul", "SRV"), "SRV")) == 2
    await clean(api, 1)


async def test_a_node_resolves_by_its_name_even_when_it_failed(api: Api) -> None:
    await instance(api, 1, serf="critical")
    for name in (f"{api.name}-1.node.consul", f"{api.name}-1.NODE.dc1.consul"):
        assert answers(await api.dns(name)) == ["127.1.0.1"]
    assert code(await api.dns(f"{api.name}-9.node.consul")) == "NXDOMAIN"
    await clean(api, 1)


async def test_what_is_unknown_is_nxdomain_with_the_soa(api: Api) -> None:
    names = ("nope.service.consul", "service.consul", "nope.consul", "consul", "a.b.nope.service.consul")
    for name in (*names, f"{api.name}.service.dc9.consul"):
        reply = await api.dns(name)
        assert (code(reply), reply.rr) == ("NXDOMAIN", [])
        [soa] = reply.auth
        assert (soa.rtype, str(soa.rname)) == (QTYPE.SOA, "consul.")
        assert str(soa.rdata).split()[:2] == ["ns.consul.", "hostmaster.consul."]
        assert str(soa.rdata).split()[3:] == ["3600", "600", "86400", "0"]


async def test_a_kind_that_a_service_lacks_is_noerror_with_the_soa(api: Api) -> None:
    await instance(api, 1)
    reply = await api.dns(f"{api.name}.service.consul", "AAAA")
    assert (code(reply), reply.rr, len(reply.auth)) == ("NOERROR", [], 1)
    await clean(api, 1)


async def test_names_elsewhere_are_refused(api: Api) -> None:
    assert code(await api.dns("example.com")) == "REFUSED"


async def test_the_domain_names_its_servers(api: Api) -> None:
    server = f"{api.target.node_name}.node.dc1.consul."
    assert answers(await api.dns("consul", "NS"), "NS") == [server]
    reply = await api.dns("consul", "SOA")
    assert [record.rtype for record in reply.rr] == [QTYPE.SOA]
    assert [str(record.rdata) for record in reply.auth] == [server]


async def test_udp_gives_three_answers_without_the_truncated_bit_and_tcp_all(api: Api) -> None:
    numbers = range(1, 13)
    for number in numbers:
        await instance(api, number)
    name = f"{api.name}.service.consul"
    for kind in ("A", "SRV"):
        reply = await api.dns(name, kind)
        assert (len(answers(reply, kind)), reply.header.tc) == (3, 0)
        assert len(reply.pack()) <= 512
        assert len(answers(await api.dns(name, kind, is_tcp=True), kind)) == 12
    await clean(api, *numbers)


async def test_answers_come_in_another_order_each_time(api: Api) -> None:
    numbers = range(1, 9)
    for number in numbers:
        await instance(api, number)
    name = f"{api.name}.service.consul"
    orders = {tuple(str(one.rdata) for one in (await api.dns(name, is_tcp=True)).rr) for _ in range(10)}
    assert len(orders) > 1
    await clean(api, *numbers)
