"""What is counted of the tasks of this agent's process, from its start? Read by /v1/metrics (docs/metrics.md)."""

from prometheus_client import Counter

from checks.restart import Cause

STARTS = Counter("drover_task_starts", "Processes and containers that were started")
RESTARTS = Counter("drover_task_restarts", "Restarts that were decided, by what made them due", ["reason"])
ENDS = Counter("drover_task_ends", "Tasks that are dead for good", ["outcome"])
OOM_KILLS = Counter("drover_task_oom_kills", "Tasks that the kernel ended for want of memory")
VAULT_TOKENS = Counter("drover_vault_task_tokens", "Vault tokens that were made for tasks")
VAULT_RENEWALS = Counter("drover_vault_task_token_renewals", "Renewals of tasks' Vault tokens")
VAULT_REVOCATIONS = Counter("drover_vault_task_token_revocations", "Vault tokens that were revoked when their task had ended")

TEMPLATE_ANSWERS = Counter("drover_template_answers", "Answers to templates' lookups that were other than the one before")

# {kind: distinct lookups that this node's templates watch now}; looked up by the API when it is asked.
TEMPLATE_QUERIES = {"consul": 0, "vault": 0}

# A series that begins with its first increase hides that increase from rate().
for _cause in Cause:
    RESTARTS.labels(_cause.value)
for _outcome in ("complete", "failed"):
    ENDS.labels(_outcome)
