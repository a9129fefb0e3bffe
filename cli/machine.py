"""Does this machine have what its configuration names: interfaces, addresses, cores?

Asked before anything is touched, and told all at once.
"""

from dataclasses import dataclass

from agent.fingerprint import default_address, machine_cores
from agent.host_networks import WantedNetwork, host_networks, interfaces
from configs import AgentConfig
from model.errors import ConfigError, Fault
from model.node import HostNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """address: the IP that tasks' ports and services are published on."""

    address: str
    host_networks: tuple[HostNetwork, ...] = ()


def machine_of(config: AgentConfig) -> Machine:
    """Raises ConfigError with every setting that asks for what is not here."""
    client, here, faults = config.client, interfaces(), list[Fault]()
    address = _address(config)
    if address is None:
        message = f"{client.network_interface!r} has no IPv4 address on this machine"
        faults.append(Fault(path="client.network_interface", message=message))
    wanted = [
        WantedNetwork(name=name, interface=one.interface, cidr=one.cidr, reserved_ports=one.reserved_ports)
        for name, one in client.host_networks.items()
    ]
    networks, missing = host_networks(wanted, here)
    faults += [Fault(path=f"client.host_network.{name}", message=why) for name, why in missing.items()]
    cores = machine_cores()
    for path, asked in (("reservable_cores", client.reservable_cores), ("reserved.cores", client.reserved.cores)):
        absent = [str(core) for core in asked if core not in cores]
        if absent:
            has = ", ".join(str(core) for core in cores)
            faults.append(Fault(path=f"client.{path}", message=f"there is no core {', '.join(absent)} (the agent may run on {has})"))
    if faults or address is None:
        raise ConfigError(tuple(faults))
    return Machine(address=address, host_networks=networks)


def _address(config: AgentConfig) -> str | None:
    if config.client.network_interface:
        import psutil

        found = psutil.net_if_addrs().get(config.client.network_interface, ())
        return next((one.address for one in found if one.family.name == "AF_INET"), None)
    return default_address() if config.bind_addr in ("0.0.0.0", "::", "") else config.bind_addr
