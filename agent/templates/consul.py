"""What does Consul say to a Read, in the documents that templates know?

consul-template's rules: which instances count as healthy, how lists are sorted, what stands for an address that is not set.
"""

from collections.abc import Mapping, Sequence

from catalog.lookups import Asking, CatalogNode, Entry, Found, Key, Lookups, NodeServices
from model.errors import StoreRefused
from template import (
    Check,
    Instance,
    Machine,
    MachineService,
    MachineWithServices,
    Pair,
    Read,
    Snippet,
    Weights,
    What,
)

# Parameters of a question that Consul knows; ?ns= and its like are refused by Consul itself where it has none.
_OPTIONS = ("ns", "partition", "peer", "sameness-group")
_NODE_MAINTENANCE, _SERVICE_MAINTENANCE = "_node_maintenance", "_service_maintenance:"
_WORST_FIRST = ("maintenance", "critical", "warning", "passing")


class ConsulReads:
    """node_name: this machine's in Consul, for `node` without a name. hidden: a key below which nothing is shown."""

    def __init__(self, lookups: Lookups, node_name: str, hidden: str) -> None:
        self._lookups, self._node_name, self._hidden = lookups, node_name, f"{hidden.strip('/')}/"

    def is_hidden(self, read: Read) -> bool:
        """Whether a Read asks for what no template may see."""
        return read.what in (What.KEY, What.PAIRS) and f"{read.name.lstrip('/')}/".startswith(self._hidden)

    def is_above_hidden(self, read: Read) -> bool:
        """Whether what it lists would hold all that is hidden, if that were shown."""
        return read.what is What.PAIRS and self._hidden.startswith(read.name.lstrip("/"))

    async def ask(self, read: Read, index: int, wait_s: float) -> Found[object]:
        """index: of the answer before, 0 for one at once. Raises StoreUnavailable, StoreForbidden, StoreRefused."""
        options = dict(read.options)
        unknown = sorted(set(options) - set(_OPTIONS))
        if {".", ".."} & set(read.name.split("/")):
            # Where a URL is tidied up on its way it would lead elsewhere, to what is hidden or to another endpoint.
            raise StoreRefused(f'"{read.name}" has a segment that no path can have')
        if unknown:
            raise StoreRefused(f"drover knows no option {unknown[0]!r} of a lookup")
        if read.near:
            options["near"] = read.near
        asking = Asking(index=index, wait_s=wait_s, datacenter=read.datacenter, options=options)
        match read.what:
            case What.KEY:
                key = await self._lookups.key(read.name, asking)
                return Found(None if key.value is None else _pair(key.value, key.value.key), key.index)
            case What.PAIRS:
                keys = await self._lookups.keys(read.name, asking)
                return Found(self._pairs(read.name, keys.value), keys.index)
            case What.SERVICE:
                is_passing = read.states == ("passing",)
                entries = await self._lookups.service(read.name, read.tag, asking, is_passing=is_passing)
                return Found(_instances(read, entries.value), entries.index)
            case What.SERVICES:
                tags = await self._lookups.services(asking)
                return Found(_snippets(tags.value), tags.index)
            case What.NODE:
                node = await self._lookups.node(read.name or self._node_name, asking)
                return Found(None if node.value is None else _with_services(node.value), node.index)
            case What.NODES:
                nodes = await self._lookups.nodes(asking)
                machines = tuple(map(_machine, nodes.value))
                return Found(machines if read.near else tuple(sorted(machines, key=lambda one: (one.node, one.address))), nodes.index)
            case What.DATACENTERS:
                names = await self._lookups.datacenters()
                return Found(tuple(sorted(names.value)), 0)
            case _:
                raise StoreRefused(f"{read} is not Consul's to answer")

    def _pairs(self, prefix: str, keys: Sequence[Key]) -> tuple[Pair, ...]:
        return tuple(
            _pair(one, one.key.removeprefix(prefix).lstrip("/")) for one in keys if not one.key.startswith(self._hidden)
        )


def _pair(found: Key, shown: str) -> Pair:
    """Bytes that are no UTF-8 are surrogates, and become the same bytes in the file."""
    return Pair(
        path=found.key,
        key=shown,
        value=(found.value or b"").decode("utf-8", "surrogateescape"),
        create_index=found.create_index,
        modify_index=found.modify_index,
        lock_index=found.lock_index,
        flags=found.flags,
        session=found.session,
    )


def _instances(read: Read, entries: Sequence[Entry]) -> tuple[Instance, ...]:
    """By node and id; nearest first if that was asked for."""
    wanted = None if "any" in read.states else set(read.states)
    found = [one for one in map(_instance, entries) if wanted is None or one.status in wanted]
    return tuple(found if read.near else sorted(found, key=lambda one: (one.node, one.id)))


def _instance(entry: Entry) -> Instance:
    node, service = entry.node, entry.service
    weights = service.weights
    return Instance(
        node=node.node,
        node_id=node.id,
        node_address=node.address,
        node_datacenter=node.datacenter,
        node_tagged_addresses=node.tagged_addresses or {},
        node_meta=node.meta or {},
        service_meta=service.meta or {},
        address=service.address or node.address,
        id=service.id,
        name=service.service,
        tags=tuple(sorted(service.tags or ())),
        checks=tuple(
            Check(
                name=check.name,
                node=check.node,
                check_id=check.check_id,
                status=check.status,
                notes=check.notes,
                output=check.output,
                service_id=check.service_id,
                service_name=check.service_name,
            )
            for check in entry.checks
        ),
        status=_status(entry),
        port=service.port,
        weights=Weights(passing=weights.passing, warning=weights.warning) if weights else Weights(),
        namespace=service.namespace,
        partition=service.partition,
    )


def _status(entry: Entry) -> str:
    """The worst of its checks."""
    found = {
        "maintenance" if check.check_id == _NODE_MAINTENANCE or check.check_id.startswith(_SERVICE_MAINTENANCE) else check.status
        for check in entry.checks
    }
    return next((status for status in _WORST_FIRST if status in found), "passing")


def _snippets(tags: Mapping[str, Sequence[str]]) -> tuple[Snippet, ...]:
    return tuple(Snippet(name=name, tags=tuple(sorted(tags[name]))) for name in sorted(tags))


def _machine(node: CatalogNode) -> Machine:
    return Machine(
        id=node.id,
        node=node.node,
        address=node.address,
        datacenter=node.datacenter,
        tagged_addresses=node.tagged_addresses or {},
        meta=node.meta or {},
    )


def _with_services(found: NodeServices) -> MachineWithServices:
    services = sorted(found.services.values(), key=lambda one: (one.service, one.id))
    return MachineWithServices(
        node=_machine(found.node),
        services=tuple(
            MachineService(
                id=one.id,
                service=one.service,
                tags=tuple(sorted(one.tags or ())),
                meta=one.meta or {},
                port=one.port,
                address=one.address,
                enable_tag_override=one.enable_tag_override,
            )
            for one in services
        ),
    )
