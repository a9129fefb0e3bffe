"""Which ports of a node does an alloc get?"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from model.alloc import AllocatedPort
from model.job import Network, TaskGroup
from model.node import Node

# Random tries for a dynamic port before the range is walked: with half the range used, 20 tries miss once in a million.
_PORT_TRIES = 20


class Rng(Protocol):
    """The source of chance a caller hands in: random.Random has it."""

    def getrandbits(self, k: int, /) -> int: ...

    def randint(self, a: int, b: int) -> int: ...


def networks_of(group: TaskGroup) -> tuple[Network, ...]:
    return (*group.networks, *(network for task in group.tasks for network in task.resources.networks))


def assign_ports(
    networks: Sequence[Network], node: Node, used: Mapping[int, int], rng: Rng
) -> tuple[AllocatedPort, ...] | str:
    """The ports asked for, on this node, or the dimension that is exhausted, in Nomad's words. used: {port: holders}."""
    taken: set[int] = set()
    ports: list[AllocatedPort] = []
    for network in networks:
        for port in network.reserved_ports:
            if port.value in used or port.value in taken or port.value in node.reserved.ports:
                return f"network: reserved port collision {port.label}={port.value}"
            taken.add(port.value)
            ports.append(AllocatedPort(label=port.label, value=port.value, to=port.to, host_ip=node.address))
    low, high = node.resources.min_dynamic_port, node.resources.max_dynamic_port
    for network in networks:
        for port in network.dynamic_ports:
            number = _dynamic_port(low, high, used, taken, node.reserved.ports, rng)
            if number is None:
                return "network: dynamic port selection failed"
            taken.add(number)
            to = number if port.to == -1 else port.to
            ports.append(AllocatedPort(label=port.label, value=number, to=to, host_ip=node.address))
    return tuple(ports)


def _dynamic_port(
    low: int, high: int, used: Mapping[int, int], taken: set[int], reserved: Sequence[int], rng: Rng
) -> int | None:
    def is_free(number: int) -> bool:
        return number not in used and number not in taken and number not in reserved

    for _ in range(_PORT_TRIES):
        number = rng.randint(low, high)
        if is_free(number):
            return number
    return next((number for number in range(low, high + 1) if is_free(number)), None)
