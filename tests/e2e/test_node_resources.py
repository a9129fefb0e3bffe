"""Whole cores, host networks and host volumes, from the job file to the running task, on a real Consul and engine."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.components.consul import ConsulServer, free_port
from tests.conftest import or_skip
from tests.e2e.drover import NS, Drover, call, job, marking_job, wait

pytestmark = [pytest.mark.e2e, pytest.mark.consul, pytest.mark.docker]

# The last one is kept for whoever shares.
CORES = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "index.html").write_text("from the shelf\n")
    return folder


@pytest.fixture(scope="module")
def one(docker_image: str, shelf: Path) -> Iterator[Drover]:
    settings = f"""
client {{
  reservable_cores = "{CORES[0]}"
  host_volume "shelf" {{ path = "{shelf}" }}
  host_volume "sealed" {{
    path      = "{shelf}"
    read_only = true
  }}
  host_network "bridge" {{
    interface      = "docker0"
    reserved_ports = "25999"
  }}
}}
"""
    with or_skip(lambda: ConsulServer().__enter__()) as consul, Drover(consul, settings=settings) as drover:
        drover.wait_ready()
        yield drover
        for found in drover.allocs("shop"):
            subprocess.run(["docker", "rm", "-f", f"t-{found['ID']}"], capture_output=True, check=False)


def reason_of(one: Drover, job_id: str) -> dict[str, Any]:
    blocked = wait(
        "the reason", lambda: next((e for e in one.get(f"/v1/job/{job_id}/evaluations") if e["Status"] == "blocked"), None)
    )
    metric: dict[str, Any] = blocked["FailedTGAllocs"]["g"]
    return metric


def test_the_node_tells_its_cores_networks_and_volumes(one: Drover, shelf: Path) -> None:
    (stub,) = one.get("/v1/nodes")
    node = one.get(f"/v1/node/{stub['ID']}")
    assert node["HostVolumes"] == {
        "sealed": {"Name": "sealed", "Path": str(shelf), "ReadOnly": True},
        "shelf": {"Name": "shelf", "Path": str(shelf), "ReadOnly": False},
    }
    assert node["NodeResources"]["Cpu"]["ReservableCpuCores"] == CORES[:1]
    assert node["Attributes"]["cpu.reservablecores"] == "1"
    names = {a["Alias"]: a for network in node["NodeResources"]["NodeNetworks"] for a in network["Addresses"]}
    assert (names["default"]["Address"], names["bridge"]["ReservedPorts"]) == ("127.0.0.1", "25999")


def test_a_task_with_a_core_of_its_own_runs_there_and_the_next_one_waits_for_it(one: Drover) -> None:
    resources = {"Cores": 1, "MemoryMB": 16}
    script = "grep Cpus_allowed_list /proc/self/status; echo $NOMAD_CPU_CORES; exec sleep 100000"
    one.submit(job("pinned", "/bin/sh", ["-c", script], Resources=resources))
    (alloc,) = one.wait_running("pinned", 1)
    log = wait("its log", lambda: (text := one.get(f"/v1/client/fs/logs/{alloc['ID']}?task=t&type=stdout&plain=true")).count("\n") == 2 and text)
    assert log.split() == ["Cpus_allowed_list:", str(CORES[0]), str(CORES[0])]
    (stub,) = one.get("/v1/nodes")
    offer = one.get(f"/v1/node/{stub['ID']}")["NodeResources"]["Cpu"]
    cpu = one.alloc(alloc["ID"])["AllocatedResources"]["Tasks"]["t"]["Cpu"]
    assert cpu == {"CpuShares": offer["CpuShares"] // offer["TotalCpuCores"], "ReservedCores": CORES[:1]}
    one.submit(job("second", "/bin/sh", ["-c", script], Resources=resources))
    assert reason_of(one, "second")["DimensionExhausted"] == {"cores": 1}
    # A new leader's table knows who has it from the documents alone.
    one.kill()
    one.start()
    one.wait_ready()
    assert not one.allocs("second")
    one.stop_job("pinned")
    one.wait_running("second", 1)
    for name in ("pinned", "second"):
        one.stop_job(name, purge=True)


def test_a_container_serves_a_host_volume_on_a_host_network_and_consul_knows_it_there(
    one: Drover, docker_image: str, shelf: Path
) -> None:
    number = free_port()
    ports = [{"Label": "http", "Value": number, "To": 8080, "HostNetwork": "bridge"}]
    check = {"Name": "alive", "Type": "http", "Path": "/", "Interval": NS, "Timeout": NS}
    shop = job("shop", "", [], group={
        "Networks": [{"ReservedPorts": ports}],
        "Volumes": {"v": {"Type": "host", "Source": "shelf"}},
    })  # fmt: skip
    (task,) = shop["TaskGroups"][0]["Tasks"]
    script = 'echo "$NOMAD_ADDR_http" > /www/address; exec httpd -f -p 8080 -h /www'
    task |= {
        "Driver": "docker",
        "Config": {"image": docker_image, "command": "/bin/sh", "args": ["-c", script], "ports": ["http"]},
        "VolumeMounts": [{"Volume": "v", "Destination": "/www"}],
        "Services": [{"Name": "shop", "PortLabel": "http", "Checks": [check]}],
    }
    one.submit(shop)
    one.submit(marking_job("beside", group={"Networks": [{"ReservedPorts": [{"Label": "http", "Value": number}]}]}))
    (alloc,) = one.wait_running("shop", 1, 60.0)
    (beside,) = one.wait_running("beside", 1)
    passing = wait("it passes", lambda: call(one.consul.http_addr, "GET", "/v1/health/service/shop?passing=1"), 60.0)
    service = passing[0]["Service"]
    (port,) = one.alloc(alloc["ID"])["AllocatedResources"]["Shared"]["Ports"]
    assert (service["Address"], service["Port"]) == (port["HostIP"], number)
    assert service["Address"] != one.alloc(beside["ID"])["AllocatedResources"]["Shared"]["Ports"][0]["HostIP"] == "127.0.0.1"
    assert call(f"{service['Address']}:{number}", "GET", "/index.html") == "from the shelf\n"
    assert (shelf / "address").read_text() == f"{service['Address']}:{number}\n"
    (network,) = one.alloc(alloc["ID"])["Resources"]["Networks"]
    assert (network["IP"], network["DynamicPorts"][0]["HostNetwork"]) == (service["Address"], "bridge")
    for name in ("shop", "beside"):
        one.stop_job(name, purge=True)


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        ({"Volumes": {"v": {"Type": "host", "Source": "sealed"}}}, "missing compatible host volumes"),
        ({"Volumes": {"v": {"Type": "host", "Source": "absent", "ReadOnly": True}}}, "missing compatible host volumes"),
        (
            {"Networks": [{"DynamicPorts": [{"Label": "http", "HostNetwork": "public"}]}]},
            'missing host network "public" for port "http"',
        ),
    ],
    ids=["read-only volume", "no volume", "no network"],
)
def test_what_the_node_does_not_have_is_told_in_nomads_words(one: Drover, group: dict[str, Any], reason: str) -> None:
    one.submit(marking_job("picky", group=dict(group)))
    assert reason_of(one, "picky")["ConstraintFiltered"] == {reason: 1}
    one.stop_job("picky", purge=True)


def test_a_port_that_a_network_keeps_is_not_given_there(one: Drover) -> None:
    port = {"Label": "http", "Value": 25_999, "HostNetwork": "bridge"}
    one.submit(marking_job("kept", group={"Networks": [{"ReservedPorts": [port]}]}))
    assert reason_of(one, "kept")["DimensionExhausted"] == {"network: reserved port collision http=25999": 1}
    one.stop_job("kept", purge=True)


def test_a_task_of_a_driver_that_cannot_mount_fails_with_nomads_words(one: Drover) -> None:
    group = {"Volumes": {"v": {"Type": "host", "Source": "shelf"}}, "RestartPolicy": {"Attempts": 0, "Mode": "fail"}}
    one.submit(marking_job("unmounted", group=group, VolumeMounts=[{"Volume": "v", "Destination": "/www"}]))
    failed = wait("it fails", lambda: next((a for a in one.allocs("unmounted") if a["ClientStatus"] == "failed"), None))
    events = json.dumps(failed["TaskStates"]["t"]["Events"])
    assert 'task driver \\"raw_exec\\" for \\"t\\" does not support host volumes' in events
    one.stop_job("unmounted", purge=True)
