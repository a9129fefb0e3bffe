"""What is counted of the leader's work in this process, from its start? Read by /v1/metrics (docs/metrics.md)."""

from prometheus_client import Counter, Histogram

from model.deployment import DeploymentStatus

# From 1 ms, what a small decision takes, to a minute, after which nobody waits any more.
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

EVALUATION_S = Histogram(
    "drover_scheduler_evaluation_seconds", "From an evaluation's creation until its plan is in Consul", buckets=_BUCKETS_S
)
DECISION_S = Histogram("drover_scheduler_decision_seconds", "Deciding about one job, without writing", buckets=_BUCKETS_S)
RESCHEDULES = Counter("drover_reschedules", "Allocations placed anew because one before failed")
DEPLOYMENTS = Counter("drover_deployments", "Deployments that ended, by their result", ["result"])
TAKEOVERS = Counter("drover_leader_takeovers", "Terms that this process began as leader")

# A series that begins with its first increase hides that increase from rate().
for _result in (DeploymentStatus.SUCCESSFUL, DeploymentStatus.FAILED, DeploymentStatus.CANCELLED):
    DEPLOYMENTS.labels(_result.value)
