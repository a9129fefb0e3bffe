"""What Consul's DNS and catalog tell of a job's services: addresses, ports, tags, weights, meta."""

import socket
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from dnslib import DNSRecord

from tests.components.consul import ConsulServer
from tests.e2e.drover import NS, Answer, Drover, call, job, marking_job, wait, web_job

pytestmark = [pytest.mark.e2e, pytest.mark.consul]


def asked(consul: ConsulServer, name: str, kind: str = "A") -> DNSRecord:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(20.0)
        udp.sendto(DNSRecord.question(name, kind).pack(), (consul.address, consul.dns_port))
        return DNSRecord.parse(udp.recvfrom(65_535)[0])


def addresses(consul: ConsulServer, name: str) -> list[str]:
    return [str(one.rdata) for one in asked(consul, name).rr if one.rdata]


def srv(consul: ConsulServer, name: str) -> list[tuple[int, int]]:
    """(port, weight) of each answer."""
    return [(one.rdata.port, one.rdata.weight) for one in asked(consul, name, "SRV").rr]


def services(consul: ConsulServer, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(consul.http_addr, "GET", f"/v1/catalog/service/{name}")
    return found


def port_of(one: Drover, alloc: str) -> int:
    ports = one.alloc(alloc)["AllocatedResources"]["Shared"]["Ports"]
    return int(next(port["Value"] for port in ports if port["Label"] == "http"))


def test_a_service_is_found_by_name_and_tag_with_its_port_weight_and_meta(one: Drover, consul: ConsulServer) -> None:
    made = web_job("shop")
    service = made["TaskGroups"][0]["Services"][0]
    service |= {"Tags": ["blue", "v1"], "Meta": {"team": "carts"}, "Weights": {"Passing": 7, "Warning": 2}}
    service["Checks"][0]["DeregisterCriticalServiceAfter"] = 90 * NS
    one.submit(made)
    alloc = one.wait_running("shop", 1)[0]["ID"]
    wait("an address", lambda: addresses(consul, "shop.service.consul") == ["127.0.0.1"])
    expected = [(port_of(one, alloc), 7)]
    assert srv(consul, "shop.service.consul") == expected
    assert srv(consul, "blue.shop.service.consul") == expected
    assert srv(consul, "_shop._v1.service.consul") == expected
    assert addresses(consul, "green.shop.service.consul") == []
    (found,) = services(consul, "shop")
    assert found["ServiceMeta"]["team"] == "carts"
    one.stop_job("shop", purge=True)
    wait("nothing is left", lambda: services(consul, "shop") == [])
    assert addresses(consul, "shop.service.consul") == []


def test_a_canary_has_tags_and_meta_of_its_own_until_it_is_promoted(one: Drover, consul: ConsulServer) -> None:
    def version(number: int) -> dict[str, Any]:
        made = web_job("birds", Env={"VERSION": str(number)})
        group = made["TaskGroups"][0]
        group["Update"] = {"Canary": 1, "MaxParallel": 1, "MinHealthyTime": 0, "HealthyDeadline": 60 * NS, "ProgressDeadline": 0}
        group["Services"][0] |= {"Tags": ["live"], "CanaryTags": ["canary"], "Meta": {"is": "live"}, "CanaryMeta": {"is": "canary"}}
        return made

    one.submit(version(1))
    one.wait_running("birds", 1)
    wait("the first is live", lambda: len(srv(consul, "live.birds.service.consul")) == 1)
    assert srv(consul, "canary.birds.service.consul") == []
    one.submit(version(2))
    one.wait_running("birds", 2)
    (canary,) = wait("the canary's own tag", lambda: srv(consul, "canary.birds.service.consul"))
    assert canary not in srv(consul, "live.birds.service.consul")
    assert sorted(found["ServiceMeta"]["is"] for found in services(consul, "birds")) == ["canary", "live"]
    deployment = wait("its deployment", lambda: one.get("/v1/job/birds/deployment"))
    wait("a healthy canary", lambda: one.get(f"/v1/deployment/{deployment['ID']}")["TaskGroups"]["g"]["HealthyAllocs"] == 1)
    one.call("PUT", f"/v1/deployment/promote/{deployment['ID']}", {"All": True})
    wait("it is live", lambda: srv(consul, "live.birds.service.consul") == [canary])
    assert srv(consul, "canary.birds.service.consul") == []
    one.stop_job("birds", purge=True)


def test_tags_that_others_set_stay_where_the_job_lets_them(one: Drover, consul: ConsulServer) -> None:
    def tagged(*tags: str) -> dict[str, Any]:
        service = {"Name": "open", "PortLabel": "http", "Tags": list(tags), "EnableTagOverride": True}
        return marking_job("open", group={"Networks": [{"DynamicPorts": [{"Label": "http"}]}], "Services": [service]})

    def tags() -> list[str]:
        return sorted(tag for found in services(consul, "open") for tag in found["ServiceTags"])

    one.submit(tagged("ours"))
    alloc = one.wait_running("open", 1)[0]["ID"]
    pid = wait("its process", lambda: one.pids(alloc))
    wait("the job's tag", lambda: tags() == ["ours"])
    (there,) = (s for s in call(consul.http_addr, "GET", "/v1/agent/services").values() if s["Service"] == "open")
    document = {"ID": there["ID"], "Name": "open", "Tags": ["ours", "theirs"], "Address": there["Address"], "Port": there["Port"]}
    document |= {"Meta": there["Meta"], "EnableTagOverride": True}
    call(consul.http_addr, "PUT", "/v1/agent/service/register", document)
    wait("the others' tag", lambda: tags() == ["ours", "theirs"])
    one.submit(tagged("newer"))
    wait("both", lambda: tags() == ["newer", "theirs"])
    one.kill()
    one.start()
    one.wait_ready()
    one.submit(tagged("newer", "newest"))
    wait("the next version", lambda: one.get("/v1/job/open")["Version"] == 2)
    wait("theirs", lambda: "theirs" in tags())
    assert one.pids(alloc) == pid
    one.stop_job("open", purge=True)


def test_a_name_that_dns_cannot_hold_is_refused_with_advice(one: Drover, consul: ConsulServer) -> None:
    made = web_job("named")
    made["TaskGroups"][0]["Services"][0]["Name"] = "my_shop.web"
    with pytest.raises(Answer, match='"my-shop-web" would be one'):
        one.submit(made)
    # One that is only known on the node is told in the task's history.
    late = marking_job("named", Meta={"service": "my_shop"}, Services=[{"Name": "${NOMAD_META_service}"}])
    one.submit(late)
    alloc = one.wait_running("named", 1)[0]["ID"]

    def told() -> list[str]:
        events = one.alloc(alloc)["TaskStates"]["t"]["Events"]
        return [event["DisplayMessage"] for event in events if event["Type"] == "Service Registration Failed"]

    assert '"my-shop" would be one' in wait("the event", told)[0]
    assert services(consul, "my_shop") == []
    one.stop_job("named", purge=True)


@pytest.fixture
def network(docker_image: str) -> Iterator[str]:
    name = f"drover-dns-{uuid.uuid4().hex[:8]}"
    subprocess.run(["docker", "network", "create", name], check=True, capture_output=True)
    yield name
    subprocess.run(["docker", "network", "rm", name], check=False, capture_output=True)


def container(name: str, image: str, mode: str, network: str = "", *, more: dict[str, Any] | None = None) -> dict[str, Any]:
    check = {"Name": "alive", "Type": "http", "Path": "/", "Interval": NS, "Timeout": 5 * NS, "AddressMode": "driver"}
    made = job(name, "", [], group={"Networks": [{"DynamicPorts": [{"Label": "http", "To": 8080}]}]})
    script = "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www"
    config: dict[str, Any] = {"image": image, "command": "/bin/sh", "args": ["-c", script], **(more or {})}
    if network:
        config["network_mode"] = network
    service = {"Name": name, "PortLabel": "http", "AddressMode": mode, "Checks": [check]}
    made["TaskGroups"][0]["Tasks"][0] |= {"Driver": "docker", "Config": config, "Services": [service]}
    return made


def inside(alloc: str, network: str) -> str:
    template = "{{(index .NetworkSettings.Networks " + f'"{network}"' + ").IPAddress}}"
    done = subprocess.run(["docker", "inspect", "-f", template, f"t-{alloc}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.docker
@pytest.mark.parametrize("mode", ["driver", "auto", "host"])
def test_a_container_is_found_at_the_address_that_its_service_asks_for(
    one: Drover, consul: ConsulServer, docker_image: str, network: str, mode: str
) -> None:
    """driver: its own, on the engine's bridge. auto: its own, where a user made the network. host: the machine's."""
    name, used = f"box-{mode}", {"driver": "", "auto": network, "host": ""}[mode]
    one.submit(container(name, docker_image, mode, used, more={"ports": ["http"]}))
    alloc = one.wait_running(name, 1, 60.0)[0]["ID"]
    try:
        expected = ("127.0.0.1", port_of(one, alloc)) if mode == "host" else (inside(alloc, used or "bridge"), 8080)
        wait("its address", lambda: addresses(consul, f"{name}.service.consul") == [expected[0]], 60.0)
        assert [port for port, _ in srv(consul, f"{name}.service.consul")] == [expected[1]]
        assert call(f"{expected[0]}:{expected[1]}", "GET", "/") == "hello\n"
    finally:
        one.stop_job(name, purge=True)
        wait("its end", lambda: not one.allocs(name) or all(a["ClientStatus"] == "complete" for a in one.allocs(name)), 60.0)
        subprocess.run(["docker", "rm", "-fv", f"t-{alloc}"], check=False, capture_output=True)


def test_an_address_that_a_task_cannot_have_is_refused(one: Drover) -> None:
    for mode in ("host", "none"):
        with pytest.raises(Answer, match=f'network_mode "{mode}" gives none'):
            one.submit(container("boxless", "x", "driver", mode))
