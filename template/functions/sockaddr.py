"""Which addresses of the machine does `sockaddr "GetPrivateInterfaces | include \\"network\\" \\"10.0.0.0/8\\""` name?

The text is a pipeline of its own language, go-sockaddr's: sources of addresses, filters, orders and what is shown of them.
Its grammar is a template's, so the engine reads it, with the functions below instead of all others.
"""

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from template.budget import CURRENT, Budget
from template.faults import Refusal, TemplateFault
from template.functions.text import regex_match
from template.lookups import Interface
from template.values import Methods

_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
_RFC: Mapping[str, tuple[str, ...]] = {
    "1918": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    "6598": ("100.64.0.0/10",),
    "3927": ("169.254.0.0/16",),
    "4193": ("fc00::/7",),
    "6890": (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    ),
}

Address = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class _One(Methods):
    """An address with its interface."""

    go_name = "sockaddr.IfAddr"

    def __init__(self, interface: Interface, address: Address) -> None:
        self.interface, self.address = interface, address


def sockaddr(interfaces: Sequence[Interface], pipeline: str) -> str:
    """Raises Refusal."""
    from template.parser import parse_text
    from template.render import Rendering
    from template.scanner import Source

    if len(pipeline) > 4096:
        raise Refusal("sockaddr: longer than 4096 characters")
    functions: dict[str, Callable[..., object]] = {
        **{name: partial(function, interfaces) for name, function in _SOURCES.items()},
        **_STAGES,
    }
    source = Source("sockaddr", "{{" + pipeline + "}}")
    try:
        parsed = parse_text(source, "{{", "}}", functions)
        return Rendering(source, {}, functions, "zero", CURRENT.get() or Budget()).run(parsed.body, None)
    except TemplateFault as fault:
        raise Refusal(fault.words) from None


def _all(interfaces: Sequence[Interface]) -> list[_One]:
    found: list[_One] = []
    for interface in interfaces:
        try:
            found.append(_One(interface, ipaddress.ip_interface(interface.network)))
        except ValueError:
            continue
    # IPv4 first, as go-sockaddr's own default order has it.
    return sorted(found, key=lambda one: (one.address.version, not one.interface.is_default))


def _ones(values: object) -> list[_One]:
    if not isinstance(values, list) or not all(isinstance(one, _One) for one in values):
        raise Refusal("expected a list of addresses")
    return values


def _is_private(one: _One) -> bool:
    return any(one.address.version == net.version and one.address.ip in net for net in _PRIVATE)


def _is_usable(one: _One) -> bool:
    return not one.address.ip.is_loopback and not one.address.ip.is_link_local and "down" not in one.interface.flags


def _private(interfaces: Sequence[Interface]) -> list[_One]:
    return [one for one in _ones(_all(interfaces)) if _is_usable(one) and _is_private(one)]


def _public(interfaces: Sequence[Interface]) -> list[_One]:
    return [one for one in _ones(_all(interfaces)) if _is_usable(one) and not _is_private(one)]


def _default(interfaces: Sequence[Interface]) -> list[_One]:
    return [one for one in _ones(_all(interfaces)) if one.interface.is_default]


def _ips(found: Sequence[object]) -> str:
    return " ".join(str(one.address.ip) for one in found if isinstance(one, _One))


def _of_default(found: Sequence[object]) -> Sequence[object]:
    """Those of the default route's interface, where there are any."""
    return [one for one in found if isinstance(one, _One) and one.interface.is_default] or found


def _private_ip(interfaces: Sequence[Interface]) -> str:
    return _ips(_of_default(_private(interfaces))[:1])


def _private_ips(interfaces: Sequence[Interface]) -> str:
    return _ips(_private(interfaces))


def _public_ip(interfaces: Sequence[Interface]) -> str:
    return _ips(_of_default(_public(interfaces))[:1])


def _public_ips(interfaces: Sequence[Interface]) -> str:
    return _ips(_public(interfaces))


def _interface_ip(interfaces: Sequence[Interface], name: str) -> str:
    return _ips([one for one in _ones(_all(interfaces)) if regex_match(name, one.interface.name)][:1])


def _interface_ips(interfaces: Sequence[Interface], name: str) -> str:
    return _ips([one for one in _ones(_all(interfaces)) if regex_match(name, one.interface.name)])


_SOURCES: Mapping[str, Callable[..., object]] = {
    "GetAllInterfaces": _all,
    "GetDefaultInterfaces": _default,
    "GetPrivateInterfaces": _private,
    "GetPublicInterfaces": _public,
    "GetPrivateIP": _private_ip,
    "GetPrivateIPs": _private_ips,
    "GetPublicIP": _public_ip,
    "GetPublicIPs": _public_ips,
    "GetInterfaceIP": _interface_ip,
    "GetInterfaceIPs": _interface_ips,
}


def _fits(one: _One, by: str, wanted: str) -> bool:
    """Whether any of the alternatives (divided by |) is true of it."""
    return any(_is(one, by.lower(), each) for each in (wanted.split("|") if by.lower() not in ("name", "address") else [wanted]))


def _is(one: _One, by: str, wanted: str) -> bool:
    match by:
        case "name":
            return regex_match(wanted, one.interface.name)
        case "address":
            return regex_match(wanted, str(one.address.ip))
        case "network":
            return _within(one, wanted)
        case "rfc":
            if wanted not in _RFC:
                raise Refusal(f"RFC {wanted[:20]} is not known (known: {', '.join(sorted(_RFC))})")
            return any(_within(one, network) for network in _RFC[wanted])
        case "type":
            return wanted.lower() in ("ip", f"ipv{one.address.version}")
        case "size":
            return str(one.address.network.prefixlen) == wanted.removeprefix("/")
        case "flag" | "flags":
            return _flag(one, wanted)
    raise Refusal("include and exclude know name, address, network, rfc, type, size and flags")


def _flag(one: _One, wanted: str) -> bool:
    known = {
        "loopback": one.address.ip.is_loopback,
        "linklocalunicast": one.address.ip.is_link_local,
        "forwardable": _is_usable(one),
        "globalunicast": not (one.address.ip.is_loopback or one.address.ip.is_link_local or one.address.ip.is_multicast),
    }
    name = wanted.lower().replace("-", "")
    return known[name] if name in known else wanted.lower() in one.interface.flags


def _within(one: _One, network: str) -> bool:
    try:
        net = ipaddress.ip_network(network, strict=False)
    except ValueError:
        raise Refusal("expected a network in CIDR form") from None
    return net.version == one.address.version and one.address.ip in net


def _include(by: str, wanted: str, values: object) -> list[_One]:
    return [one for one in _ones(values) if _fits(one, by, wanted)]


def _exclude(by: str, wanted: str, values: object) -> list[_One]:
    return [one for one in _ones(values) if not _fits(one, by, wanted)]


_ORDERS: Mapping[str, Callable[[_One], tuple[object, ...]]] = {
    "address": lambda one: (one.address.version, int(one.address.ip)),
    "name": lambda one: (one.interface.name,),
    "size": lambda one: (-(one.address.network.max_prefixlen - one.address.network.prefixlen),),
    "type": lambda one: (one.address.version,),
    "default": lambda one: (not one.interface.is_default,),
    "private": lambda one: (not _is_private(one),),
}


def _sort(by: str, values: object) -> list[_One]:
    found = _ones(values)
    for name in reversed(by.split(",")):
        order = _ORDERS.get(name.strip().lstrip("+-"))
        if order is None:
            raise Refusal(f"sort knows {', '.join(sorted(_ORDERS))}")
        found = sorted(found, key=order, reverse=name.strip().startswith("-"))
    return list(found)


def _limit(count: int, values: object) -> list[_One]:
    return list(_ones(values)[: max(0, count)])


def _offset(count: int, values: object) -> list[_One]:
    return list(_ones(values)[max(0, count) :])


def _unique(by: str, values: object) -> list[_One]:
    return list({_attribute(one, by): one for one in reversed(_ones(values))}.values())[::-1]


def _attr(by: str, values: object) -> str:
    """Of the first."""
    found = [values] if isinstance(values, _One) else _ones(values)
    return _attribute(found[0], by) if found else ""


def _join(by: str, separator: str, values: object) -> str:
    return separator.join(_attribute(one, by) for one in _ones(values))


def _attribute(one: _One, by: str) -> str:
    network = one.address.network
    match by.lower():
        case "address" | "host":
            return str(one.address.ip)
        case "name":
            return one.interface.name
        case "network":
            return str(network)
        case "string":
            return str(one.address)
        case "type":
            return f"IPv{one.address.version}"
        case "mask_bits":
            return str(network.prefixlen)
        case "netmask":
            return str(network.netmask)
        case "size":
            return str(network.num_addresses)
        case "broadcast":
            return str(network.broadcast_address)
        case "first_usable":
            return str(network[1] if network.num_addresses > 2 else network[0])
        case "last_usable":
            return str(network[-2] if network.num_addresses > 2 else network[-1])
        case "flags":
            return "|".join(one.interface.flags)
    raise Refusal("attr and join know address, name, network, type, size, netmask, mask_bits, broadcast, flags and string")


_STAGES: Mapping[str, Callable[..., object]] = {
    "include": _include,
    "exclude": _exclude,
    "sort": _sort,
    "limit": _limit,
    "offset": _offset,
    "unique": _unique,
    "attr": _attr,
    "join": _join,
}
