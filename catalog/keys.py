"""Where does each fact live in Consul's KV store?

The only place that builds keys. One writer per fact (docs/design/001-state-in-consul.md):

    <root>/state/leader                      the lock                        the lease
    <root>/state/epoch                       counter of terms                the lease
    <root>/state/index_base                  offset of the API's index       leader
    <root>/state/brake                       nodes that were given up        leader
    <root>/state/scheduler                   how the cluster places          leader
    <root>/state/namespaces/<ns>             what a namespace may            leader
    <root>/state/restoring                   a snapshot is being restored    leader
    <root>/state/jobs/<ns>/<job>             which version is current        leader
    <root>/state/versions/<ns>/<job>/<v>     job documents, written once     leader
    <root>/state/submissions/<ns>/<job>/<v>  the job file of a version       leader
    <root>/state/desired/<node>/<alloc>      what should run                 leader
    <root>/state/observed/<node>/<alloc>     what runs                       that node's agent
    <root>/state/nodes/<node>                fingerprint                     that node's agent
    <root>/state/control/<node>              status, eligibility, meta, …    leader
    <root>/state/inbox/<node>                which facts changed             agent adds, leader deletes
    <root>/state/evals/<eval>                recent evaluations              leader
    <root>/state/deployments/<ns>/<job>/<d>  roll-outs of job versions       leader
    <root>/state/launches/<ns>/<job>         what periodic jobs started      leader

Namespace and job id are each escaped into one path segment. Every watched prefix holds a sentinel
key: an empty prefix would wake its watchers on every unrelated write (measured).
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote

from model.alloc import AllocId, EvalId
from model.deployment import DeploymentId
from model.job import JobId, Namespace
from model.node import NodeId

# Sorts before every UUID and is no UUID, so that no alloc or node is ever mistaken for it.
SENTINEL = ".sentinel"
# Above the root of each -dev agent's keys, `drover-dev/<node id>`.
DEV_ROOT = "drover-dev"


def escape(name: str) -> str:
    """One path segment that holds any name: `cron/a` -> `cron%2Fa`, `..` -> `%2E%2E`."""
    if name.strip(".") == "":
        return name.replace(".", "%2E")
    return quote(name, safe="-_.~")


def unescape(segment: str) -> str:
    return unquote(segment)


@dataclass(frozen=True, slots=True)
class Keys:
    """All keys below one root, by default `drover`."""

    root: str = "drover"

    @property
    def state(self) -> str:
        return f"{self.root}/state/"

    @property
    def leader(self) -> str:
        return f"{self.state}leader"

    @property
    def epoch(self) -> str:
        return f"{self.state}epoch"

    @property
    def index_base(self) -> str:
        return f"{self.state}index_base"

    @property
    def brake(self) -> str:
        return f"{self.state}brake"

    @property
    def scheduler(self) -> str:
        return f"{self.state}scheduler"

    @property
    def namespaces(self) -> str:
        return f"{self.state}namespaces/"

    def namespace(self, name: Namespace) -> str:
        return f"{self.namespaces}{escape(name)}"

    @property
    def restoring(self) -> str:
        return f"{self.state}restoring"

    @property
    def jobs(self) -> str:
        return f"{self.state}jobs/"

    def job(self, namespace: Namespace, job_id: JobId) -> str:
        return f"{self.jobs}{escape(namespace)}/{escape(job_id)}"

    @property
    def versions(self) -> str:
        return f"{self.state}versions/"

    def version(self, namespace: Namespace, job_id: JobId, version: int) -> str:
        return f"{self.versions}{escape(namespace)}/{escape(job_id)}/{version}"

    def job_versions(self, namespace: Namespace, job_id: JobId) -> str:
        return f"{self.versions}{escape(namespace)}/{escape(job_id)}/"

    def submission(self, namespace: Namespace, job_id: JobId, version: int) -> str:
        return f"{self.state}submissions/{escape(namespace)}/{escape(job_id)}/{version}"

    @property
    def desired(self) -> str:
        return f"{self.state}desired/"

    def desired_of(self, node_id: NodeId) -> str:
        return f"{self.desired}{node_id}/"

    def desired_alloc(self, node_id: NodeId, alloc_id: AllocId) -> str:
        return f"{self.desired}{node_id}/{alloc_id}"

    @property
    def observed(self) -> str:
        return f"{self.state}observed/"

    def observed_of(self, node_id: NodeId) -> str:
        return f"{self.observed}{node_id}/"

    def observed_alloc(self, node_id: NodeId, alloc_id: AllocId) -> str:
        return f"{self.observed}{node_id}/{alloc_id}"

    @property
    def nodes(self) -> str:
        return f"{self.state}nodes/"

    def node(self, node_id: NodeId) -> str:
        return f"{self.nodes}{node_id}"

    @property
    def controls(self) -> str:
        return f"{self.state}control/"

    def control(self, node_id: NodeId) -> str:
        return f"{self.controls}{node_id}"

    @property
    def inboxes(self) -> str:
        return f"{self.state}inbox/"

    def inbox(self, node_id: NodeId) -> str:
        return f"{self.inboxes}{node_id}"

    @property
    def evals(self) -> str:
        return f"{self.state}evals/"

    def evaluation(self, eval_id: EvalId) -> str:
        return f"{self.evals}{eval_id}"

    @property
    def deployments(self) -> str:
        return f"{self.state}deployments/"

    def job_deployments(self, namespace: Namespace, job_id: JobId) -> str:
        return f"{self.deployments}{escape(namespace)}/{escape(job_id)}/"

    def deployment(self, namespace: Namespace, job_id: JobId, deployment_id: DeploymentId) -> str:
        return f"{self.job_deployments(namespace, job_id)}{deployment_id}"

    @property
    def launches(self) -> str:
        return f"{self.state}launches/"

    def launches_of(self, namespace: Namespace, job_id: JobId) -> str:
        return f"{self.launches}{escape(namespace)}/{escape(job_id)}"


def last_segment(key: str) -> str:
    """The part after the last slash: an alloc id, a node id, a version, or the sentinel."""
    return key[key.rindex("/") + 1 :]


def is_sentinel(key: str) -> bool:
    return key.endswith("/" + SENTINEL)
