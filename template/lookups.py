"""What can a template look up, and who answers?

The functions of consul-template that ask Consul, Vault or the machine become a Read each: one thing wanted, plain
data that can be compared, logged and watched. The caller supplies Lookups, which answers from what it holds:

    render ──Read──> Lookups ──> an answer                      used
                             ──> Missing                        noted; an empty answer stands in, the pass goes on

The documents here have consul-template's field names (`.ServiceMeta`, `.NodeAddress`, `.Data`) as their wire names.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NoReturn, Protocol

import msgspec

from model.wire import Document
from template.faults import Refusal

# Of what is looked up, in characters: Consul's keys are no longer than 512, and the forms below take time with the square.
NAME_MAX = 1024


class What(StrEnum):
    KEY = "key"
    PAIRS = "pairs"
    SERVICE = "service"
    SERVICES = "services"
    NODE = "node"
    NODES = "nodes"
    DATACENTERS = "datacenters"
    SECRET = "secret"
    SECRETS = "secrets"
    ENV = "env"
    FILE = "file"
    INTERFACES = "interfaces"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Read:
    """One thing that a template wants to know. Empty: not said.

    name: key, prefix (of PAIRS: all below it), service, node (none: the one that renders), path of a secret, variable, file.
    states: of SERVICE, which health its instances may have, sorted; `any` among them: all.
    arguments: of SECRET, ("name=value", …) that are written to the path instead of reading it.
    options: of Consul ("ns", "partition", "peer", …) with their values, sorted.
    """

    what: What
    name: str = ""
    tag: str = ""
    datacenter: str = ""
    near: str = ""
    states: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """For people; without arguments, which may hold secrets."""
        tag = f"{self.tag}." if self.tag else ""
        datacenter = f"@{self.datacenter}" if self.datacenter else ""
        near = f"~{self.near}" if self.near else ""
        return f"{self.what} {tag}{self.name}{datacenter}{near}".rstrip()


class Pair(Document, frozen=True, kw_only=True):
    """A key with its value. key: below the prefix that was asked for; path: the whole of it."""

    path: str
    key: str
    value: str
    create_index: int = 0
    modify_index: int = 0
    lock_index: int = 0
    flags: int = 0
    session: str = ""
    exists: bool = True


class Check(Document, frozen=True, kw_only=True):
    name: str = ""
    node: str = ""
    check_id: str = msgspec.field(default="", name="CheckID")
    status: str = ""
    notes: str = ""
    output: str = ""
    service_id: str = msgspec.field(default="", name="ServiceID")
    service_name: str = ""


class Weights(Document, frozen=True, kw_only=True):
    passing: int = 1
    warning: int = 1


class Instance(Document, frozen=True, kw_only=True):
    """One instance of a service, as `service` lists them. address: the service's, else its node's."""

    node: str
    node_id: str = ""
    node_address: str
    node_datacenter: str = ""
    node_tagged_addresses: Mapping[str, str] = {}
    node_meta: Mapping[str, str] = {}
    service_meta: Mapping[str, str] = {}
    address: str
    id: str
    name: str
    tags: Sequence[str] = ()
    checks: Sequence[Check] = ()
    status: str = "passing"
    port: int = 0
    weights: Weights = Weights()
    namespace: str = ""
    partition: str = ""


class Snippet(Document, frozen=True, kw_only=True):
    """A service of the catalog, as `services` lists them."""

    name: str
    tags: Sequence[str] = ()


class Machine(Document, frozen=True, kw_only=True):
    """A node of the catalog."""

    id: str
    node: str
    address: str
    datacenter: str = ""
    tagged_addresses: Mapping[str, str] = {}
    meta: Mapping[str, str] = {}


class MachineService(Document, frozen=True, kw_only=True):
    id: str
    service: str
    tags: Sequence[str] = ()
    meta: Mapping[str, str] = {}
    port: int = 0
    address: str = ""
    enable_tag_override: bool = False


class MachineWithServices(Document, frozen=True, kw_only=True):
    """What `node` answers."""

    node: Machine
    services: Sequence[MachineService] = ()


class Secret(Document, frozen=True, kw_only=True):
    """What Vault answered. data: as it came; of KV's second version the values are under `data` in it."""

    data: Mapping[str, object]
    request_id: str = ""
    lease_id: str = ""
    lease_duration: int = 0
    renewable: bool = False
    warnings: Sequence[str] = ()
    auth: object = None
    wrap_info: object = None


class Interface(Document, frozen=True, kw_only=True):
    """An address of the machine, for `sockaddr`. network: address and prefix length (`10.0.0.5/24`)."""

    name: str
    network: str
    flags: Sequence[str] = ()
    is_default: bool = False


class Lookups(Protocol):
    """Answers from what is at hand, at once. Each may raise Missing with the Read it was given.

    None: it is known not to be there. Lists are in the order in which they are to be shown.
    """

    def env(self, name: str) -> str | None: ...
    def file(self, read: Read) -> str | None: ...
    def key(self, read: Read) -> Pair | None: ...
    def pairs(self, read: Read) -> Sequence[Pair]: ...
    def service(self, read: Read) -> Sequence[Instance]: ...
    def services(self, read: Read) -> Sequence[Snippet]: ...
    def node(self, read: Read) -> MachineWithServices | None: ...
    def nodes(self, read: Read) -> Sequence[Machine]: ...
    def datacenters(self, read: Read) -> Sequence[str]: ...
    def secret(self, read: Read) -> Secret | None: ...
    def secrets(self, read: Read) -> Sequence[str]: ...
    def interfaces(self, read: Read) -> Sequence[Interface]: ...


class Nowhere:
    """Lookups where there is nothing to look up: each is refused."""

    def env(self, name: str) -> str | None:
        raise Refusal("there is no environment here")

    def _refuse(self, read: Read) -> NoReturn:
        raise Refusal("there is nothing to look up here")

    file = key = pairs = service = services = node = nodes = datacenters = secret = secrets = interfaces = _refuse


_DATACENTER = r"(?:@(?P<datacenter>[\w.-]+))?"
_NEAR = r"(?:~(?P<near>[\w.-]+))?"
_OPTIONS = r"(?:\?(?P<options>[\w=&:.-]*))?"
_SERVICE = re.compile(
    rf"(?:(?P<tag>[\w=:.-]+)\.)?(?P<name>[\w-]+){_OPTIONS}{_DATACENTER}{_NEAR}(?:\|(?P<states>[\w,]+))?", re.ASCII
)
_NODE = re.compile(rf"(?P<name>[\w.-]+){_OPTIONS}{_DATACENTER}", re.ASCII)
_CATALOG = re.compile(rf"{_OPTIONS}{_DATACENTER}{_NEAR}", re.ASCII)
_KEY = re.compile(rf"/?(?P<name>[^@]+?){_OPTIONS}{_DATACENTER}")
_PREFIX = re.compile(rf"/?(?P<name>[^@]*?){_OPTIONS}{_DATACENTER}")
_STATES = {"any", "passing", "warning", "critical", "maintenance"}


def read_of(function: str, arguments: Sequence[str]) -> Read | None:
    """What a call of a function with these arguments asks for; None: nothing (an empty name, a function of another kind).

    Raises Refusal for a text of another form.
    """
    first = arguments[0] if arguments else ""
    match function:
        case "key" | "keyOrDefault" | "keyExists" | "keyExistsGet":
            return _matched(What.KEY, _KEY, first, "key?options@datacenter") if first else None
        case "ls" | "safeLs" | "tree" | "safeTree":
            return _matched(What.PAIRS, _PREFIX, first, "prefix?options@datacenter")
        case "service":
            return _service("|".join(arguments)) if first else None
        case "services" | "nodes":
            return _matched(What(function), _CATALOG, first, "@datacenter~near")
        case "node":
            return _matched(What.NODE, _NODE, first, "name@datacenter") if first else Read(what=What.NODE)
        case "datacenters":
            return Read(what=What.DATACENTERS)
        case "secret":
            return Read(what=What.SECRET, name=first.strip("/"), arguments=tuple(arguments[1:])) if first else None
        case "secrets":
            return Read(what=What.SECRETS, name=first.strip("/")) if first else None
        case "env" | "envOrDefault" | "mustEnv":
            return Read(what=What.ENV, name=first)
        case "file":
            return Read(what=What.FILE, name=first) if first else None
        case "sockaddr":
            return Read(what=What.INTERFACES)
        case _:
            return None


def _service(text: str) -> Read:
    read = _matched(What.SERVICE, _SERVICE, text, "tag.name?options@datacenter~near|states")
    states = tuple(sorted(set(text.partition("|")[2].split(",")) - {""})) or ("passing",)
    unknown = [state for state in states if state not in _STATES]
    if unknown:
        raise Refusal(f'"{unknown[0]}" is no health state (known: {", ".join(sorted(_STATES))})')
    return replace(read, states=states)


def _matched(what: What, form: "re.Pattern[str]", text: str, expected: str) -> Read:
    match = form.fullmatch(text) if len(text) <= NAME_MAX else None
    if match is None:
        raise Refusal(f"what is asked for is not of the form {expected}")
    found = match.groupdict()
    options = tuple(sorted(tuple(one.partition("=")[::2]) for one in (found.get("options") or "").split("&") if one))
    return Read(
        what=what,
        name=found.get("name") or "",
        tag=found.get("tag") or "",
        datacenter=found.get("datacenter") or "",
        near=found.get("near") or "",
        options=options,
    )
