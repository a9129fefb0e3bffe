"""Which address of the machine is each host network?"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psutil

from model.node import HostNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedNetwork:
    """interface: a name, empty for any. cidr: what the address lies in, empty for any."""

    name: str
    interface: str = ""
    cidr: str = ""
    reserved_ports: tuple[int, ...] = ()


def interfaces() -> dict[str, list[str]]:
    """{interface: its addresses}, IPv4 before IPv6, without those that are only good on one link."""
    found: dict[str, list[str]] = {}
    for name, addresses in psutil.net_if_addrs().items():
        four, six = ([one.address for one in addresses if one.family.name == kind] for kind in ("AF_INET", "AF_INET6"))
        found[name] = four + [one for one in six if not ipaddress.ip_address(one.partition("%")[0]).is_link_local]
    return found


def host_networks(
    wanted: Iterable[WantedNetwork], machine: Mapping[str, Sequence[str]]
) -> tuple[tuple[HostNetwork, ...], dict[str, str]]:
    """The networks that the machine is on, and for each other one why it is not. machine: as interfaces() tells it."""
    found: list[HostNetwork] = []
    missing: dict[str, str] = {}
    for one in wanted:
        if one.interface and one.interface not in machine:
            missing[one.name] = f'this machine has no interface "{one.interface}" (it has {", ".join(sorted(machine))})'
            continue
        devices = [one.interface] if one.interface else sorted(machine)
        match = next(((device, ip) for device in devices for ip in machine[device] if _lies_in(ip, one.cidr)), None)
        if match is None:
            where = f'interface "{one.interface}"' if one.interface else "this machine"
            missing[one.name] = f"{where} has no address in {one.cidr}" if one.cidr else f"{where} has no address"
            continue
        device, address = match
        found.append(HostNetwork(name=one.name, address=address, device=device, reserved_ports=one.reserved_ports))
    return tuple(found), missing


def _lies_in(address: str, cidr: str) -> bool:
    if not cidr:
        return True
    return ipaddress.ip_address(address) in ipaddress.ip_network(cidr, strict=False)
