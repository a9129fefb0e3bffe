"""The functions of job files that reckon with address ranges in CIDR form (`10.0.0.0/8`)."""

from typing import TYPE_CHECKING

from jobspec.evaluate import Function
from jobspec.values import ConversionFault, Value, to_index, to_text

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

# As Nomad: a prefix grows by this much in one call, so that a subnet's number fits into 32 bits.
_NEW_BITS_MAX = 32


def _network(prefix: Value) -> "IPv4Network | IPv6Network":
    import ipaddress

    written = to_text(prefix)
    address, slash, bits = written.partition("/")
    try:
        if not (slash and bits.isascii() and bits.isdigit()):
            raise ValueError("no prefix length")
        return ipaddress.ip_network((address, int(bits)), strict=False)
    except ValueError:
        raise ConversionFault(
            f'"{written[:60]}" is no address range in CIDR form (expected the form 10.0.0.0/8)'
        ) from None


def _address(number: int, network: "IPv4Network | IPv6Network") -> str:
    return str(type(network.network_address)(number))


def _cidrhost(prefix: Value, host: Value) -> Value:
    network, number = _network(prefix), to_index(host)
    place = number if number >= 0 else network.num_addresses + number
    if not 0 <= place < network.num_addresses:
        raise ConversionFault(f"a prefix of {network.prefixlen} bits has no host number {number}")
    return _address(int(network.network_address) + place, network)


def _cidrnetmask(prefix: Value) -> Value:
    return str(_network(prefix).netmask)


def _cidrsubnet(prefix: Value, new_bits: Value, number: Value) -> Value:
    network, bits, place = _network(prefix), to_index(new_bits), to_index(number)
    if not 0 <= bits <= _NEW_BITS_MAX:
        raise ConversionFault(f"a prefix is extended by 0 to {_NEW_BITS_MAX} bits, not by {bits}")
    length = network.prefixlen + bits
    if length > network.max_prefixlen:
        raise ConversionFault(f"a prefix of {network.prefixlen} bits cannot be extended by {bits}")
    if not 0 <= place < 1 << bits:
        raise ConversionFault(f"an extension by {bits} bits has no subnet number {place}")
    start = int(network.network_address) + (place << (network.max_prefixlen - length))
    return f"{_address(start, network)}/{length}"


def _cidrsubnets(prefix: Value, *new_bits: Value) -> Value:
    """One subnet after the other, each on the next boundary of its own size."""
    network = _network(prefix)
    first = int(network.network_address)
    end = first + network.num_addresses
    free = first
    made: list[Value] = []
    for bits in map(to_index, new_bits):
        if not 1 <= bits <= _NEW_BITS_MAX:
            raise ConversionFault(f"a prefix is extended by 1 to {_NEW_BITS_MAX} bits, not by {bits}")
        length = network.prefixlen + bits
        if length > network.max_prefixlen:
            raise ConversionFault(f"a prefix of {network.prefixlen} bits cannot be extended by {bits}")
        size = 1 << (network.max_prefixlen - length)
        start = -(-free // size) * size
        if start >= end:
            raise ConversionFault(f"no room is left for a subnet with a prefix of {length} bits")
        made.append(f"{_address(start, network)}/{length}")
        free = start + size
    return made


NETWORK_FUNCTIONS: dict[str, Function] = {
    "cidrhost": _cidrhost,
    "cidrnetmask": _cidrnetmask,
    "cidrsubnet": _cidrsubnet,
    "cidrsubnets": _cidrsubnets,
}
