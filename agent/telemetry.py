"""What is counted of the tasks of this agent's process, from its start? Read by /v1/metrics (docs/metrics.md)."""

from prometheus_client import Counter

from checks.restart import Cause

STARTS = Counter("drover_task_starts", "Processes and containers that were started")
RESTARTS = Counter("drover_task_restarts", "Restarts that were decided, by what made them due", ["reason"])
ENDS = Counter("drover_task_ends", "Tasks that are dead for good", ["outcome"])
OOM_KILLS = Counter("drover_task_oom_kills", "Tasks that the kernel ended for want of memory")

# A series that begins with its first increase hides that increase from rate().
for _cause in Cause:
    RESTARTS.labels(_cause.value)
for _outcome in ("complete", "failed"):
    ENDS.labels(_outcome)
