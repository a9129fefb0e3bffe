"""Which address of the machine is a host network?"""

import pytest

from agent.cpuset import cpuset
from agent.host_networks import WantedNetwork, host_networks, interfaces
from model.node import HostNetwork

MACHINE = {"eth0": ["10.0.0.5", "2001:db8::5"], "eth1": ["203.0.113.7", "203.0.113.8"], "idle0": []}


@pytest.mark.parametrize(
    ("wanted", "address", "device"),
    [
        (WantedNetwork(name="n", cidr="203.0.113.0/24"), "203.0.113.7", "eth1"),
        (WantedNetwork(name="n", cidr="203.0.113.8/32"), "203.0.113.8", "eth1"),
        (WantedNetwork(name="n", interface="eth0"), "10.0.0.5", "eth0"),
        (WantedNetwork(name="n", interface="eth0", cidr="2001:db8::/32"), "2001:db8::5", "eth0"),
    ],
    ids=["block", "one of two", "interface", "both, IPv6"],
)
def test_a_network_is_the_first_address_that_fits(wanted: WantedNetwork, address: str, device: str) -> None:
    found, missing = host_networks([wanted], MACHINE)
    assert (found, missing) == ((HostNetwork(name="n", address=address, device=device),), {})


def test_each_network_that_the_machine_is_not_on_is_told_with_the_reason() -> None:
    wanted = [
        WantedNetwork(name="a", interface="eth9"),
        WantedNetwork(name="b", interface="eth0", cidr="192.168.0.0/16"),
        WantedNetwork(name="c", interface="idle0"),
        WantedNetwork(name="d", cidr="192.168.0.0/16"),
        WantedNetwork(name="e", interface="eth1", reserved_ports=(22,)),
    ]
    found, missing = host_networks(wanted, MACHINE)
    assert found == (HostNetwork(name="e", address="203.0.113.7", device="eth1", reserved_ports=(22,)),)
    assert missing == {
        "a": 'this machine has no interface "eth9" (it has eth0, eth1, idle0)',
        "b": 'interface "eth0" has no address in 192.168.0.0/16',
        "c": 'interface "idle0" has no address',
        "d": "this machine has no address in 192.168.0.0/16",
    }


def test_the_machines_own_addresses_are_found() -> None:
    assert "127.0.0.1" in interfaces()["lo"]


@pytest.mark.parametrize(
    ("cores", "text"), [((), ""), ((3,), "3"), ((0, 1, 2), "0-2"), ((7, 0, 2, 1, 12, 13), "0-2,7,12-13")]
)
def test_cores_are_written_as_the_kernel_reads_them(cores: tuple[int, ...], text: str) -> None:
    assert cpuset(cores) == text
