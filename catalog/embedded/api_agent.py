"""What do the agent's own endpoints answer? They need no server."""

import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from catalog.embedded.answers import Fields, Refused, Response, as_json, empty, read_fields
from catalog.embedded.checks import DURATION_FIELDS, CheckDefinition, cut_output, read_check
from catalog.embedded.filters import keep
from catalog.embedded.local import LocalAgent
from catalog.embedded.reads import Request
from catalog.embedded.records import (
    SERF_HEALTH,
    STATUSES,
    AgentService,
    Check,
    Service,
    ServiceAddress,
    Status,
    Weights,
    agent_service,
)

AGENT = "/v1/agent/"
VERSION = "1.8.7"

_SERVICE_FIELDS = (
    "ID", "Name", "Tags", "Address", "TaggedAddresses", "Meta", "Port", "Weights", "EnableTagOverride",
    "Check", "Checks", "Kind", "Token", "Namespace", "Proxy", "Connect",
)  # fmt: skip
_SERVICE_BAD_STATUS = "Status for checks must 'passing', 'warning', 'critical'"
_LONG_DEFINITION = {
    "Interval": "0s", "Timeout": "0s", "DeregisterCriticalServiceAfter": "0s", "HTTP": "", "Header": None,
    "Method": "", "Body": "", "TLSSkipVerify": False, "TCP": "",
}  # fmt: skip


async def agent_self(agent: LocalAgent, request: Request) -> Response:
    """GET /v1/agent/self."""
    node = agent.node()
    return as_json(
        {
            "Config": {
                "Datacenter": agent.state.datacenter,
                "NodeName": agent.node_name,
                "NodeID": agent.node_id,
                "Revision": "",
                "Server": agent.is_server,
                "Version": VERSION,
            },
            "DebugConfig": {"ACLsEnabled": False, "AdvertiseAddrLAN": agent.address},
            "Member": _member(agent, agent.node_name, agent.address, is_alive=True),
            "Stats": {},
            "Meta": node.meta,
            # No real Consul says so: by it a drover knows whose Consul it found.
            "DroverEmbedded": True,
        }
    )


async def members(agent: LocalAgent, request: Request) -> Response:
    """GET /v1/agent/members: what the gossip sees, that is the nodes with a serfHealth check."""
    found: list[dict[str, Any]] = []
    for node in agent.state.registry.nodes():
        serf = agent.state.registry.check(node.node, SERF_HEALTH)
        if serf is not None:
            is_alive = serf.status == Status.PASSING
            found.append(_member(agent, node.node, node.address, is_alive=is_alive))
    return as_json(found)


async def metrics(agent: LocalAgent, request: Request) -> Response:
    """GET /v1/agent/metrics: the shape, and the few numbers there are."""
    now = datetime.fromtimestamp(agent.state.loop.time(), UTC)
    gauge = {"Name": "consul.raft.applied_index", "Value": agent.state.raft_index, "Labels": {}}
    return as_json(
        {
            "Timestamp": now.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
            "Gauges": [gauge],
            "Points": [],
            "Counters": [],
            "Samples": [],
        }
    )


async def services(agent: LocalAgent, request: Request) -> Response:
    """GET /v1/agent/services."""
    found = [agent_service(agent.services[id]) for id in sorted(agent.services)]
    kept = keep(found, request.params.get("filter", ""), AgentService)
    return as_json({service.id: service for service in kept})


async def service(agent: LocalAgent, request: Request) -> Response:
    """GET /v1/agent/service/<id>; not blocking."""
    id = request.rest(AGENT + "service/")
    found = agent.services.get(id)
    if found is None:
        raise Refused(404, f"unknown service ID: {id}")
    digest = hashlib.blake2b(msgspec.json.encode(agent_service(found)), digest_size=8).hexdigest()
    return as_json(agent_service(found, digest), {"X-Consul-Contenthash": digest})


async def checks(agent: LocalAgent, request: Request) -> Response:
    """GET /v1/agent/checks."""
    found = [agent.checks[id].check for id in sorted(agent.checks)]
    kept = keep(found, request.params.get("filter", ""), Check)
    return as_json({check.check_id: check for check in kept})


async def service_health(agent: LocalAgent, request: Request) -> Response:
    """GET /v1/agent/health/service/id/<id>: 200 passing, 429 warning, 503 critical."""
    id = request.rest(AGENT + "health/service/id/")
    found = agent.services.get(id)
    own = [local.check for local in agent.checks.values() if local.definition.service_id == id]
    counted = [local.check for local in agent.checks.values() if local.definition.service_id in (id, "")]
    aggregate, status = _aggregate(counted)
    reason = aggregate
    if found is None:
        aggregate, status, reason = "critical", 404, f"ServiceId {id} not found"
    if request.params.get("format") == "text":
        text = {"Content-Type": "text/plain", "X-Consul-Reason": reason}
        return Response(status=status, headers=text, body=aggregate.encode())
    long = [msgspec.structs.replace(check, type="", definition=_LONG_DEFINITION) for check in own]
    document = {
        "AggregatedStatus": aggregate,
        "Service": agent_service(found) if found else None,
        "Checks": long if found else None,
    }
    return as_json(document, {"X-Consul-Reason": reason}, status)


async def register_service(agent: LocalAgent, request: Request) -> Response:
    """PUT /v1/agent/service/register."""
    fields = read_fields(request.body)
    fields.only(*_SERVICE_FIELDS)
    documents = [fields.nested("Check")] if fields.has("Check") else []
    documents += fields.nested_items("Checks")
    for document in documents:  # the whole body is decoded before anything in it is judged
        for name in DURATION_FIELDS:
            document.duration_s(name)
    wanted = _read_service(fields)
    definitions = [read_check(document, bad_status=_SERVICE_BAD_STATUS) for document in documents if document]
    agent.add_service(
        wanted,
        _named(wanted, definitions),
        replaces_checks=request.params.get("replace-existing-checks", "false") in ("", "true"),
    )
    return empty()


async def deregister_service(agent: LocalAgent, request: Request) -> Response:
    """PUT /v1/agent/service/deregister/<id>: an unknown one is no error on 1.8.7."""
    id = request.rest(AGENT + "service/deregister/")
    if not id:
        raise Refused(500, "ServiceID missing")
    agent.remove_service(id)
    return empty()


async def register_check(agent: LocalAgent, request: Request) -> Response:
    """PUT /v1/agent/check/register."""
    fields = read_fields(request.body)
    if not fields.text("Name"):
        raise Refused(400, "Missing check name")
    definition = read_check(fields, bad_status="Bad check status")
    id = definition.id or definition.name
    agent.add_check(replace(definition, id=id))
    return empty()


async def deregister_check(agent: LocalAgent, request: Request) -> Response:
    """PUT /v1/agent/check/deregister/<id>."""
    agent.remove_check(request.rest(AGENT + "check/deregister/"))
    return empty()


async def check_pass(agent: LocalAgent, request: Request) -> Response:
    """PUT /v1/agent/check/pass/<id>?note=."""
    return _set_ttl(agent, request, "pass/", Status.PASSING)


async def check_warn(agent: LocalAgent, request: Request) -> Response:
    """PUT /v1/agent/check/warn/<id>?note=."""
    return _set_ttl(agent, request, "warn/", Status.WARNING)


async def check_fail(agent: LocalAgent, request: Request) -> Response:
    """PUT /v1/agent/check/fail/<id>?note=."""
    return _set_ttl(agent, request, "fail/", Status.CRITICAL)


async def check_update(agent: LocalAgent, request: Request) -> Response:
    """PUT /v1/agent/check/update/<id> with Status and Output."""
    fields = read_fields(request.body)
    status = fields.text("Status")
    if status not in STATUSES:
        raise Refused(400, f"Invalid check status: '{status}'")
    id = request.rest(AGENT + "check/update/")
    agent.set_ttl(id, Status(status), cut_output(fields.text("Output")))
    return empty()


def _set_ttl(agent: LocalAgent, request: Request, verb: str, status: Status) -> Response:
    id = request.rest(f"{AGENT}check/{verb}")
    agent.set_ttl(id, status, cut_output(request.params.get("note", "")))
    return empty()


def _read_service(fields: Fields) -> Service:
    """Raises Refused(400) with real Consul's words."""
    name = fields.text("Name")
    if not name:
        raise Refused(400, "Missing service name")
    address, port = fields.text("Address"), fields.number("Port")
    if address in ("0.0.0.0", "::", "[::]"):
        raise Refused(400, "Invalid service address")
    meta = {key: str(value) for key, value in fields.mapping("Meta").items()}
    for key, value in meta.items():
        _check_meta(key, value)
    weights = fields.nested("Weights")
    if fields.has("Weights") and weights.number("Passing") < 1:
        raise Refused(400, "Invalid Weights: Passing must be greater than 0")
    tagged = {
        key: ServiceAddress(address=str(value.get("Address", "")), port=int(value.get("Port", 0)))
        for key, value in fields.mapping("TaggedAddresses").items()
    }
    if address and re.fullmatch(r"[0-9.]+", address):
        for key in ("lan_ipv4", "wan_ipv4"):
            tagged.setdefault(key, ServiceAddress(address=address, port=port))
    return Service(
        id=fields.text("ID") or name,
        service=name,
        tags=tuple(str(tag) for tag in fields.items("Tags")),
        address=address,
        tagged_addresses=dict(sorted(tagged.items())) or UNSET,
        meta=dict(sorted(meta.items())) or None,
        port=port,
        weights=Weights(passing=weights.number("Passing", 1), warning=weights.number("Warning", 1)),
        enable_tag_override=fields.flag("EnableTagOverride"),
    )


def _check_meta(key: str, value: str) -> None:
    problem = ""
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", key):
        problem = "Key contains invalid characters"
    elif len(key) > 128:
        problem = "Key is too long (limit: 128 characters)"
    elif key.startswith("consul-"):
        problem = "Key prefix 'consul-' is reserved for internal use"
    elif len(value) > 512:
        problem = "Value is too long (limit: 512 characters)"
    if problem:
        raise Refused(
            400, f"Invalid Service Meta: Couldn't load metadata pair ('{key}', '{value}'): {problem}"
        )


def _named(service: Service, definitions: list[CheckDefinition]) -> list[CheckDefinition]:
    """Checks without an id get the service's, numbered from 1 when there are several."""
    named: list[CheckDefinition] = []
    for number, definition in enumerate(definitions, start=1):
        suffix = f":{number}" if len(definitions) > 1 else ""
        named.append(
            replace(
                definition,
                id=definition.id or f"service:{service.id}{suffix}",
                name=definition.name or f"Service '{service.service}' check",
                service_id=service.id,
            )
        )
    return named


def _aggregate(checks: list[Check]) -> tuple[str, int]:
    statuses = {check.status for check in checks}
    if Status.CRITICAL in statuses:
        return "critical", 503
    if Status.WARNING in statuses:
        return "warning", 429
    return "passing", 200


def _member(agent: LocalAgent, name: str, address: str, *, is_alive: bool) -> dict[str, Any]:
    node = agent.state.registry.node(name)
    is_server = "consul" in agent.state.registry.services_of(name)
    return {
        "Name": name,
        "Addr": address,
        "Port": 8301,
        "Tags": {
            "dc": agent.state.datacenter,
            "id": node.id if node else "",
            "role": "consul" if is_server else "node",
            "build": f"{VERSION}:",
        },
        "Status": 1 if is_alive else 4,
        "ProtocolMin": 1,
        "ProtocolMax": 5,
        "ProtocolCur": 2,
        "DelegateMin": 2,
        "DelegateMax": 5,
        "DelegateCur": 4,
    }
