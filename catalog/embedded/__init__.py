"""How does drover run without a Consul, in `drover agent -dev` and in the simulator?

A small Consul of its own: the part of the HTTP API and the DNS that drover uses, with the answers of
Consul 1.8.7. One contract suite (tests/contract) runs against this and against a real one; where they
differ, this one is wrong. It is never the production path.

    ConsulState ── the servers of one datacenter: keys, sessions, catalog; one raft index; pure and synchronous
        ^  ^
        |  └─ ConsulAgent.request() ── one node's agent: its services and checks, and the HTTP API, no sockets
        |         ^              ^
        |     HttpServer     the simulator
        └─ DnsServer

    kv, registry        what is stored, and with which index a read of it answers
    watches, reads      blocking queries
    api_*               what each endpoint answers; answers: statuses, headers, Go's JSON and durations
    local, checks       the agent's own services and checks, anti-entropy; prober: how checks are probed
    filters             ?filter=

Left out: ACLs, prepared queries, events, snapshots over HTTP, Connect, namespaces, agent caching,
`?hash=` blocking, gRPC, alias, docker and script checks.
"""

from catalog.embedded.agent import ConsulAgent
from catalog.embedded.answers import Response
from catalog.embedded.checks import CheckSpec, HttpSpec, Prober, ProbeResult, TcpSpec, TtlSpec
from catalog.embedded.dns import DnsServer
from catalog.embedded.prober import HttpProber
from catalog.embedded.records import Status
from catalog.embedded.server import HttpServer
from catalog.embedded.state import ConsulState, Snapshot

__all__ = [
    "CheckSpec",
    "ConsulAgent",
    "ConsulState",
    "DnsServer",
    "HttpProber",
    "HttpServer",
    "HttpSpec",
    "ProbeResult",
    "Prober",
    "Response",
    "Snapshot",
    "Status",
    "TcpSpec",
    "TtlSpec",
]
