"""Which ports of a node does an alloc get?

A port is one number on one address: on two host networks the same number can be had twice.
"""

from collections.abc import Callable, Container, Sequence
from typing import Protocol

from leader.decide.constraints import resolve
from leader.decide.table import HostPort
from model.alloc import AllocatedPort
from model.job import Network, Port, TaskGroup
from model.node import DEFAULT_NETWORK, Node, NodeResources

# Random tries for a dynamic port before the range is walked: with half the range used, 20 tries miss once in a million.
_PORT_TRIES = 20


class Rng(Protocol):
    """The source of chance a caller hands in: random.Random has it."""

    def getrandbits(self, k: int, /) -> int: ...

    def randint(self, a: int, b: int) -> int: ...


def networks_of(group: TaskGroup) -> tuple[Network, ...]:
    return (*group.networks, *(network for task in group.tasks for network in task.resources.networks))


def missing_network(port: Port, node: Node) -> str:
    """Why the node cannot give the port on the host network that it names, in Nomad's words; "" if it can."""
    name = resolve(port.host_network or DEFAULT_NETWORK, node)
    if name is None:
        return f'invalid host network "{port.host_network}" template for port "{port.label}"'
    return "" if node.address_on(name) is not None else f'missing host network "{name}" for port "{port.label}"'


def static_ports(networks: Sequence[Network], node: Node) -> dict[HostPort, str]:
    """{(address, port): its label} of what is asked for by number, on the networks that the node has."""
    asked: dict[HostPort, str] = {}
    for network in networks:
        for port in network.reserved_ports:
            address = _address(port, node)
            if address is not None:
                asked[address, port.value] = port.label
    return asked


def is_reserved(node: Node, port: HostPort) -> bool:
    """Whether the node keeps it for itself: on all its networks, or on one that is at this address."""
    address, number = port
    if number in node.reserved.ports:
        return True
    return bool(node.host_networks) and any(
        number in network.reserved_ports for network in node.host_networks if network.address == address
    )


def assign_ports(
    networks: Sequence[Network], node: Node, used: Container[HostPort], rng: Rng
) -> tuple[AllocatedPort, ...] | str:
    """The ports asked for, on this node, or the dimension that is exhausted, in Nomad's words. used: what others hold."""
    if not networks:
        return ()
    taken: set[HostPort] = set()
    ports: list[AllocatedPort] = []

    kept = node.reserved.ports if not node.host_networks else None  # asked here, for most nodes have no other rule

    def is_free(port: HostPort) -> bool:
        if port in used or port in taken:
            return False
        return port[1] not in kept if kept is not None else not is_reserved(node, port)

    def take(port: Port, number: int, to: int, address: str) -> None:
        taken.add((address, number))
        ports.append(AllocatedPort(label=port.label, value=number, to=to, host_ip=address))

    for port in [port for network in networks for port in network.reserved_ports]:
        address = _address(port, node)
        if address is None:
            return missing_network(port, node)
        if not is_free((address, port.value)):
            return f"network: reserved port collision {port.label}={port.value}"
        take(port, port.value, port.to, address)
    for port in [port for network in networks for port in network.dynamic_ports]:
        address = _address(port, node)
        if address is None:
            return missing_network(port, node)
        number = _dynamic_port(node.resources, address, is_free, rng)
        if number is None:
            return "network: dynamic port selection failed"
        take(port, number, number if port.to == -1 else port.to, address)
    return tuple(ports)


def _address(port: Port, node: Node) -> str | None:
    if port.host_network in ("", DEFAULT_NETWORK):
        return node.address
    name = resolve(port.host_network, node)
    return None if name is None else node.address_on(name)


def _dynamic_port(
    offer: NodeResources, address: str, is_free: Callable[[HostPort], bool], rng: Rng
) -> int | None:
    low, high = offer.min_dynamic_port, offer.max_dynamic_port
    for _ in range(_PORT_TRIES):
        number = rng.randint(low, high)
        if is_free((address, number)):
            return number
    return next((number for number in range(low, high + 1) if is_free((address, number))), None)
