"""Each option of a docker task, as the engine has it afterwards (`docker inspect`); and what is refused, before there is
any container."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.drivers.base import StartFailed
from agent.drivers.docker import _auth
from agent.drivers.docker_config import parse_config
from model.alloc import AllocatedPort
from model.errors import TaskRefused
from model.job import Resources
from tests.agent.test_docker import Place, closing
from tests.components.consul import free_port
from tests.components.docker import IMAGE, engine

pytestmark = pytest.mark.docker

LEAVE = {"allow_privileged": True, "volumes_enabled": True, "allow_caps": ("all",)}


@pytest.fixture(scope="module", autouse=True)
def running_engine() -> None:
    engine()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.remove()


@pytest.fixture
def free(tmp_path: Path) -> Iterator[Place]:
    """On a node that allows everything."""
    made = Place(tmp_path, **LEAVE)
    yield made
    made.remove()


def inspected(place: Place) -> dict[str, Any]:
    done = subprocess.run(["docker", "inspect", f"main-{place.alloc_id}"], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document[name]
    return document


async def started(place: Place, config: dict[str, Any], **more: Any) -> dict[str, Any]:
    async with closing(place.driver) as driver:
        await driver.start(place.task("/bin/sleep", "1000", config=config, **more))
    return inspected(place)


# What any node allows: config -> where the engine shows it, and what is there.
PLAIN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cap_drop": ({"cap_drop": ["chown", "CAP_KILL"]}, {"HostConfig.CapDrop": ["CHOWN", "KILL", "NET_RAW"]}),
    "cap_drop all": ({"cap_drop": ["all"], "cap_add": ["chown"]}, {"HostConfig.CapDrop": ["ALL"], "HostConfig.CapAdd": ["CHOWN"]}),
    "no caps of its own": ({}, {"HostConfig.CapDrop": ["NET_RAW"], "HostConfig.CapAdd": []}),
    "ulimit": (
        {"ulimit": [{"nofile": "1024:2048", "nproc": "4242"}]},
        {"HostConfig.Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 2048}, {"Name": "nproc", "Soft": 4242, "Hard": 4242}]},
    ),
    "logging": (
        {"logging": [{"type": "json-file", "config": [{"max-size": "1m", "max-file": 3}]}]},
        {"HostConfig.LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "3"}}},
    ),
    "logging without a size": (
        {"logging": [{"driver": "local"}]},
        {"HostConfig.LogConfig": {"Type": "local", "Config": {"max-size": "10m", "max-file": "2"}}},
    ),
    "no logging": ({}, {"HostConfig.LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}}}),
    "no health checks": ({}, {"Config.Healthcheck.Test": ["NONE"]}),
    "network_mode host": ({"network_mode": "host"}, {"HostConfig.NetworkMode": "host"}),
    "network_mode bridge": ({"network_mode": "bridge"}, {"HostConfig.NetworkMode": "bridge"}),
    "network_mode none": ({"network_mode": "none"}, {"HostConfig.NetworkMode": "none"}),
    "dns": (
        {"dns_servers": ["192.0.2.1", "2001:db8::1"], "dns_search_domains": ["example.test"], "dns_options": ["ndots:1"]},
        {"HostConfig.Dns": ["192.0.2.1", "2001:db8::1"], "HostConfig.DnsSearch": ["example.test"], "HostConfig.DnsOptions": ["ndots:1"]},
    ),
    "extra_hosts": (
        {"extra_hosts": ["db:192.0.2.7", "six:2001:db8::7", "host:host-gateway"]},
        {"HostConfig.ExtraHosts": ["db:192.0.2.7", "six:2001:db8::7", "host:host-gateway"]},
    ),
    "init": ({"init": True}, {"HostConfig.Init": True}),
    "pids_limit": ({"pids_limit": 42}, {"HostConfig.PidsLimit": 42}),
    "shm_size": ({"shm_size": 8 << 20}, {"HostConfig.ShmSize": 8 << 20}),
    "readonly_rootfs": ({"readonly_rootfs": True}, {"HostConfig.ReadonlyRootfs": True}),
    "security_opt": ({"security_opt": ["no-new-privileges"]}, {"HostConfig.SecurityOpt": ["no-new-privileges"]}),
    "sysctl": ({"sysctl": [{"net.core.somaxconn": "1234"}]}, {"HostConfig.Sysctls": {"net.core.somaxconn": "1234"}}),
    "entrypoint": ({"entrypoint": ["/bin/sh", "-c", "exec sleep 1000"]}, {"Config.Entrypoint": ["/bin/sh", "-c", "exec sleep 1000"]}),
    "work_dir": ({"work_dir": "/tmp"}, {"Config.WorkingDir": "/tmp"}),
    "hostname": ({"hostname": "told"}, {"Config.Hostname": "told"}),
    "mac_address": ({"mac_address": "02:42:ac:11:00:98"}, {"Config.MacAddress": "02:42:ac:11:00:98"}),
    "ipc_mode": ({"ipc_mode": "shareable"}, {"HostConfig.IpcMode": "shareable"}),
    "group_add": ({"group_add": ["12", "34"]}, {"HostConfig.GroupAdd": ["12", "34"]}),
    "labels": ({"labels": [{"team": "blue"}]}, {"Config.Labels.team": "blue"}),
    "interactive": ({"interactive": True}, {"Config.OpenStdin": True}),
    "memory_hard_limit": ({"memory_hard_limit": 128}, {"HostConfig.Memory": 128 << 20, "HostConfig.MemoryReservation": 64 << 20}),
    "cpu_hard_limit": ({"cpu_hard_limit": True}, {"HostConfig.CpuPeriod": 100_000, "HostConfig.CpuQuota": 25_000}),
    "cpu_cfs_period": (
        {"cpu_hard_limit": "true", "cpu_cfs_period": 50_000},
        {"HostConfig.CpuPeriod": 50_000, "HostConfig.CpuQuota": 12_500},
    ),
}  # fmt: skip

# What needs the operator's leave.
ALLOWED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "privileged": ({"privileged": True}, {"HostConfig.Privileged": True}, "allow_privileged"),
    "cap_add": ({"cap_add": ["sys_admin"]}, {"HostConfig.CapAdd": ["SYS_ADMIN"]}, "allow_caps"),
    "devices": (
        {"devices": [{"host_path": "/dev/null", "container_path": "/dev/told", "cgroup_permissions": "r"}]},
        {"HostConfig.Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/told", "CgroupPermissions": "r"}]},
        "allow_devices",
    ),
    "pid_mode": ({"pid_mode": "host"}, {"HostConfig.PidMode": "host"}, "allow_privileged"),
    "ipc_mode host": ({"ipc_mode": "host"}, {"HostConfig.IpcMode": "host"}, "allow_privileged"),
    "uts_mode": ({"uts_mode": "host"}, {"HostConfig.UTSMode": "host"}, "allow_privileged"),
    "userns_mode": ({"userns_mode": "host"}, {"HostConfig.UsernsMode": "host"}, "allow_privileged"),
    "volume_driver": ({"volume_driver": "local"}, {"HostConfig.VolumeDriver": "local"}, "volumes.enabled"),
    "a path of the machine": ({"volumes": ["/usr/share:/told:ro"]}, {}, "volumes.enabled"),
}  # fmt: skip

# What is wrong wherever it is asked for.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "ulimit word": ({"ulimit": [{"nofile": "many"}]}, "ulimit: nofile: 'many' is not soft or soft:hard"),
    "ulimit half": ({"ulimit": [{"nofile": "10:"}]}, "ulimit: nofile: '10:' is not soft or soft:hard"),
    "ulimit order": ({"ulimit": [{"nofile": "20:10"}]}, "the soft limit of '20:10' is beyond the hard one"),
    "ulimit name": ({"ulimit": [{"files": "10"}]}, "there is no limit 'files'"),
    "extra_hosts": ({"extra_hosts": ["db=192.0.2.7"]}, "extra_hosts: 'db=192.0.2.7' is not name:address"),
    "dns_servers": ({"dns_servers": ["ns1"]}, "dns_servers: 'ns1' is no IP address"),
    "mac_address": ({"mac_address": "02:42"}, "mac_address: '02:42' is not six bytes"),
    "ipv4_address": ({"ipv4_address": "ten"}, "ipv4_address: 'ten' is no IP address"),
    "device path": ({"devices": [{"host_path": "null"}]}, "devices: 'null' is no absolute path"),
    "device rights": ({"devices": [{"host_path": "/dev/null", "cgroup_permissions": "rx"}]}, "of r, w and m, found 'rx'"),
    "volume": ({"volumes": ["/data"]}, "volumes: '/data' is not source:target"),
    "volume target": ({"volumes": ["local:data"]}, "the target 'data' is no absolute path"),
    "mount target": ({"mounts": [{"type": "tmpfs"}]}, "the target '' is no absolute path"),
    "tmpfs size": ({"mounts": [{"type": "tmpfs", "target": "/x", "tmpfs_options": [{"size": "1m"}]}]}, "size: '1m' is no whole number"),
    "propagation": ({"mounts": [{"type": "bind", "source": "local", "target": "/x", "bind_options": [{"propagation": "far"}]}]}, "found 'far'"),
    "driver_config": ({"mounts": [{"type": "volume", "source": "v", "target": "/x", "volume_options": [{"driver_config": [{"name": "local"}]}]}]}, "volumes.enabled"),
    "memory_hard_limit": ({"memory_hard_limit": 32}, "memory_hard_limit 32 is below what the task asks for, 64 MB"),
    "cpu_cfs_period": ({"cpu_hard_limit": True, "cpu_cfs_period": 10}, "10 is not between 1000 and 1000000"),
    "shm_size": ({"shm_size": -1}, "shm_size must not be negative"),
    "capability": ({"cap_drop": ["no such"]}, "'no such' is the name of no capability"),
}  # fmt: skip


@pytest.mark.parametrize("option", PLAIN)
async def test_an_option_reaches_the_engine(place: Place, option: str) -> None:
    config, expected = PLAIN[option]
    found = await started(place, config, resources=Resources(cpu=500, memory_mb=64), core_mhz=2000)
    assert {path: at(found, path) or [] for path in expected} == expected


@pytest.mark.parametrize("option", ALLOWED)
async def test_what_an_operator_allows_reaches_the_engine(free: Place, option: str) -> None:
    config, expected, _ = ALLOWED[option]
    async with closing(free.driver) as driver:
        with suppress(StartFailed):  # made, and not started: this machine may itself lack what a privileged one gets
            await driver.start(free.task("/bin/sleep", "1000", config=config))
    found = inspected(free)
    assert {path: at(found, path) for path in expected} == expected


@pytest.mark.parametrize("option", ALLOWED)
async def test_what_no_operator_allowed_is_refused(place: Place, option: str) -> None:
    config, _, allowing = ALLOWED[option]
    await refused(place, config, allowing)


@pytest.mark.parametrize("option", WRONG)
async def test_a_value_that_is_none_is_told_before_there_is_a_container(place: Place, option: str) -> None:
    await refused(place, *WRONG[option])


async def refused(place: Place, config: dict[str, Any], words: str) -> None:
    async with closing(place.driver) as driver:
        with pytest.raises(TaskRefused) as fault:
            await driver.start(place.task("/bin/true", config=config))
    assert words in str(fault.value)
    assert str(fault.value).startswith("config: ")
    assert subprocess.run(["docker", "inspect", f"main-{place.alloc_id}"], capture_output=True).returncode != 0


async def test_a_device_may_be_allowed_by_its_path(tmp_path: Path) -> None:
    place = Place(tmp_path, allow_devices=("/dev/nu*",))
    try:
        await refused(place, {"devices": [{"host_path": "/dev/../dev/zero"}]}, "/dev/zero is not allowed")
        place = Place(tmp_path, allow_devices=("/dev/nu*",))
        found = await started(place, {"devices": [{"host_path": "/dev/null"}]})
        assert found["HostConfig"]["Devices"][0]["PathInContainer"] == "/dev/null"
    finally:
        place.remove()


async def test_volumes_and_mounts_of_each_kind(free: Place) -> None:
    outside = free.home / "outside"
    outside.mkdir()
    config = {
        "volumes": ["local/conf:/conf", f"{outside}:/outside:ro"],
        "mounts": [
            {"type": "bind", "source": "local/made", "target": "/made", "readonly": True, "bind_options": [{"propagation": "private"}]},
            {"type": "tmpfs", "target": "/scratch", "tmpfs_options": [{"size": 1 << 20, "mode": 448}]},
            {"type": "volume", "source": f"v-{free.alloc_id}", "target": "/kept", "volume_options": [{"no_copy": True, "labels": [{"of": "test"}]}]},
        ],
    }  # fmt: skip
    try:
        found = await started(free, config)
        mounts = {mount["Destination"]: mount for mount in found["Mounts"]}
        local = free.dirs.task(free.alloc_id, "main").local
        assert (mounts["/conf"]["Source"], mounts["/outside"]["Source"]) == (f"{local}/conf", str(outside))
        assert (mounts["/outside"]["RW"], mounts["/made"]["RW"], mounts["/kept"]["Type"]) == (False, False, "volume")
        assert (local / "made").is_dir()
        bind, tmpfs, volume = found["HostConfig"]["Mounts"]
        assert bind["BindOptions"] == {"Propagation": "private"}
        assert tmpfs["TmpfsOptions"] == {"SizeBytes": 1 << 20, "Mode": 448}
        assert volume["VolumeOptions"] == {"NoCopy": True, "Labels": {"of": "test"}}
        done = subprocess.run(["docker", "exec", f"main-{free.alloc_id}", "stat", "-c", "%a", "/scratch"], capture_output=True, text=True)
        assert done.stdout == "700\n"
    finally:
        free.remove()
        subprocess.run(["docker", "volume", "rm", "-f", f"v-{free.alloc_id}"], capture_output=True)


async def test_ports_are_published_for_tcp_and_udp(place: Place) -> None:
    port = AllocatedPort(label="http", value=free_port(), to=8080, host_ip="127.0.0.1")
    found = await started(place, {"ports": ["http"]}, ports=(port,))
    published = [{"HostIp": "127.0.0.1", "HostPort": str(port.value)}]
    assert found["HostConfig"]["PortBindings"] == {"8080/tcp": published, "8080/udp": published}


async def test_a_container_joins_the_network_of_another(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Place(tmp_path / "other")
    try:
        first = await started(other, {})
        found = await started(place, {"network_mode": f"container:main-{other.alloc_id}"})
        assert found["HostConfig"]["NetworkMode"] in (f"container:{first['Id']}", f"container:main-{other.alloc_id}")
        shown = [subprocess.run(["docker", "exec", f"main-{one.alloc_id}", "ip", "addr"], capture_output=True).stdout for one in (place, other)]
        assert shown[0] == shown[1] != b""
    finally:
        other.remove()


async def test_an_images_own_health_check_stays_only_when_the_job_says_so(place: Place) -> None:
    made = subprocess.run(
        ["docker", "build", "-q", "-"], input=f"FROM {IMAGE}\nHEALTHCHECK CMD /bin/true\n".encode(), capture_output=True, check=True
    )
    image = made.stdout.decode().strip()
    try:
        found = await started(place, {"image": image})
        assert found["Config"]["Healthcheck"]["Test"] == ["NONE"]
        assert "Health" not in found["State"]
        place.remove()
        place.driver = Place(_under(place.home, "again")).driver
        kept = await started(place, {"image": image, "healthchecks": [{"disable": False}]})
        assert kept["Config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "/bin/true"]
    finally:
        place.remove()
        subprocess.run(["docker", "rmi", "-f", image], capture_output=True)


def _under(home: Path, name: str) -> Path:
    (home / name).mkdir()
    return home / name


def test_credentials_go_to_the_registry_by_the_engines_names() -> None:
    auth = {"username": "u", "password": "p", "email": "e", "server_address": "r.example"}
    sent = _auth(parse_config({"image": "x", "auth": [auth]}))
    assert sent == {"username": "u", "password": "p", "email": "e", "serveraddress": "r.example"}


async def test_storage_options_that_the_engine_cannot_honour_are_told_in_its_words(place: Place) -> None:
    async with closing(place.driver) as driver:
        with pytest.raises(TaskRefused, match=r"no\.such\.option"):
            await driver.start(place.task("/bin/true", config={"storage_opt": [{"no.such.option": "1"}]}))
