import os
from pathlib import Path

from agent.fingerprint import ConsulFacts, NodeSettings, fingerprint, os_release
from model.node import NodeId, ReservedResources

WANTED = {
    "kernel.name",
    "kernel.version",
    "arch",
    "cpu.arch",
    "os.name",
    "os.version",
    "unique.hostname",
    "unique.network.ip-address",
    "nomad.version",
    "consul.datacenter",
}


def test_a_node_has_nomads_attributes_and_what_its_settings_say(tmp_path: Path) -> None:
    settings = NodeSettings(
        name="n1",
        node_class="big",
        meta={"rack": "r1"},
        cpu_mhz=4000,
        address="10.0.0.9",
        reserved=ReservedResources(cpu_mhz=100),
    )
    consul = ConsulFacts(node="c1", datacenter="dc7", version="1.8.7")
    node = fingerprint(settings, NodeId("id"), tmp_path, "0.1", 5, consul)
    assert node.attributes.keys() >= WANTED
    assert (node.name, node.address, node.node_class, node.meta) == ("n1", "10.0.0.9", "big", {"rack": "r1"})
    assert (node.resources.cpu_mhz, node.reserved.cpu_mhz) == (4000, 100)
    assert node.resources.memory_mb > 0
    assert node.resources.disk_mb > 0
    assert (node.consul_node, node.consul_datacenter, node.boot_id != "") == ("c1", "dc7", True)


def test_cores_are_what_the_agent_may_run_on_unless_the_settings_say_otherwise(tmp_path: Path) -> None:
    found = fingerprint(NodeSettings(name="n1", address="10.0.0.9"), NodeId("id"), tmp_path, "0.1", 5)
    assert found.resources.reservable_cores == tuple(sorted(os.sched_getaffinity(0)))
    assert found.attributes["cpu.reservablecores"] == str(len(os.sched_getaffinity(0)))
    total = found.resources.total_cores
    reserved = ReservedResources(cpu_mhz=100, cores=(1,))
    settings = NodeSettings(name="n1", address="10.0.0.9", cpu_mhz=1000 * total, reservable_cores=(0, 1, 2), reserved=reserved)
    told = fingerprint(settings, NodeId("id"), tmp_path, "0.1", 5)
    assert (told.resources.core_mhz, told.resources.reservable_cores) == (1000, (0, 1, 2))
    assert told.attributes["cpu.reservablecores"] == "2"
    assert (told.reserved.cpu_mhz, told.reserved.cores) == (1100, (1,))


def test_an_os_release_is_read_with_and_without_quotes(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text("NAME=\"Debian GNU/Linux\"\nID=debian\nVERSION_ID='12'\n# a comment\n")
    assert os_release(path) == {"NAME": "Debian GNU/Linux", "ID": "debian", "VERSION_ID": "12"}
    assert os_release(tmp_path / "absent") == {}
