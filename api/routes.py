"""Which path is answered by whom, and what must the caller be allowed?

One row a path and method. The server's routes, the rights that are asked of Consul and the OpenAPI description
(docs/openapi.json) all come from this table.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web

from api import agent, cluster, deployments, events, files, jobs, metrics, node_meta, operator, stats
from api.forwarding import Handler, on_leader, on_named_node, on_node_of_alloc


class Right(StrEnum):
    """What the caller's token must allow. The job rights are of the job that the path, the body or the alloc names;
    a list shows those jobs that may be read."""

    NONE = "none"
    JOB_READ = "job:read"
    JOB_WRITE = "job:write"
    NODE_READ = "node:read"
    NODE_WRITE = "node:write"
    OPERATOR_READ = "operator:read"
    OPERATOR_WRITE = "operator:write"
    AGENT_READ = "agent:read"
    AGENT_WRITE = "agent:write"
    AGENT = "an agent's own"


@dataclass(frozen=True, slots=True)
class Route:
    """method PUT: POST too, for Go clients write with the one and python-nomad with the other; PUT!: only PUT."""

    method: str
    path: str
    answer: Handler
    right: Right
    text: str
    query: tuple[str, ...] = ()

    @property
    def template(self) -> str:
        """The path as OpenAPI writes it."""
        return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", self.path)

    def registered(self) -> list[web.RouteDef]:
        match self.method:
            case "GET":
                return [web.get(self.path, self.answer)]
            case "PUT":
                return [web.put(self.path, self.answer), web.post(self.path, self.answer)]
            case "PUT!":
                return [web.put(self.path, self.answer)]
        return [web.route(self.method, self.path, self.answer)]


# Query parameters of every read of state, and of every list.
BLOCKING = ("index", "wait", "stale")
LISTING = ("prefix", "namespace")

OF_JOB = (
    Route("GET", "/v1/job/{id:.+}/allocations", on_leader(jobs.allocations), Right.JOB_READ, "Lists a job's allocations", BLOCKING),
    Route("GET", "/v1/job/{id:.+}/evaluations", on_leader(jobs.evaluations), Right.JOB_READ, "Lists a job's evaluations", BLOCKING),
    Route("GET", "/v1/job/{id:.+}/deployments", on_leader(jobs.deployments), Right.JOB_READ, "Lists a job's deployments", BLOCKING),
    Route("GET", "/v1/job/{id:.+}/deployment", on_leader(jobs.latest_deployment), Right.JOB_READ, "A job's newest deployment", BLOCKING),
    Route("GET", "/v1/job/{id:.+}/summary", on_leader(jobs.summary), Right.JOB_READ, "How many allocations of each group are in which state", BLOCKING),
    Route("GET", "/v1/job/{id:.+}/versions", on_leader(jobs.versions_of), Right.JOB_READ, "A job's versions, the newest first", (*BLOCKING, "diffs",)),
    Route("GET", "/v1/job/{id:.+}/scale", on_leader(jobs.scale_status), Right.JOB_READ, "How many allocations each group should have, and has", BLOCKING),
    Route("PUT", "/v1/job/{id:.+}/scale", on_leader(jobs.scale), Right.JOB_WRITE, "Changes a group's count"),
    Route("PUT", "/v1/job/{id:.+}/evaluate", on_leader(jobs.evaluate), Right.JOB_WRITE, "Decides about a job again"),
    Route("PUT", "/v1/job/{id:.+}/plan", on_leader(jobs.plan), Right.JOB_READ, "Tells what submitting a job would do"),
    Route("GET", "/v1/job/{id:.+}/why", on_leader(jobs.why), Right.JOB_READ, "Tells why not all of a job is placed", ("nodes",)),
    Route("PUT", "/v1/job/{id:.+}/why", on_leader(jobs.why_submitted), Right.JOB_READ, "Tells why not all of a job would be placed", ("nodes",)),
    Route("PUT", "/v1/job/{id:.+}/revert", on_leader(jobs.revert), Right.JOB_WRITE, "Submits an older version again"),
    Route("PUT", "/v1/job/{id:.+}/stable", on_leader(jobs.stable), Right.JOB_WRITE, "Says whether a version is known to be good"),
    Route("PUT", "/v1/job/{id:.+}/restart", on_leader(jobs.restart), Right.JOB_WRITE, "Replaces all of an unchanged job in the rolling manner"),
)

# An id may hold slashes (as %2F); one that ends in a word from above, unescaped, is none.
_JOB = "/v1/job/{id:.+" + "".join(f"(?<!/{word})" for word in sorted({r.path.rpartition("/")[2] for r in OF_JOB})) + "}"

JOBS = (
    Route("GET", "/v1/jobs", on_leader(jobs.list_jobs), Right.JOB_READ, "Lists jobs", (*BLOCKING, *LISTING)),
    Route("PUT", "/v1/jobs", on_leader(jobs.register), Right.JOB_WRITE, "Submits a job"),
    Route("PUT", "/v1/jobs/parse", jobs.parse, Right.NONE, "Turns HCL into the job's JSON"),
    Route("PUT", "/v1/validate/job", jobs.validate, Right.NONE, "Tells what is wrong with a job"),
    *OF_JOB,
    Route("GET", _JOB, on_leader(jobs.job), Right.JOB_READ, "Reads a job", BLOCKING),
    Route("PUT", _JOB, on_leader(jobs.register), Right.JOB_WRITE, "Submits a new version of a job"),
    Route("DELETE", _JOB, on_leader(jobs.deregister), Right.JOB_WRITE, "Stops a job", ("purge", "orphan", "global")),
)

WORK = (
    Route("GET", "/v1/allocations", on_leader(cluster.list_allocations), Right.JOB_READ, "Lists allocations", (*BLOCKING, *LISTING)),
    Route("GET", "/v1/allocation/{id}", on_leader(cluster.allocation), Right.JOB_READ, "Reads an allocation", BLOCKING),
    Route("PUT", "/v1/allocation/{id}/stop", on_leader(cluster.allocation_stop), Right.JOB_WRITE, "Stops an allocation; its job gets another"),
    Route("PUT", "/v1/allocation/{id}/release", on_leader(cluster.allocation_release), Right.JOB_WRITE, "Takes an allocation out of its job; it runs on without its services"),
    Route("PUT", "/v1/allocation/{id}/restart-permit", on_leader(cluster.restart_permit), Right.AGENT, "An agent asks whether it may restart a task now"),
    Route("GET", "/v1/evaluations", on_leader(cluster.list_evaluations), Right.JOB_READ, "Lists evaluations", (*BLOCKING, *LISTING)),
    Route("GET", "/v1/evaluation/{id}", on_leader(cluster.evaluation), Right.JOB_READ, "Reads an evaluation", BLOCKING),
    Route("GET", "/v1/evaluation/{id}/allocations", on_leader(cluster.evaluation_allocations), Right.JOB_READ, "Lists what an evaluation placed", BLOCKING),
    Route("GET", "/v1/deployments", on_leader(deployments.list_deployments), Right.JOB_READ, "Lists deployments", (*BLOCKING, *LISTING)),
    Route("GET", "/v1/deployment/{id}", on_leader(deployments.deployment), Right.JOB_READ, "Reads a deployment", BLOCKING),
    Route("GET", "/v1/deployment/allocations/{id}", on_leader(deployments.allocations), Right.JOB_READ, "Lists a deployment's allocations", BLOCKING),
    Route("PUT", "/v1/deployment/promote/{id}", on_leader(deployments.promote), Right.JOB_WRITE, "Lets canaries take over"),
    Route("PUT", "/v1/deployment/fail/{id}", on_leader(deployments.fail), Right.JOB_WRITE, "Ends a deployment as failed"),
    Route("PUT", "/v1/deployment/pause/{id}", on_leader(deployments.pause), Right.JOB_WRITE, "Holds a deployment, or lets it go on"),
    Route("PUT", "/v1/deployment/allocation-health/{id}", on_leader(deployments.allocation_health), Right.JOB_WRITE, "Says which allocations are healthy"),
)

NODES = (
    Route("GET", "/v1/nodes", on_leader(cluster.list_nodes), Right.NODE_READ, "Lists nodes", (*BLOCKING, *LISTING)),
    Route("GET", "/v1/node/{id}", on_leader(cluster.node), Right.NODE_READ, "Reads a node", BLOCKING),
    Route("GET", "/v1/node/{id}/allocations", on_leader(cluster.node_allocations), Right.NODE_READ, "Lists a node's allocations in full", BLOCKING),
    Route("PUT", "/v1/node/{id}/eligibility", on_leader(cluster.node_eligibility), Right.NODE_WRITE, "Allows or refuses new work"),
    Route("PUT", "/v1/node/{id}/purge", on_leader(cluster.node_purge), Right.NODE_WRITE, "Forgets a node that is down"),
    Route("PUT", "/v1/node/{id}/drain", on_leader(cluster.node_drain), Right.NODE_WRITE, "Empties a node, or stops doing so"),
    Route("GET", "/v1/client/metadata", on_leader(node_meta.read), Right.NODE_READ, "A node's metadata", ("node_id",)),
    Route("PUT", "/v1/client/metadata", on_leader(node_meta.apply), Right.NODE_WRITE, "Changes a node's metadata", ("node_id",)),
    Route("GET", "/v1/client/stats", on_named_node(stats.client_stats), Right.NODE_READ, "What a machine uses just now", ("node_id",)),
    Route("GET", "/v1/client/fs/logs/{id}", on_node_of_alloc(files.logs), Right.JOB_READ, "A task's output", ("task", "type", "follow", "offset", "origin", "plain")),
    Route("GET", "/v1/client/allocation/{id}/stats", on_node_of_alloc(stats.alloc_stats), Right.JOB_READ, "What an allocation uses just now", ("task",)),
    Route("PUT", "/v1/client/allocation/{id}/restart", on_node_of_alloc(files.alloc_restart), Right.JOB_WRITE, "Restarts an allocation's tasks"),
    Route("PUT", "/v1/client/allocation/{id}/signal", on_node_of_alloc(files.alloc_signal), Right.JOB_WRITE, "Sends a signal to an allocation's tasks"),
)

CLUSTER = (
    Route("GET", "/v1/agent/self", agent.agent_self, Right.AGENT_READ, "The agent's configuration and state"),
    Route("GET", "/v1/agent/members", agent.members, Right.AGENT_READ, "Lists leader candidates"),
    Route("GET", "/v1/agent/servers", agent.servers, Right.AGENT_READ, "Lists the candidates' addresses"),
    Route("GET", "/v1/agent/health", agent.health, Right.NONE, "Whether the agent is well", ("type",)),
    Route("GET", "/v1/event/stream", on_leader(events.stream), Right.JOB_READ, "Follows what changes, one JSON object a line", ("topic", "index", "namespace")),
    Route("GET", "/v1/metrics", metrics.metrics, Right.NONE, "What the agent measures", ("format", "pretty")),
    Route("GET", "/v1/status/leader", agent.leader, Right.NONE, "The leader's address"),
    Route("GET", "/v1/status/peers", agent.peers, Right.NONE, "The candidates' addresses"),
    Route("GET", "/v1/regions", agent.regions, Right.NONE, "The region"),
    Route("PUT", "/v1/operator/leader/step-down", on_leader(operator.step_down), Right.OPERATOR_WRITE, "Lets another candidate lead", ("force",)),
    Route("PUT", "/v1/operator/candidate", on_leader(operator.candidate), Right.OPERATOR_WRITE, "Whether an agent stands for election", ("force",)),
    Route("GET", "/v1/operator/lock", operator.lock, Right.OPERATOR_READ, "Who holds the leader's lock"),
    Route("PUT", "/v1/operator/lock/break", operator.break_lock, Right.OPERATOR_WRITE, "Takes the leader's lock from a holder who is gone", ("force",)),
    Route("PUT", "/v1/operator/snapshot", on_leader(operator.restore), Right.OPERATOR_WRITE, "Puts a saved state into Consul", ("force",)),
    Route("GET", "/v1/operator/snapshot", on_leader(operator.snapshot), Right.OPERATOR_READ, "drover's whole state as a file"),
    Route("GET", "/v1/operator/scheduler/configuration", on_leader(operator.scheduler), Right.OPERATOR_READ, "How the cluster places", BLOCKING),
    Route("PUT", "/v1/operator/scheduler/configuration", on_leader(operator.set_scheduler), Right.OPERATOR_WRITE, "Changes how the cluster places", ("cas",)),
    Route("GET", "/v1/operator/brake", on_leader(operator.brake), Right.OPERATOR_READ, "Why no node is held lost just now"),
    Route("PUT", "/v1/operator/brake/release", on_leader(operator.release_brake), Right.OPERATOR_WRITE, "Gives up the nodes that are silent now"),
    Route("PUT", "/v1/operator/rebalance", on_leader(operator.rebalance), Right.OPERATOR_WRITE, "Evens allocations out over the nodes"),
    Route("PUT!", "/v1/system/gc", on_leader(cluster.system_gc), Right.OPERATOR_WRITE, "Forgets what has ended"),
)

ROUTES = (*JOBS, *WORK, *NODES, *CLUSTER)
