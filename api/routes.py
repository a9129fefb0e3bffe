"""Which path is answered by whom, and what must the caller be allowed?

One row a path and method. The server's routes, the rights that are asked of Consul and the OpenAPI description
(/v1/openapi.json) all come from this table.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from api import (
    absent,
    acl,
    agent,
    alloc_checks,
    alloc_exec,
    alloc_gc,
    candidates,
    cluster,
    deployments,
    events,
    files,
    fs,
    jobs,
    metrics,
    monitor,
    namespaces,
    node_meta,
    operator,
    samples,
    scaling,
    search,
    stats,
    submissions,
    vault,
)
from api.forwarding import Handler, guarded, on_leader, on_named_node, on_node_of_alloc
from api.rights import Right
from api.ui import allocs as ui_allocs
from api.ui import jobs as ui_jobs
from api.ui import nodes as ui_nodes
from api.ui import overview, services, spread
from model.cluster import NamespaceCapabilities, PreemptionConfig, Submission
from model.job import Job
from model.node import Eligibility


@dataclass(frozen=True, slots=True)
class Route:
    """method PUT: POST too, for Go clients write with the one and python-nomad with the other; PUT!: only PUT.
    body: the members of the JSON object that it takes, and their types."""

    method: str
    path: str
    answer: Handler
    right: Right
    text: str
    query: tuple[str, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", self.path)

    def registered(self) -> list[web.RouteDef]:
        answer = guarded(self.answer, self.right)
        match self.method:
            case "GET":
                return [web.get(self.path, answer)]
            case "PUT":
                return [web.put(self.path, answer), web.post(self.path, answer)]
            case "PUT!":
                return [web.put(self.path, answer)]
        return [web.route(self.method, self.path, answer)]


# Query parameters of every read of state, and of every list.
BLOCKING = ("index", "wait", "stale")
LISTING = ("prefix", "namespace", "filter", "per_page", "next_token", "reverse")

OF_JOB = (
    Route("GET", "/v1/job/{id:(?s:.+)}/allocations", on_leader(jobs.allocations), Right.JOB_READ, "Lists a job's allocations", BLOCKING),
    Route("GET", "/v1/job/{id:(?s:.+)}/evaluations", on_leader(jobs.evaluations), Right.JOB_READ, "Lists a job's evaluations", BLOCKING),
    Route("GET", "/v1/job/{id:(?s:.+)}/deployments", on_leader(jobs.deployments), Right.JOB_READ, "Lists a job's deployments", BLOCKING),
    Route("GET", "/v1/job/{id:(?s:.+)}/deployment", on_leader(jobs.latest_deployment), Right.JOB_READ, "A job's newest deployment", BLOCKING),
    Route("GET", "/v1/job/{id:(?s:.+)}/summary", on_leader(jobs.summary), Right.JOB_READ, "How many allocations of each group are in which state", BLOCKING),
    Route("GET", "/v1/job/{id:(?s:.+)}/versions", on_leader(jobs.versions_of), Right.JOB_READ, "A job's versions, the newest first", (*BLOCKING, "diffs",)),
    Route("GET", "/v1/job/{id:(?s:.+)}/scale", on_leader(jobs.scale_status), Right.JOB_READ, "How many allocations each group should have, and has", BLOCKING),
    Route("PUT", "/v1/job/{id:(?s:.+)}/scale", on_leader(jobs.scale), Right.JOB_WRITE, "Changes a group's count", body={"Count": int, "Target": dict[str, str], "Message": str, "Error": bool, "Meta": dict[str, Any]}),
    Route("GET", "/v1/job/{id:(?s:.+)}/submission", on_leader(submissions.submission), Right.JOB_READ, "The job file that a version was submitted as", (*BLOCKING, "version", "optional")),
    Route("PUT", "/v1/job/{id:(?s:.+)}/evaluate", on_leader(jobs.evaluate), Right.JOB_WRITE, "Decides about a job again", body={"EvalOptions": dict[str, bool]}),
    Route("PUT", "/v1/job/{id:(?s:.+)}/plan", on_leader(jobs.plan), Right.JOB_READ, "Tells what submitting a job would do", body={"Job": Job, "Diff": bool}),
    Route("GET", "/v1/job/{id:(?s:.+)}/why", on_leader(jobs.why), Right.JOB_READ, "Tells why not all of a job is placed", ("nodes",)),
    Route("PUT", "/v1/job/{id:(?s:.+)}/why", on_leader(jobs.why_submitted), Right.JOB_READ, "Tells why not all of a job would be placed", ("nodes",), body={"Job": Job}),
    Route("PUT", "/v1/job/{id:(?s:.+)}/revert", on_leader(jobs.revert), Right.JOB_WRITE, "Submits an older version again", body={"JobVersion": int, "EnforcePriorVersion": int, "AllowVaultCycle": bool}),
    Route("PUT", "/v1/job/{id:(?s:.+)}/stable", on_leader(jobs.stable), Right.JOB_WRITE, "Says whether a version is known to be good", body={"JobVersion": int, "Stable": bool}),
    Route("PUT", "/v1/job/{id:(?s:.+)}/dispatch", on_leader(jobs.dispatch), Right.JOB_WRITE, "Starts an instance of a parameterized job", body={"JobID": str, "Payload": str, "Meta": dict[str, str], "IdPrefixTemplate": str, "IdempotencyToken": str}),
    Route("PUT", "/v1/job/{id:(?s:.+)}/periodic/force", on_leader(jobs.force_periodic), Right.JOB_WRITE, "Starts a periodic job now"),
    Route("GET", "/v1/job/{id:(?s:.+)}/launches", on_leader(jobs.launches), Right.JOB_READ, "How the children of a periodic or parameterized job did", BLOCKING),
    Route("GET", "/v1/job/{id:(?s:.+)}/checks", on_leader(services.checks_of_job), Right.JOB_READ, "What Consul's checks say of a job's services", ("alloc",)),
    Route("GET", "/v1/job/{id:(?s:.+)}/spread", on_leader(spread.spread), Right.JOB_READ, "How a job's allocations are spread, against what was asked"),
    Route("PUT", "/v1/job/{id:(?s:.+)}/restart", on_leader(jobs.restart), Right.JOB_WRITE, "Replaces all of an unchanged job in the rolling manner"),
)

# An id may hold slashes (as %2F), and of old line breaks; one that ends in a word from above, unescaped, is none.
_WORDS = "|".join(sorted({r.path.removeprefix("/v1/job/{id:(?s:.+)}/") for r in OF_JOB}))
_JOB = rf"/v1/job/{{id:(?!(?s:.+)/(?:{_WORDS})\Z)(?s:.+)}}"

_SUBMITTED = {"Job": Job, "EnforceIndex": bool, "JobModifyIndex": int, "Adopt": bool, "PreserveCounts": bool, "AllowVaultCycle": bool, "Submission": Submission}

JOBS = (
    Route("GET", "/v1/jobs", on_leader(jobs.list_jobs), Right.JOB_LIST, "Lists jobs", (*BLOCKING, *LISTING)),
    Route("PUT", "/v1/jobs", on_leader(jobs.register), Right.JOB_SUBMIT, "Submits a job", body=_SUBMITTED),
    Route("PUT", "/v1/jobs/parse", jobs.parse, Right.NONE, "Turns HCL into the job's JSON", body={"JobHCL": str, "Variables": str, "Canonicalize": bool, "hclv1": bool}),
    Route("PUT", "/v1/validate/job", jobs.validate, Right.NONE, "Tells what is wrong with a job", body={"Job": Job}),
    *OF_JOB,
    Route("GET", _JOB, on_leader(jobs.job), Right.JOB_READ, "Reads a job", BLOCKING),
    Route("PUT", _JOB, on_leader(jobs.register), Right.JOB_SUBMIT, "Submits a new version of a job", body=_SUBMITTED),
    Route("DELETE", _JOB, on_leader(jobs.deregister), Right.JOB_WRITE, "Stops a job", ("purge", "orphan", "global")),
)

WORK = (
    Route("GET", "/v1/allocations", on_leader(cluster.list_allocations), Right.JOB_LIST, "Lists allocations", (*BLOCKING, *LISTING)),
    Route("GET", "/v1/allocation/{id}", on_leader(cluster.allocation), Right.JOB_READ, "Reads an allocation", BLOCKING),
    Route("PUT", "/v1/allocation/{id}/stop", on_leader(cluster.allocation_stop), Right.JOB_WRITE, "Stops an allocation; its job gets another"),
    Route("PUT", "/v1/allocation/{id}/release", on_leader(cluster.allocation_release), Right.JOB_WRITE, "Takes an allocation out of its job; it runs on without its services"),
    Route("PUT", "/v1/allocation/{id}/restart-permit", on_leader(cluster.restart_permit), Right.AGENT, "An agent asks whether it may restart a task now", body={"MaxParallel": int}),
    Route("PUT", "/v1/allocation/{id}/vault-token", on_leader(cluster.vault_token), Right.AGENT, "An agent asks for a task's Vault token, which comes wrapped", body={"Task": str}),
    Route("GET", "/v1/evaluations", on_leader(cluster.list_evaluations), Right.JOB_LIST, "Lists evaluations", (*BLOCKING, *LISTING)),
    Route("GET", "/v1/evaluation/{id}", on_leader(cluster.evaluation), Right.JOB_READ, "Reads an evaluation", BLOCKING),
    Route("GET", "/v1/evaluation/{id}/allocations", on_leader(cluster.evaluation_allocations), Right.JOB_READ, "Lists what an evaluation placed", BLOCKING),
    Route("GET", "/v1/deployments", on_leader(deployments.list_deployments), Right.JOB_LIST, "Lists deployments", (*BLOCKING, *LISTING)),
    Route("GET", "/v1/deployment/{id}", on_leader(deployments.deployment), Right.JOB_READ, "Reads a deployment", BLOCKING),
    Route("GET", "/v1/deployment/allocations/{id}", on_leader(deployments.allocations), Right.JOB_READ, "Lists a deployment's allocations", BLOCKING),
    Route("PUT", "/v1/deployment/promote/{id}", on_leader(deployments.promote), Right.JOB_WRITE, "Lets canaries take over", body={"All": bool, "Groups": list[str]}),
    Route("PUT", "/v1/deployment/fail/{id}", on_leader(deployments.fail), Right.JOB_WRITE, "Ends a deployment as failed"),
    Route("PUT", "/v1/deployment/pause/{id}", on_leader(deployments.pause), Right.JOB_WRITE, "Holds a deployment, or lets it go on", body={"Pause": bool}),
    Route("PUT", "/v1/deployment/allocation-health/{id}", on_leader(deployments.allocation_health), Right.JOB_WRITE, "Says which allocations are healthy", body={"HealthyAllocationIDs": list[str], "UnhealthyAllocationIDs": list[str]}),
)

NODES = (
    Route("GET", "/v1/nodes", on_leader(cluster.list_nodes), Right.NODE_READ, "Lists nodes", (*BLOCKING, *LISTING, "resources", "os")),
    Route("GET", "/v1/node/{id}", on_leader(cluster.node), Right.NODE_READ, "Reads a node", BLOCKING),
    Route("GET", "/v1/node/{id}/allocations", on_leader(cluster.node_allocations), Right.NODE_READ, "Lists a node's allocations in full", BLOCKING),
    Route("PUT", "/v1/node/{id}/eligibility", on_leader(cluster.node_eligibility), Right.NODE_WRITE, "Allows or refuses new work", body={"Eligibility": Eligibility}),
    Route("PUT", "/v1/node/{id}/purge", on_leader(cluster.node_purge), Right.NODE_WRITE, "Forgets a node that is down"),
    Route("PUT", "/v1/node/{id}/drain", on_leader(cluster.node_drain), Right.NODE_WRITE, "Empties a node, or stops doing so", body={"DrainSpec": dict[str, Any] | None, "MarkEligible": bool, "Meta": dict[str, str]}),
    Route("GET", "/v1/client/metadata", on_leader(node_meta.read), Right.NODE_READ, "A node's metadata", ("node_id",)),
    Route("PUT", "/v1/client/metadata", on_leader(node_meta.apply), Right.NODE_WRITE, "Changes a node's metadata", ("node_id",), body={"NodeID": str, "Meta": dict[str, str | None]}),
    Route("GET", "/v1/client/stats", on_named_node(stats.client_stats), Right.NODE_READ, "What a machine uses just now", ("node_id",)),
    Route("GET", "/v1/client/fs/logs/{id}", on_node_of_alloc(files.logs), Right.JOB_READ, "A task's output", ("task", "type", "follow", "offset", "origin", "plain")),
    Route("GET", "/v1/client/fs/ls/{id}", on_node_of_alloc(fs.ls), Right.JOB_READ, "Lists a directory of an allocation", ("path",)),
    Route("GET", "/v1/client/fs/stat/{id}", on_node_of_alloc(fs.stat), Right.JOB_READ, "What a file of an allocation is", ("path",)),
    Route("GET", "/v1/client/fs/cat/{id}", on_node_of_alloc(fs.cat), Right.JOB_READ, "A file of an allocation", ("path",)),
    Route("GET", "/v1/client/fs/readat/{id}", on_node_of_alloc(fs.readat), Right.JOB_READ, "A part of a file of an allocation", ("path", "offset", "limit")),
    Route("GET", "/v1/client/fs/stream/{id}", on_node_of_alloc(fs.stream), Right.JOB_READ, "A file of an allocation as it grows", ("path", "offset", "origin", "follow")),
    Route("GET", "/v1/client/allocation/{id}/exec", on_node_of_alloc(alloc_exec.run), Right.EXEC, "Runs a command beside a task, over a websocket", ("task", "command", "tty", "ws_handshake")),
    Route("GET", "/v1/client/allocation/{id}/snapshot", on_node_of_alloc(alloc_gc.snapshot), Right.JOB_READ, "An allocation's data as a tar file"),
    Route("GET", "/v1/client/allocation/{id}/gc", on_node_of_alloc(alloc_gc.of_alloc), Right.JOB_WRITE, "Removes what an allocation that has ended left on its node"),
    Route("PUT", "/v1/client/allocation/{id}/gc", on_node_of_alloc(alloc_gc.of_alloc), Right.JOB_WRITE, "Removes what an allocation that has ended left on its node"),
    Route("GET", "/v1/client/gc", on_named_node(alloc_gc.of_node), Right.NODE_WRITE, "Removes what ended allocations left on a node", ("node_id",)),
    Route("PUT", "/v1/client/gc", on_named_node(alloc_gc.of_node), Right.NODE_WRITE, "Removes what ended allocations left on a node", ("node_id",)),
    Route("GET", "/v1/client/allocation/{id}/stats", on_node_of_alloc(stats.alloc_stats), Right.JOB_READ, "What an allocation uses just now", ("task",)),
    Route("GET", "/v1/client/allocation/{id}/samples", on_node_of_alloc(samples.of_alloc), Right.JOB_READ, "What an allocation's tasks used in the last hour"),
    Route("GET", "/v1/client/samples", on_named_node(samples.of_node), Right.NODE_READ, "What a machine used in the last hour", ("node_id",)),
    Route("GET", "/v1/client/allocation/{id}/checks", on_node_of_alloc(alloc_checks.checks), Right.JOB_READ, "What the checks of an allocation's services say just now"),
    Route("PUT", "/v1/client/allocation/{id}/restart", on_node_of_alloc(files.alloc_restart), Right.JOB_WRITE, "Restarts an allocation's tasks", body={"TaskName": str}),
    Route("PUT", "/v1/client/allocation/{id}/signal", on_node_of_alloc(files.alloc_signal), Right.JOB_WRITE, "Sends a signal to an allocation's tasks", body={"Task": str, "Signal": str}),
)

_NAMESPACE = {
    "Name": str,
    "Description": str,
    "Meta": dict[str, str],
    "Capabilities": NamespaceCapabilities,
    "VirtualDatacenters": list[str],
}

CLUSTER = (
    Route("GET", "/v1/agent/self", agent.agent_self, Right.AGENT_READ, "The agent's configuration and state"),
    Route("GET", "/v1/agent/members", agent.members, Right.AGENT_READ, "Lists leader candidates"),
    Route("GET", "/v1/agent/servers", agent.servers, Right.AGENT_READ, "Lists the candidates' addresses"),
    Route("PUT", "/v1/agent/servers", agent.set_servers, Right.AGENT_WRITE, "Refused for all but the candidates that Consul knows", ("address",)),
    Route("GET", "/v1/agent/health", agent.health, Right.NONE, "Whether the agent is well", ("type",)),
    Route("GET", "/v1/agent/monitor", monitor.monitor, Right.AGENT_READ, "An agent's log as it is written", ("log_level", "log_json", "node_id", "server_id", "plain")),
    Route("GET", "/v1/agent/vault", vault.status, Right.AGENT_READ, "How the agent sees Vault, and its own token there"),
    Route("PUT", "/v1/agent/vault/check", vault.checked, Right.AGENT_READ, "Asks Vault whether it is set up as drover needs it"),
    Route("GET", "/v1/operator/vault/path", on_leader(vault.path), Right.OPERATOR_READ, "Which jobs Vault is reached through, and which of them need it"),
    Route("GET", "/v1/status/leader", agent.leader, Right.NONE, "The leader's address"),
    Route("GET", "/v1/status/contact", agent.contact, Right.NONE, "Who leads as this candidate knows, and whether it can reach that one"),
    Route("GET", "/v1/status/peers", agent.peers, Right.NONE, "The candidates' addresses"),
    Route("GET", "/v1/regions", agent.regions, Right.NONE, "The region"),
    Route("GET", "/v1/namespaces", on_leader(namespaces.list_namespaces), Right.JOB_LIST, "Lists namespaces", (*BLOCKING, "prefix")),
    Route("GET", "/v1/namespace/{id}", on_leader(namespaces.namespace), Right.JOB_READ, "Reads a namespace", BLOCKING),
    Route("PUT", "/v1/namespaces", on_leader(namespaces.write), Right.OPERATOR_WRITE, "Makes or changes a namespace", body=_NAMESPACE),
    Route("PUT", "/v1/namespace", on_leader(namespaces.write), Right.OPERATOR_WRITE, "Makes or changes a namespace", body=_NAMESPACE),
    Route("PUT", "/v1/namespace/{id}", on_leader(namespaces.write), Right.OPERATOR_WRITE, "Makes or changes a namespace", body=_NAMESPACE),
    Route("DELETE", "/v1/namespace/{id}", on_leader(namespaces.forget), Right.OPERATOR_WRITE, "Forgets a namespace that is not in use"),
    Route("PUT", "/v1/operator/leader/step-down", on_leader(operator.step_down), Right.OPERATOR_WRITE, "Lets another candidate lead", ("force",)),
    Route("PUT", "/v1/operator/candidate", on_leader(operator.candidate), Right.OPERATOR_WRITE, "Whether an agent stands for election", ("force",), body={"NodeID": str, "Candidate": bool}),
    Route("GET", "/v1/operator/lock", operator.lock, Right.OPERATOR_READ, "Who holds the leader's lock"),
    Route("PUT", "/v1/operator/lock/break", operator.break_lock, Right.OPERATOR_WRITE, "Takes the leader's lock from a holder who is gone", ("force",)),
    Route("PUT", "/v1/operator/snapshot", on_leader(operator.restore), Right.OPERATOR_WRITE, "Puts a saved state into Consul", ("force",)),
    Route("GET", "/v1/operator/snapshot", on_leader(operator.snapshot), Right.OPERATOR_WRITE, "drover's whole state as a file"),
    Route("GET", "/v1/operator/scheduler/configuration", on_leader(operator.scheduler), Right.OPERATOR_READ, "How the cluster places", BLOCKING),
    Route("PUT", "/v1/operator/scheduler/configuration", on_leader(operator.set_scheduler), Right.OPERATOR_WRITE, "Changes how the cluster places", ("cas",), body={"SchedulerAlgorithm": str, "PreemptionConfig": PreemptionConfig, "MemoryOversubscriptionEnabled": bool, "RejectJobRegistration": bool}),
    Route("GET", "/v1/operator/brake", on_leader(operator.brake), Right.OPERATOR_READ, "Why no node is held lost just now"),
    Route("PUT", "/v1/operator/brake/release", on_leader(operator.release_brake), Right.OPERATOR_WRITE, "Gives up the nodes that are silent now"),
    Route("PUT", "/v1/operator/rebalance", on_leader(operator.rebalance), Right.OPERATOR_WRITE, "Evens allocations out over the nodes", body={"JobID": str, "DryRun": bool}),
    Route("PUT!", "/v1/system/gc", on_leader(cluster.system_gc), Right.OPERATOR_WRITE, "Forgets what has ended"),
)

TELLING = (
    Route("GET", "/v1/event/stream", on_leader(events.stream), Right.JOB_LIST, "Follows what changes, one JSON object a line", ("topic", "index", "namespace")),
    Route("GET", "/v1/metrics", metrics.metrics, Right.AGENT_READ, "What the agent measures", ("format",)),
    Route("PUT", "/v1/search", on_leader(search.search), Right.JOB_LIST, "Finds ids by their beginning", ("namespace",), body={"Prefix": str, "Context": str}),
    Route("PUT", "/v1/search/fuzzy", on_leader(search.fuzzy), Right.JOB_LIST, "Finds names by a part of them", ("namespace",), body={"Text": str, "Context": str}),
    Route("GET", "/v1/scaling/policies", on_leader(scaling.list_policies), Right.JOB_LIST, "Lists scaling policies", (*BLOCKING, "prefix", "namespace", "job", "type")),
    Route("GET", "/v1/scaling/policy/{id}", on_leader(scaling.policy), Right.JOB_LIST, "Reads a scaling policy", BLOCKING),
)

SERVERS = (
    Route("GET", "/v1/agent/host", agent.host, Right.AGENT_READ, "The agent's machine"),
    Route("PUT", "/v1/agent/join", absent.no_gossip, Right.AGENT_WRITE, "Joins nothing: drover has no gossip of its own", ("address",)),
    Route("PUT", "/v1/agent/force-leave", agent.force_leave, Right.AGENT_WRITE, "Forgets a candidate that is gone", ("node",)),
    Route("GET", "/v1/operator/raft/configuration", candidates.raft_configuration, Right.OPERATOR_READ, "Lists the candidates as peers"),
    Route("DELETE", "/v1/operator/raft/peer", candidates.remove_peer, Right.OPERATOR_WRITE, "Refused: there are no peers", ("id", "address")),
    Route("GET", "/v1/operator/autopilot/configuration", candidates.autopilot_configuration, Right.OPERATOR_READ, "How candidates are looked after"),
    Route("PUT", "/v1/operator/autopilot/configuration", candidates.set_autopilot, Right.OPERATOR_WRITE, "Refused: there is no autopilot"),
    Route("GET", "/v1/operator/autopilot/health", candidates.autopilot_health, Right.OPERATOR_READ, "How well the candidates are"),
    Route("GET", "/v1/operator/license", absent.no_license, Right.OPERATOR_READ, "Empty: there is none"),
    Route("PUT!", "/v1/system/reconcile/summaries", on_leader(cluster.reconcile_summaries), Right.OPERATOR_WRITE, "Does nothing: summaries are always counted anew"),
    Route("PUT", "/v1/node/{id}/evaluate", on_leader(cluster.node_evaluate), Right.NODE_WRITE, "Decides again about all jobs of a node"),
    Route("PUT", "/v1/deployment/unblock/{id}", on_leader(deployments.unblock), Right.JOB_WRITE, "Refused: no deployment is ever blocked"),
)

_NO_GOSSIP = absent.refused("drover has no gossip of its own, so it has no keyring: Consul has")
_NO_CSI = absent.refused("CSI volumes are not supported by drover (host volumes are)")

# What drover does not have. Volumes of a host are part of their node.
ABSENT = (
    *(Route("GET", f"/v1/{kind}", on_leader(absent.nothing), Right.NONE, "An empty list", ("type",)) for kind in ("volumes", "plugins")),
    Route("GET", "/v1/volume/csi/{id}", on_leader(absent.no_volume), Right.NONE, "There is none"),
    *(Route(method, "/v1/volume/csi/{id}", _NO_CSI, Right.NONE, "Refused: no CSI") for method in ("PUT", "DELETE")),
    Route("GET", "/v1/plugin/csi/{id}", on_leader(absent.no_plugin), Right.NONE, "There is none"),
    Route("GET", "/v1/agent/pprof/{id}", absent.no_profile, Right.NONE, "Refused: no Go program"),
    Route("GET", "/v1/agent/keyring/list", _NO_GOSSIP, Right.NONE, "Refused: no gossip"),
    *(Route("PUT", f"/v1/agent/keyring/{verb}", _NO_GOSSIP, Right.NONE, "Refused: no gossip") for verb in ("install", "use", "remove")),
    *(
        Route(method, path, absent.enterprise, Right.NONE, "501: Nomad Enterprise only")
        for path in (
            "/v1/quotas", "/v1/quota-usages", "/v1/quota", "/v1/quota/{id}", "/v1/quota/usage/{id}", "/v1/sentinel/policies",
            "/v1/sentinel/policy/{id}", "/v1/recommendations", "/v1/recommendations/apply", "/v1/recommendation",
            "/v1/recommendation/{id}",
        )
        for method in ("GET", "PUT", "DELETE")
    ),
)  # fmt: skip

ACL = (
    Route("GET", "/v1/acl/token/self", acl.token_self, Right.NONE, "The caller's token, as Consul knows it"),
    *(
        Route(method, "/v1/acl/{path:.*}", acl.elsewhere, Right.NONE, "Refused: tokens and policies are kept in Consul")
        for method in ("GET", "PUT", "DELETE")
    ),
)

# What a list of the UI takes: see api/ui/lists.py.
_PAGED = ("q", "page", "per_page", "sort", "reverse")

UI = (
    Route("GET", "/v1/ui/pulse", on_leader(overview.pulse), Right.JOB_LIST, "Who leads, the brake, and how fresh the leader's view of Consul is"),
    Route("GET", "/v1/ui/overview", on_leader(overview.overview), Right.JOB_LIST, "What the front page of the web UI shows"),
    Route("GET", "/v1/ui/may", on_leader(overview.may), Right.JOB_LIST, "What the caller may do", ("namespace", "job", "node")),
    Route("GET", "/v1/ui/jobs", on_leader(ui_jobs.list_jobs), Right.JOB_LIST, "How well jobs do, those that do not first", (*_PAGED, "namespace", "type", "status", "failing", "parent")),
    Route("GET", "/v1/ui/allocations", on_leader(ui_allocs.list_allocs), Right.JOB_LIST, "Lists allocations page by page", (*_PAGED, "namespace", "job", "group", "node", "status")),
    Route("GET", "/v1/ui/services", on_leader(services.list_services), Right.JOB_LIST, "Lists the services that jobs register", (*_PAGED, "namespace")),
    Route("GET", "/v1/ui/nodes", on_leader(ui_nodes.list_nodes), Right.NODE_READ, "Lists nodes page by page", (*_PAGED, "state", "datacenter", "virtual_datacenter")),
    Route("GET", "/v1/ui/topology", on_leader(ui_nodes.topology), Right.NODE_READ, "How full each physical and virtual datacenter is"),
)

ROUTES = (*UI, *JOBS, *WORK, *NODES, *CLUSTER, *TELLING, *SERVERS, *ABSENT, *ACL)
