"""What do /v1/catalog, /v1/health, /v1/status and /v1/operator answer?"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from catalog.embedded.answers import Fields, Refused, Response, as_json, is_flagged, read_fields
from catalog.embedded.filters import keep
from catalog.embedded.reads import Link, Read, Request, answer, options_of, servers_for
from catalog.embedded.records import (
    CatalogNode,
    CatalogService,
    Check,
    Node,
    Service,
    ServiceAddress,
    ServiceEntry,
    Status,
    Weights,
    catalog_service,
)
from catalog.embedded.state import ConsulState
from catalog.embedded.watches import Kind, Topic

R = TypeVar("R", bound=msgspec.Struct)

Handler = Callable[[Link, Request], Any]


async def nodes(link: Link, request: Request) -> Response:
    """GET /v1/catalog/nodes."""

    def read(state: ConsulState) -> Read:
        found = [node for node in state.registry.nodes() if _has_meta(node, request)]
        return Read(
            index=state.registry.indexes.nodes,
            topics=(Topic(Kind.NODES),),
            found=keep(found, _filter(request), Node),
        )

    return await answer(link, request, read, names_consistency=True)


async def services(link: Link, request: Request) -> Response:
    """GET /v1/catalog/services: names and their tags."""

    def read(state: ConsulState) -> Read:
        indexes = state.registry.indexes
        if not request.all_of("node-meta"):
            return Read(
                index=indexes.services, topics=(Topic(Kind.SERVICES),), found=state.registry.service_tags()
            )
        on = [node.node for node in state.registry.nodes() if _has_meta(node, request)]
        return Read(
            index=max(indexes.nodes, indexes.services),
            topics=(Topic(Kind.SERVICES), Topic(Kind.NODES)),
            found=state.registry.service_tags(on),
        )

    return await answer(link, request, read, names_consistency=True)


async def service(link: Link, request: Request) -> Response:
    """GET /v1/catalog/service/<name>."""
    name = _last(request, "/v1/catalog/service/", "Missing service name")

    def read(state: ConsulState) -> Read:
        found = [
            catalog_service(node, instance)
            for node, instance in state.registry.instances(name)
            if _has_tags(instance, request) and _has_meta(node, request)
        ]
        return Read(
            index=state.registry.service_index(name, with_checks=False),
            topics=_service_topics(state, name),
            found=keep(found, _filter(request), CatalogService),
        )

    return await answer(link, request, read, names_consistency=True)


async def node(link: Link, request: Request) -> Response:
    """GET /v1/catalog/node/<name>: null for one that is not there."""
    name = _last(request, "/v1/catalog/node/", "Missing node name")

    def read(state: ConsulState) -> Read:
        record = state.registry.node(name)
        topics = (Topic(Kind.NODE, name.lower()), Topic(Kind.NODES))
        if record is None:
            return Read(index=1, topics=topics, found=None)
        indexes = state.registry.indexes
        found = CatalogNode(node=record, services=state.registry.services_of(name))
        return Read(index=max(indexes.nodes, indexes.services), topics=topics[:1], found=found)

    return await answer(link, request, read, names_consistency=True)


async def datacenters(link: Link, request: Request) -> Response:
    """GET /v1/catalog/datacenters."""
    if not link.is_connected:
        raise Refused(500, "No cluster leader")
    return as_json(link.state.datacenters)


async def register(link: Link, request: Request) -> Response:
    """PUT /v1/catalog/register."""
    fields = read_fields(request.body)
    name = fields.text("Node")
    is_node_kept = fields.flag("SkipNodeUpdate")
    if not name or not (fields.text("Address") or is_node_kept):
        raise Refused(
            500,
            "Must provide address if SkipNodeUpdate is not set" if name else "Must provide node",
        )
    state = servers_for(link, fields.text("Datacenter") or request.params.get("dc", ""))
    record = Node(
        id=fields.text("ID"),
        node=name,
        address=fields.text("Address"),
        datacenter=state.datacenter,
        tagged_addresses=fields.mapping("TaggedAddresses") or None,
        meta=fields.mapping("NodeMeta") or None,
    )
    documents = fields.nested_items("Checks") + ([fields.nested("Check")] if fields.has("Check") else [])
    state.register(
        None if is_node_kept else record,
        name,
        _read_service(fields.nested("Service")) if fields.has("Service") else None,
        [_read_check(name, document) for document in documents],
    )
    return as_json(True)


async def deregister(link: Link, request: Request) -> Response:
    """PUT /v1/catalog/deregister: a service, a check, or without either the node."""
    fields = read_fields(request.body)
    name = fields.text("Node")
    if not name:
        raise Refused(500, "Must provide node")
    state = servers_for(link, fields.text("Datacenter") or request.params.get("dc", ""))
    if fields.text("ServiceID"):
        state.deregister_service(name, fields.text("ServiceID"))
    elif fields.text("CheckID"):
        state.deregister_check(name, fields.text("CheckID"))
    else:
        state.deregister_node(name)
    return as_json(True)


async def health_service(link: Link, request: Request) -> Response:
    """GET /v1/health/service/<name>, with passing, tag, node-meta and filter."""
    name = _last(request, "/v1/health/service/", "Missing service name")
    is_passing = _is_passing(request.params)

    def read(state: ConsulState) -> Read:
        found = [
            entry
            for entry in state.registry.entries(name)
            if _has_tags(entry.service, request)
            and _has_meta(entry.node, request)
            and not (is_passing and any(check.status != Status.PASSING for check in entry.checks))
        ]
        return Read(
            index=state.registry.service_index(name, with_checks=True),
            topics=_service_topics(state, name),
            found=keep(found, _filter(request), ServiceEntry),
        )

    return await answer(link, request, read, names_consistency=True)


async def health_node(link: Link, request: Request) -> Response:
    """GET /v1/health/node/<name>."""
    name = _last(request, "/v1/health/node/", "Missing node name")
    topic = Topic(Kind.NODE_CHECKS, name.lower())
    return await _checks(link, request, topic, lambda state: state.registry.checks_of(name))


async def health_checks(link: Link, request: Request) -> Response:
    """GET /v1/health/checks/<service>."""
    name = _last(request, "/v1/health/checks/", "Missing service name")
    topic = Topic(Kind.SERVICE_CHECKS, name.lower())
    return await _checks(link, request, topic, lambda state: state.registry.checks_for_service(name))


async def health_state(link: Link, request: Request) -> Response:
    """GET /v1/health/state/<state>; it wakes for every change of any check (measured)."""
    name = _last(request, "/v1/health/state/", "Missing check state")
    topic = Topic(Kind.STATE_CHECKS, "any")
    return await _checks(link, request, topic, lambda state: state.registry.checks_in(name))


async def status_leader(link: Link, request: Request) -> Response:
    """GET /v1/status/leader: "" while there is none."""
    if not link.is_connected:
        raise Refused(500, "No cluster leader")
    state = link.state.in_datacenter(request.params.get("dc", ""))
    return as_json("" if state.is_leaderless else state.leader_address)


async def status_peers(link: Link, request: Request) -> Response:
    """GET /v1/status/peers."""
    if not link.is_connected:
        raise Refused(500, "No cluster leader")
    return as_json([link.state.in_datacenter(request.params.get("dc", "")).leader_address])


async def raft_configuration(link: Link, request: Request) -> Response:
    """GET /v1/operator/raft/configuration: one server, the leader."""
    options = options_of(request)
    state = servers_for(link, options.datacenter, is_stale=options.is_stale)
    servers = state.registry.instances("consul")
    first = servers[0][0] if servers else None
    return as_json(
        {
            "Servers": [
                {
                    "ID": first.id if first else "",
                    "Node": first.node if first else "",
                    "Address": state.leader_address,
                    "Leader": not state.is_leaderless,
                    "ProtocolVersion": "3",
                    "Voter": True,
                }
            ],
            "Index": 0,
        }
    )


async def _checks(
    link: Link, request: Request, topic: Topic, find: Callable[[ConsulState], list[Check]]
) -> Response:
    return await answer(
        link,
        request,
        lambda state: Read(
            index=state.registry.indexes.checks,
            topics=(topic,),
            found=keep(find(state), _filter(request), Check),
        ),
        names_consistency=True,
    )


def _service_topics(state: ConsulState, name: str) -> tuple[Topic, ...]:
    """One that exists wakes for its own changes only; a missing one looks again at any service's."""
    own = Topic(Kind.SERVICE, name.lower())
    return (own,) if state.registry.instances(name) else (own, Topic(Kind.SERVICES))


def _last(request: Request, prefix: str, missing: str) -> str:
    name = request.rest(prefix)
    if not name:
        raise Refused(400, missing)
    return name


def _filter(request: Request) -> str:
    return request.params.get("filter", "")


def _is_passing(params: Mapping[str, str]) -> bool:
    if not is_flagged(params, "passing") or not params["passing"]:
        return is_flagged(params, "passing")
    if re.fullmatch(r"1|t|T|TRUE|true|True", params["passing"]):
        return True
    if re.fullmatch(r"0|f|F|FALSE|false|False", params["passing"]):
        return False
    raise Refused(400, "Invalid value for ?passing")


def _has_tags(service: Service, request: Request) -> bool:
    tags = {tag.lower() for tag in service.tags}
    return all(tag.lower() in tags for tag in request.all_of("tag"))


def _has_meta(node: Node, request: Request) -> bool:
    wanted = [pair.partition(":")[::2] for pair in request.all_of("node-meta")]
    return all((node.meta or {}).get(key) == value for key, value in wanted)


def _read_service(fields: Fields) -> Service:
    weights = fields.nested("Weights")
    return Service(
        id=fields.text("ID") or fields.text("Service"),
        service=fields.text("Service"),
        tags=tuple(str(tag) for tag in fields.items("Tags")),
        address=fields.text("Address"),
        tagged_addresses={
            name: ServiceAddress(address=str(value.get("Address", "")), port=int(value.get("Port", 0)))
            for name, value in fields.mapping("TaggedAddresses").items()
        }
        or UNSET,
        meta=fields.mapping("Meta") or None,
        port=fields.number("Port"),
        weights=Weights(passing=weights.number("Passing", 1), warning=weights.number("Warning", 1)),
        enable_tag_override=fields.flag("EnableTagOverride"),
    )


def _read_check(node: str, fields: Fields) -> Check:
    return Check(
        node=fields.text("Node") or node,
        check_id=fields.text("CheckID") or fields.text("Name"),
        name=fields.text("Name"),
        status=fields.text("Status") or Status.CRITICAL,
        notes=fields.text("Notes"),
        output=fields.text("Output"),
        service_id=fields.text("ServiceID"),
    )
